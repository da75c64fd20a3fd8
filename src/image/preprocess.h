/* SPDX-License-Identifier: MIT
 * Pixels -> the model's input tensor, bit-exact with Pillow's resize (libImaging/Resample.c) as it
 * was up to version 12: horizontal pass first. Pillow 13 swaps the passes of some tall pictures,
 * which moves single roundings. */
#ifndef TVLM_PREPROCESS_H
#define TVLM_PREPROCESS_H

#include "base/base.h"
#include "model/config.h"

/* Longest side of a picture: the filter's table takes 16 bytes a column. */
#define TVLM_MAX_SIDE 1000000u

/* out: [S][S][3] float32. Works row by row: padding is virtual and memory, one block per call, is a
 * source row, the filter's table and a ring of horizontally resized rows, whatever the picture's
 * size. fit: TVLM_FIT_MODEL takes the configuration's. Errors: ARGUMENT for an empty or ill-formed
 * picture, LIMIT for a side beyond TVLM_MAX_SIDE, MEMORY. */
tvlm_status tvlm_preprocess_run(const tvlm_preprocess_config *config, const tvlm_pixels *pixels,
                                tvlm_fit fit, float *out, tvlm_error *err);
/* The resized, padded or cropped picture itself, [S][S][3] u8, before scale and bias. */
tvlm_status tvlm_preprocess_u8(const tvlm_preprocess_config *config, const tvlm_pixels *pixels,
                               tvlm_fit fit, uint8_t *out, tvlm_error *err);

#endif
