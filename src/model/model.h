/* SPDX-License-Identifier: MIT
 * The loaded model: config, tokenizer, weights; and the plan by which a loader places tensors. */
#ifndef TVLM_MODEL_H
#define TVLM_MODEL_H

#include "model/weights.h"

#include <stdatomic.h>

enum { TVLM_MAX_PROMPT_IMAGES = 1024 };

struct tvlm_model {
    tvlm_refs refs; /* its maker, engines, images, prompts and sessions */
    tvlm_config config;
    tvlm_tokenizer *tokenizer;
    tvlm_weights weights;
    tvlm_kernels kernels;
    uint32_t cpu_mask;
    tvlm_precision precision; /* of linear layers */
    _Atomic int stage;        /* tvlm_stage, release-stored once complete */
    unsigned char *header;    /* owned copy of the header bytes, strings point into it */
    size_t header_size;
    tvlm_gguf gguf;
    void *tower; /* weight structs whose number the file says, see tvlm_arch */
    tvlm_decoder_layer *layers;
    unsigned char *block; /* all weights, 64-byte aligned; NULL when header_only */
    size_t block_size;
    char *strings; /* name, license, description, describe_prompt, each with its terminator */
    size_t strings_size;
    uint64_t n_parameters;
    uint32_t max_frames;                      /* of an image: 1 where it is not split */
    uint32_t n_image_tokens, n_vision_tokens; /* of a frame */
};

/* Another reference, for tvlm_model_free to drop. */
tvlm_model *tvlm_model_retain(const tvlm_model *model);

/* Heap bytes that the model holds once loaded: header, index, tokenizer, weights, itself. The same
 * number for a model opened with header_only. */
size_t tvlm_model_bytes(const tvlm_model *model);

/* Defaults, then what the caller's struct (nullable) sets. */
tvlm_status tvlm_model_params_read(const tvlm_model_params *in, tvlm_model_params *out,
                                   tvlm_error *err);
/* What params.cpu and params.precision mean on this machine; an error names what it offers. */
tvlm_status tvlm_model_arithmetic(const tvlm_model_params *params, uint32_t *cpu_mask,
                                  tvlm_precision *precision, tvlm_error *err);
/* What the header alone tells: config, tokenizer, strings, kernels, into a model that has its
 * cpu_mask and precision, and its gguf, parsed from `head`; the rest is zeros. */
tvlm_status tvlm_model_read_header(tvlm_model *model, const tvlm_model_params *params,
                                   const unsigned char *head, tvlm_error *err);

#endif
