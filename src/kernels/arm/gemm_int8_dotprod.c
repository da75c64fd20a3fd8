/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers with SDOT. */
#include "cpu/cpu.h"
#include "kernels/arm/dotprod.h"

#if defined(TVLM_DOTPROD)
#include "kernels/arm/bytes.h"

#define TIER "dotprod"
#define CPU  (TVLM_CPU_NEON | TVLM_CPU_DOTPROD)
#include "kernels/arm/gemm_int8_body.h"
const tvlm_gemm_tier tvlm_gemm_dotprod_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_dotprod_int8 = {NULL, 0};

#endif

#include "kernels/arm/target_end.h"
