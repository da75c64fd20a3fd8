/* SPDX-License-Identifier: MIT
 * Neural-network ops: shape check, kernel, tiles over the pool. No model knowledge.
 *
 * Every op returns at once in measure mode (arena without base) and after a cancel, so model code
 * is a straight line of ops; the caller checks tvlm_nn_ok at the end. Scratch comes from the arena
 * and is released before the op returns. Tile sizes are fixed: results never depend on threads. */
#ifndef TVLM_NN_H
#define TVLM_NN_H

#include "base/pool.h"
#include "model/weights.h"

/* Called after a named block with its output [h][w][c] (tests and dump); NULL outside them. */
typedef struct tvlm_tap {
    void (*fn)(void *user, const char *name, const float *data, size_t h, size_t w, size_t c);
    void *user;
} tvlm_tap;

typedef struct tvlm_cx {
    const tvlm_kernels *kernels;
    tvlm_pool *pool; /* NULL: this thread only */
    tvlm_arena *arena;
    const tvlm_cancel *cancel;
    const tvlm_tap *tap;
    bool stopped; /* a cancel was seen: all later ops return at once */
} tvlm_cx;

static inline bool tvlm_nn_live(const tvlm_cx *cx)
{
    return !cx->stopped && !tvlm_arena_measuring(cx->arena);
}

/* A feature map, NHWC with n = 1. */
typedef struct tvlm_fmap {
    float *data;
    size_t h, w, c;
} tvlm_fmap;
tvlm_fmap tvlm_nn_fmap(tvlm_cx *cx, size_t h, size_t w, size_t c); /* from the arena */
void tvlm_nn_tap(tvlm_cx *cx, const char *name, const float *data, size_t h, size_t w, size_t c);

/* y[m][n] = scale * act(x[m][k] W^T + b) + residual; contiguous rows; residual nullable or y. */
void tvlm_nn_linear(tvlm_cx *cx, const tvlm_linear *l, tvlm_act act, const float *x, size_t m,
                    float scale, const float *residual, float *y);
/* y = residual + down(act(up(x))), hidden kept per tile of rows; y may be residual, not x. */
void tvlm_nn_mlp(tvlm_cx *cx, const tvlm_linear *up, tvlm_act act, const tvlm_linear *down,
                 const float *x, size_t m, const float *residual, float *y);
/* Depthwise; symmetric padding k/2 when same_tf is false, TensorFlow SAME otherwise. Output map from
 * the caller, of size tvlm_nn_conv_out. mult = d->c_out / x.c. */
void tvlm_nn_dwconv(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, bool same_tf, tvlm_act act,
                    tvlm_fmap x, tvlm_fmap y);
/* Dense convolution by windows (im2col of a few rows at a time). */
void tvlm_nn_conv(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, bool same_tf, tvlm_act act,
                  tvlm_fmap x, tvlm_fmap y);
size_t tvlm_nn_conv_out(size_t in, unsigned k, unsigned stride, bool same_tf);
/* Rows of n floats. */
void tvlm_nn_rmsnorm(tvlm_cx *cx, const tvlm_norm *w, float eps, const float *x, size_t m, size_t n, float *y);
void tvlm_nn_layernorm(tvlm_cx *cx, const tvlm_norm *w, float eps, const float *x, size_t m, size_t n, float *y);
/* w NULL: no affine. Multi-head attention of m query rows over one set of keys:
 * q [m][ldq], head h at column h*d; k, v rows ldk apart, kv head h/(n_heads/n_kv) at column (.)*d.
 * out [m][n_heads*d]. */
void tvlm_nn_attention(tvlm_cx *cx, const float *q, size_t ldq, size_t m, const void *k,
                       const void *v, size_t ldk, bool kv_f16, size_t n_keys, size_t n_heads,
                       size_t n_kv, size_t d, float scale, float *out);

#endif
