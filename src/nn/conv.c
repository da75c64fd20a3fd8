/* SPDX-License-Identifier: MIT
 * Convolutions over tiles of output rows. */
#include "nn/pointwise.h"
#include "nn/window.h"

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

/* The kernel's arguments, of either dtype. */
typedef struct dw_args {
    const tvlm_kernels *kernels;
    tvlm_dtype dtype;
    union {
        tvlm_dwconv_args f32;
        tvlm_qdwconv_args u7;
    } of;
} dw_args;

static dw_args float_args(const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_act act,
                          tvlm_map x, tvlm_map y)
{
    return (dw_args){
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

static dw_args int8_args(const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_map x,
                         tvlm_map y)
{
    return (dw_args){
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

static dw_args dwconv_args(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, tvlm_pad pad,
                           tvlm_act act, tvlm_map x, tvlm_map y)
{
    dw_args args = d->dtype == TVLM_DTYPE_F32 ? float_args(d, stride, pad, act, x, y)
                                              : int8_args(d, stride, pad, x, y);
    args.kernels = cx->kernels;
    return args;
}

static void dwconv_rows(const dw_args *args, size_t oy0, size_t oy1)
{
    if (args->dtype == TVLM_DTYPE_F32)
        args->kernels->dwconv(&args->of.f32, oy0, oy1);
    else
        args->kernels->qdwconv(&args->of.u7, oy0, oy1);
}

typedef struct dw_job {
    dw_args args;
    size_t oh, rows;
} dw_job;

static void dw_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const dw_job *job = ctx;
    size_t oy0 = task * job->rows, oy1 = oy0 + job->rows;
    dwconv_rows(&job->args, oy0, oy1 < job->oh ? oy1 : job->oh);
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
        dw_job job = {dwconv_args(cx, d, stride, pad, act, x, y), y.h, rows ? rows : 1};
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

/* Computes rows of a dense convolution one by one. */
typedef struct conv_rows {
    const tvlm_kernels *kernels;
    const tvlm_linear *linear;
    tvlm_act act;
    const void *x;
    tvlm_window window;
    unsigned char *columns; /* per thread [ow][ld] */
    size_t stride;
} conv_rows;

/* From the arena: the columns. */
static conv_rows start_conv(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, tvlm_pad pad,
                            tvlm_act act, tvlm_map x)
{
    const tvlm_linear *l = &c->linear;
    assert(x.c == c->c_in && l->k == c->k * c->k * c->c_in);
    assert(l->dtype != TVLM_DTYPE_F32 || !l->gemm->input); /* columns are float32 */
    bool floats = l->dtype == TVLM_DTYPE_F32;
    conv_rows rows = {.kernels = cx->kernels, .linear = l, .act = act, .x = x.data};
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

/* Output row oy -> y[ow][n]. */
static void conv_row(const conv_rows *rows, size_t oy, unsigned thread, void *y)
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

/* Where row y of a map lies. */
static void *map_row(tvlm_map map, size_t y)
{
    size_t size = map.dtype == TVLM_DTYPE_F32 ? sizeof(float) : sizeof(uint8_t);
    return (unsigned char *)map.data + y * map.w * map.c * size;
}

typedef struct conv_job {
    conv_rows rows;
    tvlm_map y;
} conv_job;

static void conv_task(void *ctx, size_t oy, unsigned thread)
{
    const conv_job *job = ctx;
    conv_row(&job->rows, oy, thread, map_row(job->y, oy));
}

void tvlm_nn_conv(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, tvlm_pad pad, tvlm_act act,
                  tvlm_map x, tvlm_map y)
{
    assert(tvlm_nn_same_shape(y, tvlm_nn_conv_map(c, stride, pad, x)));
    size_t mark = tvlm_arena_mark(cx->arena);
    x = tvlm_nn_as(cx, x, c->linear.dtype, c->linear.quant.in);
    conv_job job = {start_conv(cx, c, stride, pad, act, x), y};
    tvlm_nn_run(cx, y.h, conv_task, &job);
    tvlm_arena_release(cx->arena, mark);
}

/* ---- dense, then depthwise ---- */

enum {
    BAND_ROWS = 4
}; /* output rows of a task: of 9 rows between them a task of stride 2 repeats
      one that its neighbour has */

typedef struct stem_job {
    conv_rows rows;
    dw_args dw; /* of the whole maps */
    tvlm_map between, y;
    unsigned char *band; /* per thread, rows of the map between */
    size_t stride;
} stem_job;

/* The arguments for a map between that begins with its row y0, and output rows from oy0 on. */
static dw_args band_args(const stem_job *job, tvlm_map band, size_t y0, size_t oy0)
{
    dw_args args = job->dw;
    tvlm_dwconv_args *a = &args.of.f32;
    a->x = band.data;
    a->h = band.h;
    a->y = map_row(job->y, oy0);
    a->pad_top = (unsigned)(a->pad_top + y0 - oy0 * a->stride);
    return args;
}

static void stem_band(void *ctx, size_t task, unsigned thread)
{
    const stem_job *job = ctx;
    const tvlm_dwconv_args *a = &job->dw.of.f32;
    size_t oy0 = task * BAND_ROWS, oy1 = oy0 + BAND_ROWS < job->y.h ? oy0 + BAND_ROWS : job->y.h;
    size_t first = oy0 * a->stride, end = (oy1 - 1) * a->stride + a->k - a->pad_top;
    size_t y0 = first > a->pad_top ? first - a->pad_top : 0;
    tvlm_map band = job->between;
    band.data = job->band + thread * job->stride;
    band.h = (end < job->between.h ? end : job->between.h) - y0;
    for (size_t i = 0; i < band.h; i++)
        conv_row(&job->rows, y0 + i, thread, map_row(band, i));
    dw_args args = band_args(job, band, y0, oy0);
    dwconv_rows(&args, 0, oy1 - oy0);
}

void tvlm_nn_conv_dwconv(tvlm_cx *cx, const tvlm_conv *c, const tvlm_dwconv *d, unsigned stride,
                         tvlm_pad pad, tvlm_act act, tvlm_map x, tvlm_map y)
{
    tvlm_map between = tvlm_nn_conv_map(c, stride, pad, x);
    assert(tvlm_nn_same_shape(y, tvlm_nn_dwconv_map(d, stride, pad, between)));
    assert(c->linear.dtype == TVLM_DTYPE_F32 && d->dtype == TVLM_DTYPE_F32);
    size_t mark = tvlm_arena_mark(cx->arena);
    stem_job job = {.rows = start_conv(cx, c, stride, pad, act, x), .between = between, .y = y};
    size_t rows = (BAND_ROWS - 1) * stride + d->k;
    job.band = tvlm_nn_slices(cx, tvlm_nn_elements(rows, between.w, between.c), sizeof(float),
                              &job.stride);
    job.dw = dwconv_args(cx, d, stride, pad, act, between, y);
    tvlm_nn_run(cx, (y.h + BAND_ROWS - 1) / BAND_ROWS, stem_band, &job);
    tvlm_arena_release(cx->arena, mark);
}
