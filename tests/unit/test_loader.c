/* SPDX-License-Identifier: MIT
 * GGUF and the loader on a small model written here: round trip, bytes in any pieces, every cut,
 * every lie, damaged weights. */
#include "convert/gguf_write.h"
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tiny_model.h"

#define PATH        TVLM_BUILD_DIR "/loader-test.gguf"
#define UNUSED_PATH TVLM_BUILD_DIR "/loader-unused.gguf"

enum { D = 32, FF = 64, VOCAB = 260 };

static tvlm_error err;
static unsigned char *file;
static size_t file_size;

#define OK(expr)                                                                                   \
    do {                                                                                           \
        if ((expr) != TVLM_OK) fail_msg("%s: %s", #expr, err.message);                             \
    } while (0)

static const struct {
    const char *name;
    tvlm_type type;
    uint64_t shape[2];
    uint32_t n_dims;
} tensors[] = {
    {"token_embd.weight",        TVLM_TYPE_Q8_0, {VOCAB, D}, 2},
    {"blk.0.attn_norm.weight",   TVLM_TYPE_F32,  {D},        1},
    {"blk.0.attn_q.weight",      TVLM_TYPE_Q4_0, {D, D},     2},
    {"blk.0.attn_k.weight",      TVLM_TYPE_F16,  {D, D},     2},
    {"blk.0.attn_v.weight",      TVLM_TYPE_BF16, {D, D},     2},
    {"blk.0.attn_output.weight", TVLM_TYPE_F32,  {D, D},     2},
    {"blk.0.ffn_norm.weight",    TVLM_TYPE_F32,  {D},        1},
    {"blk.0.ffn_gate.weight",    TVLM_TYPE_F32,  {FF, D},    2},
    {"blk.0.ffn_up.weight",      TVLM_TYPE_F32,  {FF, D},    2},
    {"blk.0.ffn_down.weight",    TVLM_TYPE_F32,  {D, FF},    2},
    {"output_norm.weight",       TVLM_TYPE_F32,  {D},        1},
};

static void put_tokens(tvlm_gguf_writer *w)
{
    static char text[VOCAB][8];
    tvlm_str tokens[VOCAB];
    for (int i = 0; i < VOCAB; i++) { /* GPT-2's alphabet: printable bytes stand for themselves */
        bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || (i >= 174 && i <= 255);
        static int moved;
        unsigned c = plain ? (unsigned)i : 256u + (unsigned)moved;
        if (i == 0) moved = 0, c = 256;
        if (!plain && i < 256) moved++;
        if (i >= 256)
            snprintf(text[i], sizeof text[i], "<x%d>", i);
        else if (c < 128)
            snprintf(text[i], sizeof text[i], "%c", (int)c);
        else
            snprintf(text[i], sizeof text[i], "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 63)));
        tokens[i] = (tvlm_str){text[i], strlen(text[i])};
    }
    OK(tvlm_gguf_put_string_array(w, "tokenizer.ggml.tokens", tokens, VOCAB, &err));
}

static int write_model(void **state)
{
    (void)state;
    tvlm_gguf_writer *w;
    OK(tvlm_gguf_writer_new(PATH, NULL, &w, &err));
    OK(tvlm_gguf_put_string(w, "general.architecture", (tvlm_str){"llama", 5}, &err));
    OK(tvlm_gguf_put_u32(w, "llama.block_count", 1, &err));
    OK(tvlm_gguf_put_u32(w, "llama.embedding_length", D, &err));
    OK(tvlm_gguf_put_u32(w, "llama.feed_forward_length", FF, &err));
    OK(tvlm_gguf_put_u32(w, "llama.attention.head_count", 2, &err));
    OK(tvlm_gguf_put_u32(w, "llama.context_length", 64, &err));
    OK(tvlm_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err));
    OK(tvlm_gguf_put_string(w, "tokenizer.ggml.model", (tvlm_str){"gpt2", 4}, &err));
    OK(tvlm_gguf_put_string(w, "tokenizer.ggml.pre", (tvlm_str){"gpt-2", 5}, &err));
    put_tokens(w);
    for (size_t i = 0; i < TVLM_COUNT(tensors); i++)
        OK(tvlm_gguf_declare(w, tensors[i].name, tensors[i].type, tensors[i].shape,
                             tensors[i].n_dims, &err));
    srand(3);
    for (size_t i = 0; i < TVLM_COUNT(tensors); i++) {
        size_t n = (size_t)tensors[i].shape[0] *
                   (tensors[i].n_dims == 2 ? (size_t)tensors[i].shape[1] : 1);
        float *x = malloc(n * sizeof *x);
        unsigned char *bytes = malloc(n * sizeof *x);
        for (size_t k = 0; k < n; k++)
            x[k] = (float)rand() / (float)RAND_MAX - 0.5f;
        assert_true(tvlm_quantize(tensors[i].type, x, bytes, n));
        size_t size = n / tvlm_type_block(tensors[i].type) * tvlm_type_block_bytes(tensors[i].type);
        OK(tvlm_gguf_write_tensor(w, bytes, size, &err));
        free(x);
        free(bytes);
    }
    OK(tvlm_gguf_writer_finish(w, NULL, NULL, &err));
    FILE *f = fopen(PATH, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    file_size = (size_t)ftell(f);
    rewind(f);
    file = malloc(file_size);
    assert_int_equal(fread(file, 1, file_size, f), file_size);
    fclose(f);
    return 0;
}

static int forget_model(void **state)
{
    (void)state;
    free(file);
    return remove(PATH);
}

static void round_trip(void **state)
{
    (void)state;
    tvlm_gguf g;
    bool complete;
    uint32_t d = 0;
    OK(tvlm_gguf_parse(file, file_size, &g, &complete, &err));
    assert_true(complete && g.has_crc);
    assert_int_equal(g.alignment, 64);
    assert_int_equal(g.n_tensors, TVLM_COUNT(tensors));
    OK(tvlm_gguf_u32(&g, "llama.embedding_length", true, &d, &err));
    assert_int_equal(d, D);
    for (size_t i = 0; i < g.n_tensors; i++) {
        const tvlm_gguf_tensor *t = &g.tensors[i];
        assert_true(tvlm_str_eq(t->name, tensors[i].name));
        assert_int_equal(t->type, tensors[i].type);
        assert_int_equal(t->shape[0], tensors[i].shape[0]);
        assert_int_equal(t->offset % 64, 0);
        assert_int_equal(tvlm_crc32c(0, file + t->offset, (size_t)t->size), t->crc32c);
    }
    assert_int_equal(tvlm_gguf_u32(&g, "no.such.key", true, &d, &err), TVLM_ERR_FORMAT);
    assert_string_equal(err.message, "key 'no.such.key' is missing");
    assert_int_equal(tvlm_gguf_u32(&g, "general.architecture", true, &d, &err), TVLM_ERR_FORMAT);
    tvlm_gguf_free(&g);
}

/* A header that is refused leaves no model to ask. */
static void refused_header_has_no_model(void **state)
{
    (void)state;
    static const char key[] = "llama.embedding_length";
    char *bytes = malloc(file_size);
    assert_non_null(bytes);
    memcpy(bytes, file, file_size);
    size_t at = 0;
    while (memcmp(bytes + at, key, sizeof key - 1) != 0)
        at++;
    bytes[at] = 'x';
    tvlm_loader *l;
    OK(tvlm_loader_new(NULL, &l, &err));
    assert_int_equal(tvlm_loader_feed(l, bytes, file_size, &err), TVLM_ERR_FORMAT);
    assert_string_equal(err.message, "key 'llama.embedding_length' is missing");
    assert_null(tvlm_loader_model(l));
    tvlm_loader_free(l);
    free(bytes);
}

/* Pieces of any size place the same weights; stages come in order. */
static void any_pieces(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 7, 4096};
    tvlm_model *whole;
    OK(tvlm_model_open(PATH, NULL, &whole, &err));
    for (size_t i = 0; i < TVLM_COUNT(pieces); i++) {
        tvlm_loader *l;
        tvlm_model *m;
        int last = TVLM_STAGE_NONE;
        OK(tvlm_loader_new(NULL, &l, &err));
        for (size_t at = 0; at < file_size; at += pieces[i]) {
            size_t n = file_size - at < pieces[i] ? file_size - at : pieces[i];
            OK(tvlm_loader_feed(l, file + at, n, &err));
            int stage = tvlm_loader_model(l) ? (int)tvlm_model_stage(tvlm_loader_model(l)) : 0;
            assert_true(stage >= last);
            if (at + n < file_size - 64) assert_true(stage < TVLM_STAGE_DECODER);
            last = stage;
        }
        assert_int_equal(last, TVLM_STAGE_DECODER);
        OK(tvlm_loader_finish(l, &m, &err));
        assert_int_equal(m->block_size, whole->block_size);
        assert_memory_equal(m->block, whole->block, m->block_size);
        tvlm_model_free(m);
    }
    tvlm_model_free(whole);
}

static void every_cut_is_an_error(void **state)
{
    (void)state;
    tvlm_model *m;
    size_t data_end = file_size - 64; /* the last tensor, 128 bytes, reaches beyond this */
    for (size_t n = 1; n < data_end; n += n < 9000 ? 1 : 97) {
        unsigned char *exact = malloc(n);
        memcpy(exact, file, n);
        assert_int_not_equal(tvlm_model_open_memory(exact, n, NULL, &m, &err), TVLM_OK);
        assert_null(m);
        assert_true(err.message[0] != 0);
        free(exact);
    }
    assert_int_equal(tvlm_model_open_memory(file, data_end, NULL, &m, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "truncated"));
}

/* A flipped bit anywhere in a tensor is caught, and the tensor named. */
static void damage_is_caught(void **state)
{
    (void)state;
    tvlm_gguf g;
    tvlm_model *m;
    bool complete;
    OK(tvlm_gguf_parse(file, file_size, &g, &complete, &err));
    for (size_t i = 0; i < g.n_tensors; i++) {
        size_t at = (size_t)(g.tensors[i].offset + g.tensors[i].size * i / g.n_tensors);
        file[at] ^= 1u << i % 8;
        assert_int_equal(tvlm_model_open_memory(file, file_size, NULL, &m, &err),
                         TVLM_ERR_CHECKSUM);
        assert_non_null(strstr(err.message, tensors[i].name));
        file[at] ^= 1u << i % 8;
    }
    OK(tvlm_model_open_memory(file, file_size, NULL, &m, &err));
    tvlm_model_free(m);
    tvlm_gguf_free(&g);
}

static unsigned char *find(const char *text)
{
    for (size_t i = 0; i + strlen(text) < file_size; i++)
        if (!memcmp(file + i, text, strlen(text))) return file + i;
    fail_msg("%s is not in the file", text);
    return NULL;
}

/* Overwrites bytes behind a name, expects the error to say `says`, and restores them. */
static void lie(const char *name, size_t after, uint64_t value, size_t bytes, const char *says)
{
    unsigned char *at = find(name) + strlen(name) + after, saved[8];
    tvlm_model *m;
    memcpy(saved, at, bytes);
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
    assert_int_not_equal(tvlm_model_open_memory(file, file_size, NULL, &m, &err), TVLM_OK);
    if (!strstr(err.message, says)) fail_msg("'%s' does not say '%s'", err.message, says);
    memcpy(at, saved, bytes);
}

static void lies_are_named(void **state)
{
    (void)state;
    lie("GGUF", 0, 2, 4, "version 2");
    lie("GGUF", 0, 0x03000000, 4, "big-endian");
    lie("GGUF", 4, UINT64_MAX, 8, "tensors");
    lie("llama.block_count", 4, 0, 4, "llama.block_count");
    lie("llama.block_count", 4, 2, 4, "blk.1.attn_norm.weight");
    lie("llama.attention.head_count", 4, 3, 4, "head");
    lie("llama.embedding_length", 4, 64, 4,
        "tensor 'token_embd.weight': shape [260,32], expected [260,64]");
    lie("llama.attention.layer_norm_rms_epsilon", 4, 0x7fc00000, 4, "epsilon");
    lie("tokenizer.ggml.tokens", 8, UINT64_MAX, 8, "tokenizer.ggml.tokens");
    lie("blk.0.attn_q.weight", 0, 9, 4, "dimensions");
    lie("blk.0.attn_q.weight", 4, 0, 8, "blk.0.attn_q.weight");
    lie("blk.0.attn_q.weight", 4, UINT64_MAX / 2, 8, "blk.0.attn_q.weight");
    lie("blk.0.attn_q.weight", 20, 12, 4, "blk.0.attn_q.weight"); /* Q4_K: 256 does not divide 32 */
    lie("blk.0.attn_q.weight", 20, 99, 4, "type 99");
    lie("blk.0.attn_q.weight", 24, 0, 8, "overlaps");
    lie("blk.0.attn_q.weight", 24, 1, 8, "offset");
    lie("blk.0.attn_q.weight", 24, UINT64_MAX, 8, "offset");
}

/* A cut inside a tensor that the model does not use is a cut all the same. */
static void unused_tensors_are_read_too(void **state)
{
    (void)state;
    static tiny t = {.arch = "llama",
                     .layers = 1,
                     .d = 32,
                     .ff = 32,
                     .heads = 2,
                     .kv_heads = 2,
                     .head_dim = 16,
                     .ctx = 16,
                     .vocab = TINY_TOKENS,
                     .theta = 1e4,
                     .eps = 1e-5f,
                     .tied = true,
                     .random = 1};
    tvlm_gguf g;
    tvlm_model *m;
    bool complete;
    unsigned char data[200000];
    tiny_decoder(&t);
    tiny_vector(&t, "unused", 64, 0.0f);
    tiny_write(&t, UNUSED_PATH, NULL);
    tiny_free(&t);
    FILE *f = fopen(UNUSED_PATH, "rb");
    assert_non_null(f);
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    remove(UNUSED_PATH);
    OK(tvlm_gguf_parse(data, size, &g, &complete, &err));
    size_t end = (size_t)g.file_size;
    assert_true(end <= size && tvlm_str_eq(g.tensors[g.n_tensors - 1].name, "unused"));
    tvlm_gguf_free(&g);
    OK(tvlm_model_open_memory(data, end, NULL, &m, &err));
    tvlm_model_free(m);
    assert_int_equal(tvlm_model_open_memory(data, end - 1, NULL, &m, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "truncated"));
    assert_null(m);
    data[end - 1] ^= 1;
    assert_int_equal(tvlm_model_open_memory(data, end, NULL, &m, &err), TVLM_ERR_CHECKSUM);
}

static void limits(void **state)
{
    (void)state;
    tvlm_model *m;
    tvlm_model_params p;
    tvlm_memory memory;
    tvlm_model_params_init(&p);
    p.max_memory = 1000;
    assert_int_equal(tvlm_model_open(PATH, &p, &m, &err), TVLM_ERR_LIMIT);
    assert_non_null(strstr(err.message, PATH));
    p.max_memory = 0;
    p.header_only = true;
    OK(tvlm_model_open(PATH, &p, &m, &err));
    assert_int_equal(tvlm_model_stage(m), TVLM_STAGE_HEADER);
    OK(tvlm_memory_estimate(m, NULL, NULL, &memory, &err));
    tvlm_engine *engine;
    assert_int_equal(tvlm_engine_new(m, NULL, &engine, &err), TVLM_ERR_STATE);
    tvlm_model_free(m);
    m = (tvlm_model *)&p; /* not left as it was */
    assert_int_equal(tvlm_model_open_memory(NULL, 0, NULL, &m, &err), TVLM_ERR_ARGUMENT);
    assert_null(m);
    p.header_only = false;
    p.cpu = "quantum";
    assert_int_equal(tvlm_model_open(PATH, &p, &m, &err), TVLM_ERR_UNSUPPORTED);
    assert_int_equal(tvlm_model_open("/no/such/file", NULL, &m, &err), TVLM_ERR_IO);
    assert_non_null(strstr(err.message, "/no/such/file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(refused_header_has_no_model),
        cmocka_unit_test(any_pieces),
        cmocka_unit_test(every_cut_is_an_error),
        cmocka_unit_test(damage_is_caught),
        cmocka_unit_test(lies_are_named),
        cmocka_unit_test(unused_tensors_are_read_too),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}
