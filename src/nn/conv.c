/* SPDX-License-Identifier: MIT
 * Convolutions over tiles of output rows. */
#include "nn/nn.h"
#include "nn/window.h"

#include <assert.h>

/* Depthwise outputs of one task: enough to outweigh handing it out, few enough to balance. */
enum { DW_TILE_OUTPUTS = 16384 };

size_t tvlm_nn_conv_out(size_t in, unsigned k, unsigned stride, bool same_tf)
{
    if (same_tf) return (in + stride - 1) / stride;
    return (in + 2 * (k / 2) - k) / stride + 1;
}

unsigned tvlm_nn_conv_pad(size_t in, unsigned k, unsigned stride, bool same_tf)
{
    if (!same_tf) return k / 2;
    /* TensorFlow SAME: the total that makes ceil(in / stride) outputs, the odd pixel after. */
    size_t span = (tvlm_nn_conv_out(in, k, stride, true) - 1) * stride + k;
    return span > in ? (unsigned)((span - in) / 2) : 0;
}

size_t tvlm_nn_dw_rows(size_t ow, size_t c)
{
    size_t rows = DW_TILE_OUTPUTS / (ow * c);
    return rows ? rows : 1;
}

typedef struct dw_job {
    void (*run)(const tvlm_dwconv_args *args, size_t oy0, size_t oy1);
    tvlm_dwconv_args args;
    size_t rows;
} dw_job;

static void dw_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const dw_job *job = ctx;
    size_t oy0 = task * job->rows, oy1 = oy0 + job->rows;
    job->run(&job->args, oy0, oy1 < job->args.oh ? oy1 : job->args.oh);
}

void tvlm_nn_dwconv(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, bool same_tf, tvlm_act act,
                    tvlm_fmap x, tvlm_fmap y)
{
    assert(y.h == tvlm_nn_conv_out(x.h, d->k, stride, same_tf) && y.c == d->c_out &&
           y.w == tvlm_nn_conv_out(x.w, d->k, stride, same_tf) && d->c_out % x.c == 0);
    if (!tvlm_nn_live(cx)) return;
    dw_job job = {.run = cx->kernels->dwconv, .rows = tvlm_nn_dw_rows(y.w, y.c)};
    job.args = (tvlm_dwconv_args){.x = x.data,
                                  .h = x.h,
                                  .w = x.w,
                                  .c = x.c,
                                  .weight = d->weight,
                                  .bias = d->bias,
                                  .y = y.data,
                                  .oh = y.h,
                                  .ow = y.w,
                                  .k = d->k,
                                  .stride = stride,
                                  .mult = (unsigned)(d->c_out / x.c),
                                  .act = act};
    job.args.pad_top = tvlm_nn_conv_pad(x.h, d->k, stride, same_tf);
    job.args.pad_left = tvlm_nn_conv_pad(x.w, d->k, stride, same_tf);
    tvlm_nn_run(cx, (y.h + job.rows - 1) / job.rows, dw_tile, &job);
}

typedef struct conv_job {
    const tvlm_conv *conv;
    tvlm_act act;
    tvlm_fmap x, y;
    tvlm_window window;
    unsigned char *columns; /* per thread [ow][k*k*c_in] */
    size_t stride;
} conv_job;

static void conv_row(void *ctx, size_t oy, unsigned thread)
{
    const conv_job *job = ctx;
    const tvlm_linear *l = &job->conv->linear;
    const float zero = 0.0f;
    float *columns = (float *)(void *)(job->columns + thread * job->stride);
    tvlm_window_row(&job->window, job->x.data, &zero, sizeof zero, oy, columns);
    tvlm_gemm_args args = {.x = columns,
                           .ldx = l->k * sizeof(float),
                           .w = l->weight,
                           .bias = l->bias,
                           .y = job->y.data + oy * job->y.w * l->n,
                           .ldy = l->n,
                           .scale = 1.0f,
                           .act = job->act,
                           .n = l->n,
                           .k = l->k};
    l->gemm->run(&args, 0, job->y.w, 0, l->n);
}

void tvlm_nn_conv(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, bool same_tf, tvlm_act act,
                  tvlm_fmap x, tvlm_fmap y)
{
    assert(y.h == tvlm_nn_conv_out(x.h, c->k, stride, same_tf) && y.c == c->linear.n &&
           y.w == tvlm_nn_conv_out(x.w, c->k, stride, same_tf) && x.c == c->c_in &&
           c->linear.k == c->k * c->k * c->c_in);
    size_t mark = tvlm_arena_mark(cx->arena);
    conv_job job = {.conv = c, .act = act, .x = x, .y = y};
    job.window = (tvlm_window){.h = x.h,
                               .w = x.w,
                               .c = x.c,
                               .ow = y.w,
                               .k = c->k,
                               .stride = stride,
                               .pad_top = tvlm_nn_conv_pad(x.h, c->k, stride, same_tf),
                               .pad_left = tvlm_nn_conv_pad(x.w, c->k, stride, same_tf)};
    job.columns = tvlm_nn_slices(cx, y.w * c->linear.k, sizeof(float), &job.stride);
    tvlm_nn_run(cx, y.h, conv_row, &job);
    tvlm_arena_release(cx->arena, mark);
}
