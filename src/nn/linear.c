/* SPDX-License-Identifier: MIT
 * Linear layers over a grid of tiles, and the two-layer MLP.
 *
 * A tile is M_TILE rows of x by N_TILE rows of W: both stay in the second-level cache while the
 * gemm walks them, and 64 x 64 x k multiplications outweigh handing out a task. With a row or a few
 * (decoding) each thread streams one contiguous share of the weights, the same one in every step,
 * cut in SHARE_TILES so that a thread that is done can take over from one that the system has
 * stopped. */
#include "nn/pointwise.h"

#include <assert.h>

enum { M_TILE = 64, N_TILE = 64, FEW_ROWS = 8, SHARE_TILES = 4, PACK_TILE = 16 };

enum { SCALAR_M_TILE = 4 };

static size_t m_tile(const tvlm_linear *l)
{
    return tvlm_gemm_is_scalar(l->gemm) ? SCALAR_M_TILE : M_TILE;
}

/* From this many rows a tile has all columns, and packed and hidden rows are there per tile: 64
 * tiles feed any number of cores, while below that the weights outweigh the map and should be read
 * once. */
enum { TILED_ROWS = 64 * M_TILE };

static size_t tiles(size_t n, size_t tile)
{
    return n / tile + (n % tile != 0);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- activations ---- */

/* GELU is dear: it pays to run it over rows that are still in cache, where its constants stay in
 * registers and one value's steps fill the waits of another's, instead of in the epilogue. */
static bool act_apart(tvlm_act act, float scale, const float *residual)
{
    return act == TVLM_ACT_GELU && scale == 1.0f && !residual;
}

/* y[m0..m1][n0..n1] = gelu(y), rows ld floats apart. */
static void act_tile(const tvlm_kernels *kernels, float *y, size_t ld, size_t m0, size_t m1,
                     size_t n0, size_t n1)
{
    for (size_t m = m0; m < m1; m++)
        kernels->act(TVLM_ACT_GELU, y + m * ld + n0, y + m * ld + n0, n1 - n0);
}

/* ---- rows of x as a kernel reads them ---- */

typedef struct pack_job {
    const tvlm_gemm_input *input;
    const float *x;
    unsigned char *packed;
    size_t m, k, ld;
} pack_job;

static void pack_rows(const pack_job *job, size_t m0, size_t m1)
{
    for (size_t m = m0; m < m1; m++)
        job->input->pack(job->packed + m * job->ld, job->x + m * job->k, job->k);
}

static void pack_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const pack_job *job = ctx;
    pack_rows(job, task * PACK_TILE, min_size((task + 1) * PACK_TILE, job->m));
}

/* Bytes of a row as the layer's kernel reads it. */
static size_t input_bytes(const tvlm_linear *l)
{
    return l->gemm->input ? l->gemm->input->bytes(l->k) : l->k * sizeof(float);
}

/* x itself, or packed into the arena, which the caller releases. */
static const void *give_input(tvlm_cx *cx, const tvlm_linear *l, const float *x, size_t m)
{
    if (!l->gemm->input) return x;
    pack_job job = {.input = l->gemm->input, .x = x, .m = m, .k = l->k, .ld = input_bytes(l)};
    job.packed = tvlm_arena_alloc(cx->arena, m, job.ld);
    tvlm_nn_run(cx, tiles(m, PACK_TILE), pack_tile, &job);
    return job.packed;
}

static tvlm_gemm_args linear_args(const tvlm_linear *l, tvlm_act act, const void *x, float scale,
                                  const float *residual, float *y)
{
    return (tvlm_gemm_args){.x = x,
                            .ldx = input_bytes(l),
                            .w = l->weight,
                            .bias = l->bias,
                            .residual = residual,
                            .ldr = l->n,
                            .y = y,
                            .ldy = l->n,
                            .scale = scale,
                            .act = act_apart(act, scale, residual) ? TVLM_ACT_NONE : act,
                            .n = l->n,
                            .k = l->k};
}

/* ---- linears over one x ---- */

typedef struct linear_part {
    void (*run)(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1);
    tvlm_gemm_args args;
    size_t n_tiles;
} linear_part;

typedef struct linear_job {
    const tvlm_kernels *kernels;
    linear_part parts[TVLM_MAX_LINEARS];
    size_t m, m_tile, n_tile, m_tiles, n_tiles;
    bool m_first; /* neighbouring tasks share weights, else rows of x */
    bool gelu;    /* after the tile */
} linear_job;

static void linear_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const linear_job *job = ctx;
    const linear_part *part = job->parts;
    size_t mt = job->m_first ? task % job->m_tiles : task / job->n_tiles;
    size_t nt = job->m_first ? task / job->m_tiles : task % job->n_tiles;
    for (; nt >= part->n_tiles; part++)
        nt -= part->n_tiles;
    size_t m0 = mt * job->m_tile, n0 = nt * job->n_tile;
    size_t m1 = min_size(m0 + job->m_tile, job->m), n1 = min_size(n0 + job->n_tile, part->args.n);
    part->run(&part->args, m0, m1, n0, n1);
    if (job->gelu) act_tile(job->kernels, part->args.y, part->args.ldy, m0, m1, n0, n1);
}

/* Weight rows of a tile: whole panels. */
static size_t share_tile(const tvlm_cx *cx, size_t n)
{
    size_t share = tiles(n, (size_t)tvlm_pool_threads(cx->pool) * SHARE_TILES);
    return tiles(share, TVLM_GEMM_NR) * TVLM_GEMM_NR;
}

static void run_linears(tvlm_cx *cx, const tvlm_linear *first, linear_job *job, size_t n_parts)
{
    size_t n = 0;
    bool shares = job->m <= FEW_ROWS && !tvlm_gemm_is_scalar(first->gemm);
    for (size_t i = 0; i < n_parts; i++)
        n += job->parts[i].args.n;
    job->n_tile = shares ? share_tile(cx, n) : N_TILE;
    job->m_tile = m_tile(first);
    job->m_tiles = tiles(job->m, job->m_tile);
    job->m_first = n > job->m; /* the larger operand is read once */
    for (size_t i = 0; i < n_parts; i++) {
        job->parts[i].n_tiles = tiles(job->parts[i].args.n, job->n_tile);
        job->n_tiles += job->parts[i].n_tiles;
    }
    tvlm_nn_run(cx, job->m_tiles * job->n_tiles, linear_tile, job);
}

void tvlm_nn_linears(tvlm_cx *cx, const tvlm_linear *const *l, float *const *y, size_t count,
                     const float *x, size_t m)
{
    assert(count <= TVLM_MAX_LINEARS);
    size_t mark = tvlm_arena_mark(cx->arena);
    linear_job job = {.m = m};
    for (size_t i = 0; i < count; i++) {
        size_t same = 0; /* the first layer whose kernel reads x in this form */
        while (l[same]->gemm->input != l[i]->gemm->input)
            same++;
        const void *input = same < i ? job.parts[same].args.x : give_input(cx, l[i], x, m);
        job.parts[i].run = l[i]->gemm->run;
        job.parts[i].args = linear_args(l[i], TVLM_ACT_NONE, input, 1.0f, NULL, y[i]);
    }
    run_linears(cx, l[0], &job, count);
    tvlm_arena_release(cx->arena, mark);
}

/* ---- rows by one thread ---- */

static const void *tile_input(const tvlm_linear *l, const float *x, size_t m, unsigned char *packed)
{
    if (!l->gemm->input) return x;
    pack_job job = {
        .input = l->gemm->input, .x = x, .packed = packed, .m = m, .k = l->k, .ld = input_bytes(l)};
    pack_rows(&job, 0, m);
    return packed;
}

/* At most M_TILE rows. */
static void linear_rows(const tvlm_kernels *kernels, const tvlm_linear *l, tvlm_act act,
                        const float *x, size_t m, const float *residual, float *y, void *packed)
{
    tvlm_gemm_args args = linear_args(l, act, tile_input(l, x, m, packed), 1.0f, residual, y);
    l->gemm->run(&args, 0, m, 0, l->n);
    if (act_apart(act, 1.0f, residual)) act_tile(kernels, y, l->n, 0, m, 0, l->n);
}

void tvlm_nn_linear_rows(const tvlm_kernels *kernels, const tvlm_linear *l, tvlm_act act,
                         const float *x, size_t m, const float *residual, float *y, void *packed)
{
    for (size_t m0 = 0; m0 < m; m0 += M_TILE)
        linear_rows(kernels, l, act, x + m0 * l->k, min_size(M_TILE, m - m0),
                    residual ? residual + m0 * l->n : NULL, y + m0 * l->n, packed);
}

size_t tvlm_nn_packed_bytes(const tvlm_linear *l)
{
    return l->gemm->input ? tvlm_nn_elements(1, M_TILE, input_bytes(l)) : 0;
}

/* ---- a linear ---- */

typedef struct rows_job {
    const tvlm_kernels *kernels;
    const tvlm_linear *l;
    tvlm_act act;
    const float *x, *residual;
    float *y;
    size_t m;
    unsigned char *packed; /* per thread: M_TILE rows */
    size_t packed_stride;
} rows_job;

static void rows_tile(void *ctx, size_t task, unsigned thread)
{
    const rows_job *job = ctx;
    const tvlm_linear *l = job->l;
    size_t m0 = task * m_tile(l), m = min_size(job->m - m0, m_tile(l));
    linear_rows(job->kernels, l, job->act, job->x + m0 * l->k, m,
                job->residual ? job->residual + m0 * l->n : NULL, job->y + m0 * l->n,
                job->packed + thread * job->packed_stride);
}

static void linear_in_tiles(tvlm_cx *cx, rows_job *job)
{
    job->packed = tvlm_nn_slices(cx, tvlm_nn_packed_bytes(job->l), 1, &job->packed_stride);
    tvlm_nn_run(cx, tiles(job->m, m_tile(job->l)), rows_tile, job);
}

static void linear_at_once(tvlm_cx *cx, const rows_job *of, float scale)
{
    linear_job job = {
        .kernels = of->kernels, .m = of->m, .gelu = act_apart(of->act, scale, of->residual)};
    job.parts[0].run = of->l->gemm->run;
    job.parts[0].args = linear_args(of->l, of->act, give_input(cx, of->l, of->x, of->m), scale,
                                    of->residual, of->y);
    run_linears(cx, of->l, &job, 1);
}

void tvlm_nn_linear(tvlm_cx *cx, const tvlm_linear *l, tvlm_act act, const float *x, size_t m,
                    float scale, const float *residual, float *y)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    rows_job job = {
        .kernels = cx->kernels, .l = l, .act = act, .x = x, .residual = residual, .y = y, .m = m};
    if (l->gemm->input && m >= TILED_ROWS && l->n <= m && scale == 1.0f)
        linear_in_tiles(cx, &job);
    else
        linear_at_once(cx, &job, scale);
    tvlm_arena_release(cx->arena, mark);
}

/* ---- MLP ---- */

typedef struct mlp_job {
    const tvlm_kernels *kernels;
    const tvlm_linear *up, *down;
    tvlm_act act;
    const float *x, *residual;
    float *y;
    size_t m;
    /* per thread: [M_TILE][up->n], and M_TILE packed rows of the longer input */
    unsigned char *hidden, *packed;
    size_t hidden_stride, packed_stride;
} mlp_job;

static void mlp_tile(void *ctx, size_t task, unsigned thread)
{
    const mlp_job *job = ctx;
    const tvlm_linear *up = job->up, *down = job->down;
    float *hidden = (float *)(void *)(job->hidden + thread * job->hidden_stride);
    unsigned char *packed = job->packed + thread * job->packed_stride;
    size_t m0 = task * m_tile(up), m = min_size(job->m - m0, m_tile(up));
    linear_rows(job->kernels, up, job->act, job->x + m0 * up->k, m, NULL, hidden, packed);
    linear_rows(job->kernels, down, TVLM_ACT_NONE, hidden, m,
                job->residual ? job->residual + m0 * down->n : NULL, job->y + m0 * down->n, packed);
}

static void mlp_in_tiles(tvlm_cx *cx, mlp_job *job)
{
    size_t up = tvlm_nn_packed_bytes(job->up), down = tvlm_nn_packed_bytes(job->down);
    job->hidden = tvlm_nn_slices(cx, tvlm_nn_elements(1, M_TILE, job->up->n), sizeof(float),
                                 &job->hidden_stride);
    job->packed = tvlm_nn_slices(cx, up > down ? up : down, 1, &job->packed_stride);
    tvlm_nn_run(cx, tiles(job->m, m_tile(job->up)), mlp_tile, job);
}

void tvlm_nn_mlp(tvlm_cx *cx, const tvlm_linear *up, tvlm_act act, const tvlm_linear *down,
                 const float *x, size_t m, const float *residual, float *y)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    if (m < TILED_ROWS) {
        float *hidden = tvlm_nn_floats(cx, m, up->n);
        tvlm_nn_linear(cx, up, act, x, m, 1.0f, NULL, hidden);
        tvlm_nn_linear(cx, down, TVLM_ACT_NONE, hidden, m, 1.0f, residual, y);
    } else {
        mlp_job job = {.kernels = cx->kernels,
                       .up = up,
                       .down = down,
                       .act = act,
                       .x = x,
                       .residual = residual,
                       .y = y,
                       .m = m};
        mlp_in_tiles(cx, &job);
    }
    tvlm_arena_release(cx->arena, mark);
}
