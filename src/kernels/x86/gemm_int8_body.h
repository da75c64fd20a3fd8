/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers for block types, exact within a block as pack.h states, for
 * vectors of eight floats; include it behind gemm_int8_avx2.h.
 *
 *   4 and 5 bits   codes are unsigned and small: of maddubs, which takes 32 products at a time,
 *                  eight sums of two (15 * 127 * 2) fit 16 bits; four where a code has five bits
 *   8 bits         codes give their sign to x: sums of two products fit 16 bits, of four not
 *
 * A tile is ROWS rows of x by a panel of 16 columns; the panel loop is outside, so that a panel
 * stays in cache while x streams. */

/* ---- 4 and 5 bits ---- */

/* acc += d_w * (total * d) (+ m * (sum * d)) for eight columns. */
TVLM_INLINE __m256 add_block(const tvlm_block_layout *layout, const unsigned char *block,
                             size_t half, __m256i total, float d, int32_t sum, __m256 acc)
{
    if (layout->offset) total = _mm256_sub_epi32(total, _mm256_set1_epi32(layout->offset * sum));
    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(total), _mm256_set1_ps(d));
    acc = _mm256_fmadd_ps(tvlm_load_half8(block + 16 * half), value, acc);
    if (!layout->m_at) return acc;
    return _mm256_fmadd_ps(tvlm_load_half8(block + layout->m_at + 16 * half),
                           _mm256_set1_ps((float)sum * d), acc);
}

TVLM_INLINE void tile_nibbles(const tvlm_gemm_args *args, tvlm_type type, const size_t rows,
                              size_t m, size_t panel, bool first, tile_out out)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t n_blocks = args->k / TVLM_BLOCK;
    const unsigned char *w = (const unsigned char *)args->w + panel * n_blocks * layout.bytes;
    const tvlm_input_block *x[MAX_ROWS];
    __m256 acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        __m256i total[MAX_ROWS][2], fifth[2][2] = {{_mm256_setzero_si256()}};
        const unsigned char *q[MAX_ROWS];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            q[r] = (const unsigned char *)x[r][b].q;
        if (first) prefetch_ahead(w, layout.bytes);
        if (layout.bits == 4) {
            nibble_sums(layout.bits, w + layout.code_at, q, rows, 0, 4, fifth, total);
        } else {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                fifth[1][c] = tvlm_load256(w + layout.high_at + 32 * c);
                fifth[0][c] = _mm256_slli_epi16(fifth[1][c], 4);
            }
            nibble_sums(layout.bits, w + layout.code_at, q, rows, 0, 2, fifth, total);
            nibble_sums(layout.bits, w + layout.code_at, q, rows, 2, 2, fifth, total);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++)
                acc[r][c] =
                    add_block(&layout, w, c, total[r][c], x[r][b].d, x[r][b].sum, acc[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&out[r][0], acc[r][0]);
        _mm256_storeu_ps(&out[r][8], acc[r][1]);
    }
}

/* ---- 8 bits ---- */

/* sum += four products each: |w| times x with the sign of w, as one side has to be unsigned. Two
 * products are at most 2 * 128 * 127, which fits 16 bits. */
TVLM_INLINE __m256i add_four(__m256i sum, __m256i w, __m256i magnitude, __m256i x)
{
    x = _mm256_sign_epi8(x, w);
#if defined(VPDPBUSD)
    return add_bytes(sum, magnitude, x);
#else
    return _mm256_add_epi32(sum, widened(_mm256_maddubs_epi16(magnitude, x)));
#endif
}

TVLM_INLINE void tile_bytes(const tvlm_gemm_args *args, const size_t rows, size_t m, size_t panel,
                            bool first, tile_out out)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(TVLM_TYPE_Q8_0);
    const size_t n_blocks = args->k / TVLM_BLOCK;
    const unsigned char *w = (const unsigned char *)args->w + panel * n_blocks * layout.bytes;
    const tvlm_input_block *x[MAX_ROWS];
    __m256 acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        __m256i sum[MAX_ROWS][2];
        if (first) prefetch_ahead(w, layout.bytes);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        TVLM_ROLLED
        for (size_t j = 0; j < 8; j++) {
            __m256i w0 = tvlm_load256(w + layout.code_at + 64 * j);
            __m256i w1 = tvlm_load256(w + layout.code_at + 64 * j + 32);
            __m256i magnitude0 = _mm256_abs_epi8(w0), magnitude1 = _mm256_abs_epi8(w1);
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                __m256i v = four_of((const unsigned char *)x[r][b].q + 4 * j);
                sum[r][0] = add_four(sum[r][0], w0, magnitude0, v);
                sum[r][1] = add_four(sum[r][1], w1, magnitude1, v);
                TVLM_IN_ORDER(sum[r][0]);
                TVLM_IN_ORDER(sum[r][1]);
            }
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++)
                acc[r][c] = add_block(&layout, w, c, sum[r][c], x[r][b].d, 0, acc[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&out[r][0], acc[r][0]);
        _mm256_storeu_ps(&out[r][8], acc[r][1]);
    }
}

/* ---- runs ---- */

#define TILE_Q8_0(rows) tile_bytes(args, rows, m, panel, first, out)
#define TILE_Q4_0(rows) tile_nibbles(args, TVLM_TYPE_Q4_0, rows, m, panel, first, out)
#define TILE_Q4_1(rows) tile_nibbles(args, TVLM_TYPE_Q4_1, rows, m, panel, first, out)
#define TILE_Q5_0(rows) tile_nibbles(args, TVLM_TYPE_Q5_0, rows, m, panel, first, out)
#define TILE_Q5_1(rows) tile_nibbles(args, TVLM_TYPE_Q5_1, rows, m, panel, first, out)
TILES(q8_0, TILE_Q8_0, 4)
TILES(q4_0, TILE_Q4_0, 4)
TILES(q4_1, TILE_Q4_1, 4)
TILES(q5_0, TILE_Q5_0, 4)
TILES(q5_1, TILE_Q5_1, 4)

#define RUN(id)                                                                                    \
    static void gemm_##id##_int8(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,      \
                                 size_t n1)                                                        \
    {                                                                                              \
        run_tiles(args, m0, m1, n0, n1, rows_##id);                                                \
    }
RUN(q8_0)
RUN(q4_0)
RUN(q4_1)
RUN(q5_0)
RUN(q5_1)
