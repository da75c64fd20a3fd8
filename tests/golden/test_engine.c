/* SPDX-License-Identifier: MIT
 * The public API end to end: FastVLM against the reference's numbers, Tiny-VLM with the bundled
 * weights; the same bits in any batch, chunk and thread count; cancel, limits, batching, streaming.
 */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "convert/convert.h"
#include "quant/quant.h"
#include "tensors.h"
#include "tinyvlm.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <cmocka.h>

#include "check.h"

#define GOLDEN   TVLM_TEST_DATA "/golden/"
#define FASTVLM  TVLM_BUILD_DIR "/engine-tiny.gguf"
#define TINYVLM  TVLM_TEST_DATA "/../../models/tinyvlm-25m.gguf"
#define QUESTION "Describe the image."

static tvlm_error err;

typedef struct rig {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_model_info info;
} rig;

static void convert(const char *name, const char *out)
{
    char dir[512];
    tvlmc_convert_params p;
    tvlmc_convert_params_init(&p);
    p.type = TVLM_TYPE_F32;
    p.tokenizer = GOLDEN "tiny";
    snprintf(dir, sizeof dir, GOLDEN "%s", name);
    OK(tvlmc_convert(dir, out, &p, &err));
}

static tvlm_session *new_session(const tvlm_model *model, uint32_t n_ctx)
{
    tvlm_session_params s;
    tvlm_session *session;
    tvlm_session_params_init(&s, sizeof s);
    s.kv_type = TVLM_KV_F32;
    s.n_ctx = n_ctx;
    OK(tvlm_session_new(model, &s, &session, &err));
    return session;
}

static rig open_precision(const char *path, unsigned threads, unsigned rows, const char *cpu,
                          const char *precision)
{
    rig r;
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_model_params_init(&m, sizeof m);
    m.cpu = cpu;
    m.precision = precision;
    OK(tvlm_model_open(path, &m, &r.model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = threads;
    if (rows) e.max_batch_tokens = rows;
    OK(tvlm_engine_new(r.model, &e, &r.engine, &err));
    if (threads) assert_int_equal(tvlm_engine_n_threads(r.engine), threads);
    assert_in_range(tvlm_engine_n_threads(r.engine), 1, 64);
    r.session = new_session(r.model, 256);
    r.info.size = sizeof r.info;
    OK(tvlm_model_get_info(r.model, &r.info, &err));
    return r;
}

static rig open_rig(const char *path, unsigned threads, unsigned rows, const char *cpu)
{
    return open_precision(path, threads, rows, cpu, NULL);
}

static void close_rig(rig *r)
{
    tvlm_session_free(r->session);
    tvlm_engine_free(r->engine);
    tvlm_model_free(r->model);
}

/* The test picture, read from its PPM without the program's decoders. */
static tvlm_pixels test_picture(void)
{
    static unsigned char *file;
    size_t size;
    if (!file) file = read_whole_file(GOLDEN "image_100x150.ppm", &size);
    unsigned w, h, most;
    int at = 0;
    assert_int_equal(sscanf((char *)file, "P6 %u %u %u%n", &w, &h, &most, &at), 3);
    return (tvlm_pixels){file + at + 1, w, h, 3, 0};
}

static tvlm_image *see(rig *r)
{
    tvlm_image *image;
    tvlm_pixels pixels = test_picture();
    OK(tvlm_image_encode(r->engine, &pixels, NULL, &image, &err));
    return image;
}

static tvlm_prompt *ask(rig *r, tvlm_image *image, const char *question)
{
    tvlm_prompt *prompt;
    tvlm_message m = {TVLM_ROLE_USER, question, strlen(question), &image, image != NULL, NULL};
    OK(tvlm_prompt_new(r->model, &prompt, &err));
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    return prompt;
}

static double relative_l2(const float *a, const float *b, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(error / size);
}

static float *feed_all(rig *r, tvlm_session *session, const tvlm_prompt *prompt, size_t *n)
{
    *n = tvlm_prompt_n_tokens(prompt) * r->info.n_vocab;
    float *logits = malloc(*n * sizeof *logits);
    OK(tvlm_session_feed(r->engine, session, prompt, NULL, logits, *n, &err));
    return logits;
}

/* ---- FastVLM against the reference ---- */

static void check_golden(const char *path, const char *cpu)
{
    tensor_file golden = tensors_open(GOLDEN "golden_tiny_128.safetensors");
    tensor want = tensors_find(&golden, "logits"), ids = tensors_find(&golden, "generated_ids");
    rig r = open_precision(path, 1, 0, cpu, "f32");
    tvlm_image *image = see(&r);
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    size_t n, count, dim;
    const float *bridge = tvlm_image_tokens(image, &count, &dim);
    tensor projector = tensors_find(&golden, "projector_out");
    assert_int_equal(count * dim, projector.n);
    assert_true(relative_l2(bridge, projector.data, projector.n) < 1e-5);
    float *logits = feed_all(&r, r.session, prompt, &n);
    assert_int_equal(n, want.n);
    assert_true(relative_l2(logits, want.data, n) < 2e-5);

    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 24;
    p.ignore_eos = true;
    OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
    assert_int_equal(result.n_ids, ids.n);
    assert_int_equal(result.finish, TVLM_FINISH_LENGTH);
    bool wide = !strcmp(ids.dtype, "I64");
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(result.ids[i], wide ? (int32_t)((const int64_t *)ids.data)[i]
                                             : ((const int32_t *)ids.data)[i]);
    tensor last = tensors_find(&golden, "last_step_logits");
    tvlm_input row = {r.session, result.ids[23], NULL, true};
    OK(tvlm_forward(r.engine, &row, 1, NULL, logits, n, &err));
    assert_true(relative_l2(logits, last.data, last.n) < 2e-5);

    free(logits);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&r);
    tensors_close(&golden);
}

static void fastvlm_golden(void **state)
{
    (void)state;
    check_golden(FASTVLM, NULL);
    check_golden(FASTVLM, "scalar");
}

static void fastvlm_golden_hugging_face_layout(void **state)
{
    (void)state;
    convert("tiny_hf", TVLM_BUILD_DIR "/engine-tiny-hf.gguf");
    check_golden(TVLM_BUILD_DIR "/engine-tiny-hf.gguf", NULL);
}

/* The arithmetic that auto takes for float weights. */
static void auto_is_close(void **state)
{
    (void)state;
    tensor_file golden = tensors_open(GOLDEN "golden_tiny_128.safetensors");
    tensor logits = tensors_find(&golden, "logits");
    tensor projector = tensors_find(&golden, "projector_out");
    rig r = open_rig(FASTVLM, 2, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    size_t n, count, dim;
    const float *bridge = tvlm_image_tokens(image, &count, &dim);
    float *got = feed_all(&r, r.session, prompt, &n);
    double of_bridge = relative_l2(bridge, projector.data, projector.n);
    double of_logits = relative_l2(got, logits.data, n);
    print_message("bridge %.1e, logits %.1e\n", of_bridge, of_logits);
    assert_true(of_bridge < 1.5e-3 && of_logits < 1.5e-3);
    free(got);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&r);
    tensors_close(&golden);
}

/* ---- the same bits ---- */

static void same_logits(const char *path)
{
    rig one = open_rig(path, 1, 0, NULL);
    tvlm_image *image = see(&one);
    tvlm_prompt *prompt = ask(&one, image, QUESTION);
    size_t n, m;
    float *want = feed_all(&one, one.session, prompt, &n);
    static const unsigned threads[] = {2, 7, 1, 3}, rows[] = {0, 0, 1, 5};
    for (size_t i = 0; i < 4; i++) {
        rig r = open_rig(path, threads[i], rows[i], NULL);
        tvlm_image *again = see(&r);
        tvlm_prompt *q = ask(&r, again, QUESTION);
        float *got = feed_all(&r, r.session, q, &m);
        assert_int_equal(m, n);
        assert_memory_equal(got, want, n * sizeof *want);
        free(got);
        tvlm_prompt_free(q);
        tvlm_image_free(again);
        close_rig(&r);
    }
    free(want);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&one);
}

static void any_threads_and_chunks(void **state)
{
    (void)state;
    same_logits(FASTVLM);
    same_logits(TINYVLM);
}

/* Two sessions in one batch, rows interleaved, against each alone, for M = 1..17. */
static void any_batch(void **state)
{
    (void)state;
    rig r = open_rig(FASTVLM, 2, 0, NULL);
    size_t v = r.info.n_vocab;
    float *alone = malloc(34 * v * sizeof *alone), *mixed = malloc(34 * v * sizeof *mixed);
    for (size_t m = 1; m <= 17; m++) {
        tvlm_session *s[2] = {new_session(r.model, 64), new_session(r.model, 64)};
        tvlm_input rows[34];
        for (size_t k = 0; k < 2; k++) {
            for (size_t i = 0; i < m; i++)
                rows[i] = (tvlm_input){s[k], (int32_t)((i * 31 + k * 7) % 500), NULL, true};
            OK(tvlm_forward(r.engine, rows, m, NULL, alone + k * m * v, m * v, &err));
            tvlm_session_reset(s[k]);
        }
        for (size_t i = 0; i < 2 * m; i++)
            rows[i] = (tvlm_input){s[i % 2], (int32_t)((i / 2 * 31 + i % 2 * 7) % 500), NULL, true};
        OK(tvlm_forward(r.engine, rows, 2 * m, NULL, mixed, 2 * m * v, &err));
        for (size_t i = 0; i < 2 * m; i++)
            assert_memory_equal(mixed + i * v, alone + (i % 2 * m + i / 2) * v, v * sizeof *mixed);
        tvlm_session_free(s[0]);
        tvlm_session_free(s[1]);
    }
    free(alone);
    free(mixed);
    close_rig(&r);
}

static void half_precision_cache_is_close(void **state)
{
    (void)state;
    rig r = open_rig(FASTVLM, 1, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    tvlm_session *half;
    size_t n;
    OK(tvlm_session_new(r.model, NULL, &half, &err));
    float *want = feed_all(&r, r.session, prompt, &n), *got = feed_all(&r, half, prompt, &n);
    double error = relative_l2(got, want, n);
    assert_true(error > 0 && error < 2e-3); /* 11 bits of keys and values */
    free(want);
    free(got);
    tvlm_session_free(half);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&r);
}

/* ---- the picture ---- */

/* Without its visual tokens the bundled model must answer as if blind: otherwise than with them. */
static void the_picture_matters(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, 1, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_prompt *with = ask(&r, image, QUESTION), *without = ask(&r, NULL, QUESTION);
    size_t n, m;
    float *a = feed_all(&r, r.session, with, &n), *b = feed_all(&r, r.session, without, &m);
    assert_int_equal(n, m);
    assert_true(relative_l2(a, b, n) > 0.05);
    free(a);
    free(b);
    tvlm_prompt_free(with);
    tvlm_prompt_free(without);
    tvlm_image_free(image);
    close_rig(&r);
}

/* A second question reuses the rows of the picture (FastVLM), or needs none (Tiny-VLM). */
static void a_second_question_costs_its_words(void **state)
{
    (void)state;
    rig r = open_rig(FASTVLM, 1, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_prompt *first = ask(&r, image, "One?"), *second = ask(&r, image, "Two two?");
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 3;
    p.ignore_eos = true;
    OK(tvlm_generate(r.engine, r.session, first, &p, &result, &err));
    assert_int_equal(result.n_reused_tokens, 0);
    OK(tvlm_generate(r.engine, r.session, second, &p, &result, &err));
    size_t n;
    const int32_t *ids = tvlm_prompt_ids(second, &n);
    size_t before = 0;
    while (ids[before] != TVLM_IMAGE_ID)
        before++;
    assert_true(result.n_reused_tokens >= before + r.info.n_image_tokens);
    int32_t reused[3];
    memcpy(reused, result.ids, sizeof reused);
    tvlm_session_reset(r.session);
    OK(tvlm_generate(r.engine, r.session, second, &p, &result, &err));
    assert_memory_equal(reused, result.ids, sizeof reused);
    tvlm_prompt_free(first);
    tvlm_prompt_free(second);
    tvlm_image_free(image);
    close_rig(&r);
}

/* ---- cancel ---- */

static void *cancel_soon(void *cancel)
{
    struct timespec t = {0, 2000000};
    nanosleep(&t, NULL);
    tvlm_cancel_request(cancel);
    return NULL;
}

static void cancel_leaves_everything_usable(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, 2, 0, NULL);
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_encode_params e;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_image *image = NULL;
    tvlm_pixels pixels = test_picture();
    tvlm_encode_params_init(&e, sizeof e);
    e.cancel = cancel;
    tvlm_cancel_request(cancel); /* before the call: not lost */
    assert_int_equal(tvlm_image_encode(r.engine, &pixels, &e, &image, &err), TVLM_ERR_CANCELLED);
    assert_null(image);
    tvlm_cancel_reset(cancel);
    OK(tvlm_image_encode(r.engine, &pixels, &e, &image, &err));
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 200;
    p.ignore_eos = true;
    p.cancel = cancel;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, cancel), 0);
    tvlm_status status = TVLM_OK; /* until the other thread cancels, wherever that finds it */
    while (status == TVLM_OK)
        status = tvlm_generate(r.engine, r.session, prompt, &p, &result, &err);
    pthread_join(thread, NULL);
    assert_int_equal(status, TVLM_ERR_CANCELLED);
    tvlm_cancel_reset(cancel);
    p.max_tokens = 4;
    OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
    int32_t after[4];
    memcpy(after, result.ids, sizeof after);
    tvlm_session_reset(r.session);
    OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
    assert_memory_equal(after, result.ids, sizeof after);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    tvlm_cancel_free(cancel);
    close_rig(&r);
}

/* ---- limits ---- */

static void limits_are_refused_with_numbers(void **state)
{
    (void)state;
    rig r = open_rig(FASTVLM, 1, 0, NULL);
    tvlm_session *small = new_session(r.model, 16);
    tvlm_image *image = see(&r);
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    tvlm_result result = {.size = sizeof result};
    assert_int_equal(tvlm_generate(r.engine, small, prompt, NULL, &result, &err), TVLM_ERR_CONTEXT);
    assert_string_equal(err.message, "the prompt needs 28 positions, the context has 16");
    assert_int_equal(tvlm_session_position(small), 0);
    tvlm_session_params s;
    tvlm_session_params_init(&s, sizeof s);
    s.max_prompt_bytes = 8;
    tvlm_session *brief;
    OK(tvlm_session_new(r.model, &s, &brief, &err));
    assert_int_equal(tvlm_generate(r.engine, brief, prompt, NULL, &result, &err), TVLM_ERR_LIMIT);
    s = (tvlm_session_params){.size = sizeof s, .max_memory = 1000};
    tvlm_session *none;
    assert_int_equal(tvlm_session_new(r.model, &s, &none, &err), TVLM_ERR_LIMIT);
    tvlm_engine_params e;
    tvlm_engine *engine;
    tvlm_engine_params_init(&e, sizeof e);
    e.max_memory = 1000;
    assert_int_equal(tvlm_engine_new(r.model, &e, &engine, &err), TVLM_ERR_LIMIT);
    e.max_memory = SIZE_MAX;
    e.max_pixels = 100;
    OK(tvlm_engine_new(r.model, &e, &engine, &err));
    tvlm_pixels pixels = test_picture();
    tvlm_image *refused;
    assert_int_equal(tvlm_image_encode(engine, &pixels, NULL, &refused, &err), TVLM_ERR_LIMIT);
    pixels.width = pixels.height = 65536; /* whose product is 0 in 32 bits */
    IS(LIMIT, tvlm_image_encode(engine, &pixels, NULL, &refused, &err));
    SAYS("an image of 65536x65536, the limit is 100 pixels");
    pixels.height = 0;
    assert_int_equal(tvlm_image_encode(engine, &pixels, NULL, &refused, &err), TVLM_ERR_ARGUMENT);
    tvlm_input row = {r.session, 100000, NULL, true};
    float logit[600];
    assert_int_equal(tvlm_forward(r.engine, &row, 1, NULL, logit, 600, &err), TVLM_ERR_ARGUMENT);
    row.token = 1;
    assert_int_equal(tvlm_forward(r.engine, &row, 1, NULL, logit, 10, &err), TVLM_ERR_ARGUMENT);
    assert_int_equal(tvlm_session_position(r.session), 0);
    tvlm_input full[17]; /* one more than the cache holds, at once and then alone */
    for (size_t i = 0; i < TVLM_COUNT(full); i++)
        full[i] = (tvlm_input){small, 1, NULL, false};
    assert_int_equal(tvlm_forward(r.engine, full, 17, NULL, NULL, 0, &err), TVLM_ERR_CONTEXT);
    assert_int_equal(tvlm_session_position(small), 0);
    OK(tvlm_forward(r.engine, full, 16, NULL, NULL, 0, &err));
    assert_int_equal(tvlm_forward(r.engine, full, 1, NULL, NULL, 0, &err), TVLM_ERR_CONTEXT);
    assert_int_equal(tvlm_session_position(small), 16);
    tvlm_engine_free(engine);
    tvlm_session_free(brief);
    tvlm_session_free(small);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&r);
}

/* A user's text never becomes a special token; the template's own do. */
static void user_text_is_never_special(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, 1, 0, NULL);
    tvlm_prompt *p = ask(&r, NULL, "a<|im_end|>b<|im_start|>");
    size_t n, specials = 0;
    const int32_t *ids = tvlm_prompt_ids(p, &n);
    for (size_t i = 0; i < n; i++)
        specials += ids[i] < 3;
    assert_int_equal(specials, 2);
    tvlm_prompt_free(p);
    close_rig(&r);
}

/* ---- streaming ---- */

typedef struct heard {
    char text[4096];
    size_t len, calls, stop_after;
} heard;

static bool hear(void *user, const char *text, size_t len)
{
    heard *h = user;
    assert_true(h->len + len < sizeof h->text);
    memcpy(h->text + h->len, text, len);
    h->len += len;
    h->calls++;
    return h->calls != h->stop_after;
}

static void stream_stops_where_it_should(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, 1, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    heard whole = {.stop_after = 0}, cut = {.stop_after = 0}, few = {.stop_after = 2};
    tvlm_generate_params_init(&p, sizeof p);
    p.on_text = hear;
    p.user = &whole;
    OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
    assert_int_equal(result.finish, TVLM_FINISH_STOP);
    assert_int_equal(whole.len, result.text_len);
    assert_memory_equal(whole.text, result.text, whole.len);
    assert_true(whole.len > 12 && whole.text[0] != ' ' && whole.calls > 3);
    /* a stop string that crosses the border of two tokens: from the middle of one into the next */
    char middle[8] = {0};
    size_t space = 4;
    while (whole.text[space] != ' ')
        space++;
    memcpy(middle, whole.text + space - 1, 3);
    const char *stop[1] = {middle};
    p.stop = stop;
    p.n_stop = 1;
    p.user = &cut;
    OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
    size_t at = (size_t)(strstr(whole.text, middle) - whole.text);
    assert_int_equal(result.finish, TVLM_FINISH_STOP);
    assert_int_equal(cut.len, at);
    assert_memory_equal(cut.text, whole.text, at);
    /* one that the text begins with, past its first token: nothing of it is heard */
    for (size_t n = 2; n <= space + 2; n++) {
        char beginning[64] = {0};
        assert_true(n < sizeof beginning);
        heard none = {.stop_after = 0};
        memcpy(beginning, whole.text, n);
        stop[0] = beginning;
        p.user = &none;
        OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
        assert_int_equal(result.finish, TVLM_FINISH_STOP);
        assert_true(none.len == 0 && result.text_len == 0);
    }
    p.n_stop = 0;
    p.user = &few;
    OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
    assert_int_equal(result.finish, TVLM_FINISH_CALLBACK);
    assert_int_equal(few.calls, 2);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&r);
}

static void seeds_repeat(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, 1, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_prompt *prompt = ask(&r, image, QUESTION);
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    int32_t ids[2][12];
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 12;
    p.ignore_eos = true;
    p.sampling = (tvlm_sampling){
        .temperature = 1.5f, .top_k = 50, .top_p = 0.95f, .seed = 7, .repeat_penalty = 1};
    for (int i = 0; i < 2; i++) {
        OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
        memcpy(ids[i], result.ids, sizeof ids[i]);
    }
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    bool differs = false;
    for (uint64_t seed = 8; seed < 12; seed++) {
        p.sampling.seed = seed;
        OK(tvlm_generate(r.engine, r.session, prompt, &p, &result, &err));
        differs |= memcmp(ids[0], result.ids, sizeof ids[0]) != 0;
    }
    assert_true(differs);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    close_rig(&r);
}

/* ---- batching ---- */

enum { CALLERS = 4, ANSWER = 16 };

typedef struct caller {
    rig *r;
    tvlm_batcher *batcher;
    tvlm_prompt *prompt;
    tvlm_session *session;
    int32_t ids[ANSWER];
    tvlm_status status;
} caller;

static void *call(void *user)
{
    caller *c = user;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = ANSWER;
    p.ignore_eos = true;
    p.batcher = c->batcher;
    c->status = tvlm_generate(c->r->engine, c->session, c->prompt, &p, &result, NULL);
    if (!c->status) memcpy(c->ids, result.ids, sizeof c->ids);
    return NULL;
}

static void batched_answers_are_those_of_alone(void **state)
{
    (void)state;
    static const char *const questions[CALLERS] = {"Is there a dog in the picture?", QUESTION,
                                                   "How many people are there?", "What is this?"};
    rig r = open_rig(TINYVLM, 2, 0, NULL);
    tvlm_image *image = see(&r);
    tvlm_batcher_params b;
    tvlm_batcher *batcher;
    tvlm_batcher_params_init(&b, sizeof b);
    b.timeout_ms = 20;
    OK(tvlm_batcher_new(r.engine, &b, &batcher, &err));
    caller alone[CALLERS], together[CALLERS];
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        alone[i] =
            (caller){&r, NULL, ask(&r, image, questions[i]), new_session(r.model, 64), {0}, 0};
        call(&alone[i]);
        together[i] = alone[i];
        together[i].batcher = batcher;
        memset(together[i].ids, 0, sizeof together[i].ids);
        tvlm_session_reset(alone[i].session);
    }
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call, &together[i]), 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(alone[i].status, TVLM_OK);
        assert_int_equal(together[i].status, TVLM_OK);
        assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
        tvlm_prompt_free(alone[i].prompt);
        tvlm_session_free(alone[i].session);
    }
    tvlm_batcher_free(batcher);
    tvlm_image_free(image);
    close_rig(&r);
}

static int setup(void **state)
{
    (void)state;
    convert("tiny", FASTVLM);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fastvlm_golden),
        cmocka_unit_test(fastvlm_golden_hugging_face_layout),
        cmocka_unit_test(any_threads_and_chunks),
        cmocka_unit_test(any_batch),
        cmocka_unit_test(auto_is_close),
        cmocka_unit_test(half_precision_cache_is_close),
        cmocka_unit_test(the_picture_matters),
        cmocka_unit_test(a_second_question_costs_its_words),
        cmocka_unit_test(cancel_leaves_everything_usable),
        cmocka_unit_test(limits_are_refused_with_numbers),
        cmocka_unit_test(user_text_is_never_special),
        cmocka_unit_test(stream_stops_where_it_should),
        cmocka_unit_test(seeds_repeat),
        cmocka_unit_test(batched_answers_are_those_of_alone),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
