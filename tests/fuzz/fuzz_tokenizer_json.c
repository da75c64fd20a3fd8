/* SPDX-License-Identifier: MIT
 * Bytes as a tokenizer.json: an accepted one makes a tokenizer or a clear error. */
#include "convert/tokenizer_files.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tvlm_tokenizer_files files;
    tvlm_tokenizer *tokenizer = NULL;
    tvlm_error err = {0};
    json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (!json)
        return 0;
    if (tvlm_tokenizer_json_parse(json, NULL, &files, NULL, NULL, &err) == TVLM_OK) {
        int32_t ids[64];
        size_t n;
        if (tvlm_tokenizer_new(&files.vocab, &tokenizer, &err) == TVLM_OK)
            tvlm_tokenizer_encode(tokenizer, "a <|im_end|> b", 14, true, ids, 64, &n, &err);
        tvlm_tokenizer_free(tokenizer);
        tvlm_tokenizer_files_close(&files);
    } else if (!err.message[0]) {
        abort();
    }
    json_decref(json);
    return 0;
}
