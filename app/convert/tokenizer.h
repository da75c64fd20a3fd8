/* SPDX-License-Identifier: MIT
 * The tokenizer of a checkpoint's files, without a model. */
#ifndef TVLMC_TOKENIZER_H
#define TVLMC_TOKENIZER_H

#include "tinyvlm.h"

typedef struct tvlm_tokenizer tvlmc_tokenizer;

/* path: a tokenizer.json, a folder with it or with vocab.json and merges.txt. */
tvlm_status tvlmc_tokenizer_open(const char *path, tvlmc_tokenizer **out, tvlm_error *err);
void tvlmc_tokenizer_free(tvlmc_tokenizer *tokenizer); /* nullable */

/* As tvlm_tokenize, special tokens parsed, and as tvlm_detokenize, special tokens shown. */
tvlm_status tvlmc_tokenizer_encode(const tvlmc_tokenizer *tokenizer, const char *text, size_t len,
                                   int32_t *ids, size_t cap, size_t *n, tvlm_error *err);
tvlm_status tvlmc_tokenizer_decode(const tvlmc_tokenizer *tokenizer, const int32_t *ids,
                                   size_t n_ids, char *text, size_t cap, size_t *n,
                                   tvlm_error *err);

#endif
