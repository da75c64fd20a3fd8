/* SPDX-License-Identifier: MIT
 * FastVLM's bridge, mlp2x_gelu (LLaVA-1.5, arXiv:2310.03744; multimodal_projector/builder.py:33):
 *   out = fc2(gelu(fc1(tokens)))                        [n][vision_dim] -> [n][n_embd] */
#include "vision/vision.h"

void tvlm_projector_forward(tvlm_cx *cx, const tvlm_projector *w, const float *tokens, size_t n,
                            float *out)
{
    tvlm_nn_mlp(cx, &w->fc1, TVLM_ACT_GELU, &w->fc2, tokens, n, NULL, out);
}
