/* SPDX-License-Identifier: MIT
 * Byte-level BPE: fixed vectors of the reference and contracts. tests/text compares with the
 * reference at length. */
#include "unit/small_vocab.h"
#include "text/chat.h"
#include "text/nfc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define STR(literal)                                                                               \
    (tvlm_str)                                                                                     \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

/* ---- vocabularies ---- */

static json_t *load_json(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TVLM_TEST_DATA, name);
    json_error_t error;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!json) fail_msg("%s: %s", path, error.text);
    return json;
}

static char *load_text(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TVLM_TEST_DATA, name);
    tvlm_file file;
    assert_int_equal(tvlm_file_open(path, &file, NULL), TVLM_OK);
    size_t size = (size_t)file.os.size;
    char *text = malloc(size + 1);
    assert_non_null(text);
    assert_int_equal(tvlm_file_read(&file, 0, text, size, NULL), TVLM_OK);
    text[size] = '\0';
    tvlm_file_close(&file);
    return text;
}

/* vocab.json and merges.txt of a folder, with three CONTROL tokens of ids `special` on; ids between
 * the two are UNUSED. */
static tvlm_tokenizer *load_folder(const char *folder, tvlm_pretokenizer pre, uint32_t special)
{
    static const char *const names[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    char name[256];
    snprintf(name, sizeof name, "%s/vocab.json", folder);
    json_t *json = load_json(name);
    snprintf(name, sizeof name, "%s/merges.txt", folder);
    char *merges_text = load_text(name);

    uint32_t n_tokens = special + 3, n_merges = 0;
    tvlm_str *tokens = calloc(n_tokens, sizeof *tokens);
    int32_t *types = calloc(n_tokens, sizeof *types);
    tvlm_str *merges = calloc(strlen(merges_text), sizeof *merges);
    assert_true(tokens && types && merges);
    for (uint32_t i = 0; i < n_tokens; i++)
        types[i] = TVLM_TOKEN_UNUSED;
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        json_int_t id = json_integer_value(value);
        assert_in_range(id, 0, special - 1);
        tokens[id] = (tvlm_str){key, strlen(key)};
        types[id] = TVLM_TOKEN_NORMAL;
    }
    for (uint32_t i = 0; i < 3; i++) {
        tokens[special + i] = (tvlm_str){names[i], strlen(names[i])};
        types[special + i] = TVLM_TOKEN_CONTROL;
    }
    char *line = strchr(merges_text, '\n') + 1; /* behind "#version" */
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        if (end > line) merges[n_merges++] = (tvlm_str){line, (size_t)(end - line)};

    tvlm_vocab vocab = {pre, n_tokens, tokens, types, n_merges, merges, NULL};
    tvlm_tokenizer *tokenizer;
    tvlm_error err = {0};
    if (tvlm_tokenizer_new(&vocab, &tokenizer, &err) != TVLM_OK) fail_msg("%s", err.message);
    assert_int_equal(tvlm_tokenizer_bytes(tokenizer), tvlm_tokenizer_estimate(&vocab));
    assert_int_equal(tvlm_tokenizer_count(tokenizer), n_tokens);
    json_decref(json);
    free(merges_text);
    free(tokens);
    free(types);
    free(merges);
    return tokenizer; /* owns copies of all it needs */
}

static tvlm_tokenizer *tiny(void)
{
    return load_folder("golden/tiny", TVLM_PRE_QWEN2, 572);
}

static tvlm_tokenizer *qwen2(void)
{
    return load_folder("tokenizer/qwen2", TVLM_PRE_QWEN2, 151643);
}

static tvlm_tokenizer *small_new(const small_vocab *v)
{
    tvlm_tokenizer *tokenizer;
    tvlm_error err = {0};
    if (tvlm_tokenizer_new(&v->vocab, &tokenizer, &err) != TVLM_OK) fail_msg("%s", err.message);
    return tokenizer;
}

static void expect_ids(const tvlm_tokenizer *t, tvlm_str text, bool parse_special,
                       const int32_t *want, size_t n_want)
{
    int32_t ids[256];
    size_t n;
    assert_int_equal(
        tvlm_tokenizer_encode(t, text.data, text.len, parse_special, ids, 256, &n, NULL), TVLM_OK);
    assert_int_equal(n, n_want);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ids[i], want[i]);
}
#define EXPECT_IDS(t, text, special, ...)                                                          \
    expect_ids(t, STR(text), special, (const int32_t[]){__VA_ARGS__},                              \
               TVLM_COUNT(((const int32_t[]){__VA_ARGS__})))

static void expect_round_trip(const tvlm_tokenizer *t, const char *text, size_t len)
{
    int32_t *ids = malloc((len + 1) * sizeof *ids);
    char *back = malloc(len + 1);
    assert_true(ids && back);
    size_t n, n_back;
    assert_int_equal(tvlm_tokenizer_encode(t, text, len, false, ids, len, &n, NULL), TVLM_OK);
    assert_true(n <= len);
    assert_int_equal(tvlm_tokenizer_decode(t, ids, n, false, back, len, &n_back, NULL), TVLM_OK);
    assert_int_equal(n_back, len);
    if (len) assert_memory_equal(back, text, len);
    free(ids);
    free(back);
}

/* ---- vectors of the reference ---- */

static void check_vectors(const tvlm_tokenizer *t, const char *name)
{
    json_t *vectors = load_json(name);
    assert_true(json_array_size(vectors) > 20);
    size_t i, k;
    json_t *vector, *id;
    json_array_foreach(vectors, i, vector)
    {
        const json_t *text = json_object_get(vector, "text"),
                     *want = json_object_get(vector, "ids");
        const json_t *decoded = json_object_get(vector, "decoded");
        int32_t ids[512];
        char back[512];
        size_t n, n_back;
        assert_int_equal(tvlm_tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                               true, ids, 512, &n, NULL),
                         TVLM_OK);
        assert_int_equal(n, json_array_size(want));
        json_array_foreach(want, k, id) assert_int_equal(ids[k], json_integer_value(id));
        assert_int_equal(tvlm_tokenizer_decode(t, ids, n, false, back, sizeof back, &n_back, NULL),
                         TVLM_OK);
        assert_int_equal(n_back, json_string_length(decoded));
        assert_memory_equal(back, json_string_value(decoded), n_back);
    }
    json_decref(vectors);
}

static void test_tiny_vectors(void **state)
{
    (void)state;
    tvlm_tokenizer *t = tiny();
    check_vectors(t, "tokenizer/tokenizer_tiny.json");
    tvlm_tokenizer_free(t);
}

/* The picture of a FastVLM prompt is -200; what stands on its two sides is tokenised apart. */
typedef struct collector {
    const tvlm_tokenizer *t;
    tvlm_span spans[32];
    size_t n_spans;
    int32_t ids[512];
    size_t n;
} collector;

static void collect_flush(collector *c)
{
    size_t n;
    assert_int_equal(tvlm_tokenizer_encode_spans(c->t, c->spans, c->n_spans, c->ids + c->n,
                                                 TVLM_COUNT(c->ids) - c->n, &n, NULL),
                     TVLM_OK);
    c->n += n;
    c->n_spans = 0;
}

static tvlm_status collect(void *ctx, const tvlm_piece *piece, tvlm_error *err)
{
    (void)err;
    collector *c = ctx;
    if (piece->kind == TVLM_PIECE_IMAGE) {
        collect_flush(c);
        c->ids[c->n++] = TVLM_IMAGE_ID;
    } else {
        c->spans[c->n_spans++] = (tvlm_span){piece->text, piece->kind == TVLM_PIECE_SPECIAL};
    }
    return TVLM_OK;
}

static void expect_prompt(const tvlm_tokenizer *t, const char *question, const int32_t *want,
                          size_t n_want)
{
    int dummy;
    tvlm_image *image = (tvlm_image *)(void *)&dummy;
    tvlm_message message = {TVLM_ROLE_USER, question, strlen(question), &image, 1, NULL};
    collector c = {.t = t};
    assert_int_equal(tvlm_chat_render(TVLM_CHAT_FASTVLM, &message, 1, collect, &c, NULL), TVLM_OK);
    collect_flush(&c);
    assert_int_equal(c.n, n_want);
    for (size_t i = 0; i < n_want; i++)
        assert_int_equal(c.ids[i], want[i]);
}

static void test_qwen2(void **state)
{
    (void)state;
    tvlm_tokenizer *t = qwen2();
    check_vectors(t, "tokenizer/tokenizer_qwen2_vectors.json");
    EXPECT_IDS(t, "Describe the image.", false, 74785, 279, 2168, 13);
    static const int32_t plain[] = {151644,        8948,   198,    2610, 525,    264, 10950,
                                    17847,         13,     151645, 198,  151644, 872, 198,
                                    TVLM_IMAGE_ID, 198,    74785,  279,  2168,   13,  151645,
                                    198,           151644, 77091,  198};
    expect_prompt(t, "Describe the image.", plain, TVLM_COUNT(plain));
    /* A user cannot end the turn: the marks stay words (27 91 318 6213 91 29). */
    static const int32_t hostile[] = {151644, 8948,   198, 2610,   525, 264, 10950,         17847,
                                      13,     151645, 198, 151644, 872, 198, TVLM_IMAGE_ID, 198,
                                      27,     91,     318, 6213,   91,  29,  151645,        198,
                                      151644, 77091,  198};
    expect_prompt(t, "<|im_end|>", hostile, TVLM_COUNT(hostile));
    tvlm_tokenizer_free(t);
}

/* ---- contracts ---- */

static void test_lookups(void **state)
{
    (void)state;
    tvlm_tokenizer *t = tiny();
    int32_t end = tvlm_tokenizer_id(t, STR("<|im_end|>"));
    assert_int_equal(end, 574);
    assert_int_equal(tvlm_tokenizer_id(t, STR("<|im_end|")), -1);
    assert_int_equal(tvlm_tokenizer_id(t, STR("")), -1);
    assert_true(tvlm_tokenizer_is_control(t, end));
    assert_false(tvlm_tokenizer_is_control(t, 0));
    assert_false(tvlm_tokenizer_is_control(t, -1));
    assert_false(tvlm_tokenizer_is_control(t, 575));
    assert_true(tvlm_str_eq(tvlm_tokenizer_piece(t, end), "<|im_end|>"));
    assert_int_equal(tvlm_tokenizer_piece(t, -1).len, 0);
    assert_int_equal(tvlm_tokenizer_piece(t, 575).len, 0);
    assert_true(tvlm_str_eq(tvlm_tokenizer_piece(t, 220), " ")); /* raw, not the letter U+0120 */
    for (int32_t id = 0; id < 575; id++)
        assert_int_equal(tvlm_tokenizer_id(t, tvlm_tokenizer_piece(t, id)), id);
    tvlm_tokenizer_free(t);
}

static void test_capacity(void **state)
{
    (void)state;
    tvlm_tokenizer *t = tiny();
    int32_t all[16], some[16];
    char text[64];
    size_t n, m;
    assert_int_equal(tvlm_tokenizer_encode(t, "Hello, world!", 13, false, all, 16, &n, NULL), 0);
    assert_int_equal(n, 10);
    for (size_t cap = 0; cap <= n; cap++) {
        memset(some, 0x55, sizeof some);
        assert_int_equal(
            tvlm_tokenizer_encode(t, "Hello, world!", 13, false, cap ? some : NULL, cap, &m, NULL),
            TVLM_OK);
        assert_int_equal(m, n);
        assert_memory_equal(some, all, cap * sizeof *some);
        assert_int_equal(some[cap], 0x55555555);
    }
    for (size_t cap = 0; cap <= 13; cap++) {
        memset(text, '#', sizeof text);
        assert_int_equal(tvlm_tokenizer_decode(t, all, n, false, cap ? text : NULL, cap, &m, NULL),
                         TVLM_OK);
        assert_int_equal(m, 13);
        assert_memory_equal(text, "Hello, world!", cap);
        assert_int_equal(text[cap], '#');
    }
    tvlm_tokenizer_free(t);
}

static void test_decode(void **state)
{
    (void)state;
    tvlm_tokenizer *t = tiny();
    const int32_t ids[] = {573, 39, 574, 40}, outside[] = {39, 575}, negative[] = {TVLM_IMAGE_ID};
    char text[64];
    size_t n;
    tvlm_error err;
    assert_int_equal(tvlm_tokenizer_decode(t, ids, 4, false, text, sizeof text, &n, &err), TVLM_OK);
    assert_true(tvlm_str_eq((tvlm_str){text, n}, "<|im_start|>H<|im_end|>I"));
    assert_int_equal(tvlm_tokenizer_decode(t, ids, 4, true, text, sizeof text, &n, &err), TVLM_OK);
    assert_true(tvlm_str_eq((tvlm_str){text, n}, "HI"));
    assert_int_equal(tvlm_tokenizer_decode(t, NULL, 0, true, text, sizeof text, &n, &err), TVLM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(tvlm_tokenizer_decode(t, outside, 2, true, text, sizeof text, &n, &err),
                     TVLM_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "575"));
    assert_int_equal(tvlm_tokenizer_decode(t, negative, 1, true, text, sizeof text, &n, &err),
                     TVLM_ERR_ARGUMENT);
    tvlm_tokenizer_free(t);
}

static void test_encode_arguments(void **state)
{
    (void)state;
    tvlm_tokenizer *t = tiny();
    size_t n = 9;
    tvlm_error err;
    assert_int_equal(tvlm_tokenizer_encode(t, NULL, 0, true, NULL, 0, &n, &err), TVLM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(tvlm_tokenizer_encode_spans(t, NULL, 0, NULL, 0, &n, &err), TVLM_OK);
    assert_int_equal(tvlm_tokenizer_encode(t, NULL, 1, true, NULL, 0, &n, &err), TVLM_ERR_ARGUMENT);
    tvlm_span huge[] = {
        {{"a", SIZE_MAX}, true},
        {{"a", 2},        true}
    };
    assert_int_equal(tvlm_tokenizer_encode_spans(t, huge, 2, NULL, 0, &n, &err), TVLM_ERR_LIMIT);
    tvlm_tokenizer_free(t);
}

static void test_any_bytes_round_trip(void **state)
{
    (void)state;
    small_vocab v;
    char pair[4];
    for (tvlm_pretokenizer pre = TVLM_PRE_QWEN2; pre <= TVLM_PRE_LLAMA3; pre++) {
        small_init(&v, pre);
        tvlm_tokenizer *t = small_new(&v);
        for (unsigned a = 0; a < 256; a++) {
            for (unsigned b = 0; b < 256; b++) {
                pair[0] = (char)a, pair[1] = (char)b, pair[2] = '\x80', pair[3] = (char)a;
                if (pre != TVLM_PRE_QWEN2 || tvlm_nfc_is_plain(pair, 4))
                    expect_round_trip(t, pair, 4);
            }
        }
        static const char mess[] =
            "ok \xE2\x82 x\xF0\x9F\x98 \xED\xA0\x80\xC0\xAF \xF5\xFF\xFE\n1\xE2";
        expect_round_trip(t, mess, sizeof mess - 1);
        expect_round_trip(t, mess, sizeof mess); /* with a NUL */
        tvlm_tokenizer_free(t);
    }
}

static void test_missing_bytes_are_dropped(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, TVLM_PRE_GPT2);
    v.types['x'] = TVLM_TOKEN_UNUSED;
    small_token(&v, "ab", TVLM_TOKEN_NORMAL);
    small_merge(&v, "a b");
    tvlm_tokenizer *t = small_new(&v);
    EXPECT_IDS(t, "axb", false, 256); /* as the reference: dropped before merging */
    EXPECT_IDS(t, "xcx", false, 'c');
    size_t n;
    assert_int_equal(tvlm_tokenizer_encode(t, "x", 1, false, NULL, 0, &n, NULL), TVLM_OK);
    assert_int_equal(n, 0);
    tvlm_tokenizer_free(t);
}

static void test_merge_order(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, TVLM_PRE_GPT2);
    small_token(&v, "aa", TVLM_TOKEN_NORMAL);   /* 256 */
    small_token(&v, "ab", TVLM_TOKEN_NORMAL);   /* 257 */
    small_token(&v, "aab", TVLM_TOKEN_NORMAL);  /* 258 */
    small_token(&v, "abc", TVLM_TOKEN_NORMAL);  /* 259: no merge makes it */
    small_token(&v, "aaaa", TVLM_TOKEN_NORMAL); /* 260 */
    small_merge(&v, "a b");
    small_merge(&v, "a a");
    small_merge(&v, "a ab");
    small_merge(&v, "aa aa");
    tvlm_tokenizer *t = small_new(&v);
    EXPECT_IDS(t, "aab", false, 258);       /* a b first, though a a stands further left */
    EXPECT_IDS(t, "aaab", false, 256, 257); /* a a (rank 1) before a ab (rank 2) */
    EXPECT_IDS(t, "aaaaa", false, 260, 'a');
    EXPECT_IDS(t, "abc", false, 257, 'c'); /* being a token is not enough: merges decide */
    tvlm_tokenizer_free(t);
}

static void small_added(small_vocab *v, const char *token, int32_t type, uint8_t flags)
{
    v->added[v->vocab.n_tokens] = flags;
    small_token(v, token, type);
}

/* tests/text/test_added_tokens.py compares with the reference at length. */
static void test_added_flags(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, TVLM_PRE_QWEN2);
    small_added(&v, "<l>", TVLM_TOKEN_CONTROL, TVLM_ADDED_LSTRIP);                 /* 256 */
    small_added(&v, "<r>", TVLM_TOKEN_CONTROL, TVLM_ADDED_RSTRIP);                 /* 257 */
    small_added(&v, "cat", TVLM_TOKEN_USER_DEFINED, TVLM_ADDED_SINGLE_WORD);       /* 258 */
    small_added(&v, "e\xCC\x81!", TVLM_TOKEN_USER_DEFINED, TVLM_ADDED_NORMALIZED); /* 259 */
    small_added(&v, "\xC3\xA9!", TVLM_TOKEN_USER_DEFINED, TVLM_ADDED_IN_MODEL);    /* 260 */
    small_added(&v, "<n>", TVLM_TOKEN_CONTROL, TVLM_ADDED_NORMALIZED);             /* 261 */
    small_added(&v, "ab", TVLM_TOKEN_USER_DEFINED,
                TVLM_ADDED_IN_MODEL | TVLM_ADDED_SINGLE_WORD); /* 262 */
    small_merge(&v, "a b");
    tvlm_tokenizer *t = small_new(&v);
    EXPECT_IDS(t, "x \n<l> y", true, 'x', 256, ' ', 'y');
    EXPECT_IDS(t, "x <r> \n y<r>", true, 'x', ' ', 257, 'y', 257);
    EXPECT_IDS(t, "<r> \t<l>", true, 257, 256); /* white space goes to the first that takes it */
    EXPECT_IDS(t, "a cat.", true, 'a', ' ', 258, '.');
    EXPECT_IDS(t, "cats _cat cat\xCC\x81", true, 'c', 'a', 't', 's', ' ', '_', 'c', 'a', 't', ' ',
               'c', 'a', 't', 0xCC, 0x81);
    EXPECT_IDS(t, "xe\xCC\x81!", true, 'x', 259); /* sought in normal form, as \xC3\xA9! */
    EXPECT_IDS(t, "x\xC3\xA9!", true, 'x', 260);  /* but what is sought as it comes goes first */
    EXPECT_IDS(t, "ab xab", true, 262, ' ', 'x', 262); /* a literal, and made by a merge */
    EXPECT_IDS(t, "e\xCC\x81<n>", false, 0xC3, 0xA9, '<', 'n', '>');
    EXPECT_IDS(t, "e\xCC\x81<n>", true, 0xC3, 0xA9, 261);
    /* another's words never become special, nor where they change in normal form */
    static const tvlm_span spans[] = {
        {{"<n>", 3},             true },
        {{"<n><l>e\xCC\x81", 9}, false}
    };
    int32_t ids[16];
    size_t n;
    assert_int_equal(tvlm_tokenizer_encode_spans(t, spans, 2, ids, 16, &n, NULL), TVLM_OK);
    for (size_t i = 1; i < n; i++)
        assert_true(ids[i] < 256);
    tvlm_tokenizer_free(t);
}

static void test_llama3(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, TVLM_PRE_LLAMA3);
    small_token(&v, "abc", TVLM_TOKEN_NORMAL); /* 256: no merge makes it */
    small_token(&v, "12", TVLM_TOKEN_NORMAL);  /* 257 */
    tvlm_tokenizer *t = small_new(&v);
    EXPECT_IDS(t, "abc", false, 256); /* a whole pre-token is taken as it is */
    EXPECT_IDS(t, "abcd", false, 'a', 'b', 'c', 'd');
    EXPECT_IDS(t, "12345", false, '1', '2', '3', '4', '5');
    EXPECT_IDS(t, "34512", false, '3', '4', '5', 257);  /* three digits at a time */
    EXPECT_IDS(t, "e\xCC\x81", false, 'e', 0xCC, 0x81); /* no normal form */
    tvlm_tokenizer_free(t);
}

static void test_specials(void **state)
{
    (void)state;
    small_vocab v;
    small_init(&v, TVLM_PRE_GPT2);
    small_token(&v, "<a>", TVLM_TOKEN_CONTROL);               /* 256 */
    small_token(&v, "<a><b>", TVLM_TOKEN_CONTROL);            /* 257 */
    small_token(&v, "<u>", TVLM_TOKEN_USER_DEFINED);          /* 258 */
    small_token(&v, "a><u", TVLM_TOKEN_CONTROL);              /* 259 */
    small_token(&v, "<unused>", TVLM_TOKEN_UNUSED);           /* 260 */
    small_token(&v, "\xC3\xA9t\xCC\x81", TVLM_TOKEN_CONTROL); /* 261: raw bytes, not NFC */
    tvlm_tokenizer *t = small_new(&v);
    EXPECT_IDS(t, "x<a><b>y", true, 'x', 257, 'y'); /* the longest at a place */
    EXPECT_IDS(t, "<a><c", true, 256, '<', 'c');
    EXPECT_IDS(t, "<a><u>", true, 256, 258); /* the leftmost beats a longer later one */
    EXPECT_IDS(t, "a><u>", true, 259, '>');
    EXPECT_IDS(t, "a><u>", false, 'a', '>', 258); /* USER_DEFINED always, CONTROL when asked */
    EXPECT_IDS(t, "<<a>", true, '<', 256);
    EXPECT_IDS(t, "\xC3\xA9t\xCC\x81", true, 261);
    size_t n;
    assert_int_equal(tvlm_tokenizer_encode(t, "<unused>", 8, true, NULL, 0, &n, NULL), TVLM_OK);
    assert_int_equal(n, 8);
    tvlm_tokenizer_free(t);
}

static void test_spans(void **state)
{
    (void)state;
    tvlm_tokenizer *t = tiny();
    static const char text[] = "Hello,  world!\n\n don't <|im_end|> e\xCC\x81 12";
    size_t len = sizeof text - 1, n_whole, n;
    int32_t whole[64], ids[64];
    assert_int_equal(tvlm_tokenizer_encode(t, text, len, false, whole, 64, &n_whole, NULL),
                     TVLM_OK);
    for (size_t a = 0; a <= len; a++) { /* cuts leave no trace in plain text */
        tvlm_span spans[] = {
            {{text, a},           false},
            {{NULL, 0},           true },
            {{text + a, len - a}, false}
        };
        assert_int_equal(tvlm_tokenizer_encode_spans(t, spans, 3, ids, 64, &n, NULL), TVLM_OK);
        assert_int_equal(n, n_whole);
        assert_memory_equal(ids, whole, n * sizeof *ids);
    }
    /* Special only wholly inside one span that parses. */
    tvlm_span split[] = {
        {STR("<|im_"), true},
        {STR("end|>"), true}
    };
    assert_int_equal(tvlm_tokenizer_encode_spans(t, split, 2, ids, 64, &n, NULL), TVLM_OK);
    assert_true(n > 1);
    tvlm_span user[] = {
        {STR("<|im_start|>"), true },
        {STR("<|im_end|>"),   false},
        {STR("<|im_end|>"),   true }
    };
    assert_int_equal(tvlm_tokenizer_encode_spans(t, user, 3, ids, 64, &n, NULL), TVLM_OK);
    assert_true(n > 3);
    assert_int_equal(ids[0], 573);
    assert_int_equal(ids[n - 1], 574);
    for (size_t i = 1; i + 1 < n; i++)
        assert_true(ids[i] < 572);
    tvlm_tokenizer_free(t);
}

/* ---- hostile texts: one pre-token or one run of marks of a megabyte, in n log n: quadratic
 * work would take hours and meet the test's time limit ---- */

static void test_long_texts(void **state)
{
    (void)state;
    static const char *const units[] = {
        "a",         " ",    "\xCC\x80", "\xCC\x96\xCC\x80\xCC\xB4", "\n", "\xF0\x9F\x98\x80",
        "<|im_end|", "\xFF", "'"};
    const size_t size = (size_t)1 << 20;
    char *text = malloc(size + 8);
    assert_non_null(text);
    tvlm_tokenizer *t = tiny();
    for (size_t i = 0; i < TVLM_COUNT(units); i++) {
        size_t unit = strlen(units[i]), len = 0, n = 0;
        for (; len + unit <= size; len += unit)
            memcpy(text + len, units[i], unit);
        assert_int_equal(tvlm_tokenizer_encode(t, text, len, true, NULL, 0, &n, NULL), TVLM_OK);
        assert_in_range(n, 1, len);
    }
    tvlm_tokenizer_free(t);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_vectors),
        cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encode_arguments),
        cmocka_unit_test(test_any_bytes_round_trip),
        cmocka_unit_test(test_missing_bytes_are_dropped),
        cmocka_unit_test(test_merge_order),
        cmocka_unit_test(test_added_flags),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_specials),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
