/* SPDX-License-Identifier: MIT
 * exp, GELU, sigmoid and silu in float32: one algorithm for all tiers, so results move neither
 * with the C library nor with the CPU. The algorithm is math_body.h, written over a type and six
 * primitives; this header is its scalar instance, x86/avx2.h its eight-lane one.
 * Compile with -ffp-contract=off: every fma is explicit. */
#ifndef TVLM_KERNELS_MATH_H
#define TVLM_KERNELS_MATH_H

#include "kernels/kernels.h"
#include "os/os.h"

#include <math.h>
#include <string.h>

/* a * b + c: one rounding, but for WebAssembly without relaxed SIMD, which has no such instruction:
 * there all tiers round twice. */
#if defined(__wasm__) && !defined(__wasm_relaxed_simd__)
#define TVLM_UNFUSED 1
#else
#define TVLM_UNFUSED 0
#endif
/* Where fmaf is wrong, or no instruction but a slow function: 32-bit ARM before VFPv4. */
#if TVLM_OS_FMAF_ROUNDS_TWICE || (defined(__arm__) && !defined(__ARM_FEATURE_FMA))
#define TVLM_OWN_FMA 1
#else
#define TVLM_OWN_FMA 0
#endif
static inline float tvlm_fma1(float a, float b, float c)
{
#if TVLM_UNFUSED
    return a * b + c;
#elif TVLM_OWN_FMA
    /* The product is exact in double; the sum is rounded to odd there, then once to float (Boldo
     * and Melquiond 2008). */
    double product = (double)a * (double)b, sum = product + (double)c, c_part = sum - product;
    double error = (product - (sum - c_part)) + ((double)c - c_part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (isfinite(sum) && error != 0 && !(bits & 1)) {
        bits += (error > 0) == (sum > 0) ? 1u : UINT64_MAX;
        memcpy(&sum, &bits, sizeof sum);
    }
    return (float)sum;
#else
    return fmaf(a, b, c);
#endif
}

/* 1.5 * 2^23: adding it rounds a small float to an integer, half to even, in its low bits. */
#define TVLM_ROUND_MAGIC 12582912.0f
/* The same, 127 higher: the sum's low bits are then the exponent field of 2^integer. */
#define TVLM_POW2_MAGIC 12583039.0f

/* On ARM clang before 16 makes a maximum with a constant 0 into FMAX, which gives max(0, -0) = 0:
 * it must not know the constant. */
#if defined(__clang__) && __clang_major__ < 16 && defined(__aarch64__)
#define TVLM_HIDE(v) __asm__("" : "+w"(v))
#else
#define TVLM_HIDE(v) ((void)(v))
#endif

/* min and max keep a NaN in x, as the vector instructions do with this operand order. */
static inline float tvlm_min1(float bound, float x)
{
    return bound < x ? bound : x;
}
static inline float tvlm_max1(float bound, float x)
{
    TVLM_HIDE(bound);
    return bound > x ? bound : x;
}
/* 2^(t - TVLM_POW2_MAGIC) for an integer in -126..127; a NaN gives any number. */
static inline float tvlm_pow2_1(float t)
{
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits <<= 23;
    memcpy(&t, &bits, sizeof t);
    return t;
}

#define F            float
#define FN(name)     name##1
#define SET(c)       (c)
#define FMA(a, b, c) tvlm_fma1(a, b, c)
#define NABS(x)      (-fabsf(x))
#define MIN(b, x)    tvlm_min1(b, x)
#define MAX(b, x)    tvlm_max1(b, x)
#define POW2(t)      tvlm_pow2_1(t)
#include "kernels/math_body.h"

/* The taps [*t0, *t1) of k that fall on [0, size) of an image; tap t reads first + t - pad. */
static inline void tvlm_clip_taps(size_t first, size_t pad, size_t k, size_t size, size_t *t0,
                                  size_t *t1)
{
    *t0 = first < pad ? pad - first : 0;
    *t1 = size + pad > first ? size + pad - first : 0;
    if (*t1 > k) *t1 = k;
    if (*t0 > *t1) *t0 = *t1;
}

#endif
