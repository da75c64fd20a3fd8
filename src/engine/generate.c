/* SPDX-License-Identifier: MIT
 * Prompt in, text out: choose, append, stream, until something says stop. */
#include "engine/internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

void tvlm_generate_params_init(tvlm_generate_params *params)
{
    if (params) *params = (tvlm_generate_params){.size = sizeof *params};
}

/* The answer as it grows: text[0..len), of which [0..sent) has gone to the caller. Tokens are
 * bytes: the text is made of them by utf8, so that it, its stop strings and what is sent are whole
 * characters. */
typedef struct stream {
    const tvlm_generate_params *params;
    const tvlm_session *session;
    tvlm_utf8_stream utf8;
    size_t len, sent;
    bool trim; /* Tiny-VLM answers begin with a space that is no part of them */
} stream;

/* Bytes at the end that may be the beginning of a stop string. */
static size_t held_back(const stream *s)
{
    size_t most = 0;
    for (size_t i = 0; i < s->params->n_stop; i++) {
        size_t n = strlen(s->params->stop[i]);
        for (size_t k = n ? n - 1 : 0; k > most; k--)
            if (k <= s->len && !memcmp(s->session->text + s->len - k, s->params->stop[i], k)) {
                most = k;
                break;
            }
    }
    return most;
}

/* Where the earliest stop string begins in text[from..len), or SIZE_MAX. */
static size_t find_stop(const stream *s, size_t from)
{
    for (size_t at = from; at < s->len; at++)
        for (size_t i = 0; i < s->params->n_stop; i++) {
            size_t n = strlen(s->params->stop[i]);
            if (n && n <= s->len - at && !memcmp(s->session->text + at, s->params->stop[i], n))
                return at;
        }
    return SIZE_MAX;
}

/* Sends what is certain; false when the callback wants no more. */
static bool send(stream *s, size_t until)
{
    const char *from = s->session->text + s->sent;
    size_t n = until - s->sent;
    s->sent = until;
    return !n || !s->params->on_text || s->params->on_text(s->params->user, from, n);
}

/* Appends a token's bytes. TVLM_FINISH_* when the text ends here, -1 to go on. */
static int append(stream *s, int32_t id)
{
    if (tvlm_tokenizer_is_control(s->session->model->tokenizer, id)) return -1;
    tvlm_str piece = tvlm_tokenizer_piece(s->session->model->tokenizer, id);
    while (s->trim && !s->len && piece.len && piece.data[0] == ' ') {
        piece.data++;
        piece.len--;
    }
    s->len += tvlm_utf8_feed(&s->utf8, piece.data, piece.len, s->session->text + s->len);
    size_t stop = find_stop(s, s->sent);
    if (stop != SIZE_MAX) {
        s->len = stop;
        s->utf8.n = 0;
        return TVLM_FINISH_STOP;
    }
    return send(s, s->len - held_back(s)) ? -1 : TVLM_FINISH_CALLBACK;
}

static bool ends(const tvlm_config *c, int32_t id)
{
    return id == c->eos_id || id == c->eot_id;
}

/* Weights that are no numbers, or too large, of a file that has no checksums. */
static tvlm_status check_numbers(const tvlm_session *s, tvlm_error *err)
{
    const float *logits = tvlm_session_logits(s);
    size_t bad = 0;
    for (size_t i = 0; i < s->model->config.lm.n_vocab; i++)
        bad += !(fabsf(logits[i]) <= FLT_MAX);
    return bad ? tvlm_fail(err, TVLM_ERR_FORMAT,
                           "the model's logits are not finite numbers: its weights are damaged")
               : TVLM_OK;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Tokens that may be drafted to follow the one chosen last: those the answer, the context and a
 * pass have room for. */
static size_t draft_room(const tvlm_engine *engine, const tvlm_session *s,
                         const tvlm_generate_params *p, const tvlm_result *r)
{
    size_t rows = least(1 + TVLM_MAX_DRAFT, engine->params.max_batch_rows);
    if (!p->lookup) return 0;
    if (p->batcher) rows = least(rows, tvlm_batcher_step_rows(p->batcher));
    rows = least(rows, s->params.n_ctx - s->position);
    return least(rows, p->max_tokens - r->n_ids) - 1;
}

/* Rows of the token chosen and of the draft. The session stays at the first: the others are beyond
 * its position until they come true. */
static tvlm_status run_pass(tvlm_engine *engine, tvlm_session *s, const tvlm_generate_params *p,
                            int32_t id, const tvlm_lookup *draft, tvlm_error *err)
{
    tvlm_row rows[1 + TVLM_MAX_DRAFT] = {
        {s, id, NULL, true}
    };
    size_t n = 1 + draft->n, cap = n * s->model->config.lm.n_vocab;
    uint32_t position = s->position;
    for (size_t i = 1; i < n; i++)
        rows[i] = (tvlm_row){s, draft->ids[i - 1], NULL, true};
    TVLM_TRY(p->batcher ? tvlm_batcher_forward(p->batcher, rows, n, p->cancel, s->logits, err)
                        : tvlm_forward(engine, rows, n, p->cancel, s->logits, cap, err));
    tvlm_session_truncate(s, position + 1);
    s->logits_row = 0;
    return TVLM_OK;
}

/* Reads `id`: the last pass has done so if it drafted it, else another does. */
static tvlm_status next_logits(tvlm_engine *engine, tvlm_session *s, const tvlm_generate_params *p,
                               int32_t id, tvlm_lookup *draft, tvlm_result *r, tvlm_error *err)
{
    if (tvlm_cancelled(p->cancel)) return tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
    if (tvlm_lookup_right(draft, id)) {
        r->n_accepted++;
        s->position++;
        s->logits_row++;
        return TVLM_OK;
    }
    tvlm_lookup_draft(draft, s, id, draft_room(engine, s, p, r));
    r->n_drafted += draft->n;
    return run_pass(engine, s, p, id, draft, err);
}

static tvlm_status decode(tvlm_engine *engine, tvlm_session *s, stream *out,
                          const tvlm_generate_params *p, double begin, tvlm_result *r,
                          tvlm_error *err)
{
    const tvlm_config *c = &s->model->config;
    uint64_t state = p->sampling.seed;
    int finish = -1;
    tvlm_lookup draft;
    tvlm_lookup_init(&draft);
    while (finish < 0) {
        TVLM_TRY(check_numbers(s, err));
        int32_t id = tvlm_sampler_choose(s->model->tokenizer, tvlm_session_logits(s), c->lm.n_vocab,
                                         &p->sampling, s->ids, r->n_ids, s->candidates, &state);
        if (!r->n_ids) r->first_token_ms = tvlm_now_ms() - begin;
        s->ids[r->n_ids++] = id;
        if (ends(c, id)) {
            if (!p->ignore_eos) finish = TVLM_FINISH_STOP;
        } else {
            finish = append(out, id);
        }
        if (finish < 0 && r->n_ids == p->max_tokens) finish = TVLM_FINISH_LENGTH;
        if (finish < 0 && s->position == s->params.n_ctx) finish = TVLM_FINISH_CONTEXT;
        if (finish < 0) TVLM_TRY(next_logits(engine, s, p, id, &draft, r, err));
    }
    r->finish = (tvlm_finish)finish;
    return TVLM_OK;
}

static tvlm_status read_params(const tvlm_generate_params *in, tvlm_generate_params *out,
                               tvlm_error *err)
{
    tvlm_generate_params_init(out);
    TVLM_TRY(tvlm_params_copy(out, in, sizeof *out, "tvlm_generate_params", err));
    out->max_tokens = out->max_tokens ? out->max_tokens : 256;
    if (!out->stop && out->n_stop) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "stop is NULL");
    for (size_t i = 0; i < out->n_stop; i++) {
        if (!out->stop[i]) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "stop[%zu] is NULL", i);
        if (!tvlm_utf8_valid(out->stop[i], strlen(out->stop[i])))
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "stop[%zu] is not UTF-8", i);
    }
    return tvlm_sampling_check(&out->sampling, err);
}

/* Between joining and leaving the batcher, if any. */
static tvlm_status answer(tvlm_engine *engine, tvlm_session *session, const tvlm_prompt *prompt,
                          const tvlm_generate_params *p, tvlm_result *r, tvlm_error *err)
{
    double begin = tvlm_now_ms();
    TVLM_TRY(tvlm_session_prefill(engine, session, prompt, p->cancel, p->batcher, NULL, 0,
                                  &r->n_reused_rows, err));
    r->n_prompt_rows = tvlm_prompt_rows(prompt);
    r->prefill_ms = tvlm_now_ms() - begin;
    stream out = {
        .params = p, .session = session, .trim = session->model->config.chat == TVLM_CHAT_TINYVLM};
    tvlm_status status = decode(engine, session, &out, p, begin, r, err);
    /* an answer that is cut inside a character ends before it; one that ends there is ill-formed */
    if (!status && r->finish == TVLM_FINISH_STOP)
        out.len += tvlm_utf8_end(&out.utf8, session->text + out.len);
    if (!status && r->finish != TVLM_FINISH_CALLBACK && out.len > out.sent && !send(&out, out.len))
        r->finish = TVLM_FINISH_CALLBACK;
    if (status || r->finish == TVLM_FINISH_CALLBACK) out.len = out.sent;
    r->text = session->text;
    r->text_len = out.len;
    r->ids = session->ids;
    r->decode_ms = tvlm_now_ms() - begin - r->prefill_ms;
    return status;
}

tvlm_status tvlm_generate(tvlm_engine *engine, tvlm_session *session, const tvlm_prompt *prompt,
                          const tvlm_generate_params *params, tvlm_result *result, tvlm_error *err)
{
    tvlm_generate_params p;
    tvlm_result unused, *r = result ? result : &unused;
    *r = (tvlm_result){0};
    TVLM_TRY(tvlm_feed_check(engine, session, prompt, err));
    TVLM_TRY(read_params(params, &p, err));
    if (p.batcher) TVLM_TRY(tvlm_batcher_join(p.batcher, engine, err));
    tvlm_status status = answer(engine, session, prompt, &p, r, err);
    if (p.batcher) tvlm_batcher_leave(p.batcher);
    return status;
}

tvlm_status tvlm_sample(const tvlm_model *model, const float *logits, const tvlm_sampling *sampling,
                        const int32_t *recent, size_t n_recent, uint64_t *state, int32_t *id,
                        tvlm_error *err)
{
    static const tvlm_sampling greedy;
    TVLM_NEED(model);
    TVLM_NEED(logits);
    TVLM_NEED(state);
    TVLM_NEED(id);
    if (n_recent) TVLM_NEED(recent);
    if (sampling) TVLM_TRY(tvlm_sampling_check(sampling, err));
    uint32_t n = model->config.lm.n_vocab;
    tvlm_candidate *scratch = tvlm_aligned_alloc(n * sizeof *scratch);
    if (!scratch) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    *id = tvlm_sampler_choose(model->tokenizer, logits, n, sampling ? sampling : &greedy, recent,
                              n_recent, scratch, state);
    tvlm_aligned_free(scratch);
    return TVLM_OK;
}
