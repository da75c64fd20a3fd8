/* SPDX-License-Identifier: MIT
 * Opens the AVX2 + FMA + F16C target for the rest of a tier file and gives it the eight-lane
 * helpers. Include it last; close the file with avx2_end.h. Everything here and in a tier file is
 * static but the installers, so no wide instruction can leak into baseline code. */
#ifndef TVLM_KERNELS_AVX2_H
#define TVLM_KERNELS_AVX2_H

#include "kernels/kernels.h"
#include "kernels/math.h"
#include "kernels/pack.h"

void tvlm_avx2_install_rows(tvlm_kernels *table);
void tvlm_avx2_install_attention(tvlm_kernels *table);
void tvlm_avx2_install_dwconv(tvlm_kernels *table);
void tvlm_avx2_install_int8(tvlm_kernels *table);
void tvlm_avx2_install_resize(tvlm_kernels *table);

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define TVLM_INLINE static inline __attribute__((always_inline, unused))
/* Keeps small arrays of registers in registers. ROLLED: a loop whose integer sums GCC would else
 * unroll and regroup into a tree of more registers than there are. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TVLM_UNROLL /* with their checks, straight code takes minutes to compile */
#endif
#endif
#if defined(__clang__)
#if !defined(TVLM_UNROLL)
#define TVLM_UNROLL _Pragma("clang loop unroll(full)")
#endif
#define TVLM_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define TVLM_UNROLL _Pragma("GCC unroll 32")
#define TVLM_ROLLED _Pragma("GCC unroll 1")
#endif

/* Keeps a value that is used more than once in its register: GCC would load it for every use. */
#define TVLM_KEEP8(v) __asm__("" : "+x"(v))
/* Keeps steps in the order in which they stand, so that few registers are live. */
#define TVLM_IN_ORDER(v) __asm__ volatile("" : "+x"(v))

#define F            __m256
#define FN(name)     name##8
#define SET(c)       _mm256_set1_ps(c)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define NABS(x)      _mm256_or_ps(_mm256_set1_ps(-0.0f), x)
#define MIN(b, x)    _mm256_min_ps(b, x)
#define MAX(b, x)    _mm256_max_ps(b, x)
#define POW2(t)      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23))
#include "kernels/math_body.h"

/* ---- operations on eight floats ---- */

typedef __m256 tvlm_f8;

TVLM_INLINE tvlm_f8 tvlm_load8(const float *p)
{
    return _mm256_loadu_ps(p);
}
TVLM_INLINE void tvlm_store8(float *p, tvlm_f8 v)
{
    _mm256_storeu_ps(p, v);
}
TVLM_INLINE tvlm_f8 tvlm_set8(float v)
{
    return _mm256_set1_ps(v);
}
TVLM_INLINE tvlm_f8 tvlm_add8(tvlm_f8 a, tvlm_f8 b)
{
    return _mm256_add_ps(a, b);
}
TVLM_INLINE tvlm_f8 tvlm_sub8(tvlm_f8 a, tvlm_f8 b)
{
    return _mm256_sub_ps(a, b);
}
TVLM_INLINE tvlm_f8 tvlm_mul8(tvlm_f8 a, tvlm_f8 b)
{
    return _mm256_mul_ps(a, b);
}
TVLM_INLINE tvlm_f8 tvlm_fma8(tvlm_f8 a, tvlm_f8 b, tvlm_f8 c)
{
    return _mm256_fmadd_ps(a, b, c);
}
TVLM_INLINE tvlm_f8 tvlm_fms8(tvlm_f8 a, tvlm_f8 b, tvlm_f8 c) /* a * b - c */
{
    return _mm256_fmsub_ps(a, b, c);
}
TVLM_INLINE tvlm_f8 tvlm_max8(tvlm_f8 bound, tvlm_f8 x) /* as tvlm_max1 */
{
    return _mm256_max_ps(bound, x);
}

/* Lanes 0..n-1 (n <= 8) on, for the masked loads and stores of a tail. */
TVLM_INLINE __m256i tvlm_mask8(size_t n)
{
    __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), lanes);
}

/* The first n elements of a row; lanes beyond are 0. A whole register away from the end. */
TVLM_INLINE tvlm_f8 tvlm_load_n8(const float *p, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, tvlm_mask8(n));
}
TVLM_INLINE void tvlm_store_n8(float *p, size_t n, tvlm_f8 v)
{
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, tvlm_mask8(n), v);
}
/* The first n lanes of v, the others of fill. */
TVLM_INLINE tvlm_f8 tvlm_first8(tvlm_f8 v, size_t n, tvlm_f8 fill)
{
    return n >= 8 ? v : _mm256_blendv_ps(fill, v, _mm256_castsi256_ps(tvlm_mask8(n)));
}
/* lanes += v, of which n elements are left. */
TVLM_INLINE tvlm_f8 tvlm_add_lanes8(tvlm_f8 lanes, tvlm_f8 v, size_t n)
{
    return tvlm_add8(lanes, tvlm_first8(v, n, tvlm_set8(0.0f)));
}

/* Eight bytes of a row with n left: fixed-size copies but for the tail. */
TVLM_INLINE __m128i tvlm_load_bytes8(const uint8_t *p, size_t n)
{
    uint64_t bytes = 0;
    if (n >= 8)
        memcpy(&bytes, p, 8);
    else
        memcpy(&bytes, p, n);
    return _mm_cvtsi64_si128((long long)bytes);
}

/* Rounds eight floats in 0..255 (half to even) and stores them as bytes, n at most. */
TVLM_INLINE void tvlm_store_bytes8(uint8_t *p, size_t n, __m256 v)
{
    __m256i q = _mm256_cvtps_epi32(v);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(words, words));
    if (n >= 8)
        memcpy(p, &bytes, 8);
    else
        memcpy(p, &bytes, n);
}

/* tvlm_sum8 of a register. */
TVLM_INLINE float tvlm_hsum8(__m256 v)
{
    v = _mm256_hadd_ps(v, v); /* 0+1 2+3 .. | 4+5 6+7 .. */
    v = _mm256_hadd_ps(v, v);
    return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}

TVLM_INLINE __m256 tvlm_act8(tvlm_act act, __m256 x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return tvlm_gelu8(x);
    case TVLM_ACT_RELU:
        return _mm256_max_ps(_mm256_setzero_ps(), x);
    case TVLM_ACT_RELU6:
        return _mm256_min_ps(_mm256_set1_ps(6.0f), _mm256_max_ps(_mm256_setzero_ps(), x));
    case TVLM_ACT_SIGMOID:
        return tvlm_sigmoid8(x);
    case TVLM_ACT_GELU_TANH:
        return tvlm_gelu_tanh8(x);
    default:
        return x;
    }
}

TVLM_INLINE __m256i tvlm_load256(const unsigned char *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* Eight halves as floats. */
TVLM_INLINE __m256 tvlm_load_half8(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

/* Apart from the loops that call it: its constants would not leave them registers enough. */
static __attribute__((noinline, unused)) __m256 tvlm_long_act8(tvlm_act act, __m256 x)
{
    return tvlm_act8(act, x);
}

TVLM_INLINE __m256 tvlm_epilogue_act8(tvlm_act act, __m256 x)
{
    if (act == TVLM_ACT_NONE) return x;
    if (act != TVLM_ACT_RELU && act != TVLM_ACT_RELU6) return tvlm_long_act8(act, x);
    x = _mm256_max_ps(_mm256_setzero_ps(), x);
    return act == TVLM_ACT_RELU6 ? _mm256_min_ps(_mm256_set1_ps(6.0f), x) : x;
}

/* y = act(acc + bias) * scale + residual for eight columns of one row. */
TVLM_INLINE void tvlm_epilogue_whole8(const tvlm_gemm_args *args, size_t m, size_t col, __m256 acc)
{
    if (args->bias) acc = _mm256_add_ps(acc, _mm256_loadu_ps(args->bias + col));
    acc = _mm256_mul_ps(tvlm_epilogue_act8(args->act, acc), _mm256_set1_ps(args->scale));
    if (args->residual)
        acc = _mm256_add_ps(acc, _mm256_loadu_ps(args->residual + m * args->ldr + col));
    _mm256_storeu_ps(args->y + m * args->ldy + col, acc);
}

/* The same for n (< 8) columns. */
static __attribute__((noinline, unused)) void
tvlm_epilogue_tail8(const tvlm_gemm_args *args, size_t m, size_t col, size_t n, __m256 acc)
{
    __m256i mask = tvlm_mask8(n);
    if (args->bias) acc = _mm256_add_ps(acc, _mm256_maskload_ps(args->bias + col, mask));
    acc = _mm256_mul_ps(tvlm_epilogue_act8(args->act, acc), _mm256_set1_ps(args->scale));
    if (args->residual)
        acc = _mm256_add_ps(acc, _mm256_maskload_ps(args->residual + m * args->ldr + col, mask));
    _mm256_maskstore_ps(args->y + m * args->ldy + col, mask, acc);
}

TVLM_INLINE void tvlm_epilogue8(const tvlm_gemm_args *args, size_t m, size_t col, size_t n,
                                __m256 acc)
{
    if (n >= 8)
        tvlm_epilogue_whole8(args, m, col, acc);
    else
        tvlm_epilogue_tail8(args, m, col, n, acc);
}

#endif
#endif
