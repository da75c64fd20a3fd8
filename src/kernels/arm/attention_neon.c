/* SPDX-License-Identifier: MIT
 * Attention on NEON: scores two rows by four keys, outputs six rows by sixteen columns in its 32
 * registers of four floats. */
#include "kernels/arm/neon.h"

#if defined(__aarch64__)

/* Lane t of the result is tvlm_sum8 of v[t]. */
TVLM_INLINE float32x4_t sum_each4(const tvlm_f8 v[4])
{
    float32x4_t low = vpaddq_f32(vpaddq_f32(v[0].low, v[1].low), vpaddq_f32(v[2].low, v[3].low));
    float32x4_t high =
        vpaddq_f32(vpaddq_f32(v[0].high, v[1].high), vpaddq_f32(v[2].high, v[3].high));
    return vaddq_f32(low, high);
}

TVLM_INLINE void store_sums(float *s, const tvlm_f8 acc[8], const size_t rows, float scale)
{
    const float32x4_t by = vdupq_n_f32(scale);
    vst1q_f32(s, vmulq_f32(sum_each4(acc), by));
    vst1q_f32(s + (rows == 1 ? 4 : TVLM_ATTENTION_KEYS), vmulq_f32(sum_each4(acc + 4), by));
}

enum { WIDTH = 8, KEYS_IN_PLACE = 8, KEYS_COPIED = 8, KEYS_TWO = 4, MOST_ROWS = 6 };
#define F                                     tvlm_f8
#define FN(name)                              name##8
#define KEEP(v)                               (void)(v)
#define LOAD_KEYS(k, j, t, i)                 load_kv8(k, ((j) + (t)) * (k).ld + (i))
#define COPIED_AT(j, i, d)                    ((j) * (d) + (i))
#define REPEAT(q)                             tvlm_load8(q)
#define STORE_SUMS(s, acc, rows, vecs, scale) store_sums(s, acc, rows, scale)
#define EACH_ROW_COUNT(X)                     X(1) X(2) X(3) X(4) X(5) X(6)
#define MOST_VECS(rows)                       ((rows) == 1 ? 8 : (rows) == 2 ? 4 : 2)
#include "kernels/attention_body.h"

void tvlm_neon_install_attention(tvlm_kernels *table)
{
    table->attention = attention;
    table->attention_join = attention_join;
}

#endif
