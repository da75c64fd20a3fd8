/* SPDX-License-Identifier: MIT
 * The two passes of a resize on AVX2, exact like the scalar ones: madd multiplies bytes by both
 * halves of the taps, two taps at a time. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* Sums of products with the low and the high halves of the taps. */
typedef struct sums {
    __m256i low, high;
} sums;

TVLM_INLINE void add_products(sums *s, __m256i x, __m256i low, __m256i high)
{
    s->low = _mm256_add_epi32(s->low, _mm256_madd_epi16(x, low));
    s->high = _mm256_add_epi32(s->high, _mm256_madd_epi16(x, high));
}

TVLM_INLINE __m256i joined(sums s)
{
    return _mm256_add_epi32(s.low, _mm256_slli_epi32(s.high, 16));
}

/* Four halves of taps, as often as there is room. */
TVLM_INLINE __m256i four_taps(const int16_t *taps)
{
    int64_t four;
    memcpy(&four, taps, sizeof four);
    return _mm256_set1_epi64x(four);
}

/* Four pixels: the words r0 r1 r2 r3 g0 g1 g2 g3 | b0 b1 b2 b3 0 0 0 0. */
TVLM_INLINE __m256i four_pixels(const uint8_t *x)
{
    const __m256i places =
        _mm256_setr_epi8(0, -1, 3, -1, 6, -1, 9, -1, 1, -1, 4, -1, 7, -1, 10, -1, 2, -1, 5, -1, 8,
                         -1, 11, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)x);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), places);
}

static void resize_across_avx2(uint8_t *y, const uint8_t *x, const tvlm_resize_taps *taps, size_t n)
{
    for (size_t i = 0; i < n; i++, taps++, y += TVLM_RESIZE_CHANNELS) {
        const uint8_t *from = x + taps->first * TVLM_RESIZE_CHANNELS;
        sums s = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (size_t t = 0; t < taps->n; t += 4, from += 4 * TVLM_RESIZE_CHANNELS)
            add_products(&s, four_pixels(from), four_taps(taps->low + t),
                         four_taps(taps->high + t));
        __m256i pairs = joined(s);
        __m128i rgb =
            _mm_hadd_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
        rgb = _mm_add_epi32(rgb, _mm_set1_epi32(1 << (TVLM_RESIZE_BITS - 1)));
        rgb = _mm_srai_epi32(rgb, TVLM_RESIZE_BITS);
        rgb = _mm_packs_epi32(rgb, rgb);
        uint32_t bytes = (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(rgb, rgb));
        memcpy(y, &bytes, TVLM_RESIZE_CHANNELS);
    }
}

/* Two taps, each as one word of every pair. */
TVLM_INLINE __m256i two_taps(const int16_t *taps)
{
    int32_t pair;
    memcpy(&pair, taps, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* Sixteen bytes of a row with n left. */
TVLM_INLINE __m128i bytes16(const uint8_t *p, size_t n)
{
    uint8_t few[16] = {0};
    if (n >= 16) return _mm_loadu_si128((const __m128i *)(const void *)p);
    memcpy(few, p, n);
    return _mm_loadu_si128((const __m128i *)(const void *)few);
}

/* Columns i..i+16 of a row with n left. */
TVLM_INLINE __m128i down16(const uint8_t *const *rows, const tvlm_resize_taps *taps, size_t i,
                           size_t n)
{
    const __m256i zero = _mm256_setzero_si256();
    sums a = {zero, zero}, b = a;
    for (size_t t = 0; t < taps->n; t += 2) {
        __m128i upper = bytes16(rows[t] + i, n);
        __m128i lower = bytes16(rows[t + 1] + i, n);
        __m256i low = two_taps(taps->low + t), high = two_taps(taps->high + t);
        add_products(&a, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(upper, lower)), low, high);
        add_products(&b, _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(upper, lower)), low, high);
    }
    const __m256i half = _mm256_set1_epi32(1 << (TVLM_RESIZE_BITS - 1));
    __m256i first = _mm256_srai_epi32(_mm256_add_epi32(joined(a), half), TVLM_RESIZE_BITS);
    __m256i second = _mm256_srai_epi32(_mm256_add_epi32(joined(b), half), TVLM_RESIZE_BITS);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

static void resize_down_avx2(uint8_t *y, const uint8_t *const *rows, const tvlm_resize_taps *taps,
                             size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm_storeu_si128((__m128i *)(void *)(y + i), down16(rows, taps, i, 16));
    if (i == n) return;
    uint8_t few[16];
    _mm_storeu_si128((__m128i *)(void *)few, down16(rows, taps, i, n - i));
    memcpy(y + i, few, n - i);
}

void tvlm_avx2_install_resize(tvlm_kernels *table)
{
    table->resize_across = resize_across_avx2;
    table->resize_down = resize_down_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
