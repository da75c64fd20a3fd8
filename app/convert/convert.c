/* SPDX-License-Identifier: MIT
 * Reads a checkpoint folder, plans the tensors in the order in which they are needed (tower,
 * bridge, embeddings, layers), writes metadata and tensors, and opens the result to check it.
 */
#include "convert/family.h"
#include "convert/result.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tvlmc_convert_params_init(tvlmc_convert_params *params)
{
    *params = (tvlmc_convert_params){.size = sizeof *params, .type = TVLM_TYPE_F16};
}

void tvlmc_conversion_note(const tvlmc_conversion *c, const char *format, ...)
{
    if (!c->params->on_note) return;
    char line[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    c->params->on_note(c->params->user, line);
}

void tvlmc_conversion_fail(tvlmc_conversion *c, tvlm_status status)
{
    if (!c->status) c->status = status;
}

const tvlmc_st_tensor *tvlmc_take(tvlmc_conversion *c, const char *name, bool required)
{
    tvlmc_source *s = c->status ? NULL : tvlmc_checkpoint_find(&c->checkpoint, name);
    if (s) s->used = true;
    if (!s && required && !c->status)
        tvlmc_conversion_fail(
            c, tvlm_fail(c->err, TVLM_ERR_FORMAT, "the checkpoint has no tensor '%s'", name));
    return s ? s->tensor : NULL;
}

/* ---- types ---- */

tvlm_type tvlmc_linear_type(tvlmc_conversion *c, const char *name, tvlmc_part part, uint64_t k)
{
    tvlm_type wanted = tvlmc_type_for(c->params->type, part, 0);
    tvlm_type type = tvlmc_type_for(c->params->type, part, k);
    if (type != wanted)
        tvlmc_conversion_note(c, "%s takes %s: rows of %" PRIu64 " are not whole blocks of %s",
                              name, tvlm_type_name((uint32_t)type), k,
                              tvlm_type_name((uint32_t)wanted));
    return type;
}

static size_t count(const tvlmc_out_tensor *t)
{
    size_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++)
        n *= (size_t)t->shape[i]; /* the size of something in memory or a file */
    return n;
}

static tvlm_status check_numbers(const char *name, const float *v, size_t n, tvlm_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s' contains NaN or infinity", name);
    return TVLM_OK;
}

tvlm_status tvlmc_conversion_read(const tvlmc_conversion *c, const tvlmc_st_tensor *t, size_t first,
                                  size_t n, float *out)
{
    TVLM_TRY(tvlmc_st_read_f32(t, first, n, out, c->err));
    return check_numbers(t->name, out, n, c->err);
}

static tvlm_status read_values(const tvlmc_conversion *c, const tvlmc_out_tensor *t, size_t first,
                               size_t n, float *out)
{
    if (t->source) return tvlmc_conversion_read(c, t->source, first, n, out);
    memcpy(out, t->values + first, n * sizeof *out);
    return check_numbers(t->name, out, n, c->err);
}

static tvlm_status find_largest(const tvlmc_conversion *c, const tvlmc_out_tensor *t, float *out)
{
    float part[4096];
    size_t n = count(t);
    *out = 0;
    for (size_t at = 0; at < n; at += TVLM_COUNT(part)) {
        size_t m = n - at < TVLM_COUNT(part) ? n - at : TVLM_COUNT(part);
        TVLM_TRY(read_values(c, t, at, m, part));
        for (size_t i = 0; i < m; i++)
            *out = fmaxf(*out, fabsf(part[i]));
    }
    return TVLM_OK;
}

/* ---- planning ---- */

static void plan_tensor(tvlmc_conversion *c, const tvlmc_out_tensor *t)
{
    if (c->n_out == c->cap_out) {
        size_t cap = c->cap_out ? 2 * c->cap_out : 512;
        tvlmc_out_tensor *grown = realloc(c->out, cap * sizeof *grown);
        if (!grown) {
            tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory"));
            free(t->values);
            return;
        }
        c->out = grown;
        c->cap_out = cap;
    }
    tvlmc_out_tensor *out = &c->out[c->n_out++];
    *out = *t;
    float largest;
    tvlmc_conversion_fail(c, find_largest(c, t, &largest));
    if (!c->status && largest > tvlmc_type_largest(t->type)) {
        tvlmc_conversion_note(c, "%s stays F32: it has values beyond the range of %s", t->name,
                              tvlm_type_name((uint32_t)t->type));
        out->type = TVLM_TYPE_F32;
    }
}

void tvlmc_plan_values(tvlmc_conversion *c, const char *name, tvlm_type type, const uint64_t *shape,
                       uint32_t n_dims, float *values)
{
    tvlmc_out_tensor t = {.type = type, .n_dims = n_dims, .values = values};
    if (c->status || !values) {
        free(values);
        return;
    }
    snprintf(t.name, sizeof t.name, "%s", name);
    memcpy(t.shape, shape, n_dims * sizeof *shape);
    plan_tensor(c, &t);
}

const tvlmc_st_tensor *tvlmc_plan_linear(tvlmc_conversion *c, const char *name, const char *source,
                                         tvlmc_part part, uint64_t n, uint64_t k,
                                         uint32_t interleave_heads)
{
    const tvlmc_st_tensor *t = tvlmc_take(c, source, true);
    if (!t) return NULL;
    if (t->n_dims != 2 || t->n == 0 || (n && t->shape[0] != n) || (k && t->shape[1] != k)) {
        tvlmc_conversion_fail(
            c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                         "tensor '%s': shape [%" PRIu64 "][%" PRIu64
                         "] with %u dimensions, expected [%" PRIu64 "][%" PRIu64 "] (0: any)",
                         t->name, t->shape[0], t->shape[1], (unsigned)t->n_dims, n, k));
        return NULL;
    }
    tvlmc_out_tensor out = {.n_dims = 2, .source = t, .interleave_heads = interleave_heads};
    out.type = tvlmc_linear_type(c, name, part, t->shape[1]);
    memcpy(out.shape, t->shape, 2 * sizeof *out.shape);
    snprintf(out.name, sizeof out.name, "%s", name);
    plan_tensor(c, &out);
    return c->status ? NULL : t;
}

void tvlmc_plan_vector(tvlmc_conversion *c, const char *name, const char *source, uint64_t n)
{
    const tvlmc_st_tensor *t = tvlmc_take(c, source, true);
    if (!t) return;
    if (t->n != n || n == 0) {
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                           "tensor '%s': %zu values, expected %" PRIu64, t->name,
                                           t->n, n));
        return;
    }
    tvlmc_out_tensor out = {.type = TVLM_TYPE_F32, .n_dims = 1, .shape = {n}, .source = t};
    snprintf(out.name, sizeof out.name, "%s", name);
    plan_tensor(c, &out);
}

/* Rotary pairs of a head of d rows: row 2i + b comes from row b * d/2 + i. */
static size_t source_row(const tvlmc_out_tensor *t, size_t row)
{
    if (!t->interleave_heads) return row;
    size_t d = (size_t)t->shape[0] / t->interleave_heads, j = row % d;
    return row - j + j % 2 * (d / 2) + j / 2;
}

/* ---- writing ---- */

/* Rows of the tensor in its type. */
static tvlm_status encode(const tvlmc_conversion *c, const tvlmc_out_tensor *t, unsigned char *out,
                          size_t row_bytes)
{
    size_t k = (size_t)t->shape[t->n_dims - 1], rows = count(t) / k;
    float *row = malloc(k * sizeof *row);
    if (!row) return tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory for a row of %zu", k);
    tvlm_status status = TVLM_OK;
    for (size_t i = 0; i < rows && status == TVLM_OK; i++) {
        status = read_values(c, t, source_row(t, i) * k, k, row);
        if (status == TVLM_OK) tvlm_quantize(t->type, row, out + i * row_bytes, k);
    }
    free(row);
    return status;
}

static tvlm_status write_tensors(tvlmc_conversion *c, tvlmc_gguf_writer *w)
{
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < c->n_out; i++)
        total += count(&c->out[i]);
    for (size_t i = 0; i < c->n_out; i++) {
        tvlmc_out_tensor *t = &c->out[i];
        if (tvlm_cancelled(c->params->cancel))
            return tvlm_fail(c->err, TVLM_ERR_CANCELLED, "interrupted");
        size_t k = (size_t)t->shape[t->n_dims - 1], row_bytes, size;
        if (!tvlm_type_row_bytes(t->type, k, &row_bytes) ||
            !tvlm_mul_size(row_bytes, count(t) / k, &size))
            return tvlm_fail(c->err, TVLM_ERR_LIMIT, "tensor '%s' is too large", t->name);
        unsigned char *bytes = malloc(size);
        if (!bytes)
            return tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory for tensor '%s': %zu bytes",
                             t->name, size);
        tvlm_status status = encode(c, t, bytes, row_bytes);
        if (status == TVLM_OK) status = tvlmc_gguf_write_tensor(w, bytes, size, c->err);
        free(bytes);
        free(t->values);
        done += count(t);
        t->values = NULL;
        if (status) return status;
        if (c->params->on_progress) c->params->on_progress(c->params->user, done, total);
    }
    return TVLM_OK;
}

/* What is wrong with a tensor is said with its folder. */
static tvlm_status name_folder(const tvlmc_conversion *c, const char *dir, tvlm_status status)
{
    if (!status || !c->err || !strncmp(c->err->message, dir, strlen(dir))) return status;
    tvlm_error why = *c->err;
    return tvlm_fail(c->err, status, "%s: %s", dir, why.message);
}

static tvlm_status write_file(tvlmc_conversion *c, const char *dir, const char *path)
{
    tvlmc_gguf_writer *w;
    TVLM_TRY(tvlmc_gguf_writer_new(path, c->params->cancel, &w, c->err));
    tvlm_status status = name_folder(c, dir, tvlmc_write_metadata(c, dir, w));
    for (size_t i = 0; i < c->n_out && status == TVLM_OK; i++)
        status = tvlmc_gguf_declare(w, c->out[i].name, c->out[i].type, c->out[i].shape,
                                    c->out[i].n_dims, c->err);
    if (status == TVLM_OK) status = write_tensors(c, w);
    if (status == TVLM_OK) return tvlmc_gguf_writer_finish(w, tvlmc_check_result, NULL, c->err);
    tvlmc_gguf_writer_abort(w);
    return status;
}

/* ---- all of it ---- */

static tvlm_status plan(tvlmc_conversion *c)
{
    if (c->config.family->plan_vision) c->config.family->plan_vision(c);
    tvlmc_plan_decoder(c);
    const tvlmc_source *unused = c->status ? NULL : tvlmc_checkpoint_unused(&c->checkpoint);
    if (unused)
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_UNSUPPORTED,
                                           "tensor '%s' has no place in this kind of model: "
                                           "converting would lose it",
                                           unused->tensor->name));
    return c->status;
}

static tvlm_status convert(tvlmc_conversion *c, const char *dir, const char *out)
{
    const tvlmc_convert_params *p = c->params;
    TVLM_TRY(app_output_not_input(out, dir, c->err));
    if (p->tokenizer) TVLM_TRY(app_output_not_input(out, p->tokenizer, c->err));
    TVLM_TRY(tvlmc_checkpoint_look(dir, c->err));
    TVLM_TRY(tvlmc_hf_config_read(dir, &c->config, c->err));
    TVLM_TRY(tvlmc_tokenizer_files_open(p->tokenizer ? p->tokenizer : dir, &c->tokenizer,
                                        p->on_note, p->user, c->err));
    TVLM_TRY(tvlmc_checkpoint_open(dir, &c->checkpoint, c->err));
    TVLM_TRY(name_folder(c, dir, plan(c)));
    return write_file(c, dir, out);
}

tvlm_status tvlmc_convert(const char *dir, const char *out, const tvlmc_convert_params *params,
                          tvlm_error *err)
{
    tvlmc_convert_params defaults;
    tvlmc_convert_params_init(&defaults);
    tvlmc_conversion c = {.params = params ? params : &defaults, .err = err};
    if (params && params->size != sizeof *params)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "convert parameters were not initialised");
    tvlm_type type = c.params->type;
    if (!tvlmc_type_is_written(type))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "type %s cannot be written",
                         tvlm_type_name((uint32_t)type));
    tvlm_status status = convert(&c, dir, out);
    for (size_t i = 0; i < c.n_out; i++)
        free(c.out[i].values);
    free(c.out);
    tvlmc_checkpoint_close(&c.checkpoint);
    tvlmc_tokenizer_files_close(&c.tokenizer);
    return status;
}
