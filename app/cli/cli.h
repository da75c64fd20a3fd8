/* SPDX-License-Identifier: MIT
 * What the commands share: options, errors, model lookup, progress, the terminal.
 *
 * Exit codes: 0 done · 1 failed while running · 2 wrong usage · 3 an input file is missing, damaged
 * or not supported · 4 a limit or the context is too small · 128 + n ended by signal n. */
#ifndef APP_CLI_H
#define APP_CLI_H

#include "common/common.h"
#include "image/decode.h"

#include <jansson.h>

enum {
    EXIT_RUN = 1,
    EXIT_USAGE = 2,
    EXIT_INPUT = 3,
    EXIT_LIMIT = 4,
    EXIT_SIGNAL = 128,
    EXIT_INTERRUPTED = 130, /* by SIGINT */
    EXIT_READER_LEFT = 141  /* of standard output: as SIGPIPE ends other programs */
};

/* One file per command; argv[0] is the command's name. */
int cmd_describe(int argc, char **argv);
int cmd_ask(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_eval(int argc, char **argv);

/* Common options; every field has its default after cli_options_init. */
typedef struct cli_options {
    const char *model, *cpu, *precision, *chat_template, *system;
    unsigned threads, max_tokens, ctx;
    uint64_t max_pixels;
    bool kv_f32, quiet, json, help;
    tvlm_sampling sampling;
    const char *stop[8];
    size_t n_stop;
    bool lookup;
    unsigned beams;
} cli_options;
void cli_options_init(cli_options *o);

/* getopt_long's tables for the common options; commands add their own (values from CLI_OWN on). */
enum { CLI_OWN = 1000 };
struct option;
/* Parses: common options into o, others through own(user, value, text), which returns false for a
 * value that is wrong. names: the command's own options, ending with zeros (own is nullable; a val
 * below 256 is a letter too). Returns the index of the first operand, or -1 after printing what is
 * wrong. */
typedef struct cli_own {
    const struct option *names;
    bool (*take)(void *user, int value, const char *text);
    void *user;
} cli_own;
int cli_parse(int argc, char **argv, cli_options *o, const cli_own *own);
extern const char cli_common_help[];

/* Whole text as a plain decimal number in lo..hi. The message about an option whose value was not
 * tells the range. */
bool cli_unsigned(const char *text, unsigned long lo, unsigned long hi, unsigned long *out);
bool cli_float(const char *text, double lo, double hi, float *out);

/* "tinyvlm: MESSAGE" on standard error; the exit code that goes with the status. */
int cli_fail(tvlm_status status, const tvlm_error *err);
/* The same for any text, made one line that can be shown. */
void cli_note(const char *format, ...);
/* What a conversion says of itself: "note: ...". */
void cli_remark(const char *format, ...);
int cli_usage(const char *format, ...); /* EXIT_USAGE */

/* The model file: --model, TINYVLM_MODEL, then the default model beside the program, in
 * ../share/tinyvlm, in models/ beside or above the program, in ./models. The result lives as long
 * as the process. NULL after printing where it was looked for. */
const char *cli_model_path(const cli_options *o);
tvlm_status cli_open_model(const cli_options *o, bool header_only, tvlm_model **out,
                           tvlm_error *err);

/* An image as viewers show it, or as_stored (image/decode.h); a warning goes to standard error,
 * except from the quiet one, which any thread may call. */
tvlm_status cli_decode(const cli_options *o, const char *path, bool as_stored, app_decoded *out,
                       tvlm_error *err);
tvlm_status cli_decode_quietly(const cli_options *o, const char *path, bool as_stored,
                               app_decoded *out, tvlm_error *err);
void cli_warn_of_photo(const char *path, const app_decoded *photo);
/* The path, or what "-" stands for. */
const char *cli_photo_name(const char *path);

/* A progress bar on standard error when that is a terminal. */
void cli_progress(const char *what, uint64_t done, uint64_t total);
bool cli_stderr_is_terminal(void);
/* Dim text for timings; "" unless standard error is a terminal and NO_COLOR is unset. */
const char *cli_dim(void);
const char *cli_reset(void);

/* ---- signals.c: SIGINT, SIGTERM and SIGHUP ----
 * A signal ends the process at once, removing unfinished outputs: exit code 128 + its number. From
 * cli_cancel to cli_signals_forget the first one raises the flag instead, so that work stops and
 * cleans up; the second ends the process. What was ignored at the start stays ignored (nohup). */
void cli_signals_init(void);
tvlm_cancel *cli_cancel(void);
int cli_signal(void);          /* the one that raised the flag, or 0 */
void cli_signals_disarm(void); /* from here on a signal ends the process; see cli_signal */
void cli_signals_forget(void);

/* ---- stdout.c: text goes to standard output by stdio; these notice what was not written ---- */
bool cli_flush(void);       /* false: a write failed, now or before; stop, any code */
void cli_flush_again(void); /* a signal that found the reader slow was no failure */
int cli_finish(int code);   /* last of all: says what failed; the exit code */

/* A JSON string of any bytes: invalid UTF-8 becomes U+FFFD. For every text that comes from outside:
 * jansson's own "s" refuses such. */
json_t *cli_json_text(const char *text, size_t len);
json_t *cli_json_string(const char *text);
/* One object, one line, flushed; frees it. NULL, or what cannot be written, ends the process. */
void cli_json_line(json_t *object);

/* ---- paste.c: paths as terminals paste them (quotes, escapes, ~, file: URLs) ---- */
typedef struct cli_paths {
    char **at;
    size_t n;
} cli_paths;
void cli_paths_free(cli_paths *p);
/* Every path of the text, existing or not; false when out of memory. */
bool cli_paste_paths(const char *text, cli_paths *out);
/* The existing files that a message begins with, where it begins as an absolute path, ./, ../, ~/
 * or a file: URL does. Returns what follows. */
const char *cli_leading_paths(const char *text, cli_paths *out);

/* ---- lines.c: messages from standard input ---- */
typedef struct cli_lines cli_lines;
typedef enum cli_input {
    CLI_INPUT_MESSAGE,
    CLI_INPUT_CLEARED,     /* Ctrl-C took back what was being typed */
    CLI_INPUT_INTERRUPTED, /* a signal, nothing being typed; see cli_signal */
    CLI_INPUT_END,
    CLI_INPUT_FAILED /* after printing why */
} cli_input;
cli_lines *cli_lines_new(bool json); /* NULL when out of memory */
void cli_lines_free(cli_lines *l);
bool cli_lines_interactive(const cli_lines *l); /* standard input is a terminal */
/* The next line, text pasted at a terminal or, between """, several lines (*block), without its
 * newline; terminated, valid until the next call. */
cli_input cli_lines_next(cli_lines *l, const char **text, size_t *len, bool *block);

/* Whether text has something to ask: more than white space. */
bool cli_says_something(const char *text, size_t len);

/* What became of decoding an image; path NULL: none. */
typedef struct cli_decoded {
    const char *path;
    app_decoded photo;
    tvlm_status status;
    tvlm_error err;
    double ms;
} cli_decoded;

/* Model, engine, session, and a question at a time. */
typedef struct cli_runner {
    cli_options *options;
    tvlm_model *model;
    tvlm_model_info info;
    tvlm_engine *engine;
    tvlm_session *session;
    cli_decoded ahead; /* until cli_photo_open asks for it */
    double load_ms;
    bool terminal;          /* standard output is one */
    const char *save_image; /* where the one image of a question goes, encoded; NULL: nowhere */
} cli_runner;
/* 0 or an exit code. image: the first that will be asked about, decoded while the model loads
 * where there is a thread for it; NULL: none. */
int cli_runner_open(cli_runner *r, cli_options *o, const char *photo);
void cli_runner_close(cli_runner *r);
uint32_t cli_context(const cli_runner *r); /* positions of the session */

typedef struct cli_photo {
    char *path;
    tvlm_image *image;
    double decode_ms;
    char warning[160]; /* "" when there is nothing to say */
} cli_photo;
/* Of both commands that answer about an image: --save-image. */
extern const char cli_save_image_help[];
/* Whether the model takes n images in one question. */
tvlm_status cli_takes_photos(const cli_runner *r, size_t n, tvlm_error *err);
/* An image file, or one that --save-image wrote, which costs no work. */
tvlm_status cli_photo_open(cli_runner *r, const char *path, cli_photo *out, tvlm_error *err);
void cli_photo_free(cli_photo *photo);

/* A question, the images that came with it, and its answer. */
typedef struct cli_exchange {
    cli_photo *photos;
    size_t n_photos;
    const char *question;
    size_t len;
    tvlm_result result;
    bool interrupted; /* the answer, by the user */
} cli_exchange;
/* A conversation of one question. */
tvlm_status cli_prompt(const cli_runner *r, const char *question, size_t len,
                       tvlm_image *const *images, size_t n_images, tvlm_prompt **out,
                       tvlm_error *err);
/* Streams the answer on standard output unless JSON was asked for. A cancelled one leaves what
 * there is in result. */
tvlm_status cli_generate(cli_runner *r, const tvlm_prompt *prompt, tvlm_result *result,
                         tvlm_error *err);
/* One line: JSON on standard output, or timings on standard error. */
void cli_print_exchange(const cli_runner *r, const cli_exchange *e);
/* describe and ask: one question about n images; an exit code. heading: the first one's name. */
int cli_answer(cli_runner *r, char *const *paths, size_t n, const char *question, bool heading);

#endif
