/* SPDX-License-Identifier: MIT
 * FastViT and FastViTHD (FastViT, arXiv:2303.14189; FastVLM, arXiv:2412.13303, sec. 3), inference
 * form: branches and batch norms folded, layer scales folded into the linears that they follow.
 *
 *   pixels -> stem -> [stage: (PatchEmbed) (RepCPE) blocks] x n -> conv_exp -> tokens
 *
 * H x W pixels, C channels, N = H W. Two buffers of the largest map to come, `x` and `spare`, are
 * all that the layers need: a layer reads one and leaves its result in either, and the names are
 * swapped. Scratch at 1024 x 1024 (FastViTHD): two maps of 256 x 256 x 96, 50 MB, and a tile's
 * rows a thread; smaller maps, later, leave room for the hidden rows of their layers. Layers may be
 * float or int8; attention and squeeze-and-excite compute on floats. */
#include "vision/vision.h"

#include <stdio.h>
#include <string.h>

typedef struct tower {
    tvlm_cx *cx;
    const tvlm_fastvit *w;
    tvlm_map x, spare;
    size_t mark;            /* where the two begin in the arena */
    unsigned module, block; /* Apple's index in `network`, block in a stage */
} tower;

/* Floats of the largest map: of this one, and those from stage `from` on, which reads it. */
static size_t largest_map(const tvlm_fastvit *w, uint32_t from, size_t h, size_t width, size_t c)
{
    size_t most = tvlm_nn_elements(h, width, c);
    for (uint32_t i = from; i < w->n_stages; i++) {
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

/* Takes the two anew, as large as stages from `from` on need them. */
static void shrink_maps(tower *t, uint32_t from)
{
    const tvlm_map old = t->x;
    size_t most = largest_map(t->w, from, old.h, old.w, old.c);
    tvlm_arena_release(t->cx->arena, t->mark);
    t->x.data = tvlm_nn_floats(t->cx, 1, most);
    t->spare.data = tvlm_nn_floats(t->cx, 1, most);
    if (tvlm_nn_live(t->cx)) /* of u7, too, as its buffer has room for floats */
        memmove(t->x.data, old.data, tvlm_nn_elements(old.h, old.w, old.c) * sizeof(float));
}

/* The spare buffer as a map of this shape. */
static tvlm_map in_spare(const tower *t, tvlm_map shape)
{
    shape.data = t->spare.data;
    return shape;
}

/* y, which lies in the spare buffer, becomes x. */
static void swap_maps(tower *t, tvlm_map y)
{
    t->spare = t->x;
    t->x = y;
}

/* "network.MODULE", "network.MODULE.proj.0" or "network.MODULE.BLOCK.token_mixer" */
static void tap_module(tower *t, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "network.%u%s", t->module, suffix);
    tvlm_nn_tap(t->cx, name, t->x);
}

static void tap_block(tower *t, const char *suffix, tvlm_map map)
{
    char name[64];
    snprintf(name, sizeof name, "network.%u.%u.%s", t->module, t->block, suffix);
    tvlm_nn_tap(t->cx, name, map);
}

/* x: depthwise k x k, stride 1 or 2. */
static void depthwise(tower *t, const tvlm_dwconv *d, unsigned stride, tvlm_act act)
{
    tvlm_map y = in_spare(t, tvlm_nn_dwconv_map(d, stride, TVLM_PAD_EVEN, t->x));
    tvlm_nn_dwconv(t->cx, d, stride, TVLM_PAD_EVEN, act, t->x, y);
    swap_maps(t, y);
}

/* x: a linear layer at every pixel. */
static void pointwise(tower *t, const tvlm_linear *l, tvlm_act act)
{
    tvlm_map y = in_spare(t, tvlm_nn_linear_map(l, t->x));
    tvlm_nn_pointwise(t->cx, l, act, t->x, NULL, y);
    swap_maps(t, y);
}

/* x in the dtype (u7: with these parameters). */
static void convert(tower *t, tvlm_dtype dtype, tvlm_qparam q)
{
    if (t->x.dtype == dtype) return;
    tvlm_map shape = t->x;
    shape.dtype = dtype;
    shape.q = q;
    tvlm_map y = in_spare(t, shape);
    tvlm_nn_convert(t->cx, t->x, y);
    swap_maps(t, y);
}

/* Stem (MobileOne blocks; mci.py convolutional_stem):
 *   x = gelu(conv3x3 s2 (pixels));  x = gelu(dw3x3 s2 (x));  x = gelu(conv1x1(x))
 * [H][W][3] -> [H/4][W/4][C]. The map between the first two, the largest, is never whole; bands of
 * it lie where the second buffer comes to lie. */
static void stem(tower *t, tvlm_map pixels)
{
    const tvlm_fastvit *w = t->w;
    size_t c = w->stem1.c_out > w->stem2.n ? w->stem1.c_out : w->stem2.n;
    size_t most = largest_map(w, 0, pixels.h / 4, pixels.w / 4, c);
    t->spare.data = tvlm_nn_floats(t->cx, 1, most);
    tvlm_map half = tvlm_nn_conv_map(&w->stem0, 2, TVLM_PAD_EVEN, pixels);
    tvlm_map y = in_spare(t, tvlm_nn_dwconv_map(&w->stem1, 2, TVLM_PAD_EVEN, half));
    tvlm_nn_conv_dwconv(t->cx, &w->stem0, &w->stem1, 2, TVLM_PAD_EVEN, TVLM_ACT_GELU, pixels, y);
    swap_maps(t, y);
    t->spare.data = tvlm_nn_floats(t->cx, 1, most);
    tvlm_nn_tap(t->cx, "patch_embed.1", t->x);
    pointwise(t, &w->stem2, TVLM_ACT_GELU);
    tvlm_nn_tap(t->cx, "patch_embed", t->x);
}

/* ConvFFN (mci.py:862):  ffn(x) = fc2(gelu(fc1(dw7x7(x))));  x = x + ffn(x)
 * dw7x7 goes to spare, the sum back to x. */
static void convffn_residual(tower *t, const tvlm_convffn *f)
{
    convert(t, f->down.dtype, f->down.quant.out);
    tvlm_map d = in_spare(t, tvlm_nn_dwconv_map(&f->dw, 1, TVLM_PAD_EVEN, t->x));
    tvlm_nn_dwconv(t->cx, &f->dw, 1, TVLM_PAD_EVEN, TVLM_ACT_NONE, t->x, d);
    tap_block(t, "convffn.conv", d);
    tvlm_map y = tvlm_nn_linear_map(&f->down, d);
    y.data = t->x.data;
    tvlm_nn_pointwise_mlp(t->cx, &f->up, TVLM_ACT_GELU, &f->down, d, &t->x, y);
    t->x = y;
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
    convert(t, TVLM_DTYPE_F32, (tvlm_qparam){0});
    size_t n = t->x.h * t->x.w, c = t->x.c, d = t->w->head_dim;
    size_t mark = tvlm_arena_mark(cx->arena);
    float *x = t->x.data, *mixed = t->spare.data, *qkv = tvlm_nn_floats(cx, n, 3 * c);
    const float *q = qkv, *k = qkv ? qkv + c : NULL, *v = qkv ? qkv + 2 * c : NULL;
    tvlm_nn_layernorm(cx, NULL, t->w->ln_eps, x, n, c, mixed);
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
    tvlm_nn_linear(cx, &b->out, TVLM_ACT_NONE, mixed, n, 1.0f, x, x);
    tvlm_arena_release(cx->arena, mark);
    convffn_residual(t, &b->ffn);
}

/* PatchEmbed (mci.py:688):  x = gelu(conv1x1(gelu(dw7x7 s2 (x))))     [h][w][C] -> [h/2][w/2][2C]
 * The depthwise has two outputs a channel: output o reads input o/2. */
static void patch_embed(tower *t, uint32_t index)
{
    const tvlm_fastvit_stage *s = &t->w->stages[index];
    depthwise(t, &s->down_dw, 2, TVLM_ACT_GELU);
    tap_module(t, ".proj.0");
    pointwise(t, &s->down_pw, TVLM_ACT_GELU);
    shrink_maps(t, index + 1);
    tap_module(t, "");
    t->module++;
}

/* RepCPE (mci.py:930), skip folded:  x = dw7x7(x) */
static void rep_cpe(tower *t, const tvlm_dwconv *d)
{
    depthwise(t, d, 1, TVLM_ACT_NONE);
    tap_module(t, "");
    t->module++;
}

static void stage(tower *t, uint32_t index)
{
    const tvlm_fastvit_stage *s = &t->w->stages[index];
    if (s->has_down) patch_embed(t, index);
    if (s->has_pos) rep_cpe(t, &s->pos);
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
static void conv_exp(tower *t, float *out)
{
    tvlm_cx *cx = t->cx;
    const tvlm_fastvit *w = t->w;
    depthwise(t, &w->exp_dw, 1, TVLM_ACT_NONE);
    tvlm_nn_tap(cx, "conv_exp.reparam_conv", t->x);
    convert(t, TVLM_DTYPE_F32, (tvlm_qparam){0});
    size_t n = t->x.h * t->x.w, c = w->c_out;
    size_t mark = tvlm_arena_mark(cx->arena);
    float *mean = tvlm_nn_floats(cx, 1, c), *reduced = tvlm_nn_floats(cx, 1, w->se_reduce.n);
    tvlm_nn_mean(cx, t->x.data, n, c, mean);
    tvlm_nn_linear(cx, &w->se_reduce, TVLM_ACT_RELU, mean, 1, 1.0f, NULL, reduced);
    tvlm_nn_linear(cx, &w->se_expand, TVLM_ACT_SIGMOID, reduced, 1, 1.0f, NULL, mean);
    tvlm_nn_scale_act(cx, TVLM_ACT_GELU, mean, t->x.data, n, c, out);
    tvlm_nn_tap(cx, "conv_exp", tvlm_nn_f32(out, t->x.h, t->x.w, c));
    tvlm_arena_release(cx->arena, mark);
}

uint32_t tvlm_fastvit_stride(const tvlm_fastvit *w)
{
    uint32_t stride = 4;
    for (uint32_t i = 0; i < w->n_stages; i++)
        stride *= w->stages[i].has_down ? 2 : 1;
    return stride;
}

void tvlm_fastvit_forward(tvlm_cx *cx, const tvlm_fastvit *w, tvlm_map pixels, tvlm_features out)
{
    tower t = {.cx = cx, .w = w, .mark = tvlm_arena_mark(cx->arena)};
    stem(&t, pixels);
    for (uint32_t i = 0; i < w->n_stages; i++)
        stage(&t, i);
    conv_exp(&t, out.last);
    tvlm_arena_release(cx->arena, t.mark);
}
