/* SPDX-License-Identifier: MIT
 * Tiny-VLM's gated cross-attention on a small random model against its equations in double
 * precision; pictures in batches; the life of a picture. */
#include "engine/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "check.h"
#include "tiny_model.h"

#define PATH TVLM_BUILD_DIR "/tinyvlm-test.gguf"

enum { SIDE = 64, D = 48, QUERIES = 5, NAMES = 32, ROWS = 20 };

static tvlm_error err;
static tiny model_tensors;
static tvlm_model *model;
static tvlm_engine *engine;

/* ---- the model: a tower of four blocks, pooling, two layers ---- */

static void pair(const char *name, size_t n, size_t k)
{
    char full[48];
    snprintf(full, sizeof full, "%s.weight", name);
    tiny_put(&model_tensors, full, TVLM_TYPE_F32, (size_t[]){n, k, 0, 0}, k ? 0.0f : 1.0f,
             k ? sqrtf(3.0f / (float)k) : 0.5f);
    snprintf(full, sizeof full, "%s.bias", name);
    tiny_vector(&model_tensors, full, n, 0.0f);
}

static void square(const char *name, size_t n, size_t c, float spread)
{
    char full[48];
    snprintf(full, sizeof full, "%s.weight", name);
    size_t shape[4] = {n, c ? c : 3, 3, c ? 3 : 0};
    tiny_put(&model_tensors, full, TVLM_TYPE_F32, shape, 0.0f, spread);
    snprintf(full, sizeof full, "%s.bias", name);
    tiny_vector(&model_tensors, full, n, 0.5f);
}

static void add_tower(void)
{
    char name[48];
    square("v.stem", 8, 3, 0.3f);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "v.blk.%d.expand", i);
        pair(name, 16, 8);
        snprintf(name, sizeof name, "v.blk.%d.dw", i);
        square(name, 16, 0, 0.5f);
        snprintf(name, sizeof name, "v.blk.%d.project", i);
        pair(name, 8, 16);
    }
    pair("v.head", 24, 8);
}

static void add_pooling(void)
{
    static const char *const squares[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const char *const norms[] = {"norm", "ffn_norm", "out_norm"};
    char name[48];
    pair("mm.pool.hi", D, 24);
    pair("mm.pool.lo", D, 8);
    size_t positions = SIDE / 32 * (SIDE / 32) + SIDE / 16 * (SIDE / 16);
    tiny_put(&model_tensors, "mm.pool.pos", TVLM_TYPE_F32, (size_t[]){positions, D, 0, 0}, 0, 0.3f);
    tiny_put(&model_tensors, "mm.pool.query", TVLM_TYPE_F32, (size_t[]){QUERIES, D, 0, 0}, 0, 1);
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "mm.pool.%s", squares[i]);
        pair(name, D, D);
    }
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "mm.pool.%s", norms[i]);
        pair(name, D, 0);
    }
    pair("mm.pool.ffn_up", 2 * D, D);
    pair("mm.pool.ffn_down", D, 2 * D);
}

static void add_naming(void)
{
    pair("mm.names.score", NAMES, 24);
    tiny_put(&model_tensors, "mm.names.embd.weight", TVLM_TYPE_F32, (size_t[]){D, NAMES, 0, 0}, 0,
             0.2f);
    tiny_put(&model_tensors, "mm.names.norm.weight", TVLM_TYPE_F32, (size_t[]){D, 0, 0, 0}, 1,
             0.5f);
}

static void more_keys(tvlmc_gguf_writer *w)
{
    static const double scale[3] = {1 / 128.0, 1 / 128.0, 1 / 128.0}, bias[3] = {-1, -1, -1};
    static const int32_t strides[4] = {2, 2, 2, 2}, taps[1] = {2};
    tvlm_error error;
    TINY_OK(tvlmc_gguf_put_string(w, "vision.tower", (tvlm_str){"efficientnet_lite", 17}, &error));
    TINY_OK(tvlmc_gguf_put_u32(w, "vision.image_size", SIDE, &error));
    TINY_OK(tvlmc_gguf_put_string(w, "vision.preprocess.mode", (tvlm_str){"squash", 6}, &error));
    TINY_OK(tvlmc_gguf_put_f64_array(w, "vision.preprocess.scale", scale, 3, &error));
    TINY_OK(tvlmc_gguf_put_f64_array(w, "vision.preprocess.bias", bias, 3, &error));
    TINY_OK(tvlmc_gguf_put_i32_array(w, "vision.efficientnet.strides", strides, 4, &error));
    TINY_OK(tvlmc_gguf_put_i32_array(w, "vision.efficientnet.taps", taps, 1, &error));
    TINY_OK(tvlmc_gguf_put_u32(w, "tinyvlm.pool.head_count", 3, &error));
    TINY_OK(tvlmc_gguf_put_string(w, "tinyvlm.chat_template", (tvlm_str){"tinyvlm", 7}, &error));
}

static void open_model(const char *precision)
{
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_model_params_init(&m, sizeof m);
    m.precision = precision;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 2;
    OK(tvlm_model_open(PATH, &m, &model, &err));
    OK(tvlm_engine_new(model, &e, &engine, &err));
}

static void close_model(void)
{
    tvlm_engine_free(engine);
    tvlm_model_free(model);
}

static int setup(void **state)
{
    (void)state;
    model_tensors = (tiny){.arch = "tinyvlm",
                           .layers = 2,
                           .d = D,
                           .ff = 64,
                           .heads = 6,
                           .kv_heads = 2,
                           .head_dim = 8,
                           .ctx = 64,
                           .vocab = TINY_TOKENS,
                           .theta = 100000,
                           .eps = 1e-5f,
                           .tied = true,
                           .cross = true,
                           .type = TVLM_TYPE_F32,
                           .random = 3};
    add_tower();
    add_pooling();
    add_naming();
    tiny_decoder(&model_tensors);
    tiny_write(&model_tensors, PATH, more_keys);
    open_model(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_model();
    tiny_free(&model_tensors);
    return 0;
}

/* ---- helpers ---- */

/* One of many pictures. */
static tvlm_image *see(unsigned which)
{
    static uint8_t data[40 * 30 * 3];
    tvlm_image *image;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * (which + 1) / 7 + i / 90 * which);
    tvlm_pixels pixels = {data, 40, 30, 3, 0};
    OK(tvlm_image_encode(engine, &pixels, NULL, &image, &err));
    return image;
}

static tvlm_prompt *ask(const tvlm_image *image, unsigned seed, size_t n)
{
    tvlm_prompt *prompt;
    int32_t ids[ROWS];
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)((i * 41 + seed * 17) % 256);
    OK(tvlm_prompt_new(model, &prompt, &err));
    if (image) OK(tvlm_prompt_add_image(prompt, image, &err));
    OK(tvlm_prompt_add_ids(prompt, ids, n, &err));
    return prompt;
}

static tvlm_session *new_session(void)
{
    tvlm_session_params s;
    tvlm_session *session;
    tvlm_session_params_init(&s, sizeof s);
    s.kv_type = TVLM_KV_F32;
    OK(tvlm_session_new(model, &s, &session, &err));
    return session;
}

static float *feed(tvlm_session *session, const tvlm_prompt *prompt)
{
    size_t n = tvlm_prompt_n_tokens(prompt) * TINY_TOKENS;
    float *logits = malloc(n * sizeof *logits);
    OK(tvlm_session_feed(engine, session, prompt, NULL, logits, n, &err));
    return logits;
}

static double logits_error(tvlm_image *image, bool told)
{
    tvlm_prompt *prompt = ask(image, 4, ROWS);
    tvlm_session *session = new_session();
    size_t n, dim;
    float *got = feed(session, prompt);
    const int32_t *ids = tvlm_prompt_ids(prompt, &n);
    assert_int_equal(n, ROWS); /* a picture adds no id */
    const float *tokens = image && told ? tvlm_image_tokens(image, &n, &dim) : NULL;
    double *want = tiny_forward(&model_tensors, ids, ROWS, tokens, tokens ? n : 0);
    double error = tiny_error(got, want, (size_t)ROWS * TINY_TOKENS);
    free(want);
    free(got);
    tvlm_session_free(session);
    tvlm_prompt_free(prompt);
    return error;
}

/* ---- tests ---- */

static void check_equations(double most)
{
    for (unsigned which = 0; which < 3; which++) {
        tvlm_image *image = see(which);
        double error = logits_error(image, true);
        print_message("with a picture: %.1e\n", error);
        assert_true(error < most);
        assert_true(logits_error(image, false) > 0.01); /* the reference without it is far */
        tvlm_image_free(image);
    }
    assert_true(logits_error(NULL, false) < most); /* blind */
}

static void equals_its_equations(void **state)
{
    (void)state;
    close_model();
    open_model("f32");
    check_equations(3e-6);
    close_model();
    open_model(NULL);
    check_equations(1e-3);
}

/* Each picture has a token of names of its own, behind the pooled ones; the vision ends with it. */
static void names_what_it_sees(void **state)
{
    (void)state;
    float last[2][D];
    for (unsigned which = 0; which < 2; which++) {
        static const uint8_t shades[2][3] = {
            {250, 20,  60 },
            {10,  240, 200}
        };
        tvlm_encode_params p;
        tvlm_image *image;
        tvlm_encode_params_init(&p, sizeof p);
        p.keep_vision_tokens = true;
        tvlm_pixels pixels = {shades[which], 1, 1, 3, 0};
        OK(tvlm_image_encode(engine, &pixels, &p, &image, &err));
        size_t n, n_vision, dim;
        const float *vision = tvlm_image_vision_tokens(image, &n_vision, &dim);
        const float *tokens = tvlm_image_tokens(image, &n, &dim);
        assert_int_equal(n, QUERIES + 1);
        assert_int_equal(n_vision, SIDE / 32 * (SIDE / 32) + SIDE / 16 * (SIDE / 16) + 1);
        memcpy(last[which], tokens + QUERIES * D, sizeof last[which]);
        assert_memory_equal(vision + (n_vision - 1) * D, last[which], sizeof last[which]);
        tvlm_image_free(image);
    }
    double apart = 0;
    for (size_t i = 0; i < D; i++)
        apart += fabs(last[0][i] - last[1][i]);
    assert_true(apart > 1e-3);
}

/* Rows with different pictures and without one share a pass. */
static void any_company_is_the_same(void **state)
{
    (void)state;
    enum { SESSIONS = 3 };
    tvlm_image *images[SESSIONS] = {see(0), see(1), NULL};
    tvlm_session *sessions[SESSIONS];
    float alone[SESSIONS][TINY_TOKENS], together[SESSIONS][TINY_TOKENS];
    tvlm_input rows[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        tvlm_prompt *prompt = ask(images[i], (unsigned)i, 7 + (size_t)i);
        for (int again = 0; again < 2; again++) {
            if (!again) sessions[i] = new_session();
            tvlm_session_reset(sessions[i]);
            OK(tvlm_session_feed(engine, sessions[i], prompt, NULL, NULL, 0, &err));
            rows[i] = (tvlm_input){sessions[i], 65 + i, NULL, true};
            if (!again) OK(tvlm_forward(engine, &rows[i], 1, NULL, alone[i], TINY_TOKENS, &err));
        }
        tvlm_prompt_free(prompt);
    }
    OK(tvlm_forward(engine, rows, SESSIONS, NULL, together[0], SESSIONS * TINY_TOKENS, &err));
    assert_memory_equal(together, alone, sizeof alone);
    for (int i = 0; i < SESSIONS; i++) {
        tvlm_session_free(sessions[i]);
        tvlm_image_free(images[i]);
    }
}

/* Prompts and sessions hold their picture: freeing the handle takes it from nobody. */
static void a_picture_lives_while_it_is_used(void **state)
{
    (void)state;
    tvlm_image *image = see(2);
    tvlm_session *session = new_session(), *other = new_session();
    tvlm_prompt *prompt = ask(image, 1, 6);
    float want[2][TINY_TOKENS], got[2][TINY_TOKENS];
    tvlm_input row = {session, 70, NULL, true};
    free(feed(session, prompt));
    OK(tvlm_forward(engine, &row, 1, NULL, want[0], TINY_TOKENS, &err));
    OK(tvlm_forward(engine, &row, 1, NULL, want[1], TINY_TOKENS, &err));
    tvlm_image_free(image);
    free(feed(other, prompt));
    tvlm_prompt_free(prompt);
    row.session = other;
    OK(tvlm_forward(engine, &row, 1, NULL, got[0], TINY_TOKENS, &err));
    OK(tvlm_forward(engine, &row, 1, NULL, got[1], TINY_TOKENS, &err));
    assert_memory_equal(got, want, sizeof want);
    tvlm_session_free(session);
    tvlm_session_free(other);
}

/* The cache of one picture is nothing worth to another; an equal picture is the same picture. */
static void another_picture_starts_anew(void **state)
{
    (void)state;
    tvlm_image *first = see(0), *same = see(0), *second = see(1);
    tvlm_prompt *prompts[3] = {ask(first, 1, 9), ask(same, 1, 9), ask(second, 1, 9)};
    static const size_t reused[3] = {0, 8, 0};
    tvlm_session *session = new_session();
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 1;
    for (int i = 0; i < 3; i++) {
        OK(tvlm_generate(engine, session, prompts[i], &p, &result, &err));
        assert_int_equal(result.n_reused_tokens, reused[i]);
        tvlm_prompt_free(prompts[i]);
    }
    tvlm_session_free(session);
    tvlm_image_free(first);
    tvlm_image_free(same);
    tvlm_image_free(second);
}

static void one_picture_a_prompt(void **state)
{
    (void)state;
    tvlm_image *image = see(0);
    tvlm_prompt *prompt;
    tvlm_image *both[2] = {image, image};
    tvlm_message m = {TVLM_ROLE_USER, "What?", 5, both, 2, NULL};
    size_t n;
    OK(tvlm_prompt_new(model, &prompt, &err));
    assert_int_equal(tvlm_prompt_chat(prompt, &m, 1, &err), TVLM_ERR_LIMIT);
    assert_int_equal(prompt->n_images, 0); /* all of a conversation or nothing */
    tvlm_prompt_ids(prompt, &n);
    assert_int_equal(n, 0);
    m.n_images = 1;
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    const int32_t *ids = tvlm_prompt_ids(prompt, &n);
    assert_int_equal(n, 7);
    assert_int_equal(ids[0], TINY_START);
    assert_int_equal(ids[6], TINY_END);
    assert_int_equal(tvlm_prompt_add_image(prompt, image, &err), TVLM_ERR_LIMIT);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
}

/* Of a decoder pass of two tokens after three. Keys and values of the image are made with it. */
static void work_is_counted(void **state)
{
    (void)state;
    const tiny *t = &model_tensors;
    tvlm_work_plan plan = {.size = sizeof plan};
    double flops = 0, bytes = 0, q = t->heads * t->head_dim, kv = t->kv_heads * t->head_dim;
    for (size_t i = 0; i < t->n_tensors; i++) {
        const tiny_tensor *w = &t->tensors[i];
        bool linear = !strncmp(w->name, "blk.", 4) && w->n_dims == 2;
        bool of_image = strstr(w->name, "cross_k") || strstr(w->name, "cross_v");
        bool logits = !strcmp(w->name, t->tied ? "token_embd.weight" : "output.weight");
        if ((!linear || of_image) && !logits) continue;
        flops += 2.0 * (logits ? 1 : 2) * (double)w->n;
        bytes += (double)w->size;
    }
    flops += t->layers * 4 * q * ((4 + 5) + 2 * (QUERIES + 1)); /* the first sees 4 positions */
    bytes += t->layers * 2 * kv * (5 * 2 + (QUERIES + 1) * 4);
    OK(tvlm_work_estimate(model, 3, 2, &plan, &err));
    assert_true(plan.decoder.flops == flops && plan.decoder.bytes == bytes);
    OK(tvlm_work_estimate(model, 3, 0, &plan, &err));
    assert_true(plan.decoder.flops == 0 && plan.decoder.bytes == 0);
    /* the tower's stem: 27 weights for each of 8 channels of 32 x 32 pixels, four bytes each */
    assert_true(plan.tower.flops > 2 * 27 * 8 * 32 * 32 && plan.tower.bytes > 4 * 27 * 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_its_equations),
        cmocka_unit_test(names_what_it_sees),
        cmocka_unit_test(any_company_is_the_same),
        cmocka_unit_test(a_picture_lives_while_it_is_used),
        cmocka_unit_test(another_picture_starts_anew),
        cmocka_unit_test(one_picture_a_prompt),
        cmocka_unit_test(work_is_counted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
