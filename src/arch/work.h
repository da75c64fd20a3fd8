/* SPDX-License-Identifier: MIT
 * Arithmetic counted from the tensors of a file: a weight takes a multiplication and an addition
 * wherever its tensor is applied. */
#ifndef TVLM_ARCH_WORK_H
#define TVLM_ARCH_WORK_H

#include "model/model.h"

/* The tensor of that name, applied at `times` places; not every model has every one. Returns its
 * first dimension, or 0. */
double tvlm_work_add(tvlm_work *work, const tvlm_gguf *gguf, double times, const char *format, ...)
    TVLM_PRINTF(4, 5);

/* Pixels a side of a map after a stride, same padding. */
static inline uint32_t tvlm_strided(uint32_t side, uint32_t stride)
{
    return side / stride + (side % stride != 0);
}

static inline double tvlm_square(double side)
{
    return side * side;
}

/* Scores and weighted values of `queries` over `keys`, all heads together `width` wide. */
static inline double tvlm_work_attention(double queries, double keys, double width)
{
    return 4 * queries * keys * width;
}

#endif
