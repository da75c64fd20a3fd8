/* SPDX-License-Identifier: MIT
 * Linear layers at every pixel of a map. */
#include "nn/pointwise.h"

#include <assert.h>

enum { M_TILE = 64, N_TILE = 64 };

tvlm_map tvlm_nn_linear_map(const tvlm_linear *l, tvlm_map x)
{
    return (tvlm_map){.h = x.h, .w = x.w, .c = l->n, .dtype = l->dtype, .q = l->quant.out};
}

tvlm_qgemm_args tvlm_nn_qgemm_args(const tvlm_linear *l, size_t k, const uint8_t *x, uint8_t *y)
{
    return (tvlm_qgemm_args){.x = x,
                             .ldx = k,
                             .w = l->weight,
                             .wsum = l->quant.wsum,
                             .mult = l->quant.mult,
                             .beta = l->quant.beta,
                             .zx = l->quant.in.zero,
                             .y = y,
                             .ldy = l->n,
                             .lo = l->quant.lo,
                             .hi = l->quant.hi,
                             .n = l->n,
                             .k = k};
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

static void qlinear(tvlm_cx *cx, const tvlm_linear *l, tvlm_map x, const tvlm_map *residual,
                    tvlm_map y)
{
    qlinear_job job = {.kernels = cx->kernels,
                       .args = tvlm_nn_qgemm_args(l, l->k, x.data, y.data),
                       .m = x.h * x.w,
                       .n_tiles = (l->n + N_TILE - 1) / N_TILE};
    if (residual) {
        job.args.residual = residual->data;
        job.args.ldr = residual->c;
        job.args.zr = residual->q.zero;
        job.args.rmult = residual->q.scale / y.q.scale;
    }
    tvlm_nn_run(cx, (job.m + M_TILE - 1) / M_TILE * job.n_tiles, qlinear_tile, &job);
}

void tvlm_nn_pointwise(tvlm_cx *cx, const tvlm_linear *l, tvlm_act act, tvlm_map x,
                       const tvlm_map *residual, tvlm_map y)
{
    assert(x.c == l->k && y.c == l->n && x.h * x.w == y.h * y.w && y.dtype == l->dtype);
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_map r = residual ? *residual : (tvlm_map){.dtype = l->dtype};
    x = tvlm_nn_as(cx, x, l->dtype, l->quant.in);
    if (r.dtype != l->dtype) r = tvlm_nn_as(cx, r, l->dtype, l->quant.out);
    if (l->dtype == TVLM_DTYPE_F32)
        tvlm_nn_linear(cx, l, act, x.data, x.h * x.w, 1.0f, r.data, y.data);
    else
        qlinear(cx, l, x, residual ? &r : NULL, y);
    tvlm_arena_release(cx->arena, mark);
}

void tvlm_nn_pointwise_mlp(tvlm_cx *cx, const tvlm_linear *up, tvlm_act act,
                           const tvlm_linear *down, tvlm_map x, const tvlm_map *residual,
                           tvlm_map y)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    bool floats = x.dtype == TVLM_DTYPE_F32 && (!residual || residual->dtype == x.dtype);
    if (floats && up->dtype == x.dtype && down->dtype == x.dtype) {
        tvlm_nn_mlp(cx, up, act, down, x.data, x.h * x.w, residual ? residual->data : NULL, y.data);
    } else {
        tvlm_map hidden = tvlm_nn_map(cx, tvlm_nn_linear_map(up, x));
        tvlm_nn_pointwise(cx, up, act, x, NULL, hidden);
        tvlm_nn_pointwise(cx, down, TVLM_ACT_NONE, hidden, residual, y);
    }
    tvlm_arena_release(cx->arena, mark);
}
