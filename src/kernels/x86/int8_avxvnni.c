/* SPDX-License-Identifier: MIT
 * The int8 kernels with AVX-VNNI, whose VPDPBUSD makes a dot4 of one instruction. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

#if defined(TVLM_AVX512_EMULATION)
#include TVLM_AVX512_EMULATION
#elif defined(__clang__) /* of nested targets it would take the outer one */
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avxvnni")
#endif

TVLM_INLINE __m256i dot4(__m256i acc, __m256i x, __m256i w)
{
    return _mm256_dpbusd_avx_epi32(acc, x, w);
}

#include "kernels/x86/int8_body.h"
#include "kernels/x86/qdwconv_body.h"
#include "kernels/x86/qgemm_body.h"

void tvlm_kernels_install_avxvnni(tvlm_kernels *table)
{
    table->qgemm = qgemm;
    table->qdwconv = qdwconv;
}

#else

void tvlm_kernels_install_avxvnni(tvlm_kernels *table)
{
    (void)table;
}

#endif

#include "kernels/x86/avx2_end.h"
