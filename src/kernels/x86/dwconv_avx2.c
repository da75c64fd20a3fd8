/* SPDX-License-Identifier: MIT
 * Depthwise convolution on AVX2. A tile is PIXELS neighbours of one output row by REGS registers
 * of eight channels, accumulated over all taps in registers:
 *
 *   inside the row    6 pixels x 16 channels (4 x 16 with mult 2): a weight is loaded once for all
 *                     pixels; channel blocks outside, pixels inside, so 16 channels of the k input
 *                     rows stay in cache
 *   borders           1 pixel x 64 channels with the taps clipped to the image, never read outside
 */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

enum { MAX_PIXELS = 6, MAX_REGS = 8 };

/* What is common to an output row: taps i0..i1 of the kernel lie on image rows. */
typedef struct conv_row {
    const tvlm_dwconv_args *args;
    size_t oy, channels, i0, i1;
} conv_row;

/* The taps [*t0, *t1) of k that fall on [0, size) for output o. */
static void clip_taps(size_t o, size_t stride, size_t pad, size_t k, size_t size, size_t *t0,
                      size_t *t1)
{
    size_t first = o * stride; /* tap t reads first + t - pad */
    *t0 = first < pad ? pad - first : 0;
    *t1 = size + pad > first ? size + pad - first : 0;
    if (*t1 > k) *t1 = k;
    if (*t0 > *t1) *t0 = *t1;
}

/* Inputs of outputs 8r .. 8r + 7 of a block; with mult 2 each input serves two outputs. */
TVLM_INLINE __m256 load_input8(const float *x, const unsigned mult, size_t r)
{
    if (mult == 1) return _mm256_loadu_ps(x + 8 * r);
    __m256 four = _mm256_castps128_ps256(_mm_loadu_ps(x + 4 * r));
    return _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

/* Pixels ox .. ox + pixels, channels o .. o + 8 * regs, taps j0..j1 of each kernel row. */
TVLM_INLINE void tile(const conv_row *row, size_t ox, size_t o, const unsigned mult,
                      const size_t pixels, const size_t regs, size_t j0, size_t j1)
{
    const tvlm_dwconv_args *args = row->args;
    const size_t channels = row->channels, step = args->stride * args->c;
    __m256 acc[MAX_PIXELS][MAX_REGS];
    TVLM_UNROLL
    for (size_t r = 0; r < regs; r++) {
        __m256 start = args->bias ? _mm256_loadu_ps(args->bias + o + 8 * r) : _mm256_setzero_ps();
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
            __m256 weight[MAX_REGS];
            TVLM_UNROLL
            for (size_t r = 0; r < regs; r++)
                weight[r] = _mm256_loadu_ps(w + 8 * r);
            TVLM_UNROLL
            for (size_t p = 0; p < pixels; p++) {
                TVLM_UNROLL
                for (size_t r = 0; r < regs; r++)
                    acc[p][r] =
                        _mm256_fmadd_ps(load_input8(x + p * step, mult, r), weight[r], acc[p][r]);
            }
        }
    }
    float *y = args->y + (row->oy * args->ow + ox) * channels + o;
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++) {
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++)
            _mm256_storeu_ps(y + p * channels + 8 * r, acc[p][r]);
    }
    if (args->act == TVLM_ACT_NONE) return;
    for (size_t p = 0; p < pixels; p++)
        for (size_t r = 0; r < regs; r++) {
            float *at = y + p * channels + 8 * r;
            _mm256_storeu_ps(at, tvlm_act8(args->act, _mm256_loadu_ps(at)));
        }
}

/* The last channels of a pixel, when 8 does not divide them. */
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
                acc = fmaf(args->x[(iy * args->w + ix) * args->c + o / args->mult],
                           args->weight[(i * args->k + j) * row->channels + o], acc);
            }
        y[o] = _mm256_cvtss_f32(tvlm_act8(args->act, _mm256_set1_ps(acc)));
    }
}

/* One pixel, channels from o on. */
TVLM_INLINE void pixel(const conv_row *row, size_t ox, size_t o, const unsigned mult)
{
    const tvlm_dwconv_args *args = row->args;
    size_t j0, j1;
    clip_taps(ox, args->stride, args->pad_left, args->k, args->w, &j0, &j1);
    for (; o + 64 <= row->channels; o += 64)
        tile(row, ox, o, mult, 1, 8, j0, j1);
    for (; o + 16 <= row->channels; o += 16)
        tile(row, ox, o, mult, 1, 2, j0, j1);
    for (; o + 8 <= row->channels; o += 8)
        tile(row, ox, o, mult, 1, 1, j0, j1);
    tail(row, ox, o, j0, j1);
}

/* Outputs a..b of the row see the whole kernel width. The last run overlaps the one before rather
 * than being short: it writes the same values again. */
TVLM_INLINE void output_row(const conv_row *row, size_t a, size_t b, const unsigned mult,
                            const size_t pixels)
{
    const tvlm_dwconv_args *args = row->args;
    size_t wide = row->channels / 16 * 16;
    if (b - a < pixels) b = a;
    for (size_t o = 0; o < wide && a < b; o += 16)
        for (size_t ox = a; ox < b; ox += pixels)
            tile(row, b - ox < pixels ? b - pixels : ox, o, mult, pixels, 2, 0, args->k);
    for (size_t ox = 0; ox < args->ow; ox++)
        if (ox < a || ox >= b)
            pixel(row, ox, 0, mult);
        else if (wide < row->channels)
            pixel(row, ox, wide, mult);
}

static void dwconv_avx2(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    size_t a = (args->pad_left + args->stride - 1) / args->stride, b = a;
    if (args->w + args->pad_left >= args->k)
        b = (args->w + args->pad_left - args->k) / args->stride + 1;
    b = b < args->ow ? b : args->ow;
    a = a < b ? a : b;
    for (size_t oy = oy0; oy < oy1; oy++) {
        conv_row row = {.args = args, .oy = oy, .channels = args->c * args->mult};
        clip_taps(oy, args->stride, args->pad_top, args->k, args->h, &row.i0, &row.i1);
        if (args->mult == 1)
            output_row(&row, a, b, 1, 6);
        else
            output_row(&row, a, b, 2, 4);
    }
}

void tvlm_avx2_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
