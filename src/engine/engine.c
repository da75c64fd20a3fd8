/* SPDX-License-Identifier: MIT
 * The engine: threads, kernels and one scratch arena whose size is measured, not guessed. */
#include "engine/internal.h"

#include "cpu/cpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS      64u
#define MAX_BATCH_TOKENS 4096u
#define LEAST_BATCH      16u /* that a limit on memory leaves: below, a pass is all overhead */

static const tvlm_engine_params defaults = {.size = sizeof defaults,
                                            .max_batch_tokens = 256,
                                            .max_memory = SIZE_MAX,
                                            .max_pixels = TVLM_DEFAULT_MAX_PIXELS};

void tvlm_engine_params_init(tvlm_engine_params *params, size_t size)
{
    tvlm_sized_init(params, size, &defaults, sizeof defaults);
}

tvlm_status tvlm_engine_params_read(const tvlm_engine_params *in, tvlm_engine_params *out,
                                    tvlm_error *err)
{
    *out = defaults;
    TVLM_TRY(tvlm_sized_read(out, in, TVLM_SIZED(tvlm_engine_params, user), err));
    if (!out->n_threads) {
        out->n_threads = tvlm_cpu_count();
        out->n_threads = out->n_threads > MAX_THREADS ? MAX_THREADS : out->n_threads;
    }
    if (out->n_threads > MAX_THREADS)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "n_threads is %u, at most %u", out->n_threads,
                         MAX_THREADS);
    if (!out->max_batch_tokens || out->max_batch_tokens > MAX_BATCH_TOKENS)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "max_batch_tokens is %u: 1 to %u are possible",
                         out->max_batch_tokens, MAX_BATCH_TOKENS);
    return TVLM_OK;
}

static void vision_plan(tvlm_cx *cx, const tvlm_model *model)
{
    size_t size = model->config.preprocess.image_size;
    tvlm_nn_floats(cx, size, 3 * size);
    tvlm_nn_floats(cx, model->n_vision_tokens, model->weights.vision_dim);
    size_t mark = tvlm_arena_mark(cx->arena);
    tvlm_arena_alloc(cx->arena, tvlm_model_preprocess_bytes(model, TVLM_MAX_SIDE, cx->n_threads),
                     1);
    tvlm_arena_release(cx->arena, mark);
    if (model->config.preprocess.split_edge) /* stays while its frames are encoded */
        tvlm_arena_alloc(cx->arena, tvlm_split_kept_bytes(&model->config.preprocess), 1);
    model->config.arch->see(cx, model, NULL, NULL);
    model->config.arch->bridge(cx, model, NULL, NULL);
}

static tvlm_scratch plan(const tvlm_model *model, const tvlm_engine_params *params)
{
    tvlm_arena vision, decoder;
    tvlm_arena_init_measure(&vision);
    tvlm_arena_init_measure(&decoder);
    tvlm_cx cx = {.kernels = &model->kernels, .arena = &decoder, .n_threads = params->n_threads};
    tvlm_decoder_forward(&cx, &model->weights.decoder, &model->config.lm, NULL,
                         params->max_batch_tokens, NULL);
    cx.arena = &vision;
    if (tvlm_model_has_vision(model)) vision_plan(&cx, model);
    return (tvlm_scratch){.bytes = vision.peak > decoder.peak ? vision.peak : decoder.peak,
                          .vision = vision.peak,
                          .decoder = decoder.peak,
                          .largest =
                              vision.largest > decoder.largest ? vision.largest : decoder.largest};
}

tvlm_status tvlm_engine_fit(const tvlm_model *model, tvlm_engine_params *params, tvlm_scratch *out,
                            tvlm_error *err)
{
    *out = plan(model, params);
    while (out->decoder > params->max_memory && params->max_batch_tokens > LEAST_BATCH) {
        unsigned half = params->max_batch_tokens / 2;
        params->max_batch_tokens = half > LEAST_BATCH ? half : LEAST_BATCH;
        *out = plan(model, params);
    }
    if (out->bytes > SIZE_MAX / 2)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the model's scratch memory overflows");
    if (tvlm_image_bytes(model) > SIZE_MAX / 2)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "an encoded image overflows memory");
    if (out->bytes > params->max_memory)
        return tvlm_fail(err, TVLM_ERR_LIMIT,
                         "the engine needs %zu bytes of scratch, the limit is %zu", out->bytes,
                         params->max_memory);
    return TVLM_OK;
}

size_t tvlm_engine_bytes(const tvlm_engine_params *params, size_t scratch)
{
    return sizeof(tvlm_engine) + params->max_batch_tokens * sizeof(tvlm_decoder_row) +
           (params->n_threads > 1 ? tvlm_pool_bytes(params->n_threads) : 0) + scratch;
}

tvlm_status tvlm_engine_new(const tvlm_model *model, const tvlm_engine_params *params,
                            tvlm_engine **out, tvlm_error *err)
{
    tvlm_engine_params p;
    tvlm_scratch scratch;
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(model);
    if (!model->block)
        return tvlm_fail(err, TVLM_ERR_STATE, "the model was opened with header_only");
    TVLM_TRY(tvlm_engine_params_read(params, &p, err));
    TVLM_TRY(tvlm_engine_fit(model, &p, &scratch, err));
    tvlm_engine *e = calloc(1, sizeof *e);
    if (!e) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    atomic_init(&e->refs, 1);
    e->model = tvlm_model_retain(model);
    e->params = p;
    tvlm_mutex_init(&e->lock);
    tvlm_cond_init(&e->idle);
    e->rows = malloc(p.max_batch_tokens * sizeof *e->rows);
    e->scratch = tvlm_pages_alloc(scratch.bytes, true);
    e->scratch_size = scratch.bytes;
    tvlm_status status = TVLM_OK;
    if (!e->rows || !e->scratch)
        status = tvlm_fail(err, TVLM_ERR_MEMORY,
                           "out of memory: the engine's scratch takes %zu bytes", scratch.bytes);
    if (!status && p.n_threads > 1) status = tvlm_pool_new(p.n_threads, &e->pool, err);
    if (status) {
        tvlm_engine_free(e);
        return status;
    }
    tvlm_arena_init(&e->arena, e->scratch, scratch.bytes);
    tvlm_engine_log(e,
                    "engine: %u threads, %s kernels, passes of %u tokens, %zu bytes of scratch: an "
                    "image's %zu, the decoder's %zu, largest buffer %zu",
                    p.n_threads, tvlm_cpu_tier_name(model->cpu_mask), p.max_batch_tokens,
                    scratch.bytes, scratch.vision, scratch.decoder, scratch.largest);
    *out = e;
    return TVLM_OK;
}

tvlm_engine *tvlm_engine_retain(tvlm_engine *engine)
{
    tvlm_refs_take(&engine->refs);
    return engine;
}

void tvlm_engine_free(tvlm_engine *engine)
{
    if (!engine || !tvlm_refs_drop(&engine->refs)) return;
    tvlm_pool_free(engine->pool);
    tvlm_pages_free(engine->scratch, engine->scratch_size);
    free(engine->rows);
    tvlm_cond_destroy(&engine->idle);
    tvlm_mutex_destroy(&engine->lock);
    tvlm_model_free(engine->model);
    free(engine);
}

unsigned tvlm_engine_n_threads(const tvlm_engine *engine)
{
    return engine ? engine->params.n_threads : 0;
}

void tvlm_engine_trim(tvlm_engine *engine)
{
    tvlm_cx cx;
    if (!engine || tvlm_engine_begin(engine, TVLM_TURN_PASS, NULL, &cx, NULL)) return;
    tvlm_pages_drop(engine->scratch, engine->scratch_size);
    tvlm_engine_end(engine);
}

void tvlm_engine_log(const tvlm_engine *engine, const char *format, ...)
{
    char line[256];
    va_list args;
    if (!engine->params.on_log) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    engine->params.on_log(engine->params.user, line);
}

/* ---- turns ---- */

typedef struct tvlm_turn {
    tvlm_turn_kind kind;
    struct tvlm_turn *next;
} turn;

static void join_line(tvlm_engine *e, turn *t)
{
    turn **end = &e->waiting;
    while (*end)
        end = &(*end)->next;
    *end = t;
}

static void leave_line(tvlm_engine *e, const turn *t)
{
    turn **at = &e->waiting;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
}

/* An image takes as long as many passes: a line of them must not stop every answer. */
static const turn *next_turn(const tvlm_engine *e)
{
    for (const turn *t = e->waiting; t; t = t->next)
        if (t->kind != e->last) return t;
    return e->waiting;
}

static void wait_for_turn(tvlm_engine *e, const turn *t, const tvlm_cancel *cancel)
{
    while ((e->busy || next_turn(e) != t) && !tvlm_cancelled(cancel)) {
        if (cancel)
            tvlm_cond_wait_ms(&e->idle, &e->lock, TVLM_GLANCE_MS);
        else
            tvlm_cond_wait(&e->idle, &e->lock);
    }
}

tvlm_status tvlm_engine_begin(tvlm_engine *engine, tvlm_turn_kind kind, const tvlm_cancel *cancel,
                              tvlm_cx *cx, tvlm_error *err)
{
    turn mine = {.kind = kind};
    tvlm_mutex_lock(&engine->lock);
    join_line(engine, &mine);
    wait_for_turn(engine, &mine, cancel);
    leave_line(engine, &mine);
    bool cancelled = tvlm_cancelled(cancel);
    if (cancelled) {
        tvlm_cond_broadcast(&engine->idle); /* another may be the next now */
    } else {
        engine->busy = true;
        engine->last = kind;
    }
    tvlm_mutex_unlock(&engine->lock);
    if (cancelled) return tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
    *cx = (tvlm_cx){.kernels = &engine->model->kernels,
                    .pool = engine->pool,
                    .arena = &engine->arena,
                    .cancel = cancel,
                    .n_threads = engine->params.n_threads};
    return TVLM_OK;
}

void tvlm_engine_end(tvlm_engine *engine)
{
    tvlm_arena_release(&engine->arena, 0);
    tvlm_mutex_lock(&engine->lock);
    engine->busy = false;
    tvlm_cond_broadcast(&engine->idle);
    tvlm_mutex_unlock(&engine->lock);
}

/* ---- the decoder pass ---- */

static tvlm_status check_row(const tvlm_engine *engine, const tvlm_input *row, size_t i, bool f16,
                             tvlm_error *err)
{
    const tvlm_session *s = row->session;
    if (!s) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "input %zu: session is NULL", i);
    if (s->model != engine->model)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "input %zu: its session belongs to another model",
                         i);
    if (s->kv.f16 != f16)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "input %zu: sessions of one pass must share a kv_type", i);
    if (!row->embedding &&
        (row->token < 0 || (uint32_t)row->token >= engine->model->config.lm.n_vocab))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "input %zu: id %d is not in the vocabulary", i,
                         (int)row->token);
    return TVLM_OK;
}

/* Position of row i: its session's, plus the rows of that session before it. */
static uint32_t position_of(const tvlm_input *rows, size_t i)
{
    uint32_t position = rows[i].session->position;
    for (size_t j = 0; j < i; j++)
        position += rows[j].session == rows[i].session;
    return position;
}

static tvlm_status plan_rows(tvlm_engine *engine, const tvlm_input *rows, size_t n, size_t *wanted,
                             tvlm_error *err)
{
    *wanted = 0;
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        tvlm_session *s = rows[i].session;
        TVLM_TRY(check_row(engine, &rows[i], i, rows[0].session && rows[0].session->kv.f16, err));
        bool follows = i && rows[i - 1].session == s; /* a prompt: no search */
        next = follows ? next + 1 : position_of(rows, i);
        if (next >= s->kv.n_ctx)
            return tvlm_fail(err, TVLM_ERR_CONTEXT, "row %zu needs position %u, the context has %u",
                             i, (unsigned)next + 1, (unsigned)s->kv.n_ctx);
        bool sees = s->image && s->image->cross_kv;
        engine->rows[i] = (tvlm_decoder_row){.kv = &s->kv,
                                             .position = next,
                                             .token = rows[i].token,
                                             .embedding = rows[i].embedding,
                                             .cross_kv = sees ? s->image->cross_kv : NULL,
                                             .n_cross = sees ? s->image->n_tokens : 0,
                                             .want_logits = rows[i].want_logits};
        *wanted += rows[i].want_logits;
    }
    return TVLM_OK;
}

/* Rows that an embedding made have no id: their history never matches a prompt's text. */
static void advance(const tvlm_input *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tvlm_session *s = rows[i].session;
        s->history[s->position++] = rows[i].embedding
                                        ? (tvlm_history){tvlm_hash_of_embedding(), -1}
                                        : (tvlm_history){{0, 0}, rows[i].token};
    }
}

tvlm_status tvlm_forward(tvlm_engine *engine, const tvlm_input *inputs, size_t n_inputs,
                         const tvlm_cancel *cancel, float *logits, size_t cap, tvlm_error *err)
{
    TVLM_NEED(engine);
    if (!n_inputs) return TVLM_OK;
    TVLM_NEED(inputs);
    if (n_inputs > engine->params.max_batch_tokens)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "%zu inputs in a pass, max_batch_tokens is %u",
                         n_inputs, engine->params.max_batch_tokens);
    const tvlm_model *model = engine->model;
    if (tvlm_model_stage(model) != TVLM_STAGE_DECODER)
        return tvlm_fail(err, TVLM_ERR_STATE, "the decoder's weights have not arrived");
    size_t wanted;
    tvlm_cx cx;
    TVLM_TRY(tvlm_engine_begin(engine, TVLM_TURN_PASS, cancel, &cx, err));
    tvlm_status status = plan_rows(engine, inputs, n_inputs, &wanted, err);
    if (!status && wanted && !logits) status = tvlm_fail(err, TVLM_ERR_ARGUMENT, "logits is NULL");
    if (!status && wanted && cap / model->config.lm.n_vocab < wanted)
        status = tvlm_fail(err, TVLM_ERR_ARGUMENT,
                           "logits has room for %zu floats, %zu times %u "
                           "are wanted",
                           cap, wanted, (unsigned)model->config.lm.n_vocab);
    if (!status) {
        tvlm_decoder_forward(&cx, &model->weights.decoder, &model->config.lm, engine->rows,
                             n_inputs, logits);
        if (!tvlm_nn_ok(&cx))
            status = tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
        else
            advance(inputs, n_inputs);
    }
    tvlm_engine_end(engine);
    return status;
}
