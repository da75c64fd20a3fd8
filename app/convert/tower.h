/* SPDX-License-Identifier: MIT
 * An EfficientNet tower over images, layer by layer: for calibration and its report. */
#ifndef TVLMC_TOWER_H
#define TVLMC_TOWER_H

#include "convert/quantize.h"
#include "model/model.h"
#include "nn/nn.h"

/* Images at the model's size, each decoded once. */
typedef struct tvlmc_photos {
    uint8_t *rgb; /* [n][side][side][3] */
    size_t n, cap;
    uint32_t side;
} tvlmc_photos;

/* Takes all of params->next_photo; none at all is an error. The caller frees rgb in any case. */
tvlm_status tvlmc_photos_take(const tvlm_model *model, const tvlmc_quantize_params *params,
                              tvlmc_photos *out, tvlm_error *err);
tvlm_pixels tvlmc_photos_at(const tvlmc_photos *photos, size_t i);

typedef struct tvlmc_tower_run {
    const tvlm_model *model;
    const tvlm_efficientnet *weights; /* the model's, at first */
    tvlm_cx cx;
    tvlm_arena arena;
    void *block;
    float *pixels, *lo, *hi;
    float *vision, *tokens; /* without a tap: the bridge's [n_hi + n_lo][d] and [n_query][d] */
} tvlmc_tower_run;

/* The tap sees every layer's output, of int8 layers as floats. It, the model and cancel (nullable)
 * stay the caller's and must outlive the tower, which must not move. */
tvlm_status tvlmc_tower_run_open(tvlmc_tower_run *tower, const tvlm_model *model,
                                 const tvlm_tap *tap, const tvlm_cancel *cancel, tvlm_error *err);
/* Weights of the same shapes, of any layers' types, to run from now on; the caller's. */
tvlm_status tvlmc_tower_run_take(tvlmc_tower_run *tower, const tvlm_efficientnet *weights,
                                 tvlm_error *err);
tvlm_status tvlmc_tower_run_see(tvlmc_tower_run *tower, const tvlm_pixels *photo, tvlm_error *err);
void tvlmc_tower_run_close(tvlmc_tower_run *tower);

#endif
