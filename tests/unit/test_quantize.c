/* SPDX-License-Identifier: MIT
 * The quantiser on a small random Tiny-VLM: types of the result, the int8 tower against the float
 * one, the same bits on every tier. */
#include "convert/calibrate.h"
#include "convert/gguf_write.h"
#include "convert/quantize.h"
#include "cpu/cpu.h"
#include "model/model.h"
#include "vision/vision.h"

#include <assert.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tensors.h"

/* clang-format off */
enum { S = 64, D = 64, HEADS = 2, KV = 32, FF = 96, N_HI = 4, N_LO = 16, C_HI = 48, TAP = 4,
       N_QUERY = 4, PICTURES = 6 };
static const struct { uint64_t c_in, expand, c_out, k; int stride; } blocks[] = {
    {16, 1, 16, 3, 1}, {16, 6, 24, 3, 2}, {24, 6, 24, 5, 2}, {24, 6, 40, 3, 2},
    {40, 6, 40, 5, 1}, {40, 6, 48, 5, 2}, {48, 6, 48, 3, 1},
};
/* clang-format on */

static const char *path_of(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], TVLM_BUILD_DIR "/quantize-%s.gguf", name);
    return path;
}

/* ---- writing the random model ---- */

typedef struct builder {
    tvlmc_gguf_writer *w;
    bool declaring;
    const char *spiked; /* a tensor whose last value is `spike`; nullable */
    float spike;
    const char *cut; /* likewise, set to -1000; nullable */
    bool pytorch;    /* shapes as PyTorch has convolutions: [n][k][1][1], [c][1][k][k] */
    uint32_t seed;
} builder;

static double uniform(builder *b)
{
    b->seed = b->seed * 1664525u + 1013904223u;
    return (int32_t)b->seed / 2147483648.0;
}

/* center + spread * uniform(-1, 1) */
static void put(builder *b, const char *name, double center, double spread, uint32_t n_dims,
                const uint64_t *shape)
{
    if (b->declaring) {
        assert_int_equal(tvlmc_gguf_declare(b->w, name, TVLM_TYPE_F32, shape, n_dims, NULL),
                         TVLM_OK);
        return;
    }
    size_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++)
        n *= shape[i];
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(center + spread * uniform(b));
    if (b->spiked && strcmp(name, b->spiked) == 0) x[n - 1] = b->spike;
    if (b->cut && strcmp(name, b->cut) == 0) x[n - 1] = -1000;
    assert_int_equal(tvlmc_gguf_write_tensor(b->w, x, n * sizeof *x, NULL), TVLM_OK);
    free(x);
}

/* X.weight of the given shape with unit gain for ReLU6 layers, and X.bias [shape[0]]. */
static void put_layer(builder *b, const char *name, uint32_t n_dims, const uint64_t *shape,
                      bool bias)
{
    char full[64];
    double fan = 1;
    for (uint32_t i = 1; i < n_dims; i++)
        fan *= (double)shape[i];
    snprintf(full, sizeof full, "%s.weight", name);
    put(b, full, 0, sqrt(6 / fan), n_dims, shape);
    snprintf(full, sizeof full, "%s.bias", name);
    if (bias) put(b, full, 0.2, 0.3, 1, shape);
}

static void put_linear(builder *b, const char *name, uint64_t n, uint64_t k, bool bias)
{
    put_layer(b, name, b->pytorch ? 4 : 2, (uint64_t[]){n, k, 1, 1}, bias);
}

static void put_depthwise(builder *b, const char *name, uint64_t c, uint64_t k)
{
    if (b->pytorch)
        put_layer(b, name, 4, (uint64_t[]){c, 1, k, k}, true);
    else
        put_layer(b, name, 3, (uint64_t[]){c, k, k}, true);
}

static void put_tower(builder *b)
{
    char name[64];
    put_layer(b, "v.stem", 4, (uint64_t[]){16, 3, 3, 3}, true);
    for (unsigned i = 0; i < TVLM_COUNT(blocks); i++) {
        uint64_t mid = blocks[i].c_in * blocks[i].expand, k = blocks[i].k;
        snprintf(name, sizeof name, "v.blk.%u.expand", i);
        if (blocks[i].expand > 1) put_linear(b, name, mid, blocks[i].c_in, true);
        snprintf(name, sizeof name, "v.blk.%u.dw", i);
        put_depthwise(b, name, mid, k);
        snprintf(name, sizeof name, "v.blk.%u.project", i);
        put_linear(b, name, blocks[i].c_out, mid, true);
    }
    put_linear(b, "v.head", C_HI, 48, true);
}

static void put_norm(builder *b, const char *name, bool bias)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    put(b, full, 1, 0.1, 1, (uint64_t[]){D});
    snprintf(full, sizeof full, "%s.bias", name);
    if (bias) put(b, full, 0, 0.1, 1, (uint64_t[]){D});
}

static void put_pooling(builder *b)
{
    put_linear(b, "mm.pool.hi", D, C_HI, true); /* 48 is no multiple of a block */
    put_linear(b, "mm.pool.lo", D, 40, true);
    put(b, "mm.pool.pos", 0, 0.1, 2, (uint64_t[]){N_HI + N_LO, D});
    put_norm(b, "mm.pool.norm", true);
    put(b, "mm.pool.query", 0, 1, 2, (uint64_t[]){N_QUERY, D});
    put_linear(b, "mm.pool.attn_q", D, D, true);
    put_linear(b, "mm.pool.attn_k", D, D, true);
    put_linear(b, "mm.pool.attn_v", D, D, true);
    put_linear(b, "mm.pool.attn_output", D, D, true);
    put_norm(b, "mm.pool.ffn_norm", true);
    put_linear(b, "mm.pool.ffn_up", FF, D, true);
    put_linear(b, "mm.pool.ffn_down", D, FF, true);
    put_norm(b, "mm.pool.out_norm", true);
    put_linear(b, "mm.names.score", D, C_HI, true);
    put_linear(b, "mm.names.embd", D, D, false);
    put_norm(b, "mm.names.norm", false);
}

static void put_decoder(builder *b, uint64_t n_vocab)
{
    put_linear(b, "token_embd", n_vocab, D, false);
    put_norm(b, "blk.0.attn_norm", false);
    put_linear(b, "blk.0.attn_q", D, D, false);
    put_linear(b, "blk.0.attn_k", KV, D, false);
    put_linear(b, "blk.0.attn_v", KV, D, false);
    put_linear(b, "blk.0.attn_output", D, D, false);
    put_norm(b, "blk.0.cross_norm", false);
    put_linear(b, "blk.0.cross_q", D, D, false);
    put_linear(b, "blk.0.cross_k", KV, D, false);
    put_linear(b, "blk.0.cross_v", KV, D, false);
    put_linear(b, "blk.0.cross_output", D, D, false);
    put(b, "blk.0.cross_gate", 0.1, 0, 1, (uint64_t[]){1});
    put_norm(b, "blk.0.ffn_norm", false);
    put_linear(b, "blk.0.ffn_gate", FF, D, false);
    put_linear(b, "blk.0.ffn_up", FF, D, false);
    put_linear(b, "blk.0.ffn_down", D, FF, false);
    put_norm(b, "output_norm", false);
}

static void put_u32(builder *b, const char *key, uint32_t v)
{
    assert_int_equal(tvlmc_gguf_put_u32(b->w, key, v, NULL), TVLM_OK);
}

static void put_text(builder *b, const char *key, const char *v)
{
    assert_int_equal(tvlmc_gguf_put_string(b->w, key, (tvlm_str){v, strlen(v)}, NULL), TVLM_OK);
}

/* Byte-level vocabulary: GPT-2's characters of the 256 bytes, then two special tokens. */
static uint64_t put_tokenizer(builder *b)
{
    static char text[258][16];
    tvlm_str tokens[258];
    int32_t types[258];
    unsigned shifted = 256;
    for (unsigned i = 0; i < 256; i++) {
        bool plain = (i >= '!' && i <= '~') || (i >= 0xA1 && i <= 0xAC) || (i >= 0xAE && i <= 0xFF);
        unsigned cp = plain ? i : shifted++;
        if (cp < 0x80)
            snprintf(text[i], sizeof text[i], "%c", (int)cp);
        else
            snprintf(text[i], sizeof text[i], "%c%c", (int)(0xC0 | cp >> 6),
                     (int)(0x80 | (cp & 63)));
        types[i] = 1;
    }
    strcpy(text[256], "<|im_start|>");
    strcpy(text[257], "<|im_end|>");
    types[256] = types[257] = 3;
    for (unsigned i = 0; i < 258; i++)
        tokens[i] = (tvlm_str){text[i], strlen(text[i])};
    tvlm_str merge = {"a b", 3};
    put_text(b, "tokenizer.ggml.model", "gpt2");
    put_text(b, "tokenizer.ggml.pre", "smollm");
    tvlmc_gguf_put_string_array(b->w, "tokenizer.ggml.tokens", tokens, 258, NULL);
    tvlmc_gguf_put_i32_array(b->w, "tokenizer.ggml.token_type", types, 258, NULL);
    tvlmc_gguf_put_string_array(b->w, "tokenizer.ggml.merges", &merge, 0, NULL);
    put_u32(b, "tokenizer.ggml.bos_token_id", 256);
    put_u32(b, "tokenizer.ggml.eos_token_id", 257);
    tvlmc_gguf_put_bool(b->w, "tokenizer.ggml.add_bos_token", false, NULL);
    return 258;
}

static void put_keys(builder *b)
{
    int32_t strides[TVLM_COUNT(blocks)], tap = TAP;
    double scale[3] = {1 / 128.0, 1 / 128.0, 1 / 128.0};
    double bias[3] = {-127 / 128.0, -127 / 128.0, -127 / 128.0};
    for (size_t i = 0; i < TVLM_COUNT(blocks); i++)
        strides[i] = blocks[i].stride;
    put_text(b, "general.architecture", "tinyvlm");
    put_u32(b, "tinyvlm.block_count", 1);
    put_u32(b, "tinyvlm.context_length", 128);
    put_u32(b, "tinyvlm.embedding_length", D);
    put_u32(b, "tinyvlm.feed_forward_length", FF);
    put_u32(b, "tinyvlm.attention.head_count", HEADS);
    put_u32(b, "tinyvlm.attention.head_count_kv", 1);
    put_u32(b, "tinyvlm.vocab_size", 258);
    put_u32(b, "tinyvlm.pool.head_count", HEADS);
    tvlmc_gguf_put_f32(b->w, "tinyvlm.attention.layer_norm_rms_epsilon", 1e-5f, NULL);
    tvlmc_gguf_put_f32(b->w, "tinyvlm.rope.freq_base", 1e5f, NULL);
    tvlmc_gguf_put_f32(b->w, "tinyvlm.pool.layer_norm_epsilon", 1e-5f, NULL);
    put_text(b, "tinyvlm.chat_template", "tinyvlm");
    put_text(b, "vision.tower", "efficientnet_lite");
    put_u32(b, "vision.image_size", S);
    put_text(b, "vision.preprocess.mode", "squash");
    put_text(b, "vision.preprocess.filter", "bicubic");
    tvlmc_gguf_put_f64_array(b->w, "vision.preprocess.scale", scale, 3, NULL);
    tvlmc_gguf_put_f64_array(b->w, "vision.preprocess.bias", bias, 3, NULL);
    tvlmc_gguf_put_i32_array(b->w, "vision.efficientnet.strides", strides, TVLM_COUNT(blocks),
                             NULL);
    put_u32(b, "vision.efficientnet.stem_stride", 2);
    tvlmc_gguf_put_i32_array(b->w, "vision.efficientnet.taps", &tap, 1, NULL);
}

static void write_model(const char *path, builder b)
{
    tvlm_error err = {0};
    b.seed = 1;
    assert_int_equal(tvlmc_gguf_writer_new(path, NULL, &b.w, &err), TVLM_OK);
    put_keys(&b);
    uint64_t n_vocab = put_tokenizer(&b);
    for (int pass = 0; pass < 2; pass++) {
        b.declaring = pass == 0;
        put_tower(&b);
        put_pooling(&b);
        put_decoder(&b, n_vocab);
    }
    if (tvlmc_gguf_writer_finish(b.w, NULL, NULL, &err) != TVLM_OK) fail_msg("%s", err.message);
}

/* ---- pictures ---- */

static void lend_picture(size_t index, tvlm_pixels *out)
{
    enum { W = 50, H = 40 };
    static uint8_t rgb[H][W][3];
    uint32_t seed = (uint32_t)index * 77u + 5u;
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W; x++)
            for (size_t c = 0; c < 3; c++) {
                seed = seed * 1664525u + 1013904223u;
                rgb[y][x][c] = (uint8_t)(x * (index + 1) * 2 + y * (c + 2) + (seed >> 26));
            }
    *out = (tvlm_pixels){.data = rgb[0][0], .width = W, .height = H, .channels = 3};
}

static size_t lent;
static tvlm_status next_photo(void *user, tvlm_pixels *out, tvlm_error *err)
{
    (void)user;
    (void)err;
    if (lent < PICTURES) lend_picture(lent++, out);
    return TVLM_OK;
}

static size_t n_notes;
static char last_note[512], all_notes[16384];
static void count_note(void *user, const char *line)
{
    (void)user;
    size_t at = n_notes++ ? strlen(all_notes) : 0;
    snprintf(last_note, sizeof last_note, "%s", line);
    snprintf(all_notes + at, sizeof all_notes - at, "%s\n", line);
}

static void quantize_from(const char *in, const char *out, tvlm_type type, bool int8)
{
    tvlmc_quantize_params params = {.type = type,
                                    .int8_tower = int8,
                                    .max_layer_error = INFINITY,
                                    .next_photo = next_photo,
                                    .on_note = count_note};
    tvlm_error err = {0};
    n_notes = lent = 0;
    if (tvlmc_quantize_file(in, out, &params, &err) != TVLM_OK) fail_msg("%s", err.message);
}

static void quantize(const char *out, tvlm_type type, bool int8)
{
    quantize_from(path_of("source"), out, type, int8);
}

/* ---- running towers ---- */

typedef struct maps {
    float lo[N_LO][40], hi[N_HI][C_HI];
} maps;

static tvlm_model *open_model(const char *path, const char *cpu)
{
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    params.cpu = cpu;
    tvlm_model *model = NULL;
    tvlm_error err = {0};
    if (tvlm_model_open(path, &params, &model, &err) != TVLM_OK) fail_msg("%s", err.message);
    return model;
}

static void forward(tvlm_cx *cx, const tvlm_model *model, const float *pixels, maps *out)
{
    float *lo = out ? out->lo[0] : NULL, *hi = out ? out->hi[0] : NULL;
    tvlm_efficientnet_forward(cx, &model->weights.efficientnet, tvlm_nn_f32(pixels, S, S, 3),
                              (tvlm_features){hi, lo});
}

static void run_tower(const char *path, const char *cpu, unsigned threads, size_t photo, maps *out)
{
    static float pixels[S * S * 3];
    tvlm_model *model = open_model(path, cpu);
    tvlm_pixels p;
    lend_picture(photo, &p);
    assert_int_equal(tvlm_preprocess(model, &p, NULL, pixels, TVLM_COUNT(pixels), NULL), TVLM_OK);
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    tvlm_cx cx = {.kernels = &model->kernels, .arena = &arena, .n_threads = threads};
    forward(&cx, model, pixels, NULL);
    size_t size = arena.peak;
    void *block = tvlm_aligned_alloc(size);
    tvlm_arena_init(&arena, block, size);
    tvlm_pool *pool = NULL;
    assert_int_equal(tvlm_pool_new(threads, &pool, NULL), TVLM_OK);
    cx = (tvlm_cx){.kernels = &model->kernels, .arena = &arena, .pool = pool};
    forward(&cx, model, pixels, out);
    assert_true(tvlm_nn_ok(&cx));
    tvlm_pool_free(pool);
    tvlm_aligned_free(block);
    tvlm_model_free(model);
}

static double relative_error(const float *got, const float *want, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)got[i] - want[i], 2);
        size += pow(want[i], 2);
    }
    return sqrt(error / size);
}

static bool has_avx2(void)
{
    return (tvlm_cpu_detect() & TVLM_CPU_AVX2) != 0;
}

/* ---- tests ---- */

static void int8_tower_is_close_to_float(void **state)
{
    (void)state;
    quantize(path_of("int8"), TVLM_TYPE_Q8_0, true);
    for (size_t photo = 0; photo < PICTURES + 2; photo++) { /* two that were not calibrated */
        static maps want, got;
        run_tower(path_of("source"), NULL, 1, photo, &want);
        run_tower(path_of("int8"), NULL, 1, photo, &got);
        double lo = relative_error(got.lo[0], want.lo[0], N_LO * 40);
        double hi = relative_error(got.hi[0], want.hi[0], N_HI * C_HI);
        print_message("picture %u: int8 against float, relative error %.3f low, %.3f high\n",
                      (unsigned)photo, lo, hi);
        assert_true(lo < 0.1 && hi < 0.1);
        assert_true(lo > 0 && hi > 0);
    }
}

static void int8_tower_has_the_same_bits_everywhere(void **state)
{
    (void)state;
    static maps first, other;
    quantize(path_of("int8"), TVLM_TYPE_Q8_0, true);
    run_tower(path_of("int8"), "scalar", 1, 7, &first);
    for (unsigned threads = 2; threads <= 7; threads += 5) {
        memset(&other, 0xFF, sizeof other);
        run_tower(path_of("int8"), "scalar", threads, 7, &other);
        assert_memory_equal(&first, &other, sizeof first);
    }
    if (!has_avx2()) skip();
    memset(&other, 0xFF, sizeof other);
    run_tower(path_of("int8"), "avx2", 2, 7, &other);
    assert_memory_equal(&first, &other, sizeof first);
}

static void ranges_hold_zero_exactly(void **state)
{
    (void)state;
    static const double ranges[][2] = {
        {-1,           1},
        {0,            6},
        {-127 / 128.0, 1},
        {-3.7,         0},
        {0,            0},
        {-0.1,         9}
    };
    for (size_t i = 0; i < TVLM_COUNT(ranges); i++) {
        tvlm_qparam q = tvlmc_u7_range(ranges[i][0], ranges[i][1]);
        assert_true(q.scale > 0 && q.zero >= 0 && q.zero <= 127);
        /* both ends within a step */
        assert_true(fabs((0 - q.zero) * (double)q.scale - ranges[i][0]) <= q.scale);
        assert_true(fabs((127 - q.zero) * (double)q.scale - ranges[i][1]) <= q.scale || i == 4);
    }
}

static uint32_t type_in(const tvlm_model *model, const char *name)
{
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(&model->gguf, name);
    if (!t) fail_msg("no tensor %s", name);
    return t->type;
}

static void types_are_as_documented(void **state)
{
    (void)state;
    static const struct {
        tvlm_type type, matrix; /* of rows that are no whole super-in_blocks */
    } cases[] = {
        {TVLM_TYPE_F16,  TVLM_TYPE_F16 },
        {TVLM_TYPE_BF16, TVLM_TYPE_BF16},
        {TVLM_TYPE_Q8_0, TVLM_TYPE_Q8_0},
        {TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_0},
        {TVLM_TYPE_Q4_1, TVLM_TYPE_Q4_1},
        {TVLM_TYPE_Q5_0, TVLM_TYPE_Q5_0},
        {TVLM_TYPE_Q5_1, TVLM_TYPE_Q5_1},
        {TVLM_TYPE_Q4_K, TVLM_TYPE_Q5_0},
        {TVLM_TYPE_Q5_K, TVLM_TYPE_Q5_1},
        {TVLM_TYPE_Q6_K, TVLM_TYPE_Q8_0}
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        const tvlm_type type = cases[i].type;
        const bool in_blocks = tvlm_type_block(type) > 1;
        quantize(path_of("typed"), type, false);
        tvlm_model *model = open_model(path_of("typed"), NULL);
        assert_int_equal(type_in(model, "blk.0.ffn_down.weight"), cases[i].matrix);
        assert_int_equal(type_in(model, "mm.pool.attn_q.weight"), cases[i].matrix);
        assert_int_equal(type_in(model, "mm.names.embd.weight"), cases[i].matrix);
        assert_int_equal(type_in(model, "mm.names.norm.weight"), TVLM_TYPE_F32);
        assert_int_equal(type_in(model, "mm.pool.hi.weight"), in_blocks ? TVLM_TYPE_F16 : type);
        if (type == cases[i].matrix)
            assert_int_equal(n_notes, in_blocks ? 15 : 0); /* 12 of the tower, 3 of the bridge */
        else
            assert_non_null(strstr(all_notes, "blk.0.ffn_down.weight takes"));
        if (in_blocks) assert_non_null(strstr(all_notes, "mm.pool.lo.weight takes F16"));
        assert_int_equal(type_in(model, "token_embd.weight"), in_blocks ? TVLM_TYPE_Q8_0 : type);
        assert_int_equal(type_in(model, "mm.pool.pos"), TVLM_TYPE_F32);
        assert_int_equal(type_in(model, "mm.pool.query"), TVLM_TYPE_F32);
        assert_int_equal(type_in(model, "blk.0.attn_norm.weight"), TVLM_TYPE_F32);
        assert_int_equal(type_in(model, "v.blk.1.project.weight"),
                         in_blocks ? TVLM_TYPE_Q8_0 : type);
        assert_int_equal(type_in(model, "v.stem.weight"), TVLM_TYPE_F32);
        assert_int_equal(type_in(model, "v.blk.0.dw.weight"), TVLM_TYPE_F32);
        assert_true(model->gguf.has_crc);
        tvlm_model_free(model);
    }
}

static void values_beyond_f16_stay_f32(void **state)
{
    (void)state;
    static const struct {
        tvlm_type type;
        float beyond;
    } cases[] = {
        {TVLM_TYPE_F16,  -1e5f  },
        {TVLM_TYPE_Q4_0, 6e5f   },
        {TVLM_TYPE_Q8_0, -9e6f  },
        {TVLM_TYPE_BF16, 3.4e38f}
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        write_model(path_of("spiked"),
                    (builder){.spiked = "blk.0.ffn_up.weight", .spike = cases[i].beyond});
        quantize_from(path_of("spiked"), path_of("typed"), cases[i].type, false);
        tvlm_model *model = open_model(path_of("typed"), NULL);
        assert_int_equal(type_in(model, "blk.0.ffn_up.weight"), TVLM_TYPE_F32);
        assert_int_equal(type_in(model, "blk.0.ffn_gate.weight"), cases[i].type);
        assert_non_null(strstr(all_notes, "blk.0.ffn_up.weight stays F32"));
        tvlm_model_free(model);
    }
}

/* ---- sources that must not pass ---- */

static void expect_refused(const char *in, tvlm_type type, tvlm_status want, const char *says)
{
    const char *out = path_of("refused");
    tvlmc_quantize_params params = {.type = type};
    tvlm_error err = {0};
    remove(out);
    assert_int_equal(tvlmc_quantize_file(in, out, &params, &err), want);
    if (!strstr(err.message, says) || !strstr(err.message, in))
        fail_msg("%s: %s", says, err.message);
    assert_null(fopen(out, "rb"));
}

/* A file in memory with its index. */
typedef struct image {
    unsigned char *data;
    size_t size;
    tvlm_gguf gguf;
} image;

static image read_image(const char *path)
{
    image m = {0};
    bool complete;
    m.data = read_whole_file(path, &m.size);
    assert_int_equal(tvlm_gguf_parse(m.data, m.size, &m.gguf, &complete, NULL), TVLM_OK);
    return m;
}

static void put_le32(unsigned char *p, uint32_t v)
{
    for (size_t i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

/* The checksum that goes with a changed header: taken with itself as zero. */
static void seal_header(image *m)
{
    unsigned char *crc = m->data + m->gguf.header_crc_at;
    put_le32(crc, 0);
    put_le32(crc, tvlm_crc32c(0, m->data, (size_t)m->gguf.data_offset));
}

static void write_image(image *m, const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(m->data, 1, m->size, f) == m->size && !fclose(f));
    tvlm_gguf_free(&m->gguf);
    free(m->data);
}

static void a_damaged_tensor_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0, n = 1; i < n; i++) {
        char name[80];
        image m = read_image(path_of("source"));
        const tvlm_gguf_tensor *t = &m.gguf.tensors[i];
        n = m.gguf.n_tensors;
        snprintf(name, sizeof name, "'%.*s'", (int)t->name.len, t->name.data);
        m.data[t->offset + t->size - 2] ^= 1; /* of a mantissa, in the last value */
        write_image(&m, path_of("damaged"));
        expect_refused(path_of("damaged"), TVLM_TYPE_F16, TVLM_ERR_CHECKSUM, name);
    }
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "v.stem.weight",       "v.blk.1.dw.weight",   "v.blk.1.project.bias", "mm.pool.pos",
        "mm.pool.norm.weight", "blk.0.ffn_up.weight", "output_norm.weight",   "token_embd.weight"};
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < TVLM_COUNT(names); i++) {
        write_model(path_of("spiked"), (builder){.spiked = names[i], .spike = values[i % 3]});
        expect_refused(path_of("spiked"), TVLM_TYPE_Q8_0, TVLM_ERR_FORMAT, names[i]);
        expect_refused(path_of("spiked"), TVLM_TYPE_F32, TVLM_ERR_FORMAT, names[i]);
    }
}

/* Half of a file's last value of the tensor, with the checksum that goes with it. */
static void poke_half(image *m, const char *name, unsigned half)
{
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(&m->gguf, name);
    size_t index = (size_t)(t - m->gguf.tensors);
    unsigned char *crcs =
        m->data + (tvlm_gguf_find(&m->gguf, "tinyvlm.tensor_crc32c")->data - m->data);
    m->data[t->offset + t->size - 2] = (unsigned char)half;
    m->data[t->offset + t->size - 1] = (unsigned char)(half >> 8);
    put_le32(crcs + 4 * index, tvlm_crc32c(0, m->data + t->offset, (size_t)t->size));
    seal_header(m);
}

static void infinite_halves_are_refused(void **state)
{
    (void)state;
    static const unsigned halves[] = {0x7c00, 0xfc00, 0x7e00, 0x3c00};
    quantize(path_of("half"), TVLM_TYPE_F16, false);
    for (size_t i = 0; i < TVLM_COUNT(halves); i++) {
        image m = read_image(path_of("half"));
        poke_half(&m, "blk.0.ffn_up.weight", halves[i]);
        write_image(&m, path_of("poked"));
        if (i < 3)
            expect_refused(path_of("poked"), TVLM_TYPE_Q4_0, TVLM_ERR_FORMAT,
                           "blk.0.ffn_up.weight");
        else
            quantize_from(path_of("poked"), path_of("typed"), TVLM_TYPE_Q4_0, false);
    }
}

static void a_type_that_is_not_read_is_refused(void **state)
{
    (void)state;
    image m = read_image(path_of("source"));
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(&m.gguf, "blk.0.attn_norm.weight");
    /* behind the name: dimensions, one side, then the type */
    unsigned char *type = m.data + (t->name.data + t->name.len - (const char *)m.data) + 12;
    assert_int_equal(type[0], TVLM_TYPE_F32);
    type[0] = 25; /* I16 */
    seal_header(&m);
    write_image(&m, path_of("foreign"));
    expect_refused(path_of("foreign"), TVLM_TYPE_F16, TVLM_ERR_UNSUPPORTED,
                   "'blk.0.attn_norm.weight' has type I16");
}

static void a_cut_file_is_refused(void **state)
{
    (void)state;
    static const size_t left[] = {0, 3, 1000, 20000};
    for (size_t i = 0; i <= TVLM_COUNT(left); i++) {
        image m = read_image(path_of("source"));
        m.size = i < TVLM_COUNT(left) ? left[i] : m.size - 65;
        write_image(&m, path_of("cut"));
        expect_refused(path_of("cut"), TVLM_TYPE_F16, TVLM_ERR_FORMAT, "cut.gguf");
    }
}

static void a_damaged_header_is_refused(void **state)
{
    (void)state;
    image m = read_image(path_of("source"));
    m.data[tvlm_gguf_find(&m.gguf, "tinyvlm.context_length")->data - m.data] ^= 1;
    write_image(&m, path_of("damaged"));
    expect_refused(path_of("damaged"), TVLM_TYPE_F16, TVLM_ERR_CHECKSUM, "header");
}

/* ---- results that run ---- */

/* One question about one picture. */
static void answer(const char *path)
{
    tvlm_error err = {0};
    tvlm_model *model = open_model(path, NULL);
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_image *photo;
    tvlm_prompt *prompt;
    tvlm_pixels pixels;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    float logits[258];
    lend_picture(0, &pixels);
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 4;
    p.ignore_eos = true;
    assert_int_equal(tvlm_engine_new(model, NULL, &engine, &err), TVLM_OK);
    assert_int_equal(tvlm_session_new(model, NULL, &session, &err), TVLM_OK);
    assert_int_equal(tvlm_image_encode(engine, &pixels, NULL, &photo, &err), TVLM_OK);
    assert_int_equal(tvlm_prompt_new(model, &prompt, &err), TVLM_OK);
    tvlm_message m = {TVLM_ROLE_USER, "What?", 5, &photo, 1, NULL};
    assert_int_equal(tvlm_prompt_chat(prompt, &m, 1, &err), TVLM_OK);
    assert_int_equal(tvlm_generate(engine, session, prompt, &p, &result, &err), TVLM_OK);
    assert_int_equal(result.n_ids, 4);
    tvlm_input row = {session, 65, NULL, true};
    assert_int_equal(tvlm_forward(engine, &row, 1, NULL, logits, 258, &err), TVLM_OK);
    for (size_t i = 0; i < 258; i++)
        assert_true(isfinite(logits[i]));
    tvlm_prompt_free(prompt);
    tvlm_image_free(photo);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
}

static const tvlm_type every_type[] = {TVLM_TYPE_F32, TVLM_TYPE_F16, TVLM_TYPE_BF16, TVLM_TYPE_Q8_0,
                                       TVLM_TYPE_Q4_0};

static void every_type_from_every_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < TVLM_COUNT(every_type); i++) {
        quantize(path_of("first"), every_type[i], false);
        for (size_t j = 0; j < TVLM_COUNT(every_type); j++) {
            quantize_from(path_of("first"), path_of("second"), every_type[j], false);
            answer(path_of("second"));
        }
        quantize_from(path_of("first"), path_of("second"), every_type[i], true);
        answer(path_of("second"));
    }
}

static void an_int8_tower_passes_as_it_is(void **state)
{
    (void)state;
    static maps want, got;
    quantize(path_of("int8"), TVLM_TYPE_F32, true);
    run_tower(path_of("int8"), NULL, 1, 7, &want);
    for (size_t i = 0; i < TVLM_COUNT(every_type); i++) {
        quantize_from(path_of("int8"), path_of("second"), every_type[i], false);
        tvlm_model *model = open_model(path_of("second"), NULL);
        assert_int_equal(type_in(model, "v.blk.1.project.weight"), TVLM_TYPE_I8);
        assert_int_equal(type_in(model, "blk.0.ffn_up.weight"), every_type[i]);
        tvlm_model_free(model);
        run_tower(path_of("second"), NULL, 1, 7, &got);
        assert_memory_equal(&got, &want, sizeof want);
        answer(path_of("second"));
    }
}

/* ---- layers that stay float ---- */

static struct {
    size_t n, n_float;
    char last_float[32];
    double worst_alone, tokens;
} told;

static void take_error(void *user, const tvlmc_layer_error *e)
{
    (void)user;
    assert_true(strcmp(e->layer, "tokens") == 0 ? isnan(e->alone) : e->alone >= 0);
    assert_true(e->behind >= 0);
    told.n++;
    told.tokens = e->behind; /* the last one told */
    if (!e->is_float && e->alone > told.worst_alone) told.worst_alone = e->alone;
    if (!e->is_float) return;
    told.n_float++;
    snprintf(told.last_float, sizeof told.last_float, "%s", e->layer);
}

static void quantize_within(const char *in, const char *out, double max_layer_error)
{
    tvlmc_quantize_params params = {.type = TVLM_TYPE_F32,
                                    .int8_tower = true,
                                    .max_layer_error = max_layer_error,
                                    .next_photo = next_photo,
                                    .on_error = take_error};
    tvlm_error err = {0};
    lent = 0;
    memset(&told, 0, sizeof told);
    if (tvlmc_quantize_file(in, out, &params, &err) != TVLM_OK) fail_msg("%s", err.message);
    assert_int_equal(told.n, 2 + 3 * TVLM_COUNT(blocks) - 1 + 1); /* the first does not expand */
}

static const tvlm_gguf_tensor *tensor_in(const tvlm_model *model, const char *name)
{
    return tvlm_gguf_find_tensor(&model->gguf, name);
}

/* A weight that meets nothing but zeros takes the whole range of its row's codes. */
static void a_layer_with_an_outlier_stays_float(void **state)
{
    (void)state;
    enum { BOUND = 5 }; /* per cent */
    write_model(
        path_of("outlier"),
        (builder){.spiked = "v.blk.2.project.weight", .spike = 1000, .cut = "v.blk.2.dw.bias"});
    quantize_within(path_of("outlier"), path_of("mixed"), INFINITY);
    double all_int8 = told.tokens;
    assert_int_equal(told.n_float, 0);
    assert_true(told.worst_alone > BOUND / 100.0);
    quantize_within(path_of("outlier"), path_of("mixed"), BOUND / 100.0);
    print_message("tokens: %.3f all int8, %.3f mixed; others alone up to %.3f\n", all_int8,
                  told.tokens, told.worst_alone);
    assert_int_equal(told.n_float, 1);
    assert_string_equal(told.last_float, "blocks.2");
    assert_true(told.worst_alone <= BOUND / 100.0 && told.tokens < 0.7 * all_int8);

    tvlm_model *model = open_model(path_of("mixed"), NULL);
    assert_int_equal(tensor_in(model, "v.blk.2.project.weight")->type, TVLM_TYPE_F16);
    assert_null(tensor_in(model, "v.blk.2.project.scale"));
    assert_non_null(tensor_in(model, "v.blk.2.project.out_q"));
    assert_int_equal(tensor_in(model, "v.blk.3.expand.weight")->type, TVLM_TYPE_I8);
    assert_int_equal(model->weights.efficientnet.blocks[2].project.dtype, TVLM_DTYPE_F32);
    tvlm_model_free(model);

    /* once more, it passes as it is */
    quantize_from(path_of("mixed"), path_of("second"), TVLM_TYPE_Q4_0, false);
    answer(path_of("second"));
    model = open_model(path_of("second"), NULL);
    assert_int_equal(tensor_in(model, "v.blk.2.project.weight")->type, TVLM_TYPE_F16);
    assert_int_equal(tensor_in(model, "v.blk.2.dw.weight")->type, TVLM_TYPE_I8);
    tvlm_model_free(model);

    quantize_within(path_of("source"), path_of("mixed"), BOUND / 100.0);
    assert_int_equal(told.n_float, 0);
}

/* No layer at all is int8: what is left is the rounding to halves. */
static void every_layer_may_stay_float(void **state)
{
    (void)state;
    quantize_within(path_of("source"), path_of("floats"), 0);
    assert_int_equal(told.n_float, told.n - 1);
    assert_true(told.tokens < 2e-3);
}

/* The same values in the shapes of another writer give the same file. */
static void shapes_of_pytorch_make_no_difference(void **state)
{
    (void)state;
    write_model(path_of("pytorch"), (builder){.pytorch = true});
    for (size_t i = 0; i < TVLM_COUNT(every_type); i++)
        for (int int8 = 0; int8 < 2; int8++) {
            quantize(path_of("first"), every_type[i], int8);
            quantize_from(path_of("pytorch"), path_of("second"), every_type[i], int8);
            tvlm_model *a = open_model(path_of("first"), NULL),
                       *b = open_model(path_of("second"), NULL);
            assert_int_equal(a->gguf.n_tensors, b->gguf.n_tensors);
            for (size_t t = 0; t < a->gguf.n_tensors; t++) {
                assert_int_equal(a->gguf.tensors[t].type, b->gguf.tensors[t].type);
                assert_int_equal(a->gguf.tensors[t].crc32c, b->gguf.tensors[t].crc32c);
            }
            tvlm_model_free(a);
            tvlm_model_free(b);
        }
    answer(path_of("second"));
}

/* Weights that are numbers, of layers whose output is none or too large for codes. */
static void activations_beyond_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *spiked;
        float spike;
        const char *says;
    } cases[] = {
        {"v.blk.1.project.weight", 3.4e38f, "'blocks.1' gives NaN or infinity"},
        {"v.blk.1.project.bias",   3.0e38f, "'blocks.1' reaches"              },
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlmc_quantize_params p = {.type = TVLM_TYPE_Q8_0,
                                   .int8_tower = true,
                                   .max_layer_error = INFINITY,
                                   .next_photo = next_photo};
        tvlm_error err = {0};
        lent = 0;
        write_model(path_of("spiked"),
                    (builder){.spiked = cases[i].spiked, .spike = cases[i].spike});
        assert_int_equal(tvlmc_quantize_file(path_of("spiked"), path_of("refused"), &p, &err),
                         TVLM_ERR_FORMAT);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s", err.message);
        assert_null(fopen(path_of("refused"), "rb"));
    }
}

static tvlm_status fail_to_lend(void *user, tvlm_pixels *out, tvlm_error *err)
{
    (void)user;
    (void)out;
    return tvlm_fail(err, TVLM_ERR_IO, "no picture");
}

static tvlm_status lend_nothing(void *user, tvlm_pixels *out, tvlm_error *err)
{
    (void)user;
    (void)out;
    (void)err;
    return TVLM_OK;
}

static void expect(const char *in, const char *out, tvlmc_quantize_params params, tvlm_status want)
{
    tvlm_error err = {0};
    assert_int_equal(tvlmc_quantize_file(in, out, &params, &err), want);
    assert_true(err.message[0] != 0);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    const char *source = path_of("source"), *out = path_of("refused");
    tvlmc_quantize_params good = {.type = TVLM_TYPE_Q8_0}, p = good;
    remove(out);
    p.type = TVLM_TYPE_I8;
    expect(source, out, p, TVLM_ERR_ARGUMENT);
    expect(source, source, good, TVLM_ERR_ARGUMENT);
    expect(TVLM_BUILD_DIR "/absent.gguf", out, good, TVLM_ERR_IO);
    p = good;
    p.int8_tower = true;
    expect(source, out, p, TVLM_ERR_ARGUMENT); /* no pictures */
    p.next_photo = fail_to_lend;
    expect(source, out, p, TVLM_ERR_IO);
    p.next_photo = lend_nothing;
    expect(source, out, p, TVLM_ERR_ARGUMENT);
    p.next_photo = next_photo;
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_cancel_request(cancel);
    p.cancel = good.cancel = cancel;
    expect(source, out, p, TVLM_ERR_CANCELLED);
    expect(source, out, good, TVLM_ERR_CANCELLED);
    p.cancel = NULL;
    tvlm_cancel_free(cancel);
    quantize(path_of("int8"), TVLM_TYPE_Q8_0, true);
    expect(path_of("int8"), out, p, TVLM_ERR_UNSUPPORTED); /* twice */
    FILE *f = fopen(out, "rb");
    assert_null(f);
}

static int setup(void **state)
{
    (void)state;
    write_model(path_of("source"), (builder){0});
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_tower_is_close_to_float),
        cmocka_unit_test(int8_tower_has_the_same_bits_everywhere),
        cmocka_unit_test(a_layer_with_an_outlier_stays_float),
        cmocka_unit_test(every_layer_may_stay_float),
        cmocka_unit_test(ranges_hold_zero_exactly),
        cmocka_unit_test(types_are_as_documented),
        cmocka_unit_test(values_beyond_f16_stay_f32),
        cmocka_unit_test(a_damaged_tensor_is_refused),
        cmocka_unit_test(a_damaged_header_is_refused),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(infinite_halves_are_refused),
        cmocka_unit_test(a_type_that_is_not_read_is_refused),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(every_type_from_every_type),
        cmocka_unit_test(an_int8_tower_passes_as_it_is),
        cmocka_unit_test(shapes_of_pytorch_make_no_difference),
        cmocka_unit_test(activations_beyond_range_are_refused),
        cmocka_unit_test(wrong_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
