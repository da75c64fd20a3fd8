/* SPDX-License-Identifier: MIT
 * Byte-level BPE vocabularies of model folders: tokenizer.json, or vocab.json + merges.txt with
 * added_tokens.json and tokenizer_config.json beside them. */
#ifndef TVLMC_TOKENIZER_FILES_H
#define TVLMC_TOKENIZER_FILES_H

#include "text/tokenizer.h"

#include <jansson.h>

typedef struct tvlmc_tokenizer_files {
    tvlm_vocab vocab;       /* arrays and strings owned by this struct */
    int32_t bos_id, eos_id; /* tokenizer_config.json's; -1: none */
    bool add_bos;
    const char *chat_template; /* Jinja, "" when there is none */
    struct tvlmc_tokenizer_store *store;
} tvlmc_tokenizer_files;

/* path: a folder, a tokenizer.json, or a vocab.json with merges.txt beside it. Ids without a token
 * become unused tokens "[PADn]". Refused by name: models that are not byte-level BPE,
 * pre-tokenizers and normalizers that the engine does not have. on_note (nullable) hears of
 * settings of single tokens that have no effect here. */
tvlm_status tvlmc_tokenizer_files_open(const char *path, tvlmc_tokenizer_files *out,
                                       void (*on_note)(void *user, const char *line), void *user,
                                       tvlm_error *err);
/* From a parsed tokenizer.json and, nullable, tokenizer_config.json. */
tvlm_status tvlmc_tokenizer_json_parse(const json_t *tokenizer, const json_t *config,
                                       tvlmc_tokenizer_files *out,
                                       void (*on_note)(void *user, const char *line), void *user,
                                       tvlm_error *err);
void tvlmc_tokenizer_files_close(tvlmc_tokenizer_files *files);

/* The id of a token's exact text, or -1. */
int32_t tvlmc_tokenizer_files_id(const tvlmc_tokenizer_files *files, const char *token);
/* "qwen2", "smollm" or "gpt-2": the name in GGUF. */
const char *tvlmc_pretokenizer_name(tvlm_pretokenizer pre);

#endif
