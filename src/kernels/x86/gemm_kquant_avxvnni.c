/* SPDX-License-Identifier: MIT
 * K-quants of four and five bits with AVX-VNNI. Six bits stay with AVX2: a product by the scale of
 * a half would cost what VPDPBUSD saves. */
#include "cpu/cpu.h"
#include "kernels/x86/avxvnni.h"

#if defined(__x86_64__)
#define VPDPBUSD
#include "kernels/x86/gemm_int8_avx2.h"

#include "kernels/x86/gemm_kquant_body.h"

#define TILE_Q4_K(rows) tile_int8(args, TVLM_TYPE_Q4_K, rows, m, panel, first, out)
#define TILE_Q5_K(rows) tile_int8(args, TVLM_TYPE_Q5_K, rows, m, panel, first, out)
TILES(q4_k, TILE_Q4_K, 4)
TILES(q5_k, TILE_Q5_K, 4)

#define RUN(id)                                                                                    \
    static void gemm_##id##_int8(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,      \
                                 size_t n1)                                                        \
    {                                                                                              \
        run_tiles(args, m0, m1, n0, n1, rows_##id);                                                \
    }
RUN(q4_k)
RUN(q5_k)

#define KERNEL(id, TYPE)                                                                           \
    {"avxvnni " #id " int8", TVLM_CPU_AVX_VNNI,  TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT8,              \
     &tvlm_layout_k,         &tvlm_avx2_input_k, gemm_##id##_int8}
static const tvlm_gemm kernels[] = {KERNEL(q4_k, Q4_K), KERNEL(q5_k, Q5_K)};
const tvlm_gemm_tier tvlm_gemm_avxvnni_k = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avxvnni_k = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
