/* SPDX-License-Identifier: MIT
 * NEON, which every 64-bit ARM has, and the helpers of its tier. Products are fused where the
 * scalar twins fuse them, so that a tier repeats its twin bit for bit. Include it last. */
#ifndef TVLM_KERNELS_NEON_H
#define TVLM_KERNELS_NEON_H

#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/pack.h"

void tvlm_neon_install_rows(tvlm_kernels *table);
void tvlm_neon_install_attention(tvlm_kernels *table);
void tvlm_neon_install_dwconv(tvlm_kernels *table);
void tvlm_neon_install_int8(tvlm_kernels *table);
void tvlm_neon_install_resize(tvlm_kernels *table);
void tvlm_dotprod_qgemm(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1);

#if defined(__aarch64__)
#include <arm_neon.h>

#define TVLM_INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define TVLM_UNROLL _Pragma("clang loop unroll(full)")
#define TVLM_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define TVLM_UNROLL _Pragma("GCC unroll 32")
#define TVLM_ROLLED _Pragma("GCC unroll 1")
#endif

/* Keeps the steps of a loop in the order in which they stand: GCC mixes them until registers run
 * out. Clang does well without. */
#if defined(__clang__)
#define TVLM_IN_ORDER(v) ((void)(v))
#else
#define TVLM_IN_ORDER(v) __asm__ volatile("" : "+w"(v))
#endif

/* ---- operations on four floats ---- */

/* Not vmaxq and vminq: of two zeros these take the greater, tvlm_max1 the second. */
TVLM_INLINE float32x4_t tvlm_max4(float32x4_t bound, float32x4_t x)
{
    TVLM_HIDE(bound);
    return vbslq_f32(vcgtq_f32(bound, x), bound, x);
}
TVLM_INLINE float32x4_t tvlm_min4(float32x4_t bound, float32x4_t x)
{
    return vbslq_f32(vcltq_f32(bound, x), bound, x);
}
TVLM_INLINE float32x4_t tvlm_fma4(float32x4_t a, float32x4_t b, float32x4_t c)
{
    return vfmaq_f32(c, a, b);
}

/* The first n (<= 4) floats; lanes beyond are 0. */
TVLM_INLINE float32x4_t tvlm_load_n4(const float *p, size_t n)
{
    if (n >= 4) return vld1q_f32(p);
    float some[4] = {0};
    for (size_t i = 0; i < n; i++)
        some[i] = p[i];
    return vld1q_f32(some);
}
TVLM_INLINE void tvlm_store_n4(float *p, size_t n, float32x4_t v)
{
    if (n >= 4) {
        vst1q_f32(p, v);
        return;
    }
    float some[4];
    vst1q_f32(some, v);
    for (size_t i = 0; i < n; i++)
        p[i] = some[i];
}

#define F            float32x4_t
#define FN(name)     name##4
#define SET(c)       vdupq_n_f32(c)
#define FMA(a, b, c) tvlm_fma4(a, b, c)
#define NABS(x)      vnegq_f32(vabsq_f32(x))
#define MIN(b, x)    tvlm_min4(b, x)
#define MAX(b, x)    tvlm_max4(b, x)
#define POW2(t)      vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(t), 23))
#include "kernels/math_body.h"

TVLM_INLINE float32x4_t tvlm_act4(tvlm_act act, float32x4_t x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return tvlm_gelu4(x);
    case TVLM_ACT_RELU:
        return tvlm_max4(vdupq_n_f32(0.0f), x);
    case TVLM_ACT_RELU6:
        return tvlm_min4(vdupq_n_f32(6.0f), tvlm_max4(vdupq_n_f32(0.0f), x));
    case TVLM_ACT_SIGMOID:
        return tvlm_sigmoid4(x);
    case TVLM_ACT_GELU_TANH:
        return tvlm_gelu_tanh4(x);
    default:
        return x;
    }
}

/* Four IEEE halves as floats. */
TVLM_INLINE float32x4_t tvlm_load_half4(const void *p)
{
    uint16_t half[4];
    memcpy(half, p, sizeof half);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half)));
}

/* ---- operations on eight floats ---- */

typedef struct tvlm_f8 {
    float32x4_t low, high;
} tvlm_f8;

TVLM_INLINE tvlm_f8 tvlm_load8(const float *p)
{
    return (tvlm_f8){vld1q_f32(p), vld1q_f32(p + 4)};
}
TVLM_INLINE void tvlm_store8(float *p, tvlm_f8 v)
{
    vst1q_f32(p, v.low);
    vst1q_f32(p + 4, v.high);
}
TVLM_INLINE tvlm_f8 tvlm_set8(float v)
{
    return (tvlm_f8){vdupq_n_f32(v), vdupq_n_f32(v)};
}
TVLM_INLINE tvlm_f8 tvlm_add8(tvlm_f8 a, tvlm_f8 b)
{
    return (tvlm_f8){vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_sub8(tvlm_f8 a, tvlm_f8 b)
{
    return (tvlm_f8){vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_mul8(tvlm_f8 a, tvlm_f8 b)
{
    return (tvlm_f8){vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_fma8(tvlm_f8 a, tvlm_f8 b, tvlm_f8 c)
{
    return (tvlm_f8){vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_fms8(tvlm_f8 a, tvlm_f8 b, tvlm_f8 c) /* a * b - c */
{
    return tvlm_fma8(a, b, (tvlm_f8){vnegq_f32(c.low), vnegq_f32(c.high)});
}
TVLM_INLINE tvlm_f8 tvlm_max8(tvlm_f8 bound, tvlm_f8 x)
{
    return (tvlm_f8){tvlm_max4(bound.low, x.low), tvlm_max4(bound.high, x.high)};
}

/* The first n elements of a row; lanes beyond are 0. */
TVLM_INLINE tvlm_f8 tvlm_load_n8(const float *p, size_t n)
{
    if (n >= 8) return tvlm_load8(p);
    return (tvlm_f8){tvlm_load_n4(p, n), n > 4 ? tvlm_load_n4(p + 4, n - 4) : vdupq_n_f32(0.0f)};
}
TVLM_INLINE void tvlm_store_n8(float *p, size_t n, tvlm_f8 v)
{
    tvlm_store_n4(p, n, v.low);
    if (n > 4) tvlm_store_n4(p + 4, n - 4, v.high);
}
/* The first n lanes of v, the others of fill. */
TVLM_INLINE tvlm_f8 tvlm_first8(tvlm_f8 v, size_t n, tvlm_f8 fill)
{
    if (n >= 8) return v;
    static const uint32_t lane[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    uint32x4_t end = vdupq_n_u32((uint32_t)n);
    return (tvlm_f8){vbslq_f32(vcltq_u32(vld1q_u32(lane), end), v.low, fill.low),
                     vbslq_f32(vcltq_u32(vld1q_u32(lane + 4), end), v.high, fill.high)};
}
/* lanes += v, of which n elements are left. */
TVLM_INLINE tvlm_f8 tvlm_add_lanes8(tvlm_f8 lanes, tvlm_f8 v, size_t n)
{
    return tvlm_add8(lanes, tvlm_first8(v, n, tvlm_set8(0.0f)));
}

/* tvlm_sum8 of the lanes. */
TVLM_INLINE float tvlm_hsum8(tvlm_f8 v)
{
    float32x4_t pairs = vpaddq_f32(v.low, v.high);
    pairs = vpaddq_f32(pairs, pairs);
    return vgetq_lane_f32(pairs, 0) + vgetq_lane_f32(pairs, 1);
}

TVLM_INLINE tvlm_f8 tvlm_exp2_8(tvlm_f8 x)
{
    return (tvlm_f8){tvlm_exp2_4(x.low), tvlm_exp2_4(x.high)};
}
TVLM_INLINE tvlm_f8 tvlm_silu8(tvlm_f8 x)
{
    return (tvlm_f8){tvlm_silu4(x.low), tvlm_silu4(x.high)};
}
TVLM_INLINE tvlm_f8 tvlm_act8(tvlm_act act, tvlm_f8 x)
{
    return (tvlm_f8){tvlm_act4(act, x.low), tvlm_act4(act, x.high)};
}
TVLM_INLINE tvlm_f8 tvlm_load_half8(const void *p)
{
    return (tvlm_f8){tvlm_load_half4(p), tvlm_load_half4((const unsigned char *)p + 8)};
}

/* ---- epilogue ---- */

/* y = act(acc + bias) * scale + residual for n (<= 4) columns of one row. */
TVLM_INLINE void tvlm_epilogue4(const tvlm_gemm_args *args, size_t m, size_t col, size_t n,
                                float32x4_t acc)
{
    if (args->bias) acc = vaddq_f32(acc, tvlm_load_n4(args->bias + col, n));
    acc = vmulq_f32(tvlm_act4(args->act, acc), vdupq_n_f32(args->scale));
    if (args->residual) acc = vaddq_f32(acc, tvlm_load_n4(args->residual + m * args->ldr + col, n));
    tvlm_store_n4(args->y + m * args->ldy + col, n, acc);
}

/* Columns n .. end of one row, at most those of a panel. */
TVLM_INLINE void tvlm_epilogue16(const tvlm_gemm_args *args, size_t m, size_t n, size_t end,
                                 const float *acc)
{
    for (size_t c = n; c < end && c < n + TVLM_GEMM_NR; c += 4)
        tvlm_epilogue4(args, m, c, end - c, vld1q_f32(acc + (c - n)));
}

#endif
#endif
