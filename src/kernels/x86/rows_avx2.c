/* SPDX-License-Identifier: MIT
 * Row kernels on AVX2, and its installer. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* Pairs (2i, 2i + 1): four pairs a register, cosines and sines doubled. */
static void rope_pairs(float *x, size_t half, const float *cs)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    for (size_t i = 0; i < half; i += 4) {
        size_t n = half - i < 4 ? half - i : 4;
        __m256 v = tvlm_load_n8(x + 2 * i, 2 * n);
        __m256 c = _mm256_permutevar8x32_ps(_mm256_maskload_ps(cs + i, tvlm_mask8(n)), twice);
        __m256 s =
            _mm256_permutevar8x32_ps(_mm256_maskload_ps(cs + half + i, tvlm_mask8(n)), twice);
        __m256 swapped = _mm256_permute_ps(v, 0xB1);
        tvlm_store_n8(x + 2 * i, 2 * n, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s)));
    }
}

enum { WIDTH = 8 };
#define F        tvlm_f8
#define FN(name) name##8
#include "kernels/rows_body.h"

static void f32_to_f16(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(y + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = (uint16_t)_cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}

/* As float in 0..127; a NaN becomes 0. */
TVLM_INLINE __m256 u7_of(__m256 x, __m256 inv, __m256 add)
{
    __m256 v = _mm256_add_ps(_mm256_mul_ps(x, inv), add);
    return _mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), _mm256_set1_ps(127.0f));
}

static void quantize_u7(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
{
    const __m256 inv = _mm256_set1_ps(inv_scale), add = _mm256_set1_ps(zero);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v[4];
        TVLM_UNROLL
        for (size_t r = 0; r < 4; r++)
            v[r] = _mm256_cvtps_epi32(u7_of(_mm256_loadu_ps(x + i + 8 * r), inv, add));
        __m256i bytes =
            _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
        _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_permutevar8x32_epi32(bytes, order));
    }
    for (; i < n; i += 8)
        tvlm_store_bytes8(y + i, n - i, u7_of(tvlm_load_n8(x + i, n - i), inv, add));
}

static void dequantize_u7(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
{
    const __m256 factor = _mm256_set1_ps(scale);
    for (size_t i = 0; i < n; i += 8) {
        __m256i q = _mm256_cvtepu8_epi32(tvlm_load_bytes8(x + i, n - i));
        q = _mm256_sub_epi32(q, _mm256_set1_epi32(zero));
        tvlm_store_n8(y + i, n - i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), factor));
    }
}

void tvlm_avx2_install_rows(tvlm_kernels *table)
{
    install_rows(table);
    table->f32_to_f16 = f32_to_f16;
    table->quantize_u7 = quantize_u7;
    table->dequantize_u7 = dequantize_u7;
}

#endif

void tvlm_kernels_install_avx2(tvlm_kernels *table)
{
#if defined(__x86_64__)
    tvlm_avx2_install_rows(table);
    tvlm_avx2_install_attention(table);
    tvlm_avx2_install_dwconv(table);
    tvlm_avx2_install_int8(table);
    tvlm_avx2_install_resize(table);
#else
    (void)table;
#endif
}

#include "kernels/x86/avx2_end.h"
