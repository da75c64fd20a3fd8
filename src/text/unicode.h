/* SPDX-License-Identifier: MIT
 * UTF-8 and the Unicode properties that tokenizers ask for (frozen tables, see unicode_tables.h).
 *
 * Text may be any bytes: a byte that is no part of a well-formed character is a character of its
 * own, TVLM_INVALID + byte, which no table knows: it is neither letter, number nor space, never
 * changes under normalisation, and is written back as that byte. */
#ifndef TVLM_UNICODE_H
#define TVLM_UNICODE_H

#include "base/base.h"

#define TVLM_INVALID        0x110000u
#define TVLM_MAX_DECOMPOSED 4 /* code points of the longest full canonical decomposition */

/* Reads the character at text[*pos], *pos < len, and moves *pos behind it. */
uint32_t tvlm_utf8_next(const char *text, size_t len, size_t *pos);
/* Writes a character to out (room for 4 bytes) and returns its length. */
size_t tvlm_utf8_put(uint32_t c, char *out);

/* Bits, so that a set of classes is a mask. */
typedef enum tvlm_char_class {
    TVLM_CHAR_OTHER = 1,
    TVLM_CHAR_LETTER = 2,  /* \p{L}, Unicode 16 */
    TVLM_CHAR_NUMBER = 4,  /* \p{N}, Unicode 16 */
    TVLM_CHAR_SPACE = 8,   /* White_Space */
    TVLM_CHAR_NUMERIC = 16 /* OTHER to the regexes, \p{N} to the Digits pre-tokenizer */
} tvlm_char_class;
tvlm_char_class tvlm_unicode_class(uint32_t c);
/* \w of Rust's regexes, Unicode 16: letters, marks, digits, connecting punctuation. */
bool tvlm_unicode_word(uint32_t c);

uint32_t tvlm_unicode_combining(uint32_t c); /* canonical combining class, 0..254 */
/* Whether NFC may change c, or what stands before c. */
bool tvlm_unicode_unsafe(uint32_t c);
/* The full canonical decomposition, 1..TVLM_MAX_DECOMPOSED characters; returns how many. */
size_t tvlm_unicode_decompose(uint32_t c, uint32_t out[TVLM_MAX_DECOMPOSED]);
/* The primary composite of a and b, or 0. */
uint32_t tvlm_unicode_compose(uint32_t a, uint32_t b);

#endif
