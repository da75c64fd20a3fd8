/* SPDX-License-Identifier: MIT
 * Continuous batching: calls on many threads, and the answers that tvlm_batcher_step runs, share
 * decoder passes.
 *
 * There is no thread of its own. A call queues the rows of its next step. The first to find no
 * leader is it: it waits up to timeout_ms for others (until max_batch_size calls are queued, or
 * every call there is), runs one pass for all that fits, wakes them, and hands the lead to whoever
 * has waited longest. So a call joins at any step, leaves at any step, and waits a pass longer than
 * another at most. Submitted answers queue in the same line, but nobody waits for each of them:
 * step leads a pass itself, at once, where no call does. A row's result does not depend on its
 * company: answers are those of running alone. */
#include "engine/internal.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Rows of prompts in a pass that others share: enough to use the weights well, few enough that
     * their next token does not wait long. */
    SHARED_PROMPT_ROWS = 32,
    STEP_ROWS = 1 + TVLM_MAX_DRAFT, /* of an answer's step, at most */
};

/* IDLE: of a request that has nothing in the queue. */
typedef enum ticket_state { IDLE, QUEUED, TAKEN, DONE } ticket_state;

typedef struct ticket {
    tvlm_pass pass;
    size_t n_wanted;  /* rows with logits */
    tvlm_cancel link; /* in the pass's chain */
    bool submitted;   /* step looks after it */
    tvlm_status status;
    tvlm_error error;
    ticket_state state; /* under the batcher's lock */
    bool again;
    tvlm_cond woken; /* it is done, it leads, or it need not wait for more */
    struct ticket *next;
} ticket;

/* A generation that step runs. */
struct tvlm_request {
    tvlm_generation *generation;
    ticket ticket;
    bool ready; /* a token can be chosen, or it has failed */
    tvlm_request *next;
};
typedef tvlm_request request;

struct tvlm_batcher {
    tvlm_refs refs;      /* its maker and calls */
    tvlm_engine *engine; /* held */
    tvlm_batcher_params params;
    tvlm_mutex lock;
    ticket *first, *last, *leader;
    unsigned n_queued, n_calls; /* tickets waiting; calls between join and leave */
    size_t max_wanted;          /* rows of a pass with logits */
    tvlm_input *rows;           /* [max_batch_tokens] of the pass */
    float *logits;              /* [max_wanted][n_vocab] */
    request *requests;          /* whoever waited longest first */
};

static const tvlm_batcher_params defaults = {
    .size = sizeof defaults, .max_batch_size = 8, .timeout_ms = 2};

void tvlm_batcher_params_init(tvlm_batcher_params *params, size_t size)
{
    tvlm_sized_init(params, size, &defaults, sizeof defaults);
}

tvlm_status tvlm_batcher_new(tvlm_engine *engine, const tvlm_batcher_params *params,
                             tvlm_batcher **out, tvlm_error *err)
{
    tvlm_batcher_params p = defaults;
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(engine);
    TVLM_TRY(tvlm_sized_read(&p, params, TVLM_SIZED(tvlm_batcher_params, timeout_ms), err));
    if (!p.max_batch_size || p.max_batch_size > engine->params.max_batch_tokens)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "max_batch_size is %u: 1 to %u are possible, the engine's "
                         "max_batch_tokens",
                         p.max_batch_size, engine->params.max_batch_tokens);
    size_t logits_bytes, wanted = p.max_batch_size > STEP_ROWS ? p.max_batch_size : STEP_ROWS;
    if (!tvlm_mul_size(wanted, engine->model->config.lm.n_vocab, &logits_bytes) ||
        !tvlm_mul_size(logits_bytes, sizeof(float), &logits_bytes))
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the logits of %u sessions overflow memory",
                         p.max_batch_size);
    tvlm_batcher *b = calloc(1, sizeof *b);
    if (!b) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    atomic_init(&b->refs, 1);
    b->engine = tvlm_engine_retain(engine);
    b->params = p;
    b->max_wanted = wanted;
    tvlm_mutex_init(&b->lock);
    b->rows = malloc(engine->params.max_batch_tokens * sizeof *b->rows);
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
    if (!batcher || !tvlm_refs_drop(&batcher->refs)) return;
    tvlm_mutex_destroy(&batcher->lock);
    free(batcher->rows);
    free(batcher->logits);
    tvlm_engine_free(batcher->engine);
    free(batcher);
}

tvlm_status tvlm_batcher_check(const tvlm_batcher *b, const tvlm_engine *engine, tvlm_error *err)
{
    if (b->engine != engine)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the batcher belongs to another engine");
    return TVLM_OK;
}

void tvlm_batcher_join(tvlm_batcher *b)
{
    tvlm_refs_take(&b->refs);
    tvlm_mutex_lock(&b->lock);
    b->n_calls++;
    tvlm_mutex_unlock(&b->lock);
}

/* The leader waits no longer than there is something to wait for. */
static bool complete(const tvlm_batcher *b)
{
    return b->n_queued >= b->params.max_batch_size || b->n_queued >= b->n_calls;
}

static void tell_leader(tvlm_batcher *b)
{
    if (b->leader && complete(b)) tvlm_cond_signal(&b->leader->woken);
}

void tvlm_batcher_leave(tvlm_batcher *b)
{
    tvlm_mutex_lock(&b->lock);
    b->n_calls--;
    tell_leader(b);
    tvlm_mutex_unlock(&b->lock);
    tvlm_batcher_free(b);
}

static unsigned calls(tvlm_batcher *b)
{
    tvlm_mutex_lock(&b->lock);
    unsigned n = b->n_calls;
    tvlm_mutex_unlock(&b->lock);
    return n;
}

size_t tvlm_batcher_prompt_rows(tvlm_batcher *b)
{
    return calls(b) > 1 ? SHARED_PROMPT_ROWS : SIZE_MAX;
}

size_t tvlm_batcher_step_rows(tvlm_batcher *b)
{
    size_t share = b->max_wanted / calls(b);
    return share ? share : 1;
}

/* ---- the queue ---- */

static void enqueue(tvlm_batcher *b, ticket *t)
{
    t->state = QUEUED;
    t->next = NULL;
    t->n_wanted = 0;
    for (size_t i = 0; i < t->pass.n_rows; i++)
        t->n_wanted += t->pass.rows[i].want_logits;
    assert(t->pass.n_rows <= b->engine->params.max_batch_tokens && t->n_wanted <= b->max_wanted);
    *(b->first ? &b->last->next : &b->first) = t;
    b->last = t;
    b->n_queued++;
    if (!b->leader && !t->submitted) b->leader = t;
    tell_leader(b);
}

/* A ticket leaves the queue. */
static void withdraw(tvlm_batcher *b, const ticket *t)
{
    ticket **at = &b->first, *before = NULL;
    for (; *at != t; at = &(*at)->next)
        before = *at;
    *at = t->next;
    if (b->last == t) b->last = before;
    b->n_queued--;
}

typedef struct load {
    size_t calls, rows, wanted, prompt_rows;
} load;

static bool fits(const tvlm_batcher *b, const load *l, const ticket *t)
{
    bool shares = t->pass.n_rows <= STEP_ROWS || !l->prompt_rows ||
                  l->prompt_rows + t->pass.n_rows <= SHARED_PROMPT_ROWS;
    return shares && l->calls < b->params.max_batch_size &&
           l->rows + t->pass.n_rows <= b->engine->params.max_batch_tokens &&
           l->wanted + t->n_wanted <= b->max_wanted;
}

/* Those of the queue that fit one pass, whoever waited longest first; the others keep their places,
 * so that the next pass begins with them. */
static ticket *take_batch(tvlm_batcher *b, load *l)
{
    ticket *batch = NULL, **tail = &batch;
    *l = (load){0};
    for (ticket *t = b->first, *next; t; t = next) {
        next = t->next;
        if (!fits(b, l, t)) continue;
        withdraw(b, t);
        memcpy(b->rows + l->rows, t->pass.rows, t->pass.n_rows * sizeof *t->pass.rows);
        l->calls++;
        l->rows += t->pass.n_rows;
        l->wanted += t->n_wanted;
        l->prompt_rows += t->pass.n_rows > STEP_ROWS ? t->pass.n_rows : 0;
        t->state = TAKEN;
        t->next = NULL;
        *tail = t;
        tail = &t->next;
    }
    return batch;
}

/* ---- a pass ---- */

static void run_alone(const tvlm_batcher *b, ticket *t)
{
    t->status =
        tvlm_forward(b->engine, t->pass.rows, t->pass.n_rows, t->pass.cancel, t->pass.logits,
                     t->n_wanted * b->engine->model->config.lm.n_vocab, &t->error);
}

/* One pass for all, stopped as soon as one of the calls is cancelled. */
static tvlm_status run_together(tvlm_batcher *b, ticket *batch, const load *l)
{
    size_t n_vocab = b->engine->model->config.lm.n_vocab;
    for (ticket *t = batch; t; t = t->next) {
        t->link.link = t->pass.cancel;
        t->link.next = t->next ? &t->next->link : NULL;
    }
    TVLM_TRY(tvlm_forward(b->engine, b->rows, l->rows, &batch->link, b->logits,
                          b->max_wanted * n_vocab, NULL));
    const float *from = b->logits;
    for (ticket *t = batch; t; t = t->next) {
        if (t->n_wanted) memcpy(t->pass.logits, from, t->n_wanted * n_vocab * sizeof *from);
        from += t->n_wanted * n_vocab;
    }
    return TVLM_OK;
}

static void run_batch(tvlm_batcher *b, ticket *batch, const load *l)
{
    tvlm_engine_log(b->engine, "pass: %zu calls, %zu tokens", l->calls, l->rows);
    tvlm_status status = TVLM_OK;
    if (batch->next)
        status = run_together(b, batch, l);
    else
        run_alone(b, batch);
    for (ticket *t = batch; t && status; t = t->next) {
        if (status != TVLM_ERR_CANCELLED)
            run_alone(b, t); /* so that one call's error is not another's */
        else if (tvlm_cancelled(t->pass.cancel))
            t->status = tvlm_fail(&t->error, TVLM_ERR_CANCELLED, "cancelled");
        else
            t->again = true; /* its company was cancelled */
    }
}

/* Wakes those that are done; the others are the first in the queue again. */
static void settle(tvlm_batcher *b, ticket *batch)
{
    ticket **at = &b->first;
    for (ticket *t = batch, *next; t; t = next) {
        next = t->next; /* a done ticket may vanish once the lock is free */
        t->state = t->again ? QUEUED : DONE;
        if (t->again) {
            t->again = false;
            t->next = *at;
            *at = t;
            at = &t->next;
            if (!t->next) b->last = t;
            b->n_queued++;
        }
        tvlm_cond_signal(&t->woken);
    }
}

/* Waits for company as long as there may be some; false when the leader is cancelled first. */
static bool gather(tvlm_batcher *b, ticket *leader)
{
    double until = tvlm_now_ms() + b->params.timeout_ms, left;
    while (!complete(b) && (left = until - tvlm_now_ms()) > 0) {
        if (tvlm_cancelled(leader->pass.cancel)) return false;
        unsigned ms = left < UINT_MAX ? (unsigned)left + 1 : UINT_MAX;
        bool glances = leader->pass.cancel && ms > TVLM_GLANCE_MS;
        tvlm_cond_wait_ms(&leader->woken, &b->lock, glances ? TVLM_GLANCE_MS : ms);
    }
    return true;
}

/* One pass for whoever fits. */
static void run_next(tvlm_batcher *b)
{
    load l;
    ticket *batch = take_batch(b, &l);
    tvlm_mutex_unlock(&b->lock);
    run_batch(b, batch, &l);
    tvlm_mutex_lock(&b->lock);
    settle(b, batch);
}

static void lead(tvlm_batcher *b, ticket *leader)
{
    if (gather(b, leader)) run_next(b);
}

static void wait_for_pass(tvlm_batcher *b, ticket *t)
{
    if (t->pass.cancel)
        tvlm_cond_wait_ms(&t->woken, &b->lock, TVLM_GLANCE_MS);
    else
        tvlm_cond_wait(&t->woken, &b->lock);
}

/* The lead goes to the first call in the queue, if any. */
static void hand_over(tvlm_batcher *b)
{
    b->leader = b->first;
    while (b->leader && b->leader->submitted)
        b->leader = b->leader->next;
    if (b->leader) tvlm_cond_signal(&b->leader->woken);
}

static bool drop_if_cancelled(tvlm_batcher *b, ticket *t)
{
    if (t->state != QUEUED || !tvlm_cancelled(t->pass.cancel)) return false;
    withdraw(b, t);
    t->status = tvlm_fail(&t->error, TVLM_ERR_CANCELLED, "cancelled");
    t->state = DONE;
    return true;
}

/* Until the ticket's rows are computed, or its call is cancelled. */
static void serve(tvlm_batcher *b, ticket *t)
{
    while (t->state != DONE) {
        if (drop_if_cancelled(b, t)) continue;
        if (b->leader == t)
            lead(b, t);
        else
            wait_for_pass(b, t);
    }
    if (b->leader == t) hand_over(b);
}

tvlm_status tvlm_batcher_forward(tvlm_batcher *b, const tvlm_pass *pass, tvlm_error *err)
{
    ticket t = {.pass = *pass};
    tvlm_cond_init(&t.woken);
    tvlm_mutex_lock(&b->lock);
    enqueue(b, &t);
    serve(b, &t);
    tvlm_mutex_unlock(&b->lock);
    tvlm_cond_destroy(&t.woken);
    if (t.status && err) *err = t.error;
    return t.status;
}

/* ---- submitted answers ---- */

tvlm_status tvlm_batcher_submit(tvlm_batcher *batcher, tvlm_generation *generation, tvlm_error *err)
{
    TVLM_NEED(batcher);
    TVLM_NEED(generation);
    request *r = calloc(1, sizeof *r), **end = &batcher->requests;
    if (!r) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = tvlm_generation_attach(generation, batcher, r, err);
    if (status) {
        free(r);
        return status;
    }
    r->generation = generation;
    r->ticket.submitted = true;
    tvlm_cond_init(&r->ticket.woken);
    while (*end)
        end = &(*end)->next;
    *end = r;
    return TVLM_OK;
}

size_t tvlm_batcher_pending(const tvlm_batcher *batcher)
{
    size_t n = 0;
    for (const request *r = batcher ? batcher->requests : NULL; r; r = r->next)
        n++;
    return n;
}

static void unlink_request(tvlm_batcher *b, const request *r)
{
    request **at = &b->requests;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

static void move_to_end(tvlm_batcher *b, request *r)
{
    request **end = &b->requests;
    unlink_request(b, r);
    while (*end)
        end = &(*end)->next;
    *end = r;
    r->next = NULL;
}

void tvlm_batcher_withdraw(tvlm_batcher *b, request *r)
{
    ticket *t = &r->ticket;
    tvlm_mutex_lock(&b->lock);
    while (t->state == TAKEN) /* by a call on another thread */
        tvlm_cond_wait(&t->woken, &b->lock);
    if (t->state == QUEUED) withdraw(b, t);
    tvlm_mutex_unlock(&b->lock);
    unlink_request(b, r);
    tvlm_generation_detach(r->generation);
    tvlm_cond_destroy(&t->woken);
    free(r);
}

/* Queues the next rows of all that have none; one whose draft came true needs none. */
static void plan_all(tvlm_batcher *b)
{
    for (request *r = b->requests; r; r = r->next) {
        ticket *t = &r->ticket;
        if (t->state != IDLE || r->ready) continue;
        t->status = tvlm_generation_plan(r->generation, &t->pass, &t->error);
        r->ready = t->status || (!t->pass.n_rows && tvlm_generation_take(r->generation));
        if (r->ready) continue;
        tvlm_mutex_lock(&b->lock);
        enqueue(b, t);
        tvlm_mutex_unlock(&b->lock);
    }
}

static bool any_done(tvlm_batcher *b)
{
    bool any = false;
    for (request *r = b->requests; r; r = r->next) {
        drop_if_cancelled(b, &r->ticket);
        any |= r->ticket.state == DONE;
    }
    return any;
}

static ticket *any_waiting(const tvlm_batcher *b)
{
    request *r = b->requests;
    while (r && r->ticket.state != QUEUED && r->ticket.state != TAKEN)
        r = r->next;
    return r ? &r->ticket : NULL;
}

/* Until a pass has read rows of one of the requests, if any has some; leads it unless a call does.
 */
static void wait_for_any(tvlm_batcher *b)
{
    tvlm_mutex_lock(&b->lock);
    ticket *t = any_waiting(b);
    while (t && !any_done(b)) {
        if (b->leader) {
            tvlm_cond_wait_ms(&t->woken, &b->lock, TVLM_GLANCE_MS);
        } else {
            b->leader = t;
            run_next(b);
            hand_over(b);
        }
    }
    tvlm_mutex_unlock(&b->lock);
}

static bool collect(tvlm_batcher *b, ticket *t)
{
    tvlm_mutex_lock(&b->lock);
    bool done = t->state == DONE;
    if (done) t->state = IDLE;
    tvlm_mutex_unlock(&b->lock);
    return done;
}

/* The rows that passes have read; a prompt or a search may have more. */
static void take_all(tvlm_batcher *b)
{
    for (request *r = b->requests; r; r = r->next)
        if (collect(b, &r->ticket))
            r->ready = r->ticket.status || tvlm_generation_take(r->generation);
}

static request *first_ready(const tvlm_batcher *b)
{
    request *r = b->requests;
    while (r && !r->ready)
        r = r->next;
    return r;
}

/* The request's event, or why there is none. */
static tvlm_status finish_step(tvlm_batcher *b, request *r, tvlm_event *event, tvlm_error *err)
{
    tvlm_status status = r->ticket.status;
    r->ready = false;
    if (status && err) *err = r->ticket.error;
    if (!status) status = tvlm_generation_choose(r->generation, event, err);
    if (status || tvlm_generation_over(r->generation))
        tvlm_batcher_withdraw(b, r);
    else
        move_to_end(b, r);
    return status;
}

tvlm_status tvlm_batcher_step(tvlm_batcher *batcher, tvlm_generation **generation,
                              tvlm_event *event, tvlm_error *err)
{
    TVLM_NEED(generation);
    *generation = NULL;
    TVLM_NEED(batcher);
    TVLM_TRY(tvlm_event_check(event, err));
    take_all(batcher);
    plan_all(batcher);
    if (!first_ready(batcher)) {
        wait_for_any(batcher);
        take_all(batcher);
    }
    request *r = first_ready(batcher);
    if (!r) return TVLM_OK;
    *generation = r->generation;
    return finish_step(batcher, r, event, err);
}
