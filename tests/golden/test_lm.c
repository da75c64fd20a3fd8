/* SPDX-License-Identifier: MIT
 * The decoder against its equations in double precision, on random Llama, Qwen2 and Qwen3 models of
 * every weight type; its position tables; and the same bits however rows are grouped. */
#include "lm/decoder.h"
#include "lm/rope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "check.h"
#include "tiny_model.h"

#define PATH TVLM_BUILD_DIR "/lm-test.gguf"

enum { ROWS = 70 }; /* more than a tile of a linear layer */

static tvlm_error err;

static tiny llama(tvlm_type type)
{
    return (tiny){.arch = "llama",
                  .layers = 2,
                  .d = 64,
                  .ff = 96,
                  .heads = 4,
                  .kv_heads = 2,
                  .head_dim = 16,
                  .ctx = 128,
                  .vocab = TINY_TOKENS,
                  .theta = 10000,
                  .eps = 1e-5f,
                  .interleaved = true,
                  .tied = true,
                  .type = type,
                  .random = 1};
}

/* Three query heads a key head, heads wider than d / heads, more rows of logits than tokens. */
static tiny qwen2(tvlm_type type)
{
    return (tiny){.arch = "qwen2",
                  .layers = 3,
                  .d = 96,
                  .ff = 160,
                  .heads = 3,
                  .kv_heads = 1,
                  .head_dim = 64,
                  .ctx = 128,
                  .vocab = TINY_TOKENS + 31,
                  .theta = 1000000,
                  .eps = 1e-6f,
                  .bias = true,
                  .type = type,
                  .random = 2};
}

/* Heads whose queries and keys are normalised, together wider than the rows. */
static tiny qwen3(tvlm_type type)
{
    tiny t = qwen2(type);
    t.arch = "qwen3";
    t.bias = false;
    t.qk_norm = t.tied = true;
    t.kv_heads = 3;
    t.random = 3;
    return t;
}

/* Rows of a super-block, where the type has them. */
static tiny whole_blocks(tiny t)
{
    if (tvlm_type_block(t.type) == 256) {
        t.layers = 1;
        t.d = t.ff = 256;
        t.heads = 4;
        t.kv_heads = 2;
        t.head_dim = 64;
    }
    return t;
}

typedef struct rig {
    tvlm_model *model;
    tvlm_engine *engine;
} rig;

static rig open_precision(const char *cpu, const char *precision, unsigned threads)
{
    rig r;
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_model_params_init(&m, sizeof m);
    m.cpu = cpu;
    m.precision = precision;
    OK(tvlm_model_open(PATH, &m, &r.model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = threads;
    OK(tvlm_engine_new(r.model, &e, &r.engine, &err));
    return r;
}

static rig open_rig(const char *cpu, unsigned threads)
{
    return open_precision(cpu, NULL, threads);
}

static void close_rig(rig *r)
{
    tvlm_engine_free(r->engine);
    tvlm_model_free(r->model);
}

static tvlm_session *new_session(const rig *r, tvlm_kv_type type)
{
    tvlm_session_params s;
    tvlm_session *session;
    tvlm_session_params_init(&s, sizeof s);
    s.kv_type = type;
    OK(tvlm_session_new(r->model, &s, &session, &err));
    return session;
}

static void fill_ids(int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)((i * 97 + i * i * 13 + 5) % 256);
}

/* Logits of all ids, `chunk` rows a pass. */
static float *forward(const rig *r, tvlm_session *session, const int32_t *ids, size_t n,
                      size_t chunk, uint32_t vocab)
{
    float *logits = malloc(n * vocab * sizeof *logits);
    assert_non_null(logits);
    for (size_t at = 0; at < n; at += chunk) {
        tvlm_input rows[ROWS];
        size_t m = n - at < chunk ? n - at : chunk;
        for (size_t i = 0; i < m; i++)
            rows[i] = (tvlm_input){session, ids[at + i], NULL, true};
        OK(tvlm_forward(r->engine, rows, m, NULL, logits + at * vocab, m * vocab, &err));
    }
    return logits;
}

static double decoder_error(const tiny *t, const char *cpu, const char *precision, tvlm_kv_type kv)
{
    int32_t ids[ROWS];
    fill_ids(ids, ROWS);
    double *want = tiny_forward(t, ids, ROWS, NULL, 0);
    rig r = open_precision(cpu, precision, 2);
    tvlm_session *session = new_session(&r, kv);
    float *got = forward(&r, session, ids, ROWS, ROWS, t->vocab);
    double error = tiny_error(got, want, (size_t)ROWS * t->vocab);
    tvlm_session_free(session);
    close_rig(&r);
    free(got);
    free(want);
    return error;
}

static void equals_its_equations(void **state)
{
    (void)state;
    static const tvlm_type types[] = {TVLM_TYPE_F32,  TVLM_TYPE_F16,  TVLM_TYPE_BF16,
                                      TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_1,
                                      TVLM_TYPE_Q5_0, TVLM_TYPE_Q5_1, TVLM_TYPE_Q4_K,
                                      TVLM_TYPE_Q5_K, TVLM_TYPE_Q6_K};
    for (size_t i = 0; i < TVLM_COUNT(types); i++)
        for (int arch = 0; arch < 3; arch++) {
            tiny t = whole_blocks(arch == 0   ? llama(types[i])
                                  : arch == 1 ? qwen2(types[i])
                                              : qwen3(types[i]));
            tiny_decoder(&t);
            tiny_write(&t, PATH, NULL);
            double best = decoder_error(&t, NULL, "f32", TVLM_KV_F32);
            double scalar = decoder_error(&t, "scalar", "f32", TVLM_KV_F32);
            double half = decoder_error(&t, NULL, "f32", TVLM_KV_F16);
            double int8 = decoder_error(&t, NULL, "int8", TVLM_KV_F32);
            double int8_scalar = decoder_error(&t, "scalar", "int8", TVLM_KV_F32);
            print_message("%s %s: %.1e, scalar %.1e, half precision cache %.1e, int8 %.1e\n",
                          t.arch, tvlm_type_name(types[i]), best, scalar, half, int8);
            assert_true(best < 3e-6);
            assert_true(scalar < 3e-6);
            assert_true(half < 3e-3);
            assert_true(int8 < 5e-2);
            assert_true(int8 > 1e-4); /* it is another arithmetic */
            assert_true(int8 == int8_scalar);
            if (tvlm_type_block(types[i]) == 1) {
                double int16 = decoder_error(&t, NULL, "int16", TVLM_KV_F32);
                print_message("  int16 %.1e\n", int16);
                assert_true(int16 > 3e-6 && int16 < 1e-3);
                assert_true(int16 == decoder_error(&t, "scalar", "int16", TVLM_KV_F32));
                double bf16 = decoder_error(&t, "scalar", "bf16", TVLM_KV_F32);
                print_message("  bf16 %.1e\n", bf16);
                assert_true(bf16 > 1e-4 && bf16 < 3e-2);
            }
            tiny_free(&t);
        }
}

/* A wrong pairing of the rotated features must be far outside the bound above. */
static void bound_tells_rotations_apart(void **state)
{
    (void)state;
    tiny t = llama(TVLM_TYPE_F32);
    tiny_decoder(&t);
    tiny_write(&t, PATH, NULL);
    t.interleaved = false;
    assert_true(decoder_error(&t, NULL, "f32", TVLM_KV_F32) > 1e-1);
    tiny_free(&t);
}

static void any_chunk_is_the_same(void **state)
{
    (void)state;
    static const tvlm_type types[] = {TVLM_TYPE_F32,  TVLM_TYPE_F16,  TVLM_TYPE_Q8_0,
                                      TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_K, TVLM_TYPE_Q6_K};
    int32_t ids[ROWS];
    fill_ids(ids, ROWS);
    for (size_t i = 0; i < TVLM_COUNT(types); i++) {
        tiny t = whole_blocks(qwen2(types[i]));
        tiny_decoder(&t);
        tiny_write(&t, PATH, NULL);
        rig r = open_rig(NULL, 2), other = open_rig(NULL, 3);
        tvlm_session *session = new_session(&r, TVLM_KV_F16);
        float *want = forward(&r, session, ids, ROWS, ROWS, t.vocab);
        for (size_t chunk = 1; chunk <= 17; chunk++) {
            tvlm_session *s = new_session(&other, TVLM_KV_F16);
            float *got = forward(&other, s, ids, ROWS, chunk, t.vocab);
            assert_memory_equal(got, want, (size_t)ROWS * t.vocab * sizeof *want);
            tvlm_session_free(s);
            free(got);
        }
        tvlm_session_free(session);
        close_rig(&r);
        close_rig(&other);
        free(want);
        tiny_free(&t);
    }
}

/* A row may bring its embedding; one that equals a token's is that token. */
static void embeddings_are_rows_too(void **state)
{
    (void)state;
    tiny t = qwen2(TVLM_TYPE_F16);
    tiny_decoder(&t);
    tiny_write(&t, PATH, NULL);
    rig r = open_precision(NULL, "f32", 1); /* others round the table */
    const float *table = tiny_find(&t, "token_embd.weight");
    int32_t ids[9];
    tvlm_input rows[9];
    fill_ids(ids, 9);
    tvlm_session *session = new_session(&r, TVLM_KV_F32), *other = new_session(&r, TVLM_KV_F32);
    float *want = forward(&r, session, ids, 9, 9, t.vocab);
    float *got = malloc(t.vocab * sizeof *got);
    for (size_t i = 0; i < 9; i++) {
        const float *own = i % 2 ? table + (size_t)ids[i] * t.d : NULL;
        rows[i] = (tvlm_input){other, own ? -1 : ids[i], own, i == 8};
    }
    OK(tvlm_forward(r.engine, rows, 9, NULL, got, t.vocab, &err));
    assert_memory_equal(got, want + 8 * t.vocab, t.vocab * sizeof *got);
    tvlm_session_free(session);
    tvlm_session_free(other);
    close_rig(&r);
    free(want);
    free(got);
    tiny_free(&t);
}

/* ---- position tables ---- */

static void frequencies_are_powers(void **state)
{
    (void)state;
    static const double thetas[] = {1, 2, 1e4, 1e5, 1e6, 5e5, 1e12};
    static const size_t sizes[] = {8, 64, 128, 1024};
    double f[512];
    for (size_t i = 0; i < TVLM_COUNT(thetas); i++)
        for (size_t j = 0; j < TVLM_COUNT(sizes); j++) {
            tvlm_rope_frequencies(f, sizes[j], thetas[i]);
            for (size_t k = 0; k < sizes[j] / 2; k++) {
                double want = pow(thetas[i], -2.0 * (double)k / (double)sizes[j]);
                assert_true(fabs(f[k] - want) <= 2e-14 * want);
            }
        }
}

/* Near zeros of sine and cosine a float resolves what it cannot near one: there the error of the
 * double arithmetic shows. */
static void sines_are_right_up_to_the_last_position(void **state)
{
    (void)state;
    size_t small = 0;
    for (uint32_t k = 1; k < 667544; k = k + 1 + k / 3) { /* k pi/2 up to 2^20 */
        for (int side = -2; side <= 2; side++) {
            double angle = k * 1.57079632679489661923 + side * 1e-7, inv_freq[1] = {angle};
            float cs[2];
            tvlm_rope_table(cs, inv_freq, 2, 1);
            double c = cos(angle), s = sin(angle);
            assert_true(fabs((double)cs[0] - c) <= 1e-12 + 6.1e-8 * fabs(c));
            assert_true(fabs((double)cs[1] - s) <= 1e-12 + 6.1e-8 * fabs(s));
            small += fabs(c) < 1e-6 || fabs(s) < 1e-6;
        }
    }
    assert_true(small > 100);
}

static void what_is_no_number_is_no_answer(void **state)
{
    (void)state;
    const float values[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        tiny t = llama(TVLM_TYPE_F32);
        tvlm_session *session;
        tvlm_prompt *prompt;
        tvlm_result result = {.size = sizeof result};
        tiny_decoder(&t);
        for (size_t k = 0; k < t.n_tensors; k++)
            if (!strcmp(t.tensors[k].name, "output_norm.weight"))
                tvlm_quantize(TVLM_TYPE_F32, &values[i], t.tensors[k].bytes, 1);
        tiny_write(&t, PATH, NULL);
        rig r = open_rig(NULL, 1);
        OK(tvlm_session_new(r.model, NULL, &session, &err));
        OK(tvlm_prompt_new(r.model, &prompt, &err));
        OK(tvlm_prompt_add_text(prompt, "a", 1, false, &err));
        assert_int_equal(tvlm_generate(r.engine, session, prompt, NULL, &result, &err),
                         TVLM_ERR_FORMAT);
        assert_non_null(strstr(err.message, "not finite"));
        tvlm_prompt_free(prompt);
        tvlm_session_free(session);
        close_rig(&r);
        tiny_free(&t);
    }
}

/* The input that cannot be computed is named; a pass that is refused changes nothing. */
static void inputs_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    tiny t = llama(TVLM_TYPE_F32);
    tiny_decoder(&t);
    tiny_write(&t, PATH, NULL);
    rig r = open_rig(NULL, 1), other = open_rig(NULL, 1);
    tvlm_session *half = new_session(&r, TVLM_KV_F16), *whole = new_session(&r, TVLM_KV_F32);
    tvlm_session *foreign = new_session(&other, TVLM_KV_F16);
    const int32_t vocab = (int32_t)t.vocab;
    const struct {
        tvlm_input second;
        const char *says;
    } cases[] = {
        {{whole, 2, NULL, true},    "input 1: sessions of one pass must share a kv_type"},
        {{foreign, 2, NULL, true},  "input 1: its session belongs to another model"     },
        {{NULL, 2, NULL, true},     "input 1: session is NULL"                          },
        {{half, vocab, NULL, true}, "is not in the vocabulary"                          },
        {{half, -1, NULL, true},    "input 1: id -1 is not in the vocabulary"           },
    };
    float *logits = malloc(2 * t.vocab * sizeof *logits);
    assert_non_null(logits);
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        const tvlm_input inputs[] = {
            {half, 1, NULL, true},
            cases[i].second
        };
        IS(ARGUMENT, tvlm_forward(r.engine, inputs, 2, NULL, logits, 2 * t.vocab, &err));
        SAYS(cases[i].says);
        assert_int_equal(tvlm_session_position(half), 0);
    }
    const tvlm_input last[] = {
        {half, vocab - 1, NULL, true}
    };
    OK(tvlm_forward(r.engine, last, 1, NULL, logits, t.vocab, &err));
    assert_int_equal(tvlm_session_position(half), 1);
    free(logits);
    tvlm_session_free(half);
    tvlm_session_free(whole);
    tvlm_session_free(foreign);
    close_rig(&r);
    close_rig(&other);
    tiny_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_number_is_no_answer),
        cmocka_unit_test(inputs_that_do_not_fit_are_refused),
        cmocka_unit_test(equals_its_equations),
        cmocka_unit_test(bound_tells_rotations_apart),
        cmocka_unit_test(any_chunk_is_the_same),
        cmocka_unit_test(embeddings_are_rows_too),
        cmocka_unit_test(frequencies_are_powers),
        cmocka_unit_test(sines_are_right_up_to_the_last_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
