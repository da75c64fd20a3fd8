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

unsigned tvlm_version_number(void)
{
    return TVLM_VERSION;
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

/* Messages quote names from files and arguments, which may hold anything: what is left is one line
 * of valid UTF-8, ending in "..." where it was cut. */
static void make_one_line(char *message, size_t len, bool cut)
{
    size_t end = 0;
    if (cut) {
        len = tvlm_clip((tvlm_str){message, len}, len - 3);
        memcpy(message + len, "...", 3);
        len += 3;
    }
    for (size_t i = 0; i < len;) {
        tvlm_utf8_part part = tvlm_utf8_first(message + i, len - i);
        bool shows = tvlm_printable(message + i, part);
        memmove(message + end, shows ? message + i : "?", shows ? part.len : 1);
        end += shows ? part.len : 1;
        i += part.len;
    }
    message[end] = '\0';
}

tvlm_status tvlm_fail(tvlm_error *err, tvlm_status code, const char *format, ...)
{
    if (!err) return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n < 0) err->message[0] = '\0';
    make_one_line(err->message, strlen(err->message), n >= (int)sizeof err->message);
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

bool tvlm_cancel_requested(const tvlm_cancel *cancel)
{
    return tvlm_cancelled(cancel);
}

bool tvlm_str_eq(tvlm_str s, const char *literal)
{
    return s.len == strlen(literal) && (s.len == 0 || memcmp(s.data, literal, s.len) == 0);
}
