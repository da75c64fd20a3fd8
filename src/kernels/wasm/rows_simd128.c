/* SPDX-License-Identifier: MIT
 * Row kernels on WebAssembly SIMD, and its installer. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

/* fma(a, c, -(b s)) and fma(b, c, a s) */
TVLM_INLINE void rotate4(v128_t *a, v128_t *b, v128_t c, v128_t s)
{
    v128_t first = TVLM_MADD(*a, c, wasm_f32x4_neg(wasm_f32x4_mul(*b, s)));
    *b = TVLM_MADD(*b, c, wasm_f32x4_mul(*a, s));
    *a = first;
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

enum { WIDTH = 8 };
#define F        tvlm_f8
#define FN(name) name##8
#include "kernels/rows_body.h"

static void quantize_u7(uint8_t *y, const float *x, size_t n, float inv_scale, float zero)
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

static void dequantize_u7(float *y, const uint8_t *x, size_t n, float scale, int32_t zero)
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
    install_rows(table);
    table->quantize_u7 = quantize_u7;
    table->dequantize_u7 = dequantize_u7;
}

#endif

void tvlm_kernels_install_simd128(tvlm_kernels *table)
{
#if defined(__wasm_simd128__)
    tvlm_simd128_install_rows(table);
    tvlm_simd128_install_attention(table);
    tvlm_simd128_install_dwconv(table);
    tvlm_simd128_install_int8(table);
    tvlm_simd128_install_resize(table);
#else
    (void)table;
#endif
}
