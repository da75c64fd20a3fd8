/* SPDX-License-Identifier: MIT
 * Row kernels over a vector type F of WIDTH floats, 8 or 16, whose operations are FN(name):
 * elements a register at a time, sums in the eight lanes of tvlm_f8 on every tier. Included once
 * by a tier's file, which defines rope_pairs, too. */

/* s: nullable */
TVLM_INLINE void act_row(const tvlm_act act, float *y, const float *x, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i += WIDTH) {
        F v = FN(tvlm_load_n)(x + i, n - i);
        if (s) v = FN(tvlm_mul)(v, FN(tvlm_load_n)(s + i, n - i));
        FN(tvlm_store_n)(y + i, n - i, FN(tvlm_act)(act, v));
    }
}

/* A loop of its own keeps the many constants of GELU in registers. */
static void apply_act(tvlm_act act, float *y, const float *x, size_t n)
{
    if (act == TVLM_ACT_GELU)
        act_row(TVLM_ACT_GELU, y, x, NULL, n);
    else
        act_row(act, y, x, NULL, n);
}

static void scale_act(tvlm_act act, float *y, const float *x, const float *s, size_t n)
{
    if (act == TVLM_ACT_GELU)
        act_row(TVLM_ACT_GELU, y, x, s, n);
    else
        act_row(act, y, x, s, n);
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    const F factor = FN(tvlm_set)(a);
    for (size_t i = 0; i < n; i += WIDTH) {
        F v = FN(tvlm_load_n)(x + i, n - i);
        v = FN(tvlm_fma)(factor, v, FN(tvlm_load_n)(y + i, n - i));
        FN(tvlm_store_n)(y + i, n - i, v);
    }
}

static void silu_mul(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += WIDTH) {
        F v = FN(tvlm_silu)(FN(tvlm_load_n)(gate + i, n - i));
        FN(tvlm_store_n)(y + i, n - i, FN(tvlm_mul)(v, FN(tvlm_load_n)(up + i, n - i)));
    }
}

static float sum_of(const float *x, size_t n)
{
    tvlm_f8 lanes = tvlm_set8(0.0f);
    for (size_t i = 0; i < n; i += 8)
        lanes = tvlm_add8(lanes, tvlm_load_n8(x + i, n - i));
    return tvlm_hsum8(lanes);
}

/* sum of (x - mean)^2 */
static float sum_squares(const float *x, size_t n, float mean)
{
    const tvlm_f8 centre = tvlm_set8(mean), zero = tvlm_set8(0.0f);
    tvlm_f8 lanes = zero;
    for (size_t i = 0; i < n; i += 8) {
        tvlm_f8 d = tvlm_sub8(tvlm_load_n8(x + i, n - i), centre);
        d = tvlm_first8(d, n - i, zero);
        lanes = tvlm_fma8(d, d, lanes);
    }
    return tvlm_hsum8(lanes);
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps)
{
    const F inv = FN(tvlm_set)(1.0f / sqrtf(sum_squares(x, n, 0.0f) / (float)n + eps));
    for (size_t i = 0; i < n; i += WIDTH) {
        F v = FN(tvlm_mul)(FN(tvlm_load_n)(x + i, n - i), inv);
        FN(tvlm_store_n)(y + i, n - i, FN(tvlm_mul)(v, FN(tvlm_load_n)(w + i, n - i)));
    }
}

static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    const float mean = sum_of(x, n) / (float)n;
    const F inv = FN(tvlm_set)(1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + eps));
    const F centre = FN(tvlm_set)(mean);
    for (size_t i = 0; i < n; i += WIDTH) {
        F v = FN(tvlm_mul)(FN(tvlm_sub)(FN(tvlm_load_n)(x + i, n - i), centre), inv);
        if (w) v = FN(tvlm_mul)(v, FN(tvlm_load_n)(w + i, n - i));
        if (b) v = FN(tvlm_add)(v, FN(tvlm_load_n)(b + i, n - i));
        FN(tvlm_store_n)(y + i, n - i, v);
    }
}

/* Pairs (i, i + half): both registers of a pair group are rotated together. */
static void rope_halves(float *x, size_t half, const float *cs)
{
    for (size_t i = 0; i < half; i += WIDTH) {
        const size_t n = half - i;
        F a = FN(tvlm_load_n)(x + i, n), b = FN(tvlm_load_n)(x + half + i, n);
        F c = FN(tvlm_load_n)(cs + i, n), s = FN(tvlm_load_n)(cs + half + i, n);
        FN(tvlm_store_n)(x + i, n, FN(tvlm_fms)(a, c, FN(tvlm_mul)(b, s)));
        FN(tvlm_store_n)(x + half + i, n, FN(tvlm_fma)(b, c, FN(tvlm_mul)(a, s)));
    }
}

static void rope(float *x, size_t n_heads, size_t d, const float *cs, bool interleaved)
{
    for (size_t h = 0; h < n_heads; h++, x += d)
        (interleaved ? rope_pairs : rope_halves)(x, d / 2, cs);
}

static void install_rows(tvlm_kernels *table)
{
    table->act = apply_act;
    table->axpy = axpy;
    table->silu_mul = silu_mul;
    table->scale_act = scale_act;
    table->rmsnorm = rmsnorm;
    table->layernorm = layernorm;
    table->rope = rope;
}
