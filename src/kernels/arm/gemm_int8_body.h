/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers on ARM, exact within a block as pack.h states. A tile is four
 * rows of x by a panel: 16 registers of sums, each of four columns; with SMMLA eight rows by a
 * panel, computed in halves, each register of two rows by two columns. Included once by a tier's
 * file, behind bytes.h or i8mm.h. */

#if defined(TVLM_I8MM)
enum { MAX_ROWS = 8, GROUPS = 2, PARTS = 8 }; /* groups of four columns that are computed at once */
#else
enum { MAX_ROWS = 4, GROUPS = 4, PARTS = 8 };
#endif

/* Where 32 weights of a panel's columns are. */
typedef struct code_part {
    const unsigned char *code, *high; /* high bits, where there are more than four */
} code_part;

/* Weights 4j .. 4j + 3 of columns 4c .. 4c + 3 in bytes. */
TVLM_INLINE int8x16_t load_codes(const unsigned bits, code_part part, const size_t j, size_t c)
{
    if (bits == 8) return vreinterpretq_s8_u8(vld1q_u8(part.code + (4 * j + c) * 16));
    uint8x16_t bytes = vld1q_u8(part.code + (4 * (j % 4) + c) * 16);
    bytes = j >= 4 ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
    if (bits == 4) return vreinterpretq_s8_u8(bytes);
    /* the lowest high bit of each byte is its bit `at`, and belongs at 4 */
    const int at = (int)(bits == 5 ? j : 2 * (j % 4));
    uint8x16_t high = vld1q_u8(part.high + (bits == 6 ? 64 * (j / 4) : 0) + 16 * c);
    high = vshlq_u8(high, vdupq_n_s8((int8_t)(4 - at)));
    high = vandq_u8(high, vdupq_n_u8(bits == 5 ? 16 : 48));
    return vreinterpretq_s8_u8(vorrq_u8(bytes, high));
}

#if defined(TVLM_I8MM)

/* sum[p][c][s] += eight products from the j-th and the next four weights on; x: of pairs of rows.
 */
TVLM_INLINE void add_eight(const unsigned bits, code_part part, const size_t j, size_t c0,
                           const int8x16_t x[MAX_ROWS / 2], int32x4_t sum[MAX_ROWS / 2][GROUPS][2])
{
    TVLM_UNROLL
    for (size_t c = 0; c < GROUPS; c++) {
        const int8x16_t a = load_codes(bits, part, j, c0 + c);
        const int8x16_t b = load_codes(bits, part, j + 1, c0 + c);
        TVLM_UNROLL
        for (size_t s = 0; s < 2; s++) {
            const int8x16_t w = pair_columns(a, b, s);
            TVLM_UNROLL
            for (size_t p = 0; p < MAX_ROWS / 2; p++)
                sum[p][c][s] = multiply_pairs(sum[p][c][s], x[p], w);
        }
    }
}

/* sum = 32 products, or the 16 of half h of 6 bits, of columns from group c0 on. */
TVLM_INLINE void part_sums(const unsigned bits, code_part part,
                           const tvlm_half_block *const x[MAX_ROWS], const size_t rows, size_t c0,
                           const size_t h, int32x4_t sum[MAX_ROWS][GROUPS])
{
    int32x4_t pair[MAX_ROWS / 2][GROUPS][2];
    TVLM_UNROLL
    for (size_t i = 0; i < rows / 2 * GROUPS * 2; i++)
        pair[i / (2 * GROUPS)][i / 2 % GROUPS][i % 2] = vdupq_n_s32(0);
    TVLM_UNROLL
    for (size_t half = 0; half < 2; half++) {
        if (bits == 6 && half != h) continue;
        int8x16_t low[MAX_ROWS / 2], high[MAX_ROWS / 2];
        TVLM_UNROLL
        for (size_t p = 0; p < rows / 2; p++) {
            const int8x16_t a = vld1q_s8(x[2 * p]->q + 16 * half);
            const int8x16_t b = vld1q_s8(x[2 * p + 1]->q + 16 * half);
            low[p] = pair_rows(a, b, 0);
            high[p] = pair_rows(a, b, 1);
        }
        add_eight(bits, part, 4 * half, c0, low, pair);
        add_eight(bits, part, 4 * half + 2, c0, high, pair);
    }
    TVLM_UNROLL
    for (size_t i = 0; i < rows * GROUPS; i++)
        sum[i / GROUPS][i % GROUPS] =
            row_of_pairs(pair[i / (2 * GROUPS)][i % GROUPS], i / GROUPS % 2);
}

#else

/* sum = 32 products, or the 16 of half h of 6 bits, of columns from group c0 on. */
TVLM_INLINE void part_sums(const unsigned bits, code_part part,
                           const tvlm_half_block *const x[MAX_ROWS], const size_t rows, size_t c0,
                           const size_t h, int32x4_t sum[MAX_ROWS][GROUPS])
{
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_s32(0);
    TVLM_UNROLL
    for (size_t half = 0; half < 2; half++) {
        if (bits == 6 && half != h) continue;
        int8x16_t q[MAX_ROWS];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            q[r] = vld1q_s8(x[r]->q + 16 * half);
        TVLM_UNROLL
        for (size_t i = 0; i < 4; i++) {
            TVLM_UNROLL
            for (size_t c = 0; c < GROUPS; c++) {
                int8x16_t w = load_codes(bits, part, 4 * half + i, c0 + c);
                TVLM_IN_ORDER(w);
                TVLM_UNROLL
                for (size_t r = 0; r < rows; r++)
                    sum[r][c] = multiply_bytes(sum[r][c], w, q[r], (int)i);
            }
        }
    }
}

#endif

TVLM_INLINE float32x4_t scaled_total(int32x4_t total, float d)
{
    return vmulq_n_f32(vcvtq_f32_s32(total), d);
}

/* out += w * v (+ m * s) for four columns. */
TVLM_INLINE void add_to(float *out, float32x4_t w, float32x4_t v, const float32x4_t *m, float s)
{
    float32x4_t acc = tvlm_fma4(w, v, vld1q_f32(out));
    if (m) acc = tvlm_fma4(*m, vdupq_n_f32(s), acc);
    vst1q_f32(out, acc);
}

/* ---- block types ---- */

/* out += d_w * (total * d) (+ m * (sum * d)) */
TVLM_INLINE void step_block(tvlm_type type, const unsigned char *block,
                            const tvlm_half_block *const x[MAX_ROWS], const size_t rows, size_t c0,
                            float out[MAX_ROWS][TVLM_GEMM_NR])
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    int32x4_t sum[MAX_ROWS][GROUPS];
    part_sums(layout.bits, (code_part){block + layout.code_at, block + layout.high_at}, x, rows, c0,
              0, sum);
    TVLM_UNROLL
    for (size_t c = 0; c < GROUPS; c++) {
        const float32x4_t d = tvlm_load_half4(block + 8 * (c0 + c));
        const float32x4_t m = tvlm_load_half4(block + layout.m_at + 8 * (c0 + c));
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const int32_t x_sum = x[r]->sum[0] + x[r]->sum[1];
            int32x4_t total = sum[r][c];
            if (layout.offset) total = vsubq_s32(total, vdupq_n_s32(layout.offset * x_sum));
            add_to(&out[r][4 * (c0 + c)], d, scaled_total(total, x[r]->d), layout.m_at ? &m : NULL,
                   (float)x_sum * x[r]->d);
        }
    }
}

/* ---- K-quants ---- */

TVLM_INLINE uint16x8_t load_small(const unsigned char *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
}

/* d of four columns (halves from p on) times their scales of part p, exact. */
TVLM_INLINE float32x4_t scaled4(const unsigned char *d, const unsigned char *scale)
{
    uint32x4_t value = vmovl_u16(vget_low_u16(load_small(scale)));
    return vmulq_f32(tvlm_load_half4(d), vcvtq_f32_u32(value));
}

/* out += d * scale * (total * x->d) - min * m * (x's sum * x->d) */
TVLM_INLINE void step_affine(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                             const tvlm_half_block *const x[MAX_ROWS], const size_t rows, size_t c0,
                             float out[MAX_ROWS][TVLM_GEMM_NR])
{
    const unsigned char *from = block + layout->part_at + p * layout->part_bytes;
    int32x4_t sum[MAX_ROWS][GROUPS];
    part_sums(layout->bits, (code_part){from + layout->code_at, from}, x, rows, c0, 0, sum);
    TVLM_UNROLL
    for (size_t c = 0; c < GROUPS; c++) {
        const size_t small = 16 * p + 4 * (c0 + c);
        float32x4_t scale = scaled4(block + 8 * (c0 + c), block + layout->scale_at + small);
        float32x4_t m = scaled4(block + 32 + 8 * (c0 + c), block + layout->m_at + small);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            add_to(&out[r][4 * (c0 + c)], scale, scaled_total(sum[r][c], x[r]->d), &m,
                   -((float)(x[r]->sum[0] + x[r]->sum[1]) * x[r]->d));
    }
}

/* out += d * (sum over halves of scale * sum of (code - 32) * q) * x->d */
TVLM_INLINE void step_centred(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                              const tvlm_half_block *const x[MAX_ROWS], const size_t rows,
                              size_t c0, float out[MAX_ROWS][TVLM_GEMM_NR])
{
    const unsigned char *from = block + layout->part_at + p * layout->part_bytes;
    int32x4_t total[MAX_ROWS][GROUPS];
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        int32x4_t sum[MAX_ROWS][GROUPS];
        part_sums(6, (code_part){from + layout->code_at, from}, x, rows, c0, h, sum);
        TVLM_UNROLL
        for (size_t c = 0; c < GROUPS; c++) {
            const unsigned char *s = block + layout->scale_at + 16 * (2 * p + h) + 4 * (c0 + c);
            int8x8_t bytes = vreinterpret_s8_u8(vmovn_u16(load_small(s)));
            int32x4_t scale = vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                int32x4_t centred = vsubq_s32(sum[r][c], vdupq_n_s32(32 * x[r]->sum[h]));
                total[r][c] =
                    h ? vmlaq_s32(total[r][c], scale, centred) : vmulq_s32(scale, centred);
            }
        }
    }
    TVLM_UNROLL
    for (size_t c = 0; c < GROUPS; c++) {
        const float32x4_t d = tvlm_load_half4(block + 8 * (c0 + c));
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            add_to(&out[r][4 * (c0 + c)], d, scaled_total(total[r][c], x[r]->d), NULL, 0.0f);
    }
}

/* ---- tiles ---- */

TVLM_INLINE bool is_k(tvlm_type type)
{
    return type == TVLM_TYPE_Q4_K || type == TVLM_TYPE_Q5_K || type == TVLM_TYPE_Q6_K;
}

/* Block b of a panel, 32 of k. */
TVLM_INLINE void step(tvlm_type type, const unsigned char *panel, size_t b,
                      const tvlm_half_block *const x[MAX_ROWS], const size_t rows, size_t c0,
                      float out[MAX_ROWS][TVLM_GEMM_NR])
{
    if (!is_k(type)) {
        step_block(type, panel + b * tvlm_block_layout_of(type).bytes, x, rows, c0, out);
        return;
    }
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const unsigned char *block = panel + b / PARTS * layout.bytes;
    if (layout.bits == 6)
        step_centred(&layout, block, b % PARTS, x, rows, c0, out);
    else
        step_affine(&layout, block, b % PARTS, x, rows, c0, out);
}

TVLM_INLINE void tile(const tvlm_gemm_args *args, tvlm_type type, const size_t rows, size_t m,
                      const unsigned char *panel, float out[MAX_ROWS][TVLM_GEMM_NR])
{
    memset(out, 0, sizeof(float[MAX_ROWS][TVLM_GEMM_NR]));
    TVLM_ROLLED
    for (size_t c0 = 0; c0 < 4; c0 += GROUPS) {
        const tvlm_half_block *x[MAX_ROWS];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            x[r] = tvlm_gemm_row(args, m + r);
        for (size_t b = 0; b < args->k / TVLM_BLOCK; b++) {
            step(type, panel, b, x, rows, c0, out);
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++)
                x[r]++;
        }
    }
}

static size_t panel_bytes_of(tvlm_type type, size_t k)
{
    if (is_k(type)) return k / (PARTS * TVLM_BLOCK) * tvlm_k_layout_of(type).bytes;
    return k / TVLM_BLOCK * tvlm_block_layout_of(type).bytes;
}

/* Rows m0 .. m1, a multiple of `rows`, by the panel that has columns n .. n1. */
TVLM_INLINE void run_rows(const tvlm_gemm_args *args, tvlm_type type, const size_t rows, size_t m0,
                          size_t m1, size_t n, size_t n1, const unsigned char *panel)
{
    float out[MAX_ROWS][TVLM_GEMM_NR];
    for (size_t m = m0; m < m1; m += rows) {
        tile(args, type, rows, m, panel, out);
        for (size_t r = 0; r < rows; r++)
            tvlm_epilogue16(args, m + r, n, n1, out[r]);
    }
}

/* The rows after the last whole tile: one by one, or by the kernel of the tier below. */
TVLM_INLINE void run_rest(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                          size_t n, size_t n1, const unsigned char *panel)
{
#if defined(TVLM_I8MM)
    (void)panel;
    if (m0 == m1) return;
    const tvlm_gemm *dot = tvlm_gemm_dotprod_int8.kernels;
    while (dot->type != type)
        dot++;
    dot->run(args, m0, m1, n, n1 - n < TVLM_GEMM_NR ? n1 : n + TVLM_GEMM_NR);
#else
    run_rows(args, type, 1, m0, m1, n, n1, panel);
#endif
}

TVLM_INLINE void run_type(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                          size_t n0, size_t n1)
{
    const size_t panel_bytes = panel_bytes_of(type, args->k);
    const size_t m = m0 + (m1 - m0) / MAX_ROWS * MAX_ROWS;
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * panel_bytes;
        run_rows(args, type, MAX_ROWS, m0, m, n, n1, panel);
        run_rest(args, type, m, m1, n, n1, panel);
    }
}

/* ---- the kernels: TIER and CPU are the file's ---- */

#define RUN(id, TYPE)                                                                              \
    static void gemm_##id##_int8(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,      \
                                 size_t n1)                                                        \
    {                                                                                              \
        run_type(args, TVLM_TYPE_##TYPE, m0, m1, n0, n1);                                          \
    }
RUN(q8_0, Q8_0)
RUN(q4_0, Q4_0)
RUN(q4_1, Q4_1)
RUN(q5_0, Q5_0)
RUN(q5_1, Q5_1)
RUN(q4_k, Q4_K)
RUN(q5_k, Q5_K)
RUN(q6_k, Q6_K)

#define KERNEL(id, TYPE, as, layout)                                                               \
    {TIER " " #id " int8",  CPU,                                                                   \
     TVLM_TYPE_##TYPE,      TVLM_NUMERIC_INT8,                                                     \
     &tvlm_layout_##layout, &tvlm_neon_input_int8,                                                 \
     gemm_##as##_int8}
static const tvlm_gemm kernels[] = {
    KERNEL(f32, F32, q8_0, int8),   KERNEL(f16, F16, q8_0, int8),   KERNEL(bf16, BF16, q8_0, int8),
    KERNEL(q8_0, Q8_0, q8_0, int8), KERNEL(q4_0, Q4_0, q4_0, int8), KERNEL(q4_1, Q4_1, q4_1, int8),
    KERNEL(q5_0, Q5_0, q5_0, int8), KERNEL(q5_1, Q5_1, q5_1, int8), KERNEL(q4_k, Q4_K, q4_k, k),
    KERNEL(q5_k, Q5_K, q5_k, k),    KERNEL(q6_k, Q6_K, q6_k, k)};
