/* SPDX-License-Identifier: MIT
 * Inside a tokenizer: tables in one block, shared by the files of this folder only.
 *
 *   | struct | blob: raw bytes of all tokens, literals | offset | kind | literals | slots | pairs |
 *   merge_id |
 *
 * Two open-addressing hash tables (a power of two of slots, at most half full, linear probing):
 * token bytes -> id for tokens of the model, and (left id, right id) -> merge rank. */
#ifndef TVLM_VOCAB_H
#define TVLM_VOCAB_H

#include "text/tokenizer.h"

#define TVLM_NO_ID UINT32_MAX

typedef struct tvlm_pair {
    uint32_t left, right; /* ids; left TVLM_NO_ID: an empty slot */
    uint32_t rank;
} tvlm_pair;

/* A token matched in the text itself. */
typedef struct tvlm_literal {
    uint32_t at, len; /* its bytes in the blob */
    uint32_t id;
    uint8_t flags; /* tvlm_added */
    bool control;
} tvlm_literal;

/* Literals sought together: those of the text as it comes, then those of its normal form. */
typedef struct tvlm_literals {
    tvlm_literal *list; /* sorted by their bytes */
    uint32_t n;
    bool first[256]; /* bytes that one begins with */
} tvlm_literals;

struct tvlm_tokenizer {
    tvlm_pretokenizer pre;
    uint32_t n_tokens, n_merges;
    size_t bytes;              /* of the whole block */
    uint64_t seed;             /* of both hash tables */
    char *blob;                /* token i: blob[offset[i] .. offset[i + 1]) */
    uint32_t *offset;          /* [n_tokens + 1] */
    uint8_t *kind;             /* [n_tokens] tvlm_token_type */
    tvlm_literals literals[2]; /* [1]: NORMALIZED */
    uint32_t *slots;           /* [slot_mask + 1] ids, TVLM_NO_ID: empty */
    tvlm_pair *pairs;          /* [pair_mask + 1] */
    uint32_t *merge_id;        /* [n_merges] the token that merge `rank` makes */
    uint32_t slot_mask, pair_mask;
    uint32_t byte_id[256]; /* TVLM_NO_ID: the byte cannot be encoded */
};

static inline tvlm_str tvlm_vocab_token(const tvlm_tokenizer *t, uint32_t id)
{
    return (tvlm_str){t->blob + t->offset[id], t->offset[id + 1] - t->offset[id]};
}
/* Whether a token is matched literally rather than made by merges. */
static inline bool tvlm_kind_is_special(uint8_t kind)
{
    return kind == TVLM_TOKEN_CONTROL || kind == TVLM_TOKEN_USER_DEFINED;
}

/* The model's token of these raw bytes, or TVLM_NO_ID. */
uint32_t tvlm_vocab_find(const tvlm_tokenizer *t, const char *bytes, size_t len);
/* The rank of the merge of two tokens, or TVLM_NO_ID. */
uint32_t tvlm_vocab_rank(const tvlm_tokenizer *t, uint32_t left, uint32_t right);
/* The longest literal that text begins with: CONTROL ones up to control_len bytes long, others up
 * to len; NULL if none. O(matching bytes * log n). */
const tvlm_literal *tvlm_vocab_literal(const tvlm_tokenizer *t, const tvlm_literals *literals,
                                       const char *text, size_t len, size_t control_len);

#endif
