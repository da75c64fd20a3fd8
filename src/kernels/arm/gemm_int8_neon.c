/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers on NEON without dot products. */
#include "cpu/cpu.h"
#include "kernels/arm/neon.h"

#if defined(__aarch64__)
#include "kernels/arm/bytes.h"

/* ---- rows of x ---- */

/* 8 values as words; a NaN becomes 0. */
TVLM_INLINE int16x8_t words_of(const float *x, float inverse)
{
    int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse));
    int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse));
    return vcombine_s16(vmovn_s32(low), vmovn_s32(high));
}

static uint32_t largest_bits(const float *x)
{
    uint32x4_t most = vdupq_n_u32(0);
    for (size_t i = 0; i < TVLM_BLOCK; i += 4)
        most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    return vmaxvq_u32(most);
}

static void pack_block(tvlm_half_block *out, const float *x)
{
    const uint32_t bits = largest_bits(x);
    float most;
    memcpy(&most, &bits, sizeof most);
    const bool usable = most >= TVLM_INPUT_LEAST && most < INFINITY;
    const float inverse = usable ? 127.0f / most : 0.0f;
    out->d = usable ? most / 127.0f : most < INFINITY ? 0.0f : NAN;
    for (size_t h = 0; h < 2; h++) {
        int16x8_t low = words_of(x + 16 * h, inverse), high = words_of(x + 16 * h + 8, inverse);
        out->sum[h] = vaddvq_s16(vaddq_s16(low, high));
        vst1q_s8(out->q + 16 * h, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    }
}

static void pack_input(void *packed, const float *x, size_t k)
{
    tvlm_half_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++)
        pack_block(&out[b], x + b * TVLM_BLOCK);
}

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(tvlm_half_block);
}

const tvlm_gemm_input tvlm_neon_input_int8 = {input_bytes, pack_input};

#define TIER "neon"
#define CPU  TVLM_CPU_NEON
#include "kernels/arm/gemm_int8_body.h"
const tvlm_gemm_tier tvlm_gemm_neon_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_neon_int8 = {NULL, 0};

#endif
