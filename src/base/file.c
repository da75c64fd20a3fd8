/* SPDX-License-Identifier: MIT */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tvlm_status tvlm_file_open(const char *path, tvlm_file *out, tvlm_error *err)
{
    tvlm_os_reason reason;
    out->path = path;
    if (!tvlm_os_open(path, &out->os, &reason))
        return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot open: %s", path, reason.text);
    return TVLM_OK;
}

tvlm_status tvlm_file_read(const tvlm_file *file, uint64_t offset, void *out, size_t n,
                           tvlm_error *err)
{
    tvlm_os_reason reason;
    for (size_t done = 0; done < n;) {
        int64_t got =
            tvlm_os_read(&file->os, offset + done, (unsigned char *)out + done, n - done, &reason);
        if (got < 0)
            return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot read: %s", file->path, reason.text);
        if (got == 0)
            return tvlm_fail(
                err, TVLM_ERR_IO, "%s: ends at byte %llu, it had %llu when it was opened",
                file->path, (unsigned long long)(offset + done), (unsigned long long)file->os.size);
        done += (size_t)got;
    }
    return TVLM_OK;
}

void tvlm_file_close(tvlm_file *file)
{
    tvlm_os_close(&file->os);
}

/* ---- writing ---- */

static tvlm_status cannot_write(const tvlm_writer *w, const tvlm_os_reason *reason, tvlm_error *err)
{
    return tvlm_fail(err, TVLM_ERR_IO, "%s: cannot write: %s", w->path, reason->text);
}

/* A name that is unlikely to be taken; that it is not, exclusive creation makes sure. */
static bool create_beside(tvlm_writer *w, size_t room, tvlm_os_reason *reason)
{
    double now = tvlm_now_ms();
    tvlm_hash h = tvlm_hash_bytes((tvlm_hash){(uintptr_t)w, 0}, &now, sizeof now);
    snprintf(w->temporary, room, "%s.%016llx", w->path, (unsigned long long)h.a);
    return tvlm_os_create(w->temporary, &w->os, reason);
}

tvlm_status tvlm_writer_open(const char *path, tvlm_writer *out, tvlm_error *err)
{
    tvlm_os_reason reason;
    size_t room = strlen(path) + 18;
    *out = (tvlm_writer){
        .os = {-1, 0},
          .path = path, .temporary = malloc(room)
    };
    if (!out->temporary) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    if (create_beside(out, room, &reason)) return TVLM_OK;
    free(out->temporary); /* it is not ours */
    out->temporary = NULL;
    return cannot_write(out, &reason, err);
}

tvlm_status tvlm_writer_put(tvlm_writer *w, const void *data, size_t n, tvlm_error *err)
{
    tvlm_os_reason reason;
    if (!tvlm_os_append(&w->os, data, n, &reason)) return cannot_write(w, &reason, err);
    w->crc = tvlm_crc32c(w->crc, data, n);
    w->size += n;
    return TVLM_OK;
}

/* The file's bytes are those that were put. */
static tvlm_status read_again(const tvlm_writer *w, tvlm_file *file, tvlm_error *err)
{
    unsigned char piece[4096];
    uint32_t crc = 0;
    TVLM_TRY(tvlm_file_open(w->temporary, file, err));
    for (uint64_t at = 0; at < w->size; at += sizeof piece) {
        size_t n = w->size - at < sizeof piece ? (size_t)(w->size - at) : sizeof piece;
        TVLM_TRY(tvlm_file_read(file, at, piece, n, err));
        crc = tvlm_crc32c(crc, piece, n);
    }
    if (crc == w->crc && file->os.size == w->size) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_IO, "%s: what is read back is not what was written", w->path);
}

tvlm_status tvlm_writer_commit(tvlm_writer *w, tvlm_error *err)
{
    tvlm_os_reason reason;
    tvlm_file file = {
        .os = {-1, 0}
    };
    if (!tvlm_os_sync(&w->os, &reason)) return cannot_write(w, &reason, err);
    tvlm_os_close(&w->os);
    tvlm_status status = read_again(w, &file, err);
    tvlm_file_close(&file);
    if (status) return status;
    if (!tvlm_os_rename(w->temporary, w->path, &reason)) return cannot_write(w, &reason, err);
    free(w->temporary);
    w->temporary = NULL;
    return TVLM_OK;
}

void tvlm_writer_close(tvlm_writer *w)
{
    tvlm_os_close(&w->os);
    if (w->temporary) tvlm_os_remove(w->temporary);
    free(w->temporary);
    w->temporary = NULL;
}
