/* SPDX-License-Identifier: MIT
 * Parsing and validating a GGUF header. Every count and length is checked before use. */
#include "model/gguf.h"
#include "model/foreign.h"

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
    if (bytes ==
        8) /* of half a million strings in a large vocabulary: compilers make it one load */
        return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
               (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
               (uint64_t)p[7] << 56;
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
        return tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: key '%s': value type %llu is not valid",
                         tvlm_show(kv->key).text, (unsigned long long)type);
    if (n > MAX_HEADER)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: key '%s': array of %llu elements",
                         tvlm_show(kv->key).text, (unsigned long long)n);
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
    if (t->name.len && memchr(t->name.data, 0, t->name.len)) /* a C string would be another name */
        return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s': its name has a zero byte",
                         tvlm_show(t->name).text);
    const char *type = tvlm_type_name(t->type);
    uint32_t block = tvlm_type_block((tvlm_type)t->type);
    if (!block)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "tensor '%s': type %u is not known",
                         tvlm_show(t->name).text, (unsigned)t->type);
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (!t->shape[i] || t->shape[i] > (uint64_t)1 << 40 ||
            n > ((uint64_t)1 << 50) / t->shape[i])
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s': dimension %llu is not valid",
                             tvlm_show(t->name).text, (unsigned long long)t->shape[i]);
        n *= t->shape[i];
    }
    uint64_t row = t->n_dims ? t->shape[t->n_dims - 1] : 1;
    if (row % block)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "tensor '%s': rows of %llu are not whole blocks of %s (%u)",
                         tvlm_show(t->name).text, (unsigned long long)row, type, (unsigned)block);
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
        return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s': %llu dimensions, at most %d",
                         tvlm_show(t->name).text, (unsigned long long)n_dims, TVLM_MAX_DIMS);
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

static int compare(tvlm_str x, tvlm_str y)
{
    size_t n = x.len < y.len ? x.len : y.len;
    int c = n ? memcmp(x.data, y.data, n) : 0;
    return c ? c : (x.len > y.len) - (x.len < y.len);
}

static int by_name(const void *a, const void *b)
{
    const tvlm_gguf_name *x = a, *y = b;
    return compare(x->name, y->name);
}

static tvlm_gguf_name *new_names(size_t n)
{
    return malloc((n + 1) * sizeof(tvlm_gguf_name));
}

static tvlm_status sort_names(tvlm_gguf_name *names, size_t n, const char *what, tvlm_error *err)
{
    if (n) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n; i++)
        if (by_name(&names[i - 1], &names[i]) == 0)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "GGUF: %s '%s' appears twice", what,
                             tvlm_show(names[i].name).text);
    return TVLM_OK;
}

static tvlm_status index_keys(tvlm_gguf *g, tvlm_error *err)
{
    g->key_names = new_names(g->n_kv);
    if (!g->key_names) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
    for (size_t i = 0; i < g->n_kv; i++)
        g->key_names[i] = (tvlm_gguf_name){g->kv[i].key, i};
    return sort_names(g->key_names, g->n_kv, "key", err);
}

static tvlm_status index_tensors(tvlm_gguf *g, tvlm_error *err)
{
    g->tensor_names = new_names(g->n_tensors);
    if (!g->tensor_names)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory reading the header");
    for (size_t i = 0; i < g->n_tensors; i++)
        g->tensor_names[i] = (tvlm_gguf_name){g->tensors[i].name, i};
    return sort_names(g->tensor_names, g->n_tensors, "tensor", err);
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
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s': offset %llu is not valid",
                             tvlm_show(t->name).text, (unsigned long long)t->offset);
        t->offset += g->data_offset;
    }
    if (g->n_tensors) qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_offset);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const tvlm_gguf_tensor *t = &g->tensors[i];
        if (t->offset < end)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "tensor '%s': overlaps the tensor before it",
                             tvlm_show(t->name).text);
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

/* Other parts hold the rest of the keys or tensors, so this is said before what is missing. */
static tvlm_status refuse_part(const tvlm_gguf *g, tvlm_error *err)
{
    uint32_t count = 1, no = 0, n_tensors = (uint32_t)g->n_tensors;
    TVLM_TRY(tvlm_gguf_u32(g, "split.count", false, &count, err));
    TVLM_TRY(tvlm_gguf_u32(g, "split.no", false, &no, err));
    TVLM_TRY(tvlm_gguf_u32(g, "split.tensors.count", false, &n_tensors, err));
    if (count > 1)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "part %llu of %u of a split model: join the parts first, with "
                         "\"llama-gguf-split --merge\"",
                         (unsigned long long)no + 1, (unsigned)count);
    if (n_tensors != g->n_tensors)
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         "key 'split.tensors.count': %u tensors, but the file has %zu",
                         (unsigned)n_tensors, g->n_tensors);
    return TVLM_OK;
}

static tvlm_status check_magic(const reader *r, tvlm_error *err)
{
    if (!memcmp(r->data, "GGUF", r->size < 4 ? r->size : 4)) return TVLM_OK;
    const char *kind = tvlm_foreign_kind(r->data, r->size);
    return tvlm_fail(err, kind ? TVLM_ERR_UNSUPPORTED : TVLM_ERR_FORMAT, "not a GGUF file: %s",
                     kind ? kind : "it does not begin with \"GGUF\"");
}

static tvlm_status read_head(reader *r, uint64_t *n_tensors, uint64_t *n_kv, tvlm_error *err)
{
    TVLM_TRY(check_magic(r, err));
    uint64_t version = 0;
    if (!take(r, 4) || !take_le(r, 4, &version)) return TVLM_OK;
    if (version && !(version & 0xffff))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "GGUF: big-endian files are not supported: convert it with "
                         "gguf_convert_endian.py");
    if (version != 2 && version != 3)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "GGUF: version %llu, only versions 2 and 3 are supported%s",
                         (unsigned long long)version,
                         version == 1 ? ": convert the original checkpoint anew" : "");
    if (!take_le(r, 8, n_tensors) || !take_le(r, 8, n_kv)) return TVLM_OK;
    if (*n_tensors > MAX_TENSORS || *n_kv > MAX_KEYS)
        return tvlm_fail(
            err, TVLM_ERR_FORMAT, "GGUF: %llu tensors and %llu keys, at most %u and %u",
            (unsigned long long)*n_tensors, (unsigned long long)*n_kv, MAX_TENSORS, MAX_KEYS);
    return TVLM_OK;
}

/* The checksum covers the padding too, so all of it has to be there. */
static tvlm_status find_header_crc(tvlm_gguf *g, reader *r, tvlm_error *err)
{
    uint32_t version = 1;
    TVLM_TRY(tvlm_gguf_u32(g, "tinyvlm.file_version", false, &version, err));
    if (version > 2)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "key 'tinyvlm.file_version': %u was written by a newer tinyvlm",
                         (unsigned)version);
    const tvlm_gguf_kv *crc = tvlm_gguf_find(g, "tinyvlm.header_crc32c");
    if (!crc && version < 2) return TVLM_OK;
    if (!crc || crc->is_array || crc->type != TVLM_GGUF_U32)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'tinyvlm.header_crc32c': expected a u32");
    g->header_crc_at = (size_t)(crc->data - r->data);
    r->short_of = r->size < g->data_offset;
    return TVLM_OK;
}

tvlm_status tvlm_gguf_check_header(const tvlm_gguf *g, const void *header, tvlm_crc32c_fn crc32c,
                                   tvlm_error *err)
{
    static const unsigned char zeros[4]; /* in the place of the value itself */
    const unsigned char *p = header;
    size_t at = g->header_crc_at, after = at + sizeof zeros;
    if (!at) return TVLM_OK;
    uint32_t said = (uint32_t)load_le(p + at, sizeof zeros);
    uint32_t crc = crc32c(crc32c(0, p, at), zeros, sizeof zeros);
    crc = crc32c(crc, p + after, (size_t)g->data_offset - after);
    if (crc == said) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_CHECKSUM,
                     "the header has checksum %08x, it says %08x: the file is damaged",
                     (unsigned)crc, (unsigned)said);
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
    TVLM_TRY(index_keys(g, err));
    TVLM_TRY(refuse_part(g, err));
    TVLM_TRY(read_alignment(g, err));
    TVLM_TRY(place_tensors(g, r->at, err));
    TVLM_TRY(index_tensors(g, err));
    return find_header_crc(g, r, err);
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
    free(gguf->key_names);
    free(gguf->tensor_names);
    *gguf = (tvlm_gguf){0};
}

size_t tvlm_gguf_bytes(const tvlm_gguf *g)
{
    return (g->n_kv + 1) * (sizeof *g->kv + sizeof *g->key_names) +
           (g->n_tensors + 1) * (sizeof *g->tensors + sizeof *g->tensor_names);
}

static const tvlm_gguf_name *find_name(const tvlm_gguf_name *names, size_t n, const char *name)
{
    tvlm_gguf_name wanted = {
        {name, strlen(name)},
        0
    };
    return n ? bsearch(&wanted, names, n, sizeof *names, by_name) : NULL;
}

const tvlm_gguf_kv *tvlm_gguf_find(const tvlm_gguf *g, const char *key)
{
    const tvlm_gguf_name *found = find_name(g->key_names, g->n_kv, key);
    return found ? &g->kv[found->index] : NULL;
}

const tvlm_gguf_tensor *tvlm_gguf_find_tensor(const tvlm_gguf *g, const char *name)
{
    const tvlm_gguf_name *found = find_name(g->tensor_names, g->n_tensors, name);
    return found ? &g->tensors[found->index] : NULL;
}

/* ---- typed reads ---- */

static tvlm_status lookup(const tvlm_gguf *g, const char *key, bool required,
                          const tvlm_gguf_kv **out, tvlm_error *err)
{
    *out = tvlm_gguf_find(g, key);
    if (!*out && required) return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s' is missing", key);
    return TVLM_OK;
}

/* Integers beyond 2^53 lose low bits, which is fine: every caller's range ends far below. */
bool tvlm_gguf_number(const tvlm_gguf_kv *kv, uint64_t i, double *out)
{
    size_t size = scalar_size((uint64_t)kv->type);
    if (!size) return false;
    uint64_t v = load_le(kv->data + i * size, size);
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

static bool is_number(const tvlm_gguf_kv *kv)
{
    return kv->type != TVLM_GGUF_STRING && kv->type != TVLM_GGUF_BOOL;
}

static bool is_integer(const tvlm_gguf_kv *kv)
{
    return is_number(kv) && kv->type != TVLM_GGUF_F32 && kv->type != TVLM_GGUF_F64;
}

static tvlm_status read_u32(const tvlm_gguf_kv *kv, const char *key, uint64_t i, uint32_t *out,
                            tvlm_error *err)
{
    double v;
    if (!is_integer(kv) || !tvlm_gguf_number(kv, i, &v))
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
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (kv && (kv->is_array || !is_number(kv) || !tvlm_gguf_number(kv, 0, out)))
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
    TVLM_TRY(lookup(g, key, required, &kv, err));
    if (!kv) return TVLM_OK;
    if (!kv->is_array || kv->n != n)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an array of %zu numbers", key,
                         n);
    for (size_t i = 0; i < n; i++)
        if (!is_number(kv) || !tvlm_gguf_number(kv, i, &out[i]))
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
