/* SPDX-License-Identifier: MIT
 * Attention on WebAssembly SIMD: what is under way fits the 16 registers of four floats that x86
 * has. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

TVLM_INLINE v128_t pairs4(v128_t a, v128_t b)
{
    return wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6),
                          wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* Lane t of the result is tvlm_sum8 of v[t]. */
TVLM_INLINE v128_t sum_each4(const tvlm_f8 v[4])
{
    return wasm_f32x4_add(pairs4(pairs4(v[0].low, v[1].low), pairs4(v[2].low, v[3].low)),
                          pairs4(pairs4(v[0].high, v[1].high), pairs4(v[2].high, v[3].high)));
}

TVLM_INLINE void store_sums(float *s, const tvlm_f8 acc[4], const size_t rows, float scale)
{
    v128_t sums = wasm_f32x4_mul(sum_each4(acc), wasm_f32x4_splat(scale));
    if (rows == 1) {
        wasm_v128_store(s, sums);
    } else {
        wasm_v128_store64_lane(s, sums, 0);
        wasm_v128_store64_lane(s + TVLM_ATTENTION_KEYS, sums, 1);
    }
}

enum { WIDTH = 8, KEYS_IN_PLACE = 4, KEYS_COPIED = 4, KEYS_TWO = 2, MOST_ROWS = 4 };
#define F                                     tvlm_f8
#define FN(name)                              name##8
#define KEEP(v)                               (void)(v)
#define LOAD_KEYS(k, j, t, i)                 load_kv8(k, ((j) + (t)) * (k).ld + (i))
#define COPIED_AT(j, i, d)                    ((j) * (d) + (i))
#define REPEAT(q)                             tvlm_load8(q)
#define STORE_SUMS(s, acc, rows, vecs, scale) store_sums(s, acc, rows, scale)
#define EACH_ROW_COUNT(X)                     X(1) X(2) X(3) X(4)
#define MOST_VECS(rows)                       ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)
#include "kernels/attention_body.h"

void tvlm_simd128_install_attention(tvlm_kernels *table)
{
    table->attention = attention;
    table->attention_join = attention_join;
}

#endif
