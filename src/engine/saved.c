/* SPDX-License-Identifier: MIT
 * Sessions and encoded images as bytes, in memory or in a file. All numbers are little-endian.
 *
 *   header, 64 bytes:
 *     magic u8[8] | version u32 | arithmetic u32 | model u64[2] | values u32[7] | crc32c u32
 *   TVLMSESS, a session; values: kv_type, n_layers, kv_row, n_vocab, position, n_images, n_said
 *     random u64 | n_unsent u32 | said i32[n_said] | position x { image u64[2] | id i32 } |
 *     logits f32[n_vocab] |
 *     n_layers x { keys, values: [position][kv_row] of the kv_type } | the image, as below
 *   TVLMIMAG, an image; values: n_tokens, n_embd, n_vision_tokens, vision_dim, n_cross, 0, 0
 *     id u64[2] | tokens [n_tokens][n_embd] | vision [][] | cross-attention [n_cross], all f32
 *   crc32c u32 of all bytes before it
 *
 * What other weights or another arithmetic computed would go on with other bits: `model` is a hash
 * of the model's header and of its tensors' checksums, `arithmetic` its precision. */
#include "engine/internal.h"

#include "kernels/math.h"

#include <string.h>

enum { VERSION = 3, HEADER = 64, VALUES = 7, HISTORY = 20, PIECE = 64 };

/* What a header says, and by which names messages call it. */
typedef struct header {
    const char *magic;
    const char *names[VALUES];
    uint32_t values[VALUES];
} header;

enum { KV_TYPE, N_LAYERS, KV_ROW, N_VOCAB, POSITION, N_IMAGES, N_SAID };
enum { N_TOKENS, N_EMBD, N_VISION, VISION_DIM, N_CROSS, ROWS, COLS };

/* Without all weights it is not known which model this is. */
static tvlm_status check_model(const tvlm_model *model, tvlm_error *err)
{
    if (tvlm_model_stage(model) == TVLM_STAGE_DECODER) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_STATE, "the model's weights have not arrived");
}

static header session_header(const tvlm_session *s)
{
    const tvlm_decoder_config *c = &s->model->config.lm;
    return (header){
        "TVLMSESS",
        {"kv_type",                             "n_layers",  "kv_row",            "n_vocab",  "position", "n_images",       "n_said" },
        {s->kv.f16 ? TVLM_KV_F16 : TVLM_KV_F32, c->n_layers, (uint32_t)s->kv.row, c->n_vocab,
          s->position,                                                                                     s->image != NULL, s->n_said},
    };
}

/* rows and cols: of frames that the image was split into, or zeros. */
static header image_header(const tvlm_model *m, tvlm_grid grid, bool vision)
{
    uint32_t frames = (uint32_t)tvlm_grid_frames(grid);
    uint32_t cross = (uint32_t)tvlm_image_cross_floats(m);
    return (header){
        "TVLMIMAG",
        {"n_tokens",                 "n_embd",            "n_vision_tokens",                        "vision_dim", "n_cross", "rows",    "cols"   },
        {frames * m->n_image_tokens, m->config.lm.n_embd, vision ? frames * m->n_vision_tokens : 0,
          (uint32_t)m->weights.vision_dim,                                                                         cross,     grid.rows, grid.cols},
    };
}

/* Tensors that the file has no checksums for got theirs when they were loaded. */
static tvlm_hash model_hash(const tvlm_model *m)
{
    tvlm_hash h = tvlm_hash_bytes((tvlm_hash){0, 0}, m->header, m->header_size);
    for (size_t i = 0; i < m->gguf.n_tensors; i++)
        h = tvlm_hash_bytes(h, &m->gguf.tensors[i].crc32c, sizeof(uint32_t));
    return h;
}

static uint32_t arithmetic_of(const tvlm_model *m)
{
    return (uint32_t)m->precision | (uint32_t)TVLM_UNFUSED << 8;
}

static void store_le(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t load_le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* ---- writing ---- */

/* Counts, or also writes, into `out` or `file`. */
typedef struct sink {
    unsigned char *out;
    tvlm_writer *file;
    size_t at; /* SIZE_MAX: more than that */
    uint32_t crc;
    tvlm_status status;
    tvlm_error *err;
} sink;

static void put(sink *s, const void *data, size_t n)
{
    size_t at = s->at;
    if (s->status || !n) return;
    if (!tvlm_add_size(at, n, &s->at)) s->at = SIZE_MAX;
    if (s->file) s->status = tvlm_writer_put(s->file, data, n, s->err);
    if (s->out) memcpy(s->out + at, data, n);
    if (s->out) s->crc = tvlm_crc32c(s->crc, data, n);
    if (s->file) s->crc = s->file->crc;
}

static void put_number(sink *s, uint64_t v, size_t n)
{
    unsigned char bytes[8];
    store_le(bytes, v, n);
    put(s, bytes, n);
}

static void put_hash(sink *s, tvlm_hash h)
{
    put_number(s, h.a, 8);
    put_number(s, h.b, 8);
}

static void put_header(sink *s, const tvlm_model *model, const header *h)
{
    put(s, h->magic, 8);
    put_number(s, VERSION, 4);
    put_number(s, arithmetic_of(model), 4);
    put_hash(s, model_hash(model));
    for (size_t i = 0; i < VALUES; i++)
        put_number(s, h->values[i], 4);
    put_number(s, s->crc, 4);
}

static void put_image(sink *s, const tvlm_image *image, bool vision)
{
    const tvlm_model *m = image->model;
    put_hash(s, image->id);
    put(s, image->tokens, tvlm_image_token_floats(image) * sizeof(float));
    if (vision) put(s, image->vision, tvlm_image_vision_floats(image) * sizeof(float));
    put(s, image->cross_kv, tvlm_image_cross_floats(m) * sizeof(float));
}

static size_t kv_layer_bytes(const tvlm_session *s)
{
    return s->position * s->kv.row * (s->kv.f16 ? sizeof(uint16_t) : sizeof(float));
}

static void put_session(sink *s, const void *object)
{
    const tvlm_session *session = object;
    header h = session_header(session);
    put_header(s, session->model, &h);
    put_number(s, session->random, 8);
    put_number(s, session->n_unsent, 4);
    for (uint32_t i = 0; i < session->n_said; i++)
        put_number(s, (uint32_t)session->ids[i], 4);
    for (uint32_t i = 0; i < session->position; i++) {
        put_hash(s, session->history[i].image);
        put_number(s, (uint32_t)session->history[i].id, 4);
    }
    put(s, tvlm_session_logits(session), h.values[N_VOCAB] * sizeof(float));
    for (uint32_t layer = 0; layer < session->kv.n_layers; layer++)
        for (unsigned which = 0; which < 2; which++)
            put(s, tvlm_kv_at(&session->kv, layer, which, 0), kv_layer_bytes(session));
    if (session->image) put_image(s, session->image, false); /* no pass needs the tower's */
    put_number(s, s->crc, 4);
}

static void put_whole_image(sink *s, const void *object)
{
    const tvlm_image *image = object;
    header h = image_header(image->model, image->grid, image->vision != NULL);
    put_header(s, image->model, &h);
    put_image(s, image, image->vision != NULL);
    put_number(s, s->crc, 4);
}

typedef void (*putter)(sink *s, const void *object);

static tvlm_status save_memory(putter put_all, const void *object, const tvlm_model *model,
                               void *out, size_t cap, size_t *size, tvlm_error *err)
{
    sink count = {0}, s = {.out = out};
    TVLM_TRY(check_model(model, err));
    put_all(&count, object);
    *size = count.at;
    if (!out) return TVLM_OK;
    if (cap < count.at)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "out has room for %zu bytes, %zu are needed", cap,
                         count.at);
    put_all(&s, object);
    return TVLM_OK;
}

static tvlm_status save_file(putter put_all, const void *object, const tvlm_model *model,
                             const char *path, tvlm_error *err)
{
    tvlm_writer writer;
    sink s = {.file = &writer, .err = err};
    TVLM_TRY(check_model(model, err));
    s.status = tvlm_writer_open(path, &writer, err);
    if (!s.status) put_all(&s, object);
    if (!s.status) s.status = tvlm_writer_commit(&writer, err);
    tvlm_writer_close(&writer);
    return s.status;
}

/* ---- reading ---- */

typedef struct source {
    const unsigned char *data; /* NULL: the file */
    tvlm_file file;
    const char *name; /* for messages */
    uint64_t size, at;
    uint32_t crc;
    const tvlm_model *model;
} source;

static tvlm_status take(source *s, void *out, size_t n, const char *field, tvlm_error *err)
{
    if (!n) return TVLM_OK;
    if (n > s->size - s->at)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: ends in its field %s", s->name, field);
    if (s->data)
        memcpy(out, s->data + s->at, n);
    else
        TVLM_TRY(tvlm_file_read(&s->file, s->at, out, n, err));
    s->crc = s->model->kernels.crc32c(s->crc, out, n);
    s->at += n;
    return TVLM_OK;
}

static tvlm_status take_crc(source *s, const char *what, tvlm_error *err)
{
    unsigned char bytes[4];
    uint32_t crc = s->crc;
    TVLM_TRY(take(s, bytes, sizeof bytes, "crc32c", err));
    if (load_le(bytes, 4) == crc) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_CHECKSUM, "%s: %schecksum %08x, it says %08x: it is damaged",
                     s->name, what, (unsigned)crc, (unsigned)load_le(bytes, 4));
}

static tvlm_hash load_hash(const unsigned char *p)
{
    return (tvlm_hash){load_le(p, 8), load_le(p + 8, 8)};
}

/* The values are the file's then; those that must be the model's are compared by the caller. */
static tvlm_status take_header(source *s, header *h, tvlm_error *err)
{
    unsigned char bytes[HEADER - 4];
    TVLM_TRY(take(s, bytes, sizeof bytes, "header", err));
    if (memcmp(bytes, h->magic, 8) != 0)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: its magic is not %s", s->name, h->magic);
    if (load_le(bytes + 8, 4) != VERSION)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "%s: version %u, this library reads %d",
                         s->name, (unsigned)load_le(bytes + 8, 4), VERSION);
    TVLM_TRY(take_crc(s, "the header's ", err));
    if (!tvlm_hash_same(load_hash(bytes + 16), model_hash(s->model)))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "%s: model: it was saved with another", s->name);
    if (load_le(bytes + 12, 4) != arithmetic_of(s->model))
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "%s: arithmetic: it was saved with another precision of the model",
                         s->name);
    for (size_t i = 0; i < VALUES; i++)
        h->values[i] = (uint32_t)load_le(bytes + 32 + 4 * i, 4);
    return TVLM_OK;
}

static tvlm_status check_values(const source *s, const header *h, const header *want,
                                tvlm_error *err)
{
    for (size_t i = 0; i < VALUES; i++)
        if (h->values[i] != want->values[i])
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "%s: %s is %u, %u is needed here", s->name,
                             h->names[i], (unsigned)h->values[i], (unsigned)want->values[i]);
    return TVLM_OK;
}

static tvlm_status take_floats(source *s, float *out, size_t n, const char *field, tvlm_error *err)
{
    return take(s, out, n * sizeof *out, field, err);
}

static tvlm_status take_image(source *s, tvlm_image *image, tvlm_error *err)
{
    const tvlm_model *m = s->model;
    unsigned char id[16];
    TVLM_TRY(take(s, id, sizeof id, "image id", err));
    TVLM_TRY(take_floats(s, image->tokens, tvlm_image_token_floats(image), "tokens", err));
    if (image->vision)
        TVLM_TRY(take_floats(s, image->vision, tvlm_image_vision_floats(image), "vision", err));
    TVLM_TRY(take_floats(s, image->cross_kv, tvlm_image_cross_floats(m), "cross-attention", err));
    image->id = tvlm_image_hash(image);
    if (tvlm_hash_same(image->id, load_hash(id))) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: the image's id is not that of its tokens", s->name);
}

static tvlm_status take_end(source *s, tvlm_error *err)
{
    TVLM_TRY(take_crc(s, "", err));
    if (s->at == s->size) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: %llu bytes follow its end", s->name,
                     (unsigned long long)(s->size - s->at));
}

/* Whether a pass can have made the position. */
static bool history_makes_sense(const tvlm_model *m, const tvlm_history *h)
{
    if (tvlm_hash_same(h->image, tvlm_hash_of_embedding())) return h->id == -1;
    return h->id >= 0 &&
           (uint32_t)h->id < (tvlm_history_is_token(h) ? m->config.lm.n_vocab
                                                       : m->max_frames * m->n_image_tokens);
}

static tvlm_status take_history(source *s, tvlm_session *session, uint32_t n, tvlm_error *err)
{
    unsigned char bytes[PIECE][HISTORY];
    for (uint32_t at = 0, k; at < n; at += k) {
        k = n - at < PIECE ? n - at : PIECE;
        TVLM_TRY(take(s, bytes, k * sizeof *bytes, "history", err));
        for (uint32_t i = 0; i < k; i++) {
            tvlm_history *h = &session->history[at + i];
            *h = (tvlm_history){load_hash(bytes[i]), (int32_t)(uint32_t)load_le(bytes[i] + 16, 4)};
            if (!history_makes_sense(s->model, h))
                return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: history[%u].id is %d", s->name,
                                 (unsigned)(at + i), (int)h->id);
        }
    }
    return TVLM_OK;
}

/* What the last answer said, and how it would have gone on. */
static tvlm_status take_said(source *s, tvlm_session *session, uint32_t n, tvlm_error *err)
{
    unsigned char bytes[8];
    TVLM_TRY(take(s, bytes, 8, "random", err));
    session->random = load_le(bytes, 8);
    TVLM_TRY(take(s, bytes, 4, "n_unsent", err));
    session->n_unsent = (uint32_t)load_le(bytes, 4);
    for (uint32_t i = 0; i < n; i++) {
        TVLM_TRY(take(s, bytes, 4, "said", err));
        uint32_t id = (uint32_t)load_le(bytes, 4);
        if (id >= s->model->config.lm.n_vocab)
            return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: said[%u] is %u", s->name, (unsigned)i,
                             (unsigned)id);
        session->ids[i] = (int32_t)id;
    }
    session->n_said = n;
    return TVLM_OK;
}

static tvlm_status check_session(const source *s, const tvlm_session *session, const header *h,
                                 tvlm_error *err)
{
    header want = session_header(session);
    want.values[POSITION] = h->values[POSITION];
    want.values[N_SAID] = h->values[N_SAID];
    want.values[N_IMAGES] = s->model->config.lm.cross_attention && h->values[N_IMAGES];
    TVLM_TRY(check_values(s, h, &want, err));
    if (h->values[POSITION] > session->params.n_ctx)
        return tvlm_fail(err, TVLM_ERR_CONTEXT, "%s: position is %u, the context has %u", s->name,
                         (unsigned)h->values[POSITION], (unsigned)session->params.n_ctx);
    if (h->values[N_SAID] > session->params.n_ctx + 1)
        return tvlm_fail(err, TVLM_ERR_CONTEXT, "%s: n_said is %u, the context has %u", s->name,
                         (unsigned)h->values[N_SAID], (unsigned)session->params.n_ctx);
    return TVLM_OK;
}

static tvlm_status take_session(source *s, void *object, tvlm_error *err)
{
    tvlm_session *session = *(tvlm_session **)object;
    header h = session_header(session);
    TVLM_TRY(take_header(s, &h, err));
    TVLM_TRY(check_session(s, session, &h, err));
    TVLM_TRY(take_said(s, session, h.values[N_SAID], err));
    TVLM_TRY(take_history(s, session, h.values[POSITION], err));
    session->position = h.values[POSITION];
    session->logits_row = 0;
    TVLM_TRY(take_floats(s, session->logits, h.values[N_VOCAB], "logits", err));
    for (uint32_t layer = 0; layer < session->kv.n_layers; layer++)
        for (unsigned which = 0; which < 2; which++)
            TVLM_TRY(take(s, tvlm_kv_at(&session->kv, layer, which, 0), kv_layer_bytes(session),
                          which ? "values" : "keys", err));
    if (h.values[N_IMAGES]) {
        TVLM_TRY(tvlm_image_new(s->model, (tvlm_grid){0, 0}, false, &session->image, err));
        TVLM_TRY(take_image(s, session->image, err));
        session->image_id = session->image->id;
    }
    return take_end(s, err);
}

/* Zeros, which the header then does not agree with, for one that no image has. */
static tvlm_grid possible_grid(const tvlm_model *m, uint32_t rows, uint32_t cols)
{
    bool fits =
        rows && cols && rows < m->max_frames && cols < m->max_frames && rows * cols < m->max_frames;
    return fits ? (tvlm_grid){rows, cols} : (tvlm_grid){0, 0};
}

static tvlm_status take_whole_image(source *s, void *object, tvlm_error *err)
{
    tvlm_image **image = object;
    header h = image_header(s->model, (tvlm_grid){0, 0}, false);
    TVLM_TRY(take_header(s, &h, err));
    tvlm_grid grid = possible_grid(s->model, h.values[ROWS], h.values[COLS]);
    header want = image_header(s->model, grid, h.values[N_VISION] != 0);
    TVLM_TRY(check_values(s, &h, &want, err));
    TVLM_TRY(tvlm_image_new(s->model, grid, h.values[N_VISION] != 0, image, err));
    TVLM_TRY(take_image(s, *image, err));
    return take_end(s, err);
}

typedef tvlm_status (*taker)(source *s, void *object, tvlm_error *err);

static tvlm_status load_memory(taker take_all, void *object, const tvlm_model *model,
                               const void *data, size_t size, const char *name, tvlm_error *err)
{
    source s = {.data = data, .name = name, .size = size, .model = model};
    TVLM_TRY(check_model(model, err));
    return take_all(&s, object, err);
}

static tvlm_status load_file(taker take_all, void *object, const tvlm_model *model,
                             const char *path, tvlm_error *err)
{
    source s = {.name = path, .model = model};
    TVLM_TRY(check_model(model, err));
    tvlm_status status = tvlm_file_open(path, &s.file, err);
    s.size = s.file.os.size;
    if (!status) status = take_all(&s, object, err);
    tvlm_file_close(&s.file);
    return status;
}

/* ---- sessions ---- */

tvlm_status tvlm_session_save(const tvlm_session *session, const char *path, tvlm_error *err)
{
    TVLM_NEED(session);
    TVLM_NEED(path);
    return save_file(put_session, session, session->model, path, err);
}

tvlm_status tvlm_session_save_memory(const tvlm_session *session, void *out, size_t cap,
                                     size_t *size, tvlm_error *err)
{
    TVLM_NEED(session);
    TVLM_NEED(size);
    return save_memory(put_session, session, session->model, out, cap, size, err);
}

/* Half a session is none. */
static tvlm_status loaded(tvlm_session *session, tvlm_status status)
{
    if (status) tvlm_session_reset(session);
    return status;
}

tvlm_status tvlm_session_load(tvlm_session *session, const char *path, tvlm_error *err)
{
    TVLM_NEED(session);
    TVLM_NEED(path);
    tvlm_session_reset(session);
    return loaded(session, load_file(take_session, &session, session->model, path, err));
}

tvlm_status tvlm_session_load_memory(tvlm_session *session, const void *data, size_t size,
                                     tvlm_error *err)
{
    TVLM_NEED(session);
    TVLM_NEED(data);
    tvlm_session_reset(session);
    return loaded(session, load_memory(take_session, &session, session->model, data, size,
                                       "the saved session", err));
}

/* ---- images ---- */

tvlm_status tvlm_image_save(const tvlm_image *image, const char *path, tvlm_error *err)
{
    TVLM_NEED(image);
    TVLM_NEED(path);
    return save_file(put_whole_image, image, image->model, path, err);
}

tvlm_status tvlm_image_save_memory(const tvlm_image *image, void *out, size_t cap, size_t *size,
                                   tvlm_error *err)
{
    TVLM_NEED(image);
    TVLM_NEED(size);
    return save_memory(put_whole_image, image, image->model, out, cap, size, err);
}

static tvlm_status check_sees(const tvlm_model *model, tvlm_error *err)
{
    if (tvlm_model_has_vision(model)) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "this model reads text only");
}

static tvlm_status checked(tvlm_image **image, tvlm_status status)
{
    if (!status) return TVLM_OK;
    tvlm_image_free(*image);
    *image = NULL;
    return status;
}

tvlm_status tvlm_image_load(const tvlm_model *model, const char *path, tvlm_image **out,
                            tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(model);
    TVLM_NEED(path);
    TVLM_TRY(check_sees(model, err));
    return checked(out, load_file(take_whole_image, out, model, path, err));
}

tvlm_status tvlm_image_load_memory(const tvlm_model *model, const void *data, size_t size,
                                   tvlm_image **out, tvlm_error *err)
{
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(model);
    TVLM_NEED(data);
    TVLM_TRY(check_sees(model, err));
    return checked(out,
                   load_memory(take_whole_image, out, model, data, size, "the saved image", err));
}
