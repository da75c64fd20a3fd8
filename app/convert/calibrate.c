/* SPDX-License-Identifier: MIT
 * Calibration. A layer's range is the one that loses least on the histogram of its values: wide
 * ranges round coarsely, narrow ones cut off. */
#include "convert/calibrate.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SCALE 1e10f /* of a model file */
enum { BINS = 1024, CODES = 127 };

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
    if (o->n == TVLMC_MAX_TOWER_LAYERS) return NULL;
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

tvlm_qparam tvlmc_u7_range(double lo, double hi)
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
    return tvlmc_u7_range(lo, hi);
}

/* The values that any image's bytes can take. */
static tvlm_qparam input_range(const tvlm_preprocess_config *config)
{
    double lo = 0, hi = 0;
    for (int c = 0; c < 3; c++) {
        double a = config->bias[c], b = 255 * config->scale[c] + config->bias[c];
        lo = fmin(lo, fmin(a, b));
        hi = fmax(hi, fmax(a, b));
    }
    return tvlmc_u7_range(lo, hi);
}

/* ---- running the tower ---- */

static bool is_held_out(const tvlmc_photos *photos, size_t i)
{
    return photos->n >= TVLMC_HOLD_OUT && i % TVLMC_HOLD_OUT == TVLMC_HOLD_OUT - 1;
}

typedef struct calibration {
    const tvlmc_photos *photos;
    const tvlmc_quantize_params *params;
    tvlmc_tower_run tower;
    observer seen;
} calibration;

static void say(const tvlmc_quantize_params *params, const char *what, size_t done, size_t total)
{
    if (params->on_progress) params->on_progress(params->user, what, done, total);
}

static tvlm_status observe_photo(calibration *c, size_t i, tvlm_error *err)
{
    tvlm_pixels photo = tvlmc_photos_at(c->photos, i);
    TVLM_TRY(tvlmc_tower_run_see(&c->tower, &photo, err));
    if (!c->seen.no_number[0]) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_FORMAT,
                     "calibration: the tower's layer '%s' gives NaN or infinity",
                     c->seen.no_number);
}

static tvlm_status run_photos(calibration *c, tvlm_error *err)
{
    size_t n = c->photos->n;
    for (size_t i = 0; i < n; i++) {
        if (!is_held_out(c->photos, i)) TVLM_TRY(observe_photo(c, i, err));
        say(c->params, "calibrating", c->seen.counting * n + i + 1, 2 * n);
    }
    return TVLM_OK;
}

static tvlm_status both_passes(calibration *c, tvlm_error *err)
{
    TVLM_TRY(run_photos(c, err));
    c->seen.counting = true;
    return run_photos(c, err);
}

static tvlm_status store_all(tvlmc_tower_plan *out, const observer *o, tvlm_error *err)
{
    for (out->n = 0; out->n < o->n; out->n++) {
        const observed *layer = &o->layers[out->n];
        tvlmc_layer_plan *plan = &out->layers[out->n];
        plan->out = best_range(layer);
        memcpy(plan->name, layer->name, sizeof plan->name);
        if (!(plan->out.scale < MAX_SCALE))
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "calibration: the tower's layer '%s' reaches %g: too far for int8",
                             layer->name, fmax(-(double)layer->lo, (double)layer->hi));
    }
    return TVLM_OK;
}

tvlm_status tvlmc_calibrate(const tvlm_model *model, const tvlmc_photos *photos,
                            const tvlmc_quantize_params *params, tvlmc_tower_plan *out,
                            tvlm_error *err)
{
    calibration c = {.photos = photos,
                     .params = params,
                     .seen = {.layers = calloc(TVLMC_MAX_TOWER_LAYERS, sizeof *c.seen.layers)}};
    tvlm_tap tap = {observe, &c.seen};
    *out = (tvlmc_tower_plan){.input = input_range(&model->config.preprocess)};
    tvlm_status status = c.seen.layers
                             ? tvlmc_tower_run_open(&c.tower, model, &tap, params->cancel, err)
                             : tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration");
    if (!status) status = both_passes(&c, err);
    if (!status) status = store_all(out, &c.seen, err);
    tvlmc_tower_run_close(&c.tower);
    free(c.seen.layers);
    return status;
}

/* ---- errors ---- */

typedef struct difference {
    double error, norm;
} difference;

static void add_error(difference *d, const float *exact, const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double e = (double)got[i] - exact[i];
        d->error += e * e;
        d->norm += (double)exact[i] * exact[i];
    }
}

static double relative(difference d)
{
    return sqrt(d.error / (d.norm > 0 ? d.norm : 1));
}

static bool is_reported(const tvlmc_photos *p, size_t i)
{
    return p->n < TVLMC_HOLD_OUT || is_held_out(p, i);
}

/* ---- each layer alone ---- */

enum { MEASURED = 8 }; /* images: the tower runs once a layer on each */

/* The float tower with one layer of the int8 one. */
typedef struct lone {
    const tvlm_efficientnet *exact, *int8;
    tvlm_efficientnet mix;
    tvlmc_tower_run tower;
    const tvlmc_photos *photos;
    float *tokens; /* of the float tower [MEASURED][n] */
    size_t n;
} lone;

static void take_layer(tvlm_efficientnet *to, const tvlm_efficientnet *from, const char *name)
{
    unsigned index = 0;
    char part[16] = "";
    if (strcmp(name, "stem") == 0)
        to->stem = from->stem;
    else if (strcmp(name, "head") == 0)
        to->head = from->head;
    else if (sscanf(name, "blocks.%u.%15s", &index, part) == 1)
        to->blocks[index].project = from->blocks[index].project;
    else if (strcmp(part, "expand") == 0)
        to->blocks[index].expand = from->blocks[index].expand;
    else
        to->blocks[index].dw = from->blocks[index].dw;
}

/* The mix as it is now, over the first images of the report: its tokens are compared with those
 * kept, or, without `found`, kept. */
static tvlm_status run_mix(lone *l, difference *found, tvlm_error *err)
{
    float *kept = l->tokens;
    TVLM_TRY(tvlmc_tower_run_take(&l->tower, &l->mix, err));
    for (size_t i = 0; i < l->photos->n && kept < l->tokens + MEASURED * l->n; i++) {
        if (!is_reported(l->photos, i)) continue;
        tvlm_pixels photo = tvlmc_photos_at(l->photos, i);
        TVLM_TRY(tvlmc_tower_run_see(&l->tower, &photo, err));
        if (found)
            add_error(found, kept, l->tower.tokens, l->n);
        else
            memcpy(kept, l->tower.tokens, l->n * sizeof *kept);
        kept += l->n;
    }
    return TVLM_OK;
}

static tvlm_status measure_layer(lone *l, tvlmc_layer_plan *layer, tvlm_error *err)
{
    difference found = {0};
    l->mix = *l->exact;
    take_layer(&l->mix, l->int8, layer->name);
    TVLM_TRY(run_mix(l, &found, err));
    layer->alone = relative(found);
    return TVLM_OK;
}

static tvlm_status measure_layers(lone *l, const tvlmc_quantize_params *params,
                                  tvlmc_tower_plan *plan, tvlm_error *err)
{
    l->mix = *l->exact;
    TVLM_TRY(run_mix(l, NULL, err));
    for (size_t i = 0; i < plan->n; i++) {
        TVLM_TRY(measure_layer(l, &plan->layers[i], err));
        say(params, "measuring", i + 1, plan->n);
    }
    return TVLM_OK;
}

tvlm_status tvlmc_measure_layers(const tvlm_model *exact, const tvlm_model *int8,
                                 const tvlmc_photos *photos, const tvlmc_quantize_params *params,
                                 tvlmc_tower_plan *plan, tvlm_error *err)
{
    const tvlm_pooling *pooling = &exact->weights.pooling;
    lone l = {.exact = &exact->weights.efficientnet,
              .int8 = &int8->weights.efficientnet,
              .photos = photos,
              .n = pooling->n_query * pooling->d};
    l.tokens = calloc(l.n, MEASURED * sizeof *l.tokens);
    tvlm_status status = l.tokens ? tvlmc_tower_run_open(&l.tower, exact, NULL, params->cancel, err)
                                  : tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for the tokens");
    if (!status) status = measure_layers(&l, params, plan, err);
    tvlmc_tower_run_close(&l.tower);
    free(l.tokens);
    return status;
}

/* ---- the report ---- */

typedef struct compared {
    float *exact; /* of the image at hand */
    difference all;
} compared;

typedef struct report {
    compared layers[TVLMC_MAX_TOWER_LAYERS + 1]; /* and the tokens */
    size_t n, next;
    bool exact, lost; /* the float tower runs; memory was short */
} report;

static void take_exact(report *r, compared *c, const float *data, size_t n)
{
    if (!c->exact) c->exact = malloc(n * sizeof *data);
    if (c->exact)
        memcpy(c->exact, data, n * sizeof *data);
    else
        r->lost = true;
}

/* Both towers give the same layers in the same order. */
static void compare(void *user, const char *name, const float *data, size_t h, size_t w, size_t c)
{
    report *r = user;
    (void)name;
    if (r->next == TVLMC_MAX_TOWER_LAYERS) return;
    compared *layer = &r->layers[r->next++];
    r->n = r->next;
    if (r->exact)
        take_exact(r, layer, data, h * w * c);
    else if (layer->exact)
        add_error(&layer->all, layer->exact, data, h * w * c);
}

static tvlm_status see(report *r, tvlmc_tower_run *tower, bool exact, const tvlm_pixels *photo,
                       tvlm_error *err)
{
    r->next = 0;
    r->exact = exact;
    TVLM_TRY(tvlmc_tower_run_see(tower, photo, err));
    return r->lost ? tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for the report") : TVLM_OK;
}

typedef struct both {
    tvlmc_tower_run towers[2]; /* float, int8 */
    tvlm_engine *engines[2];
    tvlm_image *images[2];
} both;

static tvlm_status encode(both *b, const tvlm_pixels *photo, const tvlm_cancel *cancel,
                          compared *tokens, tvlm_error *err)
{
    const float *rows[2];
    size_t n = 0, dim = 0;
    tvlm_encode_params params;
    tvlm_encode_params_init(&params, sizeof params);
    params.cancel = cancel;
    for (int i = 0; i < 2; i++) {
        tvlm_image_free(b->images[i]);
        b->images[i] = NULL;
        TVLM_TRY(tvlm_image_encode(b->engines[i], photo, &params, &b->images[i], err));
        rows[i] = tvlm_image_tokens(b->images[i], &n, &dim);
    }
    add_error(&tokens->all, rows[0], rows[1], n * dim);
    return TVLM_OK;
}

static tvlm_status compare_photo(both *b, report *r, const tvlm_pixels *photo,
                                 const tvlm_cancel *cancel, tvlm_error *err)
{
    TVLM_TRY(see(r, &b->towers[0], true, photo, err));
    TVLM_TRY(see(r, &b->towers[1], false, photo, err));
    return encode(b, photo, cancel, &r->layers[TVLMC_MAX_TOWER_LAYERS], err);
}

static tvlm_status compare_photos(both *b, report *r, const tvlmc_photos *photos,
                                  const tvlmc_quantize_params *params, tvlm_error *err)
{
    for (size_t i = 0; i < photos->n; i++) {
        tvlm_pixels photo = tvlmc_photos_at(photos, i);
        if (is_reported(photos, i)) TVLM_TRY(compare_photo(b, r, &photo, params->cancel, err));
        say(params, "comparing", i + 1, photos->n);
    }
    return TVLM_OK;
}

static tvlm_status open_both(both *b, const tvlm_model *const models[2], const tvlm_tap *tap,
                             const tvlm_cancel *cancel, tvlm_error *err)
{
    for (int i = 0; i < 2; i++) {
        TVLM_TRY(tvlmc_tower_run_open(&b->towers[i], models[i], tap, cancel, err));
        TVLM_TRY(tvlm_engine_new(models[i], NULL, &b->engines[i], err));
    }
    return TVLM_OK;
}

static void close_both(both *b)
{
    for (int i = 0; i < 2; i++) {
        tvlmc_tower_run_close(&b->towers[i]);
        tvlm_image_free(b->images[i]);
        tvlm_engine_free(b->engines[i]);
    }
}

static void tell(const report *r, const tvlmc_tower_plan *plan, const tvlmc_quantize_params *params)
{
    for (size_t i = 0; i < plan->n; i++) {
        const tvlmc_layer_plan *l = &plan->layers[i];
        params->on_error(params->user, &(tvlmc_layer_error){.layer = l->name,
                                                            .alone = l->alone,
                                                            .behind = relative(r->layers[i].all),
                                                            .is_float = l->is_float});
    }
    params->on_error(params->user, &(tvlmc_layer_error){
                                       .layer = "tokens",
                                       .alone = NAN,
                                       .behind = relative(r->layers[TVLMC_MAX_TOWER_LAYERS].all)});
}

tvlm_status tvlmc_report_int8(const tvlm_model *exact, const tvlm_model *int8,
                              const tvlmc_photos *photos, const tvlmc_quantize_params *params,
                              const tvlmc_tower_plan *plan, tvlm_error *err)
{
    if (!params->on_error) return TVLM_OK;
    both b = {0};
    report r = {0};
    tvlm_tap tap = {compare, &r};
    tvlm_status status =
        open_both(&b, (const tvlm_model *[]){exact, int8}, &tap, params->cancel, err);
    if (!status) status = compare_photos(&b, &r, photos, params, err);
    if (!status) tell(&r, plan, params);
    close_both(&b);
    for (size_t i = 0; i < TVLMC_MAX_TOWER_LAYERS; i++)
        free(r.layers[i].exact);
    return status;
}
