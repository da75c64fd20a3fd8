/* SPDX-License-Identifier: MIT
 * Tensor element types and block formats (values and layouts are GGML's, so files interchange).
 *
 *   Q8_0  32 weights: f16 d, int8 q[32]                         w = d*q
 *   Q4_0  32 weights: f16 d, 16 bytes; byte j = q[j] | q[j+16]<<4   w = d*(q-8)
 *   Q4_1  32 weights: f16 d, f16 m, 16 bytes as Q4_0            w = d*q + m
 *   Q5_0  32 weights: f16 d, u32 high bits, 16 bytes            w = d*(q-16), q = nibble | bit<<4
 *   Q5_1  32 weights: f16 d, f16 m, u32 high bits, 16 bytes     w = d*q + m
 *   Q4_K, Q5_K, Q6_K  256 weights, drawn in kquant.h
 */
#ifndef TVLM_QUANT_H
#define TVLM_QUANT_H

#include "base/base.h"

typedef enum tvlm_type {
    TVLM_TYPE_F32 = 0,
    TVLM_TYPE_F16 = 1,
    TVLM_TYPE_Q4_0 = 2,
    TVLM_TYPE_Q4_1 = 3,
    TVLM_TYPE_Q5_0 = 6,
    TVLM_TYPE_Q5_1 = 7,
    TVLM_TYPE_Q8_0 = 8,
    TVLM_TYPE_Q4_K = 12,
    TVLM_TYPE_Q5_K = 13,
    TVLM_TYPE_Q6_K = 14,
    TVLM_TYPE_I8 = 24,
    TVLM_TYPE_I32 = 26,
    TVLM_TYPE_BF16 = 30
} tvlm_type;

/* Name ("Q4_1", also of types that are known to GGML but not run here), block length and bytes. */
const char *tvlm_type_name(uint32_t type);                  /* "type 77" names are "unknown" */
bool tvlm_type_from_name(const char *name, tvlm_type *out); /* case-insensitive, writable types */
bool tvlm_type_runs(uint32_t type);                         /* one of the enum above */
uint32_t tvlm_type_block(tvlm_type type);                   /* weights per block: 1, 32 or 256 */
uint32_t tvlm_type_block_bytes(tvlm_type type);
/* Bytes of a row of k weights; false when a block does not divide k or on overflow. */
bool tvlm_type_row_bytes(tvlm_type type, size_t k, size_t *out);

/* IEEE half and bfloat16, round to nearest even, portable C. */
float tvlm_f16_to_f32(uint16_t h);
uint16_t tvlm_f32_to_f16(float f);
float tvlm_bf16_to_f32(uint16_t h);
uint16_t tvlm_f32_to_bf16(float f);

/* n weights, n a multiple of the block. Little-endian bytes on every host. */
void tvlm_dequantize(tvlm_type type, const void *src, float *dst, size_t n);
/* All but I8 and I32 (false). What a block cannot hold saturates; NaN becomes some number.
 * Deterministic. Error per weight, while d is a normal half: Q8_0 |d|/2, Q4_0 and Q5_0 |d|, Q4_1
 * and Q5_1 |d|/2 + |m|/2048. K-quants search for the least square error; root mean square of normal
 * weights, in their deviations: Q4_K 0.071, Q5_K 0.036, Q6_K 0.017 (Q4_0 0.086, Q8_0 0.005). */
bool tvlm_quantize(tvlm_type type, const float *src, void *dst, size_t n);

#endif
