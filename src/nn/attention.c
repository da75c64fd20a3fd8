/* SPDX-License-Identifier: MIT
 * Multi-head attention with an online softmax. The (query, head) pairs of a key/value head are cut
 * into tiles; a task takes one over its keys, tile of keys by tile. When that gives too few tasks
 * (decoding), every tile of keys is a task, and the caller joins: in the same order. */
#include "nn/nn.h"

#include <math.h>
#include <string.h>

enum {
    KEYS = TVLM_ATTENTION_KEYS,
    ROWS = TVLM_ATTENTION_ROWS,
    PARTS = 512,    /* pairs times tiles of keys between two joins */
    MIN_SPLIT = 4,  /* tiles of keys that are worth a second barrier */
    TASKS_EACH = 4, /* enough tasks for a thread */
};

typedef struct attention_job {
    const tvlm_kernels *kernels;
    const tvlm_attention *a;
    size_t group, pairs, tile, tiles; /* heads and pairs of a kv head; its tiles of pairs */
    unsigned char *scratch;           /* per thread */
    size_t stride;
    tvlm_attention_row *parts, *all; /* [wave][kv head][pair], [kv head][pair] */
    float *outs;                     /* of parts, [d] each */
    size_t key0, wave;               /* first key and tiles of keys between two joins */
} attention_job;

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const tvlm_attn_row *keys_of(const attention_job *job, size_t pair)
{
    return &job->a->keys[job->a->shared ? 0 : pair / job->group];
}

static const void *head_start(const tvlm_attention *a, const void *rows, size_t kv_head)
{
    size_t element = a->kv_f16 ? sizeof(uint16_t) : sizeof(float);
    return rows ? (const unsigned char *)rows + kv_head * a->d * element : NULL;
}

static float *out_of(const attention_job *job, size_t kv_head, size_t pair)
{
    size_t head = kv_head * job->group + pair % job->group;
    return job->a->out + (pair / job->group * job->a->n_heads + head) * job->a->d;
}

/* Pairs that see the same keys, over the tile of keys from key0 on; outs NULL: to the output. */
static void attend(const attention_job *job, size_t kv_head, size_t pair, size_t n, size_t key0,
                   float *outs, tvlm_attention_row *part, float *scratch)
{
    const tvlm_attention *a = job->a;
    const tvlm_attn_row *keys = keys_of(job, pair);
    size_t element = a->ldk * (a->kv_f16 ? sizeof(uint16_t) : sizeof(float));
    for (size_t r = 0; r < n; r++) {
        size_t query = (pair + r) / job->group, n_keys = keys_of(job, pair + r)->n_keys;
        const float *q = a->q + query * a->ldq;
        part[r].q = q + (kv_head * job->group + (pair + r) % job->group) * a->d;
        part[r].out = outs ? outs + r * a->d : out_of(job, kv_head, pair + r);
        part[r].n_keys = n_keys > key0 ? min_size(n_keys - key0, KEYS) : 0;
    }
    const unsigned char *k = head_start(a, keys->k, kv_head), *v = head_start(a, keys->v, kv_head);
    job->kernels->attention(&(tvlm_attention_args){.rows = part,
                                                   .n_rows = n,
                                                   .k = k ? k + key0 * element : NULL,
                                                   .v = v ? v + key0 * element : NULL,
                                                   .kv_f16 = a->kv_f16,
                                                   .ldk = a->ldk,
                                                   .ldv = a->ldk,
                                                   .d = a->d,
                                                   .scale = a->scale * 0x1.715476p+0f,
                                                   .scratch = scratch});
}

/* Pairs p0..p1, one set of keys after the other. */
static void attend_tile(const attention_job *job, size_t kv_head, size_t p0, size_t p1, size_t key0,
                        float *outs, tvlm_attention_row *part, float *scratch)
{
    for (size_t p = p0, end; p < p1; p = end) {
        const void *k = keys_of(job, p)->k;
        for (end = p + 1; end < p1 && keys_of(job, end)->k == k;)
            end++;
        attend(job, kv_head, p, end - p, key0, outs ? outs + (p - p0) * job->a->d : NULL,
               part + (p - p0), scratch);
    }
}

static size_t most_keys(const attention_job *job, size_t p0, size_t p1)
{
    size_t most = 0;
    for (size_t p = p0; p < p1; p++)
        most = keys_of(job, p)->n_keys > most ? keys_of(job, p)->n_keys : most;
    return most;
}

static void finish(const attention_job *job, const tvlm_attention_row *row)
{
    float inv = row->sum == 0.0f ? 0.0f : 1.0f / row->sum; /* without keys: 0 */
    for (size_t i = 0; i < job->a->d; i++)
        row->out[i] *= inv;
}

/* A tile of pairs over all its keys. */
static void all_keys(void *ctx, size_t task, unsigned thread)
{
    const attention_job *job = ctx;
    float *scratch = (float *)(void *)(job->scratch + thread * job->stride);
    float *outs = scratch + TVLM_ATTENTION_SCRATCH;
    size_t kv_head = task / job->tiles, p0 = task % job->tiles * job->tile;
    size_t p1 = min_size(p0 + job->tile, job->pairs), most = most_keys(job, p0, p1);
    tvlm_attention_row all[ROWS], part[ROWS];
    attend_tile(job, kv_head, p0, p1, 0, NULL, all, scratch);
    for (size_t key0 = KEYS; key0 < most; key0 += KEYS) {
        attend_tile(job, kv_head, p0, p1, key0, outs, part, scratch);
        for (size_t r = 0; r < p1 - p0; r++)
            if (part[r].n_keys) job->kernels->attention_join(&all[r], &part[r], job->a->d);
    }
    for (size_t r = 0; r < p1 - p0; r++)
        finish(job, &all[r]);
}

/* A tile of pairs over one tile of keys of the wave. */
static void some_keys(void *ctx, size_t task, unsigned thread)
{
    const attention_job *job = ctx;
    size_t tile = task / job->wave, w = task % job->wave;
    size_t kv_head = tile / job->tiles, p0 = tile % job->tiles * job->tile;
    size_t p1 = min_size(p0 + job->tile, job->pairs);
    size_t slot = (w * job->a->n_kv + kv_head) * job->pairs + p0;
    attend_tile(job, kv_head, p0, p1, job->key0 + w * KEYS, job->outs + slot * job->a->d,
                job->parts + slot, (float *)(void *)(job->scratch + thread * job->stride));
}

static void join_wave(const attention_job *job)
{
    size_t d = job->a->d, n = job->a->n_kv * job->pairs;
    for (size_t i = 0; i < job->wave * n; i++) {
        tvlm_attention_row *all = &job->all[i % n];
        if (job->key0 == 0 && i < n) {
            *all = job->parts[i];
            all->out = out_of(job, i / job->pairs, i % job->pairs);
            memcpy(all->out, job->parts[i].out, d * sizeof(float));
        } else if (job->parts[i].n_keys) {
            job->kernels->attention_join(all, &job->parts[i], d);
        }
    }
}

static void run_split(tvlm_cx *cx, attention_job *job, size_t most)
{
    size_t n = job->a->n_kv * job->pairs, key_tiles = (most + KEYS - 1) / KEYS;
    for (size_t done = 0; done < key_tiles; done += job->wave) {
        job->key0 = done * KEYS;
        job->wave = min_size(PARTS / n, key_tiles - done);
        tvlm_nn_run(cx, job->a->n_kv * job->tiles * job->wave, some_keys, job);
        if (!tvlm_nn_live(cx)) return;
        join_wave(job);
    }
    for (size_t i = 0; i < n; i++)
        finish(job, &job->all[i]);
}

static void run(tvlm_cx *cx, attention_job *job)
{
    size_t tasks = job->a->n_kv * job->tiles, most = most_keys(job, 0, job->pairs);
    unsigned threads = tvlm_pool_threads(cx->pool);
    bool split = threads > 1 && tasks < (size_t)TASKS_EACH * threads && most > MIN_SPLIT * KEYS &&
                 PARTS / MIN_SPLIT >= job->a->n_kv * job->pairs;
    if (split)
        run_split(cx, job, most);
    else
        tvlm_nn_run(cx, tasks, all_keys, job);
}

void tvlm_nn_attention(tvlm_cx *cx, const tvlm_attention *a)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    attention_job job = {.kernels = cx->kernels, .a = a, .group = a->n_heads / a->n_kv};
    size_t floats = TVLM_ATTENTION_SCRATCH + tvlm_nn_elements(ROWS, a->d, 1);
    job.pairs = a->m * job.group;
    job.tile = job.group < ROWS ? ROWS / job.group * job.group : ROWS; /* whole queries */
    job.tiles = (job.pairs + job.tile - 1) / job.tile;
    job.scratch = tvlm_nn_slices(cx, floats, sizeof(float), &job.stride);
    job.parts = tvlm_arena_alloc(cx->arena, PARTS, sizeof *job.parts);
    job.all = tvlm_arena_alloc(cx->arena, PARTS / MIN_SPLIT, sizeof *job.all);
    job.outs = tvlm_nn_floats(cx, PARTS, a->d);
    if (tvlm_nn_live(cx)) run(cx, &job);
    tvlm_arena_release(cx->arena, mark);
}
