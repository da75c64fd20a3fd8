/* SPDX-License-Identifier: MIT
 * JSON files of model folders, the only reader of JSON: as Python's json module writes and reads
 * it. A byte order mark is skipped, of equal keys the last counts, half a surrogate pair is U+FFFD,
 * and numbers that jansson cannot hold (NaN, infinities, integers beyond 64 bits) arrive as strings
 * of their spelling. Size and depth are limited. Messages name the file, line and column and, for
 * wrong types, the key. */
#ifndef TVLMC_JSON_FILE_H
#define TVLMC_JSON_FILE_H

#include "tinyvlm.h"

#include <jansson.h>

#define TVLMC_JSON_CONFIG_MAX    ((size_t)16 << 20) /* bytes of a config.json and the like */
#define TVLMC_JSON_TOKENIZER_MAX ((size_t)64 << 20)

/* DIR/NAME in a new string; NULL when out of memory. */
char *tvlmc_path_join(const char *dir, const char *name);
bool tvlmc_path_exists(const char *path);

/* Whether the bytes are what Git LFS keeps in the place of a large file. */
bool tvlmc_is_lfs_pointer(const void *data, size_t size);
#define TVLMC_LFS_HINT                                                                             \
    "is a Git LFS pointer, not the file itself: run 'git lfs pull' in its folder, or download "    \
    "the "                                                                                         \
    "file again"

/* label names the bytes in messages. The caller owns *out (json_decref). */
tvlm_status tvlmc_json_parse(const char *label, const void *data, size_t size, json_t **out,
                             tvlm_error *err);
/* A file's bytes in a new block, a zero byte behind them. Too long or a Git LFS pointer: refused.
 */
tvlm_status tvlmc_text_load(const char *path, size_t max_size, char **out, size_t *size,
                            tvlm_error *err);
tvlm_status tvlmc_json_load(const char *path, size_t max_size, json_t **out, tvlm_error *err);
/* The same for DIR/NAME; *out is NULL when there is no such file and it is not required. */
tvlm_status tvlmc_json_load_in(const char *dir, const char *name, bool required, size_t max_size,
                               json_t **out, tvlm_error *err);

/* Typed reads of object[key]; absent or null: *out keeps its value, and `required` makes that an
 * error. A value of another type, or out of lo..hi, always is. */
tvlm_status tvlmc_json_u32(const json_t *object, const char *key, bool required, uint32_t lo,
                           uint32_t hi, uint32_t *out, tvlm_error *err);
tvlm_status tvlmc_json_f64(const json_t *object, const char *key, bool required, double lo,
                           double hi, double *out, tvlm_error *err);
tvlm_status tvlmc_json_bool(const json_t *object, const char *key, bool *out, tvlm_error *err);
/* Borrowed from the object. */
tvlm_status tvlmc_json_string(const json_t *object, const char *key, bool required,
                              const char **out, tvlm_error *err);

#endif
