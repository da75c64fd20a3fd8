/* SPDX-License-Identifier: MIT
 * See pthread.h. Mutex and condition: Drepper, "Futexes Are Tricky" (2011), sections 4 and 6. */
#include "pthread.h"

#include "host.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
{
    (void)attributes;
    mutex->state = 0;
    return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

int pthread_cond_init(pthread_cond_t *cond, const void *attributes)
{
    (void)attributes;
    cond->sequence = 0;
    return 0;
}

int pthread_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

#if defined(__wasm_atomics__)

enum { MAX_SLOTS = 64, FREE = 0, STARTED = 1, DONE = 2 };

static struct slot {
    int state;
    void *(*run)(void *);
    void *arg;
} slots[MAX_SLOTS];

static int load(int *at)
{
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}

/* Sleeps while *at is `value`, at most ns nanoseconds (< 0: for ever). A function of its own: the
 * baseline compiler of V8 11.3 (node 20) loses locals that live across the wait. */
__attribute__((noinline)) static void sleep_while(int *at, int value, int64_t ns)
{
    __builtin_wasm_memory_atomic_wait32(at, value, ns);
}

static void wake(int *at, unsigned n)
{
    __builtin_wasm_memory_atomic_notify(at, n);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    int seen = 0;
    if (__atomic_compare_exchange_n(&mutex->state, &seen, 1, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        return 0;
    while (__atomic_exchange_n(&mutex->state, 2, __ATOMIC_SEQ_CST) != 0)
        sleep_while(&mutex->state, 2, -1);
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    if (__atomic_exchange_n(&mutex->state, 0, __ATOMIC_SEQ_CST) == 2) wake(&mutex->state, 1);
    return 0;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    int seen = load(&cond->sequence);
    pthread_mutex_unlock(mutex);
    sleep_while(&cond->sequence, seen, -1);
    return pthread_mutex_lock(mutex);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    int seen = load(&cond->sequence);
    double ms = (double)until->tv_sec * 1000 + (double)until->tv_nsec / 1e6 - host_now();
    pthread_mutex_unlock(mutex);
    if (ms > 0) sleep_while(&cond->sequence, seen, (int64_t)(ms * 1e6));
    pthread_mutex_lock(mutex);
    return load(&cond->sequence) == seen ? ETIMEDOUT : 0;
}

int pthread_cond_signal(pthread_cond_t *cond)
{
    __atomic_add_fetch(&cond->sequence, 1, __ATOMIC_SEQ_CST);
    wake(&cond->sequence, 1);
    return 0;
}

int pthread_cond_broadcast(pthread_cond_t *cond)
{
    __atomic_add_fetch(&cond->sequence, 1, __ATOMIC_SEQ_CST);
    wake(&cond->sequence, UINT32_MAX);
    return 0;
}

int pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *), void *arg)
{
    (void)attributes;
    for (int i = 0; i < MAX_SLOTS; i++) {
        struct slot *s = &slots[i];
        if (load(&s->state) == STARTED) continue;
        s->run = run;
        s->arg = arg;
        __atomic_store_n(&s->state, STARTED, __ATOMIC_SEQ_CST);
        wake(&s->state, 1);
        *thread = i;
        return 0;
    }
    return EAGAIN;
}

int pthread_join(pthread_t thread, void **result)
{
    struct slot *s = &slots[thread];
    while (load(&s->state) == STARTED)
        sleep_while(&s->state, STARTED, -1);
    if (result) *result = NULL;
    return 0;
}

/* The life of worker i: never returns, the page ends it. */
EXPORT(thread_main) void thread_main(int i);
void thread_main(int i)
{
    struct slot *s = &slots[i];
    for (;;) {
        int state = load(&s->state);
        if (state != STARTED) {
            sleep_while(&s->state, state, -1);
            continue;
        }
        s->run(s->arg);
        __atomic_store_n(&s->state, DONE, __ATOMIC_SEQ_CST);
        wake(&s->state, UINT32_MAX);
    }
}

#else

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)cond, (void)mutex;
    return 0;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    (void)cond, (void)mutex, (void)until;
    return ETIMEDOUT;
}

int pthread_cond_signal(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

int pthread_cond_broadcast(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

int pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *), void *arg)
{
    (void)thread, (void)attributes, (void)run, (void)arg;
    return EAGAIN;
}

int pthread_join(pthread_t thread, void **result)
{
    (void)thread, (void)result;
    return 0;
}

#endif
