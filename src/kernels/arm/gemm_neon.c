/* SPDX-License-Identifier: MIT
 * The f32 class of linear layers on NEON. A tile is four rows of x by a panel of 16 columns, or one
 * row by four panels: 16 sums hide the latency; four values of x of a row multiply from one
 * register's lanes. Block types become 32 x 16 floats once for up to 16 rows. */
#include "cpu/cpu.h"
#include "kernels/arm/neon.h"

#if defined(__aarch64__)

enum { MAX_ROWS = 4, MAX_PANELS = 4, GROUP = 16 };

typedef enum weight_kind { W_F32, W_F16, W_BF16 } weight_kind;

TVLM_INLINE float32x4_t load_weight4(weight_kind kind, const unsigned char *p)
{
    if (kind == W_F32) return vreinterpretq_f32_u8(vld1q_u8(p));
    if (kind == W_F16) return tvlm_load_half4(p);
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* acc[row][panel] += weights at one k times lane `lane` of x. */
TVLM_INLINE void multiply(weight_kind kind, const size_t rows, const size_t panels,
                          const unsigned char *w, size_t stride, const float32x4_t x[MAX_ROWS],
                          const int lane, float32x4_t acc[MAX_ROWS][MAX_PANELS][4])
{
    const size_t size = kind == W_F32 ? 4 : 2;
    TVLM_UNROLL
    for (size_t p = 0; p < panels; p++) {
        TVLM_UNROLL
        for (size_t c = 0; c < 4; c++) {
            float32x4_t weight = load_weight4(kind, w + p * stride + 4 * c * size);
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                float32x4_t *sum = &acc[r][p][c];
                *sum = lane == 0   ? vfmaq_laneq_f32(*sum, weight, x[r], 0)
                       : lane == 1 ? vfmaq_laneq_f32(*sum, weight, x[r], 1)
                       : lane == 2 ? vfmaq_laneq_f32(*sum, weight, x[r], 2)
                                   : vfmaq_laneq_f32(*sum, weight, x[r], 3);
            }
        }
    }
}

/* sums[row][16 * panel + column] = sum over k of weights [k][16], panels `stride` bytes apart,
 * times x[row][k]. */
TVLM_INLINE void tile(weight_kind kind, const size_t rows, const size_t panels,
                      const unsigned char *w, size_t stride, const float *x, size_t ldx,
                      size_t depth, float *sums, size_t ld_sums)
{
    const size_t step = (kind == W_F32 ? 4 : 2) * TVLM_GEMM_NR;
    float32x4_t acc[MAX_ROWS][MAX_PANELS][4], value[MAX_ROWS];
    TVLM_UNROLL
    for (size_t i = 0; i < rows * panels * 4; i++)
        acc[i / (panels * 4)][i / 4 % panels][i % 4] = vdupq_n_f32(0.0f);
    size_t k = 0;
    for (; k + 4 <= depth; k += 4, w += 4 * step) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            value[r] = vld1q_f32(x + r * ldx + k);
        multiply(kind, rows, panels, w, stride, value, 0, acc);
        multiply(kind, rows, panels, w + step, stride, value, 1, acc);
        multiply(kind, rows, panels, w + 2 * step, stride, value, 2, acc);
        multiply(kind, rows, panels, w + 3 * step, stride, value, 3, acc);
    }
    for (; k < depth; k++, w += step) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            value[r] = vdupq_n_f32(x[r * ldx + k]);
        multiply(kind, rows, panels, w, stride, value, 0, acc);
    }
    TVLM_UNROLL
    for (size_t i = 0; i < rows * panels * 4; i++) {
        const size_t r = i / (panels * 4), p = i / 4 % panels, c = i % 4;
        vst1q_f32(sums + r * ld_sums + 16 * p + 4 * c, acc[r][p][c]);
    }
}

TVLM_INLINE void tile_rows(weight_kind kind, size_t rows, const unsigned char *w, const float *x,
                           size_t ldx, size_t depth, float *sums, size_t ld_sums)
{
    if (rows == 4)
        tile(kind, 4, 1, w, 0, x, ldx, depth, sums, ld_sums);
    else if (rows == 3)
        tile(kind, 3, 1, w, 0, x, ldx, depth, sums, ld_sums);
    else if (rows == 2)
        tile(kind, 2, 1, w, 0, x, ldx, depth, sums, ld_sums);
    else
        tile(kind, 1, 1, w, 0, x, ldx, depth, sums, ld_sums);
}

TVLM_INLINE void run_float(const tvlm_gemm_args *args, weight_kind kind, size_t m0, size_t m1,
                           size_t n0, size_t n1)
{
    const size_t stride = (kind == W_F32 ? 4 : 2) * TVLM_GEMM_NR * args->k;
    const size_t ldx = args->ldx / sizeof(float);
    float sums[MAX_ROWS * TVLM_GEMM_NR];
    for (size_t n = n0; n < n1;) {
        const unsigned char *w = (const unsigned char *)args->w + n / TVLM_GEMM_NR * stride;
        if (m1 - m0 == 1 && n1 - n >= MAX_PANELS * TVLM_GEMM_NR) {
            tile(kind, 1, MAX_PANELS, w, stride, tvlm_gemm_row(args, m0), ldx, args->k, sums, 0);
            for (size_t p = 0; p < MAX_PANELS; p++, n += TVLM_GEMM_NR)
                tvlm_epilogue16(args, m0, n, n1, sums + TVLM_GEMM_NR * p);
            continue;
        }
        for (size_t m = m0; m < m1; m += MAX_ROWS) {
            size_t rows = m1 - m < MAX_ROWS ? m1 - m : MAX_ROWS;
            tile_rows(kind, rows, w, tvlm_gemm_row(args, m), ldx, args->k, sums, TVLM_GEMM_NR);
            for (size_t r = 0; r < rows; r++)
                tvlm_epilogue16(args, m + r, n, n1, sums + TVLM_GEMM_NR * r);
        }
        n += TVLM_GEMM_NR;
    }
}

#define FLOAT_RUN(name, kind)                                                                      \
    static void name##_neon(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,           \
                            size_t n1)                                                             \
    {                                                                                              \
        run_float(args, kind, m0, m1, n0, n1);                                                     \
    }
FLOAT_RUN(gemm_f32, W_F32)
FLOAT_RUN(gemm_f16, W_F16)
FLOAT_RUN(gemm_bf16, W_BF16)

/* ---- block types ---- */

/* Weight k of a block, columns 4c .. 4c + 3. */
TVLM_INLINE float32x4_t weight4(const tvlm_block_layout *layout, const unsigned char *block,
                                size_t k, size_t c)
{
    if (layout->bits == 8) {
        int16x8_t q = vmovl_s8(
            vreinterpret_s8_u8(vld1_u8(block + layout->code_at + k * TVLM_GEMM_NR + c / 2 * 8)));
        return vcvtq_f32_s32(vmovl_s16(c % 2 ? vget_high_s16(q) : vget_low_s16(q)));
    }
    uint32x4_t word =
        vreinterpretq_u32_u8(vld1q_u8(block + layout->code_at + (k / 8 * 4 + c) * 16));
    uint32x4_t q = vandq_u32(vshlq_u32(word, vdupq_n_s32(-4 * (int)(k % 8))), vdupq_n_u32(15));
    if (layout->bits == 5) {
        uint32x4_t high = vreinterpretq_u32_u8(vld1q_u8(block + layout->high_at + 16 * c));
        high = vshlq_u32(high, vdupq_n_s32(4 - (int)k));
        q = vorrq_u32(q, vandq_u32(high, vdupq_n_u32(16)));
    }
    return vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(q), vdupq_n_s32(layout->offset)));
}

TVLM_INLINE float block_x_sum(const float *x)
{
    tvlm_f8 low = tvlm_add8(tvlm_load8(x), tvlm_load8(x + 8));
    return tvlm_hsum8(tvlm_add8(low, tvlm_add8(tvlm_load8(x + 16), tvlm_load8(x + 24))));
}

/* acc += d * sum (+ m * xsum) for 16 columns. */
TVLM_INLINE void add_block(const tvlm_block_layout *layout, const unsigned char *block,
                           const float *x, const float *sum, float *acc)
{
    const float32x4_t total = vdupq_n_f32(layout->m_at ? block_x_sum(x) : 0.0f);
    TVLM_UNROLL
    for (size_t c = 0; c < 4; c++) {
        float32x4_t a = vld1q_f32(acc + 4 * c);
        a = tvlm_fma4(tvlm_load_half4(block + 8 * c), vld1q_f32(sum + 4 * c), a);
        if (layout->m_at) a = tvlm_fma4(tvlm_load_half4(block + layout->m_at + 8 * c), total, a);
        vst1q_f32(acc + 4 * c, a);
    }
}

TVLM_INLINE void block_rows(const tvlm_block_layout *layout, const unsigned char *panel,
                            const float *x, size_t ldx, size_t rows, size_t n_blocks,
                            float acc[GROUP][TVLM_GEMM_NR])
{
    float weights[TVLM_BLOCK][TVLM_GEMM_NR], sums[MAX_ROWS][TVLM_GEMM_NR];
    for (size_t b = 0; b < n_blocks; b++, panel += layout->bytes, x += TVLM_BLOCK) {
        for (size_t k = 0; k < TVLM_BLOCK; k++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 4; c++)
                vst1q_f32(&weights[k][4 * c], weight4(layout, panel, k, c));
        }
        for (size_t m = 0, n; m < rows; m += n) {
            n = rows - m < MAX_ROWS ? rows - m : MAX_ROWS;
            tile_rows(W_F32, n, (const unsigned char *)weights, x + m * ldx, ldx, TVLM_BLOCK,
                      sums[0], TVLM_GEMM_NR);
            for (size_t r = m; r < m + n; r++)
                add_block(layout, panel, x + r * ldx, sums[r - m], acc[r]);
        }
    }
}

TVLM_INLINE void run_block(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                           size_t n0, size_t n1)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t n_blocks = args->k / TVLM_BLOCK;
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * n_blocks * layout.bytes;
        for (size_t m = m0; m < m1; m += GROUP) {
            const size_t rows = m1 - m < GROUP ? m1 - m : GROUP;
            float acc[GROUP][TVLM_GEMM_NR] = {{0}};
            block_rows(&layout, panel, tvlm_gemm_row(args, m), args->ldx / sizeof(float), rows,
                       n_blocks, acc);
            for (size_t r = 0; r < rows; r++)
                tvlm_epilogue16(args, m + r, n, n1, acc[r]);
        }
    }
}

#define BLOCK_RUN(name, type)                                                                      \
    static void name##_neon(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,           \
                            size_t n1)                                                             \
    {                                                                                              \
        run_block(args, type, m0, m1, n0, n1);                                                     \
    }
BLOCK_RUN(gemm_q8_0, TVLM_TYPE_Q8_0)
BLOCK_RUN(gemm_q4_0, TVLM_TYPE_Q4_0)
BLOCK_RUN(gemm_q4_1, TVLM_TYPE_Q4_1)
BLOCK_RUN(gemm_q5_0, TVLM_TYPE_Q5_0)
BLOCK_RUN(gemm_q5_1, TVLM_TYPE_Q5_1)

#define KERNEL(id, TYPE)                                                                           \
    {"neon " #id " f32", TVLM_CPU_NEON, TVLM_TYPE_##TYPE, TVLM_NUMERIC_F32,                        \
     &tvlm_layout_f32,   NULL,          gemm_##id##_neon}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32),   KERNEL(f16, F16),   KERNEL(bf16, BF16),
                                    KERNEL(q8_0, Q8_0), KERNEL(q4_0, Q4_0), KERNEL(q4_1, Q4_1),
                                    KERNEL(q5_0, Q5_0), KERNEL(q5_1, Q5_1)};
const tvlm_gemm_tier tvlm_gemm_neon = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_neon = {NULL, 0};

#endif
