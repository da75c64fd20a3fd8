/* SPDX-License-Identifier: MIT
 * Packing and linear layers. */
#include "harness.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 0x1p-24

typedef struct gemm_shape {
    const tvlm_gemm *gemm;
    size_t m, n, k;
} gemm_shape;

static const tvlm_gemm *scalar_twin(const tvlm_gemm *gemm)
{
    return tvlm_gemm_select(0, gemm->type, gemm->numeric);
}

/* k, or the next that the kernel takes. */
static size_t whole_blocks(const tvlm_gemm *gemm, size_t k)
{
    size_t block = tvlm_type_block(gemm->type);
    if (gemm->numeric == TVLM_NUMERIC_INT8 && block < 32) block = 32;
    return (k + block - 1) / block * block;
}

static void put_half(unsigned char *p, uint16_t half)
{
    p[0] = (unsigned char)half;
    p[1] = (unsigned char)(half >> 8);
}

/* Where a block has its d, and its m; 0: none. */
static size_t d_at(tvlm_type type)
{
    return type == TVLM_TYPE_Q6_K ? 208 : 0;
}

static bool is_bf16(const tvlm_gemm *gemm)
{
    return gemm->numeric == TVLM_NUMERIC_BF16 || gemm->numeric == TVLM_NUMERIC_BF16_ODD;
}

static size_t m_at(tvlm_type type)
{
    bool has = type == TVLM_TYPE_Q4_1 || type == TVLM_TYPE_Q5_1 || type == TVLM_TYPE_Q4_K ||
               type == TVLM_TYPE_Q5_K;
    return has ? 2 : 0;
}

/* Weights in file layout, by the current fill; free() them. */
static unsigned char *file_weights(tk *t, const gemm_shape *s)
{
    size_t row;
    const tvlm_type type = s->gemm->type;
    if (!tvlm_type_row_bytes(type, s->k, &row)) exit(2);
    unsigned char *w = malloc(s->n * row + 1);
    size_t block = tvlm_type_block(type), bytes = tvlm_type_block_bytes(type);
    for (size_t b = 0; b < s->n * (s->k / block); b++) {
        unsigned char *p = w + b * bytes;
        float v = tk_value(t, b, s->n * (s->k / block));
        uint16_t half = type == TVLM_TYPE_BF16 ? tvlm_f32_to_bf16(v) : tvlm_f32_to_f16(v);
        if (t->fill != TK_SPECIAL && (half == 0x7c00 || half == 0xfc00))
            half = half == 0x7c00 ? 0x7bff : 0xfbff; /* the largest half, not infinity */
        if (type == TVLM_TYPE_F32) {
            memcpy(p, &v, 4);
            continue;
        }
        for (size_t i = 0; i < bytes; i++)
            p[i] = t->fill == TK_MIN   ? 0x80
                   : t->fill == TK_MAX ? 0x7f
                                       : (unsigned char)tk_random(t);
        put_half(p + d_at(type), half);
        if (m_at(type))
            put_half(p + m_at(type),
                     tvlm_f32_to_f16(t->fill == TK_RANDOM ? tk_uniform(t, -2, 2) : 0.5f));
    }
    return w;
}

static void *pack_weights(tk *t, const tvlm_gemm *gemm, const gemm_shape *s, const unsigned char *w)
{
    size_t size, row;
    if (!gemm->layout->packed_size(gemm->type, s->n, s->k, &size) ||
        !tvlm_type_row_bytes(gemm->type, s->k, &row))
        exit(2);
    void *packed = tk_buffer(t, size, 32);
    for (size_t n0 = 0; n0 < s->n; n0 += TVLM_GEMM_NR)
        gemm->layout->pack(gemm->type, packed, w + n0 * row, n0,
                           s->n - n0 < TVLM_GEMM_NR ? s->n - n0 : TVLM_GEMM_NR, s->k);
    return packed;
}

/* x as the kernel reads it: itself, or packed rows. */
static void give_input(tk *t, const tvlm_gemm *gemm, const gemm_shape *s, const float *x,
                       size_t ldx, tvlm_gemm_args *a)
{
    a->x = x;
    a->ldx = ldx * sizeof(float);
    if (!gemm->input) return;
    a->ldx = gemm->input->bytes(s->k);
    unsigned char *packed = tk_buffer(t, s->m * a->ldx, 4);
    for (size_t m = 0; m < s->m; m++)
        gemm->input->pack(packed + m * a->ldx, x + m * ldx, s->k);
    a->x = packed;
}

/* What making words of a value may change in the int16 class: half a step of its block, all of it
 * where the block is tiny, anything beside an infinity or NaN. */
static double words_rounding(const float *v, size_t k, size_t i)
{
    size_t from = i / 256 * 256, end = from + 256 < k ? from + 256 : k;
    double most = 0, squares = 0;
    for (size_t j = from; j < end; j++) {
        double size = isfinite(v[j]) ? fabs((double)v[j]) : INFINITY;
        most = fmax(most, size);
        squares += size * size;
    }
    return most < 0x1p-100 ? most : 0.51 * fmax(sqrt(squares) / 46300, most / 32767);
}

/* The same of a sum of products. */
static double words_sum_rounding(const float *x, const float *w, size_t k)
{
    double error = 0, half_x = 0, half_w = 0;
    for (size_t i = 0; i < k; i++) {
        if (i % 256 == 0) {
            half_x = words_rounding(x, k, i);
            half_w = words_rounding(w, k, i);
        }
        error += fabs((double)x[i]) * half_w + fabs((double)w[i]) * half_x + half_x * half_w;
    }
    return error;
}

/* The weights of a row as the class has them; of the int16 class as they were. */
static void weights_of(const gemm_shape *s, const unsigned char *row, float *out)
{
    tvlm_dequantize(s->gemm->type, row, out, s->k);
    if (is_bf16(s->gemm))
        for (size_t i = 0; i < s->k; i++)
            out[i] = fabsf(out[i]) < FLT_MIN ? 0 : tvlm_bf16_to_f32(tvlm_f32_to_bf16(out[i]));
    if (s->gemm->numeric != TVLM_NUMERIC_INT8 || tvlm_type_block(s->gemm->type) > 1) return;
    unsigned char *q8_0 = malloc(s->k / 32 * 34);
    tvlm_quantize(TVLM_TYPE_Q8_0, out, q8_0, s->k);
    tvlm_dequantize(TVLM_TYPE_Q8_0, q8_0, out, s->k);
    free(q8_0);
}

static void check_pack(tk *t, const void *arg)
{
    const gemm_shape *s = arg;
    unsigned char *w = file_weights(t, s);
    void *packed = pack_weights(t, s->gemm, s, w);
    float *got = tk_buffer(t, s->k * sizeof *got, 4), *want = malloc((s->k + 1) * sizeof *want);
    size_t row;
    tvlm_type_row_bytes(s->gemm->type, s->k, &row);
    for (size_t n = 0; n < s->n; n++) {
        weights_of(s, w + n * row, want);
        s->gemm->layout->unpack_row(s->gemm->type, packed, n, s->k, got);
        for (size_t i = 0; i < s->k; i++) { /* equal, but for the sign of a zero */
            bool words = s->gemm->numeric == TVLM_NUMERIC_INT16;
            double bound = words ? words_rounding(want, s->k, i) : 0;
            tk_near(t, n * s->k + i, (double)got[i], (double)want[i], bound);
        }
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
    case TVLM_ACT_GELU_TANH:
        return x / (1 + exp(-2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    default:
        return x;
    }
}

/* What rounding x to blocks of int8 may change: half a step times the weights. */
static double input_rounding(const float *x, const float *w, size_t k)
{
    double error = 0;
    for (size_t b = 0; b < k; b += 32) {
        double most = 0, size = 0;
        for (size_t i = b; i < b + 32; i++) {
            most = fmax(most, fabs((double)x[i]));
            size += fabs((double)w[i]);
        }
        error += most < 0x1p-120 ? most * size : most / 254 * 1.0001 * size;
    }
    return error;
}

/* What zeros in the place of subnormals may change in the bf16 class. */
static double flushed(const float *w, size_t k)
{
    double size = 0;
    for (size_t i = 0; i < k; i++)
        size += fabs((double)w[i]) * 0x1p-126 + 2 * 0x1p-126;
    return size;
}

/* |error| <= (k + 4) eps sum |x w|, times the activation's slope (< 1.13), then the epilogue. */
static void check_against_double(tk *t, const gemm_shape *s, const tvlm_gemm_args *a,
                                 const unsigned char *w, const float *x, size_t ldx,
                                 const float *residual)
{
    size_t row;
    tvlm_type_row_bytes(s->gemm->type, s->k, &row);
    float *weights = malloc((s->k + 1) * sizeof *weights);
    for (size_t n = 0; n < s->n; n++) {
        weights_of(s, w + n * row, weights);
        for (size_t m = 0; m < s->m; m++) {
            double sum = 0, size = 0, largest = 0;
            for (size_t k = 0; k < s->k; k++) {
                double p = (double)x[m * ldx + k] * (double)weights[k];
                sum += p;
                size += fabs(p);
                largest = fmax(largest, fabs((double)x[m * ldx + k]));
            }
            if (tvlm_type_block(s->gemm->type) > 1) /* d * q + m may cancel: count its parts */
                size += (double)s->k * largest * 4 *
                        (tvlm_type_block(s->gemm->type) > 32 ? 128 * 64 : 32);
            if (size > 1e37) continue;
            double rounding = 0;
            if (s->gemm->numeric == TVLM_NUMERIC_INT8)
                rounding = input_rounding(x + m * ldx, weights, s->k);
            if (is_bf16(s->gemm)) /* x has 8 bits; what is flushed */
                rounding = 0x1p-8 * 1.0001 * size + flushed(weights, s->k);
            if (s->gemm->numeric == TVLM_NUMERIC_BF16_ODD) /* steps of a whole last place */
                rounding += ((double)s->k + 4) * EPS * size;
            if (s->gemm->numeric == TVLM_NUMERIC_INT16)
                rounding = words_sum_rounding(x + m * ldx, weights, s->k);
            double bias = a->bias ? (double)a->bias[n] : 0;
            double y = act_double(a->act, sum + bias) * (double)a->scale;
            double rest = residual ? (double)residual[m * a->ldr + n] : 0;
            double scale = fabs((double)a->scale);
            double bound =
                1.13 * scale * (((double)s->k + 4) * EPS * size + EPS * fabs(bias) + rounding) +
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
    const tvlm_gemm *gemm = s->gemm, *twin = scalar_twin(gemm);
    size_t variant = s->m + s->n + s->k; /* which parts of the epilogue */
    size_t ldx = s->k + variant % 3, ldy = s->n + variant % 2;
    tvlm_gemm_args a = {.ldr = s->n, .ldy = ldy, .n = s->n, .k = s->k};
    a.scale = variant % 2 ? 1.0f : -0.75f;
    a.act = (tvlm_act)(variant % 5);
    unsigned char *w = file_weights(t, s);
    const float *x = tk_floats(t, (s->m - 1) * ldx + s->k);
    a.bias = variant % 4 ? tk_floats(t, s->n) : NULL;
    size_t y_size = ((s->m - 1) * ldy + s->n) * sizeof(float);
    float *residual = variant % 3 ? tk_floats(t, s->m * s->n) : NULL;
    float *got = tk_buffer(t, y_size, 4), *want = tk_buffer(t, y_size, 4);
    a.residual = residual;
    a.y = want;
    a.w = pack_weights(t, twin, s, w);
    give_input(t, twin, s, x, ldx, &a);
    twin->run(&a, 0, s->m, 0, s->n);
    if (t->is_scalar) {
        check_against_double(t, s, &a, w, x, ldx, residual);
    } else {
        a.y = got;
        if (gemm->layout != twin->layout) a.w = pack_weights(t, gemm, s, w);
        if (gemm->input != twin->input) give_input(t, gemm, s, x, ldx, &a);
        /* in up to four pieces, whose order and size must not matter */
        size_t n0 = s->n > TVLM_GEMM_NR ? TVLM_GEMM_NR : 0, m0 = s->m / 3;
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
    tvlm_gemm_args a = {.ldr = s->n, .ldy = s->n, .n = s->n, .k = s->k, .scale = 1};
    a.w = pack_weights(t, s->gemm, s, w);
    a.act = TVLM_ACT_GELU;
    give_input(t, s->gemm, s, tk_floats(t, s->m * s->k), s->k, &a);
    float *batch = tk_floats(t, s->m * s->n), *alone = tk_buffer(t, s->m * s->n * 4, 4);
    memcpy(alone, batch, s->m * s->n * 4);
    a.residual = a.y = batch;
    s->gemm->run(&a, 0, s->m, 0, s->n);
    a.residual = a.y = alone;
    for (size_t m = 0; m < s->m; m++)
        s->gemm->run(&a, m, m + 1, 0, s->n);
    tk_same_f32(t, alone, batch, s->m * s->n);
    free(w);
}

/* Rows whose sums of products are as large as they can be: a row of x and weights of the same
 * values, all equal, one large among small, of every size; and what has no code. */
static float words_value(size_t pattern, size_t i)
{
    switch (pattern) {
    case 0:
        return 1.0f;
    case 1:
        return i % 256 == 100 ? 1e30f : 1e-9f;
    case 2:
        return ldexpf(i % 2 ? 1.0f : -1.0f, (int)(i % 16));
    case 3:
        return i % 256 < 2 ? -3.0f : 0.0f;
    case 4:
        return 0x1p-101f;
    case 5:
        return i == 300 ? NAN : 1.0f;
    default:
        return i == 7 ? -INFINITY : 0.0f;
    }
}

static void check_words(tk *t, const void *arg)
{
    enum { PATTERNS = 7, K = 511 };
    const tvlm_gemm *gemm = arg;
    float *x = tk_buffer(t, PATTERNS * K * sizeof *x, 4);
    float *y = tk_buffer(t, PATTERNS * 2 * PATTERNS * sizeof *y, 4);
    float w[2 * PATTERNS * K]; /* each pattern, and its negative */
    for (size_t i = 0; i < PATTERNS * K; i++) {
        x[i] = w[i] = words_value(i / K, i % K);
        w[PATTERNS * K + i] = -x[i];
    }
    const gemm_shape s = {gemm, PATTERNS, 2 * PATTERNS, K};
    tvlm_gemm_args a = {.y = y, .ldy = s.n, .n = s.n, .k = K, .scale = 1};
    a.w = pack_weights(t, gemm, &s, (const unsigned char *)w);
    give_input(t, gemm, &s, x, K, &a);
    gemm->run(&a, 0, s.m, 0, s.n);
    for (size_t m = 0; m < PATTERNS; m++)
        for (size_t n = 0; n < 2 * PATTERNS; n++) {
            bool number = m < 5 && n % PATTERNS < 5;
            if (number == (bool)isnan(y[m * s.n + n])) tk_near(t, m * s.n + n, 0, 1, 0);
            double sum = 0, size = 0;
            for (size_t k = 0; number && k < K; k++) {
                sum += (double)x[m * K + k] * (double)w[n * K + k];
                size += fabs((double)x[m * K + k] * (double)w[n * K + k]);
            }
            double bound = words_sum_rounding(x + m * K, w + n * K, K) + 4 * EPS * size;
            if (number) tk_near(t, m * s.n + n, (double)y[m * s.n + n], sum, bound);
        }
}

/* By rows of all sizes, or so small that products are about the smallest float. */
static float value_of_range(tk *t, size_t row)
{
    return tk_uniform(t, -2, 2) * ldexpf(1, row % 2 ? -63 : (int)(tk_random(t) % 129) - 64);
}

/* Products and sums that vanish, that overflow, and of which one hides the other. */
static void check_range(tk *t, const void *arg)
{
    enum { M = 5, N = 20, K = 37 };
    const tvlm_gemm *gemm = arg, *twin = scalar_twin(gemm);
    const gemm_shape s = {gemm, M, N, K};
    float *x = tk_buffer(t, M * K * sizeof *x, 4), w[N * K];
    float *got = tk_buffer(t, M * N * sizeof *got, 4),
          *want = tk_buffer(t, M * N * sizeof *want, 4);
    for (size_t i = 0; i < M * K; i++)
        x[i] = value_of_range(t, i / K);
    for (size_t i = 0; i < N * K; i++)
        w[i] = value_of_range(t, i / K);
    tvlm_gemm_args a = {.y = want, .ldy = N, .n = N, .k = K, .scale = 1};
    a.w = pack_weights(t, twin, &s, (const unsigned char *)w);
    give_input(t, twin, &s, x, K, &a);
    twin->run(&a, 0, M, 0, N);
    a.y = got;
    a.w = pack_weights(t, gemm, &s, (const unsigned char *)w);
    give_input(t, gemm, &s, x, K, &a);
    gemm->run(&a, 0, M, 0, N);
    tk_same_f32(t, got, want, M * N);
}

/* Sums by hand: what does not fit ends in an odd digit, what fits stays. */
static void check_odd(tk *t, const void *arg)
{
    static const float cases[][5] = {
        /* w, x, w, x, their products' sum */
        {1,        1,          1,        0x1p-30f,  1 + 0x1p-23f   },
        {1,        1,          -1,       0x1p-30f,  0x1.fffffep-1f },
        {1,        -1,         0x1p-60f, 0x1p-60f,  -0x1.fffffep-1f},
        {-1,       1,          -1,       0x1p-60f,  -1 - 0x1p-23f  },
        {1,        1,          1,        0x1p-23f,  1 + 0x1p-23f   },
        {1,        1,          1,        0x1p-22f,  1 + 0x1p-22f   },
        {0x1p-63f, 0x1p-63f,   0x1p-63f, 0x1p-64f,  0x1p-126f      },
        {0x1p-63f, 0x1p-63f,   -1,       0x1p-126f, 0              },
        {0x1p-63f, 0x1.8p-63f, -1,       0x1p-126f, 0              },
        {0x1p64f,  0x1p63f,    0x1p64f,  0x1p63f,   INFINITY       },
        {0x1p64f,  0x1.fcp63f, 1,        0x1p90f,   0x1.fc0002p127f},
    };
    enum { N = TVLM_COUNT(cases) };
    const tvlm_gemm *gemm = arg;
    const gemm_shape s = {gemm, N, N, 2};
    float w[2 * N], *x = tk_buffer(t, sizeof w, 4), *y = tk_buffer(t, N * sizeof w, 4);
    for (size_t i = 0; i < 2 * N; i++) {
        w[i] = cases[i / 2][i % 2 * 2];
        x[i] = cases[i / 2][i % 2 * 2 + 1];
    }
    tvlm_gemm_args a = {.y = y, .ldy = N, .n = N, .k = 2, .scale = 1};
    a.w = pack_weights(t, gemm, &s, (const unsigned char *)w);
    give_input(t, gemm, &s, x, 2, &a);
    gemm->run(&a, 0, N, 0, N);
    for (size_t i = 0; i < N; i++)
        tk_same_f32(t, &y[i * N + i], &cases[i][4], 1);
}

static void test_kernel(tk *t, const tvlm_gemm *gemm)
{
    static const size_t depths[] = {1, 2, 3, 7, 17, 32, 5};
    static const size_t real[][3] = {
        /* tower, decoder, projector; few rows: scalar is slow */
        {7,  1536, 384 },
        {13, 96,   384 },
        {1,  4864, 896 },
        {2,  896,  4864},
        {1,  151,  896 },
        {19, 288,  96  }
    };
    char text[64];
    bool blocks = tvlm_type_block(gemm->type) > 1 || gemm->numeric == TVLM_NUMERIC_INT8;
    for (size_t n = 1; n <= 2 * TVLM_GEMM_NR + 1; n++)
        for (size_t m = 1; m <= 13; m += m < 7 ? 1 : 3) {
            size_t k = blocks ? whole_blocks(gemm, 1) * (1 + (n + m) % 3)
                              : depths[(n + m) % TVLM_COUNT(depths)];
            gemm_shape s = {gemm, m, n, k};
            snprintf(text, sizeof text, "m%zu n%zu k%zu", m, n, k);
            tk_run(t, gemm->name, text, check_gemm, &s, false);
            if (m == 1) tk_run(t, gemm->name, text, check_pack, &s, false);
        }
    for (size_t n = 63; n <= 131; n += 17) {
        gemm_shape s = {gemm, 1 + n % 3, n, whole_blocks(gemm, 64)}; /* the wide tiles */
        snprintf(text, sizeof text, "m%zu n%zu k%zu", s.m, n, s.k);
        tk_run(t, gemm->name, text, check_gemm, &s, false);
    }
    for (size_t j = 0; j < TVLM_COUNT(real); j++) {
        gemm_shape s = {gemm, real[j][0], real[j][1], whole_blocks(gemm, real[j][2])};
        snprintf(text, sizeof text, "m%zu n%zu k%zu", s.m, s.n, s.k);
        tk_run(t, gemm->name, text, check_gemm, &s, true);
    }
    if (gemm->numeric == TVLM_NUMERIC_INT16 && gemm->type == TVLM_TYPE_F32)
        tk_run(t, gemm->name, "words", check_words, gemm, false);
    if (is_bf16(gemm) && gemm->type == TVLM_TYPE_F32)
        tk_run(t, gemm->name, "range", check_range, gemm, false);
    if (gemm->numeric == TVLM_NUMERIC_BF16_ODD && gemm->type == TVLM_TYPE_F32)
        tk_run(t, gemm->name, "odd", check_odd, gemm, false);
    for (size_t m = 2; m <= 17; m += 5) {
        gemm_shape s = {gemm, m, 100, whole_blocks(gemm, 96)};
        snprintf(text, sizeof text, "rows alone, m%zu n100 k%zu", m, s.k);
        tk_run(t, gemm->name, text, check_rows_alone, &s, false);
    }
}

/* Kernels that this tier runs, and that below does not. */
static void each_kernel(tk *t, void (*fn)(tk *t, const tvlm_gemm *gemm))
{
    for (size_t i = 0; i < tvlm_gemm_n_tiers; i++)
        for (size_t j = 0; j < tvlm_gemm_tiers[i]->n; j++) {
            const tvlm_gemm *gemm = &tvlm_gemm_tiers[i]->kernels[j];
            bool here = t->is_scalar
                            ? !gemm->cpu
                            : gemm->cpu && !(gemm->cpu & ~t->mask) &&
                                  tvlm_gemm_select(t->below, gemm->type, gemm->numeric) != gemm;
            if (here && tvlm_gemm_select(t->mask, gemm->type, gemm->numeric) == gemm) fn(t, gemm);
        }
}

void test_gemm(tk *t)
{
    each_kernel(t, test_kernel);
}

typedef struct gemm_bench {
    const tvlm_kernels *scalar; /* stands for the twin */
    const tvlm_gemm *gemm, *twin;
    size_t m;
    tvlm_gemm_args args, twin_args;
} gemm_bench;

static void run_bench(const tvlm_kernels *table, void *arg)
{
    const gemm_bench *b = arg;
    if (table == b->scalar)
        b->twin->run(&b->twin_args, 0, b->m, 0, b->args.n);
    else
        b->gemm->run(&b->args, 0, b->m, 0, b->args.n);
}

static void bench_one(tk *t, const tvlm_gemm *gemm, size_t m, size_t n, size_t k)
{
    char text[64];
    size_t size;
    k = whole_blocks(gemm, k);
    gemm_shape s = {gemm, m, n, k};
    t->n_slots = 0;
    t->fill = TK_RANDOM;
    t->at_end = false;
    snprintf(text, sizeof text, "m%zu n%zu k%zu", m, n, k);
    t->kernel = gemm->name;
    t->shape = text;
    unsigned char *w = file_weights(t, &s);
    gemm_bench b = {.scalar = &t->scalar, .gemm = gemm, .twin = scalar_twin(gemm), .m = m};
    b.args = (tvlm_gemm_args){.ldy = n, .n = n, .k = k, .scale = 1, .y = tk_floats(t, m * n)};
    b.args.w = pack_weights(t, gemm, &s, w);
    b.twin_args = b.args;
    const float *x = tk_floats(t, m * k);
    give_input(t, gemm, &s, x, k, &b.args);
    if (b.twin->layout != gemm->layout) b.twin_args.w = pack_weights(t, b.twin, &s, w);
    give_input(t, b.twin, &s, x, k, &b.twin_args);
    gemm->layout->packed_size(gemm->type, n, k, &size);
    tk_bench(t, gemm->name, text, run_bench, &b, 2.0 * (double)(m * n) * (double)k, (double)size);
    free(w);
}

static void bench_kernel(tk *t, const tvlm_gemm *gemm)
{
    if (!tk_wanted(t, gemm->name)) return;
    bench_one(t, gemm, 12, 64, 896);
    bench_one(t, gemm, 256, 1536, 384);
    bench_one(t, gemm, 256, 384, 1536);
    bench_one(t, gemm, 1, 4864, 896);
    bench_one(t, gemm, 4, 4864, 896);
}

void bench_gemm(tk *t)
{
    each_kernel(t, bench_kernel);
}
