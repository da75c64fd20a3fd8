/* SPDX-License-Identifier: MIT
 * The two passes of a resize on NEON, exact like the scalar ones: bytes, widened to 32 bits, times
 * whole taps. */
#include "kernels/arm/neon.h"

#if defined(__aarch64__)

/* Rounded sums as words within 0 .. 65535. */
TVLM_INLINE uint16x4_t rounded(uint32x4_t sum)
{
    const uint32x4_t half = vdupq_n_u32(1u << (TVLM_RESIZE_BITS - 1));
    int32x4_t value = vreinterpretq_s32_u32(vaddq_u32(sum, half));
    return vqmovun_s32(vshrq_n_s32(value, TVLM_RESIZE_BITS));
}

TVLM_INLINE uint32x4_t four_taps(const tvlm_resize_taps *taps, size_t t)
{
    int32x4_t high = vshlq_n_s32(vmovl_s16(vld1_s16(taps->high + t)), 16);
    return vreinterpretq_u32_s32(vaddw_s16(high, vld1_s16(taps->low + t)));
}

static void resize_across(uint8_t *y, const uint8_t *x, const tvlm_resize_taps *taps, size_t n)
{
    enum { OUT = 0xff }; /* no byte of the register: 0 */
#define PLACES(c)                                                                                  \
    {                                                                                              \
        c, OUT, OUT, OUT, c + 3, OUT, OUT, OUT, c + 6, OUT, OUT, OUT, c + 9, OUT, OUT, OUT         \
    }
    static const uint8_t places[TVLM_RESIZE_CHANNELS][16] = {PLACES(0), PLACES(1), PLACES(2)};
#undef PLACES
    const uint8x16_t r = vld1q_u8(places[0]), g = vld1q_u8(places[1]), b = vld1q_u8(places[2]);
    for (size_t i = 0; i < n; i++, taps++, y += TVLM_RESIZE_CHANNELS) {
        const uint8_t *from = x + taps->first * TVLM_RESIZE_CHANNELS;
        uint32x4_t red = vdupq_n_u32(0), green = red, blue = red;
        for (size_t t = 0; t < taps->n; t += 4, from += 4 * TVLM_RESIZE_CHANNELS) {
            const uint8x16_t bytes = vld1q_u8(from);
            const uint32x4_t k = four_taps(taps, t);
            red = vmlaq_u32(red, vreinterpretq_u32_u8(vqtbl1q_u8(bytes, r)), k);
            green = vmlaq_u32(green, vreinterpretq_u32_u8(vqtbl1q_u8(bytes, g)), k);
            blue = vmlaq_u32(blue, vreinterpretq_u32_u8(vqtbl1q_u8(bytes, b)), k);
        }
        uint16x4_t words = rounded(vpaddq_u32(vpaddq_u32(red, green), vpaddq_u32(blue, blue)));
        uint8_t rgb[8];
        vst1_u8(rgb, vqmovn_u16(vcombine_u16(words, words)));
        memcpy(y, rgb, TVLM_RESIZE_CHANNELS);
    }
}

/* Columns i .. i + 8 of a row with n left. */
TVLM_INLINE uint8x8_t down8(const uint8_t *const *rows, const tvlm_resize_taps *taps, size_t i,
                            size_t n)
{
    uint32x4_t low = vdupq_n_u32(0), high = low;
    for (size_t t = 0; t < taps->n; t++) {
        const uint32_t k = (uint32_t)taps->low[t] + (uint32_t)taps->high[t] * 65536;
        uint8_t few[8] = {0};
        memcpy(few, rows[t] + i, n < 8 ? n : 8);
        const uint16x8_t x = vmovl_u8(vld1_u8(few));
        low = vmlaq_n_u32(low, vmovl_u16(vget_low_u16(x)), k);
        high = vmlaq_n_u32(high, vmovl_high_u16(x), k);
    }
    return vqmovn_u16(vcombine_u16(rounded(low), rounded(high)));
}

static void resize_down(uint8_t *y, const uint8_t *const *rows, const tvlm_resize_taps *taps,
                        size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        vst1_u8(y + i, down8(rows, taps, i, 8));
    if (i == n) return;
    uint8_t few[8];
    vst1_u8(few, down8(rows, taps, i, n - i));
    memcpy(y + i, few, n - i);
}

void tvlm_neon_install_resize(tvlm_kernels *table)
{
    table->resize_across = resize_across;
    table->resize_down = resize_down;
}

#endif
