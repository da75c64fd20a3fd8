/* SPDX-License-Identifier: MIT
 * A conversation of several turns. The whole of it is rendered anew each turn; the session keeps
 * what it has of the common beginning, so a turn costs its new words only. */
#define _POSIX_C_SOURCE 200809L /* isatty, readlink, getline */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "Usage: tinyvlm chat [OPTIONS] [--image IMAGE]\n"
                           "Talks, about a picture or without one. A line is a turn:\n"
                           "  /image FILE   look at another picture (starts anew)\n"
                           "  /reset        forget the conversation\n"
                           "  /quit         leave (as does end of input)\n"
                           "\n"
                           "Examples:\n"
                           "  tinyvlm chat --image photo.jpg\n"
                           "  echo \"What is this?\" | tinyvlm chat --image photo.jpg --json\n"
                           "\n"
                           "      --image FILE        picture to begin with\n";

enum { MAX_TURNS = 512, OPT_IMAGE = CLI_OWN };

typedef struct conversation {
    cli_runner runner;
    const char *image_path;
    tvlm_image *image;
    double decode_ms;
    char *texts[MAX_TURNS]; /* user, assistant, user, ... */
    size_t lens[MAX_TURNS], n;
} conversation;

static void forget(conversation *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->texts[i]);
    c->n = 0;
    tvlm_session_reset(c->runner.session);
}

static int look_at(conversation *c, const char *path)
{
    tvlm_image *image;
    int code = cli_encode(&c->runner, path, &image, &c->decode_ms);
    if (code) return code;
    forget(c);
    tvlm_image_free(c->image);
    c->image = image;
    return 0;
}

static bool remember(conversation *c, const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy) return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    c->texts[c->n] = copy;
    c->lens[c->n++] = len;
    return true;
}

static tvlm_status render(const conversation *c, tvlm_prompt *prompt, tvlm_error *err)
{
    static tvlm_message messages[MAX_TURNS + 1];
    const char *system = c->runner.options->system;
    size_t n = 0;
    if (system) messages[n++] = (tvlm_message){TVLM_ROLE_SYSTEM, system, strlen(system), NULL, 0};
    for (size_t i = 0; i < c->n; i++) {
        bool first = i == 0 && c->image;
        messages[n++] = (tvlm_message){i % 2 ? TVLM_ROLE_ASSISTANT : TVLM_ROLE_USER, c->texts[i],
                                       c->lens[i], first ? &c->image : NULL, first};
    }
    return tvlm_prompt_chat(prompt, messages, n, err);
}

/* The question is the conversation's last text already. */
static int answer(conversation *c)
{
    tvlm_prompt *prompt;
    tvlm_result result;
    tvlm_error err;
    cli_options *o = c->runner.options;
    tvlm_status status = tvlm_prompt_new(c->runner.model, &prompt, &err);
    if (!status) status = render(c, prompt, &err);
    int code = status ? cli_fail(status, &err) : cli_generate(&c->runner, prompt, &result);
    tvlm_prompt_free(prompt);
    if (code) return code;
    if (o->json)
        cli_json_line(json_pack("{s:o,s:I}", "text", cli_json_text(result.text, result.text_len),
                                "tokens", (json_int_t)result.n_ids));
    else
        cli_print_timings(&c->runner, NULL, 0, &result);
    return remember(c, result.text, result.text_len) ? 0 : EXIT_RUN;
}

static int turn(conversation *c, const char *line, size_t len)
{
    if (c->n + 2 > MAX_TURNS) {
        fprintf(stderr, "tinyvlm: %d turns are enough; /reset starts anew\n", MAX_TURNS / 2);
        return 0;
    }
    if (!remember(c, line, len)) return EXIT_RUN;
    int code = answer(c);
    if (code) /* the question is taken back: the conversation goes on as if it had not been asked */
        free(c->texts[--c->n]);
    return code;
}

static void trim(char *line, ssize_t *len)
{
    while (*len > 0 && (line[*len - 1] == '\n' || line[*len - 1] == '\r'))
        line[--*len] = 0;
}

static int converse(conversation *c)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int code = 0;
    bool prompt = isatty(STDIN_FILENO) && !c->runner.options->json;
    while (!cli_signal()) {
        if (prompt) fputs("> ", stdout);
        if (!cli_flush()) break;
        if ((len = getline(&line, &cap, stdin)) < 0) break;
        trim(line, &len);
        if (!strcmp(line, "/quit")) break;
        if (!strcmp(line, "/reset"))
            forget(c);
        else if (!strncmp(line, "/image ", 7))
            code = look_at(c, line + 7);
        else if (line[0] == '/')
            fprintf(stderr, "tinyvlm: %s is not known; there are /image FILE, /reset, /quit\n",
                    line);
        else if (len)
            code = turn(c, line, (size_t)len);
    }
    free(line);
    return code;
}

static bool take(void *user, int value, const char *text)
{
    (void)value;
    ((conversation *)user)->image_path = text;
    return true;
}

int cmd_chat(int argc, char **argv)
{
    static conversation c;
    static const struct option names[] = {
        {"image", required_argument, NULL, OPT_IMAGE},
        {0}
    };
    cli_own own = {names, take, &c};
    cli_options o;
    cli_options_init(&o);
    int first = cli_parse(argc, argv, &o, &own);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (first < argc)
        return cli_usage("chat: '%s' is not an option; pictures come by --image", argv[first]);
    int code = cli_runner_open(&c.runner, &o);
    if (code) return code;
    if (c.image_path) code = look_at(&c, c.image_path);
    if (!code) code = converse(&c);
    forget(&c);
    tvlm_image_free(c.image);
    cli_runner_close(&c.runner);
    return code;
}
