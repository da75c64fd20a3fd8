/* SPDX-License-Identifier: MIT
 * K-quants: file layout -> packed panels and back; the drawing is in pack.h. */
#include "kernels/pack.h"
#include "quant/kquant.h"

#include <string.h>

enum { PARTS = TVLM_K_BLOCK / TVLM_BLOCK };

static bool is_k_type(tvlm_type type)
{
    return type == TVLM_TYPE_Q4_K || type == TVLM_TYPE_Q5_K || type == TVLM_TYPE_Q6_K;
}

static bool packed_size(tvlm_type type, size_t n, size_t k, size_t *out)
{
    size_t rows, blocks;
    return is_k_type(type) && k % TVLM_K_BLOCK == 0 && tvlm_add_size(n, TVLM_GEMM_NR - 1, &rows) &&
           tvlm_mul_size(rows / TVLM_GEMM_NR, k / TVLM_K_BLOCK, &blocks) &&
           tvlm_mul_size(blocks, tvlm_k_layout_of(type).bytes, out);
}

/* 32 codes of one row into a part. */
static void pack_part(const tvlm_k_layout *layout, unsigned char *part, const uint8_t *code,
                      size_t r)
{
    unsigned char low[16], high[2][4] = {{0}};
    for (size_t i = 0; i < 16; i++)
        low[i] = (unsigned char)((code[i] & 15) | (code[16 + i] & 15) << 4);
    for (size_t j = 0; j < 4; j++)
        memcpy(part + layout->code_at + (j * TVLM_GEMM_NR + r) * 4, low + 4 * j, 4);
    if (layout->bits == 4) return;
    for (size_t k = 0; k < TVLM_BLOCK; k++) {
        size_t j = k / 4, h = layout->bits == 5 ? 0 : k / 16;
        unsigned shift = (unsigned)(layout->bits == 5 ? j : 2 * (j % 4));
        high[h][k % 4] |= (unsigned char)(code[k] >> 4 << shift);
    }
    for (size_t h = 0; h < layout->bits - 4; h++)
        memcpy(part + (h * TVLM_GEMM_NR + r) * 4, high[h], 4);
}

static void pack_super_block(tvlm_type type, const tvlm_k_layout *layout, unsigned char *block,
                             const unsigned char *src, size_t r)
{
    tvlm_k_block b;
    tvlm_k_read(type, src, &b);
    ((uint16_t *)(void *)block)[r] = b.d;
    for (size_t i = 0; i < layout->n_scales; i++)
        block[layout->scale_at + i * TVLM_GEMM_NR + r] = b.scale[i];
    if (layout->m_at) {
        ((uint16_t *)(void *)block)[TVLM_GEMM_NR + r] = b.min;
        for (size_t i = 0; i < layout->n_scales; i++)
            block[layout->m_at + i * TVLM_GEMM_NR + r] = b.m[i];
    }
    for (size_t p = 0; p < PARTS; p++)
        pack_part(layout, block + layout->part_at + p * layout->part_bytes, b.code + p * TVLM_BLOCK,
                  r);
}

static void pack(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows, size_t k)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = k / TVLM_K_BLOCK, bytes = tvlm_type_block_bytes(type);
    const unsigned char *from = src;
    unsigned char *panel = (unsigned char *)packed + n0 / TVLM_GEMM_NR * n_blocks * layout.bytes;
    if (n_rows < TVLM_GEMM_NR) memset(panel, 0, n_blocks * layout.bytes);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t b = 0; b < n_blocks; b++, from += bytes)
            pack_super_block(type, &layout, panel + b * layout.bytes, from, r);
}

static void unpack_row(tvlm_type type, const void *packed, size_t row, size_t k, float *dst)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = k / TVLM_K_BLOCK;
    const unsigned char *block =
        (const unsigned char *)packed + row / TVLM_GEMM_NR * n_blocks * layout.bytes;
    for (size_t b = 0; b < n_blocks; b++, block += layout.bytes)
        for (size_t p = 0; p < PARTS; p++, dst += TVLM_BLOCK)
            tvlm_k_weights(&layout, block, p, row % TVLM_GEMM_NR, dst);
}

const tvlm_gemm_layout tvlm_layout_k = {packed_size, pack, unpack_row};
