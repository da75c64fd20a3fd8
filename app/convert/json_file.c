/* SPDX-License-Identifier: MIT */
#include "convert/json_file.h"

#include "base/base.h"
#include "system/system.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *tvlmc_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir), m = strlen(name) + 1;
    char *path = malloc(n + m + 1);
    if (!path) return NULL;
    memcpy(path, dir, n);
    if (n && dir[n - 1] != '/') path[n++] = '/';
    memcpy(path + n, name, m);
    return path;
}

bool tvlmc_path_exists(const char *path)
{
    app_sys_facts facts;
    return app_sys_look(path, &facts);
}

/* ---- Python's JSON -> what jansson reads ----
 * json.dump writes NaN, infinities, integers of any size and lone surrogates. Values that jansson
 * cannot hold become strings of their spelling, which no typed read takes for a number. */

typedef struct rewriter {
    const char *text;
    size_t size, at;
    char *out; /* NULL: only counted */
    size_t n;
} rewriter;

static void put(rewriter *r, const char *bytes, size_t n)
{
    if (r->out) memcpy(r->out + r->n, bytes, n);
    r->n += n;
}

/* The value of \uXXXX at p, or 0 when there is none. */
static unsigned escape(const char *p, size_t n)
{
    unsigned v = 0;
    if (n < 6 || p[0] != '\\' || p[1] != 'u') return 0;
    for (int i = 2; i < 6; i++) {
        static const char digits[] = "0123456789abcdefABCDEF";
        const char *d = p[i] ? strchr(digits, p[i]) : NULL;
        if (!d) return 0;
        unsigned k = (unsigned)(d - digits);
        v = v << 4 | (k < 16 ? k : k - 6);
    }
    return v;
}

/* One character or escape of a string; half a surrogate pair becomes U+FFFD. */
static void put_character(rewriter *r)
{
    const char *p = r->text + r->at;
    size_t left = r->size - r->at, n = *p == '\\' && left > 1 ? 2 : 1;
    unsigned v = escape(p, left);
    if (v >= 0xD800 && v < 0xE000) {
        unsigned low = left > 6 && v < 0xDC00 ? escape(p + 6, left - 6) : 0;
        n = low >= 0xDC00 && low < 0xE000 ? 12 : 6;
        if (n == 6) p = "\\ufffd";
    }
    put(r, p, n);
    r->at += n;
}

static void put_string(rewriter *r)
{
    put(r, "\"", 1);
    for (r->at++; r->at < r->size && r->text[r->at] != '"';)
        put_character(r);
    if (r->at++ < r->size) put(r, "\"", 1);
}

static bool is_literal(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '+' || c == '.';
}

static bool beyond_jansson(const char *text, size_t n)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    json_error_t e;
    for (size_t i = 0; i < TVLM_COUNT(words); i++)
        if (strlen(words[i]) == n && memcmp(words[i], text, n) == 0) return true;
    if (n < 19 && !memchr(text, 'e', n) && !memchr(text, 'E', n)) return false;
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY, &e);
    json_decref(value);
    return !value && json_error_code(&e) == json_error_numeric_overflow;
}

static void put_literal(rewriter *r)
{
    const char *text = r->text + r->at;
    size_t n = 0;
    while (r->at + n < r->size && is_literal(text[n]))
        n++;
    bool quote = beyond_jansson(text, n);
    put(r, "\"", quote);
    put(r, text, n);
    put(r, "\"", quote);
    r->at += n;
}

/* Rewrites until the text ends or more than `stop` bytes are out. */
static void rewrite(rewriter *r, size_t stop)
{
    while (r->at < r->size && r->n <= stop) {
        char c = r->text[r->at];
        if (c == '"')
            put_string(r);
        else if (is_literal(c))
            put_literal(r);
        else
            put(r, r->text + r->at++, 1);
    }
}

/* ---- reading ---- */

/* jansson's position lies in the rewritten text; the reader has the file. */
static tvlm_status not_json(const char *label, rewriter r, const json_error_t *e, tvlm_error *err)
{
    int line = 1, column = 1;
    r.out = NULL;
    r.n = r.at = 0;
    rewrite(&r, e->position > 0 ? (size_t)e->position - 1 : 0);
    for (size_t i = 0; i + 1 < r.at && i < r.size; i++) {
        column = r.text[i] == '\n' ? 1 : column + ((r.text[i] & 0xC0) != 0x80);
        line += r.text[i] == '\n';
    }
    return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: not valid JSON: %.120s (line %d, column %d)", label,
                     e->text, line, column);
}

static tvlm_status check_start(const char *label, const char *text, size_t size, tvlm_error *err)
{
    const char *what = NULL;
    if (size == 0)
        what = "is empty";
    else if (size > 1 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0))
        what = "is UTF-16 text: save it as UTF-8";
    return what ? tvlm_fail(err, TVLM_ERR_FORMAT, "%s: not valid JSON: it %s", label, what)
                : TVLM_OK;
}

bool tvlmc_is_lfs_pointer(const void *data, size_t size)
{
    static const char begin[] = "version https://git-lfs.github.com/spec/";
    return size >= sizeof begin - 1 && memcmp(data, begin, sizeof begin - 1) == 0;
}

tvlm_status tvlmc_json_parse(const char *label, const void *data, size_t size, json_t **out,
                             tvlm_error *err)
{
    rewriter r = {.text = data, .size = size};
    json_error_t e = {0};
    *out = NULL;
    TVLM_TRY(check_start(label, data, size, err));
    if (size >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) { /* a byte order mark */
        r.text += 3;
        r.size -= 3;
    }
    errno = 0;
    rewrite(&r, SIZE_MAX);
    r.out = malloc(r.n + 1);
    if (!r.out) return tvlm_fail(err, TVLM_ERR_MEMORY, "%s: out of memory reading JSON", label);
    r.at = r.n = 0;
    rewrite(&r, SIZE_MAX);
    *out = json_loadb(r.out, r.n, 0, &e);
    bool no_memory = errno == ENOMEM || !e.text[0]; /* jansson may say "invalid token" */
    free(r.out);
    if (!*out && no_memory)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "%s: out of memory reading JSON", label);
    return *out ? TVLM_OK : not_json(label, r, &e, err);
}

tvlm_status tvlmc_text_load(const char *path, size_t max_size, char **out, size_t *size,
                            tvlm_error *err)
{
    tvlm_file file;
    *out = NULL;
    TVLM_TRY(tvlm_file_open(path, &file, err));
    tvlm_status status = TVLM_OK;
    *size = (size_t)file.os.size;
    if (file.os.size > max_size)
        status = tvlm_fail(err, TVLM_ERR_LIMIT, "%s: %llu bytes, at most %zu are read", path,
                           (unsigned long long)file.os.size, max_size);
    else if (!(*out = malloc(*size + 1)))
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "%s: out of memory", path);
    else
        status = tvlm_file_read(&file, 0, *out, *size, err);
    tvlm_file_close(&file);
    if (status == TVLM_OK) (*out)[*size] = 0;
    if (status == TVLM_OK && tvlmc_is_lfs_pointer(*out, *size))
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: it " TVLMC_LFS_HINT, path);
    if (status) {
        free(*out);
        *out = NULL;
    }
    return status;
}

tvlm_status tvlmc_json_load(const char *path, size_t max_size, json_t **out, tvlm_error *err)
{
    char *text;
    size_t size;
    *out = NULL;
    TVLM_TRY(tvlmc_text_load(path, max_size, &text, &size, err));
    tvlm_status status = tvlmc_json_parse(path, text, size, out, err);
    free(text);
    return status;
}

tvlm_status tvlmc_json_load_in(const char *dir, const char *name, bool required, size_t max_size,
                               json_t **out, tvlm_error *err)
{
    char *path = tvlmc_path_join(dir, name);
    *out = NULL;
    if (!path) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = TVLM_OK;
    if (required || tvlmc_path_exists(path)) status = tvlmc_json_load(path, max_size, out, err);
    if (status == TVLM_OK && *out && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: expected a JSON object", path);
    }
    free(path);
    return status;
}

/* The value, or NULL with *status set for the two ways of absence. */
static const json_t *get(const json_t *object, const char *key, bool required, tvlm_status *status,
                         tvlm_error *err)
{
    const json_t *value = json_object_get(object, key);
    *status = TVLM_OK;
    if (value && !json_is_null(value)) return value;
    if (required) *status = tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s' is missing", key);
    return NULL;
}

tvlm_status tvlmc_json_u32(const json_t *object, const char *key, bool required, uint32_t lo,
                           uint32_t hi, uint32_t *out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, required, &status, err);
    if (!value) return status;
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < (json_int_t)lo || v > (json_int_t)hi)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an integer in %u..%u", key,
                         (unsigned)lo, (unsigned)hi);
    *out = (uint32_t)v;
    return TVLM_OK;
}

tvlm_status tvlmc_json_f64(const json_t *object, const char *key, bool required, double lo,
                           double hi, double *out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, required, &status, err);
    if (!value) return status;
    double v = json_number_value(value);
    if (!json_is_number(value) || !(v >= lo && v <= hi))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected a number in %g..%g", key, lo,
                         hi);
    *out = v;
    return TVLM_OK;
}

tvlm_status tvlmc_json_bool(const json_t *object, const char *key, bool *out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, false, &status, err);
    if (!value) return status;
    if (!json_is_boolean(value))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected true or false", key);
    *out = json_is_true(value);
    return TVLM_OK;
}

tvlm_status tvlmc_json_string(const json_t *object, const char *key, bool required,
                              const char **out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, required, &status, err);
    if (!value) return status;
    if (!json_is_string(value))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected a string", key);
    *out = json_string_value(value);
    return TVLM_OK;
}
