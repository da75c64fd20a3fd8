/* SPDX-License-Identifier: MIT
 * Thread pool. One job at a time, described by plain fields and guarded by `gate`:
 *
 *   gate = 2 * helpers inside + 1 while the job is open
 *
 *   caller   writes the job, opens the gate, takes tasks, closes the gate, waits for gate 0
 *   helper   enters only an open gate (which publishes the job to it), takes tasks, leaves
 *
 * A helper that wakes late finds the gate closed and sleeps again: the caller never waits for a
 * thread that the system has not scheduled, only for tasks that have begun.
 *
 * Every thread has a contiguous share of the tasks, the same one whenever a job of this size comes
 * again, so that what it touched is in its cache; when its own share is done it takes tasks of the
 * others'. */
#include "base/pool.h"

enum {
    MAX_THREADS = 1024,
/* Longer than the serial work between two operators and than most waits for a slower share, short
 * beside the cost of needless sleeps. WebAssembly has no pause instruction. */
#if defined(__wasm__)
    SPINS = 30000
#else
    SPINS = 4000
#endif
};

/* What one thread of the pool has, on a cache line of its own: 0 is the caller's. */
typedef struct seat {
    _Alignas(TVLM_ALIGN) atomic_size_t next; /* of its share: the next task nobody has taken */
    size_t end;
    tvlm_pool *pool;
    tvlm_thread handle;
    unsigned thread;
    bool asleep; /* guarded by the pool's mutex, as is the sleeper */
    tvlm_os_sleeper sleeper;
} seat;

struct tvlm_pool {
    atomic_uint gate;
    atomic_uint generation;  /* counts jobs; a change wakes the helpers */
    atomic_uint sleepers;    /* helpers that wait for a signal */
    atomic_bool waiting;     /* the caller does */
    atomic_bool interrupted; /* a task was refused because of cancel */
    /* the job */
    tvlm_task fn;
    void *ctx;
    const tvlm_cancel *cancel;

    tvlm_mutex mutex; /* stop and waits on the two conditions */
    tvlm_cond work, done;
    bool stop;
    unsigned n_threads;
    seat seats[];
};

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Tasks of one seat's share, until it is empty or the job is interrupted. */
static void take_share(tvlm_pool *pool, seat *from, unsigned thread)
{
    while (!atomic_load_explicit(&pool->interrupted, memory_order_relaxed)) {
        size_t task = atomic_fetch_add_explicit(&from->next, 1, memory_order_relaxed);
        if (task >= from->end) return;
        if (tvlm_cancelled(pool->cancel)) {
            atomic_store_explicit(&pool->interrupted, true, memory_order_relaxed);
            return;
        }
        pool->fn(pool->ctx, task, thread);
    }
}

static void take_tasks(tvlm_pool *pool, unsigned thread)
{
    for (unsigned i = 0; i < pool->n_threads; i++)
        take_share(pool, &pool->seats[(thread + i) % pool->n_threads], thread);
}

static void sleep_on(tvlm_cond *condition, seat *self)
{
    tvlm_os_before_sleep(&self->sleeper);
    self->asleep = true;
    tvlm_cond_wait(condition, &self->pool->mutex);
    self->asleep = false;
    tvlm_os_after_sleep(&self->sleeper);
}

static void wake_elsewhere(seat *self)
{
    if (self->asleep) tvlm_os_wake_elsewhere(&self->sleeper);
}

/* Acquire: entering sees the job that opened the gate. */
static bool enter(tvlm_pool *pool)
{
    unsigned gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);
    while (gate & 1)
        if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 2,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    return false;
}

/* Release: what this helper's tasks wrote is seen by the caller that finds the gate at 0. */
static void leave(tvlm_pool *pool)
{
    if (atomic_fetch_sub(&pool->gate, 2) == 2 && atomic_load(&pool->waiting)) {
        tvlm_mutex_lock(&pool->mutex);
        wake_elsewhere(&pool->seats[0]);
        tvlm_cond_signal(&pool->done);
        tvlm_mutex_unlock(&pool->mutex);
    }
}

/* Waits for a job after `seen`; returns its generation, or `seen` when the pool stops. Who goes to
 * sleep says so before it looks for a last time, who opens a job looks for sleepers after it: in
 * the one order of sequentially consistent operations one of them sees the other. */
static unsigned wait_for_work(tvlm_pool *pool, seat *self, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        unsigned now = atomic_load_explicit(&pool->generation, memory_order_relaxed);
        if (now != seen) return now;
        spin_pause();
    }
    tvlm_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!pool->stop && atomic_load(&pool->generation) == seen)
        sleep_on(&pool->work, self);
    atomic_fetch_sub(&pool->sleepers, 1);
    unsigned now = pool->stop ? seen : atomic_load(&pool->generation);
    tvlm_mutex_unlock(&pool->mutex);
    return now;
}

static void helper_main(void *arg)
{
    seat *self = arg;
    tvlm_pool *pool = self->pool;
    /* The pool starts at 0. A helper that starts late may join a running job, which is fine. */
    for (unsigned seen = 0, now; (now = wait_for_work(pool, self, seen)) != seen; seen = now) {
        if (enter(pool)) {
            take_tasks(pool, self->thread);
            leave(pool);
        }
    }
}

static void open_job(tvlm_pool *pool)
{
    atomic_store_explicit(&pool->gate, 1, memory_order_release);
    atomic_fetch_add(&pool->generation, 1);
    if (!atomic_load(&pool->sleepers)) return;
    tvlm_mutex_lock(&pool->mutex);
    for (unsigned i = 1; i < pool->n_threads; i++)
        wake_elsewhere(&pool->seats[i]);
    tvlm_cond_broadcast(&pool->work);
    tvlm_mutex_unlock(&pool->mutex);
}

static void close_job(tvlm_pool *pool)
{
    if (atomic_fetch_and_explicit(&pool->gate, ~1u, memory_order_acquire) == 1) return;
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool->gate, memory_order_acquire) == 0) return;
        spin_pause();
    }
    tvlm_mutex_lock(&pool->mutex);
    atomic_exchange(&pool->waiting, true); /* as in wait_for_work; qemu lets loads pass a store */
    while (atomic_load(&pool->gate) != 0)
        sleep_on(&pool->done, &pool->seats[0]);
    atomic_store(&pool->waiting, false);
    tvlm_mutex_unlock(&pool->mutex);
}

/* Share t of n_tasks, without overflow: the first n_tasks % n_threads are one longer. */
static void deal(tvlm_pool *pool, size_t n_tasks)
{
    size_t least = n_tasks / pool->n_threads, longer = n_tasks % pool->n_threads, at = 0;
    for (unsigned t = 0; t < pool->n_threads; t++) {
        seat *s = &pool->seats[t];
        atomic_store_explicit(&s->next, at, memory_order_relaxed);
        at += least + (t < longer);
        s->end = at;
    }
}

static bool run_here(size_t n_tasks, tvlm_task fn, void *ctx, const tvlm_cancel *cancel)
{
    for (size_t task = 0; task < n_tasks; task++) {
        if (tvlm_cancelled(cancel)) return false;
        fn(ctx, task, 0);
    }
    return true;
}

bool tvlm_pool_for(tvlm_pool *pool, size_t n_tasks, tvlm_task fn, void *ctx,
                   const tvlm_cancel *cancel)
{
    if (n_tasks <= 1 || tvlm_pool_threads(pool) == 1) return run_here(n_tasks, fn, ctx, cancel);
    deal(pool, n_tasks);
    pool->fn = fn;
    pool->ctx = ctx;
    pool->cancel = cancel;
    atomic_store_explicit(&pool->interrupted, false, memory_order_relaxed);
    open_job(pool);
    take_tasks(pool, 0);
    close_job(pool);
    return !atomic_load_explicit(&pool->interrupted, memory_order_relaxed);
}

static void stop_helpers(tvlm_pool *pool)
{
    tvlm_mutex_lock(&pool->mutex);
    pool->stop = true;
    tvlm_cond_broadcast(&pool->work);
    tvlm_mutex_unlock(&pool->mutex);
    for (unsigned i = 1; i < pool->n_threads; i++)
        tvlm_thread_join(&pool->seats[i].handle);
}

/* pool->n_threads counts those that run. */
static bool start_helpers(tvlm_pool *pool, unsigned n_threads)
{
    for (unsigned i = 1; i < n_threads; i++) {
        seat *s = &pool->seats[i];
        s->pool = pool;
        s->thread = i;
        if (!tvlm_thread_start(&s->handle, helper_main, s)) return false;
        pool->n_threads = i + 1;
    }
    return true;
}

size_t tvlm_pool_bytes(unsigned n_threads)
{
    return sizeof(tvlm_pool) + (n_threads ? n_threads : 1) * sizeof(seat);
}

tvlm_status tvlm_pool_new(unsigned n_threads, tvlm_pool **out, tvlm_error *err)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "n_threads is %u, allowed are 1 to %d", n_threads,
                         MAX_THREADS);
    tvlm_pool *pool = tvlm_aligned_alloc(tvlm_pool_bytes(n_threads));
    if (!pool)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for a pool of %u threads", n_threads);
    atomic_init(&pool->gate, 0);
    atomic_init(&pool->generation, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->waiting, false);
    atomic_init(&pool->interrupted, false);
    pool->stop = false;
    pool->n_threads = 1;
    pool->seats[0].pool = pool;
    tvlm_mutex_init(&pool->mutex);
    tvlm_cond_init(&pool->work);
    tvlm_cond_init(&pool->done);
    if (!start_helpers(pool, n_threads)) {
        tvlm_pool_free(pool);
        return tvlm_fail(err, TVLM_ERR_MEMORY, "cannot start %u threads", n_threads - 1);
    }
    *out = pool;
    return TVLM_OK;
}

void tvlm_pool_free(tvlm_pool *pool)
{
    if (!pool) return;
    stop_helpers(pool);
    tvlm_cond_destroy(&pool->done);
    tvlm_cond_destroy(&pool->work);
    tvlm_mutex_destroy(&pool->mutex);
    tvlm_aligned_free(pool);
}

unsigned tvlm_pool_threads(const tvlm_pool *pool)
{
    return pool ? pool->n_threads : 1;
}
