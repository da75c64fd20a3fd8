/* SPDX-License-Identifier: MIT
 * Standard output: a write that fails is an error of the command, found early and at the end. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#ifndef _WIN32
#include <unistd.h>
#endif

/* A descriptor closed at the start would go to the next file that is opened, and our text with it.
 * Those put in its place are open the wrong way, so that using them fails. */
void cli_standard_streams(void)
{
#ifndef _WIN32
    static const int wrong[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", wrong[fd]) < 0)
            (void)!open("/", O_RDONLY); /* no /dev here */
#endif
}

static int failure; /* errno of the first write that failed */

bool cli_flush(void)
{
    int before = errno; /* of a printf that failed, where this finds nothing left to write */
    if (failure) return false;
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) failure = errno ? errno : before ? before : EIO;
    return !failure;
}

int cli_finish(int code)
{
    if (cli_flush() && fclose(stdout) != 0) failure = errno;
    if (code && cli_signal()) return EXIT_SIGNAL + cli_signal();
    if (!failure) return code;
#ifdef EPIPE
    if (failure == EPIPE) return EXIT_READER_LEFT; /* `| head -1` has what it wanted */
#endif
    fprintf(stderr, "tinyvlm: cannot write to standard output: %s\n", strerror(failure));
    return EXIT_RUN;
}
