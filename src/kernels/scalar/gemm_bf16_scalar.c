/* SPDX-License-Identifier: MIT
 * The bf16 classes of linear layers, the reference: pack.h states the arithmetic. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

static size_t input_bytes(size_t k)
{
    return (k + 1) / 2 * 4;
}

static void pack_input(void *packed, const float *x, size_t k)
{
    uint16_t *out = packed;
    if (k % 2) out[k] = 0;
    for (size_t i = 0; i < k; i++)
        out[i] = tvlm_bf16_flushed(x[i]);
}

const tvlm_gemm_input tvlm_input_bf16 = {input_bytes, pack_input};

/* One multiplication and addition with one rounding; a subnormal result is zero of its sign. */
static float step(uint16_t w, uint16_t x, float acc)
{
    acc = tvlm_fma1(tvlm_bf16_to_f32(w), tvlm_bf16_to_f32(x), acc);
    return fabsf(acc) < 0x1p-126f ? copysignf(0.0f, acc) : acc;
}

static void gemm_bf16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    const size_t steps = (args->k + 1) / 2;
    for (size_t n = n0; n < n1; n++) {
        const uint16_t *w = (const uint16_t *)args->w +
                            2 * (n / TVLM_GEMM_NR * TVLM_GEMM_NR * steps + n % TVLM_GEMM_NR);
        for (size_t m = m0; m < m1; m++) {
            const uint16_t *x = tvlm_gemm_row(args, m);
            float acc = 0;
            for (size_t i = 0; i < steps; i++) {
                const uint16_t *two = w + 2 * i * TVLM_GEMM_NR;
                acc = step(two[1], x[2 * i + 1], acc);
                acc = step(two[0], x[2 * i], acc);
            }
            tvlm_scalar_epilogue(args, m, n, acc);
        }
    }
}

/* ---- the odd class ---- */

static size_t input_bytes_odd(size_t k)
{
    return (k + 3) / 4 * 8;
}

static void pack_input_odd(void *packed, const float *x, size_t k)
{
    memset(packed, 0, input_bytes_odd(k));
    for (size_t i = 0; i < k; i++)
        ((uint16_t *)packed)[i] = tvlm_bf16_flushed(x[i]);
}

const tvlm_gemm_input tvlm_input_bf16_odd = {input_bytes_odd, pack_input_odd};

static float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

/* a + b by doubles, whose own rounding error (Knuth's two-sum) tells what is lost. */
static float add_odd(float a, float b)
{
    double x = (double)a, y = (double)b, sum = x + y, back = sum - x;
    double lost = (x - (sum - back)) + (y - back);
    uint64_t bits;
    if (!isfinite(sum)) return (float)sum;
    memcpy(&bits, &sum, sizeof bits);
    if (lost != 0 && bits % 2 == 0) bits = (lost > 0) == (sum > 0) ? bits + 1 : bits - 1;
    const uint64_t unit = (uint64_t)1 << 29; /* last bit of a float */
    if (bits % unit) bits = bits / unit * unit | unit;
    memcpy(&sum, &bits, sizeof sum);
    return flush((float)sum);
}

/* The product of two bfloat16 is a float. */
static float product(uint16_t w, uint16_t x)
{
    return flush(tvlm_bf16_to_f32(w) * tvlm_bf16_to_f32(x));
}

static float odd_output(const uint16_t *w, const uint16_t *x, size_t k)
{
    float acc = 0;
    for (size_t i = 0; i < (k + 3) / 4 * 4; i += 2) {
        const uint16_t *two = w + i / 4 * 4 * TVLM_GEMM_NR + i % 4;
        acc = add_odd(acc, add_odd(product(two[0], x[i]), product(two[1], x[i + 1])));
    }
    return acc;
}

static void gemm_bf16_odd(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    const size_t depth = (args->k + 3) / 4 * 4;
    for (size_t n = n0; n < n1; n++) {
        const size_t r = n % TVLM_GEMM_NR;
        const uint16_t *w = (const uint16_t *)args->w + (n - r) * depth + 4 * r;
        for (size_t m = m0; m < m1; m++)
            tvlm_scalar_epilogue(args, m, n, odd_output(w, tvlm_gemm_row(args, m), args->k));
    }
}

#define KERNEL(id, TYPE)                                                                           \
    {"scalar " #id " bf16", 0,        TVLM_TYPE_##TYPE, TVLM_NUMERIC_BF16, &tvlm_layout_bf16,      \
     &tvlm_input_bf16,      gemm_bf16}
#define KERNEL_ODD(id, TYPE)                                                                       \
    {"scalar " #id " bf16 odd",                                                                    \
     0,                                                                                            \
     TVLM_TYPE_##TYPE,                                                                             \
     TVLM_NUMERIC_BF16_ODD,                                                                        \
     &tvlm_layout_bf16_odd,                                                                        \
     &tvlm_input_bf16_odd,                                                                         \
     gemm_bf16_odd}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32),     KERNEL(f16, F16),
                                    KERNEL(bf16, BF16),   KERNEL_ODD(f32, F32),
                                    KERNEL_ODD(f16, F16), KERNEL_ODD(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_scalar_bf16 = {kernels, TVLM_COUNT(kernels)};
