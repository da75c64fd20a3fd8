/* SPDX-License-Identifier: MIT
 * What the command line tool asks of the operating system beyond os/os.h; the only folder of app/
 * that knows which system it runs on (posix.c, win32.c). Paths are UTF-8; errno says what failed.
 */
#ifndef TVLM_APP_SYSTEM_H
#define TVLM_APP_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define TVLM_BACKSLASH_SEPARATES    1
#define TVLM_SYS_LIBRARY(name, abi) "lib" name ".dll"
#else
#define TVLM_BACKSLASH_SEPARATES 0
#if defined(__APPLE__)
#define TVLM_SYS_LIBRARY(name, abi) "lib" name "." #abi ".dylib"
#else
#define TVLM_SYS_LIBRARY(name, abi) "lib" name ".so." #abi
#endif
#endif

enum { TVLM_SYS_STDIN, TVLM_SYS_STDOUT, TVLM_SYS_STDERR };

/* ---- files ---- */

typedef enum tvlm_sys_kind {
    TVLM_SYS_REGULAR,
    TVLM_SYS_FOLDER,
    TVLM_SYS_STREAM /* device, FIFO, socket */
} tvlm_sys_kind;

typedef struct tvlm_sys_facts {
    tvlm_sys_kind kind;
    uint64_t device, number; /* together the file's identity */
    unsigned mode, owner, group;
} tvlm_sys_facts;

bool tvlm_sys_look(const char *path, tvlm_sys_facts *out); /* links are followed */
bool tvlm_sys_look_fd(int fd, tvlm_sys_facts *out);
bool tvlm_sys_same(const tvlm_sys_facts *a, const tvlm_sys_facts *b);
/* The name behind links, existing or not; to free. */
char *tvlm_sys_target(const char *path);
bool tvlm_sys_writable(const char *path);

int tvlm_sys_create(const char *path, bool secret); /* exclusively, to read and write; -1 */
int tvlm_sys_open_stream(const char *path);
int tvlm_sys_dup(int fd);
bool tvlm_sys_keep_permissions(int fd, const tvlm_sys_facts *of);
bool tvlm_sys_sync(int fd);
bool tvlm_sys_seek(int fd, uint64_t offset);
bool tvlm_sys_seek_end(int fd);
/* Bytes read (0: the end) or written, at most `size`; -1. A full pipe is waited for. */
long tvlm_sys_read(int fd, void *data, size_t size);
long tvlm_sys_write(int fd, const void *data, size_t size);
bool tvlm_sys_close(int fd);
bool tvlm_sys_terminal(int fd);
bool tvlm_sys_replace(const char *from, const char *to);
void tvlm_sys_unlink(const char *path); /* async-signal-safe */
const char *tvlm_sys_temporary_folder(void);
unsigned tvlm_sys_process(void);

/* Calls visit(user, path) for every entry of a folder until it returns false; false: cannot read
 * it (or out of memory). */
bool tvlm_sys_list(const char *folder, bool (*visit)(void *user, const char *path), void *user);

/* ---- the process ---- */

/* Opens those standard streams that were closed at the start, the wrong way, so that using them
 * fails: their descriptors would go to the next file, and our text with it. All carry bytes. */
void tvlm_sys_standard_streams(void);
/* Calls stop for signals that end programs and quit for the one that asks for a core dump. What was
 * ignored at the start stays so (nohup); blocking calls end with EINTR. That nobody reads a pipe,
 * or that a file is too large, is told by the write. */
void tvlm_sys_on_signals(void (*stop)(int number), void (*quit)(int number));
void tvlm_sys_exit(int code); /* at once; async-signal-safe */
void tvlm_sys_sleep_ms(double ms);
/* The folder that this program lies in; false where the system does not tell. */
bool tvlm_sys_program_folder(char *out, size_t cap);

/* ---- standard input ---- */

/* A line of stdin with its end, in *line, which is grown by realloc; its length, or -1: the end, an
 * error (ferror), or no memory. */
long tvlm_sys_read_line(char **line, size_t *cap);
/* Whether something can be read, now or within this time; -1: EINTR. */
int tvlm_sys_input_ready(unsigned ms);
/* Around the reading of a line from a terminal: Ctrl-C leaves in its queue what was typed, and the
 * marks of pasted text are not echoed as ^[. The second throws an interrupted line away, and tells
 * whether there was one. */
void tvlm_sys_line_begin(void);
bool tvlm_sys_line_end(bool interrupted);

/* ---- libraries opened while running ---- */

/* It stays in memory; NULL: tvlm_sys_library_error says why. name: TVLM_SYS_LIBRARY. */
void *tvlm_sys_library_open(const char *name);
void *tvlm_sys_library_find(void *library, const char *function); /* NULL as above */
const char *tvlm_sys_library_error(void);

#endif
