/* SPDX-License-Identifier: MIT
 * FastViT and FastViTHD (FastViT, arXiv:2303.14189; FastVLM, arXiv:2412.13303, sec. 3), inference
 * form: branches and batch norms folded, layer scales folded into the linears that they follow.
 *
 *   pixels -> stem -> [stage: (PatchEmbed) (RepCPE) blocks] x n -> conv_exp -> tokens
 *
 * H x W pixels, C channels, N = H W. Two maps of the largest stage, `x` and `spare`, are all that
 * the stages need: a block reads one and leaves its result in either, and the names are swapped.
 * Scratch at 1024 x 1024 (FastViTHD): 126 MB, set by the stem, whose first map is 512 x 512 x 96.
 */
#include "vision/vision.h"

#include <stdio.h>

typedef struct tower {
    tvlm_cx *cx;
    const tvlm_config *config;
    tvlm_fmap x, spare;
    unsigned module, block; /* Apple's index in `network`, block in a stage */
} tower;

static void swap_maps(tower *t)
{
    tvlm_fmap x = t->x;
    t->x = t->spare;
    t->spare = x;
}

static void reshape_spare(tower *t, size_t h, size_t w, size_t c)
{
    t->spare.h = h;
    t->spare.w = w;
    t->spare.c = c;
}

static void tap_map(tower *t, const char *name, tvlm_fmap map)
{
    tvlm_nn_tap(t->cx, name, map.data, map.h, map.w, map.c);
}

/* "network.MODULE", "network.MODULE.proj.0" or "network.MODULE.BLOCK.token_mixer" */
static void tap_module(tower *t, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "network.%u%s", t->module, suffix);
    tap_map(t, name, t->x);
}

static void tap_block(tower *t, const char *suffix, tvlm_fmap map)
{
    char name[64];
    snprintf(name, sizeof name, "network.%u.%u.%s", t->module, t->block, suffix);
    tap_map(t, name, map);
}

/* x -> spare, swapped: depthwise k x k, stride 1 or 2, symmetric padding. */
static void depthwise(tower *t, const tvlm_dwconv *d, unsigned stride, tvlm_act act)
{
    reshape_spare(t, tvlm_nn_conv_out(t->x.h, d->k, stride, false),
                  tvlm_nn_conv_out(t->x.w, d->k, stride, false), d->c_out);
    tvlm_nn_dwconv(t->cx, d, stride, false, act, t->x, t->spare);
    swap_maps(t);
}

/* x -> spare, swapped: a linear layer at every pixel. */
static void pointwise(tower *t, const tvlm_linear *l, tvlm_act act)
{
    reshape_spare(t, t->x.h, t->x.w, l->n);
    tvlm_nn_linear(t->cx, l, act, t->x.data, t->x.h * t->x.w, 1.0f, NULL, t->spare.data);
    swap_maps(t);
}

/* Stem (MobileOne blocks; mci.py convolutional_stem):
 *   x = gelu(conv3x3 s2 (pixels));  x = gelu(dw3x3 s2 (x));  x = gelu(conv1x1(x))
 * [H][W][3] -> [H/4][W/4][C]. The half-resolution map lies where `x` comes to lie after it. */
static void stem(tower *t, const tvlm_fastvit *w, tvlm_fmap pixels, size_t map_floats)
{
    tvlm_cx *cx = t->cx;
    t->spare = tvlm_nn_fmap(cx, 1, 1, map_floats);
    size_t mark = tvlm_arena_mark(cx->arena);
    t->x = tvlm_nn_fmap(cx, tvlm_nn_conv_out(pixels.h, w->stem0.k, 2, false),
                        tvlm_nn_conv_out(pixels.w, w->stem0.k, 2, false), w->stem0.linear.n);
    tvlm_nn_conv(cx, &w->stem0, 2, false, TVLM_ACT_GELU, pixels, t->x);
    tap_map(t, "patch_embed.0", t->x);
    depthwise(t, &w->stem1, 2, TVLM_ACT_GELU);
    tap_map(t, "patch_embed.1", t->x);
    tvlm_arena_release(cx->arena, mark);
    t->spare = tvlm_nn_fmap(cx, 1, 1, map_floats);
    pointwise(t, &w->stem2, TVLM_ACT_GELU);
    tap_map(t, "patch_embed", t->x);
}

/* ConvFFN (mci.py:862):  ffn(x) = fc2(gelu(fc1(dw7x7(x))));  y = from + ffn(from)
 * `from` is x; dw7x7 goes to spare, the sum back to x. */
static void convffn_residual(tower *t, const tvlm_convffn *f)
{
    reshape_spare(t, t->x.h, t->x.w, t->x.c);
    tvlm_nn_dwconv(t->cx, &f->dw, 1, false, TVLM_ACT_NONE, t->x, t->spare);
    tap_block(t, "convffn.conv", t->spare);
    tvlm_nn_mlp(t->cx, &f->up, TVLM_ACT_GELU, &f->down, t->spare.data, t->x.h * t->x.w, t->x.data,
                t->x.data);
}

/* RepMixer block (FastViT sec. 3; mci.py:1042), the mixer's skip folded into its kernel:
 *   x = dw3x3(x);  x = x + ls * ffn(x)                          [h][w][C] -> same */
static void repmixer_block(tower *t, const tvlm_fastvit_block *b)
{
    depthwise(t, &b->mixer, 1, TVLM_ACT_NONE);
    tap_block(t, "token_mixer", t->x);
    convffn_residual(t, &b->ffn);
}

/* Attention block (mci.py:1116), heads of d = 32, N = h w tokens:
 *   x = x + ls1 * (softmax(q k^T / sqrt d) v) Wo,  [q k v] = LN(x) Wqkv;   x = x + ls2 * ffn(x)
 * The norm's affine and 1/sqrt d are in Wqkv. Scratch: 3 N C. */
static void attention_block(tower *t, const tvlm_fastvit_block *b)
{
    tvlm_cx *cx = t->cx;
    size_t n = t->x.h * t->x.w, c = t->x.c, d = t->config->vision_head_dim;
    size_t mark = tvlm_arena_mark(cx->arena);
    float *mixed = t->spare.data, *qkv = tvlm_nn_fmap(cx, t->x.h, t->x.w, 3 * c).data;
    const float *q = qkv, *k = qkv ? qkv + c : NULL, *v = qkv ? qkv + 2 * c : NULL;
    tvlm_nn_layernorm(cx, NULL, t->config->vision_ln_eps, t->x.data, n, c, mixed);
    tvlm_nn_linear(cx, &b->qkv, TVLM_ACT_NONE, mixed, n, 1.0f, NULL, qkv);
    tvlm_nn_attention(cx, &(tvlm_attention){
                              .q = q,
                              .ldq = 3 * c,
                              .m = n,
                              .keys = &(tvlm_attn_row){k, v, n},
                              .shared = true,
                              .ldk = 3 * c,
                              .n_heads = c / d,
                              .n_kv = c / d,
                              .d = d,
                              .scale = 1.0f,
                              .out = mixed
    });
    tvlm_nn_linear(cx, &b->out, TVLM_ACT_NONE, mixed, n, 1.0f, t->x.data, t->x.data);
    tvlm_arena_release(cx->arena, mark);
    convffn_residual(t, &b->ffn);
}

/* PatchEmbed (mci.py:688):  x = gelu(conv1x1(gelu(dw7x7 s2 (x))))     [h][w][C] -> [h/2][w/2][2C]
 * The depthwise has two outputs a channel: output o reads input o/2. */
static void patch_embed(tower *t, const tvlm_fastvit_stage *s)
{
    depthwise(t, &s->down_dw, 2, TVLM_ACT_GELU);
    tap_module(t, ".proj.0");
    pointwise(t, &s->down_pw, TVLM_ACT_GELU);
    tap_module(t, "");
    t->module++;
}

static void stage(tower *t, const tvlm_fastvit_stage *s)
{
    if (s->has_down) patch_embed(t, s);
    if (s->has_pos) { /* RepCPE (mci.py:930), skip folded:  x = dw7x7(x) */
        depthwise(t, &s->pos, 1, TVLM_ACT_NONE);
        tap_module(t, "");
        t->module++;
    }
    for (uint32_t i = 0; i < s->n_blocks; i++) {
        t->block = i;
        if (s->blocks[i].attention)
            attention_block(t, &s->blocks[i]);
        else
            repmixer_block(t, &s->blocks[i]);
    }
    tap_module(t, "");
    t->module++;
}

/* conv_exp (mci.py:1401, squeeze-and-excite mci.py:42), SE before the activation:
 *   y = dw3x3(x) [C -> 2C];  z = sigmoid(W2 relu(W1 mean_hw(y) + b1) + b2);  out = gelu(y * z) */
static void conv_exp(tower *t, const tvlm_fastvit *w, float *out)
{
    tvlm_cx *cx = t->cx;
    depthwise(t, &w->exp_dw, 1, TVLM_ACT_NONE);
    tap_map(t, "conv_exp.reparam_conv", t->x);
    size_t n = t->x.h * t->x.w, c = w->c_out;
    size_t mark = tvlm_arena_mark(cx->arena);
    float *mean = tvlm_nn_fmap(cx, 1, 1, c).data;
    float *reduced = tvlm_nn_fmap(cx, 1, 1, w->se_reduce.n).data;
    tvlm_nn_mean(cx, t->x.data, n, c, mean);
    tvlm_nn_linear(cx, &w->se_reduce, TVLM_ACT_RELU, mean, 1, 1.0f, NULL, reduced);
    tvlm_nn_linear(cx, &w->se_expand, TVLM_ACT_SIGMOID, reduced, 1, 1.0f, NULL, mean);
    tvlm_nn_scale_act(cx, TVLM_ACT_GELU, mean, t->x.data, n, c, out);
    tvlm_nn_tap(cx, "conv_exp", out, t->x.h, t->x.w, c);
    tvlm_arena_release(cx->arena, mark);
}

/* Floats of the largest map at a quarter of the resolution or less. */
static size_t largest_map(const tvlm_fastvit *w, size_t h, size_t width)
{
    h /= 4;
    width /= 4;
    size_t stem = w->stem1.c_out > w->stem2.n ? w->stem1.c_out : w->stem2.n;
    size_t most = tvlm_nn_elements(h, width, stem);
    for (uint32_t i = 0; i < w->n_stages; i++) {
        if (w->stages[i].has_down) {
            h /= 2;
            width /= 2;
        }
        size_t here = tvlm_nn_elements(h, width, w->stages[i].c);
        most = here > most ? here : most;
    }
    size_t last = tvlm_nn_elements(h, width, w->c_out);
    return last > most ? last : most;
}

uint32_t tvlm_fastvit_stride(const tvlm_fastvit *w)
{
    uint32_t stride = 4;
    for (uint32_t i = 0; i < w->n_stages; i++)
        stride *= w->stages[i].has_down ? 2 : 1;
    return stride;
}

void tvlm_fastvit_forward(tvlm_cx *cx, const tvlm_fastvit *w, const tvlm_config *config,
                          const float *pixels, size_t h, size_t width, float *out)
{
    tower t = {.cx = cx, .config = config};
    size_t mark = tvlm_arena_mark(cx->arena);
    /* The ops only read this map; the cast drops const for the type's sake. */
    stem(&t, w, (tvlm_fmap){(float *)(uintptr_t)pixels, h, width, 3}, largest_map(w, h, width));
    for (uint32_t i = 0; i < w->n_stages; i++)
        stage(&t, &w->stages[i]);
    conv_exp(&t, w, out);
    tvlm_arena_release(cx->arena, mark);
}
