/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers with SDOT, which adds four products of bytes to each of four
 * integers. */
#include "cpu/cpu.h"
#include "kernels/arm/dotprod.h"

#if defined(TVLM_DOTPROD)

TVLM_INLINE int32x4_t multiply_bytes(int32x4_t sum, int8x16_t w, int8x16_t q, const int lane)
{
    return lane == 0   ? vdotq_laneq_s32(sum, w, q, 0)
           : lane == 1 ? vdotq_laneq_s32(sum, w, q, 1)
           : lane == 2 ? vdotq_laneq_s32(sum, w, q, 2)
                       : vdotq_laneq_s32(sum, w, q, 3);
}

#define TIER "dotprod"
#define CPU  (TVLM_CPU_NEON | TVLM_CPU_DOTPROD)
#include "kernels/arm/gemm_int8_body.h"
const tvlm_gemm_tier tvlm_gemm_dotprod_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_dotprod_int8 = {NULL, 0};

#endif

#include "kernels/arm/dotprod_end.h"
