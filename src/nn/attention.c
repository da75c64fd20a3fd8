/* SPDX-License-Identifier: MIT
 * Multi-head attention: tasks over (head, tile of queries), a head's keys stay in cache. */
#include "nn/nn.h"

#include <string.h>

enum { QUERY_TILE = 16 };

typedef struct attention_job {
    const tvlm_kernels *kernels;
    const float *q;
    const tvlm_attn_row *rows; /* per query, or one for all */
    bool one_set;
    size_t ldq, m, ldk, n_heads, n_kv, d, m_tiles;
    bool kv_f16;
    float scale, *out;
    unsigned char *scores; /* per thread [max_keys] */
    size_t stride;
} attention_job;

static const void *head_start(const attention_job *job, const void *rows, size_t head)
{
    size_t column = head / (job->n_heads / job->n_kv) * job->d;
    return (const unsigned char *)rows + column * (job->kv_f16 ? sizeof(uint16_t) : sizeof(float));
}

static void attend(const attention_job *job, size_t query, size_t head, float *scores)
{
    const tvlm_attn_row *row = &job->rows[job->one_set ? 0 : query];
    float *out = job->out + (query * job->n_heads + head) * job->d;
    if (row->n_keys == 0) {
        memset(out, 0, job->d * sizeof *out);
        return;
    }
    tvlm_attention_args args = {.q = job->q + query * job->ldq + head * job->d,
                                .k = head_start(job, row->k, head),
                                .v = head_start(job, row->v, head),
                                .kv_f16 = job->kv_f16,
                                .ldk = job->ldk,
                                .ldv = job->ldk,
                                .n_keys = row->n_keys,
                                .d = job->d,
                                .scale = job->scale,
                                .scores = scores,
                                .out = out};
    job->kernels->attention(&args);
}

static void attention_tile(void *ctx, size_t task, unsigned thread)
{
    const attention_job *job = ctx;
    float *scores = (float *)(void *)(job->scores + thread * job->stride);
    size_t head = task / job->m_tiles, q0 = task % job->m_tiles * QUERY_TILE;
    size_t q1 = q0 + QUERY_TILE < job->m ? q0 + QUERY_TILE : job->m;
    for (size_t query = q0; query < q1; query++)
        attend(job, query, head, scores);
}

static void run_attention(tvlm_cx *cx, attention_job *job, size_t max_keys)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    job->kernels = cx->kernels;
    job->m_tiles = (job->m + QUERY_TILE - 1) / QUERY_TILE;
    job->scores = tvlm_nn_slices(cx, max_keys, sizeof(float), &job->stride);
    tvlm_nn_run(cx, job->n_heads * job->m_tiles, attention_tile, job);
    tvlm_arena_release(cx->arena, mark);
}

void tvlm_nn_attention(tvlm_cx *cx, const float *q, size_t ldq, size_t m, const void *k,
                       const void *v, size_t ldk, bool kv_f16, size_t n_keys, size_t n_heads,
                       size_t n_kv, size_t d, float scale, float *out)
{
    tvlm_attn_row all = {k, v, n_keys};
    attention_job job = {.q = q,
                         .ldq = ldq,
                         .rows = &all,
                         .one_set = true,
                         .m = m,
                         .ldk = ldk,
                         .kv_f16 = kv_f16,
                         .n_heads = n_heads,
                         .n_kv = n_kv,
                         .d = d,
                         .scale = scale,
                         .out = out};
    run_attention(cx, &job, n_keys);
}

void tvlm_nn_attention_rows(tvlm_cx *cx, const float *q, size_t ldq, const tvlm_attn_row *rows,
                            size_t m, size_t ldk, bool kv_f16, size_t max_keys, size_t n_heads,
                            size_t n_kv, size_t d, float scale, float *out)
{
    attention_job job = {.q = q,
                         .ldq = ldq,
                         .rows = rows,
                         .m = m,
                         .ldk = ldk,
                         .kv_f16 = kv_f16,
                         .n_heads = n_heads,
                         .n_kv = n_kv,
                         .d = d,
                         .scale = scale,
                         .out = out};
    run_attention(cx, &job, max_keys);
}
