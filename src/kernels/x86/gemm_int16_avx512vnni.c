/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers with VPDPWSSD, which adds to each of 16 integers two products of
 * words: exact within a block, as pack.h states. Tiles of 12 x 2; their float sums wait in memory
 * from block to block. */
#include "cpu/cpu.h"
#define TVLM_AVX512_WITH ",avx512vnni"
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

enum { MAX_ROWS = TVLM_TILE16_ROWS, MAX_PANELS = TVLM_TILE16_PANELS };

/* ---- rows of x ---- */

/* max |v| of n values, a multiple of 16. */
TVLM_INLINE float largest_of(const float *v, size_t n)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i most = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16)
        most = _mm512_max_epi32(most, _mm512_and_si512(tvlm_load512(v + i), magnitude));
    int32_t bits = _mm512_reduce_max_epi32(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

TVLM_INLINE float norm_of(const float *v, size_t n, float factor)
{
    const __m512 by = _mm512_set1_ps(factor);
    __m512 lane = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __m512 u = _mm512_mul_ps(_mm512_loadu_ps(v + i), by);
        lane = _mm512_add_ps(lane, _mm512_mul_ps(u, u));
    }
    return sqrtf(
        tvlm_hsum8(_mm256_add_ps(_mm512_castps512_ps256(lane), _mm512_extractf32x8_ps(lane, 1))));
}

TVLM_INLINE void codes_of(int16_t *q, const float *v, size_t n, float factor)
{
    const __m512 by = _mm512_set1_ps(factor);
    for (size_t i = 0; i < n; i += 16) {
        __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(v + i), by));
        _mm256_storeu_si256((__m256i *)(void *)(q + i), _mm512_cvtepi32_epi16(code));
    }
}

#include "kernels/words_body.h"

static const tvlm_gemm_input input = {tvlm_words_bytes, pack_input};

/* ---- tiles ---- */

/* Two words of a row of x for all columns. */
TVLM_INLINE __m512i two_of(const unsigned char *x)
{
    int32_t two;
    memcpy(&two, x, sizeof two);
    return _mm512_set1_epi32(two);
}

/* Sums of products of a block whose x and weights start ldx and stride bytes apart. */
TVLM_INLINE void block_sums(const unsigned char *x, size_t ldx, const unsigned char *w,
                            size_t stride, const size_t rows, const size_t panels, size_t pairs,
                            __m512i sum[MAX_ROWS][MAX_PANELS])
{
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            sum[r][p] = _mm512_setzero_si512();
    }
    for (size_t i = 0; i < pairs; i++, w += TVLM_GEMM_NR * 4) {
        __m512i weight[MAX_PANELS];
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            weight[p] = tvlm_load512(w + p * stride);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i two = two_of(x + r * ldx + 4 * i);
            TVLM_KEEP16(two);
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++) {
                sum[r][p] = _mm512_dpwssd_epi32(sum[r][p], weight[p], two);
                TVLM_IN_PLACE16(sum[r][p]);
            }
        }
    }
}

/* out += d_w * (total * d) of a block. */
TVLM_INLINE void add_block(const unsigned char *x, size_t ldx, const unsigned char *w,
                           size_t stride, const size_t rows, const size_t panels,
                           __m512i sum[MAX_ROWS][MAX_PANELS], tvlm_tile16 out)
{
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        const __m512 d = _mm512_set1_ps(*(const float *)(const void *)(x + r * ldx));
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++) {
            __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][p]), d);
            __m512 d_w = _mm512_loadu_ps((const float *)(const void *)(w + p * stride));
            __m512 acc = _mm512_loadu_ps(&out[r][16 * p]);
            _mm512_storeu_ps(&out[r][16 * p], _mm512_fmadd_ps(d_w, value, acc));
        }
    }
}

TVLM_INLINE void tile_words(const tvlm_gemm_args *args, const size_t rows, const size_t panels,
                            size_t m, size_t panel, tvlm_tile16 out)
{
    const size_t k = args->k, stride = TVLM_GEMM_NR * tvlm_words_bytes(k), ldx = args->ldx;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const unsigned char *x = tvlm_gemm_row(args, m);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) { /* memset would be a slow instruction */
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            _mm512_storeu_ps(&out[r][16 * p], _mm512_setzero_ps());
    }
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        const size_t n = tvlm_words_at(k, k0), bytes = tvlm_words_bytes(n);
        __m512i sum[MAX_ROWS][MAX_PANELS];
        block_sums(x + sizeof(float), ldx, w + TVLM_GEMM_NR * sizeof(float), stride, rows, panels,
                   (n + 1) / 2, sum);
        add_block(x, ldx, w, stride, rows, panels, sum, out);
        x += bytes;
        w += TVLM_GEMM_NR * bytes;
    }
}

#define TILE(rows, panels) tile_words(args, rows, panels, m, panel, out)
TVLM_TILE16_RUN(gemm_int16, TILE, 12)

#define KERNEL(id, TYPE)                                                                           \
    {"avx512vnni " #id " int16",                                                                   \
     TVLM_CPU_AVX512_VNNI,                                                                         \
     TVLM_TYPE_##TYPE,                                                                             \
     TVLM_NUMERIC_INT16,                                                                           \
     &tvlm_avx2_layout_int16,                                                                      \
     &input,                                                                                       \
     gemm_int16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_avx512vnni_int16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx512vnni_int16 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
