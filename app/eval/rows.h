/* SPDX-License-Identifier: MIT
 * What is asked of a model: JSON lines, each an image with a question and the answers that count,
 * or with captions. */
#ifndef APP_ROWS_H
#define APP_ROWS_H

#include "tinyvlm.h"

#include <jansson.h>

typedef struct eval_row {
    json_t *object;
    const char *image, *source; /* of the object, as the next ones; source "" where it has none */
    const char *question;       /* NULL: a caption is asked for */
    const char **wanted;        /* the answers that count, or captions by people */
    size_t n_wanted, line;
    size_t image_index; /* in eval_rows.images: the one that is shown */
    char *answer;       /* what the model said; NULL until then */
    double p_yes;       /* probability of yes against no as the first word; below 0: not asked */
} eval_row;

typedef struct eval_rows {
    eval_row *at;
    size_t n;
    const char **images; /* the names, sorted, each once */
    size_t n_images;
} eval_rows;

typedef struct eval_where {
    const char *key, *value;
} eval_where;

typedef struct eval_row_filter {
    const eval_where *where; /* rows with another string there are left out */
    size_t n_where;
    size_t limit; /* 0: all; else a sample of so many, the same each time, in the file's order */
} eval_row_filter;

/* Messages name the file and the line. A file without a row that passes is an error. */
tvlm_status eval_rows_load(const char *path, const eval_row_filter *filter, eval_rows *out,
                           tvlm_error *err);
void eval_rows_free(eval_rows *rows);

/* Deals the images out to other rows, the same way each time. */
void eval_rows_shuffle(eval_rows *rows);

#endif
