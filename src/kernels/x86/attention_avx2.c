/* SPDX-License-Identifier: MIT
 * Attention of one query row on AVX2: eight keys a step for the scores, whole rows of v in
 * registers (64 values at a time) for the output. The order of every sum is the scalar tier's. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

TVLM_INLINE __m256 load_kv8(const void *rows, bool f16, size_t at)
{
    if (f16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)rows + at)));
    return _mm256_loadu_ps((const float *)rows + at);
}

/* Lane j of the result is tvlm_sum8 of v[j]. */
TVLM_INLINE __m256 sum_each8(const __m256 v[8])
{
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    __m256 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    return _mm256_add_ps(low, high);
}

/* scores[j] for all keys; returns their maximum. */
TVLM_INLINE float scores(const tvlm_attention_args *args, bool f16)
{
    const __m256 scale = _mm256_set1_ps(args->scale);
    __m256 tops = _mm256_set1_ps(-INFINITY);
    size_t j = 0;
    for (; j + 8 <= args->n_keys; j += 8) {
        __m256 lanes[8];
        TVLM_UNROLL
        for (size_t t = 0; t < 8; t++)
            lanes[t] = _mm256_setzero_ps();
        for (size_t i = 0; i < args->d; i += 8) {
            __m256 q = _mm256_loadu_ps(args->q + i);
            TVLM_UNROLL
            for (size_t t = 0; t < 8; t++)
                lanes[t] =
                    _mm256_fmadd_ps(q, load_kv8(args->k, f16, (j + t) * args->ldk + i), lanes[t]);
        }
        __m256 s = _mm256_mul_ps(sum_each8(lanes), scale);
        tops = _mm256_max_ps(tops, s);
        _mm256_storeu_ps(args->scores + j, s);
    }
    float lane[8], top;
    _mm256_storeu_ps(lane, tops);
    top = lane[0];
    for (size_t t = 1; t < 8; t++)
        top = tvlm_max1(top, lane[t]);
    for (; j < args->n_keys; j++) {
        __m256 sum = _mm256_setzero_ps();
        for (size_t i = 0; i < args->d; i += 8)
            sum = _mm256_fmadd_ps(_mm256_loadu_ps(args->q + i),
                                  load_kv8(args->k, f16, j * args->ldk + i), sum);
        args->scores[j] = tvlm_hsum8(sum) * args->scale;
        top = tvlm_max1(top, args->scores[j]);
    }
    return top;
}

/* scores = exp(scores - top); returns 1 / their sum. */
static float softmax(float *s, size_t n, float top)
{
    const __m256 shift = _mm256_set1_ps(top);
    __m256 lane = _mm256_setzero_ps();
    for (size_t j = 0; j < n; j += 8) {
        __m256i mask = tvlm_mask8(n - j);
        __m256 e = tvlm_exp8(_mm256_sub_ps(_mm256_maskload_ps(s + j, mask), shift));
        e = _mm256_and_ps(e, _mm256_castsi256_ps(mask));
        _mm256_maskstore_ps(s + j, mask, e);
        lane = _mm256_add_ps(lane, e);
    }
    return 1.0f / tvlm_hsum8(lane);
}

/* out[i .. i + 8 * regs] = inv * sum_j scores[j] v[j] */
TVLM_INLINE void weighted(const tvlm_attention_args *args, bool f16, size_t i, const size_t regs,
                          float inv)
{
    __m256 acc[8];
    TVLM_UNROLL
    for (size_t t = 0; t < regs; t++)
        acc[t] = _mm256_setzero_ps();
    for (size_t j = 0; j < args->n_keys; j++) {
        __m256 p = _mm256_broadcast_ss(args->scores + j);
        TVLM_UNROLL
        for (size_t t = 0; t < regs; t++)
            acc[t] = _mm256_fmadd_ps(p, load_kv8(args->v, f16, j * args->ldv + i + 8 * t), acc[t]);
    }
    TVLM_UNROLL
    for (size_t t = 0; t < regs; t++)
        _mm256_storeu_ps(args->out + i + 8 * t, _mm256_mul_ps(acc[t], _mm256_set1_ps(inv)));
}

TVLM_INLINE void attention_kv(const tvlm_attention_args *args, bool f16)
{
    float inv = softmax(args->scores, args->n_keys, scores(args, f16));
    size_t i = 0;
    for (; i + 64 <= args->d; i += 64)
        weighted(args, f16, i, 8, inv);
    for (; i + 32 <= args->d; i += 32)
        weighted(args, f16, i, 4, inv);
    for (; i < args->d; i += 8)
        weighted(args, f16, i, 1, inv);
}

static void attention_avx2(const tvlm_attention_args *args)
{
    if (args->kv_f16)
        attention_kv(args, true);
    else
        attention_kv(args, false);
}

void tvlm_avx2_install_attention(tvlm_kernels *table)
{
    table->attention = attention_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
