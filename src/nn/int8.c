/* SPDX-License-Identifier: MIT
 * The int8 ops: u7 activations between layers, kernels bit-equal on every tier. */
#include "nn/nn.h"
#include "nn/window.h"

#include <assert.h>

enum { M_TILE = 64, N_TILE = 64, CONVERT_TILE = 4096 };

typedef struct convert_job {
    const tvlm_kernels *kernels;
    float *f;
    const float *x;
    tvlm_qmap q;
    size_t n;
} convert_job;

static size_t convert_span(const convert_job *job, size_t task)
{
    size_t left = job->n - task * CONVERT_TILE;
    return left < CONVERT_TILE ? left : CONVERT_TILE;
}

static void quantize_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const convert_job *job = ctx;
    size_t i = task * CONVERT_TILE;
    job->kernels->quantize_u7(job->q.data + i, job->x + i, convert_span(job, task),
                              1.0f / job->q.q.scale, (float)job->q.q.zero);
}

static void dequantize_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const convert_job *job = ctx;
    size_t i = task * CONVERT_TILE;
    job->kernels->dequantize_u7(job->f + i, job->q.data + i, convert_span(job, task),
                                job->q.q.scale, job->q.q.zero);
}

void tvlm_nn_quantize(tvlm_cx *cx, const float *x, tvlm_qmap y)
{
    convert_job job = {.kernels = cx->kernels, .x = x, .q = y, .n = y.h * y.w * y.c};
    tvlm_nn_run(cx, (job.n + CONVERT_TILE - 1) / CONVERT_TILE, quantize_tile, &job);
}

void tvlm_nn_dequantize(tvlm_cx *cx, tvlm_qmap x, float *y)
{
    convert_job job = {.kernels = cx->kernels, .f = y, .q = x, .n = x.h * x.w * x.c};
    tvlm_nn_run(cx, (job.n + CONVERT_TILE - 1) / CONVERT_TILE, dequantize_tile, &job);
}

static tvlm_qgemm_args qgemm_args(const tvlm_qlayer *l, const uint8_t *x, uint8_t *y)
{
    return (tvlm_qgemm_args){.x = x,
                             .ldx = l->k,
                             .w = l->weight,
                             .wsum = l->wsum,
                             .mult = l->mult,
                             .beta = l->beta,
                             .zx = l->in.zero,
                             .y = y,
                             .ldy = l->n,
                             .lo = l->lo,
                             .hi = l->hi,
                             .n = l->n,
                             .k = l->k};
}

typedef struct qlinear_job {
    const tvlm_kernels *kernels;
    tvlm_qgemm_args args;
    size_t m, n_tiles;
} qlinear_job;

static void qlinear_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const qlinear_job *job = ctx;
    size_t m0 = task / job->n_tiles * M_TILE, n0 = task % job->n_tiles * N_TILE;
    size_t m1 = m0 + M_TILE, n1 = n0 + N_TILE;
    job->kernels->qgemm(&job->args, m0, m1 < job->m ? m1 : job->m, n0,
                        n1 < job->args.n ? n1 : job->args.n);
}

void tvlm_nn_qlinear(tvlm_cx *cx, const tvlm_qlayer *l, tvlm_qmap x, const tvlm_qmap *residual,
                     float rmult, tvlm_qmap y)
{
    assert(x.c == l->k && y.c == l->n && x.h * x.w == y.h * y.w);
    qlinear_job job = {.kernels = cx->kernels,
                       .args = qgemm_args(l, x.data, y.data),
                       .m = x.h * x.w,
                       .n_tiles = (l->n + N_TILE - 1) / N_TILE};
    if (residual) {
        job.args.residual = residual->data;
        job.args.ldr = residual->c;
        job.args.zr = residual->q.zero;
        job.args.rmult = rmult;
    }
    tvlm_nn_run(cx, (job.m + M_TILE - 1) / M_TILE * job.n_tiles, qlinear_tile, &job);
}

typedef struct qdw_job {
    const tvlm_kernels *kernels;
    tvlm_qdwconv_args args;
    size_t rows;
} qdw_job;

static void qdw_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const qdw_job *job = ctx;
    size_t oy0 = task * job->rows, oy1 = oy0 + job->rows;
    job->kernels->qdwconv(&job->args, oy0, oy1 < job->args.oh ? oy1 : job->args.oh);
}

void tvlm_nn_qdwconv(tvlm_cx *cx, const tvlm_qlayer *l, unsigned stride, tvlm_qmap x, tvlm_qmap y)
{
    unsigned k = (unsigned)l->k;
    assert(x.c == l->n && y.c == l->n && y.h == tvlm_nn_conv_out(x.h, k, stride, true) &&
           y.w == tvlm_nn_conv_out(x.w, k, stride, true));
    qdw_job job = {.kernels = cx->kernels, .rows = tvlm_nn_dw_rows(y.w, y.c)};
    job.args = (tvlm_qdwconv_args){.x = x.data,
                                   .h = x.h,
                                   .w = x.w,
                                   .c = x.c,
                                   .weight = l->weight,
                                   .wsum = l->wsum,
                                   .mult = l->mult,
                                   .beta = l->beta,
                                   .zx = l->in.zero,
                                   .y = y.data,
                                   .oh = y.h,
                                   .ow = y.w,
                                   .k = k,
                                   .stride = stride,
                                   .lo = l->lo,
                                   .hi = l->hi};
    job.args.pad_top = tvlm_nn_conv_pad(x.h, k, stride, true);
    job.args.pad_left = tvlm_nn_conv_pad(x.w, k, stride, true);
    tvlm_nn_run(cx, (y.h + job.rows - 1) / job.rows, qdw_tile, &job);
}

typedef struct qconv_job {
    const tvlm_kernels *kernels;
    const tvlm_qlayer *layer;
    tvlm_qmap x, y;
    tvlm_window window;
    unsigned char *columns; /* per thread [ow][k*k*c_in] */
    size_t stride;
} qconv_job;

static void qconv_row(void *ctx, size_t oy, unsigned thread)
{
    const qconv_job *job = ctx;
    unsigned char *columns = job->columns + thread * job->stride;
    uint8_t zero = (uint8_t)job->layer->in.zero;
    tvlm_window_row(&job->window, job->x.data, &zero, sizeof zero, oy, columns);
    tvlm_qgemm_args args = qgemm_args(job->layer, columns, job->y.data + oy * job->y.w * job->y.c);
    job->kernels->qgemm(&args, 0, job->y.w, 0, args.n);
}

void tvlm_nn_qconv(tvlm_cx *cx, const tvlm_qlayer *l, unsigned k, unsigned stride, tvlm_qmap x,
                   tvlm_qmap y)
{
    assert(l->k == k * k * x.c && y.c == l->n && y.h == tvlm_nn_conv_out(x.h, k, stride, true) &&
           y.w == tvlm_nn_conv_out(x.w, k, stride, true));
    size_t mark = tvlm_arena_mark(cx->arena);
    qconv_job job = {.kernels = cx->kernels, .layer = l, .x = x, .y = y};
    job.window = (tvlm_window){.h = x.h,
                               .w = x.w,
                               .c = x.c,
                               .ow = y.w,
                               .k = k,
                               .stride = stride,
                               .pad_top = tvlm_nn_conv_pad(x.h, k, stride, true),
                               .pad_left = tvlm_nn_conv_pad(x.w, k, stride, true)};
    job.columns = tvlm_nn_slices(cx, y.w * l->k, 1, &job.stride);
    tvlm_nn_run(cx, y.h, qconv_row, &job);
    tvlm_arena_release(cx->arena, mark);
}
