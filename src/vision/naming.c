/* SPDX-License-Identifier: MIT
 * The token of names, Tiny-VLM's second bridge: what the tower recognises, in the decoder's own
 * words. A name's column of E is the direction of the embeddings of its tokens, so the token points
 * where the embeddings of what is seen point.
 *
 *   s = sigmoid(mean(hi) Ws + bs)   [names]
 *   out = rmsnorm(s E)              [d] */
#include "vision/vision.h"

void tvlm_naming_forward(tvlm_cx *cx, const tvlm_naming *w, float eps, const float *hi, size_t n_hi,
                         float *out)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    float *mean = tvlm_nn_floats(cx, 1, w->score.k), *sum = tvlm_nn_floats(cx, 1, w->embd.n);
    tvlm_nn_mean(cx, hi, n_hi, w->score.k, mean);
    tvlm_nn_mlp(cx, &w->score, TVLM_ACT_SIGMOID, &w->embd, mean, 1, NULL, sum);
    tvlm_nn_rmsnorm(cx, &w->norm, eps, sum, 1, w->embd.n, out);
    tvlm_nn_tap(cx, "names", tvlm_nn_f32(out, 1, 1, w->embd.n));
    tvlm_arena_release(cx->arena, mark);
}
