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

typedef enum weight_kind { W_F32, W_F16, W_BF16 } weight_kind;

/* Columns col..end of row m from their sums. */
static void epilogue(const tvlm_gemm_args *args, const float *sum, size_t m, size_t col, size_t end)
{
    for (size_t c = col; c < end; c += 8)
        tvlm_epilogue8(args, m, c, end - c < 8 ? end - c : 8, _mm256_loadu_ps(sum + (c - col)));
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
            for (size_t r = 0; r < rows; r++)
                epilogue(args, out[r], m + r, n, end);
            m += rows;
        }
        n = end;
    }
}

#define TILE_F32(rows, panels)  tile_float(args, W_F32, rows, panels, m, panel, out)
#define TILE_F16(rows, panels)  tile_float(args, W_F16, rows, panels, m, panel, out)
#define TILE_BF16(rows, panels) tile_float(args, W_BF16, rows, panels, m, panel, out)

DEFINE_RUN(gemm_f32, TILE_F32)
DEFINE_RUN(gemm_f16, TILE_F16)
DEFINE_RUN(gemm_bf16, TILE_BF16)

/* ---- block types: 32 x 16 codes become floats once for a group of rows ---- */

enum { GROUP = 24 };

TVLM_INLINE void store_codes(float *out, __m256i codes, int offset)
{
    codes = _mm256_sub_epi32(codes, _mm256_set1_epi32(offset));
    _mm256_storeu_ps(out, _mm256_cvtepi32_ps(codes));
}

/* Weights 8g .. 8g + 7 of eight columns, of four or five bits. */
static void nibble_codes(const tvlm_block_layout *layout, const unsigned char *block, size_t g,
                         size_t half, float codes[TVLM_BLOCK][16])
{
    __m256i word = tvlm_load256(block + layout->code_at + (g * TVLM_GEMM_NR + 8 * half) * 4);
    __m256i high = _mm256_setzero_si256();
    if (layout->bits == 5) { /* bit 8g to bit 4 */
        high = tvlm_load256(block + layout->high_at + 32 * half);
        high = _mm256_srl_epi32(high, _mm_cvtsi32_si128((int)(8 * g)));
    }
    for (size_t i = 0; i < 8; i++) {
        __m256i code = _mm256_and_si256(word, _mm256_set1_epi32(15));
        __m256i fifth = _mm256_and_si256(_mm256_slli_epi32(high, 4), _mm256_set1_epi32(16));
        store_codes(&codes[8 * g + i][8 * half], _mm256_or_si256(code, fifth), layout->offset);
        word = _mm256_srli_epi32(word, 4);
        high = _mm256_srli_epi32(high, 1);
    }
}

static void block_codes(const tvlm_block_layout *layout, const unsigned char *block,
                        float codes[TVLM_BLOCK][16])
{
    if (layout->bits < 8) {
        for (size_t g = 0; g < 8; g++)
            nibble_codes(layout, block, g / 2, g % 2, codes);
        return;
    }
    for (size_t k = 0; k < TVLM_BLOCK; k++)
        for (size_t half = 0; half < 2; half++) {
            const unsigned char *at = block + layout->code_at + k * TVLM_GEMM_NR + 8 * half;
            __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)at);
            store_codes(&codes[k][8 * half], _mm256_cvtepi8_epi32(bytes), 0);
        }
}

/* The xsum of pack.h for one block of a row of x. */
TVLM_INLINE float block_x_sum(const float *x)
{
    __m256 low = _mm256_add_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8));
    __m256 high = _mm256_add_ps(_mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24));
    return tvlm_hsum8(_mm256_add_ps(low, high));
}

/* acc += d * sum (+ m * xsum) for the 16 columns of a row. */
static void add_block(const tvlm_block_layout *layout, const unsigned char *block, const float *x,
                      const float *sum, float *acc)
{
    __m256 total = _mm256_set1_ps(layout->m_at ? block_x_sum(x) : 0.0f);
    for (size_t c = 0; c < 16; c += 8) {
        __m256 a = _mm256_loadu_ps(acc + c);
        a = _mm256_fmadd_ps(tvlm_load_half8(block + 2 * c), _mm256_loadu_ps(sum + c), a);
        if (layout->m_at)
            a = _mm256_fmadd_ps(tvlm_load_half8(block + layout->m_at + 2 * c), total, a);
        _mm256_storeu_ps(acc + c, a);
    }
}

/* All rows of a group against one panel. */
static void group_sums(const tvlm_gemm_args *args, const tvlm_block_layout *layout, size_t m,
                       size_t rows, const unsigned char *panel, float acc[GROUP][16])
{
    float codes[TVLM_BLOCK][16];
    tile_out sum;
    tvlm_gemm_args block = {.ldx = args->ldx, .w = codes, .k = TVLM_BLOCK};
    for (size_t b = 0; b < args->k / TVLM_BLOCK; b++, panel += layout->bytes) {
        block_codes(layout, panel, codes);
        for (size_t m0 = 0; m0 < rows; m0 += MAX_ROWS) {
            size_t n = rows - m0 < MAX_ROWS ? rows - m0 : MAX_ROWS;
            block.x = (const float *)tvlm_gemm_row(args, m + m0) + b * TVLM_BLOCK;
            gemm_f32_rows(&block, 0, n, 0, sum);
            for (size_t r = 0; r < n; r++)
                add_block(layout, panel, tvlm_gemm_row(&block, r), sum[r], acc[m0 + r]);
        }
    }
}

static void run_block(const tvlm_gemm_args *args, tvlm_type type, size_t m0, size_t m1, size_t n0,
                      size_t n1)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    for (size_t n = n0; n < n1; n += TVLM_GEMM_NR) {
        const unsigned char *panel = (const unsigned char *)args->w +
                                     n / TVLM_GEMM_NR * (args->k / TVLM_BLOCK) * layout.bytes;
        size_t end = n1 - n < TVLM_GEMM_NR ? n1 : n + TVLM_GEMM_NR;
        for (size_t m = m0; m < m1; m += GROUP) {
            float acc[GROUP][16] = {{0}};
            size_t rows = m1 - m < GROUP ? m1 - m : GROUP;
            group_sums(args, &layout, m, rows, panel, acc);
            for (size_t r = 0; r < rows; r++)
                epilogue(args, acc[r], m + r, n, end);
        }
    }
}

#define BLOCK_RUN(id, TYPE)                                                                        \
    static void gemm_##id##_avx2(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0,      \
                                 size_t n1)                                                        \
    {                                                                                              \
        run_block(args, TVLM_TYPE_##TYPE, m0, m1, n0, n1);                                         \
    }
BLOCK_RUN(q8_0, Q8_0)
BLOCK_RUN(q4_0, Q4_0)
BLOCK_RUN(q4_1, Q4_1)
BLOCK_RUN(q5_0, Q5_0)
BLOCK_RUN(q5_1, Q5_1)

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
