/* SPDX-License-Identifier: MIT
 * Ops against plain loops; the same bits for any number of threads; the measured plan is enough. */
#include "cpu/cpu.h"
#include "nn/nn.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- running an op: measure, allocate exactly that, run on 1, 2 and 7 threads, compare bits ----
 */

typedef void (*body)(tvlm_cx *cx, void *user, float *out);

static void run_on(const tvlm_kernels *kernels, unsigned threads, body fn, void *user, float *out)
{
    tvlm_arena plan, arena;
    tvlm_arena_init_measure(&plan);
    tvlm_cx cx = {.kernels = kernels, .arena = &plan, .n_threads = threads};
    fn(&cx, user, out);
    assert_int_equal(plan.used, 0);
    size_t size = plan.peak ? plan.peak : TVLM_ALIGN;
    void *block = tvlm_aligned_alloc(size);
    assert_non_null(block);
    tvlm_arena_init(&arena, block, size);
    tvlm_pool *pool = NULL;
    if (threads > 1) assert_int_equal(tvlm_pool_new(threads, &pool, NULL), TVLM_OK);
    cx = (tvlm_cx){.kernels = kernels, .arena = &arena, .pool = pool};
    fn(&cx, user, out);
    assert_true(tvlm_nn_ok(&cx));
    assert_int_equal(arena.used, 0);
    assert_int_equal(arena.peak, plan.peak);
    tvlm_pool_free(pool);
    tvlm_aligned_free(block);
}

/* out: n floats of the one-thread result on the best tier; the scalar tier must agree to `bound`.
 */
static void run_all(body fn, void *user, float *out, size_t n, double bound)
{
    tvlm_kernels best, scalar;
    tvlm_kernels_select(&best, tvlm_cpu_detect());
    tvlm_kernels_select(&scalar, 0);
    float *other = test_malloc(n * sizeof *other);
    run_on(&best, 1, fn, user, out);
    for (unsigned threads = 2; threads <= 7; threads += 5) {
        memset(other, 0xFF, n * sizeof *other);
        run_on(&best, threads, fn, user, other);
        assert_memory_equal(out, other, n * sizeof *other);
    }
    run_on(&scalar, 1, fn, user, other);
    for (size_t i = 0; i < n; i++)
        assert_true(fabs((double)out[i] - other[i]) <= bound * (1 + fabs((double)other[i])));
    test_free(other);
}

static float *noise(size_t n, uint32_t seed)
{
    float *x = test_malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed / 2147483648.0f;
    }
    return x;
}

static void assert_close(const float *got, const double *want, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= bound * (1 + fabs(want[i]))))
            fail_msg("element %zu: %.9g, expected %.9g", i, (double)got[i], want[i]);
}

static double act_of(tvlm_act act, double x)
{
    switch (act) {
    case TVLM_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case TVLM_ACT_RELU:
        return x > 0 ? x : 0;
    case TVLM_ACT_RELU6:
        return x < 0 ? 0 : x > 6 ? 6 : x;
    case TVLM_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case TVLM_ACT_GELU_TANH:
        return x / (1 + exp(-2 * sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case TVLM_ACT_NONE:
        break;
    }
    return x;
}

/* A float32 linear with its own packed weights; the raw rows stay in *raw. */
static tvlm_linear make_linear(size_t n, size_t k, bool bias, uint32_t seed, float **raw)
{
    size_t size;
    assert_true(tvlm_layout_f32.packed_size(TVLM_TYPE_F32, n, k, &size));
    void *packed = tvlm_aligned_alloc(size);
    *raw = noise(n * k, seed);
    for (size_t n0 = 0; n0 < n; n0 += TVLM_GEMM_NR)
        tvlm_layout_f32.pack(TVLM_TYPE_F32, packed, *raw + n0 * k, n0,
                             n - n0 < TVLM_GEMM_NR ? n - n0 : TVLM_GEMM_NR, k);
    return (tvlm_linear){.gemm =
                             tvlm_gemm_select(tvlm_cpu_detect(), TVLM_TYPE_F32, TVLM_NUMERIC_F32),
                         .weight = packed,
                         .bias = bias ? noise(n, seed + 1) : NULL,
                         .n = n,
                         .k = k};
}

static void free_linear(tvlm_linear *l, float *raw)
{
    tvlm_aligned_free((void *)(uintptr_t)l->weight);
    if (l->bias) test_free((void *)(uintptr_t)l->bias);
    test_free(raw);
}

/* ---- linear and mlp ---- */

typedef struct linear_case {
    tvlm_linear l, down;
    tvlm_act act;
    const float *x, *residual;
    size_t m;
    float scale;
} linear_case;

static void linear_body(tvlm_cx *cx, void *user, float *out)
{
    linear_case *c = user;
    tvlm_nn_linear(cx, &c->l, c->act, c->x, c->m, c->scale, c->residual, out);
}

static double naive_row(const tvlm_linear *l, const float *raw, const float *x, size_t n)
{
    double sum = l->bias ? l->bias[n] : 0;
    for (size_t k = 0; k < l->k; k++)
        sum += (double)x[k] * raw[n * l->k + k];
    return sum;
}

static void linear_matches(void **state)
{
    (void)state;
    const struct {
        size_t m, n, k;
        tvlm_act act;
        bool bias, residual;
    } cases[] = {
        {1,   100, 24, TVLM_ACT_NONE,      true,  false},
        {17,  33,  9,  TVLM_ACT_GELU,      true,  true },
        {130, 65,  40, TVLM_ACT_RELU6,     false, true },
        {9,   1,   1,  TVLM_ACT_SIGMOID,   true,  false},
        {17,  40,  9,  TVLM_ACT_GELU_TANH, true,  true },
        {65,  200, 7,  TVLM_ACT_RELU,      false, false}
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        size_t m = cases[i].m, n = cases[i].n, k = cases[i].k;
        float *raw, *x = noise(m * k, 7), *residual = noise(m * n, 8);
        linear_case c = {.l = make_linear(n, k, cases[i].bias, 3, &raw),
                         .act = cases[i].act,
                         .x = x,
                         .m = m,
                         .scale = 0.75f,
                         .residual = cases[i].residual ? residual : NULL};
        float *got = test_malloc(m * n * sizeof *got);
        double *want = test_malloc(m * n * sizeof *want);
        run_all(linear_body, &c, got, m * n, 1e-5);
        for (size_t j = 0; j < m * n; j++)
            want[j] = 0.75 * act_of(c.act, naive_row(&c.l, raw, x + j / n * k, j % n)) +
                      (c.residual ? residual[j] : 0);
        assert_close(got, want, m * n, 1e-5);
        free_linear(&c.l, raw);
        test_free(x);
        test_free(residual);
        test_free(got);
        test_free(want);
    }
}

/* A kernel that reads packed rows: 4,500 rows are packed by tiles, 100 at once, to the same bits.
 */
static void many_rows_match_few(void **state)
{
    (void)state;
    enum { M = 4500, FEW = 100, N = 40, K = 70 };
    float *raw, *x = noise(M * K, 1), *residual = noise(M * N, 2);
    linear_case c = {.l = make_linear(N, K, true, 3, &raw), .x = x, .m = M, .scale = 1};
    tvlm_linear floats = c.l;
    size_t size = 0;
    c.l.gemm = tvlm_gemm_select(tvlm_cpu_detect(), TVLM_TYPE_F32, TVLM_NUMERIC_INT16);
    assert_true(c.l.gemm->input && c.l.gemm->layout->packed_size(TVLM_TYPE_F32, N, K, &size));
    void *packed = tvlm_aligned_alloc(size);
    for (size_t n = 0; n < N; n += TVLM_GEMM_NR)
        c.l.gemm->layout->pack(TVLM_TYPE_F32, packed, raw + n * K, n,
                               N - n < TVLM_GEMM_NR ? N - n : TVLM_GEMM_NR, K);
    c.l.weight = packed;
    float *many = test_malloc(M * N * sizeof *many), *few = test_malloc(FEW * N * sizeof *few);
    for (unsigned way = 0; way < 4; way++) {
        c.act = way % 2 ? TVLM_ACT_GELU : TVLM_ACT_NONE;
        c.residual = way / 2 ? residual : NULL;
        c.m = M;
        run_all(linear_body, &c, many, M * N, 1e-5);
        c.m = FEW;
        run_all(linear_body, &c, few, FEW * N, 1e-5);
        assert_memory_equal(many, few, FEW * N * sizeof *few);
    }
    tvlm_aligned_free(packed);
    free_linear(&floats, raw);
    test_free(x);
    test_free(residual);
    test_free(many);
    test_free(few);
}

static void mlp_body(tvlm_cx *cx, void *user, float *out)
{
    linear_case *c = user;
    tvlm_nn_mlp(cx, &c->l, TVLM_ACT_GELU, &c->down, c->x, c->m, c->residual, out);
}

/* Both ways of keeping the hidden rows give the same bits: 4,500 rows are tiled, 100 are not. */
static void mlp_matches_two_linears(void **state)
{
    (void)state;
    enum { M = 4500, FEW = 100, D = 12, HIDDEN = 40 };
    float *raw_up, *raw_down, *x = noise(M * D, 1), *residual = noise(M * D, 2);
    linear_case c = {.l = make_linear(HIDDEN, D, true, 3, &raw_up),
                     .x = x,
                     .m = M,
                     .down = make_linear(D, HIDDEN, true, 4, &raw_down),
                     .residual = residual};
    float *many = test_malloc(M * D * sizeof *many), *few = test_malloc(FEW * D * sizeof *few);
    run_all(mlp_body, &c, many, M * D, 1e-5);
    c.m = FEW;
    run_all(mlp_body, &c, few, FEW * D, 1e-5);
    assert_memory_equal(many, few, FEW * D * sizeof *few);
    for (size_t i = 0; i < FEW * D; i++) {
        double sum = c.down.bias[i % D] + (double)residual[i];
        for (size_t h = 0; h < HIDDEN; h++)
            sum += act_of(TVLM_ACT_GELU, naive_row(&c.l, raw_up, x + i / D * D, h)) *
                   (double)raw_down[i % D * HIDDEN + h];
        assert_close(&few[i], &sum, 1, 1e-5);
    }
    free_linear(&c.l, raw_up);
    free_linear(&c.down, raw_down);
    test_free(x);
    test_free(residual);
    test_free(many);
    test_free(few);
}

/* ---- convolutions ---- */

typedef struct conv_case {
    tvlm_dwconv dw;
    tvlm_conv conv;
    bool dense;
    tvlm_pad pad;
    unsigned stride, k;
    tvlm_act act;
    tvlm_map x;
    size_t oh, ow, c_out;
} conv_case;

static void conv_body(tvlm_cx *cx, void *user, float *out)
{
    conv_case *c = user;
    tvlm_map y = tvlm_nn_f32(out, c->oh, c->ow, c->c_out);
    if (c->dense)
        tvlm_nn_conv(cx, &c->conv, c->stride, c->pad, c->act, c->x, y);
    else
        tvlm_nn_dwconv(cx, &c->dw, c->stride, c->pad, c->act, c->x, y);
}

/* weight of (ky, kx, input channel of the window) */
static double naive_conv(const conv_case *c, const float *w, size_t oy, size_t ox, size_t o)
{
    const float *in = c->x.data;
    ptrdiff_t top = tvlm_nn_conv_pad(c->x.h, c->k, c->stride, c->pad);
    ptrdiff_t left = tvlm_nn_conv_pad(c->x.w, c->k, c->stride, c->pad);
    const float *bias = c->dense ? c->conv.linear.bias : c->dw.bias;
    double sum = bias[o];
    for (size_t i = 0; i < c->k; i++) {
        for (size_t j = 0; j < c->k; j++) {
            ptrdiff_t y = (ptrdiff_t)(oy * c->stride + i) - top;
            ptrdiff_t x = (ptrdiff_t)(ox * c->stride + j) - left;
            if (y < 0 || x < 0 || y >= (ptrdiff_t)c->x.h || x >= (ptrdiff_t)c->x.w) continue;
            const float *pixel = in + ((size_t)y * c->x.w + (size_t)x) * c->x.c;
            size_t tap = i * c->k + j;
            if (!c->dense) sum += (double)pixel[o * c->x.c / c->c_out] * w[tap * c->c_out + o];
            for (size_t ch = 0; c->dense && ch < c->x.c; ch++)
                sum += (double)pixel[ch] * w[(o * c->k * c->k + tap) * c->x.c + ch];
        }
    }
    return act_of(c->act, sum);
}

static void check_conv(conv_case *c, const float *w)
{
    c->oh = tvlm_nn_conv_out(c->x.h, c->k, c->stride, c->pad);
    c->ow = tvlm_nn_conv_out(c->x.w, c->k, c->stride, c->pad);
    size_t n = c->oh * c->ow * c->c_out;
    float *got = test_malloc(n * sizeof *got);
    run_all(conv_body, c, got, n, 1e-5);
    for (size_t i = 0; i < n; i++) {
        double want = naive_conv(c, w, i / c->c_out / c->ow, i / c->c_out % c->ow, i % c->c_out);
        assert_close(&got[i], &want, 1, 1e-5);
    }
    test_free(got);
}

static void convolutions_match(void **state)
{
    (void)state;
    const struct {
        unsigned k, stride;
        tvlm_pad pad;
        bool dense;
        size_t h, w, c, c_out;
    } cases[] = {
        {3, 1, TVLM_PAD_EVEN, false, 5,  7,  8,  8 },
        {3, 2, TVLM_PAD_EVEN, false, 8,  6,  24, 24},
        {7, 1, TVLM_PAD_EVEN, false, 2,  3,  16, 16},
        {7, 2, TVLM_PAD_EVEN, false, 10, 12, 8,  16},
        {3, 1, TVLM_PAD_EVEN, false, 40, 40, 40, 80},
        {5, 2, TVLM_PAD_SAME, false, 14, 9,  8,  8 },
        {3, 2, TVLM_PAD_SAME, false, 7,  8,  3,  3 },
        {5, 1, TVLM_PAD_SAME, false, 6,  4,  9,  9 },
        {3, 2, TVLM_PAD_EVEN, true,  12, 8,  3,  20},
        {3, 2, TVLM_PAD_SAME, true,  9,  12, 3,  17},
        {3, 1, TVLM_PAD_SAME, true,  1,  1,  2,  5 },
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        size_t h = cases[i].h, w = cases[i].w, c_in = cases[i].c, c_out = cases[i].c_out;
        unsigned k = cases[i].k;
        float *x = noise(h * w * c_in, 5), *raw, *weight = noise(k * k * c_out, 6);
        float *bias = noise(c_out, 9);
        conv_case c = {.dense = cases[i].dense,
                       .pad = cases[i].pad,
                       .k = k,
                       .stride = cases[i].stride,
                       .act = i % 2 ? TVLM_ACT_GELU : TVLM_ACT_NONE,
                       .x = tvlm_nn_f32(x, h, w, c_in),
                       .c_out = c_out};
        c.dw = (tvlm_dwconv){.weight = weight, .bias = bias, .c_out = c_out, .k = k};
        c.conv = (tvlm_conv){
            .linear = make_linear(c_out, k * k * c_in, true, 4, &raw), .c_in = c_in, .k = k};
        check_conv(&c, c.dense ? raw : weight);
        free_linear(&c.conv.linear, raw);
        test_free(x);
        test_free(weight);
        test_free(bias);
    }
}

/* Two convolutions in bands give the bits of one after the other. */
typedef struct stem_case {
    tvlm_conv conv;
    tvlm_dwconv dw;
    unsigned stride;
    tvlm_pad pad;
    tvlm_map x;
    bool bands;
} stem_case;

static void stem_body(tvlm_cx *cx, void *user, float *out)
{
    const stem_case *c = user;
    tvlm_map between = tvlm_nn_conv_map(&c->conv, c->stride, c->pad, c->x);
    tvlm_map y = tvlm_nn_dwconv_map(&c->dw, c->stride, c->pad, between);
    size_t mark = tvlm_arena_mark(cx->arena);
    y.data = out;
    if (c->bands) {
        tvlm_nn_conv_dwconv(cx, &c->conv, &c->dw, c->stride, c->pad, TVLM_ACT_GELU, c->x, y);
        return;
    }
    between = tvlm_nn_map(cx, between);
    tvlm_nn_conv(cx, &c->conv, c->stride, c->pad, TVLM_ACT_GELU, c->x, between);
    tvlm_nn_dwconv(cx, &c->dw, c->stride, c->pad, TVLM_ACT_GELU, between, y);
    tvlm_arena_release(cx->arena, mark);
}

static void bands_match(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {
        {64, 32},
        {30, 19},
        {5,  7 },
        {1,  1 }
    };
    for (size_t i = 0; i < 2 * TVLM_COUNT(sizes); i++) {
        size_t h = sizes[i / 2][0], w = sizes[i / 2][1];
        float *raw, *x = noise(h * w * 3, 5), *weight = noise(9 * 20, 6), *bias = noise(20, 9);
        stem_case c = {
            .conv = {make_linear(20, 27, true, 4, &raw), .c_in = 3, .k = 3},
            .dw = {.weight = weight, .bias = bias, .c_out = 20, .k = 3},
            .stride = 1 + (h > 1 && i % 3),
            .pad = i % 2 ? TVLM_PAD_SAME : TVLM_PAD_EVEN,
            .x = tvlm_nn_f32(x, h, w, 3)
        };
        tvlm_map y = tvlm_nn_conv_map(&c.conv, c.stride, c.pad, c.x);
        y = tvlm_nn_dwconv_map(&c.dw, c.stride, c.pad, y);
        size_t n = y.h * y.w * y.c;
        float *want = test_malloc(n * sizeof *want), *got = test_malloc(n * sizeof *got);
        run_all(stem_body, &c, want, n, 1e-5);
        c.bands = true;
        run_all(stem_body, &c, got, n, 1e-5);
        assert_memory_equal(got, want, n * sizeof *got);
        free_linear(&c.conv.linear, raw);
        test_free(x);
        test_free(weight);
        test_free(bias);
        test_free(want);
        test_free(got);
    }
}

/* An inverted bottleneck in bands gives the bits of its three ops. */
typedef struct bottleneck_case {
    tvlm_bottleneck op;
    tvlm_map x;
    bool residual, bands;
} bottleneck_case;

static void bottleneck_body(tvlm_cx *cx, void *user, float *out)
{
    const bottleneck_case *c = user;
    const tvlm_bottleneck *op = &c->op;
    tvlm_map y = tvlm_nn_bottleneck_map(op, c->x);
    y.data = out;
    if (c->bands) {
        tvlm_nn_bottleneck(cx, op, c->x, c->residual, y);
        return;
    }
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_map e = tvlm_nn_map(cx, tvlm_nn_linear_map(op->expand, c->x));
    tvlm_map d = tvlm_nn_map(cx, tvlm_nn_dwconv_map(op->dw, op->stride, op->pad, e));
    tvlm_nn_pointwise(cx, op->expand, op->act, c->x, NULL, e);
    tvlm_nn_dwconv(cx, op->dw, op->stride, op->pad, op->act, e, d);
    tvlm_nn_pointwise(cx, op->project, TVLM_ACT_NONE, d, c->residual ? &c->x : NULL, y);
    tvlm_arena_release(cx->arena, mark);
}

static void bottlenecks_match(void **state)
{
    (void)state;
    enum { C = 12, MID = 37 };
    static const struct {
        size_t h, w;
        unsigned k, stride;
        tvlm_act act;
    } cases[] = {
        {64, 21, 3, 1, TVLM_ACT_RELU6},
        {70, 33, 5, 2, TVLM_ACT_RELU6},
        {19, 9,  5, 1, TVLM_ACT_GELU },
        {7,  7,  3, 2, TVLM_ACT_RELU6},
        {1,  1,  5, 1, TVLM_ACT_GELU }
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        size_t h = cases[i].h, w = cases[i].w, taps = (size_t)cases[i].k * cases[i].k;
        float *raw_up, *raw_down, *x = noise(h * w * C, 5);
        float *weight = noise(taps * MID, 6), *bias = noise(MID, 9);
        tvlm_linear up = make_linear(MID, C, true, 3, &raw_up);
        tvlm_linear down = make_linear(C, MID, true, 4, &raw_down);
        tvlm_dwconv dw = {.weight = weight, .bias = bias, .c_out = MID, .k = cases[i].k};
        bottleneck_case c = {
            .op = {.expand = &up,
                   .project = &down,
                   .dw = &dw,
                   .stride = cases[i].stride,
                   .pad = TVLM_PAD_SAME,
                   .act = cases[i].act},
            .x = tvlm_nn_f32(x, h, w, C),
            .residual = cases[i].stride == 1
        };
        tvlm_map y = tvlm_nn_bottleneck_map(&c.op, c.x);
        size_t n = y.h * y.w * y.c;
        float *want = test_malloc(n * sizeof *want), *got = test_malloc(n * sizeof *got);
        run_all(bottleneck_body, &c, want, n, 1e-5);
        c.bands = true;
        run_all(bottleneck_body, &c, got, n, 1e-5);
        assert_memory_equal(got, want, n * sizeof *got);
        free_linear(&up, raw_up);
        free_linear(&down, raw_down);
        test_free(x);
        test_free(weight);
        test_free(bias);
        test_free(want);
        test_free(got);
    }
}

/* ---- a mix of dtypes: int8 up, float depthwise, int8 down with a float residual ---- */

enum { MIX_SIDE = 5, MIX_IN = 12, MIX_MID = 20, MIX_PIXELS = MIX_SIDE * MIX_SIDE };

typedef struct mix_case {
    tvlm_linear up, down;
    tvlm_dwconv dw;
    tvlm_map x;
} mix_case;

static void mix_body(tvlm_cx *cx, void *user, float *out)
{
    const mix_case *c = user;
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_map e = tvlm_nn_map(cx, tvlm_nn_linear_map(&c->up, c->x));
    tvlm_map d = tvlm_nn_map(cx, tvlm_nn_dwconv_map(&c->dw, 1, TVLM_PAD_SAME, e));
    tvlm_map y = tvlm_nn_map(cx, tvlm_nn_linear_map(&c->down, d));
    tvlm_nn_pointwise(cx, &c->up, TVLM_ACT_RELU6, c->x, NULL, e);
    tvlm_nn_dwconv(cx, &c->dw, 1, TVLM_PAD_SAME, TVLM_ACT_RELU6, e, d);
    tvlm_nn_pointwise(cx, &c->down, TVLM_ACT_NONE, d, &c->x, y);
    tvlm_nn_convert(cx, y, tvlm_nn_f32(out, y.h, y.w, y.c));
    tvlm_arena_release(cx->arena, mark);
}

static tvlm_linear make_int8(size_t n, size_t k, uint32_t seed, tvlm_qparam in, tvlm_qparam out,
                             int8_t **raw)
{
    size_t size;
    assert_true(tvlm_qgemm_packed_size(n, k, &size));
    int8_t *packed = tvlm_aligned_alloc(size), *w = test_malloc(n * k);
    float *noisy = noise(n * k, seed), *mult = noise(n, seed + 1), *beta = noise(n, seed + 2);
    int32_t *wsum = test_malloc(n * sizeof *wsum);
    for (size_t i = 0; i < n * k; i++)
        w[i] = (int8_t)(127 * noisy[i]);
    for (size_t i = 0; i < n; i++) {
        mult[i] = 0.01f + 0.005f * mult[i];
        beta[i] = 20 + 20 * beta[i];
        wsum[i] = 0;
        for (size_t j = 0; j < k; j++)
            wsum[i] += w[i * k + j];
    }
    for (size_t n0 = 0; n0 < n; n0 += TVLM_GEMM_NR)
        tvlm_qgemm_pack(packed, w + n0 * k, n0, n - n0 < TVLM_GEMM_NR ? n - n0 : TVLM_GEMM_NR, k);
    test_free(noisy);
    *raw = w;
    return (tvlm_linear){
        .weight = packed,
        .n = n,
        .k = k,
        .dtype = TVLM_DTYPE_U7,
        .quant = {.wsum = wsum, .mult = mult, .beta = beta, .in = in, .out = out, .hi = 127}
    };
}

static void free_int8(tvlm_linear *l, int8_t *raw)
{
    tvlm_aligned_free((void *)(uintptr_t)l->weight);
    test_free((void *)(uintptr_t)l->quant.wsum);
    test_free((void *)(uintptr_t)l->quant.mult);
    test_free((void *)(uintptr_t)l->quant.beta);
    test_free(raw);
}

static float clamp_byte(float v)
{
    v = rintf(v);
    return v < 0 ? 0 : v > 127 ? 127 : v;
}

static float to_byte(float x, tvlm_qparam q)
{
    float v = x * (1.0f / q.scale);
    return clamp_byte(v + (float)q.zero);
}

/* Row y[n] of bytes; x[k] floats, residual[n] floats or NULL. */
static void naive_int8(const tvlm_linear *l, const int8_t *raw, const float *x,
                       const float *residual, float *y)
{
    for (size_t n = 0; n < l->n; n++) {
        int32_t sum = 0;
        for (size_t k = 0; k < l->k; k++)
            sum += ((int32_t)to_byte(x[k], l->quant.in) - l->quant.in.zero) * raw[n * l->k + k];
        float v = (float)sum * l->quant.mult[n];
        v = v + l->quant.beta[n];
        if (residual)
            v = v + (to_byte(residual[n], l->quant.out) - (float)l->quant.out.zero) * 1.0f;
        y[n] = clamp_byte(v);
    }
}

static void naive_mix(const mix_case *c, const int8_t *up, const int8_t *down, float *out)
{
    static float e[MIX_PIXELS][MIX_MID], d[MIX_PIXELS][MIX_MID], y[MIX_IN];
    const float *x = c->x.data, *w = c->dw.weight;
    for (size_t p = 0; p < MIX_PIXELS; p++) {
        naive_int8(&c->up, up, x + p * MIX_IN, NULL, e[p]);
        for (size_t o = 0; o < MIX_MID; o++)
            e[p][o] = (e[p][o] - (float)c->up.quant.out.zero) * c->up.quant.out.scale;
    }
    for (size_t p = 0; p < MIX_PIXELS; p++) {
        for (size_t o = 0; o < MIX_MID; o++) {
            float sum = c->dw.bias[o];
            for (size_t tap = 0; tap < 9; tap++) {
                size_t i = p / MIX_SIDE + tap / 3 - 1, j = p % MIX_SIDE + tap % 3 - 1;
                if (i < MIX_SIDE && j < MIX_SIDE)
                    sum = fmaf(e[i * MIX_SIDE + j][o], w[tap * MIX_MID + o], sum);
            }
            d[p][o] = sum < 0 ? 0 : sum > 6 ? 6 : sum;
        }
        naive_int8(&c->down, down, d[p], x + p * MIX_IN, y);
        for (size_t o = 0; o < MIX_IN; o++)
            out[p * MIX_IN + o] = (y[o] - (float)c->down.quant.out.zero) * c->down.quant.out.scale;
    }
}

static void dtypes_mix(void **state)
{
    (void)state;
    int8_t *up, *down;
    const tvlm_qparam in = {0.016f, 60}, mid = {0.02f, 10}, to = {0.04f, 55}, last = {0.03f, 64};
    float *x = noise(MIX_PIXELS * MIX_IN, 3), *w = noise(9 * MIX_MID, 6), *bias = noise(MIX_MID, 9);
    mix_case c = {
        .up = make_int8(MIX_MID, MIX_IN, 11, in, mid, &up),
        .down = make_int8(MIX_IN, MIX_MID, 12, to, last, &down),
        .dw = {.weight = w, .bias = bias, .c_out = MIX_MID, .k = 3},
        .x = tvlm_nn_f32(x, MIX_SIDE, MIX_SIDE, MIX_IN)
    };
    static float got[MIX_PIXELS * MIX_IN], want[MIX_PIXELS * MIX_IN];
    run_all(mix_body, &c, got, MIX_PIXELS * MIX_IN, 0);
    naive_mix(&c, up, down, want);
    assert_memory_equal(got, want, sizeof got);
    free_int8(&c.up, up);
    free_int8(&c.down, down);
    test_free(x);
    test_free(w);
    test_free(bias);
}

/* TensorFlow pads 0,1 (3x3) and 1,2 (5x5) in front of and behind even sizes at stride 2. */
static void padding_rules(void **state)
{
    (void)state;
    assert_int_equal(tvlm_nn_conv_out(224, 3, 2, TVLM_PAD_SAME), 112);
    assert_int_equal(tvlm_nn_conv_pad(224, 3, 2, TVLM_PAD_SAME), 0);
    assert_int_equal(tvlm_nn_conv_pad(28, 5, 2, TVLM_PAD_SAME), 1);
    assert_int_equal(tvlm_nn_conv_pad(7, 3, 2, TVLM_PAD_SAME), 1);
    assert_int_equal(tvlm_nn_conv_pad(14, 5, 1, TVLM_PAD_SAME), 2);
    assert_int_equal(tvlm_nn_conv_out(1024, 3, 2, TVLM_PAD_EVEN), 512);
    assert_int_equal(tvlm_nn_conv_pad(1024, 3, 2, TVLM_PAD_EVEN), 1);
    assert_int_equal(tvlm_nn_conv_out(32, 7, 2, TVLM_PAD_EVEN), 16);
}

/* ---- rows ---- */

typedef struct rows_case {
    const float *x;
    tvlm_norm norm;
    size_t m, n;
    int op;
} rows_case;

static void rows_body(tvlm_cx *cx, void *user, float *out)
{
    rows_case *c = user;
    switch (c->op) {
    case 0:
        tvlm_nn_rmsnorm(cx, &c->norm, 1e-5f, c->x, c->m, c->n, out);
        break;
    case 1:
        tvlm_nn_layernorm(cx, &c->norm, 1e-5f, c->x, c->m, c->n, out);
        break;
    case 2:
        tvlm_nn_layernorm(cx, NULL, 1e-5f, c->x, c->m, c->n, out);
        break;
    case 3:
        tvlm_nn_scale_act(cx, TVLM_ACT_GELU, c->norm.weight, c->x, c->m, c->n, out);
        break;
    case 4:
        tvlm_nn_mean(cx, c->x, c->m, c->n, out);
        break;
    case 5:
        tvlm_nn_silu_mul(cx, c->x, c->x, c->m, c->n, out);
        break;
    default: /* five heads, row i turned by the angles that row i of x holds */
        if (tvlm_nn_live(cx)) memcpy(out, c->x, c->m * c->n * sizeof *out);
        tvlm_nn_rope(cx, c->x, c->op == 7, 5, c->n / 5, out, c->m);
        break;
    }
}

/* Element j of row i, turned with its partner: (a, b) -> (a c - b s, b c + a s). */
static double naive_rope(const rows_case *c, size_t i, size_t j)
{
    size_t d = c->n / 5, half = d / 2, e = j % d;
    bool pairs = c->op == 7, second = pairs ? e % 2 : e >= half;
    size_t angle = pairs ? e / 2 : e % half, partner = pairs ? j ^ 1 : second ? j - half : j + half;
    const float *cs = c->x + i * d, *x = c->x + i * c->n;
    double a = x[j], b = x[partner], cosine = cs[angle], sine = cs[half + angle];
    return second ? a * cosine + b * sine : a * cosine - b * sine;
}

static double naive_rows(const rows_case *c, size_t i, size_t j)
{
    const float *x = c->x + i * c->n;
    double sum = 0, squares = 0, var = 0, column = 0;
    for (size_t k = 0; k < c->n; k++) {
        sum += x[k];
        squares += (double)x[k] * x[k];
    }
    double mean = sum / (double)c->n;
    for (size_t k = 0; k < c->n; k++)
        var += (x[k] - mean) * (x[k] - mean) / (double)c->n;
    for (size_t k = 0; k < c->m; k++)
        column += c->x[k * c->n + j] / (double)c->m;
    double w = c->norm.weight[j], unit = (x[j] - mean) / sqrt(var + 1e-5);
    switch (c->op) {
    case 0:
        return x[j] / sqrt(squares / (double)c->n + 1e-5) * w;
    case 1:
        return unit * w + c->norm.bias[j];
    case 2:
        return unit;
    case 3:
        return act_of(TVLM_ACT_GELU, x[j] * w);
    case 4:
        return column;
    case 5:
        return x[j] / (1 + exp(-(double)x[j])) * x[j];
    default:
        return naive_rope(c, i, j);
    }
}

static void row_ops_match(void **state)
{
    (void)state;
    enum { M = 70, N = 100 };
    float *x = noise(M * N, 1), *w = noise(N, 2), *b = noise(N, 3);
    static float got[M * N];
    for (int op = 0; op < 8; op++) {
        rows_case c = {
            .x = x, .norm = {w, b},
                 .m = M, .n = N, .op = op
        };
        size_t n = op == 4 ? N : M * N;
        run_all(rows_body, &c, got, n, 1e-5);
        for (size_t i = 0; i < n; i++) {
            double want = naive_rows(&c, i / N, i % N);
            assert_close(&got[i], &want, 1, 1e-5);
        }
    }
    test_free(x);
    test_free(w);
    test_free(b);
}

/* The reference's LayerNorm over channels of a map with little variance, where eps shows. */
static void layernorm_fixture(void **state)
{
    (void)state;
    tensor_file f = tensors_open(TVLM_TEST_DATA "/golden/ops.safetensors");
    enum { C = 32, N = 15 };
    const float *x = tensors_find(&f, "ln.x").data, *y = tensors_find(&f, "ln.y").data;
    static float rows[N * C], got[N * C];
    for (size_t i = 0; i < N * C; i++)
        rows[i] = x[i % C * N + i / C]; /* CHW -> rows of channels */
    rows_case c = {
        .x = rows,
        .m = N,
        .n = C,
        .op = 1,
        .norm = {tensors_find(&f, "ln.weight").data, tensors_find(&f, "ln.bias").data}
    };
    run_all(rows_body, &c, got, N * C, 1e-5);
    for (size_t i = 0; i < N * C; i++) {
        double want = y[i % C * N + i / C];
        assert_close(&got[i], &want, 1, 2e-5);
    }
    tensors_close(&f);
}

/* ---- attention ---- */

typedef struct attention_case {
    const float *q, *k, *v;
    const uint16_t *k16, *v16;
    size_t m, ldq, ldk, n_keys, heads, kv, d;
    bool causal, f16;
} attention_case;

enum { M_MAX = 64 };

static void attention_body(tvlm_cx *cx, void *user, float *out)
{
    attention_case *c = user;
    const void *k = c->f16 ? (const void *)c->k16 : c->k, *v = c->f16 ? (const void *)c->v16 : c->v;
    tvlm_attn_row keys[M_MAX];
    assert_true(c->m <= M_MAX);
    for (size_t i = 0; i < c->m; i++)
        keys[i] = (tvlm_attn_row){k, v, c->causal ? c->n_keys - c->m + 1 + i : c->n_keys};
    tvlm_nn_attention(cx, &(tvlm_attention){.q = c->q,
                                            .ldq = c->ldq,
                                            .m = c->m,
                                            .keys = keys,
                                            .shared = !c->causal,
                                            .kv_f16 = c->f16,
                                            .ldk = c->ldk,
                                            .n_heads = c->heads,
                                            .n_kv = c->kv,
                                            .d = c->d,
                                            .scale = 0.3f,
                                            .out = out});
}

static double naive_attention(const attention_case *c, size_t i, size_t head, size_t column)
{
    size_t n = c->causal ? c->n_keys - c->m + 1 + i : c->n_keys;
    size_t at = head / (c->heads / c->kv) * c->d;
    double sum = 0, out = 0, most = -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t j = 0; j < n; j++) {
            double score = 0;
            for (size_t e = 0; e < c->d; e++)
                score += (double)c->q[i * c->ldq + head * c->d + e] * c->k[j * c->ldk + at + e];
            score *= 0.3;
            if (pass == 0) {
                most = score > most ? score : most;
            } else {
                sum += exp(score - most);
                out += exp(score - most) * c->v[j * c->ldk + at + column];
            }
        }
    }
    return out / sum;
}

static void attention_matches(void **state)
{
    (void)state;
    enum { M = 37, KEYS = 50, HEADS = 6, KV = 2, D = 16, LDQ = 120, LDK = 70 };
    float *q = noise(M * LDQ, 1), *k = noise(KEYS * LDK, 2), *v = noise(KEYS * LDK, 3);
    static uint16_t k16[KEYS * LDK], v16[KEYS * LDK];
    for (size_t i = 0; i < KEYS * LDK; i++) { /* values that a half holds exactly */
        k16[i] = tvlm_f32_to_f16(k[i]);
        v16[i] = tvlm_f32_to_f16(v[i]);
        k[i] = tvlm_f16_to_f32(k16[i]);
        v[i] = tvlm_f16_to_f32(v16[i]);
    }
    static float got[M * HEADS * D];
    for (int variant = 0; variant < 4; variant++) {
        attention_case c = {.q = q,
                            .k = k,
                            .v = v,
                            .k16 = k16,
                            .v16 = v16,
                            .m = M,
                            .ldq = LDQ,
                            .ldk = LDK,
                            .n_keys = KEYS,
                            .heads = HEADS,
                            .kv = KV,
                            .d = D,
                            .causal = variant & 1,
                            .f16 = variant & 2};
        run_all(attention_body, &c, got, M * HEADS * D, 1e-5);
        for (size_t i = 0; i < M * HEADS * D; i++) {
            double want = naive_attention(&c, i / (HEADS * D), i / D % HEADS, i % D);
            assert_close(&got[i], &want, 1, 1e-5);
        }
    }
    test_free(q);
    test_free(k);
    test_free(v);
}

/* Rows of two sessions, in a batch, alone, and few enough for their keys to be dealt out. */
typedef struct sessions_case {
    const float *q;
    tvlm_attn_row keys[8];
    size_t m;
} sessions_case;

enum { S_HEADS = 6, S_KV = 2, S_D = 24 };

static void sessions_body(tvlm_cx *cx, void *user, float *out)
{
    sessions_case *c = user;
    tvlm_nn_attention(cx, &(tvlm_attention){.q = c->q,
                                            .ldq = S_HEADS * S_D,
                                            .m = c->m,
                                            .keys = c->keys,
                                            .ldk = S_KV * S_D,
                                            .n_heads = S_HEADS,
                                            .n_kv = S_KV,
                                            .d = S_D,
                                            .scale = 0.3f,
                                            .out = out});
}

static void attention_does_not_depend_on_the_batch(void **state)
{
    (void)state;
    enum { M = 8, ROW = S_HEADS * S_D, LD = S_KV * S_D };
    enum { KEYS = 1500, SIZE = KEYS * LD }; /* of the batch, more than between two joins */
    float *q = noise(M * ROW, 1), *k[2] = {noise(SIZE, 2), noise(SIZE, 3)};
    float *v[2] = {noise(SIZE, 4), noise(SIZE, 5)};
    static const size_t n_keys[M] = {1, 127, 128, 129, 0, 700, 701, KEYS};
    sessions_case batch = {.q = q, .m = M};
    for (size_t i = 0; i < M; i++)
        batch.keys[i] = (tvlm_attn_row){k[i / 3 % 2], v[i / 3 % 2], n_keys[i]};
    static float all[M * ROW], one[ROW];
    run_all(sessions_body, &batch, all, M * ROW, 0);
    for (size_t i = 0; i < M; i++) {
        sessions_case alone = {.q = q + i * ROW, .keys = {batch.keys[i]}, .m = 1};
        run_all(sessions_body, &alone, one, ROW, 0);
        assert_memory_equal(one, all + i * ROW, sizeof one);
    }
    for (size_t i = 0; i < 2; i++) {
        test_free(k[i]);
        test_free(v[i]);
    }
    test_free(q);
}

static void attention_without_keys_is_zero(void **state)
{
    (void)state;
    float q[16] = {1}, out[16];
    memset(out, 0xFF, sizeof out);
    attention_case c = {
        .q = q, .k = q, .v = q, .m = 1, .ldq = 16, .ldk = 16, .heads = 2, .kv = 2, .d = 8};
    run_all(attention_body, &c, out, 16, 0);
    for (size_t i = 0; i < 16; i++)
        assert_true(out[i] == 0.0f);
}

/* ---- cancel ---- */

static void cancel_stops_every_later_op(void **state)
{
    (void)state;
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_cancel_request(cancel);
    tvlm_kernels kernels;
    tvlm_kernels_select(&kernels, 0);
    tvlm_arena arena;
    void *block = tvlm_aligned_alloc(4096);
    tvlm_arena_init(&arena, block, 4096);
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8] = {0}, w[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    tvlm_cx cx = {.kernels = &kernels, .arena = &arena, .cancel = cancel};
    tvlm_norm norm = {w, NULL};
    tvlm_nn_rmsnorm(&cx, &norm, 1e-5f, x, 1, 8, y);
    assert_false(tvlm_nn_ok(&cx));
    tvlm_cancel_reset(cancel);
    tvlm_nn_rmsnorm(&cx, &norm, 1e-5f, x, 1, 8, y);
    assert_true(y[0] == 0.0f);
    cx.stopped = false;
    tvlm_nn_rmsnorm(&cx, &norm, 1e-5f, x, 1, 8, y);
    assert_true(y[0] != 0.0f);
    tvlm_cancel_free(cancel);
    tvlm_aligned_free(block);
}

/* A plan that no memory can hold saturates instead of wrapping around. */
static void plan_saturates(void **state)
{
    (void)state;
    tvlm_arena plan;
    tvlm_arena_init_measure(&plan);
    tvlm_cx cx = {.arena = &plan};
    tvlm_nn_map(&cx, tvlm_nn_f32(NULL, SIZE_MAX / 2, 16, 3));
    assert_true(plan.peak == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_matches),
        cmocka_unit_test(many_rows_match_few),
        cmocka_unit_test(mlp_matches_two_linears),
        cmocka_unit_test(convolutions_match),
        cmocka_unit_test(bands_match),
        cmocka_unit_test(bottlenecks_match),
        cmocka_unit_test(dtypes_mix),
        cmocka_unit_test(padding_rules),
        cmocka_unit_test(row_ops_match),
        cmocka_unit_test(layernorm_fixture),
        cmocka_unit_test(attention_matches),
        cmocka_unit_test(attention_does_not_depend_on_the_batch),
        cmocka_unit_test(attention_without_keys_is_zero),
        cmocka_unit_test(cancel_stops_every_later_op),
        cmocka_unit_test(plan_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
