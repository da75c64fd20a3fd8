/* SPDX-License-Identifier: MIT
 * The kernel table: one function pointer per entry of kernels.def. Linear layers: linear.h.
 * Layer rule: kernels know numbers and layouts, no model, no threads, no allocation. */
#ifndef TVLM_KERNELS_H
#define TVLM_KERNELS_H

#include "base/base.h"
#include "quant/quant.h"

#define TVLM_GEMM_NR ((size_t)16) /* weight rows of a packed panel */

/* Epilogue activations. */
typedef enum tvlm_act {
    TVLM_ACT_NONE = 0,
    TVLM_ACT_GELU = 1, /* exact: x/2 (1 + erf(x/sqrt 2)) */
    TVLM_ACT_RELU = 2,
    TVLM_ACT_RELU6 = 3,
    TVLM_ACT_SIGMOID = 4,
    TVLM_ACT_GELU_TANH = 5 /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
} tvlm_act;

/* ---- attention: a few query rows of one head (or of heads that share keys) over a tile of keys
 * ---- Row r takes the first n_keys of the tile: s[j] = scale * q . k[j];   top = max_j s[j];   sum
 * = sum_j 2^(s[j] - top) out[d] = sum_j 2^(s[j] - top) v[j] (base 2: scale holds log2 e).
 * attention_join adds the tiles of a row, in their order; out / sum is then the attention. k, v:
 * rows ldk/ldv elements apart, float32 or IEEE half (kv_f16). A row's arithmetic depends on its q,
 * its keys and d only. */
enum {
    TVLM_ATTENTION_ROWS = 32,
    TVLM_ATTENTION_KEYS = 128,
    TVLM_ATTENTION_MAX_D = 1024,
    TVLM_ATTENTION_SCRATCH = TVLM_ATTENTION_ROWS * TVLM_ATTENTION_KEYS + 8 * TVLM_ATTENTION_MAX_D
};
typedef struct tvlm_attention_row {
    const float *q; /* [d] */
    float *out;     /* [d] */
    size_t n_keys;  /* <= TVLM_ATTENTION_KEYS; with none out and sum are 0 */
    float top, sum; /* written */
} tvlm_attention_row;

typedef struct tvlm_attention_args {
    tvlm_attention_row *rows;
    size_t n_rows; /* 1 .. TVLM_ATTENTION_ROWS */
    const void *k, *v;
    bool kv_f16;
    size_t ldk, ldv, d; /* d a multiple of 8, <= TVLM_ATTENTION_MAX_D */
    float scale;
    float *scratch; /* [TVLM_ATTENTION_SCRATCH] */
} tvlm_attention_args;

/* ---- depthwise convolution, NHWC ----------------------------------------------------------------
 * y[oy][ox][o] = act(bias[o] + sum_{i,j} x[oy*s+i-pad_top][ox*s+j-pad_left][o / mult] * w[i][j][o])
 * x: [h][w][c]; y: [oh][ow][c*mult]; weights [kh][kw][c*mult]; outside pixels are 0. */
typedef struct tvlm_dwconv_args {
    const float *x;
    size_t h, w, c;
    const float *weight, *bias; /* bias nullable */
    float *y;
    size_t oh, ow;
    unsigned k, stride, pad_top, pad_left, mult; /* k x k; mult 1 or 2 */
    tvlm_act act;
} tvlm_dwconv_args;

/* Taps a side of a depthwise kernel, float or int8; the binder refuses more. */
#define TVLM_DWCONV_MAX_K 15

/* ---- int8 (Tiny-VLM tower) ----------------------------------------------------------------------
 * Activations u8 in 0..127 with zero point zx; weights int8 per output channel.
 *   acc[n] = sum_k xq*wq - zx * wsum[n]          exact int32
 *   yq = clamp(rint(acc * mult[n] + beta[n]), lo, hi)    one int->float conversion, one float
 *        multiply, one float add (never fused), round half to even: bit-equal on every tier.
 * mult = sx*sw[n]/sy, beta = b[n]/sy + zy; lo/hi carry the activation (ReLU6 -> q(0)..q(6)).
 * With residual rq (u8, zero point zr):
 *   yq = clamp(rint((acc*mult + beta) + (rq - zr)*rmult), lo, hi) */
typedef struct tvlm_qgemm_args {
    const uint8_t *x;
    size_t ldx;
    const void *w; /* packed int8 panels, see tvlm_qgemm_pack */
    const int32_t *wsum;
    const float *mult, *beta;
    int32_t zx;
    const uint8_t *residual; /* nullable, [m][ldr] */
    size_t ldr;
    int32_t zr;
    float rmult;
    uint8_t *y;
    size_t ldy;
    uint8_t lo, hi;
    size_t n, k;
} tvlm_qgemm_args;
/* Packed int8 [n][k]: panels of TVLM_GEMM_NR rows, k padded to a multiple of 4 with zeros, each
 * panel[k/4][NR][4]. */
bool tvlm_qgemm_packed_size(size_t n, size_t k, size_t *out);
void tvlm_qgemm_pack(int8_t *packed, const int8_t *src, size_t n0, size_t n_rows, size_t k);

typedef struct tvlm_qdwconv_args {
    const uint8_t *x; /* [h][w][c], zero point zx; pixels outside hold zx */
    size_t h, w, c;
    const int8_t *weight; /* [k][k][c] */
    const int32_t *wsum;  /* [c] */
    const float *mult, *beta;
    int32_t zx;
    uint8_t *y; /* [oh][ow][c] */
    size_t oh, ow;
    unsigned k, stride, pad_top, pad_left;
    uint8_t lo, hi;
} tvlm_qdwconv_args;

/* ---- resize of 8-bit RGB, Pillow's two passes; k[t] = high[t] * 2^16 + low[t] ----
 * y = clamp((2^21 + sum_t x[t] * k[t]) >> 22, 0, 255), sums modulo 2^32 */
enum { TVLM_RESIZE_BITS = 22, TVLM_RESIZE_CHANNELS = 3, TVLM_RESIZE_TAPS = 4 };
typedef struct tvlm_resize_taps {
    const int16_t *low, *high; /* [n] */
    size_t first, n; /* of the input; n a multiple of TVLM_RESIZE_TAPS, surplus taps are 0 */
} tvlm_resize_taps;

/* ---- the table --------------------------------------------------------------------------------*/
typedef struct tvlm_kernels {
#define TVLM_KERNEL(name, ret, params) ret(*name) params;
#include "kernels/kernels.def"
#undef TVLM_KERNEL
} tvlm_kernels;

/* Pure: scalar (complete), then each tier of the mask in order overlays what it has. */
void tvlm_kernels_select(tvlm_kernels *table, uint32_t cpu_mask);

/* Installers, one per tier file. */
void tvlm_kernels_install_scalar(tvlm_kernels *table);
void tvlm_kernels_install_crc32c(tvlm_kernels *table);
void tvlm_kernels_install_avx2(tvlm_kernels *table);   /* does nothing on other architectures */
void tvlm_kernels_install_avx512(tvlm_kernels *table); /* these likewise */
void tvlm_kernels_install_avxvnni(tvlm_kernels *table);
void tvlm_kernels_install_avx512vnni(tvlm_kernels *table);
void tvlm_kernels_install_neon(tvlm_kernels *table);
void tvlm_kernels_install_dotprod(tvlm_kernels *table);
void tvlm_kernels_install_i8mm(tvlm_kernels *table);
void tvlm_kernels_install_simd128(tvlm_kernels *table);

#endif
