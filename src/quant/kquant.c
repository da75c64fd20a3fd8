/* SPDX-License-Identifier: MIT
 * K-quants: the packing of their super-blocks, and the search for scales. */
#include "quant/kquant.h"

#include <math.h>
#include <string.h>

enum { PART = 32, PARTS = 8, SMALL_PART = 16, SMALL_PARTS = 16, CENTRE = 32, SCALE_TOP = 63 };

/* What one super-block can hold; beyond it weights saturate. */
#define LARGEST_HALF 65504.0f

static uint16_t get_u16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void put_u16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

/* ---- bits ---- */

static void read_scales(const unsigned char *p, tvlm_k_block *b)
{
    for (size_t i = 0; i < 4; i++) {
        b->scale[i] = p[i] & 63;
        b->m[i] = p[i + 4] & 63;
        b->scale[i + 4] = (uint8_t)((p[i + 8] & 15) | p[i] >> 6 << 4);
        b->m[i + 4] = (uint8_t)(p[i + 8] >> 4 | p[i + 4] >> 6 << 4);
    }
}

static void write_scales(const tvlm_k_block *b, unsigned char *p)
{
    for (size_t i = 0; i < 4; i++) {
        p[i] = (unsigned char)(b->scale[i] | b->scale[i + 4] >> 4 << 6);
        p[i + 4] = (unsigned char)(b->m[i] | b->m[i + 4] >> 4 << 6);
        p[i + 8] = (unsigned char)((b->scale[i + 4] & 15) | (b->m[i + 4] & 15) << 4);
    }
}

/* n bytes: the low halves are n codes, the high ones the n after them. */
static void read_nibbles(const unsigned char *p, size_t n, uint8_t *code)
{
    for (size_t i = 0; i < n; i++) {
        code[i] = p[i] & 15;
        code[i + n] = p[i] >> 4;
    }
}

static void write_nibbles(const uint8_t *code, size_t n, unsigned char *p)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)((code[i] & 15) | (code[i + n] & 15) << 4);
}

static void read_affine(tvlm_type type, const unsigned char *p, tvlm_k_block *b)
{
    b->d = get_u16(p);
    b->min = get_u16(p + 2);
    read_scales(p + 4, b);
    const unsigned char *fifth = p + 16, *low = type == TVLM_TYPE_Q5_K ? p + 48 : p + 16;
    for (size_t g = 0; g < 4; g++)
        read_nibbles(low + 32 * g, 32, b->code + 64 * g);
    if (type == TVLM_TYPE_Q4_K) return;
    for (size_t part = 0; part < PARTS; part++)
        for (size_t i = 0; i < PART; i++)
            b->code[PART * part + i] |= (uint8_t)((fifth[i] >> part & 1) << 4);
}

static void write_affine(tvlm_type type, const tvlm_k_block *b, unsigned char *p)
{
    put_u16(p, b->d);
    put_u16(p + 2, b->min);
    write_scales(b, p + 4);
    unsigned char *fifth = p + 16, *low = type == TVLM_TYPE_Q5_K ? p + 48 : p + 16;
    for (size_t g = 0; g < 4; g++)
        write_nibbles(b->code + 64 * g, 32, low + 32 * g);
    if (type == TVLM_TYPE_Q4_K) return;
    memset(fifth, 0, PART);
    for (size_t part = 0; part < PARTS; part++)
        for (size_t i = 0; i < PART; i++)
            fifth[i] |= (unsigned char)(b->code[PART * part + i] >> 4 << part);
}

static void read_centred(const unsigned char *p, tvlm_k_block *b)
{
    memcpy(b->scale, p + 192, SMALL_PARTS);
    b->d = get_u16(p + 208);
    for (size_t h = 0; h < 2; h++) {
        uint8_t *code = b->code + 128 * h;
        read_nibbles(p + 64 * h, 64, code);
        for (size_t j = 0; j < 4; j++)
            for (size_t i = 0; i < 32; i++)
                code[32 * j + i] |= (uint8_t)((p[128 + 32 * h + i] >> (2 * j) & 3) << 4);
    }
}

static void write_centred(const tvlm_k_block *b, unsigned char *p)
{
    memcpy(p + 192, b->scale, SMALL_PARTS);
    put_u16(p + 208, b->d);
    memset(p + 128, 0, 64);
    for (size_t h = 0; h < 2; h++) {
        const uint8_t *code = b->code + 128 * h;
        write_nibbles(code, 64, p + 64 * h);
        for (size_t j = 0; j < 4; j++)
            for (size_t i = 0; i < 32; i++)
                p[128 + 32 * h + i] |= (unsigned char)(code[32 * j + i] >> 4 << (2 * j));
    }
}

void tvlm_k_read(tvlm_type type, const unsigned char *p, tvlm_k_block *out)
{
    if (type == TVLM_TYPE_Q6_K)
        read_centred(p, out);
    else
        read_affine(type, p, out);
}

void tvlm_k_dequantize(tvlm_type type, const unsigned char *p, float y[TVLM_K_BLOCK])
{
    tvlm_k_block b;
    tvlm_k_read(type, p, &b);
    float d = tvlm_f16_to_f32(b.d), min = type == TVLM_TYPE_Q6_K ? 0 : tvlm_f16_to_f32(b.min);
    for (size_t i = 0; i < TVLM_K_BLOCK; i++) {
        if (type == TVLM_TYPE_Q6_K)
            y[i] = d * (float)(int8_t)b.scale[i / SMALL_PART] * (float)(b.code[i] - CENTRE);
        else
            y[i] = d * (float)b.scale[i / PART] * (float)b.code[i] - min * (float)b.m[i / PART];
    }
}

/* ---- the search ---- */

/* To the nearest integer, ties to even, within 0..top; 0 for NaN. Adding 1.5 * 2^23 rounds. */
static float round_code(float v, float top)
{
    v = v > 0 ? v < top ? v : top : 0;
    return v + 0x1.8p23f - 0x1.8p23f;
}

/* The half next to |v|, never infinity. */
static uint16_t finite_half(float v)
{
    return tvlm_f32_to_f16(fminf(fmaxf(v, -LARGEST_HALF), LARGEST_HALF));
}

/* Sums over n (a multiple of 8) weights and their codes, in eight chains that do not wait for each
 * other. */
typedef struct fit_sums {
    double q, qq, xq;
} fit_sums;

static fit_sums sums_of(const float *x, const float *q, size_t n)
{
    float lane_q[8] = {0}, lane_qq[8] = {0}, lane_xq[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (size_t l = 0; l < 8; l++) {
            lane_q[l] += q[i + l];
            lane_qq[l] += q[i + l] * q[i + l];
            lane_xq[l] += x[i + l] * q[i + l];
        }
    fit_sums s = {0, 0, 0};
    for (size_t l = 0; l < 8; l++) {
        s.q += (double)lane_q[l];
        s.qq += (double)lane_qq[l];
        s.xq += (double)lane_xq[l];
    }
    return s;
}

/* x[32] ~ scale * q - m, q in 0..top, scale and m at least 0. Codes by the whole range and by
 * ranges up to a code wider or narrower; for each the best scale and m; the best of all. */
static void fit_affine(const float *x, float top, float *scale, float *m)
{
    float low = 0, high = 0, q[PART];
    double sum = 0, gain = -1; /* sum of x^2 less the square error */
    for (size_t i = 0; i < PART; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        sum += (double)x[i];
    }
    *scale = *m = 0;
    for (int step = -8; step <= 8 && high > low; step++) {
        float inverse = (top + (float)step / 8) / (high - low);
        for (size_t i = 0; i < PART; i++)
            q[i] = round_code((x[i] - low) * inverse, top);
        fit_sums s = sums_of(x, q, PART);
        double det = PART * s.qq - s.q * s.q, a = 0, b = 0;
        if (det > 0) {
            a = (PART * s.xq - sum * s.q) / det;
            b = (s.qq * sum - s.q * s.xq) / det;
        }
        if (!(det > 0) || b > 0) { /* a minimum above 0 cannot be stored */
            a = s.qq > 0 ? s.xq / s.qq : 0;
            b = 0;
        }
        double gained = a * s.xq + b * sum;
        if (a > 0 && gained > gain) {
            gain = gained;
            *scale = (float)a;
            *m = (float)-b;
        }
    }
    if (gain < 0) *m = -low; /* one value, or none above 0 */
}

/* x[16] ~ scale * (q - 32); the largest magnitude's sign is the one with a code more. */
static float fit_centred(const float *x)
{
    float most = 0, best = 0, q[SMALL_PART];
    double gain = 0;
    for (size_t i = 0; i < SMALL_PART; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    for (int step = -8; step <= 8 && most != 0; step++) {
        float inverse = -(CENTRE + (float)step / 8) / most;
        for (size_t i = 0; i < SMALL_PART; i++)
            q[i] = round_code(x[i] * inverse + CENTRE, 63) - CENTRE;
        fit_sums s = sums_of(x, q, SMALL_PART);
        if (s.qq > 0 && s.xq * s.xq / s.qq > gain) {
            gain = s.xq * s.xq / s.qq;
            best = (float)(s.xq / s.qq);
        }
    }
    return best;
}

static float inverse_of(float v)
{
    return v != 0 ? 1.0f / v : 0.0f;
}

static void quantize_affine(tvlm_type type, const float *x, unsigned char *p)
{
    const float top = type == TVLM_TYPE_Q4_K ? 15 : 31;
    float scale[PARTS], m[PARTS], most_scale = 0, most_m = 0;
    tvlm_k_block b;
    for (size_t i = 0; i < PARTS; i++) {
        fit_affine(x + PART * i, top, &scale[i], &m[i]);
        most_scale = fmaxf(most_scale, scale[i]);
        most_m = fmaxf(most_m, m[i]);
    }
    b.d = finite_half(most_scale / SCALE_TOP);
    b.min = finite_half(most_m / SCALE_TOP);
    const float d = tvlm_f16_to_f32(b.d), min = tvlm_f16_to_f32(b.min);
    for (size_t i = 0; i < TVLM_K_BLOCK; i++) {
        size_t part = i / PART;
        if (i % PART == 0) {
            b.scale[part] = (uint8_t)round_code(scale[part] * inverse_of(d), SCALE_TOP);
            b.m[part] = (uint8_t)round_code(m[part] * inverse_of(min), SCALE_TOP);
        }
        float inverse = inverse_of(d * (float)b.scale[part]);
        b.code[i] = (uint8_t)round_code((x[i] + min * (float)b.m[part]) * inverse, top);
    }
    write_affine(type, &b, p);
}

static void quantize_centred(const float *x, unsigned char *p)
{
    float scale[SMALL_PARTS], most = 0;
    tvlm_k_block b;
    for (size_t i = 0; i < SMALL_PARTS; i++) {
        scale[i] = fit_centred(x + SMALL_PART * i);
        if (fabsf(scale[i]) > fabsf(most)) most = scale[i];
    }
    b.d = finite_half(most / -128.0f);
    const float d = tvlm_f16_to_f32(b.d);
    for (size_t i = 0; i < TVLM_K_BLOCK; i++) {
        size_t part = i / SMALL_PART;
        if (i % SMALL_PART == 0)
            b.scale[part] =
                (uint8_t)((int)round_code(scale[part] * inverse_of(d) + 128.0f, 255) - 128);
        float inverse = inverse_of(d * (float)(int8_t)b.scale[part]);
        b.code[i] = (uint8_t)round_code(x[i] * inverse + CENTRE, 63);
    }
    write_centred(&b, p);
}

/* Numbers that a super-block can hold: no NaN, no infinity, and sums that stay finite. */
static void clean(tvlm_type type, const float *x, float *out)
{
    const float limit = LARGEST_HALF * (type == TVLM_TYPE_Q6_K ? 127 * 31 : SCALE_TOP);
    for (size_t i = 0; i < TVLM_K_BLOCK; i++)
        out[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i] == x[i] ? x[i] : 0;
}

void tvlm_k_quantize(tvlm_type type, const float x[TVLM_K_BLOCK], unsigned char *p)
{
    float cleaned[TVLM_K_BLOCK];
    clean(type, x, cleaned);
    if (type == TVLM_TYPE_Q6_K)
        quantize_centred(cleaned, p);
    else
        quantize_affine(type, cleaned, p);
}
