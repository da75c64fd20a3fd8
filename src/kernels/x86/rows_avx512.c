/* SPDX-License-Identifier: MIT
 * Row kernels on AVX-512, and its installer. */
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

/* Pairs (2i, 2i + 1): eight pairs a register, cosines and sines doubled. */
static void rope_pairs(float *x, size_t half, const float *cs)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (size_t i = 0; i < half; i += 8) {
        const size_t n = half - i < 8 ? half - i : 8;
        const __mmask16 mask = tvlm_mask16(n);
        __m512 v = tvlm_load_n16(x + 2 * i, 2 * n);
        __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(mask, cs + i));
        __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(mask, cs + half + i));
        __m512 swapped = _mm512_permute_ps(v, 0xB1);
        tvlm_store_n16(x + 2 * i, 2 * n, _mm512_fmaddsub_ps(v, c, _mm512_mul_ps(swapped, s)));
    }
}

enum { WIDTH = 16 };
#define F        __m512
#define FN(name) name##16
#include "kernels/rows_body.h"

static void f32_to_f16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = tvlm_load_n16(x + i, n - i);
        _mm256_mask_storeu_epi16(y + i, tvlm_mask16(n - i),
                                 _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
}

static void quantize_u7(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
{
    const __m512 inv = _mm512_set1_ps(inv_scale), add = _mm512_set1_ps(zero);
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_add_ps(_mm512_mul_ps(tvlm_load_n16(x + i, n - i), inv), add);
        v = _mm512_max_ps(v, _mm512_setzero_ps()); /* a NaN becomes 0 */
        v = _mm512_min_ps(v, _mm512_set1_ps(127.0f));
        _mm_mask_storeu_epi8(y + i, tvlm_mask16(n - i),
                             _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
    }
}

static void dequantize_u7(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
{
    const __m512 factor = _mm512_set1_ps(scale);
    for (size_t i = 0; i < n; i += 16) {
        __m512i q = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(tvlm_mask16(n - i), x + i));
        q = _mm512_sub_epi32(q, _mm512_set1_epi32(zero));
        tvlm_store_n16(y + i, n - i, _mm512_mul_ps(_mm512_cvtepi32_ps(q), factor));
    }
}

void tvlm_kernels_install_avx512(tvlm_kernels *table)
{
    install_rows(table);
    table->f32_to_f16 = f32_to_f16;
    table->quantize_u7 = quantize_u7;
    table->dequantize_u7 = dequantize_u7;
    tvlm_avx512_install_attention(table);
    tvlm_avx512_install_dwconv(table);
}

#else

void tvlm_kernels_install_avx512(tvlm_kernels *table)
{
    (void)table;
}

#endif

#include "kernels/x86/avx2_end.h"
