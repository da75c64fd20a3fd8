/* SPDX-License-Identifier: MIT
 * Depthwise convolution on AVX-512: tiles of 12 pixels by 16 channels, 3x3 8 by 32. */
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

TVLM_INLINE __m512 load_twice(const float *x)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(tvlm_load8(x)));
}

enum { WIDTH = 16 };
#define F         __m512
#define FN(name)  name##16
#define REGS(k)   ((k) == 3 ? 2 : 1)
#define PIXELS(k) ((k) == 3 ? 8 : 12)
#include "kernels/dwconv_body.h"

void tvlm_avx512_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv;
}

#endif

#include "kernels/x86/avx2_end.h"
