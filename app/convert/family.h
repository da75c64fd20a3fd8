/* SPDX-License-Identifier: MIT
 * A family of checkpoints as data and functions: how its config.json is read, which tensors its
 * tower and bridge become, which keys tell of them. The decoder is the same for all but for the
 * variants here. A new family is a file, or a row of families.c, and a line of the table there. */
#ifndef TVLMC_FAMILY_H
#define TVLMC_FAMILY_H

#include "convert/conversion.h"

/* Keys being written: after the first failure nothing more is. */
typedef struct tvlmc_keys {
    tvlmc_conversion *c;
    tvlmc_gguf_writer *w;
    const char *arch; /* prefix of the architecture's keys */
    tvlm_status status;
} tvlmc_keys;
void tvlmc_keys_u32(tvlmc_keys *k, const char *key, uint32_t v);
void tvlmc_keys_f32(tvlmc_keys *k, const char *key, double v);
void tvlmc_keys_string(tvlmc_keys *k, const char *key, const char *v);
void tvlmc_keys_rgb(tvlmc_keys *k, const char *key, const double v[3]);
/* Tower, image size, preprocessing. */
void tvlmc_keys_vision(tvlmc_keys *k, const char *tower, uint32_t image_size, const char *mode,
                       const char *filter);

struct tvlmc_family {
    const char *model_type; /* of config.json */
    const char *arch;       /* general.architecture of the file */
    bool qkv_bias, qk_norm;
    bool rope_pairs;       /* the file has rotary pairs side by side */
    uint32_t head_dim;     /* where config.json gives none; 0: its width over its heads */
    const char *text_type; /* model_type of config.json's text_config; NULL: there is none */
    /* Of families that see, else NULL; preprocessor is nullable. */
    tvlm_status (*read_vision)(const json_t *config, const json_t *preprocessor,
                               tvlmc_hf_config *out, tvlm_error *err);
    void (*plan_vision)(tvlmc_conversion *c);
    void (*put_vision)(tvlmc_keys *k);
    const struct tvlmc_mmproj *mmproj; /* pair.h; NULL: llama.cpp has no pair of it */
};

extern const tvlmc_family tvlmc_family_fastvlm_apple, tvlmc_family_fastvlm, tvlmc_family_smolvlm,
    tvlmc_family_smolvlm2;
/* All of them, ended by NULL. */
extern const tvlmc_family *const tvlmc_families[];

#endif
