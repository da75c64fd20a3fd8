/* SPDX-License-Identifier: MIT
 * The longest time between two looks at the cancel flag, on one thread and in its processor time:
 * how late a cancel may be noticed, whatever else the machine does.
 *
 *   cc -O2 -Iinclude bench/cancel.c build/libtinyvlm.a -lm -lpthread -o build/cancel
 *   build/cancel MODEL [PROMPT-ROWS [RUNS [CPU-TIER]]] */
#define _POSIX_C_SOURCE 200809L
#include "tinyvlm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double last, most, sum;

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static bool look(void *user)
{
    (void)user;
    double now = cpu_ms();
    most = now - last > most ? now - last : most;
    last = now;
    return false;
}

static void check(tvlm_status status, const tvlm_error *err)
{
    if (!status) return;
    fprintf(stderr, "cancel: %s\n", err->message);
    exit(1);
}

static void begin(void)
{
    most = 0;
    sum = last = cpu_ms();
}

static void end(double *least, double *total)
{
    look(NULL);
    *least = most < *least ? most : *least;
    *total = last - sum < *total ? last - sum : *total;
}

int main(int argc, char **argv)
{
    tvlm_error err;
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_model_info info = {.size = sizeof info};
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_encode_params encode;
    double gap[3] = {1e9, 1e9, 1e9}, total[3] = {1e9, 1e9, 1e9};
    if (argc < 2) return 2;
    size_t rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
    int runs = argc > 3 ? atoi(argv[3]) : 3;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_cancel_set_poll(cancel, look, NULL);
    tvlm_model_params_init(&m, sizeof m);
    m.cpu = argc > 4 ? argv[4] : NULL;
    check(tvlm_model_open(argv[1], &m, &model, &err), &err);
    check(tvlm_engine_new(model, &e, &engine, &err), &err);
    check(tvlm_session_new(model, NULL, &session, &err), &err);
    check(tvlm_model_get_info(model, &info, &err), &err);
    tvlm_encode_params_init(&encode, sizeof encode);
    encode.cancel = cancel;
    enum { SIDE = 2000 };
    uint8_t *photo = malloc((size_t)SIDE * SIDE * 3);
    for (size_t i = 0; i < (size_t)SIDE * SIDE * 3; i++)
        photo[i] = (uint8_t)(i * 2654435761u >> 24);
    tvlm_pixels pixels = {photo, SIDE, SIDE, 3, 0};
    for (int run = 0; run < runs; run++) {
        if (info.image_size) {
            tvlm_image *image;
            begin();
            check(tvlm_image_encode(engine, &pixels, &encode, &image, &err), &err);
            end(&gap[0], &total[0]);
            tvlm_image_free(image);
        }
        tvlm_prompt *prompt;
        check(tvlm_prompt_new(model, &prompt, &err), &err);
        for (size_t i = 0; i < rows; i++)
            check(tvlm_prompt_add_ids(prompt, &(int32_t){(int32_t)(i * 37 % 500)}, 1, &err), &err);
        tvlm_session_reset(session);
        begin();
        check(tvlm_session_feed(engine, session, prompt, cancel, NULL, 0, &err), &err);
        end(&gap[1], &total[1]);
        tvlm_generate_params p;
        tvlm_result result = {.size = sizeof result};
        tvlm_generate_params_init(&p, sizeof p);
        p.max_tokens = 4;
        p.ignore_eos = true;
        p.cancel = cancel;
        begin();
        check(tvlm_generate(engine, session, prompt, &p, &result, &err), &err);
        end(&gap[2], &total[2]);
        tvlm_prompt_free(prompt);
    }
    static const char *const names[3] = {"encode", "prefill", "generate"};
    for (int i = info.image_size ? 0 : 1; i < 3; i++)
        printf("%-10s %8.1f ms in all, longest without a look %7.2f ms\n", names[i], total[i],
               gap[i]);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
    tvlm_cancel_free(cancel);
    free(photo);
    return 0;
}
