/* SPDX-License-Identifier: MIT
 * Depthwise convolution on AVX2. A tile is PIXELS neighbours of one output row by REGS registers
 * of eight channels, accumulated over all taps in registers:
 *
 *   inside the row    6 pixels x 16 channels (4 x 16 with mult 2): a weight is loaded once for all
 *                     pixels
 *   borders           1 pixel x 64 channels with the taps clipped to the image, never read outside
 */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* GROUP: channels that go through a whole output row before the next ones. Their inputs lie side by
 * side, a few lines of the cache that follow each other, and their weights stay in the first level.
 */
enum { MAX_PIXELS = 6, MAX_REGS = 8, GROUP = 96 };

/* What is common to an output row: taps i0..i1 of the kernel lie on image rows. */
typedef struct conv_row {
    const tvlm_dwconv_args *args;
    size_t oy, channels, i0, i1;
} conv_row;

/* Inputs of outputs 8r .. 8r + 7 of a block; with mult 2 each input serves two outputs. */
TVLM_INLINE __m256 load_input8(const float *x, const unsigned mult, size_t r)
{
    if (mult == 1) return _mm256_loadu_ps(x + 8 * r);
    __m256 four = _mm256_broadcast_ps((const __m128 *)(const void *)(x + 4 * r));
    return _mm256_permutevar_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
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
static void tail(const conv_row *row, size_t ox, size_t o, size_t end, size_t j0, size_t j1)
{
    const tvlm_dwconv_args *args = row->args;
    float *y = args->y + (row->oy * args->ow + ox) * row->channels;
    for (; o < end; o++) {
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

/* One pixel, channels o .. end. */
TVLM_INLINE void pixel(const conv_row *row, size_t ox, size_t o, size_t end, const unsigned mult)
{
    const tvlm_dwconv_args *args = row->args;
    size_t j0, j1;
    tvlm_clip_taps(ox * args->stride, args->pad_left, args->k, args->w, &j0, &j1);
    for (; o + 64 <= end; o += 64)
        tile(row, ox, o, mult, 1, 8, j0, j1);
    for (; o + 16 <= end; o += 16)
        tile(row, ox, o, mult, 1, 2, j0, j1);
    for (; o + 8 <= end; o += 8)
        tile(row, ox, o, mult, 1, 1, j0, j1);
    tail(row, ox, o, end, j0, j1);
}

/* Channels o .. end of an output row. Outputs a..b see the whole kernel width; the last run of them
 * overlaps the one before rather than being short: it writes the same values again. */
TVLM_INLINE void output_row(const conv_row *row, size_t o, size_t end, size_t a, size_t b,
                            const unsigned mult, const size_t pixels)
{
    size_t wide = o + (end - o) / 16 * 16;
    if (b - a < pixels) b = a;
    for (size_t ox = 0; ox < a; ox++)
        pixel(row, ox, o, end, mult);
    for (size_t ox = a; ox < b; ox += pixels)
        for (size_t c = o; c < wide; c += 16)
            tile(row, b - ox < pixels ? b - pixels : ox, c, mult, pixels, 2, 0, row->args->k);
    for (size_t ox = a; wide < end && ox < b; ox++)
        pixel(row, ox, wide, end, mult);
    for (size_t ox = b; ox < row->args->ow; ox++)
        pixel(row, ox, o, end, mult);
}

static void dwconv_avx2(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    size_t channels = args->c * args->mult;
    size_t a = (args->pad_left + args->stride - 1) / args->stride, b = a;
    if (args->w + args->pad_left >= args->k)
        b = (args->w + args->pad_left - args->k) / args->stride + 1;
    b = b < args->ow ? b : args->ow;
    a = a < b ? a : b;
    for (size_t oy = oy0; oy < oy1; oy++) {
        conv_row row = {.args = args, .oy = oy, .channels = channels};
        tvlm_clip_taps(oy * args->stride, args->pad_top, args->k, args->h, &row.i0, &row.i1);
        for (size_t o = 0; o < channels; o += GROUP) {
            size_t end = o + GROUP < channels ? o + GROUP : channels;
            if (args->mult == 1)
                output_row(&row, o, end, a, b, 1, 6);
            else
                output_row(&row, o, end, a, b, 2, 4);
        }
    }
}

void tvlm_avx2_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
