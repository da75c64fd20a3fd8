/* SPDX-License-Identifier: MIT */
#include "eval/rows.h"

#include "common/common.h"
#include "convert/json_file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 30 };

/* ---- one row ---- */

/* A name inside a folder or an archive: it leads nowhere else. */
static bool is_inside(const char *name)
{
    if (!*name || *name == '/' || strchr(name, '\\') || strchr(name, ':')) return false;
    for (const char *p = name; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (!strncmp(p, "..", 2) && (!p[2] || p[2] == '/')) return false;
    }
    return true;
}

static tvlm_status read_texts(const json_t *object, const char *key, eval_row *row, tvlm_error *err)
{
    const json_t *list = json_object_get(object, key);
    row->n_wanted = json_array_size(list);
    if (!row->n_wanted) return app_fail(err, TVLM_ERR_FORMAT, "'%s' is not a list of texts", key);
    row->wanted = malloc(row->n_wanted * sizeof *row->wanted);
    if (!row->wanted) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for its texts");
    for (size_t i = 0; i < row->n_wanted; i++)
        if (!(row->wanted[i] = json_string_value(json_array_get(list, i))))
            return app_fail(err, TVLM_ERR_FORMAT, "'%s' has something else than texts in it", key);
    return TVLM_OK;
}

static tvlm_status read_row(eval_row *row, tvlm_error *err)
{
    const json_t *o = row->object;
    if (!json_is_object(o)) return app_fail(err, TVLM_ERR_FORMAT, "not a JSON object");
    row->source = "";
    APP_TRY(tvlmc_json_string(o, "image", true, &row->image, err));
    APP_TRY(tvlmc_json_string(o, "source", false, &row->source, err));
    APP_TRY(tvlmc_json_string(o, "question", false, &row->question, err));
    if (!is_inside(row->image))
        return app_fail(err, TVLM_ERR_FORMAT, "'image' is not a name inside of a folder: %.200s",
                        row->image);
    if (row->question) return read_texts(o, "answers", row, err);
    if (json_object_get(o, "captions")) return read_texts(o, "captions", row, err);
    return app_fail(err, TVLM_ERR_FORMAT, "has neither 'question' with 'answers' nor 'captions'");
}

static void free_row(eval_row *row)
{
    json_decref(row->object);
    free(row->wanted);
    free(row->answer);
}

static bool passes(const eval_row *row, const eval_row_filter *filter)
{
    for (size_t i = 0; i < filter->n_where; i++) {
        const char *value = json_string_value(json_object_get(row->object, filter->where[i].key));
        if (!value || strcmp(value, filter->where[i].value) != 0) return false;
    }
    return true;
}

/* ---- the file ---- */

static tvlm_status add_row(eval_rows *rows, size_t *cap, const eval_row *row, tvlm_error *err)
{
    if (rows->n == *cap) {
        size_t more = *cap ? 2 * *cap : 256;
        eval_row *grown = realloc(rows->at, more * sizeof *grown);
        if (!grown) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu rows", more);
        rows->at = grown;
        *cap = more;
    }
    rows->at[rows->n++] = *row;
    return TVLM_OK;
}

static tvlm_status read_line(const char *path, size_t line, const char *text, size_t len,
                             const eval_row_filter *filter, eval_rows *rows, size_t *cap,
                             tvlm_error *err)
{
    char label[512];
    tvlm_error why;
    eval_row row = {.line = line, .p_yes = -1};
    if (strspn(text, " \t\r") >= len) return TVLM_OK;
    snprintf(label, sizeof label, "%.400s, line %zu", path, line);
    APP_TRY(tvlmc_json_parse(label, text, len, &row.object, err));
    tvlm_status status = read_row(&row, &why);
    if (status) app_fail(err, status, "%s: %s", label, why.message);
    if (!status && passes(&row, filter)) {
        status = add_row(rows, cap, &row, err);
        if (!status) return TVLM_OK;
    }
    free_row(&row);
    return status;
}

static tvlm_status read_lines(const char *path, const char *text, size_t size,
                              const eval_row_filter *filter, eval_rows *rows, tvlm_error *err)
{
    size_t cap = 0, line = 0;
    for (const char *end = text + size; text < end;) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        stop = stop ? stop : end;
        APP_TRY(read_line(path, ++line, text, (size_t)(stop - text), filter, rows, &cap, err));
        text = stop + 1;
    }
    return rows->n ? TVLM_OK
                   : app_fail(err, TVLM_ERR_FORMAT, "%s: no row to ask%s", path,
                              filter->n_where ? " (--where)" : "");
}

/* ---- samples: the same on every machine (splitmix64) ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Keeps each row with the probability that leaves `limit` of them (Knuth's algorithm S). */
static void sample(eval_rows *rows, size_t limit)
{
    uint64_t state = 1;
    size_t all = rows->n, kept = 0;
    for (size_t i = 0; limit && i < all; i++) {
        if (kept < limit && next_random(&state) % (all - i) < limit - kept)
            rows->at[kept++] = rows->at[i];
        else
            free_row(&rows->at[i]);
    }
    if (limit) rows->n = kept;
}

void eval_rows_shuffle(eval_rows *rows)
{
    uint64_t state = 2;
    for (size_t i = rows->n; i > 1; i--) {
        size_t j = (size_t)(next_random(&state) % i), other = rows->at[j].image_index;
        rows->at[j].image_index = rows->at[i - 1].image_index;
        rows->at[i - 1].image_index = other;
    }
}

/* ---- the images that are named ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static tvlm_status name_images(eval_rows *rows, tvlm_error *err)
{
    size_t n = rows->n, last = 0;
    rows->images = malloc(n * sizeof *rows->images);
    if (!rows->images) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu names", n);
    for (size_t i = 0; i < n; i++)
        rows->images[i] = rows->at[i].image;
    qsort(rows->images, n, sizeof *rows->images, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(rows->images[last], rows->images[i])) rows->images[++last] = rows->images[i];
    rows->n_images = last + 1;
    for (size_t i = 0; i < n; i++) {
        const char **found = bsearch(&rows->at[i].image, rows->images, rows->n_images,
                                     sizeof *rows->images, by_name);
        rows->at[i].image_index = (size_t)(found - rows->images);
    }
    return TVLM_OK;
}

tvlm_status eval_rows_load(const char *path, const eval_row_filter *filter, eval_rows *out,
                           tvlm_error *err)
{
    char *text;
    size_t size;
    *out = (eval_rows){0};
    APP_TRY(tvlmc_text_load(path, MAX_FILE, &text, &size, err));
    tvlm_status status = read_lines(path, text, size, filter, out, err);
    free(text);
    if (!status) {
        sample(out, filter->limit);
        status = name_images(out, err);
    }
    if (status) eval_rows_free(out);
    return status;
}

void eval_rows_free(eval_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++)
        free_row(&rows->at[i]);
    free(rows->at);
    free(rows->images);
    *rows = (eval_rows){0};
}
