/* SPDX-License-Identifier: MIT
 * Writing GGUF v3: keys and declarations are collected, tensors streamed, checksums patched last.
 */
#include "convert/gguf_write.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64u

typedef struct buffer {
    unsigned char *data;
    size_t size, cap;
    bool failed;
} buffer;

typedef struct declared {
    uint64_t size;
    uint32_t crc;
} declared;

struct tvlmc_gguf_writer {
    char *path;
    app_output *output;
    buffer kv, tensors;
    declared *list;
    size_t n_kv, n_tensors, cap, written;
    uint64_t data_size;
    size_t header_crc_at, crc_at; /* in kv: of the header's checksum, of those of the tensors */
    bool header_done;
};

enum { HEAD = 24 }; /* bytes before the keys */

static void put(buffer *b, const void *data, size_t n)
{
    if (b->failed || n > SIZE_MAX / 2 - b->size) {
        b->failed = true;
        return;
    }
    if (b->size + n > b->cap) {
        size_t cap = (b->size + n) * 2;
        unsigned char *grown = realloc(b->data, cap);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->cap = cap;
    }
    if (n) memcpy(b->data + b->size, data, n);
    b->size += n;
}

static void put_le(buffer *b, uint64_t v, size_t bytes)
{
    unsigned char le[8];
    for (size_t i = 0; i < bytes; i++)
        le[i] = (unsigned char)(v >> (8 * i));
    put(b, le, bytes);
}

static void set_le32(buffer *b, size_t at, uint32_t v)
{
    for (size_t i = 0; i < 4; i++)
        b->data[at + i] = (unsigned char)(v >> (8 * i));
}

static void put_str(buffer *b, tvlm_str s)
{
    put_le(b, s.len, 8);
    put(b, s.data, s.len);
}

static tvlm_status memory_error(tvlm_error *err)
{
    return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory writing the model file");
}

/* The keys of this writer's own; the checksums are zeros for now. */
static tvlm_status begin_header(tvlmc_gguf_writer *w, tvlm_error *err)
{
    TVLM_TRY(tvlmc_gguf_put_u32(w, "general.alignment", ALIGNMENT, err));
    TVLM_TRY(tvlmc_gguf_put_u32(w, "tinyvlm.file_version", 2, err));
    TVLM_TRY(tvlmc_gguf_put_u32(w, "tinyvlm.header_crc32c", 0, err));
    w->header_crc_at = w->kv.size - 4;
    return TVLM_OK;
}

static bool is_own_key(tvlm_str key)
{
    return tvlm_str_eq(key, "general.alignment") || tvlm_str_eq(key, "tinyvlm.file_version") ||
           tvlm_str_eq(key, "tinyvlm.header_crc32c") || tvlm_str_eq(key, "tinyvlm.tensor_crc32c");
}

tvlm_status tvlmc_gguf_writer_new(const char *path, const tvlm_cancel *cancel,
                                  tvlmc_gguf_writer **out, tvlm_error *err)
{
    *out = NULL;
    size_t size = strlen(path) + 1;
    tvlmc_gguf_writer *w = calloc(1, sizeof *w);
    if (w) w->path = malloc(size);
    if (w && w->path) memcpy(w->path, path, size);
    tvlm_status status =
        w && w->path ? app_output_open(path, cancel, &w->output, err) : memory_error(err);
    if (!status) status = begin_header(w, err);
    if (status)
        tvlmc_gguf_writer_abort(w);
    else
        *out = w;
    return status;
}

void tvlmc_gguf_writer_abort(tvlmc_gguf_writer *w)
{
    if (!w) return;
    app_output_abort(w->output);
    free(w->kv.data);
    free(w->tensors.data);
    free(w->list);
    free(w->path);
    free(w);
}

/* Key and type; the caller appends the value and ends with end_kv. */
static void begin_kv(tvlmc_gguf_writer *w, const char *key, tvlm_gguf_type type)
{
    put_str(&w->kv, (tvlm_str){key, strlen(key)});
    put_le(&w->kv, (uint64_t)type, 4);
    w->n_kv++;
}

static void begin_array(tvlmc_gguf_writer *w, const char *key, tvlm_gguf_type type, size_t n)
{
    begin_kv(w, key, TVLM_GGUF_ARRAY);
    put_le(&w->kv, (uint64_t)type, 4);
    put_le(&w->kv, n, 8);
}

static tvlm_status end_kv(tvlmc_gguf_writer *w, tvlm_error *err)
{
    return w->kv.failed ? memory_error(err) : TVLM_OK;
}

tvlm_status tvlmc_gguf_put_u32(tvlmc_gguf_writer *w, const char *key, uint32_t v, tvlm_error *err)
{
    begin_kv(w, key, TVLM_GGUF_U32);
    put_le(&w->kv, v, 4);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_i32(tvlmc_gguf_writer *w, const char *key, int32_t v, tvlm_error *err)
{
    begin_kv(w, key, TVLM_GGUF_I32);
    put_le(&w->kv, (uint32_t)v, 4);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_f32(tvlmc_gguf_writer *w, const char *key, float v, tvlm_error *err)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    begin_kv(w, key, TVLM_GGUF_F32);
    put_le(&w->kv, bits, 4);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_bool(tvlmc_gguf_writer *w, const char *key, bool v, tvlm_error *err)
{
    begin_kv(w, key, TVLM_GGUF_BOOL);
    put_le(&w->kv, v, 1);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_string(tvlmc_gguf_writer *w, const char *key, tvlm_str v,
                                  tvlm_error *err)
{
    begin_kv(w, key, TVLM_GGUF_STRING);
    put_str(&w->kv, v);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_f64_array(tvlmc_gguf_writer *w, const char *key, const double *v,
                                     size_t n, tvlm_error *err)
{
    begin_array(w, key, TVLM_GGUF_F64, n);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        put_le(&w->kv, bits, 8);
    }
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_i32_array(tvlmc_gguf_writer *w, const char *key, const int32_t *v,
                                     size_t n, tvlm_error *err)
{
    begin_array(w, key, TVLM_GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        put_le(&w->kv, (uint32_t)v[i], 4);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_string_array(tvlmc_gguf_writer *w, const char *key, const tvlm_str *v,
                                        size_t n, tvlm_error *err)
{
    begin_array(w, key, TVLM_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        put_str(&w->kv, v[i]);
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_put_kv(tvlmc_gguf_writer *w, const tvlm_gguf_kv *kv, tvlm_error *err)
{
    if (is_own_key(kv->key)) return TVLM_OK;
    put_str(&w->kv, kv->key);
    put_le(&w->kv, (uint64_t)(kv->is_array ? TVLM_GGUF_ARRAY : kv->type), 4);
    if (kv->is_array) {
        put_le(&w->kv, (uint64_t)kv->type, 4);
        put_le(&w->kv, kv->n, 8);
    }
    put(&w->kv, kv->data, kv->data_size);
    w->n_kv++;
    return end_kv(w, err);
}

tvlm_status tvlmc_gguf_declare(tvlmc_gguf_writer *w, const char *name, tvlm_type type,
                               const uint64_t *shape, uint32_t n_dims, tvlm_error *err)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (!shape[i] || n > ((uint64_t)1 << 50) / shape[i])
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "tensor '%s': dimension %llu is not valid",
                             name, (unsigned long long)shape[i]);
        n *= shape[i];
    }
    if (n_dims < 1 || n_dims > TVLM_MAX_DIMS || shape[n_dims - 1] % tvlm_type_block(type))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "tensor '%s': its shape does not fit type %s",
                         name, tvlm_type_name((uint32_t)type));
    if (w->n_tensors == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 256;
        declared *grown = realloc(w->list, cap * sizeof *grown);
        if (!grown) return memory_error(err);
        w->list = grown;
        w->cap = cap;
    }
    put_str(&w->tensors, (tvlm_str){name, strlen(name)});
    put_le(&w->tensors, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++) /* the file has the innermost dimension first */
        put_le(&w->tensors, shape[n_dims - 1 - i], 8);
    put_le(&w->tensors, (uint64_t)type, 4);
    put_le(&w->tensors, w->data_size, 8);
    if (w->tensors.failed) return memory_error(err);
    uint64_t size = n / tvlm_type_block(type) * tvlm_type_block_bytes(type);
    w->list[w->n_tensors++] = (declared){size, 0};
    w->data_size += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return TVLM_OK;
}

static const unsigned char zeros[ALIGNMENT];

static size_t padding(uint64_t at)
{
    return (size_t)((ALIGNMENT - at % ALIGNMENT) % ALIGNMENT);
}

/* Everything before the tensors, in three parts. */
static void header_parts(const tvlmc_gguf_writer *w, buffer *head, tvlm_str parts[4])
{
    put(head, "GGUF", 4);
    put_le(head, 3, 4);
    put_le(head, w->n_tensors, 8);
    put_le(head, w->n_kv, 8);
    parts[0] = (tvlm_str){(const char *)head->data, head->size};
    parts[1] = (tvlm_str){(const char *)w->kv.data, w->kv.size};
    parts[2] = (tvlm_str){(const char *)w->tensors.data, w->tensors.size};
    parts[3] = (tvlm_str){(const char *)zeros, padding(HEAD + w->kv.size + w->tensors.size)};
}

static tvlm_status write_header(tvlmc_gguf_writer *w, tvlm_error *err)
{
    begin_array(w, "tinyvlm.tensor_crc32c", TVLM_GGUF_U32, w->n_tensors);
    w->crc_at = w->kv.size;
    for (size_t i = 0; i < w->n_tensors; i++)
        put_le(&w->kv, 0, 4);
    buffer head = {0};
    tvlm_str parts[4];
    header_parts(w, &head, parts);
    tvlm_status status = w->kv.failed || head.failed ? memory_error(err) : TVLM_OK;
    for (size_t i = 0; i < TVLM_COUNT(parts) && !status; i++)
        status = app_output_write(w->output, parts[i].data, parts[i].len, err);
    w->header_done = true;
    free(head.data);
    return status;
}

tvlm_status tvlmc_gguf_write_tensor(tvlmc_gguf_writer *w, const void *data, size_t size,
                                    tvlm_error *err)
{
    if (!w->header_done) TVLM_TRY(write_header(w, err));
    if (w->written == w->n_tensors || size != w->list[w->written].size)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "%s: tensor %zu: %zu bytes are not its declared size", w->path, w->written,
                         size);
    TVLM_TRY(app_output_write(w->output, data, size, err));
    TVLM_TRY(app_output_write(w->output, zeros, padding(size), err));
    w->list[w->written++].crc = tvlm_crc32c(0, data, size);
    return TVLM_OK;
}

/* The header's own is taken with itself as zero. */
static tvlm_status set_checksums(tvlmc_gguf_writer *w, tvlm_error *err)
{
    buffer head = {0};
    tvlm_str parts[4];
    uint32_t crc = 0;
    for (size_t i = 0; i < w->n_tensors; i++)
        set_le32(&w->kv, w->crc_at + 4 * i, w->list[i].crc);
    header_parts(w, &head, parts);
    for (size_t i = 0; i < TVLM_COUNT(parts) && !head.failed; i++)
        crc = tvlm_crc32c(crc, parts[i].data, parts[i].len);
    set_le32(&w->kv, w->header_crc_at, crc);
    free(head.data);
    return head.failed ? memory_error(err) : TVLM_OK;
}

static tvlm_status patch_kv(tvlmc_gguf_writer *w, size_t at, size_t size, tvlm_error *err)
{
    return app_output_patch(w->output, HEAD + at, w->kv.data + at, size, err);
}

static tvlm_status complete(tvlmc_gguf_writer *w, tvlm_error *err)
{
    if (!w->header_done) TVLM_TRY(write_header(w, err));
    if (w->written != w->n_tensors)
        return tvlm_fail(err, TVLM_ERR_STATE, "%s: %zu of %zu tensors were written", w->path,
                         w->written, w->n_tensors);
    TVLM_TRY(set_checksums(w, err));
    TVLM_TRY(patch_kv(w, w->header_crc_at, 4, err));
    return patch_kv(w, w->crc_at, 4 * w->n_tensors, err);
}

tvlm_status tvlmc_gguf_writer_finish(tvlmc_gguf_writer *w, app_output_check check, void *user,
                                     tvlm_error *err)
{
    tvlm_status status = complete(w, err);
    if (!status) {
        status = app_output_finish(w->output, check, user, err);
        w->output = NULL;
    }
    tvlmc_gguf_writer_abort(w);
    return status;
}
