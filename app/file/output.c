/* SPDX-License-Identifier: MIT */
#include "file/output.h"
#include "common/common.h"
#include "file/folder.h"
#include "system/system.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Temporaries that exist now, where a signal handler finds their names. */
enum { MAX_LIVE = 16, MAX_PATH_BYTES = 4096 };
enum { FREE, TAKEN, NAMED };
static struct {
    atomic_int state;
    char path[MAX_PATH_BYTES];
} live[MAX_LIVE];

struct app_output {
    char *path;   /* as given, for messages */
    char *target; /* what the temporary is renamed to; NULL: it is copied into `stream` */
    int stream;
    bool pouring; /* from the temporary into stream */
    int slot;     /* in live; -1: none */
    int fd;       /* the temporary */
    unsigned char *buffer;
    size_t buffered;
    const tvlm_cancel *cancel;
};

enum { BUFFER = 1 << 18, MOST_AT_ONCE = 1 << 30 };

/* ---- names of temporaries ---- */

static int take_slot(void)
{
    for (int i = 0; i < MAX_LIVE; i++) {
        int expected = FREE;
        if (atomic_compare_exchange_strong(&live[i].state, &expected, TAKEN)) return i;
    }
    errno = EMFILE;
    return -1;
}

static void remove_temporary(app_output *o)
{
    if (o->slot < 0) return;
    app_sys_unlink(live[o->slot].path);
    atomic_store(&live[o->slot].state, FREE);
    o->slot = -1;
}

void app_output_unlink_all(void)
{
    for (int i = 0; i < MAX_LIVE; i++)
        if (atomic_load(&live[i].state) == NAMED) app_sys_unlink(live[i].path);
}

/* Unlikely to be taken; that it is not, exclusive creation makes sure. */
static unsigned long long unusual_number(void)
{
    static atomic_uint calls;
    unsigned long long x = (unsigned long long)time(NULL) << 24 ^ (unsigned long long)clock() ^
                           (unsigned long long)app_sys_process() << 44 ^
                           (unsigned long long)(uintptr_t)&x << 8;
    return (x + atomic_fetch_add(&calls, 1)) * 0x9e3779b97f4a7c15ull;
}

/* In the first `folder` bytes of `beside`. The name is short whatever the target's is. */
static int create_in(app_output *o, const char *beside, size_t folder, bool secret)
{
    int fd = -1;
    if ((o->slot = take_slot()) < 0) return -1;
    char *path = live[o->slot].path;
    if (folder + 32 > MAX_PATH_BYTES) {
        errno = ENAMETOOLONG;
    } else {
        memcpy(path, beside, folder);
        for (int attempt = 0; fd < 0 && attempt < 100; attempt++) {
            snprintf(path + folder, 32, ".tinyvlm-%016llx", unusual_number());
            atomic_store(&live[o->slot].state, NAMED); /* first, so that no signal comes between */
            fd = app_sys_create(path, secret);
            if (fd < 0) atomic_store(&live[o->slot].state, TAKEN);
            if (fd < 0 && errno != EEXIST) break;
        }
    }
    if (fd >= 0) return fd;
    atomic_store(&live[o->slot].state, FREE);
    o->slot = -1;
    return -1;
}

static size_t folder_length(const char *path)
{
    size_t n = 0;
    for (size_t i = 0; path[i]; i++)
        if (path[i] == '/' || (APP_BACKSLASH_SEPARATES && path[i] == '\\')) n = i + 1;
    return n;
}

/* ---- errors ---- */

static tvlm_status fail(const app_output *o, tvlm_error *err)
{
    int reason = errno;
    if (tvlm_cancel_requested(o->cancel)) return app_fail(err, TVLM_ERR_CANCELLED, "interrupted");
    bool elsewhere = o->stream >= 0 && !o->pouring;
    return app_fail(err, APP_ERR_WRITE, "%s: cannot write%s%s: %s%s", o->path,
                    elsewhere ? " its temporary file in " : "",
                    elsewhere ? app_sys_temporary_folder() : "", strerror(reason),
                    elsewhere ? " (TMPDIR names another folder)" : "");
}

/* ---- identity ---- */

static bool look(const char *path, int standard, app_sys_facts *out)
{
    return strcmp(path, "-") ? app_sys_look(path, out) : app_sys_look_fd(standard, out);
}

typedef struct search {
    app_sys_facts wanted;
    bool found;
} search;

static bool compare_entry(void *user, const char *path)
{
    search *s = user;
    app_sys_facts facts;
    size_t n = strlen(path);
    if (n >= 5 && !strcmp(path + n - 5, ".gguf")) return true; /* an earlier result, no input */
    s->found = app_sys_look(path, &facts) && app_sys_same(&facts, &s->wanted);
    return !s->found;
}

tvlm_status app_output_not_input(const char *path, const char *input, tvlm_error *err)
{
    search s = {.found = false};
    app_sys_facts facts;
    if (!look(path, 1, &s.wanted) || s.wanted.kind != APP_SYS_REGULAR || !look(input, 0, &facts))
        return TVLM_OK;
    if (facts.kind != APP_SYS_FOLDER)
        s.found = app_sys_same(&facts, &s.wanted);
    else
        APP_TRY(app_folder_list(input, compare_entry, &s, err));
    if (!s.found) return TVLM_OK;
    return app_fail(err, TVLM_ERR_ARGUMENT, "the result would overwrite its source: %s is %s%s",
                    strcmp(path, "-") ? path : "standard output",
                    facts.kind == APP_SYS_FOLDER ? "in " : "",
                    strcmp(input, "-") ? input : "standard input");
}

/* ---- opening ---- */

/* The device that was looked at, and no other that took its name since. */
static bool open_stream(app_output *o, const app_sys_facts *seen)
{
    app_sys_facts facts;
    do {
        if (tvlm_cancel_requested(o->cancel)) return false;
        o->stream = app_sys_open_stream(o->path);
    } while (o->stream < 0 && errno == EINTR);
    if (o->stream < 0) return false;
    if (app_sys_look_fd(o->stream, &facts) && app_sys_same(&facts, seen)) return true;
    errno = EAGAIN;
    return false;
}

static bool create_elsewhere(app_output *o)
{
    char folder[MAX_PATH_BYTES];
    int n = snprintf(folder, sizeof folder, "%s/", app_sys_temporary_folder());
    if (n < 0 || (size_t)n >= sizeof folder) {
        errno = ENAMETOOLONG;
        return false;
    }
    return (o->fd = create_in(o, folder, (size_t)n, true)) >= 0;
}

/* exists: what is there already, a regular file, nullable. */
static bool create_beside(app_output *o, const app_sys_facts *exists)
{
    app_sys_facts behind;
    if (!(o->target = app_sys_target(o->path))) return false;
    if (exists) {
        /* links of /proc lead to files that have no name */
        bool named = app_sys_look(o->target, &behind) && app_sys_same(&behind, exists);
        if (!named) errno = ENOENT;
        if (!named || !app_sys_writable(o->target)) return false;
    }
    o->fd = create_in(o, o->target, folder_length(o->target), exists != NULL);
    return o->fd >= 0 && (!exists || app_sys_keep_permissions(o->fd, exists));
}

/* 1 for "-"; 1 or 2 for a file that standard output or error goes to: whoever holds it open may
 * append to it, so it is not replaced. -1: neither. */
static int standard_stream(const app_output *o, const app_sys_facts *facts)
{
    app_sys_facts standard;
    if (!strcmp(o->path, "-")) return 1;
    for (int fd = 1; fd <= 2 && facts->kind == APP_SYS_REGULAR; fd++)
        if (app_sys_look_fd(fd, &standard) && app_sys_same(facts, &standard)) return fd;
    return -1;
}

static tvlm_status open_output(app_output *o, tvlm_error *err)
{
    app_sys_facts facts = {0};
    bool exists = look(o->path, 1, &facts), fine;
    int standard = exists ? standard_stream(o, &facts) : -1;
    if (!exists)
        fine = errno == ENOENT && create_beside(o, NULL);
    else if (facts.kind == APP_SYS_FOLDER)
        return app_fail(err, APP_ERR_WRITE, "%s: is a folder", o->path);
    else if (standard >= 0 && app_sys_terminal(standard))
        return app_fail(err, APP_ERR_WRITE, "standard output is a terminal: not written there");
    else if (standard >= 0)
        fine = (o->stream = app_sys_dup(standard)) >= 0 && create_elsewhere(o);
    else if (facts.kind == APP_SYS_REGULAR)
        fine = create_beside(o, &facts);
    else
        fine = open_stream(o, &facts) && create_elsewhere(o);
    return fine ? TVLM_OK : fail(o, err);
}

tvlm_status app_output_open(const char *path, const tvlm_cancel *cancel, app_output **out,
                            tvlm_error *err)
{
    *out = NULL;
    if (!*path) return app_fail(err, TVLM_ERR_ARGUMENT, "the output has an empty name");
    app_output *o = calloc(1, sizeof *o);
    size_t size = strlen(path) + 1;
    if (o) *o = (app_output){.stream = -1, .slot = -1, .fd = -1, .cancel = cancel};
    if (!o || !(o->path = malloc(size)) || !(o->buffer = malloc(BUFFER))) {
        app_output_abort(o);
        return app_fail(err, TVLM_ERR_MEMORY, "out of memory writing %s", path);
    }
    memcpy(o->path, path, size);
    tvlm_status status = open_output(o, err);
    if (status)
        app_output_abort(o);
    else
        *out = o;
    return status;
}

void app_output_abort(app_output *o)
{
    if (!o) return;
    if (o->fd >= 0) app_sys_close(o->fd);
    if (o->stream >= 0) app_sys_close(o->stream);
    remove_temporary(o);
    free(o->buffer);
    free(o->target);
    free(o->path);
    free(o);
}

/* ---- writing ---- */

static bool write_all(const app_output *o, int fd, const unsigned char *data, size_t size)
{
    while (size) {
        if (tvlm_cancel_requested(o->cancel)) return false;
        long n = app_sys_write(fd, data, size < MOST_AT_ONCE ? size : MOST_AT_ONCE);
        if (n < 0 && errno != EINTR) return false;
        if (n == 0) errno = ENOSPC;
        if (n == 0) return false;
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool flush(app_output *o)
{
    size_t n = o->buffered;
    o->buffered = 0;
    return write_all(o, o->fd, o->buffer, n);
}

static bool append(app_output *o, const void *data, size_t size)
{
    if (size > BUFFER - o->buffered && !flush(o)) return false;
    if (size >= BUFFER) return write_all(o, o->fd, data, size);
    if (size) memcpy(o->buffer + o->buffered, data, size);
    o->buffered += size;
    return true;
}

tvlm_status app_output_write(app_output *o, const void *data, size_t size, tvlm_error *err)
{
    return append(o, data, size) ? TVLM_OK : fail(o, err);
}

tvlm_status app_output_patch(app_output *o, uint64_t offset, const void *data, size_t size,
                             tvlm_error *err)
{
    bool fine = flush(o) && app_sys_seek(o->fd, offset) && write_all(o, o->fd, data, size) &&
                app_sys_seek_end(o->fd);
    return fine ? TVLM_OK : fail(o, err);
}

/* ---- finishing ---- */

static tvlm_status checked(const app_output *o, app_output_check check, void *user, tvlm_error *err)
{
    tvlm_error why = {0};
    tvlm_status status = check ? check(user, live[o->slot].path, &why) : TVLM_OK;
    if (status == TVLM_ERR_CANCELLED) return app_fail(err, status, "%s", why.message);
    return status ? app_fail(err, status, "%s: the result is not good and was not kept: %s",
                             o->path, why.message)
                  : TVLM_OK;
}

/* Nothing but a regular file, or no file, is replaced. */
static tvlm_status replace(app_output *o, tvlm_error *err)
{
    app_sys_facts facts;
    bool fine = !app_sys_look(o->target, &facts) || facts.kind == APP_SYS_REGULAR;
    if (!fine) errno = EEXIST;
    fine = fine && app_sys_replace(live[o->slot].path, o->target);
    if (!fine && errno == EBUSY)
        return app_fail(err, APP_ERR_WRITE,
                        "%s: cannot be replaced, it is in use or a mount of its own: "
                        "name another file, or mount its folder",
                        o->path);
    if (!fine) return fail(o, err);
    atomic_store(&live[o->slot].state, FREE);
    o->slot = -1;
    return TVLM_OK;
}

static bool copy_to_stream(app_output *o)
{
    long n;
    while ((n = app_sys_read(o->fd, o->buffer, BUFFER)) > 0)
        if (!write_all(o, o->stream, o->buffer, (size_t)n)) return false;
    return n == 0 && app_sys_sync(o->stream);
}

static tvlm_status pour(app_output *o, tvlm_error *err)
{
    if (!app_sys_seek(o->fd, 0)) return fail(o, err);
    remove_temporary(o); /* it lives on behind fd */
    o->pouring = true;
    return copy_to_stream(o) ? TVLM_OK : fail(o, err);
}

static tvlm_status finish(app_output *o, app_output_check check, void *user, tvlm_error *err)
{
    if (!flush(o) || (o->target && !app_sys_sync(o->fd))) return fail(o, err);
    APP_TRY(checked(o, check, user, err));
    if (tvlm_cancel_requested(o->cancel)) return fail(o, err);
    if (!o->target) return pour(o, err);
    int fd = o->fd;
    o->fd = -1;
    return app_sys_close(fd) ? replace(o, err) : fail(o, err);
}

tvlm_status app_output_finish(app_output *o, app_output_check check, void *user, tvlm_error *err)
{
    tvlm_status status = finish(o, check, user, err);
    app_output_abort(o);
    return status;
}
