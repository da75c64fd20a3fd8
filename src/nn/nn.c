/* SPDX-License-Identifier: MIT
 * What the ops share: running tasks, scratch. */
#include "nn/nn.h"

void tvlm_nn_run(tvlm_cx *cx, size_t n_tasks, tvlm_task fn, void *ctx)
{
    if (tvlm_nn_live(cx) && !tvlm_pool_for(cx->pool, n_tasks, fn, ctx, cx->cancel))
        cx->stopped = true;
}

unsigned tvlm_nn_threads(const tvlm_cx *cx)
{
    return cx->n_threads ? cx->n_threads : tvlm_pool_threads(cx->pool);
}

void *tvlm_nn_slices(tvlm_cx *cx, size_t count, size_t size, size_t *stride)
{
    size_t bytes;
    if (!tvlm_mul_size(count, size, &bytes) || bytes > SIZE_MAX - (TVLM_ALIGN - 1))
        bytes = SIZE_MAX - (TVLM_ALIGN - 1); /* the arena saturates the plan */
    *stride = tvlm_align_up(bytes);
    return tvlm_arena_alloc(cx->arena, tvlm_nn_threads(cx), *stride);
}

float *tvlm_nn_floats(tvlm_cx *cx, size_t m, size_t n)
{
    return tvlm_arena_alloc(cx->arena, tvlm_nn_elements(1, m, n), sizeof(float));
}
