/* SPDX-License-Identifier: MIT
 * Reads tensors of the test data's safetensors files (which are trusted: no checks beyond asserts):
 *   u64 header size | header JSON {"name":{"dtype":"F32","shape":[..],"data_offsets":[a,b]},..} |
 * data */
#ifndef TVLM_TESTS_TENSORS_H
#define TVLM_TESTS_TENSORS_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tensor_file {
    char *header; /* terminated */
    unsigned char *data;
    size_t size;
} tensor_file;

typedef struct tensor {
    const void *data;           /* NULL: not in the file */
    size_t n_dims, shape[4], n; /* n elements */
    char dtype[8];
} tensor;

static inline void *read_whole_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "cannot open %s\n", path);
        assert(f);
    }
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*size + 1);
    assert(data && fread(data, 1, *size, f) == *size);
    data[*size] = 0;
    fclose(f);
    return data;
}

static inline tensor_file tensors_open(const char *path)
{
    tensor_file t = {0};
    unsigned char *file = read_whole_file(path, &t.size);
    uint64_t n;
    memcpy(&n, file, 8);
    assert(n + 8 <= t.size);
    t.header = malloc(n + 1);
    assert(t.header);
    memcpy(t.header, file + 8, n);
    t.header[n] = 0;
    t.size -= n + 8;
    t.data = malloc(t.size + 1);
    assert(t.data);
    memcpy(t.data, file + 8 + n, t.size); /* so that tensors start aligned as in the data section */
    free(file);
    return t;
}

static inline void tensors_close(tensor_file *t)
{
    free(t->header);
    free(t->data);
}

static inline tensor tensors_find(const tensor_file *t, const char *name)
{
    tensor out = {0};
    char key[160];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(t->header, key);
    if (!at) return out;
    const char *dtype = strstr(at, "\"dtype\":\""), *shape = strstr(at, "\"shape\":[");
    const char *offsets = strstr(at, "\"data_offsets\":[");
    assert(dtype && shape && offsets);
    sscanf(dtype + 9, "%7[A-Z0-9]", out.dtype);
    out.n = 1;
    char *next = (char *)(uintptr_t)(shape + 9);
    while (*next != ']') {
        assert(out.n_dims < 4);
        out.shape[out.n_dims] = strtoul(next, &next, 10);
        out.n *= out.shape[out.n_dims++];
        next += *next == ',';
    }
    size_t begin = strtoul(offsets + 16, NULL, 10);
    assert(begin < t->size);
    out.data = t->data + begin;
    return out;
}

#endif
