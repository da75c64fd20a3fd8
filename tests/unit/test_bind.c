/* SPDX-License-Identifier: MIT
 * Binding the int8 tower: what is derived from a file's scales, by hand, and values that make no
 * sense. The model is the smallest of its kind: 8 channels everywhere, a decoder of one layer. */
#include "cpu/cpu.h"
#include "kernels/linear.h"
#include "model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "check.h"
#include "tiny_model.h"

#define PATH TVLM_BUILD_DIR "/bind-test.gguf"

enum { C = 8, D = 32, BLOCKS = 5, MOST = 65536 };

static tvlm_error err;

/* One value that every other test leaves alone. */
typedef struct change {
    const char *name;
    float v[2];
} change;

/* How a file differs from the plain one, in which every layer of the tower is int8. */
typedef struct variant {
    const change *change;    /* nullable */
    size_t wide;             /* channels inside the last block, which then expands; 0: as all */
    const char *floats[4];   /* layers that are float */
    const char *without;     /* a tensor that is not there */
    const char *with;        /* a vector that a float layer does not have */
    const char *long_vector; /* one with an element too many */
} variant;

typedef struct writing {
    tvlmc_gguf_writer *w;
    const variant *variant;
    bool data; /* the second walk writes what the first declared */
} writing;

static bool same(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

static bool is_float(const variant *v, const char *layer)
{
    for (size_t i = 0; i < TVLM_COUNT(v->floats); i++)
        if (same(v->floats[i], layer)) return true;
    return false;
}

/* A tensor whose elements are all v[0], or v[0] and v[1]. */
static void tensor(writing *o, const char *name, tvlm_type type, const uint64_t shape[4],
                   uint32_t n_dims, float v0, float v1)
{
    const change *c = o->variant->change;
    size_t n = 1;
    if (same(o->variant->without, name)) return;
    for (uint32_t i = 0; i < n_dims; i++)
        n *= (size_t)shape[i];
    if (!o->data) {
        OK(tvlmc_gguf_declare(o->w, name, type, shape, n_dims, &err));
        return;
    }
    if (c && same(c->name, name)) v0 = c->v[0], v1 = c->v[1];
    size_t size = n * tvlm_type_block_bytes(type);
    unsigned char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        float v = i % 2 ? v1 : v0;
        if (type == TVLM_TYPE_I8)
            bytes[i] = (unsigned char)(int8_t)v;
        else
            tvlm_quantize(TVLM_TYPE_F32, &v, bytes + 4 * i, 1);
    }
    OK(tvlmc_gguf_write_tensor(o->w, bytes, size, &err));
    free(bytes);
}

static void vector(writing *o, const char *name, size_t n, float v)
{
    n += same(o->variant->long_vector, name);
    tensor(o, name, TVLM_TYPE_F32, (uint64_t[4]){n}, 1, v, v);
}

static void matrix(writing *o, const char *name, size_t n, size_t k)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    tensor(o, full, TVLM_TYPE_F32, (uint64_t[4]){n, k}, 2, 0.0f, 0.0f);
    snprintf(full, sizeof full, "%s.bias", name);
    if (!strncmp(name, "mm.", 3)) vector(o, full, n, 0.0f);
}

/* Weights 3 and -2 in turn, scale 0.5 if it is int8, bias 2, output scale 0.25, zero point 5. */
static void layer(writing *o, const char *name, const uint64_t shape[4], uint32_t n_dims)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    bool floats = is_float(o->variant, name);
    tensor(o, full, floats ? TVLM_TYPE_F32 : TVLM_TYPE_I8, shape, n_dims, 3.0f, -2.0f);
    snprintf(full, sizeof full, "%s.scale", name);
    if (!floats || same(o->variant->with, full)) vector(o, full, (size_t)shape[0], 0.5f);
    snprintf(full, sizeof full, "%s.bias", name);
    vector(o, full, (size_t)shape[0], 2.0f);
    snprintf(full, sizeof full, "%s.out_q", name);
    uint64_t two = 2 + same(o->variant->long_vector, full);
    tensor(o, full, TVLM_TYPE_F32, (uint64_t[4]){two}, 1, 0.25f, 5.0f);
}

static void all_tensors(writing *o)
{
    size_t wide = o->variant->wide;
    char name[64];
    tensor(o, "v.input_q", TVLM_TYPE_F32, (uint64_t[4]){2}, 1, 0.125f, 64.0f);
    layer(o, "v.stem", (uint64_t[4]){C, 3, 3, 3}, 4);
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t mid = i == BLOCKS - 1 && wide ? wide : C;
        snprintf(name, sizeof name, "v.blk.%u.expand", i);
        if (mid != C) layer(o, name, (uint64_t[4]){mid, C}, 2);
        snprintf(name, sizeof name, "v.blk.%u.dw", i);
        if (i % 2) /* as PyTorch has it */
            layer(o, name, (uint64_t[4]){mid, 1, 3, 3}, 4);
        else
            layer(o, name, (uint64_t[4]){mid, 3, 3}, 3);
        snprintf(name, sizeof name, "v.blk.%u.project", i);
        layer(o, name, (uint64_t[4]){C, mid}, 2);
    }
    layer(o, "v.head", (uint64_t[4]){C, C}, 2);
    matrix(o, "mm.pool.hi", D, C);
    matrix(o, "mm.pool.lo", D, C);
    tensor(o, "mm.pool.pos", TVLM_TYPE_F32, (uint64_t[4]){5, D}, 2, 0, 0);
    tensor(o, "mm.pool.query", TVLM_TYPE_F32, (uint64_t[4]){3, D}, 2, 0, 0);
    static const char *const norms[] = {"norm", "ffn_norm", "out_norm"};
    static const char *const squares[] = {"attn_q",      "attn_k", "attn_v",
                                          "attn_output", "ffn_up", "ffn_down"};
    for (size_t i = 0; i < TVLM_COUNT(norms); i++) {
        snprintf(name, sizeof name, "mm.pool.%s.weight", norms[i]);
        vector(o, name, D, 1.0f);
        snprintf(name, sizeof name, "mm.pool.%s.bias", norms[i]);
        vector(o, name, D, 0.0f);
    }
    for (size_t i = 0; i < TVLM_COUNT(squares); i++) {
        snprintf(name, sizeof name, "mm.pool.%s", squares[i]);
        matrix(o, name, D, D);
    }
    matrix(o, "token_embd", TINY_TOKENS, D);
    static const char *const parts[] = {"attn_q",   "attn_k",  "attn_v",  "attn_output",
                                        "cross_q",  "cross_k", "cross_v", "cross_output",
                                        "ffn_gate", "ffn_up",  "ffn_down"};
    for (size_t i = 0; i < TVLM_COUNT(parts); i++) {
        snprintf(name, sizeof name, "blk.0.%s", parts[i]);
        matrix(o, name, D, D);
    }
    vector(o, "blk.0.attn_norm.weight", D, 1.0f);
    vector(o, "blk.0.cross_norm.weight", D, 1.0f);
    vector(o, "blk.0.ffn_norm.weight", D, 1.0f);
    vector(o, "blk.0.cross_gate", 1, 0.5f);
    vector(o, "output_norm.weight", D, 1.0f);
}

static void put_keys(tvlmc_gguf_writer *w)
{
    static const struct {
        const char *key;
        uint32_t v;
    } numbers[] = {
        {"tinyvlm.block_count",          1 },
        {"tinyvlm.embedding_length",     D },
        {"tinyvlm.feed_forward_length",  D },
        {"tinyvlm.attention.head_count", 2 },
        {"tinyvlm.context_length",       16},
        {"tinyvlm.pool.head_count",      4 },
        {"vision.image_size",            32},
    };
    const double ones[3] = {1, 1, 1};
    OK(tvlmc_gguf_put_string(w, "general.architecture", (tvlm_str){"tinyvlm", 7}, &err));
    for (size_t i = 0; i < TVLM_COUNT(numbers); i++)
        OK(tvlmc_gguf_put_u32(w, numbers[i].key, numbers[i].v, &err));
    OK(tvlmc_gguf_put_f32(w, "tinyvlm.attention.layer_norm_rms_epsilon", 1e-5f, &err));
    OK(tvlmc_gguf_put_f32(w, "tinyvlm.rope.freq_base", 1e4f, &err));
    OK(tvlmc_gguf_put_string(w, "vision.tower", (tvlm_str){"efficientnet_lite", 17}, &err));
    OK(tvlmc_gguf_put_string(w, "vision.quantization", (tvlm_str){"int8", 4}, &err));
    OK(tvlmc_gguf_put_string(w, "vision.preprocess.mode", (tvlm_str){"crop", 4}, &err));
    OK(tvlmc_gguf_put_f64_array(w, "vision.preprocess.scale", ones, 3, &err));
    OK(tvlmc_gguf_put_f64_array(w, "vision.preprocess.bias", ones, 3, &err));
    OK(tvlmc_gguf_put_i32_array(w, "vision.efficientnet.strides", (int32_t[]){2, 2, 2, 2, 1},
                                BLOCKS, &err));
    OK(tvlmc_gguf_put_i32_array(w, "vision.efficientnet.taps", (int32_t[]){2}, 1, &err));
    tiny_put_vocabulary(w);
}

static tvlm_status open_variant(const variant *v, tvlm_model **out)
{
    writing o = {.variant = v};
    OK(tvlmc_gguf_writer_new(PATH, NULL, &o.w, &err));
    put_keys(o.w);
    all_tensors(&o);
    o.data = true;
    all_tensors(&o);
    OK(tvlmc_gguf_writer_finish(o.w, NULL, NULL, &err));
    tvlm_status status = tvlm_model_open(PATH, NULL, out, &err);
    remove(PATH);
    return status;
}

static tvlm_status open_changed(const change *c, size_t wide, tvlm_model **out)
{
    return open_variant(&(variant){.change = c, .wide = wide}, out);
}

/* mult = sx * sw / sy, beta = b / sy + zy; every number here is exact in float32. */
static void int8_layers_by_hand(void **state)
{
    (void)state;
    tvlm_model *m;
    OK(open_changed(NULL, 0, &m));
    const tvlm_efficientnet *w = &m->weights.efficientnet;
    const tvlm_quant *stem = &w->stem.linear.quant;
    assert_true(stem->in.scale == 0.125f && stem->in.zero == 64);
    for (size_t i = 0; i < C; i++) {
        assert_true(stem->mult[i] == 0.125f * 0.5f / 0.25f);
        assert_true(stem->beta[i] == 2.0f / 0.25f + 5.0f);
        /* rows of 27, the signs in turn: 14 of 3 and 13 of -2, or 13 and 14 */
        assert_int_equal(stem->wsum[i], i % 2 ? 13 * 3 - 14 * 2 : 14 * 3 - 13 * 2);
        assert_int_equal(w->blocks[0].dw.quant.wsum[i], i % 2 ? 4 * 3 - 5 * 2 : 5 * 3 - 4 * 2);
        assert_int_equal(w->blocks[0].project.quant.wsum[i], 4 * 3 - 4 * 2);
    }
    assert_int_equal(stem->lo, 5);      /* ReLU6: q(0) .. q(6) */
    assert_int_equal(stem->hi, 24 + 5); /* 6 / 0.25 + 5 */
    assert_int_equal(w->blocks[0].project.quant.lo, 0);
    assert_int_equal(w->blocks[0].project.quant.hi, 127);
    assert_int_equal(w->head.quant.hi, 24 + 5);
    assert_true(w->blocks[1].dw.quant.in.scale == 0.25f && w->blocks[1].dw.quant.in.zero == 5);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(w->blocks[i].residual, i == BLOCKS - 1);
    assert_true(m->weights.decoder.layers[0].cross_gate == (float)tanh(0.5));
    assert_true(m->weights.decoder.output.weight == m->weights.decoder.token_embd.weight);
    assert_int_equal(m->n_vision_tokens, 5);
    assert_int_equal(m->n_image_tokens, 3);
    tvlm_model_free(m);
}

/* A wide scale leaves the range of codes: hi stays 127. */
static void six_beyond_the_codes(void **state)
{
    (void)state;
    tvlm_model *m;
    const change c = {
        "v.stem.out_q", {0.01f, 0.0f}
    };
    OK(open_changed(&c, 0, &m));
    assert_int_equal(m->weights.efficientnet.stem.linear.quant.lo, 0);
    assert_int_equal(m->weights.efficientnet.stem.linear.quant.hi, 127);
    tvlm_model_free(m);
}

static void senseless_values_are_named(void **state)
{
    (void)state;
    static const change changes[] = {
        {"v.input_q",        {0.0f, 0.0f}        },
        {"v.stem.out_q",     {-1.0f, 0.0f}       },
        {"v.stem.out_q",     {INFINITY, 0.0f}    },
        {"v.stem.out_q",     {NAN, 0.0f}         },
        {"v.stem.out_q",     {0.1f, 0.5f}        },
        {"v.stem.out_q",     {0.1f, 128.0f}      },
        {"v.stem.out_q",     {0.1f, NAN}         },
        {"v.blk.1.dw.scale", {NAN, NAN}          },
        {"v.blk.1.dw.scale", {3e38f, 3e38f}      },
        {"v.head.bias",      {INFINITY, INFINITY}},
    };
    tvlm_model *m;
    for (size_t i = 0; i < TVLM_COUNT(changes); i++) {
        assert_int_equal(open_changed(&changes[i], 0, &m), TVLM_ERR_FORMAT);
        if (!strstr(err.message, changes[i].name) && !strstr(err.message, ".scale' or '.bias'"))
            fail_msg("'%s' does not name %s", err.message, changes[i].name);
        assert_null(m);
    }
    /* the last block would add 3e9 / 0.25 of its input */
    const change wide = {
        "v.blk.3.project.out_q", {3e9f, 0.0f}
    };
    assert_int_equal(open_changed(&wide, 0, &m), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "v.blk.4.project.out_q"));
}

/* A layer is what its weights are; each input has the range of the output before it. */
static void float_layers_among_int8(void **state)
{
    (void)state;
    static const change range = {
        "v.blk.1.dw.out_q", {0.5f, 7.0f}
    };
    static const variant v = {
        .change = &range, .floats = {"v.stem", "v.blk.1.dw", "v.blk.2.project"}
    };
    tvlm_model *m;
    OK(open_variant(&v, &m));
    const tvlm_efficientnet *w = &m->weights.efficientnet;
    assert_int_equal(w->stem.linear.dtype, TVLM_DTYPE_F32);
    assert_true(w->stem.linear.bias[C - 1] == 2.0f);
    assert_int_equal(w->blocks[0].dw.dtype, TVLM_DTYPE_U7);
    assert_true(w->blocks[0].dw.quant.in.scale == 0.25f && w->blocks[0].dw.quant.in.zero == 5);
    const tvlm_dwconv *dw = &w->blocks[1].dw;
    assert_int_equal(dw->dtype, TVLM_DTYPE_F32);
    assert_true(((const float *)dw->weight)[0] == 3.0f && dw->bias[0] == 2.0f);
    const tvlm_linear *project = &w->blocks[1].project;
    assert_int_equal(project->dtype, TVLM_DTYPE_U7);
    assert_true(project->quant.in.scale == 0.5f && project->quant.in.zero == 7);
    assert_true(project->quant.mult[0] == 0.5f * 0.5f / 0.25f);
    assert_int_equal(w->blocks[2].project.dtype, TVLM_DTYPE_F32);
    assert_true(w->blocks[2].project.bias[0] == 2.0f);
    assert_int_equal(w->blocks[3].dw.dtype, TVLM_DTYPE_U7);
    tvlm_model_free(m);
}

static void badly_mixed_is_named(void **state)
{
    (void)state;
    static const variant variants[] = {
        {.without = "v.blk.1.dw.scale"},
        {.without = "v.blk.1.dw.out_q"},
        {.without = "v.head.out_q"},
        {.without = "v.stem.bias"},
        {.without = "v.input_q", .floats = {"v.stem"}},
        {.without = "v.stem.out_q", .floats = {"v.stem"}},
        {.without = "v.blk.1.dw.out_q", .floats = {"v.blk.1.dw"}},
        {.without = "v.blk.1.project.bias", .floats = {"v.blk.1.project"}},
        {.with = "v.stem.scale", .floats = {"v.stem"}},
        {.with = "v.blk.1.dw.scale", .floats = {"v.blk.1.dw"}},
        {.with = "v.blk.1.project.scale", .floats = {"v.blk.1.project"}},
        {.long_vector = "v.blk.1.dw.scale"},
        {.long_vector = "v.blk.1.project.out_q"},
        {.long_vector = "v.blk.1.dw.out_q", .floats = {"v.blk.1.dw"}},
        {.long_vector = "v.head.bias", .floats = {"v.head"}},
    };
    tvlm_model *m;
    for (size_t i = 0; i < TVLM_COUNT(variants); i++) {
        const variant *v = &variants[i];
        const char *named = v->without ? v->without : v->with ? v->with : v->long_vector;
        tvlm_status expected = v->with ? TVLM_ERR_UNSUPPORTED : TVLM_ERR_FORMAT;
        assert_int_equal(open_variant(v, &m), expected);
        if (!strstr(err.message, named)) fail_msg("'%s' does not name %s", err.message, named);
        assert_null(m);
    }
    /* a range that makes no sense, behind a float layer */
    static const change senseless = {
        "v.blk.1.dw.out_q", {0.0f, 0.0f}
    };
    assert_int_equal(open_variant(&(variant){.change = &senseless, .floats = {"v.blk.1.dw"}}, &m),
                     TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "v.blk.1.dw.out_q"));
}

/* Longer int8 rows could overflow their int32 sums. */
static void rows_are_limited(void **state)
{
    (void)state;
    tvlm_model *m;
    OK(open_changed(NULL, MOST, &m));
    tvlm_model_free(m);
    assert_int_equal(open_changed(NULL, MOST + 1, &m), TVLM_ERR_LIMIT);
    assert_non_null(strstr(err.message, "v.blk.4.project.weight"));
}

/* ---- the class that a precision takes ---- */

static tvlm_numeric taken(uint32_t cpu_mask, tvlm_precision precision, tvlm_type type)
{
    const tvlm_gemm *gemm = tvlm_gemm_for(cpu_mask, precision, type, 64);
    assert_non_null(gemm);
    return gemm->numeric;
}

static void auto_takes_no_slow_class(void **state)
{
    (void)state;
    static const tvlm_type floats[] = {TVLM_TYPE_F32, TVLM_TYPE_F16, TVLM_TYPE_BF16};
    bool x86 = tvlm_gemm_avx2.n > 0;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(taken(0, TVLM_PRECISION_AUTO, floats[i]), TVLM_NUMERIC_F32);
        assert_int_equal(taken(TVLM_CPU_AVX2, TVLM_PRECISION_AUTO, floats[i]),
                         x86 ? TVLM_NUMERIC_INT16 : TVLM_NUMERIC_F32);
        assert_int_equal(taken(TVLM_CPU_AVX2 | TVLM_CPU_AVX512, TVLM_PRECISION_AUTO, floats[i]),
                         TVLM_NUMERIC_F32);
        assert_int_equal(taken(TVLM_CPU_AVX2 | TVLM_CPU_AVX512 | TVLM_CPU_AVX512_VNNI,
                               TVLM_PRECISION_AUTO, floats[i]),
                         tvlm_gemm_avx512vnni_int16.n ? TVLM_NUMERIC_INT16 : TVLM_NUMERIC_F32);
        assert_int_equal(taken(0, TVLM_PRECISION_INT16, floats[i]), TVLM_NUMERIC_INT16);
        assert_int_equal(taken(0, TVLM_PRECISION_BF16, floats[i]), TVLM_NUMERIC_BF16);
        assert_int_equal(taken(TVLM_CPU_NEON | TVLM_CPU_BF16, TVLM_PRECISION_BF16, floats[i]),
                         tvlm_gemm_bf16.n ? TVLM_NUMERIC_BF16_ODD : TVLM_NUMERIC_BF16);
        assert_int_equal(taken(TVLM_CPU_NEON | TVLM_CPU_BF16, TVLM_PRECISION_AUTO, floats[i]),
                         TVLM_NUMERIC_F32);
        assert_int_equal(taken(0, TVLM_PRECISION_INT8, floats[i]), TVLM_NUMERIC_INT8);
    }
    assert_int_equal(taken(0, TVLM_PRECISION_AUTO, TVLM_TYPE_Q4_0), TVLM_NUMERIC_INT8);
    assert_int_equal(taken(0, TVLM_PRECISION_INT16, TVLM_TYPE_Q4_0), TVLM_NUMERIC_INT8);
    assert_int_equal(taken(TVLM_CPU_AVX2, TVLM_PRECISION_F32, TVLM_TYPE_Q4_0), TVLM_NUMERIC_F32);
    assert_null(tvlm_gemm_for(0, TVLM_PRECISION_AUTO, TVLM_TYPE_I8, 64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_layers_by_hand),        cmocka_unit_test(six_beyond_the_codes),
        cmocka_unit_test(senseless_values_are_named), cmocka_unit_test(rows_are_limited),
        cmocka_unit_test(auto_takes_no_slow_class),   cmocka_unit_test(float_layers_among_int8),
        cmocka_unit_test(badly_mixed_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
