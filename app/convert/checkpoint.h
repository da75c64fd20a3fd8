/* SPDX-License-Identifier: MIT
 * The tensors of a checkpoint under one set of names, whatever layout it came in: decoder and
 * projector named as Apple's, tower named as timm's under "v." (stem.I, stages.S.downsample,
 * stages.S.pos_emb, stages.S.blocks.J, final_conv), in training form with timm's branch names.
 * Each tensor that conversion reads is marked, so that none is lost silently. */
#ifndef TVLMC_CHECKPOINT_H
#define TVLMC_CHECKPOINT_H

#include "base/base.h"
#include "convert/safetensors.h"

enum { TVLMC_KEY_MAX = 600 };

typedef struct tvlmc_source {
    char *name; /* canonical */
    const tvlmc_st_tensor *tensor;
    bool used;
} tvlmc_source;

typedef struct tvlmc_checkpoint {
    tvlmc_st_set set;
    tvlmc_source *sources; /* sorted by canonical name */
    size_t n;
} tvlmc_checkpoint;

/* Whether path is a folder with weights and a config.json; if not, the message says what it is and
 * what to do. */
tvlm_status tvlmc_checkpoint_look(const char *path, tvlm_error *err);
tvlm_status tvlmc_checkpoint_open(const char *dir, tvlmc_checkpoint *out, tvlm_error *err);
void tvlmc_checkpoint_close(tvlmc_checkpoint *checkpoint);

/* NULL when there is none; does not mark it. */
tvlmc_source *tvlmc_checkpoint_find(const tvlmc_checkpoint *checkpoint, const char *name);
/* Whether any tensor's name begins so. */
bool tvlmc_checkpoint_has(const tvlmc_checkpoint *checkpoint, const char *prefix);
/* The first tensor not marked, other than those that inference never needs: counters of batches,
 * classifier heads, stored rotary tables; NULL when all were used. */
const tvlmc_source *tvlmc_checkpoint_unused(const tvlmc_checkpoint *checkpoint);

/* ---- names (checkpoint_keys.c) ---- */
enum { TVLMC_MAX_NETWORK = 64 };
/* Apple numbers the parts of the tower in one row: network.I is a stage's blocks, the downsampling
 * before a stage or its position encoding; which one is told by the names below it. */
typedef struct tvlmc_network {
    bool is_blocks[TVLMC_MAX_NETWORK];
} tvlmc_network;
void tvlmc_network_scan(tvlmc_network *network, const char *name);
/* False when the name is too long. */
bool tvlmc_canonical_name(const tvlmc_network *network, const char *name, char out[TVLMC_KEY_MAX]);

#endif
