/* SPDX-License-Identifier: MIT
 * Linear layers over a grid of tiles, and the two-layer MLP.
 *
 * A tile is M_TILE rows of x by N_TILE rows of W: both stay in the second-level cache while the
 * gemm walks them, and 64 x 64 x k multiplications outweigh handing out a task. With a row or a few
 * (decoding) the tiles get narrower, so that every core streams its share of the weights. */
#include "nn/nn.h"

enum { M_TILE = 64, N_TILE = 64, FEW_ROWS = 8, N_TILE_FEW = 32 };

/* From this many rows the MLP keeps its hidden rows per tile: 64 tiles feed any number of cores,
 * while below that the weights outweigh the map and should be read once. */
enum { MLP_TILED_ROWS = 64 * M_TILE };

static size_t tiles(size_t n, size_t tile)
{
    return n / tile + (n % tile != 0);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

typedef struct linear_job {
    const tvlm_gemm *gemm;
    tvlm_gemm_args args;
    size_t m, n_tile, m_tiles, n_tiles;
    bool m_first; /* neighbouring tasks share weights, else rows of x */
} linear_job;

static void linear_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const linear_job *job = ctx;
    size_t mt = job->m_first ? task % job->m_tiles : task / job->n_tiles;
    size_t nt = job->m_first ? task / job->m_tiles : task % job->n_tiles;
    size_t m0 = mt * M_TILE, n0 = nt * job->n_tile;
    job->gemm->run(&job->args, m0, min_size(m0 + M_TILE, job->m), n0,
                   min_size(n0 + job->n_tile, job->args.n));
}

static tvlm_gemm_args linear_args(const tvlm_linear *l, tvlm_act act, const float *x, float scale,
                                  const float *residual, float *y)
{
    return (tvlm_gemm_args){.x = x,
                            .ldx = l->k * sizeof(float),
                            .w = l->weight,
                            .bias = l->bias,
                            .residual = residual,
                            .ldr = l->n,
                            .y = y,
                            .ldy = l->n,
                            .scale = scale,
                            .act = act,
                            .n = l->n,
                            .k = l->k};
}

void tvlm_nn_linear(tvlm_cx *cx, const tvlm_linear *l, tvlm_act act, const float *x, size_t m,
                    float scale, const float *residual, float *y)
{
    if (!tvlm_nn_live(cx)) return;
    linear_job job = {.gemm = l->gemm,
                      .m = m,
                      .n_tile = m <= FEW_ROWS ? N_TILE_FEW : N_TILE,
                      .args = linear_args(l, act, x, scale, residual, y)};
    job.m_tiles = tiles(m, M_TILE);
    job.n_tiles = tiles(l->n, job.n_tile);
    job.m_first = l->n > m; /* the larger operand is read once */
    tvlm_nn_run(cx, job.m_tiles * job.n_tiles, linear_tile, &job);
}

typedef struct mlp_job {
    const tvlm_linear *up, *down;
    tvlm_act act;
    const float *x, *residual;
    float *y;
    unsigned char *hidden; /* per thread [M_TILE][up->n] */
    size_t hidden_stride, m;
} mlp_job;

static void mlp_tile(void *ctx, size_t task, unsigned thread)
{
    const mlp_job *job = ctx;
    const tvlm_linear *up = job->up, *down = job->down;
    float *hidden = (float *)(void *)(job->hidden + thread * job->hidden_stride);
    size_t m0 = task * M_TILE, m = min_size(job->m - m0, M_TILE);
    tvlm_gemm_args a = linear_args(up, job->act, job->x + m0 * up->k, 1.0f, NULL, hidden);
    tvlm_gemm_args b =
        linear_args(down, TVLM_ACT_NONE, hidden, 1.0f,
                    job->residual ? job->residual + m0 * down->n : NULL, job->y + m0 * down->n);
    up->gemm->run(&a, 0, m, 0, up->n);
    down->gemm->run(&b, 0, m, 0, down->n);
}

void tvlm_nn_mlp(tvlm_cx *cx, const tvlm_linear *up, tvlm_act act, const tvlm_linear *down,
                 const float *x, size_t m, const float *residual, float *y)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    if (m < MLP_TILED_ROWS) {
        float *hidden = tvlm_nn_fmap(cx, 1, m, up->n).data;
        tvlm_nn_linear(cx, up, act, x, m, 1.0f, NULL, hidden);
        tvlm_nn_linear(cx, down, TVLM_ACT_NONE, hidden, m, 1.0f, residual, y);
    } else {
        mlp_job job = {
            .up = up, .down = down, .act = act, .x = x, .residual = residual, .y = y, .m = m};
        job.hidden = tvlm_nn_slices(cx, tvlm_nn_elements(1, M_TILE, up->n), sizeof(float),
                                    &job.hidden_stride);
        tvlm_nn_run(cx, tiles(m, M_TILE), mlp_tile, &job);
    }
    tvlm_arena_release(cx->arena, mark);
}
