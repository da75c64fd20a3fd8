/* SPDX-License-Identifier: MIT
 * Block formats: quantise, dequantise, half precision. Portable, byte order independent. */
#include "quant/kquant.h"

#include <math.h>
#include <string.h>

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

/* ---- types of single values: any number of them ---- */

static void read_f32(const unsigned char *p, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bits_to_float(get_u32(p + 4 * i));
}

static void write_f32(const float *x, unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_u32(p + 4 * i, float_to_bits(x[i]));
}

static void read_f16(const unsigned char *p, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_f16_to_f32(get_u16(p + 2 * i));
}

static void write_f16(const float *x, unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_u16(p + 2 * i, tvlm_f32_to_f16(x[i]));
}

static void read_bf16(const unsigned char *p, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tvlm_bf16_to_f32(get_u16(p + 2 * i));
}

static void write_bf16(const float *x, unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_u16(p + 2 * i, tvlm_f32_to_bf16(x[i]));
}

static void read_i8(const unsigned char *p, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(int8_t)p[i];
}

static void read_i32(const unsigned char *p, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(int32_t)get_u32(p + 4 * i);
}

/* ---- blocks of 32 ---- */

/* 16 bytes of low bits, and the fifth bits. d * q + m with m = -0: x + -0 is x, the sign of a zero
 * too. */
static void read_codes(const unsigned char *p, uint32_t fifth, int offset, float d, float m,
                       float *y)
{
    for (size_t i = 0; i < 32; i++) {
        int q = i < 16 ? p[i] & 15 : p[i - 16] >> 4;
        q |= (int)(fifth >> i & 1) << 4;
        y[i] = d * (float)(q - offset) + m;
    }
}

static float get_half(const unsigned char *p)
{
    return tvlm_f16_to_f32(get_u16(p));
}

static void read_q4_0(const unsigned char *p, float *y, size_t n)
{
    (void)n;
    read_codes(p + 2, 0, 8, get_half(p), -0.0f, y);
}

static void read_q4_1(const unsigned char *p, float *y, size_t n)
{
    (void)n;
    read_codes(p + 4, 0, 0, get_half(p), get_half(p + 2), y);
}

static void read_q5_0(const unsigned char *p, float *y, size_t n)
{
    (void)n;
    read_codes(p + 6, get_u32(p + 2), 16, get_half(p), -0.0f, y);
}

static void read_q5_1(const unsigned char *p, float *y, size_t n)
{
    (void)n;
    read_codes(p + 8, get_u32(p + 4), 0, get_half(p), get_half(p + 2), y);
}

static void read_q8_0(const unsigned char *p, float *y, size_t n)
{
    float d = get_half(p);
    for (size_t i = 0; i < n; i++)
        y[i] = d * (float)(int8_t)p[2 + i];
}

static int round_clamp(float v, int lo, int hi) /* lo for NaN */
{
    float r = rintf(v);
    return !(r > (float)lo) ? lo : r > (float)hi ? hi : (int)r;
}

/* A half, written; the largest finite one instead of infinity, so that what is beyond its range
 * saturates and no block becomes NaN. Returns its value. */
static float put_half(unsigned char *p, float v)
{
    uint16_t half = tvlm_f32_to_f16(v);
    if ((half & 0x7fffu) == 0x7c00u) half = (uint16_t)(half - 1);
    put_u16(p, half);
    return tvlm_f16_to_f32(half);
}

static float inverse_of(float d)
{
    return d != 0 ? 1.0f / d : 0.0f;
}

/* Codes (x - m) / d + offset of four bits, or of five where fifth is not NULL. */
static void write_codes(const float *x, float d, float m, int offset, unsigned char *p,
                        unsigned char *fifth)
{
    const float inverse = inverse_of(d);
    const int top = fifth ? 31 : 15;
    uint32_t high = 0;
    for (size_t i = 0; i < 32; i++) {
        int q = round_clamp((x[i] - m) * inverse + (float)offset, 0, top);
        p[i % 16] = (unsigned char)(i < 16 ? q & 15 : p[i % 16] | (q & 15) << 4);
        high |= (uint32_t)q >> 4 << i;
    }
    if (fifth) put_u32(fifth, high);
}

/* The value of largest magnitude, with its sign. */
static float largest(const float *x)
{
    float most = 0;
    for (size_t i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    return most;
}

/* The value of largest magnitude becomes code 0 (= -8, -16), so that its sign decides d's. */
static void write_q4_0(const float *x, unsigned char *p, size_t n)
{
    (void)n;
    float most = largest(x);
    write_codes(x, put_half(p, most != 0 ? most / -8.0f : 0.0f), 0, 8, p + 2, NULL);
}

static void write_q5_0(const float *x, unsigned char *p, size_t n)
{
    (void)n;
    float most = largest(x);
    write_codes(x, put_half(p, most != 0 ? most / -16.0f : 0.0f), 0, 16, p + 6, p + 2);
}

/* The smallest value becomes code 0, the largest the last. */
static void put_range(const float *x, float steps, unsigned char *p, float *d, float *m)
{
    float low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    *m = put_half(p + 2, low);
    *d = put_half(p, high > *m ? (high - *m) / steps : 0.0f);
}

static void write_q4_1(const float *x, unsigned char *p, size_t n)
{
    float d, m;
    (void)n;
    put_range(x, 15, p, &d, &m);
    write_codes(x, d, m, 0, p + 4, NULL);
}

static void write_q5_1(const float *x, unsigned char *p, size_t n)
{
    float d, m;
    (void)n;
    put_range(x, 31, p, &d, &m);
    write_codes(x, d, m, 0, p + 8, p + 4);
}

/* d is the largest magnitude over 127, as stored (half): codes fit whatever its rounding. */
static void write_q8_0(const float *x, unsigned char *p, size_t n)
{
    float inverse = inverse_of(put_half(p, fabsf(largest(x)) / 127.0f));
    for (size_t i = 0; i < n; i++)
        p[2 + i] = (unsigned char)(int8_t)round_clamp(x[i] * inverse, -127, 127);
}

/* ---- super-blocks ---- */

#define K_QUANT(id, TYPE)                                                                          \
    static void read_##id(const unsigned char *p, float *y, size_t n)                              \
    {                                                                                              \
        (void)n;                                                                                   \
        tvlm_k_dequantize(TVLM_TYPE_##TYPE, p, y);                                                 \
    }                                                                                              \
    static void write_##id(const float *x, unsigned char *p, size_t n)                             \
    {                                                                                              \
        (void)n;                                                                                   \
        tvlm_k_quantize(TVLM_TYPE_##TYPE, x, p);                                                   \
    }
K_QUANT(q4_k, Q4_K)
K_QUANT(q5_k, Q5_K)
K_QUANT(q6_k, Q6_K)

/* ---- the table ---- */

typedef struct type_info {
    uint32_t type;
    const char *name;
    uint16_t block, bytes;
    /* One block, or n values where a block is one; NULL: not read, not written. */
    void (*read)(const unsigned char *p, float *y, size_t n);
    void (*write)(const float *x, unsigned char *p, size_t n);
} type_info;

/* Every type of GGML, so that the size of a tensor that is not run here is still known. */
static const type_info types[] = {
    {0,  "F32",     1,   4,   read_f32,  write_f32 },
    {1,  "F16",     1,   2,   read_f16,  write_f16 },
    {2,  "Q4_0",    32,  18,  read_q4_0, write_q4_0},
    {3,  "Q4_1",    32,  20,  read_q4_1, write_q4_1},
    {6,  "Q5_0",    32,  22,  read_q5_0, write_q5_0},
    {7,  "Q5_1",    32,  24,  read_q5_1, write_q5_1},
    {8,  "Q8_0",    32,  34,  read_q8_0, write_q8_0},
    {9,  "Q8_1",    32,  36,  NULL,      NULL      },
    {10, "Q2_K",    256, 84,  NULL,      NULL      },
    {11, "Q3_K",    256, 110, NULL,      NULL      },
    {12, "Q4_K",    256, 144, read_q4_k, write_q4_k},
    {13, "Q5_K",    256, 176, read_q5_k, write_q5_k},
    {14, "Q6_K",    256, 210, read_q6_k, write_q6_k},
    {15, "Q8_K",    256, 292, NULL,      NULL      },
    {16, "IQ2_XXS", 256, 66,  NULL,      NULL      },
    {17, "IQ2_XS",  256, 74,  NULL,      NULL      },
    {18, "IQ3_XXS", 256, 98,  NULL,      NULL      },
    {19, "IQ1_S",   256, 50,  NULL,      NULL      },
    {20, "IQ4_NL",  32,  18,  NULL,      NULL      },
    {21, "IQ3_S",   256, 110, NULL,      NULL      },
    {22, "IQ2_S",   256, 82,  NULL,      NULL      },
    {23, "IQ4_XS",  256, 136, NULL,      NULL      },
    {24, "I8",      1,   1,   read_i8,   NULL      },
    {25, "I16",     1,   2,   NULL,      NULL      },
    {26, "I32",     1,   4,   read_i32,  NULL      },
    {27, "I64",     1,   8,   NULL,      NULL      },
    {28, "F64",     1,   8,   NULL,      NULL      },
    {29, "IQ1_M",   256, 56,  NULL,      NULL      },
    {30, "BF16",    1,   2,   read_bf16, write_bf16},
    {34, "TQ1_0",   256, 54,  NULL,      NULL      },
    {35, "TQ2_0",   256, 66,  NULL,      NULL      },
    {39, "MXFP4",   32,  17,  NULL,      NULL      },
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

static bool same_name(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b))
        a++, b++;
    return !*a && !*b;
}

bool tvlm_type_from_name(const char *name, tvlm_type *out)
{
    for (size_t i = 0; i < TVLM_COUNT(types); i++)
        if (types[i].write && same_name(types[i].name, name)) {
            *out = (tvlm_type)types[i].type;
            return true;
        }
    return false;
}

bool tvlm_type_runs(uint32_t type)
{
    const type_info *info = find(type);
    return info && info->read;
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

/* Weights that one call of read or write takes. */
static size_t at_once(const type_info *info, size_t n)
{
    return info->block > 1 ? info->block : n;
}

void tvlm_dequantize(tvlm_type type, const void *src, float *dst, size_t n)
{
    const type_info *info = find((uint32_t)type);
    const unsigned char *p = src;
    const size_t step = at_once(info, n);
    for (size_t i = 0; i < n; i += step)
        info->read(p + i / info->block * info->bytes, dst + i, step);
}

bool tvlm_quantize(tvlm_type type, const float *src, void *dst, size_t n)
{
    const type_info *info = find((uint32_t)type);
    if (!info || !info->write) return false;
    unsigned char *p = dst;
    const size_t step = at_once(info, n);
    for (size_t i = 0; i < n; i += step)
        info->write(src + i, p + i / info->block * info->bytes, step);
    return true;
}
