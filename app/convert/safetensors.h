/* SPDX-License-Identifier: MIT
 * safetensors: https://github.com/huggingface/safetensors
 *
 *   u64 n | n bytes of JSON {"name":{"dtype":"F32","shape":[..],"data_offsets":[from,to]}, ..} |
 * data
 *
 * Everything is checked before use: the header's length, types, shapes against offsets, and that
 * the tensors cover the data exactly, without overlap, under different names. */
#ifndef TVLM_APP_SAFETENSORS_H
#define TVLM_APP_SAFETENSORS_H

#include "base/base.h"

typedef enum tvlm_st_dtype {
    TVLM_ST_F32,
    TVLM_ST_F16,
    TVLM_ST_BF16,
    TVLM_ST_F64,
    TVLM_ST_I64,
    TVLM_ST_I32,
    TVLM_ST_U8,
    TVLM_ST_I8,
    TVLM_ST_BOOL
} tvlm_st_dtype;

#define TVLM_ST_MAX_DIMS 8

typedef struct tvlm_st_tensor {
    const char *name;
    tvlm_st_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[TVLM_ST_MAX_DIMS]; /* outermost first */
    size_t n;                         /* elements; 1 for scalars, 0 is possible */
    const unsigned char *data;        /* little-endian, unaligned; NULL: in the file, */
    const tvlm_file *file;            /* borrowed from the set, */
    uint64_t offset;                  /* there */
} tvlm_st_tensor;

/* The tensors of one file or of a sharded set, sorted by name. */
typedef struct tvlm_st_set {
    tvlm_st_tensor *tensors;
    size_t n;
    struct tvlm_st_source *sources; /* what the tensors borrow from */
} tvlm_st_set;

/* path: a .safetensors file, a model.safetensors.index.json, or a folder with either (the index
 * wins). Shards are files beside their index; every name of the index must be there. */
tvlm_status tvlm_st_open(const char *path, tvlm_st_set *out, tvlm_error *err);
/* The same from memory, which the set borrows. label names it in messages. */
tvlm_status tvlm_st_open_memory(const char *label, const void *data, size_t size, tvlm_st_set *out,
                                tvlm_error *err);
void tvlm_st_close(tvlm_st_set *set);

const tvlm_st_tensor *tvlm_st_find(const tvlm_st_set *set, const char *name);
const char *tvlm_st_dtype_name(tvlm_st_dtype dtype);
size_t tvlm_st_dtype_size(tvlm_st_dtype dtype);
/* Elements first .. first + n as float (the caller keeps within the tensor). */
tvlm_status tvlm_st_read_f32(const tvlm_st_tensor *tensor, size_t first, size_t n, float *out,
                             tvlm_error *err);

/* Tensors with data. Written in the given order; path, cancel: as in file/output.h. */
tvlm_status tvlm_st_write(const char *path, const tvlm_cancel *cancel,
                          const tvlm_st_tensor *tensors, size_t n, tvlm_error *err);

#endif
