/* SPDX-License-Identifier: MIT
 * Text to ids and back.
 *
 *   text --literals--> --NFC (Qwen2)--> --normalised literals--> --pre-tokenizer--> --BPE--> ids */
#include "text/bpe.h"
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/unicode.h"

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
    for (int i = 0; i < 2; i++) {
        const tvlm_literal *l = tvlm_vocab_literal(tokenizer, &tokenizer->literals[i], token.data,
                                                   token.len, token.len);
        if (l && l->len == token.len) return (int32_t)l->id;
    }
    uint32_t id = tvlm_vocab_find(tokenizer, token.data, token.len);
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
    if (e->t->pre == TVLM_PRE_LLAMA3) {
        uint32_t id = tvlm_vocab_find(e->t, bytes, n);
        if (id != TVLM_NO_ID && e->t->kind[id] != TVLM_TOKEN_CONTROL) {
            emit(e, id);
            return TVLM_OK;
        }
    }
    TVLM_TRY(tvlm_bpe_merge(&e->bpe, e->t, bytes, n, e->err));
    for (size_t i = 0; i < e->bpe.end; i += e->bpe.len[i])
        emit(e, e->bpe.id[i]);
    return TVLM_OK;
}

/* ---- literals: as Hugging Face's added tokens are found, to the letter ---- */

static uint32_t next_character(const char *text, size_t len, size_t at)
{
    return tvlm_utf8_next(text, len, &at);
}

static size_t previous(const char *text, size_t at)
{
    size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && ((unsigned char)text[begin] & 0xC0) == 0x80)
        begin--;
    size_t end = begin;
    tvlm_utf8_next(text, at, &end);
    return end == at ? begin : at - 1;
}

static bool is_space(uint32_t c)
{
    return tvlm_unicode_class(c) == TVLM_CHAR_SPACE;
}

static bool touches_word(const char *text, size_t len, size_t start, size_t stop)
{
    return (start > 0 && tvlm_unicode_word(next_character(text, start, previous(text, start)))) ||
           (stop < len && tvlm_unicode_word(next_character(text, len, stop)));
}

/* The begin of the white space that ends at `at`, not before `from`. */
static size_t spaces_begin(const char *text, size_t at, size_t from)
{
    while (at > from) {
        size_t begin = previous(text, at);
        if (!is_space(next_character(text, at, begin))) break;
        at = begin;
    }
    return at > from ? at : from;
}

static size_t spaces_end(const char *text, size_t len, size_t at)
{
    for (size_t next = at; at < len && is_space(tvlm_utf8_next(text, len, &next)); at = next)
        ;
    return at;
}

/* Where CONTROL tokens may stand: in spans that parse special tokens. */
typedef struct place {
    const tvlm_span *span; /* that holds a text's first byte */
    size_t end;            /* of the span, from that byte on */
} place;

static place forward(place r, size_t n)
{
    while (r.end <= n)
        r.end += (++r.span)->text.len;
    r.end -= n;
    return r;
}

static size_t control_length(place r)
{
    return r.span->parse_special ? r.end : 0;
}

typedef tvlm_status (*gap_encoder)(encoder *e, const char *text, size_t len, place r);

/* Emits the literals of one kind; what lies between them goes to `gap`. */
static tvlm_status encode_literals(encoder *e, const tvlm_literals *literals, const char *text,
                                   size_t len, place r, gap_encoder gap)
{
    size_t at = 0;                  /* where r is */
    size_t done = 0, space_end = 0; /* behind the last literal and its white space; done >= at */
    for (size_t pos = 0; pos < len && literals->n;) {
        const tvlm_literal *l = NULL;
        if (literals->first[(unsigned char)text[pos]])
            l = tvlm_vocab_literal(e->t, literals, text + pos, len - pos,
                                   control_length(forward(r, pos - at)));
        if (!l) {
            pos++;
            continue;
        }
        size_t start = pos, stop = pos + l->len, found = pos;
        pos = stop;
        if ((l->flags & TVLM_ADDED_SINGLE_WORD) && touches_word(text, len, start, stop)) continue;
        if (l->flags & TVLM_ADDED_LSTRIP) start = spaces_begin(text, start, done);
        if (l->flags & TVLM_ADDED_RSTRIP)
            stop = space_end = stop < space_end ? space_end : spaces_end(text, len, stop);
        if (done < start) TVLM_TRY(gap(e, text + done, start - done, forward(r, done - at)));
        if (start < stop) emit(e, l->id); /* not where an earlier one took all of it */
        r = forward(r, found - at);
        at = found;
        done = stop;
    }
    return done < len ? gap(e, text + done, len - done, forward(r, done - at)) : TVLM_OK;
}

/* Text without literals, in normal form. */
static tvlm_status encode_plain(encoder *e, const char *text, size_t len, place r)
{
    (void)r;
    for (size_t begin = 0, end; begin < len; begin = end) {
        end = tvlm_pretoken_end(e->t->pre, text, len, begin);
        TVLM_TRY(encode_pretoken(e, text + begin, end - begin));
    }
    return TVLM_OK;
}

/* Text between literals that are sought as the text comes. */
static tvlm_status encode_chunk(encoder *e, const char *text, size_t len, place r)
{
    static const tvlm_span special = {.parse_special = true}, plain = {.parse_special = false};
    if (e->t->pre == TVLM_PRE_QWEN2 && !tvlm_nfc_is_plain(text, len)) {
        /* the normal form has no spans: CONTROL tokens only where one span held all of it */
        r = (place){control_length(r) >= len ? &special : &plain, SIZE_MAX};
        TVLM_TRY(tvlm_nfc(text, len, &e->normal, e->err));
        text = e->normal.data;
        len = e->normal.len;
    }
    return encode_literals(e, &e->t->literals[1], text, len, r, encode_plain);
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
    place r = {spans, spans[0].text.len};
    tvlm_status status = encode_literals(&e, &tokenizer->literals[0], text, len, r, encode_chunk);
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
