/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include "cli/cli.h"
#include "convert/quantize.h"
#include "file/output.h"
#include "image/decode.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm quantize IN.gguf OUT.gguf --type f16|bf16|q8_0|q4_0|int8 [OPTIONS]\n"
    "Makes a model file smaller. int8 quantises the EfficientNet tower of a Tiny-VLM model too, by "
    "the\n"
    "ranges that it shows on the pictures of a folder; its decoder takes --decoder (default "
    "q8_0).\n"
    "\n"
    "Examples:\n"
    "  tinyvlm quantize fastvlm-f16.gguf fastvlm-q4.gguf --type q4_0\n"
    "  tinyvlm quantize tiny-f32.gguf tiny.gguf --type int8 --calibrate photos/ --decoder q4_0\n"
    "\n"
    "      --type TYPE         of the large matrices, or int8\n"
    "      --calibrate DIR     pictures for int8 (up to 512 are used)\n"
    "      --decoder TYPE      with int8: type of bridge and decoder\n"
    "  -q, --quiet             no notes, no progress\n"
    "  -h, --help              this text\n";

enum { OPT_TYPE = CLI_OWN, OPT_CALIBRATE, OPT_DECODER, MAX_PICTURES = 512 };

typedef struct job {
    tvlm_quantize_params params;
    cli_options options;
    const char *folder;
    bool typed;
    tvlm_type decoder;
    char *paths[MAX_PICTURES];
    size_t served;
    tvlm_decoded picture;
} job;

static bool take(void *user, int value, const char *text)
{
    job *j = user;
    if (value == OPT_CALIBRATE) {
        j->folder = text;
        return true;
    }
    if (value == OPT_DECODER) return tvlm_type_from_name(text, &j->decoder);
    j->typed = true;
    j->params.int8_tower = !strcmp(text, "int8");
    return j->params.int8_tower || tvlm_type_from_name(text, &j->params.type);
}

static void note(void *user, const char *line)
{
    if (!((job *)user)->options.quiet) fprintf(stderr, "note: %s\n", line);
}

static void progress(void *user, uint64_t done, uint64_t total)
{
    if (!((job *)user)->options.quiet) cli_progress("quantizing", done, total);
}

static tvlm_status picture(void *user, size_t index, tvlm_pixels *out, tvlm_error *err)
{
    job *j = user;
    tvlm_decoded_free(&j->picture);
    TVLM_TRY(tvlm_decode_file(j->paths[index], NULL, &j->picture, err));
    *out = tvlm_decoded_pixels(&j->picture);
    if (!j->options.quiet) /* every picture is read twice */
        cli_progress("calibrating", ++j->served, 2 * j->params.n_pictures);
    return TVLM_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_picture(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp", ".ppm"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i]);
        if (n > k && !strcmp(name + n - k, endings[i])) return true;
    }
    return false;
}

/* The folder's pictures by name, evenly thinned to MAX_PICTURES. */
static tvlm_status list_pictures(job *j, tvlm_error *err)
{
    DIR *dir = opendir(j->folder);
    if (!dir) return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot open: %s", j->folder, strerror(errno));
    char **all = NULL;
    size_t n = 0, cap = 0;
    tvlm_status status = TVLM_OK;
    for (struct dirent *e; !status && (e = readdir(dir));) {
        if (!is_picture(e->d_name)) continue;
        if (n == cap) {
            cap = cap ? 2 * cap : 256;
            char **grown = realloc(all, cap * sizeof *all);
            if (!grown) {
                status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
                break;
            }
            all = grown;
        }
        size_t size = strlen(j->folder) + strlen(e->d_name) + 2;
        all[n] = malloc(size);
        if (all[n]) snprintf(all[n++], size, "%s/%s", j->folder, e->d_name);
    }
    closedir(dir);
    if (n) qsort(all, n, sizeof *all, by_text);
    j->params.n_pictures = n < MAX_PICTURES ? n : MAX_PICTURES;
    for (size_t i = 0, next = 0; i < n; i++) {
        if (next < j->params.n_pictures && i == next * n / j->params.n_pictures)
            j->paths[next++] = all[i];
        else
            free(all[i]);
    }
    free(all);
    return !status && !n ? tvlm_fail(err, TVLM_ERR_IO, "%s: no pictures there", j->folder) : status;
}

int cmd_quantize(int argc, char **argv)
{
    static const struct option names[] = {
        {"type", required_argument, NULL, OPT_TYPE},
        {"calibrate", required_argument, NULL, OPT_CALIBRATE},
        {"decoder", required_argument, NULL, OPT_DECODER},
        {0}
    };
    static job j;
    cli_own own = {names, take, &j};
    tvlm_error err;
    tvlm_status status = TVLM_OK;
    cli_options_init(&j.options);
    j.decoder = TVLM_TYPE_Q8_0;
    int first = cli_parse(argc, argv, &j.options, &own);
    if (first < 0) return EXIT_USAGE;
    if (j.options.help) {
        fputs(help, stdout);
        return 0;
    }
    if (argc - first != 2 || !j.typed)
        return cli_usage("quantize: two files and --type are needed; see tinyvlm quantize --help");
    if (j.params.int8_tower && !j.folder)
        return cli_usage("quantize: --type int8 needs --calibrate DIR, a folder of pictures");
    if (j.params.int8_tower) j.params.type = j.decoder;
    j.params.picture = picture;
    j.params.on_note = note;
    j.params.on_progress = progress;
    j.params.user = &j;
    j.params.cancel = cli_cancel();
    if (j.folder) status = tvlm_output_not_input(argv[first + 1], j.folder, &err);
    if (!status && j.params.int8_tower) status = list_pictures(&j, &err);
    if (!status) status = tvlm_quantize_file(argv[first], argv[first + 1], &j.params, &err);
    tvlm_decoded_free(&j.picture);
    for (size_t i = 0; i < j.params.n_pictures; i++)
        free(j.paths[i]);
    return status ? cli_fail(status, &err) : 0;
}
