/* SPDX-License-Identifier: MIT
 * Convolutions over tiles of output rows. */
#include "nn/conv.h"

#include <assert.h>

/* Depthwise outputs of one task: enough to outweigh handing it out, few enough to balance. */
enum { DW_TILE_F32 = 16384, DW_TILE_U7 = 32768 };

size_t tvlm_nn_conv_out(size_t in, unsigned k, unsigned stride, tvlm_pad pad)
{
    if (pad == TVLM_PAD_SAME) return (in + stride - 1) / stride;
    return (in + 2 * (k / 2) - k) / stride + 1;
}

unsigned tvlm_nn_conv_pad(size_t in, unsigned k, unsigned stride, tvlm_pad pad)
{
    if (pad == TVLM_PAD_EVEN) return k / 2;
    size_t span = (tvlm_nn_conv_out(in, k, stride, pad) - 1) * stride + k;
    return span > in ? (unsigned)((span - in) / 2) : 0;
}

/* ---- depthwise ---- */

tvlm_map tvlm_nn_dwconv_map(const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_map x)
{
    return (tvlm_map){.h = tvlm_nn_conv_out(x.h, d->k, stride, pad),
                      .w = tvlm_nn_conv_out(x.w, d->k, stride, pad),
                      .c = d->c_out,
                      .dtype = d->dtype,
                      .q = d->quant.out};
}

static tvlm_dw float_args(const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_act act,
                          tvlm_map x, tvlm_map y)
{
    return (tvlm_dw){
        .of.f32 = {.x = x.data,
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
                   .pad_top = tvlm_nn_conv_pad(x.h, d->k, stride, pad),
                   .pad_left = tvlm_nn_conv_pad(x.w, d->k, stride, pad),
                   .mult = (unsigned)(d->c_out / x.c),
                   .act = act}
    };
}

static tvlm_dw int8_args(const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_map x,
                         tvlm_map y)
{
    return (tvlm_dw){
        .dtype = TVLM_DTYPE_U7,
        .of.u7 = {.x = x.data,
                  .h = x.h,
                  .w = x.w,
                  .c = x.c,
                  .weight = d->weight,
                  .wsum = d->quant.wsum,
                  .mult = d->quant.mult,
                  .beta = d->quant.beta,
                  .zx = d->quant.in.zero,
                  .y = y.data,
                  .oh = y.h,
                  .ow = y.w,
                  .k = d->k,
                  .stride = stride,
                  .pad_top = tvlm_nn_conv_pad(x.h, d->k, stride, pad),
                  .pad_left = tvlm_nn_conv_pad(x.w, d->k, stride, pad),
                  .lo = d->quant.lo,
                  .hi = d->quant.hi}
    };
}

tvlm_dw tvlm_nn_dw(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_act act,
                   tvlm_map x, tvlm_map y)
{
    tvlm_dw args = d->dtype == TVLM_DTYPE_F32 ? float_args(d, stride, pad, act, x, y)
                                              : int8_args(d, stride, pad, x, y);
    args.kernels = cx->kernels;
    return args;
}

void tvlm_nn_dw_rows(const tvlm_dw *args, size_t oy0, size_t oy1)
{
    if (args->dtype == TVLM_DTYPE_F32)
        args->kernels->dwconv(&args->of.f32, oy0, oy1);
    else
        args->kernels->qdwconv(&args->of.u7, oy0, oy1);
}

typedef struct dw_job {
    tvlm_dw args;
    size_t oh, rows;
} dw_job;

static void dw_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const dw_job *job = ctx;
    size_t oy0 = task * job->rows, oy1 = oy0 + job->rows;
    tvlm_nn_dw_rows(&job->args, oy0, oy1 < job->oh ? oy1 : job->oh);
}

void tvlm_nn_dwconv(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_act act,
                    tvlm_map x, tvlm_map y)
{
    assert(tvlm_nn_same_shape(y, tvlm_nn_dwconv_map(d, stride, pad, x)));
    assert(d->dtype == TVLM_DTYPE_F32 ? d->c_out % x.c == 0 : d->c_out == x.c);
    size_t mark = tvlm_arena_mark(cx->arena);
    x = tvlm_nn_as(cx, x, d->dtype, d->quant.in);
    if (tvlm_nn_live(cx)) {
        size_t rows = (d->dtype == TVLM_DTYPE_F32 ? DW_TILE_F32 : DW_TILE_U7) / (y.w * y.c);
        dw_job job = {tvlm_nn_dw(cx, d, stride, pad, act, x, y), y.h, rows ? rows : 1};
        tvlm_nn_run(cx, (y.h + job.rows - 1) / job.rows, dw_tile, &job);
    }
    tvlm_arena_release(cx->arena, mark);
}

/* ---- dense ---- */

tvlm_map tvlm_nn_conv_map(const tvlm_conv *c, unsigned stride, tvlm_pad pad, tvlm_map x)
{
    return (tvlm_map){.h = tvlm_nn_conv_out(x.h, c->k, stride, pad),
                      .w = tvlm_nn_conv_out(x.w, c->k, stride, pad),
                      .c = c->linear.n,
                      .dtype = c->linear.dtype,
                      .q = c->linear.quant.out};
}

tvlm_conv_rows tvlm_nn_conv_rows(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, tvlm_pad pad,
                                 tvlm_act act, tvlm_map x)
{
    const tvlm_linear *l = &c->linear;
    assert(x.c == c->c_in && l->k == c->k * c->k * c->c_in);
    assert(l->dtype != TVLM_DTYPE_F32 || !l->gemm->input); /* columns are float32 */
    bool floats = l->dtype == TVLM_DTYPE_F32;
    tvlm_conv_rows rows = {.kernels = cx->kernels, .linear = l, .act = act, .x = x.data};
    rows.window = (tvlm_window){.h = x.h,
                                .w = x.w,
                                .c = x.c,
                                .ow = tvlm_nn_conv_out(x.w, c->k, stride, pad),
                                .ld = floats ? l->k : (l->k + 3) / 4 * 4, /* as qgemm pads k */
                                .k = c->k,
                                .stride = stride,
                                .pad_top = tvlm_nn_conv_pad(x.h, c->k, stride, pad),
                                .pad_left = tvlm_nn_conv_pad(x.w, c->k, stride, pad)};
    rows.columns = tvlm_nn_slices(cx, tvlm_nn_elements(1, rows.window.ow, rows.window.ld),
                                  floats ? sizeof(float) : sizeof(uint8_t), &rows.stride);
    return rows;
}

void tvlm_nn_conv_row(const tvlm_conv_rows *rows, size_t oy, unsigned thread, void *y)
{
    const tvlm_linear *l = rows->linear;
    void *columns = rows->columns + thread * rows->stride;
    if (l->dtype == TVLM_DTYPE_F32) {
        const float zero = 0.0f;
        tvlm_window_row(&rows->window, rows->x, &zero, sizeof zero, oy, columns);
        tvlm_gemm_args args = {.x = columns,
                               .ldx = l->k * sizeof(float),
                               .w = l->weight,
                               .bias = l->bias,
                               .y = y,
                               .ldy = l->n,
                               .scale = 1.0f,
                               .act = rows->act == TVLM_ACT_GELU ? TVLM_ACT_NONE : rows->act,
                               .n = l->n,
                               .k = l->k};
        l->gemm->run(&args, 0, rows->window.ow, 0, l->n);
        /* apart, as in linear.c */
        if (rows->act != args.act) rows->kernels->act(rows->act, y, y, rows->window.ow * l->n);
    } else {
        const uint8_t zero = (uint8_t)l->quant.in.zero;
        tvlm_window_row(&rows->window, rows->x, &zero, sizeof zero, oy, columns);
        tvlm_qgemm_args args = tvlm_nn_qgemm_args(l, rows->window.ld, columns, y);
        rows->kernels->qgemm(&args, 0, rows->window.ow, 0, l->n);
    }
}

void *tvlm_nn_map_row(tvlm_map map, size_t y)
{
    size_t size = map.dtype == TVLM_DTYPE_F32 ? sizeof(float) : sizeof(uint8_t);
    return (unsigned char *)map.data + y * map.w * map.c * size;
}

typedef struct conv_job {
    tvlm_conv_rows rows;
    tvlm_map y;
} conv_job;

static void conv_task(void *ctx, size_t oy, unsigned thread)
{
    const conv_job *job = ctx;
    tvlm_nn_conv_row(&job->rows, oy, thread, tvlm_nn_map_row(job->y, oy));
}

void tvlm_nn_conv(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, tvlm_pad pad, tvlm_act act,
                  tvlm_map x, tvlm_map y)
{
    assert(tvlm_nn_same_shape(y, tvlm_nn_conv_map(c, stride, pad, x)));
    size_t mark = tvlm_arena_mark(cx->arena);
    x = tvlm_nn_as(cx, x, c->linear.dtype, c->linear.quant.in);
    conv_job job = {tvlm_nn_conv_rows(cx, c, stride, pad, act, x), y};
    tvlm_nn_run(cx, y.h, conv_task, &job);
    tvlm_arena_release(cx->arena, mark);
}
