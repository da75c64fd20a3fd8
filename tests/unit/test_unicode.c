/* SPDX-License-Identifier: MIT
 * UTF-8, normalisation form C, pre-tokenizers. tests/text asks about every code point. */
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- pre-tokenizers: pieces separated by '|' ---- */

static void test_pretokenizers(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        tvlm_pretokenizer pre;
        const char *text, *want;
    } cases[] = {
        {TVLM_PRE_GPT2, "Hello  world", "Hello| | world"},
        {TVLM_PRE_GPT2, "we've I'LL 's", "we|'ve| I|'|LL| '|s"},
        {TVLM_PRE_GPT2, " 123abc!?x", " 123|abc|!?|x"},
        {TVLM_PRE_GPT2, "a\n\n b  ", "a|\n\n| b|  "},
        {TVLM_PRE_GPT2, "\xC2\xA0x \xE3\x80\x80y", "\xC2\xA0|x| |\xE3\x80\x80|y"},
        {TVLM_PRE_SMOLLM, "a 12  3", "a| |1|2|  |3"},
        {TVLM_PRE_SMOLLM, "x\xD9\xA3y \xC2\xBD", "x|\xD9\xA3|y| |\xC2\xBD"},
        {TVLM_PRE_SMOLLM, "it's 5's", "it|'s| |5|'s"},
        {TVLM_PRE_QWEN2, "WE'VE 'S", "WE|'VE| '|S"},
        {TVLM_PRE_QWEN2, "'s'\xC5\xBFx", "'s|'\xC5\xBF|x"}, /* U+017F folds to s */
        {TVLM_PRE_QWEN2, "(foo) !bar  !!baz\n\nx", "(foo|)| !|bar| | !!|baz|\n\n|x"},
        {TVLM_PRE_QWEN2, "a 12", "a| |1|2"},
        {TVLM_PRE_QWEN2, " \n \n  x \t\r\n", " \n \n| | x| \t\r\n"},
        {TVLM_PRE_QWEN2, "x;\r\n\n y\tz\n", "x|;\r\n\n| y|\tz|\n"},
        {TVLM_PRE_QWEN2, "\xFFx \xFF\xFE\n", "\xFFx| \xFF\xFE\n"},
        {TVLM_PRE_QWEN2, "\xE2\x80\x83x  ", "\xE2\x80\x83x|  "},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        char got[128];
        size_t n = 0, len = strlen(cases[i].text);
        for (size_t begin = 0, end; begin < len; begin = end) {
            end = tvlm_pretoken_end(cases[i].pre, cases[i].text, len, begin);
            assert_true(end > begin && end <= len);
            if (begin) got[n++] = '|';
            memcpy(got + n, cases[i].text + begin, end - begin);
            n += end - begin;
        }
        got[n] = '\0';
        assert_string_equal(got, cases[i].want);
    }
}

/* ---- Unicode ---- */

static void test_nfc(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"e\xCC\x81 x", "\xC3\xA9 x"},
        {"\xE2\x84\xAB", "\xC3\x85"}, /* singleton: Angstrom sign */
        {"\xCD\x84", "\xCC\x88\xCC\x81"}, /* U+0344 never recomposes */
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"}, /* exclusion: U+0958 */
        {"\xEF\xAC\xAC", "\xD7\xA9\xD6\xBC\xD7\x81"}, /* U+FB2C, three characters */
        {"a\xCC\x81\xCC\xA3", "\xE1\xBA\xA1\xCC\x81"}, /* ordered, then composed */
        {"a\xCC\xA3\xCC\x82", "\xE1\xBA\xAD"}, /* twice */
        {"\xE1\xBA\xA1\xCC\x82", "\xE1\xBA\xAD"}, /* composed text decomposes first */
        {"a\xCD\x85\xCC\xB4\xCC\x81", "\xC3\xA1\xCC\xB4\xCD\x85"}, /* sorted; 1 < 230 < 240 */
        {"a\xCC\x85\xCC\x81", "a\xCC\x85\xCC\x81"}, /* same class blocks */
        {"a\xCC\x80\xCC\x81", "\xC3\xA0\xCC\x81"}, /* same class keeps its order */
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"}, /* Hangul L V T */
        {"\xED\x95\x98\xE1\x86\xAB", "\xED\x95\x9C"}, /* LV T */
        {"\xED\x95\x9C\xE1\x86\xAB", "\xED\x95\x9C\xE1\x86\xAB"}, /* LVT takes no second T */
        {"\xCC\x81\x62", "\xCC\x81\x62"},
        {"e\xFF\xCC\x81\xCC", "e\xFF\xCC\x81\xCC"}, /* invalid bytes block and stay */
    };
    // clang-format on
    tvlm_bytes out = {0};
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        size_t len = strlen(cases[i].text);
        assert_int_equal(tvlm_nfc(cases[i].text, len, &out, NULL), TVLM_OK);
        assert_true(tvlm_str_eq((tvlm_str){out.data, out.len}, cases[i].want));
        if (strcmp(cases[i].text, cases[i].want) != 0)
            assert_false(tvlm_nfc_is_plain(cases[i].text, len));
    }
    assert_true(tvlm_nfc_is_plain("caf\xC3\xA9 \xE6\x97\xA5 \xED\x95\x9C \xFF", 14));
    free(out.data);
}

static void test_utf8(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < TVLM_INVALID; c++) {
        char bytes[4];
        size_t pos = 0, n = tvlm_utf8_put(c, bytes);
        if (c >= 0xD800 && c < 0xE000) { /* a surrogate is three invalid bytes */
            assert_int_equal(tvlm_utf8_next(bytes, n, &pos), TVLM_INVALID + 0xED);
            assert_int_equal(pos, 1);
            continue;
        }
        assert_int_equal(tvlm_utf8_next(bytes, n, &pos), c);
        assert_int_equal(pos, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretokenizers),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
