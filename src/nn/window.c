/* SPDX-License-Identifier: MIT */
#include "nn/window.h"

#include <string.h>

/* n copies of the pad element. */
static unsigned char *put_pad(unsigned char *out, const void *pad, size_t size, size_t n)
{
    for (size_t i = 0; i < n; i++, out += size)
        memcpy(out, pad, size);
    return out;
}

void tvlm_window_row(const tvlm_window *window, const void *x, const void *pad, size_t size,
                     size_t oy, void *columns)
{
    unsigned char *out = columns;
    size_t pixel = window->c * size;
    for (size_t ox = 0; ox < window->ow; ox++) {
        for (unsigned i = 0; i < window->k; i++) {
            size_t y = oy * window->stride + i - window->pad_top; /* wraps above the map */
            for (unsigned j = 0; j < window->k; j++) {
                size_t col = ox * window->stride + j - window->pad_left;
                if (y >= window->h || col >= window->w) {
                    out = put_pad(out, pad, size, window->c);
                    continue;
                }
                memcpy(out, (const unsigned char *)x + (y * window->w + col) * pixel, pixel);
                out += pixel;
            }
        }
    }
}
