/* SPDX-License-Identifier: MIT
 * Attention on AVX2: scores two rows by four keys, outputs six rows by sixteen columns in
 * registers. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* hadd, in the operations that it is made of: they spread over more ports. */
TVLM_INLINE __m256 pairs8(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}

/* Lane t of the result is tvlm_sum8 of v[t]. */
TVLM_INLINE __m256 sum_each8(const __m256 v[8])
{
    __m256 a = pairs8(pairs8(v[0], v[1]), pairs8(v[2], v[3]));
    __m256 b = pairs8(pairs8(v[4], v[5]), pairs8(v[6], v[7]));
    __m256 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    return _mm256_add_ps(low, high);
}

TVLM_INLINE void store_sums(float *s, const __m256 acc[8], const size_t rows, float scale)
{
    __m256 sums = _mm256_mul_ps(sum_each8(acc), _mm256_set1_ps(scale));
    if (rows == 1) {
        _mm256_storeu_ps(s, sums);
    } else {
        _mm_storeu_ps(s, _mm256_castps256_ps128(sums));
        _mm_storeu_ps(s + TVLM_ATTENTION_KEYS, _mm256_extractf128_ps(sums, 1));
    }
}

enum { WIDTH = 8, KEYS_IN_PLACE = 8, KEYS_COPIED = 8, KEYS_TWO = 4, MOST_ROWS = 6 };
#define F                                     tvlm_f8
#define FN(name)                              name##8
#define KEEP(v)                               TVLM_KEEP8(v)
#define LOAD_KEYS(k, j, t, i)                 load_kv8(k, ((j) + (t)) * (k).ld + (i))
#define COPIED_AT(j, i, d)                    ((j) * (d) + (i))
#define REPEAT(q)                             tvlm_load8(q)
#define STORE_SUMS(s, acc, rows, vecs, scale) store_sums(s, acc, rows, scale)
#define EACH_ROW_COUNT(X)                     X(1) X(2) X(3) X(4) X(5) X(6)
#define MOST_VECS(rows)                       ((rows) == 1 ? 8 : (rows) == 2 ? 4 : 2)
#include "kernels/attention_body.h"

void tvlm_avx2_install_attention(tvlm_kernels *table)
{
    table->attention = attention;
    table->attention_join = attention_join;
}

#endif

#include "kernels/x86/avx2_end.h"
