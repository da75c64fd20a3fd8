/* SPDX-License-Identifier: MIT
 * Text from outside, which may hold anything, made fit to be shown. */
#include "base/base.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Characters that move the cursor, break the line or turn the order of what follows. */
static bool is_control(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (n == 1) return s[0] < 0x20 || s[0] == 0x7F;
    if (n == 2) return s[0] == 0xC2 && s[1] < 0xA0; /* U+0080..U+009F */
    return n == 3 && s[0] == 0xE2 &&
           ((s[1] == 0x80 && s[2] >= 0xA8 && s[2] <= 0xAE) || /* U+2028..U+202E */
            (s[1] == 0x81 && s[2] >= 0xA6 && s[2] <= 0xA9));  /* U+2066..U+2069 */
}

bool tvlm_printable(const char *text, tvlm_utf8_part part)
{
    return part.kind == TVLM_UTF8_WHOLE && !is_control(text, part.len);
}

size_t tvlm_clean(tvlm_str text, char *out)
{
    size_t end = 0;
    for (size_t i = 0; i < text.len;) {
        tvlm_utf8_part part = tvlm_utf8_first(text.data + i, text.len - i);
        bool shows = tvlm_printable(text.data + i, part);
        bool space = text.data[i] == '\n' || text.data[i] == '\t';
        const char *c = shows ? text.data + i : space ? " " : REPLACEMENT;
        size_t n = shows ? part.len : space ? 1 : sizeof REPLACEMENT - 1;
        memcpy(out + end, c, n);
        end += n;
        i += part.len;
    }
    return end;
}

size_t tvlm_clip(tvlm_str text, size_t most)
{
    size_t end = 0;
    while (end < text.len) {
        size_t n = tvlm_utf8_first(text.data + end, text.len - end).len;
        if (n > most - end) break;
        end += n;
    }
    return end;
}

tvlm_shown tvlm_show(tvlm_str text)
{
    enum { MOST = (sizeof((tvlm_shown *)0)->text - sizeof "...") / 3 };
    tvlm_shown out;
    size_t kept = tvlm_clip(text, MOST);
    size_t end = tvlm_clean((tvlm_str){text.data, kept}, out.text);
    memcpy(out.text + end, kept < text.len ? "..." : "", kept < text.len ? 4 : 1);
    return out;
}
