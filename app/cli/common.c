/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* isatty, readlink, getline */
#include "cli/cli.h"

#include "base/base.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char cli_common_help[] =
    "Common options:\n"
    "  -m, --model FILE        model (default: $TINYVLM_MODEL, else the bundled one)\n"
    "  -t, --threads N         threads (default: the machine's cores)\n"
    "      --cpu TIER          kernels: scalar, avx2 (default: the best here; also $TVLM_CPU)\n"
    "  -n, --max-tokens N      longest answer (default 256)\n"
    "      --temperature T     0 is greedy (default 0)\n"
    "      --top-k N --top-p P --min-p P --repeat-penalty R --seed N\n"
    "      --stop TEXT         end the answer at this text (up to 8 times)\n"
    "      --system TEXT       system message\n"
    "      --template NAME     chat template: chatml, qwen2, qwen2.5, smollm2, fastvlm,\n"
    "                          tinyvlm\n"
    "  -c, --ctx N             context positions (default: min(model, 4096))\n"
    "      --kv f16|f32        precision of the key/value cache (default f16)\n"
    "      --max-pixels N      largest picture (default 300000000)\n"
    "      --json              one JSON object a line\n"
    "  -q, --quiet             no timings, no progress\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 an input file is missing,\n"
    "damaged or not supported, 4 a limit or the context is too small, 128 + n ended by\n"
    "signal n (130 interrupted, 143 terminated; 141: the reader of standard output left).\n";

enum {
    OPT_CPU = 256,
    OPT_TEMPERATURE,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_PENALTY,
    OPT_SEED,
    OPT_STOP,
    OPT_SYSTEM,
    OPT_TEMPLATE,
    OPT_KV,
    OPT_PIXELS,
    OPT_JSON
};

static const struct option common[] = {
    {"model",          required_argument, NULL, 'm'            },
    {"threads",        required_argument, NULL, 't'            },
    {"cpu",            required_argument, NULL, OPT_CPU        },
    {"max-tokens",     required_argument, NULL, 'n'            },
    {"temperature",    required_argument, NULL, OPT_TEMPERATURE},
    {"top-k",          required_argument, NULL, OPT_TOP_K      },
    {"top-p",          required_argument, NULL, OPT_TOP_P      },
    {"min-p",          required_argument, NULL, OPT_MIN_P      },
    {"repeat-penalty", required_argument, NULL, OPT_PENALTY    },
    {"seed",           required_argument, NULL, OPT_SEED       },
    {"stop",           required_argument, NULL, OPT_STOP       },
    {"system",         required_argument, NULL, OPT_SYSTEM     },
    {"template",       required_argument, NULL, OPT_TEMPLATE   },
    {"ctx",            required_argument, NULL, 'c'            },
    {"kv",             required_argument, NULL, OPT_KV         },
    {"max-pixels",     required_argument, NULL, OPT_PIXELS     },
    {"json",           no_argument,       NULL, OPT_JSON       },
    {"quiet",          no_argument,       NULL, 'q'            },
    {"help",           no_argument,       NULL, 'h'            },
};
#define N_COMMON (sizeof common / sizeof *common)

void cli_options_init(cli_options *o)
{
    *o = (cli_options){
        .max_tokens = 256, .max_pixels = TVLM_DEFAULT_MAX_PIXELS, .cpu = getenv("TVLM_CPU")};
    o->cpu = o->cpu && *o->cpu ? o->cpu : NULL;
}

bool cli_unsigned(const char *text, unsigned long lo, unsigned long hi, unsigned long *out)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || v < lo || v > hi) return false;
    *out = v;
    return true;
}

bool cli_float(const char *text, double lo, double hi, float *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= lo && v <= hi)) return false;
    *out = (float)v;
    return true;
}

static bool take_unsigned(const char *text, unsigned long lo, unsigned long hi, unsigned *out)
{
    unsigned long v;
    if (!cli_unsigned(text, lo, hi, &v)) return false;
    *out = (unsigned)v;
    return true;
}

static bool take_common(cli_options *o, int value, const char *text)
{
    unsigned long seed, pixels;
    unsigned k;
    switch (value) {
    case 'm':
        o->model = text;
        return true;
    case 't':
        return take_unsigned(text, 1, 64, &o->threads);
    case 'n':
        return take_unsigned(text, 1, 1000000, &o->max_tokens);
    case 'c':
        return take_unsigned(text, 1, 1u << 20, &o->ctx);
    case 'q':
        return o->quiet = true;
    case 'h':
        return o->help = true;
    case OPT_CPU:
        o->cpu = text;
        return true;
    case OPT_TEMPERATURE:
        return cli_float(text, 0, 100, &o->sampling.temperature);
    case OPT_TOP_K:
        if (!take_unsigned(text, 0, 1u << 30, &k)) return false;
        o->sampling.top_k = k;
        return true;
    case OPT_TOP_P:
        return cli_float(text, 0, 1, &o->sampling.top_p);
    case OPT_MIN_P:
        return cli_float(text, 0, 1, &o->sampling.min_p);
    case OPT_PENALTY:
        return cli_float(text, 0.01, 100, &o->sampling.repeat_penalty);
    case OPT_SEED:
        if (!cli_unsigned(text, 0, ~0ul, &seed)) return false;
        o->sampling.seed = seed;
        return true;
    case OPT_STOP:
        if (o->n_stop == sizeof o->stop / sizeof *o->stop || !*text) return false;
        o->stop[o->n_stop++] = text;
        return true;
    case OPT_SYSTEM:
        o->system = text;
        return true;
    case OPT_TEMPLATE:
        o->chat_template = text;
        return true;
    case OPT_KV:
        o->kv_f32 = !strcmp(text, "f32");
        return o->kv_f32 || !strcmp(text, "f16");
    case OPT_PIXELS:
        if (!cli_unsigned(text, 1, ULONG_MAX, &pixels)) return false;
        o->max_pixels = pixels;
        return true;
    case OPT_JSON:
        return o->json = true;
    default:
        return false;
    }
}

/* Whether the value is one of the command's own options. */
static bool is_own(const cli_own *own, int value)
{
    for (const struct option *name = own ? own->names : NULL; name && name->name; name++)
        if (name->val == value) return true;
    return false;
}

int cli_parse(int argc, char **argv, cli_options *o, const cli_own *own)
{
    struct option all[48] = {{0}};
    size_t n = 0;
    for (const struct option *own_name = own ? own->names : NULL; own_name && own_name->name;
         own_name++)
        all[n++] = *own_name;
    memcpy(all + n, common, sizeof common);
    optind = 1;
    opterr = 0;
    for (;;) {
        int index = -1, value = getopt_long(argc, argv, "m:t:n:c:qhdo:p:", all, &index);
        if (value == -1) return optind;
        char letter[] = {'-', (char)value, 0};
        bool mine = is_own(own, value);
        bool others = !mine && (value == 'd' || value == 'o' || value == 'p');
        if (value == '?' || others) {
            cli_usage("%s: option '%s' is not known or lacks its value; see tinyvlm %s --help",
                      argv[0], others ? letter : argv[optind - 1], argv[0]);
            return -1;
        }
        bool fine = mine ? own->take(own->user, value, optarg) : take_common(o, value, optarg);
        if (!fine) {
            cli_usage("%s: '%s' is not a valid value for option '%s%s'", argv[0],
                      optarg ? optarg : "", index < 0 ? "" : "--",
                      index < 0 ? letter : all[index].name);
            return -1;
        }
    }
}

int cli_fail(tvlm_status status, const tvlm_error *err)
{
    fprintf(stderr, "tinyvlm: %s\n", err->message);
    switch (status) {
    case TVLM_ERR_ARGUMENT:
        return EXIT_USAGE;
    case TVLM_ERR_IO:
    case TVLM_ERR_FORMAT:
    case TVLM_ERR_UNSUPPORTED:
    case TVLM_ERR_CHECKSUM:
        return EXIT_INPUT;
    case TVLM_ERR_LIMIT:
    case TVLM_ERR_CONTEXT:
    case TVLM_ERR_MEMORY:
        return EXIT_LIMIT;
    case TVLM_ERR_CANCELLED:
        return cli_signal() ? EXIT_SIGNAL + cli_signal() : EXIT_INTERRUPTED;
    default:
        return EXIT_RUN;
    }
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("tinyvlm: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_USAGE;
}

/* ---- the model ---- */

#define DEFAULT_MODEL "tinyvlm-25m.gguf"

static bool program_folder(char *out, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n <= 0) return false;
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash) return false;
    *slash = 0;
    return true;
}

const char *cli_model_path(const cli_options *o)
{
    static char found[4096 + 64];
    static const char *const places[] = {"", "/models", "/../models", "/../share/tinyvlm"};
    char folder[4096];
    const char *named = o->model ? o->model : getenv("TINYVLM_MODEL");
    if (named && *named) return named;
    if (program_folder(folder, sizeof folder))
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            snprintf(found, sizeof found, "%s%s/" DEFAULT_MODEL, folder, places[i]);
            if (access(found, R_OK) == 0) return found;
        }
    snprintf(found, sizeof found, "models/" DEFAULT_MODEL);
    if (access(found, R_OK) == 0) return found;
    fputs("tinyvlm: no model: " DEFAULT_MODEL " is neither beside the program, nor in models/ or "
          "../share/tinyvlm; name one with --model FILE or TINYVLM_MODEL\n",
          stderr);
    return NULL;
}

static void loading(void *user, uint64_t done, uint64_t total)
{
    if (!((const cli_options *)user)->quiet && total > (64u << 20)) /* smaller ones take no time */
        cli_progress("loading", done, total);
}

tvlm_status cli_open_model(const cli_options *o, bool header_only, tvlm_model **out,
                           tvlm_error *err)
{
    tvlm_model_params params;
    tvlm_model_params_init(&params);
    params.header_only = header_only;
    params.cpu = o->cpu;
    params.chat_template = o->chat_template;
    params.on_progress = header_only ? NULL : loading;
    params.user = (void *)(uintptr_t)o;
    return tvlm_model_open(o->model, &params, out, err);
}

/* ---- pictures ---- */

const char *cli_picture_name(const char *path)
{
    return strcmp(path, "-") ? path : "standard input";
}

tvlm_status cli_decode(const cli_options *o, const char *path, bool as_stored, tvlm_decoded *out,
                       tvlm_error *err)
{
    tvlm_decode_params params = {.max_pixels = o->max_pixels, .as_stored = as_stored};
    TVLM_TRY(tvlm_decode_file(path, &params, out, err));
    if (out->warning[0])
        fprintf(stderr, "tinyvlm: warning: %s: %s\n", cli_picture_name(path), out->warning);
    return TVLM_OK;
}

/* ---- terminal ---- */

bool cli_stderr_is_terminal(void)
{
    return isatty(STDERR_FILENO);
}

static bool colours(void)
{
    const char *no = getenv("NO_COLOR");
    return cli_stderr_is_terminal() && !(no && *no);
}

const char *cli_dim(void)
{
    return colours() ? "\033[2m" : "";
}

const char *cli_reset(void)
{
    return colours() ? "\033[0m" : "";
}

void cli_progress(const char *what, uint64_t done, uint64_t total)
{
    if (!cli_stderr_is_terminal() || !total) return;
    int filled = (int)(done * 30 / total);
    fprintf(stderr, "\r%s [%.*s%*s] %3d%%", what, filled, "##############################",
            30 - filled, "", (int)(done * 100 / total));
    if (done >= total) fputs("\r\033[K", stderr);
    fflush(stderr);
}

/* ---- JSON ---- */

/* Length of the valid UTF-8 character at p, or 0. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;
    if (!len || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
               (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : len;
}

json_t *cli_json_text(const char *text, size_t len)
{
    char *clean = malloc(3 * len + 1);
    size_t n = 0;
    if (!clean) return NULL;
    for (size_t i = 0; i < len;) {
        size_t k = utf8_length((const unsigned char *)text + i, len - i);
        memcpy(clean + n, k ? text + i : "\xef\xbf\xbd", k ? k : 3);
        n += k ? k : 3;
        i += k ? k : 1;
    }
    json_t *s = json_stringn(clean, n);
    free(clean);
    return s;
}

void cli_json_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    cli_flush();
    json_decref(object);
}
