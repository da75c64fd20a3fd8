/* SPDX-License-Identifier: MIT
 * Depthwise convolution on AVX2. A tile is a few neighbours of one output row by one or two
 * registers of eight channels, accumulated over all taps in registers. For each row of the kernel
 * its weights are loaded once, and each input pixel once, for all outputs that it is a tap of:
 *
 *   k 3, stride 1, taps a b c       output 0 1 2 ..
 *                          input 0         a
 *                          input 1         b a
 *                          input 2         c b a
 *
 * Inputs beside the image are skipped, so borders take the same path. Kernels that are not 3, 5 or
 * 7 wide, other strides, and the last channels, where 8 does not divide them, go one by one. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* GROUP: channels that go through all rows of a call before the next ones: their weights stay in
 * the second-level cache, while lines that follow each other are read. FAR: floats of the input
 * rows of an output row from which they do not rest in that cache. */
enum { MAX_PIXELS = 8, MAX_REGS = 2, MAX_K = 7, GROUP = 192, FAR = 65536 };

/* What is common to an output row: taps i0..i1 of the kernel lie on image rows. */
typedef struct conv_row {
    const tvlm_dwconv_args *args;
    size_t oy, channels, i0, i1;
    bool far;
} conv_row;

static conv_row start_row(const tvlm_dwconv_args *args, size_t oy)
{
    conv_row row = {.args = args,
                    .oy = oy,
                    .channels = args->c * args->mult,
                    .far = args->k * args->w * args->c > FAR};
    tvlm_clip_taps(oy * args->stride, args->pad_top, args->k, args->h, &row.i0, &row.i1);
    return row;
}

/* Inputs of eight outputs; with mult 2 each serves two of them. */
TVLM_INLINE __m256 load_input8(const float *x, const unsigned mult)
{
    if (mult == 1) return _mm256_loadu_ps(x);
    __m256 four = _mm256_broadcast_ps((const __m128 *)(const void *)x);
    return _mm256_permutevar_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

/* Hints at n pixels of c floats from pixel `first` on, which may be beside the map. */
TVLM_INLINE void fetch(const float *x, size_t first, const size_t n, size_t c, const int to_write)
{
    const uintptr_t at = (uintptr_t)x + first * c * sizeof(float);
    TVLM_UNROLL
    for (size_t i = 0; i < n; i++) {
        const void *pixel = (const void *)(at + i * c * sizeof(float));
        if (to_write)
            __builtin_prefetch(pixel, 1); /* the argument has to be a literal for clang */
        else
            __builtin_prefetch(pixel, 0);
    }
}

/* Taps i of the kernel: x and w are those of input row and kernel row, at the tile's channels. */
TVLM_INLINE void add_taps(const conv_row *row, const float *x, const float *w, size_t left,
                          const size_t k, const size_t stride, const unsigned mult,
                          const size_t pixels, const size_t regs, __m256 acc[MAX_PIXELS][MAX_REGS])
{
    const size_t c = row->args->c;
    __m256 weight[MAX_K][MAX_REGS];
    TVLM_UNROLL
    for (size_t j = 0; j < k; j++) {
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++)
            weight[j][r] = _mm256_loadu_ps(w + j * row->channels + 8 * r);
    }
    TVLM_UNROLL
    for (size_t col = 0; col < (pixels - 1) * stride + k; col++) {
        if (left + col >= row->args->w) continue; /* left wraps before the image */
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++) {
            __m256 in = load_input8(x + (left + col) * c + 8 * r / mult, mult);
            TVLM_UNROLL
            for (size_t p = 0; p < pixels; p++)
                if (col >= p * stride && col - p * stride < k)
                    acc[p][r] = _mm256_fmadd_ps(in, weight[col - p * stride][r], acc[p][r]);
        }
    }
}

/* Pixels ox .. ox + pixels, those there are, channels o .. o + 8 * regs. */
TVLM_INLINE void tile(const conv_row *row, size_t ox, size_t o, const size_t k, const size_t stride,
                      const unsigned mult, const size_t pixels, const size_t regs)
{
    const tvlm_dwconv_args *args = row->args;
    const size_t channels = row->channels, left = ox * stride - args->pad_left;
    float *y = args->y + (row->oy * args->ow + ox) * channels + o;
    __m256 acc[MAX_PIXELS][MAX_REGS];
    if (row->far) fetch(y, pixels, pixels, channels, 1);
    TVLM_UNROLL
    for (size_t r = 0; r < regs; r++) {
        __m256 start = args->bias ? _mm256_loadu_ps(args->bias + o + 8 * r) : _mm256_setzero_ps();
        TVLM_UNROLL
        for (size_t p = 0; p < pixels; p++)
            acc[p][r] = start;
    }
    for (size_t i = row->i0; i < row->i1; i++) {
        size_t iy = row->oy * stride + i - args->pad_top;
        const float *x = args->x + iy * args->w * args->c + o / mult;
        if (row->far && i + 1 == row->i1) /* the one row that no output row before has read */
            fetch(x, left + (pixels - 1) * stride + k, pixels * stride, args->c, 0);
        add_taps(row, x, args->weight + i * k * channels + o, left, k, stride, mult, pixels, regs,
                 acc);
    }
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++) {
        if (ox + p >= args->ow) continue;
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++)
            _mm256_storeu_ps(y + p * channels + 8 * r, tvlm_epilogue_act8(args->act, acc[p][r]));
    }
}

/* Rows oy0..oy1, channels o..end in whole registers. */
TVLM_INLINE void group_rows(const tvlm_dwconv_args *args, size_t oy0, size_t oy1, size_t o,
                            size_t end, const size_t k, const size_t stride, const unsigned mult)
{
    const size_t regs = k == 3 ? 2 : 1, pixels = 8 / regs;
    const size_t wide = o + (end - o) / (8 * regs) * (8 * regs);
    for (size_t oy = oy0; oy < oy1; oy++) {
        conv_row row = start_row(args, oy);
        for (size_t ox = 0; ox < args->ow; ox += pixels) {
            for (size_t at = o; at < wide; at += 8 * regs)
                tile(&row, ox, at, k, stride, mult, pixels, regs);
            if (wide < end) tile(&row, ox, wide, k, stride, mult, pixels, 1);
        }
    }
}

typedef void (*rows_fn)(const tvlm_dwconv_args *args, size_t oy0, size_t oy1, size_t o, size_t end);

#define ROWS_FN(k, stride, mult)                                                                   \
    static void rows_##k##_##stride##_##mult(const tvlm_dwconv_args *args, size_t oy0, size_t oy1, \
                                             size_t o, size_t end)                                 \
    {                                                                                              \
        group_rows(args, oy0, oy1, o, end, k, stride, mult);                                       \
    }
#define ROWS_FNS(k) ROWS_FN(k, 1, 1) ROWS_FN(k, 1, 2) ROWS_FN(k, 2, 1) ROWS_FN(k, 2, 2)
ROWS_FNS(3)
ROWS_FNS(5)
ROWS_FNS(7)

/* NULL: none. */
static rows_fn rows_of(const tvlm_dwconv_args *args)
{
#define OF_K(k)                                                                                    \
    {                                                                                              \
        {rows_##k##_1_1, rows_##k##_1_2},                                                          \
        {                                                                                          \
            rows_##k##_2_1, rows_##k##_2_2                                                         \
        }                                                                                          \
    }
    static const rows_fn table[3][2][2] = {OF_K(3), OF_K(5), OF_K(7)};
    if (args->k < 3 || args->k > MAX_K || args->k % 2 == 0 || args->stride > 2) return NULL;
    return table[(args->k - 3) / 2][args->stride - 1][args->mult - 1];
}

/* Channels o .. end of a pixel, one by one. */
static void pixel(const conv_row *row, size_t ox, size_t o, size_t end)
{
    const tvlm_dwconv_args *args = row->args;
    size_t j0, j1;
    tvlm_clip_taps(ox * args->stride, args->pad_left, args->k, args->w, &j0, &j1);
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
        y[o] = _mm256_cvtss_f32(tvlm_long_act8(args->act, _mm256_set1_ps(acc)));
    }
}

static void dwconv_avx2(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    rows_fn rows = rows_of(args);
    size_t channels = args->c * args->mult, whole = rows ? channels / 8 * 8 : 0;
    for (size_t o = 0; o < whole; o += GROUP)
        rows(args, oy0, oy1, o, whole - o < GROUP ? whole : o + GROUP);
    for (size_t oy = oy0; whole < channels && oy < oy1; oy++) {
        conv_row row = start_row(args, oy);
        for (size_t ox = 0; ox < args->ow; ox++)
            pixel(&row, ox, whole, channels);
    }
}

void tvlm_avx2_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
