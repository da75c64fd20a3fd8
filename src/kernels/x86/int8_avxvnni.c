/* SPDX-License-Identifier: MIT
 * The int8 kernels with AVX-VNNI, whose VPDPBUSD makes a dot4 of one instruction. */
#include "kernels/x86/avxvnni.h"

#if defined(__x86_64__)

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
