/* SPDX-License-Identifier: MIT
 * Errors, arithmetic, arena, files, CRC-32C, clock, CPU tiers. */
#include "base/base.h"
#include "cpu/cpu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SCRATCH TVLM_BUILD_DIR "/test_base.tmp"

static void test_version(void **state)
{
    (void)state;
    char want[32];
    snprintf(want, sizeof want, "%d.%d.%d", TVLM_VERSION_MAJOR, TVLM_VERSION_MINOR,
             TVLM_VERSION_PATCH);
    assert_string_equal(tvlm_version(), want);
}

static void test_status_names(void **state)
{
    (void)state;
    /* Pinned: bindings and scripts rely on the numbers and the names. */
    static const char *const names[] = {"ok",          "argument", "io",    "format",
                                        "unsupported", "memory",   "limit", "context",
                                        "cancelled",   "checksum", "state"};
    assert_int_equal(TVLM_COUNT(names), TVLM_ERR_STATE + 1);
    for (size_t i = 0; i < TVLM_COUNT(names); i++)
        assert_string_equal(tvlm_status_name((tvlm_status)i), names[i]);
    assert_string_equal(tvlm_status_name((tvlm_status)99), "unknown");
}

static void test_fail(void **state)
{
    (void)state;
    tvlm_error err;
    assert_int_equal(tvlm_fail(NULL, TVLM_ERR_IO, "ignored"), TVLM_ERR_IO);
    assert_int_equal(tvlm_fail(&err, TVLM_ERR_FORMAT, "key '%s' is %d", "n", 7), TVLM_ERR_FORMAT);
    assert_int_equal(err.code, TVLM_ERR_FORMAT);
    assert_string_equal(err.message, "key 'n' is 7");
}

static void test_fail_sanitises(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"a\nb\tc\x7f",              "a?b?c?"           },
        {"caf\xc3\xa9",              "caf\xc3\xa9"      },
        {"\xe2\x82\xac",             "\xe2\x82\xac"     },
        {"\xf0\x9f\x98\x80!",        "\xf0\x9f\x98\x80!"},
        {"\xc0\x80",                 "??"               }, /* overlong */
        {"\xe0\x80\x80",             "???"              }, /* overlong */
        {"\xed\xa0\x80",             "???"              }, /* surrogate */
        {"\xf4\x90\x80\x80",         "????"             }, /* above U+10FFFF */
        {"\xc2\x85",                 "?"                }, /* a control beyond ASCII */
        {"a\xe2\x80\xa8z",           "a?z"              }, /* a line separator */
        {"\xe2\x80\xae\xe2\x81\xa6", "??"               }, /* changes of direction */
        {"\xffz\x80",                "?z?"              },
        {"\xe2\x82",                 "?"                }, /* cut short by the end */
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlm_error err;
        tvlm_fail(&err, TVLM_ERR_FORMAT, "%s", cases[i].in);
        assert_string_equal(err.message, cases[i].want);
    }
}

static void test_fail_truncates(void **state)
{
    (void)state;
    tvlm_error err;
    char longer[2 * sizeof err.message];
    memset(longer, 'x', sizeof longer);
    memcpy(longer + sizeof err.message - 5, "\xc3\xa9", 2); /* the dots cut between these two */
    longer[sizeof longer - 1] = '\0';
    tvlm_fail(&err, TVLM_ERR_LIMIT, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 2);
    assert_string_equal(err.message + sizeof err.message - 7, "xx...");
    longer[sizeof err.message - 1] = '\0'; /* just fits */
    tvlm_fail(&err, TVLM_ERR_LIMIT, "%s", longer);
    assert_string_equal(err.message, longer);
}

static void test_clean(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *want;
    } cases[] = {
        {"a\0b",             3,
         "a\xef\xbf\xbd"
         "b"                                                            },
        {"two\nlines\t.",    11, "two lines ."                          },
        {"\x1b[31mred\r",    9,  "\xef\xbf\xbd[31mred\xef\xbf\xbd"      },
        {"\xff\xfe \xc3",    4,  "\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd"},
        {"\xc2\x9b"
         "2J",      4,
         "\xef\xbf\xbd"
         "2J"                                                           },
        {"\xe2\x80\xae"
         "fdp.exe", 10,
         "\xef\xbf\xbd"
         "fdp.exe"                                                      },
        {"",                 0,  ""                                     },
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        char out[64];
        size_t n = tvlm_clean((tvlm_str){cases[i].in, cases[i].len}, out);
        assert_int_equal(n, strlen(cases[i].want));
        assert_memory_equal(out, cases[i].want, n);
    }
}

static void test_show(void **state)
{
    (void)state;
    char name[400];
    assert_string_equal(tvlm_show((tvlm_str){"blk.0", 5}).text, "blk.0");
    memset(name, 'n', sizeof name);
    memcpy(name + 95, "\xc3\xa9", 2);
    tvlm_shown shown = tvlm_show((tvlm_str){name, sizeof name}); /* not between the two bytes */
    assert_int_equal(strlen(shown.text), 95 + 3);
    assert_string_equal(shown.text + 94, "n...");
    memset(name, 0x1b, sizeof name); /* the most that cleaning can add */
    assert_int_equal(strlen(tvlm_show((tvlm_str){name, sizeof name}).text), 3 * 96 + 3);
}

static void test_checked_arithmetic(void **state)
{
    (void)state;
    size_t out = 5;
    assert_false(tvlm_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(tvlm_add_size(SIZE_MAX, 1, &out));
    assert_int_equal(out, 5);
    assert_true(tvlm_mul_size(SIZE_MAX / 2, 2, &out));
    assert_true(out == SIZE_MAX - 1);
    assert_true(tvlm_mul_size(SIZE_MAX, 0, &out));
    assert_int_equal(out, 0);
    assert_true(tvlm_add_size(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
}

static void test_str_eq(void **state)
{
    (void)state;
    assert_true(tvlm_str_eq((tvlm_str){"abcd", 3}, "abc"));
    assert_false(tvlm_str_eq((tvlm_str){"abcd", 4}, "abc"));
    assert_false(tvlm_str_eq((tvlm_str){"abd", 3}, "abc"));
    assert_true(tvlm_str_eq((tvlm_str){NULL, 0}, ""));
}

static bool says(void *user)
{
    return *(bool *)user;
}

static void test_cancel(void **state)
{
    (void)state;
    assert_false(tvlm_cancel_requested(NULL));
    tvlm_cancel *cancel = tvlm_cancel_new();
    assert_non_null(cancel);
    assert_false(tvlm_cancel_requested(cancel));
    tvlm_cancel_request(cancel);
    assert_true(tvlm_cancel_requested(cancel));
    tvlm_cancel_reset(cancel);
    assert_false(tvlm_cancel_requested(cancel));
    tvlm_cancel_set_poll(cancel, says, &(bool){true});
    assert_true(tvlm_cancel_requested(cancel));
    tvlm_cancel_set_poll(cancel, says, &(bool){false});
    assert_false(tvlm_cancel_requested(cancel));
    tvlm_cancel_free(cancel);
    tvlm_cancel_free(NULL);
}

static void test_aligned_alloc(void **state)
{
    (void)state;
    assert_null(tvlm_aligned_alloc(0));
    assert_null(tvlm_aligned_alloc(SIZE_MAX - 2 * TVLM_ALIGN));
    for (size_t size = 1; size < 300; size += 37) {
        unsigned char *block = tvlm_aligned_alloc(size);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % TVLM_ALIGN, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(block[i], 0);
        tvlm_aligned_free(block);
    }
    tvlm_aligned_free(NULL);
}

/* The same calls over both kinds of arena. */
static void walk_arena(tvlm_arena *arena, void *blocks[4])
{
    blocks[0] = tvlm_arena_alloc(arena, 3, 5);
    size_t mark = tvlm_arena_mark(arena);
    blocks[1] = tvlm_arena_alloc(arena, 100, 4);
    tvlm_arena_release(arena, mark);
    blocks[2] = tvlm_arena_alloc(arena, 1, 64);
    blocks[3] = tvlm_arena_alloc(arena, 0, 8);
}

static void test_arena(void **state)
{
    (void)state;
    tvlm_arena plan, arena;
    void *blocks[4];
    tvlm_arena_init_measure(&plan);
    assert_true(tvlm_arena_measuring(&plan));
    walk_arena(&plan, blocks);
    for (size_t i = 0; i < 4; i++)
        assert_null(blocks[i]);
    assert_int_equal(plan.used, 64 + 64);
    assert_int_equal(plan.peak, 64 + 448);

    unsigned char *base = tvlm_aligned_alloc(plan.peak);
    assert_non_null(base);
    tvlm_arena_init(&arena, base, plan.peak);
    assert_false(tvlm_arena_measuring(&arena));
    walk_arena(&arena, blocks);
    assert_ptr_equal(blocks[0], base);
    assert_ptr_equal(blocks[1], base + 64);
    assert_ptr_equal(blocks[2], base + 64); /* what was released is used again */
    assert_ptr_equal(blocks[3], base + 128);
    assert_int_equal(arena.used, plan.used);
    assert_int_equal(arena.peak, plan.peak);
    tvlm_aligned_free(base);
}

static void test_arena_saturates(void **state)
{
    (void)state;
    tvlm_arena plan;
    tvlm_arena_init_measure(&plan);
    tvlm_arena_alloc(&plan, SIZE_MAX / 2, 3);
    assert_true(plan.peak == SIZE_MAX);
    tvlm_arena_init_measure(&plan);
    tvlm_arena_alloc(&plan, SIZE_MAX, 1); /* overflows while rounding up */
    assert_true(plan.peak == SIZE_MAX);
    tvlm_arena_init_measure(&plan);
    tvlm_arena_alloc(&plan, SIZE_MAX / 2, 1);
    tvlm_arena_alloc(&plan, SIZE_MAX / 2, 1);
    tvlm_arena_alloc(&plan, SIZE_MAX / 2, 1);
    assert_true(plan.peak == SIZE_MAX);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void test_file(void **state)
{
    (void)state;
    const char text[] = "0123456789";
    char got[16] = "";
    tvlm_file file;
    tvlm_error err;
    write_file(SCRATCH, text, 10);
    assert_int_equal(tvlm_file_open(SCRATCH, &file, &err), TVLM_OK);
    assert_int_equal(file.os.size, 10);
    assert_int_equal(tvlm_file_read(&file, 3, got, 4, &err), TVLM_OK);
    assert_string_equal(got, "3456");
    assert_int_equal(tvlm_file_read(&file, 10, got, 0, &err), TVLM_OK);
    assert_int_equal(tvlm_file_read(&file, 9, got, 2, &err), TVLM_ERR_IO);
    assert_int_equal(tvlm_file_read(&file, UINT64_MAX, got, 1, &err), TVLM_ERR_IO);
#ifndef _WIN32
    assert_non_null(strstr(err.message, strerror(EOVERFLOW))); /* the system was not asked */
#endif
    write_file(SCRATCH, text, 5); /* it shrinks under its reader */
    assert_int_equal(tvlm_file_read(&file, 3, got, 4, &err), TVLM_ERR_IO);
    assert_non_null(strstr(err.message, "test_base.tmp: ends at byte 5, it had 10"));
    tvlm_file_close(&file);
    tvlm_file_close(&file);
    remove(SCRATCH);
}

static void test_file_refuses(void **state)
{
    (void)state;
    tvlm_file file;
    tvlm_error err;
    assert_int_equal(tvlm_file_open(SCRATCH ".absent", &file, &err), TVLM_ERR_IO);
    assert_non_null(strstr(err.message, "test_base.tmp.absent: cannot open: "));
    tvlm_file_close(&file);
    assert_int_equal(tvlm_file_open(TVLM_BUILD_DIR, &file, &err), TVLM_ERR_IO);
    assert_int_equal(tvlm_file_open(TVLM_BUILD_DIR, &file, NULL), TVLM_ERR_IO);
#ifndef _WIN32
    assert_non_null(strstr(err.message, strerror(EISDIR)));
    assert_int_equal(tvlm_file_open("/dev/null", &file, &err), TVLM_ERR_IO);
    assert_non_null(strstr(err.message, "/dev/null: cannot open: Not a regular file"));
#endif
}

/* One bit at a time, from the definition. */
static uint32_t crc32c_bitwise(const unsigned char *data, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static void test_crc32c(void **state)
{
    (void)state;
    /* RFC 3720, appendix B.4, and the usual check value. */
    unsigned char buffer[512] = {0};
    assert_int_equal(tvlm_crc32c(0, buffer, 0), 0);
    assert_int_equal(tvlm_crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(tvlm_crc32c(0, buffer, 32), 0x8A9136AAu);
    memset(buffer, 0xFF, 32);
    assert_int_equal(tvlm_crc32c(0, buffer, 32), 0x62A8AB43u);
    for (size_t i = 0; i < 32; i++)
        buffer[i] = (unsigned char)i;
    assert_int_equal(tvlm_crc32c(0, buffer, 32), 0x46DD794Eu);

    /* Every entry of every slice, every length and split. */
    for (size_t i = 0; i < sizeof buffer; i++)
        buffer[i] = (unsigned char)(i * 167 + (i >> 3));
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t size = 0; size + offset <= sizeof buffer; size++)
            assert_int_equal(tvlm_crc32c(0, buffer + offset, size),
                             crc32c_bitwise(buffer + offset, size));
    for (size_t split = 0; split <= sizeof buffer; split++)
        assert_int_equal(
            tvlm_crc32c(tvlm_crc32c(0, buffer, split), buffer + split, sizeof buffer - split),
            crc32c_bitwise(buffer, sizeof buffer));
    for (size_t position = 0; position < 8; position++) {
        for (unsigned value = 0; value < 256; value++) {
            unsigned char word[8] = {0};
            word[position] = (unsigned char)value;
            assert_int_equal(tvlm_crc32c(0, word, 8), crc32c_bitwise(word, 8));
        }
    }
}

/* A text of some bytes and very many zeros, whose CRC comes by a way of its own: a zero byte
 * advances the register by eight bits. */
static void test_crc32c_join(void **state)
{
    (void)state;
    static unsigned char zeros[100003];
    uint32_t a = tvlm_crc32c(0, "some bytes", 10), zero = tvlm_crc32c(0, zeros, sizeof zeros);
    uint32_t whole = tvlm_crc32c(a, zeros, sizeof zeros);
    assert_int_equal(tvlm_crc32c_join(a, zero, sizeof zeros), whole);
    assert_int_equal(tvlm_crc32c_join(a, 0, 0), a);
    assert_int_equal(tvlm_crc32c_join(0, a, 10), a);
    for (uint64_t n = sizeof zeros; n < (uint64_t)1 << 60; n *= 2) { /* as many again */
        uint32_t twice = tvlm_crc32c_join(zero, zero, n);
        whole = tvlm_crc32c_join(whole, zero, n);
        assert_int_equal(tvlm_crc32c_join(a, twice, 2 * n), whole);
        zero = twice;
    }
}

static void test_clock(void **state)
{
    (void)state;
    double begin = tvlm_now_ms(), now = begin;
    for (int i = 0; i < 100000000 && now == begin; i++)
        now = tvlm_now_ms();
    assert_true(now > begin);
}

static void test_cpu_tiers(void **state)
{
    (void)state;
    tvlm_error err;
    uint32_t detected = tvlm_cpu_detect(), mask = 1u << 31;
    assert_int_equal(tvlm_cpu_mask(NULL, &mask, &err), TVLM_OK);
    assert_int_equal(mask, detected);
    assert_int_equal(tvlm_cpu_mask("scalar", &mask, &err), TVLM_OK);
    assert_int_equal(mask, 0);
    assert_string_equal(tvlm_cpu_tier_name(0), "scalar");
    assert_string_equal(tvlm_cpu_tier_name(TVLM_CPU_CRC32C | TVLM_CPU_AVX2), "avx2");
    /* The best tier's name leads back to all that was detected. */
    assert_int_equal(tvlm_cpu_mask(tvlm_cpu_tier_name(detected), &mask, &err), TVLM_OK);
    assert_int_equal(mask, detected);
    assert_int_equal(tvlm_cpu_mask("avx2", &mask, &err),
                     detected & TVLM_CPU_AVX2 ? TVLM_OK : TVLM_ERR_UNSUPPORTED);
    assert_int_equal(tvlm_cpu_mask("avx512vnni", &mask, &err),
                     detected & TVLM_CPU_AVX512_VNNI ? TVLM_OK : TVLM_ERR_UNSUPPORTED);
    /* Each tier is its name's mask, and no bit comes without those below it. */
    for (size_t i = 0; i < tvlm_cpu_n_tiers; i++)
        assert_string_equal(tvlm_cpu_tier_name(tvlm_cpu_tiers[i].mask), tvlm_cpu_tiers[i].name);
    assert_true(!(detected & TVLM_CPU_AVX512_BF16) || detected & TVLM_CPU_AVX512_VNNI);
    assert_true(!(detected & TVLM_CPU_AVX512) || detected & TVLM_CPU_AVX2);
}

static void test_cpu_unknown_tier(void **state)
{
    (void)state;
    tvlm_error err;
    uint32_t mask = 77;
    assert_int_equal(tvlm_cpu_mask("avx9", &mask, &err), TVLM_ERR_UNSUPPORTED);
    assert_int_equal(mask, 77);
    assert_non_null(strstr(err.message, "'avx9'"));
    assert_non_null(strstr(err.message, " scalar"));
    assert_int_equal(tvlm_cpu_mask("", &mask, NULL), TVLM_ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_fail_sanitises),
        cmocka_unit_test(test_fail_truncates),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_checked_arithmetic),
        cmocka_unit_test(test_str_eq),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_aligned_alloc),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_saturates),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_file_refuses),
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_crc32c_join),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_cpu_tiers),
        cmocka_unit_test(test_cpu_unknown_tier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
