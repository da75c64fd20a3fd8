/* SPDX-License-Identifier: MIT
 * Row kernels on WebAssembly SIMD: the scalar tier's lanes and steps, four at a time (reductions
 * eight, in two registers); and the installer. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

static void act_simd128(tvlm_act act, float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        tvlm_store4(y + i, n - i, tvlm_act4(act, tvlm_load4(x + i, n - i)));
}

static void axpy_simd128(float *y, float a, const float *x, size_t n)
{
    v128_t factor = wasm_f32x4_splat(a);
    for (size_t i = 0; i < n; i += 4)
        tvlm_store4(y + i, n - i,
                    TVLM_MADD(factor, tvlm_load4(x + i, n - i), tvlm_load4(y + i, n - i)));
}

static void silu_mul_simd128(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        tvlm_store4(
            y + i, n - i,
            wasm_f32x4_mul(tvlm_silu4(tvlm_load4(gate + i, n - i)), tvlm_load4(up + i, n - i)));
}

static void scale_act_simd128(tvlm_act act, float *y, const float *x, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        tvlm_store4(
            y + i, n - i,
            tvlm_act4(act, wasm_f32x4_mul(tvlm_load4(x + i, n - i), tvlm_load4(s + i, n - i))));
}

/* Lanes i mod 4 of a register that has n (< 4) elements. */
TVLM_INLINE v128_t keep4(v128_t v, size_t n)
{
    v128_t lanes = wasm_i32x4_make(0, 1, 2, 3);
    return wasm_v128_and(v, wasm_i32x4_lt(lanes, wasm_i32x4_splat(n < 4 ? (int)n : 4)));
}

/* sum of (x - mean)^2, or of x when not squared */
TVLM_INLINE float reduce(const float *x, size_t n, float mean, const bool squared)
{
    v128_t centre = wasm_f32x4_splat(mean),
           lane[2] = {wasm_f32x4_splat(0.0f), wasm_f32x4_splat(0.0f)};
    for (size_t i = 0; i < n; i += 4) {
        v128_t *sum = &lane[i / 4 % 2];
        v128_t d = tvlm_load4(x + i, n - i);
        if (squared) {
            d = wasm_f32x4_sub(d, centre);
            d = n - i < 4 ? keep4(d, n - i) : d;
            *sum = TVLM_MADD(d, d, *sum);
        } else {
            *sum = wasm_f32x4_add(*sum, d);
        }
    }
    return tvlm_hsum8((tvlm_f8){lane[0], lane[1]});
}

static void rmsnorm_simd128(float *y, const float *x, const float *w, size_t n, float eps)
{
    v128_t inv = wasm_f32x4_splat(1.0f / sqrtf(reduce(x, n, 0.0f, true) / (float)n + eps));
    for (size_t i = 0; i < n; i += 4)
        tvlm_store4(y + i, n - i,
                    wasm_f32x4_mul(wasm_f32x4_mul(tvlm_load4(x + i, n - i), inv),
                                   tvlm_load4(w + i, n - i)));
}

static void layernorm_simd128(float *y, const float *x, const float *w, const float *b, size_t n,
                              float eps)
{
    float mean = reduce(x, n, 0.0f, false) / (float)n;
    v128_t inv = wasm_f32x4_splat(1.0f / sqrtf(reduce(x, n, mean, true) / (float)n + eps));
    v128_t centre = wasm_f32x4_splat(mean);
    for (size_t i = 0; i < n; i += 4) {
        v128_t v = wasm_f32x4_mul(wasm_f32x4_sub(tvlm_load4(x + i, n - i), centre), inv);
        if (w) v = wasm_f32x4_mul(v, tvlm_load4(w + i, n - i));
        if (b) v = wasm_f32x4_add(v, tvlm_load4(b + i, n - i));
        tvlm_store4(y + i, n - i, v);
    }
}

/* fma(a, c, -(b s)) and fma(b, c, a s) */
TVLM_INLINE void rotate4(v128_t *a, v128_t *b, v128_t c, v128_t s)
{
    v128_t first = TVLM_MADD(*a, c, wasm_f32x4_neg(wasm_f32x4_mul(*b, s)));
    *b = TVLM_MADD(*b, c, wasm_f32x4_mul(*a, s));
    *a = first;
}

static void rope_halves(float *x, size_t half, const float *cs)
{
    for (size_t i = 0; i < half; i += 4) {
        size_t n = half - i;
        v128_t a = tvlm_load4(x + i, n), b = tvlm_load4(x + half + i, n);
        rotate4(&a, &b, tvlm_load4(cs + i, n), tvlm_load4(cs + half + i, n));
        tvlm_store4(x + i, n, a);
        tvlm_store4(x + half + i, n, b);
    }
}

/* Pairs (2i, 2i + 1): even and odd elements apart, then together again. */
static void rope_pairs(float *x, size_t half, const float *cs)
{
    for (size_t i = 0; i < half; i += 4) {
        size_t n = 2 * (half - i), high = n > 4 ? n - 4 : 0;
        v128_t v = tvlm_load4(x + 2 * i, n);
        v128_t u = high ? tvlm_load4(x + 2 * i + 4, high) : wasm_f32x4_splat(0.0f);
        v128_t a = wasm_i32x4_shuffle(v, u, 0, 2, 4, 6), b = wasm_i32x4_shuffle(v, u, 1, 3, 5, 7);
        rotate4(&a, &b, tvlm_load4(cs + i, half - i), tvlm_load4(cs + half + i, half - i));
        tvlm_store4(x + 2 * i, n, wasm_i32x4_shuffle(a, b, 0, 4, 1, 5));
        if (high) tvlm_store4(x + 2 * i + 4, high, wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
    }
}

static void rope_simd128(float *x, size_t n_heads, size_t d, const float *cs, bool interleaved)
{
    for (size_t h = 0; h < n_heads; h++, x += d)
        (interleaved ? rope_pairs : rope_halves)(x, d / 2, cs);
}

static void quantize_u7_simd128(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
{
    v128_t inv = wasm_f32x4_splat(inv_scale), add = wasm_f32x4_splat(zero);
    for (size_t i = 0; i < n; i += 4) {
        v128_t v = wasm_f32x4_add(wasm_f32x4_mul(tvlm_load4(x + i, n - i), inv), add);
        /* 0 < v ? v : 0 makes a NaN 0 */
        v = wasm_f32x4_pmin(wasm_f32x4_pmax(wasm_f32x4_splat(0.0f), v), wasm_f32x4_splat(127.0f));
        v = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(v));
        v = wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v, v), v);
        uint32_t four = (uint32_t)wasm_i32x4_extract_lane(v, 0);
        memcpy(y + i, &four, n - i < 4 ? n - i : 4);
    }
}

static void dequantize_u7_simd128(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
{
    v128_t factor = wasm_f32x4_splat(scale), shift = wasm_i32x4_splat(zero);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t four = 0;
        memcpy(&four, x + i, n - i < 4 ? n - i : 4);
        v128_t q = wasm_u16x8_extend_low_u8x16(wasm_i32x4_splat((int32_t)four));
        q = wasm_i32x4_sub(wasm_u32x4_extend_low_u16x8(q), shift);
        tvlm_store4(y + i, n - i, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(q), factor));
    }
}

void tvlm_simd128_install_rows(tvlm_kernels *table)
{
    table->act = act_simd128;
    table->axpy = axpy_simd128;
    table->silu_mul = silu_mul_simd128;
    table->scale_act = scale_act_simd128;
    table->rmsnorm = rmsnorm_simd128;
    table->layernorm = layernorm_simd128;
    table->rope = rope_simd128;
    table->quantize_u7 = quantize_u7_simd128;
    table->dequantize_u7 = dequantize_u7_simd128;
}

#endif

void tvlm_kernels_install_simd128(tvlm_kernels *table)
{
#if defined(__wasm_simd128__)
    tvlm_simd128_install_rows(table);
    tvlm_simd128_install_attention(table);
    tvlm_simd128_install_dwconv(table);
    tvlm_simd128_install_int8(table);
#else
    (void)table;
#endif
}
