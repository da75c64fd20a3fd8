/* SPDX-License-Identifier: MIT
 * Linux, macOS, the BSDs, Android; WASI for the tests. */
#if !defined(_WIN32)

#define _FILE_OFFSET_BITS 64
#if (defined(__linux__) || defined(__wasi__)) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity; musl and glibc hide much else in C11 mode */
#elif defined(__APPLE__)
#define _DARWIN_C_SOURCE /* _SC_NPROCESSORS_ONLN, sysctlbyname */
#endif                   /* the BSDs show everything unless told otherwise */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if !defined(__wasi__)
#include <sys/mman.h>
#endif
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

void *tvlm_aligned_alloc(size_t size)
{
    void *block;
    if (size == 0 || posix_memalign(&block, TVLM_ALIGN, size) != 0) return NULL;
    return memset(block, 0, size);
}

void tvlm_aligned_free(void *block)
{
    free(block);
}

#if defined(__wasi__)
#define HAS_PAGES(size)          ((void)(size), false)
#define map_pages(size, dense)   NULL
#define unmap_pages(pages, size) (void)(size)
#define drop_pages(pages, size)  (void)(pages)
#else
/* Smaller blocks stay on the heap, where sanitizers watch their ends. */
#define HAS_PAGES(size) ((size) >= (size_t)1 << 20)

#define LARGE ((size_t)2 << 20) /* a large page of most systems */

static size_t mapped_size(size_t size)
{
    return (size + LARGE - 1) / LARGE * LARGE;
}

/* Whole large pages: of a block that begins or ends within one, hundreds of small pages would be
 * taken one by one, which costs more than the block's other pages together. */
static void *map_pages(size_t size, bool dense)
{
    if (size > SIZE_MAX - 2 * LARGE) return NULL;
    size_t n = mapped_size(size);
    unsigned char *room =
        mmap(NULL, n + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return NULL;
    size_t before = mapped_size((uintptr_t)room) - (uintptr_t)room;
    if (before) munmap(room, before);
    munmap(room + before + n, LARGE - before);
#if defined(MADV_HUGEPAGE)
    if (dense) madvise(room + before, n, MADV_HUGEPAGE); /* a wish */
#else
    (void)dense;
#endif
    return room + before;
}

static void unmap_pages(void *pages, size_t size)
{
    if (pages) munmap(pages, mapped_size(size));
}

/* Where advice is only a wish, new pages take the place of the old. */
static void drop_pages(void *pages, size_t size)
{
#if defined(__linux__)
    madvise(pages, mapped_size(size), MADV_DONTNEED);
#else
    mmap(pages, mapped_size(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
         -1, 0);
#endif
}
#endif

void *tvlm_pages_alloc(size_t size, bool dense)
{
    (void)dense;
    return HAS_PAGES(size) ? map_pages(size, dense) : tvlm_aligned_alloc(size);
}

void tvlm_pages_free(void *pages, size_t size)
{
    if (HAS_PAGES(size))
        unmap_pages(pages, size);
    else
        tvlm_aligned_free(pages);
}

void tvlm_pages_drop(void *pages, size_t size)
{
    if (HAS_PAGES(size)) drop_pages(pages, size);
}

double tvlm_now_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

unsigned tvlm_cpu_count(void)
{
#if defined(__linux__)
    cpu_set_t set; /* what taskset, containers and batch systems allow */
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

#if defined(__linux__)
_Static_assert(sizeof(cpu_set_t) <= sizeof((tvlm_os_sleeper){0}).cores, "a set of cores");

void tvlm_os_before_sleep(tvlm_os_sleeper *self)
{
    cpu_set_t set; /* of more cores than fit, none is told */
    if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_ZERO(&set);
    memcpy(self->cores, &set, sizeof set);
    self->thread = (intptr_t)syscall(SYS_gettid);
}

void tvlm_os_wake_elsewhere(const tvlm_os_sleeper *other)
{
    cpu_set_t set;
    int here = sched_getcpu();
    memcpy(&set, other->cores, sizeof set);
    if (here >= 0 && here < CPU_SETSIZE) CPU_CLR(here, &set);
    if (CPU_COUNT(&set) > 0) sched_setaffinity((pid_t)other->thread, sizeof set, &set);
}

void tvlm_os_after_sleep(const tvlm_os_sleeper *self)
{
    cpu_set_t set;
    memcpy(&set, self->cores, sizeof set);
    if (CPU_COUNT(&set) > 1) sched_setaffinity(0, sizeof set, &set);
}
#endif

#if defined(__linux__) && defined(__aarch64__)
tvlm_os_arm tvlm_os_arm_features(void)
{
    const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
    return (tvlm_os_arm){.crc32 = hwcap & 1u << 7 /* HWCAP_CRC32 */,
                         .dotprod = hwcap & 1u << 20 /* HWCAP_ASIMDDP */,
                         .i8mm = hwcap2 & 1u << 13 /* HWCAP2_I8MM */,
                         .bf16 = hwcap2 & 1u << 14 /* HWCAP2_BF16 */};
}
#elif defined(__APPLE__) && defined(__aarch64__)
/* A name that an older system does not know is a feature that it does not tell. */
static bool has_feature(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}

tvlm_os_arm tvlm_os_arm_features(void)
{
    return (tvlm_os_arm){.crc32 = has_feature("hw.optional.armv8_crc32"),
                         .dotprod = has_feature("hw.optional.arm.FEAT_DotProd"),
                         .i8mm = has_feature("hw.optional.arm.FEAT_I8MM"),
                         .bf16 = has_feature("hw.optional.arm.FEAT_BF16")};
}
#else
tvlm_os_arm tvlm_os_arm_features(void)
{
    return (tvlm_os_arm){0};
}
#endif

/* ---- files ---- */

/* strerror_r returns an int (POSIX) or the text itself (GNU): which, only its type tells. */
static const char *posix_text(int failed, const char *buffer)
{
    return failed ? "unknown error" : buffer;
}

static const char *gnu_text(const char *text, const char *buffer)
{
    (void)buffer;
    return text;
}

static void explain(int code, tvlm_os_reason *reason)
{
    char buffer[sizeof reason->text] = "";
    const char *text = _Generic(strerror_r(code, buffer, sizeof buffer),
        int: posix_text,
        char *: gnu_text)(strerror_r(code, buffer, sizeof buffer), buffer);
    snprintf(reason->text, sizeof reason->text, "%s", text);
}

static bool accept(int fd, tvlm_os_file *out, tvlm_os_reason *reason)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        explain(errno, reason);
    else if (S_ISDIR(st.st_mode))
        explain(EISDIR, reason);
    else if (!S_ISREG(st.st_mode))
        snprintf(reason->text, sizeof reason->text, "Not a regular file");
    else
        *out = (tvlm_os_file){fd, (uint64_t)st.st_size};
    return out->handle == fd;
}

bool tvlm_os_open(const char *path, tvlm_os_file *out, tvlm_os_reason *reason)
{
    *out = (tvlm_os_file){-1, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        explain(errno, reason);
        return false;
    }
    bool fine = accept(fd, out, reason);
    if (!fine) close(fd);
    return fine;
}

int64_t tvlm_os_read(const tvlm_os_file *file, uint64_t offset, void *out, size_t n,
                     tvlm_os_reason *reason)
{
    ssize_t got = -1;
    n = n < INT_MAX ? n : INT_MAX; /* macOS refuses more */
    if (offset > INT64_MAX)
        errno = EOVERFLOW;
    else
        do
            got = pread((int)file->handle, out, n, (off_t)offset);
        while (got < 0 && errno == EINTR);
    if (got < 0) explain(errno, reason);
    return got;
}

void tvlm_os_close(tvlm_os_file *file)
{
    if (file->handle >= 0) close((int)file->handle);
    *file = (tvlm_os_file){-1, 0};
}

/* ---- files written ---- */

bool tvlm_os_create(const char *path, tvlm_os_file *out, tvlm_os_reason *reason)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *out = (tvlm_os_file){fd, 0};
    if (fd < 0) explain(errno, reason);
    return fd >= 0;
}

bool tvlm_os_append(const tvlm_os_file *file, const void *data, size_t n, tvlm_os_reason *reason)
{
    for (const char *p = data; n;) {
        ssize_t put = write((int)file->handle, p, n < INT_MAX ? n : INT_MAX);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) {
            explain(errno, reason);
            return false;
        }
        p += put;
        n -= (size_t)put;
    }
    return true;
}

bool tvlm_os_sync(const tvlm_os_file *file, tvlm_os_reason *reason)
{
    if (fsync((int)file->handle) == 0) return true;
    explain(errno, reason);
    return false;
}

bool tvlm_os_rename(const char *from, const char *to, tvlm_os_reason *reason)
{
    if (rename(from, to) == 0) return true;
    explain(errno, reason);
    return false;
}

void tvlm_os_remove(const char *path)
{
    unlink(path);
}

#endif
