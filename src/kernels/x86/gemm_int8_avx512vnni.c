/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers with VPDPBUSD, which adds to each of 16 integers four products of
 * an unsigned with a signed byte and never saturates: exact, as pack.h states.
 *
 *   4 and 5 bits   codes are the unsigned bytes, q the signed ones
 *   8 bits         both are signed: q + 128 stands in for q, and 128 times the codes' sum is taken
 *                  off again, which one more instruction gives for all rows of the tile
 *
 * Tiles of 6 x 2: 12 sums hide the latency, and as many running totals in float32. */
#include "cpu/cpu.h"
#define TVLM_AVX512_WITH ",avx512vnni"
#include "kernels/x86/avx512.h"

#if defined(__x86_64__)

enum { MAX_ROWS = 6, MAX_PANELS = TVLM_TILE16_PANELS };

/* ---- rows of x: tvlm_input_block; of 8-bit kernels q has its sign bit flipped, which is + 128
 * ----
 */

/* 16 values as integers. */
TVLM_INLINE __m512i quantized(__m512 x, __m512 inverse, bool usable)
{
    return usable ? _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)) : _mm512_setzero_si512();
}

TVLM_INLINE void pack_block(tvlm_input_block *out, const float *x, char flip)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
    __m512i bits = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(v0), magnitude),
                                    _mm512_and_si512(_mm512_castps_si512(v1), magnitude));
    int32_t top = _mm512_reduce_max_epi32(bits);
    float largest;
    memcpy(&largest, &top, sizeof largest);
    bool usable = largest >= TVLM_INPUT_LEAST && largest < INFINITY;
    __m512 inverse = _mm512_set1_ps(127.0f / largest);
    __m512i q0 = quantized(v0, inverse, usable), q1 = quantized(v1, inverse, usable);
    out->d = usable ? largest / 127.0f : largest < INFINITY ? 0.0f : NAN;
    out->sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
    const __m128i signs = _mm_set1_epi8(flip);
    _mm_storeu_si128((__m128i *)(void *)out->q, _mm_xor_si128(_mm512_cvtepi32_epi8(q0), signs));
    _mm_storeu_si128((__m128i *)(void *)(out->q + 16),
                     _mm_xor_si128(_mm512_cvtepi32_epi8(q1), signs));
}

static void pack_input_signed(void *packed, const float *x, size_t k)
{
    tvlm_input_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++)
        pack_block(&out[b], x + b * TVLM_BLOCK, 0);
}

static void pack_input_unsigned(void *packed, const float *x, size_t k)
{
    tvlm_input_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++)
        pack_block(&out[b], x + b * TVLM_BLOCK, (char)0x80);
}

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(tvlm_input_block);
}

static const tvlm_gemm_input input_signed = {input_bytes, pack_input_signed};
static const tvlm_gemm_input input_unsigned = {input_bytes, pack_input_unsigned};

/* ---- tiles ---- */

/* Weights 4j .. 4j + 3 of the 16 columns: codes as bytes. */
TVLM_INLINE __m512i codes16(const tvlm_block_layout *layout, const unsigned char *block,
                            const size_t j)
{
    const unsigned char *code = block + layout->code_at;
    if (layout->bits == 8) return tvlm_load512(code + 64 * j);
    __m512i bytes = tvlm_load512(code + 64 * (j % 4));
    if (j >= 4) bytes = _mm512_srli_epi16(bytes, 4);
    bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
    if (layout->bits == 4) return bytes;
    __m512i fifth = tvlm_load512(block + layout->high_at); /* bit j to bit 4 of each byte */
    fifth = j < 4 ? _mm512_slli_epi16(fifth, 4 - (unsigned)j)
                  : _mm512_srli_epi16(fifth, (unsigned)j - 4);
    return _mm512_or_si512(bytes, _mm512_and_si512(fifth, _mm512_set1_epi8(16)));
}

TVLM_INLINE __m512i four_of(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/* acc += d_w * (total * d) (+ m * (sum * d)). */
TVLM_INLINE __m512 add_block(const tvlm_block_layout *layout, const unsigned char *block,
                             __m512i total, const tvlm_input_block *x, __m512 acc)
{
    if (layout->offset) total = _mm512_sub_epi32(total, _mm512_set1_epi32(layout->offset * x->sum));
    __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(x->d));
    acc = _mm512_fmadd_ps(tvlm_load_half16(block), value, acc);
    if (!layout->m_at) return acc;
    return _mm512_fmadd_ps(tvlm_load_half16(block + layout->m_at),
                           _mm512_set1_ps((float)x->sum * x->d), acc);
}

/* The sums of a block. */
TVLM_INLINE void block_sums(const tvlm_block_layout *layout, const unsigned char *block,
                            size_t stride, const tvlm_input_block *const x[MAX_ROWS],
                            const size_t rows, const size_t panels,
                            __m512i sum[MAX_ROWS][MAX_PANELS])
{
    const bool bytes = layout->bits == 8;
    __m512i extra[MAX_PANELS]; /* 128 times the codes' sums */
    TVLM_UNROLL
    for (size_t p = 0; p < panels; p++) {
        extra[p] = _mm512_setzero_si512();
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][p] = _mm512_setzero_si512();
    }
    TVLM_UNROLL
    for (size_t j = 0; j < 8; j++) {
        __m512i code[MAX_PANELS];
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++) {
            code[p] = codes16(layout, block + p * stride, j);
            if (bytes)
                extra[p] = _mm512_dpbusd_epi32(extra[p], _mm512_set1_epi8((char)0x80), code[p]);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i four = four_of(x[r]->q + 4 * j);
            TVLM_KEEP16(four);
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++)
                sum[r][p] = bytes ? _mm512_dpbusd_epi32(sum[r][p], four, code[p])
                                  : _mm512_dpbusd_epi32(sum[r][p], code[p], four);
        }
    }
    TVLM_UNROLL
    for (size_t p = 0; bytes && p < panels; p++) {
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][p] = _mm512_sub_epi32(sum[r][p], extra[p]);
    }
}

TVLM_INLINE void tile_int8(const tvlm_gemm_args *args, tvlm_type type, const size_t rows,
                           const size_t panels, size_t m, size_t panel, tvlm_tile16 out)
{
    const tvlm_block_layout layout = tvlm_block_layout_of(type);
    const size_t n_blocks = args->k / TVLM_BLOCK, stride = n_blocks * layout.bytes;
    const unsigned char *w = (const unsigned char *)args->w + panel * stride;
    const tvlm_input_block *x[MAX_ROWS];
    __m512 acc[MAX_ROWS][MAX_PANELS];
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        x[r] = tvlm_gemm_row(args, m + r);
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[r][p] = _mm512_setzero_ps();
    }
    for (size_t b = 0; b < n_blocks; b++, w += layout.bytes) {
        __m512i sum[MAX_ROWS][MAX_PANELS];
        block_sums(&layout, w, stride, x, rows, panels, sum);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            TVLM_UNROLL
            for (size_t p = 0; p < panels; p++)
                acc[r][p] = add_block(&layout, w + p * stride, sum[r][p], x[r], acc[r][p]);
            x[r]++;
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t p = 0; p < panels; p++)
            _mm512_storeu_ps(&out[r][16 * p], acc[r][p]);
    }
}

#define TILE_Q8_0(rows, panels) tile_int8(args, TVLM_TYPE_Q8_0, rows, panels, m, panel, out)
#define TILE_Q4_0(rows, panels) tile_int8(args, TVLM_TYPE_Q4_0, rows, panels, m, panel, out)
#define TILE_Q4_1(rows, panels) tile_int8(args, TVLM_TYPE_Q4_1, rows, panels, m, panel, out)
#define TILE_Q5_0(rows, panels) tile_int8(args, TVLM_TYPE_Q5_0, rows, panels, m, panel, out)
#define TILE_Q5_1(rows, panels) tile_int8(args, TVLM_TYPE_Q5_1, rows, panels, m, panel, out)
TVLM_TILE16_RUN(gemm_q8_0_int8_vnni, TILE_Q8_0, 6)
TVLM_TILE16_RUN(gemm_q4_0_int8_vnni, TILE_Q4_0, 6)
TVLM_TILE16_RUN(gemm_q4_1_int8_vnni, TILE_Q4_1, 6)
TVLM_TILE16_RUN(gemm_q5_0_int8_vnni, TILE_Q5_0, 6)
TVLM_TILE16_RUN(gemm_q5_1_int8_vnni, TILE_Q5_1, 6)

#define KERNEL(id, TYPE, as, input)                                                                \
    {"avx512vnni " #id " int8", TVLM_CPU_AVX512_VNNI, TVLM_TYPE_##TYPE,                            \
     TVLM_NUMERIC_INT8,         &tvlm_layout_int8,    &input,                                      \
     gemm_##as##_int8_vnni}
static const tvlm_gemm kernels[] = {
    KERNEL(f32, F32, q8_0, input_unsigned),   KERNEL(f16, F16, q8_0, input_unsigned),
    KERNEL(bf16, BF16, q8_0, input_unsigned), KERNEL(q8_0, Q8_0, q8_0, input_unsigned),
    KERNEL(q4_0, Q4_0, q4_0, input_signed),   KERNEL(q4_1, Q4_1, q4_1, input_signed),
    KERNEL(q5_0, Q5_0, q5_0, input_signed),   KERNEL(q5_1, Q5_1, q5_1, input_signed)};
const tvlm_gemm_tier tvlm_gemm_avx512vnni_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx512vnni_int8 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
