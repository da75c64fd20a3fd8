/* SPDX-License-Identifier: MIT
 * Loading: bytes in order -> header -> plan -> tensors placed once, checked, published by stage.
 *
 *   bytes ─▶ [header buffer] ─parse─▶ model, plan, weight block
 *         └▶ tensor bytes ─cursor─▶ CRC, units of rows ─▶ tvlm_bind_place ─▶ stage complete?
 * publish */
#include "model/loader.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PIECE ((size_t)1 << 20) /* between two looks at the cancel flag */

tvlm_status tvlm_loader_new(const tvlm_model_params *params, tvlm_loader **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    tvlm_model_params p;
    tvlm_precision precision;
    uint32_t cpu_mask;
    TVLM_TRY(tvlm_model_params_read(params, &p, err));
    TVLM_TRY(tvlm_model_arithmetic(&p, &cpu_mask, &precision, err));
    tvlm_loader *l = calloc(1, sizeof *l);
    if (!l) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    l->params = p;
    l->cpu_mask = cpu_mask;
    l->precision = precision;
    *out = l;
    return TVLM_OK;
}

void tvlm_loader_free(tvlm_loader *loader)
{
    if (!loader) return;
    tvlm_plan_free(&loader->plan);
    tvlm_model_free(loader->model);
    free(loader->unit);
    free(loader->head);
    free(loader);
}

tvlm_model *tvlm_loader_model(tvlm_loader *loader)
{
    /* after a header that was refused it has no parts yet */
    tvlm_model *model = loader ? loader->model : NULL;
    return model && tvlm_model_stage(model) >= TVLM_STAGE_HEADER ? model : NULL;
}

/* ---- header ---- */

static void publish(tvlm_model *model, tvlm_stage stage)
{
    atomic_store_explicit(&model->stage, (int)stage, memory_order_release);
}

/* Publishes every stage whose tensors (and those of the stages before it) are all in place. */
static tvlm_status publish_complete(tvlm_loader *l, tvlm_error *err)
{
    int stage = (int)tvlm_model_stage(l->model);
    for (; l->n_placed < l->cursor.tensor; l->n_placed++)
        l->plan.remaining[tvlm_loader_slot(l, l->n_placed)->stage]--;
    while (stage < TVLM_STAGE_DECODER && l->plan.remaining[stage + 1] == 0) {
        stage++;
        TVLM_TRY(tvlm_bind_finish(l->model, &l->plan, (tvlm_stage)stage, err));
        publish(l->model, (tvlm_stage)stage);
    }
    return TVLM_OK;
}

static tvlm_status truncated(uint64_t have, const tvlm_model *m, tvlm_error *err)
{
    return tvlm_fail(err, TVLM_ERR_FORMAT, "the file is truncated: it has %llu of %llu bytes",
                     (unsigned long long)have, (unsigned long long)m->gguf.file_size);
}

/* Memory is taken for weights that the caller allows and that the file can hold. */
static tvlm_status check_size(const tvlm_loader *l, tvlm_error *err)
{
    const tvlm_model *m = l->model;
    uint64_t have = l->params.file_bytes;
    if (m->block_size > l->params.max_memory)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the weights take %zu bytes, the limit is %zu",
                         m->block_size, l->params.max_memory);
    return have && have < m->gguf.file_size ? truncated(have, m, err) : TVLM_OK;
}

static tvlm_status begin_data(tvlm_loader *l, tvlm_error *err)
{
    tvlm_model *m = l->model;
    TVLM_TRY(tvlm_bind_plan(m, &l->plan, err));
    if (!l->params.header_only) {
        TVLM_TRY(check_size(l, err));
        m->block = tvlm_pages_alloc(m->block_size, true);
        l->unit = malloc(l->plan.unit_bytes + 1);
        if (!m->block || !l->unit)
            return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory: the weights take %zu bytes",
                             m->block_size);
        TVLM_TRY(tvlm_bind_attach(m, &l->plan, err));
    }
    publish(m, TVLM_STAGE_HEADER);
    return l->params.header_only ? TVLM_OK : publish_complete(l, err);
}

/* Takes over the header buffer; bytes beyond the header stay with the caller. */
static tvlm_status begin_model(tvlm_loader *l, tvlm_gguf *gguf, tvlm_error *err)
{
    tvlm_model *m = calloc(1, sizeof *m);
    if (!m) {
        tvlm_gguf_free(gguf);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    }
    l->model = m;
    atomic_init(&m->refs, 1);
    m->gguf = *gguf;
    m->cpu_mask = l->cpu_mask;
    m->precision = l->precision;
    TVLM_TRY(tvlm_model_read_header(m, &l->params, l->head, err));
    return begin_data(l, err);
}

static tvlm_status grow_head(tvlm_loader *l, const unsigned char *data, size_t size,
                             tvlm_error *err)
{
    if (size > SIZE_MAX / 4 - l->head_size)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the header does not fit memory");
    if (l->head_size + size > l->head_cap) {
        size_t cap = l->head_size + size + l->head_size / 2;
        unsigned char *grown = realloc(l->head, cap);
        if (!grown) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
        l->head = grown;
        l->head_cap = cap;
    }
    memcpy(l->head + l->head_size, data, size);
    l->head_size += size;
    return TVLM_OK;
}

/* ---- tensor data ---- */

/* A file without checksums gets them here: they say which model this is (engine/saved.c). */
static tvlm_status check_crc(const tvlm_loader *l, const tvlm_gguf_tensor *t, uint32_t crc,
                             tvlm_error *err)
{
    tvlm_gguf *g = &l->model->gguf;
    if (!g->has_crc) g->tensors[t - g->tensors].crc32c = crc;
    if (!g->has_crc || l->params.skip_checksums || crc == t->crc32c) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_CHECKSUM,
                     "tensor '%s': checksum %08x, the file says %08x: the file is damaged",
                     tvlm_show(t->name).text, (unsigned)crc, (unsigned)t->crc32c);
}

static tvlm_status end_tensor(const tvlm_loader *l, tvlm_load_cursor *c, const tvlm_gguf_tensor *t,
                              tvlm_error *err)
{
    uint32_t crc = c->crc;
    c->crc = 0;
    c->row = 0;
    c->tensor++;
    if (t->offset >= c->begin) return check_crc(l, t, crc, err);
    c->rest_crc = crc;
    return TVLM_OK;
}

/* Places what makes whole units (or the last, shorter one); keeps the rest in the loader's unit,
 * which shares leave empty, as they are cut between units. */
static void place(tvlm_loader *l, tvlm_load_cursor *c, const tvlm_slot *s, const unsigned char *p,
                  size_t size)
{
    while (size) {
        size_t rows = s->n - c->row < s->unit_rows ? s->n - c->row : s->unit_rows;
        size_t want = rows * s->row_bytes, have = c == &l->cursor ? l->unit_size : 0;
        size_t take = want - have < size ? want - have : size;
        bool whole = have + take == want;
        if (have || !whole) {
            memcpy(l->unit + have, p, take);
            l->unit_size = whole ? 0 : have + take;
        }
        if (whole) {
            tvlm_bind_place(l->model, s, c->row, have ? l->unit : p, rows);
            c->row += rows;
        }
        p += take;
        size -= take;
    }
}

/* Files whose header has a checksum are padded with zeros, so that every byte is checked. */
static tvlm_status check_padding(const tvlm_loader *l, uint64_t at, const unsigned char *p,
                                 size_t size, tvlm_error *err)
{
    const tvlm_gguf *g = &l->model->gguf;
    if (!g->header_crc_at || l->params.skip_checksums) return TVLM_OK;
    for (size_t i = 0; i < size; i++)
        if (p[i])
            return tvlm_fail(err, TVLM_ERR_CHECKSUM,
                             "byte %llu is padding and not zero: the file is damaged",
                             (unsigned long long)(at + i));
    return TVLM_OK;
}

static tvlm_status check_end(const tvlm_loader *l, uint64_t at, const unsigned char *p, size_t size,
                             tvlm_error *err)
{
    uint64_t end = tvlm_loader_end(l), left = at < end ? end - at : 0;
    return check_padding(l, at, p, left < size ? (size_t)left : size, err);
}

tvlm_status tvlm_loader_step(tvlm_loader *l, tvlm_load_cursor *c, const unsigned char **p,
                             size_t *size, tvlm_error *err)
{
    const tvlm_gguf *g = &l->model->gguf;
    const tvlm_gguf_tensor *t = c->tensor < g->n_tensors ? &g->tensors[c->tensor] : NULL;
    size_t take = *size;
    if (!t) {
        TVLM_TRY(check_end(l, c->at, *p, take, err));
    } else if (c->at < t->offset) {
        take = tvlm_at_most(take, t->offset - c->at);
        TVLM_TRY(check_padding(l, c->at, *p, take, err));
    } else {
        take = tvlm_at_most(take, t->offset + t->size - c->at);
        if (!g->has_crc || !l->params.skip_checksums)
            c->crc = l->model->kernels.crc32c(c->crc, *p, take);
        place(l, c, tvlm_loader_slot(l, c->tensor), *p, take);
    }
    c->at += take;
    *p += take;
    *size -= take;
    return t && c->at == t->offset + t->size ? end_tensor(l, c, t, err) : TVLM_OK;
}

tvlm_status tvlm_loader_check_cancel(const tvlm_loader *l, tvlm_error *err)
{
    return tvlm_cancelled(l->params.cancel) ? tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled")
                                            : TVLM_OK;
}

tvlm_status tvlm_loader_feed_data(tvlm_loader *l, const unsigned char *p, size_t size,
                                  tvlm_error *err)
{
    while (size) {
        size_t piece = size < MAX_PIECE ? size : MAX_PIECE, left = piece;
        TVLM_TRY(tvlm_loader_check_cancel(l, err));
        TVLM_TRY(tvlm_loader_step(l, &l->cursor, &p, &left, err));
        TVLM_TRY(publish_complete(l, err));
        size -= piece - left;
    }
    return TVLM_OK;
}

tvlm_status tvlm_loader_follow(tvlm_loader *l, const tvlm_load_cursor *s, tvlm_error *err)
{
    tvlm_load_cursor *c = &l->cursor;
    const tvlm_gguf_tensor *t = &l->model->gguf.tensors[c->tensor]; /* one more than there are */
    bool over = s->tensor > c->tensor, began_before = s->begin > t->offset;
    if (!over && s->at > t->offset)
        c->crc = tvlm_crc32c_join(c->crc, s->crc, s->at - (began_before ? s->begin : t->offset));
    if (over && began_before)
        TVLM_TRY(check_crc(
            l, t, tvlm_crc32c_join(c->crc, s->rest_crc, t->offset + t->size - s->begin), err));
    if (over) c->crc = s->crc;
    c->at = s->at;
    c->tensor = s->tensor;
    c->row = s->row;
    return publish_complete(l, err);
}

tvlm_status tvlm_loader_feed_header(tvlm_loader *l, const unsigned char *data, size_t size,
                                    unsigned char **tail, size_t *n_tail, tvlm_error *err)
{
    TVLM_TRY(grow_head(l, data, size, err));
    /* parsing again from the start costs the header's size: try when it has grown by a quarter */
    if (l->head_size < l->next_parse) return TVLM_OK;
    tvlm_gguf gguf;
    bool complete;
    l->next_parse = l->head_size + l->head_size / 4 + 1;
    TVLM_TRY(tvlm_gguf_parse(l->head, l->head_size, &gguf, &complete, err));
    if (!complete) return TVLM_OK;
    size_t header = gguf.data_offset < l->head_size ? (size_t)gguf.data_offset : l->head_size;
    size_t rest = tail ? l->head_size - header : 0;
    if (rest && !(*tail = malloc(rest))) {
        tvlm_gguf_free(&gguf);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
    }
    if (rest) memcpy(*tail, l->head + header, *n_tail = rest);
    unsigned char *exact = realloc(l->head, header); /* smaller: the index must point into it */
    l->head = exact ? exact : l->head;
    tvlm_gguf_free(&gguf);
    tvlm_status status = tvlm_gguf_parse(l->head, header, &gguf, &complete, err);
    if (!status) status = begin_model(l, &gguf, err);
    if (l->model) {
        l->model->header = l->head;
        l->model->header_size = header;
        l->head = NULL;
    }
    l->cursor.at = header;
    return status;
}

static tvlm_status feed_first(tvlm_loader *l, const unsigned char *data, size_t size,
                              tvlm_error *err)
{
    unsigned char *tail = NULL;
    size_t n = 0;
    tvlm_status status = tvlm_loader_feed_header(l, data, size, &tail, &n, err);
    if (!status && !l->params.header_only) status = tvlm_loader_feed_data(l, tail, n, err);
    free(tail);
    return status;
}

tvlm_status tvlm_loader_feed(tvlm_loader *loader, const void *data, size_t size, tvlm_error *err)
{
    TVLM_NEED(loader);
    if (size) TVLM_NEED(data);
    if (loader->failed) return tvlm_fail(err, TVLM_ERR_STATE, "the loader has failed before");
    if (!size) return TVLM_OK;
    loader->failed = tvlm_loader_check_cancel(loader, err);
    if (loader->failed) return loader->failed;
    if (!loader->model)
        loader->failed = feed_first(loader, data, size, err);
    else if (!loader->params.header_only)
        loader->failed = tvlm_loader_feed_data(loader, data, size, err);
    return loader->failed;
}

tvlm_status tvlm_loader_finish(tvlm_loader *loader, tvlm_model **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(loader);
    if (loader->failed) return tvlm_fail(err, TVLM_ERR_STATE, "the loader has failed before");
    if (!loader->model && loader->head_size) { /* the last pieces may not have been tried */
        loader->next_parse = 0;
        unsigned char none = 0;
        TVLM_TRY(loader->failed = feed_first(loader, &none, 0, err));
    }
    if (!loader->model)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "the file ends inside its header (%zu bytes)",
                         loader->head_size);
    if (!loader->params.header_only && loader->cursor.at < loader->model->gguf.file_size)
        return truncated(loader->cursor.at, loader->model, err);
    *out = loader->model;
    loader->model = NULL;
    tvlm_loader_free(loader);
    return TVLM_OK;
}
