/* SPDX-License-Identifier: MIT
 * Saved sessions and images. The first byte chooses the model and the kind; the rest is a file,
 * whose magic, model and checksums are made right, so that what lies behind them is reached. What
 * loads must go on. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODELS TVLM_TEST_DATA "/../fuzz/corpus/gguf/"

enum { HEADER = 64, N_MODELS = 4, N_CTX = 48 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct rig {
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    uint8_t start[HEADER]; /* of a session's file */
} rig;

static const rig *rigs(void)
{
    static const char *const paths[N_MODELS] = {MODELS "fastvlm.gguf", MODELS "tinyvlm.gguf",
                                                MODELS "llama.gguf", MODELS "smolvlm.gguf"};
    static rig all[N_MODELS];
    for (size_t i = 0; i < N_MODELS && !all[i].model; i++) {
        rig *r = &all[i];
        size_t size;
        tvlm_engine_params e;
        tvlm_session_params s;
        tvlm_engine_params_init(&e, sizeof e);
        tvlm_session_params_init(&s, sizeof s);
        e.n_threads = 1;
        s.n_ctx = N_CTX;
        if (tvlm_model_open(paths[i], NULL, &r->model, NULL) ||
            tvlm_engine_new(r->model, &e, &r->engine, NULL) ||
            tvlm_session_new(r->model, &s, &r->session, NULL) ||
            tvlm_session_save_memory(r->session, NULL, 0, &size, NULL))
            abort();
        uint8_t *bytes = malloc(size);
        if (!bytes || tvlm_session_save_memory(r->session, bytes, size, &size, NULL)) abort();
        memcpy(r->start, bytes, HEADER);
        free(bytes);
    }
    return all;
}

static void store32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static void sign(const rig *r, bool image, uint8_t *p, size_t size)
{
    if (size < HEADER + 4) return;
    memcpy(p, image ? (const uint8_t *)"TVLMIMAG" : r->start, 8);
    memcpy(p + 8, r->start + 8, 24);
    store32(p + HEADER - 4, tvlm_crc32c(0, p, HEADER - 4));
    store32(p + size - 4, tvlm_crc32c(0, p, size - 4));
}

static void go_on(const rig *r, const tvlm_image *image)
{
    tvlm_prompt *prompt;
    tvlm_generate_params p;
    if (tvlm_prompt_new(r->model, &prompt, NULL)) abort();
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 3;
    p.lookup = true;
    p.resume = true;
    if (image && tvlm_prompt_add_image(prompt, image, NULL)) abort();
    if (tvlm_prompt_add_ids(prompt, (int32_t[]){1, 2}, 2, NULL)) abort();
    tvlm_generate(r->engine, r->session, prompt, &p, NULL, NULL);
    tvlm_prompt_free(prompt);
}

static void load(const rig *r, bool image, const uint8_t *bytes, size_t size)
{
    tvlm_image *loaded = NULL;
    tvlm_error err = {0};
    tvlm_status status = image ? tvlm_image_load_memory(r->model, bytes, size, &loaded, &err)
                               : tvlm_session_load_memory(r->session, bytes, size, &err);
    if (status && (!err.message[0] || loaded || (!image && tvlm_session_position(r->session))))
        abort();
    if (!status) go_on(r, loaded);
    tvlm_image_free(loaded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    const rig *r = &rigs()[data[0] % N_MODELS];
    bool image = data[0] / N_MODELS % 2 && r != &rigs()[2];
    uint8_t *exact = malloc(--size); /* so that a sanitizer sees every overrun */
    if (!exact) return 0;
    memcpy(exact, data + 1, size);
    load(r, image, exact, size);
    sign(r, image, exact, size);
    load(r, image, exact, size);
    free(exact);
    return 0;
}
