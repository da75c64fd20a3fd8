/* SPDX-License-Identifier: MIT
 * JSON as Python's json module writes and reads it. */
#include "convert/json_file.h"
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The compact form of what is read. */
static void expect(const char *text, const char *want)
{
    json_t *json;
    tvlm_error err = {0};
    if (tvlmc_json_parse("x.json", text, strlen(text), &json, &err)) fail_msg("%s", err.message);
    char *got = json_dumps(json, JSON_COMPACT);
    assert_string_equal(got, want);
    free(got);
    json_decref(json);
}

static void test_python_values(void **state)
{
    (void)state;
    // clang-format off
    static const char *const cases[][2] = {
        {"{\"a\": 1000000000000000019884624838656}", "{\"a\":\"1000000000000000019884624838656\"}"},
        {"[9223372036854775807, -9223372036854775808, 9223372036854775808]",
         "[9223372036854775807,-9223372036854775808,\"9223372036854775808\"]"},
        {"[NaN, Infinity, -Infinity]", "[\"NaN\",\"Infinity\",\"-Infinity\"]"},
        {"[1e999, 1.5, 1E2, -1e-3]", "[\"1e999\",1.5,100.0,-0.001]"},
        {"[\"NaN\", \"a \\\" Infinity\", \"\\\\\", NaN]", "[\"NaN\",\"a \\\" Infinity\",\"\\\\\",\"NaN\"]"},
        {"{\"a\":1,\"a\":2}", "{\"a\":2}"},
        {"\xEF\xBB\xBF{\"a\":true}", "{\"a\":true}"},
        {"[\"\\ud83d\\ude00\"]", "[\"\xF0\x9F\x98\x80\"]"},
        {"[\"a\\ud800b\", \"\\udc00\", \"\\ud83d\\ud83d\\ude00\"]",
         "[\"a\xEF\xBF\xBD" "b\",\"\xEF\xBF\xBD\",\"\xEF\xBF\xBD\xF0\x9F\x98\x80\"]"},
        {"[\"\\uD83D\\uDE00\", \"\\uDBFF\"]", "[\"\xF0\x9F\x98\x80\",\"\xEF\xBF\xBD\"]"},
        {"[\"\\\\ud800\"]", "[\"\\\\ud800\"]"},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++)
        expect(cases[i][0], cases[i][1]);
}

static void refused(const char *text, size_t size, const char *message)
{
    json_t *json;
    tvlm_error err = {0};
    assert_int_equal(tvlmc_json_parse("x.json", text, size, &json, &err), TVLM_ERR_FORMAT);
    assert_null(json);
    assert_non_null(strstr(err.message, "x.json: not valid JSON: "));
    if (!strstr(err.message, message)) fail_msg("'%s' does not say '%s'", err.message, message);
}
#define REFUSED(text, message) refused(text, sizeof(text) - 1, message)

static void test_refused(void **state)
{
    (void)state;
    REFUSED("", "it is empty");
    REFUSED("\xFF\xFE{\0}\0", "UTF-16");
    REFUSED("{\"a\": nan}", "line 1, column 9");
    REFUSED("{\"b\": NaN, \"c\": Infinity,\n  \"a\": NaN x}", "line 2, column 12");
    REFUSED("[Infinity1]", "invalid token");
    REFUSED("[1, 2", "line 1, column 5");
    REFUSED("{\"a\": \"b", "premature end");
    REFUSED("[\"\\ud8", "invalid escape");
    REFUSED("[\"\xFF\"]", "byte 0xff");
    REFUSED("[1] [2]", "end of file expected");
    REFUSED("[\"a\\u0000\"]", "\\u0000");
    char deep[6000];
    memset(deep, '[', sizeof deep);
    refused(deep, sizeof deep, "depth");
}

/* A number that is none for jansson is no number for typed reads either. */
static void test_typed(void **state)
{
    (void)state;
    static const char text[] = "{\"big\":1000000000000000019884624838656,\"nan\":NaN,\"s\":\"x\"}";
    json_t *json;
    tvlm_error err = {0};
    uint32_t u = 7;
    double d = 7;
    assert_int_equal(tvlmc_json_parse("x", text, sizeof text - 1, &json, &err), TVLM_OK);
    assert_int_equal(tvlmc_json_u32(json, "big", true, 0, 9, &u, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlmc_json_f64(json, "nan", true, 0, 9, &d, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key 'nan'"));
    assert_true(u == 7 && d == 7);
    json_decref(json);
    static const char bounds[] = "{\"below\":2,\"low\":3,\"high\":9,\"above\":10,\"negative\":-1}";
    assert_int_equal(tvlmc_json_parse("x", bounds, sizeof bounds - 1, &json, &err), TVLM_OK);
    assert_int_equal(tvlmc_json_u32(json, "low", true, 3, 9, &u, &err), TVLM_OK);
    assert_int_equal(u, 3);
    assert_int_equal(tvlmc_json_f64(json, "high", true, 3, 9, &d, &err), TVLM_OK);
    assert_true(d == 9);
    static const char *const outside[] = {"below", "above", "negative"};
    for (size_t i = 0; i < TVLM_COUNT(outside); i++) {
        assert_int_equal(tvlmc_json_u32(json, outside[i], true, 3, 9, &u, &err), TVLM_ERR_FORMAT);
        assert_non_null(strstr(err.message, "expected an integer in 3..9"));
        assert_int_equal(tvlmc_json_f64(json, outside[i], true, 3, 9, &d, &err), TVLM_ERR_FORMAT);
    }
    assert_true(u == 3 && d == 9);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_python_values),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_typed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
