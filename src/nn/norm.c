/* SPDX-License-Identifier: MIT
 * Ops on independent rows, over tiles of rows; and the mean over rows, over tiles of columns. */
#include "nn/nn.h"

enum { TILE_FLOATS = 8192, COLUMN_TILE = 64 };

typedef struct row_job {
    const tvlm_kernels *kernels;
    const float *weight, *bias, *x;
    float *y, eps;
    size_t m, n, tile; /* rows of a task */
    tvlm_act act;
    size_t n_heads; /* rope */
    bool interleaved;
    void (*row)(const struct row_job *job, const float *x, float *y);
} row_job;

static void rms_row(const row_job *job, const float *x, float *y)
{
    job->kernels->rmsnorm(y, x, job->weight, job->n, job->eps);
}

static void layer_row(const row_job *job, const float *x, float *y)
{
    job->kernels->layernorm(y, x, job->weight, job->bias, job->n, job->eps);
}

static void scale_row(const row_job *job, const float *x, float *y)
{
    job->kernels->scale_act(job->act, y, x, job->weight, job->n);
}

/* up: beside x */
static void silu_row(const row_job *job, const float *x, float *y)
{
    job->kernels->silu_mul(y, x, job->weight + (x - job->x), job->n);
}

static void rope_row(const row_job *job, const float *x, float *y)
{
    size_t row = (size_t)(x - job->x) / job->n, d = job->n / job->n_heads;
    job->kernels->rope(y, job->n_heads, d, job->weight + row * d, job->interleaved);
}

static void row_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const row_job *job = ctx;
    size_t end = (task + 1) * job->tile < job->m ? (task + 1) * job->tile : job->m;
    for (size_t i = task * job->tile; i < end; i++)
        job->row(job, job->x + i * job->n, job->y + i * job->n);
}

static void run_rows(tvlm_cx *cx, row_job *job)
{
    job->kernels = cx->kernels;
    job->tile = job->n < TILE_FLOATS ? TILE_FLOATS / job->n : 1;
    tvlm_nn_run(cx, (job->m + job->tile - 1) / job->tile, row_tile, job);
}

void tvlm_nn_rmsnorm(tvlm_cx *cx, const tvlm_norm *w, float eps, const float *x, size_t m, size_t n,
                     float *y)
{
    row_job job = {.weight = w->weight, .x = x, .y = y, .eps = eps, .m = m, .n = n, .row = rms_row};
    run_rows(cx, &job);
}

void tvlm_nn_layernorm(tvlm_cx *cx, const tvlm_norm *w, float eps, const float *x, size_t m,
                       size_t n, float *y)
{
    row_job job = {.weight = w ? w->weight : NULL,
                   .bias = w ? w->bias : NULL,
                   .x = x,
                   .y = y,
                   .eps = eps,
                   .m = m,
                   .n = n,
                   .row = layer_row};
    run_rows(cx, &job);
}

void tvlm_nn_scale_act(tvlm_cx *cx, tvlm_act act, const float *s, const float *x, size_t m,
                       size_t n, float *y)
{
    row_job job = {.weight = s, .x = x, .y = y, .act = act, .m = m, .n = n, .row = scale_row};
    run_rows(cx, &job);
}

void tvlm_nn_silu_mul(tvlm_cx *cx, const float *gate, const float *up, size_t m, size_t n, float *y)
{
    row_job job = {.weight = up, .x = gate, .y = y, .m = m, .n = n, .row = silu_row};
    run_rows(cx, &job);
}

void tvlm_nn_rope(tvlm_cx *cx, const float *cs, bool interleaved, size_t n_heads, size_t d,
                  float *x, size_t m)
{
    row_job job = {.weight = cs,
                   .interleaved = interleaved,
                   .n_heads = n_heads,
                   .x = x,
                   .y = x,
                   .m = m,
                   .n = n_heads * d,
                   .row = rope_row};
    run_rows(cx, &job);
}

static void mean_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const row_job *job = ctx;
    size_t j0 = task * COLUMN_TILE;
    size_t n = job->n - j0 < COLUMN_TILE ? job->n - j0 : COLUMN_TILE;
    float *sum = job->y + j0;
    for (size_t j = 0; j < n; j++)
        sum[j] = 0.0f;
    for (size_t i = 0; i < job->m; i++)
        job->kernels->axpy(sum, 1.0f, job->x + i * job->n + j0, n);
    for (size_t j = 0; j < n; j++)
        sum[j] /= (float)job->m;
}

void tvlm_nn_mean(tvlm_cx *cx, const float *x, size_t m, size_t n, float *y)
{
    row_job job = {.kernels = cx->kernels, .x = x, .y = y, .m = m, .n = n};
    tvlm_nn_run(cx, (n + COLUMN_TILE - 1) / COLUMN_TILE, mean_tile, &job);
}
