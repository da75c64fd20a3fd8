/* SPDX-License-Identifier: MIT
 * UTF-8 to code points and look-ups in sorted run tables. */
#include "text/unicode.h"
#include "text/unicode_tables.h"

uint32_t tvlm_utf8_next(const char *text, size_t len, size_t *pos)
{
    const unsigned char *s = (const unsigned char *)text + *pos;
    if (s[0] < 0x80) {
        *pos += 1;
        return s[0];
    }
    tvlm_utf8_part part = tvlm_utf8_first(text + *pos, len - *pos);
    size_t n = part.kind == TVLM_UTF8_WHOLE ? part.len : 1;
    *pos += n;
    switch (n) {
    case 2:
        return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    case 3:
        return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    case 4:
        return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 |
               (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3F);
    default:
        return TVLM_INVALID + s[0];
    }
}

size_t tvlm_utf8_put(uint32_t c, char *out)
{
    if (c < 0x80 || c >= TVLM_INVALID) {
        out[0] = (char)(c & 0xFF);
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* The value of the run that holds c: entries are (first code point << shift | value), the first 0.
 */
static uint32_t run_value(const uint32_t *runs, size_t n, unsigned shift, uint32_t c)
{
    uint32_t key = c << shift | ((1u << shift) - 1);
    size_t low = 0;
    while (n > 1) { /* runs[low] <= key throughout; n entries from low on may be the last such */
        size_t half = n / 2;
        if (runs[low + half] <= key) low += half;
        n -= half;
    }
    return runs[low] & ((1u << shift) - 1);
}

tvlm_char_class tvlm_unicode_class(uint32_t c)
{
    static const tvlm_char_class classes[] = {TVLM_CHAR_OTHER, TVLM_CHAR_LETTER,  TVLM_CHAR_NUMBER,
                                              TVLM_CHAR_SPACE, TVLM_CHAR_NUMERIC, TVLM_CHAR_OTHER,
                                              TVLM_CHAR_NUMBER};
    if (c < 0x80) { /* most text, without a search */
        if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return TVLM_CHAR_LETTER;
        if (c >= '0' && c <= '9') return TVLM_CHAR_NUMBER;
        return c == ' ' || (c >= 0x09 && c <= 0x0D) ? TVLM_CHAR_SPACE : TVLM_CHAR_OTHER;
    }
    if (c >= TVLM_INVALID) return TVLM_CHAR_OTHER;
    return classes[run_value(class_runs, TVLM_COUNT(class_runs), 3, c)];
}

bool tvlm_unicode_word(uint32_t c)
{
    enum { LETTER = 1, NUMBER = 2, OTHER_WORD = 5 };
    if (c >= TVLM_INVALID) return false;
    uint32_t v = run_value(class_runs, TVLM_COUNT(class_runs), 3, c);
    return v == LETTER || v == NUMBER || v == OTHER_WORD;
}

uint32_t tvlm_unicode_combining(uint32_t c)
{
    return c < 0x300 ? 0 : run_value(combining_runs, TVLM_COUNT(combining_runs), 8, c);
}

bool tvlm_unicode_unsafe(uint32_t c)
{
    return c >= 0x300 && run_value(unsafe_runs, TVLM_COUNT(unsafe_runs), 1, c);
}

/* Hangul syllables are L + V + T arithmetic (Unicode, section 3.12). */
enum {
    HANGUL_S = 0xAC00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11A7, /* one below the first T: T index 0 means none */
    HANGUL_N_L = 19,
    HANGUL_N_V = 21,
    HANGUL_N_T = 28,
    HANGUL_N_S = HANGUL_N_L * HANGUL_N_V * HANGUL_N_T
};

static const canonical_pair *find_pair(uint32_t composed)
{
    size_t low = 0, high = TVLM_COUNT(canonical_pairs);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (canonical_pairs[mid].composed < composed)
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low < TVLM_COUNT(canonical_pairs) && canonical_pairs[low].composed == composed;
    return found ? &canonical_pairs[low] : NULL;
}

size_t tvlm_unicode_decompose(uint32_t c, uint32_t out[TVLM_MAX_DECOMPOSED])
{
    uint32_t s = c - HANGUL_S;
    if (s < HANGUL_N_S) {
        out[0] = HANGUL_L + s / (HANGUL_N_V * HANGUL_N_T);
        out[1] = HANGUL_V + s / HANGUL_N_T % HANGUL_N_V;
        out[2] = HANGUL_T + s % HANGUL_N_T;
        return out[2] == HANGUL_T ? 2 : 3;
    }
    /* Only first halves decompose further, so second halves come out last to first. */
    uint32_t reversed[TVLM_MAX_DECOMPOSED];
    size_t n = 0;
    const canonical_pair *pair;
    while (n + 1 < TVLM_MAX_DECOMPOSED && (pair = find_pair(c)) != NULL) {
        if (pair->second) reversed[n++] = pair->second;
        c = pair->first;
    }
    out[0] = c;
    for (size_t i = 0; i < n; i++)
        out[1 + i] = reversed[n - 1 - i];
    return n + 1;
}

uint32_t tvlm_unicode_compose(uint32_t a, uint32_t b)
{
    if (a - HANGUL_L < HANGUL_N_L && b - HANGUL_V < HANGUL_N_V)
        return HANGUL_S + ((a - HANGUL_L) * HANGUL_N_V + (b - HANGUL_V)) * HANGUL_N_T;
    if (a - HANGUL_S < HANGUL_N_S && (a - HANGUL_S) % HANGUL_N_T == 0 && b > HANGUL_T &&
        b - HANGUL_T < HANGUL_N_T)
        return a + (b - HANGUL_T);
    size_t low = 0, high = TVLM_COUNT(composition_order);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const canonical_pair *pair = &canonical_pairs[composition_order[mid]];
        if (pair->first == a && pair->second == b) return pair->composed;
        if (pair->first < a || (pair->first == a && pair->second < b))
            low = mid + 1;
        else
            high = mid;
    }
    return 0;
}
