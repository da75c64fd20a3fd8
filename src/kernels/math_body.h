/* SPDX-License-Identifier: MIT
 * The algorithms, over a float-like type F (see math.h). Included once per instance; it uses and
 * then undefines F, FN(name), SET(constant), FMA, NABS(x) = -|x|, MIN, MAX and
 * POW2(t) = 2^(t - pow2 magic).
 * The coefficients are weighted minimax fits; tests/kernels measures the errors stated here. */

/* 2^r, |r| <= 1/2: relative error 1.9e-9 before rounding. */
static inline F FN(tvlm_exp2_poly)(F r)
{
    F p = SET(1.534580796e-4f);
    p = FMA(p, r, SET(1.339993157e-3f));
    p = FMA(p, r, SET(9.618488975e-3f));
    p = FMA(p, r, SET(5.550328776e-2f));
    p = FMA(p, r, SET(2.402264689e-1f));
    p = FMA(p, r, SET(6.931472057e-1f));
    return FMA(p, r, SET(1.0f));
}

/* 2^x for -125 <= x <= 0, 2^-125 below: relative error below 2 eps (eps = 2^-24). */
static inline F FN(tvlm_exp2_)(F x)
{
    x = MAX(SET(-125.0f), x);
    F t = x + SET(TVLM_POW2_MAGIC);
    F r = x - (t - SET(TVLM_POW2_MAGIC));
    return FN(tvlm_exp2_poly)(r) * POW2(t);
}

/* e^x for -87 <= x <= 88, that of the nearer end beyond: below 2 eps (2.2 unfused) relative.
 * log2(e) is split in two so that the reduced argument keeps its low bits. */
static inline F FN(tvlm_exp)(F x)
{
    x = MIN(SET(88.0f), MAX(SET(-87.0f), x));
    F t = FMA(x, SET(0x1.715476p+0f), SET(TVLM_POW2_MAGIC));
    F n = t - SET(TVLM_POW2_MAGIC);
#if TVLM_UNFUSED /* x - n ln 2 in two exact-enough steps: n times the first part has no rounding   \
                  */
    F r = ((x - n * SET(0x1.62e4p-1f)) - n * SET(0x1.7f7d1cp-20f)) * SET(0x1.715476p+0f);
#else
    F r = FMA(x, SET(0x1.715476p+0f), -n);
    r = FMA(x, SET(0x1.4ae0cp-26f), r);
#endif
    return FN(tvlm_exp2_poly)(r) * POW2(t);
}

static inline F FN(tvlm_sigmoid)(F x)
{
    return SET(1.0f) / (SET(1.0f) + FN(tvlm_exp)(-x));
}

static inline F FN(tvlm_silu)(F x)
{
    return x / (SET(1.0f) + FN(tvlm_exp)(-x));
}

/* x/2 (1 + erf(x / sqrt 2)) = max(x, 0) + a Q(-a), a = -|x|, with Q the upper tail of the normal
 * distribution; Q^(-1/8) is close to a polynomial. |error| <= 4 eps max(|x|, 1), which is dust
 * beside x but not beside gelu(x) far out on the negative side: the relative error is below 1e-4
 * down to -4, 2e-2 at -5, and from -6.5 on the result stays -4e-10. */
static inline F FN(tvlm_gelu)(F x)
{
    F a = MAX(SET(-6.5f), NABS(x));
    F p = SET(3.354196451e-06f);
    p = FMA(p, a, SET(2.037774539e-05f));
    p = FMA(p, a, SET(0.0001180734544f));
    p = FMA(p, a, SET(-8.753873408e-05f));
    p = FMA(p, a, SET(0.001125545823f));
    p = FMA(p, a, SET(-0.009315869771f));
    p = FMA(p, a, SET(0.04887036979f));
    p = FMA(p, a, SET(-0.1087520123f));
    p = FMA(p, a, SET(1.090508342f));
    p = p * p;
    p = p * p;
    return a / (p * p) + MAX(SET(0.0f), x);
}

/* GELU by its tanh: x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3). The exponential's error
 * grows with 2u: relative to gelu(x), below 4e-6 where that is above 1e-8. */
static inline F FN(tvlm_gelu_tanh)(F x)
{
    F w = x * FMA(x * x, SET(-0.0713548162726f), SET(-1.5957691216057f)); /* -2u */
    return x / (SET(1.0f) + FN(tvlm_exp)(w));
}

#undef F
#undef FN
#undef SET
#undef FMA
#undef NABS
#undef MIN
#undef MAX
#undef POW2
