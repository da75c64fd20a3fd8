/* SPDX-License-Identifier: MIT
 * Model, engine and session for the commands that answer. */
#include "base/base.h"
#include "cli/cli.h"
#include "image/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_runner_open(cli_runner *r, cli_options *o)
{
    tvlm_error err;
    tvlm_engine_params engine;
    tvlm_session_params session;
    *r = (cli_runner){.options = o};
    o->model = cli_model_path(o);
    if (!o->model) return EXIT_INPUT;
    double begin = tvlm_now_ms();
    tvlm_engine_params_init(&engine);
    engine.n_threads = o->threads;
    engine.max_pixels = o->max_pixels;
    tvlm_session_params_init(&session);
    session.n_ctx = o->ctx;
    session.kv_type = o->kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    tvlm_status status = cli_open_model(o, false, &r->model, &err);
    if (!status) status = tvlm_engine_new(r->model, &engine, &r->engine, &err);
    if (!status) status = tvlm_session_new(r->model, &session, &r->session, &err);
    r->load_ms = tvlm_now_ms() - begin;
    if (!status) return 0;
    cli_runner_close(r);
    return cli_fail(status, &err);
}

void cli_runner_close(cli_runner *r)
{
    tvlm_session_free(r->session);
    tvlm_engine_free(r->engine);
    tvlm_model_free(r->model);
    *r = (cli_runner){0};
}

int cli_encode(cli_runner *r, const char *path, tvlm_image **out, double *decode_ms)
{
    tvlm_error err, local;
    tvlm_decoded picture;
    tvlm_encode_params encode;
    tvlm_model_info info;
    double begin = tvlm_now_ms();
    *out = NULL;
    tvlm_model_get_info(r->model, &info);
    if (!info.image_size)
        return cli_fail(
            tvlm_fail(&err, TVLM_ERR_UNSUPPORTED,
                      "%s: a text model: it takes no picture; tinyvlm chat talks with it",
                      r->options->model),
            &err);
    tvlm_status status = cli_decode(r->options, path, false, &picture, &err);
    *decode_ms = tvlm_now_ms() - begin;
    if (status) return cli_fail(status, &err);
    snprintf(r->warning, sizeof r->warning, "%s", picture.warning);
    tvlm_encode_params_init(&encode);
    encode.cancel = cli_cancel();
    tvlm_pixels pixels = tvlm_decoded_pixels(&picture);
    status = tvlm_image_encode(r->engine, &pixels, &encode, out, &local);
    tvlm_decoded_free(&picture);
    if (status) tvlm_fail(&err, status, "%s: %s", cli_picture_name(path), local.message);
    return status ? cli_fail(status, &err) : 0;
}

static bool print_text(void *user, const char *text, size_t len)
{
    (void)user;
    fwrite(text, 1, len, stdout);
    return cli_flush();
}

int cli_generate(cli_runner *r, const tvlm_prompt *prompt, tvlm_result *result)
{
    tvlm_error err;
    tvlm_generate_params p;
    tvlm_generate_params_init(&p);
    p.max_tokens = r->options->max_tokens;
    p.sampling = r->options->sampling;
    p.stop = r->options->stop;
    p.n_stop = r->options->n_stop;
    p.on_text = r->options->json ? NULL : print_text;
    p.cancel = cli_cancel();
    tvlm_status status = tvlm_generate(r->engine, r->session, prompt, &p, result, &err);
    if (!r->options->json && !status) putchar('\n');
    bool written = cli_flush();
    return status ? cli_fail(status, &err) : written ? 0 : EXIT_RUN;
}

static double tokens_per_second(const tvlm_result *r)
{
    /* the first token comes from the prompt's own pass */
    return r->n_ids > 1 && r->decode_ms > 0 ? (double)(r->n_ids - 1) * 1000.0 / r->decode_ms : 0.0;
}

void cli_print_timings(const cli_runner *r, const tvlm_image *image, double decode_ms,
                       const tvlm_result *result)
{
    tvlm_image_timings t = {0};
    if (r->options->quiet) return;
    if (image) tvlm_image_get_timings(image, &t);
    fprintf(stderr, "%s", cli_dim());
    if (image)
        fprintf(stderr,
                "decode %.1f ms, image %.1f ms (preprocess %.1f, tower %.1f, bridge %.1f), ",
                decode_ms, t.preprocess_ms + t.tower_ms + t.bridge_ms, t.preprocess_ms, t.tower_ms,
                t.bridge_ms);
    fprintf(stderr, "first word %.1f ms, %zu tokens, %.0f tokens/s%s\n", result->first_token_ms,
            result->n_ids, tokens_per_second(result), cli_reset());
}

static void print_json(const cli_runner *r, const char *path, const char *question, size_t len,
                       const tvlm_image *image, double decode_ms, const tvlm_result *result)
{
    static const char *const finish[] = {"stop", "length", "context", "callback"};
    tvlm_image_timings t;
    tvlm_image_get_timings(image, &t);
    cli_json_line(json_pack(
        "{s:o,s:s*,s:o,s:o,s:s,s:I,s:I,s:{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}}", "image",
        cli_json_text(path, strlen(path)), "warning", r->warning[0] ? r->warning : NULL, "prompt",
        cli_json_text(question, len), "text", cli_json_text(result->text, result->text_len),
        "finish", finish[result->finish], "tokens", (json_int_t)result->n_ids, "prompt_tokens",
        (json_int_t)result->n_prompt_rows, "timings_ms", "load", r->load_ms, "decode", decode_ms,
        "preprocess", t.preprocess_ms, "tower", t.tower_ms, "bridge", t.bridge_ms, "prefill",
        result->prefill_ms, "first_token", result->first_token_ms, "generate", result->decode_ms));
}

static int answer_about(cli_runner *r, const char *path, const char *question, size_t len,
                        tvlm_image *image, double decode_ms)
{
    tvlm_error err;
    tvlm_result result;
    tvlm_prompt *prompt;
    const char *system = r->options->system;
    tvlm_message m[2] = {
        {TVLM_ROLE_SYSTEM, system,   system ? strlen(system) : 0, NULL,   0},
        {TVLM_ROLE_USER,   question, len,                         &image, 1}
    };
    tvlm_status status = tvlm_prompt_new(r->model, &prompt, &err);
    if (!status) status = tvlm_prompt_chat(prompt, system ? m : m + 1, system ? 2 : 1, &err);
    int code = status ? cli_fail(status, &err) : cli_generate(r, prompt, &result);
    if (!code && r->options->json)
        print_json(r, path, question, len, image, decode_ms, &result);
    else if (!code)
        cli_print_timings(r, image, decode_ms, &result);
    tvlm_prompt_free(prompt);
    return code;
}

/* Refuses a question that cannot fit before the picture is encoded. The template may put a few ids
 * around a picture: whether those fit too, the engine finds. */
static tvlm_status check_length(const cli_runner *r, const char *question, size_t len,
                                tvlm_error *err)
{
    tvlm_model_info info;
    tvlm_prompt *prompt;
    const char *system = r->options->system;
    tvlm_message m[2] = {
        {TVLM_ROLE_SYSTEM, system,   system ? strlen(system) : 0, NULL, 0},
        {TVLM_ROLE_USER,   question, len,                         NULL, 0}
    };
    tvlm_status status = tvlm_prompt_new(r->model, &prompt, err);
    if (!status) status = tvlm_prompt_chat(prompt, system ? m : m + 1, system ? 2 : 1, err);
    size_t rows = status ? 0 : tvlm_prompt_rows(prompt);
    tvlm_prompt_free(prompt);
    if (status) return status;
    tvlm_model_get_info(r->model, &info);
    if (!strcmp(info.architecture, "fastvlm")) rows += info.n_image_tokens;
    uint32_t context = r->options->ctx ? r->options->ctx : 4096;
    context = context < info.n_ctx_train ? context : info.n_ctx_train;
    if (rows <= context) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_CONTEXT,
                     "the prompt needs at least %zu positions, the context has %u", rows,
                     (unsigned)context);
}

int cli_answer(cli_runner *r, const char *path, const char *question, size_t len, bool heading)
{
    tvlm_image *image;
    tvlm_error err;
    double decode_ms;
    tvlm_status status = check_length(r, question, len, &err);
    if (status) return cli_fail(status, &err);
    int code = cli_encode(r, path, &image, &decode_ms);
    if (code) return code;
    if (heading && !r->options->json) printf("%s: ", path);
    code = cli_flush() ? answer_about(r, path, question, len, image, decode_ms) : EXIT_RUN;
    tvlm_session_reset(r->session); /* it must not keep a picture that is gone */
    tvlm_image_free(image);
    return code;
}
