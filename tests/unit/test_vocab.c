/* SPDX-License-Identifier: MIT
 * Vocabularies that are refused, and what the message says. */
#include "unit/small_vocab.h"

#include <setjmp.h>
#include <stdarg.h>

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
    v.tokens[0].len = (size_t)1 << 40; /* refused before anything is read */
    expect_refused(&v.vocab, TVLM_ERR_LIMIT, "bytes");
    v.vocab.n_tokens = UINT32_MAX;
    expect_refused(&v.vocab, TVLM_ERR_LIMIT, "tokens");
    assert_int_equal(tvlm_tokenizer_estimate(&v.vocab), 0);
    v.vocab.n_tokens = 0;
    v.vocab.n_merges = UINT32_MAX;
    expect_refused(&v.vocab, TVLM_ERR_LIMIT, "merges");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_merges),
        cmocka_unit_test(test_bad_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
