/* SPDX-License-Identifier: MIT
 * Weight structs, named as in the papers. Weight pointers go into the model's one weight block,
 * which model/bind.c fills (they are NULL in a model opened with header_only); shapes were checked
 * there, so blocks may assume them. */
#ifndef TVLM_WEIGHTS_H
#define TVLM_WEIGHTS_H

#include "kernels/linear.h"
#include "model/config.h"

/* What the numbers of a map, and so of the layer that makes it, are. */
typedef enum tvlm_dtype {
    TVLM_DTYPE_F32,
    TVLM_DTYPE_U7 /* bytes of 0..127: value = (byte - zero) * scale */
} tvlm_dtype;
typedef struct tvlm_qparam {
    float scale;
    int32_t zero;
} tvlm_qparam;

/* What an int8 layer has besides its weights (kernels.h): it takes and gives u7 maps. lo and hi
 * hold its activation. */
typedef struct tvlm_quant {
    const int32_t *wsum;
    const float *mult, *beta; /* per output channel, the bias inside beta */
    tvlm_qparam in, out;
    uint8_t lo, hi;
} tvlm_quant;

/* y = x W^T + b; W [n][k] packed by its gemm, or as int8 panels. */
typedef struct tvlm_linear {
    const tvlm_gemm *gemm; /* of a float layer */
    const void *weight;
    const float *bias; /* [n], nullable */
    size_t n, k;
    tvlm_dtype dtype;
    tvlm_quant quant; /* of an int8 layer */
} tvlm_linear;

typedef struct tvlm_norm {
    const float *weight, *bias; /* [n], bias nullable */
} tvlm_norm;

/* Depthwise k x k; weight [k][k][c_out] float32 or int8 (transposed at load). c_out = mult * c_in.
 */
typedef struct tvlm_dwconv {
    const void *weight;
    const float *bias; /* of a float layer, nullable */
    size_t c_out;
    unsigned k;
    tvlm_dtype dtype;
    tvlm_quant quant; /* of an int8 layer */
} tvlm_dwconv;

/* Dense k x k convolution as a linear over the k*k*c_in window, window order [ky][kx][c_in]. */
typedef struct tvlm_conv {
    tvlm_linear linear;
    size_t c_in;
    unsigned k;
} tvlm_conv;

/* ---- FastViT / FastViTHD, all folds done (FastViT, arXiv:2303.14189; FastVLM, arXiv:2412.13303)
 * -- */
typedef struct tvlm_convffn {
    tvlm_dwconv dw;       /* 7x7, BN folded */
    tvlm_linear up, down; /* fc1, fc2 (layer scale folded into fc2) */
} tvlm_convffn;
typedef struct tvlm_fastvit_block {
    bool attention;    /* else RepMixer */
    tvlm_dwconv mixer; /* RepMixer 3x3 */
    tvlm_linear qkv,
        out; /* attention: LN affine and 1/sqrt(d) folded into qkv; layer scale 1 into out */
    tvlm_convffn ffn;
} tvlm_fastvit_block;
typedef struct tvlm_fastvit_stage {
    bool has_down, has_pos;
    tvlm_dwconv down_dw; /* 7x7 stride 2, mult 2 */
    tvlm_linear down_pw;
    tvlm_dwconv pos; /* RepCPE 7x7 */
    tvlm_fastvit_block *blocks;
    uint32_t n_blocks;
    size_t c; /* width */
} tvlm_fastvit_stage;
typedef struct tvlm_fastvit {
    tvlm_conv stem0;   /* 3x3 stride 2 */
    tvlm_dwconv stem1; /* 3x3 stride 2 */
    tvlm_linear stem2; /* 1x1 */
    tvlm_fastvit_stage stages[TVLM_MAX_STAGES];
    uint32_t n_stages;
    tvlm_dwconv exp_dw; /* 3x3 mult 2 */
    tvlm_linear se_reduce, se_expand;
    size_t c_out, head_dim;
    float ln_eps;
} tvlm_fastvit;

/* ---- EfficientNet-Lite (ReLU6, no SE), batch norms folded ---------------------------------------
 */
typedef struct tvlm_mbconv {
    bool has_expand, residual;
    tvlm_linear expand, project;
    tvlm_dwconv dw;
    unsigned stride;
    size_t c_in, c_mid, c_out;
} tvlm_mbconv;
typedef struct tvlm_efficientnet {
    tvlm_conv stem;
    tvlm_mbconv blocks[TVLM_MAX_BLOCKS];
    uint32_t n_blocks, tap_block;
    tvlm_linear head;
    unsigned stem_stride;
} tvlm_efficientnet;

/* ---- SigLIP, with Idefics3's connector (SmolVLM) -----------------------------------------------
 */
typedef struct tvlm_siglip_layer {
    tvlm_norm norm1, norm2;
    tvlm_linear q, k, v, out;
    tvlm_linear up, down;
} tvlm_siglip_layer;
typedef struct tvlm_siglip {
    tvlm_linear patch; /* rows [c][y][x] of a patch -> d */
    const float *pos;  /* [grid * grid][d] */
    tvlm_siglip_layer *layers;
    tvlm_norm post;
    tvlm_linear proj; /* shuffle x shuffle tokens as one row -> n_embd */
    size_t d, grid, patch_size, shuffle;
    uint32_t n_layers, n_heads;
    float ln_eps;
} tvlm_siglip;

/* ---- bridges ------------------------------------------------------------------------------------
 */
typedef struct tvlm_projector { /* FastVLM mlp2x_gelu */
    tvlm_linear fc1, fc2;
} tvlm_projector;
typedef struct tvlm_pooling { /* Tiny-VLM attention pooling */
    tvlm_linear hi, lo;       /* 1280 -> d, 112 -> d */
    const float *pos;         /* [n_hi + n_lo][d] */
    tvlm_norm norm;
    const float *query; /* [n_query][d] */
    tvlm_linear attn_q, attn_k, attn_v, attn_output;
    tvlm_norm ffn_norm;
    tvlm_linear ffn_up, ffn_down;
    tvlm_norm out_norm;
    size_t n_query, n_hi, n_lo, d;
    uint32_t n_heads;
} tvlm_pooling;
typedef struct tvlm_naming { /* Tiny-VLM's token of names; score.n is 0 in files without */
    tvlm_linear score, embd; /* 1280 -> names, names -> d without a bias */
    tvlm_norm norm;
} tvlm_naming;

/* ---- decoder ------------------------------------------------------------------------------------
 */
typedef struct tvlm_decoder_layer {
    tvlm_norm attn_norm;
    tvlm_linear q, k, v, o;
    tvlm_norm q_norm, k_norm; /* of a head, Qwen3 only */
    tvlm_norm cross_norm;     /* Tiny-VLM only, as the next two lines */
    tvlm_linear cross_q, cross_k, cross_v, cross_o;
    float cross_gate; /* tanh(gate), applied to the cross-attention's output */
    tvlm_norm ffn_norm;
    tvlm_linear gate, up, down;
} tvlm_decoder_layer;
typedef struct tvlm_decoder {
    tvlm_linear token_embd; /* rows looked up by its layout's unpack_row */
    tvlm_decoder_layer *layers;
    tvlm_norm output_norm;
    tvlm_linear output; /* token_embd itself when tied */
} tvlm_decoder;

typedef struct tvlm_weights {
    tvlm_fastvit fastvit;
    tvlm_efficientnet efficientnet;
    tvlm_siglip siglip;
    tvlm_projector projector;
    tvlm_pooling pooling;
    tvlm_naming naming;
    tvlm_decoder decoder;
    size_t vision_dim; /* features of a tower token: FastViT c_out; Tiny-VLM: pooling.d */
} tvlm_weights;

#endif
