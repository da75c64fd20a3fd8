/* SPDX-License-Identifier: MIT
 * The int8 tower's linear layers on ARM: tiles of four rows by a panel. Behind bytes.h. */

enum { ROWS = 4 };

/* What turns the sums of a panel's columns n .. n1 into bytes. */
typedef struct requant {
    int32_t offset[TVLM_GEMM_NR]; /* zx wsum */
    float mult[TVLM_GEMM_NR], beta[TVLM_GEMM_NR];
    size_t columns;
} requant;

static requant load_requant(const tvlm_qgemm_args *args, size_t n, size_t n1)
{
    requant q = {.columns = n1 - n < TVLM_GEMM_NR ? n1 - n : TVLM_GEMM_NR};
    for (size_t c = 0; c < q.columns; c++)
        q.offset[c] = args->zx * args->wsum[n + c];
    memcpy(q.mult, args->mult + n, q.columns * sizeof *q.mult);
    memcpy(q.beta, args->beta + n, q.columns * sizeof *q.beta);
    return q;
}

/* The steps and roundings of kernels.h for four columns; bounds are integers, so it does not matter
 * that they are kept before the rounding. A NaN becomes lo. */
TVLM_INLINE uint16x4_t requant4(const tvlm_qgemm_args *args, const requant *q, size_t c,
                                int32x4_t sum, const uint8_t *residual)
{
    float32x4_t v = vcvtq_f32_s32(vsubq_s32(sum, vld1q_s32(q->offset + c)));
    v = vaddq_f32(vmulq_f32(v, vld1q_f32(q->mult + c)), vld1q_f32(q->beta + c));
    if (residual) {
        uint32_t four;
        memcpy(&four, residual + c, sizeof four);
        uint16x4_t words = vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))));
        int32x4_t r = vsubq_s32(vreinterpretq_s32_u32(vmovl_u16(words)), vdupq_n_s32(args->zr));
        v = vaddq_f32(v, vmulq_n_f32(vcvtq_f32_s32(r), args->rmult));
    }
    v = vmaxnmq_f32(v, vdupq_n_f32((float)args->lo));
    v = vminnmq_f32(v, vdupq_n_f32((float)args->hi));
    return vmovn_u32(vcvtnq_u32_f32(v));
}

static void requant_row(const tvlm_qgemm_args *args, const requant *q, size_t m, size_t n,
                        const int32x4_t sum[4])
{
    uint8_t bytes[TVLM_GEMM_NR], rest[TVLM_GEMM_NR] = {0};
    const uint8_t *residual = NULL;
    if (args->residual) {
        residual = args->residual + m * args->ldr + n;
        if (q->columns < TVLM_GEMM_NR) residual = memcpy(rest, residual, q->columns);
    }
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        uint16x4_t low = requant4(args, q, 8 * h, sum[2 * h], residual);
        uint16x4_t high = requant4(args, q, 8 * h + 4, sum[2 * h + 1], residual);
        vst1_u8(bytes + 8 * h, vmovn_u16(vcombine_u16(low, high)));
    }
    memcpy(args->y + m * args->ldy + n, bytes, q->columns);
}

/* Four values of k from w on, lane `lane` of a row's q. */
TVLM_INLINE void add_four(const int8_t *w, const int8x16_t q[ROWS], const int lane,
                          const size_t rows, int32x4_t sum[ROWS][4])
{
    TVLM_UNROLL
    for (size_t c = 0; c < 4; c++) {
        int8x16_t codes = vld1q_s8(w + 16 * c);
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
