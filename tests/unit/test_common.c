/* SPDX-License-Identifier: MIT
 * Errors and text of the program: by hand, and beside the library's own, which it does not call.
 * Its large blocks and its threads. */
#include "common/common.h"
#include "base/base.h"
#include "system/system.h"
#include "text/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void every_character(void **state)
{
    (void)state;
    char text[4];
    for (uint32_t code = 0; code < 0x110000; code++) {
        if (code >= 0xD800 && code < 0xE000) continue;
        size_t len = tvlm_utf8_put(code, text);
        app_character c = app_first_character(text, len);
        tvlm_utf8_part part = tvlm_utf8_first(text, len);
        if (c.code != code || c.len != len) fail_msg("U+%04X", (unsigned)code);
        if (app_is_space(code) != (tvlm_unicode_class(code) == TVLM_CHAR_SPACE) ||
            app_is_printable(code) != tvlm_printable(text, part))
            fail_msg("the properties of U+%04X", (unsigned)code);
    }
}

static void repaired(const char *text, const char *expected)
{
    char out[64];
    size_t n = app_repair(text, strlen(text), out);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(out, expected, n);
}

#define R "\xEF\xBF\xBD"

static void ill_parts_are_replaced(void **state)
{
    (void)state;
    app_character cut = app_first_character("\xE2\x82\xAC", 2);
    assert_int_equal(cut.code, APP_ILL);
    assert_int_equal(cut.len, 2);
    repaired("", "");
    repaired("a\xC3\xA4\n", "a\xC3\xA4\n");
    repaired("\xC0\xAF", R R);                  /* not the shortest form */
    repaired("\xED\xA0\x80", R R R);            /* a surrogate */
    repaired("\xF4\x90\x80\x80", R R R R);      /* beyond the last */
    repaired("\xF0\x9F\x98x\xE2\x82", R "x" R); /* cut in the middle and at the end */
    repaired("\x80\xF0\x9F\x98\x80\xFF", R "\xF0\x9F\x98\x80" R);
}

/* Bytes that are often parts of characters. */
static size_t random_text(uint32_t *seed, char *out, size_t most)
{
    static const char often[] = "\x80\x8F\x90\x9F\xA0\xA8\xBF\xC2\xE0\xE2\xED\xF0\xF4\n\t\x7F";
    *seed = *seed * 1664525 + 1013904223;
    size_t n = (*seed >> 8) % most;
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1664525 + 1013904223;
        out[i] = *seed >> 31 ? often[*seed >> 20 & 15] : (char)(*seed >> 12 | 1);
    }
    out[n] = 0;
    return n;
}

static void any_bytes_as_the_library_has_them(void **state)
{
    (void)state;
    char text[700], mine[3 * sizeof text], theirs[3 * sizeof text];
    tvlm_error a, b;
    uint32_t seed = 1;
    for (int i = 0; i < 2000; i++) {
        size_t len = random_text(&seed, text, i % 2 ? 24 : sizeof text), n;
        tvlm_utf8_stream stream = {{0}, 0};
        n = tvlm_utf8_feed(&stream, text, len, theirs);
        n += tvlm_utf8_end(&stream, theirs + n);
        assert_int_equal(app_repair(text, len, mine), n);
        assert_memory_equal(mine, theirs, n);
        n = tvlm_clean((tvlm_str){text, len}, theirs);
        assert_int_equal(app_clean(text, len, mine), n);
        assert_memory_equal(mine, theirs, n);
        assert_int_equal(app_fail(&a, TVLM_ERR_IO, "%s", text), TVLM_ERR_IO);
        tvlm_fail(&b, TVLM_ERR_IO, "%s", text);
        assert_int_equal(a.code, TVLM_ERR_IO);
        assert_string_equal(a.message, b.message);
    }
}

static void errors(void **state)
{
    (void)state;
    tvlm_error err;
    char name[600];
    assert_int_equal(app_fail(NULL, TVLM_ERR_LIMIT, "nobody asks"), TVLM_ERR_LIMIT);
    app_fail(&err, TVLM_ERR_FORMAT, "%s: %d\n", "a\033[2J\xFF", 7);
    assert_string_equal(err.message, "a?[2J?: 7?");
    memset(name, 'x', sizeof name - 1);
    memcpy(name + 506, "\xE2\x82\xAC", 3); /* does not fit before the dots */
    name[sizeof name - 1] = 0;
    app_fail(&err, TVLM_ERR_FORMAT, "%s", name);
    assert_int_equal(strlen(err.message), 509);
    assert_string_equal(err.message + 505, "x...");
}

static void large_blocks(void **state)
{
    (void)state;
    const size_t n = 3, size = ((size_t)3 << 20) + 1;
    unsigned char *block = app_sys_large_alloc(n, size);
    assert_non_null(block);
    for (size_t i = 0; i < n * size; i++)
        if (block[i]) fail_msg("byte %zu is %u", i, block[i]);
    memset(block, 1, n * size);
    free(block);
    assert_null(app_sys_large_alloc(SIZE_MAX / 2, 4));
}

static void add_one(void *to)
{
    ++*(int *)to;
}

static void threads(void **state)
{
    (void)state;
    int count = 0;
    for (int i = 0; i < 3; i++) {
        app_sys_thread *thread = app_sys_thread_start(add_one, &count);
        assert_non_null(thread);
        app_sys_thread_join(thread);
        assert_int_equal(count, i + 1);
    }
    app_sys_thread_join(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character),
        cmocka_unit_test(ill_parts_are_replaced),
        cmocka_unit_test(any_bytes_as_the_library_has_them),
        cmocka_unit_test(errors),
        cmocka_unit_test(large_blocks),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
