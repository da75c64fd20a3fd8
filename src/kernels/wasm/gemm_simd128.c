/* SPDX-License-Identifier: MIT
 * Linear layers on WebAssembly SIMD. A tile is ROWS rows of x by eight columns, half a panel:
 * 4 x 2 registers of sums leave room for weights and x among the 16 that x86 has.
 *
 * Block types: 32 x 16 codes become floats once for up to 16 rows, then the same tile runs over
 * them. One row alone decodes straight into its products. */
#include "cpu/cpu.h"
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

enum { MAX_ROWS = 4, GROUP = 16 };

static void epilogue(const tvlm_gemm_args *args, size_t m, size_t col, size_t end, const float *acc)
{
    for (size_t c = col; c < end; c += 4)
        tvlm_epilogue4(args, m, c, end - c, wasm_v128_load(acc + (c - col)));
}

typedef enum weight_kind { W_F32, W_F16, W_BF16 } weight_kind;

TVLM_INLINE v128_t load_weight4(weight_kind kind, const unsigned char *p)
{
    if (kind == W_F32) return wasm_v128_load(p);
    if (kind == W_F16) return tvlm_load_half4(p);
    return wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16);
}

/* sums[row][0..8] = sum over k of weights [k][16] (eight columns from w on) times x[row][k]. */
TVLM_INLINE void tile(weight_kind kind, const size_t rows, const unsigned char *w, const float *x,
                      size_t ldx, size_t depth, float *sums, size_t ld_sums)
{
    const size_t size = kind == W_F32 ? 4 : 2;
    v128_t acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = wasm_f32x4_splat(0.0f);
    for (size_t k = 0; k < depth; k++, w += TVLM_GEMM_NR * size) {
        v128_t w0 = load_weight4(kind, w), w1 = load_weight4(kind, w + 4 * size);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            v128_t value = wasm_v128_load32_splat(x + r * ldx + k);
            acc[r][0] = TVLM_MADD(w0, value, acc[r][0]);
            acc[r][1] = TVLM_MADD(w1, value, acc[r][1]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        wasm_v128_store(sums + r * ld_sums, acc[r][0]);
        wasm_v128_store(sums + r * ld_sums + 4, acc[r][1]);
    }
}

TVLM_INLINE void tile_rows(weight_kind kind, size_t rows, const unsigned char *w, const float *x,
                           size_t ldx, size_t depth, float *sums, size_t ld_sums)
{
    switch (rows) {
    case 4:
        tile(kind, 4, w, x, ldx, depth, sums, ld_sums);
        break;
    case 3:
        tile(kind, 3, w, x, ldx, depth, sums, ld_sums);
        break;
    case 2:
        tile(kind, 2, w, x, ldx, depth, sums, ld_sums);
        break;
    default:
        tile(kind, 1, w, x, ldx, depth, sums, ld_sums);
        break;
    }
}

TVLM_INLINE void run_float(const tvlm_gemm_args *args, weight_kind kind, size_t m0, size_t m1,
                           size_t n0, size_t n1)
{
    const size_t size = kind == W_F32 ? 4 : 2;
    float sums[MAX_ROWS * 8];
    for (size_t n = n0; n < n1; n += 8) {
        const unsigned char *w =
            (const unsigned char *)args->w +
            (n / TVLM_GEMM_NR * args->k * TVLM_GEMM_NR + n % TVLM_GEMM_NR) * size;
        size_t end = n1 - n < 8 ? n1 : n + 8;
        for (size_t m = m0; m < m1; m += MAX_ROWS) {
            size_t rows = m1 - m < MAX_ROWS ? m1 - m : MAX_ROWS;
            tile_rows(kind, rows, w, tvlm_gemm_row(args, m), args->ldx / sizeof(float), args->k,
                      sums, 8);
            for (size_t r = 0; r < rows; r++)
                epilogue(args, m + r, n, end, sums + 8 * r);
        }
    }
}

#define FLOAT_RUN(name, kind)                                                                      \
    static void name##_simd128(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,        \
                               size_t n1)                                                          \
    {                                                                                              \
        run_float(args, kind, m0, m1, n0, n1);                                                     \
    }
FLOAT_RUN(gemm_f32, W_F32)
FLOAT_RUN(gemm_f16, W_F16)
FLOAT_RUN(gemm_bf16, W_BF16)

/* ---- block types ---- */

/* The bits of 2^23, which + q has q in the low ones: cheaper than a conversion, as clang would make
 * it one of unsigned numbers, which x86 does not have. */
#define TWO_23 0x4b000000

/* Codes of 4 or 5 bits, positions 8g .. 8g + 7 of a block, 16 columns. */
typedef struct code_group {
    v128_t word[4], high[4];
} code_group;

TVLM_INLINE code_group load_group(const tvlm_block_layout *layout, const unsigned char *block,
                                  size_t g)
{
    code_group group = {0};
    if (layout->bits == 8) return group;
    TVLM_UNROLL
    for (size_t c = 0; c < 4; c++) {
        group.word[c] = wasm_v128_load(block + layout->code_at + (4 * g + c) * 16);
        if (layout->bits == 5)
            group.high[c] =
                wasm_u32x4_shr(wasm_v128_load(block + layout->high_at + 16 * c), (uint32_t)(8 * g));
    }
    return group;
}

/* Weight i of the group for columns 4c .. 4c + 3. */
TVLM_INLINE v128_t code4(const tvlm_block_layout *layout, const code_group *group, size_t i,
                         size_t c)
{
    v128_t q = wasm_u32x4_shr(group->word[c], (uint32_t)(4 * i));
    q = wasm_v128_and(q, wasm_i32x4_splat(15));
    if (layout->bits == 5) {
        v128_t high = i < 4 ? wasm_i32x4_shl(group->high[c], (uint32_t)(4 - i))
                            : wasm_u32x4_shr(group->high[c], (uint32_t)(i - 4));
        q = wasm_v128_or(q, wasm_v128_and(high, wasm_i32x4_splat(16)));
    }
    q = wasm_v128_or(q, wasm_i32x4_splat(TWO_23));
    return wasm_f32x4_sub(q, wasm_f32x4_splat(0x1p23f + (float)layout->offset));
}

/* Weights in Q8_0 at position k of a block, 16 columns. */
TVLM_INLINE void load_bytes16(const tvlm_block_layout *layout, const unsigned char *block, size_t k,
                              v128_t out[4])
{
    const unsigned char *p = block + layout->code_at + k * TVLM_GEMM_NR;
    v128_t low = wasm_i16x8_load8x8(p), high = wasm_i16x8_load8x8(p + 8);
    out[0] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(low));
    out[1] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(low));
    out[2] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(high));
    out[3] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(high));
}

TVLM_INLINE float block_x_sum(const float *x)
{
    v128_t low = wasm_f32x4_add(wasm_v128_load(x), wasm_v128_load(x + 8));
    v128_t high = wasm_f32x4_add(wasm_v128_load(x + 4), wasm_v128_load(x + 12));
    low = wasm_f32x4_add(low, wasm_f32x4_add(wasm_v128_load(x + 16), wasm_v128_load(x + 24)));
    high = wasm_f32x4_add(high, wasm_f32x4_add(wasm_v128_load(x + 20), wasm_v128_load(x + 28)));
    return tvlm_hsum8((tvlm_f8){low, high});
}

/* acc += d * sum (+ m * xsum) for 16 columns. */
TVLM_INLINE void add_block(const tvlm_block_layout *layout, const unsigned char *block,
                           const float *x, const v128_t sum[4], float *acc)
{
    v128_t total = wasm_f32x4_splat(layout->m_at ? block_x_sum(x) : 0.0f);
    TVLM_UNROLL
    for (size_t c = 0; c < 4; c++) {
        v128_t a = wasm_v128_load(acc + 4 * c);
        a = TVLM_MADD(tvlm_load_half4(block + 8 * c), sum[c], a);
        if (layout->m_at) a = TVLM_MADD(tvlm_load_half4(block + layout->m_at + 8 * c), total, a);
        wasm_v128_store(acc + 4 * c, a);
    }
}

TVLM_INLINE void block_row(const tvlm_block_layout *layout, const unsigned char *panel,
                           const float *x, size_t n_blocks, float *acc)
{
    for (size_t b = 0; b < n_blocks; b++, panel += layout->bytes, x += TVLM_BLOCK) {
        v128_t sum[4], w[4];
        TVLM_UNROLL
        for (size_t c = 0; c < 4; c++)
            sum[c] = wasm_f32x4_splat(0.0f);
        for (size_t g = 0; g < 4; g++) {
            code_group group = load_group(layout, panel, g);
            TVLM_UNROLL
            for (size_t i = 0; i < 8; i++) {
                v128_t value = wasm_v128_load32_splat(x + 8 * g + i);
                if (layout->bits == 8) load_bytes16(layout, panel, 8 * g + i, w);
                TVLM_UNROLL
                for (size_t c = 0; c < 4; c++) {
                    if (layout->bits < 8) w[c] = code4(layout, &group, i, c);
                    sum[c] = TVLM_MADD(w[c], value, sum[c]);
                }
            }
        }
        add_block(layout, panel, x, sum, acc);
    }
}

TVLM_INLINE void block_rows(const tvlm_block_layout *layout, const unsigned char *panel,
                            const float *x, size_t ldx, size_t rows, size_t n_blocks,
                            float acc[GROUP][16])
{
    float weights[TVLM_BLOCK][TVLM_GEMM_NR], sums[GROUP][16];
    for (size_t b = 0; b < n_blocks; b++, panel += layout->bytes, x += TVLM_BLOCK) {
        v128_t w[4];
        for (size_t g = 0; g < 4; g++) {
            code_group group = load_group(layout, panel, g);
            TVLM_UNROLL
            for (size_t i = 0; i < 8; i++) {
                if (layout->bits == 8) load_bytes16(layout, panel, 8 * g + i, w);
                TVLM_UNROLL
                for (size_t c = 0; c < 4; c++) {
                    if (layout->bits < 8) w[c] = code4(layout, &group, i, c);
                    wasm_v128_store(&weights[8 * g + i][4 * c], w[c]);
                }
            }
        }
        for (size_t half = 0; half < 2; half++)
            for (size_t r = 0; r < rows; r += MAX_ROWS)
                tile_rows(W_F32, rows - r < MAX_ROWS ? rows - r : MAX_ROWS,
                          (const unsigned char *)&weights[0][8 * half], x + r * ldx, ldx,
                          TVLM_BLOCK, &sums[r][8 * half], 16);
        for (size_t r = 0; r < rows; r++) {
            v128_t sum[4];
            TVLM_UNROLL
            for (size_t c = 0; c < 4; c++)
                sum[c] = wasm_v128_load(&sums[r][4 * c]);
            add_block(layout, panel, x + r * ldx, sum, acc[r]);
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
        size_t end = n1 - n < TVLM_GEMM_NR ? n1 : n + TVLM_GEMM_NR;
        for (size_t m = m0; m < m1; m += GROUP) {
            size_t rows = m1 - m < GROUP ? m1 - m : GROUP;
            float acc[GROUP][16] = {{0}};
            const float *x = tvlm_gemm_row(args, m);
            if (rows == 1)
                block_row(&layout, panel, x, n_blocks, acc[0]);
            else
                block_rows(&layout, panel, x, args->ldx / sizeof(float), rows, n_blocks, acc);
            for (size_t r = 0; r < rows; r++)
                epilogue(args, m + r, n, end, acc[r]);
        }
    }
}

#define BLOCK_RUN(name, type)                                                                      \
    static void name##_simd128(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,        \
                               size_t n1)                                                          \
    {                                                                                              \
        run_block(args, type, m0, m1, n0, n1);                                                     \
    }
BLOCK_RUN(gemm_q8_0, TVLM_TYPE_Q8_0)
BLOCK_RUN(gemm_q4_0, TVLM_TYPE_Q4_0)
BLOCK_RUN(gemm_q4_1, TVLM_TYPE_Q4_1)
BLOCK_RUN(gemm_q5_0, TVLM_TYPE_Q5_0)
BLOCK_RUN(gemm_q5_1, TVLM_TYPE_Q5_1)

#define KERNEL(id, TYPE)                                                                           \
    {"simd128 " #id " f32", TVLM_CPU_SIMD128, TVLM_TYPE_##TYPE,                                    \
     TVLM_NUMERIC_F32,      &tvlm_layout_f32, NULL,                                                \
     gemm_##id##_simd128}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32),   KERNEL(f16, F16),   KERNEL(bf16, BF16),
                                    KERNEL(q8_0, Q8_0), KERNEL(q4_0, Q4_0), KERNEL(q4_1, Q4_1),
                                    KERNEL(q5_0, Q5_0), KERNEL(q5_1, Q5_1)};
const tvlm_gemm_tier tvlm_gemm_simd128 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_simd128 = {NULL, 0};

#endif
