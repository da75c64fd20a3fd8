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
 * distribution. log2 Q is smooth: a polynomial on [-6, 0], then 2^ by one of degree 5; what is left
 * at -6 is 6e-9. |error| <= 2 eps max(|x|, 1); nothing cancels on the negative side: its relative
 * error stays below 1.6e-5 down to -5. */
static inline F FN(tvlm_gelu)(F x)
{
    F a = MAX(SET(-6.0f), NABS(x));
    F v = SET(-7.176972758e-07f);
    v = FMA(v, a, SET(-1.171752047e-05f));
    v = FMA(v, a, SET(-4.126336717e-05f));
    v = FMA(v, a, SET(0.0005292001297f));
    v = FMA(v, a, SET(0.007653713226f));
    v = FMA(v, a, SET(0.05299126357f));
    v = FMA(v, a, SET(-0.458988905f));
    v = FMA(v, a, SET(1.151149988f));
    v = FMA(v, a, SET(-0.9999970198f));
    F t = v + SET(TVLM_POW2_MAGIC);
    F r = v - (t - SET(TVLM_POW2_MAGIC));
    F p = SET(1.327647129e-3f);
    p = FMA(p, r, SET(9.675544687e-3f));
    p = FMA(p, r, SET(5.550713465e-2f));
    p = FMA(p, r, SET(2.402212024e-1f));
    p = FMA(p, r, SET(6.93146944e-1f));
    p = FMA(p, r, SET(1.000000119f));
    return FMA(a, p * POW2(t), MAX(SET(0.0f), x));
}

#undef F
#undef FN
#undef SET
#undef FMA
#undef NABS
#undef MIN
#undef MAX
#undef POW2
