/* SPDX-License-Identifier: MIT
 * GGUF -> GGUF with other weight types.
 *
 * Matrices of tower, bridge and decoder take `type`; norms, biases, dense and depthwise
 * convolutions, positions, queries and the layers of an int8 tower stay as they are. With block
 * types embeddings, output matrix, tower and rows that a block does not divide take others (see
 * result.h); matrices with values beyond the type's range stay F32. Rows that are not whole blocks
 * and F32 are named through on_note.
 * Refused by the tensor's name: bytes that do not match their checksum, NaN, infinity, types that
 * are not read. */
#ifndef TVLMC_QUANTIZE_H
#define TVLMC_QUANTIZE_H

#include "convert/convert.h"

/* What int8 costs: relative L2 errors on the images held out of the calibration (on all when they
 * are fewer than 8). */
typedef struct tvlmc_layer_error {
    const char *layer; /* as `dump` and the messages name it; "tokens": what the decoder sees */
    double alone;      /* of the tokens, where it alone is int8; NaN for "tokens" */
    double behind;     /* of its output in the file, behind the layers before it */
    bool is_float;     /* it lost too much alone */
} tvlmc_layer_error;

/* Matrices whose name has `name` in it. */
typedef struct tvlmc_tensor_type {
    const char *name;
    uint32_t type; /* by tvlmc_type_from_name */
} tvlmc_tensor_type;

typedef struct tvlmc_quantize_params {
    uint32_t type; /* by tvlmc_type_from_name */
    /* Take types of their own, embeddings and tower too, but for what is int8: the last that fits
     * counts; one that fits none is an error. Not in blocks that do not divide their rows. */
    const tvlmc_tensor_type *tensors; /* [n_tensors], nullable */
    size_t n_tensors;
    /* The EfficientNet tower too, to int8: weights per output channel, activations by the ranges
     * that the float tower shows on the calibration images. */
    bool int8_tower;
    /* With int8_tower: layers whose error alone is larger stay float. INFINITY: none does. */
    double max_layer_error;
    /* Lends the next image until the following call; data stays NULL when there are no more. A
     * failure ends the work. */
    tvlm_status (*next_photo)(void *user, tvlm_pixels *out, tvlm_error *err);
    void (*on_note)(void *user, const char *line); /* nullable */
    /* Nullable; with int8_tower, once the file is made: for each layer in order, then the tokens.
     */
    void (*on_error)(void *user, const tvlmc_layer_error *error);
    /* nullable; what: "calibrating" (runs of the tower), "quantizing" (tensors),
     * "measuring" and "comparing" (images) */
    void (*on_progress)(void *user, const char *what, uint64_t done, uint64_t total);
    void *user;
    const tvlm_cancel *cancel; /* nullable: stops between tensors, leaving no file */
} tvlmc_quantize_params;

/* out appears only when complete and readable as a model. in and out must differ. */
tvlm_status tvlmc_quantize_file(const char *in, const char *out,
                                const tvlmc_quantize_params *params, tvlm_error *err);

#endif
