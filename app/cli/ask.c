/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm ask [OPTIONS] IMAGE QUESTION\n"
    "Answers a question about a picture ('-' reads it from standard input).\n"
    "\n"
    "Examples:\n"
    "  tinyvlm ask photo.jpg \"Is there a dog in the picture?\"\n"
    "  tinyvlm ask --json --max-tokens 20 photo.jpg \"What is this?\"\n"
    "\n";

int cmd_ask(int argc, char **argv)
{
    cli_options o;
    cli_runner r;
    cli_options_init(&o);
    int first = cli_parse(argc, argv, &o, NULL);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (argc - first != 2)
        return cli_usage("ask: a picture and a question are needed; see tinyvlm ask --help");
    int code = cli_runner_open(&r, &o);
    if (code) return code;
    code = cli_answer(&r, argv[first], argv[first + 1], strlen(argv[first + 1]), false);
    cli_runner_close(&r);
    return code;
}
