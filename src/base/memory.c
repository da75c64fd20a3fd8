/* SPDX-License-Identifier: MIT
 * The arena. */
#include "base/base.h"

#include <assert.h>

void tvlm_arena_init(tvlm_arena *arena, void *base, size_t cap)
{
    assert(base && ((uintptr_t)base & (TVLM_ALIGN - 1)) == 0);
    *arena = (tvlm_arena){.base = base, .cap = cap};
}

void tvlm_arena_init_measure(tvlm_arena *arena)
{
    *arena = (tvlm_arena){.cap = SIZE_MAX};
}

/* Bytes of a block rounded up to the alignment; false on overflow. */
static bool block_size(size_t count, size_t size, size_t *out)
{
    size_t bytes;
    if (!tvlm_mul_size(count, size, &bytes) || bytes > SIZE_MAX - (TVLM_ALIGN - 1)) return false;
    *out = tvlm_align_up(bytes);
    return true;
}

void *tvlm_arena_alloc(tvlm_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    bool fits = block_size(count, size, &bytes) && bytes <= arena->cap - arena->used;
    if (tvlm_arena_measuring(arena)) {
        /* A plan too large for size_t saturates, so that no limit or allocation accepts it. */
        arena->used = fits ? arena->used + bytes : SIZE_MAX;
    } else {
        assert(fits);
        if (!fits) return NULL;
        arena->used += bytes;
    }
    if (arena->used > arena->peak) arena->peak = arena->used;
    if (fits && bytes > arena->largest) arena->largest = bytes;
    return tvlm_arena_measuring(arena) ? NULL : arena->base + (arena->used - bytes);
}
