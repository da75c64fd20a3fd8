/* SPDX-License-Identifier: MIT
 * NFC (Unicode Standard Annex 15): decompose, put marks into canonical order, compose. Text is cut
 * before every "safe" character, one that normalisation neither changes nor joins to what precedes
 * it; the pieces are independent, and nearly always one character long. */
#include "text/nfc.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

bool tvlm_nfc_is_plain(const char *text, size_t len)
{
    for (size_t pos = 0; pos < len;) {
        /* Characters below U+0300 begin with bytes below 0xCC and are all safe. */
        if ((unsigned char)text[pos] < 0xCC)
            pos++;
        else if (tvlm_unicode_unsafe(tvlm_utf8_next(text, len, &pos)))
            return false;
    }
    return true;
}

/* One piece. Characters carry their combining class: class << 24 | code point. */
typedef struct piece {
    uint32_t *chars, *spare;
    size_t n, cap;
    bool lone; /* one safe character, not decomposed (yet) */
} piece;

#define CLASS_SHIFT   24
#define CODE_POINT(c) ((c) & 0xFFFFFFu)
#define CLASS(c)      ((c) >> CLASS_SHIFT)

/* Room for a character before decomposition and its successor, decomposed. */
static bool piece_reserve(piece *p)
{
    if (p->cap - p->n >= 2 * TVLM_MAX_DECOMPOSED) return true;
    size_t cap, bytes;
    if (!tvlm_mul_size(p->cap ? p->cap : 32, 2, &cap) ||
        !tvlm_mul_size(cap, sizeof *p->chars, &bytes))
        return false;
    uint32_t *chars = realloc(p->chars, bytes);
    if (chars) p->chars = chars;
    uint32_t *spare = realloc(p->spare, bytes);
    if (spare) p->spare = spare;
    if (!chars || !spare) return false;
    p->cap = cap;
    return true;
}

static void piece_append_decomposed(piece *p, uint32_t c)
{
    uint32_t parts[TVLM_MAX_DECOMPOSED];
    size_t n = tvlm_unicode_decompose(c, parts);
    for (size_t i = 0; i < n; i++)
        p->chars[p->n++] = tvlm_unicode_combining(parts[i]) << CLASS_SHIFT | parts[i];
}

/* Sorts a run of marks by combining class, stably, by counting: O(n) however long the run. */
static void sort_marks(uint32_t *marks, uint32_t *spare, size_t n)
{
    size_t start[256] = {0};
    for (size_t i = 0; i < n; i++)
        start[CLASS(marks[i])]++;
    for (size_t class = 0, sum = 0; class < 256; class ++) {
        size_t count = start[class];
        start[class] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        spare[start[CLASS(marks[i])]++] = marks[i];
    memcpy(marks, spare, n * sizeof *marks);
}

static void order(piece *p)
{
    for (size_t begin = 0, end; begin < p->n; begin = end) {
        bool sorted = true;
        for (end = begin + 1; end < p->n && CLASS(p->chars[end]); end++)
            sorted = sorted && CLASS(p->chars[end - 1]) <= CLASS(p->chars[end]);
        /* chars[begin] may be a starter: class 0 stays in front, as the sort is stable. */
        if (!sorted) sort_marks(p->chars + begin, p->spare, end - begin);
    }
}

/* Joins each character to the last starter unless something between them blocks it. */
static void compose(piece *p)
{
    size_t n = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < p->n; i++) {
        uint32_t c = p->chars[i];
        if (starter != SIZE_MAX && (n == starter + 1 || CLASS(p->chars[n - 1]) < CLASS(c))) {
            uint32_t joined = tvlm_unicode_compose(CODE_POINT(p->chars[starter]), CODE_POINT(c));
            if (joined) {
                p->chars[starter] = joined;
                continue;
            }
        }
        if (CLASS(c) == 0) starter = n;
        p->chars[n++] = c;
    }
    p->n = n;
}

static bool bytes_reserve(tvlm_bytes *out, size_t more)
{
    size_t need;
    if (!tvlm_add_size(out->len, more, &need)) return false;
    if (need <= out->cap) return true;
    size_t cap = need > SIZE_MAX / 2 ? need : 2 * need;
    char *data = realloc(out->data, cap);
    if (!data) return false;
    out->data = data;
    out->cap = cap;
    return true;
}

static bool piece_flush(piece *p, tvlm_bytes *out)
{
    if (!p->lone) {
        order(p);
        compose(p);
    }
    if (!bytes_reserve(out, 4 * p->n)) return false;
    for (size_t i = 0; i < p->n; i++)
        out->len += tvlm_utf8_put(CODE_POINT(p->chars[i]), out->data + out->len);
    p->n = 0;
    p->lone = false;
    return true;
}

static bool normalise(const char *text, size_t len, piece *p, tvlm_bytes *out)
{
    for (size_t pos = 0; pos < len;) {
        uint32_t c = tvlm_utf8_next(text, len, &pos);
        bool unsafe = tvlm_unicode_unsafe(c);
        if (!unsafe && !piece_flush(p, out)) return false;
        if (!piece_reserve(p)) return false;
        if (!unsafe) {
            p->chars[p->n++] = c;
            p->lone = true;
            continue;
        }
        if (p->lone) {
            p->lone = false;
            p->n = 0;
            piece_append_decomposed(p, p->chars[0]);
        }
        piece_append_decomposed(p, c);
    }
    return piece_flush(p, out);
}

tvlm_status tvlm_nfc(const char *text, size_t len, tvlm_bytes *out, tvlm_error *err)
{
    piece p = {0};
    out->len = 0;
    bool done = bytes_reserve(out, len) && normalise(text, len, &p, out);
    free(p.chars);
    free(p.spare);
    return done ? TVLM_OK : tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory (text normalisation)");
}
