/* SPDX-License-Identifier: MIT
 * Choosing an id: no repeated n-gram -> repetition penalty -> top-k -> top-p -> min-p ->
 * temperature (llama.cpp's order).
 */
#ifndef TVLM_SAMPLER_H
#define TVLM_SAMPLER_H

#include "base/base.h"
#include "text/tokenizer.h"

typedef struct tvlm_candidate {
    float logit, p;
    int32_t id;
} tvlm_candidate;

#define TVLM_SAMPLING_DEFAULTS {.top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64}

/* ARGUMENT, naming the field, for a value that makes no sense: negative, not a number, a
 * probability above 1, no penalty at all. */
tvlm_status tvlm_sampling_check(const tvlm_sampling *sampling, tvlm_error *err);

/* logits [n_vocab]; ids that the tokenizer does not know (or marks unused) are never chosen, nor
 * are logits that are not numbers unless nothing else is left. Ties go to the lower id. recent: the
 * last ids, for the penalty. scratch: n_vocab candidates. state: splitmix64, advanced by a draw;
 * greedy choices (temperature 0) draw nothing. */
int32_t tvlm_sampler_choose(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                            const tvlm_sampling *sampling, const int32_t *recent, size_t n_recent,
                            tvlm_candidate *scratch, uint64_t *state);

/* The n most likely of those ids, or all there are, best first at scratch: how many. */
size_t tvlm_sampler_best(const tvlm_tokenizer *tokenizer, const float *logits, uint32_t n_vocab,
                         uint32_t no_repeat_ngram, const int32_t *recent, size_t n_recent,
                         tvlm_candidate *scratch, size_t n);

/* log p = logit - this; no finite number when a logit is none. */
double tvlm_sampler_log_sum(const float *logits, uint32_t n_vocab);

/* log p of `id` by softmax of logits [n_vocab], and of the n most likely ids, most likely first,
 * ties to the lower id. n is at most n_vocab. */
float tvlm_sampler_logprobs(const float *logits, uint32_t n_vocab, int32_t id,
                            tvlm_alternative *top, size_t n);

#endif
