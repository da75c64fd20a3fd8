/* SPDX-License-Identifier: MIT
 * The ids of an answer, on whatever processor this runs:
 *   golden-ids MODEL.gguf IMAGE.ppm [GOLDEN.safetensors]
 * with the reference's tensors in float32, and an error where its ids are others; else in int8. */
#include "tensors.h"
#include "tinyvlm.h"

enum { TOKENS = 24 };

static tvlm_error error;

static void check(tvlm_status status)
{
    if (status == TVLM_OK) return;
    fprintf(stderr, "golden-ids: %s\n", error.message);
    exit(1);
}

static tvlm_pixels read_ppm(const char *path)
{
    size_t size;
    unsigned w, h, most;
    int at = 0;
    unsigned char *file = read_whole_file(path, &size);
    int n = sscanf((char *)file, "P6 %u %u %u%n", &w, &h, &most, &at);
    assert(n == 3 && size - (size_t)at - 1 == (size_t)3 * w * h);
    memmove(file, file + at + 1, (size_t)3 * w * h);
    return (tvlm_pixels){file, w, h, 3, 0};
}

static tvlm_model *open_model(const char *path, const char *precision)
{
    tvlm_model *model;
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    params.precision = precision;
    check(tvlm_model_open(path, &params, &model, &error));
    return model;
}

/* ids: [TOKENS]. */
static void answer(const tvlm_model *model, const tvlm_pixels *pixels, int32_t *ids)
{
    static const char question[] = "Describe the image.";
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_image *image;
    tvlm_prompt *prompt;
    tvlm_generate_params params;
    tvlm_result result = {.size = sizeof result};
    check(tvlm_engine_new(model, NULL, &engine, &error));
    check(tvlm_session_new(model, NULL, &session, &error));
    check(tvlm_image_encode(engine, pixels, NULL, &image, &error));
    check(tvlm_prompt_new(model, &prompt, &error));
    tvlm_message message = {TVLM_ROLE_USER, question, strlen(question), &image, 1, NULL};
    check(tvlm_prompt_chat(prompt, &message, 1, &error));
    tvlm_generate_params_init(&params, sizeof params);
    params.max_tokens = TOKENS;
    params.ignore_eos = true;
    params.beams = 1;
    check(tvlm_generate(engine, session, prompt, &params, &result, &error));
    assert(result.n_ids == TOKENS);
    memcpy(ids, result.ids, TOKENS * sizeof *ids);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
}

static int32_t id_of(const tensor *ids, size_t i)
{
    return strcmp(ids->dtype, "I64") ? ((const int32_t *)ids->data)[i]
                                     : (int32_t)((const int64_t *)ids->data)[i];
}

/* The first id that differs is told. */
static bool is_golden(const char *path, const int32_t *ids)
{
    tensor_file golden = tensors_open(path);
    tensor want = tensors_find(&golden, "generated_ids");
    size_t i = 0;
    assert(want.n == TOKENS);
    while (i < TOKENS && ids[i] == id_of(&want, i))
        i++;
    if (i < TOKENS)
        fprintf(stderr, "golden-ids: id %zu is %d, in %s %d\n", i, (int)ids[i], path,
                (int)id_of(&want, i));
    tensors_close(&golden);
    return i == TOKENS;
}

int main(int argc, char **argv)
{
    int32_t ids[TOKENS];
    if (argc != 3 && argc != 4) return 2;
    tvlm_pixels pixels = read_ppm(argv[2]);
    tvlm_model *model = open_model(argv[1], argc == 4 ? "f32" : "int8");
    answer(model, &pixels, ids);
    for (size_t i = 0; i < TOKENS; i++)
        printf("%d%c", (int)ids[i], i + 1 < TOKENS ? ' ' : '\n');
    tvlm_model_free(model);
    free((void *)(uintptr_t)pixels.data);
    return argc == 4 && !is_golden(argv[3], ids);
}
