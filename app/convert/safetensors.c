/* SPDX-License-Identifier: MIT */
#include "convert/safetensors.h"
#include "convert/json_file.h"
#include "file/output.h"

#include "quant/quant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 1 << 17, MAX_NAME = 512 };
#define MAX_HEADER ((size_t)32 << 20)

/* One file, or bytes in memory, and the parsed header, whose strings are the tensors' names. */
struct tvlmc_st_source {
    struct tvlmc_st_source *next;
    json_t *header;
    const char *label;
    const unsigned char *data; /* NULL: in the file */
    uint64_t size;
    char *path; /* the file's */
    tvlm_file file;
    bool opened;
};

static tvlm_status read_bytes(const struct tvlmc_st_source *s, uint64_t offset, void *out, size_t n,
                              tvlm_error *err)
{
    if (!s->data) return tvlm_file_read(&s->file, offset, out, n, err);
    memcpy(out, s->data + offset, n);
    return TVLM_OK;
}

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [TVLMC_ST_F32] = {"F32",  4},
      [TVLMC_ST_F16] = {"F16",  2},
      [TVLMC_ST_BF16] = {"BF16", 2},
    [TVLMC_ST_F64] = {"F64",  8},
      [TVLMC_ST_I64] = {"I64",  8},
      [TVLMC_ST_I32] = {"I32",  4},
    [TVLMC_ST_U8] = {"U8",   1},
      [TVLMC_ST_I8] = {"I8",   1},
      [TVLMC_ST_BOOL] = {"BOOL", 1},
};

const char *tvlmc_st_dtype_name(tvlmc_st_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t tvlmc_st_dtype_size(tvlmc_st_dtype dtype)
{
    return dtypes[dtype].size;
}

/* ---- one tensor of a header ---- */

static bool parse_dtype(const json_t *value, tvlmc_st_dtype *out)
{
    const char *name = json_string_value(value);
    for (size_t i = 0; name && i < TVLM_COUNT(dtypes); i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *out = (tvlmc_st_dtype)i;
            return true;
        }
    return false;
}

static bool parse_shape(const json_t *value, tvlmc_st_tensor *t)
{
    size_t dims = json_array_size(value);
    if (!json_is_array(value) || dims > TVLMC_ST_MAX_DIMS) return false;
    t->n_dims = (uint32_t)dims;
    t->n = 1;
    for (size_t i = 0; i < dims; i++) {
        const json_t *dim = json_array_get(value, i);
        json_int_t d = json_integer_value(dim);
        if (!json_is_integer(dim) || d < 0 || (uint64_t)d > SIZE_MAX) return false;
        t->shape[i] = (uint64_t)d;
        if (!tvlm_mul_size(t->n, (size_t)d, &t->n)) return false;
    }
    return true;
}

static bool parse_offset(const json_t *offsets, size_t i, uint64_t limit, uint64_t *out)
{
    const json_t *value = json_array_get(offsets, i);
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < 0 || (uint64_t)v > limit) return false;
    *out = (uint64_t)v;
    return true;
}

/* The tensor's data lies in the source behind `at`. */
static tvlm_status parse_tensor(const struct tvlmc_st_source *source, const char *name,
                                const json_t *entry, uint64_t at, tvlmc_st_tensor *t,
                                tvlm_error *err)
{
    const char *label = source->label;
    uint64_t size = source->size - at;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *dtype = json_object_get(entry, "dtype");
    uint64_t from, to;
    size_t bytes;
    *t = (tvlmc_st_tensor){.name = name, .file = source->opened ? &source->file : NULL};
    if (strlen(name) > MAX_NAME)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "%s: a tensor's name is longer than %d bytes", label,
                         MAX_NAME);
    if (!parse_dtype(dtype, &t->dtype))
        return tvlm_fail(err, json_is_string(dtype) ? TVLM_ERR_UNSUPPORTED : TVLM_ERR_FORMAT,
                         "%s: tensor '%s': dtype '%.32s' is not supported", label, name,
                         json_is_string(dtype) ? json_string_value(dtype) : "?");
    if (!parse_shape(json_object_get(entry, "shape"), t))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: tensor '%s': its shape is not valid", label,
                         name);
    if (json_array_size(offsets) != 2 || !parse_offset(offsets, 0, size, &from) ||
        !parse_offset(offsets, 1, size, &to) || from > to)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "%s: tensor '%s': its data_offsets are not within the file's %llu bytes "
                         "of data (is the file cut off?)",
                         label, name, (unsigned long long)size);
    if (!tvlm_mul_size(t->n, dtypes[t->dtype].size, &bytes) || bytes != to - from)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "%s: tensor '%s': %llu bytes of data do not fit its shape", label, name,
                         (unsigned long long)(to - from));
    t->offset = at + from;
    if (source->data) t->data = source->data + t->offset;
    return TVLM_OK;
}

static int by_place(const void *a, const void *b)
{
    const tvlmc_st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->n > 0) - (y->n > 0); /* empty tensors before the one they touch */
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tvlmc_st_tensor *)a)->name, ((const tvlmc_st_tensor *)b)->name);
}

/* The tensors lie one after the other from `at` to the source's end. */
static tvlm_status check_cover(const struct tvlmc_st_source *source, tvlmc_st_tensor *t, size_t n,
                               uint64_t at, tvlm_error *err)
{
    if (n) qsort(t, n, sizeof *t, by_place);
    for (size_t i = 0; i < n; i++) {
        if (t[i].offset != at)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: tensor '%s' %s", source->label, t[i].name,
                             t[i].offset < at ? "overlaps another" : "lies behind a gap");
        at += t[i].n * dtypes[t[i].dtype].size;
    }
    if (at != source->size)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: %llu bytes at its end belong to no tensor",
                         source->label, (unsigned long long)(source->size - at));
    return TVLM_OK;
}

/* ---- a file ---- */

/* The header's text in a new block. */
static tvlm_status read_text(const struct tvlmc_st_source *s, char **out, size_t *n,
                             tvlm_error *err)
{
    unsigned char le[8];
    uint64_t size = 0;
    if (s->size >= 8) TVLM_TRY(read_bytes(s, 0, le, 8, err));
    for (unsigned i = 0; i < 8 && s->size >= 8; i++)
        size |= (uint64_t)le[i] << (8 * i);
    if (s->size >= 8 && memcmp(le, "version ", 8) == 0)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: it " TVLMC_LFS_HINT, s->label);
    if (s->size < 8 || size > s->size - 8)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "%s: not a safetensors file, or cut off: its header does not end within "
                         "%llu bytes",
                         s->label, (unsigned long long)s->size);
    if (size > MAX_HEADER)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "%s: a header of %llu bytes, at most %zu are read",
                         s->label, (unsigned long long)size, MAX_HEADER);
    *n = (size_t)size;
    *out = malloc(*n + 1);
    if (!*out) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading %s", s->label);
    return read_bytes(s, 8, *out, *n, err);
}

static tvlm_status read_header(struct tvlmc_st_source *s, uint64_t *data_at, tvlm_error *err)
{
    char *text = NULL;
    size_t n = 0;
    tvlm_status status = read_text(s, &text, &n, err);
    if (status == TVLM_OK) status = tvlmc_json_parse(s->label, text, n, &s->header, err);
    free(text);
    *data_at = (uint64_t)n + 8;
    if (status == TVLM_OK && !json_is_object(s->header))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: its header is no JSON object", s->label);
    return status;
}

/* Appends the tensors of a source to the set. */
static tvlm_status add_tensors(tvlmc_st_set *set, struct tvlmc_st_source *source, tvlm_error *err)
{
    uint64_t at;
    size_t n = 0;
    TVLM_TRY(read_header(source, &at, err));
    size_t count = json_object_size(source->header);
    if (count > MAX_TENSORS || set->n + count > MAX_TENSORS)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "%s: more than %d tensors", source->label,
                         MAX_TENSORS);
    tvlmc_st_tensor *grown = realloc(set->tensors, (set->n + count + 1) * sizeof *grown);
    if (!grown) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu tensors", count);
    set->tensors = grown;
    const char *name;
    json_t *entry;
    json_object_foreach(source->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        TVLM_TRY(parse_tensor(source, name, entry, at, &grown[set->n + n], err));
        n++;
    }
    TVLM_TRY(check_cover(source, grown + set->n, n, at, err));
    set->n += n;
    return TVLM_OK;
}

static struct tvlmc_st_source *add_source(tvlmc_st_set *set)
{
    struct tvlmc_st_source *source = calloc(1, sizeof *source);
    if (!source) return NULL;
    source->next = set->sources;
    set->sources = source;
    return source;
}

static tvlm_status add_path(tvlmc_st_set *set, const char *path, tvlm_error *err)
{
    struct tvlmc_st_source *source = add_source(set);
    size_t size = strlen(path) + 1;
    if (!source || !(source->path = malloc(size)))
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    source->label = memcpy(source->path, path, size);
    TVLM_TRY(tvlm_file_open(source->path, &source->file, err));
    source->opened = true;
    source->size = source->file.os.size;
    return add_tensors(set, source, err);
}

static tvlm_status sort_names(tvlmc_st_set *set, tvlm_error *err)
{
    if (set->n) qsort(set->tensors, set->n, sizeof *set->tensors, by_name);
    for (size_t i = 1; i < set->n; i++)
        if (strcmp(set->tensors[i - 1].name, set->tensors[i].name) == 0)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s' is in two shards",
                             set->tensors[i].name);
    return TVLM_OK;
}

/* ---- shards ---- */

static bool plain_file_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < 256 && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

static tvlm_status add_shards(tvlmc_st_set *set, const char *index_path, const char *dir,
                              json_t *map, tvlm_error *err)
{
    const char *name;
    json_t *file, *seen = json_object();
    tvlm_status status = seen ? TVLM_OK : tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    json_object_foreach(map, name, file)
    {
        const char *shard = json_string_value(file);
        if (status) break;
        if (!shard || !plain_file_name(shard)) {
            status = tvlm_fail(err, TVLM_ERR_FORMAT,
                               "%s: weight_map of '%.100s': not the name of a file beside it",
                               index_path, name);
        } else if (!json_object_get(seen, shard)) {
            char *path = tvlmc_path_join(dir, shard);
            if (!path || json_object_set_new(seen, shard, json_true()))
                status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
            else
                status = add_path(set, path, err);
            free(path);
        }
    }
    json_decref(seen);
    return status;
}

static tvlm_status open_index(tvlmc_st_set *set, const char *index_path, tvlm_error *err)
{
    json_t *root;
    char *dir = tvlmc_path_join(index_path, "");
    if (!dir) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    dir[strlen(dir) - 1] = 0;
    char *slash = strrchr(dir, '/');
    slash ? (void)(slash[1] = 0) : (void)(dir[0] = 0);
    tvlm_status status = tvlmc_json_load(index_path, MAX_HEADER, &root, err);
    json_t *map = json_object_get(root, "weight_map");
    if (status == TVLM_OK && !json_is_object(map))
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: key 'weight_map' is missing", index_path);
    if (status == TVLM_OK) status = add_shards(set, index_path, dir, map, err);
    if (status == TVLM_OK) status = sort_names(set, err);
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file)
    {
        if (status == TVLM_OK && !tvlmc_st_find(set, name))
            status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: tensor '%.200s' is not in %s", index_path,
                               name, json_string_value(file));
    }
    json_decref(root);
    free(dir);
    return status;
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

static tvlm_status open_any(tvlmc_st_set *set, const char *path, tvlm_error *err)
{
    if (ends_with(path, ".index.json")) return open_index(set, path, err);
    if (ends_with(path, ".safetensors")) return add_path(set, path, err);
    char *index = tvlmc_path_join(path, "model.safetensors.index.json");
    char *single = tvlmc_path_join(path, "model.safetensors");
    tvlm_status status;
    if (!index || !single)
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    else if (tvlmc_path_exists(index))
        status = open_index(set, index, err);
    else if (tvlmc_path_exists(single))
        status = add_path(set, single, err);
    else
        status =
            tvlm_fail(err, TVLM_ERR_IO,
                      "%s: no model.safetensors and no model.safetensors.index.json in it", path);
    free(index);
    free(single);
    return status;
}

tvlm_status tvlmc_st_open(const char *path, tvlmc_st_set *out, tvlm_error *err)
{
    *out = (tvlmc_st_set){0};
    tvlm_status status = open_any(out, path, err);
    if (status == TVLM_OK) status = sort_names(out, err);
    if (status) tvlmc_st_close(out);
    return status;
}

tvlm_status tvlmc_st_open_memory(const char *label, const void *data, size_t size,
                                 tvlmc_st_set *out, tvlm_error *err)
{
    *out = (tvlmc_st_set){0};
    struct tvlmc_st_source *source = add_source(out);
    if (!source) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    source->label = label;
    source->data = data;
    source->size = size;
    tvlm_status status = add_tensors(out, source, err);
    if (status == TVLM_OK) status = sort_names(out, err);
    if (status) tvlmc_st_close(out);
    return status;
}

void tvlmc_st_close(tvlmc_st_set *set)
{
    while (set->sources) {
        struct tvlmc_st_source *source = set->sources;
        set->sources = source->next;
        json_decref(source->header);
        if (source->opened) tvlm_file_close(&source->file);
        free(source->path);
        free(source);
    }
    free(set->tensors);
    *set = (tvlmc_st_set){0};
}

const tvlmc_st_tensor *tvlmc_st_find(const tvlmc_st_set *set, const char *name)
{
    tvlmc_st_tensor key = {.name = name};
    if (set->n == 0) return NULL;
    return bsearch(&key, set->tensors, set->n, sizeof key, by_name);
}

/* ---- values ---- */

static uint64_t load_le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static float load_f32(const unsigned char *p)
{
    uint32_t bits = (uint32_t)load_le(p, 4);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static float load_f64(const unsigned char *p)
{
    uint64_t bits = load_le(p, 8);
    double v;
    memcpy(&v, &bits, sizeof v);
    return (float)v;
}

static void to_f32(tvlmc_st_dtype dtype, const unsigned char *p, size_t n, float *out)
{
    size_t size = dtypes[dtype].size;
    for (size_t i = 0; i < n; i++, p += size)
        switch (dtype) {
        case TVLMC_ST_F32:
            out[i] = load_f32(p);
            break;
        case TVLMC_ST_F16:
            out[i] = tvlm_f16_to_f32((uint16_t)load_le(p, 2));
            break;
        case TVLMC_ST_BF16:
            out[i] = tvlm_bf16_to_f32((uint16_t)load_le(p, 2));
            break;
        case TVLMC_ST_F64:
            out[i] = load_f64(p);
            break;
        case TVLMC_ST_I64:
            out[i] = (float)(int64_t)load_le(p, 8);
            break;
        case TVLMC_ST_I32:
            out[i] = (float)(int32_t)load_le(p, 4);
            break;
        case TVLMC_ST_I8:
            out[i] = (float)(int8_t)p[0];
            break;
        case TVLMC_ST_U8:
        case TVLMC_ST_BOOL:
            out[i] = (float)p[0];
            break;
        }
}

tvlm_status tvlmc_st_read_f32(const tvlmc_st_tensor *t, size_t first, size_t n, float *out,
                              tvlm_error *err)
{
    unsigned char piece[32768];
    size_t size = dtypes[t->dtype].size, at_once = sizeof piece / size;
    if (t->data) {
        to_f32(t->dtype, t->data + first * size, n, out);
        return TVLM_OK;
    }
    for (size_t at = 0; at < n; at += at_once) {
        size_t m = n - at < at_once ? n - at : at_once;
        uint64_t offset = t->offset + (uint64_t)(first + at) * size;
        TVLM_TRY(tvlm_file_read(t->file, offset, piece, m * size, err));
        to_f32(t->dtype, piece, m, out + at);
    }
    return TVLM_OK;
}

/* ---- writing ---- */

static json_t *describe(const tvlmc_st_tensor *t, size_t from, size_t *to)
{
    json_t *shape = json_array();
    for (uint32_t i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    *to = from + t->n * dtypes[t->dtype].size;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[t->dtype].name, "shape", shape,
                     "data_offsets", (json_int_t)from, (json_int_t)*to);
}

/* The header, padded with spaces so that data begins at a multiple of 8. */
static char *make_header(const tvlmc_st_tensor *tensors, size_t n, size_t *size)
{
    json_t *root = json_object();
    size_t at = 0;
    bool ok = root != NULL;
    for (size_t i = 0; i < n && ok; i++)
        ok = json_object_set_new(root, tensors[i].name, describe(&tensors[i], at, &at)) == 0;
    char *text = ok ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return NULL;
    size_t length = strlen(text);
    *size = (length + 7) / 8 * 8;
    char *padded = malloc(*size + 1);
    if (padded) {
        memset(padded, ' ', *size);
        memcpy(padded, text, length);
    }
    free(text);
    return padded;
}

static tvlm_status write_all(app_output *o, const char *header, size_t size,
                             const tvlmc_st_tensor *tensors, size_t n, tvlm_error *err)
{
    unsigned char le[8];
    for (unsigned i = 0; i < 8; i++)
        le[i] = (unsigned char)((uint64_t)size >> (8 * i));
    TVLM_TRY(app_output_write(o, le, sizeof le, err));
    TVLM_TRY(app_output_write(o, header, size, err));
    for (size_t i = 0; i < n; i++)
        TVLM_TRY(app_output_write(o, tensors[i].data, tensors[i].n * dtypes[tensors[i].dtype].size,
                                  err));
    return TVLM_OK;
}

tvlm_status tvlmc_st_write(const char *path, const tvlm_cancel *cancel,
                           const tvlmc_st_tensor *tensors, size_t n, tvlm_error *err)
{
    size_t size = 0;
    app_output *o;
    char *header = make_header(tensors, n, &size);
    if (!header) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory writing %s", path);
    tvlm_status status = app_output_open(path, cancel, &o, err);
    if (!status) status = write_all(o, header, size, tensors, n, err);
    free(header);
    if (!status) return app_output_finish(o, NULL, NULL, err);
    app_output_abort(o);
    return status;
}
