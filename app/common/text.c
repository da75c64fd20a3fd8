/* SPDX-License-Identifier: MIT */
#include "common/common.h"

#include <string.h>

/* The least and the greatest second byte: shortest forms only, no surrogates, none beyond U+10FFFF
 * (Unicode, table 3-7). */
static bool goes_on(const unsigned char *s, size_t i)
{
    unsigned char least = i > 1 ? 0x80 : s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char most = i > 1 ? 0xBF : s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    return s[i] >= least && s[i] <= most;
}

static size_t length_by(unsigned char lead) /* 0: none begins so */
{
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

app_character app_first_character(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n = length_by(s[0]);
    uint32_t code = n == 1 ? s[0] : s[0] & 0x7Fu >> n;
    for (size_t i = 1; i < n; i++) {
        if (i == len || !goes_on(s, i)) return (app_character){APP_ILL, i};
        code = code << 6 | (s[i] & 0x3F);
    }
    return n ? (app_character){code, n} : (app_character){APP_ILL, 1};
}

bool app_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool app_is_printable(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    bool separator_or_turn = (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
    return !control && !separator_or_turn && c != APP_ILL;
}

static size_t put(char *out, const char *text, size_t n)
{
    memcpy(out, text, n);
    return n;
}

size_t app_repair(const char *text, size_t len, char *out)
{
    size_t n = 0;
    for (app_character c; len; text += c.len, len -= c.len) {
        c = app_first_character(text, len);
        n += c.code == APP_ILL ? put(out + n, APP_REPLACEMENT, 3) : put(out + n, text, c.len);
    }
    return n;
}

size_t app_clean(const char *text, size_t len, char *out)
{
    size_t n = 0;
    for (app_character c; len; text += c.len, len -= c.len) {
        c = app_first_character(text, len);
        if (*text == '\n' || *text == '\t')
            n += put(out + n, " ", 1);
        else if (app_is_printable(c.code))
            n += put(out + n, text, c.len);
        else
            n += put(out + n, APP_REPLACEMENT, 3);
    }
    return n;
}
