/* SPDX-License-Identifier: MIT
 * The int8 kernels, the reference: exact int32 sums, then the requantisation of kernels.h. */
#include "kernels/scalar/scalar.h"

#include "kernels/math.h"

/* Clamping before rounding gives the same value, as the bounds are integers. */
static uint8_t round_clamp(float v, uint8_t lo, uint8_t hi)
{
    v = v > (float)lo ? v : (float)lo;
    v = v < (float)hi ? v : (float)hi;
    return (uint8_t)(v + TVLM_ROUND_MAGIC - TVLM_ROUND_MAGIC);
}

static void qgemm_scalar(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    size_t depth = (args->k + 3) / 4 * 4;
    for (size_t n = n0; n < n1; n++) {
        const int8_t *w = (const int8_t *)args->w + n / TVLM_GEMM_NR * TVLM_GEMM_NR * depth;
        for (size_t m = m0; m < m1; m++) {
            const uint8_t *x = args->x + m * args->ldx;
            int32_t acc = 0;
            for (size_t k = 0; k < args->k; k++)
                acc += x[k] * w[(k / 4 * TVLM_GEMM_NR + n % TVLM_GEMM_NR) * 4 + k % 4];
            acc -= args->zx * args->wsum[n];
            float v = (float)acc * args->mult[n] + args->beta[n];
            if (args->residual)
                v += (float)(args->residual[m * args->ldr + n] - args->zr) * args->rmult;
            args->y[m * args->ldy + n] = round_clamp(v, args->lo, args->hi);
        }
    }
}

static void qdwconv_scalar(const tvlm_qdwconv_args *args, size_t oy0, size_t oy1)
{
    for (size_t oy = oy0; oy < oy1; oy++)
        for (size_t ox = 0; ox < args->ow; ox++)
            for (size_t c = 0; c < args->c; c++) {
                int32_t acc = 0;
                for (size_t i = 0; i < args->k; i++)
                    for (size_t j = 0; j < args->k; j++) {
                        size_t iy = oy * args->stride + i - args->pad_top;  /* wraps above 0: */
                        size_t ix = ox * args->stride + j - args->pad_left; /* then >= h or w */
                        bool inside = iy < args->h && ix < args->w;
                        int32_t x = inside ? args->x[(iy * args->w + ix) * args->c + c] : args->zx;
                        acc += x * args->weight[(i * args->k + j) * args->c + c];
                    }
                acc -= args->zx * args->wsum[c];
                float v = (float)acc * args->mult[c] + args->beta[c];
                args->y[(oy * args->ow + ox) * args->c + c] = round_clamp(v, args->lo, args->hi);
            }
}

void tvlm_scalar_install_int8(tvlm_kernels *table)
{
    table->qgemm = qgemm_scalar;
    table->qdwconv = qdwconv_scalar;
}
