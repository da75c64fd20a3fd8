/* SPDX-License-Identifier: MIT
 * safetensors: https://github.com/huggingface/safetensors
 *
 *   u64 n | n bytes of JSON {"name":{"dtype":"F32","shape":[..],"data_offsets":[from,to]}, ..} |
 * data
 *
 * Everything is checked before use: the header's length, types, shapes against offsets, and that
 * the tensors cover the data exactly, without overlap, under different names. */
#ifndef TVLMC_SAFETENSORS_H
#define TVLMC_SAFETENSORS_H

#include "tinyvlm.h"

typedef enum tvlmc_st_dtype {
    TVLMC_ST_F32,
    TVLMC_ST_F16,
    TVLMC_ST_BF16,
    TVLMC_ST_F64,
    TVLMC_ST_I64,
    TVLMC_ST_I32,
    TVLMC_ST_U8,
    TVLMC_ST_I8,
    TVLMC_ST_BOOL
} tvlmc_st_dtype;

#define TVLMC_ST_MAX_DIMS 8

typedef struct tvlmc_st_tensor {
    const char *name;
    tvlmc_st_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[TVLMC_ST_MAX_DIMS]; /* outermost first */
    size_t n;                          /* elements; 1 for scalars, 0 is possible */
    const unsigned char *data;         /* little-endian, unaligned; NULL: in the file, */
    const struct tvlm_file *file;      /* borrowed from the set, */
    uint64_t offset;                   /* there */
} tvlmc_st_tensor;

/* The tensors of one file or of a sharded set, sorted by name. */
typedef struct tvlmc_st_set {
    tvlmc_st_tensor *tensors;
    size_t n;
    struct tvlmc_st_source *sources; /* what the tensors borrow from */
} tvlmc_st_set;

/* path: a .safetensors file, a model.safetensors.index.json, or a folder with either (the index
 * wins). Shards are files beside their index; every name of the index must be there. */
tvlm_status tvlmc_st_open(const char *path, tvlmc_st_set *out, tvlm_error *err);
/* The same from memory, which the set borrows. label names it in messages. */
tvlm_status tvlmc_st_open_memory(const char *label, const void *data, size_t size,
                                 tvlmc_st_set *out, tvlm_error *err);
void tvlmc_st_close(tvlmc_st_set *set);

const tvlmc_st_tensor *tvlmc_st_find(const tvlmc_st_set *set, const char *name);
const char *tvlmc_st_dtype_name(tvlmc_st_dtype dtype);
size_t tvlmc_st_dtype_size(tvlmc_st_dtype dtype);
/* Elements first .. first + n as float (the caller keeps within the tensor). */
tvlm_status tvlmc_st_read_f32(const tvlmc_st_tensor *tensor, size_t first, size_t n, float *out,
                              tvlm_error *err);

/* Tensors with data. Written in the given order; path, cancel: as in file/output.h. */
tvlm_status tvlmc_st_write(const char *path, const tvlm_cancel *cancel,
                           const tvlmc_st_tensor *tensors, size_t n, tvlm_error *err);

#endif
