/* SPDX-License-Identifier: MIT
 * Row kernels on NEON, and its installer. */
#include "kernels/arm/neon.h"

#if defined(__aarch64__)

/* Pairs (2i, 2i + 1): even and odd elements apart, then together again. */
static void rope_pairs(float *x, size_t half, const float *cs)
{
    size_t i = 0;
    for (; i + 4 <= half; i += 4) {
        float32x4x2_t v = vld2q_f32(x + 2 * i);
        float32x4_t c = vld1q_f32(cs + i), s = vld1q_f32(cs + half + i), a = v.val[0];
        v.val[0] = tvlm_fma4(a, c, vnegq_f32(vmulq_f32(v.val[1], s)));
        v.val[1] = tvlm_fma4(v.val[1], c, vmulq_f32(a, s));
        vst2q_f32(x + 2 * i, v);
    }
    for (; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1], c = cs[i], s = cs[half + i];
        x[2 * i] = tvlm_fma1(a, c, -(b * s));
        x[2 * i + 1] = tvlm_fma1(b, c, a * s);
    }
}

enum { WIDTH = 8 };
#define F        tvlm_f8
#define FN(name) name##8
#include "kernels/rows_body.h"

static void f32_to_f16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        uint16_t half[4];
        vst1_u16(half, vreinterpret_u16_f16(vcvt_f16_f32(tvlm_load_n4(x + i, n - i))));
        memcpy(y + i, half, (n - i < 4 ? n - i : 4) * sizeof *y);
    }
}

/* As integers in 0..127; a NaN becomes 0. */
TVLM_INLINE uint16x4_t u7_of(float32x4_t x, float32x4_t inv, float32x4_t add)
{
    float32x4_t v = vaddq_f32(vmulq_f32(x, inv), add);
    v = vminnmq_f32(vmaxnmq_f32(v, vdupq_n_f32(0.0f)), vdupq_n_f32(127.0f));
    return vmovn_u32(vcvtnq_u32_f32(v));
}

static void quantize_u7(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
{
    const float32x4_t inv = vdupq_n_f32(inv_scale), add = vdupq_n_f32(zero);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        vst1_u8(y + i, vmovn_u16(vcombine_u16(u7_of(vld1q_f32(x + i), inv, add),
                                              u7_of(vld1q_f32(x + i + 4), inv, add))));
    for (; i < n; i += 4) {
        uint16_t q[4];
        vst1_u16(q, u7_of(tvlm_load_n4(x + i, n - i), inv, add));
        for (size_t j = i; j < n && j < i + 4; j++)
            y[j] = (uint8_t)q[j - i];
    }
}

static void dequantize_u7(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint16x8_t q = vmovl_u8(vld1_u8(x + i));
        uint32x4_t part[2] = {vmovl_u16(vget_low_u16(q)), vmovl_high_u16(q)};
        for (size_t h = 0; h < 2; h++) {
            int32x4_t v = vsubq_s32(vreinterpretq_s32_u32(part[h]), vdupq_n_s32(zero));
            vst1q_f32(y + i + 4 * h, vmulq_f32(vcvtq_f32_s32(v), vdupq_n_f32(scale)));
        }
    }
    for (; i < n; i++)
        y[i] = (float)(x[i] - zero) * scale;
}

void tvlm_neon_install_rows(tvlm_kernels *table)
{
    install_rows(table);
    table->f32_to_f16 = f32_to_f16;
    table->quantize_u7 = quantize_u7;
    table->dequantize_u7 = dequantize_u7;
}

#endif

void tvlm_kernels_install_neon(tvlm_kernels *table)
{
#if defined(__aarch64__)
    tvlm_neon_install_rows(table);
    tvlm_neon_install_attention(table);
    tvlm_neon_install_dwconv(table);
    tvlm_neon_install_int8(table);
    tvlm_neon_install_resize(table);
#else
    (void)table;
#endif
}
