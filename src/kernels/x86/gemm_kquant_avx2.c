/* SPDX-License-Identifier: MIT
 * Linear layers with K-quants on AVX2; pack.h states the arithmetic and draws the panels.
 *
 *   int8   codes are unsigned and small, so that maddubs takes 32 products at a time
 *   f32    a part of a panel becomes floats once for all rows */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)
#include "kernels/x86/gemm_int8_avx2.h"

#include "kernels/x86/gemm_kquant_body.h"

/* ---- rows of x ---- */

static void pack_input(void *packed, const float *x, size_t k)
{
    tvlm_avx2_input_int8.pack(packed, x, k);
    unsigned char *at = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, at += sizeof(tvlm_half_block)) {
        tvlm_half_block *h = (tvlm_half_block *)(void *)at;
        int32_t both;
        memcpy(&both, h->sum, sizeof both);
        __m128i q = _mm_loadu_si128((const __m128i *)(const void *)h->q);
        __m128i first = _mm_maddubs_epi16(_mm_set1_epi8(1), q);
        first = _mm_madd_epi16(first, _mm_set1_epi16(1));
        first = _mm_add_epi32(first, _mm_shuffle_epi32(first, 0x4e));
        first = _mm_add_epi32(first, _mm_shuffle_epi32(first, 0xb1));
        h->sum[0] = (int16_t)_mm_cvtsi128_si32(first);
        h->sum[1] = (int16_t)(both - h->sum[0]);
    }
}

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(tvlm_half_block);
}

const tvlm_gemm_input tvlm_avx2_input_k = {input_bytes, pack_input};

/* ---- the int8 tiles ---- */

#define TILE_Q4_K(rows) tile_int8(args, TVLM_TYPE_Q4_K, rows, m, panel, first, out)
#define TILE_Q5_K(rows) tile_int8(args, TVLM_TYPE_Q5_K, rows, m, panel, first, out)
#define TILE_Q6_K(rows) tile_int8(args, TVLM_TYPE_Q6_K, rows, m, panel, first, out)
TILES(q4_k, TILE_Q4_K, 4)
TILES(q5_k, TILE_Q5_K, 4)
TILES(q6_k, TILE_Q6_K, 4)

/* ---- float32 ---- */

typedef float part_floats[TVLM_BLOCK][TVLM_GEMM_NR];

/* Weights 4j .. 4j + 3 (low) or 16 + 4j .. (upper) of columns 8c .. 8c + 7, one in each byte. */
TVLM_INLINE __m256i part_codes(const tvlm_k_layout *layout, const unsigned char *part, bool upper,
                               size_t j, size_t c)
{
    __m256i code = tvlm_load256(part + layout->code_at + 64 * j + 32 * c);
    if (upper) code = _mm256_srli_epi16(code, 4);
    code = _mm256_and_si256(code, _mm256_set1_epi8(15));
    if (layout->bits == 4) return code;
    bool six = layout->bits == 6;
    __m256i high = tvlm_load256(part + (six && upper ? 64 : 0) + 32 * c);
    size_t at = six ? 2 * j : j + (upper ? 4 : 0); /* of the lowest bit */
    high = at < 4 ? _mm256_slli_epi16(high, (int)(4 - at)) : _mm256_srli_epi16(high, (int)(at - 4));
    return _mm256_or_si256(code, _mm256_and_si256(high, _mm256_set1_epi8(six ? 48 : 16)));
}

/* Eight columns of 16 weights that have one scale, and m or not. */
TVLM_INLINE void decode_half(const tvlm_k_layout *layout, const unsigned char *part, bool upper,
                             size_t c, __m256 scale, __m256 m, part_floats w)
{
    TVLM_UNROLL
    for (size_t j = 0; j < 4; j++) {
        __m256i code = part_codes(layout, part, upper, j, c);
        TVLM_UNROLL
        for (size_t i = 0; i < 4; i++) {
            __m256i q =
                _mm256_and_si256(_mm256_srli_epi32(code, (int)(8 * i)), _mm256_set1_epi32(255));
            if (layout->bits == 6) q = _mm256_sub_epi32(q, _mm256_set1_epi32(32));
            __m256 value = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(q));
            if (layout->bits < 6) value = _mm256_sub_ps(value, m);
            _mm256_storeu_ps(&w[(upper ? 16 : 0) + 4 * j + i][8 * c], value);
        }
    }
}

TVLM_INLINE void decode_part(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                             part_floats w)
{
    const unsigned char *part = block + layout->part_at + p * layout->part_bytes;
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        __m256 scale[2], m = _mm256_setzero_ps();
        if (layout->bits == 6) {
            TVLM_UNROLL
            for (size_t h = 0; h < 2; h++)
                scale[h] =
                    scaled8(block + 16 * c, _mm256_cvtepi8_epi32(load64(block + layout->scale_at +
                                                                        16 * (2 * p + h) + 8 * c)));
        } else {
            const size_t at = 16 * p + 8 * c;
            scale[0] = scale[1] = scaled8(
                block + 16 * c, _mm256_cvtepu8_epi32(load64(block + layout->scale_at + at)));
            m = scaled8(block + 32 + 16 * c,
                        _mm256_cvtepu8_epi32(load64(block + layout->m_at + at)));
        }
        decode_half(layout, part, false, c, scale[0], m, w);
        decode_half(layout, part, true, c, scale[1], m, w);
    }
}

/* acc[row][16] += the part's weights times x[row][0 .. 31]. */
TVLM_INLINE void multiply_part(const size_t rows, const part_floats w, const float *x, size_t ldx,
                               float (*acc)[TVLM_GEMM_NR])
{
    __m256 sum[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        sum[r][0] = _mm256_loadu_ps(&acc[r][0]);
        sum[r][1] = _mm256_loadu_ps(&acc[r][8]);
    }
    TVLM_ROLLED
    for (size_t k = 0; k < TVLM_BLOCK; k++) {
        __m256 w0 = _mm256_loadu_ps(&w[k][0]), w1 = _mm256_loadu_ps(&w[k][8]);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 value = _mm256_broadcast_ss(x + r * ldx + k);
            sum[r][0] = _mm256_fmadd_ps(w0, value, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(w1, value, sum[r][1]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&acc[r][0], sum[r][0]);
        _mm256_storeu_ps(&acc[r][8], sum[r][1]);
    }
}

enum { GROUP = 64 }; /* rows that share one decoding */

TVLM_INLINE void run_f32(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                         size_t n0, size_t n1)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = args->k / (PARTS * TVLM_BLOCK), ldx = args->ldx / sizeof(float);
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * n_blocks * layout.bytes;
        for (size_t m = m0; m < m1; m += GROUP) {
            const size_t rows = m1 - m < GROUP ? m1 - m : GROUP;
            float acc[GROUP][TVLM_GEMM_NR] = {{0}};
            for (size_t b = 0; b < n_blocks * PARTS; b++) {
                part_floats w;
                decode_part(&layout, panel + b / PARTS * layout.bytes, b % PARTS, w);
                const float *x = (const float *)tvlm_gemm_row(args, m) + b * TVLM_BLOCK;
                size_t r = 0;
                for (; r + MAX_ROWS <= rows; r += MAX_ROWS)
                    multiply_part(MAX_ROWS, w, x + r * ldx, ldx, acc + r);
                for (; r < rows; r++)
                    multiply_part(1, w, x + r * ldx, ldx, acc + r);
            }
            for (size_t r = 0; r < rows; r++)
                for (size_t c = n; c < n1 && c < n + TVLM_GEMM_NR; c += 8)
                    tvlm_epilogue8(args, m + r, c, n1 - c < 8 ? n1 - c : 8,
                                   _mm256_loadu_ps(&acc[r][c - n]));
        }
    }
}

/* ---- the kernels ---- */

#define RUN(id, TYPE)                                                                              \
    static void gemm_##id##_int8_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, \
                                      size_t n1)                                                   \
    {                                                                                              \
        run_tiles(args, m0, m1, n0, n1, rows_##id);                                                \
    }                                                                                              \
    static void gemm_##id##_f32_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,  \
                                     size_t n1)                                                    \
    {                                                                                              \
        run_f32(args, TVLM_TYPE_##TYPE, m0, m1, n0, n1);                                           \
    }
RUN(q4_k, Q4_K)
RUN(q5_k, Q5_K)
RUN(q6_k, Q6_K)

#define KERNEL(id, TYPE, class, CLASS, input)                                                      \
    {"avx2 " #id " " #class, TVLM_CPU_AVX2, TVLM_TYPE_##TYPE,          TVLM_NUMERIC_##CLASS,       \
     &tvlm_layout_k,         input,         gemm_##id##_##class##_avx2}
static const tvlm_gemm kernels[] = {KERNEL(q4_k, Q4_K, f32, F32, NULL),
                                    KERNEL(q5_k, Q5_K, f32, F32, NULL),
                                    KERNEL(q6_k, Q6_K, f32, F32, NULL),
                                    KERNEL(q4_k, Q4_K, int8, INT8, &tvlm_avx2_input_k),
                                    KERNEL(q5_k, Q5_K, int8, INT8, &tvlm_avx2_input_k),
                                    KERNEL(q6_k, Q6_K, int8, INT8, &tvlm_avx2_input_k)};
const tvlm_gemm_tier tvlm_gemm_avx2_k = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2_k = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
