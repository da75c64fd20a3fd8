/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers on WebAssembly SIMD, exact within a block as pack.h states.
 *
 * Sixteen bytes hold four neighbours of k of four columns. As words, the odd ones and the even ones
 * lie in the lane of their column, and dot multiplies them with two values of x. A tile is ROWS
 * rows of x by eight columns, half a panel: its sums, weights and x fit the 16 registers that x86
 * has. */
#include "cpu/cpu.h"
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

enum { MAX_ROWS = 4 };

/* A block of x with q as words, of each four the odd ones, then the even. */
typedef struct word_block {
    float d;
    int32_t sum;
    int16_t q[TVLM_BLOCK];
} word_block;

static size_t bytes_of_words(size_t k)
{
    return k / TVLM_BLOCK * sizeof(word_block);
}

static float largest_of(const float *x)
{
    v128_t most = wasm_i32x4_splat(0);
    for (size_t i = 0; i < TVLM_BLOCK; i += 4)
        most = wasm_i32x4_max(most, wasm_f32x4_abs(wasm_v128_load(x + i)));
    most = wasm_i32x4_max(most, wasm_i32x4_shuffle(most, most, 2, 3, 0, 1));
    most = wasm_i32x4_max(most, wasm_i32x4_shuffle(most, most, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(most, 0);
}

static void pack_block(word_block *out, const float *x)
{
    float most = largest_of(x);
    bool usable = most >= TVLM_INPUT_LEAST && most < INFINITY;
    out->d = usable ? most / 127.0f : most < INFINITY ? 0.0f : NAN;
    v128_t inverse = wasm_f32x4_splat(usable ? 127.0f / most : 0.0f), sum = wasm_i32x4_splat(0);
    for (size_t i = 0; i < TVLM_BLOCK; i += 8) {
        v128_t q[2];
        for (size_t h = 0; h < 2; h++) {
            v128_t v = wasm_f32x4_mul(wasm_v128_load(x + i + 4 * h), inverse);
            q[h] = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(v)); /* 0 for NaN */
            sum = wasm_i32x4_add(sum, q[h]);
        }
        v128_t words = wasm_i16x8_narrow_i32x4(q[0], q[1]);
        wasm_v128_store(out->q + i, wasm_i16x8_shuffle(words, words, 1, 3, 0, 2, 5, 7, 4, 6));
    }
    out->sum = wasm_i32x4_extract_lane(sum, 0) + wasm_i32x4_extract_lane(sum, 1) +
               wasm_i32x4_extract_lane(sum, 2) + wasm_i32x4_extract_lane(sum, 3);
}

static void pack_words(void *packed, const float *x, size_t k)
{
    word_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++)
        pack_block(&out[b], x + b * TVLM_BLOCK);
}

static const tvlm_gemm_input input_words = {bytes_of_words, pack_words};

/* Weights 4j .. 4j + 3 of columns 4c .. 4c + 3 as words: [0] the odd ones, [1] the even. */
TVLM_INLINE void load_words(const tvlm_block_layout *layout, const unsigned char *block, size_t j,
                            size_t c, v128_t words[2])
{
    if (layout->bits == 8) {
        v128_t bytes = wasm_v128_load(block + layout->code_at + (4 * j + c) * 16);
        words[0] = wasm_i16x8_shr(bytes, 8);
        words[1] = wasm_i16x8_shr(wasm_i16x8_shl(bytes, 8), 8);
        return;
    }
    v128_t bytes = wasm_v128_load(block + layout->code_at + (4 * (j % 4) + c) * 16);
    if (j >= 4) bytes = wasm_u16x8_shr(bytes, 4);
    bytes = wasm_v128_and(bytes, wasm_i8x16_splat(15));
    if (layout->high_at) { /* bit j of each byte to its bit 4 */
        v128_t high = wasm_v128_load(block + layout->high_at + 16 * c);
        high = j < 4 ? wasm_i16x8_shl(high, (uint32_t)(4 - j))
                     : wasm_u16x8_shr(high, (uint32_t)(j - 4));
        bytes = wasm_v128_or(bytes, wasm_v128_and(high, wasm_i8x16_splat(16)));
    }
    words[0] = wasm_u16x8_shr(bytes, 8);
    words[1] = wasm_v128_and(bytes, wasm_i16x8_splat(255));
}

/* acc += d_w * (total * d) (+ m * (sum * d)) for four columns from c on. */
TVLM_INLINE v128_t add_block(const tvlm_block_layout *layout, const unsigned char *block, size_t c,
                             v128_t total, const word_block *x, v128_t acc)
{
    if (layout->offset) total = wasm_i32x4_sub(total, wasm_i32x4_splat(layout->offset * x->sum));
    v128_t value = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(total), wasm_f32x4_splat(x->d));
    acc = TVLM_MADD(tvlm_load_half4(block + 2 * c), value, acc);
    if (!layout->m_at) return acc;
    return TVLM_MADD(tvlm_load_half4(block + layout->m_at + 2 * c),
                     wasm_f32x4_splat((float)x->sum * x->d), acc);
}

/* sum += weights 4j .. 4j + 3 times x. */
TVLM_INLINE void add_products(const tvlm_block_layout *layout, const unsigned char *block, size_t j,
                              size_t half, const size_t rows, const word_block *const x[MAX_ROWS],
                              size_t b, v128_t sum[MAX_ROWS][2])
{
    v128_t w[2][2];
    load_words(layout, block, j, 2 * half, w[0]);
    load_words(layout, block, j, 2 * half + 1, w[1]);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        v128_t odd = wasm_v128_load32_splat(x[r][b].q + 4 * j);
        v128_t even = wasm_v128_load32_splat(x[r][b].q + 4 * j + 2);
        TVLM_UNROLL
        for (size_t c = 0; c < 2; c++) {
            sum[r][c] = wasm_i32x4_add(sum[r][c], wasm_i32x4_dot_i16x8(w[c][0], odd));
            sum[r][c] = wasm_i32x4_add(sum[r][c], wasm_i32x4_dot_i16x8(w[c][1], even));
        }
    }
}

/* Columns 8 half .. 8 half + 7 of a panel. */
TVLM_INLINE void tile(const tvlm_gemm_args *args, tvlm_type type, const size_t rows, size_t m,
                      const unsigned char *panel, size_t half, float out[MAX_ROWS][8])
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const word_block *x[MAX_ROWS];
    v128_t acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = wasm_f32x4_splat(0.0f);
    }
    for (size_t b = 0; b < args->k / TVLM_BLOCK; b++, panel += layout.bytes) {
        v128_t sum[MAX_ROWS][2];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = wasm_i32x4_splat(0);
        _Pragma("clang loop unroll(disable)") for (size_t j = 0; j < 4; j++)
        {
            add_products(&layout, panel, j, half, rows, x, b, sum);
            add_products(&layout, panel, j + 4, half, rows, x, b, sum);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++)
                acc[r][c] =
                    add_block(&layout, panel, 8 * half + 4 * c, sum[r][c], &x[r][b], acc[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        wasm_v128_store(&out[r][0], acc[r][0]);
        wasm_v128_store(&out[r][4], acc[r][1]);
    }
}

TVLM_INLINE void run_type(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                          size_t n0, size_t n1)
{
    const size_t panel_bytes = args->k / TVLM_BLOCK * tvlm_block_layout_of(type).bytes;
    float out[MAX_ROWS][8];
    for (size_t n = n0; n < n1; n += 8) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * panel_bytes;
        size_t half = n % TVLM_GEMM_NR / 8, end = n1 - n < 8 ? n1 : n + 8;
        for (size_t m = m0, rows; m < m1; m += rows) {
            rows = m1 - m < MAX_ROWS ? 1 : MAX_ROWS;
            if (rows == MAX_ROWS)
                tile(args, type, MAX_ROWS, m, panel, half, out);
            else
                tile(args, type, 1, m, panel, half, out);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = n; c < end; c += 4)
                    tvlm_epilogue4(args, m + r, c, end - c, wasm_v128_load(&out[r][c - n]));
        }
    }
}

#define RUN(id, TYPE)                                                                              \
    static void gemm_##id##_int8_simd128(const tvlm_gemm_args *args, size_t m0, size_t m1,         \
                                         size_t n0, size_t n1)                                     \
    {                                                                                              \
        run_type(args, TVLM_TYPE_##TYPE, m0, m1, n0, n1);                                          \
    }
RUN(q8_0, Q8_0)
RUN(q4_0, Q4_0)
RUN(q4_1, Q4_1)
RUN(q5_0, Q5_0)
RUN(q5_1, Q5_1)

#define KERNEL(id, TYPE, as)                                                                       \
    {"simd128 " #id " int8", TVLM_CPU_SIMD128, TVLM_TYPE_##TYPE,        TVLM_NUMERIC_INT8,         \
     &tvlm_layout_int8,      &input_words,     gemm_##as##_int8_simd128}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32, q8_0),   KERNEL(f16, F16, q8_0),
                                    KERNEL(bf16, BF16, q8_0), KERNEL(q8_0, Q8_0, q8_0),
                                    KERNEL(q4_0, Q4_0, q4_0), KERNEL(q4_1, Q4_1, q4_1),
                                    KERNEL(q5_0, Q5_0, q5_0), KERNEL(q5_1, Q5_1, q5_1)};
const tvlm_gemm_tier tvlm_gemm_simd128_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_simd128_int8 = {NULL, 0};

#endif
