/* SPDX-License-Identifier: MIT
 * Opens the target of ARM's products of matrices of bfloat16 (optional from ARMv8.2 on) for the
 * rest of a tier file; close it with target_end.h. Include it last. */
#ifndef TVLM_KERNELS_ARM_BF16_H
#define TVLM_KERNELS_ARM_BF16_H

#include "kernels/arm/neon.h"

#if defined(__aarch64__)
#define TVLM_BF16
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#elif !defined(__ARM_FEATURE_BF16)
#pragma GCC target("arch=armv8.2-a+bf16")
#endif

/* sum += rows x columns: two rows by two columns of four bfloat16, the sums of a row together.
 * Clang before 16 has the intrinsic only where the whole build has the instruction. */
TVLM_INLINE float32x4_t multiply_pairs(float32x4_t sum, uint16x8_t rows, uint16x8_t columns)
{
#if defined(__clang__) && __clang_major__ < 16
    __asm__("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(rows), "w"(columns));
    return sum;
#else
    return vbfmmlaq_f32(sum, vreinterpretq_bf16_u16(rows), vreinterpretq_bf16_u16(columns));
#endif
}
#endif

#endif
