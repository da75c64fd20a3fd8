/* SPDX-License-Identifier: MIT
 * K-quants: super-blocks of 256 weights, whose parts have small integer scales of a common one.
 *
 *   Q4_K  f16 d, f16 min, 12 bytes of scales, 128 bytes of codes
 *   Q5_K  f16 d, f16 min, 12 bytes of scales, 32 bytes of fifth bits, 128 bytes of codes
 *         eight parts p of 32: w = d*scale[p]*code - min*m[p], both products exact
 *   Q6_K  128 bytes of low bits, 64 bytes of high bits, i8 scale[16], f16 d
 *         sixteen parts p of 16: w = d*scale[p]*(code - 32), exact but for its range
 *
 *   scales of Q4_K and Q5_K, six bits each, p < 4:
 *     byte p      low six bits: scale[p]      top two: of scale[p + 4]
 *     byte p + 4  low six bits: m[p]          top two: of m[p + 4]
 *     byte p + 8  low four bits of scale[p + 4], then of m[p + 4]
 *   codes of Q4_K and Q5_K: byte 32g + i has weight 64g + i low, 64g + 32 + i high; the fifth bit
 *     of weight 32p + i is bit p of byte i
 *   codes of Q6_K, each half h of 128 weights: low byte 64h + i has weight i low, 64 + i high; bits
 *     2j and 2j + 1 of high byte 32h + i belong to weight 32j + i */
#ifndef TVLM_QUANT_KQUANT_H
#define TVLM_QUANT_KQUANT_H

#include "quant/quant.h"

enum { TVLM_K_BLOCK = 256 };

/* Any of them, unpacked. Q6_K has no min and m. */
typedef struct tvlm_k_block {
    uint16_t d, min;   /* halves */
    uint8_t scale[16]; /* 8 of them in Q4_K and Q5_K; Q6_K's are int8 */
    uint8_t m[8];
    uint8_t code[TVLM_K_BLOCK];
} tvlm_k_block;

void tvlm_k_read(tvlm_type type, const unsigned char *p, tvlm_k_block *out);
void tvlm_k_dequantize(tvlm_type type, const unsigned char *p, float y[TVLM_K_BLOCK]);
/* Scales are searched for the least square error. */
void tvlm_k_quantize(tvlm_type type, const float x[TVLM_K_BLOCK], unsigned char *p);

#endif
