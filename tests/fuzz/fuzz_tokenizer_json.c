/* SPDX-License-Identifier: MIT
 * Bytes as a tokenizer.json, or as a config.json when the object has a model_type: an accepted
 * tokenizer encodes, a refused file gives a clear error. */
#include "convert/hf_config.h"
#include "convert/tokenizer_files.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) abort();
}

static void use(const tvlm_vocab *vocab)
{
    tvlm_tokenizer *tokenizer = NULL;
    tvlm_error err = {0};
    int32_t ids[64];
    size_t n;
    if (tvlm_tokenizer_new(vocab, &tokenizer, &err) == TVLM_OK)
        tvlm_tokenizer_encode(tokenizer, "a <|im_end|> b", 14, true, ids, 64, &n, &err);
    else
        check(!tokenizer && err.message[0]);
    tvlm_tokenizer_free(tokenizer);
}

static void note(void *user, const char *line)
{
    check(user != NULL && line[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tvlm_tokenizer_files files;
    tvlm_hf_config config;
    tvlm_error err = {0};
    json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (!json) return 0;
    if (json_object_get(json, "model_type")) {
        const json_t *preprocessor = json_object_get(json, "preprocessor");
        check(tvlm_hf_config_parse(json, preprocessor, &config, &err) == TVLM_OK || err.message[0]);
    } else if (tvlm_tokenizer_json_parse(json, json_object_get(json, "config"), &files, note, &err,
                                         &err) == TVLM_OK) {
        use(&files.vocab);
        tvlm_tokenizer_files_close(&files);
    } else {
        check(err.message[0] && !files.store);
    }
    json_decref(json);
    return 0;
}
