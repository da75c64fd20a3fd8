/* SPDX-License-Identifier: MIT
 * Convolutions after one another by bands of output rows, so that the maps between them stay in
 * cache and are never whole. A band computes the rows that it needs of the map before, also those
 * that its neighbour has; per pixel the arithmetic is that of the ops one by one. */
#include "nn/conv.h"

#include <assert.h>

/* Output rows of a task: of 9 rows before them a task of stride 2 repeats one of its neighbour's.
 */
enum { STEM_ROWS = 4, SCALAR_STEM_ROWS = 1 };

/* Likewise, as the threads leave; 4 to 14 take the same time. */
enum { LEAST_ROWS = 2, MOST_ROWS = 8 };

/* Of inner maps that pay, in bytes: several times the second-level cache of most cores. */
enum { LARGE_MAPS = 3 * 1024 * 1024 };

typedef struct band {
    size_t oy0, oy1; /* output rows */
    size_t y0, y1;   /* rows of the depthwise's input for them */
} band;

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Rows of the input for so many of the output. */
static size_t rows_before(size_t rows, unsigned k, unsigned stride)
{
    return (rows - 1) * stride + k;
}

/* A float depthwise by bands. */
typedef struct dw_op {
    tvlm_dw kernel; /* of the whole maps */
    size_t rows;    /* of the output, in a band */
} dw_op;

static size_t count_bands(const dw_op *dw)
{
    return (dw->kernel.of.f32.oh + dw->rows - 1) / dw->rows;
}

static band nth_band(const dw_op *dw, size_t index)
{
    const tvlm_dwconv_args *a = &dw->kernel.of.f32;
    band b = {.oy0 = index * dw->rows, .oy1 = min_size((index + 1) * dw->rows, a->oh)};
    size_t first = b.oy0 * a->stride, end = rows_before(b.oy1, a->k, a->stride) - a->pad_top;
    b.y0 = first > a->pad_top ? first - a->pad_top : 0;
    b.y1 = min_size(end, a->h);
    return b;
}

/* x: rows from y0 on; y: the band's rows. */
static void depthwise_band(const dw_op *dw, band b, tvlm_map x, tvlm_map y)
{
    tvlm_dw kernel = dw->kernel;
    tvlm_dwconv_args *a = &kernel.of.f32;
    a->x = x.data;
    a->h = x.h;
    a->y = y.data;
    a->pad_top = (unsigned)(a->pad_top + b.y0 - b.oy0 * a->stride);
    tvlm_nn_dw_rows(&kernel, 0, b.oy1 - b.oy0);
}

/* Rows y0 .. y1 of a map. */
static tvlm_map map_rows(tvlm_map map, size_t y0, size_t y1)
{
    map.data = tvlm_nn_map_row(map, y0);
    map.h = y1 - y0;
    return map;
}

/* Rows of a map, for each thread. */
typedef struct band_buffer {
    tvlm_map map;
    unsigned char *rows;
    size_t stride;
} band_buffer;

static band_buffer take_buffer(tvlm_cx *cx, tvlm_map map, size_t rows)
{
    band_buffer buffer = {.map = map};
    buffer.rows = tvlm_nn_slices(cx, tvlm_nn_elements(min_size(rows, map.h), map.w, map.c),
                                 sizeof(float), &buffer.stride);
    return buffer;
}

static tvlm_map buffer_rows(const band_buffer *buffer, unsigned thread, size_t rows)
{
    tvlm_map map = buffer->map;
    map.data = buffer->rows + thread * buffer->stride;
    map.h = rows;
    return map;
}

/* ---- dense, then depthwise ---- */

typedef struct stem_job {
    tvlm_conv_rows conv;
    dw_op dw;
    band_buffer between;
    tvlm_map y;
} stem_job;

static void stem_band(void *ctx, size_t task, unsigned thread)
{
    const stem_job *job = ctx;
    band b = nth_band(&job->dw, task);
    tvlm_map between = buffer_rows(&job->between, thread, b.y1 - b.y0);
    for (size_t i = 0; i < between.h; i++)
        tvlm_nn_conv_row(&job->conv, b.y0 + i, thread, tvlm_nn_map_row(between, i));
    depthwise_band(&job->dw, b, between, map_rows(job->y, b.oy0, b.oy1));
}

void tvlm_nn_conv_dwconv(tvlm_cx *cx, const tvlm_conv *c, const tvlm_dwconv *d, unsigned stride,
                         tvlm_pad pad, tvlm_act act, tvlm_map x, tvlm_map y)
{
    tvlm_map between = tvlm_nn_conv_map(c, stride, pad, x);
    assert(tvlm_nn_same_shape(y, tvlm_nn_dwconv_map(d, stride, pad, between)));
    assert(c->linear.dtype == TVLM_DTYPE_F32 && d->dtype == TVLM_DTYPE_F32);
    size_t mark = tvlm_arena_mark(cx->arena);
    size_t rows = tvlm_gemm_is_scalar(c->linear.gemm) ? SCALAR_STEM_ROWS : STEM_ROWS;
    stem_job job = {
        .conv = tvlm_nn_conv_rows(cx, c, stride, pad, act, x),
        .dw = {tvlm_nn_dw(cx, d, stride, pad, act, between, y), rows},
        .between = take_buffer(cx, between, rows_before(rows, d->k, stride)),
        .y = y
    };
    tvlm_nn_run(cx, count_bands(&job.dw), stem_band, &job);
    tvlm_arena_release(cx->arena, mark);
}

/* ---- inverted bottleneck ---- */

typedef struct bottleneck_job {
    const tvlm_kernels *kernels;
    const tvlm_bottleneck *op;
    dw_op dw;
    tvlm_map x, y;
    bool residual;
    band_buffer expanded, filtered;
    unsigned char *packed; /* per thread */
    size_t packed_stride;
} bottleneck_job;

static void bottleneck_band(void *ctx, size_t task, unsigned thread)
{
    const bottleneck_job *job = ctx;
    const tvlm_bottleneck *op = job->op;
    unsigned char *packed = job->packed + thread * job->packed_stride;
    band b = nth_band(&job->dw, task);
    tvlm_map x = map_rows(job->x, b.y0, b.y1), y = map_rows(job->y, b.oy0, b.oy1);
    tvlm_map e = buffer_rows(&job->expanded, thread, x.h);
    tvlm_map d = buffer_rows(&job->filtered, thread, y.h);
    tvlm_nn_linear_rows(job->kernels, op->expand, op->act, x.data, x.h * x.w, NULL, e.data, packed);
    depthwise_band(&job->dw, b, e, d);
    const float *residual = job->residual ? tvlm_nn_map_row(job->x, b.oy0) : NULL;
    tvlm_nn_linear_rows(job->kernels, op->project, TVLM_ACT_NONE, d.data, d.h * d.w, residual,
                        y.data, packed);
}

/* Two bands a thread, if they are not too small. */
static size_t bottleneck_rows(const tvlm_cx *cx, size_t oh)
{
    size_t share = min_size(oh / 2 / tvlm_nn_threads(cx), MOST_ROWS);
    return share > LEAST_ROWS ? share : LEAST_ROWS;
}

static tvlm_map expanded_map(const tvlm_bottleneck *op, tvlm_map x)
{
    return tvlm_nn_linear_map(op->expand, x);
}

static tvlm_map filtered_map(const tvlm_bottleneck *op, tvlm_map x)
{
    return tvlm_nn_dwconv_map(op->dw, op->stride, op->pad, expanded_map(op, x));
}

tvlm_map tvlm_nn_bottleneck_map(const tvlm_bottleneck *op, tvlm_map x)
{
    return tvlm_nn_linear_map(op->project, filtered_map(op, x));
}

static bool all_float(const tvlm_bottleneck *op, tvlm_map x)
{
    tvlm_dtype f32 = TVLM_DTYPE_F32;
    return x.dtype == f32 && op->expand->dtype == f32 && op->dw->dtype == f32 &&
           op->project->dtype == f32;
}

bool tvlm_nn_bottleneck_pays(const tvlm_cx *cx, const tvlm_bottleneck *op, tvlm_map x)
{
    tvlm_map e = expanded_map(op, x), d = filtered_map(op, x);
    size_t rows = rows_before(bottleneck_rows(cx, d.h), op->dw->k, op->stride);
    size_t whole = tvlm_nn_elements(e.h, e.w, e.c), filtered = tvlm_nn_elements(d.h, d.w, d.c);
    bool large = whole / 2 + filtered / 2 > LARGE_MAPS / sizeof(float) / 2;
    return all_float(op, x) && large && rows * tvlm_nn_threads(cx) <= e.h;
}

void tvlm_nn_bottleneck(tvlm_cx *cx, const tvlm_bottleneck *op, tvlm_map x, bool residual,
                        tvlm_map y)
{
    tvlm_map e = expanded_map(op, x), d = filtered_map(op, x);
    assert(tvlm_nn_same_shape(y, tvlm_nn_linear_map(op->project, d)) && all_float(op, x));
    assert(!tvlm_nn_live(cx) || y.data != x.data);
    size_t mark = tvlm_arena_mark(cx->arena), rows = bottleneck_rows(cx, d.h);
    size_t up = tvlm_nn_packed_bytes(op->expand), down = tvlm_nn_packed_bytes(op->project);
    bottleneck_job job = {
        .kernels = cx->kernels,
        .op = op,
        .dw = {tvlm_nn_dw(cx, op->dw, op->stride, op->pad, op->act, e, d), rows},
        .x = x,
        .y = y,
        .residual = residual,
        .expanded = take_buffer(cx, e, rows_before(rows, op->dw->k, op->stride)),
        .filtered = take_buffer(cx, d, rows)
    };
    job.packed = tvlm_nn_slices(cx, up > down ? up : down, 1, &job.packed_stride);
    tvlm_nn_run(cx, count_bands(&job.dw), bottleneck_band, &job);
    tvlm_arena_release(cx->arena, mark);
}
