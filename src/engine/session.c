/* SPDX-License-Identifier: MIT
 * A conversation: KV cache, what it was made of, and every buffer that generating needs. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

static const tvlm_session_params defaults = {.size = sizeof defaults,
                                             .max_images = 8,
                                             .max_prompt_bytes = (size_t)1 << 20,
                                             .max_memory = SIZE_MAX};

void tvlm_session_params_init(tvlm_session_params *params, size_t size)
{
    tvlm_sized_init(params, size, &defaults, sizeof defaults);
}

tvlm_status tvlm_session_params_read(const tvlm_model *model, const tvlm_session_params *in,
                                     tvlm_session_params *out, tvlm_error *err)
{
    uint32_t most = model->config.lm.n_ctx_train;
    *out = defaults;
    TVLM_TRY(tvlm_sized_read(out, in, TVLM_SIZED(tvlm_session_params, max_beams), err));
    out->n_ctx = out->n_ctx ? out->n_ctx : most < 4096 ? most : 4096;
    if (out->n_ctx > most)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "n_ctx %u: the model was trained for %u positions",
                         (unsigned)out->n_ctx, (unsigned)most);
    if (out->kv_type != TVLM_KV_F16 && out->kv_type != TVLM_KV_F32)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "kv_type %d is not known", (int)out->kv_type);
    out->max_beams = out->max_beams ? out->max_beams : model->config.describe_beams;
    if (out->max_beams > TVLM_MAX_BEAMS)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "max_beams is %u, at most %d",
                         (unsigned)out->max_beams, TVLM_MAX_BEAMS);
    return TVLM_OK;
}

/* Of a token's text at most: bytes beyond ASCII may be ill-formed. */
static size_t piece_bytes(tvlm_str piece)
{
    size_t n = 0;
    for (size_t i = 0; i < piece.len; i++)
        n += (unsigned char)piece.data[i] < 0x80 ? 1 : TVLM_UTF8_GROWS;
    return n;
}

/* Of an answer: it has at most n_ctx tokens, each at most as long as the longest. */
static uint64_t text_bytes(const tvlm_model *model, uint32_t n_ctx)
{
    size_t longest = 1;
    for (uint32_t i = 0; i < tvlm_tokenizer_count(model->tokenizer); i++) {
        size_t len = piece_bytes(tvlm_tokenizer_piece(model->tokenizer, (int32_t)i));
        longest = len > longest ? len : longest;
    }
    return (uint64_t)longest * ((uint64_t)n_ctx + 1);
}

/* Beside the caches. */
static uint64_t beam_bytes(const tvlm_session_params *p)
{
    uint64_t history = (uint64_t)p->n_ctx * sizeof(tvlm_history);
    if (p->max_beams == 1) return 0;
    return (p->max_beams - 1) * (history + sizeof(tvlm_session)) +
           (uint64_t)p->max_beams * p->n_ctx * sizeof(int32_t);
}

tvlm_status tvlm_session_bytes(const tvlm_model *m, const tvlm_session_params *p, size_t *out,
                               tvlm_error *err)
{
    size_t kv = tvlm_kv_bytes(&m->config.lm, p->n_ctx, p->kv_type == TVLM_KV_F16);
    if (!tvlm_mul_size(kv, p->max_beams, &kv) || kv > SIZE_MAX / 4)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "a cache of %u positions overflows memory",
                         (unsigned)p->n_ctx);
    uint64_t bytes = (uint64_t)kv + beam_bytes(p) + text_bytes(m, p->n_ctx) +
                     (uint64_t)p->n_ctx * (sizeof(tvlm_history) + sizeof(int32_t)) +
                     (uint64_t)m->config.lm.n_vocab *
                         ((1 + TVLM_MAX_DRAFT) * sizeof(float) + sizeof(tvlm_candidate)) +
                     sizeof(int32_t) + sizeof(tvlm_session);
    if (bytes > SIZE_MAX / 2)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "a session of %u positions overflows memory",
                         (unsigned)p->n_ctx);
    *out = (size_t)bytes;
    if (*out > p->max_memory)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the session needs %zu bytes, the limit is %zu", *out,
                         p->max_memory);
    return TVLM_OK;
}

static bool new_cache(tvlm_session *s)
{
    const tvlm_decoder_config *c = &s->model->config.lm;
    s->kv = (tvlm_kv){.f16 = s->params.kv_type == TVLM_KV_F16,
                      .n_layers = c->n_layers,
                      .n_ctx = s->params.n_ctx,
                      .row = (size_t)c->n_kv_heads * c->head_dim};
    s->kv.data = tvlm_pages_alloc(tvlm_kv_bytes(c, s->kv.n_ctx, s->kv.f16), false);
    s->history = malloc(s->params.n_ctx * sizeof *s->history);
    return s->kv.data && s->history;
}

static size_t cache_bytes(const tvlm_session *s)
{
    return tvlm_kv_bytes(&s->model->config.lm, s->kv.n_ctx, s->kv.f16);
}

static void free_cache(tvlm_session *s)
{
    tvlm_pages_free(s->kv.data, cache_bytes(s));
    free(s->history);
}

static bool new_beams(tvlm_session *s)
{
    size_t n = s->params.max_beams;
    if (n == 1) return true;
    s->beams = calloc(n - 1, sizeof *s->beams);
    s->beam_ids = malloc(n * s->params.n_ctx * sizeof *s->beam_ids);
    bool there = s->beams && s->beam_ids;
    for (size_t i = 0; there && i < n - 1; i++) {
        s->beams[i].model = s->model; /* the session holds it */
        s->beams[i].params = s->params;
        there = new_cache(&s->beams[i]);
    }
    return there;
}

static void free_beams(tvlm_session *s)
{
    for (size_t i = 0; s->beams && i < s->params.max_beams - 1; i++)
        if (s->beams[i].model) free_cache(&s->beams[i]);
    free(s->beams);
    free(s->beam_ids);
}

tvlm_status tvlm_session_new(const tvlm_model *model, const tvlm_session_params *params,
                             tvlm_session **out, tvlm_error *err)
{
    tvlm_session_params p;
    size_t bytes;
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(model);
    TVLM_TRY(tvlm_session_params_read(model, params, &p, err));
    TVLM_TRY(tvlm_session_bytes(model, &p, &bytes, err));
    tvlm_session *s = calloc(1, sizeof *s);
    if (!s) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    const tvlm_decoder_config *c = &model->config.lm;
    s->model = tvlm_model_retain(model);
    s->params = p;
    bool cached = new_cache(s);
    s->ids = malloc((p.n_ctx + 1) * sizeof *s->ids);
    s->logits = calloc((1 + TVLM_MAX_DRAFT) * (size_t)c->n_vocab,
                       sizeof *s->logits); /* read before the first feed: zeros */
    s->candidates = malloc(c->n_vocab * sizeof *s->candidates);
    s->text = malloc((size_t)text_bytes(model, p.n_ctx));
    if (!new_beams(s) || !cached || !s->ids || !s->logits || !s->candidates || !s->text) {
        tvlm_session_free(s);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory: the session takes %zu bytes", bytes);
    }
    *out = s;
    return TVLM_OK;
}

void tvlm_session_free(tvlm_session *session)
{
    if (!session) return;
    tvlm_image_free(session->image);
    free_cache(session);
    free_beams(session);
    free(session->ids);
    free(session->logits);
    free(session->candidates);
    free(session->text);
    tvlm_model_free(session->model);
    free(session);
}

void tvlm_session_truncate(tvlm_session *session, uint32_t n)
{
    session->position = n;
}

void tvlm_session_reset(tvlm_session *session)
{
    if (!session) return;
    tvlm_session_truncate(session, 0);
    tvlm_image_free(session->image);
    session->image = NULL;
    session->image_id = (tvlm_hash){0, 0};
    session->n_said = session->n_unsent = 0;
}

void tvlm_session_trim(tvlm_session *session)
{
    if (!session) return;
    tvlm_session_reset(session);
    tvlm_pages_drop(session->kv.data, cache_bytes(session));
    for (size_t i = 0; i < session->params.max_beams - 1; i++)
        tvlm_pages_drop(session->beams[i].kv.data, cache_bytes(session));
}

tvlm_status tvlm_session_rewind(tvlm_session *session, size_t position, tvlm_error *err)
{
    TVLM_NEED(session);
    if (position > session->position)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "position %zu, the session is at %u", position,
                         (unsigned)session->position);
    tvlm_session_truncate(session, (uint32_t)position);
    return TVLM_OK;
}

size_t tvlm_session_position(const tvlm_session *session)
{
    return session ? session->position : 0;
}

const float *tvlm_session_logits(const tvlm_session *session)
{
    return session ? session->logits + session->logits_row * session->model->config.lm.n_vocab
                   : NULL;
}

/* ---- feeding a prompt ---- */

/* The next row's source: false at the end. */
static bool next_row(tvlm_feed *f, tvlm_history *source, const float **embedding)
{
    const tvlm_prompt *p = f->prompt;
    const tvlm_model *m = p->model;
    *embedding = NULL;
    if (f->id == p->n_ids) return false;
    if (p->ids[f->id] != TVLM_IMAGE_ID) {
        *source = (tvlm_history){
            {0, 0},
            p->ids[f->id++]
        };
        return true;
    }
    const tvlm_image *image = p->images[f->image];
    *source = (tvlm_history){image->id, (int32_t)f->row};
    *embedding = image->tokens + f->row * m->config.lm.n_embd;
    if (++f->row % m->n_image_tokens == 0) f->id++; /* the next frame has its own */
    if (f->row == image->n_tokens) {
        f->row = 0;
        f->image++;
    }
    return true;
}

/* Passes the rows at the front that the session holds already; the last row is always computed, for
 * its logits. */
static void skip_common_prefix(tvlm_feed *f)
{
    const tvlm_session *s = f->session;
    tvlm_history source;
    const float *embedding;
    for (tvlm_feed next = *f; next.at < s->position && next.at + 1 < next.n_rows; *f = next) {
        next_row(&next, &source, &embedding);
        if (!tvlm_history_same(&source, &s->history[next.at])) return;
        next.at++;
    }
}

tvlm_status tvlm_feed_check(const tvlm_engine *engine, const tvlm_session *session,
                            const tvlm_prompt *prompt, tvlm_error *err)
{
    TVLM_NEED(engine);
    TVLM_NEED(session);
    TVLM_NEED(prompt);
    if (session->model != engine->model)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the session belongs to another model");
    return TVLM_OK;
}

static tvlm_status check_prompt(const tvlm_session *s, const tvlm_prompt *p, size_t *rows,
                                tvlm_error *err)
{
    if (p->model != s->model)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the prompt was built for another model");
    *rows = tvlm_prompt_n_tokens(p);
    if (!*rows) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the prompt is empty");
    if (p->text_bytes > s->params.max_prompt_bytes)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the prompt has %zu bytes of text, the limit is %zu",
                         p->text_bytes, s->params.max_prompt_bytes);
    if (p->n_images > s->params.max_images)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "the prompt has %zu images, the limit is %u",
                         p->n_images, (unsigned)s->params.max_images);
    if (*rows > s->params.n_ctx)
        return tvlm_fail(err, TVLM_ERR_CONTEXT,
                         "the prompt needs %zu positions, the context has %u", *rows,
                         (unsigned)s->params.n_ctx);
    return TVLM_OK;
}

/* Tiny-VLM: another image makes every cached row another row. An equal one is as good as the one
 * that is held. */
static void attach_image(tvlm_session *s, const tvlm_prompt *p)
{
    if (!s->model->config.lm.cross_attention) return;
    const tvlm_image *image = p->n_images ? p->images[0] : NULL;
    tvlm_hash id = image ? image->id : (tvlm_hash){0, 0};
    if (tvlm_hash_same(id, s->image_id)) return;
    tvlm_session_reset(s);
    s->image = image ? tvlm_image_retain(image) : NULL;
    s->image_id = id;
}

tvlm_status tvlm_feed_begin(tvlm_feed *f, tvlm_session *session, const tvlm_prompt *prompt,
                            bool want_all, tvlm_error *err)
{
    *f = (tvlm_feed){.session = session, .prompt = prompt, .want_all = want_all};
    TVLM_TRY(check_prompt(session, prompt, &f->n_rows, err));
    attach_image(session, prompt);
    if (!want_all) skip_common_prefix(f);
    tvlm_session_truncate(session, (uint32_t)f->at);
    return TVLM_OK;
}

size_t tvlm_feed_plan(tvlm_feed *f, size_t most, tvlm_input *rows)
{
    const float *embedding;
    most = most < TVLM_CHUNK ? most : TVLM_CHUNK;
    for (f->n = 0; f->n < most && next_row(f, &f->source[f->n], &embedding); f->n++) {
        bool last = f->at + f->n + 1 == f->n_rows;
        rows[f->n] = (tvlm_input){f->session, f->source[f->n].id, embedding, f->want_all || last};
    }
    return f->n;
}

bool tvlm_feed_take(tvlm_feed *f)
{
    memcpy(f->session->history + f->at, f->source, f->n * sizeof *f->source);
    f->at += f->n;
    return f->at == f->n_rows;
}

/* All of it, alone: logits of every row, or of the last to the session. */
static tvlm_status feed_all(tvlm_feed *f, tvlm_engine *engine, const tvlm_cancel *cancel,
                            float *logits, size_t cap, tvlm_error *err)
{
    tvlm_input rows[TVLM_CHUNK];
    size_t n_vocab = engine->model->config.lm.n_vocab;
    do {
        float *out = logits ? logits + f->at * n_vocab : f->session->logits;
        size_t room = logits ? cap - f->at * n_vocab : n_vocab;
        size_t n = tvlm_feed_plan(f, engine->params.max_batch_tokens, rows);
        TVLM_TRY(tvlm_forward(engine, rows, n, cancel, out, room, err));
    } while (!tvlm_feed_take(f));
    return TVLM_OK;
}

tvlm_status tvlm_session_feed(tvlm_engine *engine, tvlm_session *session, const tvlm_prompt *prompt,
                              const tvlm_cancel *cancel, float *logits, size_t cap, tvlm_error *err)
{
    tvlm_feed f;
    TVLM_TRY(tvlm_feed_check(engine, session, prompt, err));
    size_t n_vocab = session->model->config.lm.n_vocab, rows = tvlm_prompt_n_tokens(prompt);
    if (logits && cap / n_vocab < rows)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "logits has room for %zu floats, %zu times %zu are "
                         "wanted",
                         cap, rows, n_vocab);
    TVLM_TRY(tvlm_feed_begin(&f, session, prompt, logits != NULL, err));
    TVLM_TRY(feed_all(&f, engine, cancel, logits, cap, err));
    session->logits_row = 0;
    if (logits) memcpy(session->logits, logits + (rows - 1) * n_vocab, n_vocab * sizeof *logits);
    return TVLM_OK;
}
