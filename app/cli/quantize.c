/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "convert/quantize.h"
#include "file/folder.h"
#include "file/output.h"
#include "system/system.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_LAYER_ERROR "2.8" /* per cent; see docs/PRECISION.md */

static const char help[] =
    "Usage: tinyvlm quantize IN.gguf OUT.gguf --type TYPE [OPTIONS]\n"
    "Makes a model file smaller. int8 also quantizes the EfficientNet tower of a Tiny-VLM model,\n"
    "calibrated on the images of a folder; its decoder takes --decoder (default q8_0).\n"
    "\n"
    "Examples:\n"
    "  tinyvlm quantize fastvlm-f16.gguf fastvlm-q4.gguf --type q4_0\n"
    "  tinyvlm quantize tiny-f32.gguf tiny.gguf --type int8 --calibrate photos/ --decoder q4_0\n"
    "  tinyvlm quantize tiny-f32.gguf tiny.gguf --type int8 --calibrate photos/ --max-layer-error "
    "3\n"
    "\n"
    "      --type TYPE         of the large matrices: f32, f16, bf16, q8_0, q6_k, q5_k, q4_k, "
    "q5_1,\n"
    "                          q5_0, q4_1 or q4_0; or int8. Rows that are not whole blocks take\n"
    "                          another type and are named\n"
    "      --calibrate DIR     images for int8 (up to 512 are used)\n"
    "      --decoder TYPE      with int8: type of bridge and decoder\n"
    "      --tensor NAME=TYPE  of matrices with NAME in their name, such as token_embd=q4_0 (up "
    "to\n"
    "                          16 times; the last that fits counts)\n"
    "      --max-layer-error PERCENT\n"
    "                          with int8: layers of the tower that lose more, alone, stay float\n"
    "                          (default " MAX_LAYER_ERROR ")\n"
    "  -q, --quiet             no notes, no progress, no table of errors\n"
    "  -h, --help              this text\n";

enum {
    OPT_TYPE = CLI_OWN,
    OPT_CALIBRATE,
    OPT_DECODER,
    OPT_TENSOR,
    OPT_MAX_ERROR,
    MAX_IMAGES = 512,
    MAX_TENSORS = 16
};

typedef struct job {
    tvlmc_quantize_params params;
    cli_options options;
    const char *folder;
    bool typed;
    uint32_t decoder;
    tvlmc_tensor_type tensors[MAX_TENSORS];
    char **paths; /* of the calibration images */
    size_t n_paths, cap, next, n_read;
    app_decoded photo;
} job;

static bool take_max_error(job *j, const char *text)
{
    float percent;
    if (!cli_float(text, 0, 1000, &percent)) return false;
    j->params.max_layer_error = percent / 100.0;
    return true;
}

static bool take_tensor(job *j, const char *text)
{
    char *equals = strchr(text, '='); /* argv may be written to */
    if (!equals || equals == text || j->params.n_tensors == MAX_TENSORS) return false;
    tvlmc_tensor_type *t = &j->tensors[j->params.n_tensors++];
    if (!tvlmc_type_from_name(equals + 1, &t->type)) return false;
    *equals = 0;
    t->name = text;
    return true;
}

static bool take(void *user, int value, const char *text)
{
    job *j = user;
    if (value == OPT_TENSOR) return take_tensor(j, text);
    if (value == OPT_MAX_ERROR) return take_max_error(j, text);
    if (value == OPT_CALIBRATE) {
        j->folder = text;
        return true;
    }
    if (value == OPT_DECODER) return tvlmc_type_from_name(text, &j->decoder);
    j->typed = true;
    j->params.int8_tower = !strcmp(text, "int8");
    return j->params.int8_tower || tvlmc_type_from_name(text, &j->params.type);
}

static void note(void *user, const char *line)
{
    if (!((job *)user)->options.quiet) cli_remark("%s", line);
}

static void progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    if (!((job *)user)->options.quiet) cli_progress(what, done, total);
}

static void say_error(void *user, const tvlmc_layer_error *e)
{
    if (((job *)user)->options.quiet) return;
    if (!strcmp(e->layer, "stem"))
        puts(
            "relative errors of the int8 tower: tokens, where the layer alone is int8; its output");
    printf("%-18s", e->layer);
    if (isnan(e->alone))
        printf("%10s", "");
    else
        printf("%8.2f %%", 100 * e->alone);
    printf("%8.2f %%%s\n", 100 * e->behind, e->is_float ? "  float" : "");
}

/* ---- calibration images ---- */

static void say_skipped(job *j, const char *path, const char *why)
{
    char line[2048];
    snprintf(line, sizeof line, "%s is skipped: %s", path, why);
    note(j, line);
}

/* Images that cannot be read are skipped, as long as one can. */
static tvlm_status next_photo(void *user, tvlm_pixels *out, tvlm_error *err)
{
    job *j = user;
    while (j->next < j->n_paths) {
        tvlm_error why = {0};
        const char *path = j->paths[j->next++];
        app_decoded_free(&j->photo);
        tvlm_status status = cli_decode(&j->options, path, false, &j->photo, &why);
        if (status == TVLM_ERR_MEMORY) return app_fail(err, status, "%s", why.message);
        if (!status) {
            *out = app_decoded_pixels(&j->photo);
            j->n_read++;
            return TVLM_OK;
        }
        bool named = !strncmp(why.message, path, strlen(path));
        say_skipped(j, path, why.message + (named ? strlen(path) + 2 : 0));
    }
    return j->n_read ? TVLM_OK
                     : app_fail(err, TVLM_ERR_IO, "%s: none of its images can be read", j->folder);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_photo(const char *name)
{
    static const char *const endings[] = {"jpg",  "jpeg", "jpe",  "jfif", "png", "webp",
                                          "ppm",  "pgm",  "pbm",  "pnm",  "gif", "bmp",
                                          "heic", "heif", "avif", "tif",  "tiff"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && dot > name && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot + 1, endings[i])) return true;
    return false;
}

/* Takes over the path. */
static tvlm_status add_path(job *j, char *path, tvlm_error *err)
{
    if (path && j->n_paths == j->cap) {
        size_t cap = j->cap ? 2 * j->cap : 256;
        char **grown = realloc(j->paths, cap * sizeof *grown);
        if (grown) {
            j->paths = grown;
            j->cap = cap;
        }
    }
    if (!path || j->n_paths == j->cap) {
        free(path);
        return app_fail(err, TVLM_ERR_MEMORY, "out of memory listing %s", j->folder);
    }
    j->paths[j->n_paths++] = path;
    return TVLM_OK;
}

typedef struct listing {
    job *j;
    tvlm_status status;
    tvlm_error *err;
} listing;

static char *copy_of(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

/* Regular files (or links to them) that are named as images are; of sub-folders it is said that
 * they are not entered. */
static bool add_entry(void *user, const char *path)
{
    listing *l = user;
    app_sys_facts facts;
    const char *name = strrchr(path, '/') + 1;
    if (name[0] == '.') return true;
    bool there = app_sys_look(path, &facts);
    if (there && facts.kind == APP_SYS_REGULAR && is_photo(name))
        l->status = add_path(l->j, copy_of(path), l->err);
    else if (there && facts.kind == APP_SYS_FOLDER)
        say_skipped(l->j, path, "a folder in the folder");
    else if (is_photo(name))
        say_skipped(l->j, path, there ? "not a file" : strerror(errno));
    return !l->status;
}

/* Keeps MAX_IMAGES of the sorted paths, evenly. */
static void thin(job *j)
{
    size_t most = j->n_paths < MAX_IMAGES ? j->n_paths : MAX_IMAGES, kept = 0;
    for (size_t i = 0; i < j->n_paths; i++) {
        if (kept < most && i == kept * j->n_paths / most)
            j->paths[kept++] = j->paths[i];
        else
            free(j->paths[i]);
    }
    j->n_paths = kept;
}

static tvlm_status list_photos(job *j, tvlm_error *err)
{
    listing l = {j, TVLM_OK, err};
    APP_TRY(app_folder_list(j->folder, add_entry, &l, err));
    if (j->n_paths) qsort(j->paths, j->n_paths, sizeof *j->paths, by_text);
    thin(j);
    if (!l.status && !j->n_paths)
        return app_fail(err, TVLM_ERR_IO, "%s: no images there", j->folder);
    return l.status;
}

static tvlm_status quantize(job *j, const char *in, const char *out, tvlm_error *err)
{
    if (j->folder) APP_TRY(app_output_not_input(out, j->folder, err));
    if (j->params.int8_tower) APP_TRY(list_photos(j, err));
    return tvlmc_quantize_file(in, out, &j->params, err);
}

int cmd_quantize(int argc, char **argv)
{
    static const struct option names[] = {
        {"type", required_argument, NULL, OPT_TYPE},
        {"calibrate", required_argument, NULL, OPT_CALIBRATE},
        {"decoder", required_argument, NULL, OPT_DECODER},
        {"tensor", required_argument, NULL, OPT_TENSOR},
        {"max-layer-error", required_argument, NULL, OPT_MAX_ERROR},
        {0}
    };
    static job j;
    cli_own own = {names, take, &j};
    tvlm_error err;
    cli_options_init(&j.options);
    tvlmc_type_from_name("q8_0", &j.decoder);
    take_max_error(&j, MAX_LAYER_ERROR);
    int first = cli_parse(argc, argv, &j.options, &own);
    if (first < 0) return EXIT_USAGE;
    if (j.options.help) {
        fputs(help, stdout);
        return 0;
    }
    if (argc - first != 2 || !j.typed)
        return cli_usage("quantize: two files and --type are needed; see tinyvlm quantize --help");
    if (j.params.int8_tower && !j.folder)
        return cli_usage("quantize: --type int8 needs --calibrate DIR, a folder of images");
    if (j.params.int8_tower) j.params.type = j.decoder;
    j.params.tensors = j.tensors;
    j.params.next_photo = next_photo;
    j.params.on_note = note;
    j.params.on_progress = progress;
    j.params.on_error = say_error;
    j.params.user = &j;
    j.params.cancel = cli_cancel();
    tvlm_status status = quantize(&j, argv[first], argv[first + 1], &err);
    app_decoded_free(&j.photo);
    for (size_t i = 0; i < j.n_paths; i++)
        free(j.paths[i]);
    free(j.paths);
    return status ? cli_fail(status, &err) : 0;
}
