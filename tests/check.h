/* SPDX-License-Identifier: MIT
 * What a status must be, with the message where it is another. Include after cmocka.h; `err` is the
 * tvlm_error that the calls wrote. */
#ifndef TVLM_TESTS_CHECK_H
#define TVLM_TESTS_CHECK_H

#include <string.h>

#define OK(expr)                                                                                   \
    do {                                                                                           \
        if ((expr) != TVLM_OK) fail_msg("%s: %s", #expr, err.message);                             \
    } while (0)
#define IS(code, expr) assert_int_equal(expr, TVLM_ERR_##code)
#define SAYS(text)                                                                                 \
    do {                                                                                           \
        if (!strstr(err.message, text)) fail_msg("'%s' does not say '%s'", err.message, text);     \
    } while (0)

#endif
