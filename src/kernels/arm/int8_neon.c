/* SPDX-License-Identifier: MIT
 * The int8 tower's kernels on NEON, exact like the scalar ones: linear layers, and depthwise layers
 * over tiles of four pixels by sixteen channels. */
#include "kernels/arm/neon.h"

#include <assert.h>

#if defined(__aarch64__)
#include "kernels/arm/bytes.h"

#include "kernels/arm/qgemm_body.h"

/* ---- depthwise ---- */

enum {
    PIXELS = 4, /* of a tile, by CHANNELS */
    CHANNELS = TVLM_GEMM_NR,
    MAX_K = TVLM_DWCONV_MAX_K,
    MAX_STRIDE = 2,                                 /* a model that wants more is refused */
    MAX_COLUMNS = (PIXELS - 1) * MAX_STRIDE + MAX_K /* of a tile's windows */
};

/* Channels c .. c + q.columns of the layer. */
typedef struct channels {
    size_t c;
    requant q; /* start: of a row of output pixels */
    int8_t tap[MAX_K * MAX_K][CHANNELS];
    int32_t above[MAX_K + 1][CHANNELS]; /* zx times the sums of the taps above a row of them */
} channels;

static void store_times(int32_t *to, const int16x8_t sum[2], int16_t zx)
{
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        vst1q_s32(to + 8 * h, vmull_n_s16(vget_low_s16(sum[h]), zx));
        vst1q_s32(to + 8 * h + 4, vmull_high_n_s16(sum[h], zx));
    }
}

static void load_channels(channels *ch, const tvlm_qdwconv_args *args, size_t c)
{
    const int16_t zx = (int16_t)args->zx;
    int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)}; /* of at most MAX_K^2 bytes */
    ch->c = c;
    load_scales(&ch->q, args->mult + c, args->beta + c, args->c - c);
    const int8_t *from = args->weight + c;
    int8_t *to = ch->tap[0];
    for (size_t i = 0; i < args->k; i++) {
        store_times(ch->above[i], sum, zx);
        for (size_t j = 0; j < args->k; j++, from += args->c, to += CHANNELS) {
            const int8x16_t w = vreinterpretq_s8_u8(load_bytes(from, ch->q.columns));
            vst1q_s8(to, w);
            sum[0] = vaddw_s8(sum[0], vget_low_s8(w));
            sum[1] = vaddw_high_s8(sum[1], w);
        }
    }
    store_times(ch->above[args->k], sum, zx);
}

/* Where the pixels under a window's taps are, and the next window: bytes from its first on. */
typedef struct layout {
    size_t tap[MAX_K * MAX_K], step;
} layout;

static void make_layout(layout *l, const tvlm_qdwconv_args *args, size_t row, size_t pixel)
{
    l->step = args->stride * pixel;
    for (size_t i = 0; i < args->k; i++)
        for (size_t j = 0; j < args->k; j++)
            l->tap[i * args->k + j] = i * row + j * pixel;
}

/* sum += the products of a tap, or of two, whose sums fit 16 bits: x is at most 127. */
TVLM_INLINE void add_taps(const int8_t tap[][CHANNELS], const size_t *at, const uint8_t *x,
                          size_t step, const size_t n, int32x4_t sum[PIXELS][4])
{
    TVLM_UNROLL
    for (size_t p = 0; p < PIXELS; p++) {
        int16x8_t low, high;
        TVLM_UNROLL
        for (size_t t = 0; t < n; t++) {
            const int8x16_t v = vreinterpretq_s8_u8(vld1q_u8(x + p * step + at[t]));
            const int8x16_t w = vld1q_s8(tap[t]);
            const int8x8_t v0 = vget_low_s8(v), w0 = vget_low_s8(w);
            low = t ? vmlal_s8(low, v0, w0) : vmull_s8(v0, w0);
            high = t ? vmlal_high_s8(high, v, w) : vmull_high_s8(v, w);
        }
        sum[p][0] = vaddw_s16(sum[p][0], vget_low_s16(low));
        sum[p][1] = vaddw_high_s16(sum[p][1], low);
        sum[p][2] = vaddw_s16(sum[p][2], vget_low_s16(high));
        sum[p][3] = vaddw_high_s16(sum[p][3], high);
    }
}

/* The rows of a tile's windows that are inside of the image, and their taps. */
typedef struct windows {
    const uint8_t *x; /* the first pixel */
    const layout *layout;
    const int8_t (*tap)[CHANNELS];
    size_t rows, n; /* n taps */
} windows;

/* The first `pixels` of a tile. */
static void qconv(const tvlm_qdwconv_args *args, const channels *ch, windows win, size_t pixels,
                  uint8_t *y)
{
    int32x4_t sum[PIXELS][4];
    float32x4_t v[PIXELS][4];
    TVLM_UNROLL
    for (size_t i = 0; i < PIXELS * 4; i++)
        sum[i / 4][i % 4] = vld1q_s32(ch->q.start + 4 * (i % 4));
    const size_t *at = win.layout->tap, step = win.layout->step;
    size_t t = 0;
    for (; t + 2 <= win.n; t += 2)
        add_taps(win.tap + t, at + t, win.x, step, 2, sum);
    if (t < win.n) add_taps(win.tap + t, at + t, win.x, step, 1, sum);
    scale_rows(&ch->q, PIXELS, sum, v);
    /* Backwards: a pixel that is not there is written before the last one, in its place. */
    TVLM_UNROLL
    for (size_t p = PIXELS; p-- > 0;)
        store_bytes(y + (p < pixels ? p : pixels - 1) * args->c,
                    round_row(v[p], args->lo, args->hi), ch->q.columns);
}

/* Tiles whose windows leave the image, or whose channels are fewer, take a copy of their windows,
 * in which what is outside holds zx. */
typedef struct copies {
    layout map, copy;
    uint8_t x[MAX_K * MAX_COLUMNS * CHANNELS];
} copies;

/* Columns of the windows of a tile. */
static size_t count_columns(const tvlm_qdwconv_args *args)
{
    return (PIXELS - 1) * args->stride + args->k;
}

/* win.x: of column `first`; those from `end` on are outside too. n: channels. */
static void copy_windows(const tvlm_qdwconv_args *args, size_t n, windows win, size_t first,
                         size_t end, uint8_t *to)
{
    const uint8x16_t outside = vdupq_n_u8((uint8_t)args->zx);
    const size_t columns = count_columns(args), pixel = args->c, row = args->w * pixel;
    for (size_t i = 0; i < win.rows; i++) {
        const uint8_t *x = win.x + i * row;
        for (size_t j = 0; j < first; j++, to += CHANNELS)
            vst1q_u8(to, outside);
        for (size_t j = first; j < end; j++, to += CHANNELS, x += pixel)
            vst1q_u8(to, load_bytes(x, n));
        for (size_t j = end; j < columns; j++, to += CHANNELS)
            vst1q_u8(to, outside);
    }
}

/* Of the tile from pixel ox on. row.x: the image's row, at the first channel. */
static windows take_windows(const tvlm_qdwconv_args *args, size_t n, copies *copy, windows row,
                            size_t ox)
{
    const size_t columns = count_columns(args);
    size_t first, end;
    tvlm_clip_taps(ox * args->stride, args->pad_left, columns, args->w, &first, &end);
    row.x += (ox * args->stride + first - args->pad_left) * args->c;
    row.layout = &copy->map;
    if (first == 0 && end == columns && n == CHANNELS) return row;
    copy_windows(args, n, row, first, end, copy->x);
    row.x = copy->x;
    row.layout = &copy->copy;
    return row;
}

static void qdwconv_row(const tvlm_qdwconv_args *args, channels *ch, copies *copy, size_t oy)
{
    size_t i0, i1;
    tvlm_clip_taps(oy * args->stride, args->pad_top, args->k, args->h, &i0, &i1);
    for (size_t c = 0; c < CHANNELS; c++)
        ch->q.start[c] = ch->above[i0][c] - ch->above[i1][c];
    windows row = {.tap = ch->tap + i0 * args->k, .rows = i1 - i0, .n = (i1 - i0) * args->k};
    row.x = args->x + (oy * args->stride + i0 - args->pad_top) * args->w * args->c + ch->c;
    for (size_t ox = 0; ox < args->ow; ox += PIXELS) {
        const windows win = take_windows(args, ch->q.columns, copy, row, ox);
        qconv(args, ch, win, args->ow - ox, args->y + (oy * args->ow + ox) * args->c + ch->c);
    }
}

static void qdwconv(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    channels ch;
    copies copy;
    assert(args->stride <= MAX_STRIDE);
    make_layout(&copy.map, args, args->w * args->c, args->c);
    make_layout(&copy.copy, args, count_columns(args) * CHANNELS, CHANNELS);
    for (size_t c = 0; c < args->c; c += CHANNELS) {
        load_channels(&ch, args, c);
        for (size_t oy = oy0; oy < oy1; oy++)
            qdwconv_row(args, &ch, &copy, oy);
    }
}

void tvlm_neon_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm;
    table->qdwconv = qdwconv;
}

#endif
