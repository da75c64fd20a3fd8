/* SPDX-License-Identifier: MIT
 * Calibration. A layer's range is the one that loses least on the histogram of its values: wide
 * ranges round coarsely, narrow ones cut off. */
#include "convert/calibrate.h"

#include "vision/vision.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 1024, CODES = 127, MAX_OBSERVED = 3 * TVLM_MAX_BLOCKS + 2 };

typedef struct observed {
    char name[32];
    float lo, hi; /* extremes, 0 included */
    double bins[BINS];
} observed;

typedef struct observer {
    observed *layers;
    size_t n;
    bool counting; /* second pass */
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

static void observe(void *user, const char *name, const float *data, size_t h, size_t w, size_t c)
{
    observer *o = user;
    observed *layer = find(o, name);
    if (!layer) return;
    size_t n = h * w * c;
    if (!o->counting) {
        for (size_t i = 0; i < n; i++) {
            layer->lo = data[i] < layer->lo ? data[i] : layer->lo;
            layer->hi = data[i] > layer->hi ? data[i] : layer->hi;
        }
        return;
    }
    float width = (layer->hi - layer->lo) / BINS;
    for (size_t i = 0; width > 0 && i < n; i++) {
        if (data[i] == 0.0f) /* exact in any range */
            continue;
        float bin = (data[i] - layer->lo) / width;
        layer->bins[bin < BINS - 1 ? (size_t)bin : BINS - 1] += 1;
    }
}

tvlm_qparam tvlm_u7_range(double lo, double hi)
{
    double scale = (hi - lo) / CODES;
    if (!(scale > 0)) /* a layer that is always zero */
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

typedef struct tower_run {
    const tvlm_model *model;
    const tvlm_quantize_params *params;
    tvlm_cx cx;
    float *pixels, *lo, *hi;
} tower_run;

static tvlm_status run_pictures(tower_run *run, tvlm_error *err)
{
    size_t side = run->model->config.preprocess.image_size;
    for (size_t i = 0; i < run->params->n_pictures; i++) {
        tvlm_pixels picture;
        if (tvlm_cancelled(run->params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(run->params->picture(run->params->user, i, &picture, err));
        TVLM_TRY(tvlm_preprocess(run->model, &picture, TVLM_FIT_MODEL, run->pixels, side * side * 3,
                                 err));
        tvlm_efficientnet_forward(&run->cx, &run->model->weights.efficientnet, run->pixels, side,
                                  run->lo, run->hi);
    }
    return TVLM_OK;
}

static tvlm_status both_passes(tower_run *run, observer *o, tvlm_error *err)
{
    TVLM_TRY(run_pictures(run, err));
    o->counting = true;
    return run_pictures(run, err);
}

/* Side of the map after the first n blocks. */
static size_t side_after(const tvlm_efficientnet *w, size_t side, uint32_t n)
{
    side = tvlm_nn_conv_out(side, w->stem.k, w->stem_stride, true);
    for (uint32_t i = 0; i < n; i++)
        side = tvlm_nn_conv_out(side, w->blocks[i].dw.k, w->blocks[i].stride, true);
    return side;
}

static void take_buffers(tower_run *run)
{
    const tvlm_efficientnet *w = &run->model->weights.efficientnet;
    size_t s = run->model->config.preprocess.image_size;
    size_t lo = side_after(w, s, w->tap_block + 1), hi = side_after(w, s, w->n_blocks);
    run->pixels = tvlm_nn_fmap(&run->cx, s, s, 3).data;
    run->lo = tvlm_nn_fmap(&run->cx, lo, lo, w->blocks[w->tap_block].c_out).data;
    run->hi = tvlm_nn_fmap(&run->cx, hi, hi, w->head.n).data;
}

static tvlm_status run_observed(tower_run *run, observer *o, tvlm_error *err)
{
    tvlm_arena arena;
    tvlm_arena_init_measure(&arena);
    run->cx.arena = &arena;
    take_buffers(run);
    tvlm_efficientnet_forward(&run->cx, &run->model->weights.efficientnet, NULL,
                              run->model->config.preprocess.image_size, NULL, NULL);
    void *block = tvlm_aligned_alloc(arena.peak);
    if (!block) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration");
    tvlm_arena_init(&arena, block, arena.peak);
    take_buffers(run);
    tvlm_status status = both_passes(run, o, err);
    tvlm_aligned_free(block);
    return status;
}

static void store(tvlm_tower_ranges *out, const observed *layer)
{
    tvlm_qparam q = best_range(layer);
    unsigned index;
    char part[16] = "";
    if (strcmp(layer->name, "stem") == 0)
        out->stem = q;
    else if (strcmp(layer->name, "head") == 0)
        out->head = q;
    else if (sscanf(layer->name, "blocks.%u.%15s", &index, part) < 1 || index >= TVLM_MAX_BLOCKS)
        return;
    else if (strcmp(part, "expand") == 0)
        out->blocks[index].expand = q;
    else if (strcmp(part, "dw") == 0)
        out->blocks[index].dw = q;
    else
        out->blocks[index].project = q;
}

tvlm_status tvlm_calibrate(const tvlm_model *model, const tvlm_quantize_params *params,
                           tvlm_tower_ranges *out, tvlm_error *err)
{
    if (model->config.tower != TVLM_TOWER_EFFICIENTNET_LITE || model->config.vision_int8)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "int8 needs a model with a float EfficientNet-Lite tower");
    if (params->n_pictures == 0 || !params->picture)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "int8 needs calibration pictures");
    observer o = {.layers = calloc(MAX_OBSERVED, sizeof *o.layers)};
    if (!o.layers) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration");
    *out = (tvlm_tower_ranges){.input = input_range(&model->config.preprocess)};
    tvlm_tap tap = {observe, &o};
    tower_run run = {.model = model, .params = params};
    run.cx = (tvlm_cx){.kernels = &model->kernels, .tap = &tap};
    tvlm_status status = tvlm_pool_new(tvlm_cpu_count(), &run.cx.pool, err);
    if (status == TVLM_OK) status = run_observed(&run, &o, err);
    tvlm_pool_free(run.cx.pool);
    for (size_t i = 0; i < o.n; i++)
        store(out, &o.layers[i]);
    free(o.layers);
    return status;
}
