/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers with AVX-VNNI, whose VPDPWSSD multiplies and adds in one
 * instruction. */
#include "cpu/cpu.h"
#include "kernels/x86/avxvnni.h"

#if defined(__x86_64__)

enum { MAX_ROWS = 6 };
#include "kernels/x86/tiles_avx2.h"

TVLM_INLINE void add_products(__m256i sum[2], __m256i w0, __m256i w1, __m256i x)
{
    sum[0] = _mm256_dpwssd_avx_epi32(sum[0], w0, x);
    TVLM_IN_ORDER(sum[0]);
    sum[1] = _mm256_dpwssd_avx_epi32(sum[1], w1, x);
    TVLM_IN_ORDER(sum[1]);
}

#include "kernels/x86/gemm_int16_body.h"

#define KERNEL(id, TYPE)                                                                           \
    {"avxvnni " #id " int16", TVLM_CPU_AVX_VNNI,      TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT16,        \
     &tvlm_avx2_layout_int16, &tvlm_avx2_input_int16, gemm_int16}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32), KERNEL(f16, F16), KERNEL(bf16, BF16)};
const tvlm_gemm_tier tvlm_gemm_avxvnni_int16 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avxvnni_int16 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
