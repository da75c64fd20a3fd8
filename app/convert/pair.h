/* SPDX-License-Identifier: MIT
 * llama.cpp's two files of a vision model, the text model and its "mmproj" -> one. Rows are taken
 * over as they are stored, whatever their type. */
#ifndef TVLMC_PAIR_H
#define TVLMC_PAIR_H

#include "convert/gguf_source.h"
#include "convert/hf_config.h"
#include "model/reader.h"

enum { TVLMC_TAKEN_NAME = 288 };

/* A tensor of one of the files, and what it becomes. */
typedef struct tvlmc_taken {
    const tvlmc_gguf_source *from;
    const tvlm_gguf_tensor *tensor;
    char name[TVLMC_TAKEN_NAME];
    uint64_t shape[TVLM_MAX_DIMS];
    uint32_t n_dims;
} tvlmc_taken;

/* What a family says of its mmproj. */
typedef struct tvlmc_mmproj {
    const char *projector;   /* clip.projector_type */
    const char *const *keys; /* under "clip.vision." that read takes or that change nothing */
    /* The vision part of *out; what a failure is of is in r. note: a line for the user, or "". */
    void (*read)(tvlm_reader *r, tvlmc_hf_config *out, char note[512]);
    /* Changes name or shape where ours are others. */
    void (*adapt)(const tvlm_gguf *mmproj, const tvlmc_hf_config *config, tvlmc_taken *t);
} tvlmc_mmproj;

#endif
