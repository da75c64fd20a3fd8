/* SPDX-License-Identifier: MIT
 * The int8 kernels: every tier, the scalar one too, against plain integer sums and the
 * requantisation as kernels.h states it. Exact. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>

static uint8_t requantize(int64_t acc, float mult, float beta, float rest, float lo, float hi)
{
    float v = (float)(int32_t)acc * mult;
    v = v + beta;
    v = v + rest;
    v = rintf(v);
    return (uint8_t)(v < lo ? lo : v > hi ? hi : v);
}

typedef struct qgemm_shape {
    size_t m, n, k;
} qgemm_shape;

static float *scales(tk *t, size_t n, float lo, float hi)
{
    float *p = tk_buffer(t, n * sizeof *p, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = tk_uniform(t, lo, hi);
    return p;
}

/* Per-channel scales that spread sums of this depth over the byte range; as a special, many sums
 * lie half way between two bytes. */
static float *mults(tk *t, size_t n, size_t depth)
{
    if (t->fill == TK_SPECIAL) return scales(t, n, 0x1p-6f, 0x1p-6f);
    return scales(t, n, 0.001f / (float)depth, 0.05f / (float)depth);
}

static float *betas(tk *t, size_t n)
{
    return t->fill == TK_SPECIAL ? scales(t, n, 60.5f, 60.5f) : scales(t, n, -10, 140);
}

static void check_qgemm(tk *t, const void *arg)
{
    const qgemm_shape *s = arg;
    size_t size, ldx = s->k + s->n % 2, ldy = s->n + s->k % 2;
    if (!tvlm_qgemm_packed_size(s->n, s->k, &size)) exit(2);
    tvlm_qgemm_args a = {.ldx = ldx, .ldy = ldy, .ldr = s->n, .n = s->n, .k = s->k};
    a.zx = (int32_t)(s->k % 128);
    a.zr = (int32_t)(s->n % 128);
    a.rmult = tk_uniform(t, -2, 2);
    a.lo = s->m % 2 ? 0 : 5;
    a.hi = s->m % 2 ? 127 : 100;
    const int8_t *w = (const int8_t *)tk_bytes(t, s->n * s->k, -128, 127);
    int8_t *packed = tk_buffer(t, size, 1);
    int32_t *wsum = tk_buffer(t, s->n * sizeof *wsum, sizeof *wsum);
    for (size_t n0 = 0; n0 < s->n; n0 += TVLM_GEMM_NR)
        tvlm_qgemm_pack(packed, w + n0 * s->k, n0,
                        s->n - n0 < TVLM_GEMM_NR ? s->n - n0 : TVLM_GEMM_NR, s->k);
    for (size_t n = 0; n < s->n; n++) {
        wsum[n] = 0;
        for (size_t k = 0; k < s->k; k++)
            wsum[n] += w[n * s->k + k];
    }
    a.w = packed;
    a.wsum = wsum;
    a.mult = mults(t, s->n, s->k);
    a.beta = betas(t, s->n);
    a.x = tk_bytes(t, (s->m - 1) * ldx + s->k, 0, 127);
    a.residual = (s->m + s->k) % 2 ? tk_bytes(t, s->m * s->n, 0, 127) : NULL;
    uint8_t *got = tk_buffer(t, (s->m - 1) * ldy + s->n, 1);
    uint8_t *want = tk_buffer(t, (s->m - 1) * ldy + s->n, 1);
    for (size_t m = 0; m < s->m; m++)
        for (size_t n = 0; n < s->n; n++) {
            int64_t acc = 0;
            for (size_t k = 0; k < s->k; k++)
                acc += (a.x[m * ldx + k] - a.zx) * w[n * s->k + k];
            float rest = 0;
            if (a.residual) rest = (float)(a.residual[m * s->n + n] - a.zr) * a.rmult;
            want[m * ldy + n] = requantize(acc, a.mult[n], a.beta[n], rest, a.lo, a.hi);
        }
    a.y = got;
    size_t n0 = s->n > TVLM_GEMM_NR ? TVLM_GEMM_NR : 0;
    t->tier.qgemm(&a, s->m / 3, s->m, 0, s->n);
    t->tier.qgemm(&a, 0, s->m / 3, 0, n0);
    t->tier.qgemm(&a, 0, s->m / 3, n0, s->n);
    for (size_t m = 0; m < s->m; m++)
        tk_same_bytes(t, got + m * ldy, want + m * ldy, s->n);
}

typedef struct qconv_shape {
    size_t h, w, c;
    unsigned k, stride, pad;
} qconv_shape;

static tvlm_qdwconv_args qconv_args(const qconv_shape *s)
{
    tvlm_qdwconv_args a = {.h = s->h, .w = s->w, .c = s->c, .k = s->k, .stride = s->stride};
    a.pad_top = a.pad_left = s->pad;
    a.oh = (s->h + s->k / 2 + s->pad - s->k) / s->stride + 1;
    a.ow = (s->w + s->k / 2 + s->pad - s->k) / s->stride + 1;
    a.hi = 127;
    return a;
}

static void check_qdwconv(tk *t, const void *arg)
{
    const qconv_shape *s = arg;
    tvlm_qdwconv_args a = qconv_args(s);
    size_t taps = (size_t)s->k * s->k, size = a.oh * a.ow * s->c;
    a.zx = (int32_t)((s->c * 7 + s->w) % 128);
    a.lo = 3;
    a.x = tk_bytes(t, s->h * s->w * s->c, 0, 127);
    a.weight = (const int8_t *)tk_bytes(t, taps * s->c, -128, 127);
    int32_t *wsum = tk_buffer(t, s->c * sizeof *wsum, sizeof *wsum);
    for (size_t c = 0; c < s->c; c++) {
        wsum[c] = 0;
        for (size_t i = 0; i < taps; i++)
            wsum[c] += a.weight[i * s->c + c];
    }
    a.wsum = wsum;
    a.mult = mults(t, s->c, taps);
    a.beta = betas(t, s->c);
    uint8_t *got = tk_buffer(t, size, 1), *want = tk_buffer(t, size, 1);
    for (size_t at = 0; at < size; at++) {
        size_t c = at % s->c, ox = at / s->c % a.ow, oy = at / s->c / a.ow;
        int64_t acc = 0;
        for (int i = 0; i < (int)s->k; i++)
            for (int j = 0; j < (int)s->k; j++) {
                int y = (int)(oy * s->stride) + i - (int)s->pad;
                int x = (int)(ox * s->stride) + j - (int)s->pad;
                if (y >= 0 && x >= 0 && y < (int)s->h && x < (int)s->w)
                    acc += (a.x[((size_t)y * s->w + (size_t)x) * s->c + c] - a.zx) *
                           a.weight[(size_t)(i * (int)s->k + j) * s->c + c];
            }
        want[at] = requantize(acc, a.mult[c], a.beta[c], 0, a.lo, a.hi);
    }
    a.y = got;
    t->tier.qdwconv(&a, a.oh / 2, a.oh);
    t->tier.qdwconv(&a, 0, a.oh / 2);
    tk_same_bytes(t, got, want, size);
}

void test_int8(tk *t)
{
    static const size_t depths[] = {1, 2, 3, 4, 5, 24, 31, 32, 96, 144};
    static const size_t sizes[][2] = {
        {1, 1 },
        {2, 3 },
        {5, 7 },
        {3, 14},
        {9, 20}
    };
    static const qgemm_shape real[] = {
        {49, 96,  16  },
        {25, 24,  144 },
        {16, 320, 1152}
    };
    static const qconv_shape real_conv[] = {
        {28, 28, 96,   3,  2, 0},
        {14, 14, 240,  5,  1, 2},
        {7,  7,  1152, 5,  1, 2},
        {3,  90, 40,   3,  1, 1}, /* wider than a run of any tier; other kernels than 3x3 and 5x5 */
        {4,  90, 33,   5,  2, 1},
        {9,  50, 34,   7,  1, 3},
        {9,  21, 33,   9,  2, 4},
        {4,  60, 32,   15, 1, 7},
        {3,  4,  40,   15, 2, 7}
    };
    char text[96];
    for (size_t n = 1; n <= 2 * TVLM_GEMM_NR + 1; n++)
        for (size_t m = 1; m <= 17; m += m < 9 ? 1 : 8) { /* of 17 a tile of eight, and more */
            qgemm_shape s = {m, n, depths[(n + m) % TVLM_COUNT(depths)]};
            snprintf(text, sizeof text, "m%zu n%zu k%zu", m, n, s.k);
            tk_run(t, "qgemm", text, check_qgemm, &s, false);
        }
    for (size_t i = 0; i < TVLM_COUNT(real); i++) {
        snprintf(text, sizeof text, "m%zu n%zu k%zu", real[i].m, real[i].n, real[i].k);
        tk_run(t, "qgemm", text, check_qgemm, &real[i], false);
    }
    for (unsigned k = 1; k <= 5; k++)
        for (unsigned stride = 1; stride <= 2; stride++)
            for (size_t i = 0; i < TVLM_COUNT(sizes); i++)
                for (size_t c = 1; c <= 33; c += c < 18 ? 1 : 5) {
                    qconv_shape s = {sizes[i][0], sizes[i][1], c, k, stride, k / 2};
                    if (s.h + k / 2 * 2 < k || s.w + k / 2 * 2 < k) continue;
                    snprintf(text, sizeof text, "%zux%zux%zu k%u s%u", s.h, s.w, c, k, stride);
                    tk_run(t, "qdwconv", text, check_qdwconv, &s, (i + c) % 3 != 0);
                }
    for (size_t i = 0; i < TVLM_COUNT(real_conv); i++) {
        const qconv_shape *s = &real_conv[i];
        snprintf(text, sizeof text, "%zux%zux%zu k%u s%u", s->h, s->w, s->c, s->k, s->stride);
        tk_run(t, "qdwconv", text, check_qdwconv, s, false);
    }
}

typedef struct qgemm_bench {
    tvlm_qgemm_args args;
    size_t m;
} qgemm_bench;

static void run_qgemm(const tvlm_kernels *table, void *arg)
{
    const qgemm_bench *b = arg;
    table->qgemm(&b->args, 0, b->m, 0, b->args.n);
}

static void run_qdwconv(const tvlm_kernels *table, void *arg)
{
    const tvlm_qdwconv_args *a = arg;
    table->qdwconv(a, 0, a->oh);
}

void bench_int8(tk *t)
{
    static const qgemm_shape shapes[] = {
        {784, 144, 24  },
        {196, 480, 80  },
        {49,  320, 1152}
    };
    static const qconv_shape convs[] = {
        {112, 112, 96,  3, 2, 1},
        {28,  28,  240, 5, 1, 2},
        {14,  14,  480, 3, 1, 1}
    };
    char text[96];
    for (size_t i = 0; i < TVLM_COUNT(shapes); i++) {
        const qgemm_shape *s = &shapes[i];
        size_t size;
        t->n_slots = 0;
        t->fill = TK_RANDOM;
        t->at_end = false;
        t->kernel = t->shape = "qgemm";
        tvlm_qgemm_packed_size(s->n, s->k, &size);
        qgemm_bench b = {
            {.ldx = s->k, .ldy = s->n, .n = s->n, .k = s->k, .hi = 127},
            s->m
        };
        b.args.w = tk_bytes(t, size, -127, 127);
        int32_t *wsum = tk_buffer(t, s->n * sizeof *wsum, sizeof *wsum);
        for (size_t n = 0; n < s->n; n++)
            wsum[n] = (int32_t)n;
        b.args.wsum = wsum;
        b.args.mult = mults(t, s->n, s->k);
        b.args.beta = betas(t, s->n);
        b.args.x = tk_bytes(t, s->m * s->k, 0, 127);
        b.args.y = tk_bytes(t, s->m * s->n, 0, 127);
        snprintf(text, sizeof text, "m%zu n%zu k%zu", s->m, s->n, s->k);
        tk_bench(t, "qgemm", text, run_qgemm, &b, 2.0 * (double)(s->m * s->n * s->k), (double)size);
    }
    for (size_t i = 0; i < TVLM_COUNT(convs); i++) {
        const qconv_shape *s = &convs[i];
        t->n_slots = 0;
        t->kernel = t->shape = "qdwconv";
        tvlm_qdwconv_args a = qconv_args(s);
        size_t taps = (size_t)s->k * s->k, out = a.oh * a.ow * s->c;
        a.x = tk_bytes(t, s->h * s->w * s->c, 0, 127);
        a.weight = (const int8_t *)tk_bytes(t, taps * s->c, -127, 127);
        int32_t *wsum = tk_buffer(t, s->c * sizeof *wsum, sizeof *wsum);
        for (size_t c = 0; c < s->c; c++)
            wsum[c] = (int32_t)c;
        a.wsum = wsum;
        a.mult = mults(t, s->c, taps);
        a.beta = betas(t, s->c);
        a.y = tk_bytes(t, out, 0, 127);
        snprintf(text, sizeof text, "%zux%zux%zu k%u s%u", s->h, s->w, s->c, s->k, s->stride);
        tk_bench(t, "qdwconv", text, run_qdwconv, &a, 2.0 * (double)(out * taps),
                 (double)(out + s->h * s->w * s->c));
    }
}
