/* SPDX-License-Identifier: MIT
 * Activation ranges of an EfficientNet tower -> the (scale, zero point) of every layer's output;
 * what they and the rounding of weights cost. */
#ifndef TVLM_APP_CALIBRATE_H
#define TVLM_APP_CALIBRATE_H

#include "convert/tower.h"

typedef struct tvlm_tower_ranges {
    tvlm_qparam input, stem, head;
    struct {
        tvlm_qparam expand, dw, project; /* project: the block's output, residual added */
    } blocks[TVLM_MAX_BLOCKS];
} tvlm_tower_ranges;

/* With at least TVLM_HOLD_OUT pictures, the last of each TVLM_HOLD_OUT is not calibrated with: the
 * report takes those, and with fewer all. */
enum { TVLM_HOLD_OUT = 8 };

/* Runs the float tower over the pictures twice: extremes first, then histograms between them. A
 * layer that gives NaN or infinity is refused by name. */
tvlm_status tvlm_calibrate(const tvlm_model *model, const tvlm_pictures *pictures,
                           const tvlm_quantize_params *params, tvlm_tower_ranges *out,
                           tvlm_error *err);

/* Compares the int8 model with the float one it was made of, and tells params->on_error: relative
 * L2 error of each tower layer's output behind int8 layers, in order, then of the tokens that the
 * decoder sees ("tokens"). */
tvlm_status tvlm_report_int8(const tvlm_model *exact, const tvlm_model *int8,
                             const tvlm_pictures *pictures, const tvlm_quantize_params *params,
                             tvlm_error *err);

/* Codes 0..127 for the values lo..hi (lo <= 0 <= hi): zero is exact. */
tvlm_qparam tvlm_u7_range(double lo, double hi);

#endif
