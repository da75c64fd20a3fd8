/* SPDX-License-Identifier: MIT
 * Read-only file mapping. A file must not shrink while it is mapped. */
#if !defined(_WIN32)
#define _DEFAULT_SOURCE           /* madvise */
#define _POSIX_C_SOURCE   200809L /* O_CLOEXEC, strerror_r returning int */
#define _FILE_OFFSET_BITS 64
#if defined(__APPLE__)
#define _DARWIN_C_SOURCE
#endif
#endif
#include "base/base.h"

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <stdlib.h>

static wchar_t *wide_path(const char *path)
{
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *wide = n > 0 ? malloc((size_t)n * sizeof *wide) : NULL;
    if (wide) MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, n);
    return wide;
}

tvlm_status tvlm_mapfile_open(const char *path, tvlm_mapfile *out, tvlm_error *err)
{
    *out = (tvlm_mapfile){0};
    wchar_t *wide = wide_path(path);
    if (!wide) return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot open: not a UTF-8 path", path);
    HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING,
                              FILE_ATTRIBUTE_NORMAL, NULL);
    free(wide);
    if (file == INVALID_HANDLE_VALUE)
        return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot open: error %lu", path, GetLastError());
    tvlm_status status = TVLM_OK;
    LARGE_INTEGER size;
    if (!GetFileSizeEx(file, &size)) {
        status = tvlm_fail(err, TVLM_ERR_IO, "%s: cannot size: error %lu", path, GetLastError());
    } else if (size.QuadPart == 0) {
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: is empty", path);
    } else if ((uint64_t)size.QuadPart > SIZE_MAX) {
        status = tvlm_fail(err, TVLM_ERR_LIMIT, "%s: exceeds the address space", path);
    } else {
        HANDLE mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
        out->data = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0) : NULL;
        if (out->data)
            out->size = (size_t)size.QuadPart;
        else
            status = tvlm_fail(err, TVLM_ERR_IO, "%s: cannot map: error %lu", path, GetLastError());
        if (mapping) CloseHandle(mapping); /* the view keeps it alive */
    }
    CloseHandle(file);
    return status;
}

void tvlm_mapfile_release(const tvlm_mapfile *map, size_t offset, size_t size)
{
    (void)map, (void)offset, (void)size; /* Windows trims clean pages by itself */
}

void tvlm_mapfile_close(tvlm_mapfile *map)
{
    if (map->data) UnmapViewOfFile(map->data);
    *map = (tvlm_mapfile){0};
}

#else

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static tvlm_status fail_errno(tvlm_error *err, const char *act, const char *path)
{
    char reason[128];
    int code = errno;
    if (strerror_r(code, reason, sizeof reason) != 0)
        return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot %s: error %d", path, act, code);
    return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot %s: %s", path, act, reason);
}

static tvlm_status map_fd(int fd, const char *path, tvlm_mapfile *out, tvlm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return fail_errno(err, "stat", path);
    if (!S_ISREG(st.st_mode)) return tvlm_fail(err, TVLM_ERR_IO, "%s: is not a regular file", path);
    if (st.st_size == 0) return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: is empty", path);
    if ((uint64_t)st.st_size > SIZE_MAX)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "%s: exceeds the address space", path);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return fail_errno(err, "map", path);
    *out = (tvlm_mapfile){.data = data, .size = (size_t)st.st_size};
    return TVLM_OK;
}

tvlm_status tvlm_mapfile_open(const char *path, tvlm_mapfile *out, tvlm_error *err)
{
    *out = (tvlm_mapfile){0};
    /* O_NONBLOCK: a pipe is refused by map_fd instead of waiting for its writer here. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_errno(err, "open", path);
    tvlm_status status = map_fd(fd, path, out, err);
    close(fd);
    return status;
}

/* Whole pages inside the range only: its neighbours on a shared page may still be unread. */
void tvlm_mapfile_release(const tvlm_mapfile *map, size_t offset, size_t size)
{
    long page_size = sysconf(_SC_PAGESIZE);
    if (page_size <= 0 || offset > map->size || size > map->size - offset) return;
    size_t page = (size_t)page_size, end = offset + size;
    size_t first = offset / page + (offset % page != 0), last = end / page;
    if (last > first)
        (void)madvise((void *)(uintptr_t)(map->data + first * page), (last - first) * page,
                      MADV_DONTNEED);
}

void tvlm_mapfile_close(tvlm_mapfile *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (tvlm_mapfile){0};
}

#endif
