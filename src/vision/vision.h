/* SPDX-License-Identifier: MIT
 * Vision towers and bridges. Each runs in measure mode over an empty arena (see base/base.h) to
 * give its scratch size; outputs are the caller's. */
#ifndef TVLM_VISION_H
#define TVLM_VISION_H

#include "nn/nn.h"

/* What a tower gives, in float32 whatever its layers are: its last map and, of EfficientNet, the
 * one after the tap block. */
typedef struct tvlm_features {
    float *last, *tap;
} tvlm_features;

/* FastViT / FastViTHD. pixels [h][w][3] in [0,1], h and w multiples of the tower's stride (64);
 * last [(h/64)*(w/64)][c_out], token t = y*(w/64)+x. Taps: patch_embed, network.I as Apple's keys.
 */
void tvlm_fastvit_forward(tvlm_cx *cx, const tvlm_fastvit *w, tvlm_map pixels, tvlm_features out);
uint32_t tvlm_fastvit_stride(const tvlm_fastvit *w); /* 4 * 2^(stages with down) */

/* EfficientNet-Lite. pixels [s][s][3]; last [s/32][s/32][c_hi], tap [s/16][s/16][c_lo]. */
void tvlm_efficientnet_forward(tvlm_cx *cx, const tvlm_efficientnet *w, tvlm_map pixels,
                               tvlm_features out);

/* SigLIP. pixels [s][s][3], s = grid * patch; last [grid * grid][d]. Then the connector: last ->
 * out [(grid / shuffle)^2][n_embd]. */
void tvlm_siglip_forward(tvlm_cx *cx, const tvlm_siglip *w, tvlm_map pixels, float *last);
void tvlm_siglip_connect(tvlm_cx *cx, const tvlm_siglip *w, const float *tokens, float *out);

/* FastVLM projector: tokens [n][vision_dim] -> out [n][n_embd]. */
void tvlm_projector_forward(tvlm_cx *cx, const tvlm_projector *w, const float *tokens, size_t n,
                            float *out);
/* Tiny-VLM attention pooling: the maps hi [n_hi][c_hi] and lo [n_lo][c_lo] -> tokens
 * [n_hi+n_lo][d]; these -> out [n_query][d]. */
void tvlm_pooling_embed(tvlm_cx *cx, const tvlm_pooling *w, float ln_eps, const float *hi,
                        const float *lo, float *tokens);
void tvlm_pooling_forward(tvlm_cx *cx, const tvlm_pooling *w, float ln_eps, const float *tokens,
                          float *out);
/* Tiny-VLM's token of names: the map hi [n_hi][c_hi] -> out [d]. */
void tvlm_naming_forward(tvlm_cx *cx, const tvlm_naming *w, float eps, const float *hi, size_t n_hi,
                         float *out);

#endif
