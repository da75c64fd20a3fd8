/* SPDX-License-Identifier: MIT
 * Gives test_hf_equal.py the tokenizer without a model or a command line. All numbers are 32-bit in
 * the machine's byte order; a string is its length and its bytes.
 *
 *   encode_lines VOCAB 0|1    strings -> per string the count and the ids (1: special tokens
 * parsed) encode_lines --nfc        strings -> strings in normal form encode_lines --classes    ->
 * a byte per code point 0..10FFFF, tvlm_char_class encode_lines --time VOCAB all of the standard
 * input as one text -> milliseconds, ids (text)
 *
 * VOCAB: pre-tokenizer, token count, merge count, tokens, token types, merges. */
#include "text/nfc.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *message)
{
    fprintf(stderr, "encode_lines: %s\n", message);
    exit(1);
}

static void *need(void *block)
{
    if (!block) die("out of memory");
    return block;
}

static uint32_t read_u32(FILE *file)
{
    uint32_t value;
    if (fread(&value, sizeof value, 1, file) != 1) die("truncated input");
    return value;
}

static tvlm_str read_str(FILE *file)
{
    uint32_t len = read_u32(file);
    char *data = need(malloc((size_t)len + 1));
    if (fread(data, 1, len, file) != len) die("truncated input");
    return (tvlm_str){data, len};
}

static bool at_end(FILE *file)
{
    int c = getc(file);
    if (c != EOF) ungetc(c, file);
    return c == EOF;
}

static void write_u32(uint32_t value)
{
    fwrite(&value, sizeof value, 1, stdout);
}

static tvlm_tokenizer *read_tokenizer(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot open the vocabulary");
    tvlm_vocab vocab = {.pre = (tvlm_pretokenizer)read_u32(file)};
    vocab.n_tokens = read_u32(file);
    vocab.n_merges = read_u32(file);
    tvlm_str *tokens = need(malloc((vocab.n_tokens + 1) * sizeof *tokens));
    int32_t *types = need(malloc((vocab.n_tokens + 1) * sizeof *types));
    tvlm_str *merges = need(malloc((vocab.n_merges + 1) * sizeof *merges));
    for (uint32_t i = 0; i < vocab.n_tokens; i++)
        tokens[i] = read_str(file);
    for (uint32_t i = 0; i < vocab.n_tokens; i++)
        types[i] = (int32_t)read_u32(file);
    for (uint32_t i = 0; i < vocab.n_merges; i++)
        merges[i] = read_str(file);
    fclose(file);
    vocab.tokens = tokens;
    vocab.types = types;
    vocab.merges = merges;
    tvlm_error err;
    tvlm_tokenizer *tokenizer;
    if (tvlm_tokenizer_new(&vocab, &tokenizer, &err) != TVLM_OK) die(err.message);
    for (uint32_t i = 0; i < vocab.n_tokens; i++)
        free((char *)tokens[i].data);
    for (uint32_t i = 0; i < vocab.n_merges; i++)
        free((char *)merges[i].data);
    free(tokens);
    free(types);
    free(merges);
    return tokenizer;
}

/* The ids of text, in a block that the caller frees. */
static int32_t *encode(const tvlm_tokenizer *tokenizer, tvlm_str text, bool parse_special,
                       size_t *n)
{
    tvlm_error err;
    size_t cap =
        4 * text.len + 1; /* no text makes more ids than bytes, which NFC at most triples */
    int32_t *ids = need(malloc(cap * sizeof *ids));
    if (tvlm_tokenizer_encode(tokenizer, text.data, text.len, parse_special, ids, cap, n, &err) !=
        TVLM_OK)
        die(err.message);
    if (*n > cap) die("more ids than bytes");
    return ids;
}

static void encode_lines(const char *path, bool parse_special)
{
    tvlm_tokenizer *tokenizer = read_tokenizer(path);
    while (!at_end(stdin)) {
        tvlm_str text = read_str(stdin);
        size_t n;
        int32_t *ids = encode(tokenizer, text, parse_special, &n);
        write_u32((uint32_t)n);
        fwrite(ids, sizeof *ids, n, stdout);
        free(ids);
        free((char *)text.data);
    }
    tvlm_tokenizer_free(tokenizer);
}

static void normalise_lines(void)
{
    tvlm_bytes out = {0};
    while (!at_end(stdin)) {
        tvlm_str text = read_str(stdin);
        tvlm_error err;
        if (tvlm_nfc(text.data, text.len, &out, &err) != TVLM_OK) die(err.message);
        bool same = out.len == text.len && (out.len == 0 || !memcmp(out.data, text.data, out.len));
        if (tvlm_nfc_is_plain(text.data, text.len) && !same) die("plain text that NFC changes");
        write_u32((uint32_t)out.len);
        if (out.len) fwrite(out.data, 1, out.len, stdout);
        free((char *)text.data);
    }
    free(out.data);
}

static void time_text(const char *path)
{
    tvlm_tokenizer *tokenizer = read_tokenizer(path);
    size_t len = 0, cap = (size_t)1 << 24, n;
    char *text = need(malloc(cap));
    len = fread(text, 1, cap, stdin);
    double begin = tvlm_now_ms();
    int32_t *ids = encode(tokenizer, (tvlm_str){text, len}, true, &n);
    printf("%.2f %zu\n", tvlm_now_ms() - begin, n);
    free(ids);
    free(text);
    tvlm_tokenizer_free(tokenizer);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--nfc") == 0) {
        normalise_lines();
    } else if (argc == 2 && strcmp(argv[1], "--classes") == 0) {
        for (uint32_t c = 0; c < TVLM_INVALID; c++)
            putchar((int)tvlm_unicode_class(c));
    } else if (argc == 2 && strcmp(argv[1], "--words") == 0) {
        for (uint32_t c = 0; c < TVLM_INVALID; c++)
            putchar(tvlm_unicode_word(c));
    } else if (argc == 3 && strcmp(argv[1], "--time") == 0) {
        time_text(argv[2]);
    } else if (argc == 3) {
        encode_lines(argv[1], strcmp(argv[2], "1") == 0);
    } else {
        die("see the head of its source for usage");
    }
    return ferror(stdout) || fflush(stdout) != 0;
}
