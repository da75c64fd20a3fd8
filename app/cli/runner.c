/* SPDX-License-Identifier: MIT
 * Model, engine and session for the commands that answer. */
#include "cli/cli.h"
#include "file/output.h"
#include "system/system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char cli_save_image_help[] =
    "      --save-image FILE   keep the encoded image in FILE, which may be named as an image\n"
    "                          from then on, with the same model: its answers come at once\n";

/* ---- opening ---- */

static cli_decoded decode(const cli_options *o, const char *path)
{
    cli_decoded d = {.path = path};
    double begin = app_sys_now_ms();
    d.status = cli_decode_quietly(o, path, false, &d.photo, &d.err);
    d.ms = app_sys_now_ms() - begin;
    return d;
}

static tvlm_status open_model(cli_runner *r, tvlm_error *err)
{
    const cli_options *o = r->options;
    tvlm_engine_params engine;
    tvlm_session_params session;
    double begin = app_sys_now_ms();
    tvlm_engine_params_init(&engine, sizeof engine);
    engine.n_threads = o->threads;
    engine.max_pixels = o->max_pixels;
    tvlm_session_params_init(&session, sizeof session);
    session.n_ctx = o->ctx;
    session.kv_type = o->kv_f32 ? TVLM_KV_F32 : TVLM_KV_F16;
    APP_TRY(cli_open_model(o, false, &r->model, err));
    r->info.size = sizeof r->info;
    APP_TRY(tvlm_model_get_info(r->model, &r->info, err));
    session.max_images = r->info.max_images;
    session.max_beams = o->beams;
    APP_TRY(tvlm_engine_new(r->model, &engine, &r->engine, err));
    APP_TRY(tvlm_session_new(r->model, &session, &r->session, err));
    r->load_ms = app_sys_now_ms() - begin;
    return TVLM_OK;
}

static void decode_ahead(void *runner)
{
    cli_runner *r = runner;
    r->ahead = decode(r->options, r->ahead.path);
}

/* Another thread for the image: not for a pipe, whose writer may keep a failure waiting. */
static app_sys_thread *second_thread(cli_runner *r, const char *photo)
{
    app_sys_facts facts;
    if (!photo || r->options->threads == 1) return NULL;
    if (!app_sys_look(photo, &facts) || facts.kind != APP_SYS_REGULAR) return NULL;
    r->ahead.path = photo;
    app_sys_thread *thread = app_sys_thread_start(decode_ahead, r);
    if (!thread) r->ahead.path = NULL;
    return thread;
}

int cli_runner_open(cli_runner *r, cli_options *o, const char *photo)
{
    *r = (cli_runner){.options = o, .terminal = app_sys_terminal(APP_SYS_STDOUT)};
    o->model = cli_model_path(o);
    if (!o->model) return EXIT_INPUT;
    tvlm_error err;
    app_sys_thread *thread = second_thread(r, photo);
    tvlm_status status = open_model(r, &err);
    app_sys_thread_join(thread);
    if (!status) return 0;
    cli_runner_close(r);
    return cli_fail(status, &err);
}

void cli_runner_close(cli_runner *r)
{
    if (r->ahead.path && !r->ahead.status) app_decoded_free(&r->ahead.photo);
    tvlm_session_free(r->session);
    tvlm_engine_free(r->engine);
    tvlm_model_free(r->model);
    *r = (cli_runner){0};
}

uint32_t cli_context(const cli_runner *r)
{
    uint32_t wanted = r->options->ctx ? r->options->ctx : 4096;
    return wanted < r->info.n_ctx_train ? wanted : r->info.n_ctx_train;
}

/* ---- images ---- */

tvlm_status cli_takes_photos(const cli_runner *r, size_t n, tvlm_error *err)
{
    uint32_t most = r->info.max_images;
    if (n && !most)
        return app_fail(err, TVLM_ERR_UNSUPPORTED,
                        "%s: a text model: it takes no image; tinyvlm chat talks with it",
                        r->options->model);
    if (n <= most) return TVLM_OK;
    return app_fail(err, TVLM_ERR_LIMIT, "%s: takes %u image%s in one question, %zu were given",
                    r->options->model, (unsigned)most, most == 1 ? "" : "s", n);
}

/* The image that was decoded ahead, if it is this one. */
static cli_decoded take_decoded(cli_runner *r, const char *path)
{
    if (r->ahead.path != path) return decode(r->options, path);
    cli_decoded d = r->ahead;
    r->ahead = (cli_decoded){0};
    return d;
}

/* Whether --save-image wrote it; "-" and what is no regular file is decoded. */
static bool is_encoded(const char *path)
{
    char magic[8] = "";
    app_sys_facts facts;
    if (!app_sys_look(path, &facts) || facts.kind != APP_SYS_REGULAR) return false;
    FILE *f = app_sys_open(path);
    bool read = f && fread(magic, sizeof magic, 1, f) == 1;
    if (f) fclose(f);
    return read && !memcmp(magic, "TVLMIMAG", sizeof magic);
}

/* Another model's file is no fault of the command line. */
static tvlm_status load_encoded(cli_runner *r, const char *path, cli_photo *out, tvlm_error *err)
{
    tvlm_error why;
    tvlm_status status = tvlm_image_load(r->model, path, &out->image, &why);
    if (!status) return TVLM_OK;
    return app_fail(err, status == TVLM_ERR_ARGUMENT ? TVLM_ERR_UNSUPPORTED : status, "%s",
                    why.message);
}

static tvlm_status encode(cli_runner *r, const char *path, cli_photo *out, tvlm_error *err)
{
    tvlm_error local;
    tvlm_encode_params params;
    cli_decoded decoded = take_decoded(r, path);
    if (decoded.status) return app_fail(err, decoded.status, "%s", decoded.err.message);
    app_decoded photo = decoded.photo;
    cli_warn_of_photo(path, &photo);
    out->decode_ms = decoded.ms;
    snprintf(out->warning, sizeof out->warning, "%s", photo.warning);
    tvlm_encode_params_init(&params, sizeof params);
    params.cancel = cli_cancel();
    tvlm_pixels pixels = app_decoded_pixels(&photo);
    tvlm_status status = tvlm_image_encode(r->engine, &pixels, &params, &out->image, &local);
    app_decoded_free(&photo);
    return status ? app_fail(err, status, "%s: %s", cli_photo_name(path), local.message) : TVLM_OK;
}

tvlm_status cli_photo_open(cli_runner *r, const char *path, cli_photo *out, tvlm_error *err)
{
    *out = (cli_photo){0};
    APP_TRY(cli_takes_photos(r, 1, err));
    APP_TRY((is_encoded(path) ? load_encoded : encode)(r, path, out, err));
    out->path = malloc(strlen(path) + 1);
    if (out->path) {
        strcpy(out->path, path);
        return TVLM_OK;
    }
    cli_photo_free(out);
    return app_fail(err, TVLM_ERR_MEMORY, "out of memory");
}

/* What cannot be written is no input's fault. */
static tvlm_status save_encoded(const char *path, const cli_photo *photo, tvlm_error *err)
{
    APP_TRY(app_output_not_input(path, photo->path, err));
    tvlm_status status = tvlm_image_save(photo->image, path, err);
    return status == TVLM_ERR_IO ? APP_ERR_WRITE : status;
}

void cli_photo_free(cli_photo *photo)
{
    tvlm_image_free(photo->image);
    free(photo->path);
    *photo = (cli_photo){0};
}

/* ---- answers ---- */

/* At a terminal what a model says must not move the cursor or worse. */
static void print_safely(const char *text, size_t len)
{
    while (len) {
        app_character c = app_first_character(text, len);
        bool shows = app_is_printable(c.code) || *text == '\n' || *text == '\t';
        fwrite(shows ? text : APP_REPLACEMENT, 1, shows ? c.len : 3, stdout);
        text += c.len;
        len -= c.len;
    }
}

static bool print_text(void *user, const char *text, size_t len)
{
    if (((const cli_runner *)user)->terminal)
        print_safely(text, len);
    else
        fwrite(text, 1, len, stdout);
    return cli_flush();
}

tvlm_status cli_generate(cli_runner *r, const tvlm_prompt *prompt, tvlm_result *result,
                         tvlm_error *err)
{
    tvlm_generate_params p;
    *result = (tvlm_result){.size = sizeof *result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = r->options->max_tokens;
    p.sampling = r->options->sampling;
    p.lookup = r->options->lookup;
    p.beams = r->options->beams;
    p.stop = r->options->stop;
    p.n_stop = r->options->n_stop;
    p.on_text = r->options->json ? NULL : print_text;
    p.user = r;
    p.cancel = cli_cancel();
    tvlm_status status = tvlm_generate(r->engine, r->session, prompt, &p, result, err);
    if (!r->options->json && (!status || result->text_len)) putchar('\n');
    cli_flush();
    return status;
}

static double tokens_per_second(const tvlm_result *r)
{
    /* the first token comes from the prompt's own pass */
    return r->n_ids > 1 && r->decode_ms > 0 ? (double)(r->n_ids - 1) * 1000.0 / r->decode_ms : 0.0;
}

/* Of all the images together. */
static double sum_timings(const cli_exchange *e, tvlm_image_timings *sum)
{
    double decode_ms = 0;
    *sum = (tvlm_image_timings){0};
    for (size_t i = 0; i < e->n_photos; i++) {
        tvlm_image_timings t = {.size = sizeof t};
        if (tvlm_image_get_timings(e->photos[i].image, &t, NULL)) continue;
        sum->preprocess_ms += t.preprocess_ms;
        sum->tower_ms += t.tower_ms;
        sum->bridge_ms += t.bridge_ms;
        decode_ms += e->photos[i].decode_ms;
    }
    return decode_ms;
}

static void print_timings(const cli_runner *r, const cli_exchange *e)
{
    tvlm_image_timings t = {.size = sizeof t};
    double decode_ms = sum_timings(e, &t);
    if (r->options->quiet) return;
    fprintf(stderr, "%s", cli_dim());
    if (e->n_photos)
        fprintf(stderr,
                "decode %.1f ms, image %.1f ms (preprocess %.1f, tower %.1f, bridge %.1f), ",
                decode_ms, t.preprocess_ms + t.tower_ms + t.bridge_ms, t.preprocess_ms, t.tower_ms,
                t.bridge_ms);
    fprintf(stderr, "first word %.1f ms, %zu tokens, %.0f tokens/s", e->result.first_token_ms,
            e->result.n_ids, tokens_per_second(&e->result));
    if (r->options->lookup)
        fprintf(stderr, ", %zu of %zu guesses right", e->result.n_accepted, e->result.n_drafted);
    fprintf(stderr, "%s\n", cli_reset());
}

/* "image" is the one image's name, "images" the names of several. "warning" is what there is to
 * say about the first that has one: standard error has them all. */
static void add_photos(json_t *object, const cli_exchange *e)
{
    for (size_t i = 0; i < e->n_photos && !json_object_get(object, "warning"); i++)
        if (*e->photos[i].warning)
            json_object_set_new(object, "warning", cli_json_string(e->photos[i].warning));
    if (e->n_photos == 1) json_object_set_new(object, "image", cli_json_string(e->photos[0].path));
    if (e->n_photos < 2) return;
    json_t *names = json_array();
    for (size_t i = 0; i < e->n_photos; i++)
        json_array_append_new(names, cli_json_string(e->photos[i].path));
    json_object_set_new(object, "images", names);
}

static void print_json(const cli_runner *r, const cli_exchange *e)
{
    static const char *const finish[] = {"stop", "length", "context", "callback"};
    const tvlm_result *result = &e->result;
    tvlm_image_timings t = {.size = sizeof t};
    double decode_ms = sum_timings(e, &t);
    json_t *object = json_object();
    add_photos(object, e);
    json_t *rest = json_pack(
        "{s:o,s:o,s:s,s:I,s:I,s:I,s:I,s:{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}}", "prompt",
        cli_json_text(e->question, e->len), "text", cli_json_text(result->text, result->text_len),
        "finish", e->interrupted ? "interrupted" : finish[result->finish], "tokens",
        (json_int_t)result->n_ids, "prompt_tokens", (json_int_t)result->n_prompt_tokens,
        "drafted_tokens", (json_int_t)result->n_drafted, "accepted_tokens",
        (json_int_t)result->n_accepted, "timings_ms", "load", r->load_ms, "decode", decode_ms,
        "preprocess", t.preprocess_ms, "tower", t.tower_ms, "bridge", t.bridge_ms, "prefill",
        result->prefill_ms, "first_token", result->first_token_ms, "generate", result->decode_ms);
    bool whole = rest && json_object_update(object, rest) == 0;
    json_decref(rest);
    cli_json_line(whole ? object : NULL);
}

void cli_print_exchange(const cli_runner *r, const cli_exchange *e)
{
    (r->options->json ? print_json : print_timings)(r, e);
}

tvlm_status cli_prompt(const cli_runner *r, const char *question, size_t len,
                       tvlm_image *const *images, size_t n_images, tvlm_prompt **out,
                       tvlm_error *err)
{
    const char *system = r->options->system;
    tvlm_message m[2] = {
        {TVLM_ROLE_SYSTEM, system,   system ? strlen(system) : 0, NULL,   0,        NULL},
        {TVLM_ROLE_USER,   question, len,                         images, n_images, NULL}
    };
    APP_TRY(tvlm_prompt_new(r->model, out, err));
    tvlm_status status = tvlm_prompt_chat(*out, system ? m : m + 1, system ? 2 : 1, err);
    if (!status) return TVLM_OK;
    tvlm_prompt_free(*out);
    *out = NULL;
    return status;
}

/* Refuses a question that cannot fit before the images are encoded. The template may put a few
 * ids around an image: whether those fit too, the engine finds. */
static tvlm_status check_length(const cli_runner *r, const cli_exchange *e, size_t n_images,
                                tvlm_error *err)
{
    tvlm_prompt *prompt;
    APP_TRY(cli_prompt(r, e->question, e->len, NULL, 0, &prompt, err));
    size_t rows = tvlm_prompt_n_tokens(prompt);
    tvlm_prompt_free(prompt);
    if (r->info.max_images > 1) rows += n_images * r->info.n_frame_tokens;
    if (rows <= cli_context(r)) return TVLM_OK;
    return app_fail(err, TVLM_ERR_CONTEXT,
                    "the prompt needs at least %zu positions, the context has %u", rows,
                    (unsigned)cli_context(r));
}

static tvlm_status open_photos(cli_runner *r, char *const *paths, size_t n, cli_exchange *e,
                               tvlm_error *err)
{
    for (; e->n_photos < n; e->n_photos++)
        APP_TRY(cli_photo_open(r, paths[e->n_photos], &e->photos[e->n_photos], err));
    return r->save_image ? save_encoded(r->save_image, &e->photos[0], err) : TVLM_OK;
}

static tvlm_status answer(cli_runner *r, cli_exchange *e, tvlm_image **images, tvlm_error *err)
{
    tvlm_prompt *prompt;
    for (size_t i = 0; i < e->n_photos; i++)
        images[i] = e->photos[i].image;
    APP_TRY(cli_prompt(r, e->question, e->len, images, e->n_photos, &prompt, err));
    tvlm_status status = cli_generate(r, prompt, &e->result, err);
    tvlm_prompt_free(prompt);
    return status;
}

int cli_answer(cli_runner *r, char *const *paths, size_t n, const char *question, bool heading)
{
    tvlm_error err;
    cli_exchange e = {.question = question, .len = strlen(question)};
    tvlm_image **images = malloc((n + 1) * sizeof *images);
    e.photos = calloc(n + 1, sizeof *e.photos);
    tvlm_status status = images && e.photos ? cli_takes_photos(r, n, &err)
                                            : app_fail(&err, TVLM_ERR_MEMORY, "out of memory");
    if (!status) status = check_length(r, &e, n, &err);
    if (!status) status = open_photos(r, paths, n, &e, &err);
    if (!status) {
        if (heading && !r->options->json) {
            print_text(r, paths[0], strlen(paths[0]));
            fputs(": ", stdout);
        }
        status = answer(r, &e, images, &err);
        tvlm_session_reset(r->session); /* it must not keep images that are gone */
    }
    if (!status) cli_print_exchange(r, &e);
    for (size_t i = 0; i < e.n_photos; i++)
        cli_photo_free(&e.photos[i]);
    free(e.photos);
    free(images);
    if (status) return cli_fail(status, &err);
    return cli_flush() ? 0 : EXIT_RUN;
}
