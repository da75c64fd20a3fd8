/* SPDX-License-Identifier: MIT
 * The two passes of a resize, the reference. */
#include "kernels/scalar/scalar.h"

/* The product of a byte and tap t, modulo 2^32 as the sums are. */
static uint32_t product(uint8_t x, const tvlm_resize_taps *taps, size_t t)
{
    return (uint32_t)x * ((uint32_t)taps->low[t] + (uint32_t)taps->high[t] * 65536);
}

static uint8_t clip8(uint32_t sum)
{
    int32_t value = (int32_t)sum;
    if (value < 0) return 0;
    value >>= TVLM_RESIZE_BITS;
    return (uint8_t)(value > 255 ? 255 : value);
}

static void resize_across_scalar(uint8_t *y, const uint8_t *x, const tvlm_resize_taps *taps,
                                 size_t n)
{
    for (size_t i = 0; i < n; i++, taps++)
        for (size_t c = 0; c < TVLM_RESIZE_CHANNELS; c++) {
            uint32_t sum = 1u << (TVLM_RESIZE_BITS - 1);
            for (size_t t = 0; t < taps->n; t++)
                sum += product(x[(taps->first + t) * TVLM_RESIZE_CHANNELS + c], taps, t);
            *y++ = clip8(sum);
        }
}

static void resize_down_scalar(uint8_t *y, const uint8_t *const *rows, const tvlm_resize_taps *taps,
                               size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t sum = 1u << (TVLM_RESIZE_BITS - 1);
        for (size_t t = 0; t < taps->n; t++)
            sum += product(rows[t][i], taps, t);
        y[i] = clip8(sum);
    }
}

void tvlm_scalar_install_resize(tvlm_kernels *table)
{
    table->resize_across = resize_across_scalar;
    table->resize_down = resize_down_scalar;
}
