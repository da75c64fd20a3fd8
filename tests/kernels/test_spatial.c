/* SPDX-License-Identifier: MIT
 * Depthwise convolution. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 0x1p-24

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

void test_spatial(tk *t)
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
