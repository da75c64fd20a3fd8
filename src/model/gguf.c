/* SPDX-License-Identifier: MIT
 * Parsing and validating a GGUF v3 header. Every count and length is checked before use. */
#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 65536u
#define MAX_KEYS    65536u
#define MAX_HEADER  ((size_t)256 << 20)
#define MAX_NAME    256u
#define MAX_KEY     1024u
#define MAX_STRING  ((uint64_t)64 << 20)

/* A cursor over the header; `short_of` says that the data ended, not that it is wrong. */
typedef struct reader {
    const unsigned char *data;
    size_t size, at;
    bool short_of;
} reader;

static const unsigned char *take(reader *r, size_t n)
{
    if (n > r->size - r->at) {
        r->short_of = true;
        return NULL;
    }
    r->at += n;
    return r->data + r->at - n;
}

static uint64_t load_le(const unsigned char *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static bool take_le(reader *r, size_t bytes, uint64_t *out)
{
    const unsigned char *p = take(r, bytes);
    if (!p) return false;
    *out = load_le(p, bytes);
    return true;
}

/* 0 for strings and unknown types. */
static size_t scalar_size(uint64_t type)
{
    static const unsigned char sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes ? sizes[type] : 0;
}

static bool valid_type(uint64_t type)
{
    return type <= TVLM_GGUF_F64;
}

/* For messages: a name that cannot be trusted, cut to what fits. */
static int shown(tvlm_str s)
{
    return s.len > 96 ? 96 : (int)s.len;
}

static tvlm_status take_string(reader *r, uint64_t limit, const char *what, tvlm_str *out,
                               tvlm_error *err)
{
    uint64_t len;
    if (!take_le(r, 8, &len)) return TVLM_OK;
    if (len > limit)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: %s of %llu bytes, at most %llu are allowed",
                         what, (unsigned long long)len, (unsigned long long)limit);
    const unsigned char *p = take(r, (size_t)len);
    if (p) *out = (tvlm_str){(const char *)p, (size_t)len};
    return TVLM_OK;
}

static tvlm_status take_value(reader *r, tvlm_gguf_kv *kv, tvlm_error *err)
{
    uint64_t type, n = 1;
    if (!take_le(r, 4, &type)) return TVLM_OK;
    kv->is_array = type == TVLM_GGUF_ARRAY;
    if (kv->is_array && (!take_le(r, 4, &type) || !take_le(r, 8, &n))) return TVLM_OK;
    if (!valid_type(type) || type == TVLM_GGUF_ARRAY)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: key '%.*s': value type %llu is not valid",
                         shown(kv->key), kv->key.data, (unsigned long long)type);
    if (n > MAX_HEADER)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: key '%.*s': array of %llu elements",
                         shown(kv->key), kv->key.data, (unsigned long long)n);
    kv->type = (tvlm_gguf_type)type;
    kv->n = n;
    size_t begin = r->at;
    if (type == TVLM_GGUF_STRING) {
        for (uint64_t i = 0; i < n && !r->short_of; i++) {
            tvlm_str ignored;
            TVLM_TRY(take_string(r, MAX_STRING, "string value", &ignored, err));
        }
    } else {
        take(r, (size_t)n * scalar_size(type));
    }
    kv->data = r->data + begin;
    kv->data_size = r->at - begin;
    return TVLM_OK;
}

static tvlm_status check_tensor(tvlm_gguf_tensor *t, tvlm_error *err)
{
    const char *type = tvlm_type_name(t->type);
    int len = shown(t->name);
    uint32_t block = tvlm_type_block((tvlm_type)t->type);
    if (!block)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "tensor '%.*s': type %u is not known", len,
                         t->name.data, (unsigned)t->type);
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (!t->shape[i] || t->shape[i] > (uint64_t)1 << 40 ||
            n > ((uint64_t)1 << 50) / t->shape[i])
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%.*s': dimension %llu is not valid",
                             len, t->name.data, (unsigned long long)t->shape[i]);
        n *= t->shape[i];
    }
    uint64_t row = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    if (row % block)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "tensor '%.*s': rows of %llu are not whole blocks of %s (%u)", len,
                         t->name.data, (unsigned long long)row, type, (unsigned)block);
    t->n_elements = n;
    t->size = n / block * tvlm_type_block_bytes((tvlm_type)t->type);
    return TVLM_OK;
}

static tvlm_status take_tensor(reader *r, tvlm_gguf_tensor *t, tvlm_error *err)
{
    uint64_t n_dims = 0, type = 0, dims[TVLM_MAX_DIMS];
    TVLM_TRY(take_string(r, MAX_NAME, "tensor name", &t->name, err));
    if (r->short_of || !take_le(r, 4, &n_dims)) return TVLM_OK;
    if (n_dims > TVLM_MAX_DIMS)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%.*s': %llu dimensions, at most %d",
                         shown(t->name), t->name.data, (unsigned long long)n_dims, TVLM_MAX_DIMS);
    for (uint64_t i = 0; i < n_dims; i++)
        if (!take_le(r, 8, &dims[i])) return TVLM_OK;
    if (!take_le(r, 4, &type) || !take_le(r, 8, &t->offset)) return TVLM_OK;
    t->n_dims = (uint32_t)n_dims;
    t->type = (uint32_t)type;
    for (uint32_t i = 0; i < t->n_dims; i++) /* the file has the innermost dimension first */
        t->shape[i] = dims[t->n_dims - 1 - i];
    return check_tensor(t, err);
}

static int by_offset(const void *a, const void *b)
{
    const tvlm_gguf_tensor *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int by_name(const void *a, const void *b)
{
    const tvlm_str *x = a, *y = b;
    int c = memcmp(x->data, y->data, x->len < y->len ? x->len : y->len);
    return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

static tvlm_status check_unique(const tvlm_str *names, size_t n, const char *what, tvlm_error *err)
{
    if (!n) return TVLM_OK;
    tvlm_str *sorted = malloc(n * sizeof *sorted);
    if (!sorted) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
    memcpy(sorted, names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    tvlm_status status = TVLM_OK;
    for (size_t i = 1; i < n && !status; i++)
        if (by_name(&sorted[i - 1], &sorted[i]) == 0)
            status = tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: %s '%.*s' appears twice", what,
                               shown(sorted[i]), sorted[i].data);
    free(sorted);
    return status;
}

static tvlm_status check_names(const tvlm_gguf *g, tvlm_error *err)
{
    size_t most = g->n_kv > g->n_tensors ? g->n_kv : g->n_tensors;
    if (!most) return TVLM_OK;
    tvlm_str *names = malloc(most * sizeof *names);
    if (!names) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
    for (size_t i = 0; i < g->n_kv; i++)
        names[i] = g->kv[i].key;
    tvlm_status status = check_unique(names, g->n_kv, "key", err);
    for (size_t i = 0; i < g->n_tensors; i++)
        names[i] = g->tensors[i].name;
    if (!status) status = check_unique(names, g->n_tensors, "tensor", err);
    free(names);
    return status;
}

/* File order gets the checksums, offsets become absolute, tensors are sorted by offset. */
static tvlm_status place_tensors(tvlm_gguf *g, size_t header_end, tvlm_error *err)
{
    uint64_t mask = g->alignment - 1u;
    g->data_offset = (header_end + mask) & ~mask;
    const tvlm_gguf_kv *crc = tvlm_gguf_find(g, "tinyvlm.tensor_crc32c");
    if (crc) {
        if (!crc->is_array || crc->type != TVLM_GGUF_U32 || crc->n != g->n_tensors)
            return tvlm_fail(err, TVLM_ERR_FORMAT,
                             "key 'tinyvlm.tensor_crc32c': expected one u32 per tensor (%zu)",
                             g->n_tensors);
        g->has_crc = true;
    }
    uint64_t end = g->data_offset;
    for (size_t i = 0; i < g->n_tensors; i++) {
        tvlm_gguf_tensor *t = &g->tensors[i];
        if (crc) t->crc32c = (uint32_t)load_le(crc->data + 4 * i, 4);
        if (t->offset & mask || t->offset > (uint64_t)1 << 50)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%.*s': offset %llu is not valid",
                             shown(t->name), t->name.data, (unsigned long long)t->offset);
        t->offset += g->data_offset;
    }
    if (g->n_tensors) qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_offset);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const tvlm_gguf_tensor *t = &g->tensors[i];
        if (t->offset < end)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%.*s': overlaps the tensor before it",
                             shown(t->name), t->name.data);
        end = t->offset + t->size;
    }
    g->file_size = end;
    return TVLM_OK;
}

static tvlm_status read_alignment(tvlm_gguf *g, tvlm_error *err)
{
    g->alignment = 32;
    TVLM_TRY(tvlm_gguf_u32(g, "general.alignment", false, &g->alignment, err));
    if (g->alignment < 8 || g->alignment > 65536 || g->alignment & (g->alignment - 1))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'general.alignment': %u is not valid",
                         (unsigned)g->alignment);
    return TVLM_OK;
}

static tvlm_status read_head(reader *r, uint64_t *n_tensors, uint64_t *n_kv, tvlm_error *err)
{
    size_t known = r->size < 4 ? r->size : 4;
    if (memcmp(r->data, "GGUF", known))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "not a GGUF file: it does not begin with \"GGUF\"");
    uint64_t version = 0;
    if (!take(r, 4) || !take_le(r, 4, &version)) return TVLM_OK;
    if (version == 0x03000000u)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "GGUF: big-endian files are not supported");
    if (version != 3)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "GGUF: version %llu, only version 3 is supported",
                         (unsigned long long)version);
    if (!take_le(r, 8, n_tensors) || !take_le(r, 8, n_kv)) return TVLM_OK;
    if (*n_tensors > MAX_TENSORS || *n_kv > MAX_KEYS)
        return tvlm_fail(
            err, TVLM_ERR_FORMAT, "GGUF: %llu tensors and %llu keys, at most %u and %u",
            (unsigned long long)*n_tensors, (unsigned long long)*n_kv, MAX_TENSORS, MAX_KEYS);
    return TVLM_OK;
}

/* Every key takes at least 13 bytes and every tensor 24, so counts that lie never make the index
 * larger than a small multiple of the bytes that are there. */
static bool counts_fit(const reader *r, uint64_t n_tensors, uint64_t n_kv)
{
    return n_kv * 13 + n_tensors * 24 <= r->size - r->at;
}

static tvlm_status read_index(reader *r, tvlm_gguf *g, uint64_t n_tensors, uint64_t n_kv,
                              tvlm_error *err)
{
    g->kv = calloc((size_t)n_kv + 1, sizeof *g->kv);
    g->tensors = calloc((size_t)n_tensors + 1, sizeof *g->tensors);
    if (!g->kv || !g->tensors)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
    for (uint64_t i = 0; i < n_kv && !r->short_of; i++) {
        TVLM_TRY(take_string(r, MAX_KEY, "key", &g->kv[i].key, err));
        if (!r->short_of) TVLM_TRY(take_value(r, &g->kv[i], err));
    }
    for (uint64_t i = 0; i < n_tensors && !r->short_of; i++)
        TVLM_TRY(take_tensor(r, &g->tensors[i], err));
    if (r->short_of) return TVLM_OK;
    g->n_kv = (size_t)n_kv;
    g->n_tensors = (size_t)n_tensors;
    TVLM_TRY(check_names(g, err));
    TVLM_TRY(read_alignment(g, err));
    return place_tensors(g, r->at, err);
}

tvlm_status tvlm_gguf_parse(const void *data, size_t size, tvlm_gguf *out, bool *complete,
                            tvlm_error *err)
{
    reader r = {data, size, 0, false};
    uint64_t n_tensors = 0, n_kv = 0;
    *out = (tvlm_gguf){0};
    *complete = false;
    if (!size) return TVLM_OK;
    TVLM_TRY(read_head(&r, &n_tensors, &n_kv, err));
    tvlm_status status = TVLM_OK;
    if (!r.short_of && counts_fit(&r, n_tensors, n_kv))
        status = read_index(&r, out, n_tensors, n_kv, err);
    else
        r.short_of = true;
    if (!status && r.short_of && size >= MAX_HEADER)
        status =
            tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: the header takes over %zu bytes", MAX_HEADER);
    *complete = !status && !r.short_of;
    if (!*complete) tvlm_gguf_free(out);
    return status;
}

void tvlm_gguf_free(tvlm_gguf *gguf)
{
    free(gguf->kv);
    free(gguf->tensors);
    *gguf = (tvlm_gguf){0};
}

const tvlm_gguf_kv *tvlm_gguf_find(const tvlm_gguf *gguf, const char *key)
{
    for (size_t i = 0; i < gguf->n_kv; i++)
        if (tvlm_str_eq(gguf->kv[i].key, key)) return &gguf->kv[i];
    return NULL;
}

const tvlm_gguf_tensor *tvlm_gguf_find_tensor(const tvlm_gguf *gguf, const char *name)
{
    for (size_t i = 0; i < gguf->n_tensors; i++)
        if (tvlm_str_eq(gguf->tensors[i].name, name)) return &gguf->tensors[i];
    return NULL;
}

/* ---- typed reads ---- */

static tvlm_status lookup(const tvlm_gguf *g, const char *key, bool required,
                          const tvlm_gguf_kv **out, tvlm_error *err)
{
    *out = tvlm_gguf_find(g, key);
    if (!*out && required) return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s' is missing", key);
    return TVLM_OK;
}

/* Element i as a number; false when the type is no number. Integers beyond 2^53 lose low bits,
 * which is fine: every caller's range ends far below. */
static bool number(const tvlm_gguf_kv *kv, uint64_t i, double *out, bool *integer)
{
    size_t size = scalar_size((uint64_t)kv->type);
    if (!size || kv->type == TVLM_GGUF_BOOL) return false;
    uint64_t v = load_le(kv->data + i * size, size);
    *integer = kv->type != TVLM_GGUF_F32 && kv->type != TVLM_GGUF_F64;
    if (kv->type == TVLM_GGUF_F32) {
        uint32_t bits = (uint32_t)v;
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
    } else if (kv->type == TVLM_GGUF_F64) {
        memcpy(out, &v, sizeof *out);
    } else if (kv->type == TVLM_GGUF_I8 || kv->type == TVLM_GGUF_I16 || kv->type == TVLM_GGUF_I32 ||
               kv->type == TVLM_GGUF_I64) {
        uint64_t sign = (uint64_t)1 << (8 * size - 1);
        *out = v & sign ? -(double)((~v & (sign - 1)) + 1) : (double)v;
    } else {
        *out = (double)v;
    }
    return true;
}

static tvlm_status read_u32(const tvlm_gguf_kv *kv, const char *key, uint64_t i, uint32_t *out,
                            tvlm_error *err)
{
    double v;
    bool integer;
    if (!number(kv, i, &v, &integer) || !integer)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an integer", key);
    if (v < 0 || v > 4294967295.0)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': %.0f is out of range", key, v);
    *out = (uint32_t)v;
    return TVLM_OK;
}

tvlm_status tvlm_gguf_u32(const tvlm_gguf *g, const char *key, bool required, uint32_t *out,
                          tvlm_error *err)
{
    const tvlm_gguf_kv *kv;
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (!kv) return TVLM_OK;
    if (kv->is_array) return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an integer", key);
    return read_u32(kv, key, 0, out, err);
}

tvlm_status tvlm_gguf_f64(const tvlm_gguf *g, const char *key, bool required, double *out,
                          tvlm_error *err)
{
    const tvlm_gguf_kv *kv;
    bool integer;
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (kv && (kv->is_array || !number(kv, 0, out, &integer)))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected a number", key);
    return TVLM_OK;
}

tvlm_status tvlm_gguf_bool(const tvlm_gguf *g, const char *key, bool required, bool *out,
                           tvlm_error *err)
{
    const tvlm_gguf_kv *kv;
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (!kv) return TVLM_OK;
    if (kv->is_array || kv->type != TVLM_GGUF_BOOL)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected true or false", key);
    *out = kv->data[0] != 0;
    return TVLM_OK;
}

tvlm_status tvlm_gguf_string(const tvlm_gguf *g, const char *key, bool required, tvlm_str *out,
                             tvlm_error *err)
{
    const tvlm_gguf_kv *kv;
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (!kv) return TVLM_OK;
    if (kv->is_array || kv->type != TVLM_GGUF_STRING)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected a string", key);
    size_t cursor = 0;
    *out = tvlm_gguf_next_string(kv, &cursor);
    return TVLM_OK;
}

tvlm_status tvlm_gguf_f64_array(const tvlm_gguf *g, const char *key, bool required, double *out,
                                size_t n, tvlm_error *err)
{
    const tvlm_gguf_kv *kv;
    bool integer;
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (!kv) return TVLM_OK;
    if (!kv->is_array || kv->n != n)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an array of %zu numbers", key,
                         n);
    for (size_t i = 0; i < n; i++)
        if (!number(kv, i, &out[i], &integer))
            return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected numbers", key);
    return TVLM_OK;
}

tvlm_status tvlm_gguf_u32_list(const tvlm_gguf *g, const char *key, bool required, uint32_t *out,
                               size_t cap, size_t *n, tvlm_error *err)
{
    const tvlm_gguf_kv *kv;
    *n = 0;
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (!kv) return TVLM_OK;
    if (!kv->is_array || kv->n > cap)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "key '%s': expected an array of at most %zu integers", key, cap);
    for (size_t i = 0; i < kv->n; i++)
        TVLM_TRY(read_u32(kv, key, i, &out[i], err));
    *n = (size_t)kv->n;
    return TVLM_OK;
}

tvlm_str tvlm_gguf_next_string(const tvlm_gguf_kv *array, size_t *cursor)
{
    const unsigned char *p = array->data + *cursor;
    size_t len = (size_t)load_le(p, 8);
    *cursor += 8 + len;
    return (tvlm_str){(const char *)p + 8, len};
}
