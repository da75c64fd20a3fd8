/* SPDX-License-Identifier: MIT
 * Byte-level BPE vocabularies of model folders: tokenizer.json, or vocab.json + merges.txt with
 * added_tokens.json and tokenizer_config.json beside them. */
#ifndef TVLM_APP_TOKENIZER_FILES_H
#define TVLM_APP_TOKENIZER_FILES_H

#include "text/tokenizer.h"

#include <jansson.h>

typedef struct tvlm_tokenizer_files {
    tvlm_vocab vocab;       /* arrays and strings owned by this struct */
    int32_t bos_id, eos_id; /* tokenizer_config.json's; -1: none */
    bool add_bos;
    const char *chat_template; /* Jinja, "" when there is none */
    struct tvlm_tokenizer_store *store;
} tvlm_tokenizer_files;

/* path: a folder, a tokenizer.json, or a vocab.json with merges.txt beside it. Ids without a token
 * become unused tokens "[PADn]". Refused by name: models that are not byte-level BPE,
 * pre-tokenizers and normalizers that the engine does not have. on_note (nullable) hears of
 * settings of single tokens that have no effect here. */
tvlm_status tvlm_tokenizer_files_open(const char *path, tvlm_tokenizer_files *out,
                                      void (*on_note)(void *user, const char *line), void *user,
                                      tvlm_error *err);
/* From a parsed tokenizer.json and, nullable, tokenizer_config.json. */
tvlm_status tvlm_tokenizer_json_parse(const json_t *tokenizer, const json_t *config,
                                      tvlm_tokenizer_files *out,
                                      void (*on_note)(void *user, const char *line), void *user,
                                      tvlm_error *err);
void tvlm_tokenizer_files_close(tvlm_tokenizer_files *files);

/* The id of a token's exact text, or -1. */
int32_t tvlm_tokenizer_files_id(const tvlm_tokenizer_files *files, const char *token);
/* "qwen2", "smollm" or "gpt-2": the name in GGUF. */
const char *tvlm_pretokenizer_name(tvlm_pretokenizer pre);

#endif
