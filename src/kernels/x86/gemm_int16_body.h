/* SPDX-License-Identifier: MIT
 * The int16 class of linear layers, exact within a block as pack.h states, for vectors of eight
 * floats. A tile is ROWS rows of x by a panel of 16 columns: 12 sums, two registers of weights and
 * one of x fill the registers, so the float sums of a tile wait in memory from block to block.
 * Included once by a tier's file, behind tiles_avx2.h and
 * add_products(sum[2], w0, w1, x): sums of two products of words each. */

/* Integer sums of pairs of words. */
TVLM_INLINE void block_sums(const unsigned char *const x[MAX_ROWS], const unsigned char *w,
                            const size_t rows, size_t pairs, bool first, __m256i sum[MAX_ROWS][2])
{
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    TVLM_ROLLED
    for (size_t i = 0; i < pairs; i++) {
        __m256i w0 = tvlm_load256(w + 64 * i), w1 = tvlm_load256(w + 64 * i + 32);
        if (first) prefetch_ahead(w + 64 * i, 64);
        TVLM_KEEP8(w0);
        TVLM_KEEP8(w1);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            add_products(sum[r], w0, w1, four_of(x[r] + 4 * i));
        }
    }
}

TVLM_INLINE void tile_words(const tvlm_gemm_args *args, const size_t rows, size_t m, size_t panel,
                            bool first, tile_out out)
{
    const size_t k = args->k;
    const unsigned char *w =
        (const unsigned char *)args->w + panel * TVLM_GEMM_NR * tvlm_words_bytes(k);
    const unsigned char *x[MAX_ROWS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        _mm256_storeu_ps(&out[r][0], _mm256_setzero_ps());
        _mm256_storeu_ps(&out[r][8], _mm256_setzero_ps());
    }
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        const size_t n = tvlm_words_at(k, k0), bytes = tvlm_words_bytes(n);
        const unsigned char *q[MAX_ROWS];
        __m256i sum[MAX_ROWS][2];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            q[r] = x[r] + sizeof(float);
        block_sums(q, w + TVLM_GEMM_NR * sizeof(float), rows, (n + 1) / 2, first, sum);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const __m256 d = _mm256_broadcast_ss((const float *)(const void *)x[r]);
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][c]), d);
                __m256 d_w = _mm256_loadu_ps((const float *)(const void *)(w + 32 * c));
                _mm256_storeu_ps(&out[r][8 * c],
                                 _mm256_fmadd_ps(d_w, value, _mm256_loadu_ps(&out[r][8 * c])));
            }
            x[r] += bytes;
        }
        w += TVLM_GEMM_NR * bytes;
    }
}

#define TILE(rows) tile_words(args, rows, m, panel, first, out)
TILES(words, TILE, 6)

static void gemm_int16(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1)
{
    run_tiles(args, m0, m1, n0, n1, rows_words);
}
