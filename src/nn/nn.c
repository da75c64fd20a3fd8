/* SPDX-License-Identifier: MIT
 * What the ops share: running tasks, per-thread scratch, maps, taps. */
#include "nn/nn.h"

void tvlm_nn_run(tvlm_cx *cx, size_t n_tasks, tvlm_task fn, void *ctx)
{
    if (tvlm_nn_live(cx) && !tvlm_pool_for(cx->pool, n_tasks, fn, ctx, cx->cancel))
        cx->stopped = true;
}

void *tvlm_nn_slices(tvlm_cx *cx, size_t count, size_t size, size_t *stride)
{
    unsigned threads = cx->n_threads ? cx->n_threads : tvlm_pool_threads(cx->pool);
    size_t bytes;
    if (!tvlm_mul_size(count, size, &bytes) || bytes > SIZE_MAX - (TVLM_ALIGN - 1))
        bytes = SIZE_MAX - (TVLM_ALIGN - 1); /* the arena saturates the plan */
    *stride = tvlm_align_up(bytes);
    return tvlm_arena_alloc(cx->arena, threads, *stride);
}

tvlm_fmap tvlm_nn_fmap(tvlm_cx *cx, size_t h, size_t w, size_t c)
{
    float *data = tvlm_arena_alloc(cx->arena, tvlm_nn_elements(h, w, c), sizeof *data);
    return (tvlm_fmap){data, h, w, c};
}

tvlm_qmap tvlm_nn_qmap(tvlm_cx *cx, size_t h, size_t w, size_t c, tvlm_qparam q)
{
    uint8_t *data = tvlm_arena_alloc(cx->arena, tvlm_nn_elements(h, w, c), sizeof *data);
    return (tvlm_qmap){data, h, w, c, q};
}

void tvlm_nn_tap(tvlm_cx *cx, const char *name, const float *data, size_t h, size_t w, size_t c)
{
    if (cx->tap && tvlm_nn_live(cx)) cx->tap->fn(cx->tap->user, name, data, h, w, c);
}
