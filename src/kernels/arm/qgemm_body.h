/* SPDX-License-Identifier: MIT
 * The int8 tower's linear layers on ARM: tiles of four rows by a panel. Behind bytes.h. */
#include "kernels/arm/requant.h"

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

TVLM_INLINE void qgemm_tile(const tvlm_qgemm_args *args, const requant *q, const size_t rows,
                            size_t m, size_t n)
{
    const size_t depth = (args->k + 3) / 4 * 4;
    const int8_t *w = (const int8_t *)args->w + n * depth;
    const uint8_t *x = args->x + m * args->ldx;
    int32x4_t sum[ROWS][4];
    int8x16_t v[ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_s32(0);
    size_t k = 0;
    for (; k + 16 <= args->k; k += 16, w += 16 * TVLM_GEMM_NR) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            v[r] = vreinterpretq_s8_u8(vld1q_u8(x + r * args->ldx + k));
        add_four(w, v, 0, rows, sum);
        add_four(w + 64, v, 1, rows, sum);
        add_four(w + 128, v, 2, rows, sum);
        add_four(w + 192, v, 3, rows, sum);
    }
    for (; k < args->k; k += 4, w += 4 * TVLM_GEMM_NR) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            uint32_t four = 0;
            memcpy(&four, x + r * args->ldx + k, args->k - k < 4 ? args->k - k : 4);
            v[r] = vreinterpretq_s8_u32(vdupq_n_u32(four));
        }
        add_four(w, v, 0, rows, sum);
    }
    for (size_t r = 0; r < rows; r++)
        requant_row(args, q, m + r, n, sum[r]);
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
