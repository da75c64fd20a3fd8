/* SPDX-License-Identifier: MIT
 * The angles and their sines in double, from IEEE operations alone: +, *, /, rint, frexp and ldexp
 * are exact or correctly rounded everywhere, while pow, sin and cos differ between C libraries. */
#include "lm/rope.h"

#include <math.h>

#define LN2 6.93147180559945309417e-01

/* ln x, x > 0: x = m 2^e with m in [1/sqrt 2, sqrt 2); ln m = 2 atanh(s), s = (m-1)/(m+1). */
static double natural_log(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752440) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), z = s * s, sum = 0;
    for (int k = 23; k > 0; k -= 2) /* |s| < 0.172: the first term left out is below 1e-20 */
        sum = sum * z + 1.0 / k;
    return 2 * s * sum + e * LN2;
}

/* e^x, |x| < 700: x = n ln 2 + r with |r| < 0.35, then Taylor. */
static double exponential(double x)
{
    double n = rint(x / LN2), r = x - n * LN2, sum = 1;
    for (int k = 16; k > 0; k--)
        sum = 1 + sum * r / k;
    return ldexp(sum, (int)n);
}

void tvlm_rope_frequencies(double *inv_freq, size_t d, double theta)
{
    double ln_theta = natural_log(theta);
    for (size_t i = 0; i < d / 2; i++)
        inv_freq[i] = exponential(-ln_theta * (double)(2 * i) / (double)d);
}

/* pi/2 in two parts: the first has 33 significant bits, so that its product with a quadrant number
 * up to 2^20 is exact. */
#define HALF_PI_HIGH 1.57079632673412561417e+00
#define HALF_PI_LOW  6.07710050650619224932e-11

/* sum of x^(2k)/(2k+first)! with alternating signs: Taylor on [-pi/4, pi/4] to below 1e-13. */
static double taylor(double z, int first)
{
    double sum = 1;
    for (int k = 14 - first; k > first; k -= 2)
        sum = 1 - sum * z / (double)(k * (k - 1));
    return sum;
}

static void sin_cos(double angle, double *sine, double *cosine)
{
    double quadrant = rint(angle * 0.63661977236758134308); /* 2/pi */
    double x = (angle - quadrant * HALF_PI_HIGH) - quadrant * HALF_PI_LOW, z = x * x;
    double s = x * taylor(z, 1), c = taylor(z, 0);
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
