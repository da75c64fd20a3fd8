/* SPDX-License-Identifier: MIT */
#ifndef _WIN32
#define _DEFAULT_SOURCE /* ECHOCTL, FIONREAD */
#define _DARWIN_C_SOURCE
#define _FILE_OFFSET_BITS 64
#include "system/system.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

static void fill(const struct stat *st, app_sys_facts *out)
{
    *out = (app_sys_facts){.kind = S_ISREG(st->st_mode)   ? APP_SYS_REGULAR
                                   : S_ISDIR(st->st_mode) ? APP_SYS_FOLDER
                                                          : APP_SYS_STREAM,
                           .device = (uint64_t)st->st_dev,
                           .number = (uint64_t)st->st_ino,
                           .size = (uint64_t)st->st_size,
                           .mode = st->st_mode & 0777,
                           .owner = st->st_uid,
                           .group = st->st_gid};
}

bool app_sys_look(const char *path, app_sys_facts *out)
{
    struct stat st;
    if (stat(path, &st) != 0) return false;
    fill(&st, out);
    return true;
}

bool app_sys_look_fd(int fd, app_sys_facts *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return false;
    fill(&st, out);
    return true;
}

bool app_sys_same(const app_sys_facts *a, const app_sys_facts *b)
{
    return a->device == b->device && a->number == b->number;
}

/* folder of `path` + name, or name alone where it is absolute; frees path. */
static char *beside(char *path, const char *name)
{
    char *slash = strrchr(path, '/');
    size_t folder = slash && name[0] != '/' ? (size_t)(slash - path) + 1 : 0;
    char *joined = malloc(folder + strlen(name) + 1);
    if (joined) {
        memcpy(joined, path, folder);
        strcpy(joined + folder, name);
    }
    free(path);
    return joined;
}

/* Not realpath: a link may point at what does not exist yet. */
char *app_sys_target(const char *path)
{
    char *at = strdup(path), link[PATH_MAX];
    for (int depth = 0; at && depth < 40; depth++) {
        ssize_t n = readlink(at, link, sizeof link - 1);
        if (n < 0) return at;
        link[n] = 0;
        at = beside(at, link);
    }
    free(at);
    if (at) errno = ELOOP;
    return NULL;
}

bool app_sys_writable(const char *path)
{
    return access(path, W_OK) == 0;
}

FILE *app_sys_open(const char *path)
{
    return fopen(path, "rb");
}

int app_sys_create(const char *path, bool secret)
{
    return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, secret ? 0600 : 0666);
}

enum { GLANCE_MS = 50 };

/* A signal that comes just before a call that waits would not end the wait. */
int app_sys_open_stream(const char *path)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 || errno != ENXIO) return fd;
    bool fifo = stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
    if (fifo) app_sys_sleep_ms(GLANCE_MS);
    errno = fifo ? EINTR : ENXIO;
    return -1;
}

int app_sys_dup(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* The owner stays where we may give files away; the mode must, where the file system has one. */
bool app_sys_keep_permissions(int fd, const app_sys_facts *of)
{
    app_sys_facts now;
    if (!app_sys_look_fd(fd, &now)) return false;
    if ((now.owner != of->owner || now.group != of->group) && fchown(fd, of->owner, of->group) != 0)
        errno = 0;
    return fchmod(fd, of->mode) == 0 || (app_sys_look_fd(fd, &now) && now.mode == of->mode);
}

/* Pipes, terminals and some file systems have nothing to sync. */
bool app_sys_sync(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS ||
           errno == ENOSYS;
}

bool app_sys_seek(int fd, uint64_t offset)
{
    return lseek(fd, (off_t)offset, SEEK_SET) >= 0;
}

bool app_sys_seek_end(int fd)
{
    return lseek(fd, 0, SEEK_END) >= 0;
}

long app_sys_read(int fd, void *data, size_t size)
{
    return (long)read(fd, data, size);
}

long app_sys_write(int fd, const void *data, size_t size)
{
    ssize_t n = write(fd, data, size);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, GLANCE_MS);
        errno = EINTR;
    }
    return (long)n;
}

bool app_sys_close(int fd)
{
    return close(fd) == 0 || errno == EINTR; /* closed all the same */
}

bool app_sys_terminal(int fd)
{
    return isatty(fd);
}

bool app_sys_replace(const char *from, const char *to)
{
    return rename(from, to) == 0;
}

void app_sys_unlink(const char *path)
{
    unlink(path);
}

const char *app_sys_temporary_folder(void)
{
    const char *named = getenv("TMPDIR");
    return named && *named ? named : "/tmp";
}

unsigned app_sys_process(void)
{
    return (unsigned)getpid();
}

bool app_sys_list(const char *folder, bool (*visit)(void *user, const char *path), void *user)
{
    DIR *dir = opendir(folder);
    if (!dir) return false;
    bool more = true, fine = true;
    struct dirent *e = NULL;
    for (errno = 0; more && (e = readdir(dir)); errno = 0) {
        size_t size = strlen(folder) + strlen(e->d_name) + 2;
        char *path = malloc(size);
        if (!(fine = path != NULL)) break;
        snprintf(path, size, "%s/%s", folder, e->d_name);
        more = visit(user, path);
        free(path);
    }
    int reason = errno;
    fine = fine && (e || !reason); /* no entry, but a reason: the folder was not read to its end */
    closedir(dir);
    errno = reason;
    return fine;
}

/* ---- the process ---- */

void app_sys_standard_streams(void)
{
    static const int wrong[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", wrong[fd]) < 0)
            (void)!open("/", O_RDONLY); /* no /dev here */
}

bool app_sys_arguments(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return true;
}

const char *app_sys_variable(const char *name)
{
    return getenv(name);
}

static void handle(int number, void (*with)(int))
{
    struct sigaction action = {.sa_handler = with}, before;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
}

void app_sys_on_signals(void (*stop)(int number), void (*quit)(int number))
{
    handle(SIGINT, stop);
    handle(SIGTERM, stop);
    handle(SIGHUP, stop);
    handle(SIGQUIT, quit);
    handle(SIGPIPE, SIG_IGN);
    handle(SIGXFSZ, SIG_IGN);
}

void app_sys_exit(int code)
{
    _exit(code);
}

void app_sys_sleep_ms(double ms)
{
    time_t s = (time_t)(ms / 1e3);
    nanosleep(&(struct timespec){s, (long)((ms - (double)s * 1e3) * 1e6)}, NULL);
}

double app_sys_now_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* A page that is touched first costs microseconds, whatever its size. */
void *app_sys_large_alloc(size_t n, size_t size)
{
    unsigned char *block = calloc(n, size);
#if defined(MADV_HUGEPAGE)
    const size_t page = (size_t)2 << 20;
    size_t before = (page - (uintptr_t)block % page) % page;
    if (block && n * size >= before + page)
        madvise(block + before, (n * size - before) / page * page, MADV_HUGEPAGE); /* a wish */
#endif
    return block;
}

#if defined(__linux__)
/* Of this program alone: what getrusage tells begins with the peak of the one that started it. */
static uint64_t own_peak(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[128];
    unsigned long long kib = 0;
    while (f && !kib && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu", &kib) != 1) kib = 0;
    if (f) fclose(f);
    return (uint64_t)kib * 1024;
}
#else
static uint64_t own_peak(void)
{
    return 0;
}
#endif

uint64_t app_sys_peak_memory(void)
{
    struct rusage usage;
    uint64_t own = own_peak();
    if (own) return own;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

struct app_sys_thread {
    pthread_t id;
    void (*run)(void *arg);
    void *arg;
};

static void *thread_main(void *arg)
{
    const app_sys_thread *thread = arg;
    thread->run(thread->arg);
    return NULL;
}

app_sys_thread *app_sys_thread_start(void (*run)(void *arg), void *arg)
{
    app_sys_thread *thread = malloc(sizeof *thread);
    if (!thread) return NULL;
    thread->run = run;
    thread->arg = arg;
    if (pthread_create(&thread->id, NULL, thread_main, thread) == 0) return thread;
    free(thread);
    return NULL;
}

void app_sys_thread_join(app_sys_thread *thread)
{
    if (thread) pthread_join(thread->id, NULL);
    free(thread);
}

#if defined(__APPLE__)
static bool program_path(char *out, size_t cap)
{
    uint32_t n = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX;
    return _NSGetExecutablePath(out, &n) == 0;
}
#else
static bool program_path(char *out, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n <= 0) return false;
    out[n] = 0;
    return true;
}
#endif

bool app_sys_program_folder(char *out, size_t cap)
{
    char *slash = program_path(out, cap) ? strrchr(out, '/') : NULL;
    if (slash) *slash = 0;
    return slash;
}

/* ---- standard input ---- */

long app_sys_read_line(char **line, size_t *cap)
{
    return (long)getline(line, cap, stdin);
}

int app_sys_input_ready(unsigned ms)
{
    fd_set input;
    FD_ZERO(&input);
    FD_SET(STDIN_FILENO, &input);
    struct timeval most = {ms / 1000, (int)(ms % 1000) * 1000};
    return select(STDIN_FILENO + 1, &input, NULL, NULL, &most);
}

/* There is one standard input. */
static struct termios mode_before;
static bool mode_changed;

void app_sys_line_begin(void)
{
    struct termios now;
    mode_changed = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &mode_before) == 0;
    if (!mode_changed) return;
    now = mode_before;
    now.c_lflag = (now.c_lflag | NOFLSH) & ~(tcflag_t)ECHOCTL;
    tcsetattr(STDIN_FILENO, TCSANOW, &now);
}

static bool throw_away(void)
{
    int n = 0;
    struct termios raw = mode_before;
    raw.c_lflag &= ~(tcflag_t)ICANON;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    bool some = ioctl(STDIN_FILENO, FIONREAD, &n) == 0 && n > 0;
    tcflush(STDIN_FILENO, TCIFLUSH);
    return some;
}

bool app_sys_line_end(bool interrupted)
{
    bool thrown = interrupted && mode_changed && throw_away();
    if (mode_changed) tcsetattr(STDIN_FILENO, TCSANOW, &mode_before);
    mode_changed = false;
    return thrown;
}

/* ---- libraries ---- */

void *app_sys_library_open(const char *name)
{
    return dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
}

void *app_sys_library_find(void *library, const char *function)
{
    return dlsym(library, function);
}

const char *app_sys_library_error(void)
{
    const char *why = dlerror();
    return why ? why : "";
}
#else
typedef int app_posix_unused; /* ISO C wants a declaration */
#endif
