/* SPDX-License-Identifier: MIT */
#ifdef _WIN32
#include "system/system.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <limits.h>
#include <process.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <windows.h>

#include <psapi.h>
#include <shellapi.h>

enum { MAX_WIDE = 4096 };

static bool widen(const char *path, wchar_t out[MAX_WIDE])
{
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, out, MAX_WIDE)) return true;
    errno = EINVAL;
    return false;
}

static char *narrow(const wchar_t *wide)
{
    int n = WideCharToMultiByte(CP_UTF8, 0, wide, -1, NULL, 0, NULL, NULL);
    char *out = n > 0 ? malloc((size_t)n) : NULL;
    if (out) WideCharToMultiByte(CP_UTF8, 0, wide, -1, out, n, NULL, NULL);
    return out;
}

static bool failed(void)
{
    DWORD code = GetLastError();
    errno = code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND     ? ENOENT
            : code == ERROR_DISK_FULL                                        ? ENOSPC
            : code == ERROR_ACCESS_DENIED || code == ERROR_SHARING_VIOLATION ? EACCES
                                                                             : EIO;
    return false;
}

static bool look_handle(HANDLE file, app_sys_facts *out)
{
    BY_HANDLE_FILE_INFORMATION info;
    *out = (app_sys_facts){.kind = APP_SYS_STREAM};
    if (GetFileType(file) != FILE_TYPE_DISK) return true;
    if (!GetFileInformationByHandle(file, &info)) return failed();
    out->kind = info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? APP_SYS_FOLDER : APP_SYS_REGULAR;
    out->device = info.dwVolumeSerialNumber;
    out->number = (uint64_t)info.nFileIndexHigh << 32 | info.nFileIndexLow;
    out->size = (uint64_t)info.nFileSizeHigh << 32 | info.nFileSizeLow;
    return true;
}

static HANDLE open_to_look(const char *path)
{
    wchar_t wide[MAX_WIDE];
    if (!widen(path, wide)) return INVALID_HANDLE_VALUE;
    return CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                       OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

bool app_sys_look(const char *path, app_sys_facts *out)
{
    HANDLE file = open_to_look(path);
    if (file == INVALID_HANDLE_VALUE) return failed();
    bool fine = look_handle(file, out);
    CloseHandle(file);
    return fine;
}

bool app_sys_look_fd(int fd, app_sys_facts *out)
{
    return look_handle((HANDLE)_get_osfhandle(fd), out);
}

bool app_sys_same(const app_sys_facts *a, const app_sys_facts *b)
{
    return a->kind == b->kind && a->device == b->device && a->number == b->number;
}

/* Where the file is there, its final name; a dangling link is replaced here. */
char *app_sys_target(const char *path)
{
    wchar_t wide[MAX_WIDE];
    HANDLE file = open_to_look(path);
    if (file == INVALID_HANDLE_VALUE) return _strdup(path);
    DWORD n = GetFinalPathNameByHandleW(file, wide, MAX_WIDE, FILE_NAME_NORMALIZED);
    CloseHandle(file);
    if (n && n < MAX_WIDE) return narrow(wide);
    failed();
    return NULL;
}

bool app_sys_writable(const char *path)
{
    wchar_t wide[MAX_WIDE];
    return widen(path, wide) && _waccess(wide, 2) == 0;
}

FILE *app_sys_open(const char *path)
{
    wchar_t wide[MAX_WIDE];
    return widen(path, wide) ? _wfopen(wide, L"rb") : NULL;
}

int app_sys_create(const char *path, bool secret)
{
    wchar_t wide[MAX_WIDE];
    (void)secret; /* rights are the folder's */
    if (!widen(path, wide)) return -1;
    return _wopen(wide, _O_RDWR | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                  _S_IREAD | _S_IWRITE);
}

int app_sys_open_stream(const char *path)
{
    wchar_t wide[MAX_WIDE];
    return widen(path, wide) ? _wopen(wide, _O_WRONLY | _O_BINARY | _O_NOINHERIT) : -1;
}

int app_sys_dup(int fd)
{
    int copy = _dup(fd);
    if (copy >= 0) _setmode(copy, _O_BINARY);
    return copy;
}

bool app_sys_keep_permissions(int fd, const app_sys_facts *of)
{
    (void)fd, (void)of;
    return true;
}

bool app_sys_sync(int fd)
{
    app_sys_facts facts;
    return _commit(fd) == 0 || (app_sys_look_fd(fd, &facts) && facts.kind == APP_SYS_STREAM);
}

bool app_sys_seek(int fd, uint64_t offset)
{
    return _lseeki64(fd, (long long)offset, SEEK_SET) >= 0;
}

bool app_sys_seek_end(int fd)
{
    return _lseeki64(fd, 0, SEEK_END) >= 0;
}

long app_sys_read(int fd, void *data, size_t size)
{
    return _read(fd, data, size < INT_MAX ? (unsigned)size : INT_MAX);
}

long app_sys_write(int fd, const void *data, size_t size)
{
    return _write(fd, data, size < INT_MAX ? (unsigned)size : INT_MAX);
}

bool app_sys_close(int fd)
{
    return _close(fd) == 0;
}

bool app_sys_terminal(int fd)
{
    return _isatty(fd) != 0;
}

bool app_sys_replace(const char *from, const char *to)
{
    wchar_t old[MAX_WIDE], new[MAX_WIDE];
    if (!widen(from, old) || !widen(to, new)) return false;
    return MoveFileExW(old, new, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) || failed();
}

void app_sys_unlink(const char *path)
{
    wchar_t wide[MAX_WIDE];
    if (widen(path, wide)) DeleteFileW(wide);
}

const char *app_sys_temporary_folder(void)
{
    static char *folder;
    wchar_t wide[MAX_WIDE];
    if (!folder && GetTempPathW(MAX_WIDE, wide)) folder = narrow(wide);
    return folder ? folder : ".";
}

unsigned app_sys_process(void)
{
    return (unsigned)_getpid();
}

bool app_sys_list(const char *folder, bool (*visit)(void *user, const char *path), void *user)
{
    wchar_t pattern[MAX_WIDE];
    WIN32_FIND_DATAW entry;
    char path[MAX_WIDE];
    int n = snprintf(path, sizeof path, "%s/*", folder);
    if (n < 0 || (size_t)n >= sizeof path || !widen(path, pattern)) return false;
    HANDLE search = FindFirstFileW(pattern, &entry);
    if (search == INVALID_HANDLE_VALUE) return failed();
    bool more = true, fine = true;
    do {
        char *name = narrow(entry.cFileName);
        n = name ? snprintf(path, sizeof path, "%s/%s", folder, name) : -1;
        fine = n >= 0 && (size_t)n < sizeof path;
        if (!fine) errno = name ? ENAMETOOLONG : ENOMEM;
        more = fine && visit(user, path);
        free(name);
    } while (more && FindNextFileW(search, &entry));
    if (more && GetLastError() != ERROR_NO_MORE_FILES) fine = failed();
    FindClose(search);
    return fine;
}

/* ---- the process ---- */

#ifndef ENABLE_VIRTUAL_TERMINAL_PROCESSING
#define ENABLE_VIRTUAL_TERMINAL_PROCESSING 4
#endif

/* Older consoles than Windows 10's refuse, and show them. */
static void obey_escape_sequences(int fd)
{
    HANDLE output = (HANDLE)_get_osfhandle(fd);
    DWORD mode;
    if (GetConsoleMode(output, &mode))
        SetConsoleMode(output, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

static UINT code_page_before;

static void restore_code_page(void)
{
    SetConsoleOutputCP(code_page_before);
}

void app_sys_standard_streams(void)
{
    code_page_before = GetConsoleOutputCP(); /* 0: no console */
    if (code_page_before && SetConsoleOutputCP(CP_UTF8)) atexit(restore_code_page);
    for (int fd = 0; fd < 3; fd++) {
        if (_get_osfhandle(fd) == -1) (void)_open("NUL", fd ? _O_RDONLY : _O_WRONLY);
        _setmode(fd, _O_BINARY);
        if (fd) obey_escape_sequences(fd);
    }
    if (_isatty(APP_SYS_STDOUT)) setvbuf(stdout, NULL, _IOFBF, 4096); /* whole characters at once */
}

/* The C library's are in the code page of the system, with question marks for what it lacks. */
bool app_sys_arguments(int *argc, char ***argv)
{
    int n = 0;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &n);
    char **narrowed = wide ? calloc((size_t)n + 1, sizeof *narrowed) : NULL;
    bool fine = narrowed != NULL;
    for (int i = 0; fine && i < n; i++)
        fine = (narrowed[i] = narrow(wide[i])) != NULL;
    LocalFree(wide);
    if (fine) *argc = n, *argv = narrowed;
    return fine;
}

const char *app_sys_variable(const char *name)
{
    wchar_t wide[MAX_WIDE];
    const wchar_t *value = widen(name, wide) ? _wgetenv(wide) : NULL;
    return value ? narrow(value) : NULL;
}

void app_sys_on_signals(void (*stop)(int number), void (*quit)(int number))
{
    (void)quit;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
}

void app_sys_exit(int code)
{
    _exit(code);
}

void app_sys_sleep_ms(double ms)
{
    Sleep((DWORD)ms);
}

double app_sys_now_ms(void)
{
    LARGE_INTEGER frequency, now;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (double)now.QuadPart * 1e3 / (double)frequency.QuadPart;
}

void *app_sys_large_alloc(size_t n, size_t size)
{
    return calloc(n, size);
}

uint64_t app_sys_peak_memory(void)
{
    PROCESS_MEMORY_COUNTERS counters;
    BOOL known = K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters);
    return known ? counters.PeakWorkingSetSize : 0;
}

struct app_sys_thread {
    HANDLE handle;
    void (*run)(void *arg);
    void *arg;
};

static unsigned __stdcall thread_main(void *arg)
{
    const app_sys_thread *thread = arg;
    thread->run(thread->arg);
    return 0;
}

app_sys_thread *app_sys_thread_start(void (*run)(void *arg), void *arg)
{
    app_sys_thread *thread = malloc(sizeof *thread);
    if (!thread) return NULL;
    thread->run = run;
    thread->arg = arg;
    thread->handle = (HANDLE)_beginthreadex(NULL, 0, thread_main, thread, 0, NULL);
    if (thread->handle) return thread;
    free(thread);
    return NULL;
}

void app_sys_thread_join(app_sys_thread *thread)
{
    if (!thread) return;
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
    free(thread);
}

bool app_sys_program_folder(char *out, size_t cap)
{
    wchar_t wide[MAX_WIDE];
    DWORD n = GetModuleFileNameW(NULL, wide, MAX_WIDE);
    wchar_t *slash = n && n < MAX_WIDE ? wcsrchr(wide, L'\\') : NULL;
    if (!slash) return false;
    *slash = 0;
    char *folder = narrow(wide);
    bool fits = folder && strlen(folder) < cap;
    if (fits) strcpy(out, folder);
    free(folder);
    return fits;
}

/* ---- standard input ---- */

static bool put(char **line, size_t *cap, size_t n, int c)
{
    if (n == *cap) {
        size_t more = *cap ? 2 * *cap : 256;
        char *grown = realloc(*line, more);
        if (!grown) return false;
        *line = grown;
        *cap = more;
    }
    (*line)[n] = (char)c;
    return true;
}

/* The bytes of a console are in its code page, which lacks most characters. */
static long read_console(HANDLE console, char **line, size_t *cap)
{
    enum { CTRL_Z = 26 };
    wchar_t wide[MAX_WIDE];
    DWORD n = 0;
    if (!ReadConsoleW(console, wide, MAX_WIDE - 1, &n, NULL) || !n || wide[0] == CTRL_Z) return -1;
    wide[n] = 0;
    char *text = narrow(wide);
    if (!text) return -1;
    free(*line);
    *line = text;
    *cap = strlen(text) + 1;
    return (long)strlen(text);
}

long app_sys_read_line(char **line, size_t *cap)
{
    HANDLE input = (HANDLE)_get_osfhandle(APP_SYS_STDIN);
    DWORD mode;
    if (GetConsoleMode(input, &mode)) return read_console(input, line, cap);
    size_t n = 0;
    for (int c = 0; c != '\n' && n < LONG_MAX && (c = getchar()) != EOF; n++)
        if (!put(line, cap, n, c)) return -1;
    return n && put(line, cap, n, 0) ? (long)n : -1;
}

int app_sys_input_ready(unsigned ms)
{
    (void)ms; /* the read waits */
    return 1;
}

void app_sys_line_begin(void)
{
}

bool app_sys_line_end(bool interrupted)
{
    (void)interrupted;
    return false;
}

/* ---- libraries ---- */

void *app_sys_library_open(const char *name)
{
    wchar_t wide[MAX_WIDE];
    return widen(name, wide) ? (void *)LoadLibraryW(wide) : NULL;
}

void *app_sys_library_find(void *library, const char *function)
{
    void *found = NULL;
    FARPROC address = GetProcAddress((HMODULE)library, function);
    _Static_assert(sizeof found == sizeof address, "a function's address is a pointer");
    memcpy(&found, &address, sizeof found);
    return found;
}

const char *app_sys_library_error(void)
{
    return "not found";
}
#else
typedef int app_win32_unused; /* ISO C wants a declaration */
#endif
