/* SPDX-License-Identifier: MIT
 * What turns sums of the int8 tower's linear layers into bytes. Behind neon.h or what opens a
 * target. */
#ifndef TVLM_KERNELS_REQUANT_H
#define TVLM_KERNELS_REQUANT_H

#if defined(__aarch64__)

/* What turns the sums of a panel's columns n .. n1 into bytes. */
typedef struct requant {
    int32_t offset[TVLM_GEMM_NR]; /* zx wsum */
    float mult[TVLM_GEMM_NR], beta[TVLM_GEMM_NR];
    size_t columns;
} requant;

static requant load_requant(const tvlm_qgemm_args *args, size_t n, size_t n1)
{
    requant q = {.columns = n1 - n < TVLM_GEMM_NR ? n1 - n : TVLM_GEMM_NR};
    for (size_t c = 0; c < q.columns; c++)
        q.offset[c] = args->zx * args->wsum[n + c];
    memcpy(q.mult, args->mult + n, q.columns * sizeof *q.mult);
    memcpy(q.beta, args->beta + n, q.columns * sizeof *q.beta);
    return q;
}

/* The steps and roundings of kernels.h for four columns; bounds are integers, so it does not matter
 * that they are kept before the rounding. A NaN becomes lo. */
TVLM_INLINE uint16x4_t requant4(const tvlm_qgemm_args *args, const requant *q, size_t c,
                                int32x4_t sum, const uint8_t *residual)
{
    float32x4_t v = vcvtq_f32_s32(vsubq_s32(sum, vld1q_s32(q->offset + c)));
    v = vaddq_f32(vmulq_f32(v, vld1q_f32(q->mult + c)), vld1q_f32(q->beta + c));
    if (residual) {
        uint32_t four;
        memcpy(&four, residual + c, sizeof four);
        uint16x4_t words = vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))));
        int32x4_t r = vsubq_s32(vreinterpretq_s32_u32(vmovl_u16(words)), vdupq_n_s32(args->zr));
        v = vaddq_f32(v, vmulq_n_f32(vcvtq_f32_s32(r), args->rmult));
    }
    v = vmaxnmq_f32(v, vdupq_n_f32((float)args->lo));
    v = vminnmq_f32(v, vdupq_n_f32((float)args->hi));
    return vmovn_u32(vcvtnq_u32_f32(v));
}

static void requant_row(const tvlm_qgemm_args *args, const requant *q, size_t m, size_t n,
                        const int32x4_t sum[4])
{
    uint8_t bytes[TVLM_GEMM_NR], rest[TVLM_GEMM_NR] = {0};
    const uint8_t *residual = NULL;
    if (args->residual) {
        residual = args->residual + m * args->ldr + n;
        if (q->columns < TVLM_GEMM_NR) residual = memcpy(rest, residual, q->columns);
    }
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        uint16x4_t low = requant4(args, q, 8 * h, sum[2 * h], residual);
        uint16x4_t high = requant4(args, q, 8 * h + 4, sum[2 * h + 1], residual);
        vst1_u8(bytes + 8 * h, vmovn_u16(vcombine_u16(low, high)));
    }
    memcpy(args->y + m * args->ldy + n, bytes, q->columns);
}

#endif
#endif
