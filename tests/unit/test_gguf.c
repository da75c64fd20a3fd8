/* SPDX-License-Identifier: MIT
 * The GGUF parser on bytes put together by hand, and the writer's files read back. */
#include "convert/gguf_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "check.h"
#include "gguf_bytes.h"

#define PATH TVLM_BUILD_DIR "/gguf-test.gguf"

static tvlm_error err;

/* Parses bytes that lie in a heap block of exactly their size. */
static tvlm_status parse(const unsigned char *data, size_t size, bool *complete)
{
    tvlm_gguf g;
    unsigned char *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    if (size) memcpy(exact, data, size);
    err.message[0] = 0;
    tvlm_status status = tvlm_gguf_parse(exact, size, &g, complete, &err);
    tvlm_gguf_free(&g);
    free(exact);
    return status;
}

/* One key of every type; three tensors whose order in the file is not that of the list. */
static void every_type(gguf_bytes *b)
{
    static const struct {
        tvlm_gguf_type type;
        size_t size;
    } integers[] = {
        {TVLM_GGUF_U8,  1},
        {TVLM_GGUF_I8,  1},
        {TVLM_GGUF_U16, 2},
        {TVLM_GGUF_I16, 2},
        {TVLM_GGUF_U32, 4},
        {TVLM_GGUF_I32, 4},
        {TVLM_GGUF_U64, 8},
        {TVLM_GGUF_I64, 8},
    };
    bytes_begin(b);
    for (size_t i = 0; i < TVLM_COUNT(integers); i++) {
        char key[16];
        snprintf(key, sizeof key, "plus.%u", (unsigned)integers[i].type);
        bytes_key(b, key, integers[i].type);
        bytes_le(b, 100 + i, integers[i].size);
        snprintf(key, sizeof key, "ones.%u", (unsigned)integers[i].type);
        bytes_key(b, key, integers[i].type);
        bytes_le(b, UINT64_MAX, integers[i].size);
    }
    bytes_key(b, "f32", TVLM_GGUF_F32);
    bytes_f32(b, -1.5f);
    bytes_key(b, "f64", TVLM_GGUF_F64);
    bytes_f64(b, 0.1);
    bytes_key(b, "true", TVLM_GGUF_BOOL);
    bytes_le(b, 1, 1);
    bytes_key(b, "text", TVLM_GGUF_STRING);
    bytes_str(b, "a word");
    bytes_array(b, "texts", TVLM_GGUF_STRING, 3);
    bytes_str(b, "one");
    bytes_str(b, "");
    bytes_str(b, "three");
    bytes_array(b, "list", TVLM_GGUF_I16, 3);
    for (uint64_t i = 7; i < 10; i++)
        bytes_le(b, i, 2);
    bytes_array(b, "empty", TVLM_GGUF_U32, 0);
    bytes_array(b, "tinyvlm.tensor_crc32c", TVLM_GGUF_U32, 3);
    for (uint64_t i = 1; i < 4; i++)
        bytes_le(b, 0x11111111 * i, 4);
    bytes_tensor(b, "last", TVLM_TYPE_Q8_0, (uint64_t[5]){2, 64}, 128);
    bytes_tensor(b, "first", TVLM_TYPE_F32, (uint64_t[5]){2, 3, 5}, 0);
    bytes_tensor(b, "q4_k", 12, (uint64_t[5]){1, 256}, 288);
}

static void reads_every_type(void **state)
{
    (void)state;
    gguf_bytes b;
    tvlm_gguf g;
    bool complete, yes = false;
    uint32_t u = 0, list[3];
    double f = 0, three[3];
    size_t n;
    tvlm_str s;
    every_type(&b);
    OK(tvlm_gguf_parse(b.data, b.size, &g, &complete, &err));
    assert_true(complete);
    for (unsigned type = 0; type <= TVLM_GGUF_I64; type++) {
        char key[16];
        bool is_signed = type == TVLM_GGUF_I8 || type == TVLM_GGUF_I16 || type == TVLM_GGUF_I32 ||
                         type == TVLM_GGUF_I64;
        if (type >= TVLM_GGUF_F32 && type <= TVLM_GGUF_ARRAY) continue;
        snprintf(key, sizeof key, "plus.%u", type);
        OK(tvlm_gguf_u32(&g, key, true, &u, &err));
        assert_in_range(u, 100, 107);
        snprintf(key, sizeof key, "ones.%u", type);
        tvlm_status status = tvlm_gguf_u32(&g, key, true, &u, &err);
        if (is_signed || type == TVLM_GGUF_U64)
            assert_int_equal(status, TVLM_ERR_FORMAT); /* -1 and 2^64 - 1 */
        else
            assert_int_equal(status, TVLM_OK);
        OK(tvlm_gguf_f64(&g, key, true, &f, &err));
        assert_true(is_signed ? f == -1.0 : f >= 255.0);
    }
    OK(tvlm_gguf_f64(&g, "f32", true, &f, &err));
    assert_true(f == -1.5);
    OK(tvlm_gguf_f64(&g, "f64", true, &f, &err));
    assert_true(f == 0.1);
    OK(tvlm_gguf_bool(&g, "true", true, &yes, &err));
    assert_true(yes);
    OK(tvlm_gguf_string(&g, "text", true, &s, &err));
    assert_true(tvlm_str_eq(s, "a word"));
    OK(tvlm_gguf_u32_list(&g, "list", true, list, 3, &n, &err));
    assert_int_equal(n, 3);
    assert_int_equal(list[0] * 100 + list[1] * 10 + list[2], 789);
    OK(tvlm_gguf_f64_array(&g, "list", true, three, 3, &err));
    assert_true(three[2] == 9.0);
    OK(tvlm_gguf_u32_list(&g, "empty", true, list, 3, &n, &err));
    assert_int_equal(n, 0);
    size_t cursor = 0;
    const tvlm_gguf_kv *texts = tvlm_gguf_find(&g, "texts");
    assert_true(tvlm_str_eq(tvlm_gguf_next_string(texts, &cursor), "one"));
    assert_true(tvlm_str_eq(tvlm_gguf_next_string(texts, &cursor), ""));
    assert_true(tvlm_str_eq(tvlm_gguf_next_string(texts, &cursor), "three"));
    assert_int_equal(cursor, texts->data_size);
    tvlm_gguf_free(&g);
}

static void tensors_are_in_order_of_offset(void **state)
{
    (void)state;
    gguf_bytes b;
    tvlm_gguf g;
    bool complete;
    every_type(&b);
    OK(tvlm_gguf_parse(b.data, b.size, &g, &complete, &err));
    assert_int_equal(g.n_tensors, 3);
    assert_int_equal(g.alignment, 32); /* GGUF's default */
    assert_int_equal(g.data_offset, (b.size + 31) / 32 * 32);
    assert_true(tvlm_str_eq(g.tensors[0].name, "first"));
    assert_true(tvlm_str_eq(g.tensors[1].name, "last"));
    assert_int_equal(g.tensors[0].n_elements, 30);
    assert_int_equal(g.tensors[0].size, 120);
    assert_int_equal(g.tensors[0].shape[0] * 100 + g.tensors[0].shape[1] * 10, 230);
    assert_int_equal(g.tensors[0].shape[2], 5);
    assert_int_equal(g.tensors[1].size, 4 * 34);
    assert_int_equal(g.tensors[1].offset, g.data_offset + 128);
    assert_int_equal(g.tensors[2].size, 144); /* not run here, yet its size is known */
    assert_int_equal(g.file_size, g.data_offset + 288 + 144);
    assert_true(g.has_crc); /* in the order of the list, not of the offsets */
    assert_int_equal(g.tensors[0].crc32c, 0x22222222);
    assert_int_equal(g.tensors[1].crc32c, 0x11111111);
    assert_ptr_equal(tvlm_gguf_find_tensor(&g, "last"), &g.tensors[1]);
    assert_null(tvlm_gguf_find_tensor(&g, "las"));
    tvlm_gguf_free(&g);
}

/* Every beginning of a valid header asks for more; the whole one needs nothing after it. */
static void every_beginning_is_incomplete(void **state)
{
    (void)state;
    gguf_bytes b;
    bool complete;
    every_type(&b);
    for (size_t n = 0; n < b.size; n++) {
        complete = true;
        if (parse(b.data, n, &complete)) fail_msg("%zu bytes: %s", n, err.message);
        assert_false(complete);
    }
    OK(parse(b.data, b.size, &complete));
    assert_true(complete);
}

static void wrong_reads_are_errors(void **state)
{
    (void)state;
    gguf_bytes b;
    tvlm_gguf g;
    bool complete, yes;
    uint32_t u = 41, list[3];
    double f = 0.5, two[2];
    size_t n;
    tvlm_str s;
    every_type(&b);
    OK(tvlm_gguf_parse(b.data, b.size, &g, &complete, &err));
    OK(tvlm_gguf_u32(&g, "absent", false, &u, &err));
    assert_int_equal(u, 41);
    assert_int_equal(tvlm_gguf_u32(&g, "absent", true, &u, &err), TVLM_ERR_FORMAT);
    assert_string_equal(err.message, "key 'absent' is missing");
    assert_int_equal(tvlm_gguf_u32(&g, "f32", true, &u, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'f32'"));
    assert_int_equal(tvlm_gguf_u32(&g, "true", true, &u, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_u32(&g, "list", true, &u, &err), TVLM_ERR_FORMAT);
    assert_int_equal(u, 41);
    assert_int_equal(tvlm_gguf_f64(&g, "text", true, &f, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_f64(&g, "list", true, &f, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_bool(&g, "plus.0", true, &yes, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_string(&g, "texts", true, &s, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_string(&g, "f32", true, &s, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_u32_list(&g, "list", true, list, 2, &n, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_u32_list(&g, "plus.0", true, list, 3, &n, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_u32_list(&g, "texts", true, list, 3, &n, &err), TVLM_ERR_FORMAT);
    assert_int_equal(tvlm_gguf_f64_array(&g, "list", true, two, 2, &err), TVLM_ERR_FORMAT);
    tvlm_gguf_free(&g);
}

static void refused(gguf_bytes *b, tvlm_status status, const char *says)
{
    bool complete;
    assert_int_equal(parse(b->data, b->size, &complete), status);
    assert_false(complete);
    if (!strstr(err.message, says)) fail_msg("'%s' does not say '%s'", err.message, says);
}

/* A header with the tensor "t" alone. */
static void tensor_refused(uint32_t type, const uint64_t shape[5], uint64_t offset,
                           tvlm_status status, const char *says)
{
    gguf_bytes b;
    bytes_begin(&b);
    bytes_tensor(&b, "t", type, shape, offset);
    refused(&b, status, says);
}

static void bad_tensors_are_named(void **state)
{
    (void)state;
    gguf_bytes b;
    const uint64_t big = (uint64_t)1 << 32;
    tensor_refused(77, (uint64_t[5]){4}, 0, TVLM_ERR_UNSUPPORTED, "'t': type 77");
    tensor_refused(TVLM_TYPE_Q4_0, (uint64_t[5]){4, 48}, 0, TVLM_ERR_FORMAT, "'t': rows of 48");
    tensor_refused(0, (uint64_t[5]){big, big}, 0, TVLM_ERR_FORMAT, "'t': dimension");
    tensor_refused(0, (uint64_t[5]){UINT64_MAX}, 0, TVLM_ERR_FORMAT, "'t': dimension");
    tensor_refused(0, (uint64_t[5]){4}, 8, TVLM_ERR_FORMAT, "'t': offset 8");
    tensor_refused(0, (uint64_t[5]){4}, UINT64_MAX - 31, TVLM_ERR_FORMAT, "'t': offset");

    bytes_begin(&b);
    bytes_tensor(&b, "five", 0, (uint64_t[5]){1, 1, 1, 1}, 0);
    b.data[24 + 8 + 4] = 5;
    refused(&b, TVLM_ERR_FORMAT, "'five': 5 dimensions");
    bytes_begin(&b);
    bytes_tensor(&b, "zero", 0, (uint64_t[5]){4}, 0);
    b.data[24 + 8 + 4 + 4] = 0;
    refused(&b, TVLM_ERR_FORMAT, "'zero': dimension 0");

    bytes_begin(&b);
    bytes_tensor(&b, "one", 0, (uint64_t[5]){9}, 0); /* 36 bytes */
    bytes_tensor(&b, "two", 0, (uint64_t[5]){1}, 32);
    refused(&b, TVLM_ERR_FORMAT, "'two': overlaps");
    bytes_begin(&b);
    bytes_tensor(&b, "by one", TVLM_TYPE_I8, (uint64_t[5]){33}, 0);
    bytes_tensor(&b, "two", 0, (uint64_t[5]){1}, 32);
    refused(&b, TVLM_ERR_FORMAT, "'two': overlaps");
    bytes_begin(&b);
    bytes_tensor(&b, "same", 0, (uint64_t[5]){1}, 0);
    bytes_tensor(&b, "other", 0, (uint64_t[5]){1}, 32);
    bytes_tensor(&b, "same", 0, (uint64_t[5]){1}, 64);
    refused(&b, TVLM_ERR_FORMAT, "tensor 'same' appears twice");
}

static void bad_keys_are_named(void **state)
{
    (void)state;
    gguf_bytes b;
    bytes_begin(&b);
    for (int i = 0; i < 2; i++) {
        bytes_key(&b, "same", TVLM_GGUF_U8);
        bytes_le(&b, 0, 1);
    }
    refused(&b, TVLM_ERR_FORMAT, "key 'same' appears twice");
    bytes_begin(&b);
    bytes_key(&b, "odd", (tvlm_gguf_type)13);
    bytes_le(&b, 0, 8);
    refused(&b, TVLM_ERR_FORMAT, "key 'odd': value type 13");
    bytes_begin(&b);
    bytes_array(&b, "nested", TVLM_GGUF_ARRAY, 1);
    bytes_le(&b, 0, 8);
    refused(&b, TVLM_ERR_FORMAT, "key 'nested'");
    bytes_begin(&b);
    bytes_array(&b, "huge", TVLM_GGUF_U64, UINT64_MAX / 8 + 2); /* its bytes would wrap to 8 */
    bytes_le(&b, 0, 8);
    refused(&b, TVLM_ERR_FORMAT, "key 'huge'");
    bytes_begin(&b);
    bytes_key(&b, "long", TVLM_GGUF_STRING);
    bytes_le(&b, UINT64_MAX, 8);
    refused(&b, TVLM_ERR_FORMAT, "string");
    for (uint64_t alignment = 0; alignment < 16; alignment += 7) { /* 0, 7, 14 */
        bytes_begin(&b);
        bytes_key(&b, "general.alignment", TVLM_GGUF_U32);
        bytes_le(&b, alignment, 4);
        refused(&b, TVLM_ERR_FORMAT, "general.alignment");
    }
    bytes_begin(&b);
    bytes_array(&b, "tinyvlm.tensor_crc32c", TVLM_GGUF_U32, 2);
    bytes_le(&b, 0, 8);
    bytes_tensor(&b, "t", 0, (uint64_t[5]){1}, 0);
    refused(&b, TVLM_ERR_FORMAT, "tinyvlm.tensor_crc32c");
}

static void bad_beginnings_are_refused_at_once(void **state)
{
    (void)state;
    gguf_bytes b;
    bytes_begin(&b);
    b.data[3] = 'f';
    b.size = 4;
    refused(&b, TVLM_ERR_FORMAT, "not a GGUF file");
    bytes_begin(&b);
    b.data[4] = 1;
    refused(&b, TVLM_ERR_UNSUPPORTED, "version 1");
    bytes_begin(&b);
    b.data[4] = 4;
    refused(&b, TVLM_ERR_UNSUPPORTED, "version 4");
    for (unsigned char version = 2; version <= 3; version++) {
        bytes_begin(&b);
        b.data[4] = 0, b.data[7] = version;
        refused(&b, TVLM_ERR_UNSUPPORTED, "big-endian");
    }
    bytes_begin(&b);
    b.data[10] = 2; /* 131,072 tensors */
    refused(&b, TVLM_ERR_FORMAT, "131072 tensors");
    bytes_begin(&b);
    b.data[23] = 0x80;
    refused(&b, TVLM_ERR_FORMAT, "keys");
}

/* Version 2 has the same bytes. */
static void version_2_is_read(void **state)
{
    (void)state;
    gguf_bytes b;
    bool complete;
    every_type(&b);
    b.data[4] = 2;
    OK(parse(b.data, b.size, &complete));
    assert_true(complete);
}

static void other_files_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } files[] = {
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "Git LFS pointer"                },
        {"\x90\1\0\0\0\0\0\0{\"__metadata__\"",             22, "safetensors"                    },
        {"PK\3\4\0\0",                                      6,  "PyTorch"                        },
        {"\x80\2}q",                                        4,  "pickle"                         },
        {"\x08\x07\x12\x07pytorch",                         11, "ONNX"                           },
        {"tjgg\3\0\0\0",                                    8,  "before GGUF"                    },
        {"lmgg",                                            4,  "before GGUF"                    },
        {"FUGG\0\0\0\3",                                    8,  "big-endian"                     },
        {"<!DOCTYPE html>",                                 15, "HTML"                           },
        {"\n <HTML lang=en>",                               16, "HTML"                           },
        {"{\"error\":\"not found\"}",                       21, "JSON"                           },
        {"\x1f\x8b\x08",                                    3,  "compressed"                     },
        {"\x28\xb5\x2f\xfd",                                4,  "compressed"                     },
        {"\x89PNG\r\n\x1a\n",                               8,  "image"                          },
        {"\xff\xd8\xff\xe0",                                4,  "image"                          },
        {"\0\0\0\0\0\0\0\0",                                8,  "zeros"                          },
        {"what is this",                                    12, "a text, perhaps an error of the"},
        {"what is\x7fthis",                                 12, "does not begin with"            },
    };
    for (size_t i = 0; i < TVLM_COUNT(files); i++) {
        bool complete;
        assert_int_not_equal(parse((const unsigned char *)files[i].bytes, files[i].n, &complete),
                             TVLM_OK);
        assert_memory_equal(err.message, "not a GGUF file: ", 17);
        if (!strstr(err.message, files[i].says))
            fail_msg("'%s' does not say '%s'", err.message, files[i].says);
    }
}

static void put_split(gguf_bytes *b, uint64_t no, uint64_t count, uint64_t n_tensors)
{
    bytes_begin(b);
    bytes_key(b, "split.no", TVLM_GGUF_U16);
    bytes_le(b, no, 2);
    bytes_key(b, "split.count", TVLM_GGUF_U16);
    bytes_le(b, count, 2);
    bytes_key(b, "split.tensors.count", TVLM_GGUF_I32);
    bytes_le(b, n_tensors, 4);
    bytes_tensor(b, "t", 0, (uint64_t[5]){1}, 0);
}

static void parts_are_refused(void **state)
{
    (void)state;
    gguf_bytes b;
    bool complete;
    put_split(&b, 1, 3, 2);
    refused(&b, TVLM_ERR_UNSUPPORTED, "part 2 of 3");
    assert_non_null(strstr(err.message, "llama-gguf-split --merge"));
    put_split(&b, 0, 1, 1); /* the whole as one part */
    OK(parse(b.data, b.size, &complete));
    put_split(&b, 0, 1, 2);
    refused(&b, TVLM_ERR_FORMAT, "'split.tensors.count': 2 tensors");
}

/* Names are shown on one line, whatever they hold, and told apart to the last byte. */
static void odd_names_are_shown(void **state)
{
    (void)state;
    gguf_bytes b;
    tvlm_gguf g;
    bool complete;
    bytes_begin(&b);
    bytes_tensor(&b, "a?b\x1b[31m\nc\xff", 77, (uint64_t[5]){1}, 0);
    b.data[24 + 8 + 1] = 0;
    refused(&b, TVLM_ERR_FORMAT,
            "'a\xef\xbf\xbd"
            "b\xef\xbf\xbd[31m c\xef\xbf\xbd': its name has a zero byte");
    bytes_begin(&b);
    bytes_key(&b, "text?more", TVLM_GGUF_U8);
    b.data[24 + 8 + 4] = 0;
    bytes_le(&b, 7, 1);
    bytes_key(&b, "text", TVLM_GGUF_U8);
    bytes_le(&b, 8, 1);
    OK(tvlm_gguf_parse(b.data, b.size, &g, &complete, &err));
    assert_int_equal(tvlm_gguf_find(&g, "text")->data[0], 8);
    assert_null(tvlm_gguf_find(&g, "text\xef\xbf\xbdmore"));
    tvlm_gguf_free(&g);
}

/* ---- the writer ---- */

static bool exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*size);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

static const unsigned char contents[5] = {1, 2, 3, 4, 5};

static void write_values(tvlmc_gguf_writer *w)
{
    OK(tvlmc_gguf_put_u32(w, "u32", UINT32_MAX, &err));
    OK(tvlmc_gguf_put_i32(w, "i32", -7, &err));
    OK(tvlmc_gguf_put_f32(w, "f32", 0.25f, &err));
    OK(tvlmc_gguf_put_bool(w, "bool", true, &err));
    OK(tvlmc_gguf_put_string(w, "string", (tvlm_str){"a\0b", 3}, &err));
    OK(tvlmc_gguf_put_f64_array(w, "f64s", (double[]){0.1, -2.0}, 2, &err));
    OK(tvlmc_gguf_put_i32_array(w, "i32s", (int32_t[]){3, 4}, 2, &err));
    OK(tvlmc_gguf_put_string_array(w, "strings",
                                   (tvlm_str[]){
                                       {"x", 1},
                                       {"",  0}
    },
                                   2, &err));
}

static void check_values(const tvlm_gguf *g)
{
    uint32_t u = 0, list[2];
    double f = 0, two[2];
    bool yes = false;
    size_t n, cursor = 0;
    tvlm_str s;
    OK(tvlm_gguf_u32(g, "u32", true, &u, &err));
    assert_int_equal(u, UINT32_MAX);
    OK(tvlm_gguf_f64(g, "i32", true, &f, &err));
    assert_true(f == -7.0);
    OK(tvlm_gguf_f64(g, "f32", true, &f, &err));
    assert_true(f == 0.25);
    OK(tvlm_gguf_bool(g, "bool", true, &yes, &err));
    assert_true(yes);
    OK(tvlm_gguf_string(g, "string", true, &s, &err));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.data, "a\0b", 3);
    OK(tvlm_gguf_f64_array(g, "f64s", true, two, 2, &err));
    assert_true(two[0] == 0.1 && two[1] == -2.0);
    OK(tvlm_gguf_u32_list(g, "i32s", true, list, 2, &n, &err));
    assert_int_equal(n * 100 + list[0] * 10 + list[1], 234);
    const tvlm_gguf_kv *strings = tvlm_gguf_find(g, "strings");
    assert_true(strings->n == 2 && tvlm_str_eq(tvlm_gguf_next_string(strings, &cursor), "x"));
    assert_int_equal(g->alignment, 64);
    assert_true(g->has_crc && g->n_tensors == 2);
    const tvlm_gguf_tensor *t = &g->tensors[1];
    assert_true(tvlm_str_eq(t->name, "five") && t->type == TVLM_TYPE_I8 && t->size == 5);
    assert_int_equal(t->crc32c, tvlm_crc32c(0, contents, 5));
    assert_int_equal(t->offset % 64, 0);
}

/* Writes the values (or the keys of `from`) and two tensors. */
static void write_file(const tvlm_gguf *from)
{
    tvlmc_gguf_writer *w;
    OK(tvlmc_gguf_writer_new(PATH, NULL, &w, &err));
    if (!from) write_values(w);
    for (size_t i = 0; from && i < from->n_kv; i++)
        OK(tvlmc_gguf_put_kv(w, &from->kv[i], &err));
    OK(tvlmc_gguf_declare(w, "matrix", TVLM_TYPE_F16, (uint64_t[]){3, 2}, 2, &err));
    OK(tvlmc_gguf_declare(w, "five", TVLM_TYPE_I8, (uint64_t[]){5}, 1, &err));
    OK(tvlmc_gguf_write_tensor(w, "0123456789ab", 12, &err));
    OK(tvlmc_gguf_write_tensor(w, contents, 5, &err));
    assert_false(exists(PATH)); /* nothing half-written under the name */
    OK(tvlmc_gguf_writer_finish(w, NULL, NULL, &err));
    assert_true(exists(PATH));
}

static void written_files_read_back(void **state)
{
    (void)state;
    tvlm_gguf g, copy;
    bool complete;
    size_t size, copy_size;
    remove(PATH);
    write_file(NULL);
    unsigned char *data = read_file(PATH, &size);
    OK(tvlm_gguf_parse(data, size, &g, &complete, &err));
    assert_true(complete && g.file_size <= size);
    check_values(&g);
    assert_memory_equal(data + g.tensors[0].offset, "0123456789ab", 12);
    assert_memory_equal(data + g.tensors[1].offset, contents, 5);
    /* keys copied from a parsed file make the same file */
    remove(PATH);
    write_file(&g);
    unsigned char *again = read_file(PATH, &copy_size);
    OK(tvlm_gguf_parse(again, copy_size, &copy, &complete, &err));
    check_values(&copy);
    assert_int_equal(copy_size, size);
    assert_memory_equal(again, data, size);
    tvlm_gguf_free(&copy);
    tvlm_gguf_free(&g);
    free(again);
    free(data);
    remove(PATH);
}

static void the_writer_refuses(void **state)
{
    (void)state;
    tvlmc_gguf_writer *w;
    remove(PATH);
    OK(tvlmc_gguf_writer_new(PATH, NULL, &w, &err));
    assert_int_equal(tvlmc_gguf_declare(w, "q", TVLM_TYPE_Q8_0, (uint64_t[]){2, 33}, 2, &err),
                     TVLM_ERR_ARGUMENT);
    assert_int_equal(tvlmc_gguf_declare(w, "huge", TVLM_TYPE_F32,
                                        (uint64_t[]){(uint64_t)1 << 26, (uint64_t)1 << 25}, 2,
                                        &err),
                     TVLM_ERR_ARGUMENT);
    assert_int_equal(tvlmc_gguf_declare(w, "z", TVLM_TYPE_F32, (uint64_t[]){0}, 1, &err),
                     TVLM_ERR_ARGUMENT);
    OK(tvlmc_gguf_declare(w, "t", TVLM_TYPE_F32, (uint64_t[]){2}, 1, &err));
    assert_int_equal(tvlmc_gguf_write_tensor(w, contents, 5, &err), TVLM_ERR_ARGUMENT);
    assert_int_equal(tvlmc_gguf_writer_finish(w, NULL, NULL, &err),
                     TVLM_ERR_STATE); /* one is missing */
    assert_false(exists(PATH));
    OK(tvlmc_gguf_writer_new(PATH, NULL, &w, &err));
    tvlmc_gguf_writer_abort(w);
    assert_false(exists(PATH));
    assert_int_equal(tvlmc_gguf_writer_new("/no/such/folder/x.gguf", NULL, &w, &err),
                     APP_ERR_WRITE);
    assert_null(w);
    assert_non_null(strstr(err.message, "/no/such/folder/x.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(tensors_are_in_order_of_offset),
        cmocka_unit_test(every_beginning_is_incomplete),
        cmocka_unit_test(wrong_reads_are_errors),
        cmocka_unit_test(bad_tensors_are_named),
        cmocka_unit_test(bad_keys_are_named),
        cmocka_unit_test(bad_beginnings_are_refused_at_once),
        cmocka_unit_test(version_2_is_read),
        cmocka_unit_test(other_files_are_named),
        cmocka_unit_test(parts_are_refused),
        cmocka_unit_test(odd_names_are_shown),
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(the_writer_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
