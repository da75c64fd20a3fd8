/* SPDX-License-Identifier: MIT
 * The bf16 class of linear layers with VDPBF16PS, whose arithmetic pack.h states. Two k lie beside
 * each other, so that a register holds them for the 16 columns of a panel; tiles of 12 x 2. */
#include "cpu/cpu.h"
#define TVLM_AVX512_WITH ",avx512bf16"
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

enum { MAX_ROWS = TVLM_TILE16_ROWS, MAX_PANELS = TVLM_TILE16_PANELS };

/* Two values of a row of x for all columns. */
TVLM_INLINE __m512i two_of(const unsigned char *x)
{
    int32_t two;
    memcpy(&two, x, sizeof two);
    return _mm512_set1_epi32(two);
}

TVLM_INLINE void tile_bf16(const tvlm_gemm_args *args, const size_t rows, const size_t panels,
                           size_t m, size_t panel, tvlm_tile16 out)
{
    const size_t steps = (args->k + 1) / 2, stride = steps * TVLM_GEMM_NR * 4, ldx = args->ldx;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const unsigned char *x = tvlm_gemm_row(args, m);
    __m512 acc[MAX_ROWS][MAX_PANELS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[r][p] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < steps; i++, w += TVLM_GEMM_NR * 4) {
        __m512i weight[MAX_PANELS];
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            weight[p] = tvlm_load512(w + p * stride);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i two = two_of(x + r * ldx + 4 * i);
            TVLM_KEEP16(two);
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++)
                acc[r][p] = _mm512_dpbf16_ps(acc[r][p], (__m512bh)weight[p], (__m512bh)two);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            _mm512_storeu_ps(&out[r][16 * p], acc[r][p]);
    }
}

#define TILE(rows, panels) tile_bf16(args, rows, panels, m, panel, out)
TVLM_TILE16_RUN(gemm_bf16, TILE, 12)

static size_t input_bytes(size_t k)
{
    return (k + 1) / 2 * 4;
}

static void pack_input(void *packed, const float *x, size_t k)
{
    unsigned char *out = packed;
    if (k % 2) memset(out + 2 * k, 0, 2);
    for (size_t i = 0; i < k; i += 16) {
        const __mmask16 mask = tvlm_mask16(k - i);
        const __m256i half = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
        _mm256_mask_storeu_epi16(out + 2 * i, mask, half);
    }
}

static const tvlm_gemm_input input = {input_bytes, pack_input};

#define KERNEL(id, TYPE)                                                                           \
    {"avx512bf16 " #id " bf16",                                                                    \
     TVLM_CPU_AVX512_BF16,                                                                         \
     TVLM_TYPE_##TYPE,                                                                             \
     TVLM_NUMERIC_BF16,                                                                            \
     &tvlm_layout_bf16,                                                                            \
     &input,                                                                                       \
     gemm_bf16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_avx512bf16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx512bf16 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
