/* SPDX-License-Identifier: MIT
 * Hyper-parameters read from metadata, ranges checked. docs/FORMAT.md lists every key. */
#ifndef TVLM_CONFIG_H
#define TVLM_CONFIG_H

#include "model/gguf.h"
#include "text/chat.h"
#include "text/tokenizer.h"

typedef struct tvlm_arch tvlm_arch; /* model/arch.h */
typedef enum tvlm_filter {
    TVLM_FILTER_BICUBIC,
    TVLM_FILTER_BILINEAR,
    TVLM_FILTER_LANCZOS
} tvlm_filter;

#define TVLM_MAX_SPLIT_EDGE 4096
#define TVLM_MAX_STAGES     8
#define TVLM_MAX_BLOCKS     64 /* of an EfficientNet tower */

typedef struct tvlm_preprocess_config {
    uint32_t image_size; /* S: output is [S][S][3] */
    tvlm_fit fit;        /* PAD, CROP or SQUASH */
    tvlm_filter filter;
    uint8_t pad_color[3];
    uint32_t split_edge;      /* > 0: images are split, see image/split.h; fit is SQUASH */
    double scale[3], bias[3]; /* y = (float)(u8 * scale + bias), in double; then, in float32, */
    float mean[3], std[3];    /* (y - mean) / std */
} tvlm_preprocess_config;

typedef struct tvlm_decoder_config {
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_ctx_train, n_vocab;
    float rms_eps;
    double rope_theta;
    /* the variant, of the family */
    bool qkv_bias;         /* of the projections to queries, keys and values */
    bool qk_norm;          /* RMS norm of each head's queries and keys before their rotation */
    bool rope_interleaved; /* pairs of neighbours; false: halves (NeoX) */
    bool cross_attention;  /* in every layer, to the image */
} tvlm_decoder_config;

typedef struct tvlm_config {
    const tvlm_arch *arch;
    tvlm_str name, license, description, describe_prompt;
    uint32_t describe_beams; /* 1: greedy */
    tvlm_decoder_config lm;
    tvlm_preprocess_config preprocess;
    /* fastvit */
    uint32_t n_stages, depths[TVLM_MAX_STAGES];
    uint32_t vision_head_dim; /* 32 */
    float vision_ln_eps;      /* 1e-5 */
    /* efficientnet_lite: strides per block, index of the block whose output is the low map */
    uint32_t n_blocks, strides[TVLM_MAX_BLOCKS], stem_stride, tap_block;
    bool vision_int8; /* layers of the tower are int8: those with int8 weights */
    /* siglip */
    uint32_t n_vision_layers, vision_heads, vision_dim, vision_ff, patch_size, shuffle;
    /* tinyvlm pooling */
    uint32_t pool_heads;
    float pool_ln_eps;
    tvlm_chat chat;
    tvlm_pretokenizer pre;
    int32_t bos_id, eos_id, eot_id; /* -1 when absent; generation stops at eos and eot */
    bool add_bos;
} tvlm_config;

/* strings point into the header bytes of gguf */
tvlm_status tvlm_config_read(const tvlm_gguf *gguf, tvlm_config *out, tvlm_error *err);

#endif
