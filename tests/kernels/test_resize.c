/* SPDX-License-Identifier: MIT
 * The passes of a resize, on windows of any place and length, tails, and taps of both signs. */
#include "harness.h"

typedef struct resize_shape {
    size_t in, out, most; /* pixels of a row, pixels wanted, most taps */
} resize_shape;

/* Random taps about as large as a filter's: the last may be as good as one. */
static tvlm_resize_taps random_taps(tk *t, size_t n)
{
    int16_t *low = tk_buffer(t, 2 * n * sizeof *low, 2), *high = low + n;
    for (size_t i = 0; i < n; i++) {
        low[i] = (int16_t)tk_random(t);
        high[i] = (int16_t)((int)(tk_random(t) % 96) - 32);
    }
    return (tvlm_resize_taps){low, high, 0, n};
}

static void check_across(tk *t, const void *arg)
{
    const resize_shape *s = arg;
    size_t n = (1 + tk_random(t) % s->most) * TVLM_RESIZE_TAPS;
    tvlm_resize_taps taps = random_taps(t, n);
    tvlm_resize_taps *columns = tk_buffer(t, s->out * sizeof *columns, sizeof(void *));
    const uint8_t *x = tk_bytes(t, (s->in + n) * TVLM_RESIZE_CHANNELS + 4, 0, 255);
    for (size_t i = 0; i < s->out; i++) {
        columns[i] = taps;
        columns[i].first = tk_random(t) % (s->in + 1);
        columns[i].n = (1 + tk_random(t) % (n / TVLM_RESIZE_TAPS)) * TVLM_RESIZE_TAPS;
    }
    size_t size = s->out * TVLM_RESIZE_CHANNELS;
    uint8_t *got = tk_buffer(t, size, 1), *want = tk_buffer(t, size, 1);
    t->tier.resize_across(got, x, columns, s->out);
    t->scalar.resize_across(want, x, columns, s->out);
    tk_same_bytes(t, got, want, size);
}

static void check_down(tk *t, const void *arg)
{
    const resize_shape *s = arg;
    size_t n = (1 + tk_random(t) % s->most) * TVLM_RESIZE_TAPS, columns = s->out;
    tvlm_resize_taps taps = random_taps(t, n);
    const uint8_t *x = tk_bytes(t, n * columns, 0, 255);
    const uint8_t **rows = tk_buffer(t, n * sizeof *rows, sizeof(void *));
    for (size_t i = 0; i < n; i++)
        rows[i] = x + tk_random(t) % n * columns;
    uint8_t *got = tk_buffer(t, columns, 1), *want = tk_buffer(t, columns, 1);
    t->tier.resize_down(got, rows, &taps, columns);
    t->scalar.resize_down(want, rows, &taps, columns);
    tk_same_bytes(t, got, want, columns);
}

/* Against sums of 64 bits, for taps that add up to 2^22 as a filter's do. */
static void check_values(tk *t, const void *unused)
{
    enum { N = 3 * TVLM_RESIZE_TAPS };
    (void)unused;
    int32_t left = 1 << TVLM_RESIZE_BITS, k[N];
    int16_t low[N], high[N];
    for (size_t i = 0; i < N; i++) {
        k[i] = i + 1 < N ? (int32_t)(tk_random(t) % 1200000) - 400000 : left;
        left -= k[i];
        high[i] = (int16_t)((k[i] + (1 << 15)) >> 16);
        low[i] = (int16_t)(k[i] - high[i] * (1 << 16));
    }
    tvlm_resize_taps taps = {low, high, 0, N};
    const uint8_t *x = tk_bytes(t, N * TVLM_RESIZE_CHANNELS + 4, 0, 255), *rows[N];
    int64_t sums[TVLM_RESIZE_CHANNELS] = {0};
    for (size_t i = 0; i < N * TVLM_RESIZE_CHANNELS; i++)
        sums[i % TVLM_RESIZE_CHANNELS] += (int64_t)x[i] * k[i / TVLM_RESIZE_CHANNELS];
    uint8_t across[TVLM_RESIZE_CHANNELS], down[TVLM_RESIZE_CHANNELS];
    for (size_t i = 0; i < N; i++)
        rows[i] = x + i * TVLM_RESIZE_CHANNELS;
    t->tier.resize_across(across, x, &taps, 1);
    t->tier.resize_down(down, rows, &taps, TVLM_RESIZE_CHANNELS);
    for (size_t c = 0; c < TVLM_RESIZE_CHANNELS; c++) {
        double v = ((double)sums[c] + (1 << (TVLM_RESIZE_BITS - 1))) / (1 << TVLM_RESIZE_BITS);
        double want = v < 0 ? 0 : v > 255 ? 255 : (double)(int)v;
        tk_near(t, c, across[c], want, 0);
        tk_near(t, c, down[c], want, 0);
    }
}

void test_resize(tk *t)
{
    static const resize_shape shapes[] = {
        {1,  1,   1 },
        {5,  3,   2 },
        {33, 16,  3 },
        {40, 17,  9 },
        {90, 47,  2 },
        {64, 150, 40}
    };
    for (size_t i = 0; i < TVLM_COUNT(shapes); i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu to %zu", shapes[i].in, shapes[i].out);
        tk_run(t, "resize_across", name, check_across, &shapes[i], false);
        tk_run(t, "resize_down", name, check_down, &shapes[i], false);
    }
    for (int i = 0; i < 20; i++)
        tk_run(t, "resize_across", "values", check_values, NULL, false);
}

typedef struct resize_bench {
    const uint8_t *x;
    uint8_t *y;
    tvlm_resize_taps columns[224];
    const uint8_t *rows[24];
} resize_bench;

static void run_across(const tvlm_kernels *table, void *arg)
{
    resize_bench *b = arg;
    table->resize_across(b->y, b->x, b->columns, TVLM_COUNT(b->columns));
}

static void run_down(const tvlm_kernels *table, void *arg)
{
    resize_bench *b = arg;
    table->resize_down(b->y, b->rows, b->columns, TVLM_COUNT(b->columns) * TVLM_RESIZE_CHANNELS);
}

void bench_resize(tk *t)
{
    t->n_slots = 0;
    t->fill = TK_RANDOM;
    t->at_end = false;
    t->kernel = t->shape = "resize";
    enum { IN = 1280, OUT = 224, TAPS = 24 };
    static resize_bench b;
    tvlm_resize_taps taps = random_taps(t, TAPS);
    b.x = tk_bytes(t, (IN + TAPS) * TVLM_RESIZE_CHANNELS + 4, 0, 255);
    b.y = tk_buffer(t, OUT * TVLM_RESIZE_CHANNELS, 1);
    for (size_t i = 0; i < OUT; i++) {
        b.columns[i] = taps;
        b.columns[i].first = i * IN / OUT;
    }
    for (size_t i = 0; i < TAPS; i++)
        b.rows[i] = b.x + i * OUT;
    double flops = 2.0 * OUT * TAPS * TVLM_RESIZE_CHANNELS;
    tk_bench(t, "resize_across", "1280 to 224", run_across, &b, flops, IN * 3);
    tk_bench(t, "resize_down", "24 rows of 224", run_down, &b, flops, OUT * 3 * TAPS);
}
