/* SPDX-License-Identifier: MIT
 * Prompt in, text out: choose, append, stream, until something says stop. */
#include "engine/internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const tvlm_generate_params defaults = {.size = sizeof defaults,
                                              .max_tokens = 256,
                                              .sampling = TVLM_SAMPLING_DEFAULTS,
                                              .min_tokens = 1};

void tvlm_generate_params_init(tvlm_generate_params *params, size_t size)
{
    tvlm_sized_init(params, size, &defaults, sizeof defaults);
}

/* tvlm_sized of what tvlm_generate and tvlm_generation_next write. */
#define RESULT TVLM_SIZED(tvlm_result, n_accepted)
#define EVENT  TVLM_SIZED(tvlm_event, n_alternatives)
#define PARAMS TVLM_SIZED(tvlm_generate_params, beams)

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The answer as it grows: text[0..len), of which [0..sent) has gone to the caller; [0..first) is of
 * the answer that this one resumes. Tokens are bytes: the text is made of them by utf8, so that it,
 * its stop strings and what is sent are whole characters. */
typedef struct stream {
    const tvlm_generate_params *params;
    const tvlm_session *session;
    tvlm_utf8_stream utf8;
    size_t len, sent, first;
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

/* Where the earliest stop string begins that ends behind text[0..from), or SIZE_MAX. */
static size_t find_stop(const stream *s, size_t from)
{
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < s->params->n_stop; i++) {
        const char *stop = s->params->stop[i];
        size_t n = strlen(stop), at = n && n <= from ? from + 1 - n : 0;
        while (at + n <= s->len && memcmp(s->session->text + at, stop, n) != 0)
            at++;
        if (n && at + n <= s->len) first = least(first, at);
    }
    return first;
}

/* Appends a token's bytes. */
static void add(stream *s, int32_t id)
{
    if (tvlm_tokenizer_is_control(s->session->model->tokenizer, id)) return;
    tvlm_str piece = tvlm_tokenizer_piece(s->session->model->tokenizer, id);
    while (s->trim && !s->len && piece.len && piece.data[0] == ' ') {
        piece.data++;
        piece.len--;
    }
    s->len += tvlm_utf8_feed(&s->utf8, piece.data, piece.len, s->session->text + s->len);
}

/* The same; false when a stop string ends the text here. Of one that was cut, the beginning may
 * have been sent. */
static bool append(stream *s, int32_t id)
{
    size_t before = s->len;
    add(s, id);
    size_t stop = find_stop(s, before);
    if (stop != SIZE_MAX) {
        s->len = stop > s->sent ? stop : s->sent;
        s->utf8.n = 0;
    }
    return stop == SIZE_MAX;
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

/* An answer that is being written. */
struct tvlm_generation {
    tvlm_engine *engine;
    tvlm_session *session;
    const tvlm_prompt *prompt;   /* until its rows are read */
    tvlm_generate_params params; /* defaults filled in */
    bool joined;                 /* its batcher */
    tvlm_request *request;       /* its place in the batcher that runs it */
    tvlm_feed feed;
    tvlm_input rows[TVLM_CHUNK]; /* of the pass at hand */
    size_t n_rows;
    char *stops; /* copies of the stop strings, NULL: they are the caller's */
    stream out;
    tvlm_lookup draft;
    tvlm_beam beam;
    uint64_t state;    /* of the random draws */
    uint32_t n_before; /* ids of the answer that this one resumes: they lie before its own */
    double begin;
    tvlm_result result; /* so far */
    bool over;          /* an end, or an error */
    tvlm_alternative top[TVLM_MAX_ALTERNATIVES];
};

/* Tokens that may be drafted to follow the one chosen last: those the answer, the context and a
 * pass have room for. */
static size_t draft_room(const tvlm_generation *g)
{
    const tvlm_session *s = g->session;
    size_t rows = least(1 + TVLM_MAX_DRAFT, g->engine->params.max_batch_tokens);
    if (!g->params.lookup) return 0;
    if (g->params.batcher) rows = least(rows, tvlm_batcher_step_rows(g->params.batcher));
    rows = least(rows, s->params.n_ctx - s->position);
    return least(rows, g->params.max_tokens - g->result.n_ids) - 1;
}

/* ---- passes ---- */

/* The prompt's next piece: all that a pass takes, less in company. */
static tvlm_status plan_prompt(tvlm_generation *g, tvlm_error *err)
{
    size_t most = g->engine->params.max_batch_tokens;
    if (g->params.batcher) most = least(most, tvlm_batcher_prompt_rows(g->params.batcher));
    if (!g->feed.prompt) {
        TVLM_TRY(tvlm_feed_begin(&g->feed, g->session, g->prompt, false, err));
        g->result.n_reused_tokens = g->feed.at;
    }
    g->n_rows = tvlm_feed_plan(&g->feed, most, g->rows);
    return TVLM_OK;
}

static int32_t *own_ids(const tvlm_generation *g)
{
    return g->session->ids + g->n_before;
}

/* The token chosen last: the last pass has read it if it was drafted, else it and a new draft are
 * read by the next. */
static void plan_token(tvlm_generation *g)
{
    tvlm_session *s = g->session;
    int32_t id = own_ids(g)[g->result.n_ids - 1];
    g->n_rows = 0;
    if (tvlm_lookup_right(&g->draft, id)) {
        g->result.n_accepted++;
        s->position++;
        s->logits_row++;
        return;
    }
    tvlm_lookup_draft(&g->draft, s, id, draft_room(g));
    g->result.n_drafted += g->draft.n;
    g->rows[g->n_rows++] = (tvlm_input){s, id, NULL, true};
    for (size_t i = 0; i < g->draft.n; i++)
        g->rows[g->n_rows++] = (tvlm_input){s, g->draft.ids[i], NULL, true};
}

tvlm_status tvlm_generation_plan(tvlm_generation *g, tvlm_pass *out, tvlm_error *err)
{
    if (tvlm_cancelled(g->params.cancel)) return tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
    if (g->prompt)
        TVLM_TRY(plan_prompt(g, err));
    else if (g->params.beams > 1)
        g->n_rows = tvlm_beam_plan(&g->beam, g->rows);
    else
        plan_token(g);
    *out = (tvlm_pass){g->rows, g->n_rows, g->params.cancel, g->session->logits};
    return TVLM_OK;
}

/* The session stays at the token: the draft is beyond its position until it comes true. */
bool tvlm_generation_take(tvlm_generation *g)
{
    tvlm_session *s = g->session;
    if (!g->n_rows) return true;
    if (g->prompt) {
        if (!tvlm_feed_take(&g->feed)) return false;
        g->result.n_prompt_tokens = g->feed.n_rows;
        g->result.prefill_ms = tvlm_now_ms() - g->begin;
        g->prompt = NULL;
        if (g->params.beams > 1) tvlm_beam_begin(&g->beam, s, &g->params);
    } else if (g->params.beams < 2) {
        tvlm_session_truncate(s, s->position - (uint32_t)(g->n_rows - 1));
    }
    s->logits_row = 0;
    return g->params.beams < 2 || tvlm_beam_take(&g->beam);
}

static tvlm_status run_pass(tvlm_generation *g, const tvlm_pass *pass, tvlm_error *err)
{
    size_t cap = (1 + TVLM_MAX_DRAFT) * (size_t)g->session->model->config.lm.n_vocab;
    if (g->params.batcher) return tvlm_batcher_forward(g->params.batcher, pass, err);
    return tvlm_forward(g->engine, pass->rows, pass->n_rows, pass->cancel, pass->logits, cap, err);
}

static tvlm_status read_on(tvlm_generation *g, tvlm_error *err)
{
    tvlm_pass pass;
    do {
        TVLM_TRY(tvlm_generation_plan(g, &pass, err));
        if (pass.n_rows) TVLM_TRY(run_pass(g, &pass, err));
    } while (!tvlm_generation_take(g));
    return TVLM_OK;
}

/* ---- tokens ---- */

static int32_t sample(tvlm_generation *g)
{
    tvlm_session *s = g->session;
    int32_t id = tvlm_sampler_choose(s->model->tokenizer, tvlm_session_logits(s),
                                     s->model->config.lm.n_vocab, &g->params.sampling, s->ids,
                                     g->n_before + g->result.n_ids, s->candidates, &g->state);
    s->random = g->state;
    return id;
}

/* With end-of-text out of reach. */
static int32_t sample_more(tvlm_generation *g)
{
    const tvlm_config *c = &g->session->model->config;
    float *logits = g->session->logits + g->session->logits_row * c->lm.n_vocab;
    int32_t ends[] = {c->eos_id, c->eot_id};
    float kept[2] = {0};
    for (int i = 0; i < 2; i++) {
        if (ends[i] < 0) continue;
        kept[i] = logits[ends[i]];
        logits[ends[i]] = -INFINITY;
    }
    int32_t id = sample(g);
    for (int i = 2; i-- > 0;) /* in this order: they may be one */
        if (ends[i] >= 0) logits[ends[i]] = kept[i];
    return id;
}

/* What a search has found is there already. */
static int32_t choose(tvlm_generation *g)
{
    if (g->result.n_ids < g->beam.n_best) return own_ids(g)[g->result.n_ids];
    bool early = g->n_before + g->result.n_ids < g->params.min_tokens;
    return early && !g->params.ignore_eos ? sample_more(g) : sample(g);
}

/* Whether nothing fits behind the ids. */
static bool is_full(const tvlm_generation *g)
{
    if (g->params.beams > 1) return g->result.n_ids >= g->beam.n_best;
    return g->session->position == g->session->params.n_ctx;
}

/* TVLM_FINISH_* when the answer ends with the token, -1 to go on. */
static int take_token(tvlm_generation *g, int32_t id)
{
    tvlm_session *s = g->session;
    bool end = tvlm_ends(s, id);
    own_ids(g)[g->result.n_ids++] = id;
    s->n_said = g->n_before + (uint32_t)g->result.n_ids;
    if (end ? !g->params.ignore_eos : !append(&g->out, id)) return TVLM_FINISH_STOP;
    if (g->result.n_ids == g->params.max_tokens) return TVLM_FINISH_LENGTH;
    return is_full(g) ? TVLM_FINISH_CONTEXT : -1;
}

/* The text that has become certain, and at the end all: an answer that is cut inside a character
 * ends before it; one that ends there by itself is ill-formed. */
static void release_text(tvlm_generation *g, int finish, tvlm_event *e)
{
    stream *out = &g->out;
    if (finish == TVLM_FINISH_STOP)
        out->len += tvlm_utf8_end(&out->utf8, g->session->text + out->len);
    size_t until = finish < 0 ? out->len - held_back(out) : out->len;
    if (until < out->sent) until = out->sent; /* when the answer was cut */
    e->text = g->session->text + out->sent;
    e->text_len = until - out->sent;
    out->sent = until;
    g->session->n_unsent = (uint32_t)(out->len - until);
}

/* How likely the token was, and which others. */
static void weigh(tvlm_generation *g, tvlm_event *e)
{
    uint32_t n_vocab = g->session->model->config.lm.n_vocab;
    e->alternatives = g->top;
    e->n_alternatives = least(g->params.n_alternatives, n_vocab);
    e->logprob = tvlm_sampler_logprobs(tvlm_session_logits(g->session), n_vocab, e->id, g->top,
                                       e->n_alternatives);
}

static tvlm_status choose_next(tvlm_generation *g, tvlm_event *e, tvlm_error *err)
{
    TVLM_TRY(check_numbers(g->session, err));
    e->id = choose(g);
    if (!g->result.n_ids) g->result.first_token_ms = tvlm_now_ms() - g->begin;
    if (g->params.logprobs) weigh(g, e);
    int finish = take_token(g, e->id);
    release_text(g, finish, e);
    e->is_last = g->over = finish >= 0;
    if (e->is_last) e->finish = g->result.finish = (tvlm_finish)finish;
    return TVLM_OK;
}

static void update_result(tvlm_generation *g)
{
    g->result.text = g->session->text + g->out.first;
    g->result.text_len = g->out.sent - g->out.first;
    g->result.ids = own_ids(g);
    if (!g->prompt) g->result.decode_ms = tvlm_now_ms() - g->begin - g->result.prefill_ms;
}

/* What a search cannot do; NULL: it can do all that is asked for. */
static const char *beyond_beams(const tvlm_generate_params *p)
{
    return p->sampling.temperature > 0          ? "sampling.temperature"
           : p->sampling.repeat_penalty != 1.0f ? "sampling.repeat_penalty"
           : p->logprobs                        ? "logprobs"
           : p->resume                          ? "resume"
                                                : NULL;
}

/* What a search has no use for would be passed over. */
static tvlm_status check_beams(const tvlm_generate_params *p, tvlm_error *err)
{
    const char *other = p->lookup ? "lookup" : beyond_beams(p);
    if (p->beams > TVLM_MAX_BEAMS)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "beams is %u, at most %d", (unsigned)p->beams,
                         TVLM_MAX_BEAMS);
    if (p->beams < 2 || !other) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_ARGUMENT, "beams is %u: beam search goes without %s",
                     (unsigned)p->beams, other);
}

/* What it takes has been allocated. */
static tvlm_status check_room(const tvlm_engine *engine, const tvlm_session *session,
                              uint32_t beams, tvlm_error *err)
{
    if (beams > session->params.max_beams)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "beams is %u, the session's max_beams %u",
                         (unsigned)beams, (unsigned)session->params.max_beams);
    if (beams > engine->params.max_batch_tokens)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "beams is %u, the engine's max_batch_tokens %u",
                         (unsigned)beams, engine->params.max_batch_tokens);
    return TVLM_OK;
}

/* Those of an answer whose caller leaves it to the model. */
static uint32_t own_beams(const tvlm_generation *g)
{
    uint32_t beams = g->session->model->config.describe_beams;
    if (!g->prompt->describes || beyond_beams(&g->params)) return 1;
    beams = beams < g->session->params.max_beams ? beams : g->session->params.max_beams;
    return (uint32_t)least(beams, g->engine->params.max_batch_tokens);
}

static tvlm_status read_params(const tvlm_generate_params *in, tvlm_generate_params *out,
                               tvlm_error *err)
{
    *out = defaults;
    TVLM_TRY(tvlm_sized_read(out, in, PARAMS, err));
    if (!out->max_tokens)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "max_tokens is 0: tvlm_session_feed reads a prompt alone");
    if (!out->stop && out->n_stop) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "stop is NULL");
    if (out->n_alternatives > TVLM_MAX_ALTERNATIVES)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "n_alternatives is %u, at most %u",
                         (unsigned)out->n_alternatives, (unsigned)TVLM_MAX_ALTERNATIVES);
    for (size_t i = 0; i < out->n_stop; i++) {
        if (!out->stop[i]) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "stop[%zu] is NULL", i);
        if (!tvlm_utf8_valid(out->stop[i], strlen(out->stop[i])))
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "stop[%zu] is not UTF-8", i);
    }
    TVLM_TRY(tvlm_sampling_check(&out->sampling, err));
    return check_beams(out, err);
}

/* The ids said so far stay before the new ones: as many as the prompt may hold, so that all fit.
 * Their text is made once more, so that characters and stop strings may lie across the cut. */
static void resume(tvlm_generation *g)
{
    tvlm_session *s = g->session;
    size_t n = least(s->n_said, tvlm_prompt_n_tokens(g->prompt));
    memmove(s->ids, s->ids + s->n_said - n, n * sizeof *s->ids);
    s->n_said = g->n_before = (uint32_t)n;
    if (n) g->state = s->random;
    for (size_t i = 0; i < n; i++)
        add(&g->out, s->ids[i]);
    g->out.first = g->out.sent = g->out.len - least(g->out.len, s->n_unsent);
}

/* leave() ends it. */
static void join(tvlm_generation *g)
{
    if (g->params.batcher && !g->joined) tvlm_batcher_join(g->params.batcher);
    g->joined = g->params.batcher != NULL;
}

static tvlm_status begin(tvlm_generation *g, tvlm_engine *engine, tvlm_session *session,
                         const tvlm_prompt *prompt, const tvlm_generate_params *params,
                         tvlm_error *err)
{
    *g = (tvlm_generation){.engine = engine, .session = session, .prompt = prompt};
    TVLM_TRY(tvlm_feed_check(engine, session, prompt, err));
    TVLM_TRY(read_params(params, &g->params, err));
    if (!g->params.beams) g->params.beams = own_beams(g);
    if (g->params.beams > 1) g->params.lookup = false;
    TVLM_TRY(check_room(engine, session, g->params.beams, err));
    if (prompt->prefilled) g->params.min_tokens = 0; /* the answer has begun */
    if (g->params.batcher) TVLM_TRY(tvlm_batcher_check(g->params.batcher, engine, err));
    g->out =
        (stream){.params = &g->params,
                 .session = session,
                 .trim = session->model->config.chat == TVLM_CHAT_TINYVLM && !prompt->prefilled};
    g->state = g->params.sampling.seed;
    if (g->params.resume)
        resume(g);
    else
        session->n_said = session->n_unsent = 0; /* the last answer now, even if it gets no id */
    g->begin = tvlm_now_ms();
    tvlm_lookup_init(&g->draft);
    join(g);
    return TVLM_OK;
}

static void leave(tvlm_generation *g)
{
    if (g->joined) tvlm_batcher_leave(g->params.batcher);
    g->joined = false;
}

/* What came of it; an error is an end. */
static tvlm_status note(tvlm_generation *g, tvlm_status status)
{
    if (status) g->over = true;
    update_result(g);
    return status;
}

static tvlm_status next(tvlm_generation *g, tvlm_event *e, tvlm_error *err)
{
    tvlm_status status = read_on(g, err);
    if (!status) status = choose_next(g, e, err);
    return note(g, status);
}

tvlm_status tvlm_generate(tvlm_engine *engine, tvlm_session *session, const tvlm_prompt *prompt,
                          const tvlm_generate_params *params, tvlm_result *result, tvlm_error *err)
{
    tvlm_generation g;
    if (result) {
        TVLM_TRY(tvlm_sized_check(result, RESULT, err));
        tvlm_sized_write(result, &(tvlm_result){0}, RESULT);
    }
    TVLM_TRY(begin(&g, engine, session, prompt, params, err));
    tvlm_status status = TVLM_OK;
    while (!status && !g.over) {
        tvlm_event e = {0};
        status = next(&g, &e, err);
        if (status || !e.text_len || !g.params.on_text) continue;
        if (!g.params.on_text(g.params.user, e.text, e.text_len)) {
            g.result.finish = TVLM_FINISH_CALLBACK;
            g.over = true;
        }
    }
    leave(&g);
    if (result) tvlm_sized_write(result, &g.result, RESULT);
    return status;
}

/* ---- one image, one question ---- */

static tvlm_status ask_about(const tvlm_model *model, tvlm_image *image, tvlm_str question,
                             tvlm_prompt *prompt, tvlm_error *err)
{
    tvlm_model_info info = {.size = sizeof info};
    TVLM_TRY(tvlm_model_get_info(model, &info, err));
    if (!question.len) question = (tvlm_str){info.describe_prompt, strlen(info.describe_prompt)};
    const tvlm_message message = {.role = TVLM_ROLE_USER,
                                  .text = question.data,
                                  .len = question.len,
                                  .images = &image,
                                  .n_images = image != NULL};
    return tvlm_prompt_chat(prompt, &message, 1, err);
}

tvlm_status tvlm_ask(tvlm_engine *engine, tvlm_session *session, const tvlm_pixels *pixels,
                     const char *question, size_t len, const tvlm_generate_params *params,
                     tvlm_result *result, tvlm_error *err)
{
    tvlm_generate_params p;
    tvlm_encode_params how;
    tvlm_image *image = NULL;
    tvlm_prompt *prompt = NULL;
    TVLM_NEED(engine);
    TVLM_NEED(session);
    if (len) TVLM_NEED(question);
    if (result) TVLM_TRY(tvlm_sized_check(result, RESULT, err));
    TVLM_TRY(read_params(params, &p, err));
    if (result) tvlm_sized_write(result, &(tvlm_result){0}, RESULT);
    tvlm_encode_params_init(&how, sizeof how);
    how.cancel = p.cancel;
    tvlm_status status = tvlm_prompt_new(engine->model, &prompt, err);
    if (!status && pixels) status = tvlm_image_encode(engine, pixels, &how, &image, err);
    if (!status) status = ask_about(engine->model, image, (tvlm_str){question, len}, prompt, err);
    if (!status) status = tvlm_generate(engine, session, prompt, &p, result, err);
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    return status;
}

/* ---- one token at a time ---- */

/* The caller's stop strings, which need not outlive the call, in a block: pointers, then text. */
static tvlm_status copy_stops(tvlm_generation *g, tvlm_error *err)
{
    size_t n = g->params.n_stop, bytes = n * sizeof(char *);
    if (!n) return TVLM_OK;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(g->params.stop[i]) + 1;
    g->stops = malloc(bytes);
    if (!g->stops) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    const char **to = (const char **)(void *)g->stops;
    char *text = g->stops + n * sizeof *to;
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(g->params.stop[i]) + 1;
        to[i] = memcpy(text, g->params.stop[i], size);
        text += size;
    }
    g->params.stop = to;
    return TVLM_OK;
}

tvlm_status tvlm_generation_start(tvlm_engine *engine, tvlm_session *session,
                                  const tvlm_prompt *prompt, const tvlm_generate_params *params,
                                  tvlm_generation **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    tvlm_generation *g = malloc(sizeof *g);
    if (!g) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = begin(g, engine, session, prompt, params, err);
    if (status) {
        free(g);
        return status;
    }
    status = copy_stops(g, err);
    if (status)
        tvlm_generation_free(g);
    else
        *out = g;
    return status;
}

tvlm_status tvlm_event_check(const tvlm_event *event, tvlm_error *err)
{
    TVLM_NEED(event);
    return tvlm_sized_check(event, EVENT, err);
}

tvlm_status tvlm_generation_next(tvlm_generation *generation, tvlm_event *event, tvlm_error *err)
{
    tvlm_event e = {0};
    TVLM_NEED(generation);
    TVLM_TRY(tvlm_event_check(event, err));
    if (generation->over)
        return tvlm_fail(err, TVLM_ERR_STATE, "the answer has ended: nothing follows");
    if (generation->request)
        return tvlm_fail(err, TVLM_ERR_STATE, "the answer was submitted: its batcher runs it");
    TVLM_TRY(next(generation, &e, err));
    tvlm_sized_write(event, &e, EVENT);
    return TVLM_OK;
}

/* ---- run by a batcher ---- */

tvlm_status tvlm_generation_attach(tvlm_generation *g, tvlm_batcher *batcher, tvlm_request *request,
                                   tvlm_error *err)
{
    if (g->over) return tvlm_fail(err, TVLM_ERR_STATE, "the answer has ended: nothing follows");
    if (g->request) return tvlm_fail(err, TVLM_ERR_STATE, "the answer was submitted before");
    if (g->params.batcher && g->params.batcher != batcher)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "the answer was started in another batcher");
    TVLM_TRY(tvlm_batcher_check(batcher, g->engine, err));
    g->params.batcher = batcher;
    g->request = request;
    join(g);
    return TVLM_OK;
}

void tvlm_generation_detach(tvlm_generation *g)
{
    g->over = true;
    g->request = NULL;
    update_result(g);
    leave(g);
}

bool tvlm_generation_over(const tvlm_generation *g)
{
    return g->over;
}

tvlm_status tvlm_generation_choose(tvlm_generation *g, tvlm_event *event, tvlm_error *err)
{
    tvlm_event e = {0};
    TVLM_TRY(note(g, choose_next(g, &e, err)));
    tvlm_sized_write(event, &e, EVENT);
    return TVLM_OK;
}

tvlm_status tvlm_generation_get_result(const tvlm_generation *generation, tvlm_result *out,
                                       tvlm_error *err)
{
    TVLM_NEED(generation);
    TVLM_NEED(out);
    TVLM_TRY(tvlm_sized_check(out, RESULT, err));
    tvlm_sized_write(out, &generation->result, RESULT);
    return TVLM_OK;
}

void tvlm_generation_free(tvlm_generation *generation)
{
    if (!generation) return;
    if (generation->request) tvlm_batcher_withdraw(generation->params.batcher, generation->request);
    leave(generation);
    free(generation->stops);
    free(generation);
}

tvlm_status tvlm_sample(tvlm_session *session, const float *logits, const tvlm_sampling *sampling,
                        const int32_t *recent, size_t n_recent, uint64_t *state, int32_t *id,
                        tvlm_error *err)
{
    static const tvlm_sampling greedy = TVLM_SAMPLING_DEFAULTS;
    TVLM_NEED(session);
    TVLM_NEED(state);
    TVLM_NEED(id);
    if (n_recent) TVLM_NEED(recent);
    if (sampling) TVLM_TRY(tvlm_sampling_check(sampling, err));
    const tvlm_model *m = session->model;
    *id = tvlm_sampler_choose(m->tokenizer, logits ? logits : tvlm_session_logits(session),
                              m->config.lm.n_vocab, sampling ? sampling : &greedy, recent, n_recent,
                              session->candidates, state);
    return TVLM_OK;
}
