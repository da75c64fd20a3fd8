/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers, the reference: pack.h states the arithmetic. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

/* The norm of n values times the factor. */
static float norm_of(const float *v, size_t n, float factor)
{
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++) {
        float u = v[i] * factor;
        lane[i % 16] += u * u;
    }
    for (size_t j = 0; j < 8; j++)
        lane[j] += lane[j + 8];
    return sqrtf(tvlm_sum8(lane));
}

static float quantize(int16_t *q, const float *v, size_t n)
{
    memset(q, 0, n * sizeof *q);
    float most = tvlm_largest(v, n);
    if (!(most < INFINITY)) return NAN;
    if (most < TVLM_WORDS_LEAST) return 0;
    float inverse = 1.0f / most, scale = TVLM_WORDS_NORM / norm_of(v, n, inverse);
    scale = scale < TVLM_WORDS_MOST ? scale : TVLM_WORDS_MOST;
    for (size_t i = 0; i < n; i++)
        q[i] = (int16_t)(v[i] * (inverse * scale) + TVLM_ROUND_MAGIC - TVLM_ROUND_MAGIC);
    return most / scale;
}

static void pack_input(void *packed, const float *x, size_t k)
{
    unsigned char *block = packed;
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        size_t n = tvlm_words_at(k, k0);
        int16_t *q = (int16_t *)(void *)(block + sizeof(float));
        if (n % 2) q[n] = 0;
        *(float *)(void *)block = quantize(q, x + k0, n);
        block += tvlm_words_bytes(n);
    }
}

const tvlm_gemm_input tvlm_input_int16 = {tvlm_words_bytes, pack_input};

/* A block of x times row r of a block of weights. */
static int32_t total_of(const unsigned char *x, const unsigned char *w, size_t r, size_t n)
{
    const int16_t *q = (const int16_t *)(const void *)(x + sizeof(float));
    const int16_t *code = (const int16_t *)(const void *)(w + TVLM_GEMM_NR * sizeof(float));
    int32_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += code[(i / 2 * TVLM_GEMM_NR + r) * 2 + i % 2] * q[i];
    return total;
}

static float sum_of(const unsigned char *x, const unsigned char *w, size_t r, size_t k)
{
    float acc = 0;
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        size_t n = tvlm_words_at(k, k0);
        float total = (float)total_of(x, w, r, n);
        acc = tvlm_fma1(((const float *)(const void *)w)[r],
                        total * *(const float *)(const void *)x, acc);
        x += tvlm_words_bytes(n);
        w += TVLM_GEMM_NR * tvlm_words_bytes(n);
    }
    return acc;
}

static void gemm_int16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n++) {
        const unsigned char *panel =
            (const unsigned char *)args->w + (n - n % TVLM_GEMM_NR) * tvlm_words_bytes(args->k);
        for (size_t m = m0; m < m1; m++)
            tvlm_scalar_epilogue(args, m, n,
                                 sum_of(tvlm_gemm_row(args, m), panel, n % TVLM_GEMM_NR, args->k));
    }
}

#define KERNEL(id, TYPE)                                                                           \
    {"scalar " #id " int16", 0,         TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT16, &tvlm_layout_int16,  \
     &tvlm_input_int16,      gemm_int16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_scalar_int16 = {kernels, TVLM_COUNT(kernels)};
