/* SPDX-License-Identifier: MIT
 * Sessions: several on one engine at once, cancelled in every stage, while weights still arrive;
 * one picture asked twice; arguments that are refused. */
#include "base/base.h"
#include "convert/convert.h"
#include "quant/quant.h"
#include "tensors.h"
#include "tinyvlm.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <cmocka.h>

#include "check.h"

#define GOLDEN TVLM_TEST_DATA "/golden/"
#define PATH   TVLM_BUILD_DIR "/session-tiny.gguf"

enum { LONG = 230, ANSWER = 8 };

static tvlm_error err;
static tvlm_model *model;
static tvlm_engine *engine;
static tvlm_image *image;
static atomic_uint encoded;

static uint8_t picture_data[90 * 70 * 3]; /* written by setup, then shared by threads */

static tvlm_pixels photo(void)
{
    return (tvlm_pixels){picture_data, 90, 70, 3, 0};
}

static tvlm_status encode(const tvlm_cancel *cancel, tvlm_image **out)
{
    tvlm_pixels pixels = photo();
    tvlm_encode_params p;
    tvlm_encode_params_init(&p, sizeof p);
    p.cancel = cancel;
    return tvlm_image_encode(engine, &pixels, &p, out, &err);
}

static tvlm_prompt *ask(const char *question)
{
    tvlm_prompt *prompt;
    tvlm_message m = {TVLM_ROLE_USER, question, strlen(question), &image, 1, NULL};
    OK(tvlm_prompt_new(model, &prompt, &err));
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    return prompt;
}

static tvlm_session *session_of(uint32_t n_ctx)
{
    tvlm_session *session;
    tvlm_session_params s;
    tvlm_session_params_init(&s, sizeof s);
    s.n_ctx = n_ctx;
    OK(tvlm_session_new(model, &s, &session, &err));
    return session;
}

static tvlm_session *new_session(void)
{
    return session_of(256);
}

static void count_images(void *user, const char *line)
{
    (void)user;
    if (!strncmp(line, "image:", 6)) atomic_fetch_add(&encoded, 1);
}

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof picture_data; i++)
        picture_data[i] = (uint8_t)(i / 270 * 3 + i % 270);
    tvlmc_convert_params c;
    tvlmc_convert_params_init(&c);
    c.type = TVLM_TYPE_F32;
    OK(tvlmc_convert(GOLDEN "tiny", PATH, &c, &err));
    OK(tvlm_model_open(PATH, NULL, &model, &err));
    tvlm_engine_params e;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 2;
    e.on_log = count_images;
    OK(tvlm_engine_new(model, &e, &engine, &err));
    OK(encode(NULL, &image));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tvlm_image_free(image);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
    return 0;
}

/* ---- several at once ---- */

typedef struct talk {
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_batcher *batcher;
    const tvlm_cancel *cancel;
    int32_t ids[3][ANSWER];
    tvlm_status status;
} talk;

static void *converse(void *user)
{
    talk *t = user;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = ANSWER;
    p.ignore_eos = true;
    p.batcher = t->batcher;
    p.cancel = t->cancel;
    for (int i = 0; i < 3 && !t->status; i++) {
        p.sampling =
            (tvlm_sampling){.temperature = (float)i, .seed = 5, .top_p = 1, .repeat_penalty = 1};
        t->status = tvlm_generate(engine, t->session, t->prompt, &p, &result, NULL);
        if (!t->status) memcpy(t->ids[i], result.ids, sizeof t->ids[i]);
    }
    return NULL;
}

/* Three threads, two of them sharing passes, against each by itself. */
static void threads_do_not_meet(void **state)
{
    (void)state;
    static const char *const questions[3] = {"One?", "Two two?", "Three three three?"};
    tvlm_batcher *batcher;
    OK(tvlm_batcher_new(engine, NULL, &batcher, &err));
    talk alone[3], together[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        alone[i] = (talk){.session = new_session(), .prompt = ask(questions[i])};
        converse(&alone[i]);
        assert_int_equal(alone[i].status, TVLM_OK);
        tvlm_session_reset(alone[i].session);
        together[i] = (talk){
            .session = alone[i].session, .prompt = alone[i].prompt, .batcher = i ? batcher : NULL};
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, converse, &together[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(together[i].status, TVLM_OK);
        assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
        tvlm_session_free(alone[i].session);
        tvlm_prompt_free(alone[i].prompt);
    }
    tvlm_batcher_free(batcher);
}

/* Threads that encode, ask and let go of pictures of their own. */
static void *look(void *user)
{
    talk *t = user;
    tvlm_image *own;
    tvlm_error error;
    tvlm_pixels pixels = photo();
    for (int i = 0; i < 4 && !t->status; i++) {
        t->status = tvlm_image_encode(engine, &pixels, NULL, &own, &error);
        if (t->status) break;
        tvlm_prompt *prompt;
        t->status = tvlm_prompt_new(model, &prompt, &error);
        if (t->status) break;
        tvlm_message m = {TVLM_ROLE_USER, "A?", 2, &own, 1, NULL};
        t->status = tvlm_prompt_chat(prompt, &m, 1, &error);
        tvlm_image_free(own); /* the prompt holds it */
        if (!t->status)
            t->status = tvlm_session_feed(engine, t->session, prompt, NULL, NULL, 0, &error);
        tvlm_prompt_free(prompt);
    }
    return NULL;
}

static void pictures_on_threads(void **state)
{
    (void)state;
    talk talks[2] = {{.session = new_session()}, {.session = new_session()}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look, &talks[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(talks[i].status, TVLM_OK);
        tvlm_session_free(talks[i].session);
    }
}

static void asking_again_does_not_look_again(void **state)
{
    (void)state;
    unsigned before = atomic_load(&encoded);
    tvlm_image *own;
    OK(encode(NULL, &own));
    tvlm_image_free(own);
    assert_int_equal(atomic_load(&encoded), before + 1); /* the log tells */
    talk t = {.session = new_session()};
    for (int i = 0; i < 3; i++) {
        t.prompt = ask(i % 2 ? "One?" : "Two?");
        converse(&t);
        assert_int_equal(t.status, TVLM_OK);
        tvlm_prompt_free(t.prompt);
    }
    assert_int_equal(atomic_load(&encoded), before + 1);
    tvlm_session_free(t.session);
}

/* ---- cancel ---- */

static void *request(void *cancel)
{
    tvlm_cancel_request(cancel);
    return NULL;
}

static void cancel_while_encoding(void **state)
{
    (void)state;
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_image *own = NULL;
    pthread_t thread;
    size_t n, dim;
    assert_int_equal(pthread_create(&thread, NULL, request, cancel), 0);
    while (encode(cancel, &own) == TVLM_OK) /* until the request comes, wherever it meets this */
        tvlm_image_free(own);
    IS(CANCELLED, encode(cancel, &own));
    assert_null(own);
    pthread_join(thread, NULL);
    tvlm_cancel_reset(cancel);
    OK(encode(cancel, &own));
    const float *want = tvlm_image_tokens(image, &n, &dim);
    assert_memory_equal(tvlm_image_tokens(own, &n, &dim), want, n * dim * sizeof *want);
    tvlm_image_free(own);
    tvlm_cancel_free(cancel);
}

static void cancel_of_preprocessing(void **state)
{
    (void)state;
    tvlm_model_info info = {.size = sizeof info};
    tvlm_encode_params p;
    tvlm_pixels pixels = photo();
    OK(tvlm_model_get_info(model, &info, &err));
    size_t n = (size_t)info.image_size * info.image_size * 3;
    float *out = calloc(n, sizeof *out);
    tvlm_encode_params_init(&p, sizeof p);
    p.cancel = tvlm_cancel_new();
    tvlm_cancel_request((tvlm_cancel *)(uintptr_t)p.cancel);
    IS(CANCELLED, tvlm_preprocess(model, &pixels, &p, out, n, &err));
    tvlm_cancel_reset((tvlm_cancel *)(uintptr_t)p.cancel);
    OK(tvlm_preprocess(model, &pixels, &p, out, n, &err));
    tvlm_cancel_free((tvlm_cancel *)(uintptr_t)p.cancel);
    free(out);
}

static void cancel_while_reading_the_prompt(void **state)
{
    (void)state;
    static int32_t ids[LONG];
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_session *session = new_session();
    tvlm_prompt *prompt;
    pthread_t thread;
    tvlm_model_info info = {.size = sizeof info};
    OK(tvlm_model_get_info(model, &info, &err));
    for (int i = 0; i < LONG; i++)
        ids[i] = i * 7 % 500;
    OK(tvlm_prompt_new(model, &prompt, &err));
    OK(tvlm_prompt_add_ids(prompt, ids, LONG, &err));
    assert_int_equal(pthread_create(&thread, NULL, request, cancel), 0);
    tvlm_status status = TVLM_OK;
    while (!status) {
        tvlm_session_reset(session);
        status = tvlm_session_feed(engine, session, prompt, cancel, NULL, 0, &err);
    }
    assert_int_equal(status, TVLM_ERR_CANCELLED);
    pthread_join(thread, NULL);
    tvlm_cancel_reset(cancel);

    /* the session goes on where it was, and as if nothing had happened */
    float *want = malloc(info.n_vocab * sizeof *want), *got = malloc(info.n_vocab * sizeof *got);
    tvlm_session *fresh = new_session();
    tvlm_input row = {session, 1, NULL, true};
    OK(tvlm_session_feed(engine, session, prompt, cancel, NULL, 0, &err));
    assert_int_equal(tvlm_session_position(session), LONG);
    OK(tvlm_forward(engine, &row, 1, cancel, got, info.n_vocab, &err));
    OK(tvlm_session_feed(engine, fresh, prompt, NULL, NULL, 0, &err));
    assert_memory_equal(tvlm_session_logits(session), tvlm_session_logits(fresh),
                        info.n_vocab * sizeof *want);
    row.session = fresh;
    OK(tvlm_forward(engine, &row, 1, NULL, want, info.n_vocab, &err));
    assert_memory_equal(got, want, info.n_vocab * sizeof *want);
    free(want);
    free(got);
    tvlm_session_free(session);
    tvlm_session_free(fresh);
    tvlm_prompt_free(prompt);
    tvlm_cancel_free(cancel);
}

typedef struct interrupter {
    tvlm_cancel *cancel;
    unsigned heard;
} interrupter;

static bool cancel_at_the_third(void *user, const char *text, size_t len)
{
    interrupter *i = user;
    pthread_t thread;
    (void)text;
    (void)len;
    if (++i->heard == 3) {
        assert_int_equal(pthread_create(&thread, NULL, request, i->cancel), 0);
        pthread_join(thread, NULL);
    }
    return true;
}

static bool is_patience_over(void *user)
{
    return atomic_fetch_sub((atomic_int *)user, 1) <= 0;
}

/* One of three calls that share passes is cancelled, a few tiles later each time: the others
 * neither fail nor answer otherwise. */
static void cancel_in_company(void **state)
{
    (void)state;
    static const char *const questions[3] = {"One?", "Two two?", "Three three three?"};
    tvlm_cancel *cancel = tvlm_cancel_new();
    atomic_int patience;
    tvlm_batcher *batcher;
    OK(tvlm_batcher_new(engine, NULL, &batcher, &err));
    talk alone[3];
    for (int i = 0; i < 3; i++) {
        alone[i] = (talk){.session = new_session(), .prompt = ask(questions[i])};
        converse(&alone[i]);
        assert_int_equal(alone[i].status, TVLM_OK);
    }
    tvlm_cancel_set_poll(cancel, is_patience_over, &patience);
    for (int round = 0; round < 24; round++) {
        atomic_store(&patience, 4 * round * round);
        talk together[3];
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) {
            tvlm_session_reset(alone[i].session);
            together[i] = (talk){.session = alone[i].session,
                                 .prompt = alone[i].prompt,
                                 .batcher = batcher,
                                 .cancel = i ? NULL : cancel};
            assert_int_equal(pthread_create(&threads[i], NULL, converse, &together[i]), 0);
        }
        for (int i = 0; i < 3; i++)
            pthread_join(threads[i], NULL);
        for (int i = 1; i < 3; i++) {
            assert_int_equal(together[i].status, TVLM_OK);
            assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
        }
        assert_int_equal(together[0].status, TVLM_ERR_CANCELLED);
    }
    for (int i = 0; i < 3; i++) {
        tvlm_session_free(alone[i].session);
        tvlm_prompt_free(alone[i].prompt);
    }
    tvlm_batcher_free(batcher);
    tvlm_cancel_free(cancel);
}

/* A slow call keeps the batch's leader waiting for company: the leader's own cancel is seen at
 * once, not when the wait is over. */
typedef struct meeting {
    atomic_bool asleep, awake;
} meeting;

static bool sleep_until_woken(void *user, const char *text, size_t len)
{
    meeting *m = user;
    (void)text;
    (void)len;
    atomic_store(&m->asleep, true);
    while (!atomic_load(&m->awake))
        sched_yield();
    return false;
}

typedef struct sleeper {
    meeting meeting;
    talk talk;
} sleeper;

static void *sleep_in_company(void *user)
{
    sleeper *s = user;
    tvlm_generate_params p;
    tvlm_generate_params_init(&p, sizeof p);
    p.ignore_eos = true;
    p.batcher = s->talk.batcher;
    p.on_text = sleep_until_woken;
    p.user = &s->meeting;
    s->talk.status = tvlm_generate(engine, s->talk.session, s->talk.prompt, &p, NULL, NULL);
    return NULL;
}

static void cancel_of_the_leader(void **state)
{
    (void)state;
    tvlm_batcher_params b;
    tvlm_batcher *batcher;
    tvlm_cancel *cancel = tvlm_cancel_new();
    pthread_t slow, leader;
    tvlm_batcher_params_init(&b, sizeof b);
    b.timeout_ms = UINT32_MAX; /* the test would not end before */
    OK(tvlm_batcher_new(engine, &b, &batcher, &err));
    sleeper s = {
        .talk = {.session = new_session(), .prompt = ask("One?"), .batcher = batcher}
    };
    talk t = {
        .session = new_session(), .prompt = ask("Two?"), .batcher = batcher, .cancel = cancel};
    assert_int_equal(pthread_create(&slow, NULL, sleep_in_company, &s), 0);
    while (!atomic_load(&s.meeting.asleep))
        sched_yield();
    assert_int_equal(pthread_create(&leader, NULL, converse, &t), 0);
    tvlm_cancel_request(cancel); /* before, while or after it begins to wait */
    pthread_join(leader, NULL);
    assert_int_equal(t.status, TVLM_ERR_CANCELLED);
    atomic_store(&s.meeting.awake, true);
    pthread_join(slow, NULL);
    assert_int_equal(s.talk.status, TVLM_OK);
    tvlm_session_free(s.talk.session);
    tvlm_prompt_free(s.talk.prompt);
    tvlm_session_free(t.session);
    tvlm_prompt_free(t.prompt);
    tvlm_batcher_free(batcher);
    tvlm_cancel_free(cancel);
}

/* A pass that is full is not waited for, whoever else may come. */
static void a_full_pass_runs_at_once(void **state)
{
    (void)state;
    tvlm_batcher_params b;
    tvlm_batcher *batcher;
    tvlm_batcher_params_init(&b, sizeof b);
    b.max_batch_size = 1;
    b.timeout_ms = UINT32_MAX; /* the test would not end before */
    OK(tvlm_batcher_new(engine, &b, &batcher, &err));
    sleeper s = {
        .talk = {.session = new_session(), .prompt = ask("One?"), .batcher = batcher}
    };
    talk t = {.session = new_session(), .prompt = ask("Two?"), .batcher = batcher};
    pthread_t slow;
    assert_int_equal(pthread_create(&slow, NULL, sleep_in_company, &s), 0);
    while (!atomic_load(&s.meeting.asleep))
        sched_yield();
    converse(&t);
    assert_int_equal(t.status, TVLM_OK);
    assert_false(atomic_load(&s.meeting.awake));
    atomic_store(&s.meeting.awake, true);
    pthread_join(slow, NULL);
    assert_int_equal(s.talk.status, TVLM_OK);
    tvlm_session_free(s.talk.session);
    tvlm_prompt_free(s.talk.prompt);
    tvlm_session_free(t.session);
    tvlm_prompt_free(t.prompt);
    tvlm_batcher_free(batcher);
}

static void cancel_while_answering(void **state)
{
    (void)state;
    interrupter i = {tvlm_cancel_new(), 0};
    talk t = {.session = new_session(), .prompt = ask("One?")}, again = t;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 200;
    p.ignore_eos = true;
    p.on_text = cancel_at_the_third;
    p.user = &i;
    p.cancel = i.cancel;
    IS(CANCELLED, tvlm_generate(engine, t.session, t.prompt, &p, &result, &err));
    assert_int_equal(i.heard, 3); /* not a token more */
    assert_true(result.n_ids >= 3 && result.n_ids < 200);
    assert_true(result.text_len > 0 && tvlm_utf8_valid(result.text, result.text_len));
    tvlm_cancel_free(i.cancel);
    converse(&again); /* the same session */
    t.session = new_session();
    converse(&t);
    assert_int_equal(again.status, TVLM_OK);
    assert_memory_equal(again.ids, t.ids, sizeof t.ids);
    tvlm_session_free(again.session);
    tvlm_session_free(t.session);
    tvlm_prompt_free(t.prompt);
}

/* ---- text ---- */

typedef struct heard {
    char text[4096];
    size_t len;
} heard;

static bool hear(void *user, const char *text, size_t len)
{
    heard *h = user;
    assert_true(len > 0 && tvlm_utf8_valid(text, len));
    assert_true(h->len + len <= sizeof h->text);
    memcpy(h->text + h->len, text, len);
    h->len += len;
    return true;
}

/* The answer as Python's decode("utf-8", "replace") would read the tokens' bytes. */
static size_t reference_text(const tvlm_result *r, char *out)
{
    char raw[4096];
    size_t n;
    tvlm_utf8_stream s = {0};
    OK(tvlm_detokenize(model, r->ids, r->n_ids, true, raw, sizeof raw, &n, &err));
    assert_true(n < sizeof raw / 3);
    n = tvlm_utf8_feed(&s, raw, n, out);
    return n + (r->finish == TVLM_FINISH_STOP ? tvlm_utf8_end(&s, out + n) : 0);
}

/* A hot random model makes any bytes: characters in halves, halves without a whole. */
static void answers_are_utf8(void **state)
{
    (void)state;
    tvlm_session *session = new_session();
    tvlm_prompt *prompt = ask("Hm?");
    size_t replaced = 0, stopped = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        char want[4096];
        heard h = {.len = 0};
        tvlm_result r = {.size = sizeof r};
        tvlm_generate_params p;
        tvlm_generate_params_init(&p, sizeof p);
        p.max_tokens = 24;
        p.sampling =
            (tvlm_sampling){.temperature = 3, .seed = seed, .top_p = 1, .repeat_penalty = 1};
        p.on_text = hear;
        p.user = &h;
        OK(tvlm_generate(engine, session, prompt, &p, &r, &err));
        assert_int_equal(r.text_len, reference_text(&r, want));
        assert_memory_equal(r.text, want, r.text_len);
        assert_int_equal(h.len, r.text_len);
        assert_memory_equal(h.text, r.text, r.text_len);
        want[r.text_len] = '\0';
        replaced += strstr(want, "\xEF\xBF\xBD") != NULL;
        /* and ends before a stop string, wherever that lies in it */
        if (r.text_len < 6 || strlen(want) != r.text_len) continue;
        char stop[8] = "";
        size_t at = r.text_len / 2, n = 0;
        while (((unsigned char)want[at] & 0xC0) == 0x80)
            at++;
        while (want[at + n] && (n < 2 || ((unsigned char)want[at + n] & 0xC0) == 0x80))
            n++;
        memcpy(stop, want + at, n);
        p.stop = &(const char *){stop};
        p.n_stop = 1;
        h.len = 0;
        OK(tvlm_generate(engine, session, prompt, &p, &r, &err));
        assert_int_equal(r.text_len, strstr(want, stop) - want);
        assert_int_equal(h.len, r.text_len);
        assert_memory_equal(h.text, want, h.len);
        stopped++;
    }
    assert_true(replaced > 5 && stopped > 5);
    tvlm_session_free(session);
    tvlm_prompt_free(prompt);
}

/* Four bytes or so out of the middle of the text, whole characters. */
static void choose_stop(const heard *h, char stop[16])
{
    size_t at = h->len / 2, n = 0;
    while (at < h->len && ((unsigned char)h->text[at] & 0xC0) == 0x80)
        at++;
    while (at + n < h->len && (n < 4 || ((unsigned char)h->text[at + n] & 0xC0) == 0x80))
        n++;
    memcpy(stop, h->text + at, n);
    stop[n] = '\0';
}

/* Ends after n tokens and says whether the answer did, too: by max_tokens, or because nobody asks
 * for more. The text that is certain is heard. */
static void cut_after(tvlm_session *session, const tvlm_prompt *prompt, tvlm_generate_params p,
                      size_t n, bool abandoned, heard *h)
{
    tvlm_generation *g;
    tvlm_event e = {.size = sizeof e};
    if (!abandoned) p.max_tokens = (uint32_t)n;
    OK(tvlm_generation_start(engine, session, prompt, &p, &g, &err));
    for (size_t i = 0; i < n; i++) {
        OK(tvlm_generation_next(g, &e, &err));
        if (e.text_len) hear(h, e.text, e.text_len);
    }
    tvlm_generation_free(g);
}

/* The rest of it, of another session that was saved in between. */
static void resume_after(tvlm_session **session, const int32_t *ids, size_t n,
                         tvlm_generate_params p, heard *h, tvlm_result *r)
{
    static unsigned char saved[1 << 20];
    size_t size, before = h->len;
    tvlm_prompt *prompt = ask("Hm?");
    OK(tvlm_prompt_add_ids(prompt, ids, n, &err));
    OK(tvlm_session_save_memory(*session, saved, sizeof saved, &size, &err));
    tvlm_session_free(*session);
    *session = new_session();
    OK(tvlm_session_load_memory(*session, saved, size, &err));
    p.max_tokens -= (uint32_t)n;
    p.resume = true;
    p.on_text = hear;
    p.user = h;
    OK(tvlm_generate(engine, *session, prompt, &p, r, &err));
    assert_int_equal(r->text_len, h->len - before);
    assert_memory_equal(r->text, h->text + before, r->text_len);
    tvlm_prompt_free(prompt);
}

/* Cut inside a character or a stop string. What max_tokens cuts off is text, of a stop string
 * too. */
static void a_cut_answer_has_the_same_text(void **state)
{
    (void)state;
    tvlm_session *session = new_session();
    tvlm_prompt *prompt = ask("Hm?");
    size_t stopped = 0, inside = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        char stop[16];
        heard want = {.len = 0};
        tvlm_result r = {.size = sizeof r};
        tvlm_generate_params p;
        tvlm_generate_params_init(&p, sizeof p);
        p.max_tokens = 24;
        p.ignore_eos = true;
        p.sampling =
            (tvlm_sampling){.temperature = 3, .seed = seed, .top_p = 1, .repeat_penalty = 1};
        for (int with_stop = 0; with_stop <= 1; with_stop++) {
            if (with_stop) choose_stop(&want, stop);
            want.len = 0;
            p.stop = &(const char *){stop};
            p.n_stop = (size_t)with_stop;
            tvlm_generate_params whole = p;
            whole.on_text = hear;
            whole.user = &want;
            tvlm_session_reset(session);
            OK(tvlm_generate(engine, session, prompt, &whole, &r, &err));
            size_t n_ids = r.n_ids;
            int32_t ids[24];
            memcpy(ids, r.ids, n_ids * sizeof *ids);
            stopped += r.finish == TVLM_FINISH_STOP;
            for (size_t cut = 1; cut < n_ids; cut++) {
                bool abandoned = cut % 2;
                heard got = {.len = 0};
                tvlm_session_reset(session);
                cut_after(session, prompt, p, cut, abandoned, &got);
                resume_after(&session, ids, cut, p, &got, &r);
                assert_int_equal(r.n_ids, n_ids - cut);
                assert_memory_equal(r.ids, ids + cut, r.n_ids * sizeof *ids);
                size_t more = got.len - want.len;
                if (abandoned) assert_int_equal(more, 0);
                assert_true(got.len >= want.len && more < (with_stop ? strlen(stop) : 1));
                assert_memory_equal(got.text, want.text, want.len);
                if (more) assert_memory_equal(got.text + want.len, stop, more);
                inside += more > 0;
            }
        }
    }
    assert_true(stopped >= 4 && inside > 0);
    tvlm_session_free(session);
    tvlm_prompt_free(prompt);
}

static void stop_strings_are_utf8(void **state)
{
    (void)state;
    tvlm_session *session = new_session();
    tvlm_prompt *prompt = ask("Hm?");
    tvlm_generate_params p;
    tvlm_generate_params_init(&p, sizeof p);
    p.stop = (const char *const[]){"fine", "\xA9"};
    p.n_stop = 2;
    IS(ARGUMENT, tvlm_generate(engine, session, prompt, &p, NULL, &err));
    SAYS("stop[1] is not UTF-8");
    tvlm_session_free(session);
    tvlm_prompt_free(prompt);
}

/* ---- speculation ---- */

enum { VOCAB = 576 };

/* All that an answer leaves. */
typedef struct outcome {
    tvlm_status status;
    tvlm_finish finish;
    int32_t ids[256];
    char text[4096], pieces[8192]; /* as streamed, a mark after each */
    size_t n_ids, len, n_pieces, position, drafted, accepted;
    float logits[VOCAB];
    /* after so many pieces: */
    size_t cancel_after, leave_after, heard;
    tvlm_cancel *cancel;
} outcome;

static bool note_piece(void *user, const char *text, size_t len)
{
    outcome *o = user;
    assert_true(o->n_pieces + len < sizeof o->pieces);
    memcpy(o->pieces + o->n_pieces, text, len);
    o->n_pieces += len;
    o->pieces[o->n_pieces++] = '\xFF';
    o->heard++;
    if (o->heard == o->cancel_after) tvlm_cancel_request(o->cancel);
    return o->heard != o->leave_after;
}

static void answer(tvlm_engine *e, tvlm_session *session, const tvlm_prompt *prompt,
                   tvlm_generate_params p, bool lookup, outcome *o)
{
    tvlm_result r = {.size = sizeof r};
    p.lookup = lookup;
    p.on_text = note_piece;
    p.user = o;
    p.cancel = o->cancel;
    o->heard = o->n_pieces = 0;
    if (o->cancel) tvlm_cancel_reset(o->cancel);
    o->status = tvlm_generate(e, session, prompt, &p, &r, NULL);
    o->finish = r.finish;
    o->n_ids = r.n_ids;
    o->len = r.text_len;
    memcpy(o->ids, r.ids, r.n_ids * sizeof *r.ids);
    memcpy(o->text, r.text, r.text_len);
    o->position = tvlm_session_position(session);
    o->drafted = r.n_drafted;
    o->accepted = r.n_accepted;
    memcpy(o->logits, tvlm_session_logits(session), sizeof o->logits);
}

/* logits: of a call that failed they are not told */
static void assert_same(const outcome *a, const outcome *b)
{
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->text, b->text, a->len);
    assert_int_equal(a->n_pieces, b->n_pieces);
    assert_memory_equal(a->pieces, b->pieces, a->n_pieces);
    assert_int_equal(a->position, b->position);
    if (!a->status) assert_memory_equal(a->logits, b->logits, sizeof a->logits);
}

/* Both ways, each in a session of its own that goes on from the answer before. */
typedef struct pair {
    tvlm_engine *engine;
    tvlm_session *plain, *guessing;
    outcome a, b;
    size_t drafted, accepted;
} pair;

static pair new_pair(tvlm_engine *e, uint32_t n_ctx)
{
    return (pair){.engine = e, .plain = session_of(n_ctx), .guessing = session_of(n_ctx)};
}

static void free_pair(pair *p)
{
    tvlm_session_free(p->plain);
    tvlm_session_free(p->guessing);
}

static void compare(pair *t, const tvlm_prompt *prompt, tvlm_generate_params p)
{
    answer(t->engine, t->plain, prompt, p, false, &t->a);
    answer(t->engine, t->guessing, prompt, p, true, &t->b);
    assert_int_equal(t->a.drafted, 0);
    assert_same(&t->a, &t->b);
    t->drafted += t->b.drafted;
    t->accepted += t->b.accepted;
}

/* A random model does not repeat itself unless a penalty below 1 makes it. */
enum { REPEATING, GREEDY };
static const tvlm_sampling ways[] = {
    [REPEATING] = {.repeat_penalty = 0.6f, .repeat_last_n = 8, .top_p = 1},
    [GREEDY] = {.top_p = 1, .repeat_penalty = 1},
    {.temperature = 0.2f, .repeat_penalty = 0.7f, .repeat_last_n = 16, .top_p = 1},
    {.temperature = 0.3f, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 0.5f, .top_k = 5, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 1, .top_p = 0.5f, .min_p = 0.05f, .repeat_penalty = 1.1f, .repeat_last_n = 64},
    {.temperature = 3, .top_p = 1, .repeat_penalty = 1},
};

static tvlm_generate_params params_of(size_t way, uint64_t seed)
{
    tvlm_generate_params p;
    tvlm_generate_params_init(&p, sizeof p);
    p.ignore_eos = seed % 2;
    p.sampling = ways[way];
    p.sampling.seed = seed;
    return p;
}

static void guesses_change_no_answer(void **state)
{
    (void)state;
    static const char *const questions[] = {"One two one two one two one?", "Hm?"};
    pair t = new_pair(engine, 256);
    for (size_t q = 0; q < 2; q++) {
        tvlm_prompt *prompt = ask(questions[q]);
        for (size_t way = 0; way < TVLM_COUNT(ways); way++)
            for (uint64_t seed = 0; seed < 6; seed++) {
                tvlm_generate_params p = params_of(way, seed);
                p.max_tokens = 1 + 13 * (uint32_t)seed;
                compare(&t, prompt, p);
                if (t.a.n_ids < 8) continue;
                /* and with a stop string out of it, that may span tokens */
                char stop[5] = "";
                memcpy(stop, t.a.text + t.a.len / 2, t.a.len < 8 ? 0 : 4);
                if (!*stop || !tvlm_utf8_valid(stop, strlen(stop))) continue;
                p.stop = &(const char *){stop};
                p.n_stop = 1;
                compare(&t, prompt, p);
                assert_int_equal(t.a.finish, TVLM_FINISH_STOP);
            }
        tvlm_prompt_free(prompt);
    }
    assert_true(t.accepted > 100 && t.drafted > t.accepted + 100); /* right and wrong ones */
    free_pair(&t);
}

/* ---- a token at a time ---- */

/* The log of the chance that softmax gives an id. */
static double log_chance(const float *logits, int32_t id)
{
    double sum = 0;
    for (size_t i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i] - (double)logits[id]);
    return -log(sum);
}

static void assert_near(float got, double want)
{
    if (!(fabs((double)got - want) < 1e-5)) fail_msg("%.7f, %.7f is right", (double)got, want);
}

static void check_alternatives(const tvlm_session *session, const tvlm_event *e, size_t n)
{
    const float *logits = tvlm_session_logits(session);
    size_t above = 0;
    assert_int_equal(e->n_alternatives, n);
    assert_near(e->logprob, log_chance(logits, e->id));
    for (size_t i = 0; i < n; i++)
        assert_near(e->alternatives[i].logprob, log_chance(logits, e->alternatives[i].id));
    for (size_t i = 1; i < n; i++)
        assert_true(e->alternatives[i].logprob <= e->alternatives[i - 1].logprob);
    for (size_t i = 0; i < VOCAB; i++)
        above += logits[i] > logits[e->alternatives[n - 1].id];
    assert_true(above < n);
}

static tvlm_event next_of(tvlm_generation *g)
{
    tvlm_event e = {.size = sizeof e};
    OK(tvlm_generation_next(g, &e, &err));
    return e;
}

/* What an answer's events add up to. */
static void collect(tvlm_generation *g, const tvlm_session *session, size_t alternatives,
                    outcome *o)
{
    o->n_ids = o->len = 0;
    for (bool last = false; !last;) {
        tvlm_event e = next_of(g);
        if (alternatives) check_alternatives(session, &e, alternatives);
        o->ids[o->n_ids++] = e.id;
        memcpy(o->text + o->len, e.text, e.text_len);
        o->len += e.text_len;
        o->finish = e.finish;
        last = e.is_last;
    }
    o->position = tvlm_session_position(session);
    memcpy(o->logits, tvlm_session_logits(session), sizeof o->logits);
}

static void assert_same_end(const outcome *a, const outcome *b)
{
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->text, b->text, a->len);
    assert_int_equal(a->position, b->position);
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
}

static void events_are_the_answer(void **state)
{
    (void)state;
    pair t = new_pair(engine, 256);
    tvlm_prompt *prompt = ask("One two one two one two one?");
    for (size_t way = 0; way < TVLM_COUNT(ways); way++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            tvlm_generate_params p = params_of(way, seed);
            tvlm_generation *g;
            p.max_tokens = 1 + 17 * (uint32_t)seed;
            answer(engine, t.plain, prompt, p, false, &t.a);
            p.lookup = seed > 1;
            p.logprobs = true;
            p.n_alternatives = (uint32_t)seed % 2 ? 1 : TVLM_MAX_ALTERNATIVES;
            OK(tvlm_generation_start(engine, t.guessing, prompt, &p, &g, &err));
            collect(g, t.guessing, p.n_alternatives, &t.b);
            assert_same_end(&t.a, &t.b);
            tvlm_event e = {.size = sizeof e};
            IS(STATE, tvlm_generation_next(g, &e, &err));
            SAYS("ended");
            tvlm_generation_free(g);
        }
    tvlm_prompt_free(prompt);
    free_pair(&t);
}

/* One thread, two answers by turns; stop strings and prompts that are gone before they end. */
static void answers_by_turns(void **state)
{
    (void)state;
    static const char *const questions[] = {"Hm?", "One two one two?"};
    outcome want[2], got[2];
    tvlm_session *sessions[2] = {new_session(), new_session()};
    tvlm_generation *g[2];
    tvlm_generate_params p = params_of(REPEATING, 1);
    p.max_tokens = 24;
    char stop[] = "no text of it";
    p.stop = &(const char *){stop};
    p.n_stop = 1;
    tvlm_prompt *prompts[2];
    for (size_t i = 0; i < 2; i++) {
        want[i].cancel = NULL;
        want[i].cancel_after = want[i].leave_after = 0;
        prompts[i] = ask(questions[i]);
        answer(engine, sessions[i], prompts[i], p, false, &want[i]);
        tvlm_session_reset(sessions[i]);
        OK(tvlm_generation_start(engine, sessions[i], prompts[i], &p, &g[i], &err));
        got[i].n_ids = 0;
    }
    memset(stop, 'x', sizeof stop); /* no terminator either */
    for (bool last = false; !last;)
        for (size_t i = 0; i < 2; i++) {
            tvlm_event e = next_of(g[i]);
            got[i].ids[got[i].n_ids++] = e.id;
            last = e.is_last;
            tvlm_prompt_free(prompts[i]);
            prompts[i] = NULL;
        }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(got[i].n_ids, 24);
        assert_memory_equal(got[i].ids, want[i].ids, sizeof(int32_t[24]));
        tvlm_generation_free(g[i]);
        tvlm_session_free(sessions[i]);
    }
}

/* Left after some tokens: its result is what was told, and the session answers anew. */
static void an_answer_left(void **state)
{
    (void)state;
    tvlm_session *session = new_session();
    tvlm_prompt *prompt = ask("Hm?");
    tvlm_generate_params p = params_of(REPEATING, 1);
    tvlm_generation *g;
    tvlm_result r = {.size = sizeof r}, whole = {.size = sizeof whole};
    size_t len = 0;
    OK(tvlm_generation_start(engine, session, prompt, &p, &g, &err));
    OK(tvlm_generation_get_result(g, &r, &err));
    assert_int_equal(r.n_ids, 0);
    for (size_t i = 0; i < 5; i++)
        len += next_of(g).text_len;
    OK(tvlm_generation_get_result(g, &r, &err));
    assert_int_equal(r.n_ids, 5);
    assert_int_equal(r.text_len, len);
    int32_t ids[5];
    memcpy(ids, r.ids, sizeof ids);
    tvlm_generation_free(g);
    p.max_tokens = 5;
    OK(tvlm_generate(engine, session, prompt, &p, &whole, &err));
    assert_memory_equal(whole.ids, ids, sizeof ids);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
}

static void a_cancelled_answer_is_over(void **state)
{
    (void)state;
    tvlm_session *session = new_session();
    tvlm_prompt *prompt = ask("Hm?");
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_generate_params p = params_of(REPEATING, 1);
    tvlm_generation *g;
    tvlm_event e = {.size = sizeof e};
    p.cancel = cancel;
    OK(tvlm_generation_start(engine, session, prompt, &p, &g, &err));
    next_of(g);
    tvlm_cancel_request(cancel);
    IS(CANCELLED, tvlm_generation_next(g, &e, &err));
    tvlm_cancel_reset(cancel);
    IS(STATE, tvlm_generation_next(g, &e, &err));
    tvlm_generation_free(g);
    tvlm_cancel_free(cancel);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
}

/* A program that was compiled when an event had more fields. */
static void a_longer_event(void **state)
{
    (void)state;
    tvlm_session *session = new_session();
    tvlm_prompt *prompt = ask("Hm?");
    tvlm_generate_params p = params_of(GREEDY, 1);
    tvlm_generation *g;
    p.logprobs = true;
    OK(tvlm_generation_start(engine, session, prompt, &p, &g, &err));
    struct {
        tvlm_event known;
        uint64_t more, behind;
    } e = {.known.size = sizeof(tvlm_event) + sizeof e.more, .more = 7, .behind = 7};
    OK(tvlm_generation_next(g, &e.known, &err));
    assert_int_equal(e.known.size, sizeof(tvlm_event) + sizeof e.more);
    assert_true(e.known.logprob < 0 && e.more == 0 && e.behind == 7);
    e.known.size = offsetof(tvlm_event, logprob);
    IS(ARGUMENT, tvlm_generation_next(g, &e.known, &err));
    SAYS("tvlm_event.size");
    tvlm_generation_free(g);
    p.n_alternatives = TVLM_MAX_ALTERNATIVES + 1;
    IS(ARGUMENT, tvlm_generation_start(engine, session, prompt, &p, &g, &err));
    SAYS("n_alternatives is 21");
    assert_null(g);
    tvlm_prompt_free(prompt);
    tvlm_session_free(session);
}

/* The context ends within a draft; a pass holds few rows, or one. */
static void guesses_where_room_ends(void **state)
{
    (void)state;
    tvlm_prompt *prompt = ask("One two one two one two one?");
    uint32_t rows = (uint32_t)tvlm_prompt_n_tokens(prompt);
    size_t accepted = 0;
    for (unsigned most = 1; most <= 9; most += 4) {
        tvlm_engine *narrow;
        tvlm_engine_params e;
        tvlm_engine_params_init(&e, sizeof e);
        e.n_threads = 1;
        e.max_batch_tokens = most;
        OK(tvlm_engine_new(model, &e, &narrow, &err));
        for (uint32_t room = 0; room < 24; room += 1 + room / 4) {
            pair t = new_pair(narrow, rows + room);
            compare(&t, prompt, params_of(REPEATING, 1));
            assert_int_equal(t.a.finish, TVLM_FINISH_CONTEXT);
            assert_int_equal(t.a.n_ids, room + 1);
            assert_true(most > 1 || !t.drafted);
            accepted += t.accepted;
            free_pair(&t);
        }
        tvlm_engine_free(narrow);
    }
    assert_true(accepted > 20);
    tvlm_prompt_free(prompt);
}

/* Cancelled, or stopped by its callback, inside a draft: not a token more, and the conversation
 * goes on as if nothing had been guessed. */
static void guesses_cut_short(void **state)
{
    (void)state;
    pair t = new_pair(engine, 256);
    tvlm_prompt *prompt = ask("One two one two one two one?"), *next = ask("Hm?");
    tvlm_generate_params p = params_of(REPEATING, 1);
    p.max_tokens = 40;
    t.a.cancel = t.b.cancel = tvlm_cancel_new();
    for (size_t after = 1; after < 24; after++) {
        t.a.leave_after = t.b.leave_after = 0;
        t.a.cancel_after = t.b.cancel_after = after;
        compare(&t, prompt, p);
        assert_int_equal(t.a.status, TVLM_ERR_CANCELLED);
        assert_int_equal(t.b.heard, after);
        t.a.cancel_after = t.b.cancel_after = 0;
        t.a.leave_after = t.b.leave_after = after;
        compare(&t, prompt, p);
        assert_int_equal(t.a.finish, TVLM_FINISH_CALLBACK);
        compare(&t, next, p);
    }
    assert_true(t.accepted > 20);
    tvlm_cancel_free(t.a.cancel);
    free_pair(&t);
    tvlm_prompt_free(prompt);
    tvlm_prompt_free(next);
}

/* Three threads guess and share passes: a step of several rows in each. */
typedef struct guesser {
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_generate_params params;
    outcome alone, shared;
} guesser;

static void *guess(void *user)
{
    guesser *g = user;
    answer(engine, g->session, g->prompt, g->params, true, &g->shared);
    return NULL;
}

static void guesses_in_company(void **state)
{
    (void)state;
    static guesser all[3];
    static const char *const questions[3] = {"One two one two?", "Two?", "Three three?"};
    tvlm_batcher *batcher;
    size_t accepted = 0;
    OK(tvlm_batcher_new(engine, NULL, &batcher, &err));
    for (size_t i = 0; i < 3; i++)
        all[i] = (guesser){.session = new_session(), .prompt = ask(questions[i])};
    for (size_t way = 0; way < TVLM_COUNT(ways); way++) {
        pthread_t threads[3];
        for (size_t i = 0; i < 3; i++) {
            all[i].params = params_of(way, 1);
            all[i].params.max_tokens = 60;
            answer(engine, all[i].session, all[i].prompt, all[i].params, false, &all[i].alone);
            all[i].params.batcher = batcher;
            tvlm_session_reset(all[i].session);
        }
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, guess, &all[i]), 0);
        for (size_t i = 0; i < 3; i++) {
            pthread_join(threads[i], NULL);
            assert_same(&all[i].alone, &all[i].shared);
            accepted += all[i].shared.accepted;
        }
    }
    assert_true(accepted > 20);
    for (size_t i = 0; i < 3; i++) {
        tvlm_session_free(all[i].session);
        tvlm_prompt_free(all[i].prompt);
    }
    tvlm_batcher_free(batcher);
}

/* ---- what passes are made of, by the engine's log ---- */

enum { CROWD = 8, SHORT = 6, MOST_PASSES = 64 };

/* The first pass is held until every other call is in the queue: what follows does not depend on
 * time. */
typedef struct crowd {
    tvlm_engine *engine;
    tvlm_batcher *batcher;
    size_t n;              /* calls */
    atomic_size_t waiting; /* in the queue, but for the first */
    atomic_bool cancelled; /* the last call */
    unsigned cancel_at;    /* the pass in which it is */
    unsigned calls[MOST_PASSES], rows[MOST_PASSES];
    atomic_uint n_passes;
} crowd;

typedef struct member {
    crowd *crowd;
    size_t index;
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_cancel *cancel;
    atomic_bool seen;
    uint32_t most;
    int32_t ids[ANSWER * 2];
    tvlm_status status;
} member;

static void note_pass(void *user, const char *line)
{
    crowd *c = user;
    unsigned calls, rows;
    if (sscanf(line, "pass: %u calls, %u tokens", &calls, &rows) != 2) return;
    unsigned at = atomic_load(&c->n_passes);
    assert_true(at < MOST_PASSES);
    c->calls[at] = calls;
    c->rows[at] = rows;
    atomic_store(&c->n_passes, at + 1);
    while (!at && atomic_load(&c->waiting) + 1 < c->n)
        sched_yield();
    if (at + 1 == c->cancel_at) atomic_store(&c->cancelled, true);
}

/* Asked for the first time when the call is in the queue. */
static bool poll_member(void *user)
{
    member *m = user;
    if (m->index && !atomic_exchange(&m->seen, true)) atomic_fetch_add(&m->crowd->waiting, 1);
    return m->index + 1 == m->crowd->n && atomic_load(&m->crowd->cancelled);
}

static void *attend(void *user)
{
    member *m = user;
    tvlm_generate_params p;
    tvlm_result r = {.size = sizeof r};
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = m->most;
    p.ignore_eos = true;
    p.batcher = m->crowd->batcher;
    p.cancel = m->cancel;
    m->status = tvlm_generate(m->crowd->engine, m->session, m->prompt, &p, &r, NULL);
    if (r.n_ids) memcpy(m->ids, r.ids, r.n_ids * sizeof *r.ids);
    return NULL;
}

/* long_rows: of the last member's prompt */
static void gather_crowd(crowd *c, member *all, size_t long_rows)
{
    static int32_t ids[LONG];
    tvlm_engine_params e;
    tvlm_batcher_params b;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 2;
    e.on_log = note_pass;
    e.user = c;
    OK(tvlm_engine_new(model, &e, &c->engine, &err));
    tvlm_batcher_params_init(&b, sizeof b);
    b.max_batch_size = CROWD;
    b.timeout_ms = UINT32_MAX;
    OK(tvlm_batcher_new(c->engine, &b, &c->batcher, &err));
    for (size_t i = 0; i < c->n; i++) {
        member *m = &all[i];
        m->crowd = c;
        m->index = i;
        m->session = new_session();
        m->cancel = tvlm_cancel_new();
        tvlm_cancel_set_poll(m->cancel, poll_member, m);
        OK(tvlm_prompt_new(model, &m->prompt, &err));
        for (size_t k = 0; k < LONG; k++)
            ids[k] = (int32_t)((k * 7 + i * 31) % 500);
        size_t rows = i + 1 == c->n ? long_rows : SHORT;
        OK(tvlm_prompt_add_ids(m->prompt, ids, rows, &err));
        m->most = m->most ? m->most : ANSWER;
    }
    pthread_t threads[CROWD];
    assert_int_equal(pthread_create(&threads[0], NULL, attend, &all[0]), 0);
    while (!atomic_load(&c->n_passes))
        sched_yield();
    for (size_t i = 1; i < c->n; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, attend, &all[i]), 0);
    for (size_t i = 0; i < c->n; i++)
        pthread_join(threads[i], NULL);
}

static void assert_answer_of_alone(const member *m)
{
    tvlm_generate_params p;
    tvlm_result r = {.size = sizeof r};
    tvlm_session *session = new_session();
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = m->most;
    p.ignore_eos = true;
    OK(tvlm_generate(engine, session, m->prompt, &p, &r, &err));
    assert_int_equal(m->status, TVLM_OK);
    assert_memory_equal(m->ids, r.ids, r.n_ids * sizeof *r.ids);
    tvlm_session_free(session);
}

static void dismiss(crowd *c, member *all)
{
    for (size_t i = 0; i < c->n; i++) {
        tvlm_session_free(all[i].session);
        tvlm_prompt_free(all[i].prompt);
        tvlm_cancel_free(all[i].cancel);
    }
    tvlm_batcher_free(c->batcher);
    tvlm_engine_free(c->engine);
}

static void assert_pass(const crowd *c, unsigned at, unsigned calls, unsigned rows)
{
    assert_true(at < atomic_load(&c->n_passes));
    assert_int_equal(c->calls[at], calls);
    assert_int_equal(c->rows[at], rows);
}

/* Eight answers of N tokens: N + 1 passes over the weights, as the first was alone at first. */
static void one_pass_a_step(void **state)
{
    (void)state;
    crowd c = {.n = CROWD};
    member all[CROWD] = {0};
    gather_crowd(&c, all, SHORT);
    assert_int_equal(c.n_passes, ANSWER + 1);
    assert_pass(&c, 0, 1, SHORT);
    assert_pass(&c, 1, CROWD, (CROWD - 1) * SHORT + 1);
    for (unsigned i = 2; i < ANSWER; i++)
        assert_pass(&c, i, CROWD, CROWD);
    assert_pass(&c, ANSWER, CROWD - 1, CROWD - 1);
    for (size_t i = 0; i < CROWD; i++)
        assert_answer_of_alone(&all[i]);
    dismiss(&c, all);
}

/* Its next token comes with every pass, and no pass takes long. */
static void a_long_prompt_beside_an_answer(void **state)
{
    (void)state;
    crowd c = {.n = 2};
    member all[2] = {{.most = ANSWER * 2}};
    gather_crowd(&c, all, LONG);
    assert_pass(&c, 0, 1, SHORT);
    for (unsigned i = 1; i <= LONG / 32; i++)
        assert_pass(&c, i, 2, 33);
    assert_pass(&c, 1 + LONG / 32, 2, LONG % 32 + 1);
    assert_pass(&c, 2 + LONG / 32, 2, 2);
    assert_answer_of_alone(&all[0]);
    assert_answer_of_alone(&all[1]);
    dismiss(&c, all);
}

/* The pass that a cancel stops is run again by those that are left, together. */
static void a_cancel_ends_one_call(void **state)
{
    (void)state;
    for (unsigned at = 2; at <= ANSWER; at++) {
        crowd c = {.n = CROWD, .cancel_at = at};
        member all[CROWD] = {0};
        gather_crowd(&c, all, SHORT);
        assert_int_equal(all[CROWD - 1].status, TVLM_ERR_CANCELLED);
        assert_int_equal(c.calls[at - 1], CROWD);
        assert_int_equal(c.calls[at], CROWD - 1);
        assert_int_equal(c.n_passes, ANSWER + 2);
        for (size_t i = 0; i + 1 < CROWD; i++)
            assert_answer_of_alone(&all[i]);
        dismiss(&c, all);
    }
}

/* ---- one thread runs all answers ---- */

enum { MANY = 6 };

typedef struct asked {
    tvlm_session *session;
    tvlm_prompt *prompt;
    tvlm_generate_params params;
    tvlm_generation *generation;
    outcome alone, stepped;
} asked;

static tvlm_prompt *prompt_of(size_t n)
{
    static int32_t ids[LONG];
    tvlm_prompt *prompt;
    OK(tvlm_prompt_new(model, &prompt, &err));
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)((i * 7 + n * 31) % 500);
    OK(tvlm_prompt_add_ids(prompt, ids, n, &err));
    return prompt;
}

static void ask_alone(asked *all)
{
    for (size_t i = 0; i < MANY; i++) {
        asked *a = &all[i];
        a->session = new_session();
        a->prompt = i % 3 ? prompt_of(i == 4 ? LONG : 5 * i) : ask("One two one two one two?");
        a->params = params_of(i % TVLM_COUNT(ways), i);
        a->params.max_tokens = 4 + 5 * (uint32_t)i;
        a->alone.cancel = NULL;
        answer(engine, a->session, a->prompt, a->params, i % 2, &a->alone);
        tvlm_session_reset(a->session);
        a->params.lookup = i % 2;
        a->stepped = (outcome){0};
    }
}

static void submit(tvlm_batcher *batcher, asked *a, tvlm_engine *e)
{
    OK(tvlm_generation_start(e, a->session, a->prompt, &a->params, &a->generation, &err));
    OK(tvlm_batcher_submit(batcher, a->generation, &err));
}

static void note_event(asked *all, const tvlm_generation *g, const tvlm_event *e)
{
    asked *a = all;
    while (a->generation != g)
        a++;
    outcome *o = &a->stepped;
    o->ids[o->n_ids++] = e->id;
    memcpy(o->text + o->len, e->text, e->text_len);
    o->len += e->text_len;
    o->finish = e->finish;
    if (!e->is_last) return;
    o->position = tvlm_session_position(a->session);
    memcpy(o->logits, tvlm_session_logits(a->session), sizeof o->logits);
}

/* False when it brought no event. */
static bool step_once(tvlm_batcher *batcher, asked *all)
{
    tvlm_generation *g;
    tvlm_event e = {.size = sizeof e};
    OK(tvlm_batcher_step(batcher, &g, &e, &err));
    if (g) note_event(all, g, &e);
    return g != NULL;
}

static void part(asked *all)
{
    for (size_t i = 0; i < MANY; i++) {
        tvlm_generation_free(all[i].generation);
        tvlm_session_free(all[i].session);
        tvlm_prompt_free(all[i].prompt);
    }
}

static void a_prompt_may_fill_the_context(void **state)
{
    (void)state;
    enum { CTX = 20 };
    tvlm_session_params p;
    tvlm_session *session;
    tvlm_generate_params g;
    tvlm_result r = {.size = sizeof r};
    tvlm_session_params_init(&p, sizeof p);
    tvlm_generate_params_init(&g, sizeof g);
    p.n_ctx = CTX;
    g.ignore_eos = true;
    OK(tvlm_session_new(model, &p, &session, &err));
    tvlm_prompt *fits = prompt_of(CTX), *more = prompt_of(CTX + 1);
    OK(tvlm_generate(engine, session, fits, &g, &r, &err));
    assert_int_equal(r.finish, TVLM_FINISH_CONTEXT);
    assert_int_equal(tvlm_session_position(session), CTX);
    IS(CONTEXT, tvlm_generate(engine, session, more, &g, &r, &err));
    SAYS("the prompt needs 21 positions, the context has 20");
    tvlm_prompt_free(fits);
    tvlm_prompt_free(more);
    tvlm_session_free(session);
}

/* Each comes in a step of its own; passes have room for all, for two, for one. */
static void one_thread_runs_all(void **state)
{
    (void)state;
    static asked all[MANY];
    for (unsigned room = 1; room < 9; room += room) {
        tvlm_batcher *batcher;
        tvlm_batcher_params b;
        tvlm_batcher_params_init(&b, sizeof b);
        b.max_batch_size = room;
        b.timeout_ms = UINT32_MAX; /* nobody is waited for */
        OK(tvlm_batcher_new(engine, &b, &batcher, &err));
        ask_alone(all);
        for (size_t i = 0; i < MANY; i++) {
            submit(batcher, &all[i], engine);
            step_once(batcher, all);
            step_once(batcher, all);
        }
        while (tvlm_batcher_pending(batcher))
            step_once(batcher, all);
        assert_false(step_once(batcher, all));
        for (size_t i = 0; i < MANY; i++)
            assert_same_end(&all[i].alone, &all[i].stepped);
        part(all);
        tvlm_batcher_free(batcher);
    }
}

/* Answers of N tokens to short prompts: N passes, each for all. */
static void a_step_is_a_pass_for_all(void **state)
{
    (void)state;
    static asked all[MANY];
    crowd c = {.n = 1};
    tvlm_engine_params e;
    tvlm_batcher *batcher;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 2;
    e.on_log = note_pass;
    e.user = &c;
    OK(tvlm_engine_new(model, &e, &c.engine, &err));
    OK(tvlm_batcher_new(c.engine, NULL, &batcher, &err));
    for (size_t i = 0; i < MANY; i++) {
        all[i] = (asked){.session = new_session(), .prompt = prompt_of(SHORT)};
        all[i].params = params_of(GREEDY, 1);
        all[i].params.max_tokens = ANSWER;
        submit(batcher, &all[i], c.engine);
    }
    for (size_t events = 0; events < (size_t)MANY * ANSWER; events++) {
        assert_int_equal(c.n_passes, events ? (events - 1) / MANY + 1 : 0);
        assert_true(step_once(batcher, all));
        for (size_t i = 0; i < MANY; i++) /* in turn */
            assert_int_equal(all[i].stepped.n_ids, events / MANY + (i <= events % MANY));
    }
    assert_int_equal(tvlm_batcher_pending(batcher), 0);
    assert_int_equal(c.n_passes, ANSWER);
    assert_pass(&c, 0, MANY, MANY * SHORT);
    for (unsigned i = 1; i < ANSWER; i++)
        assert_pass(&c, i, MANY, MANY);
    part(all);
    tvlm_batcher_free(batcher);
    tvlm_engine_free(c.engine);
}

/* One is cancelled, one freed, while they wait for room; the others do not notice. */
static void submitted_answers_end_early(void **state)
{
    (void)state;
    static asked all[MANY];
    for (size_t after = 0; after < 24; after += 1 + after / 3) {
        tvlm_batcher *batcher;
        tvlm_batcher_params b;
        tvlm_cancel *cancel = tvlm_cancel_new();
        size_t cancelled = 0;
        tvlm_batcher_params_init(&b, sizeof b);
        b.max_batch_size = 2;
        OK(tvlm_batcher_new(engine, &b, &batcher, &err));
        ask_alone(all);
        all[5].params.cancel = cancel;
        for (size_t i = 0; i < MANY; i++)
            submit(batcher, &all[i], engine);
        for (size_t i = 0; i < after; i++)
            step_once(batcher, all);
        tvlm_generation_free(all[4].generation);
        all[4].generation = NULL;
        tvlm_cancel_request(cancel);
        while (tvlm_batcher_pending(batcher)) {
            tvlm_generation *g;
            tvlm_event e = {.size = sizeof e};
            tvlm_status status = tvlm_batcher_step(batcher, &g, &e, &err);
            if (!status && g) note_event(all, g, &e);
            if (!status) continue;
            assert_int_equal(status, TVLM_ERR_CANCELLED);
            assert_ptr_equal(g, all[5].generation);
            IS(STATE, tvlm_generation_next(g, &e, &err));
            cancelled++;
        }
        assert_int_equal(cancelled, 1);
        for (size_t i = 0; i < 4; i++)
            assert_same_end(&all[i].alone, &all[i].stepped);
        assert_memory_equal(all[5].alone.ids, all[5].stepped.ids,
                            all[5].stepped.n_ids * sizeof(int32_t));
        part(all);
        tvlm_batcher_free(batcher);
        tvlm_cancel_free(cancel);
    }
}

typedef struct spoiler {
    tvlm_cancel *cancel;
    unsigned n_passes;
} spoiler;

static void spoil_the_second_pass(void *user, const char *line)
{
    spoiler *s = user;
    if (!strncmp(line, "pass:", 5) && ++s->n_passes == 2) tvlm_cancel_request(s->cancel);
}

/* A pass stops for one of its answers; the others wait in the queue again when more come. */
static void answers_join_those_of_a_pass_that_stopped(void **state)
{
    (void)state;
    static asked all[MANY];
    spoiler s = {.cancel = tvlm_cancel_new()};
    tvlm_engine *e;
    tvlm_engine_params p;
    tvlm_batcher *batcher;
    tvlm_engine_params_init(&p, sizeof p);
    p.n_threads = 2;
    p.on_log = spoil_the_second_pass;
    p.user = &s;
    OK(tvlm_engine_new(model, &p, &e, &err));
    OK(tvlm_batcher_new(e, NULL, &batcher, &err));
    ask_alone(all);
    all[5].params.cancel = s.cancel;
    submit(batcher, &all[5], e);
    submit(batcher, &all[0], e);
    submit(batcher, &all[1], e);
    tvlm_status status = TVLM_OK;
    while (!status) {
        tvlm_generation *g;
        tvlm_event event = {.size = sizeof event};
        status = tvlm_batcher_step(batcher, &g, &event, &err);
        if (!status) note_event(all, g, &event);
    }
    assert_int_equal(status, TVLM_ERR_CANCELLED);
    assert_int_equal(s.n_passes, 2);
    assert_int_equal(tvlm_batcher_pending(batcher), 2);
    for (size_t i = 2; i < 5; i++)
        submit(batcher, &all[i], e);
    while (tvlm_batcher_pending(batcher))
        step_once(batcher, all);
    for (size_t i = 0; i < 5; i++)
        assert_same_end(&all[i].alone, &all[i].stepped);
    part(all);
    tvlm_batcher_free(batcher);
    tvlm_engine_free(e);
    tvlm_cancel_free(s.cancel);
}

/* Answers of calls on two other threads, of the same batcher. */
static void steps_beside_calls(void **state)
{
    (void)state;
    static asked all[MANY];
    static guesser calls[2];
    pthread_t threads[2];
    tvlm_batcher *batcher;
    tvlm_batcher_params b;
    tvlm_batcher_params_init(&b, sizeof b);
    b.timeout_ms = UINT32_MAX; /* the loop comes, or ends */
    OK(tvlm_batcher_new(engine, &b, &batcher, &err));
    ask_alone(all);
    for (size_t i = 0; i < 2; i++) {
        calls[i] = (guesser){.session = new_session(), .prompt = ask(i ? "Hm?" : "One two one?")};
        calls[i].params = params_of(REPEATING, 1);
        calls[i].params.max_tokens = 40;
        answer(engine, calls[i].session, calls[i].prompt, calls[i].params, false, &calls[i].alone);
        tvlm_session_reset(calls[i].session);
        calls[i].params.batcher = batcher;
    }
    for (size_t i = 0; i < MANY; i++)
        submit(batcher, &all[i], engine);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, guess, &calls[i]), 0);
    while (tvlm_batcher_pending(batcher))
        step_once(batcher, all);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_same(&calls[i].alone, &calls[i].shared);
        tvlm_session_free(calls[i].session);
        tvlm_prompt_free(calls[i].prompt);
    }
    for (size_t i = 0; i < MANY; i++)
        assert_same_end(&all[i].alone, &all[i].stepped);
    part(all);
    tvlm_batcher_free(batcher);
}

static void what_submit_refuses(void **state)
{
    (void)state;
    tvlm_batcher *batcher, *other;
    tvlm_event e = {.size = sizeof e};
    tvlm_generation *g, *none;
    asked a = {
        .session = new_session(), .prompt = prompt_of(SHORT), .params = params_of(GREEDY, 1)};
    OK(tvlm_batcher_new(engine, NULL, &batcher, &err));
    OK(tvlm_batcher_new(engine, NULL, &other, &err));
    a.params.batcher = other;
    a.params.max_tokens = 2;
    OK(tvlm_generation_start(engine, a.session, a.prompt, &a.params, &g, &err));
    IS(ARGUMENT, tvlm_batcher_submit(batcher, g, &err));
    SAYS("another batcher");
    OK(tvlm_batcher_submit(other, g, &err));
    IS(STATE, tvlm_batcher_submit(other, g, &err));
    IS(STATE, tvlm_generation_next(g, &e, &err));
    SAYS("submitted");
    e.size = 0;
    IS(ARGUMENT, tvlm_batcher_step(other, &none, &e, &err));
    SAYS("tvlm_event.size");
    e.size = sizeof e;
    OK(tvlm_batcher_step(batcher, &none, &e, &err));
    assert_null(none);
    assert_int_equal(tvlm_batcher_pending(other), 1);
    tvlm_batcher_free(other); /* the answer ends */
    IS(STATE, tvlm_generation_next(g, &e, &err));
    IS(STATE, tvlm_batcher_submit(batcher, g, &err));
    tvlm_generation_free(g);
    tvlm_batcher_free(batcher);
    tvlm_session_free(a.session);
    tvlm_prompt_free(a.prompt);
}

/* ---- turns on the engine ---- */

typedef struct line {
    tvlm_engine *engine;
    tvlm_session *session;
    atomic_bool go;
    atomic_size_t there;
    unsigned photos;
    size_t passed[3]; /* rows of the pass when picture i was done */
} line;

typedef struct waiter {
    line *line;
    tvlm_cancel *cancel;
    unsigned polls;
    bool first;
} waiter;

static void note_picture(void *user, const char *text)
{
    line *l = user;
    if (strncmp(text, "image:", 6) != 0) return;
    assert_true(l->photos < 3);
    l->passed[l->photos] = l->photos ? tvlm_session_position(l->session) : 0;
    l->photos++;
}

/* Asked at first in the line; the first of all is held inside its work until the others wait. */
static bool poll_waiter(void *user)
{
    waiter *w = user;
    if (!w->polls++) w->first = !atomic_fetch_add(&w->line->there, 1);
    while (w->first && w->polls > 1 && !atomic_load(&w->line->go))
        sched_yield();
    return false;
}

static void *encode_in_line(void *user)
{
    waiter *w = user;
    tvlm_pixels pixels = photo();
    tvlm_image *own;
    tvlm_encode_params p;
    tvlm_encode_params_init(&p, sizeof p);
    p.cancel = w->cancel;
    assert_int_equal(tvlm_image_encode(w->line->engine, &pixels, &p, &own, NULL), TVLM_OK);
    tvlm_image_free(own);
    return NULL;
}

static void *pass_in_line(void *user)
{
    waiter *w = user;
    tvlm_input row = {w->line->session, 1, NULL, false};
    assert_int_equal(tvlm_forward(w->line->engine, &row, 1, w->cancel, NULL, 0, NULL), TVLM_OK);
    return NULL;
}

/* Three pictures, then a pass: it waits for one of them. */
static void pictures_do_not_stop_answers(void **state)
{
    (void)state;
    line l = {.session = new_session()};
    waiter all[4] = {0};
    pthread_t threads[4];
    tvlm_engine_params e;
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1; /* polls of one call come from its own thread */
    e.on_log = note_picture;
    e.user = &l;
    OK(tvlm_engine_new(model, &e, &l.engine, &err));
    for (size_t i = 0; i < 4; i++) {
        all[i] = (waiter){.line = &l, .cancel = tvlm_cancel_new()};
        tvlm_cancel_set_poll(all[i].cancel, poll_waiter, &all[i]);
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < 3 ? encode_in_line : pass_in_line, &all[i]), 0);
        while (atomic_load(&l.there) == i)
            sched_yield();
    }
    atomic_store(&l.go, true);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        tvlm_cancel_free(all[i].cancel);
    }
    assert_int_equal(l.photos, 3);
    assert_int_equal(l.passed[1], 1);
    tvlm_session_free(l.session);
    tvlm_engine_free(l.engine);
}

/* ---- weights still arriving ---- */

static void each_stage_when_it_is_there(void **state)
{
    (void)state;
    size_t size, at = 0;
    unsigned char *file = read_whole_file(PATH, &size);
    tvlm_loader *loader;
    tvlm_engine *early = NULL;
    tvlm_image *own = NULL;
    tvlm_session *session = NULL;
    tvlm_pixels pixels = photo();
    bool saw_tower = false, saw_bridge = false;
    float logits[1024];
    OK(tvlm_loader_new(NULL, &loader, &err));
    while (at < size) {
        size_t n = size - at < 4096 ? size - at : 4096;
        OK(tvlm_loader_feed(loader, file + at, n, &err));
        at += n;
        tvlm_model *m = tvlm_loader_model(loader);
        if (!m) continue;
        if (!early) OK(tvlm_engine_new(m, NULL, &early, &err));
        tvlm_stage stage = tvlm_model_stage(m);
        if (stage < TVLM_STAGE_BRIDGE && !saw_tower) {
            saw_tower = true;
            IS(STATE, tvlm_image_encode(early, &pixels, NULL, &own, &err));
        }
        if (stage == TVLM_STAGE_BRIDGE && !saw_bridge) {
            saw_bridge = true;
            OK(tvlm_image_encode(early, &pixels, NULL, &own, &err));
            OK(tvlm_session_new(m, NULL, &session, &err));
            tvlm_input row = {session, 1, NULL, true};
            IS(STATE, tvlm_forward(early, &row, 1, NULL, logits, 1024, &err));
        }
    }
    tvlm_model *whole;
    size_t n, dim;
    OK(tvlm_loader_finish(loader, &whole, &err));
    assert_true(saw_tower && saw_bridge);
    const float *want = tvlm_image_tokens(image, &n, &dim);
    assert_memory_equal(tvlm_image_tokens(own, &n, &dim), want, n * dim * sizeof *want);
    tvlm_input row = {session, 1, NULL, true};
    OK(tvlm_forward(early, &row, 1, NULL, logits, 1024, &err));
    tvlm_session_free(session);
    tvlm_image_free(own);
    tvlm_engine_free(early);
    tvlm_model_free(whole);
    free(file);
}

static void header_alone_does_not_run(void **state)
{
    (void)state;
    tvlm_model_params p;
    tvlm_model *header;
    tvlm_engine *none;
    tvlm_model_params_init(&p, sizeof p);
    p.header_only = true;
    OK(tvlm_model_open(PATH, &p, &header, &err));
    IS(STATE, tvlm_engine_new(header, NULL, &none, &err));
    assert_null(none);
    tvlm_model_free(header);
}

/* ---- arguments ---- */

static void arguments_are_named(void **state)
{
    (void)state;
    tvlm_session *session = new_session(), *no_session;
    tvlm_prompt *prompt = ask("One?"), *empty, *no_prompt;
    tvlm_engine *other, *no_engine;
    tvlm_batcher *batcher;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    float logits[1024];
    IS(ARGUMENT, tvlm_engine_new(NULL, NULL, &no_engine, &err));
    SAYS("model is NULL");
    IS(ARGUMENT, tvlm_session_new(model, NULL, NULL, &err));
    SAYS("out is NULL");
    IS(ARGUMENT, tvlm_session_new(model, &(tvlm_session_params){0}, &no_session, &err));
    SAYS("tvlm_session_params.size");
    IS(ARGUMENT, tvlm_prompt_new(NULL, &no_prompt, &err));
    IS(ARGUMENT, tvlm_prompt_add_ids(prompt, (int32_t[]){1, -1}, 2, &err));
    SAYS("id -1");
    IS(ARGUMENT, tvlm_prompt_add_text(prompt, NULL, 3, false, &err));
    SAYS("text is NULL");
    IS(ARGUMENT, tvlm_prompt_add_image(prompt, NULL, &err));
    tvlm_input row = {NULL, 1, NULL, true};
    IS(ARGUMENT, tvlm_forward(engine, &row, 1, NULL, logits, 1024, &err));
    SAYS("input 0: session is NULL");
    IS(ARGUMENT, tvlm_generate(engine, NULL, prompt, NULL, &result, &err));
    SAYS("session is NULL");
    OK(tvlm_prompt_new(model, &empty, &err));
    IS(ARGUMENT, tvlm_generate(engine, session, empty, NULL, &result, &err));
    SAYS("empty");
    tvlm_generate_params_init(&p, sizeof p);
    p.sampling.top_p = 2;
    IS(ARGUMENT, tvlm_generate(engine, session, prompt, &p, &result, &err));
    SAYS("sampling.top_p");
    OK(tvlm_engine_new(model, NULL, &other, &err));
    OK(tvlm_batcher_new(other, NULL, &batcher, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.batcher = batcher;
    IS(ARGUMENT, tvlm_generate(engine, session, prompt, &p, &result, &err));
    SAYS("another engine");
    tvlm_pixels pixels = photo();
    tvlm_encode_params e;
    tvlm_image *none;
    tvlm_engine *none_made;
    tvlm_encode_params_init(&e, sizeof e);
    e.fit = (tvlm_fit)99;
    IS(ARGUMENT, tvlm_image_encode(engine, &pixels, &e, &none, &err));
    SAYS("fit 99");
    IS(ARGUMENT, tvlm_preprocess(model, &pixels, &e, logits, 128 * 128 * 3, &err));
    SAYS("fit 99");
    for (size_t i = 0; i < 576; i++) /* before the first feed */
        assert_true(tvlm_session_logits(session)[i] == 0);
    /* 0 is 0, not a default */
    tvlm_session_params c;
    tvlm_engine_params limited;
    tvlm_session *none_seen;
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 0;
    IS(ARGUMENT, tvlm_generate(engine, session, prompt, &p, &result, &err));
    SAYS("max_tokens is 0");
    tvlm_session_params_init(&c, sizeof c);
    c.max_memory = 0;
    IS(LIMIT, tvlm_session_new(model, &c, &none_seen, &err));
    c.max_memory = SIZE_MAX;
    c.max_images = 0;
    OK(tvlm_session_new(model, &c, &none_seen, &err));
    tvlm_prompt *seeing = ask("Hm?");
    IS(LIMIT, tvlm_generate(engine, none_seen, seeing, NULL, &result, &err));
    SAYS("the limit is 0");
    tvlm_prompt_free(seeing);
    tvlm_session_free(none_seen);
    c.max_images = 8;
    c.max_prompt_bytes = 0;
    OK(tvlm_session_new(model, &c, &none_seen, &err));
    seeing = ask("Hm?");
    IS(LIMIT, tvlm_generate(engine, none_seen, seeing, NULL, &result, &err));
    SAYS("bytes of text, the limit is 0");
    tvlm_prompt_free(seeing);
    tvlm_session_free(none_seen);
    tvlm_engine_params_init(&limited, sizeof limited);
    limited.max_batch_tokens = 0;
    IS(ARGUMENT, tvlm_engine_new(model, &limited, &none_made, &err));
    SAYS("max_batch_tokens is 0");
    limited.max_batch_tokens = 1;
    limited.max_pixels = 0;
    OK(tvlm_engine_new(model, &limited, &none_made, &err));
    IS(LIMIT, tvlm_image_encode(none_made, &pixels, NULL, &none, &err));
    tvlm_engine_free(none_made);
    tvlm_batcher_free(batcher);
    tvlm_engine_free(other);
    tvlm_session_free(session);
    tvlm_prompt_free(prompt);
    tvlm_prompt_free(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_meet),
        cmocka_unit_test(pictures_on_threads),
        cmocka_unit_test(asking_again_does_not_look_again),
        cmocka_unit_test(cancel_while_encoding),
        cmocka_unit_test(cancel_of_preprocessing),
        cmocka_unit_test(cancel_while_reading_the_prompt),
        cmocka_unit_test(cancel_while_answering),
        cmocka_unit_test(cancel_in_company),
        cmocka_unit_test(a_full_pass_runs_at_once),
        cmocka_unit_test(cancel_of_the_leader),
        cmocka_unit_test(answers_are_utf8),
        cmocka_unit_test(a_cut_answer_has_the_same_text),
        cmocka_unit_test(stop_strings_are_utf8),
        cmocka_unit_test(guesses_change_no_answer),
        cmocka_unit_test(events_are_the_answer),
        cmocka_unit_test(answers_by_turns),
        cmocka_unit_test(an_answer_left),
        cmocka_unit_test(a_cancelled_answer_is_over),
        cmocka_unit_test(a_longer_event),
        cmocka_unit_test(guesses_where_room_ends),
        cmocka_unit_test(guesses_cut_short),
        cmocka_unit_test(guesses_in_company),
        cmocka_unit_test(one_pass_a_step),
        cmocka_unit_test(a_long_prompt_beside_an_answer),
        cmocka_unit_test(a_cancel_ends_one_call),
        cmocka_unit_test(one_thread_runs_all),
        cmocka_unit_test(a_step_is_a_pass_for_all),
        cmocka_unit_test(a_prompt_may_fill_the_context),
        cmocka_unit_test(submitted_answers_end_early),
        cmocka_unit_test(answers_join_those_of_a_pass_that_stopped),
        cmocka_unit_test(steps_beside_calls),
        cmocka_unit_test(what_submit_refuses),
        cmocka_unit_test(pictures_do_not_stop_answers),
        cmocka_unit_test(each_stage_when_it_is_there),
        cmocka_unit_test(header_alone_does_not_run),
        cmocka_unit_test(arguments_are_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
