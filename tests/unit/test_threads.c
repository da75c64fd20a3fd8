/* SPDX-License-Identifier: MIT
 * The floor's threads: locks exclude, signals and broadcasts wake, timed waits end. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { THREADS = 4, TIMES = 20000 };

/* Plain cells: ThreadSanitizer sees whether the lock orders their accesses. */
typedef struct desk {
    tvlm_mutex lock;
    tvlm_cond changed;
    unsigned sum, asleep, awake;
    bool open;
} desk;

static void make_desk(desk *d)
{
    *d = (desk){0};
    tvlm_mutex_init(&d->lock);
    tvlm_cond_init(&d->changed);
}

static void free_desk(desk *d)
{
    tvlm_cond_destroy(&d->changed);
    tvlm_mutex_destroy(&d->lock);
}

static void start_all(tvlm_thread *threads, void (*run)(void *), desk *d)
{
    for (int i = 0; i < THREADS; i++)
        assert_true(tvlm_thread_start(&threads[i], run, d));
}

static void join_all(tvlm_thread *threads)
{
    for (int i = 0; i < THREADS; i++)
        tvlm_thread_join(&threads[i]);
}

static void count(void *arg)
{
    desk *d = arg;
    for (int i = 0; i < TIMES; i++) {
        tvlm_mutex_lock(&d->lock);
        d->sum++;
        tvlm_mutex_unlock(&d->lock);
    }
}

static void test_a_lock_excludes(void **state)
{
    desk d;
    tvlm_thread threads[THREADS];
    (void)state;
    make_desk(&d);
    start_all(threads, count, &d);
    join_all(threads);
    assert_int_equal(d.sum, THREADS * TIMES);
    free_desk(&d);
}

static void wait_until_open(void *arg)
{
    desk *d = arg;
    tvlm_mutex_lock(&d->lock);
    d->asleep++;
    while (!d->open)
        tvlm_cond_wait(&d->changed, &d->lock);
    d->awake++;
    tvlm_mutex_unlock(&d->lock);
}

/* Who has counted itself asleep has the lock until it waits. */
static void wait_for_sleepers(desk *d)
{
    tvlm_mutex_lock(&d->lock);
    while (d->asleep < THREADS)
        tvlm_cond_wait_ms(&d->changed, &d->lock, 1);
}

static void test_a_broadcast_wakes_all(void **state)
{
    desk d;
    tvlm_thread threads[THREADS];
    (void)state;
    make_desk(&d);
    start_all(threads, wait_until_open, &d);
    wait_for_sleepers(&d);
    d.open = true;
    tvlm_cond_broadcast(&d.changed);
    tvlm_mutex_unlock(&d.lock);
    join_all(threads);
    assert_int_equal(d.awake, THREADS);
    free_desk(&d);
}

static void take_one(void *arg)
{
    desk *d = arg;
    tvlm_mutex_lock(&d->lock);
    d->asleep++;
    while (!d->sum)
        tvlm_cond_wait(&d->changed, &d->lock);
    d->sum--;
    d->awake++;
    tvlm_mutex_unlock(&d->lock);
}

static void test_each_signal_wakes_one(void **state)
{
    desk d;
    tvlm_thread threads[THREADS];
    (void)state;
    make_desk(&d);
    start_all(threads, take_one, &d);
    wait_for_sleepers(&d);
    tvlm_mutex_unlock(&d.lock);
    for (int i = 0; i < THREADS; i++) {
        tvlm_mutex_lock(&d.lock);
        d.sum++;
        tvlm_cond_signal(&d.changed);
        tvlm_mutex_unlock(&d.lock);
    }
    join_all(threads);
    assert_int_equal(d.sum, 0);
    assert_int_equal(d.awake, THREADS);
    free_desk(&d);
}

/* Nobody signals: it says so, with the lock held again, and not before the time is over. */
static void test_a_timed_wait_ends(void **state)
{
    static const unsigned spans[] = {0, 1, 30, 1030};
    desk d;
    (void)state;
    make_desk(&d);
    tvlm_mutex_lock(&d.lock);
    for (size_t i = 0; i < TVLM_COUNT(spans); i++) {
        double begin = tvlm_now_ms();
        while (tvlm_cond_wait_ms(&d.changed, &d.lock, spans[i])) /* it may wake for nothing */
            begin = tvlm_now_ms();
        assert_true(tvlm_now_ms() - begin > spans[i] - 1.0);
    }
    tvlm_mutex_unlock(&d.lock);
    free_desk(&d);
}

static void open_the_desk(void *arg)
{
    desk *d = arg;
    tvlm_mutex_lock(&d->lock);
    d->open = true;
    tvlm_cond_signal(&d->changed);
    tvlm_mutex_unlock(&d->lock);
}

/* The longest wait there is: for ever on some systems if it were passed on as it is, over at once
 * if it overflowed. */
static void test_a_signal_ends_a_timed_wait(void **state)
{
    desk d;
    tvlm_thread thread;
    bool in_time = true;
    (void)state;
    make_desk(&d);
    tvlm_mutex_lock(&d.lock);
    assert_true(tvlm_thread_start(&thread, open_the_desk, &d));
    while (!d.open && in_time)
        in_time = tvlm_cond_wait_ms(&d.changed, &d.lock, UINT32_MAX);
    assert_true(d.open && in_time);
    tvlm_mutex_unlock(&d.lock);
    tvlm_thread_join(&thread);
    free_desk(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lock_excludes),
        cmocka_unit_test(test_a_broadcast_wakes_all),
        cmocka_unit_test(test_each_signal_wakes_one),
        cmocka_unit_test(test_a_timed_wait_ends),
        cmocka_unit_test(test_a_signal_ends_a_timed_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
