/* SPDX-License-Identifier: MIT
 * What the library asks of the operating system: memory, clock, cores, files. The lowest layer and
 * the only one that knows which system it runs on (posix.c, win32.c; WebAssembly: js/wasm). */
#ifndef TVLM_OS_H
#define TVLM_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TVLM_ALIGN ((size_t)64)

/* Heap block aligned to TVLM_ALIGN, zeroed; NULL when out of memory or size is 0. */
void *tvlm_aligned_alloc(size_t size);
void tvlm_aligned_free(void *block);

/* For large blocks: zeroed pages, which the system gives when a thread first touches them, near
 * that thread; large ones where it can if the block is `dense`: all of it will be used. NULL when
 * out of memory or size is 0. */
void *tvlm_pages_alloc(size_t size, bool dense);
void tvlm_pages_free(void *pages, size_t size); /* the size of the call that gave them */

/* Monotonic clock in milliseconds. */
double tvlm_now_ms(void);

/* Cores that this process may use (affinity, containers), at least 1. */
unsigned tvlm_cpu_count(void);

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

/* The processor's features as the system tells them to programs (AT_HWCAP); 0 where it does not. */
unsigned long tvlm_hwcap(void);

/* The most memory that this process has held so far, in bytes; 0 where the system does not tell. */
uint64_t tvlm_peak_memory(void);

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
