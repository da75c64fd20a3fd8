/* SPDX-License-Identifier: MIT */
#include "convert/tokenizer.h"
#include "convert/tokenizer_files.h"

tvlm_status tvlmc_tokenizer_open(const char *path, tvlmc_tokenizer **out, tvlm_error *err)
{
    tvlmc_tokenizer_files files;
    *out = NULL;
    TVLM_TRY(tvlmc_tokenizer_files_open(path, &files, NULL, NULL, err));
    tvlm_status status = tvlm_tokenizer_new(&files.vocab, out, err);
    tvlmc_tokenizer_files_close(&files);
    return status;
}

void tvlmc_tokenizer_free(tvlmc_tokenizer *tokenizer)
{
    tvlm_tokenizer_free(tokenizer);
}

tvlm_status tvlmc_tokenizer_encode(const tvlmc_tokenizer *tokenizer, const char *text, size_t len,
                                   int32_t *ids, size_t cap, size_t *n, tvlm_error *err)
{
    return tvlm_tokenizer_encode(tokenizer, text, len, true, ids, cap, n, err);
}

tvlm_status tvlmc_tokenizer_decode(const tvlmc_tokenizer *tokenizer, const int32_t *ids,
                                   size_t n_ids, char *text, size_t cap, size_t *n, tvlm_error *err)
{
    return tvlm_tokenizer_decode(tokenizer, ids, n_ids, false, text, cap, n, err);
}
