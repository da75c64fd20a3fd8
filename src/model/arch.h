/* SPDX-License-Identifier: MIT
 * A model family as data and functions: what its files say, which weights it has, how it encodes an
 * image. Families are written in src/arch, one file each, and listed in its registry.c; what is
 * here and below asks the family and never which one it is. */
#ifndef TVLM_ARCH_H
#define TVLM_ARCH_H

#include "model/bind.h"
#include "model/reader.h"

struct tvlm_cx; /* nn/nn.h */

struct tvlm_arch {
    const char *name;            /* general.architecture, the prefix of its keys */
    tvlm_decoder_config decoder; /* its variant; sizes and constants come from the file */
    bool ours;                   /* no format of others, so no key may be left out */

    /* Of families that see; `tower` is NULL and the rest unused where it is text only. */
    const char *tower;       /* vision.tower */
    bool int8_tower;         /* the tower has an int8 form, which calibration makes */
    bool splits;             /* images may be split into frames (image/split.h) */
    uint32_t describe_beams; /* of files that do not say; 0: 1, greedy */
    const char *const *keys; /* that read_config reads, ended by NULL */
    /* Whether the vocabulary has what images need; NULL: they need nothing. */
    tvlm_status (*check_tokens)(const tvlm_model *model, tvlm_error *err);
    /* After the keys of all families: those of the tower and the bridge. */
    void (*read_config)(tvlm_reader *r, tvlm_config *out);
    size_t (*tower_bytes)(const tvlm_config *config); /* of model->tower; NULL: there is none */
    void (*bind_tower)(tvlm_binder *b);
    /* With weights.vision_dim, n_vision_tokens and n_image_tokens of the model, for one frame. */
    void (*bind_bridge)(tvlm_binder *b);
    /* What follows from the tower's values; NULL: nothing does. */
    tvlm_status (*finish_tower)(tvlm_model *model, const tvlm_plan *plan, tvlm_error *err);
    /* The text before frame i of an image split into rows x cols, or behind the last; NULL: none.
     */
    const char *(*frame_text)(uint32_t rows, uint32_t cols, size_t i, char out[96]);
    /* Of a frame: the tower, pixels [S][S][3] -> vision [n_vision_tokens][vision_dim]; the bridge,
     * vision -> tokens [n_image_tokens][n_embd]. All may be NULL in measure mode. */
    void (*see)(struct tvlm_cx *cx, const tvlm_model *model, const float *pixels, float *vision);
    void (*bridge)(struct tvlm_cx *cx, const tvlm_model *model, const float *vision, float *tokens);
    void (*count_work)(const tvlm_model *model, tvlm_work *tower, tvlm_work *bridge);
};

/* All families, ended by NULL: src/arch/registry.c. */
extern const tvlm_arch *const tvlm_archs[];

static inline bool tvlm_arch_sees(const tvlm_arch *arch)
{
    return arch->tower != NULL;
}
static inline bool tvlm_model_has_vision(const tvlm_model *model)
{
    return tvlm_arch_sees(model->config.arch);
}
static inline size_t tvlm_tower_bytes(const tvlm_config *config)
{
    return config->arch->tower_bytes ? config->arch->tower_bytes(config) : 0;
}

#endif
