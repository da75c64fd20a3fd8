/* SPDX-License-Identifier: MIT
 * Tensor bytes -> where the kernels read them. */
#include "model/bind.h"

#include <string.h>

/* [n][taps] -> [taps][n] */
static void place_depthwise(const tvlm_slot *s, unsigned char *at, size_t row,
                            const unsigned char *p, size_t n_rows)
{
    float *out = (float *)(void *)at, taps[TVLM_DWCONV_MAX_K * TVLM_DWCONV_MAX_K];
    for (size_t r = row; r < row + n_rows; r++, p += s->row_bytes) {
        tvlm_dequantize(s->type, p, taps, s->taps);
        for (size_t t = 0; t < s->taps; t++)
            out[t * s->n + r] = taps[t];
    }
}

/* [n][c][taps] -> rows [taps][c], in float32 panels; the stem only: c * taps is 27. */
static void place_conv(const tvlm_slot *s, unsigned char *at, size_t row, const unsigned char *p,
                       size_t n_rows)
{
    float rows[TVLM_GEMM_NR * 27], window[27];
    size_t k = s->c * s->taps;
    for (size_t r = 0; r < n_rows; r++, p += s->row_bytes) {
        tvlm_dequantize(s->type, p, window, k);
        for (size_t c = 0; c < s->c; c++)
            for (size_t t = 0; t < s->taps; t++)
                rows[r * k + t * s->c + c] = window[c * s->taps + t];
    }
    unsigned char bytes[sizeof rows]; /* the packer reads file layout: little-endian */
    tvlm_quantize(TVLM_TYPE_F32, rows, bytes, n_rows * k);
    s->layout->pack(TVLM_TYPE_F32, at, bytes, row, n_rows, k);
}

static int32_t row_sum(const int8_t *row, size_t k)
{
    int32_t sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += row[i];
    return sum;
}

static void place_qlinear(tvlm_model *model, const tvlm_slot *s, size_t row, const int8_t *p,
                          size_t n_rows)
{
    int8_t windows[TVLM_GEMM_NR * 27];
    size_t k = s->c * s->taps;
    int32_t *sums = (int32_t *)(void *)(model->block + s->sums);
    for (size_t r = 0; r < n_rows; r++)
        sums[row + r] = row_sum(p + r * k, k);
    if (s->taps > 1) { /* the stem: rows [taps][c], as in place_conv */
        for (size_t r = 0; r < n_rows; r++)
            for (size_t c = 0; c < s->c; c++)
                for (size_t t = 0; t < s->taps; t++)
                    windows[r * k + t * s->c + c] = p[r * k + c * s->taps + t];
        p = windows;
    }
    tvlm_qgemm_pack((int8_t *)(model->block + s->at), p, row, n_rows, k);
}

static void place_qdepthwise(tvlm_model *model, const tvlm_slot *s, size_t row, const int8_t *p,
                             size_t n_rows)
{
    int8_t *out = (int8_t *)(model->block + s->at);
    int32_t *sums = (int32_t *)(void *)(model->block + s->sums);
    for (size_t r = row; r < row + n_rows; r++, p += s->taps) {
        sums[r] = row_sum(p, s->taps);
        for (size_t t = 0; t < s->taps; t++)
            out[t * s->n + r] = p[t];
    }
}

void tvlm_bind_place(tvlm_model *model, const tvlm_slot *s, size_t row, const void *bytes,
                     size_t n_rows)
{
    unsigned char *at = model->block + s->at;
    switch (s->kind) {
    case TVLM_SLOT_LINEAR:
        s->layout->pack(s->type, at, bytes, row, n_rows, s->c);
        break;
    case TVLM_SLOT_VECTOR:
        tvlm_dequantize(s->type, bytes, (float *)(void *)at + row, n_rows);
        break;
    case TVLM_SLOT_DWCONV:
        place_depthwise(s, at, row, bytes, n_rows);
        break;
    case TVLM_SLOT_CONV:
        place_conv(s, at, row, bytes, n_rows);
        break;
    case TVLM_SLOT_QLINEAR:
        place_qlinear(model, s, row, bytes, n_rows);
        break;
    case TVLM_SLOT_QDWCONV:
        place_qdepthwise(model, s, row, bytes, n_rows);
        break;
    }
}
