/* SPDX-License-Identifier: MIT
 * An allocator whose call `failing` fails and that counts the blocks not freed. For tests linked
 * with --wrap of its functions (tests/CMakeLists.txt). */
#ifndef TVLM_TESTS_FAILING_MALLOC_H
#define TVLM_TESTS_FAILING_MALLOC_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
int __real_posix_memalign(void **out, size_t align, size_t size);
void __real_free(void *block);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void __wrap_free(void *block);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *block, size_t size);

static size_t calls, failing; /* the call that fails; 0: none */
static size_t largest;        /* bytes that a call asked for, since fail_call */
static size_t mapped;         /* bytes, of whole pages */

/* The blocks of a run; what the C library made by itself is freed here too, but not known. */
enum { SLOTS = 1 << 17 };
static void *slots[SLOTS];
static char was_here;
static size_t live;

static size_t slot_of(const void *block)
{
    return ((uintptr_t)block >> 4) * 0x9e3779b1u % SLOTS;
}

static void *remember(void *block)
{
    size_t i = slot_of(block);
    if (!block) return NULL;
    while (slots[i] && slots[i] != &was_here)
        i = (i + 1) % SLOTS;
    slots[i] = block;
    live++;
    return block;
}

static void forget(const void *block)
{
    for (size_t i = slot_of(block); block && slots[i]; i = (i + 1) % SLOTS)
        if (slots[i] == block) {
            slots[i] = &was_here;
            live--;
            return;
        }
}

static bool fails(size_t size)
{
    bool now = ++calls == failing;
    if (size > largest) largest = size;
    if (now) errno = ENOMEM;
    return now;
}

void *__wrap_malloc(size_t size)
{
    return fails(size) ? NULL : remember(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(n * size) ? NULL : remember(__real_calloc(n, size));
}

void *__wrap_realloc(void *block, size_t size)
{
    if (fails(size)) return NULL;
    forget(block);
    return remember(__real_realloc(block, size));
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails(size) ? NULL : remember(__real_aligned_alloc(align, size));
}

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
    if (fails(size)) return ENOMEM;
    int code = __real_posix_memalign(out, align, size);
    if (!code) remember(*out);
    return code;
}

void __wrap_free(void *block)
{
    forget(block);
    __real_free(block);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails(size)) return MAP_FAILED;
    void *block = __real_mmap(at, size, protection, flags, fd, offset);
    if (block == MAP_FAILED) return block;
    mapped += size;
    return remember(block);
}

/* What glibc calls it where offsets have 64 bits. */
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

int __wrap_munmap(void *block, size_t size)
{
    forget(block);
    mapped -= size;
    return __real_munmap(block, size);
}

/* Starts a run whose call `which` fails; 0: none. */
static void fail_call(size_t which)
{
    memset(slots, 0, sizeof slots);
    live = calls = largest = mapped = 0;
    failing = which;
}

#endif
