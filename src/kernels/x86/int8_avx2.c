/* SPDX-License-Identifier: MIT
 * The int8 kernels on AVX2, exact like the scalar ones. Activations are at most 127, so
 * maddubs sums two u8 x s8 products below 2^15 and never saturates. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

enum { ROWS = 4 };

/* What turns eight sums into eight bytes; the pointers are those of the first column. */
typedef struct requant {
    const int32_t *wsum;
    const float *mult, *beta;
    int32_t zx;
    uint8_t lo, hi;
    const uint8_t *residual; /* nullable */
    int32_t zr;
    float rmult;
} requant;

/* Columns c .. c + n (n <= 8); the steps and roundings of kernels.h. */
TVLM_INLINE void requant8(const requant *q, size_t c, size_t n, __m256i acc, uint8_t *y)
{
    __m256i mask = tvlm_mask8(n);
    __m256i wsum = _mm256_maskload_epi32(q->wsum + c, mask);
    acc = _mm256_sub_epi32(acc, _mm256_mullo_epi32(_mm256_set1_epi32(q->zx), wsum));
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_maskload_ps(q->mult + c, mask));
    v = _mm256_add_ps(v, _mm256_maskload_ps(q->beta + c, mask));
    if (q->residual) {
        __m256i r = _mm256_cvtepu8_epi32(tvlm_load_bytes8(q->residual + c, n));
        r = _mm256_sub_epi32(r, _mm256_set1_epi32(q->zr));
        v = _mm256_add_ps(v, _mm256_mul_ps(_mm256_cvtepi32_ps(r), _mm256_set1_ps(q->rmult)));
    }
    v = _mm256_max_ps(v, _mm256_set1_ps((float)q->lo));
    v = _mm256_min_ps(v, _mm256_set1_ps((float)q->hi));
    tvlm_store_bytes8(y + c, n, v);
}

/* One step of the tile: four activations of each row against four weights of 16 columns. */
TVLM_INLINE void qgemm_step(__m256i acc[ROWS][2], const size_t rows, const int8_t *w,
                            const uint8_t *x, size_t ldx, const size_t n)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i w0 = _mm256_loadu_si256((const __m256i *)(const void *)w);
    __m256i w1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        uint32_t four = 0;
        memcpy(&four, x + r * ldx, n);
        __m256i v = _mm256_set1_epi32((int)four);
        __m256i p0 = _mm256_madd_epi16(_mm256_maddubs_epi16(v, w0), ones);
        __m256i p1 = _mm256_madd_epi16(_mm256_maddubs_epi16(v, w1), ones);
        acc[r][0] = _mm256_add_epi32(acc[r][0], p0);
        acc[r][1] = _mm256_add_epi32(acc[r][1], p1);
    }
}

TVLM_INLINE void qgemm_tile(const tvlm_qgemm_args *args, const size_t rows, size_t m, size_t n,
                            size_t n1)
{
    const size_t whole = args->k / 4 * 4, ldx = args->ldx;
    const int8_t *w = (const int8_t *)args->w + n * ((args->k + 3) / 4 * 4);
    const uint8_t *x = args->x + m * ldx;
    __m256i acc[ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    for (size_t k = 0; k < whole; k += 4)
        qgemm_step(acc, rows, w + k * TVLM_GEMM_NR, x + k, ldx, 4);
    if (args->k > whole)
        qgemm_step(acc, rows, w + whole * TVLM_GEMM_NR, x + whole, ldx, args->k - whole);
    requant q = {args->wsum, args->mult, args->beta, args->zx,   args->lo,
                 args->hi,   NULL,       args->zr,   args->rmult};
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        uint8_t *y = args->y + (m + r) * args->ldy;
        q.residual = args->residual ? args->residual + (m + r) * args->ldr : NULL;
        requant8(&q, n, n1 - n, acc[r][0], y);
        if (n + 8 < n1) requant8(&q, n + 8, n1 - n - 8, acc[r][1], y);
    }
}

static void qgemm_avx2(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        size_t m = m0;
        for (; m + ROWS <= m1; m += ROWS)
            qgemm_tile(args, ROWS, m, n, n1);
        for (; m < m1; m++)
            qgemm_tile(args, 1, m, n, n1);
    }
}

/* ---- depthwise: 16 channels, taps in pairs (x0 w0 + x1 w1 by madd on words) ---- */

/* Sixteen bytes, of which n (<= 16) are there; the rest 0. */
TVLM_INLINE __m128i load_bytes(const void *p, size_t n)
{
    if (n == 16) return _mm_loadu_si128((const __m128i *)p);
    unsigned char bytes[16] = {0};
    memcpy(bytes, p, n);
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

typedef struct qconv_tile {
    const tvlm_qdwconv_args *args;
    size_t oy, ox, c, n; /* first pixel, first channel, channels (<= 16) */
} qconv_tile;

/* Input words of tap (i, j) for pixel p of the tile. */
TVLM_INLINE __m256i load_tap(const qconv_tile *t, size_t p, size_t i, size_t j, const bool border)
{
    const tvlm_qdwconv_args *args = t->args;
    size_t iy = t->oy * args->stride + i - args->pad_top; /* wraps above 0: then >= h or w */
    size_t ix = (t->ox + p) * args->stride + j - args->pad_left;
    if (border && (iy >= args->h || ix >= args->w)) return _mm256_set1_epi16((short)args->zx);
    return _mm256_cvtepu8_epi16(load_bytes(args->x + (iy * args->w + ix) * args->c + t->c, t->n));
}

TVLM_INLINE __m256i load_tap_weight(const qconv_tile *t, size_t tap)
{
    return _mm256_cvtepi8_epi16(load_bytes(t->args->weight + tap * t->args->c + t->c, t->n));
}

TVLM_INLINE void qconv(const qconv_tile *t, const size_t pixels, const bool border)
{
    const tvlm_qdwconv_args *args = t->args;
    const size_t k = args->k, taps = k * k;
    __m256i low[ROWS], high[ROWS]; /* channels 0-3, 8-11 and 4-7, 12-15 */
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++)
        low[p] = high[p] = _mm256_setzero_si256();
    for (size_t tap = 0, i = 0, j = 0; tap < taps; tap += 2) {
        size_t i2 = j + 1 < k ? i : i + 1, j2 = j + 1 < k ? j + 1 : 0;
        bool pair = tap + 1 < taps; /* else the second weight is 0 and the first input serves */
        __m256i w0 = load_tap_weight(t, tap);
        __m256i w1 = pair ? load_tap_weight(t, tap + 1) : _mm256_setzero_si256();
        __m256i wl = _mm256_unpacklo_epi16(w0, w1), wh = _mm256_unpackhi_epi16(w0, w1);
        TVLM_UNROLL
        for (size_t p = 0; p < pixels; p++) {
            __m256i x0 = load_tap(t, p, i, j, border);
            __m256i x1 = pair ? load_tap(t, p, i2, j2, border) : x0;
            __m256i xl = _mm256_unpacklo_epi16(x0, x1), xh = _mm256_unpackhi_epi16(x0, x1);
            low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(xl, wl));
            high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(xh, wh));
        }
        i = j2 + 1 < k ? i2 : i2 + 1;
        j = j2 + 1 < k ? j2 + 1 : 0;
    }
    requant q = {args->wsum, args->mult, args->beta, args->zx, args->lo, args->hi, NULL, 0, 0.0f};
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++) {
        uint8_t *y = args->y + (t->oy * args->ow + t->ox + p) * args->c;
        requant8(&q, t->c, t->n, _mm256_permute2x128_si256(low[p], high[p], 0x20), y);
        if (t->n > 8)
            requant8(&q, t->c + 8, t->n - 8, _mm256_permute2x128_si256(low[p], high[p], 0x31), y);
    }
}

/* Pixels whose taps all lie inside go four at a time; the others one by one, with checks. */
static void qdwconv_row(const tvlm_qdwconv_args *args, size_t oy, size_t c, size_t n)
{
    size_t top = oy * args->stride;
    bool inside_y = top >= args->pad_top && top + args->k <= args->h + args->pad_top;
    qconv_tile t = {args, oy, 0, c, n};
    while (t.ox < args->ow) {
        size_t left = t.ox * args->stride, right = (t.ox + ROWS - 1) * args->stride + args->k;
        bool inside = inside_y && left >= args->pad_left && right <= args->w + args->pad_left;
        if (inside && t.ox + ROWS <= args->ow) {
            qconv(&t, ROWS, false);
            t.ox += ROWS;
        } else {
            qconv(&t, 1, true);
            t.ox++;
        }
    }
}

static void qdwconv_avx2(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    for (size_t oy = oy0; oy < oy1; oy++)
        for (size_t c = 0; c < args->c; c += 16)
            qdwconv_row(args, oy, c, args->c - c < 16 ? args->c - c : 16);
}

void tvlm_avx2_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm_avx2;
    table->qdwconv = qdwconv_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
