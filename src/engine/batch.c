/* SPDX-License-Identifier: MIT
 * Dynamic batching: calls on many threads share decoder passes.
 *
 * There is no thread of its own. A call queues its rows; the first to find no leader becomes it,
 * waits up to timeout_ms for others (until max_batch_size calls are queued, or every call there
 * is), runs one pass for all and wakes them. A row's result does not depend on its company, so
 * answers are those of running alone. */
#include "engine/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct ticket {
    const tvlm_row *rows;
    size_t n_rows, n_wanted;
    const tvlm_cancel *cancel;
    tvlm_cancel link; /* in the pass's chain */
    float *logits;
    tvlm_status status;
    tvlm_error error;
    bool taken, done;
    struct ticket *next;
} ticket;

struct tvlm_batcher {
    tvlm_engine *engine;
    tvlm_batcher_params params;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a ticket came, or some are done */
    ticket *first, *last;
    unsigned n_queued, n_calls; /* tickets waiting; calls between join and leave */
    bool leading;
    tvlm_row *rows; /* [max_batch_rows] of the pass */
    float *logits;  /* [max_batch_size][n_vocab] */
};

void tvlm_batcher_params_init(tvlm_batcher_params *params)
{
    if (params) *params = (tvlm_batcher_params){.size = sizeof *params};
}

tvlm_status tvlm_batcher_new(tvlm_engine *engine, const tvlm_batcher_params *params,
                             tvlm_batcher **out, tvlm_error *err)
{
    tvlm_batcher_params p;
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(engine);
    tvlm_batcher_params_init(&p);
    TVLM_TRY(tvlm_params_copy(&p, params, sizeof p, "tvlm_batcher_params", err));
    p.max_batch_size = p.max_batch_size ? p.max_batch_size : 8;
    p.timeout_ms = p.timeout_ms ? p.timeout_ms : 2;
    if (p.max_batch_size > engine->params.max_batch_rows)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "max_batch_size %u, the engine takes %u rows",
                         p.max_batch_size, engine->params.max_batch_rows);
    size_t logits_bytes;
    if (!tvlm_mul_size(p.max_batch_size, engine->model->config.lm.n_vocab, &logits_bytes) ||
        !tvlm_mul_size(logits_bytes, sizeof(float), &logits_bytes))
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the logits of %u sessions overflow memory",
                         p.max_batch_size);
    tvlm_batcher *b = calloc(1, sizeof *b);
    if (!b) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    b->engine = engine;
    b->params = p;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->rows = malloc(engine->params.max_batch_rows * sizeof *b->rows);
    b->logits = malloc(logits_bytes);
    if (!b->rows || !b->logits) {
        tvlm_batcher_free(b);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    }
    *out = b;
    return TVLM_OK;
}

void tvlm_batcher_free(tvlm_batcher *batcher)
{
    if (!batcher) return;
    pthread_cond_destroy(&batcher->changed);
    pthread_mutex_destroy(&batcher->lock);
    free(batcher->rows);
    free(batcher->logits);
    free(batcher);
}

tvlm_status tvlm_batcher_join(tvlm_batcher *b, const tvlm_engine *engine, tvlm_error *err)
{
    if (b->engine != engine)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the batcher is of another engine");
    pthread_mutex_lock(&b->lock);
    b->n_calls++;
    pthread_mutex_unlock(&b->lock);
    return TVLM_OK;
}

void tvlm_batcher_leave(tvlm_batcher *b)
{
    pthread_mutex_lock(&b->lock);
    b->n_calls--;
    pthread_cond_broadcast(&b->changed); /* who waits for this call need not */
    pthread_mutex_unlock(&b->lock);
}

/* Takes tickets from the front while they fit one pass. */
static ticket *take_batch(tvlm_batcher *b, size_t *n_rows)
{
    ticket *batch = NULL, **tail = &batch;
    size_t calls = 0;
    *n_rows = 0;
    while (b->first && calls < b->params.max_batch_size &&
           *n_rows + b->first->n_rows <= b->engine->params.max_batch_rows) {
        ticket *t = b->first;
        memcpy(b->rows + *n_rows, t->rows, t->n_rows * sizeof *t->rows);
        *n_rows += t->n_rows;
        b->first = t->next;
        b->n_queued--;
        t->next = NULL;
        t->taken = true;
        *tail = t;
        tail = &t->next;
        calls++;
    }
    if (!b->first) b->last = NULL;
    return batch;
}

/* One pass for all, stopped when any call is cancelled. When it fails as a whole each call is run
 * by itself, so that one call's bad row or cancel is not another's error. */
static void run_batch(tvlm_batcher *b, ticket *batch, size_t n_rows)
{
    size_t n_vocab = b->engine->model->config.lm.n_vocab;
    size_t cap = (size_t)b->params.max_batch_size * n_vocab;
    for (ticket *t = batch; t; t = t->next) {
        t->link.link = t->cancel;
        t->link.next = t->next ? &t->next->link : NULL;
    }
    if (batch->next &&
        tvlm_forward(b->engine, b->rows, n_rows, &batch->link, b->logits, cap, NULL) == TVLM_OK) {
        const float *from = b->logits;
        for (ticket *t = batch; t; t = t->next) {
            if (t->n_wanted) memcpy(t->logits, from, t->n_wanted * n_vocab * sizeof *from);
            from += t->n_wanted * n_vocab;
            t->status = TVLM_OK;
        }
        return;
    }
    for (ticket *t = batch; t; t = t->next)
        t->status = tvlm_forward(b->engine, t->rows, t->n_rows, t->cancel, t->logits,
                                 t->n_wanted * n_vocab, &t->error);
}

/* Waits for company as long as there may be some; false when the leader is cancelled first. */
static bool gather(tvlm_batcher *b, const tvlm_cancel *cancel)
{
    double until = tvlm_now_ms() + b->params.timeout_ms, left;
    while (b->n_queued < b->params.max_batch_size && b->n_queued < b->n_calls &&
           (left = until - tvlm_now_ms()) > 0) {
        if (tvlm_cancelled(cancel)) return false;
        unsigned ms = left < UINT_MAX ? (unsigned)left + 1 : UINT_MAX;
        tvlm_wait_ms(&b->changed, &b->lock, cancel && ms > TVLM_GLANCE_MS ? TVLM_GLANCE_MS : ms);
    }
    return true;
}

static void lead(tvlm_batcher *b, const tvlm_cancel *cancel)
{
    size_t n_rows;
    if (!gather(b, cancel)) return;
    ticket *batch = take_batch(b, &n_rows);
    pthread_mutex_unlock(&b->lock);
    run_batch(b, batch, n_rows);
    pthread_mutex_lock(&b->lock);
    for (ticket *t = batch, *next; t; t = next) {
        next = t->next; /* a done ticket may vanish */
        t->done = true;
    }
}

/* A ticket that nobody has taken leaves the queue. */
static void withdraw(tvlm_batcher *b, const ticket *t)
{
    ticket **at = &b->first, *before = NULL;
    for (; *at != t; at = &(*at)->next)
        before = *at;
    *at = t->next;
    if (b->last == t) b->last = before;
    b->n_queued--;
}

tvlm_status tvlm_batcher_forward(tvlm_batcher *b, const tvlm_row *rows, size_t n_rows,
                                 const tvlm_cancel *cancel, float *logits, size_t cap,
                                 tvlm_error *err)
{
    ticket t = {.rows = rows, .n_rows = n_rows, .cancel = cancel, .logits = logits};
    for (size_t i = 0; i < n_rows; i++)
        t.n_wanted += rows[i].want_logits;
    /* one wanted row a call: what fits the batch's logits; anything else runs alone */
    if (tvlm_cancelled(cancel) || t.n_wanted > 1 || n_rows > b->engine->params.max_batch_rows)
        return tvlm_forward(b->engine, rows, n_rows, cancel, logits, cap, err);
    pthread_mutex_lock(&b->lock);
    if (b->last)
        b->last->next = &t;
    else
        b->first = &t;
    b->last = &t;
    b->n_queued++;
    pthread_cond_broadcast(&b->changed);
    while (!t.done) {
        if (!t.taken && tvlm_cancelled(cancel)) {
            withdraw(b, &t);
            t.status = tvlm_fail(&t.error, TVLM_ERR_CANCELLED, "cancelled");
            break;
        }
        if (b->leading) {
            if (cancel && !t.taken)
                tvlm_wait_ms(&b->changed, &b->lock, TVLM_GLANCE_MS);
            else
                pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        b->leading = true;
        lead(b, cancel);
        b->leading = false;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    if (t.status && err) *err = t.error;
    return t.status;
}
