/* SPDX-License-Identifier: MIT
 * Threads of Linux, macOS, the BSDs and Android. */
#if !defined(_WIN32) && !defined(__wasm__)

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* clock_gettime in C11 mode */
#elif defined(__APPLE__)
#define _DARWIN_C_SOURCE /* the wait by a span of time */
#endif
#include "os/os.h"

#include <errno.h>
#include <time.h>

void tvlm_mutex_init(tvlm_mutex *mutex)
{
    pthread_mutex_init(&mutex->native, NULL);
}

void tvlm_mutex_destroy(tvlm_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->native);
}

void tvlm_mutex_lock(tvlm_mutex *mutex)
{
    pthread_mutex_lock(&mutex->native);
}

void tvlm_mutex_unlock(tvlm_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->native);
}

#if defined(__APPLE__) /* a condition has no clock there, but waits by a span of time */
void tvlm_cond_init(tvlm_cond *cond)
{
    pthread_cond_init(&cond->native, NULL);
}

bool tvlm_cond_wait_ms(tvlm_cond *cond, tvlm_mutex *mutex, unsigned ms)
{
    struct timespec span = {ms / 1000, (long)(ms % 1000) * 1000000};
    return pthread_cond_timedwait_relative_np(&cond->native, &mutex->native, &span) != ETIMEDOUT;
}
#else
void tvlm_cond_init(tvlm_cond *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cond->native, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool tvlm_cond_wait_ms(tvlm_cond *cond, tvlm_mutex *mutex, unsigned ms)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (long)(ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    return pthread_cond_timedwait(&cond->native, &mutex->native, &end) != ETIMEDOUT;
}
#endif

void tvlm_cond_destroy(tvlm_cond *cond)
{
    pthread_cond_destroy(&cond->native);
}

void tvlm_cond_wait(tvlm_cond *cond, tvlm_mutex *mutex)
{
    pthread_cond_wait(&cond->native, &mutex->native);
}

void tvlm_cond_signal(tvlm_cond *cond)
{
    pthread_cond_signal(&cond->native);
}

void tvlm_cond_broadcast(tvlm_cond *cond)
{
    pthread_cond_broadcast(&cond->native);
}

static void *thread_main(void *arg)
{
    const tvlm_thread *thread = arg;
    thread->run(thread->arg);
    return NULL;
}

bool tvlm_thread_start(tvlm_thread *thread, void (*run)(void *arg), void *arg)
{
    thread->run = run;
    thread->arg = arg;
    return pthread_create(&thread->handle, NULL, thread_main, thread) == 0;
}

void tvlm_thread_join(tvlm_thread *thread)
{
    pthread_join(thread->handle, NULL);
}

#endif
