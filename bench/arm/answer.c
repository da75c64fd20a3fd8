/* SPDX-License-Identifier: MIT
 * One image and ten tokens of an answer, on one thread, which emulate.py counts:
 *     answer MODEL.gguf CPU-TIER
 * Prints what each stage has to do: its multiplications with additions, and its bytes of weights,
 * keys and values. */
#include <tinyvlm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 224, TOKENS = 10 };

static tvlm_error error;

static void check(tvlm_status status)
{
    if (status == TVLM_OK) return;
    fprintf(stderr, "answer: %s\n", error.message);
    exit(1);
}

static tvlm_model *open_model(const char *path, const char *cpu)
{
    tvlm_model *model;
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    params.cpu = cpu;
    params.n_threads = 1;
    check(tvlm_model_open(path, &params, &model, &error));
    return model;
}

static tvlm_engine *make_engine(const tvlm_model *model)
{
    tvlm_engine *engine;
    tvlm_engine_params params;
    tvlm_engine_params_init(&params, sizeof params);
    params.n_threads = 1;
    check(tvlm_engine_new(model, &params, &engine, &error));
    return engine;
}

static tvlm_image *encode(tvlm_engine *engine)
{
    static uint8_t data[SIDE * SIDE * 3];
    tvlm_image *image;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    check(tvlm_image_encode(engine, &(tvlm_pixels){data, SIDE, SIDE, 3, 0}, NULL, &image, &error));
    return image;
}

static tvlm_prompt *ask(const tvlm_model *model, tvlm_image *image)
{
    tvlm_prompt *prompt;
    tvlm_model_info info = {.size = sizeof info};
    check(tvlm_model_get_info(model, &info, &error));
    const char *text = info.describe_prompt;
    tvlm_message question = {TVLM_ROLE_USER, text, strlen(text), &image, 1, NULL};
    check(tvlm_prompt_new(model, &prompt, &error));
    check(tvlm_prompt_chat(prompt, &question, 1, &error));
    return prompt;
}

static void answer(tvlm_engine *engine, tvlm_session *session, const tvlm_prompt *prompt,
                   tvlm_result *result)
{
    tvlm_generation *generation;
    tvlm_generate_params params;
    tvlm_generate_params_init(&params, sizeof params);
    params.max_tokens = TOKENS;
    params.ignore_eos = true;
    params.beams = 1;
    check(tvlm_generation_start(engine, session, prompt, &params, &generation, &error));
    for (tvlm_event event = {.size = sizeof event}; !event.is_last;)
        check(tvlm_generation_next(generation, &event, &error));
    check(tvlm_generation_get_result(generation, result, &error));
    tvlm_generation_free(generation);
}

static void print_work(const char *stage, tvlm_work work)
{
    printf("%s %.0f %.0f\n", stage, work.flops / 2, work.bytes);
}

static void print_plan(const tvlm_model *model, size_t n_prompt)
{
    tvlm_work_plan plan = {.size = sizeof plan};
    check(tvlm_work_estimate(model, 0, n_prompt, &plan, &error));
    print_work("tower", plan.tower);
    print_work("bridge", plan.bridge);
    print_work("prefill", plan.decoder);
    for (size_t i = 1; i < TOKENS; i++) {
        char name[16];
        snprintf(name, sizeof name, "step %zu", i);
        check(tvlm_work_estimate(model, n_prompt + i - 1, 1, &plan, &error));
        print_work(name, plan.decoder);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: answer MODEL.gguf CPU-TIER\n");
        return 2;
    }
    tvlm_session *session;
    tvlm_result result = {.size = sizeof result};
    tvlm_model *model = open_model(argv[1], argv[2]);
    tvlm_engine *engine = make_engine(model);
    check(tvlm_session_new(model, NULL, &session, &error));
    tvlm_image *image = encode(engine);
    tvlm_prompt *prompt = ask(model, image);
    answer(engine, session, prompt, &result);
    print_plan(model, result.n_prompt_tokens);
    tvlm_session_free(session);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
    return 0;
}
