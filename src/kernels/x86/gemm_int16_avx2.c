/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers on AVX2: madd multiplies 16 words and adds them in twos, where a
 * fused multiply-add takes 8 floats. */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

enum { MAX_ROWS = 6 };
#include "kernels/x86/tiles_avx2.h"

/* ---- rows of x ---- */

/* max |v| of n values, a multiple of 16. */
TVLM_INLINE float largest_of(const float *v, size_t n)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256i most[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t i = 0; i < n; i += 16) {
        TVLM_UNROLL
        for (size_t h = 0; h < 2; h++) {
            __m256 size = _mm256_and_ps(_mm256_loadu_ps(v + i + 8 * h), magnitude);
            most[h] = _mm256_max_epi32(most[h], _mm256_castps_si256(size));
        }
    }
    __m256i all = _mm256_max_epi32(most[0], most[1]);
    __m128i top = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(top));
}

TVLM_INLINE float norm_of(const float *v, size_t n, float factor)
{
    const __m256 by = _mm256_set1_ps(factor);
    __m256 lane[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t i = 0; i < n; i += 16) {
        TVLM_UNROLL
        for (size_t h = 0; h < 2; h++) {
            __m256 u = _mm256_mul_ps(_mm256_loadu_ps(v + i + 8 * h), by);
            lane[h] = _mm256_add_ps(lane[h], _mm256_mul_ps(u, u));
        }
    }
    return sqrtf(tvlm_hsum8(_mm256_add_ps(lane[0], lane[1])));
}

TVLM_INLINE void codes_of(int16_t *q, const float *v, size_t n, float factor)
{
    const __m256 by = _mm256_set1_ps(factor);
    for (size_t i = 0; i < n; i += 16) {
        __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(v + i), by));
        __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(v + i + 8), by));
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        _mm256_storeu_si256((__m256i *)(void *)(q + i), words);
    }
}

#include "kernels/words_body.h"

const tvlm_gemm_input tvlm_avx2_input_int16 = {tvlm_words_bytes, pack_input};

static void pack_weights(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows,
                         size_t k)
{
    tvlm_words_pack(&tvlm_avx2_input_int16, type, packed, src, n0, n_rows, k);
}

const tvlm_gemm_layout tvlm_avx2_layout_int16 = {tvlm_words_packed_size, pack_weights,
                                                 tvlm_words_unpack_row};

/* ---- tiles ---- */

/* sum += v where sum lies and in the order of the lines: left to itself GCC copies every sum, or
 * keeps more products than there are registers. */
#define ADD_TO(sum, v) __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(v))

TVLM_INLINE void add_products(__m256i sum[2], __m256i w0, __m256i w1, __m256i x)
{
    __m256i u = _mm256_madd_epi16(w0, x), v;
    TVLM_IN_ORDER(u);
    v = _mm256_madd_epi16(w1, x);
    TVLM_IN_ORDER(v);
    ADD_TO(sum[0], u);
    ADD_TO(sum[1], v);
}

#include "kernels/x86/gemm_int16_body.h"

#define KERNEL(id, TYPE)                                                                           \
    {"avx2 " #id " int16",    TVLM_CPU_AVX2,          TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT16,        \
     &tvlm_avx2_layout_int16, &tvlm_avx2_input_int16, gemm_int16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_avx2_int16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2_int16 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
