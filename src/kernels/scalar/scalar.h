/* SPDX-License-Identifier: MIT
 * The scalar tier's files; together they set every entry of the table. */
#ifndef TVLM_KERNELS_SCALAR_H
#define TVLM_KERNELS_SCALAR_H

#include "kernels/kernels.h"

void tvlm_scalar_install_rows(tvlm_kernels *table);
void tvlm_scalar_install_attention(tvlm_kernels *table);
void tvlm_scalar_install_spatial(tvlm_kernels *table);
void tvlm_scalar_install_int8(tvlm_kernels *table);

/* act(x) for one value. */
float tvlm_scalar_act(tvlm_act act, float x);

#endif
