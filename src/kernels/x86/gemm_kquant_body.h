/* SPDX-License-Identifier: MIT
 * The int8 class of K-quants for vectors of eight columns; pack.h states the arithmetic. Q4_K and
 * Q5_K are the block types with other scales. Six bits: two sums of two products (63 * 127 * 2) fit
 * 16 bits, and the madd that widens them multiplies by the scale of their half.
 * Include it once in a tier's file, behind gemm_int8_avx2.h. */

enum { PARTS = 8 };

/* d of eight columns (halves from p on) times their small scales, exact. */
TVLM_INLINE __m256 scaled8(const unsigned char *p, __m256i scale)
{
    return _mm256_mul_ps(tvlm_load_half8(p), _mm256_cvtepi32_ps(scale));
}

TVLM_INLINE __m128i load64(const unsigned char *p)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

/* ---- 4 and 5 bits ---- */

TVLM_INLINE void affine_sums(const tvlm_k_layout *layout, const unsigned char *part,
                             const unsigned char *const q[MAX_ROWS], const size_t rows,
                             __m256i total[MAX_ROWS][2])
{
    __m256i fifth[2][2] = {{_mm256_setzero_si256()}};
    if (layout->bits == 4) {
        nibble_sums(4, part, q, rows, 0, 4, fifth, total);
        return;
    }
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        fifth[1][c] = tvlm_load256(part + 32 * c);
        fifth[0][c] = _mm256_slli_epi16(fifth[1][c], 4);
    }
    nibble_sums(5, part + layout->code_at, q, rows, 0, 2, fifth, total);
    nibble_sums(5, part + layout->code_at, q, rows, 2, 2, fifth, total);
}

/* acc += d * scale * (total * x->d) - min * m * (x's sum * x->d) for columns 8c .. 8c + 7. */
TVLM_INLINE void add_affine(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                            size_t c, const tvlm_half_block *const x[MAX_ROWS], const size_t rows,
                            __m256i total[MAX_ROWS][2], __m256 acc[MAX_ROWS][2])
{
    const size_t at = 16 * p + 8 * c;
    __m256 scale =
        scaled8(block + 16 * c, _mm256_cvtepu8_epi32(load64(block + layout->scale_at + at)));
    __m256 m =
        scaled8(block + 32 + 16 * c, _mm256_cvtepu8_epi32(load64(block + layout->m_at + at)));
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __m256 d = _mm256_set1_ps(x[r]->d);
        float sum = (float)(x[r]->sum[0] + x[r]->sum[1]) * x[r]->d;
        __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(total[r][c]), d);
        acc[r][c] = _mm256_fmadd_ps(scale, value, acc[r][c]);
        acc[r][c] = _mm256_fnmadd_ps(m, _mm256_set1_ps(sum), acc[r][c]);
    }
}

/* ---- 6 bits ---- */

/* The scale of each column as two words. */
TVLM_INLINE __m256i twice(__m256i scale)
{
    return _mm256_blend_epi16(scale, _mm256_slli_epi32(scale, 16), 0xaa);
}

/* total = sum over halves h of scale[c][h] * sum over k of (code[k] - 32) * q[k]. */
TVLM_INLINE void centred_sums(const tvlm_k_layout *layout, const unsigned char *part,
                              __m256i scale[2][2], const tvlm_half_block *const x[MAX_ROWS],
                              const size_t rows, __m256i total[MAX_ROWS][2])
{
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        __m256i both = _mm256_blend_epi16(scale[0][c], _mm256_slli_epi32(scale[1][c], 16), 0xaa);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i sums = four_of((const unsigned char *)x[r]->sum);
            total[r][c] = _mm256_slli_epi32(_mm256_madd_epi16(both, sums), 5);
            total[r][c] = _mm256_sub_epi32(_mm256_setzero_si256(), total[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t h = 0; h < 2; h++) {
        TVLM_UNROLL
        for (size_t pair = 0; pair < 2; pair++) { /* j = 2 * pair and the next */
            __m256i sum[MAX_ROWS][2], high[2];
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                high[c] = tvlm_load256(part + 64 * h + 32 * c);
                if (!pair) high[c] = _mm256_slli_epi16(high[c], 4);
            }
            TVLM_UNROLL
            for (size_t i = 0; i < 2; i++) {
                const size_t j = 2 * pair + i;
                __m256i code[2];
                TVLM_UNROLL
                for (size_t c = 0; c < 2; c++) {
                    code[c] = tvlm_load256(part + layout->code_at + 64 * j + 32 * c);
                    if (h) code[c] = _mm256_srli_epi16(code[c], 4);
                    code[c] = _mm256_and_si256(code[c], _mm256_set1_epi8(15));
                    __m256i top = i ? _mm256_srli_epi16(high[c], 2) : high[c];
                    code[c] = _mm256_or_si256(code[c], _mm256_and_si256(top, _mm256_set1_epi8(48)));
                }
                TVLM_UNROLL
                for (size_t r = 0; r < rows; r++) {
                    __m256i v = four_of((const unsigned char *)x[r]->q + 16 * h + 4 * j);
                    TVLM_UNROLL
                    for (size_t c = 0; c < 2; c++) {
                        __m256i products = _mm256_maddubs_epi16(code[c], v);
                        sum[r][c] = i ? _mm256_add_epi16(sum[r][c], products) : products;
                    }
                }
            }
            TVLM_UNROLL
            for (size_t c = 0; c < 2; c++) {
                __m256i s = twice(scale[h][c]);
                TVLM_UNROLL
                for (size_t r = 0; r < rows; r++)
                    total[r][c] = _mm256_add_epi32(total[r][c], _mm256_madd_epi16(sum[r][c], s));
            }
        }
    }
}

TVLM_INLINE void add_centred(const unsigned char *block, const tvlm_half_block *const x[MAX_ROWS],
                             const size_t rows, __m256i total[MAX_ROWS][2], __m256 acc[MAX_ROWS][2])
{
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        __m256 d = tvlm_load_half8(block + 16 * c);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(total[r][c]), _mm256_set1_ps(x[r]->d));
            acc[r][c] = _mm256_fmadd_ps(d, value, acc[r][c]);
        }
    }
}

/* ---- the int8 tile ---- */

TVLM_INLINE void tile_int8(const tvlm_gemm_args *args, tvlm_type type, const size_t rows, size_t m,
                           size_t panel, bool first, tile_out out)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = args->k / (PARTS * TVLM_BLOCK);
    const unsigned char *w = (const unsigned char *)args->w + panel * n_blocks * layout.bytes;
    const tvlm_half_block *x[MAX_ROWS];
    __m256 acc[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        const unsigned char *part = w + layout.part_at;
        TVLM_ROLLED
        for (size_t p = 0; p < PARTS; p++, part += layout.part_bytes) {
            __m256i total[MAX_ROWS][2];
            if (first) prefetch_ahead(part, layout.part_bytes);
            if (layout.bits == 6) {
                __m256i scale[2][2];
                TVLM_UNROLL
                for (size_t i = 0; i < 4; i++)
                    scale[i / 2][i % 2] =
                        _mm256_cvtepi8_epi32(load64(w + layout.scale_at + 32 * p + 8 * i));
                centred_sums(&layout, part, scale, x, rows, total);
                add_centred(w, x, rows, total, acc);
            } else {
                const unsigned char *q[MAX_ROWS];
                TVLM_UNROLL
                for (size_t r = 0; r < rows; r++)
                    q[r] = (const unsigned char *)x[r]->q;
                affine_sums(&layout, part, q, rows, total);
                add_affine(&layout, w, p, 0, x, rows, total, acc);
                add_affine(&layout, w, p, 1, x, rows, total, acc);
            }
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++)
                x[r]++;
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&out[r][0], acc[r][0]);
        _mm256_storeu_ps(&out[r][8], acc[r][1]);
    }
}
