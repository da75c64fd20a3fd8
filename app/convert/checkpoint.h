/* SPDX-License-Identifier: MIT
 * The tensors of a checkpoint under one set of names, whatever layout it came in: decoder and
 * projector named as Apple's, tower named as timm's under "v." (stem.I, stages.S.downsample,
 * stages.S.pos_emb, stages.S.blocks.J, final_conv), in training form with timm's branch names.
 * Each tensor that conversion reads is marked, so that none is lost silently. */
#ifndef TVLM_APP_CHECKPOINT_H
#define TVLM_APP_CHECKPOINT_H

#include "convert/safetensors.h"

enum { TVLM_KEY_MAX = 600 };

typedef struct tvlm_source {
    char *name; /* canonical */
    const tvlm_st_tensor *tensor;
    bool used;
} tvlm_source;

typedef struct tvlm_checkpoint {
    tvlm_st_set set;
    tvlm_source *sources; /* sorted by canonical name */
    size_t n;
} tvlm_checkpoint;

/* Whether path is a folder with weights and a config.json; if not, the message says what it is and
 * what to do. */
tvlm_status tvlm_checkpoint_look(const char *path, tvlm_error *err);
tvlm_status tvlm_checkpoint_open(const char *dir, tvlm_checkpoint *out, tvlm_error *err);
void tvlm_checkpoint_close(tvlm_checkpoint *checkpoint);

/* NULL when there is none; does not mark it. */
tvlm_source *tvlm_checkpoint_find(const tvlm_checkpoint *checkpoint, const char *name);
/* Whether any tensor's name begins so. */
bool tvlm_checkpoint_has(const tvlm_checkpoint *checkpoint, const char *prefix);
/* The first tensor not marked, other than those that inference never needs: counters of batches,
 * classifier heads, stored rotary tables; NULL when all were used. */
const tvlm_source *tvlm_checkpoint_unused(const tvlm_checkpoint *checkpoint);

/* ---- names (checkpoint_keys.c) ---- */
enum { TVLM_MAX_NETWORK = 64 };
/* Apple numbers the parts of the tower in one row: network.I is a stage's blocks, the downsampling
 * before a stage or its position encoding; which one is told by the names below it. */
typedef struct tvlm_network {
    bool is_blocks[TVLM_MAX_NETWORK];
} tvlm_network;
void tvlm_network_scan(tvlm_network *network, const char *name);
/* False when the name is too long. */
bool tvlm_canonical_name(const tvlm_network *network, const char *name, char out[TVLM_KEY_MAX]);

#endif
