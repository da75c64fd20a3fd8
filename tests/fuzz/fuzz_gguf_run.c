/* SPDX-License-Identifier: MIT
 * Models whose container is valid and whose contents are not what was meant. The input is a list of
 * edits, applied to a model of the corpus: values and types of keys, names, shapes, types and
 * weights of tensors. What still opens must encode a picture, take a prompt and answer.
 *
 *   model u8 | edit u8, target u16, place u16, value u64 | edit ... */
#include "model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASES TVLM_TEST_DATA "/../fuzz/corpus/gguf/"

enum { EDIT = 13, EDITS = 16, MOST = 1 << 22 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct edit {
    unsigned kind, target, place;
    uint64_t value;
} edit;

static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void store_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* ---- the models ---- */

typedef struct base {
    uint8_t *bytes;
    size_t size;
    tvlm_gguf gguf;
} base;

static const base *bases(size_t *n)
{
    static const char *const names[] = {"llama.gguf",   "tinyvlm.gguf",       "tinyvlm-int8.gguf",
                                        "fastvlm.gguf", "tinyvlm-mixed.gguf", "qwen3.gguf",
                                        "smolvlm.gguf"};
    static base all[TVLM_COUNT(names)];
    *n = TVLM_COUNT(names);
    for (size_t i = 0; i < *n && !all[i].bytes; i++) {
        char path[1024];
        bool complete = false;
        base *b = &all[i];
        snprintf(path, sizeof path, BASES "%s", names[i]);
        FILE *f = fopen(path, "rb");
        b->bytes = malloc(MOST);
        if (!f || !b->bytes) abort();
        b->size = fread(b->bytes, 1, MOST, f);
        fclose(f);
        if (tvlm_gguf_parse(b->bytes, b->size, &b->gguf, &complete, NULL) || !complete) abort();
    }
    return all;
}

/* ---- edits of the header: `at` is the copy's beginning, the index is the original's ---- */

static uint8_t *in_copy(uint8_t *at, const base *b, const void *original)
{
    return at + ((const uint8_t *)original - b->bytes);
}

static size_t element_size(tvlm_gguf_type type)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[type];
}

static void edit_value(uint8_t *at, const base *b, edit e)
{
    const tvlm_gguf_kv *kv = &b->gguf.kv[e.target % b->gguf.n_kv];
    size_t size = element_size(kv->type);
    uint8_t *p = in_copy(at, b, kv->data);
    if (!kv->n) return;
    if (size)
        store_le(p + (e.place % kv->n) * size, e.value, size);
    else if (load_le(p, 8)) /* a byte of the first string */
        p[8 + e.place % load_le(p, 8)] = (uint8_t)e.value;
}

/* To another type of the same size. */
static void edit_type(uint8_t *at, const base *b, edit e)
{
    const tvlm_gguf_kv *kv = &b->gguf.kv[e.target % b->gguf.n_kv];
    tvlm_gguf_type type = (tvlm_gguf_type)(e.value % (TVLM_GGUF_F64 + 1));
    uint8_t *p = in_copy(at, b, kv->data) - (kv->is_array ? 12 : 4);
    if (element_size(type) == element_size(kv->type) && element_size(type)) store_le(p, type, 4);
}

static void edit_name(uint8_t *at, const base *b, edit e)
{
    bool key = e.value & 1;
    tvlm_str name = key ? b->gguf.kv[e.target % b->gguf.n_kv].key
                        : b->gguf.tensors[e.target % b->gguf.n_tensors].name;
    if (name.len) in_copy(at, b, name.data)[e.place % name.len] = (uint8_t)(e.value >> 8);
}

static void edit_dimension(uint8_t *at, const base *b, edit e)
{
    const tvlm_gguf_tensor *t = &b->gguf.tensors[e.target % b->gguf.n_tensors];
    uint8_t *p = in_copy(at, b, t->name.data) + t->name.len + 4;
    if (t->n_dims) store_le(p + 8 * (e.place % t->n_dims), e.value, 8);
}

static void edit_tensor_type(uint8_t *at, const base *b, edit e)
{
    const tvlm_gguf_tensor *t = &b->gguf.tensors[e.target % b->gguf.n_tensors];
    store_le(in_copy(at, b, t->name.data) + t->name.len + 4 + 8 * (size_t)t->n_dims, e.value % 40,
             4);
}

/* ---- the container: every tensor where its size puts it, its bytes repeated as needed ---- */

static uint8_t *offset_of(uint8_t *at, const base *b, size_t tensor)
{
    const tvlm_gguf_tensor *t = &b->gguf.tensors[tensor];
    return in_copy(at, b, t->name.data) + t->name.len + 4 + 8 * (size_t)t->n_dims + 4;
}

/* Sizes as the edited header has them; false when it is beyond what is tried. */
static bool lay_out(uint8_t *at, const base *b, size_t sizes[])
{
    uint64_t end = b->gguf.data_offset, alignment = b->gguf.alignment;
    for (size_t i = 0; i < b->gguf.n_tensors; i++) {
        const uint8_t *type = offset_of(at, b, i) - 4;
        uint32_t n_dims = b->gguf.tensors[i].n_dims;
        uint32_t block = tvlm_type_block((tvlm_type)load_le(type, 4));
        uint64_t n = 1;
        for (uint32_t d = 0; d < n_dims; d++) {
            uint64_t side = load_le(type - 8 * (d + 1), 8);
            if (side > MOST || n * side > MOST) return false;
            n *= side;
        }
        sizes[i] =
            block ? (size_t)n / block * tvlm_type_block_bytes((tvlm_type)load_le(type, 4)) : 0;
        store_le(offset_of(at, b, i), end - b->gguf.data_offset, 8);
        end = (end + sizes[i] + alignment - 1) & ~(alignment - 1);
    }
    return end <= MOST;
}

static size_t fill(uint8_t *at, const base *b, const size_t sizes[])
{
    size_t end = (size_t)b->gguf.data_offset;
    for (size_t i = 0; i < b->gguf.n_tensors; i++) {
        const tvlm_gguf_tensor *t = &b->gguf.tensors[i];
        uint8_t *p = at + b->gguf.data_offset + load_le(offset_of(at, b, i), 8);
        for (size_t k = 0; k < sizes[i]; k++)
            p[k] = b->bytes[t->offset + k % t->size];
        end = (size_t)(p - at) + sizes[i];
    }
    return end;
}

static void edit_weight(uint8_t *at, const base *b, const size_t sizes[], edit e)
{
    size_t i = e.target % b->gguf.n_tensors, n = sizes[i] / 4;
    uint8_t *p = at + b->gguf.data_offset + load_le(offset_of(at, b, i), 8);
    if (n) store_le(p + 4 * (e.place % n), e.value, 4);
}

/* ---- running ---- */

static void answer(const tvlm_model *model, tvlm_engine *engine, tvlm_session *session,
                   tvlm_image *image)
{
    tvlm_prompt *prompt = NULL;
    tvlm_message message = {TVLM_ROLE_USER, "th e", 4, &image, image ? 1 : 0, NULL};
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    if (tvlm_prompt_new(model, &prompt, NULL)) return;
    if (tvlm_prompt_chat(prompt, &message, 1, NULL))
        tvlm_prompt_add_text(prompt, "the", 3, true, NULL);
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = 4;
    p.sampling.temperature = 1;
    if (!tvlm_generate(engine, session, prompt, &p, &result, NULL) && result.n_ids > 4) abort();
    tvlm_prompt_free(prompt);
}

static void run(const tvlm_model *model)
{
    static const uint8_t grey[4] = {0, 255, 90, 7};
    tvlm_pixels pixels = {grey, 2, 2, 1, 0};
    tvlm_engine *engine = NULL;
    tvlm_session *session = NULL;
    tvlm_image *image = NULL;
    tvlm_engine_params e;
    tvlm_session_params s;
    tvlm_model_info info = {.size = sizeof info};
    tvlm_engine_params_init(&e, sizeof e);
    tvlm_session_params_init(&s, sizeof s);
    if (tvlm_model_get_info(model, &info, NULL)) abort();
    e.n_threads = 1;
    e.max_batch_tokens = 16;
    s.n_ctx = info.n_ctx_train < 128 ? info.n_ctx_train : 128;
    e.max_memory = s.max_memory = (size_t)32 << 20;
    if (!tvlm_engine_new(model, &e, &engine, NULL) &&
        !tvlm_session_new(model, &s, &session, NULL)) {
        if (info.image_size && info.image_size <= 128)
            tvlm_image_encode(engine, &pixels, NULL, &image, NULL);
        answer(model, engine, session, image);
    }
    tvlm_image_free(image);
    tvlm_session_free(session);
    tvlm_engine_free(engine);
}

static void open_and_run(const uint8_t *bytes, size_t size)
{
    tvlm_model_params p;
    tvlm_model *model;
    tvlm_error err = {0};
    tvlm_model_params_init(&p, sizeof p);
    p.max_memory = (size_t)32 << 20;
    p.skip_checksums = true;
    if (tvlm_model_open_memory(bytes, size, &p, &model, &err)) {
        if (!err.message[0] || model) abort(); /* an error says something and gives nothing */
        return;
    }
    run(model);
    tvlm_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const header_edits[])(uint8_t *, const base *, edit) = {
        edit_value, edit_value, edit_type, edit_name, edit_dimension, edit_tensor_type};
    enum { WEIGHT = TVLM_COUNT(header_edits), KINDS };
    size_t n_bases, sizes[512];
    const base *b = bases(&n_bases);
    if (!size) return 0;
    b += data[0] % n_bases;
    if (b->gguf.n_tensors > TVLM_COUNT(sizes)) abort();
    edit edits[EDITS];
    size_t n = 0;
    for (data++, size--; size >= EDIT && n < EDITS; data += EDIT, size -= EDIT)
        edits[n++] = (edit){data[0] % KINDS, (unsigned)load_le(data + 1, 2),
                            (unsigned)load_le(data + 3, 2), load_le(data + 5, 8)};
    uint8_t *copy = calloc(1, MOST);
    if (!copy) return 0;
    memcpy(copy, b->bytes, (size_t)b->gguf.data_offset);
    for (size_t i = 0; i < n; i++)
        if (edits[i].kind < WEIGHT) header_edits[edits[i].kind](copy, b, edits[i]);
    if (lay_out(copy, b, sizes)) {
        size_t end = fill(copy, b, sizes);
        for (size_t i = 0; i < n; i++)
            if (edits[i].kind == WEIGHT) edit_weight(copy, b, sizes, edits[i]);
        uint8_t *exact = malloc(end); /* so that a sanitizer sees every overrun */
        if (exact) open_and_run(memcpy(exact, copy, end), end);
        free(exact);
    }
    free(copy);
    return 0;
}
