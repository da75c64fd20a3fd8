/* SPDX-License-Identifier: MIT
 * What the machine can do at most, measured: the yardstick of `tinyvlm bench`. */
#ifndef APP_PEAKS_H
#define APP_PEAKS_H

#include <stdbool.h>

typedef enum cli_peak_kind { PEAK_F32, PEAK_BF16, PEAK_INT8, PEAK_MEMORY, N_PEAKS } cli_peak_kind;

typedef struct cli_peak {
    const char *name;         /* "f32", "bf16", "int8", "memory" */
    const char *instructions; /* NULL: this CPU, or this build, has none for it */
    double one, all;          /* billions a second of operations, or of bytes read */
} cli_peak;

/* Takes about a second. all: with n_threads of them. False when out of memory or threads. */
bool cli_measure_peaks(unsigned n_threads, cli_peak out[N_PEAKS]);

#endif
