/* SPDX-License-Identifier: MIT
 * Packing and linear layers. */
#include "harness.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 0x1p-24

static const struct {
    const char *name;
    tvlm_type type;
} types[] = {
    {"gemm_f32",  TVLM_TYPE_F32 },
    {"gemm_f16",  TVLM_TYPE_F16 },
    {"gemm_bf16", TVLM_TYPE_BF16},
    {"gemm_q8_0", TVLM_TYPE_Q8_0},
    {"gemm_q4_0", TVLM_TYPE_Q4_0},
    {"gemm_q4_1", TVLM_TYPE_Q4_1},
    {"gemm_q5_0", TVLM_TYPE_Q5_0},
    {"gemm_q5_1", TVLM_TYPE_Q5_1}
};

typedef struct gemm_shape {
    tvlm_type type;
    size_t m, n, k;
} gemm_shape;

/* Weights in file layout, by the current fill; free() them. */
static unsigned char *file_weights(tk *t, const gemm_shape *s)
{
    size_t row;
    if (!tvlm_type_row_bytes(s->type, s->k, &row)) exit(2);
    unsigned char *w = malloc(s->n * row + 1);
    size_t block = tvlm_type_block(s->type), bytes = tvlm_type_block_bytes(s->type);
    for (size_t b = 0; b < s->n * (s->k / block); b++) {
        unsigned char *p = w + b * bytes;
        float v = tk_value(t, b, s->n * (s->k / block));
        uint16_t half = s->type == TVLM_TYPE_BF16 ? tvlm_f32_to_bf16(v) : tvlm_f32_to_f16(v);
        if (t->fill != TK_SPECIAL && (half == 0x7c00 || half == 0xfc00))
            half = half == 0x7c00 ? 0x7bff : 0xfbff; /* the largest half, not infinity */
        if (s->type == TVLM_TYPE_F32) {
            memcpy(p, &v, 4);
            continue;
        }
        p[0] = (unsigned char)half;
        p[1] = (unsigned char)(half >> 8);
        for (size_t i = 2; i < bytes; i++)
            p[i] = t->fill == TK_MIN   ? 0x80
                   : t->fill == TK_MAX ? 0x7f
                                       : (unsigned char)tk_random(t);
        if (s->type == TVLM_TYPE_Q4_1 || s->type == TVLM_TYPE_Q5_1) {
            half = tvlm_f32_to_f16(t->fill == TK_RANDOM ? tk_uniform(t, -2, 2) : 0.5f);
            p[2] = (unsigned char)half;
            p[3] = (unsigned char)(half >> 8);
        }
    }
    return w;
}

static void *pack_weights(tk *t, const gemm_shape *s, const unsigned char *w)
{
    size_t size, row;
    if (!tvlm_gemm_packed_size(s->type, s->n, s->k, &size) ||
        !tvlm_type_row_bytes(s->type, s->k, &row))
        exit(2);
    void *packed = tk_buffer(t, size, 32);
    for (size_t n0 = 0; n0 < s->n; n0 += TVLM_GEMM_NR)
        tvlm_gemm_pack(s->type, packed, w + n0 * row, n0,
                       s->n - n0 < TVLM_GEMM_NR ? s->n - n0 : TVLM_GEMM_NR, s->k);
    return packed;
}

static void check_pack(tk *t, const void *arg)
{
    const gemm_shape *s = arg;
    unsigned char *w = file_weights(t, s);
    void *packed = pack_weights(t, s, w);
    float *got = tk_buffer(t, s->k * sizeof *got, 4), *want = malloc((s->k + 1) * sizeof *want);
    size_t row;
    tvlm_type_row_bytes(s->type, s->k, &row);
    for (size_t n = 0; n < s->n; n++) {
        tvlm_dequantize(s->type, w + n * row, want, s->k);
        tvlm_gemm_unpack_row(s->type, packed, n, s->k, got);
        for (size_t i = 0; i < s->k; i++) /* equal, but for the sign of a zero */
            tk_near(t, n * s->k + i, (double)got[i], (double)want[i], 0);
    }
    free(want);
    free(w);
}

static double act_double(tvlm_act act, double x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return x / 2 * erfc(-x / sqrt(2.0));
    case TVLM_ACT_RELU:
        return x > 0 ? x : 0;
    case TVLM_ACT_RELU6:
        return x > 6 ? 6 : x > 0 ? x : 0;
    case TVLM_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    default:
        return x;
    }
}

/* |error| <= (k + 4) eps sum |x w|, times the activation's slope (< 1.13), then the epilogue. */
static void check_against_double(tk *t, const gemm_shape *s, const tvlm_gemm_args *a,
                                 const unsigned char *w, const float *residual)
{
    size_t row;
    tvlm_type_row_bytes(s->type, s->k, &row);
    float *weights = malloc((s->k + 1) * sizeof *weights);
    for (size_t n = 0; n < s->n; n++) {
        tvlm_dequantize(s->type, w + n * row, weights, s->k);
        for (size_t m = 0; m < s->m; m++) {
            double sum = 0, size = 0, largest = 0;
            for (size_t k = 0; k < s->k; k++) {
                double p = (double)a->x[m * a->ldx + k] * (double)weights[k];
                sum += p;
                size += fabs(p);
                largest = fmax(largest, fabs((double)a->x[m * a->ldx + k]));
            }
            if (tvlm_type_block(s->type) > 1) /* d * q + m may cancel: count its parts */
                size += (double)s->k * largest * 4 * 32;
            if (size > 1e37) continue;
            double bias = a->bias ? (double)a->bias[n] : 0;
            double y = act_double(a->act, sum + bias) * (double)a->scale;
            double rest = residual ? (double)residual[m * a->ldr + n] : 0;
            double scale = fabs((double)a->scale);
            double bound = 1.13 * scale * (((double)s->k + 4) * EPS * size + EPS * fabs(bias)) +
                           6 * EPS * (scale * (1 + fabs(sum + bias)) + fabs(rest)) +
                           ((double)s->k + 4) * 0x1p-149;
            tk_near(t, m * s->n + n, (double)a->y[m * a->ldy + n], y + rest, bound);
        }
    }
    free(weights);
}

static void check_gemm(tk *t, const void *arg)
{
    const gemm_shape *s = arg;
    size_t variant = s->m + s->n + s->k; /* which parts of the epilogue */
    size_t ldy = s->n + variant % 2;
    tvlm_gemm_args a = {.ldx = s->k + variant % 3, .ldr = s->n, .ldy = ldy, .n = s->n, .k = s->k};
    a.scale = variant % 2 ? 1.0f : -0.75f;
    a.act = (tvlm_act)(variant % 5);
    unsigned char *w = file_weights(t, s);
    a.w = pack_weights(t, s, w);
    a.x = tk_floats(t, (s->m - 1) * a.ldx + s->k);
    a.bias = variant % 4 ? tk_floats(t, s->n) : NULL;
    size_t y_size = ((s->m - 1) * ldy + s->n) * sizeof(float);
    float *residual = variant % 3 ? tk_floats(t, s->m * s->n) : NULL;
    float *got = tk_buffer(t, y_size, 4), *want = tk_buffer(t, y_size, 4);
    a.residual = residual;
    a.y = want;
    tvlm_kernels_gemm(&t->scalar, s->type)->run(&a, 0, s->m, 0, s->n);
    if (t->is_scalar) {
        check_against_double(t, s, &a, w, residual);
    } else {
        a.y = got;
        /* in up to four pieces, whose order and size must not matter */
        size_t n0 = s->n > TVLM_GEMM_NR ? TVLM_GEMM_NR : 0, m0 = s->m / 3;
        const tvlm_gemm *gemm = tvlm_kernels_gemm(&t->tier, s->type);
        gemm->run(&a, m0, s->m, n0, s->n);
        gemm->run(&a, 0, m0, 0, n0);
        gemm->run(&a, 0, m0, n0, s->n);
        gemm->run(&a, m0, s->m, 0, n0);
        tk_same_bytes(t, got, want, 0);
        for (size_t m = 0; m < s->m; m++)
            tk_same_f32(t, got + m * ldy, want + m * ldy, s->n);
    }
    free(w);
}

/* Each row alone equals the row in a batch of 17, bit for bit; y in place of the residual. */
static void check_rows_alone(tk *t, const void *arg)
{
    const gemm_shape *s = arg;
    unsigned char *w = file_weights(t, s);
    tvlm_gemm_args a = {.ldx = s->k, .ldr = s->n, .ldy = s->n, .n = s->n, .k = s->k, .scale = 1};
    a.w = pack_weights(t, s, w);
    a.act = TVLM_ACT_GELU;
    a.x = tk_floats(t, s->m * s->k);
    float *batch = tk_floats(t, s->m * s->n), *alone = tk_buffer(t, s->m * s->n * 4, 4);
    memcpy(alone, batch, s->m * s->n * 4);
    const tvlm_gemm *gemm = tvlm_kernels_gemm(&t->tier, s->type);
    a.residual = a.y = batch;
    gemm->run(&a, 0, s->m, 0, s->n);
    a.residual = a.y = alone;
    for (size_t m = 0; m < s->m; m++)
        gemm->run(&a, m, m + 1, 0, s->n);
    tk_same_f32(t, alone, batch, s->m * s->n);
    free(w);
}

void test_gemm(tk *t)
{
    static const size_t depths[] = {1, 2, 3, 7, 17, 32, 5};
    static const gemm_shape real[] = {
        /* tower, decoder, projector; few rows: scalar is slow */
        {0, 7,  1536, 384 },
        {0, 13, 96,   384 },
        {0, 1,  4864, 896 },
        {0, 2,  896,  4864},
        {0, 1,  151,  896 },
        {0, 19, 288,  96  }
    };
    char text[64];
    for (size_t i = 0; i < TVLM_COUNT(types); i++) {
        size_t block = tvlm_type_block(types[i].type);
        for (size_t n = 1; n <= 2 * TVLM_GEMM_NR + 1; n++)
            for (size_t m = 1; m <= 13; m += m < 7 ? 1 : 3) {
                size_t k =
                    block > 1 ? 32 * (1 + (n + m) % 3) : depths[(n + m) % TVLM_COUNT(depths)];
                gemm_shape s = {types[i].type, m, n, k};
                snprintf(text, sizeof text, "m%zu n%zu k%zu", m, n, k);
                tk_run(t, types[i].name, text, check_gemm, &s, false);
                if (m == 1) tk_run(t, types[i].name, text, check_pack, &s, false);
            }
        for (size_t n = 63; n <= 131; n += 17) {
            gemm_shape s = {types[i].type, 1 + n % 2, n, 64}; /* the wide tiles */
            snprintf(text, sizeof text, "m%zu n%zu k64", s.m, n);
            tk_run(t, types[i].name, text, check_gemm, &s, false);
        }
        for (size_t j = 0; j < TVLM_COUNT(real); j++) {
            gemm_shape s = real[j];
            s.type = types[i].type;
            snprintf(text, sizeof text, "m%zu n%zu k%zu", s.m, s.n, s.k);
            tk_run(t, types[i].name, text, check_gemm, &s, true);
        }
        for (size_t m = 2; m <= 17; m += 5) {
            gemm_shape s = {types[i].type, m, 100, 96};
            snprintf(text, sizeof text, "rows alone, m%zu n100 k96", m);
            tk_run(t, types[i].name, text, check_rows_alone, &s, false);
        }
    }
}

typedef struct gemm_bench {
    tvlm_type type;
    size_t m;
    tvlm_gemm_args args;
} gemm_bench;

static void run_bench(const tvlm_kernels *table, void *arg)
{
    const gemm_bench *b = arg;
    tvlm_kernels_gemm(table, b->type)->run(&b->args, 0, b->m, 0, b->args.n);
}

static void bench_one(tk *t, size_t type, size_t m, size_t n, size_t k)
{
    char text[64];
    size_t size;
    gemm_shape s = {types[type].type, m, n, k};
    t->n_slots = 0;
    t->fill = TK_RANDOM;
    t->at_end = false;
    snprintf(text, sizeof text, "m%zu n%zu k%zu", m, n, k);
    t->kernel = types[type].name;
    t->shape = text;
    unsigned char *w = file_weights(t, &s);
    gemm_bench b = {
        s.type, m, {.ldx = k, .ldy = n, .n = n, .k = k, .scale = 1}
    };
    b.args.w = pack_weights(t, &s, w);
    b.args.x = tk_floats(t, m * k);
    b.args.y = tk_floats(t, m * n);
    tvlm_gemm_packed_size(s.type, n, k, &size);
    tk_bench(t, types[type].name, text, run_bench, &b, 2.0 * (double)(m * n) * (double)k,
             (double)size);
    free(w);
}

void bench_gemm(tk *t)
{
    for (size_t i = 0; i < TVLM_COUNT(types); i++) {
        if (!tk_wanted(t, types[i].name)) continue;
        bench_one(t, i, 256, 1536, 384);
        bench_one(t, i, 256, 384, 1536);
        bench_one(t, i, 1, 4864, 896);
        bench_one(t, i, 4, 4864, 896);
    }
}
