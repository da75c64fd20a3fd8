/* SPDX-License-Identifier: MIT
 * Depthwise convolution on WebAssembly SIMD. A tile is four neighbours of one output row by eight
 * channels, accumulated over all taps in registers; borders go pixel by pixel with the taps clipped
 * to the image. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

enum { PIXELS = 4 };

typedef struct conv_row {
    const tvlm_dwconv_args *args;
    size_t oy, channels, i0, i1; /* taps i0..i1 of the kernel lie on image rows */
} conv_row;

/* Inputs of outputs 4r .. 4r + 3 of a block; with mult 2 each input serves two outputs. */
TVLM_INLINE v128_t load_input4(const float *x, const unsigned mult, size_t r)
{
    if (mult == 1) return wasm_v128_load(x + 4 * r);
    v128_t two = wasm_v128_load64_zero(x + 2 * r);
    return wasm_i32x4_shuffle(two, two, 0, 0, 1, 1);
}

/* Pixels ox .. ox + pixels, channels o .. o + 4 * regs, taps j0..j1 of each kernel row. */
TVLM_INLINE void tile(const conv_row *row, size_t ox, size_t o, const unsigned mult,
                      const size_t pixels, const size_t regs, size_t j0, size_t j1)
{
    const tvlm_dwconv_args *args = row->args;
    const size_t channels = row->channels, step = args->stride * args->c;
    v128_t acc[PIXELS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < regs; r++) {
        v128_t start = args->bias ? wasm_v128_load(args->bias + o + 4 * r) : wasm_f32x4_splat(0.0f);
        TVLM_UNROLL
        for (size_t p = 0; p < pixels; p++)
            acc[p][r] = start;
    }
    for (size_t i = row->i0; i < row->i1; i++) {
        size_t iy = row->oy * args->stride + i - args->pad_top;
        size_t ix = ox * args->stride + j0 - args->pad_left;
        const float *x = args->x + (iy * args->w + ix) * args->c + o / mult;
        const float *w = args->weight + (i * args->k + j0) * channels + o;
        for (size_t j = j0; j < j1; j++, x += args->c, w += channels) {
            TVLM_UNROLL
            for (size_t r = 0; r < regs; r++) {
                v128_t weight = wasm_v128_load(w + 4 * r);
                TVLM_UNROLL
                for (size_t p = 0; p < pixels; p++)
                    acc[p][r] = TVLM_MADD(load_input4(x + p * step, mult, r), weight, acc[p][r]);
            }
        }
    }
    float *y = args->y + (row->oy * args->ow + ox) * channels + o;
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++) {
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++)
            wasm_v128_store(y + p * channels + 4 * r, acc[p][r]);
    }
    if (args->act == TVLM_ACT_NONE) return;
    for (size_t p = 0; p < pixels; p++)
        for (size_t r = 0; r < regs; r++) {
            float *at = y + p * channels + 4 * r;
            wasm_v128_store(at, tvlm_act4(args->act, wasm_v128_load(at)));
        }
}

/* The last channels of a pixel, when 4 does not divide them. */
static void tail(const conv_row *row, size_t ox, size_t o, size_t j0, size_t j1)
{
    const tvlm_dwconv_args *args = row->args;
    float *y = args->y + (row->oy * args->ow + ox) * row->channels;
    for (; o < row->channels; o++) {
        float acc = args->bias ? args->bias[o] : 0.0f;
        for (size_t i = row->i0; i < row->i1; i++)
            for (size_t j = j0; j < j1; j++) {
                size_t iy = row->oy * args->stride + i - args->pad_top;
                size_t ix = ox * args->stride + j - args->pad_left;
                acc = tvlm_fma1(args->x[(iy * args->w + ix) * args->c + o / args->mult],
                                args->weight[(i * args->k + j) * row->channels + o], acc);
            }
        y[o] = wasm_f32x4_extract_lane(tvlm_act4(args->act, wasm_f32x4_splat(acc)), 0);
    }
}

/* One pixel, channels from o on. */
TVLM_INLINE void pixel(const conv_row *row, size_t ox, size_t o, const unsigned mult)
{
    const tvlm_dwconv_args *args = row->args;
    size_t j0, j1;
    tvlm_clip_taps(ox * args->stride, args->pad_left, args->k, args->w, &j0, &j1);
    for (; o + 8 <= row->channels; o += 8)
        tile(row, ox, o, mult, 1, 2, j0, j1);
    for (; o + 4 <= row->channels; o += 4)
        tile(row, ox, o, mult, 1, 1, j0, j1);
    tail(row, ox, o, j0, j1);
}

/* Outputs a..b of the row see the whole kernel width. The last run overlaps the one before rather
 * than being short: it writes the same values again. */
TVLM_INLINE void output_row(const conv_row *row, size_t a, size_t b, const unsigned mult)
{
    const tvlm_dwconv_args *args = row->args;
    size_t wide = row->channels / 8 * 8;
    if (b - a < PIXELS) b = a;
    for (size_t o = 0; o < wide && a < b; o += 8)
        for (size_t ox = a; ox < b; ox += PIXELS)
            tile(row, b - ox < PIXELS ? b - PIXELS : ox, o, mult, PIXELS, 2, 0, args->k);
    for (size_t ox = 0; ox < args->ow; ox++)
        if (ox < a || ox >= b)
            pixel(row, ox, 0, mult);
        else if (wide < row->channels)
            pixel(row, ox, wide, mult);
}

static void dwconv_simd128(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    size_t a = (args->pad_left + args->stride - 1) / args->stride, b = a;
    if (args->w + args->pad_left >= args->k)
        b = (args->w + args->pad_left - args->k) / args->stride + 1;
    b = b < args->ow ? b : args->ow;
    a = a < b ? a : b;
    for (size_t oy = oy0; oy < oy1; oy++) {
        conv_row row = {.args = args, .oy = oy, .channels = args->c * args->mult};
        tvlm_clip_taps(oy * args->stride, args->pad_top, args->k, args->h, &row.i0, &row.i1);
        if (args->mult == 1)
            output_row(&row, a, b, 1);
        else
            output_row(&row, a, b, 2);
    }
}

void tvlm_simd128_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv_simd128;
}

#endif
