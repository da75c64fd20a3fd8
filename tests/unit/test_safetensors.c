/* SPDX-License-Identifier: MIT
 * safetensors: what is read, what is refused and what the message says. */
#include "convert/safetensors.h"
#include "base/base.h"
#include "file/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "files.h"

#define GOLDEN TVLM_TEST_DATA "/golden/"

/* A file of this header and n_data bytes 0, 1, 2, ... */
static size_t build(unsigned char *out, const char *header, size_t n_data)
{
    size_t n = strlen(header);
    for (unsigned i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        out[8 + n + i] = (unsigned char)i;
    return 8 + n + n_data;
}

static void expect_refused(const void *data, size_t size, tvlm_status status, const char *message)
{
    tvlmc_st_set set;
    tvlm_error err = {0};
    assert_int_equal(tvlmc_st_open_memory("file", data, size, &set, &err), status);
    assert_null(set.tensors);
    if (!strstr(err.message, message)) fail_msg("'%s' does not say '%s'", err.message, message);
}

static void test_refused_headers(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *header;
        size_t n_data;
        tvlm_status status;
        const char *message;
    } cases[] = {
        {"", 0, TVLM_ERR_FORMAT, "not valid JSON"},
        {"[]", 0, TVLM_ERR_FORMAT, "no JSON object"},
        {"{", 0, TVLM_ERR_FORMAT, "not valid JSON"},
        {"{\"a\":3}", 0, TVLM_ERR_FORMAT, "tensor 'a': dtype '?'"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         TVLM_ERR_UNSUPPORTED, "dtype 'F8_E4M3'"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":3,\"data_offsets\":[0,3]}}", 3, TVLM_ERR_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-3],\"data_offsets\":[0,3]}}", 3, TVLM_ERR_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,3]}}", 3, TVLM_ERR_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         TVLM_ERR_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]}}", 0,
         TVLM_ERR_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4,
         TVLM_ERR_FORMAT, SIZE_MAX > UINT32_MAX ? "do not fit its shape" : "its shape is not valid"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, TVLM_ERR_FORMAT,
         "4 bytes of data do not fit its shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 3, TVLM_ERR_FORMAT,
         "not within the file's 3 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 8, TVLM_ERR_FORMAT,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, TVLM_ERR_FORMAT,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, TVLM_ERR_FORMAT,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, TVLM_ERR_FORMAT,
         "tensor 'a' lies behind a gap"}, /* of equal keys the last counts */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, TVLM_ERR_FORMAT,
         "tensor 'b' overlaps another"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, TVLM_ERR_FORMAT,
         "behind a gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 9, TVLM_ERR_FORMAT,
         "8 bytes at its end"},
    };
    // clang-format on
    unsigned char file[512];
    for (size_t i = 0; i < TVLM_COUNT(cases); i++)
        expect_refused(file, build(file, cases[i].header, cases[i].n_data), cases[i].status,
                       cases[i].message);
}

static void test_refused_lengths(void **state)
{
    (void)state;
    unsigned char file[64] = {0};
    expect_refused(file, 0, TVLM_ERR_FORMAT, "not a safetensors file");
    expect_refused(file, 7, TVLM_ERR_FORMAT, "not a safetensors file");
    memset(file, 0xff, 8);
    expect_refused(file, sizeof file, TVLM_ERR_FORMAT, "does not end within 64 bytes");
    size_t most =
        (size_t)32 << 20; /* a header one byte longer is not read, nor is there memory for it */
    for (unsigned i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)(most + 1) >> (8 * i));
    expect_refused(file, most + 9, TVLM_ERR_LIMIT, "a header of 33554433 bytes, at most 33554432");
    /* nesting that would exhaust the stack */
    size_t n = 1 << 20;
    unsigned char *deep = malloc(n + 8);
    assert_non_null(deep);
    memset(deep + 8, '[', n);
    memcpy(deep, "\0\0\x10\0\0\0\0\0", 8);
    expect_refused(deep, n + 8, TVLM_ERR_FORMAT, "depth");
    free(deep);
}

static void test_values(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {
        0,    0,    0x20, 0xc0,                         /* F32 -2.5 */
        0,    0xc1,                                     /* F16 -2.5 */
        0x20, 0xc0,                                     /* BF16 -2.5 */
        0,    0,    0,    0,    0,    0,    0x04, 0xc0, /* F64 -2.5 */
        0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* I64 -3 */
        0xfd, 0xff, 0xff, 0xff,                         /* I32 -3 */
        0xfd,                                           /* U8 253 */
        0xfd,                                           /* I8 -3 */
        1,                                              /* BOOL */
    };
    static const char *const names[] = {"F32", "F16", "BF16", "F64", "I64",
                                        "I32", "U8",  "I8",   "BOOL"};
    static const float expected[] = {-2.5f, -2.5f, -2.5f, -2.5f, -3, -3, 253, -3, 1};
    char header[1024] = "{\"__metadata__\":{\"format\":\"pt\"}";
    size_t at = 0;
    for (size_t i = 0; i < TVLM_COUNT(names); i++) {
        size_t size = tvlmc_st_dtype_size((tvlmc_st_dtype)i), n = strlen(header);
        assert_string_equal(tvlmc_st_dtype_name((tvlmc_st_dtype)i), names[i]);
        snprintf(header + n, sizeof header - n,
                 ",\"t%zu\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[%zu,%zu]}", i,
                 names[i], at, at + size);
        at += size;
    }
    assert_int_equal(at, sizeof bytes);
    strcat(header, "}");
    unsigned char file[1200];
    size_t size = build(file, header, sizeof bytes);
    memcpy(file + size - sizeof bytes, bytes, sizeof bytes);
    tvlmc_st_set set;
    assert_int_equal(tvlmc_st_open_memory("file", file, size, &set, NULL), TVLM_OK);
    assert_int_equal(set.n, TVLM_COUNT(names));
    for (size_t i = 0; i < TVLM_COUNT(names); i++) {
        char name[8];
        float v = 0;
        snprintf(name, sizeof name, "t%zu", i);
        const tvlmc_st_tensor *t = tvlmc_st_find(&set, name);
        assert_non_null(t);
        assert_int_equal(t->n, 1);
        assert_int_equal(tvlmc_st_read_f32(t, 0, 1, &v, NULL), TVLM_OK);
        assert_true(v == expected[i]);
    }
    assert_null(tvlmc_st_find(&set, "t"));
    assert_null(tvlmc_st_find(&set, "__metadata__"));
    tvlmc_st_close(&set);
}

static void test_write_and_read(void **state)
{
    (void)state;
    static const float a[6] = {1, 2, 3, -4, 5.5f, 6};
    static const int32_t b[3] = {-200, 7, 151645};
    const char *path = TVLM_BUILD_DIR "/test_write.safetensors";
    const tvlmc_st_tensor list[] = {
        {"b/\"quoted\"", TVLMC_ST_I32, 1, {3},    3, (const unsigned char *)b, NULL, 0},
        {"a",            TVLMC_ST_F32, 2, {2, 3}, 6, (const unsigned char *)a, NULL, 0},
        {"nothing",      TVLMC_ST_U8,  1, {0},    0, NULL,                     NULL, 0},
    };
    tvlm_error err = {0};
    tvlmc_st_set set;
    assert_int_equal(tvlmc_st_write(path, NULL, list, 3, &err), TVLM_OK);
    assert_int_equal(tvlmc_st_open(path, &set, &err), TVLM_OK);
    const tvlmc_st_tensor *t = tvlmc_st_find(&set, "a");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[1], 3);
    float values[6];
    assert_int_equal(tvlmc_st_read_f32(t, 0, 6, values, &err), TVLM_OK);
    assert_memory_equal(values, a, sizeof a);
    assert_int_equal(tvlmc_st_read_f32(t, 4, 2, values, &err), TVLM_OK);
    assert_memory_equal(values, a + 4, 2 * sizeof *a);
    t = tvlmc_st_find(&set, "b/\"quoted\"");
    assert_non_null(t);
    assert_int_equal(tvlmc_st_read_f32(t, 0, 3, values, &err), TVLM_OK);
    for (size_t i = 0; i < 3; i++)
        assert_true(values[i] == (float)b[i]);
    assert_non_null(tvlmc_st_find(&set, "nothing"));
    FILE *f = fopen(path, "wb"); /* cut while it is open */
    assert_true(f && !fclose(f));
    assert_int_equal(tvlmc_st_read_f32(t, 0, 3, values, &err), TVLM_ERR_IO);
    tvlmc_st_close(&set);
    remove(path);
    assert_int_equal(tvlmc_st_write("/nonexistent/x.safetensors", NULL, list, 3, &err),
                     APP_ERR_WRITE);
    assert_non_null(strstr(err.message, "/nonexistent/x.safetensors: cannot write"));
}

static void test_shards(void **state)
{
    (void)state;
    tvlmc_st_set set, single;
    tvlm_error err = {0};
    assert_int_equal(tvlmc_st_open(GOLDEN "tiny_unfused", &set, &err), TVLM_OK);
    assert_non_null(tvlmc_st_find(&set, "lm_head.weight"));
    assert_non_null(tvlmc_st_find(&set, "model.mm_projector.0.weight"));
    assert_int_equal(
        tvlmc_st_open(GOLDEN "tiny_unfused/model-00002-of-00002.safetensors", &single, &err),
        TVLM_OK);
    assert_true(single.n < set.n);
    tvlmc_st_close(&set);
    tvlmc_st_close(&single);
    assert_int_equal(tvlmc_st_open(TVLM_TEST_DATA, &set, &err), TVLM_ERR_IO);
    assert_non_null(strstr(err.message, "no model.safetensors"));
}

static void test_refused_indexes(void **state)
{
    (void)state;
    // clang-format off
    static const char *const cases[][2] = {
        {"{}", "'weight_map' is missing"},
        {"{\"weight_map\":{\"a\":\"../a.safetensors\"}}", "weight_map of 'a': not the name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not the name"},
        {"{\"weight_map\":{\"a\":3}}", "not the name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "not the name"},
        {"{\"weight_map\":{\"a\":\".index_shard.safetensors\"}}", "not the name"},
        {"{\"weight_map\":{\"a\":\"x\\\\index_shard.safetensors\"}}", "not the name"},
        {"{\"weight_map\":{\"a\":\"no-such-shard.safetensors\"}}", "no-such-shard"},
        {"{\"weight_map\":{\"zzz\":\"index_shard.safetensors\"}}", "tensor 'zzz' is not in"},
    };
    // clang-format on
    static const unsigned char byte = 1;
    const tvlmc_st_tensor one = {"a", TVLMC_ST_U8, 1, {1}, 1, &byte, NULL, 0};
    const char *path = TVLM_BUILD_DIR "/test.index.json";
    const char *shard = TVLM_BUILD_DIR "/index_shard.safetensors";
    assert_int_equal(tvlmc_st_write(shard, NULL, &one, 1, NULL), TVLM_OK);
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlmc_st_set set;
        tvlm_error err = {0};
        put_text(path, cases[i][0]);
        assert_int_not_equal(tvlmc_st_open(path, &set, &err), TVLM_OK);
        if (!strstr(err.message, cases[i][1]))
            fail_msg("'%s' does not say '%s'", err.message, cases[i][1]);
    }
    remove(path);
    remove(shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_headers), cmocka_unit_test(test_refused_lengths),
        cmocka_unit_test(test_values),          cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_shards),          cmocka_unit_test(test_refused_indexes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
