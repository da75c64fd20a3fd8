/* SPDX-License-Identifier: MIT
 * SigLIP's vision transformer (arXiv:2303.15343; transformers modeling_idefics3.py) and Idefics3's
 * connector (arXiv:2408.12637): n patches of p x p pixels, d features.
 *
 *   x = patches W + b + pos                               [n][d]
 *   per layer:  x += Wo attention(Wq y, Wk y, Wv y),      y = LN(x)
 *               x += down(gelu_tanh(up(LN(x))))
 *   last = LN(x)                                          [n][d]
 *   out = windows of s x s tokens, as one row each, W     [n/s^2][n_embd]
 *
 * Scratch: 7 n d and the patches. */
#include "vision/vision.h"

#include <math.h>
#include <string.h>

/* Each patch as a row [c][y][x], as its convolution's weights are laid out. */
static void gather_patches(const tvlm_siglip *w, tvlm_map pixels, float *out)
{
    size_t p = w->patch_size;
    const float *in = pixels.data;
    for (size_t gy = 0; gy < w->grid; gy++)
        for (size_t gx = 0; gx < w->grid; gx++)
            for (size_t c = 0; c < pixels.c; c++)
                for (size_t y = 0; y < p; y++)
                    for (size_t x = 0; x < p; x++)
                        *out++ = in[((gy * p + y) * pixels.w + gx * p + x) * pixels.c + c];
}

static void embed(tvlm_cx *cx, const tvlm_siglip *w, tvlm_map pixels, float *x)
{
    size_t n = w->grid * w->grid, mark = tvlm_arena_mark(cx->arena);
    float *patches = tvlm_nn_floats(cx, n, w->patch.k);
    if (tvlm_nn_live(cx)) {
        gather_patches(w, pixels, patches);
        memcpy(x, w->pos, n * w->d * sizeof *x);
    }
    tvlm_nn_linear(cx, &w->patch, TVLM_ACT_NONE, patches, n, 1.0f, x, x);
    tvlm_nn_tap(cx, "embeddings", tvlm_nn_f32(x, w->grid, w->grid, w->d));
    tvlm_arena_release(cx->arena, mark);
}

static void self_attention(tvlm_cx *cx, const tvlm_siglip *w, const tvlm_siglip_layer *l, float *x,
                           float *y)
{
    size_t n = w->grid * w->grid, d = w->d, head = d / w->n_heads;
    size_t mark = tvlm_arena_mark(cx->arena);
    float *q = tvlm_nn_floats(cx, n, d), *k = tvlm_nn_floats(cx, n, d);
    float *v = tvlm_nn_floats(cx, n, d), *mixed = tvlm_nn_floats(cx, n, d);
    tvlm_nn_layernorm(cx, &l->norm1, w->ln_eps, x, n, d, y);
    tvlm_nn_linears(cx, (const tvlm_linear *[]){&l->q, &l->k, &l->v}, (float *[]){q, k, v}, 3, y,
                    n);
    tvlm_nn_attention(cx, &(tvlm_attention){
                              .q = q,
                              .ldq = d,
                              .m = n,
                              .keys = &(tvlm_attn_row){k, v, n},
                              .shared = true,
                              .ldk = d,
                              .n_heads = w->n_heads,
                              .n_kv = w->n_heads,
                              .d = head,
                              .scale = 1.0f / sqrtf((float)head),
                              .out = mixed
    });
    tvlm_nn_linear(cx, &l->out, TVLM_ACT_NONE, mixed, n, 1.0f, x, x);
    tvlm_arena_release(cx->arena, mark);
}

void tvlm_siglip_forward(tvlm_cx *cx, const tvlm_siglip *w, tvlm_map pixels, float *last)
{
    size_t n = w->grid * w->grid, mark = tvlm_arena_mark(cx->arena);
    float *x = tvlm_nn_floats(cx, n, w->d), *y = tvlm_nn_floats(cx, n, w->d);
    embed(cx, w, pixels, x);
    for (uint32_t i = 0; i < w->n_layers && tvlm_nn_ok(cx); i++) {
        const tvlm_siglip_layer *l = &w->layers[i];
        self_attention(cx, w, l, x, y);
        tvlm_nn_layernorm(cx, &l->norm2, w->ln_eps, x, n, w->d, y);
        tvlm_nn_mlp(cx, &l->up, TVLM_ACT_GELU_TANH, &l->down, y, n, x, x);
    }
    tvlm_nn_layernorm(cx, &w->post, w->ln_eps, x, n, w->d, last);
    tvlm_arena_release(cx->arena, mark);
}

void tvlm_siglip_connect(tvlm_cx *cx, const tvlm_siglip *w, const float *tokens, float *out)
{
    size_t s = w->shuffle, side = w->grid / s, d = w->d, mark = tvlm_arena_mark(cx->arena);
    float *rows = tvlm_nn_floats(cx, side * side, s * s * d), *to = rows;
    for (size_t i = 0; tvlm_nn_live(cx) && i < side * side * s; i++, to += s * d) {
        size_t window = i / s, y = window / side * s + i % s, x = window % side * s;
        memcpy(to, tokens + (y * w->grid + x) * d, s * d * sizeof *to);
    }
    tvlm_nn_linear(cx, &w->proj, TVLM_ACT_NONE, rows, side * side, 1.0f, NULL, out);
    tvlm_arena_release(cx->arena, mark);
}
