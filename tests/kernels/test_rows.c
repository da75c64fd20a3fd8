/* SPDX-License-Identifier: MIT
 * Row kernels and the accuracy of exp, GELU, sigmoid and silu. */
#include "harness.h"

#include "kernels/math.h"

#include <string.h>

#define EPS 0x1p-24

enum { ROW_MAX = 33 }; /* 2 * 16 + 1: two tiles of any kernel here, and one more */

/* Shape of a row check: n values and a variant whose meaning is the kernel's. */
typedef struct row_shape {
    size_t n;
    unsigned variant;
} row_shape;

static double gelu_double(double x)
{
    return x / 2 * erfc(-x / sqrt(2.0));
}

static double gelu_tanh_double(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static double act_double(unsigned act, double x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return gelu_double(x);
    case TVLM_ACT_RELU:
        return x < 0 ? 0 : x; /* a NaN stays */
    case TVLM_ACT_RELU6:
        return x > 6 ? 6 : x < 0 ? 0 : x;
    case TVLM_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case TVLM_ACT_GELU_TANH:
        return gelu_tanh_double(x);
    default:
        return x;
    }
}

static double larger(double a, double b)
{
    return fabs(a) > fabs(b) ? fabs(a) : fabs(b);
}

/* Runs the tier into got and the scalar tier into want, or, for the scalar tier, leaves got to be
 * compared with double arithmetic. */
#define BOTH(call_got, call_want)                                                                  \
    do {                                                                                           \
        call_got;                                                                                  \
        if (!t->is_scalar) {                                                                       \
            call_want;                                                                             \
            tk_same_f32(t, got, want, s->n);                                                       \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static void check_act(tk *t, const void *arg)
{
    const row_shape *s = arg;
    tvlm_act act = (tvlm_act)s->variant;
    float *x = tk_floats(t, s->n), *got = tk_buffer(t, s->n * 4, 4),
          *want = tk_buffer(t, s->n * 4, 4);
    for (size_t i = 0; t->fill == TK_RANDOM && i < s->n; i++)
        x[i] *= 6;
    BOTH(t->tier.act(act, got, x, s->n), t->scalar.act(act, want, x, s->n));
    for (size_t i = 0; i < s->n; i++)
        tk_near(t, i, (double)got[i], act_double(s->variant, (double)x[i]),
                4 * EPS * larger((double)x[i], 1));
    t->tier.act(act, x, x, s->n); /* in place */
    tk_same_f32(t, x, got, s->n);
}

static void check_scale_act(tk *t, const void *arg)
{
    const row_shape *s = arg;
    tvlm_act act = (tvlm_act)s->variant;
    float *x = tk_floats(t, s->n), *scale = tk_floats(t, s->n);
    float *got = tk_buffer(t, s->n * 4, 4), *want = tk_buffer(t, s->n * 4, 4);
    BOTH(t->tier.scale_act(act, got, x, scale, s->n),
         t->scalar.scale_act(act, want, x, scale, s->n));
    for (size_t i = 0; i < s->n; i++) {
        double v = (double)x[i] * (double)scale[i];
        tk_near(t, i, (double)got[i], act_double(s->variant, v), 6 * EPS * larger(v, 1));
    }
}

static void check_axpy(tk *t, const void *arg)
{
    const row_shape *s = arg;
    float *x = tk_floats(t, s->n), *got = tk_floats(t, s->n), *want = tk_buffer(t, s->n * 4, 4);
    float *start = tk_buffer(t, s->n * 4, 4), a = tk_value(t, 0, 1);
    memcpy(want, got, s->n * 4);
    memcpy(start, got, s->n * 4);
    BOTH(t->tier.axpy(got, a, x, s->n), t->scalar.axpy(want, a, x, s->n));
    for (size_t i = 0; i < s->n; i++) {
        double y = (double)start[i] + (double)a * (double)x[i];
        double product = TVLM_UNFUSED ? fabs((double)a * (double)x[i]) : 0; /* rounded too */
        tk_near(t, i, (double)got[i], y, EPS * (fabs(y) + 1.01 * product) + 0x1p-148);
    }
}

static void check_silu_mul(tk *t, const void *arg)
{
    const row_shape *s = arg;
    float *gate = tk_floats(t, s->n), *up = tk_floats(t, s->n);
    float *got = tk_buffer(t, s->n * 4, 4), *want = tk_buffer(t, s->n * 4, 4);
    for (size_t i = 0; t->fill == TK_RANDOM && i < s->n; i++)
        gate[i] *= 8;
    BOTH(t->tier.silu_mul(got, gate, up, s->n), t->scalar.silu_mul(want, gate, up, s->n));
    for (size_t i = 0; i < s->n; i++) {
        double g = (double)gate[i], y = g / (1 + exp(-g)) * (double)up[i];
        if (fabs(g) < 80) /* below, exp overflows float and the product is 0 */
            tk_near(t, i, (double)got[i], y, 8 * EPS * fabs(y) + 0x1p-148);
    }
    t->tier.silu_mul(up, gate, up, s->n);
    tk_same_f32(t, up, got, s->n);
}

static void check_norm(tk *t, const void *arg)
{
    const row_shape *s = arg;
    const bool layer = s->variant & 1;
    const float eps = 1e-5f;
    float *x = tk_floats(t, s->n), *w = tk_floats(t, s->n), *b = tk_floats(t, s->n);
    float *got = tk_buffer(t, s->n * 4, 4), *want = tk_buffer(t, s->n * 4, 4);
    const float *weight = s->variant & 2 ? NULL : w, *bias = s->variant & 4 ? NULL : b;
    if (layer)
        BOTH(t->tier.layernorm(got, x, weight, bias, s->n, eps),
             t->scalar.layernorm(want, x, weight, bias, s->n, eps));
    else
        BOTH(t->tier.rmsnorm(got, x, w, s->n, eps), t->scalar.rmsnorm(want, x, w, s->n, eps));
    double mean = 0, square = 0, size = 0, n = (double)s->n;
    for (size_t i = 0; i < s->n; i++) {
        mean += (double)x[i] / n;
        size = larger(size, (double)x[i]);
    }
    mean = layer ? mean : 0;
    for (size_t i = 0; i < s->n; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
    double inv = 1 / sqrt(square + (double)eps);
    for (size_t i = 0; i < s->n && square < 1e37 && size < 1e10; i++) {
        double factor = weight || !layer ? (double)w[i] : 1;
        double y = ((double)x[i] - mean) * inv * factor;
        double end = layer && bias ? y + (double)b[i] : y;
        tk_near(t, i, (double)got[i], end,
                (n + 8) * EPS * (fabs(y) + 2 * size * inv * fabs(factor)) + 2 * EPS * fabs(end) +
                    0x1p-147);
    }
    if (layer)
        t->tier.layernorm(x, x, weight, bias, s->n, eps);
    else
        t->tier.rmsnorm(x, x, w, s->n, eps);
    tk_same_f32(t, x, got, s->n);
}

static void check_rope(tk *t, const void *arg)
{
    const row_shape *s = arg; /* n = heads * d; d = n / 3 rounded to even */
    size_t d = s->n / 3, half = d / 2;
    bool pairs = s->variant;
    float *got = tk_floats(t, s->n), *cs = tk_floats(t, d);
    float *want = tk_buffer(t, s->n * 4, 4), *x = tk_buffer(t, s->n * 4, 4);
    memcpy(want, got, s->n * 4);
    memcpy(x, got, s->n * 4);
    BOTH(t->tier.rope(got, 3, d, cs, pairs), t->scalar.rope(want, 3, d, cs, pairs));
    for (size_t h = 0; h < 3; h++)
        for (size_t i = 0; i < half; i++) {
            size_t i0 = h * d + (pairs ? 2 * i : i), i1 = h * d + (pairs ? 2 * i + 1 : i + half);
            double a = (double)x[i0], b = (double)x[i1];
            double c = (double)cs[i], sine = (double)cs[half + i];
            double bound = 3 * EPS * (fabs(a * c) + fabs(b * c) + fabs(a * sine) + fabs(b * sine));
            tk_near(t, i0, (double)got[i0], a * c - b * sine, bound + 0x1p-148);
            tk_near(t, i1, (double)got[i1], b * c + a * sine, bound + 0x1p-148);
        }
}

static void check_f16(tk *t, const void *arg)
{
    const row_shape *s = arg;
    float *x = tk_floats(t, s->n);
    uint16_t *got = tk_buffer(t, s->n * 2, 2), *want = tk_buffer(t, s->n * 2, 2);
    t->tier.f32_to_f16(got, x, s->n);
    t->scalar.f32_to_f16(want, x, s->n);
    tk_same_bytes(t, got, want, s->n * 2);
    for (size_t i = 0; t->fill == TK_RANDOM && i < s->n; i++)
        tk_near(t, i, (double)tvlm_f16_to_f32(got[i]), (double)x[i],
                0x1p-11 * fabs((double)x[i]) + 0x1p-25);
}

static void check_u7(tk *t, const void *arg)
{
    const row_shape *s = arg;
    bool ties = t->fill == TK_SPECIAL;
    float inv = ties ? 1 : tk_uniform(t, 1, 60), zero = (float)(s->n % 128);
    float *x = tk_floats(t, s->n), *back = tk_buffer(t, s->n * 4, 4),
          *same = tk_buffer(t, s->n * 4, 4);
    uint8_t *got = tk_buffer(t, s->n, 1), *want = tk_buffer(t, s->n, 1);
    for (size_t i = 0; ties && i < s->n; i++)
        x[i] = rintf(x[i] * 2) / 2; /* half way between two codes */
    t->tier.quantize_u7(got, x, s->n, inv, zero);
    for (size_t i = 0; i < s->n; i++) {
        float scaled = x[i] * inv;
        float v = rintf(scaled + zero);
        want[i] = (uint8_t)(v > 127 ? 127 : v > 0 ? v : 0); /* a NaN is 0 */
    }
    tk_same_bytes(t, got, want, s->n);
    t->tier.dequantize_u7(back, got, s->n, 1 / inv, (int32_t)zero);
    for (size_t i = 0; i < s->n; i++)
        same[i] = (float)((int)got[i] - (int)zero) * (1 / inv);
    tk_same_f32(t, back, same, s->n);
}

/* Dense sweeps against the C library in double, eight values a step (every float operation is the
 * same in all lanes and tiers: the checks above compare those). */
static void check_accuracy(tk *t, const void *unused)
{
    enum { N = 1 << 20 };
    (void)unused;
    double error2 = 0, norm2 = 0;
    float worst_tail = 0;
    for (size_t i = 0; i <= N; i++) {
        float x = -8 + 16 * (float)i / N, y;
        t->tier.act(TVLM_ACT_GELU, &y, &x, 1);
        double want = gelu_double((double)x), error = (double)y - want;
        tk_near(t, i, (double)y, want, 4 * EPS * larger((double)x, 1));
        error2 += error * error;
        norm2 += want * want;
        if (x < 0 && x > -4) /* the negative side keeps its relative accuracy */
            worst_tail = fmaxf(worst_tail, (float)(fabs(error / want)));
        t->tier.act(TVLM_ACT_GELU_TANH, &y, &x, 1);
        want = gelu_tanh_double((double)x);
        tk_near(t, i, (double)y, want, 4 * EPS * larger((double)x, 1));
        if (want < -1e-8) tk_near(t, i, (double)y, want, 4e-6 * -want);
        t->tier.act(TVLM_ACT_SIGMOID, &y, &x, 1);
        want = 1 / (1 + exp(-(double)x));
        tk_near(t, i, (double)y, want, 5 * EPS * want);
    }
    double relative = sqrt(error2 / norm2);
    printf("gelu on %s: relative L2 error %.2e over -8..8, worst relative error %.2e on -4..0\n",
           t->tier_name, relative, (double)worst_tail);
    tk_near(t, 0, relative, 0, 2.5e-8);
    tk_near(t, 0, (double)worst_tail, 0, 1e-4);
    double worst = 0;
    for (size_t i = 0; i <= N; i++) {
        float x = -87 + 175 * (float)i / N, y = tvlm_exp1(x);
        double want = exp((double)x);
        worst = fmax(worst, fabs((double)y - want) / want);
        tk_near(t, i, (double)y, want, (TVLM_UNFUSED ? 2.2 : 2.0) * EPS * want);
    }
    printf("exp: worst relative error %.2f eps\n", worst / EPS);
    for (size_t i = 0; i <= N; i++) {
        float x = -125 * (float)i / N;
        tk_near(t, i, (double)tvlm_exp2_1(x), exp2((double)x), 2.0 * EPS * exp2((double)x));
    }
    if (tvlm_exp1(-INFINITY) != tvlm_exp1(-87) || tvlm_exp1(INFINITY) != tvlm_exp1(88) ||
        tvlm_exp2_1(-INFINITY) != 0x1p-125f)
        tk_near(t, 0, 0, 1, 0);
    if (!isnan(tvlm_exp1(NAN)) || !isnan(tvlm_exp2_1(NAN)) || !isnan(tvlm_gelu1(NAN)))
        tk_near(t, 1, 0, 1, 0);
}

void test_rows(tk *t)
{
    static const size_t real[] = {96, 151, 896, 1536, 4864};
    char text[64];
    for (size_t i = 1; i <= ROW_MAX + TVLM_COUNT(real); i++) {
        size_t n = i <= ROW_MAX ? i : real[i - ROW_MAX - 1];
        for (unsigned v = 0; v < 8; v++) {
            row_shape s = {n, v};
            snprintf(text, sizeof text, "n%zu variant %u", n, v);
            if (v <= TVLM_ACT_GELU_TANH) {
                tk_run(t, "act", text, check_act, &s, false);
                tk_run(t, "scale_act", text, check_scale_act, &s, false);
            }
            tk_run(t, v & 1 ? "layernorm" : "rmsnorm", text, check_norm, &s, false);
            if (v) continue;
            tk_run(t, "axpy", text, check_axpy, &s, false);
            tk_run(t, "silu_mul", text, check_silu_mul, &s, false);
            tk_run(t, "f32_to_f16", text, check_f16, &s, false);
            tk_run(t, "quantize_u7", text, check_u7, &s, false);
        }
    }
    for (size_t d = 2; d <= 66; d += 2)
        for (unsigned pairs = 0; pairs < 2; pairs++) {
            row_shape s = {3 * d, pairs};
            snprintf(text, sizeof text, "3 heads, d%zu, %s", d, pairs ? "interleaved" : "halves");
            tk_run(t, "rope", text, check_rope, &s, false);
        }
    tk_run(t, "act", "accuracy", check_accuracy, NULL, true);
}

typedef struct row_bench {
    float *y, *x, *w;
    uint8_t *q;
    size_t n;
} row_bench;

static void run_gelu(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->act(TVLM_ACT_GELU, b->y, b->x, b->n);
}
static void run_silu_mul(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->silu_mul(b->y, b->x, b->w, b->n);
}
static void run_rmsnorm(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->rmsnorm(b->y, b->x, b->w, b->n, 1e-6f);
}
static void run_layernorm(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->layernorm(b->y, b->x, b->w, b->w, b->n, 1e-6f);
}
static void run_axpy(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->axpy(b->y, 0.5f, b->x, b->n);
}
static void run_quantize(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->quantize_u7(b->q, b->x, b->n, 20.0f, 3.0f);
}
static void run_f16(const tvlm_kernels *table, void *arg)
{
    row_bench *b = arg;
    table->f32_to_f16((uint16_t *)(void *)b->y, b->x, b->n);
}

void bench_rows(tk *t)
{
    enum { N = 4096 };
    t->n_slots = 0;
    t->fill = TK_RANDOM;
    t->at_end = false;
    t->kernel = t->shape = "rows";
    row_bench b = {tk_floats(t, N), tk_floats(t, N), tk_floats(t, N), tk_bytes(t, N, 0, 127), N};
    tk_bench(t, "act", "gelu n4096", run_gelu, &b, N, 8.0 * N);
    tk_bench(t, "silu_mul", "n4096", run_silu_mul, &b, N, 12.0 * N);
    tk_bench(t, "rmsnorm", "n4096", run_rmsnorm, &b, 4.0 * N, 8.0 * N);
    tk_bench(t, "layernorm", "n4096", run_layernorm, &b, 6.0 * N, 8.0 * N);
    tk_bench(t, "axpy", "n4096", run_axpy, &b, 2.0 * N, 12.0 * N);
    tk_bench(t, "f32_to_f16", "n4096", run_f16, &b, N, 6.0 * N);
    tk_bench(t, "quantize_u7", "n4096", run_quantize, &b, 2.0 * N, 5.0 * N);
}
