/* SPDX-License-Identifier: MIT
 * The int8 EfficientNet-Lite tower: the network of efficientnet_lite.c with u7 activations, one
 * (scale, zero point) per layer output, weights int8 per output channel (contract: kernels.h).
 * Integer kernels with one requantisation formula make it bit-equal on every tier. */
#include "vision/vision.h"

static tvlm_qmap conv_map(tvlm_cx *cx, tvlm_qmap x, size_t k, unsigned stride, size_t c,
                          tvlm_qparam q)
{
    return tvlm_nn_qmap(cx, tvlm_nn_conv_out(x.h, (unsigned)k, stride, true),
                        tvlm_nn_conv_out(x.w, (unsigned)k, stride, true), c, q);
}

/* MBConv:  e = expand(x);  d = dwkxk(e);  y = project(d) (+ x at its own scale) */
static tvlm_qmap mbconv(tvlm_cx *cx, const tvlm_qmbconv *b, tvlm_qmap x)
{
    tvlm_qmap y = conv_map(cx, x, b->dw.k, b->stride, b->c_out, b->project.out);
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_qmap e = x;
    if (b->has_expand) {
        e = tvlm_nn_qmap(cx, x.h, x.w, b->c_mid, b->expand.out);
        tvlm_nn_qlinear(cx, &b->expand, x, NULL, 0.0f, e);
    }
    tvlm_qmap d = conv_map(cx, e, b->dw.k, b->stride, b->c_mid, b->dw.out);
    tvlm_nn_qdwconv(cx, &b->dw, b->stride, e, d);
    tvlm_nn_qlinear(cx, &b->project, d, b->residual ? &x : NULL, b->residual_mult, y);
    tvlm_arena_release(cx->arena, mark);
    return y;
}

/* The 3x3 window of the stem's layer: k = 3*3*3. */
enum { STEM_K = 3 };

void tvlm_qefficientnet_forward(tvlm_cx *cx, const tvlm_qefficientnet *w, const float *pixels,
                                size_t size, float *lo, float *hi)
{
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_qmap in = tvlm_nn_qmap(cx, size, size, w->stem.k / (STEM_K * STEM_K), w->input);
    tvlm_nn_quantize(cx, pixels, in);
    tvlm_qmap x = conv_map(cx, in, STEM_K, w->stem_stride, w->stem_c, w->stem.out);
    tvlm_nn_qconv(cx, &w->stem, STEM_K, w->stem_stride, in, x);
    for (uint32_t i = 0; i < w->n_blocks; i++) {
        x = mbconv(cx, &w->blocks[i], x);
        if (i == w->tap_block) tvlm_nn_dequantize(cx, x, lo);
    }
    tvlm_qmap head = tvlm_nn_qmap(cx, x.h, x.w, w->head.n, w->head.out);
    tvlm_nn_qlinear(cx, &w->head, x, NULL, 0.0f, head);
    tvlm_nn_dequantize(cx, head, hi);
    tvlm_arena_release(cx->arena, mark);
}
