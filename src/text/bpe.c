/* SPDX-License-Identifier: MIT
 * Merging with a binary heap of candidate pairs. Every merge removes a symbol and adds at most two
 * candidates, so the heap never holds more than two per byte. */
#include "text/bpe.h"

#include <stdlib.h>

/* One allocation for all arrays, in the order of their alignment: 28 bytes per text byte. */
static tvlm_status reserve(tvlm_bpe *bpe, size_t n, tvlm_error *err)
{
    if (n <= bpe->cap) return TVLM_OK;
    size_t cap = n < 1024 ? 1024 : n + n / 2, bytes;
    uint64_t *block = NULL;
    if (tvlm_mul_size(cap, 2 * sizeof *bpe->heap + 3 * sizeof *bpe->id, &bytes))
        block = malloc(bytes);
    if (!block) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory (tokenizing)");
    tvlm_bpe_release(bpe);
    bpe->cap = cap;
    bpe->heap = block;
    bpe->id = (uint32_t *)(block + 2 * cap);
    bpe->len = bpe->id + cap;
    bpe->start = bpe->len + cap;
    return TVLM_OK;
}

void tvlm_bpe_release(tvlm_bpe *bpe)
{
    free(bpe->heap);
    *bpe = (tvlm_bpe){0};
}

static void heap_push(tvlm_bpe *bpe, uint64_t key)
{
    size_t i = bpe->n_heap++;
    for (size_t parent; i > 0 && bpe->heap[parent = (i - 1) / 2] > key; i = parent)
        bpe->heap[i] = bpe->heap[parent];
    bpe->heap[i] = key;
}

static uint64_t heap_pop(tvlm_bpe *bpe)
{
    uint64_t top = bpe->heap[0], key = bpe->heap[--bpe->n_heap];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < bpe->n_heap) {
        if (child + 1 < bpe->n_heap && bpe->heap[child + 1] < bpe->heap[child]) child++;
        if (bpe->heap[child] >= key) break;
        bpe->heap[i] = bpe->heap[child];
        i = child;
    }
    bpe->heap[i] = key;
    return top;
}

/* Offers the pair of symbols `left` and `right`, if they merge. */
static void offer(tvlm_bpe *bpe, const tvlm_tokenizer *t, uint32_t left, uint32_t right)
{
    uint32_t rank = tvlm_vocab_rank(t, bpe->id[left], bpe->id[right]);
    if (rank != TVLM_NO_ID) heap_push(bpe, (uint64_t)rank << 32 | left);
}

tvlm_status tvlm_bpe_merge(tvlm_bpe *bpe, const tvlm_tokenizer *t, const char *bytes, size_t n,
                           tvlm_error *err)
{
    TVLM_TRY(reserve(bpe, n, err));
    bpe->n_heap = 0;
    uint32_t end = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->byte_id[(unsigned char)bytes[i]];
        if (id == TVLM_NO_ID) continue;
        bpe->id[end] = id;
        bpe->len[end] = 1;
        bpe->start[end] = end;
        if (end > 0) offer(bpe, t, end - 1, end);
        end++;
    }
    bpe->end = end;
    while (bpe->n_heap > 0) {
        uint64_t key = heap_pop(bpe);
        uint32_t left = (uint32_t)key, merged = t->merge_id[key >> 32];
        uint32_t right = left + bpe->len[left];
        /* Symbols only grow, so the pair is still the one that was offered exactly when it is
         * still as long as what it merges to. */
        if (bpe->len[left] == 0 || right >= end ||
            bpe->len[left] + bpe->len[right] != tvlm_vocab_token(t, merged).len)
            continue;
        bpe->id[left] = merged;
        bpe->len[left] += bpe->len[right];
        bpe->len[right] = 0;
        uint32_t next = left + bpe->len[left];
        bpe->start[next - 1] = left;
        if (left > 0) offer(bpe, t, bpe->start[left - 1], left);
        if (next < end) offer(bpe, t, left, next);
    }
    return TVLM_OK;
}
