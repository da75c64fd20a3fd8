/* SPDX-License-Identifier: MIT
 * Attention of one query row on WebAssembly SIMD: four keys a step for the scores, 32 values of v
 * in registers for the output. The order of every sum is the scalar tier's. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

enum { KEYS = 4 };

TVLM_INLINE v128_t load_kv4(const void *rows, bool f16, size_t at)
{
    return f16 ? tvlm_load_half4((const uint16_t *)rows + at)
               : wasm_v128_load((const float *)rows + at);
}

TVLM_INLINE void score(const tvlm_attention_args *args, bool f16, size_t j, const size_t keys)
{
    v128_t low[KEYS], high[KEYS];
    TVLM_UNROLL
    for (size_t t = 0; t < keys; t++)
        low[t] = high[t] = wasm_f32x4_splat(0.0f);
    for (size_t i = 0; i < args->d; i += 8) {
        v128_t q0 = wasm_v128_load(args->q + i), q1 = wasm_v128_load(args->q + i + 4);
        TVLM_UNROLL
        for (size_t t = 0; t < keys; t++) {
            size_t at = (j + t) * args->ldk + i;
            low[t] = TVLM_MADD(q0, load_kv4(args->k, f16, at), low[t]);
            high[t] = TVLM_MADD(q1, load_kv4(args->k, f16, at + 4), high[t]);
        }
    }
    TVLM_UNROLL
    for (size_t t = 0; t < keys; t++)
        args->scores[j + t] = tvlm_hsum8(low[t], high[t]) * args->scale;
}

/* scores = exp(scores - their maximum); returns 1 / their sum. */
static float softmax(float *s, size_t n)
{
    float top = -INFINITY;
    for (size_t j = 0; j < n; j++)
        top = tvlm_max1(top, s[j]);
    v128_t shift = wasm_f32x4_splat(top);
    v128_t lane[2] = {wasm_f32x4_splat(0.0f), wasm_f32x4_splat(0.0f)};
    for (size_t j = 0; j < n; j += 4) {
        v128_t e = tvlm_exp4(wasm_f32x4_sub(tvlm_load4(s + j, n - j), shift));
        tvlm_store4(s + j, n - j, e);
        if (n - j < 4) e = tvlm_load4(s + j, n - j); /* the lanes beyond are 0 */
        lane[j / 4 % 2] = wasm_f32x4_add(lane[j / 4 % 2], e);
    }
    return 1.0f / tvlm_hsum8(lane[0], lane[1]);
}

/* out[i .. i + 4 * regs] = inv * sum_j scores[j] v[j] */
TVLM_INLINE void weighted(const tvlm_attention_args *args, bool f16, size_t i, const size_t regs,
                          float inv)
{
    v128_t acc[8];
    TVLM_UNROLL
    for (size_t t = 0; t < regs; t++)
        acc[t] = wasm_f32x4_splat(0.0f);
    for (size_t j = 0; j < args->n_keys; j++) {
        v128_t p = wasm_v128_load32_splat(args->scores + j);
        TVLM_UNROLL
        for (size_t t = 0; t < regs; t++)
            acc[t] = TVLM_MADD(p, load_kv4(args->v, f16, j * args->ldv + i + 4 * t), acc[t]);
    }
    TVLM_UNROLL
    for (size_t t = 0; t < regs; t++)
        wasm_v128_store(args->out + i + 4 * t, wasm_f32x4_mul(acc[t], wasm_f32x4_splat(inv)));
}

TVLM_INLINE void attention_kv(const tvlm_attention_args *args, bool f16)
{
    size_t j = 0, i = 0;
    for (; j + KEYS <= args->n_keys; j += KEYS)
        score(args, f16, j, KEYS);
    for (; j < args->n_keys; j++)
        score(args, f16, j, 1);
    float inv = softmax(args->scores, args->n_keys);
    for (; i + 32 <= args->d; i += 32)
        weighted(args, f16, i, 8, inv);
    for (; i < args->d; i += 8)
        weighted(args, f16, i, 2, inv);
}

static void attention_simd128(const tvlm_attention_args *args)
{
    if (args->kv_f16)
        attention_kv(args, true);
    else
        attention_kv(args, false);
}

void tvlm_simd128_install_attention(tvlm_kernels *table)
{
    table->attention = attention_simd128;
}

#endif
