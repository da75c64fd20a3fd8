/* SPDX-License-Identifier: MIT
 * Plans the output file as a list of tensors, each made from one of the input, then writes it. */
#include "convert/quantize.h"
#include "convert/calibrate.h"

#include "base/base.h"
#include "convert/gguf_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_CAP = 288, I8_MAX = 127 };
#define F16_MAX 65504.0f

typedef enum making {
    MAKE_CONVERTED, /* the source in another type */
    MAKE_I8_WEIGHT, /* rounded to the channel's scale */
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
    const tvlm_quantize_params *params;
    tvlm_mapfile map;
    tvlm_gguf gguf;
    tvlm_tower_ranges ranges;
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

/* ---- a tensor of the source, read by rows of its outermost dimension ---- */

typedef struct rows {
    const unsigned char *data;
    tvlm_type type;
    size_t n, length, bytes; /* rows, floats of a row, bytes of a row */
    float *row;
} rows;

/* False when out of memory; the caller frees r->row. */
static bool rows_open(const quantizer *q, const tvlm_gguf_tensor *t, rows *r)
{
    *r = (rows){.data = q->map.data + t->offset, .type = (tvlm_type)t->type};
    r->n = t->n_dims > 1 ? (size_t)t->shape[0] : 1;
    r->length = (size_t)(t->n_elements / r->n);
    r->row = malloc(r->length * sizeof *r->row);
    return r->row && tvlm_type_row_bytes(r->type, r->length, &r->bytes);
}

static const float *rows_read(const rows *r, size_t i)
{
    tvlm_dequantize(r->type, r->data + i * r->bytes, r->row, r->length);
    return r->row;
}

static bool fits_f16(const quantizer *q, const tvlm_gguf_tensor *t)
{
    rows r;
    bool fits = rows_open(q, t, &r);
    for (size_t i = 0; fits && i < r.n; i++) {
        const float *w = rows_read(&r, i);
        for (size_t j = 0; j < r.length; j++)
            fits = fits && fabsf(w[j]) <= F16_MAX;
    }
    free(r.row);
    return fits;
}

/* ---- planning ---- */

static bool is_linear(const tvlm_gguf_tensor *t)
{
    return t->n_dims == 2 && ends(t->name, ".weight") &&
           (starts(t->name, "blk.") || starts(t->name, "mm.") || starts(t->name, "v.") ||
            starts(t->name, "token_embd.") || starts(t->name, "output."));
}

/* What 4 bits hurt more than they save. */
static bool is_sensitive(const tvlm_gguf_tensor *t)
{
    return starts(t->name, "token_embd.") || starts(t->name, "output.") || starts(t->name, "v.");
}

static tvlm_type type_for(const quantizer *q, const tvlm_gguf_tensor *t)
{
    if (!is_linear(t)) return (tvlm_type)t->type;
    tvlm_type type = q->params->type;
    if (type == TVLM_TYPE_Q4_0 && is_sensitive(t)) type = TVLM_TYPE_Q8_0;
    uint64_t k = t->shape[1];
    if (k % tvlm_type_block(type) != 0) {
        note(q, "%.*s stays F16: rows of %" PRIu64 " are not whole blocks of %s", (int)t->name.len,
             t->name.data, k, tvlm_type_name(type));
        type = TVLM_TYPE_F16;
    }
    if (type == TVLM_TYPE_F16 && !fits_f16(q, t)) {
        note(q, "%.*s stays F32: it has values beyond F16", (int)t->name.len, t->name.data);
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
    e->n_dims = t->n_dims;
    memcpy(e->shape, t->shape, sizeof e->shape);
}

/* The range of the tower layer "v.stem", "v.head" or "v.blk.N.PART"; NULL for another name. */
static const tvlm_qparam *layer_range(const tvlm_tower_ranges *r, tvlm_str layer)
{
    char name[64], part[16];
    unsigned i;
    if (layer.len >= sizeof name) return NULL;
    snprintf(name, sizeof name, "%.*s", (int)layer.len, layer.data);
    if (strcmp(name, "v.stem") == 0) return &r->stem;
    if (strcmp(name, "v.head") == 0) return &r->head;
    if (sscanf(name, "v.blk.%u.%15s", &i, part) != 2 || i >= TVLM_MAX_BLOCKS) return NULL;
    return strcmp(part, "expand") == 0 ? &r->blocks[i].expand
           : strcmp(part, "dw") == 0   ? &r->blocks[i].dw
                                       : &r->blocks[i].project;
}

/* A layer of the int8 tower: weight I8, scale, range of the output. Biases pass as they are. */
static bool add_int8_layer(quantizer *q, const tvlm_gguf_tensor *t)
{
    if (!starts(t->name, "v.") || !ends(t->name, ".weight")) return false;
    tvlm_str layer = {t->name.data, t->name.len - strlen(".weight")};
    const tvlm_qparam *range = layer_range(&q->ranges, layer);
    if (!range) return false;
    entry *weight = add(q, t, MAKE_I8_WEIGHT, TVLM_TYPE_I8, layer, ".weight");
    weight->n_dims = t->n_dims;
    memcpy(weight->shape, t->shape, sizeof weight->shape);
    entry *scale = add(q, t, MAKE_I8_SCALE, TVLM_TYPE_F32, layer, ".scale");
    scale->n_dims = 1;
    scale->shape[0] = t->shape[0];
    add_range(q, layer, ".out_q", *range);
    return true;
}

static tvlm_status plan(quantizer *q, tvlm_error *err)
{
    size_t most; /* an int8 layer's weight becomes three tensors */
    if (!tvlm_mul_size(q->gguf.n_tensors, 3, &most) ||
        !(q->entries = calloc(most + 1, sizeof *q->entries)))
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu tensors", q->gguf.n_tensors);
    if (q->params->int8_tower) add_range(q, (tvlm_str){"v", 1}, ".input_q", q->ranges.input);
    for (size_t i = 0; i < q->gguf.n_tensors; i++) {
        const tvlm_gguf_tensor *t = &q->gguf.tensors[i];
        if (!tvlm_type_runs(t->type))
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "tensor '%.*s' has type %s",
                             (int)t->name.len, t->name.data, tvlm_type_name(t->type));
        if (!q->params->int8_tower || !add_int8_layer(q, t)) add_converted(q, t, type_for(q, t));
    }
    return TVLM_OK;
}

/* ---- making one tensor ---- */

static float channel_scale(const float *w, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(w[i]));
    return most > 0 ? most / I8_MAX : 1.0f;
}

static void make_row(const entry *e, const rows *r, size_t i, unsigned char *out, size_t row_bytes)
{
    const float *w = rows_read(r, i);
    if (e->making == MAKE_CONVERTED) {
        tvlm_quantize(e->type, w, out + i * row_bytes, r->length);
        return;
    }
    float scale = channel_scale(w, r->length);
    if (e->making == MAKE_I8_SCALE) {
        tvlm_quantize(TVLM_TYPE_F32, &scale, out + i * sizeof scale, 1);
        return;
    }
    for (size_t j = 0; j < r->length; j++)
        ((int8_t *)out)[i * r->length + j] = (int8_t)lrintf(w[j] / scale);
}

/* Bytes of the tensor that e describes. */
static bool entry_size(const entry *e, size_t *row_bytes, size_t *size)
{
    size_t n = 1;
    for (uint32_t i = 0; i + 1 < e->n_dims; i++)
        if (e->shape[i] > SIZE_MAX || !tvlm_mul_size(n, (size_t)e->shape[i], &n)) return false;
    uint64_t last = e->shape[e->n_dims - 1];
    return last <= SIZE_MAX && tvlm_type_row_bytes(e->type, (size_t)last, row_bytes) &&
           tvlm_mul_size(n, *row_bytes, size);
}

static tvlm_status make_rows(const quantizer *q, const entry *e, unsigned char *out,
                             size_t out_bytes, tvlm_error *err)
{
    rows r;
    if (!rows_open(q, e->source, &r)) {
        free(r.row);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for tensor '%s'", e->name);
    }
    for (size_t i = 0; i < r.n; i++)
        make_row(e, &r, i, out, out_bytes / r.n);
    free(r.row);
    return TVLM_OK;
}

static tvlm_status write_entry(const quantizer *q, tvlm_gguf_writer *w, const entry *e,
                               tvlm_error *err)
{
    const tvlm_gguf_tensor *t = e->source;
    if (e->making == MAKE_RANGE) {
        float pair[2] = {e->range.scale, (float)e->range.zero};
        unsigned char bytes[sizeof pair];
        tvlm_quantize(TVLM_TYPE_F32, pair, bytes, 2);
        return tvlm_gguf_write_tensor(w, bytes, sizeof bytes, err);
    }
    if (e->making == MAKE_CONVERTED && e->type == (tvlm_type)t->type)
        return tvlm_gguf_write_tensor(w, q->map.data + t->offset, (size_t)t->size, err);
    size_t row_bytes, size;
    unsigned char *out = entry_size(e, &row_bytes, &size) ? malloc(size) : NULL;
    if (!out) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for tensor '%s'", e->name);
    tvlm_status status = make_rows(q, e, out, size, err);
    if (status == TVLM_OK) status = tvlm_gguf_write_tensor(w, out, size, err);
    free(out);
    return status;
}

/* ---- the file ---- */

/* Keys that describe the old bytes; the writer makes its own. */
static bool is_layout_key(tvlm_str key)
{
    static const char *const keys[] = {"general.alignment", "tinyvlm.tensor_crc32c",
                                       "general.file_type", "general.quantization_version"};
    for (size_t i = 0; i < TVLM_COUNT(keys); i++)
        if (tvlm_str_eq(key, keys[i])) return true;
    return false;
}

static tvlm_status write_all(const quantizer *q, tvlm_gguf_writer *w, tvlm_error *err)
{
    for (size_t i = 0; i < q->gguf.n_kv; i++)
        if (!is_layout_key(q->gguf.kv[i].key)) TVLM_TRY(tvlm_gguf_put_kv(w, &q->gguf.kv[i], err));
    if (q->params->int8_tower)
        TVLM_TRY(tvlm_gguf_put_string(w, "vision.quantization", (tvlm_str){"int8", 4}, err));
    for (size_t i = 0; i < q->n_entries; i++) {
        const entry *e = &q->entries[i];
        TVLM_TRY(tvlm_gguf_declare(w, e->name, e->type, e->shape, e->n_dims, err));
    }
    for (size_t i = 0; i < q->n_entries; i++) {
        if (tvlm_cancelled(q->params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(write_entry(q, w, &q->entries[i], err));
        if (q->params->on_progress) q->params->on_progress(q->params->user, i + 1, q->n_entries);
    }
    return TVLM_OK;
}

static tvlm_status write_file(const quantizer *q, const char *out, tvlm_error *err)
{
    tvlm_gguf_writer *w;
    TVLM_TRY(tvlm_gguf_writer_new(out, q->params->cancel, &w, err));
    tvlm_status status = write_all(q, w, err);
    if (status != TVLM_OK) {
        tvlm_gguf_writer_abort(w);
        return status;
    }
    return tvlm_gguf_writer_finish(w, NULL, NULL, err);
}

static tvlm_status read_header(quantizer *q, const char *in, tvlm_error *err)
{
    bool complete;
    TVLM_TRY(tvlm_mapfile_open(in, &q->map, err));
    TVLM_TRY(tvlm_gguf_parse(q->map.data, q->map.size, &q->gguf, &complete, err));
    if (!complete || q->gguf.file_size > q->map.size)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s ends early", in);
    return TVLM_OK;
}

static tvlm_status calibrate(quantizer *q, const char *in, tvlm_error *err)
{
    tvlm_model *model;
    TVLM_TRY(tvlm_model_open(in, NULL, &model, err));
    tvlm_status status = tvlm_calibrate(model, q->params, &q->ranges, err);
    tvlm_model_free(model);
    return status;
}

static tvlm_status run(quantizer *q, const char *in, const char *out, tvlm_error *err)
{
    TVLM_TRY(read_header(q, in, err));
    if (q->params->int8_tower) TVLM_TRY(calibrate(q, in, err));
    TVLM_TRY(plan(q, err));
    return write_file(q, out, err);
}

tvlm_status tvlm_quantize_file(const char *in, const char *out, const tvlm_quantize_params *params,
                               tvlm_error *err)
{
    float probe[32] = {0};
    unsigned char block[sizeof probe];
    if (!tvlm_quantize(params->type, probe, block, 32))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "%s cannot be written",
                         tvlm_type_name(params->type));
    TVLM_TRY(tvlm_output_not_input(out, in, err));
    quantizer q = {.params = params};
    tvlm_status status = run(&q, in, out, err);
    tvlm_gguf_free(&q.gguf);
    tvlm_mapfile_close(&q.map);
    free(q.entries);
    return status;
}
