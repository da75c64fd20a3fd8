/* SPDX-License-Identifier: MIT
 * What the library asks of the operating system: memory, clock, cores, threads, files. The lowest
 * layer and the only one that knows which system it runs on (posix*.c, win32.c; WebAssembly:
 * js/wasm). */
#ifndef TVLM_OS_H
#define TVLM_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if !defined(_WIN32) && !defined(__wasm__)
#include <pthread.h>
#endif

/* Products and sums are rounded one by one, so that results are the same everywhere. Builds that
 * cannot pass -ffp-contract=off (Swift packages) rely on this. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define TVLM_ALIGN ((size_t)64)

/* Whether the C library's fmaf is wrong in halfway cases: MinGW's goes by way of long double,
 * wasi's needs rounding modes, which WebAssembly lacks. */
#if defined(_WIN32) || defined(__wasm__)
#define TVLM_OS_FMAF_ROUNDS_TWICE 1
#else
#define TVLM_OS_FMAF_ROUNDS_TWICE 0
#endif

/* Heap block aligned to TVLM_ALIGN, zeroed; NULL when out of memory or size is 0. */
void *tvlm_aligned_alloc(size_t size);
void tvlm_aligned_free(void *block);

/* For large blocks: zeroed pages, which the system gives when a thread first touches them, near
 * that thread; large ones where it can if the block is `dense`: all of it will be used. NULL when
 * out of memory or size is 0. */
void *tvlm_pages_alloc(size_t size, bool dense);
void tvlm_pages_free(void *pages, size_t size); /* the size of the call that gave them */
/* Gives the memory back, not the room: what stood there is lost, the next touch takes memory again.
 * Small blocks, and systems that cannot, keep theirs. */
void tvlm_pages_drop(void *pages, size_t size);

/* Monotonic clock in milliseconds. */
double tvlm_now_ms(void);

/* Cores that this process may use (affinity, containers), at least 1. */
unsigned tvlm_cpu_count(void);

/* ---- threads ---- */

#if defined(_WIN32)
typedef struct tvlm_mutex {
    void *state; /* an SRWLOCK */
} tvlm_mutex;
typedef struct tvlm_cond {
    void *state; /* a CONDITION_VARIABLE */
} tvlm_cond;
typedef void *tvlm_thread_handle;
#elif defined(__wasm__)
typedef struct tvlm_mutex {
    int state; /* 0 free, 1 held, 2 held and waited for */
} tvlm_mutex;
typedef struct tvlm_cond {
    int sequence;
} tvlm_cond;
typedef int tvlm_thread_handle; /* the worker's number */
#else
typedef struct tvlm_mutex {
    pthread_mutex_t native;
} tvlm_mutex;
typedef struct tvlm_cond {
    pthread_cond_t native;
} tvlm_cond;
typedef pthread_t tvlm_thread_handle;
#endif

void tvlm_mutex_init(tvlm_mutex *mutex);
void tvlm_mutex_destroy(tvlm_mutex *mutex);
void tvlm_mutex_lock(tvlm_mutex *mutex);
void tvlm_mutex_unlock(tvlm_mutex *mutex);

/* Waiters may wake without a signal. */
void tvlm_cond_init(tvlm_cond *cond);
void tvlm_cond_destroy(tvlm_cond *cond);
void tvlm_cond_wait(tvlm_cond *cond, tvlm_mutex *mutex);
/* For ms from now on the monotonic clock, however the calendar is set; false when they are over. */
bool tvlm_cond_wait_ms(tvlm_cond *cond, tvlm_mutex *mutex, unsigned ms);
void tvlm_cond_signal(tvlm_cond *cond);
void tvlm_cond_broadcast(tvlm_cond *cond);

/* Not to be moved before it is joined. */
typedef struct tvlm_thread {
    tvlm_thread_handle handle;
    void (*run)(void *arg);
    void *arg;
} tvlm_thread;

/* False where the system has no thread left, or has none at all. */
bool tvlm_thread_start(tvlm_thread *thread, void (*run)(void *arg), void *arg);
void tvlm_thread_join(tvlm_thread *thread);

/* A thread that goes to sleep. Its waker may ask for it to wake on another core than the waker's:
 * in a virtual machine Linux takes a core that sleeps for a busy one and lets the thread wait
 * behind its waker, until a timer tick parts them. Other systems have no such wish. */
#if defined(__linux__)
typedef struct tvlm_os_sleeper {
    intptr_t thread;
    _Alignas(long) unsigned char cores[128]; /* those that it may use */
} tvlm_os_sleeper;

void tvlm_os_before_sleep(tvlm_os_sleeper *self);
void tvlm_os_wake_elsewhere(const tvlm_os_sleeper *other); /* between the other two */
void tvlm_os_after_sleep(const tvlm_os_sleeper *self);     /* allows all its cores again */
#else
typedef struct tvlm_os_sleeper {
    char unused;
} tvlm_os_sleeper;

static inline void tvlm_os_before_sleep(tvlm_os_sleeper *self)
{
    (void)self;
}

static inline void tvlm_os_wake_elsewhere(const tvlm_os_sleeper *other)
{
    (void)other;
}

static inline void tvlm_os_after_sleep(const tvlm_os_sleeper *self)
{
    (void)self;
}
#endif

/* What the system tells of a 64-bit ARM processor's optional instructions. */
typedef struct tvlm_os_arm {
    bool crc32, dotprod, i8mm, bf16;
} tvlm_os_arm;

/* All false on other processors, and where the system does not tell. */
tvlm_os_arm tvlm_os_arm_features(void);

/* ---- files read by position ---- */

typedef struct tvlm_os_file {
    intptr_t handle;
    uint64_t size; /* when it was opened */
} tvlm_os_file;

/* Why a call failed, in the system's words. */
typedef struct tvlm_os_reason {
    char text[128];
} tvlm_os_reason;

/* Opens a regular file; anything else is refused at once, a pipe without waiting for its writer.
 * path is UTF-8 on Windows, bytes elsewhere. */
bool tvlm_os_open(const char *path, tvlm_os_file *out, tvlm_os_reason *reason);
/* Reads up to n bytes at the offset and returns how many: 0 at the file's end, -1 on failure. May
 * be called from several threads at once. */
int64_t tvlm_os_read(const tvlm_os_file *file, uint64_t offset, void *out, size_t n,
                     tvlm_os_reason *reason);
void tvlm_os_close(tvlm_os_file *file);

/* ---- files written from their beginning to their end ---- */

/* A new file: a path that is taken is refused. */
bool tvlm_os_create(const char *path, tvlm_os_file *out, tvlm_os_reason *reason);
/* All n bytes, or false. */
bool tvlm_os_append(const tvlm_os_file *file, const void *data, size_t n, tvlm_os_reason *reason);
/* Waits until the bytes are on the disk, so that no crash leaves a name without them. */
bool tvlm_os_sync(const tvlm_os_file *file, tvlm_os_reason *reason);
/* In one step; what was called `to` is gone. */
bool tvlm_os_rename(const char *from, const char *to, tvlm_os_reason *reason);
void tvlm_os_remove(const char *path);

#endif
