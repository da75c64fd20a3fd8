/* SPDX-License-Identifier: MIT
 * Opens the target of ARM's products of matrices of bytes (optional from ARMv8.2 on) for the rest
 * of a tier file; close it with target_end.h. Include it last. */
#ifndef TVLM_KERNELS_I8MM_H
#define TVLM_KERNELS_I8MM_H

#include "kernels/arm/neon.h"

#if defined(__aarch64__)
#define TVLM_I8MM
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#elif !defined(__ARM_FEATURE_MATMUL_INT8)
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

/* sum += rows x columns: two rows by two columns of eight bytes, the sums of a row together. Clang
 * before 16 has the intrinsic only where the whole build has the instruction. */
TVLM_INLINE int32x4_t multiply_pairs(int32x4_t sum, int8x16_t rows, int8x16_t columns)
{
#if defined(__clang__) && __clang_major__ < 16
    __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(rows), "w"(columns));
    return sum;
#else
    return vmmlaq_s32(sum, rows, columns);
#endif
}

/* Bytes 8h .. 8h + 7 of both rows. */
TVLM_INLINE int8x16_t pair_rows(int8x16_t a, int8x16_t b, const size_t h)
{
    int64x2_t x = vreinterpretq_s64_s8(a), y = vreinterpretq_s64_s8(b);
    return vreinterpretq_s8_s64(h ? vzip2q_s64(x, y) : vzip1q_s64(x, y));
}

/* Of four columns those of pair s, four bytes of each from a and the next four from b. */
TVLM_INLINE int8x16_t pair_columns(int8x16_t a, int8x16_t b, const size_t s)
{
    int32x4_t x = vreinterpretq_s32_s8(a), y = vreinterpretq_s32_s8(b);
    return vreinterpretq_s8_s32(s ? vzip2q_s32(x, y) : vzip1q_s32(x, y));
}

/* Four columns of row r of two, from the sums of both pairs of columns. */
TVLM_INLINE int32x4_t row_of_pairs(const int32x4_t sum[2], const size_t r)
{
    int64x2_t x = vreinterpretq_s64_s32(sum[0]), y = vreinterpretq_s64_s32(sum[1]);
    return vreinterpretq_s32_s64(r ? vzip2q_s64(x, y) : vzip1q_s64(x, y));
}
#endif

#endif
