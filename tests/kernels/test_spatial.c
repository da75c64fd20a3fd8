/* SPDX-License-Identifier: MIT
 * Attention and depthwise convolution. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 0x1p-24

typedef struct attention_shape {
    size_t keys, d;
    bool f16;
} attention_shape;

/* An f16 or f32 matrix by the current fill, its rows ld elements apart. */
static void *kv_matrix(tk *t, size_t rows, size_t ld, size_t d, bool f16)
{
    size_t n = (rows - 1) * ld + d;
    if (!f16) return tk_floats(t, n);
    uint16_t *p = tk_buffer(t, n * sizeof *p, sizeof *p);
    for (size_t i = 0; i < n; i++) {
        float v = tk_value(t, i, n);
        if (t->fill != TK_SPECIAL) v = fmaxf(fminf(v, 60000.0f), -60000.0f);
        p[i] = tvlm_f32_to_f16(v);
    }
    return p;
}

static double kv_at(const void *p, bool f16, size_t at)
{
    return (double)(f16 ? tvlm_f16_to_f32(((const uint16_t *)p)[at]) : ((const float *)p)[at]);
}

/* Error: a score is off by (d + 2) eps sum |q k| scale at most, so a weight by that factor twice;
 * the weighted mean adds n eps max |v|. */
static void attention_in_double(tk *t, const tvlm_attention_args *a)
{
    double *p = malloc(a->n_keys * sizeof *p), top = -INFINITY, total = 0, slack = 0;
    for (size_t j = 0; j < a->n_keys; j++) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < a->d; i++) {
            double v = (double)a->q[i] * kv_at(a->k, a->kv_f16, j * a->ldk + i);
            sum += v;
            size += fabs(v);
        }
        p[j] = sum * (double)a->scale;
        top = fmax(top, p[j]);
        slack = fmax(slack, (double)(a->d + 4) * EPS * size * fabs((double)a->scale));
    }
    for (size_t j = 0; j < a->n_keys; j++)
        total += p[j] = exp(p[j] - top);
    for (size_t i = 0; i < a->d && slack < 0.1; i++) {
        double sum = 0, largest = 0;
        for (size_t j = 0; j < a->n_keys; j++) {
            double v = kv_at(a->v, a->kv_f16, j * a->ldv + i);
            sum += p[j] * v / total;
            largest = fmax(largest, fabs(v));
        }
        tk_near(t, i, (double)a->out[i], sum,
                (4 * slack + (2 * (double)a->n_keys + 16) * EPS) * largest + 0x1p-140);
    }
    free(p);
}

static void check_attention(tk *t, const void *arg)
{
    const attention_shape *s = arg;
    tvlm_attention_args a = {.kv_f16 = s->f16, .n_keys = s->keys, .d = s->d};
    a.ldk = s->d + s->keys % 2 * 8;
    a.ldv = s->d + s->keys % 3 * 3;
    a.scale = 1 / sqrtf((float)s->d);
    a.q = tk_floats(t, s->d);
    a.k = kv_matrix(t, s->keys, a.ldk, s->d, s->f16);
    a.v = kv_matrix(t, s->keys, a.ldv, s->d, s->f16);
    a.scores = tk_buffer(t, s->keys * 4, 4);
    float *got = tk_buffer(t, s->d * 4, 4), *want = tk_buffer(t, s->d * 4, 4);
    a.out = got;
    t->tier.attention(&a);
    if (t->is_scalar) {
        attention_in_double(t, &a);
        return;
    }
    a.out = want;
    t->scalar.attention(&a);
    tk_same_f32(t, got, want, s->d);
}

typedef struct conv_shape {
    size_t h, w, c;
    unsigned k, stride, mult;
    bool same; /* TensorFlow's padding: more at the bottom and right */
} conv_shape;

static tvlm_dwconv_args conv_args(const conv_shape *s)
{
    tvlm_dwconv_args a = {.h = s->h, .w = s->w, .c = s->c, .k = s->k, .stride = s->stride};
    a.mult = s->mult;
    a.pad_top = a.pad_left = s->k / 2;
    a.oh = (s->h + 2 * a.pad_top - s->k) / s->stride + 1;
    a.ow = (s->w + 2 * a.pad_left - s->k) / s->stride + 1;
    if (s->same) {
        a.oh = (s->h + s->stride - 1) / s->stride;
        a.ow = (s->w + s->stride - 1) / s->stride;
        size_t rows = (a.oh - 1) * s->stride + s->k, columns = (a.ow - 1) * s->stride + s->k;
        a.pad_top = rows > s->h ? (unsigned)(rows - s->h) / 2 : 0;
        a.pad_left = columns > s->w ? (unsigned)(columns - s->w) / 2 : 0;
    }
    return a;
}

static void conv_in_double(tk *t, const tvlm_dwconv_args *a)
{
    size_t channels = a->c * a->mult;
    for (size_t at = 0; at < a->oh * a->ow * channels; at++) {
        size_t o = at % channels, ox = at / channels % a->ow, oy = at / channels / a->ow;
        double sum = a->bias ? (double)a->bias[o] : 0, size = fabs(sum);
        for (int i = 0; i < (int)a->k; i++)
            for (int j = 0; j < (int)a->k; j++) {
                int y = (int)(oy * a->stride) + i - (int)a->pad_top;
                int x = (int)(ox * a->stride) + j - (int)a->pad_left;
                if (y < 0 || x < 0 || y >= (int)a->h || x >= (int)a->w) continue;
                double p = (double)a->x[((size_t)y * a->w + (size_t)x) * a->c + o / a->mult] *
                           (double)a->weight[(size_t)(i * (int)a->k + j) * channels + o];
                sum += p;
                size += fabs(p);
            }
        double want = a->act == TVLM_ACT_GELU ? sum / 2 * erfc(-sum / sqrt(2.0)) : sum;
        double taps = (double)a->k * (double)a->k;
        tk_near(t, at, (double)a->y[at], want,
                1.13 * (taps + 2) * EPS * size + (a->act ? 4 * EPS * (1 + fabs(sum)) : 0) +
                    taps * 0x1p-149);
    }
}

static void check_dwconv(tk *t, const void *arg)
{
    const conv_shape *s = arg;
    tvlm_dwconv_args a = conv_args(s);
    size_t channels = s->c * s->mult, size = a.oh * a.ow * channels;
    a.act = (s->h + s->c) % 3 ? TVLM_ACT_NONE : TVLM_ACT_GELU;
    a.x = tk_floats(t, s->h * s->w * s->c);
    a.weight = tk_floats(t, s->k * s->k * channels);
    a.bias = (s->w + s->c) % 4 ? tk_floats(t, channels) : NULL;
    float *got = tk_buffer(t, size * 4, 4), *want = tk_buffer(t, size * 4, 4);
    a.y = got;
    t->tier.dwconv(&a, a.oh / 2, a.oh);
    t->tier.dwconv(&a, 0, a.oh / 2);
    if (t->is_scalar) {
        conv_in_double(t, &a);
        return;
    }
    a.y = want;
    t->scalar.dwconv(&a, 0, a.oh);
    tk_same_f32(t, got, want, size);
}

static void run_dwconv_shapes(tk *t)
{
    static const size_t channels[] = {1, 3, 8, 16, 20, 33, 64, 72};
    static const size_t sizes[][2] = {
        {1, 1 },
        {2, 3 },
        {5, 7 },
        {4, 13},
        {3, 14},
        {9, 20}
    };
    static const conv_shape real[] = {
        /* stem, RepMixer, PatchEmbed, RepCPE, head */
        {32, 32, 96,   3, 2, 1, false},
        {24, 24, 96,   7, 1, 1, false},
        {24, 24, 96,   7, 2, 2, false},
        {16, 16, 192,  7, 1, 1, false},
        {4,  4,  768,  7, 1, 1, false},
        {4,  4,  1536, 3, 1, 2, false},
        {15, 15, 240,  5, 2, 1, true }
    };
    char text[96];
    for (unsigned k = 1; k <= 7; k += 2)
        for (unsigned v = 0; v < 8; v++)
            for (size_t i = 0; i < TVLM_COUNT(sizes); i++)
                for (size_t j = 0; j < TVLM_COUNT(channels); j++) {
                    conv_shape s = {sizes[i][0], sizes[i][1],   channels[j], k,
                                    1 + v % 2,   1 + v / 2 % 2, v & 4};
                    snprintf(text, sizeof text, "%zux%zux%zu k%u s%u mult%u%s", s.h, s.w, s.c, k,
                             s.stride, s.mult, s.same ? " same" : "");
                    tk_run(t, "dwconv", text, check_dwconv, &s, (i + j) % 4 != 0);
                }
    for (size_t i = 0; i < TVLM_COUNT(real); i++) {
        const conv_shape *s = &real[i];
        snprintf(text, sizeof text, "%zux%zux%zu k%u s%u mult%u", s->h, s->w, s->c, s->k, s->stride,
                 s->mult);
        tk_run(t, "dwconv", text, check_dwconv, s, true);
    }
}

void test_spatial(tk *t)
{
    static const size_t keys[] = {31, 32, 33, 64, 257};
    char text[96];
    for (size_t d = 8; d <= 136; d += d < 40 ? 8 : 24)
        for (size_t j = 1; j <= 17 + TVLM_COUNT(keys); j++)
            for (unsigned f16 = 0; f16 < 2; f16++) {
                attention_shape s = {j <= 17 ? j : keys[j - 18], d, f16};
                snprintf(text, sizeof text, "keys %zu d%zu %s", s.keys, d, f16 ? "f16" : "f32");
                tk_run(t, "attention", text, check_attention, &s, false);
            }
    run_dwconv_shapes(t);
}

static void run_attention(const tvlm_kernels *table, void *arg)
{
    table->attention(arg);
}

static void run_dwconv(const tvlm_kernels *table, void *arg)
{
    const tvlm_dwconv_args *a = arg;
    table->dwconv(a, 0, a->oh);
}

static void bench_start(tk *t, const char *kernel)
{
    t->n_slots = 0;
    t->fill = TK_RANDOM;
    t->at_end = false;
    t->kernel = t->shape = kernel;
}

void bench_spatial(tk *t)
{
    static const conv_shape shapes[] = {
        {256, 256, 96,  3, 1, 1, false},
        {256, 256, 96,  7, 1, 1, false},
        {256, 256, 96,  7, 2, 2, false},
        {128, 128, 192, 7, 1, 1, false},
        {64,  64,  384, 7, 1, 1, false},
        {16,  16,  768, 7, 1, 1, false}
    };
    char text[96];
    for (unsigned i = 0; i < 4 && tk_wanted(t, "attention"); i++) {
        size_t d = i & 1 ? 64 : 32, n = 1024;
        bool f16 = i & 2;
        bench_start(t, "attention");
        tvlm_attention_args a = {.kv_f16 = f16, .n_keys = n, .d = d, .ldk = d, .ldv = d};
        a.scale = 0.2f;
        a.q = tk_floats(t, d);
        a.k = kv_matrix(t, n, d, d, f16);
        a.v = kv_matrix(t, n, d, d, f16);
        a.scores = tk_floats(t, n);
        a.out = tk_floats(t, d);
        snprintf(text, sizeof text, "keys %zu d%zu %s", n, d, f16 ? "f16" : "f32");
        tk_bench(t, "attention", text, run_attention, &a, 4.0 * (double)(n * d),
                 (double)(n * d) * (f16 ? 4 : 8));
    }
    for (size_t i = 0; i < TVLM_COUNT(shapes) && tk_wanted(t, "dwconv"); i++) {
        const conv_shape *s = &shapes[i];
        bench_start(t, "dwconv");
        tvlm_dwconv_args a = conv_args(s);
        size_t out = a.oh * a.ow * s->c * s->mult;
        a.x = tk_floats(t, s->h * s->w * s->c);
        a.weight = tk_floats(t, s->k * s->k * s->c * s->mult);
        a.y = tk_floats(t, out);
        snprintf(text, sizeof text, "%zux%zux%zu k%u s%u mult%u", s->h, s->w, s->c, s->k, s->stride,
                 s->mult);
        tk_bench(t, "dwconv", text, run_dwconv, &a, 2.0 * (double)out * s->k * s->k,
                 4.0 * (double)(out + s->h * s->w * s->c));
    }
}
