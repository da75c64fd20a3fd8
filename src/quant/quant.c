/* SPDX-License-Identifier: MIT
 * Block formats: quantise, dequantise, half precision. Portable, byte order independent. */
#include "quant/quant.h"

#include <math.h>
#include <string.h>

typedef struct type_info {
    uint32_t type;
    const char *name;
    uint16_t block, bytes;
    bool runs;
} type_info;

/* Every type of GGML, so that the size of a tensor that is not run here is still known. */
static const type_info types[] = {
    {0,  "F32",     1,   4,   true },
    {1,  "F16",     1,   2,   true },
    {2,  "Q4_0",    32,  18,  true },
    {3,  "Q4_1",    32,  20,  true },
    {6,  "Q5_0",    32,  22,  true },
    {7,  "Q5_1",    32,  24,  true },
    {8,  "Q8_0",    32,  34,  true },
    {9,  "Q8_1",    32,  36,  false},
    {10, "Q2_K",    256, 84,  false},
    {11, "Q3_K",    256, 110, false},
    {12, "Q4_K",    256, 144, false},
    {13, "Q5_K",    256, 176, false},
    {14, "Q6_K",    256, 210, false},
    {15, "Q8_K",    256, 292, false},
    {16, "IQ2_XXS", 256, 66,  false},
    {17, "IQ2_XS",  256, 74,  false},
    {18, "IQ3_XXS", 256, 98,  false},
    {19, "IQ1_S",   256, 50,  false},
    {20, "IQ4_NL",  32,  18,  false},
    {21, "IQ3_S",   256, 110, false},
    {22, "IQ2_S",   256, 82,  false},
    {23, "IQ4_XS",  256, 136, false},
    {24, "I8",      1,   1,   true },
    {25, "I16",     1,   2,   false},
    {26, "I32",     1,   4,   true },
    {27, "I64",     1,   8,   false},
    {28, "F64",     1,   8,   false},
    {29, "IQ1_M",   256, 56,  false},
    {30, "BF16",    1,   2,   true },
    {34, "TQ1_0",   256, 54,  false},
    {35, "TQ2_0",   256, 66,  false},
    {39, "MXFP4",   32,  17,  false},
};

static const type_info *find(uint32_t type)
{
    for (size_t i = 0; i < TVLM_COUNT(types); i++)
        if (types[i].type == type) return &types[i];
    return NULL;
}

const char *tvlm_type_name(uint32_t type)
{
    const type_info *info = find(type);
    return info ? info->name : "unknown";
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool tvlm_type_from_name(const char *name, tvlm_type *out)
{
    static const tvlm_type writable[] = {TVLM_TYPE_F32, TVLM_TYPE_F16, TVLM_TYPE_BF16,
                                         TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0};
    for (size_t i = 0; i < TVLM_COUNT(writable); i++) {
        const char *a = tvlm_type_name((uint32_t)writable[i]), *b = name;
        while (*a && lower(*a) == lower(*b))
            a++, b++;
        if (!*a && !*b) {
            *out = writable[i];
            return true;
        }
    }
    return false;
}

bool tvlm_type_runs(uint32_t type)
{
    const type_info *info = find(type);
    return info && info->runs;
}

uint32_t tvlm_type_block(tvlm_type type)
{
    const type_info *info = find((uint32_t)type);
    return info ? info->block : 0;
}

uint32_t tvlm_type_block_bytes(tvlm_type type)
{
    const type_info *info = find((uint32_t)type);
    return info ? info->bytes : 0;
}

bool tvlm_type_row_bytes(tvlm_type type, size_t k, size_t *out)
{
    const type_info *info = find((uint32_t)type);
    return info && k % info->block == 0 && tvlm_mul_size(k / info->block, info->bytes, out);
}

static float bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float tvlm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) /* infinity, NaN */
        return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x0400u) { /* zero, subnormal: magnitude * 2^-24 is exact */
        float f = (float)magnitude * 0x1p-24f;
        return bits_to_float(sign | float_to_bits(f));
    }
    return bits_to_float(sign | ((magnitude << 13) + 0x38000000u));
}

uint16_t tvlm_f32_to_f16(float f)
{
    uint32_t bits = float_to_bits(f), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520 and up round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude <
        0x38800000u) { /* below 2^-14: adding 1/2 leaves the rounded value in the low bits */
        float rounded = bits_to_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (float_to_bits(rounded) - 0x3f000000u));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

float tvlm_bf16_to_f32(uint16_t h)
{
    return bits_to_float((uint32_t)h << 16);
}

uint16_t tvlm_f32_to_bf16(float f)
{
    uint32_t bits = float_to_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* quiet NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static uint16_t get_u16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

static void put_u32(unsigned char *p, uint32_t v)
{
    put_u16(p, (uint16_t)v);
    put_u16(p + 2, (uint16_t)(v >> 16));
}

/* One block of 32: d, optional m, optional high bits, codes (see quant.h). */
static void dequantize_block(tvlm_type type, const unsigned char *p, float *y)
{
    float d = tvlm_f16_to_f32(get_u16(p)), m = -0.0f; /* x + -0 is x, the sign of a zero too */
    p += 2;
    if (type == TVLM_TYPE_Q8_0) {
        for (size_t i = 0; i < 32; i++)
            y[i] = d * (float)(int8_t)p[i];
        return;
    }
    if (type == TVLM_TYPE_Q4_1 || type == TVLM_TYPE_Q5_1) {
        m = tvlm_f16_to_f32(get_u16(p));
        p += 2;
    }
    bool five = type == TVLM_TYPE_Q5_0 || type == TVLM_TYPE_Q5_1;
    uint32_t high = 0;
    if (five) {
        high = get_u32(p);
        p += 4;
    }
    int offset = type == TVLM_TYPE_Q4_0 ? 8 : type == TVLM_TYPE_Q5_0 ? 16 : 0;
    for (size_t i = 0; i < 32; i++) {
        int q = i < 16 ? p[i] & 15 : p[i - 16] >> 4;
        q |= (int)(high >> i & 1) << 4;
        y[i] = d * (float)(q - offset) + m;
    }
}

void tvlm_dequantize(tvlm_type type, const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    if (tvlm_type_block(type) == 32) {
        size_t bytes = tvlm_type_block_bytes(type);
        for (size_t i = 0; i < n; i += 32, p += bytes)
            dequantize_block(type, p, dst + i);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        switch (type) {
        case TVLM_TYPE_F32:
            dst[i] = bits_to_float(get_u32(p + 4 * i));
            break;
        case TVLM_TYPE_F16:
            dst[i] = tvlm_f16_to_f32(get_u16(p + 2 * i));
            break;
        case TVLM_TYPE_BF16:
            dst[i] = tvlm_bf16_to_f32(get_u16(p + 2 * i));
            break;
        case TVLM_TYPE_I8:
            dst[i] = (float)(int8_t)p[i];
            break;
        default: /* I32 */
            dst[i] = (float)(int32_t)get_u32(p + 4 * i);
            break;
        }
    }
}

static int round_clamp(float v, int lo, int hi) /* lo for NaN */
{
    float r = rintf(v);
    return !(r > (float)lo) ? lo : r > (float)hi ? hi : (int)r;
}

/* A block's d as a half: the largest finite one instead of infinity, so that what is beyond its
 * range saturates and no block becomes NaN. */
static uint16_t finite_half(float d)
{
    uint16_t half = tvlm_f32_to_f16(d);
    return (half & 0x7fffu) == 0x7c00u ? (uint16_t)(half - 1) : half;
}

/* d is the largest magnitude over 127, as stored (half): codes fit whatever its rounding. */
static void quantize_q8_0(const float *x, unsigned char *p)
{
    float most = 0;
    for (size_t i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    uint16_t half = finite_half(most / 127.0f);
    float d = tvlm_f16_to_f32(half), inverse = d > 0 ? 1.0f / d : 0.0f;
    put_u16(p, half);
    for (size_t i = 0; i < 32; i++)
        p[2 + i] = (unsigned char)(int8_t)round_clamp(x[i] * inverse, -127, 127);
}

/* The value of largest magnitude becomes code 0 (= -8), so that its sign decides d's. */
static void quantize_q4_0(const float *x, unsigned char *p)
{
    float most = 0;
    for (size_t i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    uint16_t half = finite_half(most != 0 ? most / -8.0f : 0.0f);
    float d = tvlm_f16_to_f32(half), inverse = d != 0 ? 1.0f / d : 0.0f;
    put_u16(p, half);
    for (size_t i = 0; i < 16; i++) {
        int low = round_clamp(x[i] * inverse + 8.0f, 0, 15);
        int high = round_clamp(x[i + 16] * inverse + 8.0f, 0, 15);
        p[2 + i] = (unsigned char)(low | high << 4);
    }
}

bool tvlm_quantize(tvlm_type type, const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    switch (type) {
    case TVLM_TYPE_F32:
        for (size_t i = 0; i < n; i++)
            put_u32(p + 4 * i, float_to_bits(src[i]));
        return true;
    case TVLM_TYPE_F16:
        for (size_t i = 0; i < n; i++)
            put_u16(p + 2 * i, tvlm_f32_to_f16(src[i]));
        return true;
    case TVLM_TYPE_BF16:
        for (size_t i = 0; i < n; i++)
            put_u16(p + 2 * i, tvlm_f32_to_bf16(src[i]));
        return true;
    case TVLM_TYPE_Q8_0:
        for (size_t i = 0; i < n; i += 32, p += 34)
            quantize_q8_0(src + i, p);
        return true;
    case TVLM_TYPE_Q4_0:
        for (size_t i = 0; i < n; i += 32, p += 18)
            quantize_q4_0(src + i, p);
        return true;
    default:
        return false;
    }
}
