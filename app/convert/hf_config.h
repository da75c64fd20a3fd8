/* SPDX-License-Identifier: MIT
 * config.json and preprocessor_config.json of a checkpoint folder -> what conversion needs.
 * Settings that would change the computation and are not supported are refused by name. */
#ifndef TVLM_APP_HF_CONFIG_H
#define TVLM_APP_HF_CONFIG_H

#include "base/base.h"

#include <jansson.h>

typedef enum tvlm_hf_kind {
    TVLM_HF_APPLE,    /* llava_qwen2: Apple's layout of FastVLM */
    TVLM_HF_FAST_VLM, /* fast_vlm: the same in Hugging Face's layout */
    TVLM_HF_QWEN2,
    TVLM_HF_LLAMA
} tvlm_hf_kind;

typedef struct tvlm_hf_config {
    tvlm_hf_kind kind;
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_ctx;
    double rms_eps, rope_theta;
    int64_t bos_id, eos_id;    /* -1: none given */
    int64_t image_token;       /* fast_vlm: the id of "<image>"; -1 */
    uint32_t image_size;       /* 0: not given */
    uint32_t image_seq_length; /* 0: not given */
    bool pads;                 /* image_aspect_ratio is "pad" or not given */
    double scale[3], bias[3];  /* of pixels */
} tvlm_hf_config;

static inline bool tvlm_hf_has_vision(const tvlm_hf_config *config)
{
    return config->kind == TVLM_HF_APPLE || config->kind == TVLM_HF_FAST_VLM;
}

/* From DIR. Messages begin with the file's path. */
tvlm_status tvlm_hf_config_read(const char *dir, tvlm_hf_config *out, tvlm_error *err);
/* From parsed objects (preprocessor: fast_vlm only, may be NULL); messages name keys. */
tvlm_status tvlm_hf_config_parse(const json_t *config, const json_t *preprocessor,
                                 tvlm_hf_config *out, tvlm_error *err);

#endif
