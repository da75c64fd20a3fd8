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

#include "check.h"
#include "tiny_model.h"

#define PATH       TVLM_BUILD_DIR "/loader-test.gguf"
#define OTHER_PATH TVLM_BUILD_DIR "/loader-other.gguf"

enum { D = 32, FF = 64, VOCAB = 260 };

static tvlm_error err;
static unsigned char *file;
static size_t file_size;

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

static void put_tokens(tvlmc_gguf_writer *w)
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
    OK(tvlmc_gguf_put_string_array(w, "tokenizer.ggml.tokens", tokens, VOCAB, &err));
}

static int write_model(void **state)
{
    (void)state;
    tvlmc_gguf_writer *w;
    OK(tvlmc_gguf_writer_new(PATH, NULL, &w, &err));
    OK(tvlmc_gguf_put_string(w, "general.architecture", (tvlm_str){"llama", 5}, &err));
    OK(tvlmc_gguf_put_u32(w, "llama.block_count", 1, &err));
    OK(tvlmc_gguf_put_u32(w, "llama.embedding_length", D, &err));
    OK(tvlmc_gguf_put_u32(w, "llama.feed_forward_length", FF, &err));
    OK(tvlmc_gguf_put_u32(w, "llama.attention.head_count", 2, &err));
    OK(tvlmc_gguf_put_u32(w, "llama.context_length", 64, &err));
    OK(tvlmc_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err));
    OK(tvlmc_gguf_put_string(w, "tokenizer.ggml.model", (tvlm_str){"gpt2", 4}, &err));
    OK(tvlmc_gguf_put_string(w, "tokenizer.ggml.pre", (tvlm_str){"gpt-2", 5}, &err));
    put_tokens(w);
    for (size_t i = 0; i < TVLM_COUNT(tensors); i++)
        OK(tvlmc_gguf_declare(w, tensors[i].name, tensors[i].type, tensors[i].shape,
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
        OK(tvlmc_gguf_write_tensor(w, bytes, size, &err));
        free(x);
        free(bytes);
    }
    OK(tvlmc_gguf_writer_finish(w, NULL, NULL, &err));
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
    tvlm_model_params p;
    tvlm_model_params_init(&p, sizeof p);
    p.skip_checksums = true;
    OK(tvlm_loader_new(&p, &l, &err));
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
    tvlm_gguf g; /* the padding behind the last tensor may be missing, nothing of it */
    bool complete;
    OK(tvlm_gguf_parse(file, file_size, &g, &complete, &err));
    IS(FORMAT, tvlm_model_open_memory(file, (size_t)g.file_size - 1, NULL, &m, &err));
    SAYS("truncated");
    OK(tvlm_model_open_memory(file, (size_t)g.file_size, NULL, &m, &err));
    tvlm_model_free(m);
    tvlm_gguf_free(&g);
}

/* A stream that ends one byte too soon. */
static void every_byte_of_a_stream_is_needed(void **state)
{
    (void)state;
    tvlm_gguf g;
    tvlm_loader *l;
    tvlm_model *m;
    bool complete;
    OK(tvlm_gguf_parse(file, file_size, &g, &complete, &err));
    size_t end = (size_t)g.file_size;
    tvlm_gguf_free(&g);
    OK(tvlm_loader_new(NULL, &l, &err));
    OK(tvlm_loader_feed(l, file, end - 1, &err));
    IS(FORMAT, tvlm_loader_finish(l, &m, &err));
    SAYS("truncated");
    assert_null(m);
    tvlm_loader_free(l);
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

/* Every bit of the header and of the padding, and some of every tensor. */
static void every_flip_is_refused(void **state)
{
    (void)state;
    tvlm_gguf g;
    tvlm_model *m;
    bool complete;
    OK(tvlm_gguf_parse(file, file_size, &g, &complete, &err));
    size_t header = (size_t)g.data_offset, tensor = 0, flips = 0;
    assert_true(g.header_crc_at > 0 && g.header_crc_at < header);
    for (size_t at = 0; at < file_size; at++) {
        const tvlm_gguf_tensor *t = &g.tensors[tensor];
        bool inside = at >= t->offset && at < t->offset + t->size;
        for (unsigned bit = 0; bit < 8; bit++) {
            if (inside && (at * 8 + bit) % 997) continue;
            file[at] ^= (unsigned char)(1u << bit);
            tvlm_status status = tvlm_model_open_memory(file, file_size, NULL, &m, &err);
            if (!status) fail_msg("bit %u of byte %zu of %zu", bit, at, file_size);
            file[at] ^= (unsigned char)(1u << bit);
            flips++;
        }
        tensor += at + 1 == t->offset + t->size && tensor + 1 < g.n_tensors;
    }
    assert_true(flips > 8 * header);
    tvlm_gguf_free(&g);
    OK(tvlm_model_open_memory(file, file_size, NULL, &m, &err));
    tvlm_model_free(m);
}

static unsigned char *find_key(unsigned char *bytes, size_t size, const char *key)
{
    for (size_t i = 0; i + strlen(key) < size; i++)
        if (!memcmp(bytes + i, key, strlen(key))) return bytes + i;
    return NULL;
}

/* The keys get other names. */
static void drop_header_checksum(unsigned char *bytes, size_t size)
{
    static const char *const keys[] = {"tinyvlm.file_version", "tinyvlm.header_crc32c"};
    for (size_t k = 0; k < 2; k++) {
        unsigned char *at = find_key(bytes, size, keys[k]);
        if (at) *at = 'X';
    }
}

static unsigned char *without_header_checksum(void)
{
    unsigned char *copy = malloc(file_size);
    assert_non_null(copy);
    memcpy(copy, file, file_size);
    drop_header_checksum(copy, file_size);
    return copy;
}

/* Those of others, and of this program before file version 2. */
static void files_without_a_header_checksum_load(void **state)
{
    (void)state;
    tvlm_model *m;
    unsigned char *copy = without_header_checksum();
    OK(tvlm_model_open_memory(copy, file_size, NULL, &m, &err));
    assert_int_equal(m->gguf.header_crc_at, 0);
    tvlm_model_free(m);
    *find_key(copy, file_size, "Xinyvlm.file_version") = 't'; /* it alone asks for a checksum */
    assert_int_equal(tvlm_model_open_memory(copy, file_size, NULL, &m, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "tinyvlm.header_crc32c"));
    free(copy);
}

static void every_bit_of_a_checksum_counts(void **state)
{
    (void)state;
    tvlm_model *m;
    unsigned char *copy = without_header_checksum(), *crc = NULL;
    static const char key[] = "tinyvlm.tensor_crc32c";
    crc = find_key(copy, file_size, key);
    assert_non_null(crc);
    crc += sizeof key - 1 + 16; /* behind its type, its elements' and their number */
    for (size_t bit = 0; bit < 32 * TVLM_COUNT(tensors); bit += 1 + bit / 32 % 3) {
        crc[bit / 8] ^= (unsigned char)(1u << bit % 8);
        IS(CHECKSUM, tvlm_model_open_memory(copy, file_size, NULL, &m, &err));
        crc[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    OK(tvlm_model_open_memory(copy, file_size, NULL, &m, &err));
    tvlm_model_free(m);
    free(copy);
}

/* The file `name` of the corpus, which is changed then: without its header's checksum. */
static unsigned char *read_corpus(const char *name, size_t *size)
{
    static unsigned char bytes[1 << 18];
    char path[512];
    snprintf(path, sizeof path, TVLM_TEST_DATA "/../fuzz/corpus/gguf/%s.gguf", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    *size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(*size < sizeof bytes);
    drop_header_checksum(bytes, *size);
    return bytes;
}

/* The tokens that images of several frames are written with. */
static void a_frame_without_its_token_is_refused(void **state)
{
    (void)state;
    static const char *const needed[] = {"<fake_token_around_image>", "<global-img>",
                                         "<row_1_col_1>", "<row_2_col_2>"};
    size_t size;
    tvlm_model *m;
    unsigned char *bytes = read_corpus("smolvlm", &size);
    for (size_t i = 0; i < TVLM_COUNT(needed); i++) {
        unsigned char *at = find_key(bytes, size, needed[i]);
        assert_non_null(at);
        at[1] = 'X';
        IS(UNSUPPORTED, tvlm_model_open_memory(bytes, size, NULL, &m, &err));
        SAYS(needed[i]);
        at[1] = (unsigned char)needed[i][1];
    }
    OK(tvlm_model_open_memory(bytes, size, NULL, &m, &err));
    tvlm_model_free(m);
}

static void heads_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *model, *key;
        unsigned char value;
        const char *says;
    } cases[] = {
        {"fastvlm", "vision.fastvit.head_dim", 24, "16 features are not whole heads of 24"},
        {"fastvlm", "vision.fastvit.head_dim", 32, "16 features are not whole heads of 32"},
        {"tinyvlm", "tinyvlm.pool.head_count", 3,  "head_count': 3 heads of 32 features"  },
        {"tinyvlm", "tinyvlm.pool.head_count", 8,  "head_count': 8 heads of 32 features"  },
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        size_t size;
        tvlm_model *m;
        unsigned char *bytes = read_corpus(cases[i].model, &size),
                      *at = find_key(bytes, size, cases[i].key);
        assert_non_null(at);
        at[strlen(cases[i].key) + 4] = cases[i].value; /* behind its type */
        assert_int_not_equal(tvlm_model_open_memory(bytes, size, NULL, &m, &err), TVLM_OK);
        SAYS(cases[i].says);
    }
}

static void weights_may_take_what_is_allowed(void **state)
{
    (void)state;
    tvlm_model *m;
    tvlm_model_params p;
    unsigned long long bytes = 0, most = 0;
    tvlm_model_params_init(&p, sizeof p);
    p.max_memory = 1;
    IS(LIMIT, tvlm_model_open_memory(file, file_size, &p, &m, &err));
    assert_int_equal(
        sscanf(err.message, "the weights take %llu bytes, the limit is %llu", &bytes, &most), 2);
    assert_true(bytes > 1000 && most == 1);
    p.max_memory = (size_t)bytes - 1;
    IS(LIMIT, tvlm_model_open_memory(file, file_size, &p, &m, &err));
    p.max_memory = (size_t)bytes;
    OK(tvlm_model_open_memory(file, file_size, &p, &m, &err));
    tvlm_model_free(m);
}

static tiny small(const char *arch)
{
    return (tiny){.arch = arch,
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
                  .bias = !strcmp(arch, "qwen2"),
                  .random = 1};
}

/* ---- many threads: a model of 14 shares of the loader ---- */

enum { SHARED_FF = 8192 };

static unsigned char *shared; /* the file's bytes */
static size_t shared_size;

static void write_shared(void)
{
    static tiny t;
    t = small("llama");
    t.ff = SHARED_FF;
    t.d = 40; /* rows of it need padding */
    t.heads = t.kv_heads = 5;
    t.head_dim = 8;
    tiny_decoder(&t);
    tiny_write(&t, OTHER_PATH, NULL);
    tiny_free(&t);
    FILE *f = fopen(OTHER_PATH, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    shared_size = (size_t)ftell(f);
    rewind(f);
    shared = malloc(shared_size);
    assert_true(shared && fread(shared, 1, shared_size, f) == shared_size);
    fclose(f);
}

static void forget_shared(void)
{
    free(shared);
    remove(OTHER_PATH);
}

/* In one piece, on this thread. */
static tvlm_status feed_shared(const tvlm_model_params *p, tvlm_model **out, tvlm_error *why)
{
    tvlm_loader *l;
    *out = NULL;
    OK(tvlm_loader_new(p, &l, &err));
    tvlm_status status = tvlm_loader_feed(l, shared, shared_size, why);
    if (!status) return tvlm_loader_finish(l, out, why);
    tvlm_loader_free(l);
    return status;
}

typedef struct progress {
    uint64_t done;
    unsigned calls;
} progress;

static void move_on(void *user, uint64_t done, uint64_t total)
{
    progress *p = user;
    assert_true(done > p->done && done <= total);
    assert_int_equal(total, shared_size);
    p->done = done;
    p->calls++;
}

/* The same bytes in the block; progress only grows and ends at the end. */
static void any_threads(void **state)
{
    (void)state;
    tvlm_model *alone, *m;
    write_shared();
    OK(feed_shared(NULL, &alone, &err));
    for (unsigned threads = 1; threads <= 5; threads++)
        for (int memory = 0; memory <= 1; memory++) {
            progress seen = {0};
            tvlm_model_params p;
            tvlm_model_params_init(&p, sizeof p);
            p.n_threads = threads;
            p.on_progress = move_on;
            p.user = &seen;
            OK(memory ? tvlm_model_open_memory(shared, shared_size, &p, &m, &err)
                      : tvlm_model_open(OTHER_PATH, &p, &m, &err));
            assert_int_equal(tvlm_model_stage(m), TVLM_STAGE_DECODER);
            assert_int_equal(m->block_size, alone->block_size);
            assert_memory_equal(m->block, alone->block, m->block_size);
            assert_int_equal(seen.done, shared_size);
            assert_true(seen.calls >= 2);
            tvlm_model_free(m);
        }
    tvlm_model_free(alone);
    forget_shared();
}

/* Bytes damaged anywhere: the first in the file's order is told, as by one thread. */
static void damage_is_told_by_any_threads(void **state)
{
    (void)state;
    tvlm_gguf g;
    tvlm_model *m;
    tvlm_model_params p;
    tvlm_error want;
    bool complete;
    tvlm_model_params_init(&p, sizeof p);
    write_shared();
    OK(tvlm_gguf_parse(shared, shared_size, &g, &complete, &err));
    size_t header = (size_t)g.data_offset, named = 0;
    srand(5);
    for (size_t trial = 0; trial < 40; trial++) {
        size_t at[3];
        for (size_t i = 0; i <= trial % 3; i++) {
            const tvlm_gguf_tensor *t = &g.tensors[(trial + i) % g.n_tensors];
            size_t inside = (size_t)rand() % (size_t)t->size;
            at[i] = (size_t)t->offset + (trial & 4 ? inside : trial & 8 ? (size_t)t->size - 1 : 0);
            if (trial % 10 == 9) at[i] = header + (size_t)rand() % (shared_size - header);
            shared[at[i]] ^= 1u << trial % 8;
        }
        assert_int_equal(feed_shared(&p, &m, &want), TVLM_ERR_CHECKSUM);
        for (p.n_threads = 1; p.n_threads <= 3; p.n_threads++) {
            assert_int_equal(tvlm_model_open_memory(shared, shared_size, &p, &m, &err),
                             TVLM_ERR_CHECKSUM);
            assert_null(m);
            assert_string_equal(err.message, want.message);
        }
        for (size_t i = 0; i < g.n_tensors; i++)
            named += strstr(want.message, tvlm_show(g.tensors[i].name).text) != NULL;
        for (size_t i = 0; i <= trial % 3; i++)
            shared[at[i]] ^= 1u << trial % 8;
    }
    assert_true(named >= 30);
    OK(tvlm_model_open_memory(shared, shared_size, &p, &m, &err));
    tvlm_model_free(m);
    tvlm_gguf_free(&g);
    forget_shared();
}

/* A last share without its bytes, and padding that is not zero. */
static void short_files_and_padding_on_threads(void **state)
{
    (void)state;
    tvlm_model *m;
    tvlm_model_params p;
    tvlm_gguf g;
    bool complete;
    tvlm_model_params_init(&p, sizeof p);
    p.n_threads = 3;
    write_shared();
    OK(tvlm_gguf_parse(shared, shared_size, &g, &complete, &err));
    assert_int_equal(tvlm_model_open_memory(shared, (size_t)g.file_size - 1, &p, &m, &err),
                     TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "truncated"));
    size_t paddings = 0;
    for (size_t i = 0; i < g.n_tensors; i++) {
        size_t end = (size_t)(g.tensors[i].offset + g.tensors[i].size);
        size_t next = i + 1 < g.n_tensors ? (size_t)g.tensors[i + 1].offset : shared_size;
        if (end == next) continue;
        shared[next - 1] = 1;
        assert_int_equal(tvlm_model_open_memory(shared, shared_size, &p, &m, &err),
                         TVLM_ERR_CHECKSUM);
        assert_non_null(strstr(err.message, "padding"));
        shared[next - 1] = 0;
        paddings++;
    }
    assert_true(paddings > 0);
    tvlm_gguf_free(&g);
    forget_shared();
}

/* ---- files that change while they are read ---- */

typedef struct cutting {
    const char *path;
    size_t to;
    unsigned calls;
} cutting;

static void cut_while_loading(void *user, uint64_t done, uint64_t total)
{
    cutting *c = user;
    (void)done, (void)total;
    if (c->calls++) return;
    unsigned char *kept = malloc(c->to + 1);
    FILE *f = fopen(c->path, "rb");
    assert_true(kept && f && fread(kept, 1, c->to, f) == c->to);
    fclose(f);
    f = fopen(c->path, "wb");
    assert_true(f && fwrite(kept, 1, c->to, f) == c->to);
    fclose(f);
    free(kept);
}

/* A file that shrinks is an error, where a mapped one would kill the process. */
static void a_file_that_shrinks_is_an_error(void **state)
{
    (void)state;
    static const size_t left[] = {0, 1 << 20, (1 << 20) + 4097, 2000000};
    for (size_t i = 0; i < TVLM_COUNT(left); i++) {
        static tiny t;
        tvlm_model *m;
        tvlm_model_params p;
        t = small("llama");
        t.ff = 8192; /* 3 MB */
        tiny_decoder(&t);
        tiny_write(&t, OTHER_PATH, NULL);
        tiny_free(&t);
        cutting c = {OTHER_PATH, left[i], 0};
        tvlm_model_params_init(&p, sizeof p);
        p.on_progress = cut_while_loading;
        p.user = &c;
        assert_int_equal(tvlm_model_open(OTHER_PATH, &p, &m, &err), TVLM_ERR_IO);
        assert_null(m);
        assert_int_equal(c.calls, 1);
        if (!strstr(err.message, OTHER_PATH) || !strstr(err.message, "when it was opened"))
            fail_msg("%s", err.message);
        remove(OTHER_PATH);
    }
}

static unsigned char *find(const char *text)
{
    for (size_t i = 0; i + strlen(text) < file_size; i++)
        if (!memcmp(file + i, text, strlen(text))) return file + i;
    fail_msg("%s is not in the file", text);
    return NULL;
}

/* Overwrites bytes behind a name, expects the error to say `says`, and restores them. The header's
 * checksum, which would notice, is not asked. */
static void lie(const char *name, size_t after, uint64_t value, size_t bytes, const char *says)
{
    unsigned char *at = find(name) + strlen(name) + after, saved[8];
    tvlm_model *m;
    tvlm_model_params p;
    tvlm_model_params_init(&p, sizeof p);
    p.skip_checksums = true;
    memcpy(saved, at, bytes);
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
    assert_int_not_equal(tvlm_model_open_memory(file, file_size, &p, &m, &err), TVLM_OK);
    if (!strstr(err.message, says)) fail_msg("'%s' does not say '%s'", err.message, says);
    memcpy(at, saved, bytes);
}

static void lies_are_named(void **state)
{
    (void)state;
    lie("GGUF", 0, 1, 4, "version 1");
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

/* Opens the decoder with one more tensor of n elements around `middle`. */
static tvlm_status open_with(const char *arch, const char *name, size_t n, float middle,
                             float spread)
{
    static tiny t;
    tvlm_model *m;
    t = small(arch);
    tiny_decoder(&t);
    if (name) tiny_put(&t, name, TVLM_TYPE_F32, (size_t[]){n, 0, 0, 0}, middle, spread);
    tiny_write(&t, OTHER_PATH, NULL);
    tiny_free(&t);
    tvlm_status status = tvlm_model_open(OTHER_PATH, NULL, &m, &err);
    remove(OTHER_PATH);
    tvlm_model_free(m);
    return status;
}

/* A tensor without a place would be lost in silence. */
static void unused_tensors_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"blk.0.attn_q_norm.weight",
                                        "blk.0.attn_k_norm.weight",
                                        "blk.0.post_attention_norm.weight",
                                        "blk.0.attn_norm.bias",
                                        "blk.0.attn_sinks.weight",
                                        "blk.0.ffn_gate_inp.weight",
                                        "blk.1.attn_norm.weight",
                                        "blk.00.attn_norm.weight",
                                        "output.bias",
                                        "token_embd.bias",
                                        "output_norm.bias",
                                        "token_embd_norm.weight",
                                        "rope_factors_long.weight",
                                        "rope_factors_short.weight",
                                        "position_embd.weight",
                                        "v.stem.weight",
                                        "mm.0.weight",
                                        "unused"};
    OK(open_with("llama", NULL, 0, 0, 0));
    OK(open_with("qwen2", NULL, 0, 0, 0));
    for (size_t i = 0; i < 2 * TVLM_COUNT(names); i++) {
        const char *name = names[i / 2];
        assert_int_equal(open_with(i % 2 ? "qwen2" : "llama", name, 32, 0, 1),
                         TVLM_ERR_UNSUPPORTED);
        if (!strstr(err.message, name) || !strstr(err.message, "has no place"))
            fail_msg("%s: '%s'", name, err.message);
    }
}

/* Ones divide nothing; every other factor would change the rotation. */
static void rope_factors_are_ones(void **state)
{
    (void)state;
    OK(open_with("llama", "rope_freqs.weight", 8, 1, 0));
    assert_int_equal(open_with("llama", "rope_freqs.weight", 8, 1, 0.5f), TVLM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tensor 'rope_freqs.weight'"));
    assert_int_equal(open_with("llama", "rope_freqs.weight", 9, 1, 0), TVLM_ERR_FORMAT);
}

/* ---- metadata that is shown ---- */

static tvlm_str odd_name, odd_prompt;

static void put_odd(tvlmc_gguf_writer *w)
{
    OK(tvlmc_gguf_put_string(w, "general.name", odd_name, &err));
    OK(tvlmc_gguf_put_string(w, "general.license", (tvlm_str){"MIT", 3}, &err));
    OK(tvlmc_gguf_put_string(w, "general.description", (tvlm_str){"two\nlines", 9}, &err));
    OK(tvlmc_gguf_put_string(w, "tinyvlm.describe_prompt", odd_prompt, &err));
}

static tvlm_status open_odd(tvlm_str name, tvlm_str prompt, tvlm_model **out)
{
    static tiny t;
    t = small("llama");
    tiny_decoder(&t);
    odd_name = name;
    odd_prompt = prompt;
    tiny_write(&t, OTHER_PATH, put_odd);
    tiny_free(&t);
    tvlm_status status = tvlm_model_open(OTHER_PATH, NULL, out, &err);
    remove(OTHER_PATH);
    return status;
}

static void info_is_printable(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n;
        const char *want;
    } names[] = {
        {"a\0b\0c",                   5,
         "a\xef\xbf\xbd"
         "b\xef\xbf\xbd"
         "c"                                                                        },
        {"\xff\xfe bad",              6,  "\xef\xbf\xbd\xef\xbf\xbd bad"            },
        {"x\x1b]0;t\x07\nfile  fake", 18, "x\xef\xbf\xbd]0;t\xef\xbf\xbd file  fake"},
        {"\xe2\x80\xaeleader",        9,  "\xef\xbf\xbdleader"                      },
        {"",                          0,  ""                                        },
    };
    tvlm_model *m;
    tvlm_model_info info = {.size = sizeof info};
    for (size_t i = 0; i < TVLM_COUNT(names); i++) {
        OK(open_odd((tvlm_str){names[i].in, names[i].n}, (tvlm_str){"What?\n", 6}, &m));
        OK(tvlm_model_get_info(m, &info, &err));
        assert_string_equal(info.name, names[i].want);
        assert_string_equal(info.license, "MIT");
        assert_string_equal(info.description, "two lines");
        assert_string_equal(info.describe_prompt, "What?\n");
        tvlm_model_free(m);
    }
    assert_int_equal(open_odd((tvlm_str){"x", 1}, (tvlm_str){"a\0b", 3}, &m), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "tinyvlm.describe_prompt"));
}

/* A header that declares more than there is: refused before the weights' block is taken. */
static void lies_about_size_take_no_memory(void **state)
{
    (void)state;
    tvlm_gguf g;
    tvlm_model *m;
    tvlm_loader *l;
    tvlm_model_params p;
    bool complete;
    OK(tvlm_gguf_parse(file, file_size, &g, &complete, &err));
    size_t header = (size_t)g.data_offset;
    tvlm_gguf_free(&g);
    tvlm_model_params_init(&p, sizeof p);
    for (int told = 0; told <= 1; told++) {
        p.file_bytes = told ? header + 1 : 0;
        OK(tvlm_loader_new(&p, &l, &err));
        tvlm_status status = tvlm_loader_feed(l, file, header, &err);
        assert_int_equal(status, told ? TVLM_ERR_FORMAT : TVLM_OK);
        if (told) assert_non_null(strstr(err.message, "truncated"));
        assert_int_equal(tvlm_loader_model(l) != NULL, !told);
        tvlm_loader_free(l);
    }
    p.file_bytes = file_size; /* what is passed to these is not asked for */
    assert_int_equal(tvlm_model_open_memory(file, header + 1, &p, &m, &err), TVLM_ERR_FORMAT);
    p.max_memory = 1000; /* honoured before anything is said about the file */
    assert_int_equal(tvlm_model_open_memory(file, header + 1, &p, &m, &err), TVLM_ERR_LIMIT);
}

/* ---- cancelling ---- */

static atomic_int looks_left;

static bool few_looks(void *user)
{
    (void)user;
    return atomic_fetch_sub(&looks_left, 1) <= 0;
}

/* The number of looks at the flag that opening takes: each one of them can stop it. */
static int cancel_at_each_look(tvlm_model_params *p, bool memory)
{
    for (int n = 0;; n++) {
        tvlm_model *m = (tvlm_model *)&n;
        atomic_store(&looks_left, n);
        tvlm_status status = memory ? tvlm_model_open_memory(file, file_size, p, &m, &err)
                                    : tvlm_model_open(PATH, p, &m, &err);
        tvlm_model_free(m);
        if (!status) return n;
        assert_null(m);
        assert_int_equal(status, TVLM_ERR_CANCELLED);
    }
}

static void opening_can_be_cancelled(void **state)
{
    (void)state;
    tvlm_loader *l;
    tvlm_model *m;
    tvlm_model_params p;
    tvlm_model_params_init(&p, sizeof p);
    tvlm_cancel *cancel = tvlm_cancel_new();
    p.cancel = cancel;
    for (p.n_threads = 1; p.n_threads <= 2; p.n_threads++) {
        tvlm_cancel_set_poll(cancel, few_looks, NULL);
        assert_true(cancel_at_each_look(&p, false) > 2);
        assert_true(cancel_at_each_look(&p, true) > 2);
        tvlm_cancel_set_poll(cancel, NULL, NULL);
        tvlm_cancel_request(cancel);
        assert_int_equal(tvlm_model_open(PATH, &p, &m, &err), TVLM_ERR_CANCELLED);
        tvlm_cancel_reset(cancel);
    }
    /* a loader that was cancelled stays so */
    OK(tvlm_loader_new(&p, &l, &err));
    OK(tvlm_loader_feed(l, file, file_size / 2, &err));
    tvlm_cancel_request(cancel);
    assert_int_equal(tvlm_loader_feed(l, file + file_size / 2, 1, &err), TVLM_ERR_CANCELLED);
    tvlm_cancel_reset(cancel);
    assert_int_equal(tvlm_loader_feed(l, file + file_size / 2, 1, &err), TVLM_ERR_STATE);
    assert_int_equal(tvlm_loader_finish(l, &m, &err), TVLM_ERR_STATE);
    tvlm_loader_free(l);
    tvlm_cancel_free(cancel);
}

static void limits(void **state)
{
    (void)state;
    tvlm_model *m;
    tvlm_model_params p;
    tvlm_memory memory = {.size = sizeof memory};
    tvlm_model_params_init(&p, sizeof p);
    p.max_memory = 1000;
    assert_int_equal(tvlm_model_open(PATH, &p, &m, &err), TVLM_ERR_LIMIT);
    assert_non_null(strstr(err.message, PATH));
    p.max_memory = SIZE_MAX;
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
    tvlm_loader *loader = (tvlm_loader *)&p;
    assert_int_equal(tvlm_loader_new(&p, &loader, &err), TVLM_ERR_UNSUPPORTED);
    assert_null(loader);
    p.cpu = NULL;
    p.precision = "int3";
    assert_int_equal(tvlm_loader_new(&p, &loader, &err), TVLM_ERR_ARGUMENT);
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
        cmocka_unit_test(every_byte_of_a_stream_is_needed),
        cmocka_unit_test(damage_is_caught),
        cmocka_unit_test(every_flip_is_refused),
        cmocka_unit_test(files_without_a_header_checksum_load),
        cmocka_unit_test(every_bit_of_a_checksum_counts),
        cmocka_unit_test(a_frame_without_its_token_is_refused),
        cmocka_unit_test(heads_that_do_not_fit_are_refused),
        cmocka_unit_test(weights_may_take_what_is_allowed),
        cmocka_unit_test(any_threads),
        cmocka_unit_test(damage_is_told_by_any_threads),
        cmocka_unit_test(short_files_and_padding_on_threads),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
        cmocka_unit_test(lies_are_named),
        cmocka_unit_test(unused_tensors_are_refused),
        cmocka_unit_test(rope_factors_are_ones),
        cmocka_unit_test(info_is_printable),
        cmocka_unit_test(lies_about_size_take_no_memory),
        cmocka_unit_test(opening_can_be_cancelled),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}
