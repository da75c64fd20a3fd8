/* SPDX-License-Identifier: MIT
 * Attention and depthwise convolution, the reference. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

static float kv_at(const void *rows, bool f16, size_t at)
{
    return f16 ? tvlm_f16_to_f32(((const uint16_t *)rows)[at]) : ((const float *)rows)[at];
}

/* Scores (eight lanes over d), their maximum, exp in eight lanes over the keys, then each output
 * as one fma chain over the keys. */
static void attention_scalar(const tvlm_attention_args *args)
{
    float top = -INFINITY;
    for (size_t j = 0; j < args->n_keys; j++) {
        float lane[8] = {0};
        for (size_t i = 0; i < args->d; i++)
            lane[i % 8] =
                tvlm_fma1(args->q[i], kv_at(args->k, args->kv_f16, j * args->ldk + i), lane[i % 8]);
        args->scores[j] = tvlm_sum8(lane) * args->scale;
        top = tvlm_max1(top, args->scores[j]);
    }
    float lane[8] = {0};
    for (size_t j = 0; j < args->n_keys; j++) {
        args->scores[j] = tvlm_exp1(args->scores[j] - top);
        lane[j % 8] += args->scores[j];
    }
    float inv = 1.0f / tvlm_sum8(lane);
    for (size_t i = 0; i < args->d; i++) {
        float acc = 0;
        for (size_t j = 0; j < args->n_keys; j++)
            acc = tvlm_fma1(args->scores[j], kv_at(args->v, args->kv_f16, j * args->ldv + i), acc);
        args->out[i] = acc * inv;
    }
}

/* The chain of an output starts at its bias and visits the taps inside the image row by row. */
static void dwconv_scalar(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    size_t channels = args->c * args->mult;
    for (size_t oy = oy0; oy < oy1; oy++)
        for (size_t ox = 0; ox < args->ow; ox++)
            for (size_t o = 0; o < channels; o++) {
                float acc = args->bias ? args->bias[o] : 0.0f;
                for (size_t i = 0; i < args->k; i++)
                    for (size_t j = 0; j < args->k; j++) {
                        size_t iy = oy * args->stride + i - args->pad_top;  /* wraps above 0: */
                        size_t ix = ox * args->stride + j - args->pad_left; /* then >= h or w */
                        if (iy >= args->h || ix >= args->w) continue;
                        acc = tvlm_fma1(args->x[(iy * args->w + ix) * args->c + o / args->mult],
                                        args->weight[(i * args->k + j) * channels + o], acc);
                    }
                args->y[(oy * args->ow + ox) * channels + o] = tvlm_scalar_act(args->act, acc);
            }
}

void tvlm_scalar_install_spatial(tvlm_kernels *table)
{
    table->attention = attention_scalar;
    table->dwconv = dwconv_scalar;
}
