/* SPDX-License-Identifier: MIT
 * Vocabularies that are refused, and what the message says. */
#include "text/vocab.h"
#include "unit/small_vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void expect_refused(const tvlm_vocab *vocab, tvlm_status status, const char *message)
{
    tvlm_tokenizer *tokenizer = (tvlm_tokenizer *)(void *)vocab;
    tvlm_error err = {0};
    assert_int_equal(tvlm_tokenizer_new(vocab, &tokenizer, &err), status);
    assert_null(tokenizer);
    if (!strstr(err.message, message)) fail_msg("'%s' does not say '%s'", err.message, message);
    assert_int_equal(tvlm_tokenizer_new(vocab, &tokenizer, NULL), status);
}

static void test_bad_merges(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *merge, *message;
    } cases[] = {
        {"ab", "merge 1 'ab' is not two strings"},
        {"", "merge 1 '' is not two strings"},
        {" b", "is not two strings"},
        {"a ", "is not two strings"},
        {"a b c", "is not two strings"},
        {"a \xE2\x82\xAC", "is not two strings"},
        {"a \x80", "is not two strings"},
        {"a q", "merge 1 'a q': its parts or its result are no token"},
        {"zz a", "its parts or its result are no token"},
        {"a b", "merges 0 and 1 are both 'a b'"},
    };
    // clang-format on
    small_vocab v;
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        small_init(&v, TVLM_PRE_GPT2);
        small_token(&v, "ab", TVLM_TOKEN_NORMAL);
        small_merge(&v, "a b");
        small_merge(&v, cases[i].merge);
        expect_refused(&v.vocab, TVLM_ERR_FORMAT, cases[i].message);
    }
}

static void test_bad_tokens(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *token;
        int32_t type;
        tvlm_status status;
        const char *message;
    } cases[] = {
        {"a b", TVLM_TOKEN_NORMAL, TVLM_ERR_FORMAT, "token 256 'a b' is not in the GPT-2 byte"},
        {"\xE2\x82\xAC", TVLM_TOKEN_NORMAL, TVLM_ERR_FORMAT, "not in the GPT-2 byte alphabet"},
        {"\xC4", TVLM_TOKEN_NORMAL, TVLM_ERR_FORMAT, "not in the GPT-2 byte alphabet"},
        {"\x80\x80", TVLM_TOKEN_NORMAL, TVLM_ERR_FORMAT, "not in the GPT-2 byte alphabet"},
        {"q", TVLM_TOKEN_NORMAL, TVLM_ERR_FORMAT, "tokens 113 and 256 are both 'q'"},
        {"q", 6, TVLM_ERR_UNSUPPORTED, "token 256 has type 6"},
        {"q", 256 + TVLM_TOKEN_NORMAL, TVLM_ERR_UNSUPPORTED, "token 256 has type 257"},
        {"", TVLM_TOKEN_CONTROL, TVLM_ERR_FORMAT, "special token 256 has 0 bytes"},
    };
    // clang-format on
    small_vocab v;
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        small_init(&v, TVLM_PRE_GPT2);
        small_token(&v, cases[i].token, cases[i].type);
        expect_refused(&v.vocab, cases[i].status, cases[i].message);
    }
    small_init(&v, TVLM_PRE_GPT2);
    small_token(&v, "<x>", TVLM_TOKEN_CONTROL);
    small_token(&v, "<x>", TVLM_TOKEN_USER_DEFINED);
    expect_refused(&v.vocab, TVLM_ERR_FORMAT, "are equal");
    char longest[300];
    memset(longest, 'x', sizeof longest);
    v.tokens[257] = (tvlm_str){longest, sizeof longest};
    expect_refused(&v.vocab, TVLM_ERR_FORMAT, "special token 257 has 300 bytes");
    v.vocab.n_tokens = 256;
    v.tokens[0].len = SIZE_MAX; /* refused before anything is read */
    expect_refused(&v.vocab, TVLM_ERR_LIMIT, "bytes");
    v.vocab.n_tokens = UINT32_MAX;
    expect_refused(&v.vocab, TVLM_ERR_LIMIT, "tokens");
    assert_int_equal(tvlm_tokenizer_estimate(&v.vocab), 0);
    v.vocab.n_tokens = 0;
    v.vocab.n_merges = UINT32_MAX;
    expect_refused(&v.vocab, TVLM_ERR_LIMIT, "merges");
}

/* ---- merges made to collide ---- */

enum { CROWD = 600, SLOTS = 2048 }; /* SLOTS: what vocab.c gives CROWD merges */

typedef struct crowd {
    char tokens[CROWD][4], merges[CROWD][4];
    bool taken[256][256];
    uint32_t n;
} crowd;

/* vocab.c's hash of a pair under its first seed. */
static uint32_t first_slot(uint32_t left, uint32_t right)
{
    uint64_t h = (uint64_t)left << 32 | right;
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
    h = (h ^ h >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(h ^ h >> 31) % SLOTS;
}

/* Merges of printable letters whose slot is one of the first, until there are `end`. */
static void add_pairs(crowd *c, uint32_t slots, uint32_t end)
{
    for (unsigned left = 33; left <= 126; left++)
        for (unsigned right = 33; right <= 126 && c->n < end; right++) {
            if (c->taken[left][right] || first_slot(left, right) >= slots) continue;
            c->taken[left][right] = true;
            snprintf(c->tokens[c->n], 4, "%c%c", (int)left, (int)right);
            snprintf(c->merges[c->n++], 4, "%c %c", (int)left, (int)right);
        }
    assert_int_equal(c->n, end);
}

static tvlm_status tokenizer_of(const crowd *c, tvlm_tokenizer **out, tvlm_error *err)
{
    static tvlm_str tokens[256 + CROWD], merges[CROWD];
    small_vocab v;
    small_init(&v, TVLM_PRE_GPT2);
    memcpy(tokens, v.vocab.tokens, 256 * sizeof *tokens);
    for (uint32_t i = 0; i < CROWD; i++) {
        tokens[256 + i] = (tvlm_str){c->tokens[i], 2};
        merges[i] = (tvlm_str){c->merges[i], 3};
    }
    v.vocab.tokens = tokens;
    v.vocab.types = NULL;
    v.vocab.added = NULL;
    v.vocab.n_tokens = 256 + CROWD;
    v.vocab.merges = merges;
    v.vocab.n_merges = CROWD;
    return tvlm_tokenizer_new(&v.vocab, out, err);
}

/* Under another seed the same merges are ordinary. */
static void test_colliding_merges(void **state)
{
    (void)state;
    static crowd c;
    tvlm_tokenizer *t;
    tvlm_error err;
    add_pairs(&c, 100, 400); /* the last would be placed 300 slots further on */
    add_pairs(&c, SLOTS, CROWD);
    if (tokenizer_of(&c, &t, &err)) fail_msg("%s", err.message);
    assert_true(t->seed != 0);
    for (uint32_t i = 0; i < CROWD; i++) {
        const char *pair = c.tokens[i]; /* of bytes, whose ids they are */
        assert_int_equal(tvlm_vocab_rank(t, (uint32_t)pair[0], (uint32_t)pair[1]), i);
        assert_int_equal(tvlm_vocab_find(t, pair, 2), 256 + i);
    }
    assert_int_equal(tvlm_vocab_rank(t, 0, 0), TVLM_NO_ID);
    tvlm_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_merges),
        cmocka_unit_test(test_bad_tokens),
        cmocka_unit_test(test_colliding_merges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
