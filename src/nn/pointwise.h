/* SPDX-License-Identifier: MIT
 * Inner to nn. */
#ifndef TVLM_POINTWISE_H
#define TVLM_POINTWISE_H

#include "nn/nn.h"

/* Of an int8 layer for contiguous rows of k bytes, which may end in bytes that meet the padding of
 * the packed weights. */
tvlm_qgemm_args tvlm_nn_qgemm_args(const tvlm_linear *l, size_t k, const uint8_t *x, uint8_t *y);

/* The float layer for m rows, by one thread: y = act(x W^T + b) + residual.
 * packed: scratch of so many bytes. */
void tvlm_nn_linear_rows(const tvlm_kernels *kernels, const tvlm_linear *l, tvlm_act act,
                         const float *x, size_t m, const float *residual, float *y, void *packed);
size_t tvlm_nn_packed_bytes(const tvlm_linear *l);

#endif
