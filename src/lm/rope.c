/* SPDX-License-Identifier: MIT
 * Sine and cosine by range reduction to [-pi/4, pi/4] and Taylor polynomials, in double. */
#include "lm/rope.h"

#include <math.h>

void tvlm_rope_frequencies(double *inv_freq, size_t d, double theta)
{
    for (size_t i = 0; i < d / 2; i++)
        inv_freq[i] = pow(theta, -(double)(2 * i) / (double)d);
}

/* pi/2 in two parts: the first has 33 significant bits, so that its product with a quadrant number
 * up to 2^20 is exact. */
#define HALF_PI_HIGH 1.57079632673412561417e+00
#define HALF_PI_LOW  6.07710050650619224932e-11

static void sin_cos(double angle, double *sine, double *cosine)
{
    double quadrant = rint(angle * 0.63661977236758134308); /* 2/pi */
    double x = (angle - quadrant * HALF_PI_HIGH) - quadrant * HALF_PI_LOW, z = x * x;
    double s =
        x * (1 + z * (-1.0 / 6 +
                      z * (1.0 / 120 + z * (-1.0 / 5040 +
                                            z * (1.0 / 362880 + z * (-1.0 / 39916800 +
                                                                     z * (1.0 / 6227020800.0)))))));
    double c =
        1 + z * (-1.0 / 2 +
                 z * (1.0 / 24 + z * (-1.0 / 720 +
                                      z * (1.0 / 40320 + z * (-1.0 / 3628800 +
                                                              z * (1.0 / 479001600 +
                                                                   z * (-1.0 / 87178291200.0)))))));
    switch ((int64_t)quadrant & 3) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
        break;
    }
}

void tvlm_rope_table(float *cs, const double *inv_freq, size_t d, uint32_t position)
{
    for (size_t i = 0; i < d / 2; i++) {
        double s, c;
        sin_cos((double)position * inv_freq[i], &s, &c);
        cs[i] = (float)c;
        cs[i + d / 2] = (float)s;
    }
}
