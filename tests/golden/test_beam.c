/* SPDX-License-Identifier: MIT
 * Beam search against its definition, which reads every hypothesis from its first id at every step
 * and sorts all its extensions; no answer is empty; no sequence comes twice. */
#include "engine/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "check.h"
#include "tiny_model.h"

#define PATH    TVLM_BUILD_DIR "/beam-test.gguf"
#define TINYVLM TVLM_TEST_DATA "/../../models/tinyvlm-25m.gguf"

enum { MOST = 12, ENGINES = 3, WIDEST = TVLM_MAX_BEAMS };

static tvlm_error err;

/* Of a prompt: its session and an engine for each number of threads. */
typedef struct rig {
    tvlm_model *model;
    tvlm_engine *engines[ENGINES];
    tvlm_model_info info;
} rig;

static rig open_rig(const char *path, const char *template)
{
    rig r;
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_model_params_init(&m, sizeof m);
    m.chat_template = template;
    OK(tvlm_model_open(path, &m, &r.model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    for (unsigned i = 0; i < ENGINES; i++) {
        e.n_threads = i + 1;
        OK(tvlm_engine_new(r.model, &e, &r.engines[i], &err));
    }
    r.info.size = sizeof r.info;
    OK(tvlm_model_get_info(r.model, &r.info, &err));
    return r;
}

static void close_rig(rig *r)
{
    for (unsigned i = 0; i < ENGINES; i++)
        tvlm_engine_free(r->engines[i]);
    tvlm_model_free(r->model);
}

static tvlm_session *new_session(const rig *r, uint32_t n_ctx, uint32_t max_beams)
{
    tvlm_session_params s;
    tvlm_session *session;
    tvlm_session_params_init(&s, sizeof s);
    s.n_ctx = n_ctx;
    s.max_beams = max_beams;
    OK(tvlm_session_new(r->model, &s, &session, &err));
    return session;
}

/* More logits than tokens; an end that is often the likeliest, else answers would hardly end. */
static rig rig_of(uint64_t seed, float one_weight)
{
    tiny t = {.arch = "qwen2",
              .layers = 2,
              .d = 64,
              .ff = 96,
              .heads = 2,
              .kv_heads = 1,
              .head_dim = 32,
              .ctx = 64,
              .vocab = TINY_TOKENS + 31,
              .theta = 10000,
              .eps = 1e-6f,
              .bias = true,
              .type = TVLM_TYPE_F32,
              .random = seed};
    tiny_decoder(&t);
    for (size_t i = 0; i < t.n_tensors; i++) {
        float *x = (float *)(void *)t.tensors[i].bytes;
        if (strcmp(t.tensors[i].name, "output.weight") != 0) continue;
        for (uint32_t k = 0; k < t.d; k++)
            x[TINY_END * t.d + k] *= 1.8f;
        x[5 * t.d] *= one_weight;
    }
    tiny_write(&t, PATH, NULL);
    tiny_free(&t);
    return open_rig(PATH, "chatml");
}

static rig random_rig(uint64_t seed)
{
    return rig_of(seed, 1);
}

static tvlm_prompt *prompt_of(const rig *r, tvlm_image *image, const int32_t *ids, size_t n)
{
    tvlm_prompt *prompt;
    OK(tvlm_prompt_new(r->model, &prompt, &err));
    if (image) OK(tvlm_prompt_add_image(prompt, image, &err));
    OK(tvlm_prompt_add_ids(prompt, ids, n, &err));
    return prompt;
}

/* ---- the definition ---- */

typedef struct path {
    int32_t ids[MOST];
    size_t n;
    double sum;
} path;

typedef struct question {
    const rig *r;
    tvlm_session *session;
    tvlm_image *image;
    const int32_t *ids;
    size_t n;
} question;

/* Of every id behind the prompt and the path. */
static void log_probabilities(const question *q, const path *h, double *out)
{
    double sum = 0;
    tvlm_prompt *prompt = prompt_of(q->r, q->image, q->ids, q->n);
    OK(tvlm_prompt_add_ids(prompt, h->ids, h->n, &err));
    tvlm_session_reset(q->session);
    OK(tvlm_session_feed(q->r->engines[0], q->session, prompt, NULL, NULL, 0, &err));
    const float *logits = tvlm_session_logits(q->session);
    for (uint32_t i = 0; i < q->r->info.n_vocab; i++)
        sum += exp((double)logits[i]);
    for (uint32_t i = 0; i < q->r->info.n_vocab; i++)
        out[i] = (double)logits[i] - log(sum);
    tvlm_prompt_free(prompt);
}

static bool repeats(const path *h, uint32_t ngram)
{
    for (size_t i = 0; ngram && i + ngram < h->n; i++)
        if (!memcmp(h->ids + i, h->ids + h->n - ngram, ngram * sizeof(int32_t))) return true;
    return false;
}

static bool is_token(const rig *r, int32_t id)
{
    size_t n;
    return tvlm_detokenize(r->model, &id, 1, false, NULL, 0, &n, NULL) == TVLM_OK;
}

static int likelier(const void *a, const void *b)
{
    const path *x = a, *y = b;
    return x->sum > y->sum ? -1 : x->sum < y->sum;
}

static bool is_end(const rig *r, const path *h, const tvlm_generate_params *p)
{
    return !p->ignore_eos && h->ids[h->n - 1] == r->info.eos_id;
}

/* All that may follow one of the paths, the likeliest first. */
static size_t all_extensions(const question *q, const tvlm_generate_params *p, const path *live,
                             size_t n_live, path *out)
{
    size_t n = 0, n_vocab = q->r->info.n_vocab;
    double *lp = malloc(n_vocab * sizeof *lp);
    for (size_t i = 0; i < n_live; i++) {
        log_probabilities(q, &live[i], lp);
        for (int32_t id = 0; (size_t)id < n_vocab; id++) {
            path *next = &out[n];
            *next = live[i];
            next->ids[next->n++] = id;
            next->sum += lp[id];
            bool early = is_end(q->r, next, p) && next->n <= p->min_tokens;
            n += is_token(q->r, id) && !early && !repeats(next, p->sampling.no_repeat_ngram);
        }
    }
    free(lp);
    qsort(out, n, sizeof *out, likelier);
    return n;
}

static void keep_better(path *best, const path *h)
{
    if (!best->n || h->sum / (double)h->n > best->sum / (double)best->n) *best = *h;
}

static path best_path(const question *q, const tvlm_generate_params *p, size_t most)
{
    path best = {.n = 0}, live[WIDEST] = {{.n = 0}};
    path *all = malloc(WIDEST * q->r->info.n_vocab * sizeof *all);
    size_t width = p->beams, n_live = 1, n_ended = 0;
    do {
        size_t n = all_extensions(q, p, live, n_live, all);
        n_live = 0;
        for (size_t i = 0; i < n && n_live < width; i++) {
            bool ends = is_end(q->r, &all[i], p);
            if (!ends) live[n_live++] = all[i];
            if (ends && i < width) keep_better(&best, &all[i]);
            n_ended += ends && i < width;
        }
        if (n_ended >= width && best.sum / (double)best.n >= live[0].sum / (double)live[0].n) break;
    } while (live[0].n < most);
    for (size_t i = 0; i < n_live; i++)
        keep_better(&best, &live[i]);
    free(all);
    return best;
}

/* ---- the engine ---- */

static void assert_path(const tvlm_result *got, const path *want)
{
    assert_int_equal(got->n_ids, want->n);
    assert_memory_equal(got->ids, want->ids, want->n * sizeof *want->ids);
}

static tvlm_result answer(tvlm_engine *engine, tvlm_session *session, const tvlm_prompt *prompt,
                          const tvlm_generate_params *p)
{
    tvlm_result result = {.size = sizeof result};
    OK(tvlm_generate(engine, session, prompt, p, &result, &err));
    return result;
}

static tvlm_generate_params params_of(uint32_t beams, uint32_t max_tokens)
{
    tvlm_generate_params p;
    tvlm_generate_params_init(&p, sizeof p);
    assert_int_equal(p.beams, 0);
    assert_int_equal(p.min_tokens, 1);
    p.beams = beams;
    p.max_tokens = max_tokens;
    return p;
}

/* On any number of threads; ways[finish] counts. */
static void check(const question *q, uint32_t n_ctx, const tvlm_generate_params *p, size_t ways[4])
{
    size_t room = n_ctx - q->n + 1, most = room < p->max_tokens ? room : p->max_tokens;
    path want = best_path(q, p, most);
    tvlm_prompt *prompt = prompt_of(q->r, q->image, q->ids, q->n);
    for (unsigned i = 0; i < ENGINES; i++) {
        tvlm_session *session = new_session(q->r, n_ctx, p->beams);
        tvlm_result got = answer(q->r->engines[i], session, prompt, p);
        assert_path(&got, &want);
        tvlm_finish finish = is_end(q->r, &want, p)    ? TVLM_FINISH_STOP
                             : want.n == p->max_tokens ? TVLM_FINISH_LENGTH
                                                       : TVLM_FINISH_CONTEXT;
        assert_int_equal(got.finish, finish);
        ways[finish] += i == 0;
        if (p->beams > 1) assert_int_equal(tvlm_session_position(session), q->n);
        got = answer(q->r->engines[i], session, prompt, p); /* the session's prompt is unhurt */
        assert_path(&got, &want);
        assert_int_equal(got.n_reused_tokens, q->n - 1);
        tvlm_session_free(session);
    }
    tvlm_prompt_free(prompt);
}

static void answers_are_those_of_the_definition(void **state)
{
    (void)state;
    size_t ways[4] = {0};
    for (uint32_t seed = 0; seed < 240; seed++) {
        static rig r;
        if (seed % 8 == 0) r = random_rig(seed);
        const int32_t ids[] = {(int32_t)(7 * seed % 256), 40, 90, (int32_t)seed, 201};
        question q = {&r, new_session(&r, 64, 1), NULL, ids, 1 + seed % 5};
        tvlm_generate_params p = params_of(1 + seed % WIDEST, seed % 4 ? MOST : 1 + seed % MOST);
        p.min_tokens = seed / 2 % 4;
        p.sampling.no_repeat_ngram = seed / 3 % 4;
        p.ignore_eos = seed % 11 == 6;
        check(&q, seed % 5 ? 64 : 9, &p, ways);
        tvlm_session_free(q.session);
        if (seed % 8 == 7) close_rig(&r);
    }
    print_message("%zu ended, %zu were cut, %zu filled the context\n", ways[0], ways[1], ways[2]);
    assert_true(ways[0] > 40 && ways[1] > 40 && ways[2] > 4);
}

/* A model that looks at an image by cross-attention. */
static void hypotheses_see_the_image(void **state)
{
    (void)state;
    static const char *const texts[] = {"What is this?", "A picture of", "The man and the"};
    static uint8_t data[40 * 40 * 3];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i / 97);
    tvlm_pixels pixels = {data, 40, 40, 3, 0};
    size_t ways[4] = {0};
    int32_t ids[32];
    rig r = open_rig(TINYVLM, NULL);
    question q = {&r, new_session(&r, 64, 1), NULL, ids, 0};
    OK(tvlm_image_encode(r.engines[1], &pixels, NULL, &q.image, &err));
    for (size_t i = 0; i < 3; i++) {
        OK(tvlm_tokenize(r.model, texts[i], strlen(texts[i]), false, ids, 32, &q.n, &err));
        tvlm_generate_params p = params_of(4, 8);
        check(&q, 64, &p, ways);
    }
    tvlm_image_free(q.image);
    tvlm_session_free(q.session);
    close_rig(&r);
}

/* ---- what goes with it ---- */

static const int32_t some_ids[] = {3, 40, 90, 17, 201};

typedef struct heard {
    size_t calls, len;
    char text[256];
} heard;

static bool hear(void *user, const char *text, size_t len)
{
    heard *h = user;
    assert_true(h->len + len <= sizeof h->text);
    memcpy(h->text + h->len, text, len);
    h->len += len;
    h->calls++;
    return true;
}

/* A stop string cuts what was found; token by token it is the same. */
static void stop_strings_cut_the_answer(void **state)
{
    (void)state;
    rig r = random_rig(5);
    tvlm_session *session = new_session(&r, 64, 4);
    tvlm_prompt *prompt = prompt_of(&r, NULL, some_ids, 5);
    tvlm_generate_params p = params_of(4, MOST);
    p.ignore_eos = true;
    heard all = {.len = 0}, cut = {.len = 0};
    p.on_text = hear;
    p.user = &all;
    tvlm_result whole = answer(r.engines[1], session, prompt, &p);
    assert_int_equal(whole.n_ids, MOST);
    assert_int_equal(whole.text_len, all.len);
    size_t at = all.len / 2;
    while (((unsigned char)all.text[at] & 0xc0) == 0x80)
        at++;
    char stop[8] = {0};
    memcpy(stop, all.text + at, 1);
    for (size_t i = 1; ((unsigned char)all.text[at + i] & 0xc0) == 0x80; i++)
        stop[i] = all.text[at + i];
    const char *stops[] = {stop};
    p.stop = stops;
    p.n_stop = 1;
    p.user = &cut;
    tvlm_result shorter = answer(r.engines[1], session, prompt, &p);
    assert_int_equal(shorter.finish, TVLM_FINISH_STOP);
    assert_in_range(cut.len, 0, at);
    assert_memory_equal(cut.text, all.text, cut.len);
    assert_memory_equal(all.text + cut.len, stop, strlen(stop));

    tvlm_generation *g;
    tvlm_event e = {.size = sizeof e};
    OK(tvlm_generation_start(r.engines[1], session, prompt, &p, &g, &err));
    size_t n = shorter.n_ids, len = 0;
    int32_t ids[MOST];
    memcpy(ids, shorter.ids, n * sizeof *ids);
    for (size_t i = 0; i < n; i++, len += e.text_len) {
        OK(tvlm_generation_next(g, &e, &err));
        assert_int_equal(e.id, ids[i]);
        assert_memory_equal(e.text, cut.text + len, e.text_len);
    }
    assert_true(e.is_last && len == cut.len);
    tvlm_generation_free(g);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    close_rig(&r);
}

/* Answers by beams and greedy ones, run by one batcher, are those of running alone. */
static void answers_in_company(void **state)
{
    (void)state;
    enum { N = 5 };
    static const uint32_t widths[N] = {8, 1, 3, 8, 2};
    rig r = random_rig(9);
    tvlm_batcher *batcher;
    tvlm_session *sessions[N];
    tvlm_generation *g[N], *of;
    tvlm_prompt *prompts[N];
    path want[N];
    tvlm_event e = {.size = sizeof e};
    OK(tvlm_batcher_new(r.engines[2], NULL, &batcher, &err));
    for (size_t i = 0; i < N; i++) {
        tvlm_generate_params p = params_of(widths[i], MOST);
        sessions[i] = new_session(&r, 64, widths[i]);
        prompts[i] = prompt_of(&r, NULL, some_ids + i, 1);
        tvlm_result alone = answer(r.engines[0], sessions[i], prompts[i], &p);
        want[i].n = alone.n_ids;
        memcpy(want[i].ids, alone.ids, alone.n_ids * sizeof *alone.ids);
        p.batcher = batcher; /* a call of its own */
        tvlm_result call = answer(r.engines[2], sessions[i], prompts[i], &p);
        assert_path(&call, &want[i]);
        p.batcher = NULL;
        OK(tvlm_generation_start(r.engines[2], sessions[i], prompts[i], &p, &g[i], &err));
        OK(tvlm_batcher_submit(batcher, g[i], &err));
    }
    while (tvlm_batcher_pending(batcher))
        OK(tvlm_batcher_step(batcher, &of, &e, &err));
    for (size_t i = 0; i < N; i++) {
        tvlm_result result = {.size = sizeof result};
        OK(tvlm_generation_get_result(g[i], &result, &err));
        assert_path(&result, &want[i]);
        tvlm_generation_free(g[i]);
        tvlm_prompt_free(prompts[i]);
        tvlm_session_free(sessions[i]);
    }
    tvlm_batcher_free(batcher);
    close_rig(&r);
}

static bool count_down(void *user)
{
    int *left = user;
    return (*left)-- <= 0;
}

/* What the session says that it has read, it has: the next id's logits are those of a new one. */
static void assert_whole(const rig *r, tvlm_session *session, tvlm_session *fresh)
{
    int32_t ids[64];
    size_t n = tvlm_session_position(session);
    for (size_t i = 0; i < n; i++)
        ids[i] = session->history[i].id;
    ids[n++] = 65;
    tvlm_prompt *prompt = prompt_of(r, NULL, ids, n);
    tvlm_session_reset(fresh);
    OK(tvlm_session_feed(r->engines[0], fresh, prompt, NULL, NULL, 0, &err));
    OK(tvlm_session_feed(r->engines[0], session, prompt, NULL, NULL, 0, &err));
    assert_memory_equal(tvlm_session_logits(session), tvlm_session_logits(fresh),
                        r->info.n_vocab * sizeof(float));
    tvlm_prompt_free(prompt);
}

/* Wherever it stops, there is no answer, and the session goes on as it was left. */
static void cancelled_anywhere(void **state)
{
    (void)state;
    rig r = random_rig(11);
    tvlm_session *session = new_session(&r, 64, 4), *fresh = new_session(&r, 64, 1);
    tvlm_prompt *prompt = prompt_of(&r, NULL, some_ids, 4);
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_generate_params p = params_of(4, MOST), plain = params_of(1, MOST);
    tvlm_result want = answer(r.engines[0], fresh, prompt, &plain),
                result = {.size = sizeof result};
    int left, cancelled = 0;
    tvlm_cancel_set_poll(cancel, count_down, &left);
    p.cancel = cancel;
    p.ignore_eos = true;
    for (int polls = 0;; polls += 1 + polls / 4) {
        left = polls;
        tvlm_status status = tvlm_generate(r.engines[0], session, prompt, &p, &result, &err);
        if (!status) break;
        assert_int_equal(status, TVLM_ERR_CANCELLED);
        cancelled += !result.n_ids && tvlm_session_position(session) > 4;
        assert_whole(&r, session, fresh);
        tvlm_result next = answer(r.engines[0], session, prompt, &plain);
        assert_int_equal(next.n_ids, want.n_ids);
        assert_memory_equal(next.ids, want.ids, want.n_ids * sizeof *want.ids);
    }
    assert_true(cancelled > 3); /* within the search */
    tvlm_cancel_free(cancel);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    tvlm_session_free(fresh);
    close_rig(&r);
}

static void memory_is_counted(void **state)
{
    (void)state;
    rig r = random_rig(1);
    tvlm_session *session;
    tvlm_session_params s;
    tvlm_memory one = {.size = sizeof one}, five = {.size = sizeof five};
    tvlm_session_params_init(&s, sizeof s);
    assert_int_equal(s.max_beams, 0);
    OK(tvlm_memory_estimate(r.model, NULL, &s, &one, &err));
    s.max_beams = 5;
    OK(tvlm_memory_estimate(r.model, NULL, &s, &five, &err));
    assert_int_equal(five.kv_bytes, 5 * one.kv_bytes);
    assert_true(five.session_bytes >= one.session_bytes + 4 * one.kv_bytes);
    s.max_memory = (size_t)five.session_bytes - 1;
    IS(LIMIT, tvlm_session_new(r.model, &s, &session, &err));
    s.max_memory++;
    OK(tvlm_session_new(r.model, &s, &session, &err));
    tvlm_session_free(session);
    s.max_beams = TVLM_MAX_BEAMS + 1;
    IS(ARGUMENT, tvlm_session_new(r.model, &s, &session, &err));
    SAYS("max_beams is 9");
    close_rig(&r);
}

static void refuse(rig *r, tvlm_session *session, const tvlm_generate_params *p, const char *says)
{
    tvlm_prompt *prompt = prompt_of(r, NULL, some_ids, 2);
    IS(ARGUMENT, tvlm_generate(r->engines[0], session, prompt, p, NULL, &err));
    SAYS(says);
    tvlm_prompt_free(prompt);
}

static void what_beams_refuse(void **state)
{
    (void)state;
    rig r = random_rig(2);
    tvlm_session *session = new_session(&r, 64, 3);
    tvlm_generate_params p = params_of(TVLM_MAX_BEAMS + 1, 4), few = params_of(3, 4);
    refuse(&r, session, &p, "beams is 9, at most 8");
    p.beams = 4;
    refuse(&r, session, &p, "beams is 4, the session's max_beams 3");
    p = few;
    p.sampling.temperature = 0.5f;
    refuse(&r, session, &p, "beams is 3: beam search goes without sampling.temperature");
    p = few;
    p.sampling.repeat_penalty = 1.1f;
    refuse(&r, session, &p, "sampling.repeat_penalty");
    p = few;
    p.lookup = true;
    refuse(&r, session, &p, "lookup");
    p = few;
    p.logprobs = true;
    refuse(&r, session, &p, "logprobs");
    p = few;
    p.resume = true;
    refuse(&r, session, &p, "resume");
    tvlm_engine_params e;
    tvlm_engine_params_init(&e, sizeof e);
    e.max_batch_tokens = 2;
    tvlm_engine_free(r.engines[0]);
    OK(tvlm_engine_new(r.model, &e, &r.engines[0], &err));
    refuse(&r, session, &few, "beams is 3, the engine's max_batch_tokens 2");
    tvlm_session_free(session);
    close_rig(&r);
}

static void damaged_weights_are_told(void **state)
{
    (void)state;
    rig r = rig_of(4, NAN);
    tvlm_session *session = new_session(&r, 64, 3);
    tvlm_prompt *prompt = prompt_of(&r, NULL, some_ids, 2);
    tvlm_generate_params p = params_of(3, MOST);
    IS(FORMAT, tvlm_generate(r.engines[0], session, prompt, &p, NULL, &err));
    SAYS("weights are damaged");
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    close_rig(&r);
}

/* ---- the model's own choice ---- */

static tvlm_prompt *asked(const rig *r, const char *text, tvlm_image *image)
{
    tvlm_prompt *prompt;
    tvlm_message m = {TVLM_ROLE_USER, text, strlen(text), &image, image != NULL, NULL};
    OK(tvlm_prompt_new(r->model, &prompt, &err));
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    return prompt;
}

typedef struct ids {
    int32_t id[MOST];
    size_t n;
} ids;

static ids said(const rig *r, tvlm_session *session, const tvlm_prompt *prompt,
                const tvlm_generate_params *p)
{
    ids out = {{0}, 0};
    tvlm_result result = answer(r->engines[0], session, prompt, p);
    memcpy(out.id, result.ids, result.n_ids * sizeof *out.id);
    out.n = result.n_ids;
    return out;
}

static ids by(const rig *r, tvlm_session *session, const tvlm_prompt *prompt, uint32_t beams)
{
    tvlm_generate_params p = params_of(beams, MOST);
    return said(r, session, prompt, &p);
}

static bool same(ids a, ids b)
{
    return !memcmp(&a, &b, sizeof a);
}

/* Whether one, two and three beams say three things. */
static bool tells_apart(const rig *r, tvlm_session *session, const tvlm_prompt *prompt)
{
    ids greedy = by(r, session, prompt, 1), two = by(r, session, prompt, 2);
    ids three = by(r, session, prompt, 3);
    return !same(greedy, two) && !same(greedy, three) && !same(two, three);
}

/* Any weights find one. */
static tvlm_image *telling_image(const rig *r, tvlm_session *session)
{
    static uint8_t data[40 * 40 * 3];
    tvlm_pixels pixels = {data, 40, 40, 3, 0};
    for (size_t seed = 1; seed < 200; seed++) {
        tvlm_image *image;
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(i * i / (7 * seed));
        OK(tvlm_image_encode(r->engines[0], &pixels, NULL, &image, &err));
        tvlm_prompt *prompt = asked(r, r->info.describe_prompt, image);
        bool tells = tells_apart(r, session, prompt);
        tvlm_prompt_free(prompt);
        if (tells) return image;
        tvlm_image_free(image);
    }
    fail_msg("no picture tells beams apart");
    return NULL;
}

static void descriptions_are_by_the_models_beams(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, NULL);
    assert_int_equal(r.info.describe_beams, 3);
    tvlm_session *session = new_session(&r, 64, 0);
    tvlm_image *image = telling_image(&r, session);
    tvlm_prompt *prompt = asked(&r, r.info.describe_prompt, image);
    ids greedy = by(&r, session, prompt, 1), two = by(&r, session, prompt, 2),
        three = by(&r, session, prompt, 3);
    assert_true(same(by(&r, session, prompt, 0), three));
    for (uint32_t most = 1; most < 4; most++) { /* as many as there is room for */
        tvlm_session *small = new_session(&r, 64, most);
        assert_true(same(by(&r, small, prompt, 0), most == 1 ? greedy : most == 2 ? two : three));
        tvlm_session_free(small);
    }
    tvlm_engine_params e;
    tvlm_engine_params_init(&e, sizeof e);
    e.max_batch_tokens = 2;
    tvlm_engine_free(r.engines[0]);
    OK(tvlm_engine_new(r.model, &e, &r.engines[0], &err));
    assert_true(same(by(&r, session, prompt, 0), two));
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    tvlm_image_free(image);
    close_rig(&r);
}

/* What a search cannot do is done without one; guesses, which change no answer, are left out. */
static void descriptions_do_as_they_are_told(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, NULL);
    tvlm_session *session = new_session(&r, 64, 0);
    tvlm_image *image = telling_image(&r, session);
    tvlm_prompt *prompt = asked(&r, r.info.describe_prompt, image);
    ids three = by(&r, session, prompt, 3);
    tvlm_generate_params p = params_of(0, MOST);
    p.lookup = true;
    assert_true(same(said(&r, session, prompt, &p), three));
    tvlm_generate_params ways[3] = {params_of(0, MOST), params_of(0, MOST), params_of(0, MOST)};
    ways[0].sampling.temperature = 1;
    ways[1].sampling.repeat_penalty = 1.5f;
    ways[2].logprobs = true;
    for (size_t i = 0; i < 3; i++) {
        ids own = said(&r, session, prompt, &ways[i]);
        ways[i].beams = 1;
        assert_true(same(own, said(&r, session, prompt, &ways[i])));
    }
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
    tvlm_image_free(image);
    close_rig(&r);
}

/* Another question, none about an image, more behind it: greedy. */
static void all_else_is_greedy(void **state)
{
    (void)state;
    rig r = open_rig(TINYVLM, NULL);
    tvlm_session *session = new_session(&r, 64, 0);
    tvlm_image *image = telling_image(&r, session);
    tvlm_message turns[] = {
        {TVLM_ROLE_USER,      r.info.describe_prompt, strlen(r.info.describe_prompt), &image, 1, NULL},
        {TVLM_ROLE_ASSISTANT, "A",                    1,                              NULL,   0, NULL}
    };
    tvlm_prompt *prompts[] = {
        asked(&r, "Describe the image", image),
        asked(&r, r.info.describe_prompt, NULL),
        asked(&r, r.info.describe_prompt, image),
        asked(&r, r.info.describe_prompt, image),
        asked(&r, "", NULL),
    };
    OK(tvlm_prompt_add_text(prompts[2], " A", 2, false, &err));
    OK(tvlm_prompt_add_ids(prompts[3], (int32_t[]){40}, 1, &err));
    OK(tvlm_prompt_chat(prompts[4], turns, 2, &err));
    size_t n_told = 0;
    for (size_t i = 0; i < 5; i++) {
        ids greedy = by(&r, session, prompts[i], 1);
        n_told += !same(greedy, by(&r, session, prompts[i], 3));
        assert_true(same(greedy, by(&r, session, prompts[i], 0)));
        tvlm_prompt_free(prompts[i]);
    }
    assert_true(n_told > 1);
    tvlm_session_free(session);
    tvlm_image_free(image);
    close_rig(&r);
}

/* ---- greedy answers ---- */

/* Prompts whose likeliest next id is the end. */
static void no_answer_is_empty(void **state)
{
    (void)state;
    rig r = random_rig(3);
    tvlm_session *session = new_session(&r, 64, 1);
    size_t found = 0;
    for (int32_t id = 0; id < 256; id++) {
        tvlm_prompt *prompt = prompt_of(&r, NULL, &id, 1);
        tvlm_generate_params p = params_of(1, MOST);
        p.min_tokens = 0;
        bool empty = answer(r.engines[0], session, prompt, &p).n_ids == 1 &&
                     tvlm_session_logits(session)[TINY_END] > 0;
        p.min_tokens = 3;
        tvlm_result longer = answer(r.engines[0], session, prompt, &p);
        for (size_t i = 0; i < 3; i++)
            assert_int_not_equal(longer.ids[i], TINY_END);
        p.min_tokens = 1;
        assert_int_not_equal(answer(r.engines[0], session, prompt, &p).ids[0], TINY_END);
        p.max_tokens = 1;
        assert_int_not_equal(answer(r.engines[0], session, prompt, &p).ids[0], TINY_END);
        assert_true(isfinite(tvlm_session_logits(session)[TINY_END])); /* as the model has it */
        found += empty;
        tvlm_prompt_free(prompt);
    }
    assert_true(found > 3);
    tvlm_session_free(session);
    close_rig(&r);
}

/* The beginning of an answer may be all of it. */
static void an_answer_that_has_begun_may_end(void **state)
{
    (void)state;
    rig r = random_rig(3);
    tvlm_session *session = new_session(&r, 64, 1);
    tvlm_generate_params p = params_of(1, MOST);
    size_t empty = 0;
    for (char c = 'a'; c <= 'z'; c++) {
        tvlm_prompt *prompt;
        tvlm_message messages[] = {
            {TVLM_ROLE_USER,      "?", 1, NULL, 0, NULL},
            {TVLM_ROLE_ASSISTANT, &c,  1, NULL, 0, NULL}
        };
        OK(tvlm_prompt_new(r.model, &prompt, &err));
        OK(tvlm_prompt_chat(prompt, messages, 2, &err));
        empty += answer(r.engines[0], session, prompt, &p).ids[0] == TINY_END;
        tvlm_prompt_free(prompt);
    }
    assert_true(empty > 0);
    tvlm_session_free(session);
    close_rig(&r);
}

static bool has_repeat(const tvlm_result *result, size_t ngram)
{
    for (size_t i = 0; i + ngram <= result->n_ids; i++)
        for (size_t k = 0; k < i; k++)
            if (!memcmp(result->ids + i, result->ids + k, ngram * sizeof(int32_t))) return true;
    return false;
}

static void no_sequence_comes_twice(void **state)
{
    (void)state;
    size_t repeated[4] = {0};
    for (uint64_t seed = 0; seed < 6; seed++) {
        rig r = random_rig(seed);
        tvlm_session *session = new_session(&r, 64, 1);
        tvlm_prompt *prompt = prompt_of(&r, NULL, some_ids, 3);
        for (uint32_t ngram = 1; ngram < 4; ngram++) {
            tvlm_generate_params p = params_of(1, 60);
            p.ignore_eos = true;
            tvlm_result free_one = answer(r.engines[0], session, prompt, &p);
            repeated[ngram] += has_repeat(&free_one, ngram);
            p.sampling.no_repeat_ngram = ngram;
            tvlm_result result = answer(r.engines[0], session, prompt, &p);
            assert_int_equal(result.n_ids, 60);
            assert_false(has_repeat(&result, ngram));
        }
        tvlm_prompt_free(prompt);
        tvlm_session_free(session);
        close_rig(&r);
    }
    assert_true(repeated[1] && repeated[2] && repeated[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_the_definition),
        cmocka_unit_test(hypotheses_see_the_image),
        cmocka_unit_test(stop_strings_cut_the_answer),
        cmocka_unit_test(answers_in_company),
        cmocka_unit_test(cancelled_anywhere),
        cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(what_beams_refuse),
        cmocka_unit_test(damaged_weights_are_told),
        cmocka_unit_test(descriptions_are_by_the_models_beams),
        cmocka_unit_test(descriptions_do_as_they_are_told),
        cmocka_unit_test(all_else_is_greedy),
        cmocka_unit_test(no_answer_is_empty),
        cmocka_unit_test(an_answer_that_has_begun_may_end),
        cmocka_unit_test(no_sequence_comes_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
