/* SPDX-License-Identifier: MIT
 * A conversation of several turns. The whole of it is rendered anew each turn; the session keeps
 * what it has of the common beginning, so a turn costs its new words only. */
#include "cli/chat.h"
#include "file/output.h"

#include <ctype.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char commands[] =
    "  /image FILE...  add images to the next message; a model that takes one image only\n"
    "                  (Tiny-VLM) forgets the one before and the conversation\n"
    "  /reset          forget the conversation, keep the images\n"
    "  /clear          forget the images too\n"
    "  /help, /?       this list\n"
    "  /quit           leave (as do /exit, /bye and the end of input)\n"
    "A message that begins with an image's path asks about that image. A message between\n"
    "\"\"\" and \"\"\" may have several lines and begin with anything.\n";

static const char help[] =
    "Usage: tinyvlm chat [OPTIONS] [--image FILE]...\n"
    "A conversation, with images or without. Each line is a turn, except for:\n"
    "%s"
    "Ctrl-C stops an answer, clears the line, or leaves if the line is empty. When the context\n"
    "is full, the oldest turns are dropped. Nothing is saved without --session. With --json every\n"
    "turn is one line: the answer, or {\"error\": ...}.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm chat --image photo.jpg\n"
    "  echo \"What is this?\" | tinyvlm chat --image photo.jpg --json\n"
    "  tinyvlm chat --session holiday.chat --image beach.jpg\n"
    "  tinyvlm chat --session holiday.chat\n"
    "\n"
    "  -i, --image FILE        image to begin with (may be repeated)\n"
    "      --no-shift          when the context is full, stop with an error instead\n"
    "      --session FILE      go on with the conversation in FILE, if there is one, and save it\n"
    "                          there when leaving: turns, images, and what the model has read\n"
    "%s";

enum { OPT_NO_SHIFT = CLI_OWN, OPT_SESSION };

/* ---- memory ---- */

static tvlm_status no_memory(tvlm_error *err)
{
    return app_fail(err, TVLM_ERR_MEMORY, "out of memory");
}

static char *copy(const char *text, size_t len)
{
    char *s = malloc(len + 1);
    if (!s) return NULL;
    if (len) memcpy(s, text, len);
    s[len] = 0;
    return s;
}

static void free_photos(photos *p)
{
    while (p->n)
        cli_photo_free(&p->at[--p->n]);
    free(p->at);
    *p = (photos){0};
}

/* Moves the images of `from` before or behind those of `to`; false, and nothing moved, when out
 * of memory. */
static bool move_photos(photos *from, photos *to, bool before)
{
    if (!from->n) return true;
    cli_photo *grown = realloc(to->at, (to->n + from->n) * sizeof *grown);
    if (!grown) return false;
    to->at = grown;
    if (before && to->n) memmove(grown + from->n, grown, to->n * sizeof *grown);
    memcpy(grown + (before ? 0 : to->n), from->at, from->n * sizeof *grown);
    to->n += from->n;
    from->n = 0;
    free_photos(from);
    return true;
}

static void free_turn(turn *t)
{
    free_photos(&t->photos);
    free(t->question);
    free(t->answer);
    *t = (turn){0};
}

/* The first n turns go; their images stay, with the turn that is the first now or the question to
 * come. */
static void drop_turns(conversation *c, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        photos *to = n < c->n_turns ? &c->turns[n].photos : &c->next;
        move_photos(&c->turns[i].photos, to, true);
    }
    for (size_t i = 0; i < n; i++)
        free_turn(&c->turns[i]);
    c->n_turns -= n;
    if (c->n_turns) memmove(c->turns, c->turns + n, c->n_turns * sizeof *c->turns);
}

static void forget(conversation *c, bool photos_too)
{
    drop_turns(c, c->n_turns);
    if (photos_too) free_photos(&c->next);
    tvlm_session_reset(c->runner.session);
}

static tvlm_status add_turn(conversation *c, const char *text, size_t len, tvlm_error *err)
{
    if (c->n_turns == c->cap_turns) {
        size_t cap = 2 * c->cap_turns + 16;
        turn *grown = realloc(c->turns, cap * sizeof *grown);
        if (!grown) return no_memory(err);
        c->turns = grown;
        c->cap_turns = cap;
    }
    char *question = copy(text, len);
    if (!question) return no_memory(err);
    c->turns[c->n_turns++] = (turn){.photos = c->next, .question = question, .question_len = len};
    c->next = (photos){0};
    return TVLM_OK;
}

/* The question is taken back: the conversation goes on as if it had not been asked. */
static void take_back(conversation *c)
{
    turn *last = &c->turns[--c->n_turns];
    move_photos(&last->photos, &c->next, true);
    free_turn(last);
}

/* ---- images ---- */

static size_t count_photos(const conversation *c)
{
    size_t n = c->next.n;
    for (size_t i = 0; i < c->n_turns; i++)
        n += c->turns[i].photos.n;
    return n;
}

static tvlm_status open_photos(conversation *c, char *const *paths, size_t n, photos *out,
                               tvlm_error *err)
{
    out->at = calloc(n, sizeof *out->at);
    if (!out->at) return no_memory(err);
    for (; out->n < n; out->n++)
        APP_TRY(cli_photo_open(&c->runner, paths[out->n], &out->at[out->n], err));
    return TVLM_OK;
}

/* All of them or none. */
static tvlm_status look_at(conversation *c, char *const *paths, size_t n, tvlm_error *err)
{
    photos opened = {0};
    bool replaces = c->runner.info.max_images == 1;
    APP_TRY(cli_takes_photos(&c->runner, n + (replaces ? 0 : count_photos(c)), err));
    tvlm_status status = open_photos(c, paths, n, &opened, err);
    if (!status && replaces) forget(c, true);
    if (!status && !move_photos(&opened, &c->next, false)) status = no_memory(err);
    free_photos(&opened);
    return status;
}

/* ---- what the model reads ---- */

/* The conversation from turn `first` on, with every image there is: those of turns before come
 * with it. */
static tvlm_status render(const conversation *c, size_t first, tvlm_prompt *prompt, tvlm_error *err)
{
    const char *system = c->options.system;
    size_t n = 0, n_images = 0, at = 0;
    tvlm_message *messages = malloc((2 * c->n_turns + 1) * sizeof *messages);
    tvlm_image **images = malloc((count_photos(c) + 1) * sizeof *images);
    if (messages && images) {
        if (system)
            messages[n++] = (tvlm_message){TVLM_ROLE_SYSTEM, system, strlen(system), NULL, 0, NULL};
        for (size_t i = 0; i < c->n_turns; i++) {
            const turn *t = &c->turns[i];
            for (size_t k = 0; k < t->photos.n; k++)
                images[n_images++] = t->photos.at[k].image;
            if (i < first) continue;
            messages[n++] = (tvlm_message){TVLM_ROLE_USER, t->question,   t->question_len,
                                           images + at,    n_images - at, NULL};
            at = n_images;
            if (t->answer)
                messages[n++] =
                    (tvlm_message){TVLM_ROLE_ASSISTANT, t->answer, t->answer_len, NULL, 0, NULL};
        }
    }
    tvlm_status status =
        messages && images ? tvlm_prompt_chat(prompt, messages, n, err) : no_memory(err);
    free(messages);
    free(images);
    return status;
}

static tvlm_status new_prompt(const conversation *c, size_t first, tvlm_prompt **out, size_t *rows,
                              tvlm_error *err)
{
    APP_TRY(tvlm_prompt_new(c->runner.model, out, err));
    tvlm_status status = render(c, first, *out, err);
    *rows = tvlm_prompt_n_tokens(*out);
    if (!status) return TVLM_OK;
    tvlm_prompt_free(*out);
    *out = NULL;
    return status;
}

/* The first turn from which on the conversation takes at most `most` positions, or the last. */
static tvlm_status find_first(const conversation *c, size_t most, size_t *first, tvlm_error *err)
{
    size_t low = 1, high = c->n_turns - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2, rows;
        tvlm_prompt *prompt;
        APP_TRY(new_prompt(c, middle, &prompt, &rows, err));
        tvlm_prompt_free(prompt);
        if (rows <= most)
            high = middle;
        else
            low = middle + 1;
    }
    *first = high;
    return TVLM_OK;
}

static tvlm_status too_long(const conversation *c, bool conversation_too, size_t rows,
                            tvlm_error *err)
{
    unsigned context = (unsigned)cli_context(&c->runner);
    if (conversation_too)
        return app_fail(err, TVLM_ERR_CONTEXT,
                        "the conversation needs %zu positions, the context has %u: /reset starts "
                        "anew, --ctx N gives more",
                        rows, context);
    return app_fail(err, TVLM_ERR_CONTEXT,
                    "the message needs %zu positions with what belongs to it, the context has %u: "
                    "say it shorter, /clear drops images, --ctx N gives more",
                    rows, context);
}

/* The prompt of the conversation, whose last turn is the question; *dropped: turns that had to go
 * to leave an answer room. Then half of the context becomes free, so that it is not every turn that
 * costs reading all of it anew. */
static tvlm_status make_prompt(conversation *c, tvlm_prompt **out, size_t *dropped, tvlm_error *err)
{
    size_t context = cli_context(&c->runner), rows, first;
    size_t room = c->options.max_tokens < context / 4 ? c->options.max_tokens : context / 4;
    *dropped = 0;
    APP_TRY(new_prompt(c, 0, out, &rows, err));
    bool alone = c->n_turns == 1, fits = rows <= context;
    if (fits && (alone || c->no_shift || rows + room <= context)) return TVLM_OK;
    tvlm_prompt_free(*out);
    *out = NULL;
    if (alone || c->no_shift) return too_long(c, !alone, rows, err);
    APP_TRY(find_first(c, context / 2, &first, err));
    APP_TRY(new_prompt(c, first, out, &rows, err));
    if (rows <= context) {
        drop_turns(c, first);
        *dropped = first;
        return TVLM_OK;
    }
    tvlm_prompt_free(*out);
    *out = NULL;
    return too_long(c, false, rows, err);
}

/* ---- turns ---- */

static void fail(conversation *c, tvlm_status status, const tvlm_error *err)
{
    int code = cli_fail(status, err);
    c->code = c->code ? c->code : code;
}

static tvlm_status answer(conversation *c, cli_exchange *e, tvlm_error *err)
{
    tvlm_prompt *prompt;
    size_t dropped;
    APP_TRY(make_prompt(c, &prompt, &dropped, err));
    if (dropped)
        fprintf(stderr,
                "tinyvlm: the context of %u positions is full: the oldest %zu turn%s dropped "
                "(--no-shift stops instead)\n",
                (unsigned)cli_context(&c->runner), dropped, dropped == 1 ? " was" : "s were");
    tvlm_status status = cli_generate(&c->runner, prompt, &e->result, err);
    tvlm_prompt_free(prompt);
    e->interrupted = status == TVLM_ERR_CANCELLED && cli_signal() == SIGINT;
    if (status && !e->interrupted) return status;
    turn *last = &c->turns[c->n_turns - 1];
    last->answer = copy(e->result.text, e->result.text_len);
    last->answer_len = e->result.text_len;
    if (!last->answer) return no_memory(err);
    *e = (cli_exchange){last->photos.at,    last->photos.n, last->question,
                        last->question_len, e->result,      e->interrupted};
    cli_print_exchange(&c->runner, e);
    if (e->result.finish == TVLM_FINISH_CONTEXT && !c->options.json && !e->interrupted)
        fputs("tinyvlm: the answer was cut: the context is full; --ctx N gives more\n", stderr);
    return TVLM_OK;
}

static void print_error(tvlm_status status, const tvlm_error *err)
{
    cli_json_line(json_pack("{s:{s:s,s:o}}", "error", "code", tvlm_status_name(status), "message",
                            cli_json_string(err->message)));
}

static void fail_turn(conversation *c, tvlm_status status, const tvlm_error *err)
{
    fail(c, status, err);
    if (c->options.json) print_error(status, err);
}

static void ask(conversation *c, const char *text, size_t len)
{
    tvlm_error err;
    cli_exchange e = {0};
    tvlm_status status = add_turn(c, text, len, &err);
    if (!status) {
        status = answer(c, &e, &err);
        if (status || (e.interrupted && !e.result.text_len)) take_back(c);
    }
    if (status) fail_turn(c, status, &err);
}

/* ---- commands ---- */

/* Whether the word text[0..len) is one of `names`, each ended by a space. */
static bool is_one_of(const char *text, size_t len, const char *names)
{
    for (const char *name = names; *name; name += strcspn(name, " ") + 1)
        if (strcspn(name, " ") == len && !memcmp(name, text, len)) return true;
    return false;
}

static void show_photos(conversation *c, const char *text)
{
    tvlm_error err;
    cli_paths paths;
    tvlm_status status = TVLM_OK;
    if (!*text)
        status = app_fail(&err, TVLM_ERR_ARGUMENT, "/image needs an image: /image FILE");
    else if (!cli_paste_paths(text, &paths))
        status = no_memory(&err);
    else {
        status = look_at(c, paths.at, paths.n, &err);
        cli_paths_free(&paths);
    }
    if (status) fail(c, status, &err);
}

/* False: leave. */
static bool command(conversation *c, const char *text)
{
    size_t len = strcspn(text, " \t");
    const char *rest = text + len + strspn(text + len, " \t");
    if (is_one_of(text, len, "/image ")) {
        show_photos(c, rest);
        return true;
    }
    if (!*rest && is_one_of(text, len, "/quit /exit /bye ")) return false;
    if (!*rest && is_one_of(text, len, "/reset /clear "))
        forget(c, text[1] == 'c');
    else if (!*rest && is_one_of(text, len, "/help /? "))
        fputs(commands, stderr);
    else
        cli_note("%s is not known; there are /image FILE..., /reset, /clear, /help, /quit", text);
    return true;
}

/* The line without white space at its end. */
static bool command_line(conversation *c, const char *text, size_t len)
{
    while (len && isspace((unsigned char)text[len - 1]))
        len--;
    char *line = copy(text, len);
    bool stays = line && command(c, line);
    free(line);
    return stays;
}

/* Images that the message begins with, then a question about them, or none yet. */
static void look_and_ask(conversation *c, const cli_paths *paths, const char *question)
{
    tvlm_error err;
    tvlm_status status = look_at(c, paths->at, paths->n, &err);
    bool asks = cli_says_something(question, strlen(question));
    if (status)
        (asks ? fail_turn : fail)(c, status, &err);
    else if (asks)
        ask(c, question, strlen(question));
}

/* False: leave. */
static bool take_message(conversation *c, const char *text, size_t len, bool block)
{
    cli_paths paths = {0};
    if (!cli_says_something(text, len)) return true;
    bool plain = block || strlen(text) != len; /* a NUL is in no path and no command */
    const char *rest = plain ? text : cli_leading_paths(text, &paths);
    bool stays = true;
    if (paths.n)
        look_and_ask(c, &paths, rest);
    else if (!plain && text[0] == '/')
        stays = command_line(c, text, len);
    else
        ask(c, text, len);
    cli_paths_free(&paths);
    return stays;
}

static int converse(conversation *c)
{
    bool interactive = cli_lines_interactive(c->lines), stays = true;
    while (stays && cli_flush()) {
        const char *text;
        size_t len;
        bool block;
        cli_input input = cli_lines_next(c->lines, &text, &len, &block);
        if (input == CLI_INPUT_FAILED) return EXIT_RUN;
        if (input == CLI_INPUT_INTERRUPTED || input == CLI_INPUT_END) break;
        if (input == CLI_INPUT_MESSAGE) stays = take_message(c, text, len, block);
        if (interactive && cli_signal() == SIGINT) cli_signals_forget(); /* it has had its effect */
        stays = stays && !cli_signal();
    }
    if (cli_signal()) return EXIT_SIGNAL + cli_signal();
    return interactive ? 0 : c->code;
}

static bool take(void *user, int value, const char *text)
{
    conversation *c = user;
    if (value == OPT_NO_SHIFT) return c->no_shift = true;
    if (value == OPT_SESSION) {
        c->session = text;
        return *text;
    }
    c->named[c->n_named++] = (char *)(uintptr_t)text;
    return *text;
}

static int chat(conversation *c)
{
    tvlm_error err;
    tvlm_status status = app_output_not_input("-", "-", &err); /* it would answer its answers */
    int code = status ? cli_fail(status, &err) : cli_runner_open(&c->runner, &c->options, NULL);
    if (code) return code;
    status = c->session ? cli_chat_load(c, c->session, &err) : TVLM_OK;
    if (!status && c->n_named) status = look_at(c, c->named, c->n_named, &err);
    if (!status && !(c->lines = cli_lines_new(c->options.json))) status = no_memory(&err);
    code = status ? cli_fail(status, &err) : converse(c);
    if (!status && c->session && (status = cli_chat_save(c, c->session, &err)))
        code = cli_fail(status, &err);
    forget(c, true);
    free(c->turns);
    cli_lines_free(c->lines);
    cli_runner_close(&c->runner);
    return code;
}

int cmd_chat(int argc, char **argv)
{
    static const struct option names[] = {
        {"image", required_argument, NULL, 'i'},
        {"no-shift", no_argument, NULL, OPT_NO_SHIFT},
        {"session", required_argument, NULL, OPT_SESSION},
        {0}
    };
    conversation c = {.named = malloc((size_t)argc * sizeof *c.named)};
    cli_own own = {names, take, &c};
    cli_options_init(&c.options);
    int first = c.named ? cli_parse(argc, argv, &c.options, &own) : -1, code = EXIT_USAGE;
    if (first >= 0 && c.options.help)
        code = printf(help, commands, cli_common_help) < 0;
    else if (first >= 0 && first < argc)
        cli_usage("chat: '%s' is not an option; images come by --image", argv[first]);
    else if (first >= 0)
        code = chat(&c);
    free(c.named);
    return code;
}
