/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers on AVX2, exact within a block as pack.h states: madd multiplies
 * 16 words and adds them in twos, where a fused multiply-add takes 8 floats.
 *
 * A tile is ROWS rows of x by a panel of 16 columns: 12 sums, two registers of weights and one of x
 * fill the registers, so the float sums of a tile wait in memory from block to block. */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

enum { MAX_ROWS = 6 };
#include "kernels/x86/tiles_avx2.h"

/* ---- rows of x ---- */

/* max |v| of n values, a multiple of 16. */
TVLM_INLINE float largest_of(const float *v, size_t n)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256i most[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t i = 0; i < n; i += 16) {
        TVLM_UNROLL
        for (size_t h = 0; h < 2; h++) {
            __m256 size = _mm256_and_ps(_mm256_loadu_ps(v + i + 8 * h), magnitude);
            most[h] = _mm256_max_epi32(most[h], _mm256_castps_si256(size));
        }
    }
    __m256i all = _mm256_max_epi32(most[0], most[1]);
    __m128i top = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(top));
}

TVLM_INLINE float norm_of(const float *v, size_t n, float factor)
{
    const __m256 by = _mm256_set1_ps(factor);
    __m256 lane[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t i = 0; i < n; i += 16) {
        TVLM_UNROLL
        for (size_t h = 0; h < 2; h++) {
            __m256 u = _mm256_mul_ps(_mm256_loadu_ps(v + i + 8 * h), by);
            lane[h] = _mm256_add_ps(lane[h], _mm256_mul_ps(u, u));
        }
    }
    return sqrtf(tvlm_hsum8(_mm256_add_ps(lane[0], lane[1])));
}

TVLM_INLINE void codes_of(int16_t *q, const float *v, size_t n, float factor)
{
    const __m256 by = _mm256_set1_ps(factor);
    for (size_t i = 0; i < n; i += 16) {
        __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(v + i), by));
        __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(v + i + 8), by));
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        _mm256_storeu_si256((__m256i *)(void *)(q + i), words);
    }
}

#include "kernels/words_body.h"

const tvlm_gemm_input tvlm_avx2_input_int16 = {tvlm_words_bytes, pack_input};

static void pack_weights(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows,
                         size_t k)
{
    tvlm_words_pack(&tvlm_avx2_input_int16, type, packed, src, n0, n_rows, k);
}

const tvlm_gemm_layout tvlm_avx2_layout_int16 = {tvlm_words_packed_size, pack_weights,
                                                 tvlm_words_unpack_row};

/* ---- tiles ---- */

/* sum += v where sum lies and in the order of the lines: left to itself GCC copies every sum, or
 * keeps more products than there are registers. */
#define ADD_TO(sum, v) __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(v))

/* Integer sums of pairs of words. */
TVLM_INLINE void block_sums(const unsigned char *const x[MAX_ROWS], const unsigned char *w,
                            const size_t rows, size_t pairs, bool first, __m256i sum[MAX_ROWS][2])
{
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    TVLM_ROLLED
    for (size_t i = 0; i < pairs; i++) {
        __m256i w0 = tvlm_load256(w + 64 * i), w1 = tvlm_load256(w + 64 * i + 32);
        if (first) prefetch_ahead(w + 64 * i, 64);
        TVLM_KEEP8(w0);
        TVLM_KEEP8(w1);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i v = four_of(x[r] + 4 * i), u = _mm256_madd_epi16(w0, v);
            TVLM_IN_ORDER(u);
            v = _mm256_madd_epi16(w1, v);
            TVLM_IN_ORDER(v);
            ADD_TO(sum[r][0], u);
            ADD_TO(sum[r][1], v);
        }
    }
}

TVLM_INLINE void tile_words(const tvlm_gemm_args *args, const size_t rows, size_t m, size_t panel,
                            bool first, tile_out out)
{
    const size_t k = args->k;
    const unsigned char *w =
        (const unsigned char *)args->w + panel * TVLM_GEMM_NR * tvlm_words_bytes(k);
    const unsigned char *x[MAX_ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        _mm256_storeu_ps(&out[r][0], _mm256_setzero_ps());
        _mm256_storeu_ps(&out[r][8], _mm256_setzero_ps());
    }
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        const size_t n = tvlm_words_at(k, k0), bytes = tvlm_words_bytes(n);
        const unsigned char *q[MAX_ROWS];
        __m256i sum[MAX_ROWS][2];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            q[r] = x[r] + sizeof(float);
        block_sums(q, w + TVLM_GEMM_NR * sizeof(float), rows, (n + 1) / 2, first, sum);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const __m256 d = _mm256_broadcast_ss((const float *)(const void *)x[r]);
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][c]), d);
                __m256 d_w = _mm256_loadu_ps((const float *)(const void *)(w + 32 * c));
                _mm256_storeu_ps(&out[r][8 * c],
                                 _mm256_fmadd_ps(d_w, value, _mm256_loadu_ps(&out[r][8 * c])));
            }
            x[r] += bytes;
        }
        w += TVLM_GEMM_NR * bytes;
    }
}

#define TILE(rows) tile_words(args, rows, m, panel, first, out)
TILES(words, TILE, 6)

static void gemm_int16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    run_tiles(args, m0, m1, n0, n1, rows_words);
}

#define KERNEL(id, TYPE)                                                                           \
    {"avx2 " #id " int16",    TVLM_CPU_AVX2,          TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT16,        \
     &tvlm_avx2_layout_int16, &tvlm_avx2_input_int16, gemm_int16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_avx2_int16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2_int16 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
