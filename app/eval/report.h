/* SPDX-License-Identifier: MIT
 * From answers to numbers. */
#ifndef APP_REPORT_H
#define APP_REPORT_H

#include "eval/metrics.h"
#include "eval/rows.h"

/* Whether the question's answers are yes and no. */
bool eval_is_yes_no(const eval_row *row);
/* Whether the answer that was given is among those wanted. */
bool eval_is_right(const eval_row *row);

/* clang-format off */
/* An object with what was asked for of
 *   headline    mean accuracy of the sources flickr8k and coco where there are any, else of all
 *   questions   {SOURCE: {accuracy, n, low, high (its 95 % interval), prior, majority,
 *               kinds: {KIND: {accuracy, n}}}}; majority is what the source's commonest answer
 *               gets right, prior the commonest one to the same words where they are asked five
 *               times or more: both know the answers of this file, but no image
 *   yes_no      {n, accuracy, calibration_error} of questions answered with a probability
 *   captions    {cider_d, cider_d_margin, bleu4, n, empty, distinct_words} */
/* clang-format on */
tvlm_status eval_report(const eval_rows *rows, json_t **out, tvlm_error *err);

/* The same as a table on standard output. */
void eval_print_report(const json_t *report);

#endif
