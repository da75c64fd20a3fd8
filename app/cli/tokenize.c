/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "file/output.h"
#include "convert/tokenizer.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm tokenize [--model M | --tokenizer DIR|FILE] [--decode] [OPTIONS] [TEXT|-]\n"
    "Text to ids, or ids to text. Standard input ('-' or nothing) is taken byte for byte; nothing "
    "is\n"
    "stripped or added, special tokens are parsed.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm tokenize \"a photo of a dog\"\n"
    "  tinyvlm tokenize --tokenizer Qwen2-0.5B/ --json - < prompt.txt\n"
    "  tinyvlm tokenize --decode \"64 3590 315\"\n"
    "\n"
    "      --tokenizer PATH    tokenizer.json, or a folder with it or with vocab.json and "
    "merges.txt\n"
    "  -d, --decode            ids (separated by spaces or commas) to text\n";

enum { OPT_TOKENIZER = CLI_OWN };

typedef struct job {
    const char *tokenizer;
    bool decode;
} job;

static bool take(void *user, int value, const char *text)
{
    job *j = user;
    if (value == 'd') return j->decode = true;
    j->tokenizer = text;
    return true;
}

static tvlm_status read_input(char **text, size_t *len, tvlm_error *err)
{
    size_t cap = 1 << 16, n;
    *len = 0;
    APP_TRY(app_output_not_input("-", "-", err));
    *text = malloc(cap);
    while (*text && (n = fread(*text + *len, 1, cap - *len, stdin)) > 0) {
        *len += n;
        if (*len < cap) continue;
        cap *= 2;
        char *grown = cap <= (size_t)1 << 31 ? realloc(*text, cap) : NULL;
        if (!grown) free(*text);
        *text = grown;
    }
    if (!*text) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for the text");
    if (!ferror(stdin)) return TVLM_OK;
    free(*text);
    *text = NULL;
    return app_fail(err, TVLM_ERR_IO, "cannot read standard input: %s", strerror(errno));
}

/* One of them. */
typedef struct tokenizer {
    tvlm_model *model;
    tvlmc_tokenizer *files;
} tokenizer;

static tvlm_status to_ids(const tokenizer *t, const char *text, size_t len, int32_t *ids,
                          size_t cap, size_t *n, tvlm_error *err)
{
    return t->model ? tvlm_tokenize(t->model, text, len, true, ids, cap, n, err)
                    : tvlmc_tokenizer_encode(t->files, text, len, ids, cap, n, err);
}

static tvlm_status to_text(const tokenizer *t, const int32_t *ids, size_t n_ids, char *text,
                           size_t cap, size_t *n, tvlm_error *err)
{
    return t->model ? tvlm_detokenize(t->model, ids, n_ids, false, text, cap, n, err)
                    : tvlmc_tokenizer_decode(t->files, ids, n_ids, text, cap, n, err);
}

static int encode(const tokenizer *t, const char *text, size_t len, bool json)
{
    tvlm_error err;
    size_t n;
    tvlm_status status = to_ids(t, text, len, NULL, 0, &n, &err);
    if (status) return cli_fail(status, &err);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    if (!ids)
        return cli_fail(app_fail(&err, TVLM_ERR_MEMORY, "out of memory for %zu ids", n), &err);
    status = to_ids(t, text, len, ids, n, &n, &err);
    if (!status && json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_integer(ids[i]));
        cli_json_line(json_pack("{s:o}", "ids", list));
    } else if (!status) {
        for (size_t i = 0; i < n; i++)
            printf("%s%d", i ? " " : "", (int)ids[i]);
        putchar('\n');
    }
    free(ids);
    return status ? cli_fail(status, &err) : 0;
}

/* "1 2,3" or a JSON array -> ids. */
static bool parse_ids(const char *text, size_t len, int32_t *ids, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < len;) {
        if (strchr(" ,[]\t\r\n", text[i]) && text[i]) {
            i++;
            continue;
        }
        int64_t v = 0;
        size_t begin = i;
        for (; i < len && text[i] >= '0' && text[i] <= '9' && v < INT32_MAX; i++)
            v = 10 * v + (text[i] - '0');
        if (i == begin || v > INT32_MAX) return false;
        ids[(*n)++] = (int32_t)v;
    }
    return true;
}

static int decode(const tokenizer *t, const char *text, size_t len, bool json)
{
    tvlm_error err;
    size_t n, size;
    int32_t *ids = malloc((len + 1) * sizeof *ids);
    char *out = NULL;
    if (!ids) return cli_fail(app_fail(&err, TVLM_ERR_MEMORY, "out of memory"), &err);
    if (!parse_ids(text, len, ids, &n)) {
        free(ids);
        return cli_usage("tokenize: --decode takes ids separated by spaces");
    }
    tvlm_status status = to_text(t, ids, n, NULL, 0, &size, &err);
    if (!status && !(out = malloc(size + 1)))
        status = app_fail(&err, TVLM_ERR_MEMORY, "out of memory for %zu bytes", size);
    if (out) status = to_text(t, ids, n, out, size, &size, &err);
    if (!status && out && json)
        cli_json_line(json_pack("{s:o}", "text", cli_json_text(out, size)));
    else if (!status && out)
        fwrite(out, 1, size, stdout);
    free(out);
    free(ids);
    return status ? cli_fail(status, &err) : 0;
}

int cmd_tokenize(int argc, char **argv)
{
    static const struct option names[] = {
        {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
        {"decode", no_argument, NULL, 'd'},
        {0}
    };
    job j = {0};
    cli_own own = {names, take, &j};
    cli_options o;
    tvlm_error err;
    tokenizer t = {0};
    cli_options_init(&o);
    int first = cli_parse(argc, argv, &o, &own);
    if (first < 0) return EXIT_USAGE;
    if (j.tokenizer && o.model) return cli_usage("tokenize: --model or --tokenizer, not both");
    if (o.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (argc - first > 1)
        return cli_usage("tokenize: one text, in quotes; or '-' for standard input");
    tvlm_status status;
    if (j.tokenizer) {
        status = tvlmc_tokenizer_open(j.tokenizer, &t.files, &err);
    } else {
        o.model = cli_model_path(&o);
        if (!o.model) return EXIT_INPUT;
        status = cli_open_model(&o, true, &t.model, &err);
    }
    if (status) return cli_fail(status, &err);
    char *input = NULL;
    const char *text = first < argc ? argv[first] : "-";
    size_t len = strlen(text);
    if (!strcmp(text, "-")) {
        status = read_input(&input, &len, &err);
        text = input;
    }
    int code =
        status ? cli_fail(status, &err) : (j.decode ? decode : encode)(&t, text, len, o.json);
    free(input);
    tvlmc_tokenizer_free(t.files);
    tvlm_model_free(t.model);
    return code;
}
