/* SPDX-License-Identifier: MIT
 * Attention on AVX-512: scores two rows by eight keys, outputs six rows by 32 columns in registers.
 * A register of keys holds eight columns of a key and those of the fourth after it, so that the
 * sums of four registers lie in the order of their keys. */
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

TVLM_INLINE __m512 pairs16(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}

/* tvlm_sum8 of both halves of v[0..3]: those of the lower halves, of the upper ones; then v[4..7].
 */
TVLM_INLINE __m512 sum_each16(const __m512 v[8])
{
    __m512 a = pairs16(pairs16(v[0], v[1]), pairs16(v[2], v[3]));
    __m512 b = pairs16(pairs16(v[4], v[5]), pairs16(v[6], v[7]));
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

TVLM_INLINE void store_sums(float *s, __m512 acc[8], const size_t rows, const size_t vecs,
                            float scale)
{
    TVLM_UNROLL
    for (size_t t = rows * vecs; t < 8; t++)
        acc[t] = acc[0];
    __m512 sums = _mm512_mul_ps(sum_each16(acc), _mm512_set1_ps(scale));
    tvlm_store8(s, _mm512_castps512_ps256(sums));
    if (rows * vecs < 8) return;
    tvlm_store8(s + (rows == 2 ? TVLM_ATTENTION_KEYS : 8), _mm512_extractf32x8_ps(sums, 1));
}

/* Two times eight floats. */
#define JOIN(low, high) _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1)
/* The first key of a step's register t. */
#define KEY_OF(t) ((t) / 4 * 8 + (t) % 4)

enum { WIDTH = 16, KEYS_IN_PLACE = 16, KEYS_COPIED = 8, KEYS_TWO = 8, MOST_ROWS = 6 };
#define F        __m512
#define FN(name) name##16
#define KEEP(v)  TVLM_KEEP16(v)
#define LOAD_KEYS(k, j, t, i)                                                                      \
    JOIN(load_kv8(k, ((j) + KEY_OF(t)) * (k).ld + (i)),                                            \
         load_kv8(k, ((j) + KEY_OF(t) + 4) * (k).ld + (i)))
#define COPIED_AT(j, i, d)                    (((j) / 8 * 8 + (j) % 4 * 2) * (d) + 2 * (i) + (j) / 4 % 2 * 8)
#define REPEAT(q)                             _mm512_broadcast_f32x8(tvlm_load8(q))
#define STORE_SUMS(s, acc, rows, vecs, scale) store_sums(s, acc, rows, vecs, scale)
#define EACH_ROW_COUNT(X)                     X(1) X(2) X(3) X(4) X(5) X(6)
#define MOST_VECS(rows)                       ((rows) == 1 ? 8 : (rows) == 2 ? 4 : 2)
#include "kernels/attention_body.h"

void tvlm_avx512_install_attention(tvlm_kernels *table)
{
    table->attention = attention;
    table->attention_join = attention_join;
}

#endif

#include "kernels/x86/avx2_end.h"
