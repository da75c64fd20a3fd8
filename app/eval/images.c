/* SPDX-License-Identifier: MIT */
#include "eval/images.h"

#include "common/common.h"
#include "convert/json_file.h"
#include "system/system.h"

#include <stdlib.h>
#include <string.h>
#if TVLM_HAVE_ARCHIVE
#include <archive.h>
#include <archive_entry.h>
#endif

#define MAX_FILE ((size_t)1 << 30)

typedef struct search {
    const char *source;
    const char *const *names;
    size_t n;
    bool *found;
    eval_visit visit;
    void *user;
} search;

/* ---- folders ---- */

static tvlm_status visit_file(search *s, size_t i, const char *path, tvlm_error *err)
{
    char *data;
    size_t size;
    if (!tvlmc_path_exists(path)) return TVLM_OK;
    s->found[i] = true;
    if (!s->visit) return TVLM_OK;
    APP_TRY(tvlmc_text_load(path, MAX_FILE, &data, &size, err));
    tvlm_status status = s->visit(s->user, i, data, size, err);
    free(data);
    return status;
}

static tvlm_status visit_folder(search *s, tvlm_error *err)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->found[i]) continue;
        char *path = tvlmc_path_join(s->source, s->names[i]);
        if (!path) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for a path");
        tvlm_status status = visit_file(s, i, path, err);
        free(path);
        if (status) return status;
    }
    return TVLM_OK;
}

/* ---- archives ---- */

#if TVLM_HAVE_ARCHIVE
static int by_name(const void *name, const void *element)
{
    return strcmp(name, *(const char *const *)element);
}

/* The index of the entry's name among those wanted, or n. */
static size_t find_entry(const search *s, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname_utf8(entry);
    if (!name) name = archive_entry_pathname(entry);
    if (!name || archive_entry_filetype(entry) != AE_IFREG) return s->n;
    name += strncmp(name, "./", 2) ? 0 : 2;
    const char *const *found = bsearch(name, s->names, s->n, sizeof *s->names, by_name);
    return found ? (size_t)(found - s->names) : s->n;
}

static tvlm_status fail_archive(const search *s, struct archive *a, tvlm_error *err)
{
    const char *why = archive_error_string(a);
    return app_fail(err, TVLM_ERR_FORMAT, "%s: %s", s->source,
                    why ? why : "not an archive that can be read");
}

/* The sizes that entries declare are not believed: memory follows what arrives. */
static tvlm_status read_entry(search *s, struct archive *a, char **data, size_t *size,
                              tvlm_error *err)
{
    size_t cap = 1 << 18;
    la_ssize_t n = 1;
    *size = 0;
    *data = malloc(cap);
    while (*data && n > 0) {
        n = archive_read_data(a, *data + *size, cap - *size);
        *size += n > 0 ? (size_t)n : 0;
        if (*size < cap) continue;
        char *grown = cap < MAX_FILE ? realloc(*data, cap *= 2) : NULL;
        if (!grown) free(*data);
        *data = grown;
    }
    if (!*data) return app_fail(err, TVLM_ERR_MEMORY, "%s: out of memory for an image", s->source);
    return n < 0 ? fail_archive(s, a, err) : TVLM_OK;
}

static tvlm_status visit_entry(search *s, struct archive *a, size_t i, tvlm_error *err)
{
    char *data;
    size_t size;
    s->found[i] = true;
    if (!s->visit) return TVLM_OK;
    tvlm_status status = read_entry(s, a, &data, &size, err);
    if (!status) status = s->visit(s->user, i, data, size, err);
    free(data);
    return status;
}

static tvlm_status visit_entries(search *s, struct archive *a, tvlm_error *err)
{
    struct archive_entry *entry;
    int got;
    while ((got = archive_read_next_header(a, &entry)) == ARCHIVE_OK || got == ARCHIVE_WARN) {
        size_t i = find_entry(s, entry);
        if (i < s->n && !s->found[i]) APP_TRY(visit_entry(s, a, i, err));
    }
    return got == ARCHIVE_EOF ? TVLM_OK : fail_archive(s, a, err);
}

static tvlm_status visit_archive(search *s, tvlm_error *err)
{
    struct archive *a = archive_read_new();
    if (!a) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for %s", s->source);
    archive_read_support_filter_all(a);
    archive_read_support_format_all(a);
    tvlm_status status = archive_read_open_filename(a, s->source, 1 << 16) == ARCHIVE_OK
                             ? visit_entries(s, a, err)
                             : fail_archive(s, a, err);
    archive_read_free(a);
    return status;
}
#else
static tvlm_status visit_archive(search *s, tvlm_error *err)
{
    return app_fail(err, TVLM_ERR_UNSUPPORTED,
                    "%s: not a folder, and this build reads no archives (it has no libarchive)",
                    s->source);
}
#endif

tvlm_status eval_images_visit(const char *const *sources, size_t n_sources,
                              const char *const *names, size_t n, bool *found, eval_visit visit,
                              void *user, tvlm_error *err)
{
    for (size_t i = 0; i < n; i++)
        found[i] = false;
    for (size_t i = 0; i < n_sources; i++) {
        search s = {sources[i], names, n, found, visit, user};
        app_sys_facts facts;
        if (!app_sys_look(sources[i], &facts))
            return app_fail(err, TVLM_ERR_IO, "%s: not found", sources[i]);
        APP_TRY(facts.kind == APP_SYS_FOLDER ? visit_folder(&s, err) : visit_archive(&s, err));
    }
    return TVLM_OK;
}
