/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static const char help[] = "Usage: tinyvlm describe [OPTIONS] IMAGE...\n"
                           "Describes each image: JPEG, PNG, WebP, GIF, HEIC, AVIF, PBM, "
                           "PGM, PPM; '-' reads one from\n"
                           "standard input. A truncated image is described with a warning.\n"
                           "\n"
                           "Examples:\n"
                           "  tinyvlm describe photo.jpg\n"
                           "  tinyvlm describe --json holiday/*.jpg > captions.jsonl\n"
                           "  curl -s https://example.org/a.png | tinyvlm describe -\n"
                           "  tinyvlm describe --save-image photo.tvlm photo.jpg\n"
                           "\n";

static bool take(void *user, int value, const char *text)
{
    (void)value;
    *(const char **)user = text;
    return *text;
}

int cmd_describe(int argc, char **argv)
{
    static const struct option names[] = {
        {"save-image", required_argument, NULL, CLI_OWN},
        {0}
    };
    const char *save = NULL;
    cli_own own = {names, take, &save};
    cli_options o;
    cli_runner r;
    cli_options_init(&o);
    int first = cli_parse(argc, argv, &o, &own);
    if (first < 0) return EXIT_USAGE;
    if (o.help) {
        printf("%s%s\n%s", help, cli_save_image_help, cli_common_help);
        return 0;
    }
    if (first == argc) return cli_usage("describe: name an image; see tinyvlm describe --help");
    if (save && argc - first > 1) return cli_usage("describe: --save-image takes one image");
    int code = cli_runner_open(&r, &o, argv[first]);
    if (code) return code;
    r.save_image = save;
    int worst = 0, i = first;
    /* an image that cannot be read does not keep the others from being described */
    for (; i < argc && !cli_signal() && cli_flush(); i++) {
        code = cli_answer(&r, &argv[i], 1, r.info.describe_prompt, argc - first > 1);
        worst = code ? code : worst;
    }
    cli_runner_close(&r);
    return i < argc && !worst ? EXIT_RUN : worst;
}
