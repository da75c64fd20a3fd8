/* SPDX-License-Identifier: MIT
 * What every folder of the program needs beside tinyvlm.h: errors, and text that may be any bytes.
 */
#ifndef APP_COMMON_H
#define APP_COMMON_H

#include "tinyvlm.h"

#if defined(__clang__)
#define APP_PRINTF(f, a) __attribute__((format(printf, f, a)))
#elif defined(__GNUC__) /* whose printf is an old one on Windows */
#define APP_PRINTF(f, a) __attribute__((format(gnu_printf, f, a)))
#else
#define APP_PRINTF(f, a)
#endif

#define APP_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- errors ---- */

/* Fills err (nullable) and returns code, so that `return app_fail(...)` reads as one act. Whatever
 * the names that it quotes hold, the message is one line that can be shown. */
tvlm_status app_fail(tvlm_error *err, tvlm_status code, const char *format, ...) APP_PRINTF(3, 4);

#define APP_TRY(expr)                                                                              \
    do {                                                                                           \
        tvlm_status try_status = (expr);                                                           \
        if (try_status != TVLM_OK) return try_status;                                              \
    } while (0)

/* ---- text ---- */

#define APP_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define APP_ILL         0x110000u

/* A character of UTF-8, or APP_ILL: the bytes in the place of one, as many as browsers and Python
 * replace by one U+FFFD. */
typedef struct app_character {
    uint32_t code;
    size_t len;
} app_character;
/* What text[0..len), len > 0, begins with. */
app_character app_first_character(const char *text, size_t len);

bool app_is_space(uint32_t code); /* White_Space of Unicode */
/* No control, line separator or change of direction, nor APP_ILL. */
bool app_is_printable(uint32_t code);

/* Both write at most 3 * len bytes, without a terminator, and return how many. The first replaces
 * what is no UTF-8; the second makes one line that can be shown: newlines and tabs become spaces,
 * what is not printable is replaced. */
size_t app_repair(const char *text, size_t len, char *out);
size_t app_clean(const char *text, size_t len, char *out);

#endif
