/* SPDX-License-Identifier: MIT
 * A pure function from a CPU mask to a kernel table: tiers overlay each other in order. */
#include "kernels/kernels.h"

#include "cpu/cpu.h"

void tvlm_kernels_select(tvlm_kernels *table, uint32_t cpu_mask)
{
    tvlm_kernels_install_scalar(table);
    if (cpu_mask & TVLM_CPU_AVX2) tvlm_kernels_install_avx2(table);
    if (cpu_mask & TVLM_CPU_SIMD128) tvlm_kernels_install_simd128(table);
}

const tvlm_gemm *tvlm_kernels_gemm(const tvlm_kernels *table, tvlm_type type)
{
    switch (type) {
    case TVLM_TYPE_F32:
        return &table->gemm_f32;
    case TVLM_TYPE_F16:
        return &table->gemm_f16;
    case TVLM_TYPE_BF16:
        return &table->gemm_bf16;
    case TVLM_TYPE_Q8_0:
        return &table->gemm_q8_0;
    case TVLM_TYPE_Q4_0:
        return &table->gemm_q4_0;
    case TVLM_TYPE_Q4_1:
        return &table->gemm_q4_1;
    case TVLM_TYPE_Q5_0:
        return &table->gemm_q5_0;
    case TVLM_TYPE_Q5_1:
        return &table->gemm_q5_1;
    default:
        return NULL;
    }
}
