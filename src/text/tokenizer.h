/* SPDX-License-Identifier: MIT
 * Byte-level BPE (GPT-2 alphabet): ids as Hugging Face tokenizers gives them. */
#ifndef TVLM_TOKENIZER_H
#define TVLM_TOKENIZER_H

#include "base/base.h"

typedef enum tvlm_pretokenizer {
    TVLM_PRE_QWEN2 = 0,  /* Qwen2 regex, NFC normalisation (FASTVLM paper checkpoints) */
    TVLM_PRE_SMOLLM = 1, /* single digits, then GPT-2 regex, no normalisation */
    TVLM_PRE_GPT2 = 2,   /* GPT-2 regex, no normalisation */
    TVLM_PRE_LLAMA3 = 3  /* Qwen2 regex with numbers of up to three digits, no normalisation; a
                            pre-token that is a token is not merged */
} tvlm_pretokenizer;

typedef enum tvlm_token_type {
    TVLM_TOKEN_NORMAL = 1,
    TVLM_TOKEN_CONTROL = 3,      /* matched literally when parse_special, skipped by skip_special */
    TVLM_TOKEN_USER_DEFINED = 4, /* matched literally always, shown */
    TVLM_TOKEN_UNUSED = 5
} tvlm_token_type; /* values are GGUF's */

/* How a CONTROL or USER_DEFINED token is matched: bits, as Hugging Face's AddedToken has them. */
typedef enum tvlm_added {
    TVLM_ADDED_LSTRIP = 1,      /* takes the white space before it */
    TVLM_ADDED_RSTRIP = 2,      /* and behind it */
    TVLM_ADDED_SINGLE_WORD = 4, /* only where no word character touches it */
    TVLM_ADDED_NORMALIZED = 8,  /* sought in normalised text, after all that are not */
    TVLM_ADDED_IN_MODEL = 16,   /* is a token of the alphabet as well, made by merges */
    TVLM_ADDED_ALL = 31
} tvlm_added;

typedef struct tvlm_vocab {
    tvlm_pretokenizer pre;
    uint32_t n_tokens;
    const tvlm_str *tokens; /* in the GPT-2 byte alphabet, special tokens literal; index = id */
    const int32_t *types;   /* tvlm_token_type, nullable: all NORMAL */
    uint32_t n_merges;
    const tvlm_str *merges; /* "left right", rank = index */
    const uint8_t *added;   /* bits of tvlm_added, nullable: none; of other types ignored */
} tvlm_vocab;

typedef struct tvlm_tokenizer tvlm_tokenizer;

/* Copies what it needs into one block. Invalid vocabularies (a merge whose parts or result are no
 * token, a character outside the byte alphabet, equal tokens, too many entries) are refused naming
 * the entry. Bytes without a token are dropped when encoding, as the reference does (SmolLM2 lacks
 * 21, none of them common). Immutable afterwards, shared by threads. */
tvlm_status tvlm_tokenizer_new(const tvlm_vocab *vocab, tvlm_tokenizer **out, tvlm_error *err);
void tvlm_tokenizer_free(tvlm_tokenizer *tokenizer);
size_t tvlm_tokenizer_bytes(const tvlm_tokenizer *tokenizer); /* heap bytes held */
/* Heap bytes that tvlm_tokenizer_new will hold for this vocabulary, without allocating. */
size_t tvlm_tokenizer_estimate(const tvlm_vocab *vocab);
uint32_t tvlm_tokenizer_count(const tvlm_tokenizer *tokenizer);

/* A run of text whose parts differ in whether special tokens are recognised. */
typedef struct tvlm_span {
    tvlm_str text;
    bool parse_special;
} tvlm_span;
/* Encodes the concatenation of spans as one string (merges and pre-tokens may cross spans where the
 * regex says so), recognising special tokens only where they lie wholly inside a parse_special
 * span: template and user text are tokenised as the reference does, yet user text never becomes
 * special. */
tvlm_status tvlm_tokenizer_encode_spans(const tvlm_tokenizer *tokenizer, const tvlm_span *spans,
                                        size_t n_spans, int32_t *ids, size_t cap, size_t *n,
                                        tvlm_error *err);

/* Any bytes in; up to cap ids out, *n the number needed. Allocates temporary memory in proportion
 * to the longest pre-token (to the text where it is not in form C), runs in O(len log len). Invalid
 * UTF-8 bytes are kept: with a vocabulary that has all bytes decode(encode(x)) == x for every x
 * without normalisation, and for NFC text otherwise. */
tvlm_status tvlm_tokenizer_encode(const tvlm_tokenizer *tokenizer, const char *text, size_t len,
                                  bool parse_special, int32_t *ids, size_t cap, size_t *n,
                                  tvlm_error *err);
/* Up to cap bytes, *n the number needed. Ids outside the vocabulary are an error. */
tvlm_status tvlm_tokenizer_decode(const tvlm_tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                                  bool skip_special, char *text, size_t cap, size_t *n,
                                  tvlm_error *err);
/* The id of a literal token, or -1. */
int32_t tvlm_tokenizer_id(const tvlm_tokenizer *tokenizer, tvlm_str token);
/* The bytes of one token (raw, not the GPT-2 alphabet); empty for ids outside the vocabulary. */
tvlm_str tvlm_tokenizer_piece(const tvlm_tokenizer *tokenizer, int32_t id);
bool tvlm_tokenizer_is_control(const tvlm_tokenizer *tokenizer, int32_t id);
/* Whether generation may produce the id: it is in the vocabulary and not marked unused. */
bool tvlm_tokenizer_choosable(const tvlm_tokenizer *tokenizer, int32_t id);

#endif
