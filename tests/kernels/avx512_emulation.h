/* SPDX-License-Identifier: MIT
 * The AVX-512 intrinsics that src/kernels/x86 uses, by means of AVX2 and the compiler's vectors, so
 * that machines without AVX-512 test those kernels too. Semantics: Intel SDM vol. 2. */
#ifndef AVX512_EMULATION_H
#define AVX512_EMULATION_H

#include <immintrin.h>
#include <string.h>

typedef int32_t em_i32 __attribute__((vector_size(64)));
typedef uint32_t em_u32 __attribute__((vector_size(64)));
typedef uint16_t em_u16 __attribute__((vector_size(64)));
typedef union em_512 {
    __m512 ps;
    __m512i si;
    em_i32 i32;
    em_u32 u32;
    __m256 half[2];
    __m256i half_si[2];
    float f[16];
    int32_t i[16];
    uint32_t u[16];
    uint16_t u16[32];
    int16_t i16[32];
    uint8_t u8[64];
    int8_t i8[64];
} em_512;

#define EM static inline __attribute__((unused))
#undef TVLM_UNROLL /* compiles in seconds instead of minutes */
#define TVLM_UNROLL
#define EM_BOTH(name, call)                                                                        \
    EM __m512 em_##name(__m512 x, __m512 y)                                                        \
    {                                                                                              \
        em_512 a = {.ps = x}, b = {.ps = y};                                                       \
        for (int h = 0; h < 2; h++)                                                                \
            a.half[h] = call(a.half[h], b.half[h]);                                                \
        return a.ps;                                                                               \
    }
EM_BOTH(min, _mm256_min_ps)
EM_BOTH(max, _mm256_max_ps)
EM_BOTH(or, _mm256_or_ps)

EM __m512 em_fmadd(__m512 x, __m512 y, __m512 z)
{
    em_512 a = {.ps = x}, b = {.ps = y}, c = {.ps = z};
    for (int h = 0; h < 2; h++)
        a.half[h] = _mm256_fmadd_ps(a.half[h], b.half[h], c.half[h]);
    return a.ps;
}

EM __m512 em_shuffle(__m512 x, __m512 y, unsigned n) /* in each 128 bits */
{
    em_512 a = {.ps = x}, b = {.ps = y}, to;
    for (unsigned i = 0; i < 16; i++)
        to.f[i] = (i % 4 < 2 ? a : b).f[i / 4 * 4 + (n >> (2 * (i % 4)) & 3)];
    return to.ps;
}

EM __m512 em_shuffle_quarters(__m512 x, __m512 y, unsigned n)
{
    em_512 a = {.ps = x}, b = {.ps = y}, to;
    for (unsigned i = 0; i < 16; i++)
        to.f[i] = (i < 8 ? a : b).f[(n >> (2 * (i / 4)) & 3) * 4 + i % 4];
    return to.ps;
}

EM __m512 em_widen(__m256 low)
{
    em_512 a = {
        .half = {low, _mm256_set1_ps(NAN)}
    }; /* undefined */
    return a.ps;
}

EM __m512 em_insert_half(__m512 v, __m256 half, int at)
{
    em_512 a = {.ps = v};
    a.half[at] = half;
    return a.ps;
}

EM __m256 em_half(__m512 v, int at)
{
    em_512 a = {.ps = v};
    return a.half[at];
}

EM __m512 em_permute(__m512i order, __m512 v)
{
    em_512 a = {.ps = v}, o = {.si = order}, to;
    for (int i = 0; i < 16; i++)
        to.f[i] = a.f[o.u[i] & 15];
    return to.ps;
}

/* a * b + c in odd lanes, - c in even ones. */
EM __m512 em_fmaddsub(__m512 x, __m512 y, __m512 z)
{
    em_512 a = {.ps = x}, b = {.ps = y}, c = {.ps = z};
    for (int h = 0; h < 2; h++)
        a.half[h] = _mm256_fmaddsub_ps(a.half[h], b.half[h], c.half[h]);
    return a.ps;
}

EM __m512i em_load(const void *p)
{
    em_512 a;
    memcpy(&a, p, sizeof a);
    return a.si;
}

EM __m512 em_maskz_load(__mmask16 mask, const float *p)
{
    em_512 a = {.u = {0}};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy(&a.f[i], p + i, sizeof *p);
    return a.ps;
}

EM void em_mask_store(float *p, __mmask16 mask, __m512 v)
{
    em_512 a = {.ps = v};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy(p + i, &a.f[i], sizeof *p);
}

EM __m512 em_set1(float v)
{
    em_512 a = {
        .half = {_mm256_set1_ps(v), _mm256_set1_ps(v)}
    };
    return a.ps;
}

EM __m512i em_set1_i32(int v)
{
    em_512 a = {
        .half_si = {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}
    };
    return a.si;
}

EM __m512 em_cvtph(__m256i v)
{
    em_512 a = {
        .half = {_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1))}
    };
    return a.ps;
}

EM __m512i em_widen_u16(__m256i v)
{
    em_512 a = {
        .half_si = {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                    _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1))}
    };
    return a.si;
}

EM __m512 em_cvt_i32(__m512i v)
{
    em_512 a = {.si = v};
    for (int h = 0; h < 2; h++)
        a.half[h] = _mm256_cvtepi32_ps(a.half_si[h]);
    return a.ps;
}

EM __m512i em_cvt_ps(__m512 v)
{
    em_512 a = {.ps = v};
    for (int h = 0; h < 2; h++)
        a.half_si[h] = _mm256_cvtps_epi32(a.half[h]);
    return a.si;
}

EM __m256i em_low_words(__m512i v)
{
    em_512 a = {.si = v};
    uint16_t words[16];
    for (int i = 0; i < 16; i++)
        words[i] = (uint16_t)a.u[i];
    return _mm256_loadu_si256((const __m256i *)(const void *)words);
}

EM __m128i em_low_bytes(__m512i v)
{
    em_512 a = {.si = v};
    uint8_t bytes[16];
    for (int i = 0; i < 16; i++)
        bytes[i] = (uint8_t)a.u[i];
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

EM __m512i em_widen_i8(__m128i v)
{
    int8_t from[16];
    em_512 a;
    memcpy(from, &v, sizeof v);
    for (int i = 0; i < 16; i++)
        a.i[i] = from[i];
    return a.si;
}
EM __m512i em_widen_u8(__m128i v)
{
    uint8_t from[16];
    em_512 a;
    memcpy(from, &v, sizeof v);
    for (int i = 0; i < 16; i++)
        a.u[i] = from[i];
    return a.si;
}

EM __m128i em_maskz_load_u8(__mmask16 mask, const uint8_t *p)
{
    uint8_t to[16] = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) to[i] = p[i];
    return _mm_loadu_si128((const __m128i *)(const void *)to);
}

EM void em_mask_store_u8(uint8_t *p, __mmask16 mask, __m128i v)
{
    uint8_t from[16];
    memcpy(from, &v, sizeof v);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) p[i] = from[i];
}

EM __m256i em_halves(__m512 v)
{
    em_512 a = {.ps = v};
    return _mm256_set_m128i(_mm256_cvtps_ph(a.half[1], _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(a.half[0], _MM_FROUND_TO_NEAREST_INT));
}

EM int32_t em_reduce_add(__m512i v)
{
    em_512 a = {.si = v};
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += a.u[i];
    return (int32_t)sum;
}

EM int32_t em_reduce_max(__m512i v)
{
    em_512 a = {.si = v};
    int32_t most = a.i[0];
    for (int i = 1; i < 16; i++)
        most = a.i[i] > most ? a.i[i] : most;
    return most;
}

EM __m512i em_max_i32(__m512i x, __m512i y)
{
    em_512 a = {.si = x}, b = {.si = y};
    for (int h = 0; h < 2; h++)
        a.half_si[h] = _mm256_max_epi32(a.half_si[h], b.half_si[h]);
    return a.si;
}

/* VPDPBUSD: bytes of x unsigned, of y signed; no saturation on the way. */
EM __m512i em_dpbusd(__m512i sum, __m512i x, __m512i y)
{
    em_512 s = {.si = sum}, a = {.si = x}, b = {.si = y};
    for (int i = 0; i < 64; i++)
        s.u[i / 4] += (uint32_t)(a.u8[i] * b.i8[i]);
    return s.si;
}

EM __m256i em_dpbusd8(__m256i sum, __m256i x, __m256i y)
{
    em_512 s = {.half_si = {sum}}, a = {.half_si = {x}}, b = {.half_si = {y}};
    s.si = em_dpbusd(s.si, a.si, b.si);
    return s.half_si[0];
}

EM __m512i em_mullo_i32(__m512i x, __m512i y)
{
    em_512 a = {.si = x}, b = {.si = y};
    a.u32 *= b.u32;
    return a.si;
}

EM __m512i em_maskz_load_i32(__mmask16 mask, const int32_t *p)
{
    em_512 a = {.u = {0}};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy(&a.i[i], p + i, sizeof *p);
    return a.si;
}

/* VPDPWSSD: signed words in twos; no saturation on the way. */
EM __m512i em_dpwssd(__m512i sum, __m512i x, __m512i y)
{
    em_512 s = {.si = sum}, a = {.si = x}, b = {.si = y};
    for (int i = 0; i < 32; i++)
        s.u[i / 2] += (uint32_t)(a.i16[i] * b.i16[i]);
    return s.si;
}

EM __m256i em_dpwssd8(__m256i sum, __m256i x, __m256i y)
{
    em_512 s = {.half_si = {sum}}, a = {.half_si = {x}}, b = {.half_si = {y}};
    s.si = em_dpwssd(s.si, a.si, b.si);
    return s.half_si[0];
}

/* Subnormals become zeros of their sign. */
EM __m256 em_flush(__m256 v)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 tiny = _mm256_cmp_ps(_mm256_andnot_ps(sign, v), _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
    return _mm256_blendv_ps(v, _mm256_and_ps(v, sign), tiny);
}

/* One of the two steps: the upper or the lower bfloat16 of each pair. */
EM __m256 em_bf16_step(__m256 sum, __m256i x, __m256i y, bool upper)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    x = upper ? _mm256_and_si256(x, high) : _mm256_slli_epi32(x, 16);
    y = upper ? _mm256_and_si256(y, high) : _mm256_slli_epi32(y, 16);
    __m256 a = em_flush(_mm256_castsi256_ps(x)), b = em_flush(_mm256_castsi256_ps(y));
    return em_flush(_mm256_fmadd_ps(a, b, em_flush(sum)));
}

/* VDPBF16PS: the odd elements first, then the even ones, each step rounded once. */
EM __m512 em_dpbf16(__m512 sum, __m512bh x, __m512bh y)
{
    em_512 s = {.ps = sum}, a = {.si = (__m512i)x}, b = {.si = (__m512i)y};
    for (int h = 0; h < 2; h++) {
        s.half[h] = em_bf16_step(s.half[h], a.half_si[h], b.half_si[h], true);
        s.half[h] = em_bf16_step(s.half[h], a.half_si[h], b.half_si[h], false);
    }
    return s.ps;
}

/* VCVTNEPS2BF16: to nearest, half to even, subnormals to zero, NaNs quiet. */
EM __m256bh em_cvt_bf16(__m512 v)
{
    em_512 a = {.ps = v};
    uint16_t out[16];
    for (int h = 0; h < 2; h++)
        a.half[h] = em_flush(a.half[h]);
    for (int i = 0; i < 16; i++) {
        bool nan = (a.u[i] & 0x7fffffffu) > 0x7f800000u;
        uint32_t rounded = a.u[i] + 0x7fffu + (a.u[i] >> 16 & 1);
        out[i] = (uint16_t)(nan ? a.u[i] >> 16 | 0x40u : rounded >> 16);
    }
    __m256bh packed;
    memcpy(&packed, out, sizeof packed);
    return packed;
}

EM void em_mask_store_u16(void *p, __mmask16 mask, __m256i v)
{
    uint16_t from[16];
    memcpy(from, &v, sizeof v);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) memcpy((unsigned char *)p + 2 * i, &from[i], 2);
}

/* What GCC or clang has as macros. */
#undef _mm512_setr_epi32
#undef _mm512_permute_ps
#undef _mm512_cvtps_ph
#undef _mm512_shuffle_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_extractf32x8_ps
#undef _mm512_insertf32x8

#define _mm512_dpbf16_ps(s, a, b)         em_dpbf16(s, a, b)
#define _mm512_cvtneps_pbh(v)             em_cvt_bf16(v)
#define _mm256_mask_storeu_epi16(p, m, v) em_mask_store_u16(p, m, v)
#define _mm512_setzero_si512()            em_set1_i32(0)
#define _mm512_setzero_ps()               em_set1(0)
#define _mm512_set1_ps(v)                 em_set1(v)
#define _mm512_set1_epi32(v)              em_set1_i32(v)
#define _mm512_loadu_ps(p)                ((em_512){.si = em_load(p)}).ps
#define _mm512_loadu_si512(p)             em_load(p)
#define _mm512_storeu_ps(p, v)            em_mask_store(p, 0xffff, v)
#define _mm512_maskz_loadu_ps(m, p)       em_maskz_load(m, p)
#define _mm512_mask_storeu_ps(p, m, v)    em_mask_store(p, m, v)
#define _mm512_fmadd_ps(a, b, c)          em_fmadd(a, b, c)
#define _mm512_add_ps(a, b)               ((a) + (b))
#define _mm512_mul_ps(a, b)               ((a) * (b))
#define _mm512_sub_ps(a, b)               ((a) - (b))
#define _mm512_fmsub_ps(a, b, c)          em_fmadd(a, b, -(c))
#define _mm512_fmaddsub_ps(a, b, c)       em_fmaddsub(a, b, c)
#define _mm512_permutexvar_ps(o, v)       em_permute(o, v)
#define _mm512_permute_ps(v, n)           em_shuffle(v, v, n)
#define _mm512_setr_epi32(...)            ((__m512i)(em_i32){__VA_ARGS__})
#define _mm512_cvtps_ph(v, rounding)      em_halves(v)
#define _mm512_cvtepu8_epi32(v)           em_widen_u8(v)
#define _mm512_cvtepi8_epi32(v)           em_widen_i8(v)
#define _mm_maskz_loadu_epi8(m, p)        em_maskz_load_u8(m, p)
#define _mm_mask_storeu_epi8(p, m, v)     em_mask_store_u8(p, m, v)
#define _mm512_shuffle_ps(a, b, n)        em_shuffle(a, b, n)
#define _mm512_shuffle_f32x4(a, b, n)     em_shuffle_quarters(a, b, n)
#define _mm512_castps256_ps512(a)         em_widen(a)
#define _mm512_castps512_ps256(a)         em_half(a, 0)
#define _mm512_extractf32x8_ps(a, n)      em_half(a, n)
#define _mm512_insertf32x8(a, b, n)       em_insert_half(a, b, n)
#define _mm512_broadcast_f32x8(a)         em_insert_half(em_widen(a), a, 1)
#define _mm512_min_ps(a, b)               em_min(a, b)
#define _mm512_max_ps(a, b)               em_max(a, b)
#define _mm512_or_ps(a, b)                em_or(a, b)
#define _mm512_castps_si512(a)            ((__m512i)(a))
#define _mm512_castsi512_ps(a)            ((__m512)(a))
#define _mm512_add_epi32(a, b)            ((__m512i)((em_u32)(a) + (em_u32)(b)))
#define _mm512_sub_epi32(a, b)            ((__m512i)((em_u32)(a) - (em_u32)(b)))
#define _mm512_and_si512(a, b)            ((a) & (b))
#define _mm512_or_si512(a, b)             ((a) | (b))
#define _mm512_slli_epi32(a, n)           ((__m512i)((em_u32)(a) << (n)))
#define _mm512_srai_epi32(a, n)           ((__m512i)((em_i32)(a) >> (n)))
#define _mm512_set1_epi8(v)               em_set1_i32((int)(0x01010101u * (uint8_t)(v)))
#define _mm512_slli_epi16(a, n)           ((__m512i)((em_u16)(a) << (n)))
#define _mm512_srli_epi16(a, n)           ((__m512i)((em_u16)(a) >> (n)))
#define _mm512_max_epi32(a, b)            em_max_i32(a, b)
#define _mm512_reduce_max_epi32(a)        em_reduce_max(a)
#define _mm512_reduce_add_epi32(a)        em_reduce_add(a)
#define _mm512_cvtps_epi32(v)             em_cvt_ps(v)
#define _mm512_cvtepi32_epi8(v)           em_low_bytes(v)
#define _mm512_cvtepi32_epi16(v)          em_low_words(v)
#define _mm512_dpbusd_epi32(s, a, b)      em_dpbusd(s, a, b)
#define _mm512_dpwssd_epi32(s, a, b)      em_dpwssd(s, a, b)
#define _mm512_cvtph_ps(v)                em_cvtph(v)
#define _mm512_cvtepu16_epi32(v)          em_widen_u16(v)
#define _mm512_cvtepi32_ps(v)             em_cvt_i32(v)

#undef _mm256_dpbusd_epi32 /* macros of some compilers */
#undef _mm256_dpbusd_avx_epi32
#undef _mm256_dpwssd_avx_epi32
#define _mm256_dpwssd_avx_epi32(s, a, b) em_dpwssd8(s, a, b)
#define _mm256_dpbusd_epi32(s, a, b)     em_dpbusd8(s, a, b)
#define _mm256_dpbusd_avx_epi32(s, a, b) em_dpbusd8(s, a, b)
#define _mm512_mullo_epi32(a, b)         em_mullo_i32(a, b)
#define _mm512_maskz_loadu_epi32(m, p)   em_maskz_load_i32(m, p)

#endif
