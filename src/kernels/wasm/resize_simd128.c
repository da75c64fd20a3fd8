/* SPDX-License-Identifier: MIT
 * The two passes of a resize on WebAssembly SIMD, exact like the scalar ones: a dot product
 * multiplies bytes by both halves of the taps, two taps at a time. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

/* Sums of products with the low and the high halves of the taps. */
typedef struct sums {
    v128_t low, high;
} sums;

TVLM_INLINE void add_products(sums *s, v128_t x, v128_t low, v128_t high)
{
    s->low = wasm_i32x4_add(s->low, wasm_i32x4_dot_i16x8(x, low));
    s->high = wasm_i32x4_add(s->high, wasm_i32x4_dot_i16x8(x, high));
}

TVLM_INLINE v128_t joined(sums s)
{
    return wasm_i32x4_add(s.low, wasm_i32x4_shl(s.high, 16));
}

/* Rounded sums as bytes: of a, of b, and again. */
TVLM_INLINE v128_t rounded(v128_t a, v128_t b)
{
    const v128_t half = wasm_i32x4_splat(1 << (TVLM_RESIZE_BITS - 1));
    a = wasm_i32x4_shr(wasm_i32x4_add(a, half), TVLM_RESIZE_BITS);
    b = wasm_i32x4_shr(wasm_i32x4_add(b, half), TVLM_RESIZE_BITS);
    v128_t words = wasm_i16x8_narrow_i32x4(a, b);
    return wasm_u8x16_narrow_i16x8(words, words);
}

static void resize_across(uint8_t *y, const uint8_t *x, const tvlm_resize_taps *taps, size_t n)
{
    /* four pixels as words: those of red and green, then of blue */
    const v128_t rg = wasm_i8x16_make(0, -1, 3, -1, 6, -1, 9, -1, 1, -1, 4, -1, 7, -1, 10, -1);
    const v128_t b = wasm_i8x16_make(2, -1, 5, -1, 8, -1, 11, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const v128_t zero = wasm_i32x4_splat(0);
    for (size_t i = 0; i < n; i++, taps++, y += TVLM_RESIZE_CHANNELS) {
        const uint8_t *from = x + taps->first * TVLM_RESIZE_CHANNELS;
        sums red_green = {zero, zero}, blue = red_green;
        for (size_t t = 0; t < taps->n; t += 4, from += 4 * TVLM_RESIZE_CHANNELS) {
            v128_t bytes = wasm_v128_load(from);
            v128_t low = wasm_v128_load64_splat(taps->low + t);
            v128_t high = wasm_v128_load64_splat(taps->high + t);
            add_products(&red_green, wasm_i8x16_swizzle(bytes, rg), low, high);
            add_products(&blue, wasm_i8x16_swizzle(bytes, b), low, high);
        }
        v128_t first = joined(red_green), second = joined(blue);
        v128_t rgb = wasm_i32x4_add(wasm_i32x4_shuffle(first, second, 0, 2, 4, 6),
                                    wasm_i32x4_shuffle(first, second, 1, 3, 5, 7));
        uint8_t bytes[16];
        wasm_v128_store(bytes, rounded(rgb, rgb));
        memcpy(y, bytes, TVLM_RESIZE_CHANNELS);
    }
}

/* Columns i..i+8 of a row with n left. */
TVLM_INLINE v128_t down8(const uint8_t *const *rows, const tvlm_resize_taps *taps, size_t i,
                         size_t n)
{
    const v128_t zero = wasm_i32x4_splat(0);
    sums a = {zero, zero}, b = a;
    for (size_t t = 0; t < taps->n; t += 2) {
        uint8_t few[16] = {0};
        const uint8_t *upper = rows[t] + i, *lower = rows[t + 1] + i;
        if (n < 8) {
            memcpy(few, upper, n);
            memcpy(few + 8, lower, n);
            upper = few;
            lower = few + 8;
        }
        v128_t u = wasm_u16x8_load8x8(upper), l = wasm_u16x8_load8x8(lower);
        v128_t low = wasm_v128_load32_splat(taps->low + t);
        v128_t high = wasm_v128_load32_splat(taps->high + t);
        add_products(&a, wasm_i16x8_shuffle(u, l, 0, 8, 1, 9, 2, 10, 3, 11), low, high);
        add_products(&b, wasm_i16x8_shuffle(u, l, 4, 12, 5, 13, 6, 14, 7, 15), low, high);
    }
    return rounded(joined(a), joined(b));
}

static void resize_down(uint8_t *y, const uint8_t *const *rows, const tvlm_resize_taps *taps,
                        size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        wasm_v128_store64_lane(y + i, down8(rows, taps, i, 8), 0);
    if (i == n) return;
    uint8_t few[16];
    wasm_v128_store(few, down8(rows, taps, i, n - i));
    memcpy(y + i, few, n - i);
}

void tvlm_simd128_install_resize(tvlm_kernels *table)
{
    table->resize_across = resize_across;
    table->resize_down = resize_down;
}

#endif
