/* SPDX-License-Identifier: MIT
 * EfficientNet-Lite and attention pooling against plain loops on random weights; the memory plan of
 * the full FastViTHD. (FastViT's values: tests/golden; the int8 tower: test_quantize.c.) */
#include "cpu/cpu.h"
#include "vision/vision.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static tvlm_kernels kernels;

/* Buffers of a test, freed together. */
static void *blocks[256];
static size_t n_blocks;

static float *room(size_t n)
{
    assert_true(n_blocks < TVLM_COUNT(blocks));
    return blocks[n_blocks++] = tvlm_aligned_alloc(n * sizeof(float));
}

static int free_rooms(void **state)
{
    (void)state;
    while (n_blocks)
        tvlm_aligned_free(blocks[--n_blocks]);
    return 0;
}

static float *noise(size_t n, double spread)
{
    static uint32_t seed = 1;
    float *x = room(n);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(spread * (int32_t)seed / 2147483648.0);
    }
    return x;
}

/* A linear whose raw rows are kept beside it. */
typedef struct raw_linear {
    tvlm_linear l;
    const float *raw;
} raw_linear;

static raw_linear linear(size_t n, size_t k)
{
    size_t size;
    assert_true(tvlm_layout_f32.packed_size(TVLM_TYPE_F32, n, k, &size));
    float *packed = room(size / sizeof(float) + 1), *raw = noise(n * k, sqrt(3.0 / (double)k));
    for (size_t n0 = 0; n0 < n; n0 += TVLM_GEMM_NR)
        tvlm_layout_f32.pack(TVLM_TYPE_F32, packed, raw + n0 * k, n0,
                             n - n0 < TVLM_GEMM_NR ? n - n0 : TVLM_GEMM_NR, k);
    return (raw_linear){
        {.gemm = tvlm_gemm_select(tvlm_cpu_detect(), TVLM_TYPE_F32, TVLM_NUMERIC_F32),
         .weight = packed,
         .bias = noise(n, 0.3),
         .n = n,
         .k = k},
        raw
    };
}

static void naive_linear(const raw_linear *w, const double *x, size_t m, double *y)
{
    for (size_t i = 0; i < m; i++)
        for (size_t o = 0; o < w->l.n; o++) {
            double sum = w->l.bias[o];
            for (size_t k = 0; k < w->l.k; k++)
                sum += x[i * w->l.k + k] * w->raw[o * w->l.k + k];
            y[i * w->l.n + o] = sum;
        }
}

static void assert_close(const float *got, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-5 * (1 + fabs(want[i]))))
            fail_msg("element %zu: %.9g, expected %.9g", i, (double)got[i], want[i]);
}

/* Runs fn over a measured arena. */
static void run(void (*fn)(tvlm_cx *cx, void *user), void *user)
{
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    tvlm_cx cx = {.kernels = &kernels, .arena = &arena};
    fn(&cx, user);
    size_t peak = arena.peak;
    void *block = tvlm_aligned_alloc(peak);
    tvlm_arena_init(&arena, block, peak);
    fn(&cx, user);
    assert_int_equal(arena.peak, peak);
    tvlm_aligned_free(block);
}

/* ---- EfficientNet-Lite: a stem, three blocks, a head ---- */

enum { S = 32, STEM = 16 };

typedef struct net {
    tvlm_efficientnet w;
    raw_linear stem, expand[3], project[3], head;
    const float *pixels;
    float *lo, *hi;
} net;

static void forward_net(tvlm_cx *cx, void *user)
{
    net *n = user;
    tvlm_efficientnet_forward(cx, &n->w, tvlm_nn_f32(n->pixels, S, S, 3),
                              (tvlm_features){n->hi, n->lo});
}

static double relu6(double x)
{
    return x < 0 ? 0 : x > 6 ? 6 : x;
}

/* SAME padding puts the odd pixel after: output o starts at input o*stride - total/2. */
static double *naive_conv(const double *x, size_t side, size_t c_in, const float *w,
                          const float *bias, size_t c_out, size_t k, size_t stride, bool dense)
{
    size_t out = (side + stride - 1) / stride, span = (out - 1) * stride + k;
    ptrdiff_t pad = span > side ? (ptrdiff_t)(span - side) / 2 : 0;
    double *y = test_malloc(out * out * c_out * sizeof *y);
    for (size_t i = 0; i < out * out * c_out; i++) {
        size_t o = i % c_out;
        double sum = bias[o];
        for (size_t tap = 0; tap < k * k; tap++) {
            ptrdiff_t yy = (ptrdiff_t)(i / c_out / out * stride + tap / k) - pad;
            ptrdiff_t xx = (ptrdiff_t)(i / c_out % out * stride + tap % k) - pad;
            if (yy < 0 || xx < 0 || yy >= (ptrdiff_t)side || xx >= (ptrdiff_t)side) continue;
            const double *pixel = x + ((size_t)yy * side + (size_t)xx) * c_in;
            for (size_t c = 0; dense && c < c_in; c++)
                sum += pixel[c] * w[(o * k * k + tap) * c_in + c];
            if (!dense) sum += pixel[o] * w[tap * c_out + o];
        }
        y[i] = relu6(sum);
    }
    return y;
}

static double *naive_pointwise(const raw_linear *w, const double *x, size_t m, bool clamp)
{
    double *y = test_malloc(m * w->l.n * sizeof *y);
    naive_linear(w, x, m, y);
    for (size_t i = 0; clamp && i < m * w->l.n; i++)
        y[i] = relu6(y[i]);
    return y;
}

/* x is freed; the result is the block's output, of side / stride. */
static double *naive_block(const net *n, size_t i, double *x, size_t side)
{
    const tvlm_mbconv *b = &n->w.blocks[i];
    double *e = b->has_expand ? naive_pointwise(&n->expand[i], x, side * side, true) : x;
    double *d = naive_conv(e, side, b->c_mid, b->dw.weight, b->dw.bias, b->c_mid, b->dw.k,
                           b->stride, false);
    size_t m = side / b->stride * (side / b->stride);
    double *y = naive_pointwise(&n->project[i], d, m, false);
    for (size_t j = 0; b->residual && j < m * b->c_out; j++)
        y[j] += x[j];
    if (e != x) test_free(e);
    test_free(d);
    test_free(x);
    return y;
}

static void build_net(net *n)
{
    static const struct {
        size_t c_out;
        unsigned k, stride;
        bool expand, residual;
    } shape[3] = {
        {8,  3, 1, false, false},
        {12, 5, 2, true,  false},
        {12, 3, 1, true,  true }
    };
    *n = (net){.stem = linear(STEM, 27), .pixels = noise(S * S * 3, 1)};
    n->w = (tvlm_efficientnet){
        .stem = {n->stem.l, 3, 3},
          .stem_stride = 2, .n_blocks = 3, .tap_block = 1
    };
    size_t c = STEM;
    for (size_t i = 0; i < 3; i++) {
        size_t mid = shape[i].expand ? 6 * c : c, k = shape[i].k;
        if (shape[i].expand) n->expand[i] = linear(mid, c);
        n->project[i] = linear(shape[i].c_out, mid);
        n->w.blocks[i] = (tvlm_mbconv){
            .has_expand = shape[i].expand,
            .residual = shape[i].residual,
            .expand = n->expand[i].l,
            .project = n->project[i].l,
            .stride = shape[i].stride,
            .c_in = c,
            .c_mid = mid,
            .c_out = shape[i].c_out,
            .dw = {.weight = noise(k * k * mid, 1),
                   .bias = noise(mid, 0.5),
                   .c_out = mid,
                   .k = (unsigned)k}
        };
        c = shape[i].c_out;
    }
    n->head = linear(20, c);
    n->w.head = n->head.l;
    n->lo = room(8 * 8 * 12);
    n->hi = room(8 * 8 * 20);
}

static void efficientnet_matches(void **state)
{
    (void)state;
    static net n;
    build_net(&n);
    run(forward_net, &n);
    double *pixels = test_malloc(S * S * 3 * sizeof *pixels);
    for (size_t i = 0; i < S * S * 3; i++)
        pixels[i] = n.pixels[i];
    double *x = naive_conv(pixels, S, 3, n.stem.raw, n.stem.l.bias, STEM, 3, 2, true);
    x = naive_block(&n, 0, x, 16);
    x = naive_block(&n, 1, x, 16);
    assert_close(n.lo, x, 8 * 8 * 12);
    x = naive_block(&n, 2, x, 8);
    double *hi = naive_pointwise(&n.head, x, 64, true);
    assert_close(n.hi, hi, 8 * 8 * 20);
    test_free(pixels);
    test_free(x);
    test_free(hi);
}

/* ---- attention pooling ---- */

enum {
    D = 32,
    HEADS = 2,
    N_HI = 4,
    N_LO = 16,
    N = N_HI + N_LO,
    QUERIES = 3,
    C_HI = 20,
    C_LO = 12,
    FF = 24
};

typedef struct pool_case {
    tvlm_pooling w;
    raw_linear hi, lo, q, k, v, o, up, down;
    const float *map_hi, *map_lo;
    float *tokens, *out;
} pool_case;

static void forward_pool(tvlm_cx *cx, void *user)
{
    pool_case *p = user;
    tvlm_pooling_embed(cx, &p->w, 1e-5f, p->map_hi, p->map_lo, p->tokens);
    tvlm_pooling_forward(cx, &p->w, 1e-5f, p->tokens, p->out);
}

static void naive_norm(const tvlm_norm *w, const double *x, size_t m, double *y)
{
    for (size_t i = 0; i < m; i++) {
        double mean = 0, var = 0;
        for (size_t j = 0; j < D; j++)
            mean += x[i * D + j] / D;
        for (size_t j = 0; j < D; j++)
            var += pow(x[i * D + j] - mean, 2) / D;
        for (size_t j = 0; j < D; j++)
            y[i * D + j] = (x[i * D + j] - mean) / sqrt(var + 1e-5) * w->weight[j] + w->bias[j];
    }
}

static void naive_tokens(const pool_case *p, double t[N][D])
{
    static double hi[N_HI * C_HI], lo[N_LO * C_LO];
    for (size_t i = 0; i < N_HI * C_HI; i++)
        hi[i] = p->map_hi[i];
    for (size_t i = 0; i < N_LO * C_LO; i++)
        lo[i] = p->map_lo[i];
    naive_linear(&p->hi, hi, N_HI, t[0]);
    naive_linear(&p->lo, lo, N_LO, t[N_HI]);
    for (size_t i = 0; i < N * D; i++)
        t[i / D][i % D] += p->w.pos[i];
    naive_norm(&p->w.norm, t[0], N, t[0]);
}

static void naive_attention(const double q[QUERIES][D], const double k[N][D], const double v[N][D],
                            double out[QUERIES][D])
{
    memset(out, 0, sizeof(double) * QUERIES * D);
    for (size_t i = 0; i < QUERIES; i++)
        for (size_t h = 0; h < D; h += D / HEADS) {
            double weight[N], sum = 0;
            for (size_t j = 0; j < N; j++) {
                double score = 0;
                for (size_t e = h; e < h + D / HEADS; e++)
                    score += q[i][e] * k[j][e];
                sum += weight[j] = exp(score / sqrt(D / HEADS));
            }
            for (size_t j = 0; j < N; j++)
                for (size_t e = h; e < h + D / HEADS; e++)
                    out[i][e] += weight[j] / sum * v[j][e];
        }
}

static void pooling_matches(void **state)
{
    (void)state;
    pool_case p = {.hi = linear(D, C_HI),
                   .lo = linear(D, C_LO),
                   .q = linear(D, D),
                   .k = linear(D, D),
                   .v = linear(D, D),
                   .o = linear(D, D),
                   .up = linear(FF, D),
                   .down = linear(D, FF),
                   .map_hi = noise(N_HI * C_HI, 3),
                   .map_lo = noise(N_LO * C_LO, 3),
                   .tokens = room(N * D),
                   .out = room(QUERIES * D)};
    p.w = (tvlm_pooling){
        .hi = p.hi.l,
        .lo = p.lo.l,
        .pos = noise(N * D, 1),
        .norm = {noise(D, 1), noise(D, 1)},
        .query = noise(QUERIES * D, 1),
        .attn_q = p.q.l,
        .attn_k = p.k.l,
        .attn_v = p.v.l,
        .attn_output = p.o.l,
        .ffn_norm = {noise(D, 1), noise(D, 1)},
        .ffn_up = p.up.l,
        .ffn_down = p.down.l,
        .out_norm = {noise(D, 1), noise(D, 1)},
        .n_query = QUERIES,
        .n_hi = N_HI,
        .n_lo = N_LO,
        .d = D,
        .n_heads = HEADS
    };
    run(forward_pool, &p);
    static double t[N][D], k[N][D], v[N][D], query[QUERIES][D], q[QUERIES][D], mixed[QUERIES][D];
    static double z[QUERIES][D], hidden[QUERIES][FF], ffn[QUERIES][D];
    naive_tokens(&p, t);
    assert_close(p.tokens, t[0], N * D);
    for (size_t i = 0; i < QUERIES * D; i++)
        query[i / D][i % D] = p.w.query[i];
    naive_linear(&p.q, query[0], QUERIES, q[0]);
    naive_linear(&p.k, t[0], N, k[0]);
    naive_linear(&p.v, t[0], N, v[0]);
    naive_attention(q, k, v, mixed);
    naive_linear(&p.o, mixed[0], QUERIES, z[0]);
    for (size_t i = 0; i < QUERIES * D; i++)
        z[i / D][i % D] += query[i / D][i % D];
    naive_norm(&p.w.ffn_norm, z[0], QUERIES, mixed[0]);
    naive_linear(&p.up, mixed[0], QUERIES, hidden[0]);
    for (size_t i = 0; i < QUERIES * FF; i++)
        hidden[i / FF][i % FF] *= 0.5 * (1 + erf(hidden[i / FF][i % FF] / sqrt(2)));
    naive_linear(&p.down, hidden[0], QUERIES, ffn[0]);
    for (size_t i = 0; i < QUERIES * D; i++)
        z[i / D][i % D] += ffn[i / D][i % D];
    naive_norm(&p.w.out_norm, z[0], QUERIES, z[0]);
    assert_close(p.out, z[0], QUERIES * D);
}

/* ---- the token of names ---- */

enum { NAMES = 37 };

typedef struct naming_case {
    tvlm_naming w;
    raw_linear score, embd;
    const float *hi;
    float *out;
} naming_case;

static void forward_names(tvlm_cx *cx, void *user)
{
    naming_case *p = user;
    tvlm_naming_forward(cx, &p->w, 1e-5f, p->hi, N_HI, p->out);
}

static void naming_matches(void **state)
{
    (void)state;
    naming_case p = {.score = linear(NAMES, C_HI),
                     .embd = linear(D, NAMES),
                     .hi = noise(N_HI * C_HI, 3),
                     .out = room(D)};
    p.w = (tvlm_naming){
        .score = p.score.l, .embd = p.embd.l, .norm = {noise(D, 1), NULL}
    };
    run(forward_names, &p);
    static double mean[C_HI], share[NAMES], sum[D];
    memset(mean, 0, sizeof mean);
    for (size_t i = 0; i < N_HI * C_HI; i++)
        mean[i % C_HI] += p.hi[i] / (double)N_HI;
    naive_linear(&p.score, mean, 1, share);
    for (size_t i = 0; i < NAMES; i++)
        share[i] = 1 / (1 + exp(-share[i]));
    naive_linear(&p.embd, share, 1, sum);
    double square = 0;
    for (size_t i = 0; i < D; i++)
        square += sum[i] * sum[i] / D;
    for (size_t i = 0; i < D; i++)
        sum[i] *= p.w.norm.weight[i] / sqrt(square + 1e-5);
    assert_close(p.out, sum, D);
}

/* ---- FastViTHD's plan at 1024 x 1024: shapes alone ---- */

static tvlm_linear shape_only(size_t n, size_t k)
{
    return (tvlm_linear){
        .gemm = tvlm_gemm_select(0, TVLM_TYPE_F32, TVLM_NUMERIC_F32), .n = n, .k = k};
}

static tvlm_dwconv dw_shape(size_t c, unsigned k)
{
    return (tvlm_dwconv){.c_out = c, .k = k};
}

static void build_fastvithd(tvlm_fastvit *w, tvlm_fastvit_block blocks_of[5])
{
    *w = (tvlm_fastvit){
        .stem0 = {shape_only(96, 27), 3, 3},
        .stem1 = dw_shape(96, 3),
        .stem2 = shape_only(96, 96),
        .n_stages = 5,
        .exp_dw = dw_shape(3072, 3),
        .se_reduce = shape_only(192, 3072),
        .se_expand = shape_only(3072, 192),
        .c_out = 3072,
        .head_dim = 32,
        .ln_eps = 1e-5f
    };
    for (size_t i = 0; i < 5; i++) {
        size_t c = (size_t)96 << i;
        blocks_of[i] = (tvlm_fastvit_block){
            .attention = i > 2,
            .mixer = dw_shape(c, 3),
            .qkv = shape_only(3 * c, c),
            .out = shape_only(c, c),
            .ffn = {dw_shape(c, 7), shape_only(4 * c, c), shape_only(c, 4 * c)}
        };
        w->stages[i] =
            (tvlm_fastvit_stage){.has_down = i > 0,
                                 .has_pos = i > 2,
                                 .down_dw = dw_shape(c, 7),
                                 .down_pw = shape_only(c, c),
                                 .pos = dw_shape(c, 7),
                                 .blocks = &blocks_of[i],
                                 .n_blocks = 1,
                                 .c = c}; /* scratch does not depend on the number of blocks */
    }
}

static size_t plan_at_1024(const tvlm_fastvit *w, unsigned threads)
{
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    tvlm_cx cx = {.kernels = &kernels, .arena = &arena, .n_threads = threads};
    tvlm_fastvit_forward(&cx, w, tvlm_nn_f32(NULL, 1024, 1024, 3), (tvlm_features){0});
    return arena.peak;
}

/* stem_rows: of the map within the stem that a task holds */
static void check_plan(const tvlm_gemm *stem, size_t stem_rows)
{
    static tvlm_fastvit w;
    tvlm_fastvit_block one[5];
    build_fastvithd(&w, one);
    w.stem0.linear.gemm = stem;
    const size_t map = 256 * 256 * 96 * 4;
    for (unsigned threads = 1; threads <= 16; threads *= 4) {
        /* two maps, and per thread the 64 hidden rows of an MLP; or one, and per thread a row of
         * windows and the stem's rows of 512 x 96 */
        size_t hidden = threads * 64 * 384 * 4;
        size_t rows = threads * 512 * (27 + stem_rows * 96) * 4;
        assert_int_equal(plan_at_1024(&w, threads),
                         map + (rows > map + hidden ? rows : map + hidden));
    }
    assert_int_equal(tvlm_fastvit_stride(&w), 64);
}

/* Scalar kernels compute a row of the stem a task, so that a cancel is soon seen. */
static void fastvithd_plan(void **state)
{
    (void)state;
    const tvlm_gemm *scalar = tvlm_gemm_select(0, TVLM_TYPE_F32, TVLM_NUMERIC_F32);
    tvlm_gemm simd = *scalar;
    simd.cpu = TVLM_CPU_AVX2;
    check_plan(scalar, 3);
    check_plan(&simd, 9);
}

int main(void)
{
    tvlm_kernels_select(&kernels, tvlm_cpu_detect());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(efficientnet_matches, free_rooms),
        cmocka_unit_test_teardown(pooling_matches, free_rooms),
        cmocka_unit_test_teardown(naming_matches, free_rooms),
        cmocka_unit_test(fastvithd_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
