/* SPDX-License-Identifier: MIT
 * Tiles of up to MAX_ROWS rows of x by a panel of 16 columns; include it behind avx2.h and the
 * enum that says how many rows. */
#ifndef TVLM_KERNELS_TILES_AVX2_H
#define TVLM_KERNELS_TILES_AVX2_H

/* Sums of a tile: [row][column of the panel]. */
typedef float tile_out[MAX_ROWS][16];

TVLM_INLINE __m256i four_of(const unsigned char *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Weights that a panel's first tile meets soon: they come from memory, and the hardware looks less
 * far ahead. */
TVLM_INLINE void prefetch_ahead(const unsigned char *w, size_t bytes)
{
    TVLM_UNROLL
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)w + 2048 + i, _MM_HINT_T0);
}

/* What a tile writes, so that its stores do not wait. */
TVLM_INLINE void prefetch_outputs(const tvlm_gemm_args *args, size_t m, size_t rows, size_t n)
{
    for (size_t r = m; r < m + rows; r++) {
        _mm_prefetch((const char *)(args->y + r * args->ldy + n), _MM_HINT_T0);
        if (args->residual)
            _mm_prefetch((const char *)(args->residual + r * args->ldr + n), _MM_HINT_T0);
    }
}

typedef void (*tile_fn)(const tvlm_gemm_args *args, size_t m, size_t rows, size_t panel, bool first,
                        tile_out out);

/* All tiles of a matrix: the panel loop is outside, so that a panel stays in cache while x
 * streams. */
TVLM_INLINE void run_tiles(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1,
                           tile_fn tile)
{
    tile_out out;
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        size_t end = n1 - n < TVLM_GEMM_NR ? n1 : n + TVLM_GEMM_NR;
        for (size_t m = m0, rows; m < m1; m += rows) {
            rows = m1 - m < MAX_ROWS ? m1 - m : MAX_ROWS;
            if (m1 - m > MAX_ROWS && m1 - m < 2 * MAX_ROWS)
                rows = (m1 - m + 1) / 2; /* of 6, 7 = 4 + 3 */
            prefetch_outputs(args, m, rows, n);
            tile(args, m, rows, n / TVLM_GEMM_NR, m == m0, out);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = n; c < end; c += 8)
                    tvlm_epilogue8(args, m + r, c, end - c < 8 ? end - c : 8,
                                   _mm256_loadu_ps(&out[r][c - n]));
        }
    }
}

/* rows_ID: tiles of constant size, so that each becomes straight code; of up to 4 rows, or 6. */
#define TILES_CASE(TILE, rows)                                                                     \
    case rows:                                                                                     \
        TILE(rows);                                                                                \
        break;
#define TILES_UP_TO_4(TILE)                                                                        \
    TILES_CASE(TILE, 1)                                                                            \
    TILES_CASE(TILE, 2)                                                                            \
    TILES_CASE(TILE, 3)                                                                            \
    TILES_CASE(TILE, 4)
#define TILES_UP_TO_6(TILE)                                                                        \
    TILES_UP_TO_4(TILE)                                                                            \
    TILES_CASE(TILE, 5)                                                                            \
    TILES_CASE(TILE, 6)
#define TILES(id, TILE, most)                                                                      \
    static void rows_##id(const tvlm_gemm_args *args, size_t m, size_t rows, size_t panel,         \
                          bool first, tile_out out)                                                \
    {                                                                                              \
        switch (rows) {                                                                            \
            TILES_UP_TO_##most(TILE)                                                               \
        }                                                                                          \
    }

#endif
