/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers on AVX2, exact within a block as pack.h states.
 *
 *   4 and 5 bits   codes are unsigned and small: maddubs takes 32 products at a time, and eight of
 *                  its sums of two (15 * 127 * 2) fit 16 bits; four where a code has five bits
 *   8 bits         codes give their sign to x: sums of two products fit 16 bits, of four not
 *
 * A tile is ROWS rows of x by a panel of 16 columns; the panel loop is outside, so that a panel
 * stays in cache while x streams. */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)
#include "kernels/x86/gemm_int8_avx2.h"

/* ---- rows of x ---- */

/* 32 values as four registers of integers, and the block's d and sum. */
TVLM_INLINE void quantize_block(const float *x, float *d, int32_t *sum, __m256i q[4])
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    __m256 v[4];
    TVLM_UNROLL
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    __m128i top = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
    float largest = _mm_cvtss_f32(_mm_castsi128_ps(top));
    bool usable = largest >= TVLM_INPUT_LEAST && largest < INFINITY;
    *d = usable ? largest / 127.0f : largest < INFINITY ? 0.0f : NAN;
    __m256 inverse = _mm256_set1_ps(127.0f / largest);
    __m256i total = _mm256_setzero_si256();
    TVLM_UNROLL
    for (size_t i = 0; i < 4; i++) {
        q[i] = usable ? _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse)) : _mm256_setzero_si256();
        total = _mm256_add_epi32(total, q[i]);
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    *sum = _mm_cvtsi128_si32(four);
}

/* Sixteen words of q[0] and q[1] in order. */
TVLM_INLINE __m256i words(__m256i low, __m256i high)
{
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

static void pack_input(void *packed, const float *x, size_t k)
{
    tvlm_input_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++) {
        __m256i q[4];
        quantize_block(x + b * TVLM_BLOCK, &out[b].d, &out[b].sum, q);
        __m256i bytes = _mm256_packs_epi16(words(q[0], q[1]), words(q[2], q[3]));
        bytes = _mm256_permute4x64_epi64(bytes, 0xd8);
        _mm256_storeu_si256((__m256i *)(void *)out[b].q, bytes);
    }
}

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(tvlm_input_block);
}

const tvlm_gemm_input tvlm_avx2_input_int8 = {input_bytes, pack_input};

/* ---- 4 and 5 bits ---- */

/* acc += d_w * (total * d) (+ m * (sum * d)) for eight columns. */
TVLM_INLINE __m256 add_block(const tvlm_block_layout *layout, const unsigned char *block,
                             size_t half, __m256i total, float d, int32_t sum, __m256 acc)
{
    if (layout->offset) total = _mm256_sub_epi32(total, _mm256_set1_epi32(layout->offset * sum));
    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(total), _mm256_set1_ps(d));
    acc = _mm256_fmadd_ps(tvlm_load_half8(block + 16 * half), value, acc);
    if (!layout->m_at) return acc;
    return _mm256_fmadd_ps(tvlm_load_half8(block + layout->m_at + 16 * half),
                           _mm256_set1_ps((float)sum * d), acc);
}

TVLM_INLINE void tile_nibbles(const tvlm_gemm_args *args, tvlm_type type, const size_t rows,
                              size_t m, size_t panel, bool first, tile_out out)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t n_blocks = args->k / TVLM_BLOCK;
    const unsigned char *w = (const unsigned char *)args->w + panel * n_blocks * layout.bytes;
    const tvlm_input_block *x[MAX_ROWS];
    __m256 acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        __m256i total[MAX_ROWS][2], fifth[2][2] = {{_mm256_setzero_si256()}};
        const unsigned char *q[MAX_ROWS];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            q[r] = (const unsigned char *)x[r][b].q;
        if (first) prefetch_ahead(w, layout.bytes);
        if (layout.bits == 4) {
            nibble_sums(layout.bits, w + layout.code_at, q, rows, 0, 4, fifth, total);
        } else {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                fifth[1][c] = tvlm_load256(w + layout.high_at + 32 * c);
                fifth[0][c] = _mm256_slli_epi16(fifth[1][c], 4);
            }
            nibble_sums(layout.bits, w + layout.code_at, q, rows, 0, 2, fifth, total);
            nibble_sums(layout.bits, w + layout.code_at, q, rows, 2, 2, fifth, total);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++)
                acc[r][c] =
                    add_block(&layout, w, c, total[r][c], x[r][b].d, x[r][b].sum, acc[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&out[r][0], acc[r][0]);
        _mm256_storeu_ps(&out[r][8], acc[r][1]);
    }
}

/* ---- 8 bits ---- */

/* Sums of four products each: |w| times x with the sign of w, as maddubs wants one side unsigned.
 * Two products are at most 2 * 128 * 127, which fits 16 bits. */
TVLM_INLINE __m256i four_products(__m256i w, __m256i magnitude, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, w));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

TVLM_INLINE void tile_bytes(const tvlm_gemm_args *args, const size_t rows, size_t m, size_t panel,
                            bool first, tile_out out)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(TVLM_TYPE_Q8_0);
    const size_t n_blocks = args->k / TVLM_BLOCK;
    const unsigned char *w = (const unsigned char *)args->w + panel * n_blocks * layout.bytes;
    const tvlm_input_block *x[MAX_ROWS];
    __m256 acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        __m256i sum[MAX_ROWS][2];
        if (first) prefetch_ahead(w, layout.bytes);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        TVLM_ROLLED
        for (size_t j = 0; j < 8; j++) {
            __m256i w0 = tvlm_load256(w + layout.code_at + 64 * j);
            __m256i w1 = tvlm_load256(w + layout.code_at + 64 * j + 32);
            __m256i magnitude0 = _mm256_abs_epi8(w0), magnitude1 = _mm256_abs_epi8(w1);
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                __m256i v = four_of((const unsigned char *)x[r][b].q + 4 * j);
                sum[r][0] = _mm256_add_epi32(sum[r][0], four_products(w0, magnitude0, v));
                sum[r][1] = _mm256_add_epi32(sum[r][1], four_products(w1, magnitude1, v));
                TVLM_IN_ORDER(sum[r][0]);
                TVLM_IN_ORDER(sum[r][1]);
            }
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++)
                acc[r][c] = add_block(&layout, w, c, sum[r][c], x[r][b].d, 0, acc[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&out[r][0], acc[r][0]);
        _mm256_storeu_ps(&out[r][8], acc[r][1]);
    }
}

/* ---- runs ---- */

#define TILE_Q8_0(rows) tile_bytes(args, rows, m, panel, first, out)
#define TILE_Q4_0(rows) tile_nibbles(args, TVLM_TYPE_Q4_0, rows, m, panel, first, out)
#define TILE_Q4_1(rows) tile_nibbles(args, TVLM_TYPE_Q4_1, rows, m, panel, first, out)
#define TILE_Q5_0(rows) tile_nibbles(args, TVLM_TYPE_Q5_0, rows, m, panel, first, out)
#define TILE_Q5_1(rows) tile_nibbles(args, TVLM_TYPE_Q5_1, rows, m, panel, first, out)
TILES(q8_0, TILE_Q8_0, 4)
TILES(q4_0, TILE_Q4_0, 4)
TILES(q4_1, TILE_Q4_1, 4)
TILES(q5_0, TILE_Q5_0, 4)
TILES(q5_1, TILE_Q5_1, 4)

#define RUN(id)                                                                                    \
    static void gemm_##id##_int8_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, \
                                      size_t n1)                                                   \
    {                                                                                              \
        run_tiles(args, m0, m1, n0, n1, rows_##id);                                                \
    }
RUN(q8_0)
RUN(q4_0)
RUN(q4_1)
RUN(q5_0)
RUN(q5_1)

#define KERNEL(id, TYPE, as)                                                                       \
    {"avx2 " #id " int8", TVLM_CPU_AVX2,         TVLM_TYPE_##TYPE,     TVLM_NUMERIC_INT8,          \
     &tvlm_layout_int8,   &tvlm_avx2_input_int8, gemm_##as##_int8_avx2}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32, q8_0),   KERNEL(f16, F16, q8_0),
                                    KERNEL(bf16, BF16, q8_0), KERNEL(q8_0, Q8_0, q8_0),
                                    KERNEL(q4_0, Q4_0, q4_0), KERNEL(q4_1, Q4_1, q4_1),
                                    KERNEL(q5_0, Q5_0, q5_0), KERNEL(q5_1, Q5_1, q5_1)};
const tvlm_gemm_tier tvlm_gemm_avx2_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2_int8 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
