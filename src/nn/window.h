/* SPDX-License-Identifier: MIT
 * im2col of one output row, for float and u7 maps; inner to nn. */
#ifndef TVLM_WINDOW_H
#define TVLM_WINDOW_H

#include <stdbool.h>
#include <stddef.h>

typedef struct tvlm_window {
    size_t h, w, c, ow; /* input map, output width */
    size_t ld;          /* elements from a column to the next, >= k*k*c; the rest holds the pad */
    unsigned k, stride, pad_top, pad_left;
} tvlm_window;

/* columns[ow][ld], of them [k][k][c] of output row oy; elements of `size` bytes; outside pixels
 * hold *pad. */
void tvlm_window_row(const tvlm_window *window, const void *x, const void *pad, size_t size,
                     size_t oy, void *columns);

#endif
