/* SPDX-License-Identifier: MIT
 * Bytes as JSON of Python's kind: a tokenizer.json (with its tokenizer_config.json under "config"),
 * or a config.json when the object has a model_type. An accepted tokenizer encodes its own tokens
 * and a text between them, with special tokens and without; a refused file gives a clear error. */
#include "convert/hf_config.h"
#include "convert/json_file.h"
#include "convert/tokenizer_files.h"
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) abort();
}

/* " a" and the text of each token, one after the other, up to the room. */
static size_t make_text(const tvlm_vocab *vocab, char *text, size_t room)
{
    size_t n = 0;
    for (uint32_t i = 0; i < vocab->n_tokens && n + 2 + vocab->tokens[i].len < room; i++) {
        memcpy(text + n, i % 2 ? " a" : "\n", i % 2 ? 2 : 1);
        n += i % 2 ? 2 : 1;
        if (vocab->tokens[i].len) memcpy(text + n, vocab->tokens[i].data, vocab->tokens[i].len);
        n += vocab->tokens[i].len;
    }
    return n;
}

static void use(const tvlm_vocab *vocab)
{
    tvlm_tokenizer *tokenizer = NULL;
    tvlm_error err = {0};
    char text[4096];
    int32_t ids[3 * sizeof text];
    size_t n, len = make_text(vocab, text, sizeof text);
    if (tvlm_tokenizer_new(vocab, &tokenizer, &err) == TVLM_OK) {
        check(tvlm_tokenizer_bytes(tokenizer) == tvlm_tokenizer_estimate(vocab));
        for (int special = 0; special < 2; special++) {
            tvlm_span spans[] = {
                {{text, len / 2},                 true        },
                {{text + len / 2, len - len / 2}, special != 0}
            };
            check(tvlm_tokenizer_encode_spans(tokenizer, spans, 2, ids, TVLM_COUNT(ids), &n,
                                              &err) == TVLM_OK);
            check(n <= TVLM_COUNT(ids));
            for (size_t i = 0; i < n; i++)
                check(ids[i] >= 0 && (uint32_t)ids[i] < vocab->n_tokens);
        }
    } else {
        check(!tokenizer && err.message[0]);
    }
    tvlm_tokenizer_free(tokenizer);
}

static void note(void *user, const char *line)
{
    check(user != NULL && line[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tvlmc_tokenizer_files files;
    tvlmc_hf_config config;
    tvlm_error err = {0};
    json_t *json;
    if (tvlmc_json_parse("fuzz", data, size, &json, &err)) {
        check(!json && err.message[0]);
        return 0;
    }
    if (json_object_get(json, "model_type")) {
        const json_t *preprocessor = json_object_get(json, "preprocessor");
        check(tvlmc_hf_config_parse(json, preprocessor, &config, &err) == TVLM_OK ||
              err.message[0]);
    } else if (tvlmc_tokenizer_json_parse(json, json_object_get(json, "config"), &files, note, &err,
                                          &err) == TVLM_OK) {
        use(&files.vocab);
        tvlm_chat_recognise((tvlm_str){files.chat_template, strlen(files.chat_template)});
        tvlmc_tokenizer_files_close(&files);
    } else {
        check(err.message[0] && !files.store);
    }
    json_decref(json);
    return 0;
}
