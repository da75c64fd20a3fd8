/* SPDX-License-Identifier: MIT
 * Opens the AVX-512 target (F, BW, DQ, VL and what TVLM_AVX512_WITH adds) for the rest of a tier
 * file and gives it the sixteen-lane helpers, beside those of avx2.h. Include it last; close the
 * file with avx2_end.h.
 * A test on machines without AVX-512 names in TVLM_AVX512_EMULATION a header that makes the
 * intrinsics from AVX2. */
#ifndef TVLM_KERNELS_AVX512_H
#define TVLM_KERNELS_AVX512_H

#include "kernels/kernels.h"

void tvlm_avx512_install_attention(tvlm_kernels *table);
void tvlm_avx512_install_dwconv(tvlm_kernels *table);

#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

#ifndef TVLM_AVX512_WITH
#define TVLM_AVX512_WITH ""
#endif
#define TVLM_PRAGMA(x) _Pragma(#x)
#if defined(TVLM_AVX512_EMULATION)
#include TVLM_AVX512_EMULATION
#elif defined(__clang__) /* of nested targets it would take the outer one */
#pragma clang attribute pop
#define TVLM_PUSH_TARGET(features)                                                                 \
    TVLM_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
TVLM_PUSH_TARGET("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl" TVLM_AVX512_WITH)
#else
#define TVLM_SET_TARGET(features) TVLM_PRAGMA(GCC target(features))
TVLM_SET_TARGET("avx512f,avx512bw,avx512dq,avx512vl" TVLM_AVX512_WITH)
#endif

/* Keeps a value that is used more than once in its register, and loads in the order in which they
 * stand, so that few registers are live. */
#if defined(TVLM_AVX512_EMULATION)
#define TVLM_KEEP16(v)     (void)(v)
#define TVLM_IN_PLACE16(v) (void)(v)
#else
#define TVLM_IN_PLACE16(v) __asm__("" : "+v"(v))
#define TVLM_KEEP16(v)     __asm__ volatile("" : "+v"(v) : : "memory")
#endif

#define F            __m512
#define FN(name)     name##16
#define SET(c)       _mm512_set1_ps(c)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define NABS(x)      _mm512_or_ps(_mm512_set1_ps(-0.0f), x)
#define MIN(b, x)    _mm512_min_ps(b, x)
#define MAX(b, x)    _mm512_max_ps(b, x)
#define POW2(t)      _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23))
#include "kernels/math_body.h"

/* ---- operations on sixteen floats ---- */

TVLM_INLINE __m512 tvlm_load16(const float *p)
{
    return _mm512_loadu_ps(p);
}
TVLM_INLINE void tvlm_store16(float *p, __m512 v)
{
    _mm512_storeu_ps(p, v);
}
TVLM_INLINE __m512 tvlm_set16(float v)
{
    return _mm512_set1_ps(v);
}
TVLM_INLINE __m512 tvlm_add16(__m512 a, __m512 b)
{
    return _mm512_add_ps(a, b);
}
TVLM_INLINE __m512 tvlm_sub16(__m512 a, __m512 b)
{
    return _mm512_sub_ps(a, b);
}
TVLM_INLINE __m512 tvlm_mul16(__m512 a, __m512 b)
{
    return _mm512_mul_ps(a, b);
}
TVLM_INLINE __m512 tvlm_fma16(__m512 a, __m512 b, __m512 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
TVLM_INLINE __m512 tvlm_fms16(__m512 a, __m512 b, __m512 c)
{
    return _mm512_fmsub_ps(a, b, c);
}
/* lanes += v, eight elements after the other, of which n are left. */
TVLM_INLINE tvlm_f8 tvlm_add_lanes16(tvlm_f8 lanes, __m512 v, size_t n)
{
    lanes = tvlm_add_lanes8(lanes, _mm512_castps512_ps256(v), n);
    return tvlm_add_lanes8(lanes, _mm512_extractf32x8_ps(v, 1), n > 8 ? n - 8 : 0);
}

/* Lanes 0..n-1 on, all where n is 16 or more. */
TVLM_INLINE __mmask16 tvlm_mask16(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu);
}

/* The first n elements of a row; lanes beyond are 0. */
TVLM_INLINE __m512 tvlm_load_n16(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(tvlm_mask16(n), p);
}
TVLM_INLINE void tvlm_store_n16(float *p, size_t n, __m512 v)
{
    _mm512_mask_storeu_ps(p, tvlm_mask16(n), v);
}

TVLM_INLINE __m512 tvlm_act16(tvlm_act act, __m512 x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return tvlm_gelu16(x);
    case TVLM_ACT_RELU:
        return _mm512_max_ps(_mm512_setzero_ps(), x);
    case TVLM_ACT_RELU6:
        return _mm512_min_ps(_mm512_set1_ps(6.0f), _mm512_max_ps(_mm512_setzero_ps(), x));
    case TVLM_ACT_SIGMOID:
        return tvlm_sigmoid16(x);
    case TVLM_ACT_GELU_TANH:
        return tvlm_gelu_tanh16(x);
    default:
        return x;
    }
}

TVLM_INLINE __m512i tvlm_load512(const void *p)
{
    return _mm512_loadu_si512(p);
}

/* Sixteen halves as floats. */
TVLM_INLINE __m512 tvlm_load_half16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

/* y = act(acc + bias) * scale + residual for the columns of one row that the mask has. */
TVLM_INLINE void tvlm_epilogue16(const tvlm_gemm_args *args, size_t m, size_t col, __mmask16 mask,
                                 __m512 acc)
{
    if (args->bias) acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(mask, args->bias + col));
    acc = _mm512_mul_ps(tvlm_act16(args->act, acc), _mm512_set1_ps(args->scale));
    if (args->residual)
        acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(mask, args->residual + m * args->ldr + col));
    _mm512_mask_storeu_ps(args->y + m * args->ldy + col, mask, acc);
}

/* ---- tiles: ROWS rows of x by PANELS panels of 16 columns, a register of sums for each ---- */

enum { TVLM_TILE16_ROWS = 12, TVLM_TILE16_PANELS = 4 };

/* A tile's results: [row][16 * panel + column]. */
typedef float tvlm_tile16[TVLM_TILE16_ROWS][TVLM_TILE16_PANELS * 16];
typedef void (*tvlm_tile16_fn)(const tvlm_gemm_args *args, size_t m, size_t rows, size_t panel,
                               size_t panels, tvlm_tile16 out);

/* What a tile writes and adds, so that nothing waits for it after the products. */
TVLM_INLINE void tvlm_prefetch_outputs16(const tvlm_gemm_args *args, size_t m, size_t rows,
                                         size_t n, size_t end)
{
    for (size_t r = m; r < m + rows; r++)
        for (size_t c = n; c < end; c += 16) {
            _mm_prefetch((const char *)(args->y + r * args->ldy + c), _MM_HINT_T0);
            if (args->residual)
                _mm_prefetch((const char *)(args->residual + r * args->ldr + c), _MM_HINT_T0);
        }
}

/* All tiles of a matrix. Few rows take four panels at once, so that enough sums are under way;
 * the panel loop is outside: panels stay in cache while x streams. */
TVLM_INLINE void tvlm_run_tiles16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,
                                  size_t n1, const size_t most_rows, tvlm_tile16_fn tile)
{
    tvlm_tile16 out;
    size_t wide = m1 - m0 <= 2 ? 4 : 2;
    for (size_t n = n0, end; n < n1; n = end) {
        size_t panels = n1 - n < wide * TVLM_GEMM_NR ? 1 : wide, most = panels > 1 ? most_rows : 6;
        end = n1 - n < panels * TVLM_GEMM_NR ? n1 : n + panels * TVLM_GEMM_NR;
        for (size_t m = m0, rows; m < m1; m += rows) {
            size_t left = m1 - m;
            rows = left >= most ? most : left >= 8 ? 8 : left >= 6 ? 6 : left >= 4 ? 4 : left;
            tvlm_prefetch_outputs16(args, m, rows, n, end);
            tile(args, m, rows, n / TVLM_GEMM_NR, panels, out);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = n; c < end; c += 16)
                    tvlm_epilogue16(args, m + r, c, tvlm_mask16(end - c),
                                    _mm512_loadu_ps(&out[r][c - n]));
        }
    }
}

/* Inlined, clang would keep the epilogue's constants in registers that the tile needs. */
#define TVLM_APART __attribute__((noinline))

/* TILE(rows, panels) for each size that tvlm_run_tiles16 asks for, so that each becomes straight
 * code; _12 and _6: the most rows. */
#define TVLM_TILE16_CASE(TILE, rows, panels)                                                       \
    case 16 * panels + rows:                                                                       \
        TILE(rows, panels);                                                                        \
        break;
#define TVLM_TILE16_FEW(TILE, panels)                                                              \
    TVLM_TILE16_CASE(TILE, 1, panels)                                                              \
    TVLM_TILE16_CASE(TILE, 2, panels)
#define TVLM_TILE16_MANY_6(TILE, panels)                                                           \
    TVLM_TILE16_FEW(TILE, panels)                                                                  \
    TVLM_TILE16_CASE(TILE, 3, panels)                                                              \
    TVLM_TILE16_CASE(TILE, 4, panels)                                                              \
    TVLM_TILE16_CASE(TILE, 6, panels)
#define TVLM_TILE16_MANY_12(TILE, panels)                                                          \
    TVLM_TILE16_MANY_6(TILE, panels)                                                               \
    TVLM_TILE16_CASE(TILE, 8, panels)                                                              \
    TVLM_TILE16_CASE(TILE, 12, panels)
#define TVLM_TILE16_RUN(run, TILE, most_rows)                                                      \
    TVLM_APART static void run##_tile(const tvlm_gemm_args *args, size_t m, size_t rows,           \
                                      size_t panel, size_t panels, tvlm_tile16 out)                \
    {                                                                                              \
        switch (16 * panels + rows) {                                                              \
            TVLM_TILE16_MANY_6(TILE, 1)                                                            \
            TVLM_TILE16_MANY_##most_rows(TILE, 2) TVLM_TILE16_FEW(TILE, 4)                         \
        }                                                                                          \
    }                                                                                              \
    static void run(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)        \
    {                                                                                              \
        tvlm_run_tiles16(args, m0, m1, n0, n1, most_rows, run##_tile);                             \
    }

#endif
#endif
