/* SPDX-License-Identifier: MIT
 * K-quants with VPDPBUSD: codes of four to six bits are the unsigned bytes, rows of x the signed
 * ones, sums exact, as pack.h states. Tiles of 6 x 2 as for the block types. */
#include "cpu/cpu.h"
#define TVLM_AVX512_WITH ",avx512vnni"
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

enum { MAX_ROWS = 6, MAX_PANELS = TVLM_TILE16_PANELS, PARTS = 8 };

/* Weights 4j .. 4j + 3 of a part for the 16 columns: codes as bytes. */
TVLM_INLINE __m512i codes16(const tvlm_k_layout *layout, const unsigned char *part, const size_t j)
{
    __m512i bytes = tvlm_load512(part + layout->code_at + 64 * (j % 4));
    if (j >= 4) bytes = _mm512_srli_epi16(bytes, 4);
    bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
    if (layout->bits == 4) return bytes;
    const bool six = layout->bits == 6;
    const size_t at = six ? 2 * (j % 4) : j; /* the lowest of the bits that go to 4 and 5 */
    __m512i high = tvlm_load512(part + (six && j >= 4 ? 64 : 0));
    high = at < 4 ? _mm512_slli_epi16(high, (unsigned)(4 - at))
                  : _mm512_srli_epi16(high, (unsigned)(at - 4));
    return _mm512_or_si512(bytes, _mm512_and_si512(high, _mm512_set1_epi8(six ? 48 : 16)));
}

TVLM_INLINE __m512i four_of(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/* sum = sums of products with 4j .. 4j + 3 for j from j0 up to j1. */
TVLM_INLINE void part_sums(const tvlm_k_layout *layout, const unsigned char *part, size_t stride,
                           const tvlm_half_block *const x[MAX_ROWS], const size_t rows,
                           const size_t panels, const size_t j0, const size_t j1,
                           __m512i sum[MAX_ROWS][MAX_PANELS])
{
    TVLM_UNROLL
    for (size_t p = 0; p < panels; p++) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][p] = _mm512_setzero_si512();
    }
    TVLM_UNROLL
    for (size_t j = j0; j < j1; j++) {
        __m512i code[MAX_PANELS];
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            code[p] = codes16(layout, part + p * stride, j);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i four = four_of(x[r]->q + 4 * j);
            TVLM_KEEP16(four);
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++)
                sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], code[p], four);
        }
    }
}

TVLM_INLINE __m128i load128(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* ---- 4 and 5 bits ---- */

/* d of the columns (halves from p on) times their small scales, exact. */
TVLM_INLINE __m512 scaled16(const unsigned char *p, const unsigned char *scales)
{
    return _mm512_mul_ps(tvlm_load_half16(p),
                         _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load128(scales))));
}

/* acc += d * scale * (total * x->d) - min * m * (x's sum * x->d). */
TVLM_INLINE void add_affine(const tvlm_k_layout *layout, const unsigned char *block, size_t stride,
                            size_t part, const tvlm_half_block *const x[MAX_ROWS],
                            const size_t rows, const size_t panels,
                            __m512i total[MAX_ROWS][MAX_PANELS], __m512 acc[MAX_ROWS][MAX_PANELS])
{
    TVLM_UNROLL
    for (size_t p = 0; p < panels; p++) {
        const unsigned char *w = block + p * stride;
        __m512 scale = scaled16(w, w + layout->scale_at + 16 * part);
        __m512 m = scaled16(w + 32, w + layout->m_at + 16 * part);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            float sum = (float)(x[r]->sum[0] + x[r]->sum[1]) * x[r]->d;
            __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(total[r][p]), _mm512_set1_ps(x[r]->d));
            acc[r][p] = _mm512_fmadd_ps(scale, value, acc[r][p]);
            acc[r][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(-sum), acc[r][p]);
        }
    }
}

/* ---- 6 bits ---- */

/* total = sum over halves h of scale[h] * sum over k of (code[k] - 32) * q[k]. */
TVLM_INLINE void centred_sums(const tvlm_k_layout *layout, const unsigned char *part,
                              const unsigned char *scales, size_t stride,
                              const tvlm_half_block *const x[MAX_ROWS], const size_t rows,
                              const size_t panels, __m512i total[MAX_ROWS][MAX_PANELS])
{
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        __m512i sum[MAX_ROWS][MAX_PANELS];
        part_sums(layout, part, stride, x, rows, panels, 4 * h, 4 * h + 4, sum);
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++) {
            __m512i scale = _mm512_cvtepi8_epi32(load128(scales + p * stride + 16 * h));
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                sum[r][p] = _mm512_sub_epi32(sum[r][p], _mm512_set1_epi32(32 * x[r]->sum[h]));
                sum[r][p] = _mm512_mullo_epi32(scale, sum[r][p]);
                total[r][p] = h ? _mm512_add_epi32(total[r][p], sum[r][p]) : sum[r][p];
            }
        }
    }
}

TVLM_INLINE void add_centred(const unsigned char *block, size_t stride,
                             const tvlm_half_block *const x[MAX_ROWS], const size_t rows,
                             const size_t panels, __m512i total[MAX_ROWS][MAX_PANELS],
                             __m512 acc[MAX_ROWS][MAX_PANELS])
{
    TVLM_UNROLL
    for (size_t p = 0; p < panels; p++) {
        __m512 d = tvlm_load_half16(block + p * stride);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(total[r][p]), _mm512_set1_ps(x[r]->d));
            acc[r][p] = _mm512_fmadd_ps(d, value, acc[r][p]);
        }
    }
}

/* ---- the tile ---- */

TVLM_INLINE void tile_int8(const tvlm_gemm_args *args, tvlm_type type, const size_t rows,
                           const size_t panels, size_t m, size_t panel, tvlm_tile16 out)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = args->k / (PARTS * TVLM_BLOCK), stride = n_blocks * layout.bytes;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const tvlm_half_block *x[MAX_ROWS];
    __m512 acc[MAX_ROWS][MAX_PANELS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[r][p] = _mm512_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        const unsigned char *part = w + layout.part_at;
        TVLM_ROLLED
        for (size_t i = 0; i < PARTS; i++, part += layout.part_bytes) {
            __m512i total[MAX_ROWS][MAX_PANELS];
            if (layout.bits == 6) {
                centred_sums(&layout, part, w + layout.scale_at + 32 * i, stride, x, rows, panels,
                             total);
                add_centred(w, stride, x, rows, panels, total, acc);
            } else {
                part_sums(&layout, part, stride, x, rows, panels, 0, 8, total);
                add_affine(&layout, w, stride, i, x, rows, panels, total, acc);
            }
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++)
                x[r]++;
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            _mm512_storeu_ps(&out[r][16 * p], acc[r][p]);
    }
}

#define TILE_Q4_K(rows, panels) tile_int8(args, TVLM_TYPE_Q4_K, rows, panels, m, panel, out)
#define TILE_Q5_K(rows, panels) tile_int8(args, TVLM_TYPE_Q5_K, rows, panels, m, panel, out)
#define TILE_Q6_K(rows, panels) tile_int8(args, TVLM_TYPE_Q6_K, rows, panels, m, panel, out)
TVLM_TILE16_RUN(gemm_q4_k_int8_vnni, TILE_Q4_K, 6)
TVLM_TILE16_RUN(gemm_q5_k_int8_vnni, TILE_Q5_K, 6)
TVLM_TILE16_RUN(gemm_q6_k_int8_vnni, TILE_Q6_K, 6)

#define KERNEL(id, TYPE)                                                                           \
    {"avx512vnni " #id " int8", TVLM_CPU_AVX512_VNNI, TVLM_TYPE_##TYPE,                            \
     TVLM_NUMERIC_INT8,         &tvlm_layout_k,       &tvlm_avx2_input_k,                          \
     gemm_##id##_int8_vnni}
static const tvlm_gemm kernels[] = {KERNEL(q4_k, Q4_K), KERNEL(q5_k, Q5_K), KERNEL(q6_k, Q6_K)};
const tvlm_gemm_tier tvlm_gemm_avx512vnni_k = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx512vnni_k = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
