/* SPDX-License-Identifier: MIT
 * Loading: bytes in order -> header -> plan -> tensors placed once, checked, published by stage.
 *
 *   bytes ─▶ [header buffer] ─parse─▶ model, plan, weight block
 *         └▶ tensor bytes ─cursor─▶ CRC, units of rows ─▶ tvlm_bind_place ─▶ stage complete?
 * publish
 *
 * What is fed goes through one cursor, in order. A file or a memory block is cut into shares, each
 * with a cursor of its own, that all threads take; the loader's own cursor then follows. */
#include "base/pool.h"
#include "cpu/cpu.h"
#include "model/bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHOWN 4096u /* bytes of a name, licence or description */

/* A walk over the bytes of the tensors: the loader's, from the first on, or a share's. */
typedef struct load_cursor {
    uint64_t begin, at; /* file offsets: where it began, of the next byte */
    size_t tensor;      /* the one that `at` is in or before */
    size_t row;         /* of that tensor's slot: first row not placed */
    uint32_t crc;       /* of that tensor's bytes from `begin` on */
    uint32_t rest_crc;  /* of the rest of a tensor that `begin` is in, once that is over */
} load_cursor;

struct tvlm_loader {
    tvlm_model_params params;
    tvlm_model *model; /* NULL before the header is complete */
    tvlm_plan plan;
    unsigned char *head; /* header bytes so far */
    size_t head_size, head_cap, next_parse;
    load_cursor cursor;
    size_t n_placed;     /* tensors that their stages know to be in place */
    unsigned char *unit; /* a unit that arrives in pieces */
    size_t unit_size;
    tvlm_status failed; /* a loader that failed stays failed */
};

void tvlm_model_params_init(tvlm_model_params *params)
{
    if (params) *params = (tvlm_model_params){.size = sizeof *params};
}

size_t tvlm_model_bytes(const tvlm_model *m)
{
    return sizeof *m + tvlm_fastvit_block_count(&m->config) * sizeof *m->fastvit_blocks +
           sizeof *m->fastvit_blocks + m->config.lm.n_layers * sizeof *m->layers + m->header_size +
           m->strings_size + tvlm_gguf_bytes(&m->gguf) + tvlm_tokenizer_bytes(m->tokenizer) +
           m->block_size;
}

void tvlm_model_free(tvlm_model *model)
{
    if (!model) return;
    tvlm_tokenizer_free(model->tokenizer);
    tvlm_gguf_free(&model->gguf);
    tvlm_pages_free(model->block, model->block_size);
    free(model->fastvit_blocks);
    free(model->layers);
    free(model->strings);
    free(model->header);
    free(model);
}

tvlm_status tvlm_loader_new(const tvlm_model_params *params, tvlm_loader **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    if (params && params->size == 0)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "params.size is 0: use tvlm_model_params_init");
    tvlm_loader *l = calloc(1, sizeof *l);
    if (!l) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_model_params_init(&l->params);
    if (params)
        memcpy(&l->params, params, params->size < sizeof *params ? params->size : sizeof *params);
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

tvlm_stage tvlm_model_stage(const tvlm_model *model)
{
    if (!model) return TVLM_STAGE_NONE;
    return (tvlm_stage)atomic_load_explicit(&model->stage, memory_order_acquire);
}

/* ---- header ---- */

static uint32_t load_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* tinyvlm.added_tokens, pairs of id and bits -> added[n]; without the key nothing is written. */
static tvlm_status read_added(const tvlm_gguf *g, uint8_t *added, size_t n, tvlm_error *err)
{
    const tvlm_gguf_kv *kv = tvlm_gguf_find(g, "tinyvlm.added_tokens");
    if (!kv) return TVLM_OK;
    if (!kv->is_array || kv->type != TVLM_GGUF_I32 || kv->n % 2)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.added_tokens': expected i32 pairs");
    for (size_t i = 0; i < kv->n; i += 2) {
        uint32_t id = load_u32(kv->data + 4 * i), bits = load_u32(kv->data + 4 * i + 4);
        if (id >= n || bits & ~(uint32_t)TVLM_ADDED_ALL)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.added_tokens': pair %zu", i / 2);
        added[id] = (uint8_t)bits;
    }
    return TVLM_OK;
}

static tvlm_status make_tokenizer(tvlm_model *m, tvlm_error *err)
{
    const tvlm_gguf *g = &m->gguf;
    const tvlm_gguf_kv *tokens = tvlm_gguf_find(g, "tokenizer.ggml.tokens");
    const tvlm_gguf_kv *types = tvlm_gguf_find(g, "tokenizer.ggml.token_type");
    const tvlm_gguf_kv *merges = tvlm_gguf_find(g, "tokenizer.ggml.merges");
    size_t n = (size_t)tokens->n, n_merges = merges ? (size_t)merges->n : 0, cursor = 0;
    if (types && (!types->is_array || types->n != n ||
                  (types->type != TVLM_GGUF_I32 && types->type != TVLM_GGUF_U32)))
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "key 'tokenizer.ggml.token_type': expected %zu integers", n);
    if (merges && (!merges->is_array || merges->type != TVLM_GGUF_STRING || n_merges > 1u << 22))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tokenizer.ggml.merges': expected strings");
    tvlm_str *text = malloc((n + n_merges + 1) * sizeof *text);
    int32_t *type = malloc((n + 1) * sizeof *type);
    uint8_t *added = calloc(n + 1, sizeof *added);
    tvlm_status status = TVLM_OK;
    if (!text || !type || !added) {
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the vocabulary");
    } else {
        for (size_t i = 0; i < n; i++)
            text[i] = tvlm_gguf_next_string(tokens, &cursor);
        cursor = 0;
        for (size_t i = 0; i < n_merges; i++)
            text[n + i] = tvlm_gguf_next_string(merges, &cursor);
        for (size_t i = 0; types && i < n; i++)
            type[i] = (int32_t)load_u32(types->data + 4 * i);
        tvlm_vocab vocab = {m->config.pre,      (uint32_t)n, text, types ? type : NULL,
                            (uint32_t)n_merges, text + n,    added};
        status = read_added(g, added, n, err);
        if (!status) status = tvlm_tokenizer_new(&vocab, &m->tokenizer, err);
    }
    free(added);
    free(type);
    free(text);
    return status;
}

/* ChatML turns end with <|im_end|>, whatever the file's end-of-text id is. */
static void find_end_of_turn(tvlm_model *m)
{
    if (m->config.eot_id < 0)
        m->config.eot_id = tvlm_tokenizer_id(m->tokenizer, (tvlm_str){"<|im_end|>", 10});
}

/* The strings of tvlm_model_info, terminated. Those that are only shown become printable lines;
 * the question may have lines of its own, but no zeros, which would end it early. */
static tvlm_status copy_strings(tvlm_model *m, tvlm_error *err)
{
    const tvlm_str shown[] = {m->config.name, m->config.licence, m->config.description};
    const tvlm_str question = m->config.describe_prompt;
    size_t most = question.len + 1;
    for (size_t i = 0; i < TVLM_COUNT(shown); i++)
        most += 3 * tvlm_clip(shown[i], MAX_SHOWN) + 1;
    char *p = malloc(most);
    if (!p) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    m->strings = p;
    for (size_t i = 0; i < TVLM_COUNT(shown); i++) {
        p += tvlm_clean((tvlm_str){shown[i].data, tvlm_clip(shown[i], MAX_SHOWN)}, p);
        *p++ = 0;
    }
    if (question.len && memchr(question.data, 0, question.len))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.describe_prompt': it has a zero byte");
    if (question.len) memcpy(p, question.data, question.len);
    p[question.len] = 0;
    m->strings_size = most;
    return TVLM_OK;
}

/* Every tensor has a slot: others are refused with the header. */
static const tvlm_slot *slot_of(const tvlm_loader *l, size_t tensor)
{
    return &l->plan.slots[l->plan.slot_of[tensor]];
}

static void publish(tvlm_model *model, tvlm_stage stage)
{
    atomic_store_explicit(&model->stage, (int)stage, memory_order_release);
}

/* Publishes every stage whose tensors (and those of the stages before it) are all in place. */
static tvlm_status publish_complete(tvlm_loader *l, tvlm_error *err)
{
    int stage = (int)tvlm_model_stage(l->model);
    for (; l->n_placed < l->cursor.tensor; l->n_placed++)
        l->plan.remaining[slot_of(l, l->n_placed)->stage]--;
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
    if (l->params.max_memory && m->block_size > l->params.max_memory)
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
        m->block = tvlm_pages_alloc(m->block_size);
        l->unit = malloc(l->plan.unit_bytes + 1);
        if (!m->block || !l->unit)
            return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory: the weights take %zu bytes",
                             m->block_size);
        TVLM_TRY(tvlm_bind_attach(m, &l->plan, err));
    }
    publish(m, TVLM_STAGE_HEADER);
    return l->params.header_only ? TVLM_OK : publish_complete(l, err);
}

static tvlm_status read_precision(const char *name, tvlm_precision *out, tvlm_error *err)
{
    static const char *const names[] = {"auto", "f32", "int8", "bf16"};
    *out = TVLM_PRECISION_AUTO;
    for (size_t i = 0; name && i < TVLM_COUNT(names); i++) {
        *out = (tvlm_precision)i;
        if (strcmp(name, names[i]) == 0) return TVLM_OK;
    }
    return name ? tvlm_fail(err, TVLM_ERR_ARGUMENT,
                            "precision '%s': known are auto, f32, int8, bf16", name)
                : TVLM_OK;
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
    m->gguf = *gguf;
    TVLM_TRY(tvlm_cpu_mask(l->params.cpu, &m->cpu_mask, err));
    TVLM_TRY(read_precision(l->params.precision, &m->precision, err));
    if (!tvlm_gemm_offers(m->cpu_mask, m->precision))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "precision '%s': the kernels of tier %s offer auto, f32, int8",
                         l->params.precision, tvlm_cpu_tier_name(m->cpu_mask));
    tvlm_kernels_select(&m->kernels, m->cpu_mask);
    if (!l->params.skip_checksums)
        TVLM_TRY(tvlm_gguf_check_header(gguf, l->head, m->kernels.crc32c, err));
    TVLM_TRY(tvlm_config_read(&m->gguf, &m->config, err));
    if (l->params.chat_template) {
        m->config.chat = tvlm_chat_from_name(l->params.chat_template);
        if (m->config.chat == TVLM_CHAT_NONE)
            return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                             "chat template '%s' is not known; known are " TVLM_CHAT_NAMES,
                             l->params.chat_template);
    }
    TVLM_TRY(make_tokenizer(m, err));
    find_end_of_turn(m);
    TVLM_TRY(copy_strings(m, err));
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

static tvlm_status check_crc(const tvlm_loader *l, const tvlm_gguf_tensor *t, uint32_t crc,
                             tvlm_error *err)
{
    if (!l->model->gguf.has_crc || l->params.skip_checksums || crc == t->crc32c) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_CHECKSUM,
                     "tensor '%s': checksum %08x, the file says %08x: the file is damaged",
                     tvlm_show(t->name).text, (unsigned)crc, (unsigned)t->crc32c);
}

static tvlm_status end_tensor(const tvlm_loader *l, load_cursor *c, const tvlm_gguf_tensor *t,
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
static void place(tvlm_loader *l, load_cursor *c, const tvlm_slot *s, const unsigned char *p,
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

/* What follows the last tensor: padding up to here is the file's, the rest is not. */
static uint64_t padded_end(const tvlm_gguf *g)
{
    return (g->file_size + g->alignment - 1) & ~(uint64_t)(g->alignment - 1);
}

static tvlm_status check_end(const tvlm_loader *l, uint64_t at, const unsigned char *p, size_t size,
                             tvlm_error *err)
{
    uint64_t end = padded_end(&l->model->gguf), left = at < end ? end - at : 0;
    return check_padding(l, at, p, left < size ? (size_t)left : size, err);
}

static size_t at_most(size_t size, uint64_t left)
{
    return left < size ? (size_t)left : size;
}

/* Takes bytes up to the end of a tensor, or of the padding before it. */
static tvlm_status step(tvlm_loader *l, load_cursor *c, const unsigned char **p, size_t *size,
                        tvlm_error *err)
{
    const tvlm_gguf *g = &l->model->gguf;
    const tvlm_gguf_tensor *t = c->tensor < g->n_tensors ? &g->tensors[c->tensor] : NULL;
    size_t take = *size;
    if (!t) {
        TVLM_TRY(check_end(l, c->at, *p, take, err));
    } else if (c->at < t->offset) {
        take = at_most(take, t->offset - c->at);
        TVLM_TRY(check_padding(l, c->at, *p, take, err));
    } else {
        take = at_most(take, t->offset + t->size - c->at);
        if (g->has_crc && !l->params.skip_checksums)
            c->crc = l->model->kernels.crc32c(c->crc, *p, take);
        place(l, c, slot_of(l, c->tensor), *p, take);
    }
    c->at += take;
    *p += take;
    *size -= take;
    return t && c->at == t->offset + t->size ? end_tensor(l, c, t, err) : TVLM_OK;
}

static tvlm_status feed_data(tvlm_loader *l, const unsigned char *p, size_t size, tvlm_error *err)
{
    while (size) {
        TVLM_TRY(step(l, &l->cursor, &p, &size, err));
        TVLM_TRY(publish_complete(l, err));
    }
    return TVLM_OK;
}

/* Adds to the header. Once that is complete, *tail (to be freed; tail is nullable) is a copy of the
 * bytes behind it. */
static tvlm_status feed_header(tvlm_loader *l, const unsigned char *data, size_t size,
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
    tvlm_status status = feed_header(l, data, size, &tail, &n, err);
    if (!status && !l->params.header_only) status = feed_data(l, tail, n, err);
    free(tail);
    return status;
}

tvlm_status tvlm_loader_feed(tvlm_loader *loader, const void *data, size_t size, tvlm_error *err)
{
    TVLM_NEED(loader);
    if (size) TVLM_NEED(data);
    if (loader->failed) return tvlm_fail(err, TVLM_ERR_STATE, "the loader has failed before");
    if (!size) return TVLM_OK;
    if (!loader->model)
        loader->failed = feed_first(loader, data, size, err);
    else if (!loader->params.header_only)
        loader->failed = feed_data(loader, data, size, err);
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

/* ---- sources ---- */

#define SHARE       ((size_t)1 << 18) /* bytes: read, checked and placed while a cache holds them */
#define MAX_THREADS 64u               /* as of an engine */
enum { SHARES_PER_THREAD = 8 };       /* between two reports of progress */

typedef struct source {
    const unsigned char *data; /* in memory; else a file, read by position */
    tvlm_file file;
    uint64_t size;
} source;

/* n bytes of the source; room is for those of a file. */
static tvlm_status fetch(const source *s, uint64_t at, size_t n, unsigned char *room,
                         const unsigned char **out, tvlm_error *err)
{
    *out = s->data ? s->data + at : room;
    return s->data ? TVLM_OK : tvlm_file_read(&s->file, at, room, n, err);
}

/* Which file, before what the loader says about it. */
static tvlm_status name_file(const source *s, tvlm_status status, const tvlm_error *what,
                             tvlm_error *err)
{
    if (status && s->data) return tvlm_fail(err, status, "%s", what->message);
    return status ? tvlm_fail(err, status, "%s: %s", s->file.path, what->message) : TVLM_OK;
}

static void report(const tvlm_loader *l, uint64_t done, uint64_t total)
{
    if (l->params.on_progress) l->params.on_progress(l->params.user, done, total);
}

/* In pieces until it is complete. The bytes behind it are fetched again with the tensors. */
static tvlm_status load_header(const source *s, tvlm_loader *l, tvlm_error *err)
{
    tvlm_error what = {0};
    unsigned char *room = s->data ? NULL : malloc(SHARE);
    if (!s->data && !room) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = TVLM_OK;
    for (uint64_t at = 0; at < s->size && !l->model && !status;) {
        const unsigned char *piece;
        size_t n = at_most(SHARE, s->size - at);
        at += n;
        if (at == s->size) l->next_parse = 0;
        status = fetch(s, at - n, n, room, &piece, err);
        if (status) break;
        status = name_file(s, feed_header(l, piece, n, NULL, NULL, &what), &what, err);
        if (!status) report(l, at, s->size);
    }
    free(room);
    return status;
}

typedef struct share {
    load_cursor cursor;
    uint64_t end;
    tvlm_status status;
} share;

typedef struct job {
    tvlm_loader *loader;
    const source *source;
    tvlm_pool *pool;
    unsigned n_threads;
    share *shares; /* [n_threads * SHARES_PER_THREAD] */
    size_t room_size;
    unsigned char *rooms; /* [n_threads][room_size], NULL for a source in memory */
} job;

/* Moves the cursor on by about SHARE bytes to a place between units of rows. */
static void skip_share(const tvlm_loader *l, load_cursor *c, uint64_t file_end)
{
    const tvlm_gguf *g = &l->model->gguf;
    uint64_t begin = c->at, limit = begin + SHARE;
    for (; c->tensor < g->n_tensors && c->at < limit; c->tensor++, c->row = 0) {
        const tvlm_gguf_tensor *t = &g->tensors[c->tensor];
        const tvlm_slot *s = slot_of(l, c->tensor);
        if (t->offset + t->size > limit) {
            size_t unit = s->unit_rows * s->row_bytes;
            if (c->at < t->offset) c->at = limit < t->offset ? limit : t->offset;
            uint64_t units = (limit - c->at) / unit;
            if (!units && c->at == begin) units = 1;
            if (c->at < t->offset || !units) return;
            if (units * unit < t->offset + t->size - c->at) {
                c->row += (size_t)units * s->unit_rows;
                c->at += units * unit;
                return;
            }
        }
        c->at = t->offset + t->size;
    }
    if (c->at == begin) c->at = file_end; /* the padding at the end */
}

static void run_share(void *ctx, size_t i, unsigned thread)
{
    const job *j = ctx;
    share *s = &j->shares[i];
    const unsigned char *p;
    size_t n = (size_t)(s->end - s->cursor.begin);
    unsigned char *room = j->rooms ? j->rooms + thread * j->room_size : NULL;
    s->status = fetch(j->source, s->cursor.begin, n, room, &p, NULL);
    while (n && !s->status)
        s->status = step(j->loader, &s->cursor, &p, &n, NULL);
}

/* Takes the loader's cursor over a share that is placed. */
static tvlm_status follow(tvlm_loader *l, const load_cursor *s, tvlm_error *err)
{
    load_cursor *c = &l->cursor;
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

/* A share that failed is taken once more, in order, to tell why. */
static tvlm_status settle(const job *j, const share *s, tvlm_error *err)
{
    tvlm_error what = {0};
    if (!s->status) return name_file(j->source, follow(j->loader, &s->cursor, &what), &what, err);
    const unsigned char *p;
    size_t n = (size_t)(s->end - j->loader->cursor.at);
    TVLM_TRY(fetch(j->source, j->loader->cursor.at, n, j->rooms, &p, err));
    return name_file(j->source, feed_data(j->loader, p, n, &what), &what, err);
}

static tvlm_status run_shares(job *j, uint64_t end, tvlm_error *err)
{
    tvlm_loader *l = j->loader;
    size_t n = 0;
    load_cursor c = l->cursor;
    for (; n < (size_t)j->n_threads * SHARES_PER_THREAD && c.at < end; n++) {
        j->shares[n].cursor =
            (load_cursor){.begin = c.at, .at = c.at, .tensor = c.tensor, .row = c.row};
        skip_share(l, &c, end);
        j->shares[n].end = c.at;
    }
    tvlm_pool_for(j->pool, n, run_share, j, NULL);
    for (size_t i = 0; i < n; i++)
        TVLM_TRY(settle(j, &j->shares[i], err));
    return TVLM_OK;
}

static tvlm_status load_tensors(job *j, tvlm_error *err)
{
    tvlm_loader *l = j->loader;
    const source *s = j->source;
    uint64_t end = padded_end(&l->model->gguf);
    end = end < s->size ? end : s->size;
    while (l->cursor.at < end) {
        TVLM_TRY(run_shares(j, end, err));
        report(l, l->cursor.at < end ? l->cursor.at : s->size, s->size);
    }
    return TVLM_OK;
}

/* No more threads than shares. */
static unsigned thread_count(const tvlm_loader *l)
{
    unsigned n = l->params.n_threads ? l->params.n_threads : tvlm_cpu_count();
    uint64_t shares = (l->model->gguf.file_size - l->cursor.at) / SHARE + 1;
    n = n < MAX_THREADS ? n : MAX_THREADS;
    return shares < n ? (unsigned)shares : n;
}

static tvlm_status load_data(const source *s, tvlm_loader *l, tvlm_error *err)
{
    job j = {.loader = l, .source = s, .n_threads = thread_count(l)};
    tvlm_status status = TVLM_OK;
    j.room_size = SHARE > l->plan.unit_bytes ? SHARE : l->plan.unit_bytes;
    j.shares = malloc(j.n_threads * SHARES_PER_THREAD * sizeof *j.shares);
    if (!s->data && j.room_size < SIZE_MAX / j.n_threads)
        j.rooms = malloc(j.n_threads * j.room_size);
    if (!j.shares || (!s->data && !j.rooms))
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the weights");
    if (!status && j.n_threads > 1) status = tvlm_pool_new(j.n_threads, &j.pool, err);
    if (!status) status = load_tensors(&j, err);
    tvlm_pool_free(j.pool);
    free(j.rooms);
    free(j.shares);
    return status;
}

static tvlm_status load(const source *s, const tvlm_model_params *params, tvlm_model **out,
                        tvlm_error *err)
{
    tvlm_loader *l;
    tvlm_error what = {0};
    TVLM_TRY(tvlm_loader_new(params, &l, err));
    l->params.file_bytes = s->size;
    tvlm_status status = load_header(s, l, err);
    if (!status && l->model && !l->params.header_only) status = load_data(s, l, err);
    if (!status) status = name_file(s, tvlm_loader_finish(l, out, &what), &what, err);
    if (status) tvlm_loader_free(l);
    return status;
}

tvlm_status tvlm_model_open_memory(const void *data, size_t size, const tvlm_model_params *params,
                                   tvlm_model **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(data);
    if (!size) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "no model bytes");
    source s = {.data = data, .size = size};
    return load(&s, params, out, err);
}

tvlm_status tvlm_model_open(const char *path, const tvlm_model_params *params, tvlm_model **out,
                            tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(path);
    source s = {0};
    tvlm_status status = tvlm_file_open(path, &s.file, err);
    s.size = s.file.os.size;
    if (!status && !s.size) status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: is empty", path);
    if (!status) status = load(&s, params, out, err);
    tvlm_file_close(&s.file);
    return status;
}

/* ---- public reads ---- */

void tvlm_model_get_info(const tvlm_model *m, tvlm_model_info *out)
{
    if (!out) return;
    *out = (tvlm_model_info){"", "", "", "", "", "", "", .bos_id = -1, .eos_id = -1};
    if (!m) return;
    const char *s = m->strings;
    *out = (tvlm_model_info){.architecture = tvlm_arch_name(m->config.arch), .name = s};
    s += strlen(s) + 1;
    out->licence = s;
    s += strlen(s) + 1;
    out->description = s;
    out->describe_prompt = s + strlen(s) + 1;
    out->chat_template = m->config.chat == TVLM_CHAT_NONE ? "" : tvlm_chat_name(m->config.chat);
    out->cpu_tier = tvlm_cpu_tier_name(m->cpu_mask);
    out->n_parameters = m->n_parameters;
    out->file_bytes = m->gguf.file_size;
    out->weight_bytes = m->block_size;
    out->n_vocab = m->config.lm.n_vocab;
    out->n_ctx_train = m->config.lm.n_ctx_train;
    out->n_embd = m->config.lm.n_embd;
    out->n_layers = m->config.lm.n_layers;
    out->n_image_tokens = m->n_image_tokens;
    out->n_vision_tokens = m->n_vision_tokens;
    out->vision_dim = (uint32_t)m->weights.vision_dim;
    out->image_size = m->config.tower == TVLM_TOWER_NONE ? 0 : m->config.preprocess.image_size;
    out->bos_id = m->config.bos_id;
    out->eos_id = m->config.eos_id;
    bool one = m->config.lm.cross_attention; /* a picture outside the text */
    out->max_images = !out->image_size ? 0 : one ? 1 : TVLM_MAX_PROMPT_IMAGES;
}

tvlm_status tvlm_tokenize(const tvlm_model *model, const char *text, size_t len, bool parse_special,
                          int32_t *ids, size_t cap, size_t *n, tvlm_error *err)
{
    TVLM_NEED(model);
    TVLM_NEED(n);
    if (len) TVLM_NEED(text);
    if (cap) TVLM_NEED(ids);
    return tvlm_tokenizer_encode(model->tokenizer, text, len, parse_special, ids, cap, n, err);
}

tvlm_status tvlm_detokenize(const tvlm_model *model, const int32_t *ids, size_t n_ids,
                            bool skip_special, char *text, size_t cap, size_t *n, tvlm_error *err)
{
    TVLM_NEED(model);
    TVLM_NEED(n);
    if (n_ids) TVLM_NEED(ids);
    if (cap) TVLM_NEED(text);
    return tvlm_tokenizer_decode(model->tokenizer, ids, n_ids, skip_special, text, cap, n, err);
}
