/* SPDX-License-Identifier: MIT
 * The kernel table: one function pointer per entry of kernels.def, plus the gemm descriptors.
 * Layer rule: kernels know numbers and layouts, no model, no threads, no allocation. */
#ifndef TVLM_KERNELS_H
#define TVLM_KERNELS_H

#include "base/base.h"
#include "quant/quant.h"

/* Epilogue activations. */
typedef enum tvlm_act {
    TVLM_ACT_NONE = 0,
    TVLM_ACT_GELU = 1, /* exact: x/2 (1 + erf(x/sqrt 2)) */
    TVLM_ACT_RELU = 2,
    TVLM_ACT_RELU6 = 3,
    TVLM_ACT_SIGMOID = 4
} tvlm_act;

/* ---- linear layers: gemm over packed weights ---------------------------------------------------
 * y[m][n] = scale * act(sum_k x[m][k] * w[n][k] + bias[n]) + residual[m][n]
 * x, y, residual: float32 rows, ldx/ldy/ldr floats apart (residual may be y itself). bias and
 * residual nullable. w: packed by the descriptor's pack. An output's arithmetic depends on its row
 * of x, its row of w and k only, never on m, tiles or batch. */
typedef struct tvlm_gemm_args {
    const float *x;
    size_t ldx;
    const void *w;
    const float *bias;
    const float *residual;
    size_t ldr;
    float *y;
    size_t ldy;
    float scale;
    tvlm_act act;
    size_t n, k; /* of the whole matrix */
} tvlm_gemm_args;

/* What travels together for one weight type. Packed layout: panels of TVLM_GEMM_NR weight rows
 * (the last padded with zeros), inside a panel k-major, so that NR weights of one k are adjacent:
 *
 *   float types   panel[k][NR]                       F32, F16, BF16 as stored
 *   block types   panel[k/32] { scales f16 [NR] (, mins f16 [NR]) ; (high bits) ; codes }
 *                 drawn in pack.h
 * All tiers share the layout, so weights packed under one tier run under any other. */
#define TVLM_GEMM_NR ((size_t)16)
typedef struct tvlm_gemm {
    tvlm_type type;
    /* Computes rows m0..m1 of x against weight rows n0..n1 (n0 a multiple of NR; n1 too, or n). */
    void (*run)(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1);
} tvlm_gemm;
/* Bytes of a packed [n][k] matrix (k a multiple of the type's block); false on overflow. */
bool tvlm_gemm_packed_size(tvlm_type type, size_t n, size_t k, size_t *out);
/* Packs n_rows (<= NR) file-layout rows src into the panel that starts at weight row n0 (a
 * multiple of NR); missing rows of the panel become zeros. */
void tvlm_gemm_pack(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows,
                    size_t k);
/* The inverse for one row: dst[k] floats (embedding lookup). */
void tvlm_gemm_unpack_row(tvlm_type type, const void *packed, size_t row, size_t k, float *dst);

/* ---- attention of one query row of one head ----------------------------------------------------
 * out[d] = sum_j softmax_j(scale * q . k[j]) v[j],  j in [0, n_keys)
 * k, v: rows ldk/ldv elements apart, float32 or IEEE half (kv_f16). scores: scratch of n_keys. */
typedef struct tvlm_attention_args {
    const float *q;
    const void *k, *v;
    bool kv_f16;
    size_t ldk, ldv, n_keys, d; /* d a multiple of 8 */
    float scale;
    float *scores;
    float *out;
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
/* Packed int8 [n][k]: panels of NR rows, k padded to a multiple of 4 with zeros, each
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

/* ---- the table --------------------------------------------------------------------------------*/
typedef struct tvlm_kernels {
#define TVLM_KERNEL(name, ret, params) ret(*name) params;
#include "kernels/kernels.def"
#undef TVLM_KERNEL
    tvlm_gemm gemm_f32, gemm_f16, gemm_bf16, gemm_q8_0, gemm_q4_0, gemm_q4_1, gemm_q5_0, gemm_q5_1;
} tvlm_kernels;

/* Pure: scalar (complete), then each tier of the mask in order overlays what it has. */
void tvlm_kernels_select(tvlm_kernels *table, uint32_t cpu_mask);
/* The gemm for a weight type, NULL when none. */
const tvlm_gemm *tvlm_kernels_gemm(const tvlm_kernels *table, tvlm_type type);

/* Installers, one per tier file. */
void tvlm_kernels_install_scalar(tvlm_kernels *table);
void tvlm_kernels_install_avx2(tvlm_kernels *table);    /* does nothing on other architectures */
void tvlm_kernels_install_simd128(tvlm_kernels *table); /* likewise */

#endif
