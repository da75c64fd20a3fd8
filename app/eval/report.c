/* SPDX-License-Identifier: MIT */
#include "eval/report.h"
#include "common/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- questions ---- */

static bool counts(const eval_row *row, const char *answer)
{
    for (size_t i = 0; i < row->n_wanted; i++)
        if (eval_same_answer(answer, row->wanted[i])) return true;
    return false;
}

bool eval_is_right(const eval_row *row)
{
    return row->answer && counts(row, row->answer);
}

bool eval_is_yes_no(const eval_row *row)
{
    for (size_t i = 0; i < row->n_wanted && row->question; i++)
        if (!eval_same_answer(row->wanted[i], "yes") && !eval_same_answer(row->wanted[i], "no"))
            return false;
    return row->question != NULL;
}

typedef int (*compare_rows)(const eval_row *a, const eval_row *b);

static int by_source(const eval_row *a, const eval_row *b)
{
    return strcmp(a->source, b->source);
}

static int by_question(const eval_row *a, const eval_row *b)
{
    int d = by_source(a, b);
    return d ? d : strcmp(a->question, b->question);
}

static int by_kind(const eval_row *a, const eval_row *b)
{
    int d = by_source(a, b);
    return d ? d : strcmp(eval_kind(a->question), eval_kind(b->question));
}

static int sort_source(const void *a, const void *b)
{
    return by_source(*(const eval_row *const *)a, *(const eval_row *const *)b);
}

static int sort_question(const void *a, const void *b)
{
    return by_question(*(const eval_row *const *)a, *(const eval_row *const *)b);
}

static int sort_kind(const void *a, const void *b)
{
    return by_kind(*(const eval_row *const *)a, *(const eval_row *const *)b);
}

/* The end of the group that begins at `begin`. */
static size_t group_end(const eval_row *const *at, size_t begin, size_t n, compare_rows compare)
{
    size_t end = begin + 1;
    while (end < n && compare(at[begin], at[end]) == 0)
        end++;
    return end;
}

typedef struct tally {
    const char *answer;
    size_t n;
} tally;

/* The first answers of rows and how often each is given. scratch: room for n. Returns how many. */
static size_t count_answers(const eval_row *const *at, size_t n, tally *scratch)
{
    size_t distinct = 0;
    for (size_t i = 0, k; i < n; i++) {
        for (k = 0; k < distinct && !eval_same_answer(scratch[k].answer, at[i]->wanted[0]); k++)
            ;
        if (k == distinct) scratch[distinct++] = (tally){at[i]->wanted[0], 0};
        scratch[k].n++;
    }
    return distinct;
}

/* Of equals the one met first. */
static const char *commonest(const tally *tallies, size_t n)
{
    size_t best = 0;
    for (size_t k = 1; k < n; k++)
        if (tallies[k].n > tallies[best].n) best = k;
    return tallies[best].answer;
}

static size_t count_answered(const eval_row *const *at, size_t n, const char *answer)
{
    size_t right = 0;
    for (size_t i = 0; i < n; i++)
        right += counts(at[i], answer);
    return right;
}

/* How many rows the commonest answer to their question gets right, `otherwise` where it is asked
 * too rarely to tell. */
static size_t count_prior(const eval_row *const *at, size_t n, const char *otherwise,
                          tally *scratch)
{
    enum { OFTEN = 5 };
    size_t right = 0;
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = group_end(at, begin, n, by_question);
        size_t of = end - begin, distinct = count_answers(at + begin, of, scratch);
        right +=
            count_answered(at + begin, of, of < OFTEN ? otherwise : commonest(scratch, distinct));
    }
    return right;
}

static size_t count_right(const eval_row *const *at, size_t n)
{
    size_t right = 0;
    for (size_t i = 0; i < n; i++)
        right += eval_is_right(at[i]);
    return right;
}

static double share(size_t k, size_t n)
{
    return n ? (double)k / (double)n : 0;
}

/* Rows of one source; sorts them. */
static json_t *report_source(const eval_row **at, size_t n, tally *scratch)
{
    double low, high;
    size_t right = count_right(at, n);
    eval_interval(right, n, &low, &high);
    const char *answer = commonest(scratch, count_answers(at, n, scratch));
    size_t majority = count_answered(at, n, answer);
    qsort(at, n, sizeof *at, sort_question);
    size_t prior = count_prior(at, n, answer, scratch);
    json_t *kinds = json_object();
    qsort(at, n, sizeof *at, sort_kind);
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = group_end(at, begin, n, by_kind);
        size_t of = end - begin;
        json_object_set_new(kinds, eval_kind(at[begin]->question),
                            json_pack("{s:f,s:I}", "accuracy",
                                      share(count_right(at + begin, of), of), "n", (json_int_t)of));
    }
    return json_pack("{s:f,s:I,s:f,s:f,s:f,s:f,s:o}", "accuracy", share(right, n), "n",
                     (json_int_t)n, "low", low, "high", high, "prior", share(prior, n), "majority",
                     share(majority, n), "kinds", kinds);
}

static double headline(const json_t *questions)
{
    static const char *const named[] = {"flickr8k", "coco"};
    const char *source;
    json_t *entry;
    double sum = 0, all = 0;
    size_t n = 0;
    for (size_t i = 0; i < APP_COUNT(named); i++)
        if ((entry = json_object_get(questions, named[i]))) {
            sum += json_real_value(json_object_get(entry, "accuracy"));
            n++;
        }
    json_object_foreach((json_t *)(uintptr_t)questions, source, entry) all +=
        json_real_value(json_object_get(entry, "accuracy"));
    return n ? sum / (double)n : all / (double)json_object_size(questions);
}

static void report_questions(const eval_row **at, size_t n, tally *scratch, json_t *out)
{
    json_t *questions = json_object();
    qsort(at, n, sizeof *at, sort_source);
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = group_end(at, begin, n, by_source);
        const char *source = *at[begin]->source ? at[begin]->source : "all";
        json_object_set_new(questions, source, report_source(at + begin, end - begin, scratch));
    }
    json_object_set_new(out, "headline", json_real(headline(questions)));
    json_object_set_new(out, "questions", questions);
}

/* scratch_p, scratch_right: room for n. */
static void report_yes_no(const eval_row *const *at, size_t n, double *scratch_p,
                          bool *scratch_right, json_t *out)
{
    size_t of = 0, right = 0;
    for (size_t i = 0; i < n; i++) {
        if (at[i]->p_yes < 0) continue;
        bool yes = at[i]->p_yes >= 0.5;
        scratch_p[of] = yes ? at[i]->p_yes : 1 - at[i]->p_yes;
        scratch_right[of] = counts(at[i], yes ? "yes" : "no");
        right += scratch_right[of++];
    }
    if (!of) return;
    json_object_set_new(out, "yes_no",
                        json_pack("{s:I,s:f,s:f}", "n", (json_int_t)of, "accuracy",
                                  share(right, of), "calibration_error",
                                  eval_calibration_error(scratch_p, scratch_right, of)));
}

/* ---- captions ---- */

static tvlm_status report_captions(const eval_rows *rows, size_t n, json_t *out, tvlm_error *err)
{
    eval_caption_scores s;
    eval_caption *captions = malloc((n + 1) * sizeof *captions);
    if (!captions) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu captions", n);
    size_t k = 0;
    for (size_t i = 0; i < rows->n; i++) {
        const eval_row *row = &rows->at[i];
        if (row->question) continue;
        captions[k++] = (eval_caption){row->answer ? row->answer : "", row->wanted, row->n_wanted};
    }
    tvlm_status status = eval_score_captions(captions, n, &s, err);
    free(captions);
    if (status) return status;
    json_object_set_new(out, "captions",
                        json_pack("{s:f,s:f,s:f,s:I,s:I,s:I}", "cider_d", s.cider_d,
                                  "cider_d_margin", s.cider_d_margin, "bleu4", s.bleu4, "n",
                                  (json_int_t)n, "empty", (json_int_t)s.n_empty, "distinct_words",
                                  (json_int_t)s.n_distinct_words));
    return TVLM_OK;
}

tvlm_status eval_report(const eval_rows *rows, json_t **out, tvlm_error *err)
{
    const eval_row **asked = malloc((rows->n + 1) * sizeof *asked);
    tally *scratch = malloc((rows->n + 1) * sizeof *scratch);
    double *p = malloc((rows->n + 1) * sizeof *p);
    bool *right = malloc((rows->n + 1) * sizeof *right);
    size_t n = 0;
    *out = json_object();
    tvlm_status status = TVLM_OK;
    if (!asked || !scratch || !p || !right || !*out)
        status =
            app_fail(err, TVLM_ERR_MEMORY, "out of memory for the report of %zu rows", rows->n);
    for (size_t i = 0; i < rows->n && !status; i++)
        if (rows->at[i].question) asked[n++] = &rows->at[i];
    if (!status && n) {
        report_questions(asked, n, scratch, *out);
        report_yes_no(asked, n, p, right, *out);
    }
    if (!status && n < rows->n) status = report_captions(rows, rows->n - n, *out, err);
    free(asked);
    free(scratch);
    free(p);
    free(right);
    if (!status) return TVLM_OK;
    json_decref(*out);
    *out = NULL;
    return status;
}

/* ---- the table ---- */

static double percent(const json_t *object, const char *key)
{
    return 100 * json_real_value(json_object_get(object, key));
}

static long long whole(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_source(const char *source, const json_t *entry)
{
    const char *kind;
    json_t *part;
    printf("%-16s %6lld   %5.1f %%  (%.1f to %.1f)   %5.1f %%  %5.1f %%\n", source,
           whole(entry, "n"), percent(entry, "accuracy"), percent(entry, "low"),
           percent(entry, "high"), percent(entry, "prior"), percent(entry, "majority"));
    json_object_foreach(json_object_get(entry, "kinds"), kind, part)
        printf("  %-14s %6lld   %5.1f %%\n", kind, whole(part, "n"), percent(part, "accuracy"));
}

void eval_print_report(const json_t *report)
{
    const json_t *captions = json_object_get(report, "captions"),
                 *yes_no = json_object_get(report, "yes_no");
    const char *source;
    json_t *entry, *questions = json_object_get(report, "questions");
    if (questions) {
        printf("headline %.1f %%\n\n", percent(report, "headline"));
        printf("%-16s %6s   %-24s    %s\n", "questions", "n", "right (95 % interval)",
               "prior    majority");
    }
    json_object_foreach(questions, source, entry) print_source(source, entry);
    if (yes_no)
        printf("\nyes or no: %lld, %.1f %% right, calibration error %.1f %%\n", whole(yes_no, "n"),
               percent(yes_no, "accuracy"), percent(yes_no, "calibration_error"));
    if (captions)
        printf("%scaptions: %lld, CIDEr-D %.3f (+- %.3f), BLEU-4 %.3f, %lld empty, %lld distinct "
               "words\n",
               questions ? "\n" : "", whole(captions, "n"), percent(captions, "cider_d") / 100,
               percent(captions, "cider_d_margin") / 100, percent(captions, "bleu4") / 100,
               whole(captions, "empty"), whole(captions, "distinct_words"));
}
