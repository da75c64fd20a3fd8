/* SPDX-License-Identifier: MIT
 * How good answers and captions are. BLEU-4 (Papineni et al. 2002) and CIDEr-D (Vedantam et al.
 * 2015) give what pycocoevalcap gives for the same words. */
#ifndef APP_METRICS_H
#define APP_METRICS_H

#include "tinyvlm.h"

/* A caption and what people wrote about the same image: UTF-8, terminated. Words are runs of
 * letters, digits, ' and -, in lower case; bytes above ASCII count as letters. */
typedef struct eval_caption {
    const char *text;
    const char *const *references;
    size_t n_references; /* at least 1 */
} eval_caption;

typedef struct eval_caption_scores {
    double bleu4, cider_d;
    double cider_d_margin; /* half of the 95 % interval */
    size_t n_empty, n_distinct_words;
} eval_caption_scores;

/* Document frequencies of CIDEr-D are those of the references given. Zeros for no captions. */
tvlm_status eval_score_captions(const eval_caption *captions, size_t n, eval_caption_scores *out,
                                tvlm_error *err);

/* The same answer: in lower case, without spaces around and a full stop behind. */
bool eval_same_answer(const char *a, const char *b);

/* What a question asks for, by its first words: "presence", "how many", "colour" ..., else "other".
 */
const char *eval_kind(const char *question);

/* Wilson's 95 % interval of k right in n. */
void eval_interval(size_t k, size_t n, double *low, double *high);

/* Expected calibration error, ten bins: how far the probability of what is said is from how often
 * it is right. */
double eval_calibration_error(const double *probability, const bool *right, size_t n);

#endif
