/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "file/output.h"
#include "system/system.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char cli_common_help[] =
    "Common options:\n"
    "  -m, --model FILE        model (default: $TINYVLM_MODEL, else the bundled one)\n"
    "  -t, --threads N         threads (default: the machine's cores)\n"
    "      --cpu TIER          kernels: scalar, avx2, avxvnni, avx512, avx512vnni, avx512bf16,\n"
    "                          neon, dotprod, i8mm, bf16 (default: the best here; also $TVLM_CPU)\n"
    "      --precision P       arithmetic: auto (int8 for weights in blocks, for float ones\n"
    "                          int16 where it is fast, else f32), f32 (the reference), int8,\n"
    "                          int16, bf16 (CPUs that have it); see docs/PRECISION.md\n"
    "  -n, --max-tokens N      longest answer (default 256)\n"
    "      --temperature T     0 is greedy (default 0)\n"
    "      --top-k N --top-p P --min-p P --repeat-penalty R --seed N\n"
    "      --lookup            guess words from the text so far, check several at a time: the\n"
    "                          same answer, sooner where text repeats\n"
    "      --beams N           beam search: follow N hypotheses (1 to 8), answer with the\n"
    "                          likeliest, at once; 1 is greedy (default: of a description, the\n"
    "                          model's own number, 3 of Tiny-VLM; else 1)\n"
    "      --no-repeat-ngram N no N tokens of an answer come twice in it (default 0: they may)\n"
    "      --stop TEXT         end the answer at this text (up to 8 times)\n"
    "      --system TEXT       system message\n"
    "      --template NAME     chat template: chatml, qwen2, qwen2.5, smollm2, fastvlm,\n"
    "                          tinyvlm, qwen3, qwen3-no-think, smolvlm\n"
    "  -c, --ctx N             context positions (default: min(model, 4096))\n"
    "      --kv f16|f32        precision of the key/value cache (default f16)\n"
    "      --max-pixels N      largest image (default 300000000)\n"
    "      --json              one JSON object per line\n"
    "  -q, --quiet             no timings, no progress\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 an input file is missing,\n"
    "damaged or not supported, 4 a limit or the context is too small, 128 + n ended by\n"
    "signal n (130 interrupted, 143 terminated; 141: the reader of standard output left).\n";

enum {
    OPT_CPU = 256,
    OPT_PRECISION,
    OPT_TEMPERATURE,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_PENALTY,
    OPT_SEED,
    OPT_LOOKUP,
    OPT_BEAMS,
    OPT_NO_REPEAT,
    OPT_STOP,
    OPT_SYSTEM,
    OPT_TEMPLATE,
    OPT_KV,
    OPT_PIXELS,
    OPT_JSON
};

static const struct option common[] = {
    {"model",           required_argument, NULL, 'm'            },
    {"threads",         required_argument, NULL, 't'            },
    {"cpu",             required_argument, NULL, OPT_CPU        },
    {"precision",       required_argument, NULL, OPT_PRECISION  },
    {"max-tokens",      required_argument, NULL, 'n'            },
    {"temperature",     required_argument, NULL, OPT_TEMPERATURE},
    {"top-k",           required_argument, NULL, OPT_TOP_K      },
    {"top-p",           required_argument, NULL, OPT_TOP_P      },
    {"min-p",           required_argument, NULL, OPT_MIN_P      },
    {"repeat-penalty",  required_argument, NULL, OPT_PENALTY    },
    {"seed",            required_argument, NULL, OPT_SEED       },
    {"lookup",          no_argument,       NULL, OPT_LOOKUP     },
    {"beams",           required_argument, NULL, OPT_BEAMS      },
    {"no-repeat-ngram", required_argument, NULL, OPT_NO_REPEAT  },
    {"stop",            required_argument, NULL, OPT_STOP       },
    {"system",          required_argument, NULL, OPT_SYSTEM     },
    {"template",        required_argument, NULL, OPT_TEMPLATE   },
    {"ctx",             required_argument, NULL, 'c'            },
    {"kv",              required_argument, NULL, OPT_KV         },
    {"max-pixels",      required_argument, NULL, OPT_PIXELS     },
    {"json",            no_argument,       NULL, OPT_JSON       },
    {"quiet",           no_argument,       NULL, 'q'            },
    {"help",            no_argument,       NULL, 'h'            },
};
#define N_COMMON (sizeof common / sizeof *common)

void cli_options_init(cli_options *o)
{
    *o = (cli_options){
        .max_tokens = 256, .max_pixels = TVLM_DEFAULT_MAX_PIXELS, .cpu = getenv("TVLM_CPU")};
    tvlm_sampling_init(&o->sampling);
    o->cpu = o->cpu && *o->cpu ? o->cpu : NULL;
}

/* What the number refused last should have been: told by the message about its option. */
static char valid_range[64];

bool cli_unsigned(const char *text, unsigned long lo, unsigned long hi, unsigned long *out)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (!errno && isdigit((unsigned char)text[0]) && !*end && v >= lo && v <= hi) {
        *out = v;
        return true;
    }
    snprintf(valid_range, sizeof valid_range, ": a whole number from %lu to %lu", lo, hi);
    return false;
}

bool cli_float(const char *text, double lo, double hi, float *out)
{
    bool plain = *text && strspn(text, "0123456789.eE+-") == strlen(text); /* no nan, inf, 0x1p3 */
    char *end;
    double v = strtod(text, &end); /* the locale is never set: "C" */
    if (plain && isdigit((unsigned char)text[*text == '.']) && !*end && v >= lo && v <= hi) {
        *out = (float)v;
        return true;
    }
    snprintf(valid_range, sizeof valid_range, ": a number from %g to %g", lo, hi);
    return false;
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
        return *text;
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
    case OPT_PRECISION:
        o->precision = text;
        return strcmp(text, "auto") == 0 || strcmp(text, "f32") == 0 || strcmp(text, "int8") == 0 ||
               strcmp(text, "int16") == 0 || strcmp(text, "bf16") == 0;
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
    case OPT_LOOKUP:
        return o->lookup = true;
    case OPT_BEAMS:
        return take_unsigned(text, 1, TVLM_MAX_BEAMS, &o->beams);
    case OPT_NO_REPEAT:
        if (!take_unsigned(text, 0, 1u << 30, &k)) return false;
        o->sampling.no_repeat_ngram = k;
        return true;
    case OPT_STOP:
        if (o->n_stop == sizeof o->stop / sizeof *o->stop || !*text) {
            snprintf(valid_range, sizeof valid_range, ": some text, at most %zu times",
                     sizeof o->stop / sizeof *o->stop);
            return false;
        }
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

/* ---- the command line: the command's own options, then the common ones ---- */

enum { MOST_OPTIONS = 48 };

typedef struct option_set {
    struct option all[MOST_OPTIONS]; /* ends with zeros */
    char letters[2 * MOST_OPTIONS + 2];
    size_t n_own;
} option_set;

static option_set collect(const cli_own *own)
{
    option_set set = {.letters = ":"};
    size_t n = 0, at = 1;
    for (const struct option *name = own ? own->names : NULL; name && name->name; name++)
        set.all[n++] = *name;
    set.n_own = n;
    memcpy(set.all + n, common, sizeof common);
    for (const struct option *name = set.all; name->name; name++)
        if (name->val < 256) {
            set.letters[at++] = (char)name->val;
            if (name->has_arg) set.letters[at++] = ':';
        }
    return set;
}

static const struct option *find_option(const option_set *set, int value)
{
    for (const struct option *name = set->all; name->name; name++)
        if (name->val == value) return name;
    return NULL;
}

/* "--threads", or "-t" where the letter was written. */
static const char *option_text(const struct option *name, bool as_letter, char out[64])
{
    char letter[2] = {(char)name->val, 0};
    snprintf(out, 64, "%s%s", as_letter ? "-" : "--", as_letter ? letter : name->name);
    return out;
}

/* The word that holds the unknown letter: getopt may or may not have passed it. */
static const char *letter_text(char **argv, char letter, char out[64])
{
    snprintf(out, 64, "-%c", letter);
    if (letter > 0x20 && letter < 0x7f) return out;
    for (char **word = argv + 1; *word; word++)
        if ((*word)[0] == '-' && (*word)[1] != '-' && strchr(*word, letter)) return *word;
    return out;
}

static bool ambiguous(const option_set *set, const char *word)
{
    size_t n = 0, len = strcspn(word + 2, "=");
    for (const struct option *name = set->all; name->name; name++)
        n += !strncmp(name->name, word + 2, len);
    return n > 1;
}

/* value is what getopt_long returned for an option that is wrong: ':' or '?'. */
static int refuse(char **argv, const option_set *set, int value)
{
    char text[64];
    const char *word = argv[optind - 1];
    const struct option *known = optopt ? find_option(set, optopt) : NULL;
    bool letter = strncmp(word, "--", 2) != 0;
    if (value == ':' && known)
        return cli_usage("%s: option '%s' needs a value; see tinyvlm %s --help", argv[0],
                         option_text(known, letter, text), argv[0]);
    if (known)
        return cli_usage("%s: option '%s' takes no value; see tinyvlm %s --help", argv[0],
                         option_text(known, false, text), argv[0]);
    return cli_usage("%s: option '%s' is %s; see tinyvlm %s --help ('--' ends the options)",
                     argv[0], optopt ? letter_text(argv, (char)optopt, text) : word,
                     !optopt && ambiguous(set, word) ? "ambiguous" : "not known", argv[0]);
}

static bool take_option(cli_options *o, const cli_own *own, const option_set *set, char **argv,
                        int value, int index)
{
    char text[64];
    const struct option *name = index < 0 ? find_option(set, value) : &set->all[index];
    bool mine = (size_t)(name - set->all) < set->n_own;
    valid_range[0] = 0;
    if (mine ? own->take(own->user, value, optarg) : take_common(o, value, optarg)) return true;
    cli_usage("%s: '%s' is not a valid value for option '%s'%s", argv[0], optarg ? optarg : "",
              option_text(name, index < 0, text), valid_range);
    return false;
}

/* What no kernels of this machine offer is a matter of usage, before any file is opened. */
static bool offered(const cli_options *o, const char *command)
{
    tvlm_model_params params;
    tvlm_loader *loader;
    tvlm_error err;
    tvlm_model_params_init(&params, sizeof params);
    params.cpu = o->cpu;
    params.precision = o->precision;
    tvlm_status status = tvlm_loader_new(&params, &loader, &err);
    tvlm_loader_free(loader);
    if (status) cli_usage("%s: %s", command, err.message);
    return !status;
}

int cli_parse(int argc, char **argv, cli_options *o, const cli_own *own)
{
    option_set set = collect(own);
    optind = 1;
    opterr = 0;
    for (;;) {
        int index = -1, value = getopt_long(argc, argv, set.letters, set.all, &index);
        if (value == -1) break;
        if (value == '?' || value == ':') return refuse(argv, &set, value), -1;
        if (!take_option(o, own, &set, argv, value, index)) return -1;
    }
    return o->help || offered(o, argv[0]) ? optind : -1;
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

/* Words of the command line may hold anything; the message is one line that can be shown. */
static void say(const char *who, const char *format, va_list args)
{
    char raw[512], shown[3 * sizeof raw];
    int n = vsnprintf(raw, sizeof raw, format, args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;
    len = app_clean(raw, len, shown);
    fprintf(stderr, "%s: %.*s\n", who, (int)len, shown);
}

void cli_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("tinyvlm", format, args);
    va_end(args);
}

void cli_remark(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("note", format, args);
    va_end(args);
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("tinyvlm", format, args);
    va_end(args);
    return EXIT_USAGE;
}

/* ---- the model ---- */

#define DEFAULT_MODEL "tinyvlm-25m.gguf"

const char *cli_model_path(const cli_options *o)
{
    static char found[4096 + 64];
    static const char *const places[] = {"", "/models", "/../models", "/../share/tinyvlm"};
    char folder[4096];
    app_sys_facts facts;
    const char *named = o->model ? o->model : app_sys_variable("TINYVLM_MODEL");
    if (named && *named) return named;
    if (app_sys_program_folder(folder, sizeof folder))
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            snprintf(found, sizeof found, "%s%s/" DEFAULT_MODEL, folder, places[i]);
            if (app_sys_look(found, &facts)) return found;
        }
    snprintf(found, sizeof found, "models/" DEFAULT_MODEL);
    if (app_sys_look(found, &facts)) return found;
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
    tvlm_model_params_init(&params, sizeof params);
    params.header_only = header_only;
    params.n_threads = o->threads;
    params.cpu = o->cpu;
    params.precision = o->precision;
    params.chat_template = o->chat_template;
    params.on_progress = header_only ? NULL : loading;
    params.user = (void *)(uintptr_t)o;
    params.cancel = cli_cancel();
    APP_TRY(app_output_not_input("-", o->model, err));
    tvlm_status status = tvlm_model_open(o->model, &params, out, err);
    cli_signals_disarm(); /* what follows may wait for input, which a flag does not end */
    if (status || !cli_signal()) return status;
    tvlm_model_free(*out); /* it came after the last look at the flag */
    *out = NULL;
    return app_fail(err, TVLM_ERR_CANCELLED, "cancelled");
}

/* ---- images ---- */

const char *cli_photo_name(const char *path)
{
    return strcmp(path, "-") ? path : "standard input";
}

tvlm_status cli_decode_quietly(const cli_options *o, const char *path, bool as_stored,
                               app_decoded *out, tvlm_error *err)
{
    app_decode_params params = {.max_pixels = o->max_pixels, .as_stored = as_stored};
    APP_TRY(app_output_not_input("-", path, err));
    return app_decode_file(path, &params, out, err);
}

void cli_warn_of_photo(const char *path, const app_decoded *photo)
{
    if (photo->warning[0]) cli_note("warning: %s: %s", cli_photo_name(path), photo->warning);
}

tvlm_status cli_decode(const cli_options *o, const char *path, bool as_stored, app_decoded *out,
                       tvlm_error *err)
{
    APP_TRY(cli_decode_quietly(o, path, as_stored, out, err));
    cli_warn_of_photo(path, out);
    return TVLM_OK;
}

/* ---- terminal ---- */

bool cli_stderr_is_terminal(void)
{
    return app_sys_terminal(APP_SYS_STDERR);
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

bool cli_says_something(const char *text, size_t len)
{
    while (len) {
        app_character c = app_first_character(text, len);
        if (!app_is_space(c.code)) return true;
        text += c.len;
        len -= c.len;
    }
    return false;
}

json_t *cli_json_text(const char *text, size_t len)
{
    char *utf8 = len < SIZE_MAX / 3 ? malloc(3 * len + 1) : NULL;
    json_t *s = utf8 ? json_stringn(utf8, app_repair(text, len, utf8)) : NULL;
    free(utf8);
    return s;
}

json_t *cli_json_string(const char *text)
{
    return cli_json_text(text, strlen(text));
}

void cli_json_line(json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (!line) { /* a reader who counts lines must not go on with one less */
        fputs("tinyvlm: out of memory, or text that JSON cannot hold\n", stderr);
        exit(cli_finish(EXIT_RUN));
    }
    puts(line);
    cli_flush();
    free(line);
}
