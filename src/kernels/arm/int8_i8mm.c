/* SPDX-License-Identifier: MIT
 * The int8 tower's linear layers with SMMLA, and the tier's installer. A tile is eight rows by a
 * panel, computed in halves: 16 registers of sums, each of two rows by two columns. */
#include "kernels/arm/i8mm.h"

#if defined(TVLM_I8MM)
#include "kernels/arm/requant_rows.h"

enum { ROWS = 8, PAIRS = ROWS / 2 };

/* Eight values of k: four of each column from w on, the next four from `next` on. */
TVLM_INLINE void add_eight(const int8_t *w, const int8_t *next, const int8x16_t x[PAIRS],
                           int32x4_t sum[PAIRS][2][2])
{
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        const int8x16_t a = vld1q_s8(w + 16 * c), b = vld1q_s8(next + 16 * c);
        TVLM_UNROLL
        for (size_t s = 0; s < 2; s++) {
            const int8x16_t columns = pair_columns(a, b, s);
            TVLM_UNROLL
            for (size_t p = 0; p < PAIRS; p++)
                sum[p][c][s] = multiply_pairs(sum[p][c][s], x[p], columns);
        }
    }
}

TVLM_INLINE int8x16_t load_sixteen(const uint8_t *x)
{
    return vreinterpretq_s8_u8(vld1q_u8(x));
}

TVLM_INLINE void add_sixteen(const int8_t *w, const uint8_t *x, size_t ldx,
                             int32x4_t sum[PAIRS][2][2])
{
    int8x16_t low[PAIRS], high[PAIRS];
    TVLM_UNROLL
    for (size_t p = 0; p < PAIRS; p++) {
        const int8x16_t a = load_sixteen(x + 2 * p * ldx), b = load_sixteen(x + (2 * p + 1) * ldx);
        low[p] = pair_rows(a, b, 0);
        high[p] = pair_rows(a, b, 1);
    }
    add_eight(w, w + 64, low, sum);
    add_eight(w + 128, w + 192, high, sum);
}

/* The last n (<= 8) values of k; the panel ends with the four that hold the last. */
TVLM_INLINE void add_last(const int8_t *w, const uint8_t *x, size_t ldx, const size_t n,
                          int32x4_t sum[PAIRS][2][2])
{
    int8x16_t pair[PAIRS];
    TVLM_UNROLL
    for (size_t p = 0; p < PAIRS; p++) {
        uint8_t bytes[16] = {0};
        memcpy(bytes, x + 2 * p * ldx, n);
        memcpy(bytes + 8, x + (2 * p + 1) * ldx, n);
        pair[p] = load_sixteen(bytes);
    }
    add_eight(w, n > 4 ? w + 64 : w, pair, sum);
}

/* Columns 8h .. 8h + 7 of the panel w. */
TVLM_INLINE void half_tile(const tvlm_qgemm_args *args, const requant *q, const int8_t *w,
                           const uint8_t *x, size_t h, int32x4_t out[ROWS][4])
{
    int32x4_t sum[PAIRS][2][2];
    TVLM_UNROLL
    for (size_t i = 0; i < 4; i++) {
        const int32x2_t columns = vld1_s32(q->start + 8 * h + 2 * i);
        TVLM_UNROLL
        for (size_t p = 0; p < PAIRS; p++)
            sum[p][i / 2][i % 2] = vcombine_s32(columns, columns);
    }
    size_t k = 0;
    for (w += 32 * h; k + 16 <= args->k; k += 16)
        add_sixteen(w + k * TVLM_GEMM_NR, x + k, args->ldx, sum);
    for (; k + 8 <= args->k; k += 8)
        add_last(w + k * TVLM_GEMM_NR, x + k, args->ldx, 8, sum);
    if (k < args->k) add_last(w + k * TVLM_GEMM_NR, x + k, args->ldx, args->k - k, sum);
    TVLM_UNROLL
    for (size_t i = 0; i < ROWS * 2; i++)
        out[i / 2][2 * h + i % 2] = row_of_pairs(sum[i / 4][i % 2], i / 2 % 2);
}

static void tile(const tvlm_qgemm_args *args, const requant *q, size_t m, size_t n)
{
    const int8_t *w = (const int8_t *)args->w + n * ((args->k + 3) / 4 * 4);
    int32x4_t sum[ROWS][4];
    TVLM_ROLLED
    for (size_t h = 0; h < 2; h++)
        half_tile(args, q, w, args->x + m * args->ldx, h, sum);
    for (size_t r = 0; r < ROWS; r += 4)
        requant_rows(args, q, 4, m + r, n, sum + r);
}

/* Rows that are left over go to the dot products. */
static void qgemm(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    const size_t end = m0 + (m1 - m0) / ROWS * ROWS;
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const requant q = load_requant(args, n, n1);
        for (size_t m = m0; m < end; m += ROWS)
            tile(args, &q, m, n);
        if (end < m1) tvlm_dotprod_qgemm(args, end, m1, n, n + q.columns);
    }
}

void tvlm_kernels_install_i8mm(tvlm_kernels *table)
{
    table->qgemm = qgemm;
}

#else

void tvlm_kernels_install_i8mm(tvlm_kernels *table)
{
    (void)table;
}

#endif

#include "kernels/arm/target_end.h"
