/* SPDX-License-Identifier: MIT
 * What the int8 kernels of eight lanes share. The tier's file includes its target's header first,
 * then defines dot4(acc, x, w): acc plus sums of four products, bytes of x (0..127) by signed bytes
 * of w. */
TVLM_INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

TVLM_INLINE void store256(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* Eight sums, scaled; the order and the roundings are those of kernels.h. */
TVLM_INLINE __m256 scale8(__m256i acc, const float *mult, const float *beta)
{
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(mult));
    return _mm256_add_ps(v, _mm256_loadu_ps(beta));
}

/* Rounds 32 values of at most hi to bytes of at least lo. In either half of a register: the bytes
 * of a, b, c, d. Bounds are integers, so it does not matter that one is kept before the rounding,
 * the other behind it. */
TVLM_INLINE __m256i round32(__m256 a, __m256 b, __m256 c, __m256 d, float hi, uint8_t lo)
{
    const __m256 most = _mm256_set1_ps(hi);
    __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(a, most)),
                                    _mm256_cvtps_epi32(_mm256_min_ps(b, most)));
    __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(c, most)),
                                    _mm256_cvtps_epi32(_mm256_min_ps(d, most)));
    return _mm256_max_epu8(_mm256_packus_epi16(ab, cd), _mm256_set1_epi8((char)lo));
}
