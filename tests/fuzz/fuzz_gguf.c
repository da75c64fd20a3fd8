/* SPDX-License-Identifier: MIT
 * Bytes as a model file: opened, planned, and when everything holds run for a picture and rows. */
#include "tinyvlm.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Values that a damaged file gives must pass through the tower without undefined behaviour. */
static void run_picture(tvlm_engine *engine)
{
    static const uint8_t grey[4] = {0, 255, 90, 7};
    tvlm_pixels pixels = {grey, 2, 2, 1, 0};
    tvlm_image *image = NULL;
    tvlm_image_encode(engine, &pixels, NULL, &image, NULL);
    tvlm_image_free(image);
}

static void run_model(const tvlm_model *model)
{
    tvlm_engine *engine = NULL;
    tvlm_session *session = NULL;
    tvlm_engine_params e;
    tvlm_session_params s;
    tvlm_model_info info = {.size = sizeof info};
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    e.max_batch_tokens = 4;
    e.max_memory = (size_t)64 << 20;
    tvlm_session_params_init(&s, sizeof s);
    s.n_ctx = 4;
    s.max_memory = (size_t)64 << 20;
    if (tvlm_model_get_info(model, &info, NULL)) abort();
    if (!tvlm_engine_new(model, &e, &engine, NULL) &&
        !tvlm_session_new(model, &s, &session, NULL)) {
        float *logits = malloc(2 * (size_t)info.n_vocab * sizeof *logits);
        tvlm_input rows[2] = {
            {session, 0,                         NULL, true},
            {session, (int32_t)info.n_vocab - 1, NULL, true}
        };
        if (logits) tvlm_forward(engine, rows, 2, NULL, logits, 2 * (size_t)info.n_vocab, NULL);
        free(logits);
        if (info.image_size && info.image_size <= 128) run_picture(engine);
    }
    tvlm_session_free(session);
    tvlm_engine_free(engine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tvlm_model_params p;
    tvlm_model *model;
    tvlm_error err = {0};
    tvlm_memory memory = {.size = sizeof memory};
    if (!size) return 0;
    /* the way of opening follows from all bytes: from the size alone, every change that keeps a
     * seed's size would be opened in the same way */
    unsigned mode = 0;
    for (size_t i = 0; i < size; i++)
        mode = mode * 31 + data[i];
    tvlm_model_params_init(&p, sizeof p);
    p.max_memory = (size_t)64 << 20;
    p.header_only = mode % 8 == 0;
    /* without checksums, changed weights reach the arithmetic */
    p.skip_checksums = mode / 8 % 2;
    tvlm_status status = tvlm_model_open_memory(data, size, &p, &model, &err);
    if (status && (!err.message[0] || model))
        abort(); /* an error must say something and give nothing */
    if (status) return 0;
    tvlm_memory_estimate(model, NULL, NULL, &memory, NULL);
    if (tvlm_model_stage(model) == TVLM_STAGE_DECODER) run_model(model);
    tvlm_model_free(model);
    return 0;
}
