/* SPDX-License-Identifier: MIT
 * Every public function with NULL for every pointer: an error that says so, or nothing done. The
 * list of them is read from tinyvlm.h, so that a new function or parameter without its call here
 * fails. */
#include "convert/convert.h"
#include "tensors.h"
#include "tinyvlm.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "check.h"

#define PATH   TVLM_BUILD_DIR "/misuse-tiny.gguf"
#define HEADER TVLM_TEST_DATA "/../../include/tinyvlm.h"

static tvlm_error err;
static tvlm_model *model;
static tvlm_engine *engine;
static tvlm_session *session;
static tvlm_prompt *prompt;
static tvlm_image *image;
static uint8_t grey[16 * 16];
static const tvlm_pixels pixels = {grey, 16, 16, 1, 0};

/* ---- which parameters were given NULL ---- */

enum { MOST = 512 };
static char given[MOST][80];
static size_t n_given;

/* Calls visit(index, text) for each argument or parameter of a list, `(` and `{` respected. */
static void each_argument(const char *list, const char *end,
                          void (*visit)(const char *function, int index, const char *begin,
                                        const char *end),
                          const char *function)
{
    int index = 0, depth = 0;
    for (const char *begin = list, *p = list; p <= end; p++) {
        depth += p < end && strchr("({[", *p) ? 1 : p < end && strchr(")}]", *p) ? -1 : 0;
        if (p < end && (*p != ',' || depth)) continue;
        visit(function, index++, begin, p);
        begin = p + 1;
    }
}

static bool has(const char *function, int index)
{
    char key[80];
    snprintf(key, sizeof key, "%s %d", function, index);
    for (size_t i = 0; i < n_given; i++)
        if (!strcmp(given[i], key)) return true;
    return false;
}

static void note_null(const char *function, int index, const char *begin, const char *end)
{
    while (begin < end && isspace((unsigned char)*begin))
        begin++;
    if (end - begin != 4 || memcmp(begin, "NULL", 4) || has(function, index)) return;
    assert_true(n_given < MOST);
    snprintf(given[n_given++], sizeof given[0], "%s %d", function, index);
}

static void note(const char *function, const char *arguments)
{
    each_argument(arguments, arguments + strlen(arguments), note_null, function);
}

/* An error that says what is NULL, with and without a place for the message. */
#define REFUSES(f, ...)                                                                            \
    do {                                                                                           \
        note(#f, #__VA_ARGS__ ", NULL");                                                           \
        err = (tvlm_error){TVLM_OK, ""};                                                           \
        assert_int_equal(f(__VA_ARGS__, &err), TVLM_ERR_ARGUMENT);                                 \
        if (!strstr(err.message, "NULL")) fail_msg("%s: %s", #f, err.message);                     \
        assert_int_equal(f(__VA_ARGS__, NULL), TVLM_ERR_ARGUMENT);                                 \
    } while (0)
#define TAKES(f, ...)                                                                              \
    do {                                                                                           \
        note(#f, #__VA_ARGS__);                                                                    \
        OK(f(__VA_ARGS__, &err));                                                                  \
    } while (0)
#define IGNORES(f, ...) (note(#f, #__VA_ARGS__), f(__VA_ARGS__))

/* ---- the calls ---- */

static void models(void **state)
{
    (void)state;
    tvlm_model *m;
    tvlm_loader *loader;
    tvlm_model_info info = {.size = sizeof info};
    IGNORES(tvlm_model_params_init, NULL, 0);
    REFUSES(tvlm_model_open, NULL, NULL, &m);
    assert_null(m);
    REFUSES(tvlm_model_open, PATH, NULL, NULL);
    REFUSES(tvlm_model_open_memory, NULL, 5, NULL, &m);
    REFUSES(tvlm_model_open_memory, NULL, 0, NULL, &m);
    REFUSES(tvlm_model_open_memory, grey, sizeof grey, NULL, NULL);
    REFUSES(tvlm_loader_new, NULL, NULL);
    TAKES(tvlm_loader_new, NULL, &loader);
    REFUSES(tvlm_loader_feed, NULL, grey, 3);
    REFUSES(tvlm_loader_feed, loader, NULL, 3);
    TAKES(tvlm_loader_feed, loader, NULL, 0);
    REFUSES(tvlm_loader_finish, NULL, &m);
    REFUSES(tvlm_loader_finish, loader, NULL);
    tvlm_loader_free(loader);
    assert_null(IGNORES(tvlm_loader_model, NULL));
    IGNORES(tvlm_loader_free, NULL);
    IGNORES(tvlm_model_free, NULL);
    assert_int_equal(IGNORES(tvlm_model_stage, NULL), TVLM_STAGE_NONE);
    REFUSES(tvlm_model_get_info, model, NULL);
    REFUSES(tvlm_model_get_info, NULL, &info);
}

static void text(void **state)
{
    (void)state;
    int32_t ids[8] = {1, 2, 3};
    char out[64];
    size_t n;
    REFUSES(tvlm_tokenize, NULL, "a", 1, false, ids, 8, &n);
    REFUSES(tvlm_tokenize, model, NULL, 1, false, ids, 8, &n);
    REFUSES(tvlm_tokenize, model, "a", 1, false, NULL, 8, &n);
    REFUSES(tvlm_tokenize, model, "a", 1, false, ids, 8, NULL);
    TAKES(tvlm_tokenize, model, NULL, 0, false, NULL, 0, &n);
    assert_int_equal(n, 0);
    REFUSES(tvlm_detokenize, NULL, ids, 3, false, out, 64, &n);
    REFUSES(tvlm_detokenize, model, NULL, 3, false, out, 64, &n);
    REFUSES(tvlm_detokenize, model, ids, 3, false, NULL, 64, &n);
    REFUSES(tvlm_detokenize, model, ids, 3, false, out, 64, NULL);
    TAKES(tvlm_detokenize, model, NULL, 0, false, NULL, 0, &n);
    assert_int_equal(n, 0);
}

static void engines_and_pictures(void **state)
{
    (void)state;
    tvlm_engine *e;
    tvlm_image *i;
    float input[8];
    size_t n = 7, dim = 7;
    tvlm_image_timings timings = {.size = sizeof timings};
    tvlm_memory memory = {.size = sizeof memory};
    IGNORES(tvlm_engine_params_init, NULL, 0);
    REFUSES(tvlm_engine_new, NULL, NULL, &e);
    assert_null(e);
    REFUSES(tvlm_engine_new, model, NULL, NULL);
    IGNORES(tvlm_engine_free, NULL);
    assert_int_equal(IGNORES(tvlm_engine_n_threads, NULL), 0);
    IGNORES(tvlm_engine_trim, NULL);
    assert_int_equal(IGNORES(tvlm_preprocess_floats, NULL, &pixels, NULL), 0);
    assert_int_equal(IGNORES(tvlm_preprocess_floats, model, NULL, NULL), 0);
    assert_true(IGNORES(tvlm_preprocess_floats, model, &pixels, NULL) > 0);
    REFUSES(tvlm_preprocess, NULL, &pixels, NULL, input, 8);
    REFUSES(tvlm_preprocess, model, NULL, NULL, input, 8);
    REFUSES(tvlm_preprocess, model, &pixels, NULL, NULL, 8);
    IGNORES(tvlm_encode_params_init, NULL, 0);
    REFUSES(tvlm_image_encode, NULL, &pixels, NULL, &i);
    assert_null(i);
    REFUSES(tvlm_image_encode, engine, NULL, NULL, &i);
    REFUSES(tvlm_image_encode, engine, &pixels, NULL, NULL);
    REFUSES(tvlm_image_from_vision, NULL, input, 2, 4, 16, 16, NULL, &i);
    REFUSES(tvlm_image_from_vision, engine, NULL, 2, 4, 16, 16, NULL, &i);
    REFUSES(tvlm_image_from_vision, engine, input, 2, 4, 16, 16, NULL, NULL);
    IGNORES(tvlm_image_free, NULL);
    assert_null(IGNORES(tvlm_image_tokens, NULL, &n, &dim));
    assert_true(n == 0 && dim == 0);
    assert_non_null(IGNORES(tvlm_image_tokens, image, NULL, NULL));
    assert_null(IGNORES(tvlm_image_vision_tokens, NULL, &n, &dim));
    IGNORES(tvlm_image_vision_tokens, image, NULL, NULL);
    REFUSES(tvlm_image_get_timings, NULL, &timings);
    REFUSES(tvlm_image_get_timings, image, NULL);
    REFUSES(tvlm_image_save, NULL, "x");
    REFUSES(tvlm_image_save, image, NULL);
    REFUSES(tvlm_image_save_memory, NULL, NULL, 0, &n);
    REFUSES(tvlm_image_save_memory, image, NULL, 0, NULL);
    REFUSES(tvlm_image_load, NULL, "x", &i);
    REFUSES(tvlm_image_load, model, NULL, &i);
    REFUSES(tvlm_image_load, model, "x", NULL);
    REFUSES(tvlm_image_load_memory, NULL, "x", 1, &i);
    REFUSES(tvlm_image_load_memory, model, NULL, 1, &i);
    REFUSES(tvlm_image_load_memory, model, "x", 1, NULL);
    REFUSES(tvlm_memory_estimate, NULL, NULL, NULL, &memory);
    REFUSES(tvlm_memory_estimate, model, NULL, NULL, NULL);
    tvlm_work_plan work = {.size = sizeof work};
    REFUSES(tvlm_work_estimate, NULL, 0, 1, &work);
    REFUSES(tvlm_work_estimate, model, 0, 1, NULL);
}

static void prompts(void **state)
{
    (void)state;
    tvlm_prompt *p;
    tvlm_image *none = NULL;
    tvlm_message message = {TVLM_ROLE_USER, "hi", 2, NULL, 0, NULL};
    tvlm_message blind = {TVLM_ROLE_USER, "hi", 2, &none, 1, NULL};
    int32_t id = 1;
    size_t n = 7, rows = tvlm_prompt_n_tokens(prompt);
    REFUSES(tvlm_prompt_new, NULL, &p);
    assert_null(p);
    REFUSES(tvlm_prompt_new, model, NULL);
    IGNORES(tvlm_prompt_free, NULL);
    REFUSES(tvlm_prompt_chat, NULL, &message, 1);
    REFUSES(tvlm_prompt_chat, prompt, NULL, 1);
    REFUSES(tvlm_prompt_chat, prompt, &blind, 1);
    REFUSES(tvlm_prompt_add_text, NULL, "a", 1, false);
    REFUSES(tvlm_prompt_add_text, prompt, NULL, 1, false);
    TAKES(tvlm_prompt_add_text, prompt, NULL, 0, false);
    REFUSES(tvlm_prompt_add_image, NULL, image);
    REFUSES(tvlm_prompt_add_image, prompt, NULL);
    REFUSES(tvlm_prompt_add_ids, NULL, &id, 1);
    REFUSES(tvlm_prompt_add_ids, prompt, NULL, 1);
    TAKES(tvlm_prompt_add_ids, prompt, NULL, 0);
    assert_null(IGNORES(tvlm_prompt_ids, NULL, &n));
    assert_int_equal(n, 0);
    assert_non_null(IGNORES(tvlm_prompt_ids, prompt, NULL));
    assert_int_equal(IGNORES(tvlm_prompt_n_tokens, NULL), 0);
    assert_int_equal(tvlm_prompt_n_tokens(prompt), rows); /* nothing of the above went in */
}

static void sessions(void **state)
{
    (void)state;
    tvlm_session *s;
    size_t size;
    tvlm_input row = {NULL, 1, NULL, false}, wants = {session, 1, NULL, true};
    IGNORES(tvlm_session_params_init, NULL, 0);
    REFUSES(tvlm_session_new, NULL, NULL, &s);
    assert_null(s);
    REFUSES(tvlm_session_new, model, NULL, NULL);
    IGNORES(tvlm_session_free, NULL);
    IGNORES(tvlm_session_reset, NULL);
    IGNORES(tvlm_session_trim, NULL);
    assert_int_equal(IGNORES(tvlm_session_position, NULL), 0);
    assert_null(IGNORES(tvlm_session_logits, NULL));
    REFUSES(tvlm_forward, NULL, &row, 1, NULL, NULL, 0);
    REFUSES(tvlm_forward, engine, NULL, 1, NULL, NULL, 0);
    REFUSES(tvlm_forward, engine, &row, 1, NULL, NULL, 0);
    REFUSES(tvlm_forward, engine, &wants, 1, NULL, NULL, 4096);
    REFUSES(tvlm_session_rewind, NULL, 0);
    REFUSES(tvlm_session_save, NULL, "x");
    REFUSES(tvlm_session_save, session, NULL);
    REFUSES(tvlm_session_save_memory, NULL, NULL, 0, &size);
    REFUSES(tvlm_session_save_memory, session, NULL, 0, NULL);
    REFUSES(tvlm_session_load, NULL, "x");
    REFUSES(tvlm_session_load, session, NULL);
    REFUSES(tvlm_session_load_memory, NULL, "x", 1);
    REFUSES(tvlm_session_load_memory, session, NULL, 1);
    REFUSES(tvlm_session_feed, NULL, session, prompt, NULL, NULL, 0);
    REFUSES(tvlm_session_feed, engine, NULL, prompt, NULL, NULL, 0);
    REFUSES(tvlm_session_feed, engine, session, NULL, NULL, NULL, 0);
    assert_int_equal(tvlm_session_position(session), 0);
}

static void generation(void **state)
{
    (void)state;
    tvlm_result result = {.size = sizeof result};
    tvlm_batcher *batcher;
    tvlm_generate_params p;
    uint64_t random = 1;
    int32_t id;
    IGNORES(tvlm_generate_params_init, NULL, 0);
    IGNORES(tvlm_sampling_init, NULL);
    REFUSES(tvlm_generate, NULL, session, prompt, NULL, &result);
    REFUSES(tvlm_generate, engine, NULL, prompt, NULL, &result);
    REFUSES(tvlm_generate, engine, session, NULL, NULL, &result);
    tvlm_generate_params_init(&p, sizeof p);
    p.n_stop = 1;
    REFUSES(tvlm_generate, engine, session, prompt, &p, &result);
    p.stop = &(const char *){NULL};
    REFUSES(tvlm_generate, engine, session, prompt, &p, &result);
    TAKES(tvlm_generate, engine, session, prompt, NULL, NULL);
    REFUSES(tvlm_ask, NULL, session, &pixels, "a", 1, NULL, &result);
    REFUSES(tvlm_ask, engine, NULL, &pixels, "a", 1, NULL, &result);
    REFUSES(tvlm_ask, engine, session, &pixels, NULL, 1, NULL, &result);
    TAKES(tvlm_ask, engine, session, NULL, NULL, 0, NULL, NULL);
    TAKES(tvlm_generate, engine, session, prompt, NULL, NULL);
    const float *logits = tvlm_session_logits(session);
    tvlm_generation *generation, *stepped;
    tvlm_event event = {.size = sizeof event};
    REFUSES(tvlm_generation_start, NULL, session, prompt, NULL, &generation);
    REFUSES(tvlm_generation_start, engine, NULL, prompt, NULL, &generation);
    REFUSES(tvlm_generation_start, engine, session, NULL, NULL, &generation);
    REFUSES(tvlm_generation_start, engine, session, prompt, NULL, NULL);
    TAKES(tvlm_generation_start, engine, session, prompt, NULL, &generation);
    REFUSES(tvlm_generation_next, NULL, &event);
    REFUSES(tvlm_generation_next, generation, NULL);
    TAKES(tvlm_generation_next, generation, &event);
    REFUSES(tvlm_generation_get_result, NULL, &result);
    REFUSES(tvlm_generation_get_result, generation, NULL);
    tvlm_generation_free(generation);
    IGNORES(tvlm_generation_free, NULL);
    REFUSES(tvlm_sample, NULL, logits, NULL, NULL, 0, &random, &id);
    REFUSES(tvlm_sample, session, logits, NULL, NULL, 3, &random, &id);
    REFUSES(tvlm_sample, session, logits, NULL, NULL, 0, NULL, &id);
    REFUSES(tvlm_sample, session, logits, NULL, NULL, 0, &random, NULL);
    TAKES(tvlm_sample, session, logits, NULL, NULL, 0, &random, &id);
    int32_t same;
    TAKES(tvlm_sample, session, NULL, NULL, NULL, 0, &random, &same);
    assert_int_equal(same, id);
    IGNORES(tvlm_batcher_params_init, NULL, 0);
    REFUSES(tvlm_batcher_new, NULL, NULL, &batcher);
    assert_null(batcher);
    REFUSES(tvlm_batcher_new, engine, NULL, NULL);
    IGNORES(tvlm_batcher_free, NULL);
    TAKES(tvlm_batcher_new, engine, NULL, &batcher);
    TAKES(tvlm_generation_start, engine, session, prompt, NULL, &generation);
    REFUSES(tvlm_batcher_submit, NULL, generation);
    REFUSES(tvlm_batcher_submit, batcher, NULL);
    TAKES(tvlm_batcher_submit, batcher, generation);
    REFUSES(tvlm_batcher_step, NULL, &stepped, &event);
    REFUSES(tvlm_batcher_step, batcher, NULL, &event);
    REFUSES(tvlm_batcher_step, batcher, &stepped, NULL);
    TAKES(tvlm_batcher_step, batcher, &stepped, &event);
    IGNORES(tvlm_batcher_pending, NULL);
    tvlm_generation_free(stepped);
    tvlm_batcher_free(batcher);
}

static void cancels(void **state)
{
    (void)state;
    tvlm_cancel *cancel = tvlm_cancel_new();
    IGNORES(tvlm_cancel_free, NULL);
    IGNORES(tvlm_cancel_request, NULL);
    IGNORES(tvlm_cancel_reset, NULL);
    assert_false(IGNORES(tvlm_cancel_requested, NULL));
    IGNORES(tvlm_cancel_set_poll, NULL, NULL, NULL);
    IGNORES(tvlm_cancel_set_poll, cancel, NULL, NULL);
    tvlm_cancel_free(cancel);
}

/* ---- structs that grow: a size that nobody set ---- */

/* Every struct of the header that begins with its size, with a call that must refuse it: nobody has
 * fewer fields than 0.1. */
static const char null[] = "NULL";
#define SIZED(type, call)                                                                          \
    do {                                                                                           \
        type s;                                                                                    \
        memset(&s, 0, sizeof s);                                                                   \
        note_null("struct " #type, 0, null, null + strlen(null));                                  \
        for (int k = 0; k < 4; k++) {                                                              \
            s.size = (const size_t[]){0, sizeof(size_t), sizeof s - 8, SIZE_MAX}[k];               \
            err = (tvlm_error){TVLM_OK, ""};                                                       \
            assert_int_equal(call, TVLM_ERR_ARGUMENT);                                             \
            if (!strstr(err.message, #type ".size")) fail_msg("%s: %s", #type, err.message);       \
        }                                                                                          \
    } while (0)

static void sizes(void **state)
{
    (void)state;
    tvlm_model *m;
    tvlm_engine *e;
    tvlm_session *c;
    tvlm_image *i;
    tvlm_batcher *b;
    tvlm_generation *g;
    SIZED(tvlm_model_params, tvlm_model_open(PATH, &s, &m, &err));
    SIZED(tvlm_model_info, tvlm_model_get_info(model, &s, &err));
    SIZED(tvlm_engine_params, tvlm_engine_new(model, &s, &e, &err));
    SIZED(tvlm_encode_params, tvlm_image_encode(engine, &pixels, &s, &i, &err));
    SIZED(tvlm_image_timings, tvlm_image_get_timings(image, &s, &err));
    SIZED(tvlm_session_params, tvlm_session_new(model, &s, &c, &err));
    SIZED(tvlm_generate_params, tvlm_generate(engine, session, prompt, &s, NULL, &err));
    SIZED(tvlm_result, tvlm_generate(engine, session, prompt, NULL, &s, &err));
    SIZED(tvlm_batcher_params, tvlm_batcher_new(engine, &s, &b, &err));
    SIZED(tvlm_memory, tvlm_memory_estimate(model, NULL, NULL, &s, &err));
    SIZED(tvlm_work_plan, tvlm_work_estimate(model, 0, 1, &s, &err));
    OK(tvlm_generation_start(engine, session, prompt, NULL, &g, &err));
    SIZED(tvlm_event, tvlm_generation_next(g, &s, &err));
    SIZED(tvlm_result, tvlm_generation_get_result(g, &s, &err));
    tvlm_generation_free(g);
}

/* ---- the header's list ---- */

static size_t missing;

static void check_parameter(const char *function, int index, const char *begin, const char *end)
{
    if (!memchr(begin, '*', (size_t)(end - begin)) || has(function, index)) return;
    print_error("no call of %s with NULL for '%.*s'\n", function, (int)(end - begin), begin);
    missing++;
}

static void check_declaration(const char *text)
{
    char name[64];
    const char *open = strchr(text, '('), *begin = open, *end = strchr(text, ';');
    assert_true(open && end && open < end);
    while (isalnum((unsigned char)begin[-1]) || begin[-1] == '_')
        begin--;
    while (*end != ')')
        end--;
    snprintf(name, sizeof name, "%.*s", (int)(open - begin), begin);
    each_argument(open + 1, end, check_parameter, name);
}

/* The struct whose first field this is. */
static void check_struct(const char *header, const char *field)
{
    const char *begin = field, *open;
    char name[64];
    while (begin > header && strncmp(begin, "typedef struct ", 15))
        begin--;
    open = strstr(begin, " {");
    snprintf(name, sizeof name, "struct %.*s", (int)(open - begin - 15), begin + 15);
    if (has(name, 0)) return;
    print_error("no call that refuses the size of %s\n", name);
    missing++;
}

static void nothing_is_left_out(void **state)
{
    (void)state;
    size_t size, n = 0, n_structs = 0;
    char *header = (char *)read_whole_file(HEADER, &size), *p;
    header = realloc(header, size + 1);
    assert_non_null(header);
    header[size] = '\0';
    for (p = header; (p = strstr(p, "\nTVLM_API ")); n++)
        check_declaration(++p);
    for (p = header; (p = strstr(p, "    size_t size; ")); p++, n_structs++)
        check_struct(header, p);
    free(header);
    assert_true(n > 50);
    assert_int_equal(n_structs, 12);
    assert_int_equal(missing, 0);
}

static int setup(void **state)
{
    (void)state;
    tvlmc_convert_params c;
    tvlm_engine_params e;
    tvlmc_convert_params_init(&c);
    OK(tvlmc_convert(TVLM_TEST_DATA "/golden/tiny", PATH, &c, &err));
    OK(tvlm_model_open(PATH, NULL, &model, &err));
    tvlm_engine_params_init(&e, sizeof e);
    e.n_threads = 1;
    OK(tvlm_engine_new(model, &e, &engine, &err));
    OK(tvlm_session_new(model, NULL, &session, &err));
    OK(tvlm_image_encode(engine, &pixels, NULL, &image, &err));
    OK(tvlm_prompt_new(model, &prompt, &err));
    tvlm_message m = {TVLM_ROLE_USER, "hi", 2, &image, 1, NULL};
    OK(tvlm_prompt_chat(prompt, &m, 1, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tvlm_prompt_free(prompt);
    tvlm_image_free(image);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
    tvlm_model_free(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models),
        cmocka_unit_test(text),
        cmocka_unit_test(engines_and_pictures),
        cmocka_unit_test(prompts),
        cmocka_unit_test(sessions),
        cmocka_unit_test(generation),
        cmocka_unit_test(cancels),
        cmocka_unit_test(sizes),
        cmocka_unit_test(nothing_is_left_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
