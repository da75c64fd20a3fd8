/* SPDX-License-Identifier: MIT
 * GGUF -> GGUF with other weight types.
 *
 * Matrices (2-D weights of tower, bridge and decoder) take `type`; norms, biases, dense and
 * depthwise convolutions, positions and queries stay as they are. With Q4_0 the embeddings, the
 * output matrix and the tower take Q8_0. Rows that a block does not divide become F16, matrices
 * with values beyond F16 stay F32; both are named through on_note. */
#ifndef TVLM_APP_QUANTIZE_H
#define TVLM_APP_QUANTIZE_H

#include "tinyvlm.h"
#include "quant/quant.h"

typedef struct tvlm_quantize_params {
    tvlm_type type; /* F32, F16, BF16, Q8_0 or Q4_0 */
    /* The EfficientNet tower too, to int8: weights per output channel, activations by the ranges
     * that the float tower shows on the calibration pictures (read twice, in order). */
    bool int8_tower;
    size_t n_pictures;
    /* Lends picture `index` until the next call. A failure ends the work. */
    tvlm_status (*picture)(void *user, size_t index, tvlm_pixels *out, tvlm_error *err);
    void (*on_note)(void *user, const char *line);                  /* nullable */
    void (*on_progress)(void *user, uint64_t done, uint64_t total); /* nullable: tensors */
    void *user;
    const tvlm_cancel *cancel; /* nullable: stops between tensors, leaving no file */
} tvlm_quantize_params;

/* out appears only when complete. in and out must differ. */
tvlm_status tvlm_quantize_file(const char *in, const char *out, const tvlm_quantize_params *params,
                               tvlm_error *err);

#endif
