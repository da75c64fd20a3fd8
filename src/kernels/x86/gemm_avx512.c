/* SPDX-License-Identifier: MIT
 * Linear layers of float weights on AVX-512, float32 class, in the layout of AVX2's kernels: a row
 * of a panel is one register. Many rows: 12 x 2, whose 24 sums, two weights and one x fit the 32
 * registers and give 24 multiplications for 14 loads. A lane is the chain of pack.h whatever the
 * tile. Block types of this class, the reference only, stay with AVX2. */
#include "cpu/cpu.h"
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

enum { MAX_ROWS = TVLM_TILE16_ROWS, MAX_PANELS = TVLM_TILE16_PANELS };

TVLM_INLINE __m512 load_weight16(tvlm_type type, const unsigned char *p)
{
    if (type == TVLM_TYPE_F32) return _mm512_loadu_ps(p);
    if (type == TVLM_TYPE_F16) return tvlm_load_half16(p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(tvlm_load256(p)), 16));
}

TVLM_INLINE void tile_float(const tvlm_gemm_args *args, tvlm_type type, const size_t rows,
                            const size_t panels, size_t m, size_t panel, tvlm_tile16 out)
{
    const size_t size = type == TVLM_TYPE_F32 ? 4 : 2;
    const size_t stride = args->k * TVLM_GEMM_NR * size;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const float *x = tvlm_gemm_row(args, m);
    const size_t ldx = args->ldx / sizeof(float), depth = args->k;
    __m512 acc[MAX_ROWS][MAX_PANELS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[r][p] = _mm512_setzero_ps();
    }
    for (size_t k = 0; k < depth; k++, w += TVLM_GEMM_NR * size) {
        __m512 weight[MAX_PANELS];
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            weight[p] = load_weight16(type, w + p * stride);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512 value = _mm512_set1_ps(x[r * ldx + k]);
            TVLM_KEEP16(value);
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++)
                acc[r][p] = _mm512_fmadd_ps(weight[p], value, acc[r][p]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            _mm512_storeu_ps(&out[r][16 * p], acc[r][p]);
    }
}

#define TILE_F32(rows, panels)  tile_float(args, TVLM_TYPE_F32, rows, panels, m, panel, out)
#define TILE_F16(rows, panels)  tile_float(args, TVLM_TYPE_F16, rows, panels, m, panel, out)
#define TILE_BF16(rows, panels) tile_float(args, TVLM_TYPE_BF16, rows, panels, m, panel, out)
TVLM_TILE16_RUN(gemm_f32_avx512, TILE_F32, 12)
TVLM_TILE16_RUN(gemm_f16_avx512, TILE_F16, 12)
TVLM_TILE16_RUN(gemm_bf16_avx512, TILE_BF16, 12)

#define KERNEL(id, TYPE)                                                                           \
    {"avx512 " #id " f32", TVLM_CPU_AVX512,  TVLM_TYPE_##TYPE,                                     \
     TVLM_NUMERIC_F32,     &tvlm_layout_f32, NULL,                                                 \
     gemm_##id##_avx512}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_avx512 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx512 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
