/* SPDX-License-Identifier: MIT
 * Activation ranges of an EfficientNet tower -> the (scale, zero point) of every layer's output. */
#ifndef TVLM_APP_CALIBRATE_H
#define TVLM_APP_CALIBRATE_H

#include "convert/quantize.h"
#include "model/model.h"

typedef struct tvlm_tower_ranges {
    tvlm_qparam input, stem, head;
    struct {
        tvlm_qparam expand, dw, project; /* project: the block's output, residual added */
    } blocks[TVLM_MAX_BLOCKS];
} tvlm_tower_ranges;

/* Runs the float tower over params' pictures twice: extremes first, then histograms between them.
 * Each picture is read once. A layer that gives NaN or infinity is refused by name. */
tvlm_status tvlm_calibrate(const tvlm_model *model, const tvlm_quantize_params *params,
                           tvlm_tower_ranges *out, tvlm_error *err);

/* Codes 0..127 for the values lo..hi (lo <= 0 <= hi): zero is exact. */
tvlm_qparam tvlm_u7_range(double lo, double hi);

#endif
