/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers with AVX-VNNI, whose VPDPBUSD takes the place of three
 * instructions. */
#include "cpu/cpu.h"
#include "kernels/x86/avxvnni.h"

#if defined(__x86_64__)
#define VPDPBUSD
#include "kernels/x86/gemm_int8_avx2.h"

#include "kernels/x86/gemm_int8_body.h"

#define KERNEL(id, TYPE, as)                                                                       \
    {"avxvnni " #id " int8", TVLM_CPU_AVX_VNNI,     TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT8,           \
     &tvlm_layout_int8,      &tvlm_avx2_input_int8, gemm_##as##_int8}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32, q8_0),   KERNEL(f16, F16, q8_0),
                                    KERNEL(bf16, BF16, q8_0), KERNEL(q8_0, Q8_0, q8_0),
                                    KERNEL(q4_0, Q4_0, q4_0), KERNEL(q4_1, Q4_1, q4_1),
                                    KERNEL(q5_0, Q5_0, q5_0), KERNEL(q5_1, Q5_1, q5_1)};
const tvlm_gemm_tier tvlm_gemm_avxvnni_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avxvnni_int8 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
