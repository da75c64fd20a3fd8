/* SPDX-License-Identifier: MIT
 * A conversion under way: what was read, and the tensors planned for the file. Planning functions
 * do nothing after the first failure, so they are called in a row and checked once. */
#ifndef TVLMC_CONVERSION_H
#define TVLMC_CONVERSION_H

#include "convert/checkpoint.h"
#include "convert/convert.h"
#include "convert/hf_config.h"
#include "convert/result.h"
#include "convert/tokenizer_files.h"

#include "convert/gguf_write.h"

enum { TVLMC_OUT_NAME = 96 };

/* A tensor of the file: folded values, or rows of the checkpoint taken over. */
typedef struct tvlmc_out_tensor {
    char name[TVLMC_OUT_NAME];
    tvlm_type type;
    uint32_t n_dims;
    uint64_t shape[TVLM_MAX_DIMS];
    float *values;                 /* owned; or */
    const tvlmc_st_tensor *source; /* borrowed */
    uint32_t interleave_heads;     /* > 0: rows of each head go from halves to pairs */
} tvlmc_out_tensor;

typedef struct tvlmc_conversion {
    const tvlmc_convert_params *params;
    tvlmc_checkpoint checkpoint;
    tvlmc_hf_config config;
    tvlmc_tokenizer_files tokenizer;
    tvlmc_out_tensor *out;
    size_t n_out, cap_out;
    uint32_t depths[8], n_stages; /* of the tower; 8: TVLM_MAX_STAGES */
    tvlm_status status;
    tvlm_error *err;
} tvlmc_conversion;

void tvlmc_conversion_note(const tvlmc_conversion *c, const char *format, ...) TVLM_PRINTF(2, 3);
/* Keeps the first failure. */
void tvlmc_conversion_fail(tvlmc_conversion *c, tvlm_status status);

/* Values first .. first + n of the checkpoint's tensor; NaN and infinity are refused by its name.
 */
tvlm_status tvlmc_conversion_read(const tvlmc_conversion *c, const tvlmc_st_tensor *t, size_t first,
                                  size_t n, float *out);

/* The marked tensor of a canonical name; absent: NULL and, when required, a failure. */
const tvlmc_st_tensor *tvlmc_take(tvlmc_conversion *c, const char *name, bool required);

/* The type that a weight of rows of k is stored in; a note where it is not the part's own. */
tvlm_type tvlmc_linear_type(tvlmc_conversion *c, const char *name, tvlmc_part part, uint64_t k);
/* Adds a tensor; takes over values (freed on failure too). */
void tvlmc_plan_values(tvlmc_conversion *c, const char *name, tvlm_type type, const uint64_t *shape,
                       uint32_t n_dims, float *values);
/* The checkpoint's matrix [n][k] (0: any) as a linear weight; NULL on failure. */
const tvlmc_st_tensor *tvlmc_plan_linear(tvlmc_conversion *c, const char *name, const char *source,
                                         tvlmc_part part, uint64_t n, uint64_t k,
                                         uint32_t interleave_heads);
/* The checkpoint's vector [n] in F32. */
void tvlmc_plan_vector(tvlmc_conversion *c, const char *name, const char *source, uint64_t n);

void tvlmc_plan_tower(tvlmc_conversion *c);   /* fold_tower.c: v.*; sets depths */
void tvlmc_plan_decoder(tvlmc_conversion *c); /* decoder_tensors.c */
/* metadata.c: every key. After planning. */
tvlm_status tvlmc_write_metadata(tvlmc_conversion *c, const char *dir, tvlmc_gguf_writer *w);

#endif
