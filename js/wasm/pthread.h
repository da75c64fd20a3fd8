/* SPDX-License-Identifier: MIT
 * The part of POSIX threads that the core uses, on WebAssembly atomics. Threads are workers that
 * JavaScript starts beforehand: each enters thread_main and waits for pthread_create. Modules
 * without shared memory have one thread: locks do nothing, pthread_create fails. */
#ifndef TVLM_WASM_PTHREAD_H
#define TVLM_WASM_PTHREAD_H

#include <time.h>

typedef struct pthread_mutex {
    int state; /* 0 free, 1 held, 2 held and waited for */
} pthread_mutex_t;
typedef struct pthread_cond {
    int sequence;
} pthread_cond_t;
typedef int pthread_t; /* slot of the worker */

int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes);
int pthread_mutex_destroy(pthread_mutex_t *mutex);
int pthread_mutex_lock(pthread_mutex_t *mutex);
int pthread_mutex_unlock(pthread_mutex_t *mutex);
int pthread_cond_init(pthread_cond_t *cond, const void *attributes);
int pthread_cond_destroy(pthread_cond_t *cond);
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until);
int pthread_cond_signal(pthread_cond_t *cond);
int pthread_cond_broadcast(pthread_cond_t *cond);
int pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *), void *arg);
int pthread_join(pthread_t thread, void **result);

#endif
