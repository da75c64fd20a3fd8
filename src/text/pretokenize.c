/* SPDX-License-Identifier: MIT
 * The regexes by hand, alternatives in the order of the reference: the first that matches wins.
 * \p{L}, \p{N}, \s are character classes (unicode.h); a class set is a bit mask. */
#include "text/pretokenize.h"
#include "text/unicode.h"

#define CLASS_END 0x80u /* the end of the text */

typedef struct scan {
    const char *text;
    size_t len;
    bool digits_apart; /* a digit ends the text (it is a piece of its own) */
} scan;

/* The class of the character at pos; *next: behind it. */
static unsigned class_at(const scan *s, size_t pos, size_t *next)
{
    *next = pos;
    if (pos >= s->len) return CLASS_END;
    unsigned class = tvlm_unicode_class(tvlm_utf8_next(s->text, s->len, next));
    if (s->digits_apart && (class & (TVLM_CHAR_NUMBER | TVLM_CHAR_NUMERIC))) {
        *next = pos;
        return CLASS_END;
    }
    return class == TVLM_CHAR_NUMERIC ? TVLM_CHAR_OTHER : class;
}

/* Behind the longest run of characters of the class from pos on. */
static size_t run_end(const scan *s, size_t pos, unsigned class)
{
    size_t next;
    while (class_at(s, pos, &next) == class)
        pos = next;
    return pos;
}

static bool is_newline(char c)
{
    return c == '\r' || c == '\n';
}

/* Bytes of 's|'t|'re|'ve|'m|'ll|'d at pos, else 0. Ignoring case, Unicode folds U+017F to s. */
static size_t contraction(const scan *s, size_t pos, bool ignore_case)
{
    const char *p = s->text + pos;
    size_t left = s->len - pos;
    if (left < 2 || p[0] != '\'') return 0;
    char fold = ignore_case ? 0x20 : 0;
    char a = (char)(p[1] | fold), b = left > 2 ? (char)(p[2] | fold) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (a == 'r' || a == 'v') return b == 'e' ? 3 : 0;
    if (a == 'l') return b == 'l' ? 3 : 0;
    return ignore_case && left > 2 && p[1] == '\xC5' && p[2] == '\xBF' ? 3 : 0;
}

/* \s+(?!\S)|\s+ : all of the run at the end of the text, else all but its last character, which
 * goes with the next word, unless it is the only one. */
static size_t spaces_end(const scan *s, size_t begin)
{
    size_t pos = begin, last = begin, next;
    unsigned class;
    while ((class = class_at(s, pos, &next)) == TVLM_CHAR_SPACE) {
        last = pos;
        pos = next;
    }
    return class == CLASS_END || last == begin ? pos : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2_end(const scan *s, size_t begin)
{
    size_t n = contraction(s, begin, false), next;
    if (n) return begin + n;
    size_t start = begin + (s->text[begin] == ' ');
    unsigned class = class_at(s, start, &next);
    if (class & (TVLM_CHAR_LETTER | TVLM_CHAR_NUMBER | TVLM_CHAR_OTHER))
        return run_end(s, next, class);
    return spaces_end(s, begin);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
 *  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t qwen2_end(const scan *s, size_t begin, int digits)
{
    size_t n = contraction(s, begin, true), next, end;
    if (n) return begin + n;

    /* [^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits} */
    unsigned class = class_at(s, begin, &next);
    if (class == TVLM_CHAR_LETTER) return run_end(s, next, TVLM_CHAR_LETTER);
    if (class == TVLM_CHAR_NUMBER) {
        size_t pos = next;
        while (--digits > 0 && class_at(s, pos, &next) == TVLM_CHAR_NUMBER)
            pos = next;
        return pos;
    }
    if (!is_newline(s->text[begin])) {
        end = run_end(s, next, TVLM_CHAR_LETTER);
        if (end > next) return end;
    }

    /*  ?[^\s\p{L}\p{N}]+[\r\n]* */
    size_t start = begin + (s->text[begin] == ' ');
    end = run_end(s, start, TVLM_CHAR_OTHER);
    if (end > start) {
        while (end < s->len && is_newline(s->text[end]))
            end++;
        return end;
    }

    /* \s*[\r\n]+ : up to the last line end of the run of spaces */
    size_t newline = begin;
    for (size_t pos = begin; class_at(s, pos, &next) == TVLM_CHAR_SPACE; pos = next)
        if (is_newline(s->text[pos])) newline = next;
    return newline > begin ? newline : spaces_end(s, begin);
}

size_t tvlm_pretoken_end(tvlm_pretokenizer pre, const char *text, size_t len, size_t begin)
{
    scan s = {text, len, false};
    if (pre == TVLM_PRE_QWEN2) return qwen2_end(&s, begin, 1);
    if (pre == TVLM_PRE_LLAMA3) return qwen2_end(&s, begin, 3);
    if (pre == TVLM_PRE_SMOLLM) {
        size_t next = begin;
        if (tvlm_unicode_class(tvlm_utf8_next(text, len, &next)) &
            (TVLM_CHAR_NUMBER | TVLM_CHAR_NUMERIC))
            return next;
        s.digits_apart = true;
    }
    return gpt2_end(&s, begin);
}
