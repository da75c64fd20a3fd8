/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers on WebAssembly SIMD, exact within a block as pack.h states.
 *
 * Sixteen bytes hold four neighbours of k of four columns. A tile is ROWS rows of x by eight
 * columns, half a panel: its sums, weights and x fit the 16 registers that x86 has.
 *
 *   words   the odd bytes and the even ones, widened, lie in the lane of their column, and dot
 *           multiplies them with two values of x
 *   bytes   codes of up to seven bits with relaxed SIMD: one dot takes all four; such codes give
 * the same bits on every engine */
#include "cpu/cpu.h"
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

enum { MAX_ROWS = 4, PARTS = 8 };

#if defined(__wasm_relaxed_simd__)
#define BYTES(bits)         ((bits) < 8)
#define DOT_BYTES(x, w, to) wasm_i32x4_relaxed_dot_i8x16_i7x16_add(x, w, to)
#else
#define BYTES(bits)         false
#define DOT_BYTES(x, w, to) ((void)(x), (to))
#endif

/* ---- rows of x ---- */

/* A block of x; behind it lies q: as bytes, or as words, of each four the odd ones, then the even.
 */
typedef struct x_block {
    float d;
    int32_t sum[2]; /* of the halves */
} x_block;

static const size_t word_block = sizeof(x_block) + TVLM_BLOCK * sizeof(int16_t);
static const size_t byte_block = sizeof(x_block) + TVLM_BLOCK;

static size_t bytes_of_words(size_t k)
{
    return k / TVLM_BLOCK * word_block;
}

static size_t bytes_of_bytes(size_t k)
{
    return k / TVLM_BLOCK * byte_block;
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

static int32_t sum_of(v128_t words)
{
    v128_t sum = wasm_i32x4_extadd_pairwise_i16x8(words);
    return wasm_i32x4_extract_lane(sum, 0) + wasm_i32x4_extract_lane(sum, 1) +
           wasm_i32x4_extract_lane(sum, 2) + wasm_i32x4_extract_lane(sum, 3);
}

/* words[i]: q of 8i .. 8i + 7. */
static void quantize_block(x_block *out, const float *x, v128_t words[4])
{
    float most = largest_of(x);
    bool usable = most >= TVLM_INPUT_LEAST && most < INFINITY;
    out->d = usable ? most / 127.0f : most < INFINITY ? 0.0f : NAN;
    v128_t inverse = wasm_f32x4_splat(usable ? 127.0f / most : 0.0f);
    for (size_t i = 0; i < 4; i++) {
        v128_t q[2];
        for (size_t h = 0; h < 2; h++) {
            v128_t v = wasm_f32x4_mul(wasm_v128_load(x + 8 * i + 4 * h), inverse);
            q[h] = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(v)); /* 0 for NaN */
        }
        words[i] = wasm_i16x8_narrow_i32x4(q[0], q[1]);
    }
    for (size_t h = 0; h < 2; h++)
        out->sum[h] = sum_of(wasm_i16x8_add(words[2 * h], words[2 * h + 1]));
}

static void pack_words(void *packed, const float *x, size_t k)
{
    unsigned char *at = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, at += word_block) {
        v128_t words[4];
        quantize_block((x_block *)(void *)at, x + b * TVLM_BLOCK, words);
        for (size_t i = 0; i < 4; i++)
            wasm_v128_store(at + sizeof(x_block) + 16 * i,
                            wasm_i16x8_shuffle(words[i], words[i], 1, 3, 0, 2, 5, 7, 4, 6));
    }
}

static void pack_bytes(void *packed, const float *x, size_t k)
{
    unsigned char *at = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, at += byte_block) {
        v128_t words[4];
        quantize_block((x_block *)(void *)at, x + b * TVLM_BLOCK, words);
        for (size_t i = 0; i < 2; i++)
            wasm_v128_store(at + sizeof(x_block) + 16 * i,
                            wasm_i8x16_narrow_i16x8(words[2 * i], words[2 * i + 1]));
    }
}

static const tvlm_gemm_input input_words = {bytes_of_words, pack_words};
static const tvlm_gemm_input input_bytes = {bytes_of_bytes, pack_bytes};

/* ---- sums of products ---- */

/* Where 32 weights of a panel's columns are. */
typedef struct code_part {
    const unsigned char *code, *high; /* high bits, where there are more than four */
} code_part;

/* Weights 4j .. 4j + 3 of columns 4c .. 4c + 3 in bytes. */
TVLM_INLINE v128_t load_codes(const unsigned bits, code_part part, size_t j, size_t c)
{
    if (bits == 8) return wasm_v128_load(part.code + (4 * j + c) * 16);
    v128_t bytes = wasm_v128_load(part.code + (4 * (j % 4) + c) * 16);
    if (j >= 4) bytes = wasm_u16x8_shr(bytes, 4);
    bytes = wasm_v128_and(bytes, wasm_i8x16_splat(15));
    if (bits == 4) return bytes;
    /* the lowest high bit of each byte is its bit `at`, and belongs at 4 */
    const size_t at = bits == 5 ? j : 2 * (j % 4);
    v128_t high = wasm_v128_load(part.high + (bits == 6 ? 64 * (j / 4) : 0) + 16 * c);
    high = at < 4 ? wasm_i16x8_shl(high, (uint32_t)(4 - at))
                  : wasm_u16x8_shr(high, (uint32_t)(at - 4));
    return wasm_v128_or(bytes, wasm_v128_and(high, wasm_i8x16_splat(bits == 5 ? 16 : 48)));
}

/* sum += weights 4j .. 4j + 3 times x. */
TVLM_INLINE void add_products(const unsigned bits, code_part part, size_t j, size_t half,
                              const size_t rows, const unsigned char *const q[MAX_ROWS],
                              v128_t sum[MAX_ROWS][2])
{
    v128_t w[2];
    w[0] = load_codes(bits, part, j, 2 * half);
    w[1] = load_codes(bits, part, j, 2 * half + 1);
    if (BYTES(bits)) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            v128_t four = wasm_v128_load32_splat(q[r] + 4 * j);
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++)
                sum[r][c] = DOT_BYTES(four, w[c], sum[r][c]);
        }
        return;
    }
    v128_t odd[2], even[2];
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        odd[c] = bits == 8 ? wasm_i16x8_shr(w[c], 8) : wasm_u16x8_shr(w[c], 8);
        even[c] = bits == 8 ? wasm_i16x8_shr(wasm_i16x8_shl(w[c], 8), 8)
                            : wasm_v128_and(w[c], wasm_i16x8_splat(255));
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        v128_t x[2] = {wasm_v128_load32_splat(q[r] + 8 * j),
                       wasm_v128_load32_splat(q[r] + 8 * j + 4)};
        TVLM_UNROLL
        for (size_t c = 0; c < 2; c++) {
            sum[r][c] = wasm_i32x4_add(sum[r][c], wasm_i32x4_dot_i16x8(odd[c], x[0]));
            sum[r][c] = wasm_i32x4_add(sum[r][c], wasm_i32x4_dot_i16x8(even[c], x[1]));
        }
    }
}

/* What a tile is at: block b of rows of x, half a panel. */
typedef struct tile_step {
    const x_block *x[MAX_ROWS];
    size_t half;
} tile_step;

/* sum = 32 products, or the 16 of the lower or upper half of 6 bits. */
TVLM_INLINE void part_sums(const unsigned bits, code_part part, const tile_step *at,
                           const size_t rows, const size_t upper, v128_t sum[MAX_ROWS][2])
{
    const unsigned char *q[MAX_ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        q[r] = (const unsigned char *)(at->x[r] + 1);
        sum[r][0] = sum[r][1] = wasm_i32x4_splat(0);
    }
    _Pragma("clang loop unroll(disable)") for (size_t j = 0; j < 4; j++)
    {
        if (bits == 6) {
            add_products(bits, part, j + 4 * upper, at->half, rows, q, sum);
        } else {
            add_products(bits, part, j, at->half, rows, q, sum);
            add_products(bits, part, j + 4, at->half, rows, q, sum);
        }
    }
}

/* ---- block types ---- */

/* acc += d_w * (total * d) (+ m * (sum * d)) for four columns from c on. */
TVLM_INLINE v128_t add_block(const tvlm_block_layout *layout, const unsigned char *block, size_t c,
                             v128_t total, const x_block *x, v128_t acc)
{
    const int32_t sum = x->sum[0] + x->sum[1];
    if (layout->offset) total = wasm_i32x4_sub(total, wasm_i32x4_splat(layout->offset * sum));
    v128_t value = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(total), wasm_f32x4_splat(x->d));
    acc = TVLM_MADD(tvlm_load_half4(block + 2 * c), value, acc);
    if (!layout->m_at) return acc;
    return TVLM_MADD(tvlm_load_half4(block + layout->m_at + 2 * c),
                     wasm_f32x4_splat((float)sum * x->d), acc);
}

TVLM_INLINE void step_block(tvlm_type type, const unsigned char *block, const tile_step *at,
                            const size_t rows, v128_t acc[MAX_ROWS][2])
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const code_part part = {block + layout.code_at, block + layout.high_at};
    v128_t sum[MAX_ROWS][2];
    part_sums(layout.bits, part, at, rows, 0, sum);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t c = 0; c < 2; c++)
            acc[r][c] =
                add_block(&layout, block, 8 * at->half + 4 * c, sum[r][c], at->x[r], acc[r][c]);
    }
}

/* ---- K-quants ---- */

/* d of four columns (halves from p on) times their scales of part p, exact. */
TVLM_INLINE v128_t scaled4(const unsigned char *d, const unsigned char *scale)
{
    v128_t words = wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(scale));
    v128_t value = wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(words));
    return wasm_f32x4_mul(tvlm_load_half4(d), value);
}

/* acc += d * scale * (total * x->d) - min * m * (x's sum * x->d) */
TVLM_INLINE void step_affine(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                             const tile_step *at, const size_t rows, v128_t acc[MAX_ROWS][2])
{
    const unsigned char *from = block + layout->part_at + p * layout->part_bytes;
    v128_t sum[MAX_ROWS][2];
    part_sums(layout->bits, (code_part){from + layout->code_at, from}, at, rows, 0, sum);
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        const size_t column = 8 * at->half + 4 * c, small = 16 * p + column;
        v128_t scale = scaled4(block + 2 * column, block + layout->scale_at + small);
        v128_t m = scaled4(block + 32 + 2 * column, block + layout->m_at + small);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const x_block *x = at->x[r];
            v128_t value = wasm_f32x4_convert_i32x4(sum[r][c]);
            value = wasm_f32x4_mul(value, wasm_f32x4_splat(x->d));
            acc[r][c] = TVLM_MADD(scale, value, acc[r][c]);
            float below = -((float)(x->sum[0] + x->sum[1]) * x->d);
            acc[r][c] = TVLM_MADD(m, wasm_f32x4_splat(below), acc[r][c]);
        }
    }
}

/* acc += d * (sum over halves of scale * sum of (code - 32) * q) * x->d */
TVLM_INLINE void step_centred(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                              const tile_step *at, const size_t rows, v128_t acc[MAX_ROWS][2])
{
    const unsigned char *from = block + layout->part_at + p * layout->part_bytes;
    v128_t total[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        v128_t sum[MAX_ROWS][2];
        part_sums(6, (code_part){from + layout->code_at, from}, at, rows, h, sum);
        TVLM_UNROLL
        for (size_t c = 0; c < 2; c++) {
            const size_t column = 8 * at->half + 4 * c;
            const unsigned char *s = block + layout->scale_at + 16 * (2 * p + h) + column;
            v128_t words = wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(s));
            v128_t scale = wasm_i32x4_extend_low_i16x8(words);
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                v128_t centre = wasm_i32x4_splat(32 * at->x[r]->sum[h]);
                v128_t scaled = wasm_i32x4_mul(scale, wasm_i32x4_sub(sum[r][c], centre));
                total[r][c] = h ? wasm_i32x4_add(total[r][c], scaled) : scaled;
            }
        }
    }
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        v128_t d = tvlm_load_half4(block + 2 * (8 * at->half + 4 * c));
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            v128_t value = wasm_f32x4_convert_i32x4(total[r][c]);
            value = wasm_f32x4_mul(value, wasm_f32x4_splat(at->x[r]->d));
            acc[r][c] = TVLM_MADD(d, value, acc[r][c]);
        }
    }
}

/* ---- tiles ---- */

TVLM_INLINE bool is_k(tvlm_type type)
{
    return type == TVLM_TYPE_Q4_K || type == TVLM_TYPE_Q5_K || type == TVLM_TYPE_Q6_K;
}

TVLM_INLINE unsigned bits_of(tvlm_type type)
{
    return is_k(type) ? tvlm_k_layout_of(type).bits : tvlm_block_layout_of(type).bits;
}

/* Block b of a panel, 32 of k. */
TVLM_INLINE void step(tvlm_type type, const unsigned char *panel, size_t b, const tile_step *at,
                      const size_t rows, v128_t acc[MAX_ROWS][2])
{
    if (!is_k(type)) {
        step_block(type, panel + b * tvlm_block_layout_of(type).bytes, at, rows, acc);
        return;
    }
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const unsigned char *block = panel + b / PARTS * layout.bytes;
    if (layout.bits == 6)
        step_centred(&layout, block, b % PARTS, at, rows, acc);
    else
        step_affine(&layout, block, b % PARTS, at, rows, acc);
}

/* Columns 8 half .. 8 half + 7 of a panel. */
TVLM_INLINE void tile(const tvlm_gemm_args *args, tvlm_type type, const size_t rows, size_t m,
                      const unsigned char *panel, size_t half, float out[MAX_ROWS][8])
{
    const size_t x_bytes = BYTES(bits_of(type)) ? byte_block : word_block;
    v128_t acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = wasm_f32x4_splat(0.0f);
    for (size_t b = 0; b < args->k / TVLM_BLOCK; b++) {
        tile_step at = {.half = half};
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            at.x[r] =
                (const x_block *)(const void *)((const unsigned char *)tvlm_gemm_row(args, m + r) +
                                                b * x_bytes);
        step(type, panel, b, &at, rows, acc);
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        wasm_v128_store(&out[r][0], acc[r][0]);
        wasm_v128_store(&out[r][4], acc[r][1]);
    }
}

static size_t panel_bytes_of(tvlm_type type, size_t k)
{
    if (is_k(type)) return k / (PARTS * TVLM_BLOCK) * tvlm_k_layout_of(type).bytes;
    return k / TVLM_BLOCK * tvlm_block_layout_of(type).bytes;
}

TVLM_INLINE void run_type(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                          size_t n0, size_t n1)
{
    const size_t panel_bytes = panel_bytes_of(type, args->k);
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
RUN(q4_k, Q4_K)
RUN(q5_k, Q5_K)
RUN(q6_k, Q6_K)

#define KERNEL(id, TYPE, as, bits, layout)                                                         \
    {"simd128 " #id " int8",  TVLM_CPU_SIMD128, TVLM_TYPE_##TYPE,                                  \
     TVLM_NUMERIC_INT8,       &layout,          BYTES(bits) ? &input_bytes : &input_words,         \
     gemm_##as##_int8_simd128}
static const tvlm_gemm kernels[] = {
    KERNEL(f32, F32, q8_0, 8, tvlm_layout_int8),   KERNEL(f16, F16, q8_0, 8, tvlm_layout_int8),
    KERNEL(bf16, BF16, q8_0, 8, tvlm_layout_int8), KERNEL(q8_0, Q8_0, q8_0, 8, tvlm_layout_int8),
    KERNEL(q4_0, Q4_0, q4_0, 4, tvlm_layout_int8), KERNEL(q4_1, Q4_1, q4_1, 4, tvlm_layout_int8),
    KERNEL(q5_0, Q5_0, q5_0, 5, tvlm_layout_int8), KERNEL(q5_1, Q5_1, q5_1, 5, tvlm_layout_int8),
    KERNEL(q4_k, Q4_K, q4_k, 4, tvlm_layout_k),    KERNEL(q5_k, Q5_K, q5_k, 5, tvlm_layout_k),
    KERNEL(q6_k, Q6_K, q6_k, 6, tvlm_layout_k)};
const tvlm_gemm_tier tvlm_gemm_simd128_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_simd128_int8 = {NULL, 0};

#endif
