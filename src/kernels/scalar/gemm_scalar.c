/* SPDX-License-Identifier: MIT
 * Linear layers, the reference: pack.h states the arithmetic, these functions spell it out. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

void tvlm_scalar_epilogue(const tvlm_gemm_args *args, size_t m, size_t n, float acc)
{
    if (args->bias) acc += args->bias[n];
    acc = tvlm_scalar_act(args->act, acc) * args->scale;
    if (args->residual) acc += args->residual[m * args->ldr + n];
    args->y[m * args->ldy + n] = acc;
}

static float weight_f32(const void *w, size_t at)
{
    return ((const float *)w)[at];
}

static float weight_f16(const void *w, size_t at)
{
    return tvlm_f16_to_f32(((const uint16_t *)w)[at]);
}

static float weight_bf16(const void *w, size_t at)
{
    return tvlm_bf16_to_f32(((const uint16_t *)w)[at]);
}

static void gemm_float(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1,
                       float (*weight)(const void *w, size_t at))
{
    for (size_t n = n0; n < n1; n++) {
        size_t first = n / TVLM_GEMM_NR * TVLM_GEMM_NR * args->k + n % TVLM_GEMM_NR;
        for (size_t m = m0; m < m1; m++) {
            const float *x = tvlm_gemm_row(args, m);
            float acc = 0;
            for (size_t k = 0; k < args->k; k++)
                acc = tvlm_fma1(weight(args->w, first + k * TVLM_GEMM_NR), x[k], acc);
            tvlm_scalar_epilogue(args, m, n, acc);
        }
    }
}

static void gemm_f32_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_float(args, m0, m1, n0, n1, weight_f32);
}

static void gemm_f16_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_float(args, m0, m1, n0, n1, weight_f16);
}

static void gemm_bf16_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_float(args, m0, m1, n0, n1, weight_bf16);
}

static float block_x_sum(const float *x)
{
    float lane[8];
    for (size_t i = 0; i < 8; i++)
        lane[i] = (x[i] + x[i + 8]) + (x[i + 16] + x[i + 24]);
    return tvlm_sum8(lane);
}

/* Adds one block of row r to the outputs' accumulator. The codes are decoded once per block and
 * used for every row of x by the caller's loop order. */
static float block_step(const tvlm_block_layout *layout, const unsigned char *block,
                        const float *code, size_t r, const float *x, float acc)
{
    float sum = 0;
    for (size_t k = 0; k < TVLM_BLOCK; k++)
        sum = tvlm_fma1(code[k], x[k], sum);
    acc = tvlm_fma1(tvlm_f16_to_f32(((const uint16_t *)(const void *)block)[r]), sum, acc);
    if (layout->m_at) {
        const uint16_t *m = (const uint16_t *)(const void *)(block + layout->m_at);
        acc = tvlm_fma1(tvlm_f16_to_f32(m[r]), block_x_sum(x), acc);
    }
    return acc;
}

static void gemm_block(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1,
                       tvlm_type type)
{
    enum { ROWS = 16 }; /* rows of x that share one decoding of the weights */
    tvlm_block_layout layout = tvlm_block_layout_of(type);
    size_t n_blocks = args->k / TVLM_BLOCK;
    for (size_t n = n0; n < n1; n++) {
        size_t r = n % TVLM_GEMM_NR;
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * n_blocks * layout.bytes;
        for (size_t m = m0; m < m1; m += ROWS) {
            size_t rows = m1 - m < ROWS ? m1 - m : ROWS;
            float acc[ROWS] = {0};
            for (size_t b = 0; b < n_blocks; b++) {
                const unsigned char *block = panel + b * layout.bytes;
                float code[TVLM_BLOCK];
                for (size_t k = 0; k < TVLM_BLOCK; k++)
                    code[k] = (float)tvlm_block_code(&layout, block, k, r);
                for (size_t i = 0; i < rows; i++)
                    acc[i] = block_step(&layout, block, code, r,
                                        (const float *)tvlm_gemm_row(args, m + i) + b * TVLM_BLOCK,
                                        acc[i]);
            }
            for (size_t i = 0; i < rows; i++)
                tvlm_scalar_epilogue(args, m + i, n, acc[i]);
        }
    }
}

static void gemm_q8_0_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_block(args, m0, m1, n0, n1, TVLM_TYPE_Q8_0);
}

static void gemm_q4_0_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_block(args, m0, m1, n0, n1, TVLM_TYPE_Q4_0);
}

static void gemm_q4_1_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_block(args, m0, m1, n0, n1, TVLM_TYPE_Q4_1);
}

static void gemm_q5_0_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_block(args, m0, m1, n0, n1, TVLM_TYPE_Q5_0);
}

static void gemm_q5_1_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    gemm_block(args, m0, m1, n0, n1, TVLM_TYPE_Q5_1);
}

#define KERNEL(id, TYPE)                                                                           \
    {"scalar " #id " f32", 0,    TVLM_TYPE_##TYPE,  TVLM_NUMERIC_F32,                              \
     &tvlm_layout_f32,     NULL, gemm_##id##_scalar}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32),   KERNEL(f16, F16),   KERNEL(bf16, BF16),
                                    KERNEL(q8_0, Q8_0), KERNEL(q4_0, Q4_0), KERNEL(q4_1, Q4_1),
                                    KERNEL(q5_0, Q5_0), KERNEL(q5_1, Q5_1)};
const tvlm_gemm_tier tvlm_gemm_scalar = {kernels, TVLM_COUNT(kernels)};
