/* SPDX-License-Identifier: MIT
 * Opening a file or a memory block: it is cut into shares, each with a cursor of its own, that all
 * threads take; the loader's own cursor then follows. */
#include "base/pool.h"
#include "model/loader.h"

#include <stdlib.h>

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

/* In pieces until it is complete, parsed whenever it has doubled: the rest is at hand. The bytes
 * behind it are fetched again with the tensors. */
static tvlm_status load_header(const source *s, tvlm_loader *l, tvlm_error *err)
{
    tvlm_error what = {0};
    unsigned char *room = s->data ? NULL : malloc(SHARE);
    if (!s->data && !room) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = TVLM_OK;
    for (uint64_t at = 0, tried = 0; at < s->size && !l->model && !status;) {
        const unsigned char *piece;
        status = tvlm_loader_check_cancel(l, err);
        if (status) break;
        size_t n = tvlm_at_most(SHARE, s->size - at);
        at += n;
        l->next_parse = at == s->size || at >= 2 * tried ? 0 : SIZE_MAX;
        if (at >= 2 * tried) tried = at;
        status = fetch(s, at - n, n, room, &piece, err);
        if (status) break;
        status = name_file(s, tvlm_loader_feed_header(l, piece, n, NULL, NULL, &what), &what, err);
        if (!status) report(l, at, s->size);
    }
    free(room);
    return status;
}

typedef struct share {
    tvlm_load_cursor cursor;
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
static void skip_share(const tvlm_loader *l, tvlm_load_cursor *c, uint64_t file_end)
{
    const tvlm_gguf *g = &l->model->gguf;
    uint64_t begin = c->at, limit = begin + SHARE;
    for (; c->tensor < g->n_tensors && c->at < limit; c->tensor++, c->row = 0) {
        const tvlm_gguf_tensor *t = &g->tensors[c->tensor];
        const tvlm_slot *s = tvlm_loader_slot(l, c->tensor);
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
        s->status = tvlm_loader_step(j->loader, &s->cursor, &p, &n, NULL);
}

/* A share that failed is taken once more, in order, to tell why. */
static tvlm_status settle(const job *j, const share *s, tvlm_error *err)
{
    tvlm_error what = {0};
    if (!s->status)
        return name_file(j->source, tvlm_loader_follow(j->loader, &s->cursor, &what), &what, err);
    const unsigned char *p;
    size_t n = (size_t)(s->end - j->loader->cursor.at);
    TVLM_TRY(fetch(j->source, j->loader->cursor.at, n, j->rooms, &p, err));
    return name_file(j->source, tvlm_loader_feed_data(j->loader, p, n, &what), &what, err);
}

static tvlm_status run_shares(job *j, uint64_t end, tvlm_error *err)
{
    tvlm_loader *l = j->loader;
    size_t n = 0;
    tvlm_load_cursor c = l->cursor;
    for (; n < (size_t)j->n_threads * SHARES_PER_THREAD && c.at < end; n++) {
        j->shares[n].cursor =
            (tvlm_load_cursor){.begin = c.at, .at = c.at, .tensor = c.tensor, .row = c.row};
        skip_share(l, &c, end);
        j->shares[n].end = c.at;
    }
    tvlm_pool_for(j->pool, n, run_share, j, l->params.cancel);
    TVLM_TRY(tvlm_loader_check_cancel(l, err)); /* some were not run */
    for (size_t i = 0; i < n; i++)
        TVLM_TRY(settle(j, &j->shares[i], err));
    return TVLM_OK;
}

static tvlm_status load_tensors(job *j, tvlm_error *err)
{
    tvlm_loader *l = j->loader;
    const source *s = j->source;
    uint64_t end = tvlm_loader_end(l);
    end = end < s->size ? end : s->size;
    while (l->cursor.at < end) {
        TVLM_TRY(run_shares(j, end, err));
        report(l, l->cursor.at < end ? l->cursor.at : s->size, s->size);
    }
    return TVLM_OK;
}

/* No more threads than shares. */
static unsigned thread_count(const source *s, const tvlm_model_params *params)
{
    unsigned n = params->n_threads ? params->n_threads : tvlm_cpu_count();
    uint64_t shares = s->size / SHARE + 1;
    if (params->header_only) return 1;
    n = n < MAX_THREADS ? n : MAX_THREADS;
    return shares < n ? (unsigned)shares : n;
}

static tvlm_status load_data(const source *s, tvlm_loader *l, tvlm_pool *pool, tvlm_error *err)
{
    job j = {.loader = l, .source = s, .pool = pool, .n_threads = tvlm_pool_threads(pool)};
    tvlm_status status = TVLM_OK;
    j.room_size = SHARE > l->plan.unit_bytes ? SHARE : l->plan.unit_bytes;
    j.shares = malloc(j.n_threads * SHARES_PER_THREAD * sizeof *j.shares);
    if (!s->data && j.room_size < SIZE_MAX / j.n_threads)
        j.rooms = malloc(j.n_threads * j.room_size);
    if (!j.shares || (!s->data && !j.rooms))
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the weights");
    if (!status) status = load_tensors(&j, err);
    free(j.rooms);
    free(j.shares);
    return status;
}

static tvlm_status load(const source *s, const tvlm_model_params *params, tvlm_model **out,
                        tvlm_error *err)
{
    tvlm_loader *l;
    tvlm_pool *pool = NULL;
    tvlm_error what = {0};
    TVLM_TRY(tvlm_loader_new(params, &l, err));
    l->params.file_bytes = s->size;
    /* its threads start while the header, which is one thread's work, is read */
    unsigned n_threads = thread_count(s, &l->params);
    tvlm_status status = n_threads > 1 ? tvlm_pool_new(n_threads, &pool, err) : TVLM_OK;
    if (!status) status = load_header(s, l, err);
    if (!status && l->model && !l->params.header_only) status = load_data(s, l, pool, err);
    tvlm_pool_free(pool);
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
