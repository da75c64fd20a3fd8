/* SPDX-License-Identifier: MIT
 * What outputs need of the system: posix.c, win32.c. Paths are UTF-8; errno says what failed. */
#ifndef TVLM_APP_SYSTEM_H
#define TVLM_APP_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define TVLM_BACKSLASH_SEPARATES 1
#else
#define TVLM_BACKSLASH_SEPARATES 0
#endif

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

#endif
