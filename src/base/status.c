/* SPDX-License-Identifier: MIT
 * Errors, version, cancelling, byte slices. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

const char *tvlm_version(void)
{
    return STRING(TVLM_VERSION_MAJOR) "." STRING(TVLM_VERSION_MINOR) "." STRING(TVLM_VERSION_PATCH);
}

const char *tvlm_status_name(tvlm_status status)
{
    switch (status) {
    case TVLM_OK:
        return "ok";
    case TVLM_ERR_ARGUMENT:
        return "argument";
    case TVLM_ERR_IO:
        return "io";
    case TVLM_ERR_FORMAT:
        return "format";
    case TVLM_ERR_UNSUPPORTED:
        return "unsupported";
    case TVLM_ERR_MEMORY:
        return "memory";
    case TVLM_ERR_LIMIT:
        return "limit";
    case TVLM_ERR_CONTEXT:
        return "context";
    case TVLM_ERR_CANCELLED:
        return "cancelled";
    case TVLM_ERR_CHECKSUM:
        return "checksum";
    case TVLM_ERR_STATE:
        return "state";
    }
    return "unknown";
}

/* Bytes of the well-formed, printable UTF-8 character at s (Unicode 15, table 3-7), else 0. The
 * terminator ends a truncated character, so nothing is read past it. */
static size_t printable_length(const unsigned char *s)
{
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7F;
    unsigned char low = 0x80, high = 0xBF; /* range of the second byte */
    size_t n;
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        n = 2;
        low = s[0] == 0xC2 ? 0xA0 : low; /* U+0080..U+009F are controls */
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        n = 3;
        low = s[0] == 0xE0 ? 0xA0 : low;   /* shortest form only */
        high = s[0] == 0xED ? 0x9F : high; /* no surrogates */
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        n = 4;
        low = s[0] == 0xF0 ? 0x90 : low;
        high = s[0] == 0xF4 ? 0x8F : high;
    } else {
        return 0;
    }
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xBF) return 0;
    return n;
}

/* Messages quote names from files and arguments, which may hold anything, and may be cut inside a
 * character: what is left is one line of valid UTF-8. */
static void make_one_line(char *message)
{
    for (unsigned char *s = (unsigned char *)message; *s;) {
        size_t n = printable_length(s);
        if (n == 0) *s = '?';
        s += n ? n : 1;
    }
}

tvlm_status tvlm_fail(tvlm_error *err, tvlm_status code, const char *format, ...)
{
    if (!err) return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    if (vsnprintf(err->message, sizeof err->message, format, args) < 0) err->message[0] = '\0';
    va_end(args);
    make_one_line(err->message);
    return code;
}

tvlm_cancel *tvlm_cancel_new(void)
{
    tvlm_cancel *cancel = calloc(1, sizeof *cancel);
    if (cancel) atomic_init(&cancel->requested, false);
    return cancel;
}

void tvlm_cancel_free(tvlm_cancel *cancel)
{
    free(cancel);
}

void tvlm_cancel_set_poll(tvlm_cancel *cancel, bool (*poll)(void *user), void *user)
{
    if (!cancel) return;
    cancel->poll = poll;
    cancel->user = user;
}

void tvlm_cancel_request(tvlm_cancel *cancel)
{
    if (cancel) atomic_store_explicit(&cancel->requested, true, memory_order_relaxed);
}

void tvlm_cancel_reset(tvlm_cancel *cancel)
{
    if (cancel) atomic_store_explicit(&cancel->requested, false, memory_order_relaxed);
}

bool tvlm_str_eq(tvlm_str s, const char *literal)
{
    return s.len == strlen(literal) && (s.len == 0 || memcmp(s.data, literal, s.len) == 0);
}
