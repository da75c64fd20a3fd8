/* SPDX-License-Identifier: MIT
 * Calibration. A layer's range is the one that loses least on the histogram of its values: wide
 * ranges round coarsely, narrow ones cut off. */
#include "convert/calibrate.h"

#include "image/preprocess.h"
#include "vision/vision.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SCALE 1e10f /* of a model file */
enum { BINS = 1024, CODES = 127, MAX_OBSERVED = 3 * TVLM_MAX_BLOCKS + 2 };

typedef struct observed {
    char name[32];
    float lo, hi; /* extremes, 0 included */
    double bins[BINS];
} observed;

typedef struct observer {
    observed *layers;
    size_t n;
    bool counting;      /* second pass */
    char no_number[32]; /* the first layer with NaN or infinity; "": none */
} observer;

static observed *find(observer *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->layers[i].name, name) == 0) return &o->layers[i];
    if (o->n == MAX_OBSERVED) return NULL;
    observed *layer = &o->layers[o->n++];
    snprintf(layer->name, sizeof layer->name, "%s", name);
    return layer;
}

static void widen(observer *o, observed *layer, const float *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(data[i])) {
            if (!o->no_number[0]) memcpy(o->no_number, layer->name, sizeof o->no_number);
            return;
        }
        layer->lo = data[i] < layer->lo ? data[i] : layer->lo;
        layer->hi = data[i] > layer->hi ? data[i] : layer->hi;
    }
}

/* The second pass sees what the first one saw, so every value is within the extremes. */
static void count(observed *layer, const float *data, size_t n)
{
    double width = ((double)layer->hi - layer->lo) / BINS;
    for (size_t i = 0; width > 0 && i < n; i++) {
        if (data[i] == 0.0f) /* exact in any range */
            continue;
        double bin = ((double)data[i] - layer->lo) / width;
        layer->bins[bin < BINS - 1 ? (size_t)bin : BINS - 1] += 1;
    }
}

static void observe(void *user, const char *name, const float *data, size_t h, size_t w, size_t c)
{
    observer *o = user;
    observed *layer = find(o, name);
    if (layer && o->counting)
        count(layer, data, h * w * c);
    else if (layer)
        widen(o, layer, data, h * w * c);
}

tvlm_qparam tvlm_u7_range(double lo, double hi)
{
    double scale = (hi - lo) / CODES;
    if (!(scale >= FLT_MIN)) /* a layer that is always zero, or as good as */
        return (tvlm_qparam){.scale = 1.0f, .zero = 0};
    return (tvlm_qparam){.scale = (float)scale, .zero = (int32_t)lrint(-lo / scale)};
}

/* Expected squared error of codes over lo..hi: rounding inside, the distance outside. */
static double range_loss(const observed *layer, double lo, double hi)
{
    double width = ((double)layer->hi - layer->lo) / BINS, step = (hi - lo) / CODES, loss = 0;
    for (size_t i = 0; i < BINS; i++) {
        double v = layer->lo + ((double)i + 0.5) * width;
        double cut = v < lo ? lo - v : v > hi ? v - hi : 0;
        loss += layer->bins[i] * (cut > 0 ? cut * cut : step * step / 12);
    }
    return loss;
}

/* Shrinks both ends together, then each alone, in steps of 2%, while it pays. */
static tvlm_qparam best_range(const observed *layer)
{
    double lo = layer->lo, hi = layer->hi, best = range_loss(layer, lo, hi);
    for (int which = 0; which < 3; which++) {
        double base_lo = lo, base_hi = hi;
        for (double shrink = 0.98; shrink > 0.2; shrink -= 0.02) {
            double l = which == 1 ? base_lo : base_lo * shrink;
            double h = which == 2 ? base_hi : base_hi * shrink;
            double loss = range_loss(layer, l, h);
            if (loss < best) {
                best = loss;
                lo = l;
                hi = h;
            }
        }
    }
    return tvlm_u7_range(lo, hi);
}

/* The values that any picture's bytes can take. */
static tvlm_qparam input_range(const tvlm_preprocess_config *config)
{
    double lo = 0, hi = 0;
    for (int c = 0; c < 3; c++) {
        double a = config->bias[c], b = 255 * config->scale[c] + config->bias[c];
        lo = fmin(lo, fmin(a, b));
        hi = fmax(hi, fmax(a, b));
    }
    return tvlm_u7_range(lo, hi);
}

/* ---- pictures: each is decoded once and kept at the model's size ---- */

typedef struct kept {
    uint8_t *rgb; /* [n][side][side][3] */
    size_t n, cap;
} kept;

/* Room for one more picture of `size` bytes. */
static bool reserve(kept *k, size_t size)
{
    if (k->n < k->cap) return true;
    size_t cap = k->cap ? 2 * k->cap : 16, bytes;
    uint8_t *grown = tvlm_mul_size(cap, size, &bytes) ? realloc(k->rgb, bytes) : NULL;
    if (!grown) return false;
    k->rgb = grown;
    k->cap = cap;
    return true;
}

/* Resized by a configuration without scale and bias, so that the values are bytes. */
static tvlm_status keep(const tvlm_model *model, const tvlm_pixels *pixels, kept *k,
                        tvlm_error *err)
{
    tvlm_preprocess_config plain = model->config.preprocess;
    size_t n = (size_t)plain.image_size * plain.image_size * 3;
    for (int c = 0; c < 3; c++) {
        plain.scale[c] = 1;
        plain.bias[c] = 0;
    }
    uint32_t side = pixels->width > pixels->height ? pixels->width : pixels->height;
    side = side < TVLM_MAX_SIDE ? side : TVLM_MAX_SIDE; /* more is refused */
    size_t bytes = tvlm_preprocess_bytes(&plain, side);
    void *block = tvlm_aligned_alloc(bytes);
    float *values = malloc(n * sizeof *values);
    tvlm_arena arena;
    tvlm_status status = TVLM_OK;
    if (!block || !values || !reserve(k, n)) {
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration pictures");
    } else {
        tvlm_arena_init(&arena, block, bytes);
        status = tvlm_preprocess_run(&plain, pixels, TVLM_FIT_MODEL, &arena, NULL, values, err);
        for (size_t i = 0; !status && i < n; i++)
            k->rgb[k->n * n + i] = (uint8_t)values[i];
        if (!status) k->n++;
    }
    tvlm_aligned_free(block);
    free(values);
    return status;
}

static tvlm_status keep_all(const tvlm_model *model, const tvlm_quantize_params *params, kept *k,
                            tvlm_error *err)
{
    for (;;) {
        tvlm_pixels picture = {0};
        if (tvlm_cancelled(params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(params->next_picture(params->user, &picture, err));
        if (!picture.data) break;
        TVLM_TRY(keep(model, &picture, k, err));
    }
    return k->n ? TVLM_OK
                : tvlm_fail(err, TVLM_ERR_ARGUMENT, "int8 needs at least one calibration picture");
}

/* ---- running the tower ---- */

typedef struct tower_run {
    const tvlm_model *model;
    const tvlm_quantize_params *params;
    kept pictures;
    tvlm_cx cx;
    float *pixels, *lo, *hi;
} tower_run;

static void forward(tower_run *run)
{
    uint32_t side = run->model->config.preprocess.image_size;
    tvlm_efficientnet_forward(&run->cx, &run->model->weights.efficientnet,
                              tvlm_nn_f32(run->pixels, side, side, 3),
                              (tvlm_features){run->hi, run->lo});
}

static tvlm_status run_pictures(tower_run *run, const observer *o, tvlm_error *err)
{
    uint32_t side = run->model->config.preprocess.image_size;
    size_t n = (size_t)side * side * 3;
    for (size_t i = 0; i < run->pictures.n; i++) {
        tvlm_pixels picture = {run->pictures.rgb + i * n, side, side, 3, 0};
        TVLM_TRY(tvlm_preprocess(run->model, &picture, TVLM_FIT_MODEL, run->pixels, n, err));
        forward(run);
        if (!tvlm_nn_ok(&run->cx)) return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        if (o->no_number[0])
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "calibration: the tower's layer '%s' gives NaN or infinity",
                             o->no_number);
        if (run->params->on_progress)
            run->params->on_progress(run->params->user, "calibrating",
                                     o->counting * run->pictures.n + i + 1, 2 * run->pictures.n);
    }
    return TVLM_OK;
}

static tvlm_status both_passes(tower_run *run, observer *o, tvlm_error *err)
{
    TVLM_TRY(run_pictures(run, o, err));
    o->counting = true;
    return run_pictures(run, o, err);
}

/* Side of the map after the first n blocks. */
static size_t side_after(const tvlm_efficientnet *w, size_t side, uint32_t n)
{
    side = tvlm_nn_conv_out(side, w->stem.k, w->stem_stride, TVLM_PAD_SAME);
    for (uint32_t i = 0; i < n; i++)
        side = tvlm_nn_conv_out(side, w->blocks[i].dw.k, w->blocks[i].stride, TVLM_PAD_SAME);
    return side;
}

static void take_buffers(tower_run *run)
{
    const tvlm_efficientnet *w = &run->model->weights.efficientnet;
    size_t s = run->model->config.preprocess.image_size;
    size_t lo = side_after(w, s, w->tap_block + 1), hi = side_after(w, s, w->n_blocks);
    run->pixels = tvlm_nn_floats(&run->cx, s, 3 * s);
    run->lo = tvlm_nn_floats(&run->cx, lo * lo, w->blocks[w->tap_block].c_out);
    run->hi = tvlm_nn_floats(&run->cx, hi * hi, w->head.n);
}

static tvlm_status run_observed(tower_run *run, observer *o, tvlm_error *err)
{
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    run->cx.arena = &arena;
    take_buffers(run);
    forward(run);
    void *block = tvlm_aligned_alloc(arena.peak);
    if (!block) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration");
    tvlm_arena_init(&arena, block, arena.peak);
    take_buffers(run);
    tvlm_status status = both_passes(run, o, err);
    tvlm_aligned_free(block);
    return status;
}

static void store(tvlm_tower_ranges *out, const char *name, tvlm_qparam q)
{
    unsigned index;
    char part[16] = "";
    if (strcmp(name, "stem") == 0)
        out->stem = q;
    else if (strcmp(name, "head") == 0)
        out->head = q;
    else if (sscanf(name, "blocks.%u.%15s", &index, part) < 1 || index >= TVLM_MAX_BLOCKS)
        return;
    else if (strcmp(part, "expand") == 0)
        out->blocks[index].expand = q;
    else if (strcmp(part, "dw") == 0)
        out->blocks[index].dw = q;
    else
        out->blocks[index].project = q;
}

static tvlm_status store_all(tvlm_tower_ranges *out, const observer *o, tvlm_error *err)
{
    for (size_t i = 0; i < o->n; i++) {
        const observed *layer = &o->layers[i];
        tvlm_qparam q = best_range(layer);
        if (!(q.scale < MAX_SCALE))
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "calibration: the tower's layer '%s' reaches %g: too far for int8",
                             layer->name, fmax(-(double)layer->lo, (double)layer->hi));
        store(out, layer->name, q);
    }
    return TVLM_OK;
}

static tvlm_status observe_tower(tower_run *run, tvlm_tower_ranges *out, tvlm_error *err)
{
    observer o = {.layers = calloc(MAX_OBSERVED, sizeof *o.layers)};
    if (!o.layers) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration");
    tvlm_tap tap = {observe, &o};
    run->cx =
        (tvlm_cx){.kernels = &run->model->kernels, .tap = &tap, .cancel = run->params->cancel};
    tvlm_status status = tvlm_pool_new(tvlm_cpu_count(), &run->cx.pool, err);
    if (status == TVLM_OK) status = run_observed(run, &o, err);
    tvlm_pool_free(run->cx.pool);
    if (status == TVLM_OK) status = store_all(out, &o, err);
    free(o.layers);
    return status;
}

tvlm_status tvlm_calibrate(const tvlm_model *model, const tvlm_quantize_params *params,
                           tvlm_tower_ranges *out, tvlm_error *err)
{
    if (model->config.tower != TVLM_TOWER_EFFICIENTNET_LITE)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "int8 needs a model with a float EfficientNet-Lite tower");
    if (model->config.vision_int8)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "the tower is int8 already; the other types quantise the rest");
    if (!params->next_picture)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "int8 needs calibration pictures");
    *out = (tvlm_tower_ranges){.input = input_range(&model->config.preprocess)};
    tower_run run = {.model = model, .params = params};
    tvlm_status status = keep_all(model, params, &run.pictures, err);
    if (status == TVLM_OK) status = observe_tower(&run, out, err);
    free(run.pictures.rgb);
    return status;
}
