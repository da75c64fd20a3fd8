/* SPDX-License-Identifier: MIT
 * The int8 kernels on AVX2, exact like the scalar ones. Activations are at most 127, so
 * maddubs sums two u8 x s8 products below 2^15 and never saturates. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

TVLM_INLINE __m256i dot4(__m256i acc, __m256i x, __m256i w)
{
    __m256i pairs = _mm256_maddubs_epi16(x, w);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "kernels/x86/int8_body.h"
#include "kernels/x86/qdwconv_body.h"
#include "kernels/x86/qgemm_body.h"

void tvlm_avx2_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm;
    table->qdwconv = qdwconv;
}

#endif

#include "kernels/x86/avx2_end.h"
