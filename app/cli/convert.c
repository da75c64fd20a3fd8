/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "convert/convert.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm convert DIR OUT.gguf [--type TYPE] [OPTIONS]\n"
    "       tinyvlm convert TEXT.gguf OUT.gguf --mmproj MMPROJ.gguf\n"
    "Makes one GGUF file from a checkpoint folder: Apple's FastVLM (llava_qwen2), its Hugging "
    "Face\n"
    "form (fast_vlm), SmolVLM, SmolVLM2, or a Qwen2, Qwen3 or Llama text model; one safetensors "
    "file\n"
    "or shards, fused or training-form towers. Or from the two files that llama.cpp has of a "
    "SmolVLM,\n"
    "whose weights keep their types.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm convert llava-fastvithd_0.5b_stage3/ fastvlm-0.5b.gguf --type q8_0\n"
    "  tinyvlm convert SmolLM2-135M-Instruct/ smollm2.gguf --type f16\n"
    "  tinyvlm convert SmolVLM-256M-Instruct-Q8_0.gguf smolvlm.gguf \\\n"
    "      --mmproj mmproj-SmolVLM-256M-Instruct-Q8_0.gguf\n"
    "\n"
    "      --type TYPE         of the large matrices (default f16): f32, f16, bf16, q8_0, q6_k,\n"
    "                          q5_k, q4_k, q5_1, q5_0, q4_1 or q4_0; rows that are not whole\n"
    "                          blocks take another type and are named\n"
    "      --fit pad|crop      how images become square (default pad)\n"
    "      --tokenizer PATH    tokenizer.json, or a folder, when DIR has none\n"
    "      --mmproj FILE       llama.cpp's vision part of the text model; no other option with it\n"
    "  -q, --quiet             no notes, no progress\n"
    "  -h, --help              this text\n";

enum { OPT_TYPE = CLI_OWN, OPT_FIT, OPT_TOKENIZER, OPT_MMPROJ };

typedef struct job {
    tvlmc_convert_params params;
    cli_options options;
    const char *mmproj;
    bool of_folder; /* an option that only a checkpoint's conversion has */
} job;

static bool take(void *user, int value, const char *text)
{
    job *j = user;
    j->of_folder = j->of_folder || value != OPT_MMPROJ;
    switch (value) {
    case OPT_TYPE:
        return tvlmc_type_from_name(text, &j->params.type);
    case OPT_FIT:
        j->params.fit = !strcmp(text, "crop") ? TVLM_FIT_CROP : TVLM_FIT_PAD;
        return !strcmp(text, "crop") || !strcmp(text, "pad");
    case OPT_TOKENIZER:
        j->params.tokenizer = text;
        return true;
    case OPT_MMPROJ:
        j->mmproj = text;
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
        {"mmproj", required_argument, NULL, OPT_MMPROJ},
        {0}
    };
    job j = {0};
    cli_own own = {names, take, &j};
    tvlm_error err;
    cli_options_init(&j.options);
    tvlmc_convert_params_init(&j.params);
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
        return cli_usage("convert: a folder and an output file are needed, or a text model and an "
                         "output file with --mmproj; see tinyvlm convert --help");
    if (j.mmproj && j.of_folder)
        return cli_usage("convert: --mmproj keeps the types, the fit and the tokenizer of its "
                         "files; \"tinyvlm quantize\" changes types");
    const char *in = argv[first], *out = argv[first + 1];
    tvlm_status status = j.mmproj ? tvlmc_convert_pair(in, j.mmproj, out, &j.params, &err)
                                  : tvlmc_convert(in, out, &j.params, &err);
    return status ? cli_fail(status, &err) : 0;
}
