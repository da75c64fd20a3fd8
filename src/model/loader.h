/* SPDX-License-Identifier: MIT
 * Between loader.c (bytes in order) and open.c (files and memory, by all threads). */
#ifndef TVLM_MODEL_LOADER_H
#define TVLM_MODEL_LOADER_H

#include "model/bind.h"

/* A walk over the bytes of the tensors: the loader's, from the first on, or a share's. */
typedef struct tvlm_load_cursor {
    uint64_t begin, at; /* file offsets: where it began, of the next byte */
    size_t tensor;      /* the one that `at` is in or before */
    size_t row;         /* of that tensor's slot: first row not placed */
    uint32_t crc;       /* of that tensor's bytes from `begin` on */
    uint32_t rest_crc;  /* of the rest of a tensor that `begin` is in, once that is over */
} tvlm_load_cursor;

struct tvlm_loader {
    tvlm_model_params params;
    uint32_t cpu_mask; /* what params.cpu and params.precision mean here */
    tvlm_precision precision;
    tvlm_model *model; /* NULL before the header is complete */
    tvlm_plan plan;
    unsigned char *head; /* header bytes so far */
    size_t head_size, head_cap, next_parse;
    tvlm_load_cursor cursor;
    size_t n_placed;     /* tensors that their stages know to be in place */
    unsigned char *unit; /* a unit that arrives in pieces */
    size_t unit_size;
    tvlm_status failed; /* a loader that failed stays failed */
};

/* Adds to the header. Once that is complete, l->model is there and *tail (to be freed; tail is
 * nullable) is a copy of the bytes behind it. */
tvlm_status tvlm_loader_feed_header(tvlm_loader *l, const unsigned char *data, size_t size,
                                    unsigned char **tail, size_t *n_tail, tvlm_error *err);
/* Tensor bytes, in order, by the loader's own cursor. */
tvlm_status tvlm_loader_feed_data(tvlm_loader *l, const unsigned char *p, size_t size,
                                  tvlm_error *err);
/* CANCELLED, if it is. */
tvlm_status tvlm_loader_check_cancel(const tvlm_loader *l, tvlm_error *err);
/* Takes bytes up to the end of a tensor, or of the padding before it. Threads may step cursors of
 * their own that begin between units of rows. */
tvlm_status tvlm_loader_step(tvlm_loader *l, tvlm_load_cursor *c, const unsigned char **p,
                             size_t *size, tvlm_error *err);
/* Takes the loader's cursor over a share that is placed. */
tvlm_status tvlm_loader_follow(tvlm_loader *l, const tvlm_load_cursor *share, tvlm_error *err);

/* Every tensor has a slot: others are refused with the header. */
static inline const tvlm_slot *tvlm_loader_slot(const tvlm_loader *l, size_t tensor)
{
    return &l->plan.slots[l->plan.slot_of[tensor]];
}

/* What follows the last tensor: padding up to here is the file's, the rest is not. */
static inline uint64_t tvlm_loader_end(const tvlm_loader *l)
{
    const tvlm_gguf *g = &l->model->gguf;
    return (g->file_size + g->alignment - 1) & ~(uint64_t)(g->alignment - 1);
}

static inline size_t tvlm_at_most(size_t size, uint64_t left)
{
    return left < size ? (size_t)left : size;
}

#endif
