/* SPDX-License-Identifier: MIT
 * Depthwise convolution over a vector type F of WIDTH floats, whose operations are FN(name). A tile
 * is a few neighbours of one output row by one or two registers of channels, accumulated over all
 * taps in registers. For each row of the kernel its weights are loaded once, and each input pixel
 * once, for all outputs that it is a tap of:
 *
 *   k 3, stride 1, taps a b c       output 0 1 2 ..
 *                          input 0         a
 *                          input 1         b a
 *                          input 2         c b a
 *
 * At borders the inputs beside the image are skipped. Where WIDTH does not divide
 * the channels, the last register overlaps the one before and writes the same values again.
 * Kernels that are not 3, 5 or 7 wide, other strides, and less than a register of channels go one
 * by one. Included once by a tier's file, which defines these, load_twice(x), WIDTH / 2 inputs each
 * in two lanes, and a tile's size: PIXELS(k), REGS(k). */

/* GROUP: channels that go through all rows of a call before the next ones: their weights stay in
 * the second-level cache, while lines that follow each other are read. FAR: floats of the input
 * rows of an output row from which they do not rest in that cache. */
enum { MAX_PIXELS = 12, MAX_REGS = 2, MAX_K = 7, GROUP = 192, FAR = 65536 };

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

/* Inputs of WIDTH outputs; with mult 2 each serves two of them. */
TVLM_INLINE F load_inputs(const float *x, const unsigned mult)
{
    return mult == 1 ? FN(tvlm_load)(x) : load_twice(x);
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
                          const size_t pixels, const size_t regs, bool inside,
                          F acc[MAX_PIXELS][MAX_REGS])
{
    F weight[MAX_K][MAX_REGS];
    TVLM_UNROLL
    for (size_t j = 0; j < k; j++) {
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++)
            weight[j][r] = FN(tvlm_load)(w + j * row->channels + WIDTH * r);
    }
    const uintptr_t step = row->args->c * sizeof(float);
    uintptr_t at = (uintptr_t)x + left * step; /* as a number: it may be beside the map */
    TVLM_UNROLL
    for (size_t col = 0; col < (pixels - 1) * stride + k; col++, at += step) {
        if (!inside && left + col >= row->args->w) continue; /* left wraps before the image */
        const float *from = (const float *)at;
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++) {
            F in = load_inputs(from + WIDTH * r / mult, mult);
            TVLM_UNROLL
            for (size_t p = 0; p < pixels; p++)
                if (col >= p * stride && col - p * stride < k)
                    acc[p][r] = FN(tvlm_fma)(in, weight[col - p * stride][r], acc[p][r]);
        }
    }
}

/* Apart from the tiles, as its constants would not leave them registers enough: n pixels of `regs`
 * registers. */
static __attribute__((noinline)) void activate(tvlm_act act, float *y, size_t n, size_t channels,
                                               size_t regs)
{
    for (; n > 0; n--, y += channels)
        for (size_t r = 0; r < regs; r++)
            FN(tvlm_store)(y + WIDTH * r, FN(tvlm_act)(act, FN(tvlm_load)(y + WIDTH * r)));
}

/* Pixels ox .. ox + pixels, those there are, channels o .. o + WIDTH * regs; inside: all taps of
 * all pixels lie in the image. */
TVLM_INLINE void tile(const conv_row *row, size_t ox, size_t o, const size_t k, const size_t stride,
                      const unsigned mult, const size_t pixels, const size_t regs,
                      const bool inside)
{
    const tvlm_dwconv_args *args = row->args;
    const size_t channels = row->channels, left = ox * stride - args->pad_left;
    float *y = args->y + (row->oy * args->ow + ox) * channels + o;
    F acc[MAX_PIXELS][MAX_REGS];
    if (row->far) fetch(y, pixels, pixels, channels, 1);
    TVLM_UNROLL
    for (size_t r = 0; r < regs; r++) {
        F start = args->bias ? FN(tvlm_load)(args->bias + o + WIDTH * r) : FN(tvlm_set)(0.0f);
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
                 inside, acc);
    }
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++) {
        if (!inside && ox + p >= args->ow) continue;
        TVLM_UNROLL
        for (size_t r = 0; r < regs; r++)
            FN(tvlm_store)(y + p * channels + WIDTH * r, acc[p][r]);
    }
    if (args->act != TVLM_ACT_NONE)
        activate(args->act, y, args->ow - ox < pixels ? args->ow - ox : pixels, channels, regs);
}

/* The tiles of pixels ox .. ox + PIXELS(k), channels o..end. */
TVLM_INLINE void tiles(const conv_row *row, size_t ox, size_t o, size_t end, const size_t k,
                       const size_t stride, const unsigned mult, const bool inside)
{
    const size_t regs = REGS(k), pixels = PIXELS(k);
    for (size_t n; o < end; o += n) {
        n = regs > 1 && end - o >= WIDTH * regs ? WIDTH * regs : WIDTH;
        if (n > WIDTH)
            tile(row, ox, o, k, stride, mult, pixels, regs, inside);
        else
            tile(row, ox, end - o < n ? end - n : o, k, stride, mult, pixels, 1, inside);
    }
}

/* Rows oy0..oy1, channels o..end, before whose end there is at least a register. */
TVLM_INLINE void group_rows(const tvlm_dwconv_args *args, size_t oy0, size_t oy1, size_t o,
                            size_t end, const size_t k, const size_t stride, const unsigned mult)
{
    const size_t pixels = PIXELS(k), columns = (pixels - 1) * stride + k;
    for (size_t oy = oy0; oy < oy1; oy++) {
        conv_row row = start_row(args, oy);
        for (size_t ox = 0; ox < args->ow; ox += pixels) {
            const size_t left = ox * stride - args->pad_left;
            if (left < args->w && args->w - left >= columns && args->ow - ox >= pixels)
                tiles(&row, ox, o, end, k, stride, mult, true);
            else
                tiles(&row, ox, o, end, k, stride, mult, false);
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

/* A pixel, channel by channel. */
static void pixel(const conv_row *row, size_t ox)
{
    const tvlm_dwconv_args *args = row->args;
    size_t j0, j1;
    tvlm_clip_taps(ox * args->stride, args->pad_left, args->k, args->w, &j0, &j1);
    float *y = args->y + (row->oy * args->ow + ox) * row->channels;
    for (size_t o = 0; o < row->channels; o++) {
        float acc = args->bias ? args->bias[o] : 0.0f, lanes[WIDTH];
        for (size_t i = row->i0; i < row->i1; i++)
            for (size_t j = j0; j < j1; j++) {
                size_t iy = row->oy * args->stride + i - args->pad_top;
                size_t ix = ox * args->stride + j - args->pad_left;
                acc = tvlm_fma1(args->x[(iy * args->w + ix) * args->c + o / args->mult],
                                args->weight[(i * args->k + j) * row->channels + o], acc);
            }
        FN(tvlm_store)(lanes, FN(tvlm_set)(acc));
        activate(args->act, lanes, 1, WIDTH, 1);
        y[o] = lanes[0];
    }
}

static void dwconv(const tvlm_dwconv_args *args, size_t oy0, size_t oy1)
{
    const rows_fn rows = rows_of(args);
    const size_t channels = args->c * args->mult;
    if (rows && channels >= WIDTH) {
        for (size_t o = 0; o < channels; o += GROUP)
            rows(args, oy0, oy1, o, channels - o < GROUP ? channels : o + GROUP);
        return;
    }
    for (size_t oy = oy0; oy < oy1; oy++) {
        conv_row row = start_row(args, oy);
        for (size_t ox = 0; ox < args->ow; ox++)
            pixel(&row, ox);
    }
}
