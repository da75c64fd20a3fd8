/* SPDX-License-Identifier: MIT
 * Activation ranges of an EfficientNet tower -> the (scale, zero point) of every layer's output;
 * what they and the rounding of weights cost, and so which layers stay float. */
#ifndef TVLMC_CALIBRATE_H
#define TVLMC_CALIBRATE_H

#include "convert/tower.h"

typedef struct tvlmc_layer_plan {
    char name[32];   /* "stem", "blocks.I.expand", "blocks.I.dw", "blocks.I" (of the project
                        layer, the residual added) or "head" */
    tvlm_qparam out; /* of its output */
    double alone;    /* relative error of the tokens where it alone is int8 */
    bool is_float;
} tvlmc_layer_plan;

enum { TVLMC_MAX_TOWER_LAYERS = 3 * TVLM_MAX_BLOCKS + 2 };
typedef struct tvlmc_tower_plan {
    tvlm_qparam input;
    tvlmc_layer_plan layers[TVLMC_MAX_TOWER_LAYERS]; /* in order */
    size_t n;
} tvlmc_tower_plan;

/* With at least TVLMC_HOLD_OUT images, the last of each TVLMC_HOLD_OUT is not calibrated with:
 * the report takes those, and with fewer all. */
enum { TVLMC_HOLD_OUT = 8 };

/* Runs the float tower over the images twice: extremes first, then histograms between them. A
 * layer that gives NaN or infinity is refused by name. */
tvlm_status tvlmc_calibrate(const tvlm_model *model, const tvlmc_photos *photos,
                            const tvlmc_quantize_params *params, tvlmc_tower_plan *out,
                            tvlm_error *err);

/* Each layer's error `alone`: of the tokens that the decoder sees, where the float tower has this
 * layer of the int8 one, over up to eight images of the report. */
tvlm_status tvlmc_measure_layers(const tvlm_model *exact, const tvlm_model *int8,
                                 const tvlmc_photos *photos, const tvlmc_quantize_params *params,
                                 tvlmc_tower_plan *plan, tvlm_error *err);

/* Compares the int8 model with the float one it was made of, and tells params->on_error. */
tvlm_status tvlmc_report_int8(const tvlm_model *exact, const tvlm_model *int8,
                              const tvlmc_photos *photos, const tvlmc_quantize_params *params,
                              const tvlmc_tower_plan *plan, tvlm_error *err);

/* Codes 0..127 for the values lo..hi (lo <= 0 <= hi): zero is exact. */
tvlm_qparam tvlmc_u7_range(double lo, double hi);

#endif
