/* SPDX-License-Identifier: MIT */
#include "common/common.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In place: what is not printable becomes "?". Where it was cut it ends in "...". */
static void make_one_line(char *message, size_t len, bool cut)
{
    size_t end = 0, most = cut ? len - 3 : len;
    app_character c;
    for (size_t i = 0; i < most; i += c.len) {
        c = app_first_character(message + i, len - i);
        if (i + c.len > most) break;
        bool shows = app_is_printable(c.code);
        memmove(message + end, shows ? message + i : "?", shows ? c.len : 1);
        end += shows ? c.len : 1;
    }
    strcpy(message + end, cut ? "..." : "");
}

tvlm_status app_fail(tvlm_error *err, tvlm_status code, const char *format, ...)
{
    if (!err) return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n < 0) err->message[0] = 0;
    make_one_line(err->message, strlen(err->message), n >= (int)sizeof err->message);
    return code;
}
