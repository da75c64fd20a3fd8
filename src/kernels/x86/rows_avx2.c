/* SPDX-License-Identifier: MIT
 * Row kernels on AVX2: the scalar tier's lanes and steps, eight at a time; and the installer. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* A whole register away from the end, a masked one at the end. A masked-off lane reads as 0. */
TVLM_INLINE __m256 load_n(const float *p, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, tvlm_mask8(n));
}

TVLM_INLINE void store_n(float *p, size_t n, __m256 v)
{
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, tvlm_mask8(n), v);
}

/* s: nullable */
TVLM_INLINE void act_row(const tvlm_act act, float *y, const float *x, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_n(x + i, n - i);
        if (s) v = _mm256_mul_ps(v, load_n(s + i, n - i));
        store_n(y + i, n - i, tvlm_act8(act, v));
    }
}

/* A loop of its own keeps the many constants of GELU in registers. */
static void act_avx2(tvlm_act act, float *y, const float *x, size_t n)
{
    if (act == TVLM_ACT_GELU)
        act_row(TVLM_ACT_GELU, y, x, NULL, n);
    else
        act_row(act, y, x, NULL, n);
}

static void scale_act_avx2(tvlm_act act, float *y, const float *x, const float *s, size_t n)
{
    if (act == TVLM_ACT_GELU)
        act_row(TVLM_ACT_GELU, y, x, s, n);
    else
        act_row(act, y, x, s, n);
}

static void axpy_avx2(float *y, float a, const float *x, size_t n)
{
    __m256 factor = _mm256_set1_ps(a);
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, n - i, _mm256_fmadd_ps(factor, load_n(x + i, n - i), load_n(y + i, n - i)));
}

static void silu_mul_avx2(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, n - i,
                _mm256_mul_ps(tvlm_silu8(load_n(gate + i, n - i)), load_n(up + i, n - i)));
}

static float sum_squares(const float *x, size_t n, float mean)
{
    __m256 centre = _mm256_set1_ps(mean), lane = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256 d = _mm256_sub_ps(load_n(x + i, n - i), centre);
        if (n - i < 8) d = _mm256_and_ps(d, _mm256_castsi256_ps(tvlm_mask8(n - i)));
        lane = _mm256_fmadd_ps(d, d, lane);
    }
    return tvlm_hsum8(lane);
}

static void rmsnorm_avx2(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m256 inv = _mm256_set1_ps(1.0f / sqrtf(sum_squares(x, n, 0.0f) / (float)n + eps));
    for (size_t i = 0; i < n; i += 8)
        store_n(y + i, n - i,
                _mm256_mul_ps(_mm256_mul_ps(load_n(x + i, n - i), inv), load_n(w + i, n - i)));
}

static void layernorm_avx2(float *y, const float *x, const float *w, const float *b, size_t n,
                           float eps)
{
    __m256 lane = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8)
        lane = _mm256_add_ps(lane, load_n(x + i, n - i));
    float mean = tvlm_hsum8(lane) / (float)n;
    __m256 inv = _mm256_set1_ps(1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + eps));
    __m256 centre = _mm256_set1_ps(mean);
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(load_n(x + i, n - i), centre), inv);
        if (w) v = _mm256_mul_ps(v, load_n(w + i, n - i));
        if (b) v = _mm256_add_ps(v, load_n(b + i, n - i));
        store_n(y + i, n - i, v);
    }
}

/* Pairs (i, i + half): both registers of a pair group are rotated together. */
static void rope_halves(float *x, size_t half, const float *cs)
{
    for (size_t i = 0; i < half; i += 8) {
        size_t n = half - i;
        __m256 a = load_n(x + i, n), b = load_n(x + half + i, n);
        __m256 c = load_n(cs + i, n), s = load_n(cs + half + i, n);
        store_n(x + i, n, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store_n(x + half + i, n, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

/* Pairs (2i, 2i + 1): four pairs a register, cosines and sines doubled. */
static void rope_pairs(float *x, size_t half, const float *cs)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    for (size_t i = 0; i < half; i += 4) {
        size_t n = half - i < 4 ? half - i : 4;
        __m256 v = load_n(x + 2 * i, 2 * n);
        __m256 c = _mm256_permutevar8x32_ps(_mm256_maskload_ps(cs + i, tvlm_mask8(n)), twice);
        __m256 s =
            _mm256_permutevar8x32_ps(_mm256_maskload_ps(cs + half + i, tvlm_mask8(n)), twice);
        __m256 swapped = _mm256_permute_ps(v, 0xB1);
        store_n(x + 2 * i, 2 * n, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s)));
    }
}

static void rope_avx2(float *x, size_t n_heads, size_t d, const float *cs, bool interleaved)
{
    for (size_t h = 0; h < n_heads; h++, x += d)
        (interleaved ? rope_pairs : rope_halves)(x, d / 2, cs);
}

static void f32_to_f16_avx2(uint16_t *y, const float *x, size_t n)
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

static void quantize_u7_avx2(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
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
        tvlm_store_bytes8(y + i, n - i, u7_of(load_n(x + i, n - i), inv, add));
}

static void dequantize_u7_avx2(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
{
    const __m256 factor = _mm256_set1_ps(scale);
    for (size_t i = 0; i < n; i += 8) {
        __m256i q = _mm256_cvtepu8_epi32(tvlm_load_bytes8(x + i, n - i));
        q = _mm256_sub_epi32(q, _mm256_set1_epi32(zero));
        store_n(y + i, n - i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), factor));
    }
}

void tvlm_avx2_install_rows(tvlm_kernels *table)
{
    table->act = act_avx2;
    table->axpy = axpy_avx2;
    table->silu_mul = silu_mul_avx2;
    table->scale_act = scale_act_avx2;
    table->rmsnorm = rmsnorm_avx2;
    table->layernorm = layernorm_avx2;
    table->rope = rope_avx2;
    table->f32_to_f16 = f32_to_f16_avx2;
    table->quantize_u7 = quantize_u7_avx2;
    table->dequantize_u7 = dequantize_u7_avx2;
}

#endif

void tvlm_kernels_install_avx2(tvlm_kernels *table)
{
#if defined(__x86_64__)
    tvlm_avx2_install_rows(table);
    tvlm_avx2_install_attention(table);
    tvlm_avx2_install_dwconv(table);
    tvlm_avx2_install_int8(table);
#else
    (void)table;
#endif
}

#include "kernels/x86/avx2_end.h"
