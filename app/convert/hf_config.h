/* SPDX-License-Identifier: MIT
 * config.json and preprocessor_config.json of a checkpoint folder -> what conversion needs.
 * Settings that would change the computation and are not supported are refused by name. */
#ifndef TVLMC_HF_CONFIG_H
#define TVLMC_HF_CONFIG_H

#include "base/base.h"

#include <jansson.h>

typedef struct tvlmc_family tvlmc_family; /* family.h */

enum { TVLMC_HF_MAX_IMAGE = 8192 }; /* pixels a side */

typedef struct tvlmc_hf_siglip {
    uint32_t n_layers, d, ff, n_heads, patch_size;
    uint32_t table_size; /* pixels a side of the image that the positions are of */
    uint32_t shuffle, split_edge;
    double ln_eps, mean[3], std[3];
} tvlmc_hf_siglip;

typedef struct tvlmc_hf_config {
    const tvlmc_family *family;
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_ctx;
    double rms_eps, rope_theta;
    int64_t bos_id, eos_id;    /* -1: none given */
    int64_t image_token;       /* fast_vlm: the id of "<image>"; -1 */
    uint32_t image_size;       /* 0: not given */
    uint32_t image_seq_length; /* 0: not given */
    bool pads;                 /* image_aspect_ratio is "pad" or not given */
    double scale[3], bias[3];  /* of pixels */
    tvlmc_hf_siglip siglip;    /* of SmolVLM */
} tvlmc_hf_config;

/* From DIR. Messages begin with the file's path. */
tvlm_status tvlmc_hf_config_read(const char *dir, tvlmc_hf_config *out, tvlm_error *err);
/* From parsed objects (preprocessor may be NULL); messages name keys. */
tvlm_status tvlmc_hf_config_parse(const json_t *config, const json_t *preprocessor,
                                  tvlmc_hf_config *out, tvlm_error *err);

/* ---- for the families ---- */

/* object[key], when given, must be `expected`, or false, or this number. */
tvlm_status tvlmc_hf_must_be(const json_t *object, const char *key, const char *expected,
                             tvlm_error *err);
tvlm_status tvlmc_hf_must_be_off(const json_t *object, const char *key, tvlm_error *err);
tvlm_status tvlmc_hf_must_equal(const json_t *object, const char *key, double expected,
                                tvlm_error *err);
/* An id or a list of ids, of which the first counts; -1: none. */
int64_t tvlmc_hf_read_id(const json_t *object, const char *key);
/* A square's side: N, {"shortest_edge": N}, or {"height": N, "width": N}. */
tvlm_status tvlmc_hf_read_edge(const json_t *object, const char *key, uint32_t *out,
                               tvlm_error *err);
/* Three numbers, where there are any. */
tvlm_status tvlmc_hf_read_rgb(const json_t *object, const char *key, double out[3],
                              tvlm_error *err);
/* image_size, scale and bias of a preprocessor_config.json. */
tvlm_status tvlmc_hf_read_preprocessor(const json_t *preprocessor, tvlmc_hf_config *out,
                                       tvlm_error *err);

#endif
