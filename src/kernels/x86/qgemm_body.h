/* SPDX-License-Identifier: MIT
 * qgemm over registers of eight sums, on int8_body.h. */
/* ---- gemm: ROWS rows by a panel of 16 columns, or by its first 8 where there are no more ---- */

enum { ROWS = 4, NR = (int)TVLM_GEMM_NR };

/* A panel's constants, zeros beyond the last column. */
typedef struct qpanel {
    const tvlm_qgemm_args *args;
    const int8_t *w;
    size_t n, columns;              /* first column, columns that are there */
    _Alignas(64) int32_t start[NR]; /* -zx wsum */
    float mult[NR], beta[NR];
    float hi;
    uint8_t lo;
} qpanel;

TVLM_INLINE void load_constants_of(qpanel *panel, const size_t columns)
{
    const tvlm_qgemm_args *args = panel->args;
    for (size_t i = 0; i < columns; i++) {
        panel->start[i] = -args->zx * args->wsum[panel->n + i];
        panel->mult[i] = args->mult[panel->n + i];
        panel->beta[i] = args->beta[panel->n + i];
    }
}

static void load_panel(qpanel *panel, const tvlm_qgemm_args *args, size_t n, size_t columns)
{
    panel->args = args;
    panel->w = (const int8_t *)args->w + n * ((args->k + 3) / 4 * 4);
    panel->n = n;
    panel->columns = columns < NR ? columns : NR;
    panel->hi = (float)args->hi;
    panel->lo = args->lo;
    if (columns >= NR) {
        load_constants_of(panel, NR); /* in whole registers */
        return;
    }
    memset(panel->start, 0, sizeof panel->start);
    memset(panel->mult, 0, sizeof panel->mult);
    memset(panel->beta, 0, sizeof panel->beta);
    load_constants_of(panel, columns);
}

/* n (<= 4) bytes, the rest 0. */
TVLM_INLINE uint32_t load_four(const uint8_t *p, const size_t n)
{
    uint32_t four = 0;
    if (n == 4) memcpy(&four, p, 4);
    for (size_t i = 0; n < 4 && i < n; i++)
        four |= (uint32_t)p[i] << (8 * i);
    return four;
}

/* One step of the tile: n (<= 4) activations of each row against four weights of each column. */
TVLM_INLINE void qgemm_step(__m256i acc[ROWS][2], const size_t rows, const size_t halves,
                            const int8_t *w, const uint8_t *x, size_t ldx, const size_t n)
{
    __m256i weight[2];
    TVLM_UNROLL
    for (size_t h = 0; h < halves; h++)
        weight[h] = load256(w + 32 * h);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __m256i v = _mm256_set1_epi32((int)load_four(x + r * ldx, n));
        TVLM_UNROLL
        for (size_t h = 0; h < halves; h++)
            acc[r][h] = dot4(acc[r][h], v, weight[h]);
    }
}

/* (r - zr) rmult of the residuals of row m, eight columns. */
TVLM_INLINE __m256 residual8(const qpanel *panel, size_t m, const size_t half, const bool whole)
{
    const tvlm_qgemm_args *args = panel->args;
    const uint8_t *r = args->residual + m * args->ldr + panel->n + 8 * half;
    __m256i v = _mm256_cvtepu8_epi32(tvlm_load_bytes8(r, whole ? 8 : panel->columns - 8 * half));
    v = _mm256_sub_epi32(v, _mm256_set1_epi32(args->zr));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(args->rmult));
}

/* Rows of 16 or 8 results, as many as the register holds and `rows` wants. */
TVLM_INLINE void store_rows(uint8_t *y, size_t ldy, __m256i bytes, const size_t rows,
                            const size_t halves)
{
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    if (halves == 2) {
        _mm_storeu_si128((__m128i *)(void *)y, low);
        if (rows > 1) _mm_storeu_si128((__m128i *)(void *)(y + ldy), high);
        return;
    }
    _mm_storel_epi64((__m128i *)(void *)y, low);
    if (rows > 1) _mm_storeh_pd((double *)(void *)(y + ldy), _mm_castsi128_pd(low));
    if (rows > 2) _mm_storel_epi64((__m128i *)(void *)(y + 2 * ldy), high);
    if (rows > 3) _mm_storeh_pd((double *)(void *)(y + 3 * ldy), _mm_castsi128_pd(high));
}

/* The same where the panel has fewer columns. */
static void store_columns(uint8_t *y, size_t ldy, __m256i bytes, size_t rows, size_t halves,
                          size_t columns)
{
    uint8_t all[32];
    store256(all, bytes);
    for (size_t r = 0; r < 4 / halves && r < rows; r++)
        memcpy(y + r * ldy, all + 8 * halves * r, columns);
}

/* The tile's sums, eight columns after eight, row after row: four of them make a register. */
TVLM_INLINE void store_tile(const qpanel *panel, const __m256i acc[ROWS][2], const size_t rows,
                            const size_t halves, const bool whole, const bool residual, size_t m)
{
    const size_t n = rows * halves, ldy = panel->args->ldy;
    uint8_t *y = panel->args->y + m * ldy + panel->n;
    __m256 v[2 * ROWS];
    TVLM_UNROLL
    for (size_t i = 0; i < n; i++) {
        const size_t r = i / halves, h = i % halves;
        v[i] = scale8(acc[r][h], panel->mult + 8 * h, panel->beta + 8 * h);
        if (residual) v[i] = _mm256_add_ps(v[i], residual8(panel, m + r, h, whole));
    }
    TVLM_UNROLL
    for (size_t i = 0; i < n; i += 4) {
        __m256i bytes = round32(v[i], v[i + 1 < n ? i + 1 : i], v[i + 2 < n ? i + 2 : i],
                                v[i + 3 < n ? i + 3 : i], panel->hi, panel->lo);
        bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        const size_t row = i / halves;
        uint8_t *to = y + row * ldy;
        if (whole)
            store_rows(to, ldy, bytes, rows - row, halves);
        else
            store_columns(to, ldy, bytes, rows - row, halves, panel->columns);
    }
}

TVLM_INLINE void qgemm_tile(const qpanel *panel, const size_t rows, const size_t halves,
                            const bool whole_panel, const bool residual, size_t m)
{
    const tvlm_qgemm_args *args = panel->args;
    const size_t k = args->k, whole = k / 4 * 4, ldx = args->ldx;
    const uint8_t *x = args->x + m * ldx;
    __m256i acc[ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t h = 0; h < halves; h++)
            acc[r][h] = load256(panel->start + 8 * h);
    }
    for (size_t i = 0; i < whole; i += 4)
        qgemm_step(acc, rows, halves, panel->w + i * NR, x + i, ldx, 4);
    if (k > whole) qgemm_step(acc, rows, halves, panel->w + whole * NR, x + whole, ldx, k - whole);
    store_tile(panel, acc, rows, halves, whole_panel, residual, m);
}

/* Five rows are 3 + 2, as a tile of one row costs almost what one of two does. */
TVLM_INLINE void qgemm_rows(const qpanel *panel, const size_t halves, const bool whole,
                            const bool residual, size_t m, size_t m1)
{
    for (; m + ROWS == m1 || m + ROWS + 1 < m1; m += ROWS)
        qgemm_tile(panel, ROWS, halves, whole, residual, m);
    if (m1 - m >= 3) {
        qgemm_tile(panel, 3, halves, whole, residual, m);
        m += 3;
    }
    if (m1 - m == 2)
        qgemm_tile(panel, 2, halves, whole, residual, m);
    else if (m1 > m)
        qgemm_tile(panel, 1, halves, whole, residual, m);
}

static void qgemm(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    qpanel panel;
    for (size_t n = n0; n < n1; n += NR) {
        load_panel(&panel, args, n, n1 - n);
        if (panel.columns == NR && args->residual)
            qgemm_rows(&panel, 2, true, true, m0, m1);
        else if (panel.columns == NR)
            qgemm_rows(&panel, 2, true, false, m0, m1);
        else if (panel.columns > NR / 2)
            qgemm_rows(&panel, 2, false, args->residual != NULL, m0, m1);
        else if (panel.columns == NR / 2)
            qgemm_rows(&panel, 1, true, args->residual != NULL, m0, m1);
        else
            qgemm_rows(&panel, 1, false, args->residual != NULL, m0, m1);
    }
}
