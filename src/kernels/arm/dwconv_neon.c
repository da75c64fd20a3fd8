/* SPDX-License-Identifier: MIT
 * Depthwise convolution on NEON: tiles of 8 pixels by 8 channels, 7x7 12 by 4. */
#include "kernels/arm/neon.h"

#if defined(__aarch64__)

TVLM_INLINE float32x4_t load_twice(const float *x)
{
    float32x2_t two = vld1_f32(x);
    return vcombine_f32(vdup_lane_f32(two, 0), vdup_lane_f32(two, 1));
}

#define tvlm_load_one(x)      vld1q_f32(x)
#define tvlm_store_one(x, v)  vst1q_f32(x, v)
#define tvlm_set_one(v)       vdupq_n_f32(v)
#define tvlm_fma_one(a, b, c) tvlm_fma4(a, b, c)
#define tvlm_act_one(act, x)  tvlm_act4(act, x)

enum { WIDTH = 4 };
#define F         float32x4_t
#define FN(name)  name##_one
#define REGS(k)   ((k) == 7 ? 1 : 2)
#define PIXELS(k) ((k) == 7 ? 12 : 8)
#include "kernels/dwconv_body.h"

void tvlm_neon_install_dwconv(tvlm_kernels *table)
{
    table->dwconv = dwconv;
}

#endif
