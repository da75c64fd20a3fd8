/* SPDX-License-Identifier: MIT
 * The int8 kernels with AVX-512 VNNI: a panel's 16 columns are one register. Depthwise works on
 * eight lanes, as its channels come in blocks of 32 bytes. */
#include "cpu/cpu.h"
#define TVLM_AVX512_WITH ",avx512vnni"
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

TVLM_INLINE __m256i dot4(__m256i acc, __m256i x, __m256i w)
{
    return _mm256_dpbusd_epi32(acc, x, w);
}

#include "kernels/x86/int8_body.h"
#include "kernels/x86/qdwconv_body.h"

/* ---- gemm: tiles of ROWS rows by two panels ---- */

enum { ROWS = 8, PANELS = 2, NR = (int)TVLM_GEMM_NR };

/* The columns of a panel that are there, and their constants. */
typedef struct qpanel {
    const int8_t *w;
    size_t n; /* the first */
    __mmask16 mask;
    __m512i start; /* -zx wsum */
    __m512 mult, beta;
} qpanel;

TVLM_INLINE qpanel load_panel(const tvlm_qgemm_args *args, size_t n, size_t n1)
{
    const __mmask16 mask = tvlm_mask16(n1 - n);
    return (qpanel){.w = (const int8_t *)args->w + n * ((args->k + 3) / 4 * 4),
                    .n = n,
                    .mask = mask,
                    .start = _mm512_mullo_epi32(_mm512_maskz_loadu_epi32(mask, args->wsum + n),
                                                _mm512_set1_epi32(-args->zx)),
                    .mult = _mm512_maskz_loadu_ps(mask, args->mult + n),
                    .beta = _mm512_maskz_loadu_ps(mask, args->beta + n)};
}

/* n (1 to 4) bytes in each lane, the rest 0. */
TVLM_INLINE __m512i four_of(const uint8_t *p, const size_t n)
{
    uint32_t four = 0;
    if (n == 4)
        memcpy(&four, p, 4);
    else
        memcpy(&four, p, n);
    return _mm512_set1_epi32((int)four);
}

/* n (1 to 4) activations of each row, from i on. */
TVLM_INLINE void qgemm_step(__m512i acc[ROWS][PANELS], const qpanel panel[PANELS],
                            const size_t rows, const size_t panels, const uint8_t *x, size_t ldx,
                            size_t i, const size_t n)
{
    __m512i weight[PANELS];
    TVLM_UNROLL
    for (size_t p = 0; p < panels; p++)
        weight[p] = tvlm_load512(panel[p].w + i * NR);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        const __m512i four = four_of(x + r * ldx + i, n);
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], four, weight[p]);
    }
}

/* Row m: the order and the roundings are those of kernels.h. */
TVLM_INLINE void store_row(const tvlm_qgemm_args *args, const qpanel *panel, size_t m, __m512i acc)
{
    __m512 v = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), panel->mult), panel->beta);
    if (args->residual) {
        const uint8_t *r = args->residual + m * args->ldr + panel->n;
        __m512i q = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(panel->mask, r));
        q = _mm512_sub_epi32(q, _mm512_set1_epi32(args->zr));
        v = _mm512_add_ps(v, _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(args->rmult)));
    }
    v = _mm512_max_ps(v, _mm512_set1_ps((float)args->lo));
    v = _mm512_min_ps(v, _mm512_set1_ps((float)args->hi));
    _mm_mask_storeu_epi8(args->y + m * args->ldy + panel->n, panel->mask,
                         _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

TVLM_INLINE void qgemm_tile(const tvlm_qgemm_args *args, const qpanel panel[PANELS],
                            const size_t rows, const size_t panels, size_t m)
{
    const size_t k = args->k, whole = k / 4 * 4, ldx = args->ldx;
    const uint8_t *x = args->x + m * ldx;
    __m512i acc[ROWS][PANELS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[r][p] = panel[p].start;
    }
    for (size_t i = 0; i < whole; i += 4)
        qgemm_step(acc, panel, rows, panels, x, ldx, i, 4);
    if (k > whole) qgemm_step(acc, panel, rows, panels, x, ldx, whole, k - whole);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            store_row(args, &panel[p], m + r, acc[r][p]);
    }
}

TVLM_INLINE void qgemm_rows(const tvlm_qgemm_args *args, const qpanel panel[PANELS],
                            const size_t panels, size_t m, size_t m1)
{
    for (; m + ROWS <= m1; m += ROWS)
        qgemm_tile(args, panel, ROWS, panels, m);
    for (; m + 3 <= m1; m += 3)
        qgemm_tile(args, panel, 3, panels, m);
    for (; m < m1; m++)
        qgemm_tile(args, panel, 1, panels, m);
}

static void qgemm(const tvlm_qgemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    for (size_t n = n0; n < n1; n += PANELS * NR) {
        qpanel panel[PANELS] = {load_panel(args, n, n1)};
        if (n1 - n > NR) {
            panel[1] = load_panel(args, n + NR, n1);
            qgemm_rows(args, panel, 2, m0, m1);
        } else {
            qgemm_rows(args, panel, 1, m0, m1);
        }
    }
}

void tvlm_kernels_install_avx512vnni(tvlm_kernels *table)
{
    table->qgemm = qgemm;
    table->qdwconv = qdwconv;
}

#else

void tvlm_kernels_install_avx512vnni(tvlm_kernels *table)
{
    (void)table;
}

#endif

#include "kernels/x86/avx2_end.h"
