/* SPDX-License-Identifier: MIT
 * A run's tensors as safetensors: the tool with which anyone checks the engine against a reference.
 */
#include "cli/cli.h"
#include "convert/safetensors.h"
#include "file/output.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm dump -p PROMPT -o FILE.safetensors [--image IMAGE] [OPTIONS]\n"
    "Writes pixel_values, vision_tokens, bridge_out (float32), input_ids (int32, -200 for the\n"
    "image), logits of every prompt position (float32, raw) and generated_ids (int32, greedy,\n"
    "exactly --new-tokens of them). The cache is float32; EXIF orientation and alpha are ignored,\n"
    "as the reference does.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm dump -m fastvlm.gguf --image a.png -p \"Describe the image.\" -o out.safetensors\n"
    "  tinyvlm dump -m smollm2.gguf --prompt-raw -p \"Once upon\" -o out.safetensors --new-tokens "
    "8\n"
    "\n"
    "  -p, --prompt TEXT       the user's words\n"
    "  -o, --output FILE       safetensors file to write\n"
    "      --image IMAGE       image\n"
    "      --new-tokens N      ids to generate (default 24; 0: none)\n"
    "      --prompt-raw        no chat template; <image> in the text stands for the image and\n"
    "                          special tokens are parsed\n"
    "      --fit pad|crop|squash  instead of the model's way\n";

enum { OPT_IMAGE = CLI_OWN, OPT_NEW, OPT_RAW, OPT_FIT };

typedef struct dump {
    const char *prompt, *output, *image_path;
    unsigned long new_tokens;
    bool raw;
    tvlm_fit fit;
    cli_options *options;
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_image *image;
    tvlm_prompt *ids;
    float *pixels, *logits;
    size_t n_pixels; /* floats */
} dump;

static bool take(void *user, int value, const char *text)
{
    dump *d = user;
    switch (value) {
    case 'p':
        d->prompt = text;
        return true;
    case 'o':
        d->output = text;
        return true;
    case OPT_IMAGE:
        d->image_path = text;
        return true;
    case OPT_NEW:
        return cli_unsigned(text, 0, 1u << 20, &d->new_tokens);
    case OPT_RAW:
        return d->raw = true;
    default:
        d->fit = !strcmp(text, "pad")      ? TVLM_FIT_PAD
                 : !strcmp(text, "crop")   ? TVLM_FIT_CROP
                 : !strcmp(text, "squash") ? TVLM_FIT_SQUASH
                                           : TVLM_FIT_MODEL;
        return d->fit != TVLM_FIT_MODEL;
    }
}

static tvlm_status out_of_memory(tvlm_error *err)
{
    return app_fail(err, TVLM_ERR_MEMORY, "out of memory");
}

static tvlm_status see(dump *d, tvlm_error *err)
{
    app_decoded photo;
    tvlm_encode_params encode;
    APP_TRY(cli_decode(d->options, d->image_path, true, &photo, err));
    tvlm_pixels pixels = app_decoded_pixels(&photo);
    tvlm_encode_params_init(&encode, sizeof encode);
    encode.keep_vision_tokens = true;
    encode.fit = d->fit;
    encode.cancel = cli_cancel();
    size_t n = d->n_pixels = tvlm_preprocess_floats(d->model, &pixels, &encode);
    d->pixels = malloc((n ? n : 1) * sizeof *d->pixels);
    tvlm_status status = d->pixels ? tvlm_preprocess(d->model, &pixels, &encode, d->pixels, n, err)
                                   : out_of_memory(err);
    if (!status) status = tvlm_image_encode(d->engine, &pixels, &encode, &d->image, err);
    app_decoded_free(&photo);
    return status;
}

/* Text around the first "<image>" apart, the image between. */
static tvlm_status raw_prompt(dump *d, tvlm_error *err)
{
    const char *mark = d->image ? strstr(d->prompt, "<image>") : NULL, *rest = d->prompt;
    if (mark) {
        APP_TRY(tvlm_prompt_add_text(d->ids, d->prompt, (size_t)(mark - d->prompt), true, err));
        APP_TRY(tvlm_prompt_add_image(d->ids, d->image, err));
        rest = mark + strlen("<image>");
    } else if (d->image) { /* Tiny-VLM's image has no place among the ids */
        APP_TRY(tvlm_prompt_add_image(d->ids, d->image, err));
    }
    return tvlm_prompt_add_text(d->ids, rest, strlen(rest), true, err);
}

static tvlm_status build_prompt(dump *d, tvlm_error *err)
{
    const char *system = d->options->system;
    tvlm_message m[2] = {
        {TVLM_ROLE_SYSTEM, system,    system ? strlen(system) : 0, NULL,      0,                NULL},
        {TVLM_ROLE_USER,   d->prompt, strlen(d->prompt),           &d->image, d->image != NULL, NULL}
    };
    APP_TRY(tvlm_prompt_new(d->model, &d->ids, err));
    return d->raw ? raw_prompt(d, err)
                  : tvlm_prompt_chat(d->ids, system ? m : m + 1, system ? 2 : 1, err);
}

/* File bytes are little-endian; so is every host this runs on today, and the writer copies. */
static void add(tvlmc_st_tensor *list, size_t *n, const char *name, tvlmc_st_dtype type,
                const void *data, const uint64_t *shape, uint32_t dims)
{
    tvlmc_st_tensor t = {.name = name, .dtype = type, .n_dims = dims, .n = 1, .data = data};
    for (uint32_t i = 0; i < dims; i++) {
        t.shape[i] = shape[i];
        t.n *= (size_t)shape[i];
    }
    list[(*n)++] = t;
}

/* Frames of [3][S][S]; to be freed. */
static float *channels_first(const dump *d, size_t s)
{
    float *out = malloc(d->n_pixels * sizeof *out);
    for (size_t i = 0; out && i < d->n_pixels / 3; i++)
        for (size_t c = 0; c < 3; c++)
            out[(i / (s * s) * 3 + c) * s * s + i % (s * s)] = d->pixels[3 * i + c];
    return out;
}

static tvlm_status write_tensors(const dump *d, const tvlm_result *r, tvlm_error *err)
{
    tvlmc_st_tensor list[8];
    tvlm_model_info info = {.size = sizeof info};
    size_t n = 0, rows = tvlm_prompt_n_tokens(d->ids), n_ids, count, dim;
    float *chw = NULL;
    const int32_t *ids = tvlm_prompt_ids(d->ids, &n_ids);
    APP_TRY(tvlm_model_get_info(d->model, &info, err));
    if (d->image) {
        size_t s = info.image_size, frames = d->n_pixels / (3 * s * s);
        if (!(chw = channels_first(d, s))) return out_of_memory(err);
        /* without the first where there is one, as the reference has it */
        uint64_t shape[4] = {frames, 3, s, s}, one = frames == 1;
        add(list, &n, "pixel_values", TVLMC_ST_F32, chw, shape + one, (uint32_t)(4 - one));
        const float *v = tvlm_image_vision_tokens(d->image, &count, &dim);
        add(list, &n, "vision_tokens", TVLMC_ST_F32, v, (uint64_t[]){count, dim}, 2);
        v = tvlm_image_tokens(d->image, &count, &dim);
        add(list, &n, "bridge_out", TVLMC_ST_F32, v, (uint64_t[]){count, dim}, 2);
    }
    add(list, &n, "input_ids", TVLMC_ST_I32, ids, (uint64_t[]){n_ids}, 1);
    add(list, &n, "logits", TVLMC_ST_F32, d->logits, (uint64_t[]){rows, info.n_vocab}, 2);
    add(list, &n, "generated_ids", TVLMC_ST_I32, r->ids, (uint64_t[]){r->n_ids}, 1);
    tvlm_status status = tvlmc_st_write(d->output, cli_cancel(), list, n, err);
    free(chw);
    return status;
}

static tvlm_status run(dump *d, tvlm_error *err)
{
    tvlm_engine_params engine;
    tvlm_session_params session;
    tvlm_model_info info = {.size = sizeof info};
    tvlm_result result = {.size = sizeof result};
    tvlm_engine_params_init(&engine, sizeof engine);
    engine.n_threads = d->options->threads;
    engine.max_pixels = d->options->max_pixels;
    tvlm_session_params_init(&session, sizeof session);
    session.n_ctx = d->options->ctx;
    session.kv_type = TVLM_KV_F32;
    APP_TRY(app_output_not_input(d->output, d->options->model, err));
    if (d->image_path) APP_TRY(app_output_not_input(d->output, d->image_path, err));
    APP_TRY(cli_open_model(d->options, false, &d->model, err));
    APP_TRY(tvlm_engine_new(d->model, &engine, &d->engine, err));
    APP_TRY(tvlm_session_new(d->model, &session, &d->session, err));
    if (d->image_path) APP_TRY(see(d, err));
    APP_TRY(build_prompt(d, err));
    APP_TRY(tvlm_model_get_info(d->model, &info, err));
    size_t rows = tvlm_prompt_n_tokens(d->ids), floats = rows * info.n_vocab;
    d->logits = malloc((floats ? floats : 1) * sizeof *d->logits);
    if (!d->logits) return out_of_memory(err);
    APP_TRY(tvlm_session_feed(d->engine, d->session, d->ids, cli_cancel(), d->logits, floats, err));
    if (d->new_tokens) {
        tvlm_generate_params p;
        tvlm_generate_params_init(&p, sizeof p);
        p.max_tokens = (uint32_t)d->new_tokens;
        p.ignore_eos = true;
        p.beams = 1; /* as references do */
        p.cancel = cli_cancel();
        APP_TRY(tvlm_generate(d->engine, d->session, d->ids, &p, &result, err));
        if (result.n_ids < d->new_tokens)
            return app_fail(err, TVLM_ERR_CONTEXT,
                            "the context is full after %zu of %lu ids; --ctx N makes it larger",
                            result.n_ids, d->new_tokens);
    }
    return write_tensors(d, &result, err);
}

int cmd_dump(int argc, char **argv)
{
    cli_options o;
    dump d = {.new_tokens = 24, .options = &o};
    static const struct option names[] = {
        {"prompt", required_argument, NULL, 'p'},
        {"output", required_argument, NULL, 'o'},
        {"image", required_argument, NULL, OPT_IMAGE},
        {"new-tokens", required_argument, NULL, OPT_NEW},
        {"prompt-raw", no_argument, NULL, OPT_RAW},
        {"fit", required_argument, NULL, OPT_FIT},
        {0}
    };
    cli_own own = {names, take, &d};
    tvlm_error err;
    cli_options_init(&o);
    o.precision = "f32"; /* what is dumped is compared with a reference */
    int first = cli_parse(argc, argv, &o, &own);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (first < argc || !d.prompt || !d.output)
        return cli_usage("dump: --prompt and --output are needed; see tinyvlm dump --help");
    o.model = cli_model_path(&o);
    if (!o.model) return EXIT_INPUT;
    tvlm_status status = run(&d, &err);
    free(d.pixels);
    free(d.logits);
    tvlm_prompt_free(d.ids);
    tvlm_session_free(d.session);
    tvlm_image_free(d.image);
    tvlm_engine_free(d.engine);
    tvlm_model_free(d.model);
    return status ? cli_fail(status, &err) : 0;
}
