/* SPDX-License-Identifier: MIT
 * The end of the int8 tower's linear layers on ARM. Behind neon.h or what opens a target. */
#ifndef TVLM_KERNELS_REQUANT_ROWS_H
#define TVLM_KERNELS_REQUANT_ROWS_H

#include "kernels/arm/requant.h"

#if defined(__aarch64__)

static requant load_requant(const tvlm_qgemm_args *args, size_t n, size_t n1)
{
    requant q = {.columns = 0};
    load_scales(&q, args->mult + n, args->beta + n, n1 - n);
    for (size_t c = 0; c < q.columns; c++)
        q.start[c] = -args->zx * args->wsum[n + c];
    return q;
}

/* v += (residual - zr) * rmult */
TVLM_INLINE void add_residual(const tvlm_qgemm_args *args, uint8x16_t residual, float32x4_t v[4])
{
    const uint8x8_t zr = vdup_n_u8((uint8_t)args->zr);
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        const uint8x8_t bytes = h ? vget_high_u8(residual) : vget_low_u8(residual);
        const int16x8_t r = vreinterpretq_s16_u16(vsubl_u8(bytes, zr));
        const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(r)));
        const float32x4_t high = vcvtq_f32_s32(vmovl_high_s16(r));
        v[2 * h] = vaddq_f32(v[2 * h], vmulq_n_f32(low, args->rmult));
        v[2 * h + 1] = vaddq_f32(v[2 * h + 1], vmulq_n_f32(high, args->rmult));
    }
}

/* Rows m .. m + rows of the output, side by side, as each alone would wait for its own steps. */
TVLM_INLINE void requant_rows(const tvlm_qgemm_args *args, const requant *q, const size_t rows,
                              size_t m, size_t n, const int32x4_t sum[][4])
{
    float32x4_t v[4][4];
    scale_rows(q, rows, sum, v);
    if (args->residual) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            add_residual(args, load_bytes(args->residual + (m + r) * args->ldr + n, q->columns),
                         v[r]);
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        store_bytes(args->y + (m + r) * args->ldy + n, round_row(v[r], args->lo, args->hi),
                    q->columns);
}

#endif
#endif
