/* SPDX-License-Identifier: MIT
 * EfficientNet-Lite (EfficientNet, arXiv:1905.11946; the Lite variants of TensorFlow's TPU models:
 * ReLU6, no squeeze-and-excite), batch norms folded, TensorFlow's SAME padding; in float, int8, or
 * a mix by layer. Integer kernels with one requantisation formula make int8 bit-equal on every
 * tier.
 *
 *   pixels [s][s][3] -> stem 3x3 s2 -> MBConv x n -> head 1x1
 *                                     | tap block                      last
 *                                     tap [s/16][s/16][c]              [s/32][s/32][c_head]
 *
 * Scratch: the outputs of the blocks, plus the two expanded maps of one block, or bands of them. */
#include "vision/vision.h"

#include <stdio.h>

/* "blocks.INDEX" and a suffix: "", ".expand" or ".dw" */
static void tap_block(tvlm_cx *cx, uint32_t index, const char *suffix, tvlm_map map)
{
    char name[32];
    snprintf(name, sizeof name, "blocks.%u%s", (unsigned)index, suffix);
    tvlm_nn_tap(cx, name, map);
}

/* Where a block leaves its result: with the residual, which the sum may overwrite, in x. */
static tvlm_map block_output(tvlm_cx *cx, const tvlm_mbconv *b, tvlm_map x, tvlm_map d)
{
    tvlm_map y = tvlm_nn_linear_map(&b->project, d);
    if (!b->residual || y.dtype != x.dtype) return tvlm_nn_map(cx, y);
    y.data = x.data;
    return y;
}

static tvlm_bottleneck bottleneck(const tvlm_mbconv *b)
{
    return (tvlm_bottleneck){.expand = &b->expand,
                             .project = &b->project,
                             .dw = &b->dw,
                             .stride = b->stride,
                             .pad = TVLM_PAD_SAME,
                             .act = TVLM_ACT_RELU6};
}

/* Where its maps are large, and none of them is asked for, a block runs by bands of rows. */
static bool in_bands(const tvlm_cx *cx, const tvlm_mbconv *b, tvlm_map x)
{
    tvlm_bottleneck op = bottleneck(b);
    return b->has_expand && !cx->tap && tvlm_nn_bottleneck_pays(cx, &op, x);
}

static tvlm_map mbconv_bands(tvlm_cx *cx, const tvlm_mbconv *b, tvlm_map x)
{
    tvlm_bottleneck op = bottleneck(b);
    tvlm_map y = tvlm_nn_map(cx, tvlm_nn_bottleneck_map(&op, x));
    tvlm_nn_bottleneck(cx, &op, x, b->residual, y);
    return y;
}

/* MBConv (MobileNetV2's inverted bottleneck, arXiv:1801.04381):
 *   e = relu6(conv1x1(x)) [c_mid];  d = relu6(dwkxk(e));  y = conv1x1(d) [c_out] (+ x) */
static tvlm_map mbconv(tvlm_cx *cx, const tvlm_mbconv *b, uint32_t index, tvlm_map x)
{
    tvlm_map e = b->has_expand ? tvlm_nn_linear_map(&b->expand, x) : x;
    tvlm_map d = tvlm_nn_dwconv_map(&b->dw, b->stride, TVLM_PAD_SAME, e);
    tvlm_map y = block_output(cx, b, x, d);
    size_t mark = tvlm_arena_mark(cx->arena);
    if (b->has_expand) {
        e = tvlm_nn_map(cx, e);
        tvlm_nn_pointwise(cx, &b->expand, TVLM_ACT_RELU6, x, NULL, e);
        tap_block(cx, index, ".expand", e);
    }
    d = tvlm_nn_map(cx, d);
    tvlm_nn_dwconv(cx, &b->dw, b->stride, TVLM_PAD_SAME, TVLM_ACT_RELU6, e, d);
    tap_block(cx, index, ".dw", d);
    tvlm_nn_pointwise(cx, &b->project, TVLM_ACT_NONE, d, b->residual ? &x : NULL, y);
    tap_block(cx, index, "", y);
    tvlm_arena_release(cx->arena, mark);
    return y;
}

/* As floats: the map itself lies there if it is float. */
static void head(tvlm_cx *cx, const tvlm_linear *w, tvlm_map x, float *out)
{
    tvlm_map y = tvlm_nn_linear_map(w, x), floats = tvlm_nn_f32(out, x.h, x.w, w->n);
    y = y.dtype == TVLM_DTYPE_F32 ? floats : tvlm_nn_map(cx, y);
    tvlm_nn_pointwise(cx, w, TVLM_ACT_RELU6, x, NULL, y);
    tvlm_nn_tap(cx, "head", y);
    if (y.dtype != TVLM_DTYPE_F32) tvlm_nn_convert(cx, y, floats);
}

void tvlm_efficientnet_forward(tvlm_cx *cx, const tvlm_efficientnet *w, tvlm_map pixels,
                               tvlm_features out)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    unsigned stride = w->stem_stride;
    tvlm_map x = tvlm_nn_map(cx, tvlm_nn_conv_map(&w->stem, stride, TVLM_PAD_SAME, pixels));
    tvlm_nn_conv(cx, &w->stem, stride, TVLM_PAD_SAME, TVLM_ACT_RELU6, pixels, x);
    tvlm_nn_tap(cx, "stem", x);
    for (uint32_t i = 0; i < w->n_blocks; i++) {
        const tvlm_mbconv *b = &w->blocks[i];
        x = in_bands(cx, b, x) ? mbconv_bands(cx, b, x) : mbconv(cx, b, i, x);
        if (i == w->tap_block) tvlm_nn_convert(cx, x, tvlm_nn_f32(out.tap, x.h, x.w, x.c));
    }
    head(cx, &w->head, x, out.last);
    tvlm_arena_release(cx->arena, mark);
}
