/* SPDX-License-Identifier: MIT
 * Pixels -> the model's input tensor, bit-exact with Pillow's resize (libImaging/Resample.c). */
#ifndef TVLM_PREPROCESS_H
#define TVLM_PREPROCESS_H

#include "base/base.h"
#include "model/config.h"

/* out: [S][S][3] float32. Works row by row: padding is virtual, memory is one source row's worth of
 * output plus a ring of horizontally resized rows, whatever the picture's size. scratch: an arena
 * (64-byte aligned blocks; measure with pixels == NULL-data and the limits' width for a bound). */
tvlm_status tvlm_preprocess_run(const tvlm_preprocess_config *config, const tvlm_pixels *pixels,
                                tvlm_fit fit, float *out, tvlm_error *err);
/* The resized, padded or cropped picture itself, [S][S][3] u8, before scale and bias. */
tvlm_status tvlm_preprocess_u8(const tvlm_preprocess_config *config, const tvlm_pixels *pixels,
                               tvlm_fit fit, uint8_t *out, tvlm_error *err);

#endif
