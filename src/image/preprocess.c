/* SPDX-License-Identifier: MIT
 * Pillow's antialiased resize in two fixed-point passes, each rounded to 8 bits, one row at a time:
 *
 *   source row --RGB, pad--> line [in] --horizontal--> ring row [S] --vertical--> output row [S]
 *
 * An output row needs a window of ring rows; the windows move down only, so each source row is
 * resized once. The ring holds a window and some rows ahead, which all threads fill. Floating point
 * makes the coefficients (in double, in Pillow's order of operations) and never touches a pixel
 * before the last step, scale and bias. */
#include "image/preprocess.h"

#include <math.h>
#include <string.h>

enum {
    CHANNELS = TVLM_RESIZE_CHANNELS,
    SURPLUS = (TVLM_RESIZE_TAPS - 1) * CHANNELS + 4, /* bytes that surplus taps read */
    AHEAD = 64,                                      /* rows of the ring beside the window */
    TASK_ROWS = 4                                    /* some ten microseconds */
};

/* One axis: `size` source pixels lie at `before` in a canvas of `in`, which is resized to `out`, of
 * which outputs first..first+S are wanted. */
typedef struct axis {
    size_t size, before, in, out, first;
    double scale, inverse_filter_scale, support;
    size_t max_taps;
} axis;

typedef double (*filter_fn)(double x);

typedef struct resizer {
    const tvlm_kernels *kernels;
    tvlm_pool *pool;
    const tvlm_pixels *pixels;
    size_t stride, out_size; /* source row in bytes; output row in pixels */
    axis x, y;
    filter_fn filter;
    tvlm_resize_taps *columns; /* [S] */
    tvlm_resize_taps taps;     /* of the current output row */
    int16_t *table;            /* [S][2][x.max_taps], then [2][y.max_taps] */
    double *weights;           /* scratch of max_taps */
    /* [threads][line_size]: one row of the canvas [x.in][3]; margins and what follows hold the pad
     * colour */
    uint8_t *lines;
    size_t line_size, ring_rows;
    size_t filled, end;   /* canvas rows: the next to resize, behind the last that is wanted */
    uint8_t *ring;        /* [ring_rows][S][3], canvas row r at r % ring_rows */
    const uint8_t **rows; /* [y.max_taps] of the ring, under the taps */
    uint8_t *pad_row;     /* [S][3] what any row of padding becomes */
    uint8_t *row;         /* [S][3] output */
} resizer;

/* Keys' cubic with a = -0.5; support 2. */
static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

/* Triangle; support 1. */
static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* sin(pi x), |x| <= 3, by Taylor from the nearest integer: ours, so that coefficients do not move
 * with the C library. */
static double sine_pi(double x)
{
    double n = rint(x), r = (x - n) * 3.14159265358979323846, z = r * r, sum = 1;
    for (int k = 20; k > 1; k -= 2)
        sum = 1 - sum * z / (double)(k * (k + 1));
    sum *= r;
    return fmod(n, 2.0) == 0 ? sum : -sum;
}

static double sinc(double x)
{
    return x == 0.0 ? 1.0 : sine_pi(x) / (x * 3.14159265358979323846);
}

/* Truncated sinc; support 3. */
static double lanczos(double x)
{
    return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct {
    filter_fn filter;
    double support;
} filters[] = {
    [TVLM_FILTER_BICUBIC] = {bicubic,  2},
    [TVLM_FILTER_BILINEAR] = {bilinear, 1},
    [TVLM_FILTER_LANCZOS] = {lanczos,  3},
};

static void set_scale(axis *a, double filter_support)
{
    a->scale = (double)a->in / (double)a->out;
    double filter_scale = a->scale < 1.0 ? 1.0 : a->scale;
    a->inverse_filter_scale = 1.0 / filter_scale;
    a->support = filter_support * filter_scale;
    size_t taps = (size_t)ceil(a->support) * 2 + 1;
    a->max_taps = (taps + TVLM_RESIZE_TAPS - 1) / TVLM_RESIZE_TAPS * TVLM_RESIZE_TAPS;
}

/* Tap t = k; its low half is the nearest multiple of 2^16 away. */
static void set_tap(int16_t *low, int16_t *high, size_t t, int32_t k)
{
    int32_t above = (k + (1 << 15)) >> 16;
    high[t] = (int16_t)above;
    low[t] = (int16_t)(k - above * (1 << 16));
}

typedef struct window {
    size_t lo, hi;
} window;

static double centre(const axis *a, size_t i)
{
    return ((double)i + 0.5) * a->scale;
}

/* The pixels under output i (counted in the whole resized axis). */
static window window_of(const axis *a, size_t i)
{
    double begin = centre(a, i) - a->support + 0.5, end = centre(a, i) + a->support + 0.5;
    return (window){begin > 0.0 ? (size_t)begin : 0, (size_t)end < a->in ? (size_t)end : a->in};
}

/* The taps of output i, written to table[2][max_taps]. */
static tvlm_resize_taps coefficients(const axis *a, filter_fn filter, size_t i, double *w,
                                     int16_t *table)
{
    int16_t *low = table, *high = table + a->max_taps;
    window under = window_of(a, i);
    size_t lo = under.lo, count = under.hi - under.lo;
    double center = centre(a, i), sum = 0.0;
    for (size_t x = 0; x < count; x++) {
        w[x] = filter(((double)(x + lo) - center + 0.5) * a->inverse_filter_scale);
        sum += w[x];
    }
    for (size_t x = 0; x < count; x++) {
        double v = (sum != 0.0 ? w[x] / sum : w[x]) * (double)(1 << TVLM_RESIZE_BITS);
        set_tap(low, high, x, (int32_t)(v < 0 ? v - 0.5 : v + 0.5));
    }
    for (; count % TVLM_RESIZE_TAPS; count++)
        set_tap(low, high, count, 0);
    return (tvlm_resize_taps){low, high, lo, count};
}

static void horizontal(const resizer *r, const uint8_t *line, uint8_t *out)
{
    r->kernels->resize_across(out, line, r->columns, r->out_size);
}

/* Source row y as RGB into the line, between its margins. Alpha is dropped. */
static void read_row(const resizer *r, size_t y, uint8_t *line)
{
    const tvlm_pixels *p = r->pixels;
    const uint8_t *in = p->data + y * r->stride;
    uint8_t *out = line + r->x.before * CHANNELS;
    if (p->channels == CHANNELS) {
        memcpy(out, in, r->x.size * CHANNELS);
        return;
    }
    for (size_t x = 0; x < r->x.size; x++, in += p->channels, out += CHANNELS) {
        out[0] = in[0];
        out[1] = in[p->channels == 1 ? 0 : 1];
        out[2] = in[p->channels == 1 ? 0 : 2];
    }
}

static uint8_t *ring_row(const resizer *r, size_t canvas_row)
{
    return r->ring + canvas_row % r->ring_rows * r->out_size * CHANNELS;
}

static void fill_ring_row(const resizer *r, size_t canvas_row, uint8_t *line)
{
    size_t y = canvas_row - r->y.before; /* wraps in the margin above */
    if (y < r->y.size) {
        read_row(r, y, line);
        horizontal(r, line, ring_row(r, canvas_row));
    } else {
        memcpy(ring_row(r, canvas_row), r->pad_row, r->out_size * CHANNELS);
    }
}

typedef struct fill_job {
    const resizer *resizer;
    size_t begin, end; /* canvas rows */
} fill_job;

static void fill_rows(void *ctx, size_t task, unsigned thread)
{
    const fill_job *job = ctx;
    const resizer *r = job->resizer;
    size_t begin = job->begin + task * TASK_ROWS, end = begin + TASK_ROWS;
    for (size_t y = begin; y < end && y < job->end; y++)
        fill_ring_row(r, y, r->lines + thread * r->line_size);
}

/* The ring from canvas row `first` on, as far as it reaches. False when cancelled. */
static bool fill_ring(resizer *r, size_t first, const tvlm_cancel *cancel)
{
    fill_job job = {r, r->filled > first ? r->filled : first, first + r->ring_rows};
    job.end = job.end < r->end ? job.end : r->end;
    r->filled = job.end;
    return tvlm_pool_for(r->pool, (job.end - job.begin + TASK_ROWS - 1) / TASK_ROWS, fill_rows,
                         &job, cancel);
}

/* Surplus taps are 0: any row will do for them. */
static void vertical(const resizer *r)
{
    for (size_t t = 0; t < r->taps.n; t++)
        r->rows[t] = ring_row(r, r->taps.first + t);
    r->kernels->resize_down(r->row, r->rows, &r->taps, r->out_size * CHANNELS);
}

/* ---- geometry ---- */

typedef struct geometry {
    axis x, y;
} geometry;

static geometry squash(size_t w, size_t h, size_t out_w, size_t out_h)
{
    return (geometry){
        {.size = w, .in = w, .out = out_w},
        {.size = h, .in = h, .out = out_h}
    };
}

/* To a square of side s. */
static geometry fit_square(size_t w, size_t h, size_t s, tvlm_fit fit)
{
    geometry g = squash(w, h, s, s), *r = &g;
    if (fit == TVLM_FIT_PAD) {
        size_t n = w > h ? w : h;
        r->x.in = r->y.in = n;
        r->x.before = (n - w) / 2;
        r->y.before = (n - h) / 2;
    } else if (fit == TVLM_FIT_CROP) {
        /* Resize the shorter edge to S, the longer to int(S * long / short); crop the centre. */
        axis *longer = w > h ? &r->x : &r->y;
        size_t shorter = w > h ? h : w;
        longer->out = (size_t)((uint64_t)s * longer->in / shorter);
        longer->first = (longer->out - s) / 2;
    }
    return g;
}

/* A resizer to rows of `width` pixels, its buffers from the arena. */
static resizer plan(tvlm_filter filter, geometry g, size_t width, unsigned n_threads,
                    tvlm_arena *arena)
{
    resizer r = {.out_size = width, .filter = filters[filter].filter, .x = g.x, .y = g.y};
    set_scale(&r.x, filters[filter].support);
    set_scale(&r.y, filters[filter].support);
    size_t s = r.out_size, tx = r.x.max_taps, ty = r.y.max_taps, rgb = s * CHANNELS;
    r.columns = tvlm_arena_alloc(arena, s, sizeof *r.columns);
    r.table = tvlm_arena_alloc(arena, s * tx + ty, 2 * sizeof *r.table);
    r.weights = tvlm_arena_alloc(arena, tx > ty ? tx : ty, sizeof *r.weights);
    r.line_size = r.x.in * CHANNELS + SURPLUS;
    r.lines = tvlm_arena_alloc(arena, n_threads, r.line_size);
    r.ring_rows = ty + AHEAD;
    r.ring = tvlm_arena_alloc(arena, r.ring_rows, rgb);
    r.rows = tvlm_arena_alloc(arena, ty, sizeof *r.rows);
    r.pad_row = tvlm_arena_alloc(arena, rgb, 1);
    r.row = tvlm_arena_alloc(arena, rgb, 1);
    return r;
}

/* Every buffer grows with the side, and no fit takes more than squashing the largest square. */
size_t tvlm_preprocess_bytes(const tvlm_preprocess_config *config, uint32_t side,
                             unsigned n_threads)
{
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    size_t s = config->image_size;
    plan(config->filter, squash(side, side, s, s), s, n_threads, &arena);
    return arena.peak;
}

static tvlm_status check_pixels(const tvlm_pixels *p, tvlm_error *err)
{
    if (!p->data || p->width == 0 || p->height == 0)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the image is empty (%u x %u)", (unsigned)p->width,
                         (unsigned)p->height);
    if (p->channels != 1 && p->channels != 3 && p->channels != 4)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the image has %u channels, not 1, 3 or 4",
                         (unsigned)p->channels);
    if (p->width > TVLM_MAX_SIDE || p->height > TVLM_MAX_SIDE)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the image is %u x %u, a side may have %u pixels",
                         (unsigned)p->width, (unsigned)p->height, TVLM_MAX_SIDE);
    size_t row = (size_t)p->width * p->channels;
    if (p->stride != 0 && p->stride < row)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the image's stride is %zu, a row takes %zu",
                         p->stride, row);
    return TVLM_OK;
}

/* `height` rows are wanted. */
static void prepare(resizer *r, const uint8_t pad[CHANNELS], size_t height)
{
    for (size_t i = 0; i < r->out_size; i++)
        r->columns[i] = coefficients(&r->x, r->filter, r->x.first + i, r->weights,
                                     r->table + i * 2 * r->x.max_taps);
    for (size_t i = 0; i < r->line_size * tvlm_pool_threads(r->pool); i++)
        r->lines[i] = pad[i % r->line_size % CHANNELS];
    horizontal(r, r->lines, r->pad_row);
    r->end = window_of(&r->y, r->y.first + height - 1).hi;
}

/* Output rows in order: leaves row i in r->row. False when cancelled. */
static bool next_row(resizer *r, size_t i, const tvlm_cancel *cancel)
{
    int16_t *table = r->table + r->out_size * 2 * r->x.max_taps;
    size_t end = window_of(&r->y, r->y.first + i).hi;
    r->taps = coefficients(&r->y, r->filter, r->y.first + i, r->weights, table);
    if (end > r->filled && !fill_ring(r, r->taps.first, cancel)) return false;
    vertical(r);
    return true;
}

/* What each byte becomes. */
typedef struct values {
    float of[256][CHANNELS];
} values;

static values make_values(const tvlm_preprocess_config *config)
{
    values v;
    for (unsigned u = 0; u < 256; u++)
        for (unsigned c = 0; c < CHANNELS; c++) {
            float y = (float)(u * config->scale[c] + config->bias[c]);
            v.of[u][c] = (y - config->mean[c]) / config->std[c];
        }
    return v;
}

static void put_values(const values *v, const uint8_t *row, size_t n, float *out)
{
    for (size_t j = 0; j < n * CHANNELS; j += CHANNELS)
        for (size_t c = 0; c < CHANNELS; c++)
            out[j + c] = v->of[row[j + c]][c];
}

void tvlm_preprocess_values(const tvlm_preprocess_config *config, const tvlm_pixels *rgb,
                            float *out)
{
    values v = make_values(config);
    for (size_t y = 0; y < rgb->height; y++)
        put_values(&v, rgb->data + y * rgb->stride, rgb->width, out + y * rgb->width * CHANNELS);
}

static resizer open_resizer(const tvlm_kernels *kernels, tvlm_filter filter, geometry g,
                            size_t width, const tvlm_pixels *pixels, tvlm_arena *arena,
                            tvlm_pool *pool)
{
    resizer r = plan(filter, g, width, tvlm_pool_threads(pool), arena);
    r.kernels = kernels;
    r.pool = pool;
    r.pixels = pixels;
    r.stride = pixels->stride ? pixels->stride : (size_t)pixels->width * pixels->channels;
    return r;
}

tvlm_status tvlm_preprocess_run(const tvlm_kernels *kernels, const tvlm_preprocess_config *config,
                                const tvlm_pixels *pixels, tvlm_fit fit, tvlm_arena *arena,
                                tvlm_pool *pool, const tvlm_cancel *cancel, float *out,
                                tvlm_error *err)
{
    TVLM_TRY(check_pixels(pixels, err));
    size_t mark = tvlm_arena_mark(arena), s = config->image_size;
    geometry g = fit_square(pixels->width, pixels->height, s, fit ? fit : config->fit);
    resizer r = open_resizer(kernels, config->filter, g, s, pixels, arena, pool);
    values v = make_values(config);
    prepare(&r, config->pad_color, s);
    bool live = true;
    for (size_t i = 0; i < s && (live = next_row(&r, i, cancel)); i++)
        put_values(&v, r.row, s, out + i * s * CHANNELS);
    tvlm_arena_release(arena, mark);
    return live ? TVLM_OK : tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
}

tvlm_status tvlm_preprocess_resize(const tvlm_kernels *kernels, tvlm_filter filter,
                                   const tvlm_pixels *pixels, size_t width, size_t height,
                                   tvlm_arena *arena, tvlm_pool *pool, const tvlm_cancel *cancel,
                                   uint8_t *out, tvlm_error *err)
{
    static const uint8_t none[CHANNELS];
    TVLM_TRY(check_pixels(pixels, err));
    size_t mark = tvlm_arena_mark(arena);
    geometry g = squash(pixels->width, pixels->height, width, height);
    resizer r = open_resizer(kernels, filter, g, width, pixels, arena, pool);
    prepare(&r, none, height);
    bool live = true;
    for (size_t i = 0; i < height && (live = next_row(&r, i, cancel)); i++)
        memcpy(out + i * width * CHANNELS, r.row, width * CHANNELS);
    tvlm_arena_release(arena, mark);
    return live ? TVLM_OK : tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
}

size_t tvlm_preprocess_resize_bytes(tvlm_filter filter, uint32_t side, size_t out_side,
                                    unsigned n_threads)
{
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    plan(filter, squash(side, side, out_side, out_side), out_side, n_threads, &arena);
    return arena.peak;
}
