/* SPDX-License-Identifier: MIT
 * The int8 tower's linear layers on ARM: tiles of four rows by a panel. Behind bytes.h. */
#include "kernels/arm/requant_rows.h"

enum { ROWS = 4 };

/* Four values of k from w on, lane `lane` of a row's q. */
TVLM_INLINE void add_four(const int8_t *w, const int8x16_t q[ROWS], const int lane,
                          const size_t rows, int32x4_t sum[ROWS][4])
{
    TVLM_UNROLL
    for (size_t c = 0; c < 4; c++) {
        int8x16_t codes = vld1q_s8(w + 16 * c);
        TVLM_IN_ORDER(codes);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][c] = multiply_bytes(sum[r][c], codes, q[r], lane);
    }
}

/* Sixteen values of k, from k on. */
TVLM_INLINE void add_sixteen(const int8_t *w, const uint8_t *const x[ROWS], size_t k,
                             const size_t rows, int32x4_t sum[ROWS][4])
{
    int8x16_t v[ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        v[r] = vreinterpretq_s8_u8(vld1q_u8(x[r] + k));
    w += k * TVLM_GEMM_NR;
    add_four(w, v, 0, rows, sum);
    add_four(w + 64, v, 1, rows, sum);
    add_four(w + 128, v, 2, rows, sum);
    add_four(w + 192, v, 3, rows, sum);
}

/* n (<= 4) values. */
TVLM_INLINE void add_some(const int8_t *w, const uint8_t *const x[ROWS], size_t k, const size_t n,
                          const size_t rows, int32x4_t sum[ROWS][4])
{
    int8x16_t v[ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        uint32_t four = 0;
        memcpy(&four, x[r] + k, n);
        v[r] = vreinterpretq_s8_u32(vdupq_n_u32(four));
    }
    add_four(w + k * TVLM_GEMM_NR, v, 0, rows, sum);
}

TVLM_INLINE void qgemm_tile(const tvlm_qgemm_args *args, const requant *q, const size_t rows,
                            size_t m, size_t n)
{
    const size_t sixteens = args->k / 16 * 16, fours = args->k / 4 * 4; /* where they end */
    const int8_t *w = (const int8_t *)args->w + n * ((args->k + 3) / 4 * 4);
    const uint8_t *x[ROWS];
    int32x4_t sum[ROWS][4];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = args->x + (m + r) * args->ldx;
        TVLM_UNROLL
        for (size_t c = 0; c < 4; c++)
            sum[r][c] = vld1q_s32(q->start + 4 * c);
    }
    size_t k = 0;
    for (; k < sixteens; k += 16)
        add_sixteen(w, x, k, rows, sum);
    for (; k < fours; k += 4)
        add_some(w, x, k, 4, rows, sum);
    if (k < args->k) add_some(w, x, k, args->k - k, rows, sum);
    requant_rows(args, q, rows, m, n, sum);
}

static void qgemm(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const requant q = load_requant(args, n, n1);
        size_t m = m0;
        for (; m + ROWS <= m1; m += ROWS)
            qgemm_tile(args, &q, ROWS, m, n);
        for (; m < m1; m++)
            qgemm_tile(args, &q, 1, m, n);
    }
}
