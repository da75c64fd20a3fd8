/* SPDX-License-Identifier: MIT
 * The int8 kernels on WebAssembly SIMD, exact like the scalar ones.
 *
 *   simd128   weights and activations as int16, i32x4.dot_i16x8_s: lanes hold sums of pairs, two
 *             lanes a column, joined at the end
 *   relaxed   i32x4.relaxed_dot_i8x16_i7x16_add: four products a lane; with activations in 0..127
 *             no intermediate saturates, so every engine gives the exact sum */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

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

/* What turns the sums of eight columns into bytes. */
typedef struct requant {
    v128_t offset[2], mult[2], beta[2]; /* offset: zx wsum */
    v128_t lo, hi, zr, rmult;
} requant;

/* Columns c .. c + n (n >= 8: eight). */
TVLM_INLINE requant load_requant(const int32_t *wsum, const float *mult, const float *beta,
                                 int32_t zx, uint8_t lo, uint8_t hi, size_t c, size_t n)
{
    requant q = {.lo = wasm_f32x4_splat((float)lo), .hi = wasm_f32x4_splat((float)hi)};
    TVLM_UNROLL
    for (size_t i = 0; i < 2; i++) {
        size_t at = c + 4 * i, left = n > 4 * i ? n - 4 * i : 0;
        v128_t w = tvlm_load4((const float *)(const void *)(wsum + at), left); /* bits only */
        q.offset[i] = wasm_i32x4_mul(wasm_i32x4_splat(zx), w);
        q.mult[i] = tvlm_load4(mult + at, left);
        q.beta[i] = tvlm_load4(beta + at, left);
    }
    return q;
}

/* The steps and roundings of kernels.h: n (>= 8: eight) bytes of y, residual nullable. */
TVLM_INLINE void requant8(const requant *q, const v128_t acc[2], const uint8_t *residual, size_t n,
                          uint8_t *y)
{
    v128_t v[2], r = residual ? load_words(residual, n, false) : q->lo;
    TVLM_UNROLL
    for (size_t i = 0; i < 2; i++) {
        v[i] = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(acc[i], q->offset[i]));
        v[i] = wasm_f32x4_add(wasm_f32x4_mul(v[i], q->mult[i]), q->beta[i]);
        if (residual) {
            v128_t four = i ? wasm_u32x4_extend_high_u16x8(r) : wasm_u32x4_extend_low_u16x8(r);
            four = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(four, q->zr));
            v[i] = wasm_f32x4_add(v[i], wasm_f32x4_mul(four, q->rmult));
        }
        /* lo < v ? v : lo, then v < hi ? v : hi */
        v[i] = wasm_f32x4_pmin(q->hi, wasm_f32x4_pmax(q->lo, v[i]));
        v128_t magic = wasm_f32x4_splat(TVLM_ROUND_MAGIC);
        v[i] = wasm_i32x4_sub(wasm_f32x4_add(v[i], magic), magic);
    }
    v128_t words = wasm_i16x8_narrow_i32x4(v[0], v[1]);
    uint64_t bytes = (uint64_t)wasm_i64x2_extract_lane(wasm_u8x16_narrow_i16x8(words, words), 0);
    memcpy(y, &bytes, n < 8 ? n : 8);
}

/* ---- gemm: rows by eight columns ---- */

/* Hoisted into registers, these constants push sums out of them in the loop over k. */
#define KEEP_IN_MEMORY(object) __asm__ volatile("" ::"r"(&(object)) : "memory")

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

TVLM_INLINE void qgemm_tile(const tvlm_qgemm_args *args, const requant *q, const size_t rows,
                            size_t m, size_t n, size_t n1)
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
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        v128_t sums[2] = {columns(acc[r], 0), columns(acc[r], 1)};
        const uint8_t *residual = args->residual;
        if (residual) residual += (m + r) * args->ldr + n;
        requant8(q, sums, residual, n1 - n, args->y + (m + r) * args->ldy + n);
    }
}

static void qgemm_simd128(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n += 8) {
        requant q = load_requant(args->wsum, args->mult, args->beta, args->zx, args->lo, args->hi,
                                 n, n1 - n);
        q.zr = wasm_i32x4_splat(args->zr);
        q.rmult = wasm_f32x4_splat(args->rmult);
        KEEP_IN_MEMORY(q);
        size_t m = m0;
        for (; m + ROWS <= m1; m += ROWS)
            qgemm_tile(args, &q, ROWS, m, n, n1);
        for (; m < m1; m++)
            qgemm_tile(args, &q, 1, m, n, n1);
    }
}

/* ---- depthwise: 8 channels by four pixels, taps in pairs (x0 w0 + x1 w1) ---- */

enum { PIXELS = 4 };

/* Output pixels that share their taps: those of rows i0 .. i1 and columns j0 .. j1 of the window
 * lie inside the image. The others would hold zx, so they add nothing to sums of (x - zx) w. */
typedef struct qtile {
    size_t oy, ox, i0, i1, j0, j1;
} qtile;

/* Walks over the taps of a tile, row after row. */
typedef struct qtap {
    const uint8_t *x; /* of the first pixel */
    const int8_t *w;
    size_t j;
} qtap;

TVLM_INLINE qtap next_tap(const tvlm_qdwconv_args *args, const qtile *t, qtap tap)
{
    tap.x += args->c;
    tap.w += args->c;
    if (++tap.j < t->j1) return tap;
    size_t kept = t->j1 - t->j0;
    return (qtap){tap.x + (args->w - kept) * args->c, tap.w + (args->k - kept) * args->c, t->j0};
}

#define INTERLEAVE_LOW(a, b)  wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVE_HIGH(a, b) wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

/* n (>= 8: eight) channels from c on. */
TVLM_INLINE void qconv(const tvlm_qdwconv_args *args, const qtile *t, const requant *q,
                       const size_t pixels, size_t c, const size_t n)
{
    v128_t zx = wasm_i16x8_splat((int16_t)args->zx), acc[PIXELS][2];
    size_t iy = t->oy * args->stride + t->i0 - args->pad_top;
    size_t ix = t->ox * args->stride + t->j0 - args->pad_left, step = args->stride * args->c;
    size_t taps = (t->i1 - t->i0) * (t->j1 - t->j0);
    qtap a = {args->x + (iy * args->w + ix) * args->c + c,
              args->weight + (t->i0 * args->k + t->j0) * args->c + c, t->j0};
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++)
        acc[p][0] = acc[p][1] = wasm_i32x4_splat(0);
    for (; taps > 0; taps -= taps > 1 ? 2 : 1) {
        qtap b = a;
        v128_t wa = load_words(a.w, n, true), wb = wasm_i16x8_splat(0);
        if (taps > 1) {
            b = next_tap(args, t, a);
            wb = load_words(b.w, n, true);
        }
        v128_t low = INTERLEAVE_LOW(wa, wb), high = INTERLEAVE_HIGH(wa, wb);
        TVLM_UNROLL
        for (size_t p = 0; p < pixels; p++) {
            v128_t xa = wasm_i16x8_sub(load_words(a.x + p * step, n, false), zx);
            v128_t xb = wasm_i16x8_sub(load_words(b.x + p * step, n, false), zx);
            acc[p][0] =
                wasm_i32x4_add(acc[p][0], wasm_i32x4_dot_i16x8(INTERLEAVE_LOW(xa, xb), low));
            acc[p][1] =
                wasm_i32x4_add(acc[p][1], wasm_i32x4_dot_i16x8(INTERLEAVE_HIGH(xa, xb), high));
        }
        if (taps > 1) a = next_tap(args, t, b);
    }
    uint8_t *y = args->y + (t->oy * args->ow + t->ox) * args->c + c;
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++)
        requant8(q, acc[p], NULL, n, y + p * args->c);
}

/* Pixels go four at a time where no window leaves the image sideways, else one by one. */
TVLM_INLINE void qdwconv_row(const tvlm_qdwconv_args *args, const requant *q, size_t oy, size_t c,
                             const size_t n)
{
    qtile t = {.oy = oy};
    tvlm_clip_taps(oy * args->stride, args->pad_top, args->k, args->h, &t.i0, &t.i1);
    while (t.ox < args->ow) {
        size_t end, first; /* of the first pixel's window, of the last one's */
        tvlm_clip_taps(t.ox * args->stride, args->pad_left, args->k, args->w, &t.j0, &end);
        tvlm_clip_taps((t.ox + PIXELS - 1) * args->stride, args->pad_left, args->k, args->w, &first,
                       &t.j1);
        if (t.j0 == 0 && t.j1 == args->k && t.ox + PIXELS <= args->ow) {
            qconv(args, &t, q, PIXELS, c, n);
            t.ox += PIXELS;
        } else {
            t.j1 = end;
            qconv(args, &t, q, 1, c, n);
            t.ox++;
        }
    }
}

static void qdwconv_simd128(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    for (size_t c = 0; c < args->c; c += 8) {
        size_t n = args->c - c;
        requant q = load_requant(args->wsum, args->mult, args->beta, 0, args->lo, args->hi, c, n);
        for (size_t oy = oy0; oy < oy1; oy++) {
            if (n >= 8)
                qdwconv_row(args, &q, oy, c, 8);
            else
                qdwconv_row(args, &q, oy, c, n);
        }
    }
}

void tvlm_simd128_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm_simd128;
    table->qdwconv = qdwconv_simd128;
}

#endif
