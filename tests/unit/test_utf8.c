/* SPDX-License-Identifier: MIT
 * Bytes that may be anything made well-formed text, whole and in pieces. The wanted texts are what
 * Python's decode("utf-8", "replace") and the browsers' TextDecoder give. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define R "\xEF\xBF\xBD"

// clang-format off
static const struct {
    const char *text, *want;
} cases[] = {
    {"", ""},
    {"abc", "abc"},
    {"caf\xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x98\x80", "caf\xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x98\x80"},
    {"ab\xC3", "ab" R},
    {"ab\xE2\x82", "ab" R},               /* one for all that is there of a character */
    {"\xF0\x9F\x98", R},
    {"\xE2\x82x", R "x"},
    {"\xE2\x82\xE2\x82\xAC", R "\xE2\x82\xAC"},
    {"\xF0\x8F\x80\x80", R R R R},        /* overlong: no character begins so */
    {"\xED\xA0\x80", R R R},              /* a surrogate */
    {"\xC0\x80", R R},
    {"\x80\x80", R R},
    {"\xF4\x90\x80\x80", R R R R},        /* beyond U+10FFFF */
    {"\xF1\x80\x80\x80\x80", "\xF1\x80\x80\x80" R},
    {"\xFF\xF5z", R R "z"},
    {"\xF0\x9F\xC3\xA9", R "\xC3\xA9"},
};
// clang-format on

/* The text in pieces of `step` bytes. */
static void check(const char *text, size_t step, const char *want)
{
    tvlm_utf8_stream s = {0};
    char out[64];
    size_t n = 0, len = strlen(text);
    for (size_t at = 0; at < len; at += step) {
        n += tvlm_utf8_feed(&s, text + at, len - at < step ? len - at : step, out + n);
        assert_true(tvlm_utf8_valid(out, n)); /* at every moment */
    }
    n += tvlm_utf8_end(&s, out + n);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(out, want, n);
    assert_int_equal(tvlm_utf8_end(&s, out), 0);
}

static void pieces_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        for (size_t step = 1; step < 6; step++)
            check(cases[i].text, step, cases[i].want);
        bool same = !strcmp(cases[i].text, cases[i].want);
        assert_int_equal(tvlm_utf8_valid(cases[i].text, strlen(cases[i].text)), same);
    }
}

static void every_two_bytes(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) {
            tvlm_utf8_stream s = {0};
            char in[2] = {(char)a, (char)b}, out[6];
            size_t n = tvlm_utf8_feed(&s, in, 2, out);
            n += tvlm_utf8_end(&s, out + n);
            bool whole = a < 0x80 ? b < 0x80 : a >= 0xC2 && a < 0xE0 && b >= 0x80 && b < 0xC0;
            assert_int_equal(tvlm_utf8_valid(in, 2), whole);
            assert_true(tvlm_utf8_valid(out, n));
            assert_int_equal(n == 2 && !memcmp(in, out, 2), whole);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(every_two_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
