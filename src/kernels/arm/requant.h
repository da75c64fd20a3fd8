/* SPDX-License-Identifier: MIT
 * What turns sums of the int8 tower's layers into bytes. Behind neon.h or what opens a
 * target. */
#ifndef TVLM_KERNELS_REQUANT_H
#define TVLM_KERNELS_REQUANT_H

#if defined(__aarch64__)

/* What turns the sums of up to 16 columns into bytes. */
typedef struct requant {
    int32_t start[TVLM_GEMM_NR]; /* of the sums: -zx wsum */
    float mult[TVLM_GEMM_NR], beta[TVLM_GEMM_NR];
    size_t columns;
} requant;

/* Sixteen bytes, of which n are there; the others are 0. */
TVLM_INLINE uint8x16_t load_bytes(const void *p, size_t n)
{
    if (n == 16) return vld1q_u8(p);
    uint8_t bytes[16] = {0};
    memcpy(bytes, p, n);
    return vld1q_u8(bytes);
}

TVLM_INLINE void store_bytes(uint8_t *p, uint8x16_t v, size_t n)
{
    if (n == 16) {
        vst1q_u8(p, v);
        return;
    }
    uint8_t bytes[16];
    vst1q_u8(bytes, v);
    memcpy(p, bytes, n);
}

static void load_scales(requant *q, const float *mult, const float *beta, size_t columns)
{
    q->columns = columns < TVLM_GEMM_NR ? columns : TVLM_GEMM_NR;
    for (size_t c = 0; c < TVLM_GEMM_NR; c += 4) {
        const size_t n = c < columns ? columns - c : 0;
        vst1q_f32(q->mult + c, tvlm_load_n4(mult + c, n));
        vst1q_f32(q->beta + c, tvlm_load_n4(beta + c, n));
    }
}

/* The steps of kernels.h, before they round, for each of some rows of sums. */
TVLM_INLINE void scale_rows(const requant *q, const size_t rows, const int32x4_t sum[][4],
                            float32x4_t v[][4])
{
    TVLM_UNROLL
    for (size_t c = 0; c < 4; c++) {
        const float32x4_t mult = vld1q_f32(q->mult + 4 * c), beta = vld1q_f32(q->beta + 4 * c);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            v[r][c] = vaddq_f32(vmulq_f32(vcvtq_f32_s32(sum[r][c]), mult), beta);
    }
}

/* Rounded and clamped: as the bounds are integers, it does not matter which comes first. A NaN
 * becomes lo. */
TVLM_INLINE uint8x16_t round_row(const float32x4_t v[4], uint8_t lo, uint8_t hi)
{
    uint16x8_t words[2];
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++)
        words[h] =
            vqmovun_high_s32(vqmovun_s32(vcvtnq_s32_f32(v[2 * h])), vcvtnq_s32_f32(v[2 * h + 1]));
    const uint8x16_t bytes = vqmovn_high_u16(vqmovn_u16(words[0]), words[1]);
    return vminq_u8(vmaxq_u8(bytes, vdupq_n_u8(lo)), vdupq_n_u8(hi));
}

#endif
#endif
