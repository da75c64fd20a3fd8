/* SPDX-License-Identifier: MIT
 * qdwconv over registers of eight sums, on int8_body.h. */
/* ---- depthwise: 32 channels of a run of pixels ----
 *
 * Four taps of a channel that lie beside each other are one dot4, so the run's input is first laid
 * out in quads of four bytes a channel: rows in groups of four (missing ones meet weights of 0) at
 * each column; where a single row is left over, four columns of it.
 *
 *   3x3  3 quads   rows 0-2 at columns 0, 1, 2
 *   5x5  7 quads   rows 0-3 at columns 0 .. 4; row 4 at columns 0-3, 4-7
 *
 * Quads hold the zero point where the window leaves the image, so no pixel is special. */

enum {
    LANES = 32,       /* channels of a block */
    QUAD = 4 * LANES, /* bytes of a quad */
    MAX_K = TVLM_DWCONV_MAX_K,
    COLUMNS = 40,                     /* of a run's input */
    GROUPS = (MAX_K + 3) / 4,         /* groups of rows */
    QUADS = MAX_K / 4 * MAX_K + MAX_K /* of a kernel, at most */
};

/* unpack works on halves of a register: a quad's register r holds channels 4r .. 4r + 3 and
 * 16 + 4r .. 16 + 4r + 3, and so do the constants; packing the bytes undoes it. */
TVLM_INLINE void store_quad(void *quad, __m256i a, __m256i b, __m256i c, __m256i d)
{
    unsigned char *out = quad;
    __m256i ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
    store256(out, _mm256_unpacklo_epi16(ab, cd));
    store256(out + 32, _mm256_unpackhi_epi16(ab, cd));
    ab = _mm256_unpackhi_epi8(a, b);
    cd = _mm256_unpackhi_epi8(c, d);
    store256(out + 64, _mm256_unpacklo_epi16(ab, cd));
    store256(out + 96, _mm256_unpackhi_epi16(ab, cd));
}

TVLM_INLINE void store_lanes(uint8_t *p, __m256i v, const size_t n)
{
    unsigned char some[LANES];
    store256(n == LANES ? p : some, v);
    if (n < LANES) memcpy(p, some, n);
}

/* A block of channels: what is common to all its pixels. */
typedef struct qblock {
    const tvlm_qdwconv_args *args;
    size_t c;        /* first channel */
    size_t n_quads;  /* of a kernel */
    size_t flat_row; /* the single last one; k: none */
    float hi;
    size_t at[QUADS];                  /* of a quad of the first pixel in the run's input */
    _Alignas(64) int32_t start[LANES]; /* -zx wsum; these three in the order of a quad */
    float mult[LANES], beta[LANES];
    uint8_t outside[LANES]; /* zero points */
    _Alignas(64) int8_t weight[QUADS][QUAD];
    uint8_t input[GROUPS][COLUMNS][QUAD];
} qblock;

/* n (<= 32) bytes, the rest 0. */
TVLM_INLINE __m256i load_lanes(const void *p, const size_t n)
{
    if (n == LANES) return load256(p);
    unsigned char some[LANES] = {0};
    memcpy(some, p, n);
    return load256(some);
}

/* Weights of tap (i, j); 0 outside the kernel. */
TVLM_INLINE __m256i load_tap(const qblock *b, size_t i, size_t j, const size_t n)
{
    const tvlm_qdwconv_args *args = b->args;
    if (i >= args->k || j >= args->k) return _mm256_setzero_si256();
    return load_lanes(args->weight + (i * args->k + j) * args->c + b->c, n);
}

/* Four taps from (i, j) on: down or, flat, to the right. */
TVLM_INLINE void add_quad(qblock *b, size_t i, size_t j, const bool flat, const size_t n)
{
    const size_t di = flat ? 0 : 1, dj = flat ? 1 : 0;
    store_quad(b->weight[b->n_quads], load_tap(b, i, j, n), load_tap(b, i + di, j + dj, n),
               load_tap(b, i + 2 * di, j + 2 * dj, n), load_tap(b, i + 3 * di, j + 3 * dj, n));
    b->at[b->n_quads++] = (i / 4 * COLUMNS + j) * QUAD;
}

/* Four bytes a channel, in the order of a quad; zeros beyond the last one. */
TVLM_INLINE void load_constants(void *out, const void *p, const size_t n)
{
    unsigned char some[4 * LANES] = {0};
    const unsigned char *from = p;
    if (n < LANES) from = memcpy(some, p, 4 * n);
    TVLM_UNROLL
    for (size_t r = 0; r < 4; r++)
        store256((unsigned char *)out + 32 * r,
                 _mm256_loadu2_m128i((const __m128i *)(const void *)(from + 64 + 16 * r),
                                     (const __m128i *)(const void *)(from + 16 * r)));
}

TVLM_INLINE void start_block(qblock *b, const tvlm_qdwconv_args *args, size_t c, const size_t n)
{
    const size_t k = args->k;
    b->args = args;
    b->c = c;
    b->hi = (float)args->hi;
    b->n_quads = 0;
    b->flat_row = k % 4 == 1 ? k - 1 : k;
    memset(b->outside, args->zx, sizeof b->outside);
    for (size_t i = 0; i < b->flat_row; i += 4)
        for (size_t j = 0; j < k; j++)
            add_quad(b, i, j, false, n);
    for (size_t j = 0; b->flat_row < k && j < k; j += 4)
        add_quad(b, b->flat_row, j, true, n);
    load_constants(b->start, args->wsum + c, n);
    load_constants(b->mult, args->mult + c, n);
    load_constants(b->beta, args->beta + c, n);
    for (size_t i = 0; i < LANES; i += 8)
        store256(b->start + i,
                 _mm256_mullo_epi32(load256(b->start + i), _mm256_set1_epi32(-args->zx)));
}

/* Input of a run: columns x .. x + columns, which may begin before the image (x wraps) and end
 * behind it, for windows whose first row is y (which may wrap, too). */
typedef struct qrun {
    size_t y, x, columns;
    size_t first, last; /* of the columns those that lie in the image */
} qrun;

/* The block's channels of an input row, pixel after pixel; `step` is 0 where the row lies outside
 * the image and the pixel holds the zero point. */
typedef struct qrow {
    const uint8_t *pixel;
    size_t step;
} qrow;

TVLM_INLINE qrow input_row(const qblock *b, const qrun *run, size_t i)
{
    const tvlm_qdwconv_args *args = b->args;
    size_t y = run->y + i;
    if (i >= args->k || y >= args->h) return (qrow){b->outside, 0};
    return (qrow){args->x + (y * args->w + run->x + run->first) * args->c + b->c, args->c};
}

TVLM_INLINE __m256i next_pixel(qrow *row, const size_t n)
{
    __m256i v = load_lanes(row->pixel, n);
    row->pixel += row->step;
    return v;
}

/* Rows i .. i + 3 at each column. */
TVLM_INLINE void load_upright(const qblock *b, const qrun *run, size_t i,
                              uint8_t out[COLUMNS][QUAD], const size_t n)
{
    const __m256i outside = load256(b->outside);
    qrow r0 = input_row(b, run, i), r1 = input_row(b, run, i + 1), r2 = input_row(b, run, i + 2),
         r3 = input_row(b, run, i + 3);
    for (size_t x = 0; x < run->first; x++)
        store_quad(out[x], outside, outside, outside, outside);
    for (size_t x = run->first; x < run->last; x++)
        store_quad(out[x], next_pixel(&r0, n), next_pixel(&r1, n), next_pixel(&r2, n),
                   next_pixel(&r3, n));
    for (size_t x = run->last; x < run->columns; x++)
        store_quad(out[x], outside, outside, outside, outside);
}

/* The single last row: columns x .. x + 3 at column x. */
TVLM_INLINE void load_flat(const qblock *b, const qrun *run, uint8_t out[COLUMNS][QUAD],
                           const size_t n)
{
    const __m256i outside = load256(b->outside);
    qrow row = input_row(b, run, b->flat_row);
    __m256i v0 = outside, v1 = outside, v2 = outside, v3 = outside;
    for (size_t x = 0; x < run->columns + 3; x++) {
        v0 = v1;
        v1 = v2;
        v2 = v3;
        v3 = x >= run->first && x < run->last ? next_pixel(&row, n) : outside;
        if (x >= 3) store_quad(out[x - 3], v0, v1, v2, v3);
    }
}

TVLM_INLINE void load_run(qblock *b, qrun *run, const size_t n)
{
    size_t w = b->args->w;
    run->first = run->x < w ? 0 : 0 - run->x < run->columns ? 0 - run->x : run->columns;
    run->last = w - run->x < run->columns ? w - run->x : run->columns;
    for (size_t i = 0; i < b->flat_row; i += 4)
        load_upright(b, run, i, b->input[i / 4], n);
    if (b->flat_row < b->args->k) load_flat(b, run, b->input[b->flat_row / 4], n);
}

/* Output pixels p .. p + pixels of the run, whose bytes go to y. */
TVLM_INLINE void convolve(const qblock *b, size_t p, const size_t pixels, uint8_t *y,
                          const size_t n)
{
    const size_t step = b->args->stride * QUAD;
    const uint8_t *input = &b->input[0][0][0] + p * step;
    __m256i acc[2][4];
    TVLM_UNROLL
    for (size_t i = 0; i < pixels; i++) {
        TVLM_UNROLL
        for (size_t r = 0; r < 4; r++)
            acc[i][r] = load256(b->start + 8 * r);
    }
    for (size_t q = 0; q < b->n_quads; q++) {
        const uint8_t *x = input + b->at[q];
        TVLM_UNROLL
        for (size_t r = 0; r < 4; r++) {
            __m256i w = load256(b->weight[q] + 32 * r);
            TVLM_UNROLL
            for (size_t i = 0; i < pixels; i++)
                acc[i][r] = dot4(acc[i][r], load256(x + i * step + 32 * r), w);
        }
    }
    TVLM_UNROLL
    for (size_t i = 0; i < pixels; i++) {
        __m256 v[4];
        TVLM_UNROLL
        for (size_t r = 0; r < 4; r++)
            v[r] = scale8(acc[i][r], b->mult + 8 * r, b->beta + 8 * r);
        store_lanes(y + i * b->args->c, round32(v[0], v[1], v[2], v[3], b->hi, b->args->lo), n);
    }
}

/* Output row oy in runs whose input fits. */
TVLM_INLINE void convolve_row(qblock *b, size_t oy, const size_t n)
{
    const tvlm_qdwconv_args *args = b->args;
    size_t most = (COLUMNS - args->k) / args->stride + 1;
    for (size_t ox = 0; ox < args->ow; ox += most) {
        size_t pixels = args->ow - ox < most ? args->ow - ox : most, p = 0;
        uint8_t *y = args->y + (oy * args->ow + ox) * args->c + b->c;
        qrun run = {.y = oy * args->stride - args->pad_top,
                    .x = ox * args->stride - args->pad_left,
                    .columns = (pixels - 1) * args->stride + args->k};
        load_run(b, &run, n);
        for (; p + 2 <= pixels; p += 2)
            convolve(b, p, 2, y + p * args->c, n);
        if (p < pixels) convolve(b, p, 1, y + p * args->c, n);
    }
}

TVLM_INLINE void convolve_block(const tvlm_qdwconv_args *args, size_t c, const size_t n, size_t oy0,
                                size_t oy1)
{
    qblock block;
    start_block(&block, args, c, n);
    for (size_t oy = oy0; oy < oy1; oy++)
        convolve_row(&block, oy, n);
}

static void convolve_few(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    convolve_block(args, 0, args->c, oy0, oy1);
}

/* The last block overlaps the one before rather than being short: it writes the same values. */
static void qdwconv(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    if (args->c < LANES) {
        convolve_few(args, oy0, oy1);
        return;
    }
    for (size_t c = 0; c < args->c; c += LANES)
        convolve_block(args, c + LANES < args->c ? c : args->c - LANES, LANES, oy0, oy1);
}
