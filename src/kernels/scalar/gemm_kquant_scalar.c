/* SPDX-License-Identifier: MIT
 * Linear layers with K-quants in both classes, the reference: pack.h states the arithmetic. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

enum { PARTS = 8, ROWS = 16 }; /* rows of x that share one decoding of the weights */

/* What a class does with one part of weight row r: adds it to the sums of `rows` rows of x, of
 * which it is block b. */
typedef void (*part_fn)(const tvlm_k_layout *layout, const unsigned char *block, size_t p, size_t r,
                        const tvlm_gemm_args *args, size_t m, size_t rows, size_t b, float *acc);

static void part_f32(const tvlm_k_layout *layout, const unsigned char *block, size_t p, size_t r,
                     const tvlm_gemm_args *args, size_t m, size_t rows, size_t b, float *acc)
{
    float w[TVLM_BLOCK];
    tvlm_k_weights(layout, block, p, r, w);
    for (size_t i = 0; i < rows; i++) {
        const float *x = (const float *)tvlm_gemm_row(args, m + i) + b * TVLM_BLOCK;
        for (size_t k = 0; k < TVLM_BLOCK; k++)
            acc[i] = tvlm_fma1(w[k], x[k], acc[i]);
    }
}

/* Sums of products in the halves of a part. */
static void half_sums(const int16_t *code, const int8_t *q, int32_t sum[2])
{
    sum[0] = sum[1] = 0;
    for (size_t k = 0; k < 16; k++) {
        sum[0] += code[k] * q[k];
        sum[1] += code[16 + k] * q[16 + k];
    }
}

static void part_int8(const tvlm_k_layout *layout, const unsigned char *block, size_t p, size_t r,
                      const tvlm_gemm_args *args, size_t m, size_t rows, size_t b, float *acc)
{
    const unsigned char *part = block + layout->part_at + p * layout->part_bytes;
    const unsigned char *scale = block + layout->scale_at + r;
    const float d = tvlm_k_half(block, r);
    int16_t code[TVLM_BLOCK];
    for (size_t k = 0; k < TVLM_BLOCK; k++)
        code[k] = (int16_t)(tvlm_k_code(layout, part, k, r) - (layout->m_at ? 0 : 32));
    for (size_t i = 0; i < rows; i++) {
        const tvlm_input_block *x = (const tvlm_input_block *)tvlm_gemm_row(args, m + i) + b;
        int32_t sum[2];
        half_sums(code, x->q, sum);
        if (layout->m_at) {
            float m1 = tvlm_k_half(block, TVLM_GEMM_NR + r) *
                       (float)block[layout->m_at + p * TVLM_GEMM_NR + r];
            acc[i] = tvlm_fma1(d * (float)scale[p * TVLM_GEMM_NR], (float)(sum[0] + sum[1]) * x->d,
                               acc[i]);
            acc[i] = tvlm_fma1(m1, -((float)x->sum * x->d), acc[i]);
        } else {
            int32_t total = (int8_t)scale[2 * p * TVLM_GEMM_NR] * sum[0] +
                            (int8_t)scale[(2 * p + 1) * TVLM_GEMM_NR] * sum[1];
            acc[i] = tvlm_fma1(d, (float)total * x->d, acc[i]);
        }
    }
}

static void run(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1,
                tvlm_type type, part_fn part)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = args->k / (PARTS * TVLM_BLOCK);
    for (size_t n = n0; n < n1; n++) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * n_blocks * layout.bytes;
        for (size_t m = m0; m < m1; m += ROWS) {
            size_t rows = m1 - m < ROWS ? m1 - m : ROWS;
            float acc[ROWS] = {0};
            for (size_t b = 0; b < n_blocks * PARTS; b++)
                part(&layout, panel + b / PARTS * layout.bytes, b % PARTS, n % TVLM_GEMM_NR, args,
                     m, rows, b, acc);
            for (size_t i = 0; i < rows; i++)
                tvlm_scalar_epilogue(args, m + i, n, acc[i]);
        }
    }
}

#define RUN(id, TYPE, class)                                                                       \
    static void gemm_##id##_##class(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,   \
                                    size_t n1)                                                     \
    {                                                                                              \
        run(args, m0, m1, n0, n1, TVLM_TYPE_##TYPE, part_##class);                                 \
    }
RUN(q4_k, Q4_K, f32)
RUN(q5_k, Q5_K, f32)
RUN(q6_k, Q6_K, f32)
RUN(q4_k, Q4_K, int8)
RUN(q5_k, Q5_K, int8)
RUN(q6_k, Q6_K, int8)

#define KERNEL(id, TYPE, class, CLASS, input)                                                      \
    {"scalar " #id " " #class, 0,     TVLM_TYPE_##TYPE,   TVLM_NUMERIC_##CLASS,                    \
     &tvlm_layout_k,           input, gemm_##id##_##class}
static const tvlm_gemm kernels[] = {KERNEL(q4_k, Q4_K, f32, F32, NULL),
                                    KERNEL(q5_k, Q5_K, f32, F32, NULL),
                                    KERNEL(q6_k, Q6_K, f32, F32, NULL),
                                    KERNEL(q4_k, Q4_K, int8, INT8, &tvlm_input_int8),
                                    KERNEL(q5_k, Q5_K, int8, INT8, &tvlm_input_int8),
                                    KERNEL(q6_k, Q6_K, int8, INT8, &tvlm_input_int8)};
const tvlm_gemm_tier tvlm_gemm_scalar_k = {kernels, TVLM_COUNT(kernels)};
