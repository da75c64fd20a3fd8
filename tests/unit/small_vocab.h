/* SPDX-License-Identifier: MIT
 * A vocabulary for tests, made by hand. */
#ifndef SMALL_VOCAB_H
#define SMALL_VOCAB_H

#include "text/tokenizer.h"
#include "text/unicode.h"

#include <string.h>

/* The 256 byte tokens (id = byte), then the given tokens, types and merges. */
enum { MAX_EXTRA = 16 };
typedef struct small_vocab {
    char letters[256][3];
    tvlm_str tokens[256 + MAX_EXTRA];
    int32_t types[256 + MAX_EXTRA];
    uint8_t added[256 + MAX_EXTRA];
    tvlm_str merges[MAX_EXTRA];
    tvlm_vocab vocab;
} small_vocab;

static inline void small_init(small_vocab *v, tvlm_pretokenizer pre)
{
    memset(v, 0, sizeof *v);
    for (unsigned byte = 0, next = 256; byte < 256; byte++) {
        bool own = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        size_t n = tvlm_utf8_put(own ? byte : next++, v->letters[byte]);
        v->tokens[byte] = (tvlm_str){v->letters[byte], n};
        v->types[byte] = TVLM_TOKEN_NORMAL;
    }
    v->vocab = (tvlm_vocab){pre, 256, v->tokens, v->types, 0, v->merges, v->added};
}

static inline void small_token(small_vocab *v, const char *token, int32_t type)
{
    v->tokens[v->vocab.n_tokens] = (tvlm_str){token, strlen(token)};
    v->types[v->vocab.n_tokens++] = type;
}

static inline void small_merge(small_vocab *v, const char *merge)
{
    v->merges[v->vocab.n_merges++] = (tvlm_str){merge, strlen(merge)};
}

#endif
