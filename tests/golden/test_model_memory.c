/* SPDX-License-Identifier: MIT
 * Every allocation of loading, encoding and answering fails in turn: TVLM_ERR_MEMORY, a message, no
 * object, nothing leaked. Linked with --wrap. */
#include "tinyvlm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "failing_malloc.h"

#define MODELS  TVLM_TEST_DATA "/../fuzz/corpus/gguf/"
#define BUNDLED TVLM_TEST_DATA "/../../models/tinyvlm-25m.gguf"

typedef struct objects {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_image *image;
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_batcher *batcher;
    tvlm_cancel *cancel;
} objects;

static tvlm_status open_pieces(const char *path, tvlm_model **out, tvlm_error *err)
{
    static unsigned char bytes[1 << 17];
    tvlm_loader *loader;
    tvlm_status status = tvlm_loader_new(NULL, &loader, err);
    if (status) return status;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t at = 0; at < size && !status; at += 5000)
        status = tvlm_loader_feed(loader, bytes + at, size - at < 5000 ? size - at : 5000, err);
    if (!status) status = tvlm_loader_finish(loader, out, err);
    if (status) tvlm_loader_free(loader);
    return status;
}

static tvlm_status answer(objects *o, tvlm_error *err)
{
    tvlm_message message = {TVLM_ROLE_USER, "the answer", 10, &o->image, o->image ? 1 : 0, NULL};
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_status status = tvlm_prompt_new(o->model, &o->prompt, err);
    if (!status) status = tvlm_prompt_chat(o->prompt, &message, 1, err);
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 3;
    p.ignore_eos = true;
    p.cancel = o->cancel;
    p.batcher = o->batcher;
    p.sampling.temperature = 1;
    p.sampling.repeat_penalty = 1.1f;
    if (!status) status = tvlm_generate(o->engine, o->session, o->prompt, &p, &result, err);
    return status;
}

static tvlm_status save_and_load(objects *o, tvlm_error *err)
{
    static unsigned char bytes[1 << 20];
    size_t n;
    tvlm_status status = tvlm_session_save_memory(o->session, bytes, sizeof bytes, &n, err);
    if (!status) status = tvlm_session_load_memory(o->session, bytes, n, err);
    if (status || !o->image) return status;
    status = tvlm_image_save_memory(o->image, bytes, sizeof bytes, &n, err);
    tvlm_image_free(o->image);
    o->image = NULL;
    if (!status) status = tvlm_image_load_memory(o->model, bytes, n, &o->image, err);
    return status;
}

static tvlm_status run(const char *path, bool pieces, objects *o, tvlm_error *err)
{
    static const uint8_t grey[4] = {0, 255, 90, 7};
    tvlm_pixels pixels = {grey, 2, 2, 1, 0};
    tvlm_model_info info = {.size = sizeof info};
    tvlm_engine_params e;
    tvlm_session_params s;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    tvlm_session_params_init(&s, sizeof s);
    s.n_ctx = 128;
    tvlm_model_params m;
    tvlm_model_params_init(&m, sizeof m);
    m.chat_template = "chatml";
    tvlm_status status =
        pieces ? open_pieces(path, &o->model, err)
               : tvlm_model_open(path, strstr(path, "llama") ? &m : NULL, &o->model, err);
    if (!status) status = tvlm_engine_new(o->model, &e, &o->engine, err);
    if (!status) status = tvlm_session_new(o->model, &s, &o->session, err);
    if (!status) status = tvlm_batcher_new(o->engine, NULL, &o->batcher, err);
    if (status) return status;
    status = tvlm_model_get_info(o->model, &info, err);
    if (status) return status;
    if (info.image_size) status = tvlm_image_encode(o->engine, &pixels, NULL, &o->image, err);
    if (!status && !pieces) status = answer(o, err);
    if (!status && !pieces) status = save_and_load(o, err);
    return status;
}

static void release(objects *o)
{
    tvlm_prompt_free(o->prompt);
    tvlm_image_free(o->image);
    tvlm_session_free(o->session);
    tvlm_batcher_free(o->batcher);
    tvlm_engine_free(o->engine);
    tvlm_model_free(o->model);
    tvlm_cancel_free(o->cancel);
}

static void fail_each(const char *name, bool pieces)
{
    char path[1024];
    size_t n = 1, not_needed = 0;
    snprintf(path, sizeof path, MODELS "%s", name);
    for (size_t i = 0; i <= n; i++) { /* the first run, without a failure, counts */
        objects o = {0};
        tvlm_error err = {0};
        fail_call(i);
        tvlm_status status = run(path, pieces, &o, &err);
        failing = 0;
        if (!i) n = calls;
        not_needed += i && !status; /* a block that could not be made smaller */
        if ((status && status != TVLM_ERR_MEMORY) || (!i && status) || (status && !err.message[0]))
            fail_msg("%s, allocation %zu of %zu: status %d, '%s'", name, i, n, (int)status,
                     err.message);
        release(&o);
        if (live || mapped)
            fail_msg("%s, allocation %zu of %zu: %zu blocks, %zu mapped bytes leaked", name, i, n,
                     live, mapped);
    }
    print_message("%s: each of %zu allocations failed, %zu were not needed\n", name, n, not_needed);
    assert_true(n > 20 && not_needed <= 1);
}

static void loading_and_answering(void **state)
{
    (void)state;
    static const char *const names[] = {"llama.gguf",   "tinyvlm.gguf",       "tinyvlm-int8.gguf",
                                        "fastvlm.gguf", "tinyvlm-mixed.gguf", "smolvlm.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fail_each(names[i], false);
}

/* The shares of a file that several threads read. */
static void loading_on_threads(void **state)
{
    (void)state;
    size_t n = 1;
    tvlm_model_params p;
    tvlm_model_params_init(&p, sizeof p);
    p.n_threads = 3;
    for (size_t i = 0; i <= n; i++) {
        tvlm_model *model;
        tvlm_error err = {0};
        fail_call(i);
        tvlm_status status = tvlm_model_open(BUNDLED, &p, &model, &err);
        failing = 0;
        if (!i) n = calls;
        bool fits = status == TVLM_ERR_MEMORY ? !model && err.message[0] : !status && model;
        if (!fits || (!i && status))
            fail_msg("allocation %zu of %zu: status %d, '%s'", i, n, (int)status, err.message);
        tvlm_model_free(model);
        if (live || mapped)
            fail_msg("allocation %zu of %zu: %zu blocks, %zu mapped bytes leaked", i, n, live,
                     mapped);
    }
    assert_true(n > 20);
}

static void loading_in_pieces(void **state)
{
    (void)state;
    fail_each("tinyvlm.gguf", true);
    fail_each("llama.gguf", true);
}

/* A header's counts are believed only as far as there are bytes for them. */
static void counts_that_lie_take_no_memory(void **state)
{
    (void)state;
    static const struct {
        uint16_t tensors, keys;
    } lies[] = {
        {60000, 0    },
        {0,     60000},
        {60000, 60000}
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        unsigned char file[4096] = "GGUF\3";
        tvlm_model *model;
        tvlm_error err = {0};
        for (size_t k = 0; k < 2; k++) {
            file[8 + k] = (unsigned char)(lies[i].tensors >> 8 * k);
            file[16 + k] = (unsigned char)(lies[i].keys >> 8 * k);
        }
        fail_call(0);
        assert_int_equal(tvlm_model_open_memory(file, sizeof file, NULL, &model, &err),
                         TVLM_ERR_FORMAT);
        if (largest > 100000) fail_msg("%zu bytes at once: %s", largest, err.message);
        assert_int_equal(live, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_that_lie_take_no_memory),
        cmocka_unit_test(loading_and_answering),
        cmocka_unit_test(loading_on_threads),
        cmocka_unit_test(loading_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
