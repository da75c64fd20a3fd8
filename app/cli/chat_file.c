/* SPDX-License-Identifier: MIT
 * A conversation as a file, numbers little-endian:
 *
 *   "TVLMCHAT" | size u64 of the text | text, JSON | images, each as saved | session, as saved |
 *   crc32c u32 of all before it
 *
 *   {"version": 1, "turns": [{"question": "", "answer": "", "images": [IMAGE]}], "next": [IMAGE],
 *    "session": BYTES}      IMAGE: {"name": "", "size": BYTES}, in the order in which they follow
 *
 * Saved images and sessions say themselves which model they are of (src/engine/saved.c). */
#include "cli/chat.h"
#include "convert/json_file.h"
#include "file/output.h"
#include "system/system.h"

#include <stdlib.h>
#include <string.h>

enum { MAGIC = 8, HEAD = MAGIC + 8, CRC = 4, VERSION = 1 };
static const char magic[MAGIC + 1] = "TVLMCHAT";

static tvlm_status no_memory(tvlm_error *err)
{
    return app_fail(err, TVLM_ERR_MEMORY, "out of memory");
}

/* CRC-32C, as the library's files have it (RFC 3720, B.4); crc: that of what comes before, or 0. */
static uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t of[256];
    for (uint32_t i = 0; i < 256; i++) {
        of[i] = i;
        for (int bit = 0; bit < 8; bit++)
            of[i] = of[i] >> 1 ^ (of[i] & 1 ? 0x82F63B78 : 0);
    }
    crc = ~crc;
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ of[(crc ^ p[i]) & 0xFF];
    return ~crc;
}

/* ---- saving ---- */

typedef struct sink {
    app_output *out;
    uint32_t crc;
    tvlm_error *err;
} sink;

static tvlm_status put(sink *s, const void *data, size_t n)
{
    s->crc = crc32c(s->crc, data, n);
    return app_output_write(s->out, data, n, s->err);
}

static tvlm_status put_number(sink *s, uint64_t v, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(v >> 8 * i);
    return put(s, bytes, n);
}

static json_t *list_images(const photos *p, tvlm_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->n; i++) {
        size_t size;
        if (tvlm_image_save_memory(p->at[i].image, NULL, 0, &size, err) ||
            json_array_append_new(list,
                                  json_pack("{s:o,s:I}", "name", cli_json_string(p->at[i].path),
                                            "size", (json_int_t)size))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *list_turns(const conversation *c, tvlm_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_turns; i++) {
        const turn *t = &c->turns[i];
        json_t *images = list_images(&t->photos, err);
        json_t *object = images
                             ? json_pack("{s:o,s:o,s:o}", "question",
                                         cli_json_text(t->question, t->question_len), "answer",
                                         cli_json_text(t->answer, t->answer_len), "images", images)
                             : NULL;
        if (!object || json_array_append_new(list, object)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* NULL after a failure. */
static char *make_text(const conversation *c, size_t session, tvlm_error *err)
{
    no_memory(err); /* unless an image says otherwise */
    json_t *turns = list_turns(c, err), *next = turns ? list_images(&c->next, err) : NULL;
    json_t *all = next ? json_pack("{s:i,s:o,s:o,s:I}", "version", VERSION, "turns", turns, "next",
                                   next, "session", (json_int_t)session)
                       : NULL;
    char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
    if (!next) json_decref(turns);
    json_decref(all);
    return text;
}

static tvlm_status put_images(sink *s, const photos *p)
{
    for (size_t i = 0; i < p->n; i++) {
        size_t size;
        APP_TRY(tvlm_image_save_memory(p->at[i].image, NULL, 0, &size, s->err));
        unsigned char *bytes = malloc(size);
        if (!bytes) return no_memory(s->err);
        tvlm_status status = tvlm_image_save_memory(p->at[i].image, bytes, size, &size, s->err);
        if (!status) status = put(s, bytes, size);
        free(bytes);
        APP_TRY(status);
    }
    return TVLM_OK;
}

static tvlm_status put_session(sink *s, const tvlm_session *session, size_t size)
{
    unsigned char *bytes = malloc(size);
    if (!bytes) return no_memory(s->err);
    tvlm_status status = tvlm_session_save_memory(session, bytes, size, &size, s->err);
    if (!status) status = put(s, bytes, size);
    free(bytes);
    return status;
}

static tvlm_status put_all(sink *s, const conversation *c, const char *text, size_t session)
{
    APP_TRY(put(s, magic, MAGIC));
    APP_TRY(put_number(s, strlen(text), 8));
    APP_TRY(put(s, text, strlen(text)));
    for (size_t i = 0; i < c->n_turns; i++)
        APP_TRY(put_images(s, &c->turns[i].photos));
    APP_TRY(put_images(s, &c->next));
    APP_TRY(put_session(s, c->runner.session, session));
    return put_number(s, s->crc, CRC);
}

/* ---- reading ---- */

static uint64_t load_le(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)(unsigned char)p[i] << 8 * i;
    return v;
}

static tvlm_status check_bytes(const char *path, const char *bytes, size_t size, tvlm_error *err)
{
    if (size < HEAD + CRC || memcmp(bytes, magic, MAGIC) != 0)
        return app_fail(err, TVLM_ERR_FORMAT, "%s: not a conversation of tinyvlm chat", path);
    size_t end = size - CRC;
    if (load_le(bytes + end, CRC) == crc32c(0, bytes, end)) return TVLM_OK;
    return app_fail(err, TVLM_ERR_CHECKSUM, "%s: it does not match its checksum: it is damaged",
                    path);
}

/* The whole file, whose checksum holds; the caller frees it. */
static tvlm_status read_file(const char *path, char **out, size_t *size, tvlm_error *err)
{
    APP_TRY(tvlmc_text_load(path, SIZE_MAX - 1, out, size, err));
    tvlm_status status = check_bytes(path, *out, *size, err);
    if (status) free(*out);
    if (status) *out = NULL;
    return status;
}

static tvlm_status check_file(void *user, const char *path, tvlm_error *err)
{
    char *bytes;
    size_t size;
    (void)user;
    tvlm_status status = read_file(path, &bytes, &size, err);
    free(bytes);
    return status;
}

tvlm_status cli_chat_save(const conversation *c, const char *path, tvlm_error *err)
{
    size_t session;
    sink s = {.err = err};
    APP_TRY(tvlm_session_save_memory(c->runner.session, NULL, 0, &session, err));
    char *text = make_text(c, session, err);
    if (!text) return TVLM_ERR_MEMORY;
    tvlm_status status = app_output_open(path, NULL, &s.out, err);
    if (!status) {
        status = put_all(&s, c, text, session);
        if (status)
            app_output_abort(s.out);
        else
            status = app_output_finish(s.out, check_file, NULL, err);
    }
    free(text);
    return status;
}

/* What is read, from front to back. */
typedef struct source {
    const char *path;
    const char *bytes;
    size_t left;
    tvlm_error *err;
} source;

static tvlm_status bad_key(const source *s, const char *key, const char *expected)
{
    return app_fail(s->err, TVLM_ERR_FORMAT, "%s: key '%s': expected %s", s->path, key, expected);
}

/* The next object[key] bytes. */
static tvlm_status take(source *s, const json_t *object, const char *key, const char **out,
                        size_t *n)
{
    const json_t *size = json_object_get(object, key);
    json_int_t v = json_is_integer(size) ? json_integer_value(size) : -1;
    if (v < 0 || (uint64_t)v > s->left) return bad_key(s, key, "a number of bytes that follow");
    *out = s->bytes;
    *n = (size_t)v;
    s->bytes += v;
    s->left -= (size_t)v;
    return TVLM_OK;
}

static tvlm_status take_string(const source *s, const json_t *object, const char *key, char **out,
                               size_t *len)
{
    const json_t *text = json_object_get(object, key);
    if (!json_is_string(text)) return bad_key(s, key, "a text");
    *len = json_string_length(text);
    *out = malloc(*len + 1);
    if (!*out) return no_memory(s->err);
    memcpy(*out, json_string_value(text), *len + 1);
    return TVLM_OK;
}

/* Another model's, or another precision's, is no fault of the command line. */
static tvlm_status name_part(const source *s, const char *part, tvlm_status status,
                             const tvlm_error *why)
{
    if (!status) return TVLM_OK;
    return app_fail(s->err, status == TVLM_ERR_ARGUMENT ? TVLM_ERR_UNSUPPORTED : status,
                    "%s: %s: %s", s->path, part, why->message);
}

static tvlm_status take_image(source *s, conversation *c, const json_t *object, cli_photo *out)
{
    const char *bytes;
    size_t n, len;
    tvlm_error why;
    APP_TRY(take(s, object, "size", &bytes, &n));
    APP_TRY(take_string(s, object, "name", &out->path, &len));
    return name_part(s, out->path,
                     tvlm_image_load_memory(c->runner.model, bytes, n, &out->image, &why), &why);
}

static tvlm_status take_images(source *s, conversation *c, const json_t *object, const char *key,
                               photos *out)
{
    const json_t *list = json_object_get(object, key);
    if (!json_is_array(list)) return bad_key(s, key, "a list");
    size_t n = json_array_size(list);
    out->at = calloc(n + 1, sizeof *out->at);
    if (!out->at) return no_memory(s->err);
    while (out->n < n) {
        size_t i = out->n++; /* what there is of it is freed with the others */
        APP_TRY(take_image(s, c, json_array_get(list, i), &out->at[i]));
    }
    return TVLM_OK;
}

static tvlm_status take_turn(source *s, conversation *c, const json_t *object)
{
    turn *t = &c->turns[c->n_turns++];
    APP_TRY(take_string(s, object, "question", &t->question, &t->question_len));
    APP_TRY(take_string(s, object, "answer", &t->answer, &t->answer_len));
    return take_images(s, c, object, "images", &t->photos);
}

static tvlm_status take_turns(source *s, conversation *c, const json_t *all)
{
    const json_t *list = json_object_get(all, "turns");
    if (!json_is_array(list)) return bad_key(s, "turns", "a list");
    c->cap_turns = json_array_size(list);
    c->turns = calloc(c->cap_turns + 1, sizeof *c->turns);
    if (!c->turns) return no_memory(s->err);
    for (size_t i = 0; i < c->cap_turns; i++)
        APP_TRY(take_turn(s, c, json_array_get(list, i)));
    return TVLM_OK;
}

static size_t count_images(const conversation *c)
{
    size_t n = c->next.n;
    for (size_t i = 0; i < c->n_turns; i++)
        n += c->turns[i].photos.n;
    return n;
}

static tvlm_status take_all(source *s, conversation *c, const json_t *all)
{
    const char *bytes;
    size_t n;
    tvlm_error why;
    const json_t *version = json_object_get(all, "version");
    if (!json_is_integer(version) || json_integer_value(version) != VERSION)
        return bad_key(s, "version", "1: it is of another version of tinyvlm");
    APP_TRY(take_turns(s, c, all));
    APP_TRY(take_images(s, c, all, "next", &c->next));
    APP_TRY(
        name_part(s, "key 'images'", cli_takes_photos(&c->runner, count_images(c), &why), &why));
    APP_TRY(take(s, all, "session", &bytes, &n));
    if (s->left)
        return app_fail(s->err, TVLM_ERR_FORMAT, "%s: %zu bytes follow its session", s->path,
                        s->left);
    return name_part(s, "key 'session'",
                     tvlm_session_load_memory(c->runner.session, bytes, n, &why), &why);
}

static tvlm_status take_file(conversation *c, const char *path, const char *bytes, size_t size,
                             tvlm_error *err)
{
    uint64_t n = load_le(bytes + MAGIC, 8);
    source s = {path, bytes + HEAD, size - CRC - HEAD, err};
    json_error_t why;
    if (n > s.left) return app_fail(err, TVLM_ERR_FORMAT, "%s: it ends inside its text", path);
    json_t *all = json_loadb(s.bytes, (size_t)n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &why);
    if (!all) return app_fail(err, TVLM_ERR_FORMAT, "%s: its text is not JSON: %s", path, why.text);
    s.bytes += n;
    s.left -= (size_t)n;
    tvlm_status status = take_all(&s, c, all);
    json_decref(all);
    return status;
}

tvlm_status cli_chat_load(conversation *c, const char *path, tvlm_error *err)
{
    char *bytes;
    size_t size;
    app_sys_facts facts;
    if (!app_sys_look(path, &facts)) return TVLM_OK;
    tvlm_status status = read_file(path, &bytes, &size, err);
    if (!status) status = take_file(c, path, bytes, size, err);
    free(bytes);
    return status;
}
