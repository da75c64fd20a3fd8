/* SPDX-License-Identifier: MIT
 * Feature maps: from the arena, and from one dtype to the other. */
#include "nn/nn.h"

#include <assert.h>
#include <string.h>

enum { CONVERT_TILE = 4096 };

static size_t element_size(tvlm_dtype dtype)
{
    return dtype == TVLM_DTYPE_U7 ? sizeof(uint8_t) : sizeof(float);
}

tvlm_map tvlm_nn_map(tvlm_cx *cx, tvlm_map shape)
{
    shape.data = tvlm_arena_alloc(cx->arena, tvlm_nn_elements(shape.h, shape.w, shape.c),
                                  element_size(shape.dtype));
    return shape;
}

typedef struct convert_job {
    const tvlm_kernels *kernels;
    tvlm_map x, y;
    size_t n;
} convert_job;

static void convert_tile(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    const convert_job *job = ctx;
    const tvlm_map *x = &job->x, *y = &job->y;
    size_t at = task * CONVERT_TILE, left = job->n - at;
    size_t n = left < CONVERT_TILE ? left : CONVERT_TILE, size = element_size(x->dtype);
    const unsigned char *from = (const unsigned char *)x->data + at * size;
    unsigned char *to = (unsigned char *)y->data + at * element_size(y->dtype);
    if (x->dtype == y->dtype)
        memcpy(to, from, n * size);
    else if (y->dtype == TVLM_DTYPE_U7)
        job->kernels->quantize_u7(to, (const float *)(const void *)from, n, 1.0f / y->q.scale,
                                  (float)y->q.zero);
    else
        job->kernels->dequantize_u7((float *)(void *)to, from, n, x->q.scale, x->q.zero);
}

static bool same_numbers(tvlm_map x, tvlm_dtype dtype, tvlm_qparam q)
{
    return x.dtype == dtype &&
           (dtype == TVLM_DTYPE_F32 || (x.q.scale == q.scale && x.q.zero == q.zero));
}

void tvlm_nn_convert(tvlm_cx *cx, tvlm_map x, tvlm_map y)
{
    assert(x.h * x.w == y.h * y.w && x.c == y.c);
    assert(x.dtype != y.dtype || same_numbers(x, y.dtype, y.q));
    convert_job job = {cx->kernels, x, y, tvlm_nn_elements(x.h, x.w, x.c)};
    tvlm_nn_run(cx, job.n / CONVERT_TILE + (job.n % CONVERT_TILE != 0), convert_tile, &job);
}

tvlm_map tvlm_nn_as(tvlm_cx *cx, tvlm_map x, tvlm_dtype dtype, tvlm_qparam q)
{
    if (same_numbers(x, dtype, q)) return x;
    if (x.dtype == dtype) x = tvlm_nn_as(cx, x, TVLM_DTYPE_F32, q);
    tvlm_map y = tvlm_nn_map(cx, (tvlm_map){.h = x.h, .w = x.w, .c = x.c, .dtype = dtype, .q = q});
    tvlm_nn_convert(cx, x, y);
    return y;
}

void tvlm_nn_tap(tvlm_cx *cx, const char *name, tvlm_map map)
{
    if (!cx->tap) return;
    size_t mark = tvlm_arena_mark(cx->arena);
    map = tvlm_nn_as(cx, map, TVLM_DTYPE_F32, map.q);
    if (tvlm_nn_live(cx)) cx->tap->fn(cx->tap->user, name, map.data, map.h, map.w, map.c);
    tvlm_arena_release(cx->arena, mark);
}
