/* SPDX-License-Identifier: MIT
 * Objects freed in any order, as a garbage collector does: what is left works until it is freed
 * too. Leaks and late reads are for the address sanitizer to see. */
#include "base/base.h"
#include "convert/convert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "check.h"

#define PATH TVLM_BUILD_DIR "/lifetime-tiny.gguf"

static tvlm_error err;

enum { MODEL, ENGINE, IMAGE, PROMPT, SESSION, BATCHER, GENERATION, KINDS };

typedef struct objects {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_image *image;
    tvlm_prompt *prompt;
    tvlm_session *session;
    tvlm_batcher *batcher;
    tvlm_generation *generation;
    bool freed[KINDS];
} objects;

static objects make(void)
{
    static const uint8_t grey[16 * 16];
    static const tvlm_pixels pixels = {grey, 16, 16, 1, 0};
    objects o = {0};
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_generate_params p;
    tvlm_model_params_init(&m, sizeof m);
    m.n_threads = 1;
    OK(tvlm_model_open(PATH, &m, &o.model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    OK(tvlm_engine_new(o.model, &e, &o.engine, &err));
    OK(tvlm_image_encode(o.engine, &pixels, NULL, &o.image, &err));
    OK(tvlm_prompt_new(o.model, &o.prompt, &err));
    tvlm_message message = {TVLM_ROLE_USER, "hi", 2, &o.image, 1, NULL};
    OK(tvlm_prompt_chat(o.prompt, &message, 1, &err));
    OK(tvlm_session_new(o.model, NULL, &o.session, &err));
    OK(tvlm_batcher_new(o.engine, NULL, &o.batcher, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.batcher = o.batcher;
    p.ignore_eos = true;
    OK(tvlm_generation_start(o.engine, o.session, o.prompt, &p, &o.generation, &err));
    return o;
}

static void free_one(objects *o, int kind)
{
    o->freed[kind] = true;
    switch (kind) {
    case MODEL:
        return tvlm_model_free(o->model);
    case ENGINE:
        return tvlm_engine_free(o->engine);
    case IMAGE:
        return tvlm_image_free(o->image);
    case PROMPT:
        return tvlm_prompt_free(o->prompt);
    case SESSION:
        return tvlm_session_free(o->session);
    case BATCHER:
        return tvlm_batcher_free(o->batcher);
    default:
        return tvlm_generation_free(o->generation);
    }
}

/* Whatever is left, whose model or engine may be gone. */
static void use(const objects *o)
{
    size_t n, dim, rows;
    tvlm_image *image;
    static const uint8_t grey[4 * 4];
    static const tvlm_pixels pixels = {grey, 4, 4, 1, 0};
    if (!o->freed[IMAGE]) assert_non_null(tvlm_image_tokens(o->image, &n, &dim));
    if (!o->freed[PROMPT]) {
        rows = tvlm_prompt_n_tokens(o->prompt);
        OK(tvlm_prompt_add_text(o->prompt, " a", 2, false, &err));
        assert_true(tvlm_prompt_n_tokens(o->prompt) > rows);
    }
    if (!o->freed[SESSION]) assert_non_null(tvlm_session_logits(o->session));
    if (!o->freed[ENGINE]) {
        OK(tvlm_image_encode(o->engine, &pixels, NULL, &image, &err));
        tvlm_image_free(image);
    }
    if (!o->freed[ENGINE] && !o->freed[SESSION] && !o->freed[GENERATION] && !o->freed[PROMPT]) {
        tvlm_event event = {.size = sizeof event};
        OK(tvlm_generation_next(o->generation, &event, &err));
    }
}

static void free_in(const int *order)
{
    objects o = make();
    for (int i = 0; i < KINDS; i++) {
        free_one(&o, order[i]);
        use(&o);
    }
}

static void swap(int *a, int *b)
{
    int kept = *a;
    *a = *b;
    *b = kept;
}

static void any_order(void **state)
{
    (void)state;
    int forward[KINDS], order[KINDS];
    uint32_t random = 1;
    for (int i = 0; i < KINDS; i++) {
        forward[i] = i;
        order[i] = KINDS - 1 - i;
    }
    free_in(forward); /* these two have each before each other */
    for (int round = 0; round < 60; round++) {
        free_in(order);
        for (int i = KINDS - 1; i > 0; i--) {
            random = random * 1664525u + 1013904223u;
            swap(&order[i], &order[(random >> 16) % (uint32_t)(i + 1)]);
        }
    }
}

/* A loader that fails or is dropped leaves what was made from its model. */
static void model_of_a_loader(void **state)
{
    (void)state;
    tvlm_loader *loader;
    tvlm_prompt *prompt;
    static unsigned char bytes[1 << 20];
    FILE *f = fopen(PATH, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    OK(tvlm_loader_new(NULL, &loader, &err));
    OK(tvlm_loader_feed(loader, bytes, n, &err));
    assert_non_null(tvlm_loader_model(loader));
    OK(tvlm_prompt_new(tvlm_loader_model(loader), &prompt, &err));
    tvlm_loader_free(loader);
    OK(tvlm_prompt_add_text(prompt, "still", 5, false, &err));
    tvlm_prompt_free(prompt);
}

static int setup(void **state)
{
    (void)state;
    tvlmc_convert_params c;
    tvlmc_convert_params_init(&c);
    OK(tvlmc_convert(TVLM_TEST_DATA "/golden/tiny", PATH, &c, &err));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order),
        cmocka_unit_test(model_of_a_loader),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
