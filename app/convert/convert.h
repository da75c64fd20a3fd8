/* SPDX-License-Identifier: MIT
 * A Hugging Face checkpoint folder -> GGUF: FastVLM in Apple's layout (llava_qwen2) or Hugging
 * Face's (fast_vlm), with fused or training-form tower, SmolVLM, and text models (qwen2, qwen3,
 * llama). Or llama.cpp's pair of files of a SmolVLM. */
#ifndef TVLMC_CONVERT_H
#define TVLMC_CONVERT_H

#include "tinyvlm.h"

/* A type that matrices can be written in, by its name ("q8_0", in any case): GGML's number of it.
 */
bool tvlmc_type_from_name(const char *name, uint32_t *out);

typedef struct tvlmc_convert_params {
    size_t size; /* sizeof(tvlmc_convert_params) */
    /* Of matrices, by tvlmc_type_from_name; F16 by default. With block types embeddings,
     * output matrix, tower and rows that a block does not divide take others (see result.h).
     * Matrices with values beyond the type's range stay F32, as norms, biases and convolutions do.
     */
    uint32_t type;
    tvlm_fit fit;          /* how images become squares: PAD (default) or CROP */
    const char *tokenizer; /* folder or file, where the checkpoint has none; NULL: in the folder */
    void (*on_note)(void *user, const char *line); /* nullable: what the user should know */
    void (*on_progress)(void *user, uint64_t done, uint64_t total); /* nullable: bytes written */
    void *user;
    const tvlm_cancel *cancel; /* nullable: stops between tensors, leaving no file */
} tvlmc_convert_params;
void tvlmc_convert_params_init(tvlmc_convert_params *params);

/* out appears only when complete and readable as a model. params NULL: defaults. */
tvlm_status tvlmc_convert(const char *dir, const char *out, const tvlmc_convert_params *params,
                          tvlm_error *err);

/* The text model and its "mmproj", as llama.cpp has them, -> out, as above. Weights keep the types
 * that they have; of params on_note, on_progress (tensors) and cancel are used. */
tvlm_status tvlmc_convert_pair(const char *text, const char *mmproj, const char *out,
                               const tvlmc_convert_params *params, tvlm_error *err);

#endif
