/* SPDX-License-Identifier: MIT
 * Packed weight layouts of the gemms and the arithmetic that every tier repeats bit for bit.
 *
 * A matrix [n][k] is cut into panels of NR = 16 weight rows (columns of y); a panel takes
 * 16 * tvlm_type_row_bytes(k) bytes whatever the type, so panel p starts at p times that. Values
 * are in the host's byte order; a packed buffer is aligned to 4 bytes at least. Rows past n are 0.
 *
 *   float panel   element [k][16]
 *
 *   block panel   one of these per 32 values of k, one after the other:
 *     Q8_0  | d f16[16] | code i8[32][16]                        |  544 bytes
 *     Q4_0  | d f16[16] |             word u32[4][16]            |  288
 *     Q4_1  | d f16[16] | m f16[16] | word u32[4][16]            |  320
 *     Q5_0  | d f16[16] | high u32[16] | word u32[4][16]         |  352
 *     Q5_1  | d f16[16] | m f16[16] | high u32[16] | word [4][16]|  384
 *
 *   word[g][r]: bits 4i..4i+3 hold the low four bits of weight k = 8g + i of row r
 *               bit  31..28  27..24  ...  7..4  3..0
 *               k     8g+7    8g+6   ...  8g+1  8g
 *   high[r]:    bit k holds the fifth bit of weight k of row r
 *
 *   K panel, in both classes: one of these per 256 values of k, parts p of 32 values:
 *     Q4_K  | d f16[16] | min f16[16] | scale u8[8][16] | m u8[8][16] | part[8] of 256 | 2368 bytes
 *     Q5_K  | the same                                                | part[8] of 320 | 2880
 *     Q6_K  | d f16[16] | scale i8[16][16]                            | part[8] of 384 | 3360
 *   and a part: | high u8[bits - 4][16][4] | byte u8[4][16][4] |
 *     byte[j][r][i]  weight 4j + i of row r in the low bits, 16 + 4j + i above
 *     high           Q5_K: bit j of [0][r][i] is the fifth bit of weight 4j + i
 *                    Q6_K: bits 2j and 2j + 1 of [h][r][i] belong to weight 16h + 4j + i
 *
 * Arithmetic of one output, all in float32, fma = one rounding:
 *   float types   acc = 0;  acc = fma(w[k], x[k], acc) for k ascending
 *   K-quants      the same, w[k] as quant.h has it
 *   block types   acc = 0;  per block b ascending:
 *                   sum = 0;  sum = fma(q[k], x[k], sum) for k ascending in the block
 *                   acc = fma(d, sum, acc)
 *                   with mins:  acc = fma(m, xsum, acc)
 *                 lane[i] = (x[i] + x[i + 8]) + (x[i + 16] + x[i + 24]), i < 8, of the block
 *                 xsum    = tvlm_sum8(lane)
 *   epilogue      y = act(acc + bias) * scale + residual, each step rounded; no bias, no
 *                 residual: no addition.
 *
 * The bf16 class is that of VDPBF16PS. Float weights become bfloat16 [k/2][16][2], an odd last k
 * beside a zero; so does a row of x, [k]. Subnormals are zeros throughout:
 *   bfloat16      to nearest, half to even; of a subnormal float32: zero of its sign
 *   output        acc = 0;  per pair of k ascending:
 *                   acc = fma(w[k + 1], x[k + 1], acc);  acc = fma(w[k], x[k], acc)
 *                 where a result below 2^-126 is zero of its sign
 *
 * The odd bf16 class is that of ARM's BFMMLA and BFDOT (FPCR.EBF 0, as every system has it):
 * weights [k/4][16][4], rows of x [k], both filled up with zeros to fours. The same bfloat16, and
 *   output        acc = 0;  per pair of k ascending:
 *                   acc = odd(acc + odd(w[k] * x[k] + w[k + 1] * x[k + 1]))
 *                 odd: toward zero, then the last bit set if that was not exact; a result or
 *                 product below 2^-126 is zero of its sign, from 2^128 on it is infinity
 *
 * The int16 class has words (codes) with one scale for each row and block of 256 values of k, the
 * last block shorter; two neighbours of k lie together, an odd last k beside a zero:
 *
 *   panel         | d f32[16] | code i16[k/2][16][2] | for each block of k, one after the other
 *   row of x      | d f32 | q i16[k] | the same
 *
 * Codes of weights and of x are made alike, of a block of n values v, as large as int32 sums allow:
 * by Cauchy and Schwarz no sum of products exceeds the product of two norms, so the codes' norm is
 * kept below 2^15.5, whose square is 2^31, and a code below 2^15:
 *   most = max |v|;  u[i] = v[i] * (1 / most);  lane[j] = sum of u[i] * u[i], i = j mod 16
 * ascending norm = sqrt(tvlm_sum8(lane[j] + lane[j + 8], j < 8));  s = min(46300 / norm, 32767)
 *   q[i] = rint(v[i] * ((1 / most) * s));  d = most / s           all in float32, each step rounded
 *   most below 2^-100: d = 0, q = 0;  an infinity or NaN among them: d = NaN, q = 0
 * (46300 leaves room for the rounding of 256 codes, whose norm is 8.) An output:
 *   acc = 0;  per block b ascending:
 *     total = sum over k of code[k] * q[k]                        exact int32
 *     acc = fma(d_w, total * d, acc)
 *
 * The int8 class has the same blocks as the f32 class, but codes of four neighbours of k lie
 * together, as the instructions that multiply bytes want them; float weights are made Q8_0 when
 * they are packed:
 *
 *     Q8_0        code i8[8][16][4]: [j][r][i] is weight k = 4j + i of row r
 *     Q4_x, Q5_x  byte u8[4][16][4]: [j][r][i] has weight 4j + i in its low bits, 16 + 4j + i above
 *     Q5_x        high u8[16][4]: bit j of [r][i] is the fifth bit of weight 4j + i
 *
 * A row of x becomes one of these per 32 values (tvlm_input_block):
 *   d = max |x| / 127;  q[k] = rint(x[k] * (127 / max |x|));  sum = sum of q[k]
 *   max |x| below 2^-120: d = 0, q = 0;  an infinity or NaN among them: d = NaN, q = 0
 * and an output is exact in integers within a block:
 *   acc = 0;  per block b ascending:
 *     total = sum over k of code[k] * q[k] - offset * sum         exact int32
 *     acc = fma(d_w, total * d, acc)
 *     with mins:  acc = fma(m, sum * d, acc)
 *   Q4_K, Q5_K:   acc = fma(d_w * scale, total * d, acc);  acc = fma(min * m, -(sum * d), acc)
 *   Q6_K:         total = sum over halves h of scale[h] * sum over k of (code[k] - 32) * q[k],
 *                 which is below 2^24;  acc = fma(d_w, total * d, acc)
 *   the epilogue as above */
#ifndef TVLM_KERNELS_PACK_H
#define TVLM_KERNELS_PACK_H

#include "kernels/linear.h"

#include <math.h>
#include <string.h>

enum { TVLM_BLOCK = 32 };

typedef struct tvlm_block_layout {
    unsigned bytes;                  /* of one block of 16 rows */
    unsigned m_at, high_at, code_at; /* byte offsets; 0: not there (d is at 0) */
    unsigned bits;                   /* of a code */
    int offset;                      /* weight = d * (code - offset) + m */
} tvlm_block_layout;

static inline tvlm_block_layout tvlm_block_layout_of(tvlm_type type)
{
    switch (type) {
    case TVLM_TYPE_Q4_0:
        return (tvlm_block_layout){288, 0, 0, 32, 4, 8};
    case TVLM_TYPE_Q4_1:
        return (tvlm_block_layout){320, 32, 0, 64, 4, 0};
    case TVLM_TYPE_Q5_0:
        return (tvlm_block_layout){352, 0, 32, 96, 5, 16};
    case TVLM_TYPE_Q5_1:
        return (tvlm_block_layout){384, 32, 64, 128, 5, 0};
    default:
        return (tvlm_block_layout){544, 0, 0, 32, 8, 0};
    }
}

/* A float in the bf16 class. */
static inline uint16_t tvlm_bf16_flushed(float x)
{
    return tvlm_f32_to_bf16(fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x);
}

/* The largest |v| by its bits, which order like the values and put infinity and NaN on top. */
static inline float tvlm_largest(const float *v, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bits &= 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    return largest;
}

/* Values of a block in the int16 class. */
enum { TVLM_WORDS = 256 };
/* Of those the block that starts at k0 has. */
static inline size_t tvlm_words_at(size_t k, size_t k0)
{
    return k - k0 < TVLM_WORDS ? k - k0 : TVLM_WORDS;
}
/* Bytes of k values of one row, codes and scales; a panel takes 16 times that. */
static inline size_t tvlm_words_bytes(size_t k)
{
    return (k + 1) / 2 * 4 + (k + TVLM_WORDS - 1) / TVLM_WORDS * sizeof(float);
}
#define TVLM_WORDS_NORM  46300.0f /* of a block's codes */
#define TVLM_WORDS_MOST  32767.0f
#define TVLM_WORDS_LEAST 0x1p-100f /* of max |v|; below it the block is zeros */
/* The parts of tvlm_layout_int16; what makes words of rows of x makes them of weights too, so that
 * a tier has a layout of its own with the same bits, made faster. */
bool tvlm_words_packed_size(tvlm_type type, size_t n, size_t k, size_t *out);
void tvlm_words_pack(const tvlm_gemm_input *input, tvlm_type type, void *packed, const void *src,
                     size_t n0, size_t n_rows, size_t k);
void tvlm_words_unpack_row(tvlm_type type, const void *packed, size_t row, size_t k, float *dst);

/* 32 values of a row of x in the int8 class; ints are exact in float. */
typedef struct tvlm_input_block {
    float d;
    int32_t sum;
    int8_t q[TVLM_BLOCK];
} tvlm_input_block;
#define TVLM_INPUT_LEAST 0x1p-120f /* of max |x|; below it the block is zeros */

/* The fixed order in which eight partial sums become one, on every tier. */
static inline float tvlm_sum8(const float lane[8])
{
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

/* The integer q = code - offset of weight k (< 32) of row r (< 16) of a packed block. */
static inline int tvlm_block_code(const tvlm_block_layout *layout, const unsigned char *block,
                                  size_t k, size_t r)
{
    if (layout->bits == 8) return ((const int8_t *)(block + layout->code_at))[k * TVLM_GEMM_NR + r];
    uint32_t word =
        ((const uint32_t *)(const void *)(block + layout->code_at))[k / 8 * TVLM_GEMM_NR + r];
    uint32_t code = word >> (4 * (k % 8)) & 15;
    if (layout->bits == 5)
        code |= (((const uint32_t *)(const void *)(block + layout->high_at))[r] >> k & 1) << 4;
    return (int)code - layout->offset;
}

/* The same in the int8 class, without the offset. */
static inline int tvlm_block_code_int8(const tvlm_block_layout *layout, const unsigned char *block,
                                       size_t k, size_t r)
{
    size_t j = k / 4, i = k % 4;
    if (layout->bits == 8)
        return ((const int8_t *)(block + layout->code_at))[(j * TVLM_GEMM_NR + r) * 4 + i];
    unsigned byte = block[layout->code_at + (j % 4 * TVLM_GEMM_NR + r) * 4 + i];
    unsigned code = j < 4 ? byte & 15 : byte >> 4;
    if (layout->high_at) code |= (block[layout->high_at + 4 * r + i] >> j & 1u) << 4;
    return (int)code;
}

/* ---- K-quants ---- */

typedef struct tvlm_k_layout {
    unsigned bits;                    /* of a code */
    unsigned n_scales;                /* of a super-block; 8 have mins too */
    unsigned bytes, part_bytes;       /* of a super-block, of a part of it */
    unsigned scale_at, m_at, part_at; /* in the super-block (d is at 0, min at 32) */
    unsigned code_at;                 /* in the part (high is at 0) */
} tvlm_k_layout;

static inline tvlm_k_layout tvlm_k_layout_of(tvlm_type type)
{
    switch (type) {
    case TVLM_TYPE_Q4_K:
        return (tvlm_k_layout){4, 8, 2368, 256, 64, 192, 320, 0};
    case TVLM_TYPE_Q5_K:
        return (tvlm_k_layout){5, 8, 2880, 320, 64, 192, 320, 64};
    default:
        return (tvlm_k_layout){6, 16, 3360, 384, 32, 0, 288, 128};
    }
}

/* Another form of a block of x, for K-quants and ARM: tvlm_input_block with the sums of both halves
 * in the place of their own. */
typedef struct tvlm_half_block {
    float d;
    int16_t sum[2];
    int8_t q[TVLM_BLOCK];
} tvlm_half_block;

/* Code of weight k (< 32) of row r (< 16) of a part. */
static inline int tvlm_k_code(const tvlm_k_layout *layout, const unsigned char *part, size_t k,
                              size_t r)
{
    size_t j = k / 4, at = 4 * r + k % 4;
    unsigned byte = part[layout->code_at + j % 4 * 64 + at];
    unsigned code = j < 4 ? byte & 15 : byte >> 4;
    if (layout->bits == 5) code |= (part[at] >> j & 1u) << 4;
    if (layout->bits == 6) code |= (part[j / 4 * 64 + at] >> (2 * (j % 4)) & 3u) << 4;
    return (int)code;
}

static inline float tvlm_k_half(const unsigned char *block, size_t at)
{
    return tvlm_f16_to_f32(((const uint16_t *)(const void *)block)[at]);
}

/* The weights of part p (< 8) of row r of a super-block, exactly as quant.h has them. */
static inline void tvlm_k_weights(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                                  size_t r, float w[TVLM_BLOCK])
{
    const unsigned char *part = block + layout->part_at + p * layout->part_bytes;
    const unsigned char *scale = block + layout->scale_at + r;
    const float d = tvlm_k_half(block, r);
    for (size_t k = 0; k < TVLM_BLOCK; k++) {
        int code = tvlm_k_code(layout, part, k, r);
        if (layout->m_at) {
            float min = tvlm_k_half(block, TVLM_GEMM_NR + r);
            w[k] = d * (float)scale[p * TVLM_GEMM_NR] * (float)code -
                   min * (float)block[layout->m_at + p * TVLM_GEMM_NR + r];
        } else {
            int8_t s = (int8_t)scale[(2 * p + k / 16) * TVLM_GEMM_NR];
            w[k] = d * (float)s * (float)(code - 32);
        }
    }
}

#endif
