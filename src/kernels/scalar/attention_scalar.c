/* SPDX-License-Identifier: MIT
 * Attention, the reference: reductions in eight lanes (element i in lane i mod 8). */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"
#include "kernels/pack.h"

static float kv_at(const void *rows, bool f16, size_t at)
{
    return f16 ? tvlm_f16_to_f32(((const uint16_t *)rows)[at]) : ((const float *)rows)[at];
}

static float score(const tvlm_attention_args *args, const float *q, size_t j)
{
    float lane[8] = {0};
    for (size_t i = 0; i < args->d; i++)
        lane[i % 8] = tvlm_fma1(q[i], kv_at(args->k, args->kv_f16, j * args->ldk + i), lane[i % 8]);
    return tvlm_sum8(lane) * args->scale;
}

static float top8(const float lane[8])
{
    float top = lane[0];
    for (size_t t = 1; t < 8; t++)
        top = tvlm_max1(top, lane[t]);
    return top;
}

/* s = 2^(s - top) */
static void exponents(tvlm_attention_row *row, float *s)
{
    float tops[8], lane[8] = {0};
    for (size_t t = 0; t < 8; t++)
        tops[t] = -INFINITY;
    for (size_t j = 0; j < row->n_keys; j++)
        tops[j % 8] = tvlm_max1(tops[j % 8], s[j]);
    row->top = top8(tops);
    for (size_t j = 0; j < row->n_keys; j++) {
        s[j] = tvlm_exp2_1(s[j] - row->top);
        lane[j % 8] += s[j];
    }
    row->sum = tvlm_sum8(lane);
}

static void attend(const tvlm_attention_args *args, tvlm_attention_row *row)
{
    float *s = args->scratch;
    for (size_t j = 0; j < row->n_keys; j++)
        s[j] = score(args, row->q, j);
    exponents(row, s);
    for (size_t i = 0; i < args->d; i++) {
        float acc = 0;
        for (size_t j = 0; j < row->n_keys; j++)
            acc = tvlm_fma1(s[j], kv_at(args->v, args->kv_f16, j * args->ldv + i), acc);
        row->out[i] = acc;
    }
}

static void attention_scalar(const tvlm_attention_args *args)
{
    for (size_t r = 0; r < args->n_rows; r++)
        attend(args, &args->rows[r]);
}

static void attention_join_scalar(tvlm_attention_row *row, const tvlm_attention_row *tile, size_t d)
{
    float top = tvlm_max1(row->top, tile->top);
    float a = tvlm_exp2_1(row->top - top), b = tvlm_exp2_1(tile->top - top);
    row->top = top;
    row->sum = tvlm_fma1(tile->sum, b, row->sum * a);
    for (size_t i = 0; i < d; i++)
        row->out[i] = tvlm_fma1(tile->out[i], b, row->out[i] * a);
}

void tvlm_scalar_install_attention(tvlm_kernels *table)
{
    table->attention = attention_scalar;
    table->attention_join = attention_join_scalar;
}
