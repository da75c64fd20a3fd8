/* SPDX-License-Identifier: MIT
 * EfficientNet-Lite (EfficientNet, arXiv:1905.11946; the Lite variants of TensorFlow's TPU models:
 * ReLU6, no squeeze-and-excite), batch norms folded, TensorFlow's SAME padding.
 *
 *   pixels [s][s][3] -> stem 3x3 s2 -> MBConv x n -> head 1x1
 *                                          |tap block: lo [s/16][s/16][c]    hi
 * [s/32][s/32][c_head]
 *
 * Scratch: the outputs of the blocks, plus the two expanded maps of one block. */
#include "vision/vision.h"

#include <stdio.h>
#include <string.h>

static tvlm_fmap conv_map(tvlm_cx *cx, tvlm_fmap x, unsigned k, unsigned stride, size_t c)
{
    return tvlm_nn_fmap(cx, tvlm_nn_conv_out(x.h, k, stride, true),
                        tvlm_nn_conv_out(x.w, k, stride, true), c);
}

/* "blocks.INDEX" and a suffix: "", ".expand" or ".dw" */
static void tap_block(tvlm_cx *cx, uint32_t index, const char *suffix, tvlm_fmap map)
{
    char name[32];
    snprintf(name, sizeof name, "blocks.%u%s", (unsigned)index, suffix);
    tvlm_nn_tap(cx, name, map.data, map.h, map.w, map.c);
}

/* MBConv (MobileNetV2's inverted bottleneck, arXiv:1801.04381):
 *   e = relu6(conv1x1(x)) [c_mid];  d = relu6(dwkxk(e));  y = conv1x1(d) [c_out] (+ x)
 * With the residual y is x itself. */
static tvlm_fmap mbconv(tvlm_cx *cx, const tvlm_mbconv *b, uint32_t index, tvlm_fmap x)
{
    tvlm_fmap y = b->residual ? x : conv_map(cx, x, b->dw.k, b->stride, b->c_out);
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_fmap e = x;
    if (b->has_expand) {
        e = tvlm_nn_fmap(cx, x.h, x.w, b->c_mid);
        tvlm_nn_linear(cx, &b->expand, TVLM_ACT_RELU6, x.data, x.h * x.w, 1.0f, NULL, e.data);
        tap_block(cx, index, ".expand", e);
    }
    tvlm_fmap d = conv_map(cx, e, b->dw.k, b->stride, b->c_mid);
    tvlm_nn_dwconv(cx, &b->dw, b->stride, true, TVLM_ACT_RELU6, e, d);
    tap_block(cx, index, ".dw", d);
    tvlm_nn_linear(cx, &b->project, TVLM_ACT_NONE, d.data, d.h * d.w, 1.0f,
                   b->residual ? x.data : NULL, y.data);
    tap_block(cx, index, "", y);
    tvlm_arena_release(cx->arena, mark);
    return y;
}

void tvlm_efficientnet_forward(tvlm_cx *cx, const tvlm_efficientnet *w, const float *pixels,
                               size_t size, float *lo, float *hi)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    /* The ops only read this map; the cast drops const for the type's sake. */
    tvlm_fmap in = {(float *)(uintptr_t)pixels, size, size, w->stem.c_in};
    tvlm_fmap x = conv_map(cx, in, w->stem.k, w->stem_stride, w->stem.linear.n);
    tvlm_nn_conv(cx, &w->stem, w->stem_stride, true, TVLM_ACT_RELU6, in, x);
    tvlm_nn_tap(cx, "stem", x.data, x.h, x.w, x.c);
    for (uint32_t i = 0; i < w->n_blocks; i++) {
        x = mbconv(cx, &w->blocks[i], i, x);
        if (i == w->tap_block && tvlm_nn_live(cx)) memcpy(lo, x.data, x.h * x.w * x.c * sizeof *lo);
    }
    tvlm_nn_linear(cx, &w->head, TVLM_ACT_RELU6, x.data, x.h * x.w, 1.0f, NULL, hi);
    tvlm_nn_tap(cx, "head", hi, x.h, x.w, w->head.n);
    tvlm_arena_release(cx->arena, mark);
}
