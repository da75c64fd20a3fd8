/* SPDX-License-Identifier: MIT
 * im2col of one output row, for float and u7 maps; inner to nn. */
#ifndef TVLM_WINDOW_H
#define TVLM_WINDOW_H

#include <stddef.h>

typedef struct tvlm_window {
    size_t h, w, c, ow; /* input map, output width */
    unsigned k, stride, pad_top, pad_left;
} tvlm_window;

/* columns[ow][k][k][c] of output row oy; elements of `size` bytes; outside pixels hold *pad. */
void tvlm_window_row(const tvlm_window *window, const void *x, const void *pad, size_t size,
                     size_t oy, void *columns);

/* Output rows of a depthwise task, from the shape alone. */
size_t tvlm_nn_dw_rows(size_t ow, size_t c);

#endif
