/* SPDX-License-Identifier: MIT
 * Scores of answers and captions: beside pycocoevalcap's on the same words, and by hand. */
#include "eval/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jansson.h>

static void close_to(double got, double want)
{
    if (!(got >= want - 1e-9 - 1e-9 * want && got <= want + 1e-9 + 1e-9 * want))
        fail_msg("got %.15g, the reference has %.15g", got, want);
}

static eval_caption caption_of(const json_t *row)
{
    const json_t *references = json_object_get(row, "references");
    size_t n = json_array_size(references);
    const char **texts = malloc(n * sizeof *texts);
    assert_non_null(texts);
    for (size_t i = 0; i < n; i++)
        texts[i] = json_string_value(json_array_get(references, i));
    return (eval_caption){json_string_value(json_object_get(row, "text")), texts, n};
}

static void check_case(const json_t *given)
{
    const json_t *rows = json_object_get(given, "captions");
    size_t n = json_array_size(rows);
    eval_caption *captions = malloc(n * sizeof *captions);
    eval_caption_scores scores;
    tvlm_error err;
    assert_non_null(captions);
    for (size_t i = 0; i < n; i++)
        captions[i] = caption_of(json_array_get(rows, i));
    assert_int_equal(eval_score_captions(captions, n, &scores, &err), TVLM_OK);
    close_to(scores.bleu4, json_real_value(json_object_get(given, "bleu4")));
    close_to(scores.cider_d, json_real_value(json_object_get(given, "cider_d")));
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)captions[i].references);
    free(captions);
}

static void reference_agrees(void **state)
{
    (void)state;
    json_error_t why;
    json_t *cases = json_load_file(TVLM_TEST_DATA "/metrics.json", 0, &why);
    assert_non_null(cases);
    assert_int_equal(json_array_size(cases), 6);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i));
    json_decref(cases);
}

static void words_are_told(void **state)
{
    (void)state;
    const char *references[] = {"A dog's T-shirt, on GRASS!", "caf\xC3\xA9 \xE2\x98\x83"};
    eval_caption captions[] = {
        {"  a DOG'S t-shirt on grass.", references,     1},
        {"Caf\xC3\xA9: \xE2\x98\x83",   references + 1, 1},
        {" .,! ",                       references,     2},
    };
    eval_caption_scores scores;
    tvlm_error err;
    assert_int_equal(eval_score_captions(captions, 2, &scores, &err), TVLM_OK);
    assert_true(scores.bleu4 > 1 - 1e-6);
    assert_int_equal(scores.n_empty, 0);
    assert_int_equal(scores.n_distinct_words, 7);
    assert_int_equal(eval_score_captions(captions, 3, &scores, &err), TVLM_OK);
    assert_int_equal(scores.n_empty, 1);
    assert_int_equal(eval_score_captions(NULL, 0, &scores, &err), TVLM_OK);
    assert_true(scores.bleu4 == 0 && scores.cider_d == 0);
}

static void answers_are_compared(void **state)
{
    (void)state;
    assert_true(eval_same_answer(" Yes.\n", "yes"));
    assert_true(eval_same_answer("two dogs", "Two Dogs."));
    assert_false(eval_same_answer("yes it is", "yes"));
    assert_false(eval_same_answer("", "no"));
    assert_string_equal(eval_kind("Is there a dog?"), "presence");
    assert_string_equal(eval_kind("WHAT COLOR is it?"), "colour");
    assert_string_equal(eval_kind("What is this?"), "what is");
    assert_string_equal(eval_kind("Wha"), "other");
}

static void intervals_are_wilsons(void **state)
{
    (void)state;
    double low, high;
    eval_interval(81, 263, &low, &high); /* Newcombe 1998, table I, method 3 */
    assert_true(low > 0.2552 && low < 0.2555 && high > 0.3660 && high < 0.3665);
    eval_interval(0, 20, &low, &high);
    assert_true(low == 0 && high > 0.1610 && high < 0.1613);
    eval_interval(0, 0, &low, &high);
    assert_true(low == 0 && high == 1);
}

static void calibration_is_measured(void **state)
{
    (void)state;
    const double p[] = {0.95, 0.95, 0.65, 1.0};
    const bool right[] = {true, false, true, true};
    /* the last bin says 2.9 of three and has 2; the other says 0.65 and has 1 */
    close_to(eval_calibration_error(p, right, 4), (0.9 + 0.35) / 4);
    assert_true(eval_calibration_error(NULL, NULL, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees),        cmocka_unit_test(words_are_told),
        cmocka_unit_test(answers_are_compared),    cmocka_unit_test(intervals_are_wilsons),
        cmocka_unit_test(calibration_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
