/* SPDX-License-Identifier: MIT */
#include "convert/gguf_source.h"

#include <math.h>
#include <stdlib.h>

enum { PIECE = 1 << 18 };

/* ---- the header ---- */

static tvlm_status grow_head(tvlmc_gguf_source *s, size_t size, tvlm_error *err)
{
    unsigned char *grown = realloc(s->head, size);
    if (!grown) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading %s", s->file.path);
    s->head = grown;
    return tvlm_file_read(&s->file, 0, s->head, size, err);
}

/* The parser says when it needs more than it was given. */
static tvlm_status read_head(tvlmc_gguf_source *s, tvlm_error *err)
{
    bool complete = false;
    tvlm_error why = {0};
    for (uint64_t size = PIECE; !complete; size *= 4) {
        bool all = size >= s->file.os.size;
        size_t n = (size_t)(all ? s->file.os.size : size);
        if (n) TVLM_TRY(grow_head(s, n, err));
        tvlm_status status = tvlm_gguf_parse(s->head, n, &s->gguf, &complete, &why);
        if (status) return tvlm_fail(err, status, "%s: %s", s->file.path, why.message);
        if (all && !complete)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: it ends inside its header", s->file.path);
    }
    tvlm_status status = tvlm_gguf_check_header(&s->gguf, s->head, tvlm_crc32c, &why);
    return status ? tvlm_fail(err, status, "%s: %s", s->file.path, why.message) : TVLM_OK;
}

tvlm_status tvlmc_gguf_source_open(const char *path, tvlmc_gguf_source *out, tvlm_error *err)
{
    *out = (tvlmc_gguf_source){0};
    TVLM_TRY(tvlm_file_open(path, &out->file, err));
    TVLM_TRY(read_head(out, err));
    if (out->gguf.file_size > out->file.os.size)
        return tvlm_fail(
            err, TVLM_ERR_FORMAT, "%s: the file is truncated: it has %llu of %llu bytes", path,
            (unsigned long long)out->file.os.size, (unsigned long long)out->gguf.file_size);
    return TVLM_OK;
}

tvlm_status tvlmc_gguf_source_check_types(const tvlmc_gguf_source *source, tvlm_error *err)
{
    const tvlm_gguf *g = &source->gguf;
    for (size_t i = 0; i < g->n_tensors; i++)
        if (!tvlm_type_runs(g->tensors[i].type))
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "%s: tensor '%.*s' has type %s, which is not read", source->file.path,
                             (int)g->tensors[i].name.len, g->tensors[i].name.data,
                             tvlm_type_name(g->tensors[i].type));
    return TVLM_OK;
}

void tvlmc_gguf_source_close(tvlmc_gguf_source *source)
{
    tvlm_gguf_free(&source->gguf);
    tvlm_file_close(&source->file);
    free(source->head);
    source->head = NULL;
}

/* ---- rows ---- */

static tvlm_status fail(const tvlmc_gguf_rows *r, tvlm_status status, const char *what,
                        tvlm_error *err)
{
    return tvlm_fail(err, status, "%s: tensor '%.*s' %s", r->source->file.path,
                     (int)r->tensor->name.len, r->tensor->name.data, what);
}

tvlm_status tvlmc_gguf_rows_open(const tvlmc_gguf_source *source, const tvlm_gguf_tensor *tensor,
                                 tvlmc_gguf_rows *out, tvlm_error *err)
{
    *out = (tvlmc_gguf_rows){.source = source, .tensor = tensor};
    uint64_t n = tensor->n_dims > 1 ? tensor->shape[0] : 1, length = tensor->n_elements / n;
    if (length > SIZE_MAX / sizeof(float) ||
        !tvlm_type_row_bytes((tvlm_type)tensor->type, (size_t)length, &out->bytes))
        return fail(out, TVLM_ERR_LIMIT, "has rows that do not fit memory", err);
    out->n = (size_t)n; /* rows of at least a byte that are in the file */
    out->length = (size_t)length;
    size_t fit = PIECE / out->bytes;
    out->rows_at_once = fit < 1 ? 1 : fit > out->n ? out->n : fit;
    out->piece = malloc(out->rows_at_once * out->bytes);
    out->values = malloc(out->length * sizeof *out->values);
    return out->piece && out->values
               ? TVLM_OK
               : fail(out, TVLM_ERR_MEMORY, "takes more memory than there is", err);
}

static tvlm_status read_piece(tvlmc_gguf_rows *r, tvlm_error *err)
{
    size_t left = r->n - r->next, rows = left < r->rows_at_once ? left : r->rows_at_once;
    uint64_t offset = r->tensor->offset + (uint64_t)r->next * r->bytes;
    TVLM_TRY(tvlm_file_read(&r->source->file, offset, r->piece, rows * r->bytes, err));
    r->crc = tvlm_crc32c(r->crc, r->piece, rows * r->bytes);
    bool last = rows == left, known = r->source->gguf.has_crc;
    if (last && known && r->crc != r->tensor->crc32c)
        return fail(r, TVLM_ERR_CHECKSUM, "does not match its checksum: the file is damaged", err);
    return TVLM_OK;
}

tvlm_status tvlmc_gguf_rows_next(tvlmc_gguf_rows *r, tvlm_error *err)
{
    size_t at = r->next % r->rows_at_once;
    if (at == 0) TVLM_TRY(read_piece(r, err));
    r->raw = r->piece + at * r->bytes;
    r->next++;
    tvlm_dequantize((tvlm_type)r->tensor->type, r->raw, r->values, r->length);
    for (size_t i = 0; i < r->length; i++)
        if (!isfinite(r->values[i]))
            return fail(r, TVLM_ERR_FORMAT, "contains NaN or infinity", err);
    return TVLM_OK;
}

void tvlmc_gguf_rows_close(tvlmc_gguf_rows *rows)
{
    free(rows->piece);
    free(rows->values);
    *rows = (tvlmc_gguf_rows){0};
}
