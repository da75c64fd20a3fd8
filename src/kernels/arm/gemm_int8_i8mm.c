/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers with SMMLA. */
#include "cpu/cpu.h"
#include "kernels/arm/i8mm.h"

#if defined(TVLM_I8MM)

#define TIER "i8mm"
#define CPU  (TVLM_CPU_NEON | TVLM_CPU_DOTPROD | TVLM_CPU_I8MM)
#include "kernels/arm/gemm_int8_body.h"
const tvlm_gemm_tier tvlm_gemm_i8mm_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_i8mm_int8 = {NULL, 0};

#endif

#include "kernels/arm/target_end.h"
