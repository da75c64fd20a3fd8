/* SPDX-License-Identifier: MIT
 * What the command line tool asks of the operating system; the only folder of app/ that knows which
 * it runs on (posix.c, win32.c). Paths are UTF-8; errno says what failed. */
#ifndef APP_SYSTEM_H
#define APP_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef _WIN32
#define APP_BACKSLASH_SEPARATES    1
#define APP_SYS_LIBRARY(name, abi) "lib" name ".dll"
#else
#define APP_BACKSLASH_SEPARATES 0
#if defined(__APPLE__)
#define APP_SYS_LIBRARY(name, abi) "lib" name "." #abi ".dylib"
#else
#define APP_SYS_LIBRARY(name, abi) "lib" name ".so." #abi
#endif
#endif

enum { APP_SYS_STDIN, APP_SYS_STDOUT, APP_SYS_STDERR };

/* ---- files ---- */

typedef enum app_sys_kind {
    APP_SYS_REGULAR,
    APP_SYS_FOLDER,
    APP_SYS_STREAM /* device, FIFO, socket */
} app_sys_kind;

typedef struct app_sys_facts {
    app_sys_kind kind;
    uint64_t device, number; /* together the file's identity */
    uint64_t size;           /* bytes of a regular file */
    unsigned mode, owner, group;
} app_sys_facts;

bool app_sys_look(const char *path, app_sys_facts *out); /* links are followed */
bool app_sys_look_fd(int fd, app_sys_facts *out);
bool app_sys_same(const app_sys_facts *a, const app_sys_facts *b);
/* The name behind links, existing or not; to free. */
char *app_sys_target(const char *path);
bool app_sys_writable(const char *path);

FILE *app_sys_open(const char *path);              /* to read bytes; NULL */
int app_sys_create(const char *path, bool secret); /* exclusively, to read and write; -1 */
int app_sys_open_stream(const char *path); /* to write; -1; EINTR: a FIFO has no reader yet */
int app_sys_dup(int fd);
bool app_sys_keep_permissions(int fd, const app_sys_facts *of);
bool app_sys_sync(int fd);
bool app_sys_seek(int fd, uint64_t offset);
bool app_sys_seek_end(int fd);
/* Bytes read (0: the end) or written, at most `size`; -1. EINTR: a signal, or a full pipe. */
long app_sys_read(int fd, void *data, size_t size);
long app_sys_write(int fd, const void *data, size_t size);
bool app_sys_close(int fd);
bool app_sys_terminal(int fd);
bool app_sys_replace(const char *from, const char *to);
void app_sys_unlink(const char *path); /* async-signal-safe */
const char *app_sys_temporary_folder(void);
unsigned app_sys_process(void);

/* Calls visit(user, folder/name) for every entry of a folder, . and .. too, until it returns false;
 * false: cannot read it (or out of memory). */
bool app_sys_list(const char *folder, bool (*visit)(void *user, const char *path), void *user);

/* ---- the process ---- */

/* Opens those standard streams that were closed at the start, the wrong way, so that using them
 * fails: their descriptors would go to the next file, and our text with it. All carry bytes; a
 * console takes them for UTF-8. */
void app_sys_standard_streams(void);
/* main's arguments become UTF-8, where they are not; false: out of memory. */
bool app_sys_arguments(int *argc, char ***argv);
/* A variable of the environment, UTF-8 as paths are; never freed. NULL: not set. */
const char *app_sys_variable(const char *name);
/* Calls stop for signals that end programs and quit for the one that asks for a core dump. What was
 * ignored at the start stays so (nohup); blocking calls end with EINTR. That nobody reads a pipe,
 * or that a file is too large, is told by the write. */
void app_sys_on_signals(void (*stop)(int number), void (*quit)(int number));
void app_sys_exit(int code); /* at once; async-signal-safe */
void app_sys_sleep_ms(double ms);
/* The folder that this program lies in; false where the system does not tell. */
bool app_sys_program_folder(char *out, size_t cap);

/* Monotonic. */
double app_sys_now_ms(void);
/* calloc for large blocks that will be used whole: in large pages where the system has them. */
void *app_sys_large_alloc(size_t n, size_t size);
/* The most memory that this process has held so far, in bytes; 0 where the system does not tell. */
uint64_t app_sys_peak_memory(void);

typedef struct app_sys_thread app_sys_thread;
/* NULL where the system has no thread or memory left; else it must be joined. */
app_sys_thread *app_sys_thread_start(void (*run)(void *arg), void *arg);
void app_sys_thread_join(app_sys_thread *thread); /* nullable */

/* ---- standard input ---- */

/* A line of stdin with its end, in *line, which is grown by realloc; its length, or -1: the end, an
 * error (ferror), or no memory. */
long app_sys_read_line(char **line, size_t *cap);
/* Whether something can be read, now or within this time; -1: EINTR. */
int app_sys_input_ready(unsigned ms);
/* Around the reading of a line from a terminal: Ctrl-C leaves in its queue what was typed, and the
 * marks of pasted text are not echoed as ^[. The second throws an interrupted line away, and tells
 * whether there was one. */
void app_sys_line_begin(void);
bool app_sys_line_end(bool interrupted);

/* ---- libraries opened while running ---- */

/* It stays in memory; NULL: app_sys_library_error says why. name: APP_SYS_LIBRARY. */
void *app_sys_library_open(const char *name);
void *app_sys_library_find(void *library, const char *function); /* NULL as above */
const char *app_sys_library_error(void);

#endif
