/* SPDX-License-Identifier: MIT
 * UTF-8 by the table of well-formed sequences (Unicode, table 3-7). */
#include "base/base.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Bytes of the character that starts with lead, and the range of its second byte; 0: none does. */
static size_t sequence_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80, *high = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *low = 0xA0;  /* shortest form only */
        if (lead == 0xED) *high = 0x9F; /* no surrogates */
        return 3;
    }
    if (lead > 0xF4) return 0;
    if (lead == 0xF0) *low = 0x90;
    if (lead == 0xF4) *high = 0x8F;
    return 4;
}

tvlm_utf8_part tvlm_utf8_first(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low, high;
    size_t n = sequence_length(s[0], &low, &high);
    for (size_t i = 1; i < n; i++) {
        if (i == len) return (tvlm_utf8_part){i, TVLM_UTF8_CUT};
        if (s[i] < low || s[i] > high) return (tvlm_utf8_part){i, TVLM_UTF8_ILL};
        low = 0x80, high = 0xBF;
    }
    return n ? (tvlm_utf8_part){n, TVLM_UTF8_WHOLE} : (tvlm_utf8_part){1, TVLM_UTF8_ILL};
}

bool tvlm_utf8_valid(const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        tvlm_utf8_part part = tvlm_utf8_first(text + at, len - at);
        if (part.kind != TVLM_UTF8_WHOLE) return false;
        at += part.len;
    }
    return true;
}

static size_t replace(char *out)
{
    memcpy(out, REPLACEMENT, TVLM_UTF8_GROWS);
    return TVLM_UTF8_GROWS;
}

size_t tvlm_utf8_feed(tvlm_utf8_stream *s, const char *text, size_t len, char *out)
{
    size_t n = 0;
    while (len) {
        char joined[4]; /* never cut when full */
        size_t held = s->n, take = len < 4 - held ? len : 4 - held;
        memcpy(joined, s->cut, held);
        memcpy(joined + held, text, take);
        tvlm_utf8_part part = tvlm_utf8_first(joined, held + take);
        if (part.kind == TVLM_UTF8_CUT) {
            s->n = part.len;
            memcpy(s->cut, joined, part.len);
            return n;
        }
        if (part.kind == TVLM_UTF8_WHOLE) memcpy(out + n, joined, part.len);
        n += part.kind == TVLM_UTF8_WHOLE ? part.len : replace(out + n);
        text += part.len - held;
        len -= part.len - held;
        s->n = 0;
    }
    return n;
}

size_t tvlm_utf8_end(tvlm_utf8_stream *s, char *out)
{
    size_t n = s->n ? replace(out) : 0;
    s->n = 0;
    return n;
}
