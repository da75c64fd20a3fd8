/* SPDX-License-Identifier: MIT
 * What the int8 kernels of block types and of K-quants share; include it behind avx2.h, or behind
 * avxvnni.h with VPDPBUSD defined. Sums of products of unsigned and signed bytes are words, in
 * twos, until widened; with VPDPBUSD at once integers, in fours. */
#ifndef TVLM_KERNELS_GEMM_INT8_AVX2_H
#define TVLM_KERNELS_GEMM_INT8_AVX2_H

enum { MAX_ROWS = 4 };
#include "kernels/x86/tiles_avx2.h"

#if defined(VPDPBUSD)
TVLM_INLINE __m256i add_bytes(__m256i sum, __m256i codes, __m256i x)
{
    sum = _mm256_dpbusd_avx_epi32(sum, codes, x);
    TVLM_IN_ORDER(sum);
    return sum;
}
TVLM_INLINE __m256i widened(__m256i sum)
{
    return sum;
}
#else
TVLM_INLINE __m256i add_bytes(__m256i sum, __m256i codes, __m256i x)
{
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
}
TVLM_INLINE __m256i widened(__m256i sum)
{
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}
#endif

/* Codes of eight columns: the low or the high four bits of bytes, and bit 4 of `fifth`. */
TVLM_INLINE __m256i codes_of(const unsigned bits, __m256i bytes, bool upper, __m256i fifth)
{
    if (upper) bytes = _mm256_srli_epi16(bytes, 4);
    bytes = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
    if (bits == 4) return bytes;
    return _mm256_or_si256(bytes, _mm256_and_si256(fifth, _mm256_set1_epi8(16)));
}

/* Sums of part of a block: j = j0 .. j0 + n. fifth: bit 4 of each byte
 * belongs to the codes at j0, low and upper, of both halves; one bit further up to each next j. */
TVLM_INLINE void nibble_sums(const unsigned bits, const unsigned char *code,
                             const unsigned char *const x[MAX_ROWS], const size_t rows, size_t j0,
                             size_t n, __m256i fifth[2][2], __m256i total[MAX_ROWS][2])
{
    __m256i sum[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    TVLM_ROLLED
    for (size_t j = j0; j < j0 + n; j++) {
        __m256i low[2], high[2];
        TVLM_UNROLL
        for (size_t c = 0; c < 2; c++) {
            __m256i bytes = tvlm_load256(code + (2 * j + c) * 32);
            low[c] = codes_of(bits, bytes, false, fifth[0][c]);
            high[c] = codes_of(bits, bytes, true, fifth[1][c]);
            fifth[0][c] = _mm256_srli_epi16(fifth[0][c], 1);
            fifth[1][c] = _mm256_srli_epi16(fifth[1][c], 1);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i v = four_of(x[r] + 4 * j);
            sum[r][0] = add_bytes(sum[r][0], low[0], v);
            sum[r][1] = add_bytes(sum[r][1], low[1], v);
            v = four_of(x[r] + 16 + 4 * j);
            sum[r][0] = add_bytes(sum[r][0], high[0], v);
            sum[r][1] = add_bytes(sum[r][1], high[1], v);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t c = 0; c < 2; c++) {
            __m256i wide = widened(sum[r][c]);
            total[r][c] = j0 ? _mm256_add_epi32(total[r][c], wide) : wide;
        }
    }
}

#endif
