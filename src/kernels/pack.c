/* SPDX-License-Identifier: MIT
 * File layout -> packed panels and back; the drawings are in pack.h. */
#include "kernels/pack.h"

#include <string.h>

static bool gemm_type(tvlm_type type)
{
    switch (type) {
    case TVLM_TYPE_F32:
    case TVLM_TYPE_F16:
    case TVLM_TYPE_BF16:
    case TVLM_TYPE_Q8_0:
    case TVLM_TYPE_Q4_0:
    case TVLM_TYPE_Q4_1:
    case TVLM_TYPE_Q5_0:
    case TVLM_TYPE_Q5_1:
        return true;
    default:
        return false;
    }
}

static uint16_t load16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t load32(const unsigned char *p)
{
    return (uint32_t)load16(p) | (uint32_t)load16(p + 2) << 16;
}

/* Bytes of one row of k weights; k and type were checked by packed_size. */
static size_t row_bytes(tvlm_type type, size_t k)
{
    return k / tvlm_type_block(type) * tvlm_type_block_bytes(type);
}

static bool packed_size(tvlm_type type, size_t n, size_t k, size_t *out)
{
    size_t bytes, rows;
    if (!gemm_type(type) || !tvlm_type_row_bytes(type, k, &bytes) ||
        !tvlm_add_size(n, TVLM_GEMM_NR - 1, &rows))
        return false;
    return tvlm_mul_size(rows / TVLM_GEMM_NR * TVLM_GEMM_NR, bytes, out);
}

static void pack_float_row(tvlm_type type, unsigned char *panel, const unsigned char *src, size_t r,
                           size_t k)
{
    for (size_t i = 0; i < k; i++) {
        if (type == TVLM_TYPE_F32) {
            uint32_t value = load32(src + 4 * i);
            memcpy(panel + 4 * (i * TVLM_GEMM_NR + r), &value, 4);
        } else {
            uint16_t value = load16(src + 2 * i);
            memcpy(panel + 2 * (i * TVLM_GEMM_NR + r), &value, 2);
        }
    }
}

/* One row's 32 weights into its places in a packed block. */
static void pack_block_row(const tvlm_block_layout *layout, unsigned char *block,
                           const unsigned char *src, size_t r)
{
    ((uint16_t *)(void *)block)[r] = load16(src);
    src += 2;
    if (layout->m_at) {
        ((uint16_t *)(void *)(block + layout->m_at))[r] = load16(src);
        src += 2;
    }
    if (layout->high_at) {
        ((uint32_t *)(void *)(block + layout->high_at))[r] = load32(src);
        src += 4;
    }
    if (layout->bits == 8) {
        for (size_t k = 0; k < TVLM_BLOCK; k++)
            block[layout->code_at + k * TVLM_GEMM_NR + r] = src[k];
        return;
    }
    uint32_t *words = (uint32_t *)(void *)(block + layout->code_at);
    for (size_t g = 0; g < 4; g++) {
        uint32_t word = 0;
        for (size_t i = 0; i < 8; i++) {
            size_t k = 8 * g + i;
            uint32_t nibble = k < 16 ? src[k] & 15u : src[k - 16] >> 4;
            word |= nibble << (4 * i);
        }
        words[g * TVLM_GEMM_NR + r] = word;
    }
}

static void pack(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows, size_t k)
{
    size_t bytes = row_bytes(type, k);
    unsigned char *panel = (unsigned char *)packed + n0 * bytes;
    memset(panel, 0, TVLM_GEMM_NR * bytes);
    for (size_t r = 0; r < n_rows; r++) {
        const unsigned char *row = (const unsigned char *)src + r * bytes;
        if (tvlm_type_block(type) == 1) {
            pack_float_row(type, panel, row, r, k);
            continue;
        }
        tvlm_block_layout layout = tvlm_block_layout_of(type);
        for (size_t b = 0; b < k / TVLM_BLOCK; b++)
            pack_block_row(&layout, panel + b * layout.bytes, row + b * tvlm_type_block_bytes(type),
                           r);
    }
}

static void unpack_row(tvlm_type type, const void *packed, size_t row, size_t k, float *dst)
{
    size_t r = row % TVLM_GEMM_NR;
    const unsigned char *panel = (const unsigned char *)packed + (row - r) * row_bytes(type, k);
    if (tvlm_type_block(type) == 1) {
        for (size_t i = 0; i < k; i++) {
            size_t at = i * TVLM_GEMM_NR + r;
            if (type == TVLM_TYPE_F32)
                dst[i] = ((const float *)(const void *)panel)[at];
            else if (type == TVLM_TYPE_F16)
                dst[i] = tvlm_f16_to_f32(((const uint16_t *)(const void *)panel)[at]);
            else
                dst[i] = tvlm_bf16_to_f32(((const uint16_t *)(const void *)panel)[at]);
        }
        return;
    }
    tvlm_block_layout layout = tvlm_block_layout_of(type);
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, panel += layout.bytes) {
        float d = tvlm_f16_to_f32(((const uint16_t *)(const void *)panel)[r]);
        float m = 0;
        if (layout.m_at)
            m = tvlm_f16_to_f32(((const uint16_t *)(const void *)(panel + layout.m_at))[r]);
        for (size_t i = 0; i < TVLM_BLOCK; i++)
            *dst++ = d * (float)tvlm_block_code(&layout, panel, i, r) + m;
    }
}

const tvlm_gemm_layout tvlm_layout_f32 = {packed_size, pack, unpack_row};

/* ---- the bf16 classes ---- */

/* [k/group][16][group]; group is a power of two. */
static size_t filled(size_t k, size_t group)
{
    return (k + group - 1) & ~(group - 1);
}

static bool size_groups(size_t group, tvlm_type type, size_t n, size_t k, size_t *out)
{
    return tvlm_type_block(type) == 1 && gemm_type(type) && k <= SIZE_MAX - group &&
           packed_size(TVLM_TYPE_BF16, n, filled(k, group), out);
}

static void pack_groups(size_t group, tvlm_type type, void *packed, const void *src, size_t n0,
                        size_t n_rows, size_t k)
{
    size_t depth = filled(k, group), bytes = tvlm_type_block_bytes(type);
    uint16_t *panel = (uint16_t *)packed + n0 * depth;
    memset(panel, 0, TVLM_GEMM_NR * depth * sizeof *panel);
    float values[TVLM_BLOCK];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < k; i++) {
            const unsigned char *at = (const unsigned char *)src + (r * k + i) * bytes;
            if (i % TVLM_BLOCK == 0)
                tvlm_dequantize(type, at, values, k - i < TVLM_BLOCK ? k - i : TVLM_BLOCK);
            panel[(i / group * TVLM_GEMM_NR + r) * group + i % group] =
                tvlm_bf16_flushed(values[i % TVLM_BLOCK]);
        }
}

static void unpack_groups(size_t group, const void *packed, size_t row, size_t k, float *dst)
{
    size_t r = row % TVLM_GEMM_NR;
    const uint16_t *panel = (const uint16_t *)packed + (row - r) * filled(k, group);
    for (size_t i = 0; i < k; i++)
        dst[i] = tvlm_bf16_to_f32(panel[(i / group * TVLM_GEMM_NR + r) * group + i % group]);
}

#define GROUPS(name, group)                                                                        \
    static bool size_##name(tvlm_type type, size_t n, size_t k, size_t *out)                       \
    {                                                                                              \
        return size_groups(group, type, n, k, out);                                                \
    }                                                                                              \
    static void pack_##name(tvlm_type type, void *packed, const void *src, size_t n0,              \
                            size_t n_rows, size_t k)                                               \
    {                                                                                              \
        pack_groups(group, type, packed, src, n0, n_rows, k);                                      \
    }                                                                                              \
    static void unpack_##name(tvlm_type type, const void *packed, size_t row, size_t k,            \
                              float *dst)                                                          \
    {                                                                                              \
        (void)type;                                                                                \
        unpack_groups(group, packed, row, k, dst);                                                 \
    }                                                                                              \
    const tvlm_gemm_layout tvlm_layout_##name = {size_##name, pack_##name, unpack_##name};
GROUPS(bf16, 2)
GROUPS(bf16_odd, 4)

/* ---- the int16 class ---- */

bool tvlm_words_packed_size(tvlm_type type, size_t n, size_t k, size_t *out)
{
    size_t rows;
    if (tvlm_type_block(type) != 1 || !gemm_type(type) || k > SIZE_MAX / 4 ||
        !tvlm_add_size(n, TVLM_GEMM_NR - 1, &rows))
        return false;
    return tvlm_mul_size(rows / TVLM_GEMM_NR * TVLM_GEMM_NR, tvlm_words_bytes(k), out);
}

/* Row r of a block of n values, whose file layout is at src. */
static void pack_words(const tvlm_gemm_input *input, tvlm_type type, unsigned char *block,
                       const unsigned char *src, size_t r, size_t n)
{
    float values[TVLM_WORDS], made[1 + TVLM_WORDS / 2]; /* d and codes */
    tvlm_dequantize(type, src, values, n);
    input->pack(made, values, n);
    ((float *)(void *)block)[r] = made[0];
    unsigned char *pair = block + (TVLM_GEMM_NR + r) * 4;
    for (size_t i = 0; i < (n + 1) / 2; i++)
        memcpy(pair + i * TVLM_GEMM_NR * 4, &made[1 + i], 4);
}

void tvlm_words_pack(const tvlm_gemm_input *input, tvlm_type type, void *packed, const void *src,
                     size_t n0, size_t n_rows, size_t k)
{
    unsigned char *block = (unsigned char *)packed + n0 * tvlm_words_bytes(k);
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        size_t n = tvlm_words_at(k, k0);
        if (n_rows < TVLM_GEMM_NR) memset(block, 0, TVLM_GEMM_NR * tvlm_words_bytes(n));
        for (size_t r = 0; r < n_rows; r++)
            pack_words(input, type, block, (const unsigned char *)src + row_bytes(type, r * k + k0),
                       r, n);
        block += TVLM_GEMM_NR * tvlm_words_bytes(n);
    }
}

static void pack_int16(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows,
                       size_t k)
{
    tvlm_words_pack(&tvlm_input_int16, type, packed, src, n0, n_rows, k);
}

void tvlm_words_unpack_row(tvlm_type type, const void *packed, size_t row, size_t k, float *dst)
{
    (void)type;
    size_t r = row % TVLM_GEMM_NR;
    const unsigned char *block = (const unsigned char *)packed + (row - r) * tvlm_words_bytes(k);
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        size_t n = tvlm_words_at(k, k0);
        const float d = ((const float *)(const void *)block)[r];
        const int16_t *code = (const int16_t *)(const void *)(block + TVLM_GEMM_NR * sizeof d);
        for (size_t i = 0; i < n; i++)
            *dst++ = d * (float)code[(i / 2 * TVLM_GEMM_NR + r) * 2 + i % 2];
        block += TVLM_GEMM_NR * tvlm_words_bytes(n);
    }
}

const tvlm_gemm_layout tvlm_layout_int16 = {tvlm_words_packed_size, pack_int16,
                                            tvlm_words_unpack_row};

/* ---- the int8 class ---- */

/* What a type's weights are packed as: float types become Q8_0. */
static tvlm_type packed_type(tvlm_type type)
{
    return tvlm_type_block(type) == 1 ? TVLM_TYPE_Q8_0 : type;
}

static bool packed_size_int8(tvlm_type type, size_t n, size_t k, size_t *out)
{
    return gemm_type(type) && packed_size(packed_type(type), n, k, out);
}

/* Bit j of byte i is bit 4j + i of the file's high word. */
static uint32_t transpose_high(uint32_t high)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < 8; j++)
            out |= (high >> (4 * j + i) & 1) << (8 * i + j);
    return out;
}

/* n words of a row into the words of a block, which alternate with those of its other rows. */
static inline void interleave(unsigned char *to, const unsigned char *from, size_t n)
{
    for (size_t j = 0; j < n; j++)
        memcpy(to + 4 * TVLM_GEMM_NR * j, from + 4 * j, 4);
}

/* One row's 32 weights in file layout into its places in a packed block. */
static inline void pack_block_row_int8(const tvlm_block_layout *layout, unsigned char *block,
                                       const unsigned char *src, size_t r)
{
    ((uint16_t *)(void *)block)[r] = load16(src);
    src += 2;
    if (layout->m_at) {
        ((uint16_t *)(void *)(block + layout->m_at))[r] = load16(src);
        src += 2;
    }
    if (layout->high_at) {
        uint32_t high = transpose_high(load32(src));
        for (size_t i = 0; i < 4; i++)
            block[layout->high_at + 4 * r + i] = (unsigned char)(high >> (8 * i));
        src += 4;
    }
    if (layout->bits == 8) /* two calls, so that the compiler knows their lengths */
        interleave(block + layout->code_at + 4 * r, src, 8);
    else
        interleave(block + layout->code_at + 4 * r, src, 4);
}

/* Rows of float weights. */
static void pack_floats_int8(tvlm_type type, unsigned char *panel, const unsigned char *src,
                             size_t n_rows, size_t k)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(TVLM_TYPE_Q8_0);
    const size_t from = tvlm_type_block_bytes(type) * TVLM_BLOCK;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t b = 0; b < k / TVLM_BLOCK; b++, src += from) {
            float values[TVLM_BLOCK];
            unsigned char made[2 + TVLM_BLOCK];
            tvlm_dequantize(type, src, values, TVLM_BLOCK);
            tvlm_quantize(TVLM_TYPE_Q8_0, values, made, TVLM_BLOCK);
            pack_block_row_int8(&layout, panel + b * layout.bytes, made, r);
        }
}

/* Block by block, so that each is written once, from its first byte to its last. */
static void pack_blocks_int8(tvlm_type type, unsigned char *panel, const unsigned char *src,
                             size_t n_rows, size_t k)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t from = tvlm_type_block_bytes(type), row = row_bytes(type, k);
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, panel += layout.bytes, src += from)
        for (size_t r = 0; r < n_rows; r++)
            pack_block_row_int8(&layout, panel, src + r * row, r);
}

static void pack_int8(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows,
                      size_t k)
{
    size_t bytes = row_bytes(packed_type(type), k);
    unsigned char *panel = (unsigned char *)packed + n0 * bytes;
    if (n_rows < TVLM_GEMM_NR) memset(panel, 0, TVLM_GEMM_NR * bytes);
    (packed_type(type) == type ? pack_blocks_int8 : pack_floats_int8)(type, panel, src, n_rows, k);
}

static void unpack_row_int8(tvlm_type type, const void *packed, size_t row, size_t k, float *dst)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(packed_type(type));
    size_t r = row % TVLM_GEMM_NR;
    const unsigned char *panel =
        (const unsigned char *)packed + (row - r) * row_bytes(packed_type(type), k);
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, panel += layout.bytes) {
        float d = tvlm_f16_to_f32(((const uint16_t *)(const void *)panel)[r]), m = 0;
        if (layout.m_at)
            m = tvlm_f16_to_f32(((const uint16_t *)(const void *)(panel + layout.m_at))[r]);
        for (size_t i = 0; i < TVLM_BLOCK; i++)
            *dst++ = d * (float)(tvlm_block_code_int8(&layout, panel, i, r) - layout.offset) + m;
    }
}

const tvlm_gemm_layout tvlm_layout_int8 = {packed_size_int8, pack_int8, unpack_row_int8};

bool tvlm_qgemm_packed_size(size_t n, size_t k, size_t *out)
{
    size_t rows, depth;
    if (!tvlm_add_size(n, TVLM_GEMM_NR - 1, &rows) || !tvlm_add_size(k, 3, &depth)) return false;
    return tvlm_mul_size(rows / TVLM_GEMM_NR * TVLM_GEMM_NR, depth / 4 * 4, out);
}

void tvlm_qgemm_pack(int8_t *packed, const int8_t *src, size_t n0, size_t n_rows, size_t k)
{
    size_t depth = (k + 3) / 4 * 4;
    int8_t *panel = packed + n0 * depth;
    if (n_rows < TVLM_GEMM_NR || k < depth) memset(panel, 0, TVLM_GEMM_NR * depth);
    for (size_t i = 0; i < k; i += 4)
        for (size_t r = 0; r < n_rows; r++) {
            int8_t *to = panel + (i * TVLM_GEMM_NR + 4 * r);
            if (k - i >= 4)
                memcpy(to, src + r * k + i, 4);
            else
                memcpy(to, src + r * k + i, k - i);
        }
}
