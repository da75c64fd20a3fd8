/* SPDX-License-Identifier: MIT
 * Plans the output file as a list of tensors, each made from one of the input, then writes it. */
#include "convert/quantize.h"
#include "convert/calibrate.h"
#include "convert/gguf_source.h"
#include "convert/result.h"

#include "model/arch.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_CAP = 288, I8_MAX = 127 };

typedef enum making {
    MAKE_CONVERTED, /* the source in another type */
    MAKE_I8_WEIGHT, /* codes of the channel's scale, their sum kept */
    MAKE_I8_SCALE,  /* [n] largest magnitude of the channel / 127 */
    MAKE_RANGE      /* [2] scale and zero point */
} making;

typedef struct entry {
    char name[NAME_CAP];
    making making;
    const tvlm_gguf_tensor *source; /* NULL for MAKE_RANGE */
    tvlm_type type;
    uint64_t shape[TVLM_MAX_DIMS];
    uint32_t n_dims;
    tvlm_qparam range;
} entry;

typedef struct quantizer {
    const tvlmc_quantize_params *params;
    tvlmc_gguf_source source;
    float *largest;    /* magnitude, per tensor of the source */
    tvlm_model *model; /* the source, with int8_tower */
    tvlmc_photos photos;
    tvlmc_tower_plan tower;
    bool settled; /* which layers of the tower stay float */
    entry *entries;
    size_t n_entries;
} quantizer;

static void note(const quantizer *q, const char *format, ...) TVLM_PRINTF(2, 3);
static void note(const quantizer *q, const char *format, ...)
{
    if (!q->params->on_note) return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    q->params->on_note(q->params->user, line);
}

static bool starts(tvlm_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.data, prefix, n) == 0;
}

static bool ends(tvlm_str s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s.len >= n && memcmp(s.data + s.len - n, suffix, n) == 0;
}

/* ---- the source ---- */

static tvlm_status find_largest(const quantizer *q, const tvlm_gguf_tensor *t, float *out,
                                tvlm_error *err)
{
    tvlmc_gguf_rows r;
    tvlm_status status = tvlmc_gguf_rows_open(&q->source, t, &r, err);
    for (size_t i = 0; !status && i < r.n; i++) {
        status = tvlmc_gguf_rows_next(&r, err);
        for (size_t j = 0; !status && j < r.length; j++)
            *out = fmaxf(*out, fabsf(r.values[j]));
    }
    tvlmc_gguf_rows_close(&r);
    return status;
}

/* Reads all of it once, so that a damaged file is refused before anything is made of it. */
static tvlm_status examine(quantizer *q, tvlm_error *err)
{
    const tvlm_gguf *g = &q->source.gguf;
    TVLM_TRY(tvlmc_gguf_source_check_types(&q->source, err));
    q->largest = calloc(g->n_tensors + 1, sizeof *q->largest);
    if (!q->largest) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < g->n_tensors; i++) {
        if (tvlm_cancelled(q->params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(find_largest(q, &g->tensors[i], &q->largest[i], err));
    }
    return TVLM_OK;
}

/* ---- planning ---- */

/* Other writers keep the last dimensions of 1x1 convolutions. */
static uint32_t dims_without_ones(const tvlm_gguf_tensor *t)
{
    uint32_t n = t->n_dims;
    while (n > 2 && t->shape[n - 1] == 1)
        n--;
    return n;
}

/* A matrix of floats; a vector or a kernel of one tap may look like one with a side of 1, and
 * positions are added. */
static bool is_linear(const tvlm_gguf_tensor *t)
{
    return dims_without_ones(t) == 2 && t->shape[0] > 1 && t->shape[1] > 1 &&
           t->type != TVLM_TYPE_I8 && t->type != TVLM_TYPE_I32 && ends(t->name, ".weight") &&
           !starts(t->name, "v.position_embd.") &&
           (starts(t->name, "blk.") || starts(t->name, "mm.") || starts(t->name, "v.") ||
            starts(t->name, "token_embd.") || starts(t->name, "output."));
}

static bool contains(tvlm_str s, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.len; i++)
        if (!memcmp(s.data + i, part, n)) return true;
    return false;
}

/* The last that fits, or NULL. */
static const tvlmc_tensor_type *own_type(const quantizer *q, const tvlm_gguf_tensor *t)
{
    const tvlmc_tensor_type *found = NULL;
    for (size_t i = 0; i < q->params->n_tensors; i++)
        if (contains(t->name, q->params->tensors[i].name)) found = &q->params->tensors[i];
    return found;
}

static tvlm_status check_own_types(const quantizer *q, tvlm_error *err)
{
    const tvlm_gguf *g = &q->source.gguf;
    for (size_t i = 0; i < q->params->n_tensors; i++) {
        const char *name = q->params->tensors[i].name;
        bool fits = false;
        for (size_t k = 0; k < g->n_tensors; k++)
            fits |= is_linear(&g->tensors[k]) && contains(g->tensors[k].name, name);
        if (!fits) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "no matrix has '%s' in its name", name);
    }
    return TVLM_OK;
}

static tvlmc_part part_of(const tvlm_gguf_tensor *t)
{
    if (starts(t->name, "v.")) return TVLMC_PART_TOWER;
    bool table = starts(t->name, "token_embd.") || starts(t->name, "output.");
    return table ? TVLMC_PART_EMBEDDING : TVLMC_PART_LAYER;
}

/* Its float layers were left so on purpose. */
static bool has_int8_tower(const quantizer *q)
{
    return tvlm_gguf_find(&q->source.gguf, "vision.quantization") != NULL;
}

/* The type of a tensor in a file of type `asked`. */
static tvlm_type type_for(const quantizer *q, const tvlm_gguf_tensor *t, tvlm_type asked)
{
    if (!is_linear(t) || (part_of(t) == TVLMC_PART_TOWER && has_int8_tower(q)))
        return (tvlm_type)t->type;
    const uint64_t k = t->shape[1];
    const tvlmc_tensor_type *own = own_type(q, t);
    tvlmc_part part = own ? TVLMC_PART_LAYER : part_of(t); /* which take what they are told */
    if (own) asked = (tvlm_type)own->type;
    tvlm_type wanted = tvlmc_type_for(asked, part, 0);
    tvlm_type type = tvlmc_type_for(asked, part, k);
    if (type != wanted)
        note(q, "%.*s takes %s: rows of %" PRIu64 " are not whole blocks of %s", (int)t->name.len,
             t->name.data, tvlm_type_name((uint32_t)type), k, tvlm_type_name((uint32_t)wanted));
    if (q->largest[t - q->source.gguf.tensors] > tvlmc_type_largest(type)) {
        note(q, "%.*s stays F32: it has values beyond the range of %s", (int)t->name.len,
             t->name.data, tvlm_type_name((uint32_t)type));
        type = TVLM_TYPE_F32;
    }
    return type;
}

static entry *add(quantizer *q, const tvlm_gguf_tensor *source, making how, tvlm_type type,
                  tvlm_str layer, const char *suffix)
{
    entry *e = &q->entries[q->n_entries++];
    *e = (entry){.making = how, .source = source, .type = type};
    snprintf(e->name, sizeof e->name, "%.*s%s", (int)layer.len, layer.data, suffix);
    return e;
}

static void add_range(quantizer *q, tvlm_str layer, const char *suffix, tvlm_qparam range)
{
    entry *e = add(q, NULL, MAKE_RANGE, TVLM_TYPE_F32, layer, suffix);
    e->n_dims = 1;
    e->shape[0] = 2;
    e->range = range;
}

static void add_converted(quantizer *q, const tvlm_gguf_tensor *t, tvlm_type type)
{
    entry *e = add(q, t, MAKE_CONVERTED, type, t->name, "");
    memcpy(e->shape, t->shape, sizeof e->shape);
    e->n_dims = is_linear(t) ? 2 : t->n_dims;
    if (e->n_dims == 0) { /* a scalar */
        e->n_dims = 1;
        e->shape[0] = 1;
    }
}

/* The tower's layer of the tensors LAYER.*, such as "v.stem" or "v.blk.N.dw"; NULL for others. */
static const tvlmc_layer_plan *layer_of(const tvlmc_tower_plan *tower, tvlm_str layer)
{
    char name[64], part[16];
    unsigned i;
    if (layer.len >= sizeof name) return NULL;
    snprintf(name, sizeof name, "%.*s", (int)layer.len, layer.data);
    bool block = sscanf(name, "v.blk.%u.%15s", &i, part) == 2;
    if (block && strcmp(part, "project") == 0)
        snprintf(name, sizeof name, "v.blocks.%u", i);
    else if (block)
        snprintf(name, sizeof name, "v.blocks.%u.%s", i, part);
    for (size_t l = 0; l < tower->n; l++)
        if (strncmp(name, "v.", 2) == 0 && strcmp(name + 2, tower->layers[l].name) == 0)
            return &tower->layers[l];
    return NULL;
}

/* The shape in our files: matrices [n][k], depthwise kernels [c][k][k]. Others' have them as
 * PyTorch stores convolutions, [n][k][1][1] and [c][1][k][k]. */
static void set_int8_shape(entry *e, const tvlm_gguf_tensor *t)
{
    e->n_dims = t->n_dims;
    memcpy(e->shape, t->shape, sizeof e->shape);
    if (t->n_dims != 4) return;
    if (ends(t->name, ".dw.weight") && t->shape[1] == 1) {
        e->n_dims = 3;
        memcpy(e->shape + 1, t->shape + 2, 2 * sizeof *e->shape);
    } else if (!ends(t->name, ".dw.weight")) {
        e->n_dims = dims_without_ones(t);
    }
}

/* weight I8 and scale; the bias passes as it is. */
static void add_int8_weight(quantizer *q, const tvlm_gguf_tensor *t, tvlm_str layer)
{
    entry *weight = add(q, t, MAKE_I8_WEIGHT, TVLM_TYPE_I8, layer, ".weight");
    set_int8_shape(weight, t);
    entry *scale = add(q, t, MAKE_I8_SCALE, TVLM_TYPE_F32, layer, ".scale");
    scale->n_dims = 1;
    scale->shape[0] = t->shape[0];
}

/* The weight of a layer of the int8 tower, and the range of the layer's output. Matrices of float
 * layers become halves: what a layer stays float for is more than eight bits. */
static bool add_tower_layer(quantizer *q, const tvlm_gguf_tensor *t)
{
    if (!q->params->int8_tower || !starts(t->name, "v.") || !ends(t->name, ".weight")) return false;
    tvlm_str name = {t->name.data, t->name.len - strlen(".weight")};
    const tvlmc_layer_plan *layer = layer_of(&q->tower, name);
    if (!layer) return false;
    if (layer->is_float)
        add_converted(q, t, type_for(q, t, TVLM_TYPE_F16));
    else
        add_int8_weight(q, t, name);
    add_range(q, name, ".out_q", layer->out);
    return true;
}

static tvlm_status plan(quantizer *q, tvlm_error *err)
{
    const tvlm_gguf *g = &q->source.gguf;
    size_t most; /* an int8 layer's weight becomes three tensors */
    free(q->entries);
    q->n_entries = 0;
    if (!tvlm_mul_size(g->n_tensors, 3, &most) ||
        !(q->entries = calloc(most + 1, sizeof *q->entries)))
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu tensors", g->n_tensors);
    if (q->params->int8_tower) add_range(q, (tvlm_str){"v", 1}, ".input_q", q->tower.input);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const tvlm_gguf_tensor *t = &g->tensors[i];
        if (!add_tower_layer(q, t)) add_converted(q, t, type_for(q, t, q->params->type));
    }
    return TVLM_OK;
}

/* ---- making one tensor ---- */

/* 1 for a channel of zeros, or of values too small for a scale. */
static float channel_scale(const float *w, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(w[i]));
    return most / I8_MAX >= FLT_MIN ? most / I8_MAX : 1.0f;
}

/* The code whose step of `way` adds least to its own error. */
static size_t cheapest_step(const float *w, const int8_t *codes, size_t n, float scale, int way)
{
    size_t best = 0;
    float most = -INFINITY;
    for (size_t j = 0; j < n; j++) {
        float gain = (w[j] / scale - codes[j]) * (float)way;
        if (gain > most && codes[j] * way < I8_MAX) {
            most = gain;
            best = j;
        }
    }
    return best;
}

/* Rounded so that their sum is right to half a step: the inputs of a channel are alike, windows of
 * pixels above all, so what all of them share would gather the errors. */
static void make_codes(const float *w, size_t n, float scale, int8_t *codes)
{
    double error = 0;
    for (size_t j = 0; j < n; j++) {
        codes[j] = (int8_t)lrintf(w[j] / scale);
        error += (double)w[j] / scale - codes[j];
    }
    int way = error < 0 ? -1 : 1;
    for (long steps = lrint(fabs(error)); steps > 0; steps--) {
        size_t j = cheapest_step(w, codes, n, scale, way);
        codes[j] = (int8_t)(codes[j] + way);
    }
}

static void make_row(const entry *e, const tvlmc_gguf_rows *r, unsigned char *out, size_t bytes)
{
    if (e->making == MAKE_CONVERTED && e->type == (tvlm_type)e->source->type) {
        memcpy(out, r->raw, bytes);
        return;
    }
    if (e->making == MAKE_CONVERTED) {
        tvlm_quantize(e->type, r->values, out, r->length);
        return;
    }
    float scale = channel_scale(r->values, r->length);
    if (e->making == MAKE_I8_SCALE) {
        tvlm_quantize(TVLM_TYPE_F32, &scale, out, 1);
        return;
    }
    make_codes(r->values, r->length, scale, (int8_t *)out);
}

static tvlm_status make_rows(const quantizer *q, const entry *e, unsigned char *out, size_t size,
                             tvlm_error *err)
{
    tvlmc_gguf_rows r;
    tvlm_status status = tvlmc_gguf_rows_open(&q->source, e->source, &r, err);
    for (size_t i = 0; !status && i < r.n; i++) {
        status = tvlmc_gguf_rows_next(&r, err);
        if (!status) make_row(e, &r, out + i * (size / r.n), size / r.n);
    }
    tvlmc_gguf_rows_close(&r);
    return status;
}

/* Bytes of the tensor that e describes. */
static bool entry_size(const entry *e, size_t *size)
{
    size_t n = 1, row_bytes;
    for (uint32_t i = 0; i + 1 < e->n_dims; i++)
        if (e->shape[i] > SIZE_MAX || !tvlm_mul_size(n, (size_t)e->shape[i], &n)) return false;
    uint64_t last = e->shape[e->n_dims - 1];
    return last <= SIZE_MAX && tvlm_type_row_bytes(e->type, (size_t)last, &row_bytes) &&
           tvlm_mul_size(n, row_bytes, size);
}

static tvlm_status write_entry(const quantizer *q, tvlmc_gguf_writer *w, const entry *e,
                               tvlm_error *err)
{
    if (e->making == MAKE_RANGE) {
        float pair[2] = {e->range.scale, (float)e->range.zero};
        unsigned char bytes[sizeof pair];
        tvlm_quantize(TVLM_TYPE_F32, pair, bytes, 2);
        return tvlmc_gguf_write_tensor(w, bytes, sizeof bytes, err);
    }
    size_t size;
    unsigned char *out = entry_size(e, &size) ? calloc(size, 1) : NULL;
    if (!out) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for tensor '%s'", e->name);
    tvlm_status status = make_rows(q, e, out, size, err);
    if (status == TVLM_OK) status = tvlmc_gguf_write_tensor(w, out, size, err);
    free(out);
    return status;
}

/* ---- the file ---- */

/* Keys that describe the old bytes: the result has its own. */
static bool is_replaced_key(tvlm_str key)
{
    static const char *const keys[] = {"general.alignment", "tinyvlm.tensor_crc32c",
                                       "general.file_type", "general.quantization_version",
                                       "vision.quantization"};
    for (size_t i = 0; i < TVLM_COUNT(keys); i++)
        if (tvlm_str_eq(key, keys[i])) return true;
    return false;
}

static tvlm_status put_keys(const quantizer *q, tvlmc_gguf_writer *w, tvlm_error *err)
{
    const tvlm_gguf *g = &q->source.gguf;
    for (size_t i = 0; i < g->n_kv; i++)
        if (!is_replaced_key(g->kv[i].key)) TVLM_TRY(tvlmc_gguf_put_kv(w, &g->kv[i], err));
    const tvlm_gguf_kv *tower = tvlm_gguf_find(g, "vision.quantization");
    if (q->params->int8_tower)
        TVLM_TRY(tvlmc_gguf_put_string(w, "vision.quantization", (tvlm_str){"int8", 4}, err));
    else if (tower)
        TVLM_TRY(tvlmc_gguf_put_kv(w, tower, err));
    return tvlmc_put_file_type(w, q->params->type, err);
}

static tvlm_status write_all(const quantizer *q, tvlmc_gguf_writer *w, tvlm_error *err)
{
    TVLM_TRY(put_keys(q, w, err));
    for (size_t i = 0; i < q->n_entries; i++) {
        const entry *e = &q->entries[i];
        TVLM_TRY(tvlmc_gguf_declare(w, e->name, e->type, e->shape, e->n_dims, err));
    }
    for (size_t i = 0; i < q->n_entries; i++) {
        if (tvlm_cancelled(q->params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(write_entry(q, w, &q->entries[i], err));
        if (q->params->on_progress)
            q->params->on_progress(q->params->user, "quantizing", i + 1, q->n_entries);
    }
    return TVLM_OK;
}

/* Marks the layers that lose too much; how many. */
static size_t leave_float(quantizer *q)
{
    size_t n = 0;
    for (size_t i = 0; i < q->tower.n; i++) {
        tvlmc_layer_plan *l = &q->tower.layers[i];
        l->is_float = !(l->alone <= q->params->max_layer_error);
        n += l->is_float;
    }
    return n;
}

/* Of the first file, which is all int8: measured, it may do. */
static tvlm_status settle(quantizer *q, const tvlm_model *model, tvlm_error *err)
{
    if (!q->params->on_error && isinf(q->params->max_layer_error)) return TVLM_OK;
    TVLM_TRY(tvlmc_measure_layers(q->model, model, &q->photos, q->params, &q->tower, err));
    q->settled = true;
    return leave_float(q) ? tvlm_fail(err, TVLM_ERR_FORMAT, "layers lose too much in int8")
                          : TVLM_OK;
}

/* What tvlmc_check_result does, the errors and the report. */
static tvlm_status check_int8(void *user, const char *path, tvlm_error *err)
{
    quantizer *q = user;
    tvlm_model *model = NULL;
    tvlm_status status = tvlm_model_open(path, NULL, &model, err);
    if (!status && !q->settled) status = settle(q, model, err);
    if (!status) status = tvlmc_report_int8(q->model, model, &q->photos, q->params, &q->tower, err);
    tvlm_model_free(model);
    return status;
}

static tvlm_status write_file(quantizer *q, const char *out, tvlm_error *err)
{
    tvlmc_gguf_writer *w;
    TVLM_TRY(plan(q, err));
    TVLM_TRY(tvlmc_gguf_writer_new(out, q->params->cancel, &w, err));
    tvlm_status status = write_all(q, w, err);
    if (status != TVLM_OK) {
        tvlmc_gguf_writer_abort(w);
        return status;
    }
    return tvlmc_gguf_writer_finish(w, q->model ? check_int8 : tvlmc_check_result, q, err);
}

/* Once more where the first file has shown layers that stay float. */
static tvlm_status write_settled(quantizer *q, const char *out, tvlm_error *err)
{
    bool settled = q->settled;
    tvlm_status status = write_file(q, out, err);
    bool again = status && q->settled != settled && leave_float(q);
    return again ? write_file(q, out, err) : status;
}

/* The model that is in the file being read, whatever has taken its name meanwhile. */
static tvlm_status feed_all(const tvlm_file *file, tvlm_loader *loader, tvlm_error *err)
{
    static const size_t at_once = (size_t)1 << 18;
    unsigned char *piece = malloc(at_once);
    if (!piece) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading %s", file->path);
    tvlm_status status = TVLM_OK;
    for (uint64_t at = 0; !status && at < file->os.size;) {
        uint64_t left = file->os.size - at;
        size_t n = left < at_once ? (size_t)left : at_once;
        status = tvlm_file_read(file, at, piece, n, err);
        if (!status) status = tvlm_loader_feed(loader, piece, n, err);
        at += n;
    }
    free(piece);
    return status;
}

static tvlm_status load(quantizer *q, tvlm_error *err)
{
    tvlm_loader *loader;
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    params.precision = "f32";
    TVLM_TRY(tvlm_loader_new(&params, &loader, err));
    tvlm_status status = feed_all(&q->source.file, loader, err);
    if (!status) status = tvlm_loader_finish(loader, &q->model, err);
    if (status) tvlm_loader_free(loader);
    return status;
}

static tvlm_status can_calibrate(const quantizer *q, tvlm_error *err)
{
    if (!q->model->config.arch->int8_tower)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "int8 is for EfficientNet-Lite towers: take q8_0 or f16 for this model; "
                         "float matrices run in int16 where that is fast (precision auto)");
    if (q->model->config.vision_int8)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "the tower is int8 already; the other types quantise the rest");
    if (!q->params->next_photo)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "int8 needs calibration images");
    return TVLM_OK;
}

static tvlm_status load_and_calibrate(quantizer *q, tvlm_error *err)
{
    TVLM_TRY(load(q, err));
    TVLM_TRY(can_calibrate(q, err));
    TVLM_TRY(tvlmc_photos_take(q->model, q->params, &q->photos, err));
    return tvlmc_calibrate(q->model, &q->photos, q->params, &q->tower, err);
}

static tvlm_status calibrate(quantizer *q, tvlm_error *err)
{
    tvlm_error why = {0};
    tvlm_status status = load_and_calibrate(q, &why);
    bool of_model = status == TVLM_ERR_FORMAT || status == TVLM_ERR_UNSUPPORTED;
    if (status)
        tvlm_fail(err, status, "%s%s%s", of_model ? q->source.file.path : "", of_model ? ": " : "",
                  why.message);
    return status;
}

static tvlm_status run(quantizer *q, const char *in, const char *out, tvlm_error *err)
{
    TVLM_TRY(tvlmc_gguf_source_open(in, &q->source, err));
    TVLM_TRY(check_own_types(q, err));
    TVLM_TRY(examine(q, err));
    if (q->params->int8_tower) TVLM_TRY(calibrate(q, err));
    return write_settled(q, out, err);
}

tvlm_status tvlmc_quantize_file(const char *in, const char *out,
                                const tvlmc_quantize_params *params, tvlm_error *err)
{
    if (!tvlmc_type_is_written(params->type))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "%s cannot be written",
                         tvlm_type_name((uint32_t)params->type));
    TVLM_TRY(app_output_not_input(out, in, err));
    quantizer q = {.params = params};
    tvlm_status status = run(&q, in, out, err);
    tvlmc_gguf_source_close(&q.source);
    tvlm_model_free(q.model);
    free(q.photos.rgb);
    free(q.largest);
    free(q.entries);
    return status;
}
