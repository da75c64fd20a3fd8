/* SPDX-License-Identifier: MIT
 * The decoder: one forward over rows (Qwen2, Llama, Tiny-VLM), KV cache, samplers. */
#ifndef TVLM_DECODER_H
#define TVLM_DECODER_H

#include "nn/nn.h"

/* Keys and values of one session: [layer][k|v][n_ctx][n_kv_heads * head_dim], f16 or f32. */
typedef struct tvlm_kv {
    void *data;
    bool f16;
    uint32_t n_layers, n_ctx;
    size_t row; /* n_kv_heads * head_dim */
} tvlm_kv;
size_t tvlm_kv_bytes(const tvlm_decoder_config *config, uint32_t n_ctx, bool f16);
void *tvlm_kv_at(const tvlm_kv *kv, uint32_t layer, unsigned which, uint32_t position);
/* Positions begin..end of another cache of the same shape. */
void tvlm_kv_copy(const tvlm_kv *to, const tvlm_kv *from, uint32_t begin, uint32_t end);

/* Keys and values of an image for cross-attention: [layer][k|v][n_tokens][row] f32; computed once
 * per image from its visual tokens [n_tokens][n_embd]. */
size_t tvlm_cross_kv_floats(const tvlm_decoder_config *config, size_t n_tokens);
void tvlm_cross_kv_forward(tvlm_cx *cx, const tvlm_decoder *w, const tvlm_decoder_config *config,
                           const float *tokens, size_t n_tokens, float *out);

typedef struct tvlm_decoder_row {
    const tvlm_kv *kv;
    uint32_t position;
    int32_t token;          /* when embedding is NULL */
    const float *embedding; /* [n_embd] */
    const float *cross_kv;  /* of the row's image, NULL: no cross-attention (blind) */
    size_t n_cross;
    bool want_logits;
} tvlm_decoder_row;

/* Writes K/V of every row, then logits [n_wanted][n_vocab] in row order. Rows of one session must
 * be in rising position order; positions below a row's own must be filled; all caches are of one
 * type. Measure mode takes rows NULL and a model without weights. */
void tvlm_decoder_forward(tvlm_cx *cx, const tvlm_decoder *w, const tvlm_decoder_config *config,
                          const tvlm_decoder_row *rows, size_t n_rows, float *logits);

#endif
