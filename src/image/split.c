/* SPDX-License-Identifier: MIT */
#include "image/split.h"

enum { CHANNELS = TVLM_RESIZE_CHANNELS };

typedef struct size {
    uint32_t w, h;
} size;

static uint32_t at_least_1(double v)
{
    return v < 1 ? 1 : (uint32_t)v;
}

static uint32_t even(uint32_t v)
{
    return v + v % 2;
}

/* In doubles, in the reference's order of operations, so that the same sizes come out. */
static size longest_edge(size in, uint32_t edge)
{
    double aspect = (double)in.w / (double)in.h;
    if (in.w >= in.h) return (size){edge, at_least_1(even((uint32_t)((double)edge / aspect)))};
    return (size){at_least_1(even((uint32_t)((double)edge * aspect))), edge};
}

static uint32_t whole(double v, uint32_t s)
{
    uint32_t n = at_least_1(v);
    return (n + s - 1) / s * s;
}

static size whole_frames(size in, uint32_t s)
{
    double aspect = (double)in.w / (double)in.h;
    if (in.w >= in.h) {
        uint32_t w = whole(in.w, s);
        return (size){w, whole((double)w / aspect, s)};
    }
    uint32_t h = whole(in.h, s);
    return (size){whole((double)h * aspect, s), h};
}

static size canvas(const tvlm_preprocess_config *c, uint32_t w, uint32_t h)
{
    return whole_frames(longest_edge((size){w, h}, c->split_edge), c->image_size);
}

tvlm_grid tvlm_split_grid(const tvlm_preprocess_config *c, uint32_t w, uint32_t h)
{
    uint32_t s = c->image_size;
    if (!c->split_edge || !w || !h) return (tvlm_grid){0, 0};
    size n = canvas(c, w, h);
    return n.w > s || n.h > s ? (tvlm_grid){n.h / s, n.w / s} : (tvlm_grid){0, 0};
}

tvlm_grid tvlm_split_largest(const tvlm_preprocess_config *c)
{
    return tvlm_split_grid(c, 1, 1); /* a square */
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t tvlm_split_kept_bytes(const tvlm_preprocess_config *c)
{
    tvlm_arena arena;
    size_t all = canvas(c, 1, 1).w, s = c->image_size;
    tvlm_arena_init_measure(&arena);
    tvlm_arena_alloc(&arena, all * all, CHANNELS);
    tvlm_arena_alloc(&arena, s * s, CHANNELS);
    return arena.peak;
}

/* Both images that are there at once, and the most that one resize takes beside them. */
size_t tvlm_split_bytes(const tvlm_preprocess_config *c, uint32_t side, unsigned n_threads)
{
    tvlm_arena arena;
    uint32_t edge = c->split_edge;
    size_t all = canvas(c, 1, 1).w;
    size_t first = tvlm_preprocess_resize_bytes(c->filter, side, edge, n_threads);
    size_t second = tvlm_preprocess_resize_bytes(c->filter, edge, all, n_threads);
    size_t third = tvlm_preprocess_resize_bytes(c->filter, (uint32_t)all, c->image_size, n_threads);
    tvlm_arena_init_measure(&arena);
    tvlm_arena_alloc(&arena, tvlm_split_kept_bytes(c), 1);
    tvlm_arena_alloc(&arena, (size_t)edge * edge, CHANNELS);
    tvlm_arena_alloc(&arena, larger(first, larger(second, third)), 1);
    return arena.peak;
}

static tvlm_pixels pixels_of(const uint8_t *data, size_t w, size_t h, size_t row)
{
    return (tvlm_pixels){data, (uint32_t)w, (uint32_t)h, CHANNELS, row * CHANNELS};
}

tvlm_status tvlm_split_run(const tvlm_kernels *kernels, const tvlm_preprocess_config *c,
                           const tvlm_pixels *pixels, tvlm_arena *arena, tvlm_pool *pool,
                           const tvlm_cancel *cancel, tvlm_split *out, tvlm_error *err)
{
    size a = longest_edge((size){pixels->width, pixels->height}, c->split_edge);
    size b = canvas(c, pixels->width, pixels->height);
    size_t s = c->image_size;
    *out = (tvlm_split){.grid = tvlm_split_grid(c, pixels->width, pixels->height)};
    out->whole = tvlm_arena_alloc(arena, s * s, CHANNELS);
    out->frames = out->grid.rows ? tvlm_arena_alloc(arena, (size_t)b.w * b.h, CHANNELS) : NULL;
    size_t mark = tvlm_arena_mark(arena);
    uint8_t *first = tvlm_arena_alloc(arena, (size_t)a.w * a.h, CHANNELS);
    uint8_t *second = out->frames ? out->frames : out->whole;
    tvlm_pixels from = pixels_of(first, a.w, a.h, a.w);
    tvlm_status status = tvlm_preprocess_resize(kernels, c->filter, pixels, a.w, a.h, arena, pool,
                                                cancel, first, err);
    if (!status)
        status = tvlm_preprocess_resize(kernels, c->filter, &from, b.w, b.h, arena, pool, cancel,
                                        second, err);
    from = pixels_of(second, b.w, b.h, b.w);
    if (!status && out->frames)
        status = tvlm_preprocess_resize(kernels, c->filter, &from, s, s, arena, pool, cancel,
                                        out->whole, err);
    tvlm_arena_release(arena, mark);
    return status;
}

void tvlm_split_frame(const tvlm_preprocess_config *c, const tvlm_split *split, size_t i,
                      float *out)
{
    size_t s = c->image_size, cols = split->grid.cols, row = cols * s;
    bool last = i + 1 == tvlm_grid_frames(split->grid);
    const uint8_t *at =
        last ? split->whole : split->frames + (i / cols * s * row + i % cols * s) * CHANNELS;
    tvlm_pixels frame = pixels_of(at, s, s, last ? s : row);
    tvlm_preprocess_values(c, &frame, out);
}
