/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "convert/convert.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm convert DIR OUT.gguf [--type TYPE] [OPTIONS]\n"
    "Makes one GGUF file from a checkpoint folder: Apple's FastVLM (llava_qwen2), its Hugging "
    "Face\n"
    "form (fast_vlm), or a Qwen2, Qwen3 or Llama text model; one safetensors file or shards, fused "
    "or\n"
    "training-form towers.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm convert llava-fastvithd_0.5b_stage3/ fastvlm-0.5b.gguf --type q8_0\n"
    "  tinyvlm convert SmolLM2-135M-Instruct/ smollm2.gguf --type f16\n"
    "\n"
    "      --type TYPE         of the large matrices (default f16): f32, f16, bf16, q8_0, q6_k,\n"
    "                          q5_k, q4_k, q5_1, q5_0, q4_1 or q4_0; rows that are not whole\n"
    "                          blocks take another type and are named\n"
    "      --fit pad|crop      how images become square (default pad)\n"
    "      --tokenizer PATH    tokenizer.json, or a folder, when DIR has none\n"
    "  -q, --quiet             no notes, no progress\n"
    "  -h, --help              this text\n";

enum { OPT_TYPE = CLI_OWN, OPT_FIT, OPT_TOKENIZER };

typedef struct job {
    tvlm_convert_params params;
    cli_options options;
} job;

static bool take(void *user, int value, const char *text)
{
    job *j = user;
    switch (value) {
    case OPT_TYPE:
        return tvlm_type_from_name(text, &j->params.type);
    case OPT_FIT:
        j->params.fit = !strcmp(text, "crop") ? TVLM_FIT_CROP : TVLM_FIT_PAD;
        return !strcmp(text, "crop") || !strcmp(text, "pad");
    case OPT_TOKENIZER:
        j->params.tokenizer = text;
        return true;
    default:
        return false;
    }
}

static void note(void *user, const char *line)
{
    if (!((job *)user)->options.quiet) cli_remark("%s", line);
}

static void progress(void *user, uint64_t done, uint64_t total)
{
    if (!((job *)user)->options.quiet) cli_progress("converting", done, total);
}

int cmd_convert(int argc, char **argv)
{
    static const struct option names[] = {
        {"type", required_argument, NULL, OPT_TYPE},
        {"fit", required_argument, NULL, OPT_FIT},
        {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
        {0}
    };
    job j;
    cli_own own = {names, take, &j};
    tvlm_error err;
    cli_options_init(&j.options);
    tvlm_convert_params_init(&j.params);
    j.params.type = TVLM_TYPE_F16;
    j.params.on_note = note;
    j.params.on_progress = progress;
    j.params.user = &j;
    j.params.cancel = cli_cancel();
    int first = cli_parse(argc, argv, &j.options, &own);
    if (first < 0) return EXIT_USAGE;
    if (j.options.help) {
        fputs(help, stdout);
        return 0;
    }
    if (argc - first != 2)
        return cli_usage(
            "convert: a folder and an output file are needed; see tinyvlm convert --help");
    tvlm_status status = tvlm_convert(argv[first], argv[first + 1], &j.params, &err);
    return status ? cli_fail(status, &err) : 0;
}
