/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers on WebAssembly SIMD, exact within a block as pack.h states: dot
 * multiplies eight words and adds them in twos. A tile is ROWS rows of x by eight columns, half a
 * panel: its eight sums, weights and x fit the 16 registers that x86 has. */
#include "cpu/cpu.h"
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

enum { MAX_ROWS = 4 };

/* ---- rows of x ---- */

TVLM_INLINE float largest_of(const float *v, size_t n)
{
    v128_t most = wasm_i32x4_splat(0);
    for (size_t i = 0; i < n; i += 4)
        most = wasm_i32x4_max(most, wasm_f32x4_abs(wasm_v128_load(v + i)));
    most = wasm_i32x4_max(most, wasm_i32x4_shuffle(most, most, 2, 3, 0, 1));
    most = wasm_i32x4_max(most, wasm_i32x4_shuffle(most, most, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(most, 0);
}

TVLM_INLINE float norm_of(const float *v, size_t n, float factor)
{
    const v128_t by = wasm_f32x4_splat(factor);
    v128_t lane[4];
    TVLM_UNROLL
    for (size_t j = 0; j < 4; j++)
        lane[j] = wasm_f32x4_splat(0.0f);
    for (size_t i = 0; i < n; i += 16) {
        TVLM_UNROLL
        for (size_t j = 0; j < 4; j++) {
            v128_t u = wasm_f32x4_mul(wasm_v128_load(v + i + 4 * j), by);
            lane[j] = wasm_f32x4_add(lane[j], wasm_f32x4_mul(u, u));
        }
    }
    const tvlm_f8 sums = {wasm_f32x4_add(lane[0], lane[2]), wasm_f32x4_add(lane[1], lane[3])};
    return sqrtf(tvlm_hsum8(sums));
}

TVLM_INLINE void codes_of(int16_t *q, const float *v, size_t n, float factor)
{
    const v128_t by = wasm_f32x4_splat(factor);
    for (size_t i = 0; i < n; i += 8) {
        v128_t code[2];
        TVLM_UNROLL
        for (size_t h = 0; h < 2; h++)
            code[h] = wasm_i32x4_trunc_sat_f32x4(
                wasm_f32x4_nearest(wasm_f32x4_mul(wasm_v128_load(v + i + 4 * h), by)));
        wasm_v128_store(q + i, wasm_i16x8_narrow_i32x4(code[0], code[1]));
    }
}

#include "kernels/words_body.h"

static const tvlm_gemm_input input = {tvlm_words_bytes, pack_input};

static void pack_weights(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows,
                         size_t k)
{
    tvlm_words_pack(&input, type, packed, src, n0, n_rows, k);
}

static const tvlm_gemm_layout layout = {tvlm_words_packed_size, pack_weights,
                                        tvlm_words_unpack_row};

/* ---- tiles ---- */

/* Sums of products of a block: columns 8 half .. 8 half + 7. */
TVLM_INLINE void block_sums(const unsigned char *const x[MAX_ROWS], const unsigned char *w,
                            const size_t rows, size_t pairs, v128_t sum[MAX_ROWS][2])
{
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = wasm_i32x4_splat(0);
    _Pragma("clang loop unroll(disable)") for (size_t i = 0; i < pairs; i++)
    {
        v128_t w0 = wasm_v128_load(w + 64 * i), w1 = wasm_v128_load(w + 64 * i + 16);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            v128_t two = wasm_v128_load32_splat(x[r] + 4 * i);
            sum[r][0] = wasm_i32x4_add(sum[r][0], wasm_i32x4_dot_i16x8(w0, two));
            sum[r][1] = wasm_i32x4_add(sum[r][1], wasm_i32x4_dot_i16x8(w1, two));
        }
    }
}

TVLM_INLINE void tile(const tvlm_gemm_args *args, const size_t rows, size_t m,
                      const unsigned char *panel, size_t half, float out[MAX_ROWS][8])
{
    const unsigned char *x[MAX_ROWS];
    v128_t acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = wasm_f32x4_splat(0.0f);
    }
    for (size_t k0 = 0; k0 < args->k; k0 += TVLM_WORDS) {
        const size_t n = tvlm_words_at(args->k, k0), bytes = tvlm_words_bytes(n);
        const unsigned char *q[MAX_ROWS];
        v128_t sum[MAX_ROWS][2];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            q[r] = x[r] + sizeof(float);
        block_sums(q, panel + TVLM_GEMM_NR * sizeof(float) + 32 * half, rows, (n + 1) / 2, sum);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const v128_t d = wasm_v128_load32_splat(x[r]);
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                v128_t value = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sum[r][c]), d);
                v128_t d_w = wasm_v128_load(panel + 32 * half + 16 * c);
                acc[r][c] = TVLM_MADD(d_w, value, acc[r][c]);
            }
            x[r] += bytes;
        }
        panel += TVLM_GEMM_NR * bytes;
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        wasm_v128_store(&out[r][0], acc[r][0]);
        wasm_v128_store(&out[r][4], acc[r][1]);
    }
}

static void gemm_int16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    float out[MAX_ROWS][8];
    for (size_t n = n0; n < n1; n += 8) {
        const unsigned char *panel = (const unsigned char *)args->w +
                                     n / TVLM_GEMM_NR * TVLM_GEMM_NR * tvlm_words_bytes(args->k);
        size_t half = n % TVLM_GEMM_NR / 8, end = n1 - n < 8 ? n1 : n + 8;
        for (size_t m = m0, rows; m < m1; m += rows) {
            rows = m1 - m < MAX_ROWS ? 1 : MAX_ROWS;
            if (rows == MAX_ROWS)
                tile(args, MAX_ROWS, m, panel, half, out);
            else
                tile(args, 1, m, panel, half, out);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = n; c < end; c += 4)
                    tvlm_epilogue4(args, m + r, c, end - c, wasm_v128_load(&out[r][c - n]));
        }
    }
}

#define KERNEL(id, TYPE)                                                                           \
    {"simd128 " #id " int16",                                                                      \
     TVLM_CPU_SIMD128,                                                                             \
     TVLM_TYPE_##TYPE,                                                                             \
     TVLM_NUMERIC_INT16,                                                                           \
     &layout,                                                                                      \
     &input,                                                                                       \
     gemm_int16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_simd128_int16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_simd128_int16 = {NULL, 0};

#endif
