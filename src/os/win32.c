/* SPDX-License-Identifier: MIT
 * Windows 7 and later. */
#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "os/os.h"

#include <malloc.h>
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *tvlm_aligned_alloc(size_t size)
{
    void *block = size ? _aligned_malloc(size, TVLM_ALIGN) : NULL;
    return block ? memset(block, 0, size) : NULL;
}

void tvlm_aligned_free(void *block)
{
    _aligned_free(block);
}

void *tvlm_pages_alloc(size_t size, bool dense)
{
    (void)dense;
    return size ? VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) : NULL;
}

void tvlm_pages_free(void *pages, size_t size)
{
    (void)size;
    if (pages) VirtualFree(pages, 0, MEM_RELEASE);
}

void tvlm_pages_drop(void *pages, size_t size)
{
    VirtualAlloc(pages, size, MEM_RESET, PAGE_READWRITE); /* taken when memory is short */
}

double tvlm_now_ms(void)
{
    LARGE_INTEGER frequency, now;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (double)now.QuadPart * 1e3 / (double)frequency.QuadPart;
}

unsigned tvlm_cpu_count(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors ? (unsigned)info.dwNumberOfProcessors : 1;
}

/* By number: headers older than a processor lack the names. */
tvlm_os_arm tvlm_os_arm_features(void)
{
    tvlm_os_arm arm = {0};
#if defined(__aarch64__)
    arm.crc32 = IsProcessorFeaturePresent(31);   /* PF_ARM_V8_CRC32_INSTRUCTIONS_AVAILABLE */
    arm.dotprod = IsProcessorFeaturePresent(43); /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
    arm.i8mm = IsProcessorFeaturePresent(66);    /* PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE */
    arm.bf16 = IsProcessorFeaturePresent(68);    /* PF_ARM_V86_BF16_INSTRUCTIONS_AVAILABLE */
#endif
    return arm;
}

/* ---- threads ---- */

_Static_assert(sizeof(SRWLOCK) == sizeof(tvlm_mutex), "the lock is a pointer");
_Static_assert(sizeof(CONDITION_VARIABLE) == sizeof(tvlm_cond), "the condition is a pointer");

static SRWLOCK *lock_of(tvlm_mutex *mutex)
{
    return (SRWLOCK *)&mutex->state;
}

static CONDITION_VARIABLE *condition_of(tvlm_cond *cond)
{
    return (CONDITION_VARIABLE *)&cond->state;
}

void tvlm_mutex_init(tvlm_mutex *mutex)
{
    InitializeSRWLock(lock_of(mutex));
}

void tvlm_mutex_destroy(tvlm_mutex *mutex)
{
    (void)mutex;
}

void tvlm_mutex_lock(tvlm_mutex *mutex)
{
    AcquireSRWLockExclusive(lock_of(mutex));
}

void tvlm_mutex_unlock(tvlm_mutex *mutex)
{
    ReleaseSRWLockExclusive(lock_of(mutex));
}

void tvlm_cond_init(tvlm_cond *cond)
{
    InitializeConditionVariable(condition_of(cond));
}

void tvlm_cond_destroy(tvlm_cond *cond)
{
    (void)cond;
}

void tvlm_cond_wait(tvlm_cond *cond, tvlm_mutex *mutex)
{
    SleepConditionVariableSRW(condition_of(cond), lock_of(mutex), INFINITE, 0);
}

bool tvlm_cond_wait_ms(tvlm_cond *cond, tvlm_mutex *mutex, unsigned ms)
{
    if (ms == INFINITE) ms--; /* which would be for ever */
    return SleepConditionVariableSRW(condition_of(cond), lock_of(mutex), ms, 0);
}

void tvlm_cond_signal(tvlm_cond *cond)
{
    WakeConditionVariable(condition_of(cond));
}

void tvlm_cond_broadcast(tvlm_cond *cond)
{
    WakeAllConditionVariable(condition_of(cond));
}

static unsigned __stdcall thread_main(void *arg)
{
    const tvlm_thread *thread = arg;
    thread->run(thread->arg);
    return 0;
}

bool tvlm_thread_start(tvlm_thread *thread, void (*run)(void *arg), void *arg)
{
    thread->run = run;
    thread->arg = arg;
    thread->handle = (void *)_beginthreadex(NULL, 0, thread_main, thread, 0, NULL);
    return thread->handle != NULL;
}

void tvlm_thread_join(tvlm_thread *thread)
{
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
}

/* ---- files ---- */

static void explain(DWORD code, tvlm_os_reason *reason)
{
    WCHAR wide[sizeof reason->text];
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code,
                             0, wide, (DWORD)sizeof reason->text, NULL);
    while (n && wide[n - 1] <= L' ') /* it ends in a line break */
        n--;
    int bytes = WideCharToMultiByte(CP_UTF8, 0, wide, (int)n, reason->text,
                                    (int)sizeof reason->text - 1, NULL, NULL);
    if (n && bytes > 0)
        reason->text[bytes] = 0;
    else
        snprintf(reason->text, sizeof reason->text, "error %lu", code);
}

/* To be freed; NULL, with the reason as the last error, where the path is no UTF-8. */
static WCHAR *wide_path(const char *path)
{
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    WCHAR *wide = n > 0 ? malloc((size_t)n * sizeof *wide) : NULL;
    if (!wide) {
        SetLastError(ERROR_INVALID_NAME);
        return NULL;
    }
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, n);
    return wide;
}

static HANDLE open_utf8(const char *path, DWORD access, DWORD how)
{
    WCHAR *wide = wide_path(path);
    if (!wide) return INVALID_HANDLE_VALUE;
    /* as elsewhere: what is still open for writing can be read */
    DWORD others_may = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    HANDLE file = CreateFileW(wide, access, others_may, NULL, how, FILE_ATTRIBUTE_NORMAL, NULL);
    DWORD reason = GetLastError();
    free(wide);
    SetLastError(reason);
    return file;
}

bool tvlm_os_open(const char *path, tvlm_os_file *out, tvlm_os_reason *reason)
{
    LARGE_INTEGER size;
    *out = (tvlm_os_file){-1, 0}; /* INVALID_HANDLE_VALUE */
    HANDLE file = open_utf8(path, GENERIC_READ, OPEN_EXISTING);
    if (file == INVALID_HANDLE_VALUE) {
        explain(GetLastError(), reason);
        return false;
    }
    if (GetFileType(file) != FILE_TYPE_DISK)
        snprintf(reason->text, sizeof reason->text, "Not a regular file");
    else if (!GetFileSizeEx(file, &size))
        explain(GetLastError(), reason);
    else
        *out = (tvlm_os_file){(intptr_t)file, (uint64_t)size.QuadPart};
    if (out->handle == -1) CloseHandle(file);
    return out->handle != -1;
}

int64_t tvlm_os_read(const tvlm_os_file *file, uint64_t offset, void *out, size_t n,
                     tvlm_os_reason *reason)
{
    DWORD got = 0, want = n < 0x40000000 ? (DWORD)n : 0x40000000;
    OVERLAPPED at = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
    if (ReadFile((HANDLE)file->handle, out, want, &got, &at)) return got;
    if (GetLastError() == ERROR_HANDLE_EOF) return 0;
    explain(GetLastError(), reason);
    return -1;
}

void tvlm_os_close(tvlm_os_file *file)
{
    if (file->handle != -1) CloseHandle((HANDLE)file->handle);
    *file = (tvlm_os_file){-1, 0};
}

/* ---- files written ---- */

static bool done(BOOL fine, tvlm_os_reason *reason)
{
    if (!fine) explain(GetLastError(), reason);
    return fine;
}

bool tvlm_os_create(const char *path, tvlm_os_file *out, tvlm_os_reason *reason)
{
    HANDLE file = open_utf8(path, GENERIC_WRITE, CREATE_NEW);
    *out = (tvlm_os_file){(intptr_t)file, 0};
    return done(file != INVALID_HANDLE_VALUE, reason);
}

bool tvlm_os_append(const tvlm_os_file *file, const void *data, size_t n, tvlm_os_reason *reason)
{
    for (const char *p = data; n;) {
        DWORD put = 0, want = n < 0x40000000 ? (DWORD)n : 0x40000000;
        BOOL fine = WriteFile((HANDLE)file->handle, p, want, &put, NULL);
        if (fine && !put) SetLastError(ERROR_DISK_FULL);
        if (!done(fine && put, reason)) return false;
        p += put;
        n -= put;
    }
    return true;
}

bool tvlm_os_sync(const tvlm_os_file *file, tvlm_os_reason *reason)
{
    return done(FlushFileBuffers((HANDLE)file->handle), reason);
}

bool tvlm_os_rename(const char *from, const char *to, tvlm_os_reason *reason)
{
    WCHAR *old = wide_path(from), *new = old ? wide_path(to) : NULL;
    BOOL fine = new &&MoveFileExW(old, new, MOVEFILE_REPLACE_EXISTING);
    if (!fine) explain(GetLastError(), reason);
    free(old);
    free(new);
    return fine;
}

void tvlm_os_remove(const char *path)
{
    WCHAR *wide = wide_path(path);
    if (wide) DeleteFileW(wide);
    free(wide);
}

#endif
