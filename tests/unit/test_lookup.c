/* SPDX-License-Identifier: MIT
 * Drafts from earlier text: what is guessed, and where guessing ends. */
#include "engine/internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { OF_IMAGE = 1 };

static void expect_draft(const tvlm_history *history, uint32_t n, int32_t next, size_t most,
                         const int32_t *want, size_t n_want)
{
    tvlm_session s = {.history = (tvlm_history *)(uintptr_t)history, .position = n};
    tvlm_lookup l;
    tvlm_lookup_init(&l);
    tvlm_lookup_draft(&l, &s, next, most);
    assert_int_equal(l.n, n_want);
    for (size_t i = 0; i < n_want; i++)
        assert_int_equal(l.ids[i], want[i]);
}

static void what_followed_is_guessed(void **state)
{
    (void)state;
    const tvlm_history text[] = {{.id = 5}, {.id = 6}, {.id = 7}, {.id = 8}};
    expect_draft(text, 4, 5, 8, (int32_t[]){6, 7}, 2); /* a third is too unlikely at first */
    expect_draft(text, 4, 5, 1, (int32_t[]){6}, 1);
    expect_draft(text, 4, 8, 8, (int32_t[]){8, 8}, 2); /* itself, then the draft */
    expect_draft(text, 4, 9, 8, NULL, 0);
    expect_draft(text, 4, 5, 0, NULL, 0);
}

/* Rows of an image have ids too, which are no tokens. */
static void images_are_not_guessed(void **state)
{
    (void)state;
    const tvlm_history text[] = {
        {.id = 5},
        {{OF_IMAGE, 0}, 6},
        {{OF_IMAGE, 0}, 7},
        {.id = 9},
        {.id = 2}
    };
    expect_draft(text, 5, 5, 8, NULL, 0);
    expect_draft(text, 5, 6, 8, NULL, 0);
    expect_draft(text, 5, 9, 8, (int32_t[]){2, 9}, 2);
    const tvlm_history later[] = {
        {.id = 5},
        {.id = 6},
        {{OF_IMAGE, 0}, 7}
    };
    expect_draft(later, 3, 5, 8, (int32_t[]){6}, 1);
}

static void the_longest_match_wins(void **state)
{
    (void)state;
    const tvlm_history text[] = {{.id = 1}, {.id = 5}, {.id = 6}, {.id = 5}, {.id = 7}, {.id = 1}};
    expect_draft(text, 6, 5, 1, (int32_t[]){6}, 1); /* 1 5, though 5 alone came later */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_is_guessed),
        cmocka_unit_test(images_are_not_guessed),
        cmocka_unit_test(the_longest_match_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
