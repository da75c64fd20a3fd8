/* SPDX-License-Identifier: MIT
 * GGUF v3: parse, validate, write. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 *   "GGUF" | version u32 | n_tensors u64 | n_kv u64
 *   n_kv    x { key str | type u32 | value }           str = len u64, bytes
 *   n_tensors x { name str | n_dims u32 | dims u64[] (innermost first) | type u32 | offset u64 }
 *   padding to general.alignment | tensor data
 *
 * A parsed header borrows the caller's bytes and owns only its index. */
#ifndef TVLM_GGUF_H
#define TVLM_GGUF_H

#include "base/base.h"
#include "quant/quant.h"

typedef enum tvlm_gguf_type {
    TVLM_GGUF_U8 = 0,
    TVLM_GGUF_I8,
    TVLM_GGUF_U16,
    TVLM_GGUF_I16,
    TVLM_GGUF_U32,
    TVLM_GGUF_I32,
    TVLM_GGUF_F32,
    TVLM_GGUF_BOOL,
    TVLM_GGUF_STRING,
    TVLM_GGUF_ARRAY,
    TVLM_GGUF_U64,
    TVLM_GGUF_I64,
    TVLM_GGUF_F64
} tvlm_gguf_type;

#define TVLM_MAX_DIMS 4

typedef struct tvlm_gguf_kv {
    tvlm_str key;
    tvlm_gguf_type type; /* of the value, or of the elements when is_array */
    bool is_array;
    uint64_t n;                /* elements; 1 for scalars */
    const unsigned char *data; /* little-endian, unaligned; strings as len u64 + bytes each */
    size_t data_size;
} tvlm_gguf_kv;

typedef struct tvlm_gguf_tensor {
    tvlm_str name;
    uint32_t n_dims;
    uint64_t shape[TVLM_MAX_DIMS]; /* outermost first, as PyTorch */
    uint32_t type;                 /* GGML's number; may be one that is not run here */
    uint64_t n_elements;
    uint64_t offset; /* in the file */
    uint64_t size;   /* bytes; 0 for types not known */
    uint32_t crc32c;
} tvlm_gguf_tensor;

/* A key or tensor by its name. */
typedef struct tvlm_gguf_name {
    tvlm_str name;
    size_t index;
} tvlm_gguf_name;

typedef struct tvlm_gguf {
    tvlm_gguf_kv *kv; /* in the file's order */
    size_t n_kv;
    tvlm_gguf_tensor *tensors; /* in order of offset */
    size_t n_tensors;
    tvlm_gguf_name *key_names, *tensor_names; /* sorted, for look-ups */
    bool has_crc;                             /* tinyvlm.tensor_crc32c present */
    size_t header_crc_at; /* of the value of tinyvlm.header_crc32c in the header; 0: absent */
    uint64_t data_offset; /* of the first tensor's region */
    uint64_t file_size;   /* end of the last tensor */
    uint32_t alignment;
} tvlm_gguf;

/* TVLM_OK with *complete=false when `size` bytes are a valid beginning but not the whole header
 * (feed more); an error as soon as something is wrong, naming key or tensor. Versions 2 and 3 are
 * read, which differ in big-endian files alone. Limits: 65,536 tensors, 65,536 keys, header 256
 * MiB, names 256 bytes, keys 1024. Checked: duplicate names, dims > 0, block divides the row,
 * offsets aligned, inside no other tensor, no overflow; one part of a split model is refused. */
tvlm_status tvlm_gguf_parse(const void *data, size_t size, tvlm_gguf *out, bool *complete,
                            tvlm_error *err);
void tvlm_gguf_free(tvlm_gguf *gguf);

/* The header's own checksum, where it has one: of its data_offset bytes, padding included. */
tvlm_status tvlm_gguf_check_header(const tvlm_gguf *gguf, const void *header, tvlm_crc32c_fn crc32c,
                                   tvlm_error *err);

/* Heap bytes of the index. */
size_t tvlm_gguf_bytes(const tvlm_gguf *gguf);

const tvlm_gguf_kv *tvlm_gguf_find(const tvlm_gguf *gguf, const char *key);
const tvlm_gguf_tensor *tvlm_gguf_find_tensor(const tvlm_gguf *gguf, const char *name);

/* Element i as a number, true and false as 1 and 0; false for strings. */
bool tvlm_gguf_number(const tvlm_gguf_kv *kv, uint64_t i, double *out);

/* Typed reads: any integer type for u32/u64, float types for f64. Absent: *out keeps its value and
 * `required` makes that an error naming the key; wrong type or out of range: always an error. */
tvlm_status tvlm_gguf_u32(const tvlm_gguf *g, const char *key, bool required, uint32_t *out,
                          tvlm_error *err);
tvlm_status tvlm_gguf_f64(const tvlm_gguf *g, const char *key, bool required, double *out,
                          tvlm_error *err);
tvlm_status tvlm_gguf_bool(const tvlm_gguf *g, const char *key, bool required, bool *out,
                           tvlm_error *err);
tvlm_status tvlm_gguf_string(const tvlm_gguf *g, const char *key, bool required, tvlm_str *out,
                             tvlm_error *err);
/* Arrays of exactly n (n_min..cap for the _list forms, *n set). */
tvlm_status tvlm_gguf_f64_array(const tvlm_gguf *g, const char *key, bool required, double *out,
                                size_t n, tvlm_error *err);
tvlm_status tvlm_gguf_u32_list(const tvlm_gguf *g, const char *key, bool required, uint32_t *out,
                               size_t cap, size_t *n, tvlm_error *err);
/* Element i of a string array; the array was checked by parse. Sequential access: pass the same
 * cursor (start it at 0). */
tvlm_str tvlm_gguf_next_string(const tvlm_gguf_kv *array, size_t *cursor);

#endif
