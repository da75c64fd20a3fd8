/* SPDX-License-Identifier: MIT
 * What apps ask for: an image whose tower ran elsewhere, scratch within a limit and given back, one
 * question about one image. */
#include "base/base.h"
#include "convert/convert.h"
#include "quant/quant.h"
#include "tensors.h"
#include "tinyvlm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "check.h"

enum { WIDTH = 190, HEIGHT = 70 };

static tvlm_error err;
static tvlm_model *model;
static tvlm_engine *engine;
static uint8_t picture[WIDTH * HEIGHT * 3];
static const tvlm_pixels pixels = {picture, WIDTH, HEIGHT, 3, 0};

static void open_file(const char *path, const char *chat_template)
{
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_model_params_init(&m, sizeof m);
    m.chat_template = chat_template;
    for (size_t i = 0; i < sizeof picture; i++)
        picture[i] = (uint8_t)(i / 570 * 3 + i % 570);
    OK(tvlm_model_open(path, &m, &model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 2;
    OK(tvlm_engine_new(model, &e, &engine, &err));
}

static void open_bundled(void)
{
    open_file(TVLM_TEST_DATA "/../../models/tinyvlm-25m.gguf", NULL);
}

static void open_model(const char *name)
{
    char from[1024], to[1024];
    tvlmc_convert_params c;
    tvlmc_convert_params_init(&c);
    c.type = TVLM_TYPE_F32;
    snprintf(from, sizeof from, "%s/golden/%s", TVLM_TEST_DATA, name);
    snprintf(to, sizeof to, "%s/host-%s.gguf", TVLM_BUILD_DIR, name);
    OK(tvlmc_convert(from, to, &c, &err));
    open_file(to, NULL);
}

static void close_model(void)
{
    tvlm_engine_free(engine);
    tvlm_model_free(model);
}

static tvlm_image *encode(tvlm_engine *with, bool keep)
{
    tvlm_image *image;
    tvlm_encode_params p;
    tvlm_encode_params_init(&p, sizeof p);
    p.keep_vision_tokens = keep;
    OK(tvlm_image_encode(with, &pixels, &p, &image, &err));
    return image;
}

static void assert_same_tokens(const tvlm_image *a, const tvlm_image *b)
{
    size_t n, dim, m, width;
    const float *x = tvlm_image_tokens(a, &n, &dim), *y = tvlm_image_tokens(b, &m, &width);
    assert_true(n == m && dim == width);
    assert_memory_equal(x, y, n * dim * sizeof *x);
}

/* ---- a tower elsewhere ---- */

static void check_tower_elsewhere(void)
{
    size_t n, dim;
    tvlm_image *here = encode(engine, true), *there;
    const float *vision = tvlm_image_vision_tokens(here, &n, &dim);
    OK(tvlm_image_from_vision(engine, vision, n, dim, WIDTH, HEIGHT, NULL, &there, &err));
    assert_same_tokens(here, there);
    assert_null(tvlm_image_vision_tokens(there, NULL, NULL));
    tvlm_image_free(there);

    tvlm_encode_params p;
    tvlm_encode_params_init(&p, sizeof p);
    p.keep_vision_tokens = true;
    OK(tvlm_image_from_vision(engine, vision, n, dim, WIDTH, HEIGHT, &p, &there, &err));
    assert_memory_equal(tvlm_image_vision_tokens(there, NULL, NULL), vision,
                        n * dim * sizeof *vision);
    tvlm_image_timings timings = {.size = sizeof timings};
    OK(tvlm_image_get_timings(there, &timings, &err));
    assert_true(timings.tower_ms == 0 && timings.preprocess_ms == 0);
    tvlm_image_free(there);

    IS(ARGUMENT,
       tvlm_image_from_vision(engine, vision, n - 1, dim, WIDTH, HEIGHT, NULL, &there, &err));
    SAYS("this model's image has");
    assert_null(there);
    IS(ARGUMENT,
       tvlm_image_from_vision(engine, vision, n, dim + 1, WIDTH, HEIGHT, NULL, &there, &err));
    IS(ARGUMENT, tvlm_image_from_vision(engine, vision, n, dim, 0, HEIGHT, NULL, &there, &err));
    SAYS("empty image");
    float *spoiled = malloc(n * dim * sizeof *spoiled);
    memcpy(spoiled, vision, n * dim * sizeof *spoiled);
    spoiled[n * dim - 1] = NAN;
    IS(ARGUMENT,
       tvlm_image_from_vision(engine, spoiled, n, dim, WIDTH, HEIGHT, NULL, &there, &err));
    SAYS("not a number");
    free(spoiled);
    tvlm_image_free(here);
}

static void a_tower_elsewhere(void **state)
{
    static const char *const names[] = {"tiny", "smolvlm"};
    (void)state;
    for (size_t i = 0; i < TVLM_COUNT(names); i++) {
        open_model(names[i]);
        check_tower_elsewhere();
        close_model();
    }
    open_bundled();
    check_tower_elsewhere();
    close_model();
}

/* A model that splits images: the size says how many frames there must be. */
static void frames_of_a_tower_elsewhere(void **state)
{
    size_t n, dim;
    tvlm_image *there;
    (void)state;
    open_model("smolvlm");
    tvlm_image *here = encode(engine, true);
    const float *vision = tvlm_image_vision_tokens(here, &n, &dim);
    tvlm_model_info info = {.size = sizeof info};
    OK(tvlm_model_get_info(model, &info, &err));
    size_t frame = (size_t)info.image_size * info.image_size * 3;
    size_t frames = tvlm_preprocess_floats(model, &pixels, NULL) / frame;
    assert_true(frames > 1 && n % frames == 0);
    IS(ARGUMENT,
       tvlm_image_from_vision(engine, vision, n, dim, HEIGHT, HEIGHT, NULL, &there, &err));
    tvlm_encode_params p;
    tvlm_encode_params_init(&p, sizeof p);
    p.fit = TVLM_FIT_SQUASH;
    OK(tvlm_image_from_vision(engine, vision, n / frames, dim, WIDTH, HEIGHT, &p, &there, &err));
    tvlm_image_free(there);
    tvlm_image_free(here);
    close_model();
}

/* ---- scratch ---- */

static tvlm_engine *limited(size_t max_memory)
{
    tvlm_engine *e;
    tvlm_engine_params p;
    tvlm_engine_params_init(&p, sizeof p);
    p.n_threads = 1;
    p.max_batch_tokens = 256;
    p.max_memory = max_memory;
    OK(tvlm_engine_new(model, &p, &e, &err));
    return e;
}

static tvlm_memory plan_within(size_t max_memory)
{
    tvlm_memory m = {.size = sizeof m};
    tvlm_engine_params p;
    tvlm_engine_params_init(&p, sizeof p);
    p.n_threads = 1;
    p.max_memory = max_memory;
    OK(tvlm_memory_estimate(model, &p, NULL, &m, &err));
    assert_true(m.decoder_scratch_bytes <= max_memory && m.vision_scratch_bytes <= max_memory);
    return m;
}

static char *answer(tvlm_engine *with)
{
    tvlm_session *session;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params p;
    OK(tvlm_session_new(model, NULL, &session, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 8;
    OK(tvlm_ask(with, session, NULL, "How long is this question, in all?", 34, &p, &result, &err));
    char *text = calloc(1, result.text_len + 1);
    memcpy(text, result.text, result.text_len);
    tvlm_session_free(session);
    return text;
}

static void passes_fit_the_memory(void **state)
{
    (void)state;
    open_file(TVLM_TEST_DATA "/../fuzz/corpus/gguf/llama.gguf",
              "chatml"); /* no image's scratch beside */
    size_t all = (size_t)plan_within(SIZE_MAX).decoder_scratch_bytes;
    assert_int_equal(plan_within(all).n_batch_tokens, 256);
    assert_int_equal(plan_within(all - 1).n_batch_tokens, 128);
    uint64_t fewer = plan_within(all / 2).n_batch_tokens;
    assert_true(fewer >= 16 && fewer < 128);
    tvlm_engine *none;
    tvlm_engine_params p;
    tvlm_engine_params_init(&p, sizeof p);
    p.max_memory = all / 8;
    IS(LIMIT, tvlm_engine_new(model, &p, &none, &err));
    SAYS("the limit is");
    tvlm_engine *small = limited(all / 2);
    char *one = answer(engine), *other = answer(small);
    assert_string_equal(one, other);
    free(one);
    free(other);
    tvlm_engine_free(small);
    close_model();
}

/* 0 where it is not known; emulators count their own. */
static size_t resident_bytes(void)
{
    size_t pages = 0;
#if defined(__linux__) && defined(__x86_64__)
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%*s %zu", &pages) != 1) pages = 0;
    if (f) fclose(f);
#endif
    return pages * 4096;
}

static void scratch_given_back(void **state)
{
    (void)state;
    open_bundled();
    tvlm_image *before = encode(engine, false);
    size_t had = resident_bytes();
    tvlm_engine_trim(engine);
    assert_true(!had || resident_bytes() + (1 << 20) < had);
    tvlm_image *after = encode(engine, false);
    assert_same_tokens(before, after);
    tvlm_image_free(before);
    tvlm_image_free(after);
    close_model();
}

typedef struct told {
    int32_t ids[8];
    size_t n_reused;
} told;

static told describe(tvlm_session *session, tvlm_image *image, uint32_t beams)
{
    told t;
    tvlm_prompt *prompt;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_message m = {TVLM_ROLE_USER, "Describe it.", 12, &image, 1, NULL};
    OK(tvlm_prompt_new(model, &prompt, &err));
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 8;
    p.ignore_eos = true;
    p.beams = beams;
    OK(tvlm_generate(engine, session, prompt, &p, &result, &err));
    assert_int_equal(result.n_ids, 8);
    memcpy(t.ids, result.ids, sizeof t.ids);
    t.n_reused = result.n_reused_tokens;
    tvlm_prompt_free(prompt);
    return t;
}

/* The caches of a session and of its beams go, the answers stay. */
static void caches_given_back(void **state)
{
    (void)state;
    open_bundled();
    tvlm_session *session;
    tvlm_session_params s;
    tvlm_session_params_init(&s, sizeof s);
    s.max_beams = 8;
    OK(tvlm_session_new(model, &s, &session, &err));
    tvlm_image *image = encode(engine, false);
    for (uint32_t beams = 1; beams <= 8; beams += 7) {
        told before = describe(session, image, beams), again = describe(session, image, beams);
        assert_true(again.n_reused > 0);
        float logit = tvlm_session_logits(session)[0];
        tvlm_session_trim(session);
        tvlm_engine_trim(engine);
        assert_int_equal(tvlm_session_position(session), 0);
        assert_true(tvlm_session_logits(session)[0] == logit);
        told after = describe(session, image, beams);
        assert_int_equal(after.n_reused, 0);
        assert_memory_equal(after.ids, before.ids, sizeof after.ids);
        assert_memory_equal(again.ids, before.ids, sizeof again.ids);
    }
    tvlm_session_trim(NULL);
    tvlm_image_free(image);
    tvlm_session_free(session);
    close_model();
}

/* All positions are used: nearly all of the pages come back. */
static void cache_memory_given_back(void **state)
{
    (void)state;
    open_bundled();
    tvlm_session *session;
    tvlm_input inputs[128];
    tvlm_memory m = {.size = sizeof m};
    tvlm_session_params s;
    tvlm_session_params_init(&s, sizeof s);
    s.max_beams = 1;
    OK(tvlm_memory_estimate(model, NULL, &s, &m, &err));
    OK(tvlm_session_new(model, &s, &session, &err));
    for (int32_t i = 0; i < 512; i++) {
        inputs[i % 128] = (tvlm_input){session, i, NULL, false};
        if (i % 128 == 127) OK(tvlm_forward(engine, inputs, 128, NULL, NULL, 0, &err));
    }
    size_t had = resident_bytes();
    tvlm_session_trim(session);
    assert_true(!had || resident_bytes() + m.kv_bytes * 9 / 10 < had);
    tvlm_session_free(session);
    close_model();
}

/* ---- one image, one question ---- */

typedef struct said {
    char text[256];
} said;

static bool trim(void *user, const char *text, size_t len)
{
    (void)user, (void)text, (void)len;
    tvlm_engine_trim(engine);
    return true;
}

/* Scratch memory goes back at each word, which changes nothing. */
static said ask(const tvlm_pixels *about, const char *question)
{
    said s = {""};
    tvlm_session *session;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    OK(tvlm_session_new(model, NULL, &session, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 12;
    p.on_text = trim;
    OK(tvlm_ask(engine, session, about, question, strlen(question), &p, &result, &err));
    assert_true(result.text_len < sizeof s.text);
    memcpy(s.text, result.text, result.text_len);
    tvlm_session_free(session);
    return s;
}

static said ask_in_steps(const char *question)
{
    said s = {""};
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_generate_params p;
    tvlm_image *image = encode(engine, false);
    tvlm_result result = {.size = sizeof result};
    tvlm_message m = {TVLM_ROLE_USER, question, strlen(question), &image, 1, NULL};
    OK(tvlm_session_new(model, NULL, &session, &err));
    OK(tvlm_prompt_new(model, &prompt, &err));
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 12;
    OK(tvlm_generate(engine, session, prompt, &p, &result, &err));
    assert_true(result.text_len < sizeof s.text);
    memcpy(s.text, result.text, result.text_len);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    tvlm_image_free(image);
    return s;
}

static void one_question(void **state)
{
    (void)state;
    open_bundled();
    tvlm_model_info info = {.size = sizeof info};
    OK(tvlm_model_get_info(model, &info, &err));
    assert_string_equal(ask(&pixels, "What color is it?").text,
                        ask_in_steps("What color is it?").text);
    assert_string_equal(ask(&pixels, "").text, ask_in_steps(info.describe_prompt).text);

    tvlm_session *session;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result, .n_ids = 7};
    tvlm_cancel *cancel = tvlm_cancel_new();
    OK(tvlm_session_new(model, NULL, &session, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.cancel = cancel;
    tvlm_cancel_request(cancel);
    IS(CANCELLED, tvlm_ask(engine, session, &pixels, "a", 1, &p, &result, &err));
    assert_int_equal(result.n_ids, 0);
    tvlm_cancel_free(cancel);
    tvlm_session_free(session);
    close_model();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tower_elsewhere),     cmocka_unit_test(frames_of_a_tower_elsewhere),
        cmocka_unit_test(passes_fit_the_memory), cmocka_unit_test(scratch_given_back),
        cmocka_unit_test(caches_given_back),     cmocka_unit_test(cache_memory_given_back),
        cmocka_unit_test(one_question),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
