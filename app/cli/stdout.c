/* SPDX-License-Identifier: MIT
 * Standard output: a write that fails is an error of the command, found early and at the end. */
#include "cli/cli.h"
#include "system/system.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int failure; /* errno of the first write that failed */

bool cli_flush(void)
{
    int before = errno; /* of a printf that failed, where this finds nothing left to write */
    if (failure) return false;
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) failure = errno ? errno : before ? before : EIO;
    return !failure;
}

void cli_flush_again(void)
{
    if (failure != EINTR) return;
    failure = 0;
    clearerr(stdout);
}

int cli_finish(int code)
{
    if (cli_flush() && fclose(stdout) != 0) failure = errno;
    int stopped = code && cli_signal() ? EXIT_SIGNAL + cli_signal() : 0;
    if (stopped && failure == EINTR)
        app_sys_exit(stopped); /* exit would wait for the reader again */
    if (stopped) return stopped;
    if (!failure) return code;
#ifdef EPIPE
    if (failure == EPIPE) return EXIT_READER_LEFT; /* `| head -1` has what it wanted */
#endif
    fprintf(stderr, "tinyvlm: cannot write to standard output: %s\n", strerror(failure));
    return EXIT_RUN;
}
