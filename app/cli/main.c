/* SPDX-License-Identifier: MIT
 * tinyvlm COMMAND ... */
#include "cli/cli.h"
#include "system/system.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"describe", cmd_describe, "say what is in images"                              },
    {"ask",      cmd_ask,      "answer a question about an image"                   },
    {"chat",     cmd_chat,     "talk, about an image or without one"                },
    {"info",     cmd_info,     "what a model file holds and needs"                  },
    {"convert",  cmd_convert,  "make a GGUF from a Hugging Face checkpoint"         },
    {"quantize", cmd_quantize, "make a model file smaller"                          },
    {"bench",    cmd_bench,    "measure each stage"                                 },
    {"eval",     cmd_eval,     "measure answers and captions"                       },
    {"tokenize", cmd_tokenize, "text to ids and back"                               },
    {"dump",     cmd_dump,     "write a run's tensors, to check against a reference"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void print_help(FILE *to)
{
    fprintf(
        to,
        "tinyvlm %s: vision-language models on the CPU\n\nUsage: tinyvlm COMMAND [OPTIONS] ...\n\n",
        tvlm_version());
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
    fputs("\nExamples:\n"
          "  tinyvlm describe photo.jpg\n"
          "  tinyvlm ask photo.jpg \"How many people are there?\"\n"
          "  tinyvlm convert FastVLM-0.5B/ fastvlm.gguf --type q8_0\n"
          "\ntinyvlm COMMAND --help tells more.\n",
          to);
}

static void print_list(const char *what, tvlm_list_kind kind)
{
    const char *name;
    printf("%-14s", what);
    for (size_t i = 0; (name = tvlm_list(kind, i)); i++)
        printf("%s%s", i ? ", " : "", name);
    putchar('\n');
}

/* What a build may go without. */
static const struct {
    const char *name;
    bool is_in;
} parts[] = {
    {"JPEG",          TVLM_HAVE_JPEG   },
    {"PNG",           TVLM_HAVE_PNG    },
    {"WebP",          TVLM_HAVE_WEBP   },
    {"GIF",           TVLM_HAVE_GIF    },
    {"HEIC and AVIF", TVLM_HAVE_HEIF   },
    {"EXIF",          TVLM_HAVE_EXIF   },
    {"line editing",  TVLM_HAVE_EDIT   },
    {"archives",      TVLM_HAVE_ARCHIVE},
};

static void print_parts(const char *what, bool is_in)
{
    const char *gap = "";
    printf("%-14s", what);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].is_in == is_in) {
            printf("%s%s", gap, parts[i].name);
            gap = ", ";
        }
    puts(*gap ? "" : "nothing");
}

/* What this program can do on this machine. */
static void print_version(void)
{
    printf("tinyvlm %s\n", tvlm_version());
    print_list("kernels", TVLM_LIST_CPU_TIERS);
    print_list("precisions", TVLM_LIST_PRECISIONS);
    print_list("architectures", TVLM_LIST_ARCHITECTURES);
    print_list("templates", TVLM_LIST_CHAT_TEMPLATES);
    print_parts("built with", true);
    print_parts("built without", false);
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    bool helps = argc > 2 && !strcmp(name, "help");
    if (helps) name = argv[2];
    char *asked[] = {(char *)(uintptr_t)name, "--help", NULL};
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(name, commands[i].name))
            return helps ? commands[i].run(2, asked) : commands[i].run(argc - 1, argv + 1);
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        print_version();
        return 0;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_help(stdout);
        return 0;
    }
    print_help(stderr);
    return *name ? cli_usage("'%s' is not a command", name) : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    app_sys_standard_streams(); /* first of all */
    cli_signals_init();
    if (!app_sys_arguments(&argc, &argv)) {
        fputs("tinyvlm: out of memory\n", stderr);
        return EXIT_RUN;
    }
    return cli_finish(run(argc, argv));
}
