/* SPDX-License-Identifier: MIT
 * Depthwise convolution on AVX2: tiles of 8 pixels by 8 channels, 3x3 4 by 16. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

TVLM_INLINE __m256 load_twice(const float *x)
{
    __m256 four = _mm256_broadcast_ps((const __m128 *)(const void *)x);
    return _mm256_permutevar_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

enum { WIDTH = 8 };
#define F         __m256
#define FN(name)  name##8
#define REGS(k)   ((k) == 3 ? 2 : 1)
#define PIXELS(k) ((k) == 3 ? 4 : 8)
#include "kernels/dwconv_body.h"

void tvlm_avx2_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv;
}

#endif

#include "kernels/x86/avx2_end.h"
