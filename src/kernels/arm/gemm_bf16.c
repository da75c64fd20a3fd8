/* SPDX-License-Identifier: MIT
 * The odd bf16 class of linear layers with BFMMLA, which multiplies two rows by two columns, four k
 * of each. A tile is eight rows by half a panel, or up to four rows by a panel; of an odd number of
 * rows the last is its own partner. */
#include "cpu/cpu.h"
#include "kernels/arm/bf16.h"

#if defined(TVLM_BF16)

enum { MAX_PAIRS = 4, MAX_COLUMNS = 8 }; /* pairs of rows, pairs of columns */

typedef float32x4_t pair_sums[MAX_PAIRS][MAX_COLUMNS];

/* Four k: weights from w on, rows in pairs. */
TVLM_INLINE void add_four(const uint16_t *w, const uint16x8_t x[MAX_PAIRS], const size_t pairs,
                          const size_t columns, pair_sums sum)
{
    TVLM_UNROLL
    for (size_t c = 0; c < columns; c++) {
        uint16x8_t two = vld1q_u16(w + 8 * c);
        TVLM_IN_ORDER(two);
        TVLM_UNROLL
        for (size_t p = 0; p < pairs; p++)
            sum[p][c] = multiply_pairs(sum[p][c], x[p], two);
    }
}

TVLM_INLINE void tile(const uint16_t *w, const uint16_t *const x[2 * MAX_PAIRS], size_t depth,
                      const size_t pairs, const size_t columns, pair_sums sum)
{
    TVLM_UNROLL
    for (size_t i = 0; i < pairs * columns; i++)
        sum[i / columns][i % columns] = vdupq_n_f32(0.0f);
    for (size_t k = 0; k < depth; k += 4) {
        uint16x8_t two[MAX_PAIRS];
        TVLM_UNROLL
        for (size_t p = 0; p < pairs; p++)
            two[p] = vcombine_u16(vld1_u16(x[2 * p] + k), vld1_u16(x[2 * p + 1] + k));
        add_four(w + k * TVLM_GEMM_NR, two, pairs, columns, sum);
    }
}

/* `rows` rows of x from m on, at most two for each pair, by columns n .. end of a panel's first
 * 2 * columns from n on. */
TVLM_INLINE void run_tile(const tvlm_gemm_args *args, const size_t pairs, const size_t columns,
                          size_t m, size_t rows, size_t n, size_t end)
{
    const size_t depth = (args->k + 3) / 4 * 4, column = n % TVLM_GEMM_NR;
    const uint16_t *w = (const uint16_t *)args->w + (n - column) * depth + 4 * column;
    const uint16_t *x[2 * MAX_PAIRS];
    float out[2 * MAX_PAIRS][2 * MAX_COLUMNS];
    pair_sums sum;
    for (size_t r = 0; r < 2 * pairs; r++)
        x[r] = tvlm_gemm_row(args, m + (r < rows ? r : rows - 1));
    tile(w, x, depth, pairs, columns, sum);
    TVLM_UNROLL
    for (size_t p = 0; p < pairs; p++) {
        TVLM_UNROLL
        for (size_t c = 0; c < columns; c++) {
            vst1_f32(&out[2 * p][2 * c], vget_low_f32(sum[p][c]));
            vst1_f32(&out[2 * p + 1][2 * c], vget_high_f32(sum[p][c]));
        }
    }
    if (end > n + 2 * columns) end = n + 2 * columns;
    for (size_t r = 0; r < rows; r++)
        tvlm_epilogue16(args, m + r, n, end, out[r]);
}

/* At most eight rows. */
static void run_rows(const tvlm_gemm_args *args, size_t m, size_t rows, size_t n, size_t end)
{
    if (rows > 4) {
        run_tile(args, 4, 4, m, rows, n, end);
        if (end > n + 8) run_tile(args, 4, 4, m, rows, n + 8, end);
    } else if (rows > 2) {
        run_tile(args, 2, 8, m, rows, n, end);
    } else {
        run_tile(args, 1, 8, m, rows, n, end);
    }
}

static void gemm_bf16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR)
        for (size_t m = m0; m < m1; m += 2 * MAX_PAIRS)
            run_rows(args, m, m1 - m < 2 * MAX_PAIRS ? m1 - m : 2 * MAX_PAIRS, n, n1);
}

#define KERNEL(id, TYPE)                                                                           \
    {"bf16 " #id " bf16 odd",                                                                      \
     TVLM_CPU_NEON | TVLM_CPU_BF16,                                                                \
     TVLM_TYPE_##TYPE,                                                                             \
     TVLM_NUMERIC_BF16_ODD,                                                                        \
     &tvlm_layout_bf16_odd,                                                                        \
     &tvlm_input_bf16_odd,                                                                         \
     gemm_bf16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_bf16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_bf16 = {NULL, 0};

#endif

#include "kernels/arm/target_end.h"
