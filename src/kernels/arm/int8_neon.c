/* SPDX-License-Identifier: MIT
 * The int8 tower's kernels on NEON, exact like the scalar ones: linear layers, and depthwise layers
 * over tiles of four pixels by eight channels. */
#include "kernels/arm/neon.h"

#if defined(__aarch64__)
#include "kernels/arm/bytes.h"

#include "kernels/arm/qgemm_body.h"

/* ---- depthwise ---- */

enum { PIXELS = 4 };

/* Output pixels that share their taps: those of rows i0 .. i1 and columns j0 .. j1 of the window
 * lie inside the image. The others would hold zx, so they add nothing to sums of (x - zx) w. */
typedef struct qtile {
    size_t oy, ox, i0, i1, j0, j1;
} qtile;

/* Eight bytes, of which n are there. */
TVLM_INLINE uint8x8_t load_n(const void *p, const size_t n)
{
    uint64_t bytes = 0;
    memcpy(&bytes, p, n < 8 ? n : 8);
    return vreinterpret_u8_u64(vdup_n_u64(bytes));
}

/* What turns the sums of channels c .. c + n into bytes. */
typedef struct channels {
    float32x4_t mult[2], beta[2], lo, hi;
} channels;

TVLM_INLINE channels load_channels(const tvlm_qdwconv_args *args, size_t c, size_t n)
{
    channels q = {.lo = vdupq_n_f32((float)args->lo), .hi = vdupq_n_f32((float)args->hi)};
    tvlm_f8 mult = tvlm_load_n8(args->mult + c, n), beta = tvlm_load_n8(args->beta + c, n);
    q.mult[0] = mult.low;
    q.mult[1] = mult.high;
    q.beta[0] = beta.low;
    q.beta[1] = beta.high;
    return q;
}

TVLM_INLINE void store_pixel(const channels *q, const int32x4_t sum[2], uint8_t *y, const size_t n)
{
    uint16x4_t words[2];
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        float32x4_t v = vaddq_f32(vmulq_f32(vcvtq_f32_s32(sum[h]), q->mult[h]), q->beta[h]);
        words[h] = vmovn_u32(vcvtnq_u32_f32(vminnmq_f32(vmaxnmq_f32(v, q->lo), q->hi)));
    }
    uint8_t bytes[8];
    vst1_u8(bytes, vmovn_u16(vcombine_u16(words[0], words[1])));
    memcpy(y, bytes, n < 8 ? n : 8);
}

/* n (>= 8: eight) channels from c on. */
TVLM_INLINE void qconv(const tvlm_qdwconv_args *args, const qtile *t, const channels *q,
                       const size_t pixels, size_t c, const size_t n)
{
    const uint8x8_t zx = vdup_n_u8((uint8_t)args->zx);
    const size_t iy = t->oy * args->stride + t->i0 - args->pad_top;
    const size_t ix = t->ox * args->stride + t->j0 - args->pad_left, step = args->stride * args->c;
    int32x4_t sum[PIXELS][2];
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++)
        sum[p][0] = sum[p][1] = vdupq_n_s32(0);
    for (size_t i = t->i0; i < t->i1; i++) {
        const uint8_t *x = args->x + ((iy + i - t->i0) * args->w + ix) * args->c + c;
        const int8_t *w = args->weight + (i * args->k + t->j0) * args->c + c;
        for (size_t j = t->j0; j < t->j1; j++, x += args->c, w += args->c) {
            const int16x8_t tap = vmovl_s8(vreinterpret_s8_u8(load_n(w, n)));
            TVLM_UNROLL
            for (size_t p = 0; p < pixels; p++) {
                int16x8_t v = vreinterpretq_s16_u16(vsubl_u8(load_n(x + p * step, n), zx));
                sum[p][0] = vmlal_s16(sum[p][0], vget_low_s16(v), vget_low_s16(tap));
                sum[p][1] = vmlal_high_s16(sum[p][1], v, tap);
            }
        }
    }
    uint8_t *y = args->y + (t->oy * args->ow + t->ox) * args->c + c;
    TVLM_UNROLL
    for (size_t p = 0; p < pixels; p++)
        store_pixel(q, sum[p], y + p * args->c, n);
}

/* Pixels go four at a time where no window leaves the image sideways, else one by one. */
TVLM_INLINE void qdwconv_row(const tvlm_qdwconv_args *args, const channels *q, size_t oy, size_t c,
                             const size_t n)
{
    qtile t = {.oy = oy};
    tvlm_clip_taps(oy * args->stride, args->pad_top, args->k, args->h, &t.i0, &t.i1);
    while (t.ox < args->ow) {
        size_t end, first; /* of the first pixel's window, of the last one's */
        tvlm_clip_taps(t.ox * args->stride, args->pad_left, args->k, args->w, &t.j0, &end);
        tvlm_clip_taps((t.ox + PIXELS - 1) * args->stride, args->pad_left, args->k, args->w, &first,
                       &t.j1);
        if (t.j0 == 0 && t.j1 == args->k && t.ox + PIXELS <= args->ow) {
            qconv(args, &t, q, PIXELS, c, n);
            t.ox += PIXELS;
        } else {
            t.j1 = end;
            qconv(args, &t, q, 1, c, n);
            t.ox++;
        }
    }
}

static void qdwconv(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    for (size_t c = 0; c < args->c; c += 8) {
        const size_t n = args->c - c;
        const channels q = load_channels(args, c, n);
        for (size_t oy = oy0; oy < oy1; oy++) {
            if (n >= 8)
                qdwconv_row(args, &q, oy, c, 8);
            else
                qdwconv_row(args, &q, oy, c, n);
        }
    }
}

void tvlm_neon_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm;
    table->qdwconv = qdwconv;
}

#endif
