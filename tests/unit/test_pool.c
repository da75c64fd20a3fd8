/* SPDX-License-Identifier: MIT
 * Thread pool: every task once, results visible, cancel, sleep and wake, lifetime. */
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_TASKS = 1000 };

static const unsigned thread_counts[] = {1, 2, 3, 8};

static tvlm_pool *make_pool(unsigned n_threads)
{
    tvlm_pool *pool = NULL;
    tvlm_error err;
    assert_int_equal(tvlm_pool_new(n_threads, &pool, &err), TVLM_OK);
    assert_non_null(pool);
    assert_int_equal(tvlm_pool_threads(pool), n_threads);
    return pool;
}

/* Plain (not atomic) cells: ThreadSanitizer sees whether the pool orders their accesses. */
typedef struct board {
    unsigned runs[MAX_TASKS];
    unsigned last_thread[MAX_TASKS];
} board;

static void tick(void *ctx, size_t task, unsigned thread)
{
    board *b = ctx;
    b->runs[task]++;
    b->last_thread[task] = thread;
}

static void check_each_task_once(tvlm_pool *pool)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, MAX_TASKS};
    board *b = calloc(1, sizeof *b);
    assert_non_null(b);
    for (size_t round = 0; round < 50; round++) {
        for (size_t i = 0; i < TVLM_COUNT(sizes); i++) {
            memset(b, 0, sizeof *b);
            assert_true(tvlm_pool_for(pool, sizes[i], tick, b, NULL));
            for (size_t task = 0; task < MAX_TASKS; task++) {
                assert_int_equal(b->runs[task], task < sizes[i]);
                assert_true(b->last_thread[task] < tvlm_pool_threads(pool));
            }
        }
    }
    free(b);
}

static void test_each_task_once(void **state)
{
    (void)state;
    check_each_task_once(NULL);
    for (size_t i = 0; i < TVLM_COUNT(thread_counts); i++) {
        tvlm_pool *pool = make_pool(thread_counts[i]);
        check_each_task_once(pool);
        tvlm_pool_free(pool);
    }
}

/* Each job reads what other tasks of the job before wrote: a chain of dependent jobs. */
typedef struct chain {
    uint32_t cells[2][64];
    unsigned step;
} chain;

static void advance(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    chain *c = ctx;
    const uint32_t *from = c->cells[c->step & 1];
    c->cells[~c->step & 1][task] = from[(task + 63) % 64] * 5 + from[(task + 1) % 64] + 1;
}

static void run_chain(tvlm_pool *pool, chain *c)
{
    memset(c, 0, sizeof *c);
    for (c->step = 0; c->step < 2000; c->step++)
        assert_true(tvlm_pool_for(pool, 64, advance, c, NULL));
}

static void test_jobs_see_earlier_jobs(void **state)
{
    (void)state;
    chain want, got;
    run_chain(NULL, &want);
    for (size_t i = 0; i < TVLM_COUNT(thread_counts); i++) {
        tvlm_pool *pool = make_pool(thread_counts[i]);
        run_chain(pool, &got);
        assert_memory_equal(got.cells, want.cells, sizeof want.cells);
        tvlm_pool_free(pool);
    }
}

static void nap(unsigned ms)
{
    tvlm_mutex lock;
    tvlm_cond never;
    tvlm_mutex_init(&lock);
    tvlm_cond_init(&never);
    tvlm_mutex_lock(&lock);
    tvlm_cond_wait_ms(&never, &lock, ms);
    tvlm_mutex_unlock(&lock);
    tvlm_cond_destroy(&never);
    tvlm_mutex_destroy(&lock);
}

typedef struct rendezvous {
    atomic_uint present;
    unsigned cores[2]; /* that the two threads may use */
} rendezvous;

/* Two tasks that each wait for the other: they can only end on two threads at once. */
static void meet(void *ctx, size_t task, unsigned thread)
{
    (void)thread;
    rendezvous *r = ctx;
    r->cores[task] = tvlm_cpu_count();
    atomic_fetch_add(&r->present, 1);
    for (int i = 0; i < 100000 && atomic_load(&r->present) < 2; i++)
        nap(1);
}

static void test_sleeping_threads_wake(void **state)
{
    (void)state;
    tvlm_pool *pool = make_pool(2);
    for (int round = 0; round < 20; round++) {
        rendezvous r;
        atomic_init(&r.present, 0);
        nap(round % 2 ? 5 : 0); /* long enough to end the spin, or not at all */
        assert_true(tvlm_pool_for(pool, 2, meet, &r, NULL));
        assert_int_equal(atomic_load(&r.present), 2);
        assert_int_equal(r.cores[0], tvlm_cpu_count());
        assert_int_equal(r.cores[1], tvlm_cpu_count());
    }
    tvlm_pool_free(pool);
}

/* The caller's tasks end first, so that it waits for the others asleep. */
static void doze(void *ctx, size_t task, unsigned thread)
{
    unsigned *done = ctx;
    nap(thread == 0 ? 0 : 3);
    done[task] = 1;
}

static void test_caller_waits(void **state)
{
    (void)state;
    tvlm_pool *pool = make_pool(4);
    for (int round = 0; round < 10; round++) {
        unsigned done[8] = {0};
        assert_true(tvlm_pool_for(pool, 8, doze, done, NULL));
        for (size_t i = 0; i < 8; i++)
            assert_int_equal(done[i], 1);
    }
    tvlm_pool_free(pool);
}

typedef struct stopper {
    tvlm_cancel *cancel;
    atomic_uint runs;
} stopper;

static void request_at_ten(void *ctx, size_t task, unsigned thread)
{
    (void)task, (void)thread;
    stopper *s = ctx;
    if (atomic_fetch_add(&s->runs, 1) + 1 == 10) tvlm_cancel_request(s->cancel);
}

static void check_cancel(tvlm_pool *pool)
{
    stopper s = {.cancel = tvlm_cancel_new()};
    assert_non_null(s.cancel);
    atomic_init(&s.runs, 0);
    assert_false(tvlm_pool_for(pool, MAX_TASKS, request_at_ten, &s, s.cancel));
    unsigned runs = atomic_load(&s.runs);
    assert_true(runs >= 10 && runs < MAX_TASKS);
    /* Still raised: nothing runs. */
    assert_false(tvlm_pool_for(pool, MAX_TASKS, request_at_ten, &s, s.cancel));
    assert_int_equal(atomic_load(&s.runs), runs);
    /* Lowered: the pool works as before. */
    tvlm_cancel_reset(s.cancel);
    atomic_store(&s.runs, 100);
    assert_true(tvlm_pool_for(pool, MAX_TASKS, request_at_ten, &s, s.cancel));
    assert_int_equal(atomic_load(&s.runs), 100 + MAX_TASKS);
    tvlm_cancel_free(s.cancel);
}

static void test_cancel(void **state)
{
    (void)state;
    check_cancel(NULL);
    for (size_t i = 0; i < TVLM_COUNT(thread_counts); i++) {
        tvlm_pool *pool = make_pool(thread_counts[i]);
        check_cancel(pool);
        tvlm_pool_free(pool);
    }
}

static void test_lifetime(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        tvlm_pool_free(make_pool(1 + (unsigned)i % 5)); /* freed asleep, spinning or starting */
    tvlm_pool_free(NULL);
    assert_int_equal(tvlm_pool_threads(NULL), 1);
    assert_true(tvlm_cpu_count() >= 1);
}

static void test_refuses(void **state)
{
    (void)state;
    tvlm_pool *pool;
    tvlm_error err;
    assert_int_equal(tvlm_pool_new(0, &pool, &err), TVLM_ERR_ARGUMENT);
    assert_null(pool);
    assert_int_equal(tvlm_pool_new(1000000, &pool, &err), TVLM_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "n_threads"));
}

static void test_bytes(void **state)
{
    (void)state;
    size_t one = tvlm_pool_bytes(1), each = tvlm_pool_bytes(2) - one;
    assert_true(one > 0 && each > 0);
    assert_int_equal(tvlm_pool_bytes(9), one + 8 * each);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_task_once),
        cmocka_unit_test(test_jobs_see_earlier_jobs),
        cmocka_unit_test(test_sleeping_threads_wake),
        cmocka_unit_test(test_caller_waits),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
