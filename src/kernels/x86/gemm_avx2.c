/* SPDX-License-Identifier: MIT
 * Linear layers on AVX2. A tile is ROWS rows of x by PANELS panels of 16 columns:
 *
 *              panel 0          panel 1 ..         acc[row][2 * panel + half]: one register of
 *   row 0   | acc 0 | acc 1 | acc 2 | acc 3 |      eight columns; every k loads (and decodes) the
 *   row 1   |       |       |       |       |      weights once, for all rows.
 *
 * Many rows: 6 x 1 (12 accumulators hide the FMA latency). One row: 1 x 4, four weight streams.
 * A lane is the chain of pack.h whatever the tile, so tiles never change a result. The panel loop
 * is outside and the row loop inside: a panel stays in cache while x streams. */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

enum { MAX_ROWS = 6, MAX_PANELS = 4 };

/* A tile's results: [row][16 * panel + column]. */
typedef float tile_out[MAX_ROWS][MAX_PANELS * 16];

typedef enum weight_kind {
    W_F32,
    W_F16,
    W_BF16,
    W_Q8_0,
    W_Q4_0,
    W_Q4_1,
    W_Q5_0,
    W_Q5_1
} weight_kind;

/* Columns col..end of a tile's rows. */
static void epilogue(const tvlm_gemm_args *args, tile_out out, size_t m, size_t rows, size_t col,
                     size_t end)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = col; c < end; c += 8)
            tvlm_epilogue8(args, m + r, c, end - c < 8 ? end - c : 8,
                           _mm256_loadu_ps(&out[r][c - col]));
}

TVLM_INLINE __m256 load_weight8(weight_kind kind, const unsigned char *p)
{
    if (kind == W_F32) return _mm256_loadu_ps((const float *)(const void *)p);
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    if (kind == W_F16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

TVLM_INLINE void tile_float(const tvlm_gemm_args *args, weight_kind kind, const size_t rows,
                            const size_t panels, size_t m, size_t panel, tile_out out)
{
    const size_t size = kind == W_F32 ? 4 : 2;
    const size_t stride = args->k * TVLM_GEMM_NR * size;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const float *x = tvlm_gemm_row(args, m);
    const size_t ldx = args->ldx / sizeof(float), depth = args->k;
    __m256 acc[MAX_ROWS][2 * MAX_PANELS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t c = 0; c < 2 * panels; c++)
            acc[r][c] = _mm256_setzero_ps();
    }
    for (size_t k = 0; k < depth; k++) {
        __m256 weight[2 * MAX_PANELS];
        TVLM_UNROLL
        for (size_t c = 0; c < 2 * panels; c++) {
            const unsigned char *at = w + c / 2 * stride + (c & 1) * 8 * size;
            weight[c] = load_weight8(kind, at);
        }
        w += TVLM_GEMM_NR * size;
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 value = _mm256_broadcast_ss(x + r * ldx + k);
            TVLM_UNROLL
            for (size_t c = 0; c < 2 * panels; c++)
                acc[r][c] = _mm256_fmadd_ps(weight[c], value, acc[r][c]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t c = 0; c < 2 * panels; c++)
            _mm256_storeu_ps(&out[r][8 * c], acc[r][c]);
    }
}

/* Codes of weight k = 8g + i for eight columns, as float; half: 0 or 1, the columns' side. */
TVLM_INLINE __m256 load_code8(weight_kind kind, const tvlm_block_layout *layout,
                              const unsigned char *block, size_t g, size_t i, size_t half)
{
    const unsigned char *code = block + layout->code_at;
    if (kind == W_Q8_0) {
        const unsigned char *at = code + (8 * g + i) * TVLM_GEMM_NR + 8 * half;
        return _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)at)));
    }
    __m256i word = tvlm_load256(code + (g * TVLM_GEMM_NR + 8 * half) * 4);
    __m256i q = _mm256_srli_epi32(word, (int)(4 * i));
    q = i == 7 ? q : _mm256_and_si256(q, _mm256_set1_epi32(15));
    if (kind == W_Q5_0 || kind == W_Q5_1) {
        /* byte g of each high word, then its bit i to bit 4 */
        __m256i high = tvlm_load256(block + layout->high_at + 32 * half);
        high = _mm256_srl_epi32(high, _mm_cvtsi32_si128((int)(8 * g)));
        high =
            i < 4 ? _mm256_slli_epi32(high, (int)(4 - i)) : _mm256_srli_epi32(high, (int)(i - 4));
        q = _mm256_or_si256(q, _mm256_and_si256(high, _mm256_set1_epi32(16)));
    }
    if (layout->offset) q = _mm256_sub_epi32(q, _mm256_set1_epi32(layout->offset));
    return _mm256_cvtepi32_ps(q);
}

/* The xsum of pack.h for one block of a row of x. */
TVLM_INLINE float block_x_sum(const float *x)
{
    __m256 low = _mm256_add_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8));
    __m256 high = _mm256_add_ps(_mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24));
    return tvlm_hsum8(_mm256_add_ps(low, high));
}

TVLM_INLINE void tile_block(const tvlm_gemm_args *args, weight_kind kind, tvlm_type type,
                            const size_t rows, const size_t panels, size_t m, size_t panel,
                            tile_out out)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t n_blocks = args->k / TVLM_BLOCK, ldx = args->ldx / sizeof(float);
    const size_t stride = n_blocks * layout.bytes;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const float *x = tvlm_gemm_row(args, m);
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t c = 0; c < 2 * panels; c++)
            _mm256_storeu_ps(&out[r][8 * c], _mm256_setzero_ps());
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes, x += TVLM_BLOCK) {
        __m256 sum[MAX_ROWS][2 * MAX_PANELS];
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t c = 0; c < 2 * panels; c++)
                sum[r][c] = _mm256_setzero_ps();
        }
        for (size_t g = 0; g < 4; g++) {
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++) {
                TVLM_UNROLL
                for (size_t i = 0; i < 8; i++) {
                    const unsigned char *at = w + p * stride;
                    __m256 q0 = load_code8(kind, &layout, at, g, i, 0);
                    __m256 q1 = load_code8(kind, &layout, at, g, i, 1);
                    TVLM_UNROLL
                    for (size_t r = 0; r < rows; r++) {
                        __m256 value = _mm256_broadcast_ss(x + r * ldx + 8 * g + i);
                        sum[r][2 * p] = _mm256_fmadd_ps(q0, value, sum[r][2 * p]);
                        sum[r][2 * p + 1] = _mm256_fmadd_ps(q1, value, sum[r][2 * p + 1]);
                    }
                }
            }
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 total = _mm256_setzero_ps();
            if (layout.m_at) total = _mm256_set1_ps(block_x_sum(x + r * ldx));
            TVLM_UNROLL
            for (size_t c = 0; c < 2 * panels; c++) {
                const unsigned char *at = w + c / 2 * stride + (c & 1) * 16;
                __m256 acc = _mm256_loadu_ps(&out[r][8 * c]);
                acc = _mm256_fmadd_ps(tvlm_load_half8(at), sum[r][c], acc);
                if (layout.m_at)
                    acc = _mm256_fmadd_ps(tvlm_load_half8(at + layout.m_at), total, acc);
                _mm256_storeu_ps(&out[r][8 * c], acc);
            }
        }
    }
}

/* One type's run: tiles of constant size, so that each becomes straight code. */
#define DEFINE_RUN(name, TILE)                                                                     \
    static void name##_rows(const tvlm_gemm_args *args, size_t m, size_t rows, size_t panel,       \
                            tile_out out)                                                          \
    {                                                                                              \
        switch (rows) {                                                                            \
        case 6:                                                                                    \
            TILE(6, 1);                                                                            \
            break;                                                                                 \
        case 5:                                                                                    \
            TILE(5, 1);                                                                            \
            break;                                                                                 \
        case 4:                                                                                    \
            TILE(4, 1);                                                                            \
            break;                                                                                 \
        case 3:                                                                                    \
            TILE(3, 1);                                                                            \
            break;                                                                                 \
        case 2:                                                                                    \
            TILE(2, 1);                                                                            \
            break;                                                                                 \
        default:                                                                                   \
            TILE(1, 1);                                                                            \
            break;                                                                                 \
        }                                                                                          \
    }                                                                                              \
    static void name##_wide(const tvlm_gemm_args *args, size_t m, size_t rows, size_t panel,       \
                            tile_out out)                                                          \
    {                                                                                              \
        if (rows == 1)                                                                             \
            TILE(1, 4);                                                                            \
        else                                                                                       \
            TILE(2, 2);                                                                            \
    }                                                                                              \
    static void name##_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,           \
                            size_t n1)                                                             \
    {                                                                                              \
        run_tiles(args, m0, m1, n0, n1, name##_rows, name##_wide);                                 \
    }

typedef void (*tile_fn)(const tvlm_gemm_args *args, size_t m, size_t rows, size_t panel,
                        tile_out out);

/* Few rows take wide tiles while whole groups of panels last. */
static void run_tiles(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1,
                      tile_fn narrow, tile_fn wide)
{
    tile_out out;
    size_t few = m1 - m0;
    for (size_t n = n0; n < n1;) {
        size_t panels = few == 1 ? 4 : few == 2 ? 2 : 1;
        if (n1 - n < panels * TVLM_GEMM_NR) panels = 1;
        size_t end = n1 - n < panels * TVLM_GEMM_NR ? n1 : n + panels * TVLM_GEMM_NR;
        for (size_t m = m0; m < m1;) {
            size_t rows = m1 - m < MAX_ROWS ? m1 - m : MAX_ROWS;
            if (m1 - m > MAX_ROWS && m1 - m < 2 * MAX_ROWS)
                rows = (m1 - m + 1) / 2; /* 7 = 4 + 3, not 6 + 1 */
            (panels > 1 ? wide : narrow)(args, m, rows, n / TVLM_GEMM_NR, out);
            epilogue(args, out, m, rows, n, end);
            m += rows;
        }
        n = end;
    }
}

#define TILE_F32(rows, panels)  tile_float(args, W_F32, rows, panels, m, panel, out)
#define TILE_F16(rows, panels)  tile_float(args, W_F16, rows, panels, m, panel, out)
#define TILE_BF16(rows, panels) tile_float(args, W_BF16, rows, panels, m, panel, out)
#define TILE_Q8_0(rows, panels)                                                                    \
    tile_block(args, W_Q8_0, TVLM_TYPE_Q8_0, rows, panels, m, panel, out)
#define TILE_Q4_0(rows, panels)                                                                    \
    tile_block(args, W_Q4_0, TVLM_TYPE_Q4_0, rows, panels, m, panel, out)
#define TILE_Q4_1(rows, panels)                                                                    \
    tile_block(args, W_Q4_1, TVLM_TYPE_Q4_1, rows, panels, m, panel, out)
#define TILE_Q5_0(rows, panels)                                                                    \
    tile_block(args, W_Q5_0, TVLM_TYPE_Q5_0, rows, panels, m, panel, out)
#define TILE_Q5_1(rows, panels)                                                                    \
    tile_block(args, W_Q5_1, TVLM_TYPE_Q5_1, rows, panels, m, panel, out)

DEFINE_RUN(gemm_f32, TILE_F32)
DEFINE_RUN(gemm_f16, TILE_F16)
DEFINE_RUN(gemm_bf16, TILE_BF16)
DEFINE_RUN(gemm_q8_0, TILE_Q8_0)
DEFINE_RUN(gemm_q4_0, TILE_Q4_0)
DEFINE_RUN(gemm_q4_1, TILE_Q4_1)
DEFINE_RUN(gemm_q5_0, TILE_Q5_0)
DEFINE_RUN(gemm_q5_1, TILE_Q5_1)

#define KERNEL(id, TYPE)                                                                           \
    {"avx2 " #id " f32", TVLM_CPU_AVX2, TVLM_TYPE_##TYPE, TVLM_NUMERIC_F32,                        \
     &tvlm_layout_f32,   NULL,          gemm_##id##_avx2}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32),   KERNEL(f16, F16),   KERNEL(bf16, BF16),
                                    KERNEL(q8_0, Q8_0), KERNEL(q4_0, Q4_0), KERNEL(q4_1, Q4_1),
                                    KERNEL(q5_0, Q5_0), KERNEL(q5_1, Q5_1)};
const tvlm_gemm_tier tvlm_gemm_avx2 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
