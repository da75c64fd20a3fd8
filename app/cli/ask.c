/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm ask [OPTIONS] IMAGE... QUESTION\n"
    "Answers a question about an image, or about several if the model takes several (FastVLM).\n"
    "The last argument is the question, those before it are images; '-' reads one from standard\n"
    "input, '--' ends the options, so that a question may begin with '-'.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm ask photo.jpg \"Is there a dog in the picture?\"\n"
    "  tinyvlm ask -m fastvlm.gguf before.jpg after.jpg -- \"What has changed?\"\n"
    "  tinyvlm ask --json --max-tokens 20 --image photo.jpg \"What is this?\"\n"
    "  tinyvlm ask --save-image photo.tvlm photo.jpg \"What is this?\"\n"
    "  tinyvlm ask photo.tvlm \"What colour is it?\"\n"
    "\n"
    "  -i, --image FILE        an image, before those named as arguments (may be repeated)\n";

enum { OPT_SAVE_IMAGE = CLI_OWN };

typedef struct photos {
    char **paths;
    size_t n;
    const char *save;
} photos;

static bool take(void *user, int value, const char *text)
{
    photos *p = user;
    if (value == OPT_SAVE_IMAGE) {
        p->save = text;
        return *text;
    }
    p->paths[p->n++] = (char *)(uintptr_t)text;
    return *text;
}

static int ask(cli_options *o, const photos *p, const char *question)
{
    cli_runner r;
    if (!p->n || !question)
        return cli_usage("ask: an image and a question are needed; see tinyvlm ask --help");
    if (!cli_says_something(question, strlen(question)))
        return cli_usage("ask: the question is empty (describe needs none)");
    if (p->save && p->n > 1) return cli_usage("ask: --save-image takes one image");
    int code = cli_runner_open(&r, o, p->paths[0]);
    if (code) return code;
    r.save_image = p->save;
    code = cli_answer(&r, p->paths, p->n, question, false);
    cli_runner_close(&r);
    return code;
}

int cmd_ask(int argc, char **argv)
{
    static const struct option names[] = {
        {"image", required_argument, NULL, 'i'},
        {"save-image", required_argument, NULL, OPT_SAVE_IMAGE},
        {0}
    };
    photos p = {.paths = malloc((size_t)argc * sizeof *p.paths)};
    cli_own own = {names, take, &p};
    cli_options o;
    cli_options_init(&o);
    int first = p.paths ? cli_parse(argc, argv, &o, &own) : -1, code = EXIT_USAGE;
    if (first >= 0 && o.help) {
        code = printf("%s%s\n%s", help, cli_save_image_help, cli_common_help) < 0;
    } else if (first >= 0) {
        for (int i = first; i < argc - 1; i++)
            p.paths[p.n++] = argv[i];
        code = ask(&o, &p, first < argc ? argv[argc - 1] : NULL);
    }
    free(p.paths);
    return code;
}
