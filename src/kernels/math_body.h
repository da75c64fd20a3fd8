/* SPDX-License-Identifier: MIT
 * The algorithms, over a float-like type F (see math.h). Included once per instance; it uses and
 * then undefines F, FN(name), SET(constant), FMA, ABS, MIN, MAX, SCALE2(p, t) = p * 2^(t-magic) and
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

/* e^x: below 2 eps (2.2 unfused) relative where the result is normal (eps = 2^-24); 0 and infinity
 * beyond. log2(e) is split in two so that the reduced argument keeps its low bits. */
static inline F FN(tvlm_exp)(F x)
{
    x = MIN(SET(89.0f), MAX(SET(-105.0f), x));
    F t = FMA(x, SET(0x1.715476p+0f), SET(TVLM_ROUND_MAGIC));
    F n = t - SET(TVLM_ROUND_MAGIC);
#if TVLM_UNFUSED /* x - n ln 2 in two exact-enough steps: n times the first part has no rounding   \
                  */
    F r = ((x - n * SET(0x1.62e4p-1f)) - n * SET(0x1.7f7d1cp-20f)) * SET(0x1.715476p+0f);
#else
    F r = FMA(x, SET(0x1.715476p+0f), -n);
    r = FMA(x, SET(0x1.4ae0cp-26f), r);
#endif
    return SCALE2(FN(tvlm_exp2_poly)(r), t);
}

static inline F FN(tvlm_sigmoid)(F x)
{
    return SET(1.0f) / (SET(1.0f) + FN(tvlm_exp)(-x));
}

static inline F FN(tvlm_silu)(F x)
{
    return x / (SET(1.0f) + FN(tvlm_exp)(-x));
}

/* x/2 (1 + erf(x / sqrt 2)) = max(x, 0) - |x| Q(|x|) with Q the upper tail of the normal
 * distribution. log2 Q is smooth: a polynomial on [0, 10], then 2^. Nothing cancels on the
 * negative side: its relative error stays below 4e-6 down to -5. */
static inline F FN(tvlm_gelu)(F x)
{
    F a = MIN(SET(10.0f), ABS(x));
    F v = SET(4.789774174e-10f);
    v = FMA(v, a, SET(-2.432749066e-08f));
    v = FMA(v, a, SET(5.3054245e-07f));
    v = FMA(v, a, SET(-6.428021642e-06f));
    v = FMA(v, a, SET(4.556363783e-05f));
    v = FMA(v, a, SET(-0.0001584921845f));
    v = FMA(v, a, SET(-0.0002865335298f));
    v = FMA(v, a, SET(0.007354669721f));
    v = FMA(v, a, SET(-0.05277857467f));
    v = FMA(v, a, SET(-0.4590702887f));
    v = FMA(v, a, SET(-1.151135454f));
    v = FMA(v, a, SET(-0.9999978809f));
    F t = v + SET(TVLM_ROUND_MAGIC);
    F r = v - (t - SET(TVLM_ROUND_MAGIC));
    return MAX(SET(0.0f), x) - a * SCALE2(FN(tvlm_exp2_poly)(r), t);
}

#undef F
#undef FN
#undef SET
#undef FMA
#undef ABS
#undef MIN
#undef MAX
#undef SCALE2
#undef POW2
