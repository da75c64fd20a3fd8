/* SPDX-License-Identifier: MIT
 * Row kernels, the reference. Reductions run in eight lanes (element i in lane i mod 8) that
 * tvlm_sum8 joins, so that vector tiers can repeat them bit for bit. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

float tvlm_scalar_act(tvlm_act act, float x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return tvlm_gelu1(x);
    case TVLM_ACT_RELU:
        return tvlm_max1(0.0f, x);
    case TVLM_ACT_RELU6:
        return tvlm_min1(6.0f, tvlm_max1(0.0f, x));
    case TVLM_ACT_SIGMOID:
        return tvlm_sigmoid1(x);
    case TVLM_ACT_GELU_TANH:
        return tvlm_gelu_tanh1(x);
    default:
        return x;
    }
}

static void act_scalar(tvlm_act act, float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_scalar_act(act, x[i]);
}

static void axpy_scalar(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_fma1(a, x[i], y[i]);
}

static void silu_mul_scalar(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_silu1(gate[i]) * up[i];
}

static void scale_act_scalar(tvlm_act act, float *y, const float *x, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_scalar_act(act, x[i] * s[i]);
}

/* sum of (x - mean)^2 */
static float sum_squares(const float *x, size_t n, float mean)
{
    float lane[8] = {0};
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - mean;
        lane[i % 8] = tvlm_fma1(d, d, lane[i % 8]);
    }
    return tvlm_sum8(lane);
}

static void rmsnorm_scalar(float *y, const float *x, const float *w, size_t n, float eps)
{
    float inv = 1.0f / sqrtf(sum_squares(x, n, 0.0f) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * inv * w[i];
}

static void layernorm_scalar(float *y, const float *x, const float *w, const float *b, size_t n,
                             float eps)
{
    float lane[8] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % 8] += x[i];
    float mean = tvlm_sum8(lane) / (float)n;
    float inv = 1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - mean) * inv;
        if (w) v *= w[i];
        y[i] = b ? v + b[i] : v;
    }
}

static void rope_scalar(float *x, size_t n_heads, size_t d, const float *cs, bool interleaved)
{
    size_t half = d / 2;
    for (size_t h = 0; h < n_heads; h++, x += d) {
        for (size_t i = 0; i < half; i++) {
            float *first = interleaved ? x + 2 * i : x + i;
            float *second = interleaved ? x + 2 * i + 1 : x + half + i;
            float a = *first, b = *second, c = cs[i], s = cs[half + i];
            *first = tvlm_fma1(a, c, -(b * s));
            *second = tvlm_fma1(b, c, a * s);
        }
    }
}

static void f32_to_f16_scalar(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_f32_to_f16(x[i]);
}

static void quantize_u7_scalar(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * inv_scale + zero;
        v = v > 0.0f ? v : 0.0f; /* a NaN becomes 0 */
        v = v < 127.0f ? v : 127.0f;
        y[i] = (uint8_t)(v + TVLM_ROUND_MAGIC - TVLM_ROUND_MAGIC);
    }
}

static void dequantize_u7_scalar(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(x[i] - zero) * scale;
}

void tvlm_scalar_install_rows(tvlm_kernels *table)
{
    table->act = act_scalar;
    table->axpy = axpy_scalar;
    table->silu_mul = silu_mul_scalar;
    table->scale_act = scale_act_scalar;
    table->rmsnorm = rmsnorm_scalar;
    table->layernorm = layernorm_scalar;
    table->rope = rope_scalar;
    table->f32_to_f16 = f32_to_f16_scalar;
    table->quantize_u7 = quantize_u7_scalar;
    table->dequantize_u7 = dequantize_u7_scalar;
}

void tvlm_kernels_install_scalar(tvlm_kernels *table)
{
    tvlm_scalar_install_rows(table);
    tvlm_scalar_install_attention(table);
    tvlm_scalar_install_spatial(table);
    tvlm_scalar_install_int8(table);
    tvlm_scalar_install_resize(table);
    table->crc32c = tvlm_crc32c;
}
