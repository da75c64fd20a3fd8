/* SPDX-License-Identifier: MIT
 * The scalar tier's files; together they set every entry of the table. */
#ifndef TVLM_KERNELS_SCALAR_H
#define TVLM_KERNELS_SCALAR_H

#include "kernels/linear.h"

void tvlm_scalar_install_rows(tvlm_kernels *table);
void tvlm_scalar_install_attention(tvlm_kernels *table);
void tvlm_scalar_install_spatial(tvlm_kernels *table);
void tvlm_scalar_install_int8(tvlm_kernels *table);
void tvlm_scalar_install_resize(tvlm_kernels *table);

/* act(x) for one value. */
float tvlm_scalar_act(tvlm_act act, float x);
/* y[m][n] of a linear layer from its sum. */
void tvlm_scalar_epilogue(const tvlm_gemm_args *args, size_t m, size_t n, float acc);

#endif
