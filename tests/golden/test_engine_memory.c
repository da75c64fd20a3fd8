/* SPDX-License-Identifier: MIT
 * The estimate against what the engine really takes, and no allocation while answering. Linked with
 * --wrap: every call of the library to the allocator goes through here. */
#include "tinyvlm.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "check.h"

#define TINYVLM TVLM_TEST_DATA "/../../models/tinyvlm-25m.gguf"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
int __real_posix_memalign(void **out, size_t align, size_t size);
void __real_free(void *block);
void *__real_tvlm_pages_alloc(size_t size, bool dense);
void __real_tvlm_pages_free(void *pages, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void __wrap_free(void *block);
void *__wrap_tvlm_pages_alloc(size_t size, bool dense);
void __wrap_tvlm_pages_free(void *pages, size_t size);

/* Live blocks with the sizes asked for. */
static struct {
    void *block;
    size_t size;
} live[4096];
static size_t n_live, bytes, peak, calls;

static void *note(void *block, size_t size)
{
    assert_true(n_live < sizeof live / sizeof *live);
    calls++;
    if (!block) return NULL;
    live[n_live].block = block;
    live[n_live++].size = size;
    bytes += size;
    peak = bytes > peak ? bytes : peak;
    return block;
}

static void forget(const void *block)
{
    for (size_t i = n_live; i-- > 0;)
        if (live[i].block == block) {
            bytes -= live[i].size;
            live[i] = live[--n_live];
            return;
        }
}

void *__wrap_malloc(size_t size)
{
    return note(__real_malloc(size), size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return note(__real_calloc(n, size), n * size);
}

void *__wrap_realloc(void *block, size_t size)
{
    forget(block);
    return note(__real_realloc(block, size), size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return note(__real_aligned_alloc(align, size), size);
}

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
    int code = __real_posix_memalign(out, align, size);
    if (!code) note(*out, size);
    return code;
}

void __wrap_free(void *block)
{
    if (block) forget(block);
    __real_free(block);
}

/* Pages that are mapped count as asked for; smaller blocks come from the allocator above. */
void *__wrap_tvlm_pages_alloc(size_t size, bool dense)
{
    size_t noted = n_live;
    void *pages = __real_tvlm_pages_alloc(size, dense);
    return n_live > noted ? pages : note(pages, size);
}

void __wrap_tvlm_pages_free(void *pages, size_t size)
{
    if (pages) forget(pages);
    __real_tvlm_pages_free(pages, size);
}

static tvlm_error err;

/* What is held after a step, having never held more within it. */
static size_t settled(void)
{
    assert_int_equal(peak, bytes);
    return bytes;
}

/* The scratch of the two that take turns is in the engine's bytes once, beside the pool and little
 * else; the largest buffer is in one of them; the cache holds two half rows a layer and position.
 */
static void check_parts(const tvlm_memory *m, unsigned threads)
{
    uint64_t vision = m->vision_scratch_bytes, decoder = m->decoder_scratch_bytes;
    uint64_t more = vision > decoder ? vision : decoder;
    assert_true(vision > 0 && decoder > 0);
    assert_in_range(m->engine_bytes - more, 1, 65536 + 65536 * threads);
    assert_in_range(m->largest_buffer_bytes, 1, more);
    assert_int_equal(m->kv_bytes % (100 * threads), 0);
    assert_in_range(m->kv_bytes, 1, m->session_bytes);
}

static void estimate_is_what_is_taken(void **state)
{
    (void)state;
    static uint8_t grey[65535 * 2]; /* the widest picture */
    tvlm_pixels pixels = {grey, 65535, 2, 1, 0};
    for (unsigned threads = 1; threads <= 3; threads++) {
        tvlm_model *model, *header;
        tvlm_engine *engine;
        tvlm_session *session;
        tvlm_image *image;
        tvlm_memory want = {.size = sizeof want}, early = {.size = sizeof early};
        tvlm_model_params m;
        tvlm_engine_params e;
        tvlm_session_params s;
        tvlm_model_params_init(&m, sizeof m);
        m.header_only = true;
        tvlm_engine_params_init(&e, sizeof e);
        e.n_threads = threads;
        tvlm_session_params_init(&s, sizeof s);
        s.n_ctx = 100 * threads;
        s.max_beams = 2 * threads - 1;
        OK(tvlm_model_open(TINYVLM, &m, &header, &err));
        OK(tvlm_memory_estimate(header, &e, &s, &early, &err));
        tvlm_model_free(header);

        size_t before = peak = bytes;
        OK(tvlm_model_open(TINYVLM, NULL, &model, &err));
        size_t at_model = bytes;
        size_t loading = peak - before;
        peak = bytes;
        OK(tvlm_engine_new(model, &e, &engine, &err));
        size_t at_engine = settled();
        OK(tvlm_session_new(model, &s, &session, &err));
        size_t at_session = settled();
        OK(tvlm_image_encode(engine, &pixels, NULL, &image, &err));
        size_t at_image = settled();
        OK(tvlm_memory_estimate(model, &e, &s, &want, &err));
        assert_memory_equal(&want, &early, sizeof want);
        assert_int_equal(at_model - before, want.model_bytes);
        assert_int_equal(at_engine - at_model, want.engine_bytes);
        assert_int_equal(at_session - at_engine, want.session_bytes);
        assert_int_equal(at_image - at_session, want.image_bytes);
        assert_int_equal(peak - before, want.total_bytes);
        check_parts(&want, threads);
        assert_true(loading <= want.total_bytes); /* what only loading takes is gone by then */
        tvlm_image_free(image);
        tvlm_session_free(session);
        tvlm_engine_free(engine);
        tvlm_model_free(model);
        assert_int_equal(bytes, before); /* and nothing is left */
    }
}

static void answering_allocates_nothing(void **state)
{
    (void)state;
    static uint8_t grey[32 * 32];
    tvlm_pixels pixels = {grey, 32, 32, 1, 0};
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_session *session;
    tvlm_image *image;
    tvlm_prompt *prompt;
    tvlm_result result = {.size = sizeof result};
    tvlm_session_params s;
    tvlm_generate_params p;
    OK(tvlm_model_open(TINYVLM, NULL, &model, &err));
    OK(tvlm_engine_new(model, NULL, &engine, &err));
    tvlm_session_params_init(&s, sizeof s);
    s.max_beams = 4;
    OK(tvlm_session_new(model, &s, &session, &err));
    OK(tvlm_image_encode(engine, &pixels, NULL, &image, &err));
    OK(tvlm_prompt_new(model, &prompt, &err));
    tvlm_message m = {TVLM_ROLE_USER, "What is this?", 13, &image, 1, NULL};
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 40;
    p.ignore_eos = true;
    static const tvlm_sampling ways[] = {
        {.top_p = 1, .repeat_penalty = 1},
        {.temperature = 1, .seed = 1, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1,
         .top_k = 40,
         .top_p = 0.9f,
         .min_p = 0.01f,
         .repeat_penalty = 1.1f,
         .repeat_last_n = 64},
        {.top_p = 1, .repeat_penalty = 1, .no_repeat_ngram = 2},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        size_t before = calls;
        p.sampling = ways[i];
        p.lookup = i == 0;
        p.beams = i == 3 ? 4 : 1;
        OK(tvlm_generate(engine, session, prompt, &p, &result, &err));
        assert_int_equal(result.n_ids, 40);
        uint64_t random = 1;
        int32_t id;
        OK(tvlm_sample(session, NULL, &ways[i], result.ids, result.n_ids, &random, &id, &err));
        assert_int_equal(calls, before);
    }
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
}

/* ---- limits ---- */

static const uint8_t picture[64 * 48 * 3] = {200, 30, 30, 90, 7};

typedef struct talk {
    size_t at_engine, held; /* bytes: the engine's, all at most */
    int32_t ids[6];
} talk;

/* Everything that an answer about an image takes, beside the model. */
static talk speak(tvlm_engine *engine, const tvlm_model *model, size_t before)
{
    talk t = {.at_engine = bytes - before};
    tvlm_pixels pixels = {picture, 64, 48, 3, 0};
    tvlm_session *session;
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    OK(tvlm_session_new(model, NULL, &session, &err));
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 6;
    p.ignore_eos = true;
    OK(tvlm_ask(engine, session, &pixels, "What is this, how large, and of what?", 37, &p, &result,
                &err));
    assert_int_equal(result.n_ids, 6);
    memcpy(t.ids, result.ids, sizeof t.ids);
    tvlm_session_free(session);
    t.held = peak - before;
    return t;
}

static uint64_t scratch_of(const tvlm_memory *m)
{
    uint64_t vision = m->vision_scratch_bytes, decoder = m->decoder_scratch_bytes;
    return vision > decoder ? vision : decoder;
}

/* One limit: the answer within it, or a refusal that takes nothing. */
static bool kept(const tvlm_model *model, tvlm_engine_params e, size_t limit, const talk *free)
{
    tvlm_engine *engine;
    tvlm_memory m = {.size = sizeof m};
    e.max_memory = limit;
    size_t before = peak = bytes, called = calls;
    tvlm_status planned = tvlm_memory_estimate(model, &e, NULL, &m, &err);
    assert_int_equal(tvlm_engine_new(model, &e, &engine, &err), planned);
    if (planned) {
        assert_int_equal(planned, TVLM_ERR_LIMIT);
        SAYS("of scratch, the limit is");
        assert_int_equal(calls, called);
        return false;
    }
    talk t = speak(engine, model, before);
    uint64_t scratch = scratch_of(&m);
    assert_true(scratch <= limit && t.at_engine - (m.engine_bytes - scratch) <= limit);
    assert_true(t.held <= m.engine_bytes + m.session_bytes + m.image_bytes + 65536); /* a prompt */
    assert_memory_equal(t.ids, free->ids, sizeof t.ids);
    tvlm_engine_free(engine);
    return true;
}

static void check_limits(const char *path, const char *chat_template)
{
    tvlm_model *model;
    tvlm_engine *engine;
    tvlm_engine_params e;
    tvlm_model_params p;
    tvlm_memory all = {.size = sizeof all};
    size_t n_kept = 0, n_refused = 0;
    tvlm_model_params_init(&p, sizeof p);
    p.chat_template = chat_template;
    OK(tvlm_model_open(path, &p, &model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 2;
    OK(tvlm_memory_estimate(model, &e, NULL, &all, &err));
    OK(tvlm_engine_new(model, &e, &engine, &err));
    talk free = speak(engine, model, bytes);
    tvlm_engine_free(engine);
    size_t most = (size_t)scratch_of(&all);
    for (size_t limit = most + most / 8; limit > most / 64; limit -= limit / 12)
        if (kept(model, e, limit, &free))
            n_kept++;
        else
            n_refused++;
    assert_true(n_kept >= 2 && n_refused >= 3);
    tvlm_model *none;
    tvlm_model_info info = {.size = sizeof info};
    OK(tvlm_model_get_info(model, &info, &err));
    p.max_memory = (size_t)info.weight_bytes - 1;
    size_t before = peak = bytes;
    IS(LIMIT, tvlm_model_open(path, &p, &none, &err));
    assert_int_equal(bytes, before); /* until then: the header and a piece of the file */
    assert_true(peak - before < 3 * (all.model_bytes - info.weight_bytes) + (1 << 21));
    tvlm_session *session;
    tvlm_session_params s;
    tvlm_session_params_init(&s, sizeof s);
    s.max_memory = 1000;
    size_t called = calls;
    IS(LIMIT, tvlm_session_new(model, &s, &session, &err));
    assert_int_equal(calls, called);
    tvlm_model_free(model);
}

static void limits_are_kept(void **state)
{
    (void)state;
    check_limits(TINYVLM, NULL);
    check_limits(TVLM_TEST_DATA "/../fuzz/corpus/gguf/fastvlm.gguf", "fastvlm");
    check_limits(TVLM_TEST_DATA "/../fuzz/corpus/gguf/smolvlm.gguf", "smolvlm");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimate_is_what_is_taken),
        cmocka_unit_test(answering_allocates_nothing),
        cmocka_unit_test(limits_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
