/* SPDX-License-Identifier: MIT
 * Binding: tensor names -> weight structs, shapes checked; and the slots by which a loader places
 * tensor bytes as they arrive.
 *
 * One walk over the model's structure runs twice: over no memory it lists the slots and sizes the
 * weight block, over the block it sets the pointers. So the plan is the thing itself. */
#ifndef TVLM_BIND_H
#define TVLM_BIND_H

#include "model/model.h"

typedef enum tvlm_slot_kind {
    TVLM_SLOT_LINEAR,  /* [n][k] -> gemm panels of the stored type */
    TVLM_SLOT_VECTOR,  /* any shape, n elements -> float32 */
    TVLM_SLOT_DWCONV,  /* [n][taps] -> float32 [taps][n] */
    TVLM_SLOT_CONV,    /* [n][c][taps] -> float32 panels of rows [taps][c] */
    TVLM_SLOT_QLINEAR, /* int8 [n][c][taps] (taps 1 for 1x1) -> int8 panels, row sums */
    TVLM_SLOT_QDWCONV  /* int8 [n][taps] -> [taps][n], row sums */
} tvlm_slot_kind;

typedef struct tvlm_slot {
    tvlm_slot_kind kind;
    tvlm_stage stage;
    uint32_t tensor; /* index in gguf.tensors */
    tvlm_type type;
    size_t at;                      /* in the weight block */
    size_t n, c, taps;              /* rows; k of a row = c * taps */
    size_t sums;                    /* int8: of the row sums in the block */
    size_t row_bytes;               /* in the file */
    size_t unit_rows;               /* rows placed at a time (the last unit may be shorter) */
    const tvlm_gemm_layout *layout; /* of LINEAR and CONV */
} tvlm_slot;

typedef struct tvlm_plan {
    tvlm_slot *slots; /* in file order */
    size_t n_slots, cap;
    int32_t *slot_of;                           /* per tensor: its slot or -1 */
    size_t block_size, unit_bytes;              /* the largest unit */
    uint32_t remaining[TVLM_STAGE_DECODER + 1]; /* slots per stage */
} tvlm_plan;

/* From the header alone: model->gguf, config and kernels are set. */
tvlm_status tvlm_bind_plan(tvlm_model *model, tvlm_plan *plan, tvlm_error *err);
void tvlm_plan_free(tvlm_plan *plan);
/* After model->block was allocated with plan->block_size bytes. */
tvlm_status tvlm_bind_attach(tvlm_model *model, tvlm_plan *plan, tvlm_error *err);
/* Rows row .. row + n_rows of the slot's tensor; row a multiple of unit_rows. */
void tvlm_bind_place(tvlm_model *model, const tvlm_slot *slot, size_t row, const void *bytes,
                     size_t n_rows);
/* What follows from placed values: int8 multipliers; tanh of the cross-attention gates. Fails on
 * values that make no sense (a scale that is not positive). */
tvlm_status tvlm_bind_finish(tvlm_model *model, const tvlm_plan *plan, tvlm_stage stage,
                             tvlm_error *err);

/* ---- the walk: shared with the families (model/arch.h) ---- */
typedef struct tvlm_binder {
    tvlm_model *model;
    tvlm_plan *plan;
    unsigned char *base; /* NULL in the first walk */
    size_t used;
    tvlm_stage stage;
    tvlm_status status; /* the first failure: later calls do nothing */
    tvlm_error *err;
} tvlm_binder;

void *tvlm_bind_reserve(tvlm_binder *b, size_t count, size_t size);
const tvlm_gguf_tensor *tvlm_bind_find(tvlm_binder *b, const char *name); /* NULL: not there */
const tvlm_gguf_tensor *tvlm_bind_need(tvlm_binder *b, const char *name); /* likewise, an error */
/* Each checks the shape (0: any), which `out` then holds. Names get ".weight" / ".bias". */
void tvlm_bind_linear(tvlm_binder *b, tvlm_linear *out, const char *name, size_t n, size_t k,
                      bool bias_required);
void tvlm_bind_norm(tvlm_binder *b, tvlm_norm *out, const char *name, size_t n, bool bias);
void tvlm_bind_dwconv(tvlm_binder *b, tvlm_dwconv *out, const char *name, size_t c);
void tvlm_bind_conv(tvlm_binder *b, tvlm_conv *out, const char *name, size_t c_in);
/* A float32 array of exactly this many elements under its full name. */
const float *tvlm_bind_vector(tvlm_binder *b, const char *name, size_t n);
void tvlm_bind_fail(tvlm_binder *b, tvlm_status status); /* a status whose message is written */
tvlm_slot *tvlm_bind_slot(tvlm_binder *b, const tvlm_gguf_tensor *t, tvlm_slot_kind kind, size_t n,
                          size_t c, size_t taps, size_t bytes);
bool tvlm_bind_shape(tvlm_binder *b, const tvlm_gguf_tensor *t, const size_t *shape, uint32_t n);
/* Of a depthwise kernel [c][k][k] or [c][1][k][k] (c 0: any): k, or 0 after an error. */
unsigned tvlm_bind_taps(tvlm_binder *b, const tvlm_gguf_tensor *t, size_t c);

/* Whether there is a tensor "NAME.weight". */
bool tvlm_bind_present(tvlm_binder *b, const char *name);

#endif
