/* SPDX-License-Identifier: MIT
 * The one way in which the program writes a file.
 *
 *   output        written                                             the target until finish
 *   new, regular  to a temporary beside it, renamed over it at last   untouched, also when it fails
 *   link          as what it points at; the link stays                the same
 *   device, FIFO  to a temporary in TMPDIR, copied into it at last    opened, nothing written
 *   "-"           the same, into standard output                      the same
 *
 * An existing file keeps its permissions. A temporary has a name of its own and is created
 * exclusively: two writers of one output cannot meet, the last rename stays. Nothing is left behind
 * after a failure, a cancel, or tvlm_output_unlink_all from a signal handler. Paths are UTF-8. */
#ifndef TVLM_APP_OUTPUT_H
#define TVLM_APP_OUTPUT_H

#include "base/base.h"

/* The program's own status, beside the library's: an output cannot be written. */
#define TVLM_ERR_WRITE ((tvlm_status)100)

typedef struct tvlm_output tvlm_output;

/* TVLM_ERR_ARGUMENT when path, whatever its spelling, is the file `input` or, where input is a
 * folder, a file in it that is not a .gguf. "-" is standard output or input. Call it for every
 * input, before the work. */
tvlm_status tvlm_output_not_input(const char *path, const char *input, tvlm_error *err);

/* Waits for the reader of a FIFO. Folders and read-only files are refused. cancel: nullable. */
tvlm_status tvlm_output_open(const char *path, const tvlm_cancel *cancel, tvlm_output **out,
                             tvlm_error *err);
tvlm_status tvlm_output_write(tvlm_output *o, const void *data, size_t size, tvlm_error *err);
/* Over bytes that were written; the next write appends again. */
tvlm_status tvlm_output_patch(tvlm_output *o, uint64_t offset, const void *data, size_t size,
                              tvlm_error *err);

/* Opens the finished file at `path`, not yet in its place, and says whether it is good. */
typedef tvlm_status (*tvlm_output_check)(void *user, const char *path, tvlm_error *err);
/* Puts the file in its place, once check (nullable) is content; frees o either way. */
tvlm_status tvlm_output_finish(tvlm_output *o, tvlm_output_check check, void *user,
                               tvlm_error *err);
void tvlm_output_abort(tvlm_output *o); /* nullable */

void tvlm_output_unlink_all(void); /* async-signal-safe; for a process that ends at once */

#endif
