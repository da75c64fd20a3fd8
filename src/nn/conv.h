/* SPDX-License-Identifier: MIT
 * Convolutions by output rows; inner to nn. */
#ifndef TVLM_CONV_H
#define TVLM_CONV_H

#include "nn/pointwise.h"
#include "nn/window.h"

/* A depthwise kernel's arguments, of either dtype. */
typedef struct tvlm_dw {
    const tvlm_kernels *kernels;
    tvlm_dtype dtype;
    union {
        tvlm_dwconv_args f32;
        tvlm_qdwconv_args u7;
    } of;
} tvlm_dw;

tvlm_dw tvlm_nn_dw(tvlm_cx *cx, const tvlm_dwconv *d, unsigned stride, tvlm_pad pad, tvlm_act act,
                   tvlm_map x, tvlm_map y);
void tvlm_nn_dw_rows(const tvlm_dw *dw, size_t oy0, size_t oy1);

/* Computes rows of a dense convolution one by one. */
typedef struct tvlm_conv_rows {
    const tvlm_kernels *kernels;
    const tvlm_linear *linear;
    tvlm_act act;
    const void *x;
    tvlm_window window;
    unsigned char *columns; /* per thread [ow][ld] */
    size_t stride;
} tvlm_conv_rows;

/* From the arena: the columns. */
tvlm_conv_rows tvlm_nn_conv_rows(tvlm_cx *cx, const tvlm_conv *c, unsigned stride, tvlm_pad pad,
                                 tvlm_act act, tvlm_map x);
/* Output row oy -> y[ow][n]. */
void tvlm_nn_conv_row(const tvlm_conv_rows *rows, size_t oy, unsigned thread, void *y);

/* Where row y of a map lies. */
void *tvlm_nn_map_row(tvlm_map map, size_t y);

#endif
