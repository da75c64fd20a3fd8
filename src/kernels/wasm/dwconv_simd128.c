/* SPDX-License-Identifier: MIT
 * Depthwise convolution on WebAssembly SIMD: tiles of 8 pixels by 4 channels, 7x7 6 by 4. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

TVLM_INLINE v128_t load_twice(const float *x)
{
    v128_t two = wasm_v128_load64_zero(x);
    return wasm_i32x4_shuffle(two, two, 0, 0, 1, 1);
}

#define tvlm_load_one(x)      wasm_v128_load(x)
#define tvlm_store_one(x, v)  wasm_v128_store(x, v)
#define tvlm_set_one(v)       wasm_f32x4_splat(v)
#define tvlm_fma_one(a, b, c) TVLM_MADD(a, b, c)
#define tvlm_act_one(act, x)  tvlm_act4(act, x)

enum { WIDTH = 4 };
#define F         v128_t
#define FN(name)  name##_one
#define REGS(k)   1
#define PIXELS(k) ((k) == 7 ? 6 : 8)
#include "kernels/dwconv_body.h"

void tvlm_simd128_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv;
}

#endif
