/* SPDX-License-Identifier: MIT
 * Text to ids and back.
 *
 *   text --specials--> chunks --NFC (Qwen2)--> --pre-tokenizer--> pre-tokens --BPE--> ids */
#include "text/bpe.h"
#include "text/nfc.h"
#include "text/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT ((size_t)1 << 29) /* NFC at most triples the text; offsets stay below 2^31 */

uint32_t tvlm_tokenizer_count(const tvlm_tokenizer *tokenizer)
{
    return tokenizer->n_tokens;
}

size_t tvlm_tokenizer_bytes(const tvlm_tokenizer *tokenizer)
{
    return tokenizer->bytes;
}

tvlm_str tvlm_tokenizer_piece(const tvlm_tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || (uint32_t)id >= tokenizer->n_tokens) return (tvlm_str){"", 0};
    return tvlm_vocab_token(tokenizer, (uint32_t)id);
}

bool tvlm_tokenizer_is_control(const tvlm_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (uint32_t)id < tokenizer->n_tokens &&
           tokenizer->kind[id] == TVLM_TOKEN_CONTROL;
}

bool tvlm_tokenizer_choosable(const tvlm_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (uint32_t)id < tokenizer->n_tokens &&
           tokenizer->kind[id] != TVLM_TOKEN_UNUSED;
}

int32_t tvlm_tokenizer_id(const tvlm_tokenizer *tokenizer, tvlm_str token)
{
    if (token.len == 0) return -1;
    uint32_t id = tvlm_vocab_special(tokenizer, token.data, token.len, token.len);
    if (id == TVLM_NO_ID || tvlm_vocab_token(tokenizer, id).len != token.len)
        id = tvlm_vocab_find(tokenizer, token.data, token.len);
    return id == TVLM_NO_ID ? -1 : (int32_t)id;
}

/* ---- encoding ---- */

typedef struct encoder {
    const tvlm_tokenizer *t;
    tvlm_bpe bpe;
    tvlm_bytes normal; /* the chunk in normal form */
    int32_t *ids;
    size_t cap, n;
    tvlm_error *err;
} encoder;

static void emit(encoder *e, uint32_t id)
{
    if (e->n < e->cap) e->ids[e->n] = (int32_t)id;
    e->n++;
}

static tvlm_status encode_pretoken(encoder *e, const char *bytes, size_t n)
{
    TVLM_TRY(tvlm_bpe_merge(&e->bpe, e->t, bytes, n, e->err));
    for (size_t i = 0; i < e->bpe.end; i += e->bpe.len[i])
        emit(e, e->bpe.id[i]);
    return TVLM_OK;
}

/* The text between two special tokens. */
static tvlm_status encode_chunk(encoder *e, const char *text, size_t len)
{
    if (e->t->pre == TVLM_PRE_QWEN2 && !tvlm_nfc_is_plain(text, len)) {
        TVLM_TRY(tvlm_nfc(text, len, &e->normal, e->err));
        text = e->normal.data;
        len = e->normal.len;
    }
    for (size_t begin = 0, end; begin < len; begin = end) {
        end = tvlm_pretoken_end(e->t->pre, text, len, begin);
        TVLM_TRY(encode_pretoken(e, text + begin, end - begin));
    }
    return TVLM_OK;
}

/* text is the concatenation of the spans, which say where CONTROL tokens are allowed. */
static tvlm_status encode_text(encoder *e, const char *text, size_t len, const tvlm_span *spans)
{
    size_t chunk = 0; /* begin of the text not yet encoded */
    const tvlm_span *span = spans;
    size_t span_end = span->text.len;
    for (size_t pos = 0; pos < len;) {
        while (span_end <= pos)
            span_end += (++span)->text.len;
        uint32_t id = TVLM_NO_ID;
        if (e->t->special_first[(unsigned char)text[pos]])
            id = tvlm_vocab_special(e->t, text + pos, len - pos,
                                    span->parse_special ? span_end - pos : 0);
        if (id == TVLM_NO_ID) {
            pos++;
            continue;
        }
        TVLM_TRY(encode_chunk(e, text + chunk, pos - chunk));
        emit(e, id);
        pos += tvlm_vocab_token(e->t, id).len;
        chunk = pos;
    }
    return encode_chunk(e, text + chunk, len - chunk);
}

static tvlm_status total_length(const tvlm_span *spans, size_t n_spans, size_t *total,
                                tvlm_error *err)
{
    *total = 0;
    for (size_t i = 0; i < n_spans; i++) {
        if (!spans[i].text.data && spans[i].text.len)
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "text is NULL");
        if (spans[i].text.len > MAX_TEXT - *total)
            return tvlm_fail(err, TVLM_ERR_LIMIT, "text of more than %zu bytes", MAX_TEXT);
        *total += spans[i].text.len;
    }
    return TVLM_OK;
}

tvlm_status tvlm_tokenizer_encode_spans(const tvlm_tokenizer *tokenizer, const tvlm_span *spans,
                                        size_t n_spans, int32_t *ids, size_t cap, size_t *n,
                                        tvlm_error *err)
{
    *n = 0;
    size_t len;
    TVLM_TRY(total_length(spans, n_spans, &len, err));
    if (len == 0) return TVLM_OK;
    char *joined = NULL;
    const char *text = spans[0].text.data;
    if (spans[0].text.len != len) {
        joined = malloc(len);
        if (!joined) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory (tokenizing)");
        for (size_t i = 0, at = 0; i < n_spans; at += spans[i++].text.len)
            if (spans[i].text.len) memcpy(joined + at, spans[i].text.data, spans[i].text.len);
        text = joined;
    }
    encoder e = {.t = tokenizer, .ids = ids, .cap = ids ? cap : 0, .err = err};
    tvlm_status status = encode_text(&e, text, len, spans);
    tvlm_bpe_release(&e.bpe);
    free(e.normal.data);
    free(joined);
    if (status == TVLM_OK) *n = e.n;
    return status;
}

tvlm_status tvlm_tokenizer_encode(const tvlm_tokenizer *tokenizer, const char *text, size_t len,
                                  bool parse_special, int32_t *ids, size_t cap, size_t *n,
                                  tvlm_error *err)
{
    tvlm_span span = {
        {text, len},
        parse_special
    };
    return tvlm_tokenizer_encode_spans(tokenizer, &span, 1, ids, cap, n, err);
}

/* ---- decoding ---- */

tvlm_status tvlm_tokenizer_decode(const tvlm_tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                                  bool skip_special, char *text, size_t cap, size_t *n,
                                  tvlm_error *err)
{
    *n = 0;
    size_t total = 0;
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= tokenizer->n_tokens)
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "id %d is not in the vocabulary of %u tokens",
                             (int)ids[i], (unsigned)tokenizer->n_tokens);
        if (skip_special && tvlm_tokenizer_is_control(tokenizer, ids[i])) continue;
        tvlm_str piece = tvlm_vocab_token(tokenizer, (uint32_t)ids[i]);
        size_t room = text && total < cap ? cap - total : 0;
        size_t fits = piece.len < room ? piece.len : room;
        if (fits) memcpy(text + total, piece.data, fits);
        if (!tvlm_add_size(total, piece.len, &total))
            return tvlm_fail(err, TVLM_ERR_LIMIT, "text of more than %zu bytes", (size_t)SIZE_MAX);
    }
    *n = total;
    return TVLM_OK;
}
