/* SPDX-License-Identifier: MIT
 * The int8 class of linear layers on AVX2, and its rows of x. */
#include "cpu/cpu.h"
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)
#include "kernels/x86/gemm_int8_avx2.h"

/* ---- rows of x ---- */

/* 32 values as four registers of integers, and the block's d and sum. */
TVLM_INLINE void quantize_block(const float *x, float *d, int32_t *sum, __m256i q[4])
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    __m256 v[4];
    TVLM_UNROLL
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    __m128i top = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));
    top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));
    float largest = _mm_cvtss_f32(_mm_castsi128_ps(top));
    bool usable = largest >= TVLM_INPUT_LEAST && largest < INFINITY;
    *d = usable ? largest / 127.0f : largest < INFINITY ? 0.0f : NAN;
    __m256 inverse = _mm256_set1_ps(127.0f / largest);
    __m256i total = _mm256_setzero_si256();
    TVLM_UNROLL
    for (size_t i = 0; i < 4; i++) {
        q[i] = usable ? _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse)) : _mm256_setzero_si256();
        total = _mm256_add_epi32(total, q[i]);
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    *sum = _mm_cvtsi128_si32(four);
}

/* Sixteen words of q[0] and q[1] in order. */
TVLM_INLINE __m256i words(__m256i low, __m256i high)
{
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

static void pack_input(void *packed, const float *x, size_t k)
{
    tvlm_input_block *out = packed;
    for (size_t b = 0; b < k / TVLM_BLOCK; b++) {
        __m256i q[4];
        quantize_block(x + b * TVLM_BLOCK, &out[b].d, &out[b].sum, q);
        __m256i bytes = _mm256_packs_epi16(words(q[0], q[1]), words(q[2], q[3]));
        bytes = _mm256_permute4x64_epi64(bytes, 0xd8);
        _mm256_storeu_si256((__m256i *)(void *)out[b].q, bytes);
    }
}

static size_t input_bytes(size_t k)
{
    return k / TVLM_BLOCK * sizeof(tvlm_input_block);
}

const tvlm_gemm_input tvlm_avx2_input_int8 = {input_bytes, pack_input};

#include "kernels/x86/gemm_int8_body.h"

#define KERNEL(id, TYPE, as)                                                                       \
    {"avx2 " #id " int8", TVLM_CPU_AVX2,         TVLM_TYPE_##TYPE, TVLM_NUMERIC_INT8,              \
     &tvlm_layout_int8,   &tvlm_avx2_input_int8, gemm_##as##_int8}
static const tvlm_gemm kernels[] = {KERNEL(f32, F32, q8_0),   KERNEL(f16, F16, q8_0),
                                    KERNEL(bf16, BF16, q8_0), KERNEL(q8_0, Q8_0, q8_0),
                                    KERNEL(q4_0, Q4_0, q4_0), KERNEL(q4_1, Q4_1, q4_1),
                                    KERNEL(q5_0, Q5_0, q5_0), KERNEL(q5_1, Q5_1, q5_1)};
const tvlm_gemm_tier tvlm_gemm_avx2_int8 = {kernels, TVLM_COUNT(kernels)};

#else

const tvlm_gemm_tier tvlm_gemm_avx2_int8 = {NULL, 0};

#endif

#include "kernels/x86/avx2_end.h"
