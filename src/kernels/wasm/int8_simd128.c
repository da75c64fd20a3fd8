/* SPDX-License-Identifier: MIT
 * The int8 kernels on WebAssembly SIMD, exact like the scalar ones.
 *
 *   simd128   weights and activations as int16, i32x4.dot_i16x8_s: lanes hold sums of pairs, two
 *             lanes a column, joined at the end
 *   relaxed   i32x4.relaxed_dot_i8x16_i7x16_add: four products a lane; with activations in 0..127
 *             no intermediate saturates, so every engine gives the exact sum */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

/* What turns sums into bytes; the pointers are those of the first column. */
typedef struct requant {
    const int32_t *wsum;
    const float *mult, *beta;
    int32_t zx;
    uint8_t lo, hi;
    const uint8_t *residual; /* nullable */
    int32_t zr;
    float rmult;
} requant;

TVLM_INLINE v128_t load_bytes4(const uint8_t *p, size_t n)
{
    uint32_t four = 0;
    memcpy(&four, p, n < 4 ? n : 4);
    v128_t v = wasm_u16x8_extend_low_u8x16(wasm_i32x4_splat((int32_t)four));
    return wasm_u32x4_extend_low_u16x8(v);
}

/* Columns c .. c + n (n >= 4: four); the steps and roundings of kernels.h. */
TVLM_INLINE void requant4(const requant *q, size_t c, size_t n, v128_t acc, uint8_t *y)
{
    v128_t wsum = tvlm_load4((const float *)(const void *)(q->wsum + c), n); /* bits only */
    acc = wasm_i32x4_sub(acc, wasm_i32x4_mul(wasm_i32x4_splat(q->zx), wsum));
    v128_t v = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), tvlm_load4(q->mult + c, n));
    v = wasm_f32x4_add(v, tvlm_load4(q->beta + c, n));
    if (q->residual) {
        v128_t r = wasm_i32x4_sub(load_bytes4(q->residual + c, n), wasm_i32x4_splat(q->zr));
        v = wasm_f32x4_add(v,
                           wasm_f32x4_mul(wasm_f32x4_convert_i32x4(r), wasm_f32x4_splat(q->rmult)));
    }
    /* lo < v ? v : lo, then v < hi ? v : hi */
    v = wasm_f32x4_pmax(wasm_f32x4_splat((float)q->lo), v);
    v = wasm_f32x4_pmin(wasm_f32x4_splat((float)q->hi), v);
    v = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(v));
    v = wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v, v), v);
    uint32_t four = (uint32_t)wasm_i32x4_extract_lane(v, 0);
    memcpy(y + c, &four, n < 4 ? n : 4);
}

/* ---- gemm: rows by eight columns ---- */

#if defined(__wasm_relaxed_simd__)
enum { ROWS = 4, REGS = 2 }; /* registers of sums a row: four columns each */

TVLM_INLINE void step(v128_t acc[ROWS][REGS], const size_t rows, const int8_t *w, const uint8_t *x,
                      size_t ldx, const size_t n)
{
    v128_t w0 = wasm_v128_load(w), w1 = wasm_v128_load(w + 16);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        uint32_t four = 0;
        memcpy(&four, x + r * ldx, n);
        v128_t v = wasm_i32x4_splat((int32_t)four);
        acc[r][0] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w0, v, acc[r][0]);
        acc[r][1] = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w1, v, acc[r][1]);
    }
}

/* Sums of columns 4c .. 4c + 3. */
TVLM_INLINE v128_t columns(const v128_t acc[REGS], size_t c)
{
    return acc[c];
}
#else
enum { ROWS = 2, REGS = 4 }; /* two columns each */

TVLM_INLINE void step(v128_t acc[ROWS][REGS], const size_t rows, const int8_t *w, const uint8_t *x,
                      size_t ldx, const size_t n)
{
    v128_t v[ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        uint32_t four = 0;
        memcpy(&four, x + r * ldx, n);
        v[r] = wasm_u16x8_extend_low_u8x16(wasm_i32x4_splat((int32_t)four));
    }
    TVLM_UNROLL
    for (size_t c = 0; c < REGS; c++) {
        v128_t weight = wasm_i16x8_load8x8(w + 8 * c);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            acc[r][c] = wasm_i32x4_add(acc[r][c], wasm_i32x4_dot_i16x8(weight, v[r]));
    }
}

TVLM_INLINE v128_t columns(const v128_t acc[REGS], size_t c)
{
    v128_t even = wasm_i32x4_shuffle(acc[2 * c], acc[2 * c + 1], 0, 2, 4, 6);
    v128_t odd = wasm_i32x4_shuffle(acc[2 * c], acc[2 * c + 1], 1, 3, 5, 7);
    return wasm_i32x4_add(even, odd);
}
#endif

TVLM_INLINE void qgemm_tile(const tvlm_qgemm_args *args, const size_t rows, size_t m, size_t n,
                            size_t n1)
{
    const size_t whole = args->k / 4 * 4, depth = (args->k + 3) / 4 * 4;
    const int8_t *w =
        (const int8_t *)args->w + n / TVLM_GEMM_NR * TVLM_GEMM_NR * depth + n % TVLM_GEMM_NR * 4;
    const uint8_t *x = args->x + m * args->ldx;
    v128_t acc[ROWS][REGS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t c = 0; c < REGS; c++)
            acc[r][c] = wasm_i32x4_splat(0);
    }
    for (size_t k = 0; k < whole; k += 4)
        step(acc, rows, w + k * TVLM_GEMM_NR, x + k, args->ldx, 4);
    if (args->k > whole)
        step(acc, rows, w + whole * TVLM_GEMM_NR, x + whole, args->ldx, args->k - whole);
    requant q = {args->wsum, args->mult, args->beta, args->zx,   args->lo,
                 args->hi,   NULL,       args->zr,   args->rmult};
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        uint8_t *y = args->y + (m + r) * args->ldy;
        q.residual = args->residual ? args->residual + (m + r) * args->ldr : NULL;
        requant4(&q, n, n1 - n, columns(acc[r], 0), y);
        if (n + 4 < n1) requant4(&q, n + 4, n1 - n - 4, columns(acc[r], 1), y);
    }
}

static void qgemm_simd128(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n += 8) {
        size_t m = m0;
        for (; m + ROWS <= m1; m += ROWS)
            qgemm_tile(args, ROWS, m, n, n1);
        for (; m < m1; m++)
            qgemm_tile(args, 1, m, n, n1);
    }
}

/* ---- depthwise: 8 channels by four pixels, taps in pairs (x0 w0 + x1 w1) ---- */

enum { PIXELS = 4 };

/* Eight bytes, of which n are there, as 16-bit lanes. */
TVLM_INLINE v128_t load_words(const void *p, size_t n, const bool sign)
{
    uint64_t bytes = 0;
    if (n >= 8)
        memcpy(&bytes, p, 8);
    else
        memcpy(&bytes, p, n);
    v128_t v = wasm_i64x2_splat((int64_t)bytes);
    return sign ? wasm_i16x8_extend_low_i8x16(v) : wasm_u16x8_extend_low_u8x16(v);
}

typedef struct qconv_tile {
    const tvlm_qdwconv_args *args;
    size_t oy, ox, c, n; /* first pixel, first channel, channels (<= 8) */
} qconv_tile;

/* Input words of tap (i, j) for pixel p of the tile. */
TVLM_INLINE v128_t load_tap(const qconv_tile *t, size_t p, size_t i, size_t j, const bool border)
{
    const tvlm_qdwconv_args *args = t->args;
    size_t iy = t->oy * args->stride + i - args->pad_top; /* wraps above 0: then >= h or w */
    size_t ix = (t->ox + p) * args->stride + j - args->pad_left;
    if (border && (iy >= args->h || ix >= args->w)) return wasm_i16x8_splat((int16_t)args->zx);
    return load_words(args->x + (iy * args->w + ix) * args->c + t->c, t->n, false);
}

TVLM_INLINE v128_t load_tap_weight(const qconv_tile *t, size_t tap)
{
    return load_words(t->args->weight + tap * t->args->c + t->c, t->n, true);
}

#define INTERLEAVE_LOW(a, b)  wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HIGH(a, b) wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

TVLM_INLINE void qconv(const qconv_tile *t, const size_t pixels, const bool border)
{
    const tvlm_qdwconv_args *args = t->args;
    const size_t k = args->k, taps = k * k;
    v128_t low[PIXELS], high[PIXELS]; /* channels 0-3 and 4-7 */
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++)
        low[p] = high[p] = wasm_i32x4_splat(0);
    for (size_t tap = 0, i = 0, j = 0; tap < taps; tap += 2) {
        size_t i2 = j + 1 < k ? i : i + 1, j2 = j + 1 < k ? j + 1 : 0;
        bool pair = tap + 1 < taps; /* else the second weight is 0 and the first input serves */
        v128_t w0 = load_tap_weight(t, tap);
        v128_t w1 = pair ? load_tap_weight(t, tap + 1) : wasm_i16x8_splat(0);
        v128_t wl = INTERLEAVE_LOW(w0, w1), wh = INTERLEAVE_HIGH(w0, w1);
        TVLM_UNROLL
        for (size_t p = 0; p < pixels; p++) {
            v128_t x0 = load_tap(t, p, i, j, border);
            v128_t x1 = pair ? load_tap(t, p, i2, j2, border) : x0;
            low[p] = wasm_i32x4_add(low[p], wasm_i32x4_dot_i16x8(INTERLEAVE_LOW(x0, x1), wl));
            high[p] = wasm_i32x4_add(high[p], wasm_i32x4_dot_i16x8(INTERLEAVE_HIGH(x0, x1), wh));
        }
        i = j2 + 1 < k ? i2 : i2 + 1;
        j = j2 + 1 < k ? j2 + 1 : 0;
    }
    requant q = {args->wsum, args->mult, args->beta, args->zx, args->lo, args->hi, NULL, 0, 0.0f};
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++) {
        uint8_t *y = args->y + (t->oy * args->ow + t->ox + p) * args->c;
        requant4(&q, t->c, t->n, low[p], y);
        if (t->n > 4) requant4(&q, t->c + 4, t->n - 4, high[p], y);
    }
}

/* Pixels whose taps all lie inside go four at a time; the others one by one, with checks. */
TVLM_INLINE void qdwconv_row(const tvlm_qdwconv_args *args, size_t oy, size_t c, const size_t n)
{
    size_t top = oy * args->stride;
    bool inside_y = top >= args->pad_top && top + args->k <= args->h + args->pad_top;
    qconv_tile t = {args, oy, 0, c, n};
    while (t.ox < args->ow) {
        size_t left = t.ox * args->stride, right = (t.ox + PIXELS - 1) * args->stride + args->k;
        bool inside = inside_y && left >= args->pad_left && right <= args->w + args->pad_left;
        if (inside && t.ox + PIXELS <= args->ow) {
            qconv(&t, PIXELS, false);
            t.ox += PIXELS;
        } else {
            qconv(&t, 1, true);
            t.ox++;
        }
    }
}

static void qdwconv_simd128(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    for (size_t oy = oy0; oy < oy1; oy++) {
        size_t c = 0;
        for (; c + 8 <= args->c; c += 8)
            qdwconv_row(args, oy, c, 8);
        if (c < args->c) qdwconv_row(args, oy, c, args->c - c);
    }
}

void tvlm_simd128_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm_simd128;
    table->qdwconv = qdwconv_simd128;
}

#endif
