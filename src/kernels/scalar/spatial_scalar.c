/* SPDX-License-Identifier: MIT
 * Depthwise convolution, the reference. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"

/* The chain of an output starts at its bias and visits the taps inside the image row by row. */
static void dwconv_scalar(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    size_t channels = args->c * args->mult;
    for (size_t oy = oy0; oy < oy1; oy++)
        for (size_t ox = 0; ox < args->ow; ox++)
            for (size_t o = 0; o < channels; o++) {
                float acc = args->bias ? args->bias[o] : 0.0f;
                for (size_t i = 0; i < args->k; i++)
                    for (size_t j = 0; j < args->k; j++) {
                        size_t iy = oy * args->stride + i - args->pad_top;  /* wraps above 0: */
                        size_t ix = ox * args->stride + j - args->pad_left; /* then >= h or w */
                        if (iy >= args->h || ix >= args->w) continue;
                        acc = tvlm_fma1(args->x[(iy * args->w + ix) * args->c + o / args->mult],
                                        args->weight[(i * args->k + j) * channels + o], acc);
                    }
                args->y[(oy * args->ow + ox) * channels + o] = tvlm_scalar_act(args->act, acc);
            }
}

void tvlm_scalar_install_spatial(tvlm_kernels *table)
{
    table->dwconv = dwconv_scalar;
}
