/* SPDX-License-Identifier: MIT
 * encode_folder PATH: the tokenizer of a folder; texts on standard input, each behind its length in
 * 4 bytes -> for each the ids' count and the ids, 4 bytes each. Exit code 3: refused. */
#include "convert/tokenizer_files.h"

#include <stdio.h>
#include <stdlib.h>

static void die(const char *message)
{
    fprintf(stderr, "%s\n", message);
    exit(3);
}

static void encode(const tvlm_tokenizer *t, const char *text, uint32_t len)
{
    size_t cap = 4 * (size_t)len + 4, n;
    int32_t *ids = malloc(cap * sizeof *ids);
    tvlm_error err;
    if (!ids || tvlm_tokenizer_encode(t, text, len, true, ids, cap, &n, &err) || n > cap)
        die("a text failed");
    uint32_t count = (uint32_t)n;
    fwrite(&count, sizeof count, 1, stdout);
    fwrite(ids, sizeof *ids, n, stdout);
    free(ids);
}

int main(int argc, char **argv)
{
    tvlmc_tokenizer_files files;
    tvlm_tokenizer *t;
    tvlm_error err;
    uint32_t len;
    if (argc != 2) die("a folder is needed");
    if (tvlmc_tokenizer_files_open(argv[1], &files, NULL, NULL, &err)) die(err.message);
    if (tvlm_tokenizer_new(&files.vocab, &t, &err)) die(err.message);
    tvlmc_tokenizer_files_close(&files);
    while (fread(&len, sizeof len, 1, stdin) == 1) {
        char *text = malloc((size_t)len + 1);
        if (!text || fread(text, 1, len, stdin) != len) die("truncated input");
        encode(t, text, len);
        free(text);
    }
    tvlm_tokenizer_free(t);
    return 0;
}
