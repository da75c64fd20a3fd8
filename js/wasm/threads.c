/* SPDX-License-Identifier: MIT
 * Threads of os/os.h on WebAssembly atomics: workers that JavaScript starts beforehand; each enters
 * thread_main and waits for tvlm_thread_start. Modules without shared memory have one thread: locks
 * do nothing, none can be started. Mutex and condition: Drepper, "Futexes Are Tricky" (2011),
 * sections 4 and 6. */
#include "os/os.h"

#include "host.h"

void tvlm_mutex_init(tvlm_mutex *mutex)
{
    mutex->state = 0;
}

void tvlm_mutex_destroy(tvlm_mutex *mutex)
{
    (void)mutex;
}

void tvlm_cond_init(tvlm_cond *cond)
{
    cond->sequence = 0;
}

void tvlm_cond_destroy(tvlm_cond *cond)
{
    (void)cond;
}

#if defined(__wasm_atomics__)

enum { MAX_SLOTS = 64, FREE = 0, STARTED = 1, DONE = 2 };

static struct slot {
    int state;
    void (*run)(void *arg);
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

void tvlm_mutex_lock(tvlm_mutex *mutex)
{
    int seen = 0;
    if (__atomic_compare_exchange_n(&mutex->state, &seen, 1, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        return;
    while (__atomic_exchange_n(&mutex->state, 2, __ATOMIC_SEQ_CST) != 0)
        sleep_while(&mutex->state, 2, -1);
}

void tvlm_mutex_unlock(tvlm_mutex *mutex)
{
    if (__atomic_exchange_n(&mutex->state, 0, __ATOMIC_SEQ_CST) == 2) wake(&mutex->state, 1);
}

void tvlm_cond_wait(tvlm_cond *cond, tvlm_mutex *mutex)
{
    int seen = load(&cond->sequence);
    tvlm_mutex_unlock(mutex);
    sleep_while(&cond->sequence, seen, -1);
    tvlm_mutex_lock(mutex);
}

bool tvlm_cond_wait_ms(tvlm_cond *cond, tvlm_mutex *mutex, unsigned ms)
{
    int seen = load(&cond->sequence);
    tvlm_mutex_unlock(mutex);
    sleep_while(&cond->sequence, seen, (int64_t)ms * 1000000);
    tvlm_mutex_lock(mutex);
    return load(&cond->sequence) != seen;
}

void tvlm_cond_signal(tvlm_cond *cond)
{
    __atomic_add_fetch(&cond->sequence, 1, __ATOMIC_SEQ_CST);
    wake(&cond->sequence, 1);
}

void tvlm_cond_broadcast(tvlm_cond *cond)
{
    __atomic_add_fetch(&cond->sequence, 1, __ATOMIC_SEQ_CST);
    wake(&cond->sequence, UINT32_MAX);
}

bool tvlm_thread_start(tvlm_thread *thread, void (*run)(void *arg), void *arg)
{
    for (int i = 0; i < MAX_SLOTS; i++) {
        struct slot *s = &slots[i];
        if (load(&s->state) == STARTED) continue;
        s->run = run;
        s->arg = arg;
        __atomic_store_n(&s->state, STARTED, __ATOMIC_SEQ_CST);
        wake(&s->state, 1);
        thread->handle = i;
        return true;
    }
    return false;
}

void tvlm_thread_join(tvlm_thread *thread)
{
    struct slot *s = &slots[thread->handle];
    while (load(&s->state) == STARTED)
        sleep_while(&s->state, STARTED, -1);
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

void tvlm_mutex_lock(tvlm_mutex *mutex)
{
    (void)mutex;
}

void tvlm_mutex_unlock(tvlm_mutex *mutex)
{
    (void)mutex;
}

void tvlm_cond_wait(tvlm_cond *cond, tvlm_mutex *mutex)
{
    (void)cond, (void)mutex;
}

bool tvlm_cond_wait_ms(tvlm_cond *cond, tvlm_mutex *mutex, unsigned ms)
{
    (void)cond, (void)mutex, (void)ms;
    return false;
}

void tvlm_cond_signal(tvlm_cond *cond)
{
    (void)cond;
}

void tvlm_cond_broadcast(tvlm_cond *cond)
{
    (void)cond;
}

bool tvlm_thread_start(tvlm_thread *thread, void (*run)(void *arg), void *arg)
{
    (void)thread, (void)run, (void)arg;
    return false;
}

void tvlm_thread_join(tvlm_thread *thread)
{
    (void)thread;
}

#endif
