/* SPDX-License-Identifier: MIT
 * Linear layers with K-quants on AVX2; pack.h states the arithmetic and draws the panels.
 *
 *   int8   codes are unsigned and small, so that maddubs takes 32 products at a time. Q4_K and Q5_K
 *          are the block types with other scales. Six bits: two sums of two products (63 * 127 * 2)
 *          fit 16 bits, and the madd that widens them multiplies by the scale of their half.
 *   f32    a part of a panel becomes floats once for all rows */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)
#include "kernels/x86/gemm_int8_avx2.h"

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

/* ---- rows of x: tvlm_input_block with the sums of both halves in the place of their own ---- */

typedef struct half_block {
    float d;
    int16_t sum[2];
    int8_t q[TVLM_BLOCK];
} half_block;

static void pack_input(void *packed, const float *x, size_t k)
{
    tvlm_avx2_input_int8.pack(packed, x, k);
    unsigned char *at = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++, at += sizeof(half_block)) {
        half_block *h = (half_block *)(void *)at;
        int32_t both;
        memcpy(&both, h->sum, sizeof both);
        __m128i q = _mm_loadu_si128((const __m128i *)(const void *)h->q);
        __m128i first = _mm_maddubs_epi16(_mm_set1_epi8(1), q);
        first = _mm_madd_epi16(first, _mm_set1_epi16(1));
        first = _mm_add_epi32(first, _mm_shuffle_epi32(first, 0x4e));
        first = _mm_add_epi32(first, _mm_shuffle_epi32(first, 0xb1));
        h->sum[0] = (int16_t)_mm_cvtsi128_si32(first);
        h->sum[1] = (int16_t)(both - h->sum[0]);
    }
}

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(half_block);
}

static const tvlm_gemm_input input = {input_bytes, pack_input};

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
                            size_t c, const half_block *const x[MAX_ROWS], const size_t rows,
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
                              __m256i scale[2][2], const half_block *const x[MAX_ROWS],
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

TVLM_INLINE void add_centred(const unsigned char *block, const half_block *const x[MAX_ROWS],
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
    const half_block *x[MAX_ROWS];
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

#define TILE_Q4_K(rows) tile_int8(args, TVLM_TYPE_Q4_K, rows, m, panel, first, out)
#define TILE_Q5_K(rows) tile_int8(args, TVLM_TYPE_Q5_K, rows, m, panel, first, out)
#define TILE_Q6_K(rows) tile_int8(args, TVLM_TYPE_Q6_K, rows, m, panel, first, out)
TILES(q4_k, TILE_Q4_K, 4)
TILES(q5_k, TILE_Q5_K, 4)
TILES(q6_k, TILE_Q6_K, 4)

/* ---- float32 ---- */

typedef float part_floats[TVLM_BLOCK][TVLM_GEMM_NR];

/* Weights 4j .. 4j + 3 (low) or 16 + 4j .. (upper) of columns 8c .. 8c + 7, one in each byte. */
TVLM_INLINE __m256i part_codes(const tvlm_k_layout *layout, const unsigned char *part, bool upper,
                               size_t j, size_t c)
{
    __m256i code = tvlm_load256(part + layout->code_at + 64 * j + 32 * c);
    if (upper) code = _mm256_srli_epi16(code, 4);
    code = _mm256_and_si256(code, _mm256_set1_epi8(15));
    if (layout->bits == 4) return code;
    bool six = layout->bits == 6;
    __m256i high = tvlm_load256(part + (six && upper ? 64 : 0) + 32 * c);
    size_t at = six ? 2 * j : j + (upper ? 4 : 0); /* of the lowest bit */
    high = at < 4 ? _mm256_slli_epi16(high, (int)(4 - at)) : _mm256_srli_epi16(high, (int)(at - 4));
    return _mm256_or_si256(code, _mm256_and_si256(high, _mm256_set1_epi8(six ? 48 : 16)));
}

/* Eight columns of 16 weights that have one scale, and m or not. */
TVLM_INLINE void decode_half(const tvlm_k_layout *layout, const unsigned char *part, bool upper,
                             size_t c, __m256 scale, __m256 m, part_floats w)
{
    TVLM_UNROLL
    for (size_t j = 0; j < 4; j++) {
        __m256i code = part_codes(layout, part, upper, j, c);
        TVLM_UNROLL
        for (size_t i = 0; i < 4; i++) {
            __m256i q =
                _mm256_and_si256(_mm256_srli_epi32(code, (int)(8 * i)), _mm256_set1_epi32(255));
            if (layout->bits == 6) q = _mm256_sub_epi32(q, _mm256_set1_epi32(32));
            __m256 value = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(q));
            if (layout->bits < 6) value = _mm256_sub_ps(value, m);
            _mm256_storeu_ps(&w[(upper ? 16 : 0) + 4 * j + i][8 * c], value);
        }
    }
}

TVLM_INLINE void decode_part(const tvlm_k_layout *layout, const unsigned char *block, size_t p,
                             part_floats w)
{
    const unsigned char *part = block + layout->part_at + p * layout->part_bytes;
    TVLM_UNROLL
    for (size_t c = 0; c < 2; c++) {
        __m256 scale[2], m = _mm256_setzero_ps();
        if (layout->bits == 6) {
            TVLM_UNROLL
            for (size_t h = 0; h < 2; h++)
                scale[h] =
                    scaled8(block + 16 * c, _mm256_cvtepi8_epi32(load64(block + layout->scale_at +
                                                                        16 * (2 * p + h) + 8 * c)));
        } else {
            const size_t at = 16 * p + 8 * c;
            scale[0] = scale[1] = scaled8(
                block + 16 * c, _mm256_cvtepu8_epi32(load64(block + layout->scale_at + at)));
            m = scaled8(block + 32 + 16 * c,
                        _mm256_cvtepu8_epi32(load64(block + layout->m_at + at)));
        }
        decode_half(layout, part, false, c, scale[0], m, w);
        decode_half(layout, part, true, c, scale[1], m, w);
    }
}

/* acc[row][16] += the part's weights times x[row][0 .. 31]. */
TVLM_INLINE void multiply_part(const size_t rows, const part_floats w, const float *x, size_t ldx,
                               float (*acc)[TVLM_GEMM_NR])
{
    __m256 sum[MAX_ROWS][2];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        sum[r][0] = _mm256_loadu_ps(&acc[r][0]);
        sum[r][1] = _mm256_loadu_ps(&acc[r][8]);
    }
    TVLM_ROLLED
    for (size_t k = 0; k < TVLM_BLOCK; k++) {
        __m256 w0 = _mm256_loadu_ps(&w[k][0]), w1 = _mm256_loadu_ps(&w[k][8]);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 value = _mm256_broadcast_ss(x + r * ldx + k);
            sum[r][0] = _mm256_fmadd_ps(w0, value, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(w1, value, sum[r][1]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        _mm256_storeu_ps(&acc[r][0], sum[r][0]);
        _mm256_storeu_ps(&acc[r][8], sum[r][1]);
    }
}

enum { GROUP = 64 }; /* rows that share one decoding */

TVLM_INLINE void run_f32(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1,
                         size_t n0, size_t n1)
{
    const tvlm_k_layout layout = tvlm_k_layout_of(type);
    const size_t n_blocks = args->k / (PARTS * TVLM_BLOCK), ldx = args->ldx / sizeof(float);
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const unsigned char *panel =
            (const unsigned char *)args->w + n / TVLM_GEMM_NR * n_blocks * layout.bytes;
        for (size_t m = m0; m < m1; m += GROUP) {
            const size_t rows = m1 - m < GROUP ? m1 - m : GROUP;
            float acc[GROUP][TVLM_GEMM_NR] = {{0}};
            for (size_t b = 0; b < n_blocks * PARTS; b++) {
                part_floats w;
                decode_part(&layout, panel + b / PARTS * layout.bytes, b % PARTS, w);
                const float *x = (const float *)tvlm_gemm_row(args, m) + b * TVLM_BLOCK;
                size_t r = 0;
                for (; r + MAX_ROWS <= rows; r += MAX_ROWS)
                    multiply_part(MAX_ROWS, w, x + r * ldx, ldx, acc + r);
                for (; r < rows; r++)
                    multiply_part(1, w, x + r * ldx, ldx, acc + r);
            }
            for (size_t r = 0; r < rows; r++)
                for (size_t c = n; c < n1 && c < n + TVLM_GEMM_NR; c += 8)
                    tvlm_epilogue8(args, m + r, c, n1 - c < 8 ? n1 - c : 8,
                                   _mm256_loadu_ps(&acc[r][c - n]));
        }
    }
}

/* ---- the kernels ---- */

#define RUN(id, TYPE)                                                                              \
    static void gemm_##id##_int8_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, \
                                      size_t n1)                                                   \
    {                                                                                              \
        run_tiles(args, m0, m1, n0, n1, rows_##id);                                                \
    }                                                                                              \
    static void gemm_##id##_f32_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,  \
                                     size_t n1)                                                    \
    {                                                                                              \
        run_f32(args, TVLM_TYPE_##TYPE, m0, m1, n0, n1);                                           \
    }
RUN(q4_k, Q4_K)
RUN(q5_k, Q5_K)
RUN(q6_k, Q6_K)

#define KERNEL(id, TYPE, class, CLASS, input)                                                      \
    {"avx2 " #id " " #class, TVLM_CPU_AVX2, TVLM_TYPE_##TYPE,          TVLM_NUMERIC_##CLASS,       \
     &tvlm_layout_k,         input,         gemm_##id##_##class##_avx2}
static const tvlm_gemm kernels[] = {
    KERNEL(q4_k, Q4_K, f32, F32, NULL),     KERNEL(q5_k, Q5_K, f32, F32, NULL),
    KERNEL(q6_k, Q6_K, f32, F32, NULL),     KERNEL(q4_k, Q4_K, int8, INT8, &input),
    KERNEL(q5_k, Q5_K, int8, INT8, &input), KERNEL(q6_k, Q6_K, int8, INT8, &input)};
const tvlm_gemm_tier tvlm_gemm_avx2_k = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2_k = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
