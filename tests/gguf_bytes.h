/* SPDX-License-Identifier: MIT
 * GGUF bytes put together by hand, sharing nothing with the writer: for headers that no writer
 * makes. Include after cmocka.h. */
#ifndef TVLM_TESTS_GGUF_BYTES_H
#define TVLM_TESTS_GGUF_BYTES_H

#include "model/gguf.h"

#include <string.h>

typedef struct gguf_bytes {
    unsigned char data[16384];
    size_t size;
} gguf_bytes;

static inline void bytes_le(gguf_bytes *b, uint64_t v, size_t n)
{
    assert_true(b->size + n <= sizeof b->data);
    for (size_t i = 0; i < n; i++)
        b->data[b->size++] = (unsigned char)(v >> (8 * i));
}

static inline void bytes_str(gguf_bytes *b, const char *s)
{
    bytes_le(b, strlen(s), 8);
    for (; *s; s++)
        bytes_le(b, (unsigned char)*s, 1);
}

static inline void bytes_f32(gguf_bytes *b, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bytes_le(b, bits, 4);
}

static inline void bytes_f64(gguf_bytes *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    bytes_le(b, bits, 8);
}

/* The counts at 8 and 16 grow as keys and tensors are added. */
static inline void bytes_begin(gguf_bytes *b)
{
    b->size = 0;
    memcpy(b->data, "GGUF\3\0\0", 8);
    memset(b->data + 8, 0, 16);
    b->size = 24;
}

/* The value follows. */
static inline void bytes_key(gguf_bytes *b, const char *key, tvlm_gguf_type type)
{
    b->data[16]++;
    bytes_str(b, key);
    bytes_le(b, (uint64_t)type, 4);
}

static inline void bytes_array(gguf_bytes *b, const char *key, tvlm_gguf_type type, uint64_t n)
{
    bytes_key(b, key, TVLM_GGUF_ARRAY);
    bytes_le(b, (uint64_t)type, 4);
    bytes_le(b, n, 8);
}

/* The shape is outermost first and ends at the first 0. */
static inline void bytes_tensor(gguf_bytes *b, const char *name, uint32_t type,
                                const uint64_t shape[5], uint64_t offset)
{
    uint32_t n_dims = 0;
    while (n_dims < 4 && shape[n_dims])
        n_dims++;
    b->data[8]++;
    bytes_str(b, name);
    bytes_le(b, n_dims, 4);
    for (uint32_t i = n_dims; i-- > 0;)
        bytes_le(b, shape[i], 8);
    bytes_le(b, type, 4);
    bytes_le(b, offset, 8);
}

#endif
