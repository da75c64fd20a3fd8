/* SPDX-License-Identifier: MIT
 * Rotary position embedding tables (RoFormer, arXiv:2104.09864). */
#ifndef TVLM_ROPE_H
#define TVLM_ROPE_H

#include "base/base.h"

/* inv_freq[i] = theta^(-2i/d), i < d/2. */
void tvlm_rope_frequencies(double *inv_freq, size_t d, double theta);

/* cs[0..d/2) = cos(position * inv_freq[i]), cs[d/2..d) = sin of the same. Sine and cosine are ours:
 * |error| < 1e-12 for angles up to 2^20, whatever the C library. */
void tvlm_rope_table(float *cs, const double *inv_freq, size_t d, uint32_t position);

#endif
