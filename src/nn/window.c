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

/* Bytes of a kernel row; those of a 3x3 kernel over RGB, u7 or float, without a call. */
static unsigned char *put_row(unsigned char *out, const unsigned char *x, size_t bytes)
{
    if (bytes == 9)
        memcpy(out, x, 9);
    else if (bytes == 36)
        memcpy(out, x, 36);
    else
        memcpy(out, x, bytes);
    return out + bytes;
}

void tvlm_window_row(const tvlm_window *window, const void *x, const void *pad, size_t size,
                     size_t oy, void *columns)
{
    const unsigned char *in = x;
    unsigned char *out = columns;
    size_t pixel = window->c * size, k = window->k, rest = window->ld - k * k * window->c;
    for (size_t ox = 0; ox < window->ow; ox++) {
        size_t left = ox * window->stride - window->pad_left; /* wraps before the map */
        bool inside = left < window->w && window->w - left >= k;
        for (size_t i = 0; i < k; i++) {
            size_t y = oy * window->stride + i - window->pad_top; /* likewise */
            size_t row = y * window->w;
            if (inside && y < window->h) {
                out = put_row(out, in + (row + left) * pixel, k * pixel);
                continue;
            }
            for (size_t col = left; col != left + k; col++)
                out = y < window->h && col < window->w
                          ? put_row(out, in + (row + col) * pixel, pixel)
                          : put_pad(out, pad, size, window->c);
        }
        out = put_pad(out, pad, size, rest);
    }
}
