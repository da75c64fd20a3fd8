/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers, the reference: pack.h states the arithmetic. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(tvlm_input_block);
}

static void pack_input_block(tvlm_input_block *out, const float *x)
{
    float most = tvlm_largest(x, TVLM_BLOCK);
    *out = (tvlm_input_block){.d = most < INFINITY ? 0.0f : NAN};
    if (!(most >= TVLM_INPUT_LEAST && most < INFINITY)) return;
    out->d = most / 127.0f;
    float inverse = 127.0f / most;
    for (size_t i = 0; i < TVLM_BLOCK; i++) {
        out->q[i] = (int8_t)(x[i] * inverse + TVLM_ROUND_MAGIC - TVLM_ROUND_MAGIC);
        out->sum += out->q[i];
    }
}

static void pack_input(void *packed, const float *x, size_t k)
{
    tvlm_input_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++)
        pack_input_block(&out[b], x + b * TVLM_BLOCK);
}

const tvlm_gemm_input tvlm_input_int8 = {input_bytes, pack_input};

static float half_at(const unsigned char *p, size_t r)
{
    return tvlm_f16_to_f32(((const uint16_t *)(const void *)p)[r]);
}

static float block_step(const tvlm_block_layout *layout, const unsigned char *block, size_t r,
                        const tvlm_input_block *x, float acc)
{
    int32_t total = -layout->offset * x->sum;
    for (size_t k = 0; k < TVLM_BLOCK; k++)
        total += tvlm_block_code_int8(layout, block, k, r) * x->q[k];
    acc = tvlm_fma1(half_at(block, r), (float)total * x->d, acc);
    if (layout->m_at) acc = tvlm_fma1(half_at(block + layout->m_at, r), (float)x->sum * x->d, acc);
    return acc;
}

static void gemm_int8(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1,
                      tvlm_type type)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t n_blocks = args->k / TVLM_BLOCK;
    for (size_t n = n0; n < n1; n++) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * n_blocks * layout.bytes;
        for (size_t m = m0; m < m1; m++) {
            const tvlm_input_block *x = tvlm_gemm_row(args, m);
            float acc = 0;
            for (size_t b = 0; b < n_blocks; b++)
                acc = block_step(&layout, panel + b * layout.bytes, n % TVLM_GEMM_NR, &x[b], acc);
            tvlm_scalar_epilogue(args, m, n, acc);
        }
    }
}

#define RUN(id, TYPE)                                                                              \
    static void gemm_##id##_int8_scalar(const tvlm_gemm_args *args, size_t m0, size_t m1,          \
                                        size_t n0, size_t n1)                                      \
    {                                                                                              \
        gemm_int8(args, m0, m1, n0, n1, TVLM_TYPE_##TYPE);                                         \
    }
RUN(q8_0, Q8_0)
RUN(q4_0, Q4_0)
RUN(q4_1, Q4_1)
RUN(q5_0, Q5_0)
RUN(q5_1, Q5_1)

#define KERNEL(id, TYPE, as)                                                                       \
    {"scalar " #id " int8",  0,                                                                    \
     TVLM_TYPE_##TYPE,       TVLM_NUMERIC_INT8,                                                    \
     &tvlm_layout_int8,      &tvlm_input_int8,                                                     \
     gemm_##as##_int8_scalar}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32, q8_0),   KERNEL(f16, F16, q8_0),
                                    KERNEL(bf16, BF16, q8_0), KERNEL(q8_0, Q8_0, q8_0),
                                    KERNEL(q4_0, Q4_0, q4_0), KERNEL(q4_1, Q4_1, q4_1),
                                    KERNEL(q5_0, Q5_0, q5_0), KERNEL(q5_1, Q5_1, q5_1)};
const tvlm_gemm_tier tvlm_gemm_scalar_int8 = {kernels, TVLM_COUNT(kernels)};
