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
    bool stopped;       /* a cancel was seen: all later ops return at once */
    unsigned n_threads; /* measure mode without a pool: threads to plan for; 0: the pool's */
} tvlm_cx;

static inline bool tvlm_nn_live(const tvlm_cx *cx)
{
    return !cx->stopped && !tvlm_arena_measuring(cx->arena);
}
static inline bool tvlm_nn_ok(const tvlm_cx *cx)
{
    return !cx->stopped;
}

/* Runs the tasks over the pool; returns at once when not live, stops cx on a cancel. Scratch of a
 * thread: slice `thread` of tvlm_nn_slices, which are `count` elements of `size` bytes each, cache
 * line aligned; *stride is their distance in bytes. */
void tvlm_nn_run(tvlm_cx *cx, size_t n_tasks, tvlm_task fn, void *ctx);
unsigned tvlm_nn_threads(const tvlm_cx *cx);
void *tvlm_nn_slices(tvlm_cx *cx, size_t count, size_t size, size_t *stride);

/* Padding of convolutions: k/2 all around, or TensorFlow's SAME, which makes ceil(in / stride)
 * outputs and puts the odd pixel after. The same thing at stride 1. */
typedef enum tvlm_pad { TVLM_PAD_EVEN, TVLM_PAD_SAME } tvlm_pad;

/* ---- maps ---------------------------------------------------------------------------------------
 * A feature map, NHWC with n = 1: float32, or u7 with a scale and a zero point. Ops on maps run in
 * the layer's dtype: an input of the other one is converted on the way, the output has the layer's
 * (tvlm_nn_*_map). */
typedef struct tvlm_map {
    void *data;
    size_t h, w, c;
    tvlm_dtype dtype;
    tvlm_qparam q; /* of u7 */
} tvlm_map;
/* h*w*c, SIZE_MAX on overflow: the arena's plan then saturates and no allocation accepts it. */
static inline size_t tvlm_nn_elements(size_t h, size_t w, size_t c)
{
    size_t n;
    return tvlm_mul_size(h, w, &n) && tvlm_mul_size(n, c, &n) ? n : SIZE_MAX;
}
tvlm_map tvlm_nn_map(tvlm_cx *cx, tvlm_map shape);      /* with data from the arena */
float *tvlm_nn_floats(tvlm_cx *cx, size_t m, size_t n); /* likewise rows of floats */
static inline tvlm_map tvlm_nn_f32(const float *data, size_t h, size_t w, size_t c)
{
    /* The ops only read an input; the cast drops const for the type's sake. */
    return (tvlm_map){.data = (float *)(uintptr_t)data, .h = h, .w = w, .c = c};
}
static inline bool tvlm_nn_same_shape(tvlm_map a, tvlm_map b)
{
    return a.h == b.h && a.w == b.w && a.c == b.c && a.dtype == b.dtype;
}
/* x in the dtype (u7: with these parameters): x itself, or a map from the arena. */
tvlm_map tvlm_nn_as(tvlm_cx *cx, tvlm_map x, tvlm_dtype dtype, tvlm_qparam q);
void tvlm_nn_convert(tvlm_cx *cx, tvlm_map x, tvlm_map y); /* between dtypes; same shape */
void tvlm_nn_tap(tvlm_cx *cx, const char *name, tvlm_map map);

/* ---- linear -------------------------------------------------------------------------------------
 * y[m][n] = scale * act(x[m][k] W^T + b) + residual; contiguous rows; residual nullable or y. */
void tvlm_nn_linear(tvlm_cx *cx, const tvlm_linear *l, tvlm_act act, const float *x, size_t m,
                    float scale, const float *residual, float *y);
/* y[i] = x W[i]^T + b[i] for `count` layers of one k over the same rows, in one step. */
enum { TVLM_MAX_LINEARS = 3 };
void tvlm_nn_linears(tvlm_cx *cx, const tvlm_linear *const *l, float *const *y, size_t count,
                     const float *x, size_t m);
/* y = residual + down(act(up(x))), hidden kept per tile of rows when there are many; residual
 * nullable or y; y may not be x. */
void tvlm_nn_mlp(tvlm_cx *cx, const tvlm_linear *up, tvlm_act act, const tvlm_linear *down,
                 const float *x, size_t m, const float *residual, float *y);

/* ---- layers on maps -----------------------------------------------------------------------------
 * Shapes of outputs, without data. The output map comes from the caller and is not the input. */
tvlm_map tvlm_nn_linear_map(const tvlm_linear *l, tvlm_map x);
tvlm_map tvlm_nn_dwconv_map(const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_map x);
tvlm_map tvlm_nn_conv_map(const tvlm_conv *c, unsigned stride, tvlm_pad pad, tvlm_map x);

/* The linear at every pixel: y = act(conv1x1(x)) + residual; residual NULL, or of y's shape, which
 * may lie where y lies if it has y's dtype. An int8 layer has its activation in itself. */
void tvlm_nn_pointwise(tvlm_cx *cx, const tvlm_linear *l, tvlm_act act, tvlm_map x,
                       const tvlm_map *residual, tvlm_map y);
/* y = residual + down(act(up(x))) at every pixel; residual as above. */
void tvlm_nn_pointwise_mlp(tvlm_cx *cx, const tvlm_linear *up, tvlm_act act,
                           const tvlm_linear *down, tvlm_map x, const tvlm_map *residual,
                           tvlm_map y);
/* Depthwise, channel multiplier d->c_out / x.c (int8: 1): output channel o reads input o / mult. */
void tvlm_nn_dwconv(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_act act,
                    tvlm_map x, tvlm_map y);
/* Dense, by windows (im2col of one output row at a time). */
void tvlm_nn_conv(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, tvlm_pad pad, tvlm_act act,
                  tvlm_map x, tvlm_map y);

/* act(dw(act(conv(x)))), both float and of this stride and padding; of the map between them a few
 * rows at a time are there. */
void tvlm_nn_conv_dwconv(tvlm_cx *cx, const tvlm_conv *c, const tvlm_dwconv *d, unsigned stride,
                         tvlm_pad pad, tvlm_act act, tvlm_map x, tvlm_map y);

/* Inverted bottleneck (MobileNetV2, arXiv:1801.04381), all float:
 * y = project(act(dw(act(expand(x))))) + x, the last where `residual`. Of the inner maps a few rows
 * at a time are there. y is not x. */
typedef struct tvlm_bottleneck {
    const tvlm_linear *expand, *project;
    const tvlm_dwconv *dw;
    unsigned stride;
    tvlm_pad pad;
    tvlm_act act;
} tvlm_bottleneck;
tvlm_map tvlm_nn_bottleneck_map(const tvlm_bottleneck *op, tvlm_map x);
void tvlm_nn_bottleneck(tvlm_cx *cx, const tvlm_bottleneck *op, tvlm_map x, bool residual,
                        tvlm_map y);
/* Whether it is faster than its three ops, which give the same bits, and smaller. */
bool tvlm_nn_bottleneck_pays(const tvlm_cx *cx, const tvlm_bottleneck *op, tvlm_map x);

size_t tvlm_nn_conv_out(size_t in, unsigned k, unsigned stride, tvlm_pad pad);
/* Pixels of padding before the first row or column. */
unsigned tvlm_nn_conv_pad(size_t in, unsigned k, unsigned stride, tvlm_pad pad);

/* ---- rows of n floats ---------------------------------------------------------------------------
 * y may be x. */
void tvlm_nn_rmsnorm(tvlm_cx *cx, const tvlm_norm *w, float eps, const float *x, size_t m, size_t n,
                     float *y);
/* w NULL: no affine. */
void tvlm_nn_layernorm(tvlm_cx *cx, const tvlm_norm *w, float eps, const float *x, size_t m,
                       size_t n, float *y);
/* y[i][j] = act(x[i][j] * s[j]) */
void tvlm_nn_scale_act(tvlm_cx *cx, tvlm_act act, const float *s, const float *x, size_t m,
                       size_t n, float *y);
/* y[i][j] = silu(gate[i][j]) * up[i][j]; y may be either. */
void tvlm_nn_silu_mul(tvlm_cx *cx, const float *gate, const float *up, size_t m, size_t n,
                      float *y);
/* Rotates the heads of x[m][n_heads * d] in place; cs[m][d]: a row's cosines, then its sines. */
void tvlm_nn_rope(tvlm_cx *cx, const float *cs, bool interleaved, size_t n_heads, size_t d,
                  float *x, size_t m);
/* y[j] = mean over the m rows of x, summed from the first to the last. */
void tvlm_nn_mean(tvlm_cx *cx, const float *x, size_t m, size_t n, float *y);

/* ---- attention ----------------------------------------------------------------------------------
 * out[i][h] = softmax(scale q[i][h] K^T) V over the keys of query i. Query head h lies at column
 * h*d of q (rows ldq apart), its key/value head h/(n_heads/n_kv) at that head's column times d of k
 * and v (rows ldk apart, float32 or half); d is a multiple of 8, at most
 * TVLM_ATTENTION_MAX_D. A row of the output depends on its
 * query, its keys and d only: not on the other rows or the threads. A query without keys gets
 * zeros. Scratch does not grow with the keys. */
typedef struct tvlm_attn_row {
    const void *k, *v; /* may be NULL without keys */
    size_t n_keys;
} tvlm_attn_row;
typedef struct tvlm_attention {
    const float *q;
    size_t ldq, m;
    const tvlm_attn_row *keys; /* of each query (causal prompts, batches of sessions) */
    bool shared;               /* keys[0] is for all queries */
    bool kv_f16;
    size_t ldk, n_heads, n_kv, d;
    float scale;
    float *out; /* [m][n_heads * d] */
} tvlm_attention;
void tvlm_nn_attention(tvlm_cx *cx, const tvlm_attention *attention);

#endif
