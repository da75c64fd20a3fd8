/* SPDX-License-Identifier: MIT
 * Every stage by itself, then all at once:  basic MODEL.gguf IMAGE.ppm "QUESTION"
 *
 * Build:  cc -std=c11 basic.c -Iinclude -Lbuild -ltinyvlm -lm -pthread */
#include <tinyvlm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tvlm_error error;

/* Stops the program with the library's message. */
static void check(tvlm_status status)
{
    if (status == TVLM_OK) return;
    fprintf(stderr, "basic: %s\n", error.message);
    exit(1);
}

/* A binary PPM with 8 bits a channel: enough for an example. */
static tvlm_pixels read_ppm(const char *path)
{
    tvlm_pixels p = {.channels = 3};
    unsigned most = 0;
    FILE *f = fopen(path, "rb");
    if (!f || fscanf(f, "P6 %u %u %u", &p.width, &p.height, &most) != 3 || most != 255 ||
        fgetc(f) == EOF || !p.width || !p.height || p.width > 20000 || p.height > 20000) {
        fprintf(stderr, "basic: %s: not a binary PPM image\n", path);
        exit(1);
    }
    size_t size = (size_t)p.width * p.height * 3;
    uint8_t *data = malloc(size);
    if (!data || fread(data, 1, size, f) != size) {
        fprintf(stderr, "basic: %s: truncated\n", path);
        exit(1);
    }
    fclose(f);
    p.data = data;
    return p;
}

static bool print_word(void *user, const char *text, size_t len)
{
    (void)user;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return true; /* false would stop the answer here */
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: basic MODEL.gguf IMAGE.ppm QUESTION\n");
        return 2;
    }
    const char *question = argv[3];
    tvlm_pixels pixels = read_ppm(argv[2]);

    /* Load the model; make an engine (threads, scratch) and a session (KV cache). */
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_model_info info = {.size = sizeof info};
    check(tvlm_model_open(argv[1], NULL, &model, &error));
    check(tvlm_engine_new(model, NULL, &engine, &error));
    check(tvlm_session_new(model, NULL, &session, &error));
    check(tvlm_model_get_info(model, &info, &error));

    /* Preprocess: pixels -> [S][S][3] floats. (tvlm_image_encode does it by itself.) */
    size_t floats = (size_t)info.image_size * info.image_size * 3;
    float *tensor = malloc(floats * sizeof *tensor);
    check(tvlm_preprocess(model, &pixels, NULL, tensor, floats, &error));
    printf("preprocessed to %ux%ux3, first pixel %.3f %.3f %.3f\n", info.image_size,
           info.image_size, tensor[0], tensor[1], tensor[2]);

    /* Tokenize. */
    int32_t ids[256];
    size_t n_ids;
    check(tvlm_tokenize(model, question, strlen(question), false, ids, 256, &n_ids, &error));
    if (n_ids == 0 || n_ids > 256) {
        fprintf(stderr, "basic: a question of 1 to 256 tokens, please\n");
        return 1;
    }
    printf("%zu ids:", n_ids);
    for (size_t i = 0; i < n_ids; i++)
        printf(" %d", (int)ids[i]);
    printf("\n");

    /* Forward: one input per id, logits of the last. */
    tvlm_input inputs[256];
    for (size_t i = 0; i < n_ids; i++)
        inputs[i] = (tvlm_input){session, ids[i], NULL, i + 1 == n_ids};
    float *logits = malloc(info.n_vocab * sizeof *logits);
    check(tvlm_forward(engine, inputs, n_ids, NULL, logits, info.n_vocab, &error));

    /* Choose the next id and decode it. */
    int32_t next;
    uint64_t random_state = 1;
    char word[256];
    size_t word_len;
    check(tvlm_sample(session, logits, NULL, ids, n_ids, &random_state, &next, &error));
    check(tvlm_detokenize(model, &next, 1, false, word, sizeof word, &word_len, &error));
    printf("without the image and the chat template, the text goes on with \"%.*s\"\n",
           (int)(word_len < sizeof word ? word_len : sizeof word), word);

    /* All at once: encode the image, ask, stream the answer. */
    tvlm_image *image;
    tvlm_prompt *prompt;
    tvlm_generate_params params;
    tvlm_result result = {.size = sizeof result};
    check(tvlm_image_encode(engine, &pixels, NULL, &image, &error));
    check(tvlm_prompt_new(model, &prompt, &error));
    tvlm_message message = {TVLM_ROLE_USER, question, strlen(question), &image, 1, NULL};
    check(tvlm_prompt_chat(prompt, &message, 1, &error));
    tvlm_generate_params_init(&params, sizeof params);
    params.max_tokens = 64;
    params.on_text = print_word;
    printf("answer: ");
    check(tvlm_generate(engine, session, prompt, &params, &result, &error));
    printf("\n%zu tokens, the first after %.1f ms\n", result.n_ids, result.first_token_ms);

    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
    free(logits);
    free(tensor);
    free((void *)(uintptr_t)pixels.data);
    return 0;
}
