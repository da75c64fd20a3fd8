/* SPDX-License-Identifier: MIT
 * Products of bytes in fours, behind neon.h or dotprod.h: with SDOT one instruction; without, they
 * are words, which hold sums of two of them. */
#ifndef TVLM_KERNELS_BYTES_H
#define TVLM_KERNELS_BYTES_H

#if defined(__aarch64__)

/* Bytes 4 lane .. 4 lane + 3 of q, for each of four columns. */
#define TVLM_LANE(f, q, lane)                                                                      \
    ((lane) == 0 ? f(q, 0) : (lane) == 1 ? f(q, 1) : (lane) == 2 ? f(q, 2) : f(q, 3))

/* sum += for each of four columns the products of its four signed bytes of w with bytes 4 lane ..
 * 4 lane + 3 of q. */
TVLM_INLINE int32x4_t multiply_bytes(int32x4_t sum, int8x16_t w, int8x16_t q, const int lane)
{
#if defined(TVLM_DOTPROD) && defined(__clang__) && __clang_major__ < 16 /* see i8mm.h */
#define DOT(lane) __asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sum) : "w"(w), "w"(q))
    if (lane == 0) DOT(0);
    if (lane == 1) DOT(1);
    if (lane == 2) DOT(2);
    if (lane == 3) DOT(3);
#undef DOT
    return sum;
#elif defined(TVLM_DOTPROD)
#define DOT(q, lane) vdotq_laneq_s32(sum, w, q, lane)
    return TVLM_LANE(DOT, q, lane);
#undef DOT
#else
    int8x8_t x = vreinterpret_s8_s32(TVLM_LANE(vdup_laneq_s32, vreinterpretq_s32_s8(q), lane));
    int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), x), vmull_s8(vget_high_s8(w), x));
    return vpadalq_s16(sum, pairs);
#endif
}

#endif
#endif
