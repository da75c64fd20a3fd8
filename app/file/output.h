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
 * after a failure, a cancel, or app_output_unlink_all from a signal handler. Paths are UTF-8. */
#ifndef APP_OUTPUT_H
#define APP_OUTPUT_H

#include "tinyvlm.h"

/* The program's own status, beside the library's: an output cannot be written. */
#define APP_ERR_WRITE ((tvlm_status)100)

typedef struct app_output app_output;

/* TVLM_ERR_ARGUMENT when path, whatever its spelling, is the file `input` or, where input is a
 * folder, a file in it that is not a .gguf. "-" is standard output or input. Call it for every
 * input, before the work. */
tvlm_status app_output_not_input(const char *path, const char *input, tvlm_error *err);

/* Waits for the reader of a FIFO. Folders and read-only files are refused. cancel: nullable. */
tvlm_status app_output_open(const char *path, const tvlm_cancel *cancel, app_output **out,
                            tvlm_error *err);
tvlm_status app_output_write(app_output *o, const void *data, size_t size, tvlm_error *err);
/* Over bytes that were written; the next write appends again. */
tvlm_status app_output_patch(app_output *o, uint64_t offset, const void *data, size_t size,
                             tvlm_error *err);

/* Opens the finished file at `path`, not yet in its place, and says whether it is good. */
typedef tvlm_status (*app_output_check)(void *user, const char *path, tvlm_error *err);
/* Puts the file in its place, once check (nullable) is content; frees o either way. */
tvlm_status app_output_finish(app_output *o, app_output_check check, void *user, tvlm_error *err);
void app_output_abort(app_output *o); /* nullable */

void app_output_unlink_all(void); /* async-signal-safe; for a process that ends at once */

#endif
