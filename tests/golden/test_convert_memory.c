/* SPDX-License-Identifier: MIT
 * Every allocation of convert and quantize fails in turn: an error that says something, nothing
 * leaked, no file left. Linked with --wrap: every call of ours and of jansson to the allocator goes
 * through here. */
#include "convert/convert.h"
#include "convert/quantize.h"
#include "quant/quant.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "failing_malloc.h"
#include "files.h"

#define GOLDEN TVLM_TEST_DATA "/golden/"
#define FLOAT  TVLM_TEST_DATA "/../fuzz/corpus/gguf/tinyvlm.gguf"
#define PAIR   TVLM_TEST_DATA "/../fuzz/corpus/convert/pair"
#define TEXT   TVLM_BUILD_DIR "/convert-memory.text.gguf"
#define MMPROJ TVLM_BUILD_DIR "/convert-memory.mmproj.gguf"
#define FOLDER TVLM_BUILD_DIR "/convert-memory"
#define OUT    FOLDER "/out.gguf"

typedef tvlm_status (*work)(tvlm_error *err);

/* The calls of one run without a failure. */
static size_t count_calls(work run)
{
    tvlm_error err = {0};
    fail_call(0);
    if (run(&err)) fail_msg("%s", err.message);
    assert_int_equal(n_entries(FOLDER), 1);
    return calls;
}

static void fail_each(work run, size_t step)
{
    size_t n = count_calls(run), succeeded = 0;
    for (size_t i = 1; i <= n; i += step) {
        tvlm_error err = {0};
        remove(OUT);
        fail_call(i);
        tvlm_status status = run(&err);
        failing = 0;
        if (live) fail_msg("allocation %zu: %zu blocks leaked: %s", i, live, err.message);
        assert_int_equal(n_entries(FOLDER), status ? 0 : 1);
        if (status && status != TVLM_ERR_MEMORY)
            fail_msg("allocation %zu: '%s', status %d", i, err.message, (int)status);
        if (status && !err.message[0]) fail_msg("allocation %zu: no message", i);
        succeeded += !status;
    }
    print_message("%zu allocations, every %zuth failed, %zu were not needed\n", n, step, succeeded);
    remove(OUT);
}

static tvlm_status convert_folder(const char *folder, tvlm_error *err)
{
    tvlmc_convert_params p;
    tvlmc_convert_params_init(&p);
    p.type = TVLM_TYPE_Q8_0;
    p.tokenizer = GOLDEN "tiny";
    return tvlmc_convert(folder, OUT, &p, err);
}

static tvlm_status convert_other(tvlm_error *err)
{
    return convert_folder(GOLDEN "other", err);
}

static tvlm_status convert_unfused(tvlm_error *err)
{
    return convert_folder(GOLDEN "tiny_unfused", err);
}

/* The next file of the pair, as fuzz_convert.c reads them: a name, a size, bytes. */
static void unpack(FILE *in, const char *path)
{
    unsigned char head[5], bytes[1 << 16];
    assert_int_equal(fread(head, 1, sizeof head, in), sizeof head);
    size_t n = head[1] | (size_t)head[2] << 8;
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fread(bytes, 1, n, in), n);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static tvlm_status convert_pair(tvlm_error *err)
{
    return tvlmc_convert_pair(TEXT, MMPROJ, OUT, NULL, err);
}

static void joining(void **state)
{
    (void)state;
    FILE *pair = fopen(PAIR, "rb");
    assert_non_null(pair);
    unpack(pair, MMPROJ);
    unpack(pair, TEXT);
    fclose(pair);
    fail_each(convert_pair, 1);
}

static void converting(void **state)
{
    (void)state;
    fail_each(convert_other, 1);
    fail_each(convert_unfused, 3);
}

/* jansson's own allocations: thousands of the same few places, so some of them. */
static void converting_with_jansson(void **state)
{
    (void)state;
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    fail_each(convert_other, 23);
    json_set_alloc_funcs(malloc, free);
}

static tvlm_status next_photo(void *user, tvlm_pixels *out, tvlm_error *err)
{
    static const uint8_t grey[4] = {0, 255, 90, 7};
    bool *served = user;
    (void)err;
    if (!*served) *out = (tvlm_pixels){grey, 2, 2, 1, 0};
    *served = true;
    return TVLM_OK;
}

static tvlm_status quantize_int8(tvlm_error *err)
{
    bool served = false;
    tvlmc_quantize_params p = {.type = TVLM_TYPE_Q8_0,
                               .int8_tower = true,
                               .max_layer_error = 0.003,
                               .next_photo = next_photo,
                               .user = &served};
    return tvlmc_quantize_file(FLOAT, OUT, &p, err);
}

static void quantizing(void **state)
{
    (void)state;
    fail_each(quantize_int8, 1);
}

static int setup(void **state)
{
    (void)state;
    mkdir(FOLDER, 0755);
    remove(OUT);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantizing),
        cmocka_unit_test(converting),
        cmocka_unit_test(converting_with_jansson),
        cmocka_unit_test(joining),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
