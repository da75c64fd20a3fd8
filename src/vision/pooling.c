/* SPDX-License-Identifier: MIT
 * Attention pooling, Tiny-VLM's bridge: learned queries cross-attend to both maps of the tower (the
 * resampler of Flamingo, arXiv:2204.14198 sec. 2.1, in one layer).
 *
 *   t = LN([hi Whi ; lo Wlo] + pos)                                  [n_hi + n_lo][d]
 *   z = query + softmax((query Wq)(t Wk)^T / sqrt dh)(t Wv) Wo       [n_query][d]
 *   z = z + down(gelu(up(LN(z))));   out = LN(z)
 *
 * Scratch: 4 (n_hi + n_lo) d and a few [n_query][d]. */
#include "vision/vision.h"

#include <math.h>
#include <string.h>

/* The projections add onto a copy of pos. */
void tvlm_pooling_embed(tvlm_cx *cx, const tvlm_pooling *w, float ln_eps, const float *hi,
                        const float *lo, float *tokens)
{
    size_t n = w->n_hi + w->n_lo;
    float *t = tokens, *t_lo = t ? t + w->n_hi * w->d : NULL;
    if (tvlm_nn_live(cx)) memcpy(t, w->pos, n * w->d * sizeof *t);
    tvlm_nn_linear(cx, &w->hi, TVLM_ACT_NONE, hi, w->n_hi, 1.0f, t, t);
    tvlm_nn_linear(cx, &w->lo, TVLM_ACT_NONE, lo, w->n_lo, 1.0f, t_lo, t_lo);
    tvlm_nn_layernorm(cx, &w->norm, ln_eps, t, n, w->d, t);
    tvlm_nn_tap(cx, "pooling.tokens", tvlm_nn_f32(t, 1, n, w->d));
}

/* z = query + attention of the queries over t */
static void cross_attend(tvlm_cx *cx, const tvlm_pooling *w, const float *t, float *z)
{
    size_t n = w->n_hi + w->n_lo, d = w->d, head_dim = d / w->n_heads;
    size_t mark = tvlm_arena_mark(cx->arena);
    float *q = tvlm_nn_floats(cx, w->n_query, d);
    float *k = tvlm_nn_floats(cx, n, d), *v = tvlm_nn_floats(cx, n, d);
    float *mixed = tvlm_nn_floats(cx, w->n_query, d);
    tvlm_nn_linear(cx, &w->attn_q, TVLM_ACT_NONE, w->query, w->n_query, 1.0f, NULL, q);
    tvlm_nn_linear(cx, &w->attn_k, TVLM_ACT_NONE, t, n, 1.0f, NULL, k);
    tvlm_nn_linear(cx, &w->attn_v, TVLM_ACT_NONE, t, n, 1.0f, NULL, v);
    tvlm_nn_attention(cx, &(tvlm_attention){
                              .q = q,
                              .ldq = d,
                              .m = w->n_query,
                              .keys = &(tvlm_attn_row){k, v, n},
                              .shared = true,
                              .ldk = d,
                              .n_heads = w->n_heads,
                              .n_kv = w->n_heads,
                              .d = head_dim,
                              .scale = 1.0f / sqrtf((float)head_dim),
                              .out = mixed
    });
    tvlm_nn_linear(cx, &w->attn_output, TVLM_ACT_NONE, mixed, w->n_query, 1.0f, w->query, z);
    tvlm_arena_release(cx->arena, mark);
}

void tvlm_pooling_forward(tvlm_cx *cx, const tvlm_pooling *w, float ln_eps, const float *tokens,
                          float *out)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    float *z = tvlm_nn_floats(cx, w->n_query, w->d);
    float *normed = tvlm_nn_floats(cx, w->n_query, w->d);
    cross_attend(cx, w, tokens, z);
    tvlm_nn_tap(cx, "pooling.attention", tvlm_nn_f32(z, 1, w->n_query, w->d));
    tvlm_nn_layernorm(cx, &w->ffn_norm, ln_eps, z, w->n_query, w->d, normed);
    tvlm_nn_mlp(cx, &w->ffn_up, TVLM_ACT_GELU, &w->ffn_down, normed, w->n_query, z, z);
    tvlm_nn_layernorm(cx, &w->out_norm, ln_eps, z, w->n_query, w->d, out);
    tvlm_nn_tap(cx, "pooling", tvlm_nn_f32(out, 1, w->n_query, w->d));
    tvlm_arena_release(cx->arena, mark);
}
