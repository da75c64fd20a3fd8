/* SPDX-License-Identifier: MIT
 * Structs that grow, between versions: the caller may know fewer fields than the library, or more.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* As version 0.1 has it, this one, and a later one. */
typedef struct first {
    size_t size;
    int a;
} first;
typedef struct second {
    size_t size;
    int a, b;
} second;
typedef struct third {
    size_t size;
    int a, b, c, e;
    const char *d;
} third;

static const second defaults = {sizeof defaults, 1, 2};
static tvlm_error err;

/* A caller's memory, of which the struct is the beginning. */
static unsigned char memory[64];

static void fill(void)
{
    memset(memory, 0xa5, sizeof memory);
}

static void assert_untouched(size_t from)
{
    for (size_t i = from; i < sizeof memory; i++)
        assert_int_equal(memory[i], 0xa5);
}

static void init_writes_as_much_as_there_is(void **state)
{
    (void)state;
    first old;
    third new;
    for (size_t size = 0; size <= sizeof(third); size++) {
        fill();
        tvlm_sized_init(memory, size, &defaults, sizeof defaults);
        assert_untouched(size < sizeof size ? 0 : size);
    }
    fill();
    tvlm_sized_init(memory, sizeof old, &defaults, sizeof defaults);
    memcpy(&old, memory, sizeof old);
    assert_true(old.size == sizeof old && old.a == 1);
    fill();
    tvlm_sized_init(memory, sizeof new, &defaults, sizeof defaults);
    memcpy(&new, memory, sizeof new);
    assert_true(new.size == sizeof new &&new.a == 1 && new.b == 2 && new.c == 0 && !new.d);
    tvlm_sized_init(NULL, sizeof new, &defaults, sizeof defaults);
}

static tvlm_status read_into(second *out, const void *in)
{
    *out = defaults;
    return tvlm_sized_read(out, in, TVLM_SIZED(second, a), &err);
}

static void parameters_of_other_versions_are_read(void **state)
{
    (void)state;
    second got;
    first old = {offsetof(second, b), 7};
    third new = {sizeof new, 7, 8, 0, 0, NULL};
    assert_int_equal(read_into(&got, NULL), TVLM_OK);
    assert_memory_equal(&got, &defaults, sizeof got);
    assert_int_equal(read_into(&got, &old), TVLM_OK);
    assert_true(got.size == sizeof got && got.a == 7 && got.b == 2);
    assert_int_equal(read_into(&got, &new), TVLM_OK);
    assert_true(got.size == sizeof got && got.a == 7 && got.b == 8);
}

static void fields_that_are_not_known_are_not_passed_by(void **state)
{
    (void)state;
    second got;
    third set = {sizeof set, 7, 8, 1, 0, NULL}, pointed = {sizeof set, 7, 8, 0, 0, "x"};
    assert_int_equal(read_into(&got, &set), TVLM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "second has a field set that version"));
    assert_int_equal(read_into(&got, &pointed), TVLM_ERR_UNSUPPORTED);
    set.size = sizeof(second); /* what is behind the struct is not looked at */
    assert_int_equal(read_into(&got, &set), TVLM_OK);
}

static void sizes_that_nobody_set_are_refused(void **state)
{
    (void)state;
    second got;
    static const size_t bad[] = {0, sizeof(size_t), offsetof(second, b) - 1, 4097, SIZE_MAX};
    for (size_t i = 0; i < TVLM_COUNT(bad); i++) {
        second s = {bad[i], 1, 2};
        assert_int_equal(read_into(&got, &s), TVLM_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "second.size is"));
        assert_int_equal(tvlm_sized_check(&s, TVLM_SIZED(second, a), NULL), TVLM_ERR_ARGUMENT);
    }
}

static void results_fill_the_struct_that_there_is(void **state)
{
    (void)state;
    second from = {0, 5, 6};
    third got;
    for (size_t size = offsetof(second, b); size <= sizeof(third); size++) {
        fill();
        memcpy(memory, &size, sizeof size);
        tvlm_sized_write(memory, &from, TVLM_SIZED(second, a));
        assert_memory_equal(memory, &size, sizeof size);
        assert_untouched(size);
    }
    memcpy(&got, memory, sizeof got);
    assert_true(got.a == 5 && got.b == 6 && got.c == 0 && !got.d);
}

/* What tinyvlm.h says that the _init functions write. */
static void defaults_are_those_of_the_header(void **state)
{
    (void)state;
    tvlm_model_params m;
    tvlm_engine_params e;
    tvlm_encode_params i;
    tvlm_session_params s;
    tvlm_generate_params g;
    tvlm_batcher_params b;
    tvlm_model_params_init(&m, sizeof m);
    assert_true(m.size == sizeof m && !m.header_only && !m.skip_checksums && !m.cpu);
    assert_true(m.max_memory == SIZE_MAX && !m.chat_template && !m.on_progress && !m.user);
    assert_true(!m.file_bytes && !m.precision && !m.n_threads && !m.cancel);
    tvlm_engine_params_init(&e, sizeof e);
    assert_true(e.size == sizeof e && !e.n_threads && e.max_batch_tokens == 256);
    assert_true(e.max_memory == SIZE_MAX && e.max_pixels == TVLM_DEFAULT_MAX_PIXELS && !e.on_log);
    tvlm_encode_params_init(&i, sizeof i);
    assert_true(i.size == sizeof i && i.fit == TVLM_FIT_MODEL && !i.keep_vision_tokens);
    assert_null(i.cancel);
    tvlm_session_params_init(&s, sizeof s);
    assert_true(s.size == sizeof s && !s.n_ctx && s.kv_type == TVLM_KV_F16 && s.max_images == 8);
    assert_true(s.max_prompt_bytes == 1u << 20 && s.max_memory == SIZE_MAX);
    tvlm_generate_params_init(&g, sizeof g);
    assert_true(g.size == sizeof g && g.max_tokens == 256 && !g.ignore_eos && !g.n_stop);
    assert_true(!g.stop && !g.on_text && !g.cancel && !g.batcher && !g.lookup && !g.logprobs);
    tvlm_sampling sampling;
    tvlm_sampling_init(&sampling);
    assert_memory_equal(&sampling, &g.sampling, sizeof sampling);
    assert_true(sampling.temperature == 0 && sampling.top_k == 0 && sampling.top_p == 1);
    assert_true(sampling.min_p == 0 && sampling.repeat_penalty == 1);
    assert_true(sampling.repeat_last_n == 64 && sampling.seed == 0);
    tvlm_batcher_params_init(&b, sizeof b);
    assert_true(b.size == sizeof b && b.max_batch_size == 8 && b.timeout_ms == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_writes_as_much_as_there_is),
        cmocka_unit_test(parameters_of_other_versions_are_read),
        cmocka_unit_test(fields_that_are_not_known_are_not_passed_by),
        cmocka_unit_test(sizes_that_nobody_set_are_refused),
        cmocka_unit_test(results_fill_the_struct_that_there_is),
        cmocka_unit_test(defaults_are_those_of_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
