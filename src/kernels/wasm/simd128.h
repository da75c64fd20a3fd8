/* SPDX-License-Identifier: MIT
 * WebAssembly SIMD, one source for two tiers: with simd128 alone a*b+c rounds twice, with relaxed
 * SIMD once (engines that do otherwise are turned away by the loader's probe), as in the scalar
 * tier of the same module. So a tier repeats its scalar twin bit for bit. Include it last. */
#ifndef TVLM_KERNELS_SIMD128_H
#define TVLM_KERNELS_SIMD128_H

#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/pack.h"

void tvlm_simd128_install_rows(tvlm_kernels *table);
void tvlm_simd128_install_attention(tvlm_kernels *table);
void tvlm_simd128_install_dwconv(tvlm_kernels *table);
void tvlm_simd128_install_int8(tvlm_kernels *table);
void tvlm_simd128_install_resize(tvlm_kernels *table);

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#define TVLM_INLINE static inline __attribute__((always_inline, unused))
#define TVLM_UNROLL _Pragma("clang loop unroll(full)")

#if defined(__wasm_relaxed_simd__)
#define TVLM_MADD(a, b, c) wasm_f32x4_relaxed_madd(a, b, c)
#else
#define TVLM_MADD(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
#endif

/* The first n (<= 4) floats; lanes beyond are 0. */
TVLM_INLINE v128_t tvlm_load4(const float *p, size_t n)
{
    if (n >= 4) return wasm_v128_load(p);
    float some[4] = {0};
    for (size_t i = 0; i < n; i++)
        some[i] = p[i];
    return wasm_v128_load(some);
}

TVLM_INLINE void tvlm_store4(float *p, size_t n, v128_t v)
{
    if (n >= 4) {
        wasm_v128_store(p, v);
        return;
    }
    float some[4];
    wasm_v128_store(some, v);
    for (size_t i = 0; i < n; i++)
        p[i] = some[i];
}

/* ---- operations on eight floats ---- */

typedef struct tvlm_f8 {
    v128_t low, high;
} tvlm_f8;

TVLM_INLINE tvlm_f8 tvlm_load8(const float *p)
{
    return (tvlm_f8){wasm_v128_load(p), wasm_v128_load(p + 4)};
}
TVLM_INLINE void tvlm_store8(float *p, tvlm_f8 v)
{
    wasm_v128_store(p, v.low);
    wasm_v128_store(p + 4, v.high);
}
TVLM_INLINE tvlm_f8 tvlm_set8(float v)
{
    return (tvlm_f8){wasm_f32x4_splat(v), wasm_f32x4_splat(v)};
}
TVLM_INLINE tvlm_f8 tvlm_add8(tvlm_f8 a, tvlm_f8 b)
{
    return (tvlm_f8){wasm_f32x4_add(a.low, b.low), wasm_f32x4_add(a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_sub8(tvlm_f8 a, tvlm_f8 b)
{
    return (tvlm_f8){wasm_f32x4_sub(a.low, b.low), wasm_f32x4_sub(a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_mul8(tvlm_f8 a, tvlm_f8 b)
{
    return (tvlm_f8){wasm_f32x4_mul(a.low, b.low), wasm_f32x4_mul(a.high, b.high)};
}
TVLM_INLINE tvlm_f8 tvlm_fma8(tvlm_f8 a, tvlm_f8 b, tvlm_f8 c)
{
    return (tvlm_f8){TVLM_MADD(a.low, b.low, c.low), TVLM_MADD(a.high, b.high, c.high)};
}
TVLM_INLINE tvlm_f8 tvlm_fms8(tvlm_f8 a, tvlm_f8 b, tvlm_f8 c) /* a * b - c */
{
    return tvlm_fma8(a, b, (tvlm_f8){wasm_f32x4_neg(c.low), wasm_f32x4_neg(c.high)});
}
TVLM_INLINE tvlm_f8 tvlm_max8(tvlm_f8 bound, tvlm_f8 x) /* as tvlm_max1 */
{
    return (tvlm_f8){wasm_f32x4_pmax(x.low, bound.low), wasm_f32x4_pmax(x.high, bound.high)};
}

/* The first n elements of a row; lanes beyond are 0. */
TVLM_INLINE tvlm_f8 tvlm_load_n8(const float *p, size_t n)
{
    if (n >= 8) return tvlm_load8(p);
    v128_t zero = wasm_f32x4_splat(0.0f);
    return (tvlm_f8){tvlm_load4(p, n), n > 4 ? tvlm_load4(p + 4, n - 4) : zero};
}
TVLM_INLINE void tvlm_store_n8(float *p, size_t n, tvlm_f8 v)
{
    tvlm_store4(p, n, v.low);
    if (n > 4) tvlm_store4(p + 4, n - 4, v.high);
}
/* The first n lanes of v, the others of fill. */
TVLM_INLINE tvlm_f8 tvlm_first8(tvlm_f8 v, size_t n, tvlm_f8 fill)
{
    if (n >= 8) return v;
    v128_t first = wasm_i32x4_make(0, 1, 2, 3), end = wasm_i32x4_splat((int)n);
    v128_t upper = wasm_i32x4_add(first, wasm_i32x4_splat(4));
    return (tvlm_f8){wasm_v128_bitselect(v.low, fill.low, wasm_i32x4_lt(first, end)),
                     wasm_v128_bitselect(v.high, fill.high, wasm_i32x4_lt(upper, end))};
}
/* lanes += v, of which n elements are left. */
TVLM_INLINE tvlm_f8 tvlm_add_lanes8(tvlm_f8 lanes, tvlm_f8 v, size_t n)
{
    return tvlm_add8(lanes, tvlm_first8(v, n, tvlm_set8(0.0f)));
}

/* tvlm_sum8 of the lanes. */
TVLM_INLINE float tvlm_hsum8(tvlm_f8 v)
{
    float lane[8];
    tvlm_store8(lane, v);
    return tvlm_sum8(lane);
}

/* v128_t has integer operators: the algorithms want a type with those of floats.
 * pmin(a, b) = b < a ? b : a, so that a NaN in the second place of MIN stays, as in tvlm_min1. */
typedef float tvlm_f4 __attribute__((vector_size(16)));
#define F            tvlm_f4
#define FN(name)     name##_f4
#define SET(c)       ((tvlm_f4)wasm_f32x4_splat(c))
#define FMA(a, b, c) ((tvlm_f4)TVLM_MADD((v128_t)(a), (v128_t)(b), (v128_t)(c)))
#define NABS(x)      ((tvlm_f4)wasm_v128_or((v128_t)(x), wasm_f32x4_splat(-0.0f)))
#define MIN(b, x)    ((tvlm_f4)wasm_f32x4_pmin((v128_t)(x), (v128_t)(b)))
#define MAX(b, x)    ((tvlm_f4)wasm_f32x4_pmax((v128_t)(x), (v128_t)(b)))
#define POW2(t)      ((tvlm_f4)wasm_i32x4_shl((v128_t)(t), 23))
#include "kernels/math_body.h"

TVLM_INLINE tvlm_f8 tvlm_exp2_8(tvlm_f8 x)
{
    return (tvlm_f8){(v128_t)tvlm_exp2__f4((tvlm_f4)x.low), (v128_t)tvlm_exp2__f4((tvlm_f4)x.high)};
}
TVLM_INLINE tvlm_f8 tvlm_silu8(tvlm_f8 x)
{
    return (tvlm_f8){(v128_t)tvlm_silu_f4((tvlm_f4)x.low), (v128_t)tvlm_silu_f4((tvlm_f4)x.high)};
}

TVLM_INLINE v128_t tvlm_act4(tvlm_act act, v128_t x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return (v128_t)tvlm_gelu_f4((tvlm_f4)x);
    case TVLM_ACT_RELU:
        return wasm_f32x4_pmax(x, wasm_f32x4_splat(0.0f));
    case TVLM_ACT_RELU6:
        return wasm_f32x4_pmin(wasm_f32x4_pmax(x, wasm_f32x4_splat(0.0f)), wasm_f32x4_splat(6.0f));
    case TVLM_ACT_SIGMOID:
        return (v128_t)tvlm_sigmoid_f4((tvlm_f4)x);
    case TVLM_ACT_GELU_TANH:
        return (v128_t)tvlm_gelu_tanh_f4((tvlm_f4)x);
    default:
        return x;
    }
}

TVLM_INLINE tvlm_f8 tvlm_act8(tvlm_act act, tvlm_f8 x)
{
    return (tvlm_f8){tvlm_act4(act, x.low), tvlm_act4(act, x.high)};
}

/* Four IEEE halves -> floats. */
TVLM_INLINE v128_t tvlm_load_half4(const void *p)
{
    v128_t h = wasm_i32x4_load16x4(p); /* the sign is above, too */
    v128_t bits = wasm_v128_and(wasm_i32x4_shl(h, 13), wasm_i32x4_splat((int32_t)0x8fffe000));
    /* 2^112 rebiases the exponent, subnormals included */
    v128_t v = wasm_f32x4_mul(bits, wasm_f32x4_splat(0x1p112f));
    v128_t most = wasm_i32x4_splat(0x0f800000); /* the exponent of infinities and NaN */
    v128_t special = wasm_i32x4_eq(wasm_v128_and(bits, most), most);
    return wasm_v128_or(v, wasm_v128_and(special, wasm_i32x4_splat(0x7f800000)));
}

TVLM_INLINE tvlm_f8 tvlm_load_half8(const void *p)
{
    return (tvlm_f8){tvlm_load_half4(p), tvlm_load_half4((const uint16_t *)p + 4)};
}

/* y = act(acc + bias) * scale + residual for n (<= 4) columns of one row. */
TVLM_INLINE void tvlm_epilogue4(const tvlm_gemm_args *args, size_t m, size_t col, size_t n,
                                v128_t acc)
{
    if (args->bias) acc = wasm_f32x4_add(acc, tvlm_load4(args->bias + col, n));
    acc = wasm_f32x4_mul(tvlm_act4(args->act, acc), wasm_f32x4_splat(args->scale));
    if (args->residual)
        acc = wasm_f32x4_add(acc, tvlm_load4(args->residual + m * args->ldr + col, n));
    tvlm_store4(args->y + m * args->ldy + col, n, acc);
}

#endif
#endif
