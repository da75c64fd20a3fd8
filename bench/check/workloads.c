/* SPDX-License-Identifier: MIT
 * One small piece of work, whose instructions check.py counts:  workloads NAME MODEL.gguf
 * On one thread, with the AVX2 kernels. */
#include <tinyvlm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 480, PROMPT_ROWS = 64 };
static const char text[] = "A dog runs over the wet grass, 12 cats watch; \xC3\xBC\xE6\x97\xA5! ";

typedef struct bench {
    const char *path;
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_model_info info;
    tvlm_pixels pixels;
    int32_t ids[4096];
    float *floats; /* an input picture or a row of logits */
    char *long_text;
    size_t long_len;
} bench;

static tvlm_error error;

static void check(tvlm_status status)
{
    if (status == TVLM_OK) return;
    fprintf(stderr, "workloads: %s\n", error.message);
    exit(1);
}

static void open_model(bench *b)
{
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    params.cpu = "avx2";
    params.n_threads = 1; /* with more, how the work falls to them would count */
    check(tvlm_model_open(b->path, &params, &b->model, &error));
}

/* ---- the workloads ---- */

static void forward(bench *b, size_t n)
{
    tvlm_input rows[PROMPT_ROWS];
    for (size_t i = 0; i < n; i++)
        rows[i] = (tvlm_input){b->session, b->ids[i], NULL, i + 1 == n};
    check(tvlm_forward(b->engine, rows, n, NULL, b->floats, b->info.n_vocab, &error));
}

static void run_load(bench *b)
{
    tvlm_model_free(b->model);
    open_model(b);
}

static void run_preprocess(bench *b)
{
    size_t n = (size_t)b->info.image_size * b->info.image_size * 3;
    check(tvlm_preprocess(b->model, &b->pixels, NULL, b->floats, n, &error));
}

static void run_encode(bench *b)
{
    tvlm_image *image;
    check(tvlm_image_encode(b->engine, &b->pixels, NULL, &image, &error));
    tvlm_image_free(image);
}

static void run_prefill(bench *b)
{
    forward(b, PROMPT_ROWS);
}

static void run_decode(bench *b)
{
    for (int i = 0; i < 8; i++)
        forward(b, 1);
}

static void run_tokenize(bench *b)
{
    size_t n;
    check(tvlm_tokenize(b->model, b->long_text, b->long_len, false, b->ids, 4096, &n, &error));
}

static void run_sample(bench *b)
{
    tvlm_sampling s;
    tvlm_sampling_init(&s);
    s.temperature = 0.8f;
    s.top_k = 40;
    s.top_p = 0.9f;
    s.repeat_penalty = 1.1f;
    uint64_t state = 1;
    int32_t id;
    for (int i = 0; i < 20; i++)
        check(tvlm_sample(b->session, b->floats, &s, b->ids, 64, &state, &id, &error));
}

static const struct {
    const char *name;
    void (*run)(bench *b);
} workloads[] = {
    {"load",       run_load      },
    {"preprocess", run_preprocess},
    {"encode",     run_encode    },
    {"prefill",    run_prefill   },
    {"decode",     run_decode    },
    {"tokenize",   run_tokenize  },
    {"sample",     run_sample    },
};

/* What callgrind counts: the call of this function. */
#if defined(__GNUC__)
__attribute__((noinline))
#endif
void counted(void (*run)(bench *b), bench *b);
void counted(void (*run)(bench *b), bench *b)
{
    run(b);
}

/* ---- what they work on, the same every time ---- */

static void *need(void *p)
{
    if (p) return p;
    fprintf(stderr, "workloads: out of memory\n");
    exit(1);
}

static void fill(bench *b)
{
    uint8_t *data = need(malloc(WIDTH * HEIGHT * 3));
    for (size_t i = 0; i < WIDTH * HEIGHT * 3; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    b->pixels = (tvlm_pixels){data, WIDTH, HEIGHT, 3, 0};
    size_t pixels = (size_t)b->info.image_size * b->info.image_size * 3;
    size_t n = pixels > b->info.n_vocab ? pixels : b->info.n_vocab;
    b->floats = need(malloc(n * sizeof *b->floats));
    for (size_t i = 0; i < n; i++)
        b->floats[i] = (float)(i * 2654435761u % 1000) * 0.01f;
    for (size_t i = 0; i < PROMPT_ROWS; i++)
        b->ids[i] = (int32_t)(i * 37 % 500);
    b->long_len = 40 * (sizeof text - 1);
    b->long_text = need(malloc(b->long_len));
    for (size_t i = 0; i < b->long_len; i++)
        b->long_text[i] = text[i % (sizeof text - 1)];
}

int main(int argc, char **argv)
{
    static bench b;
    tvlm_engine_params params;
    if (argc != 3) {
        fprintf(stderr, "usage: workloads NAME MODEL.gguf\n");
        return 2;
    }
    b.path = argv[2];
    open_model(&b);
    b.info.size = sizeof b.info;
    check(tvlm_model_get_info(b.model, &b.info, &error));
    tvlm_engine_params_init(&params, sizeof params);
    params.n_threads = 1;
    check(tvlm_engine_new(b.model, &params, &b.engine, &error));
    check(tvlm_session_new(b.model, NULL, &b.session, &error));
    fill(&b);
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (!strcmp(argv[1], workloads[i].name)) {
            counted(workloads[i].run, &b);
            return 0;
        }
    fprintf(stderr, "workloads: '%s' is none\n", argv[1]);
    return 2;
}
