/* SPDX-License-Identifier: MIT
 * Choosing an id: greedy, each filter, their order, the random numbers, and logits that are none.
 */
#include "lm/sampler.h"
#include "small_vocab.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { TOKENS = 258, VOCAB = 300, UNUSED = 256, CONTROL = 257, DRAWS = 4000 };

static tvlm_tokenizer *tokenizer;

static int setup(void **state)
{
    (void)state;
    static small_vocab v;
    tvlm_error err;
    small_init(&v, TVLM_PRE_GPT2);
    small_token(&v, "<unused>", TVLM_TOKEN_UNUSED);
    small_token(&v, "<control>", TVLM_TOKEN_CONTROL);
    v.vocab.types = v.types;
    assert_int_equal(tvlm_tokenizer_new(&v.vocab, &tokenizer, &err), TVLM_OK);
    assert_int_equal(tvlm_tokenizer_count(tokenizer), TOKENS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tvlm_tokenizer_free(tokenizer);
    return 0;
}

static int32_t choose(const float *logits, const tvlm_sampling *s, const int32_t *recent, size_t n,
                      uint64_t *random)
{
    tvlm_candidate scratch[VOCAB];
    int32_t id = tvlm_sampler_choose(tokenizer, logits, VOCAB, s, recent, n, scratch, random);
    assert_true(id >= 0 && id < TOKENS && id != UNUSED);
    return id;
}

static void flat(float *logits, float value)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = value;
}

/* How often each id comes in DRAWS draws. */
static void count(const float *logits, tvlm_sampling s, const int32_t *recent, size_t n,
                  size_t *times)
{
    uint64_t random = 12;
    memset(times, 0, VOCAB * sizeof *times);
    for (int i = 0; i < DRAWS; i++)
        times[choose(logits, &s, recent, n, &random)]++;
}

static size_t kinds(const size_t *times)
{
    size_t n = 0;
    for (int i = 0; i < VOCAB; i++)
        n += times[i] > 0;
    return n;
}

static void greedy_takes_the_best(void **state)
{
    (void)state;
    static const tvlm_sampling greedy = TVLM_SAMPLING_DEFAULTS;
    float logits[VOCAB];
    uint64_t random = 5;
    flat(logits, -1);
    logits[200] = 3;
    assert_int_equal(choose(logits, &greedy, NULL, 0, &random), 200);
    logits[70] = 3; /* a tie goes to the lower id */
    assert_int_equal(choose(logits, &greedy, NULL, 0, &random), 70);
    logits[CONTROL] = 9; /* ends a text: it may be chosen */
    assert_int_equal(choose(logits, &greedy, NULL, 0, &random), CONTROL);
    logits[UNUSED] = logits[TOKENS] = logits[VOCAB - 1] = 99; /* these never */
    assert_int_equal(choose(logits, &greedy, NULL, 0, &random), CONTROL);
    assert_int_equal(random, 5); /* nothing was drawn */
}

/* A penalty without recent ids changes nothing, but takes the way of all filters. */
static void greedy_is_the_same_both_ways(void **state)
{
    (void)state;
    static const tvlm_sampling greedy = TVLM_SAMPLING_DEFAULTS;
    static const tvlm_sampling listed = {.top_p = 1, .repeat_penalty = 2, .repeat_last_n = 64};
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3.2e38f, -3.2e38f, -3.0e38f, 0, -0.0f};
    uint64_t random = 5;
    float logits[VOCAB];
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < VOCAB; i++) {
            unsigned v = (i * 2654435761u + round * 40503u) >> 8;
            bool plain = round % 2 && v % 16;
            logits[i] = plain ? (float)(int)(v % 9) - 4 : odd[(v >> 4) % (round % 8 + 1)];
        }
        assert_int_equal(choose(logits, &greedy, NULL, 0, &random),
                         choose(logits, &listed, NULL, 0, &random));
    }
}

static void probabilities_are_a_softmax(void **state)
{
    (void)state;
    static const float temperatures[] = {0.5f, 1, 2};
    float logits[VOCAB];
    size_t times[VOCAB];
    flat(logits, -1000);
    logits[10] = 0;
    logits[20] = 1;
    logits[30] = 1.5f;
    for (size_t i = 0; i < 3; i++) {
        double t = (double)temperatures[i], sum = exp(0 / t) + exp(1 / t) + exp(1.5 / t);
        count(logits,
              (tvlm_sampling){.temperature = temperatures[i], .top_p = 1, .repeat_penalty = 1},
              NULL, 0, times);
        assert_int_equal(kinds(times), 3);
        for (int id = 10; id <= 30; id += 10) {
            double p = exp((double)logits[id] / t) / sum;
            double spread = sqrt(p * (1 - p) / DRAWS);
            assert_true(fabs((double)times[id] / DRAWS - p) < 4 * spread);
        }
    }
}

static void filters_keep_what_they_say(void **state)
{
    (void)state;
    float logits[VOCAB];
    size_t times[VOCAB];
    flat(logits, -1000);
    for (int i = 0; i < 8; i++) /* probabilities 1/2, 1/4, ... in no order of ids */
        logits[(i * 37 + 11) % 256] = (float)(-0.69314718 * i);
    int32_t id[8];
    for (int i = 0; i < 8; i++)
        id[i] = (i * 37 + 11) % 256;

    for (uint32_t k = 1; k <= 5; k++) {
        count(logits,
              (tvlm_sampling){.temperature = 1, .top_k = k, .top_p = 1, .repeat_penalty = 1}, NULL,
              0, times);
        assert_int_equal(kinds(times), k);
        for (uint32_t i = 0; i < k; i++)
            assert_true(times[id[i]] > 0);
    }
    count(logits, (tvlm_sampling){.temperature = 1, .top_p = 0.6f, .repeat_penalty = 1}, NULL, 0,
          times);
    assert_int_equal(kinds(times), 2); /* 1/2 is not enough, 1/2 + 1/4 is */
    assert_true(times[id[0]] && times[id[1]]);
    count(logits, (tvlm_sampling){.temperature = 1, .top_p = 0.8f, .repeat_penalty = 1}, NULL, 0,
          times);
    assert_int_equal(kinds(times), 3);
    count(logits, (tvlm_sampling){.temperature = 1, .min_p = 0.2f, .top_p = 1, .repeat_penalty = 1},
          NULL, 0, times);
    assert_int_equal(kinds(times), 3); /* 1, 1/2, 1/4 of the best */
    count(logits, (tvlm_sampling){.temperature = 1, .top_p = 1, .min_p = 0, .repeat_penalty = 1},
          NULL, 0, times);
    assert_true(kinds(times) >= 7);
    /* none at all: the best stays */
    count(logits, (tvlm_sampling){.temperature = 1, .repeat_penalty = 1}, NULL, 0, times);
    assert_int_equal(times[id[0]], DRAWS);
    /* top-p after top-k: among two, the first has 2/3 */
    count(logits, (tvlm_sampling){.temperature = 1, .top_k = 2, .top_p = 0.6f, .repeat_penalty = 1},
          NULL, 0, times);
    assert_int_equal(kinds(times), 1);
    /* temperature after the filters: it cannot bring back what they dropped */
    count(logits, (tvlm_sampling){.temperature = 100, .top_p = 0.6f, .repeat_penalty = 1}, NULL, 0,
          times);
    assert_int_equal(kinds(times), 2);
}

/* The heap's order against a full sort, on many random rows. */
static void top_k_is_a_sort(void **state)
{
    (void)state;
    float logits[VOCAB];
    srand(9);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < VOCAB; i++)
            logits[i] = (float)(rand() % 40); /* many ties */
        logits[UNUSED] = 1000;
        if (round % 2) logits[TOKENS - 1] = 50; /* the heap's last is the best */
        uint32_t k = 1 + (uint32_t)round;
        size_t times[VOCAB];
        count(logits,
              (tvlm_sampling){.temperature = 1e6f, .top_k = k, .top_p = 1, .repeat_penalty = 1},
              NULL, 0, times);
        assert_int_equal(kinds(times), k);
        for (int i = 0; i < TOKENS; i++) {
            uint32_t before = 0;
            for (int j = 0; j < TOKENS; j++)
                before +=
                    j != UNUSED && (logits[j] > logits[i] || (logits[j] == logits[i] && j < i));
            if (i != UNUSED) assert_int_equal(times[i] > 0, before < k);
        }
    }
}

static void penalty_counts_an_id_once(void **state)
{
    (void)state;
    float logits[VOCAB];
    uint64_t random = 1;
    static const int32_t recent[] = {40, 40, 40, 40, 50, 1000000, -5};
    tvlm_sampling s = {.repeat_penalty = 2, .top_p = 1, .repeat_last_n = 64};
    flat(logits, -10);
    logits[40] = 4;
    logits[60] = 1.9f; /* 4 / 2 is more, 4 / 4 would be less */
    assert_int_equal(choose(logits, &s, recent, 7, &random), 40);
    logits[60] = 2.1f;
    assert_int_equal(choose(logits, &s, recent, 7, &random), 60);
    s.repeat_last_n = 3; /* the last three: 40 is forgotten */
    assert_int_equal(choose(logits, &s, recent, 7, &random), 40);
    s.repeat_last_n = 0; /* no id counts */
    logits[60] = 3.9f;
    assert_int_equal(choose(logits, &s, recent, 7, &random), 40);
    flat(logits, -2); /* negative logits get more so */
    s = (tvlm_sampling){.repeat_penalty = 2, .top_p = 1, .repeat_last_n = 64};
    logits[40] = -1;
    assert_int_equal(choose(logits, &s, recent, 7, &random), 0);
    logits[40] = -0.9f;
    assert_int_equal(choose(logits, &s, recent, 7, &random), 40);
}

static void not_numbers_are_survived(void **state)
{
    (void)state;
    static const tvlm_sampling ways[] = {
        {.top_p = 1, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1e-30f, .top_k = 5, .top_p = 0.5f, .min_p = 0.1f, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 0.9f, .repeat_penalty = 0.001f, .repeat_last_n = 64},
    };
    static const int32_t recent[] = {7, 8};
    float logits[VOCAB];
    for (size_t i = 0; i < TVLM_COUNT(ways); i++) {
        uint64_t random = 3;
        flat(logits, NAN);
        logits[8] = -5; /* the only number */
        assert_int_equal(choose(logits, &ways[i], recent, 2, &random), 8);
        logits[8] = NAN;
        choose(logits, &ways[i], recent, 2, &random); /* some id of the vocabulary */
        flat(logits, -INFINITY);
        choose(logits, &ways[i], recent, 2, &random);
        flat(logits, -1);
        logits[9] = INFINITY; /* beats everything */
        assert_int_equal(choose(logits, &ways[i], recent, 2, &random), 9);
        flat(logits, 3.4e38f);
        choose(logits, &ways[i], recent, 2, &random);
    }
}

static void seeds_decide(void **state)
{
    (void)state;
    float logits[VOCAB];
    tvlm_sampling s = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
    flat(logits, 0);
    int32_t first[3][20];
    static const uint64_t seeds[3] = {0, 0, 1};
    for (int k = 0; k < 3; k++) {
        uint64_t random = seeds[k];
        for (int i = 0; i < 20; i++)
            first[k][i] = choose(logits, &s, NULL, 0, &random);
    }
    assert_memory_equal(first[0], first[1], sizeof first[0]);
    assert_memory_not_equal(first[0], first[2], sizeof first[0]);
    /* splitmix64 from 0 begins e220a8397b1dcdaf: 0.883310... of 257 ids that may come */
    assert_int_equal(first[0][0], 227);
}

/* Ids that would complete a pair or triple, and the best of those that would not, in order. */
static void no_sequence_comes_twice(void **state)
{
    (void)state;
    static const int32_t said[] = {1, 2, 9, 1, 2};
    tvlm_sampling s = TVLM_SAMPLING_DEFAULTS;
    tvlm_candidate c[VOCAB];
    float logits[VOCAB];
    uint64_t random = 5;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)-i;
    for (uint32_t n = 0; n < 4; n++) {
        assert_int_equal(tvlm_sampler_best(tokenizer, logits, VOCAB, n, said, 5, c, 2), 2);
        assert_int_equal(c[0].id, 0);
        assert_int_equal(c[1].id, n == 1 ? 3 : 1);
    }
    logits[9] = 3; /* 2 9 and 1 2 9 have been, 9 alone too */
    for (uint32_t n = 0; n < 6; n++) {
        s.no_repeat_ngram = n;
        assert_int_equal(choose(logits, &s, said, 5, &random), n && n < 4 ? 0 : 9);
        s.temperature = 1e-3f;
        assert_int_equal(choose(logits, &s, said, 5, &random), n && n < 4 ? 0 : 9);
        s.temperature = 0;
    }
    for (int i = 0; i < VOCAB; i++)
        logits[i] = i == 9 ? 3 : -INFINITY; /* there is no other */
    s.no_repeat_ngram = 1;
    assert_int_equal(choose(logits, &s, said, 5, &random), 9);
    assert_int_equal(tvlm_sampler_best(tokenizer, logits, VOCAB, 1, said, 5, c, 2), 1);
}

static void senseless_settings_are_refused(void **state)
{
    (void)state;
    static const tvlm_sampling good = {.temperature = 2, .min_p = 1, .repeat_penalty = 1};
    static const struct {
        const char *name;
        size_t at;
        float value;
    } bad[] = {
        {"temperature",    offsetof(tvlm_sampling, temperature),    -1      },
        {"temperature",    offsetof(tvlm_sampling, temperature),    NAN     },
        {"temperature",    offsetof(tvlm_sampling, temperature),    INFINITY},
        {"top_p",          offsetof(tvlm_sampling, top_p),          1.5f    },
        {"top_p",          offsetof(tvlm_sampling, top_p),          -0.1f   },
        {"min_p",          offsetof(tvlm_sampling, min_p),          NAN     },
        {"min_p",          offsetof(tvlm_sampling, min_p),          1.5f    },
        {"min_p",          offsetof(tvlm_sampling, min_p),          -0.1f   },
        {"repeat_penalty", offsetof(tvlm_sampling, repeat_penalty), NAN     },
        {"repeat_penalty", offsetof(tvlm_sampling, repeat_penalty), -1      },
        {"repeat_penalty", offsetof(tvlm_sampling, repeat_penalty), 0       },
        {"reserved",       offsetof(tvlm_sampling, reserved[6]),    1       },
    };
    tvlm_error err;
    for (size_t i = 0; i < TVLM_COUNT(bad); i++) {
        tvlm_sampling s = good;
        memcpy((char *)&s + bad[i].at, &bad[i].value, sizeof bad[i].value);
        assert_int_equal(tvlm_sampling_check(&s, &err), TVLM_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, bad[i].name));
    }
    assert_int_equal(tvlm_sampling_check(&good, &err), TVLM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_best),
        cmocka_unit_test(greedy_is_the_same_both_ways),
        cmocka_unit_test(probabilities_are_a_softmax),
        cmocka_unit_test(filters_keep_what_they_say),
        cmocka_unit_test(top_k_is_a_sort),
        cmocka_unit_test(penalty_counts_an_id_once),
        cmocka_unit_test(not_numbers_are_survived),
        cmocka_unit_test(seeds_decide),
        cmocka_unit_test(no_sequence_comes_twice),
        cmocka_unit_test(senseless_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
