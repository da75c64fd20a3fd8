/* SPDX-License-Identifier: MIT
 * The text file is checked as the model that it is, so what may be wrong later is the mmproj's, or
 * of the two together. The result is checked as every model that is written. */
#include "convert/pair.h"
#include "convert/family.h"
#include "convert/gguf_write.h"
#include "convert/result.h"

#include "model/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pair {
    const char *text_path, *mmproj_path;
    tvlmc_gguf_source text, mmproj;
    tvlmc_conversion c; /* params, config, err */
    tvlmc_taken *taken;
    size_t n;
} pair;

static bool begins(tvlm_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && !memcmp(s.data, prefix, n);
}

/* ---- what the mmproj says ---- */

static const tvlmc_family *find_family(tvlm_str projector)
{
    for (size_t i = 0; tvlmc_families[i]; i++)
        if (tvlmc_families[i]->mmproj &&
            tvlm_str_eq(projector, tvlmc_families[i]->mmproj->projector))
            return tvlmc_families[i];
    return NULL;
}

static bool is_read(const tvlmc_family *family, tvlm_str key)
{
    static const char *const all[] = {"clip.has_vision_encoder", "clip.projector_type",
                                      "clip.vision.projector_type", "clip.vision.projection_dim",
                                      "clip.use_gelu"};
    for (size_t i = 0; i < TVLM_COUNT(all); i++)
        if (tvlm_str_eq(key, all[i])) return true;
    for (const char *const *name = family->mmproj->keys; *name; name++)
        if (tvlm_str_eq(key, *name)) return true;
    return false;
}

static void check_keys(tvlm_reader *r, const tvlmc_family *family)
{
    for (size_t i = 0; i < r->gguf->n_kv && !r->status; i++) {
        const tvlm_gguf_kv *kv = &r->gguf->kv[i];
        if (begins(kv->key, "clip.") && !is_read(family, kv->key) && !tvlm_key_is_neutral(kv, 0))
            tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                          "key '%s': not known of a projector '%s', and it may "
                                          "change the result",
                                          tvlm_show(kv->key).text, family->mmproj->projector));
    }
}

static const tvlmc_family *read_projector(tvlm_reader *r)
{
    static const char *const archs[] = {"clip"};
    tvlm_read_name(r, "general.architecture", archs, 1, NULL);
    bool own = tvlm_gguf_find(r->gguf, "clip.vision.projector_type") != NULL;
    const char *key = own ? "clip.vision.projector_type" : "clip.projector_type";
    tvlm_str projector = tvlm_read_string(r, key, true, "");
    const tvlmc_family *family = r->status ? NULL : find_family(projector);
    if (!family && !r->status)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key '%s': '%s' is not supported; 'idefics3' (SmolVLM) is",
                                      key, tvlm_show(projector).text));
    return family;
}

/* What both files say of the width of the tokens, and of the decoder's kind. */
static void check_match(tvlm_reader *r, const pair *p)
{
    const char *arch = p->c.config.family->text_type;
    uint32_t width = 0;
    char key[64];
    tvlm_str name = {0};
    snprintf(key, sizeof key, "%s.embedding_length", arch);
    tvlm_gguf_string(&p->text.gguf, "general.architecture", false, &name, NULL);
    tvlm_gguf_u32(&p->text.gguf, key, false, &width, NULL);
    uint32_t dim = tvlm_read_u32(r, "clip.vision.projection_dim", width ? width : 1, 1, UINT32_MAX);
    if (r->status) return;
    if (!tvlm_str_eq(name, arch))
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "its projector '%s' needs a text model of architecture '%s', "
                                      "and %s is '%s'",
                                      p->c.config.family->mmproj->projector, arch, p->text_path,
                                      tvlm_show(name).text));
    else if (dim != width)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                      "key 'clip.vision.projection_dim': %u, and '%s' of %s is %u: "
                                      "they are of different models",
                                      (unsigned)dim, key, p->text_path, (unsigned)width));
}

static tvlm_status name_file(const char *path, tvlm_status status, const tvlm_error *why,
                             tvlm_error *err)
{
    return status ? tvlm_fail(err, status, "%s: %s", path, why->message) : TVLM_OK;
}

static tvlm_status read_mmproj(pair *p, tvlm_error *err)
{
    tvlm_error why = {0};
    tvlm_reader r = {&p->mmproj.gguf, "", &why, TVLM_OK};
    char note[512] = "";
    const tvlmc_family *family = p->c.config.family = read_projector(&r);
    if (family) check_keys(&r, family);
    if (family && !r.status) family->mmproj->read(&r, &p->c.config, note);
    if (family) check_match(&r, p);
    TVLM_TRY(name_file(p->mmproj_path, r.status, &why, err));
    if (*note) tvlmc_conversion_note(&p->c, "%s: %s", p->mmproj_path, note);
    return TVLM_OK;
}

static tvlm_status check_text(const pair *p, tvlm_error *err)
{
    tvlm_model *model = NULL;
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    params.header_only = true;
    tvlm_status status = tvlm_model_open(p->text_path, &params, &model, err);
    tvlm_model_free(model);
    return status;
}

/* ---- tensors ---- */

static void take(pair *p, const tvlmc_gguf_source *from, const tvlm_gguf_tensor *t)
{
    tvlmc_taken *out = &p->taken[p->n++];
    *out = (tvlmc_taken){.from = from, .tensor = t, .n_dims = t->n_dims ? t->n_dims : 1};
    snprintf(out->name, sizeof out->name, "%.*s", (int)t->name.len, t->name.data);
    memcpy(out->shape, t->shape, sizeof out->shape);
    if (!t->n_dims) out->shape[0] = 1; /* a scalar */
    if (from == &p->mmproj) p->c.config.family->mmproj->adapt(&p->mmproj.gguf, &p->c.config, out);
}

/* Tower and projector first, as they are needed first. */
static tvlm_status take_all(pair *p, tvlm_error *err)
{
    const tvlmc_gguf_source *sources[] = {&p->mmproj, &p->text};
    p->taken = calloc(p->mmproj.gguf.n_tensors + p->text.gguf.n_tensors + 1, sizeof *p->taken);
    if (!p->taken) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    for (size_t s = 0; s < 2; s++) {
        TVLM_TRY(tvlmc_gguf_source_check_types(sources[s], err));
        for (size_t i = 0; i < sources[s]->gguf.n_tensors; i++)
            take(p, sources[s], &sources[s]->gguf.tensors[i]);
    }
    return TVLM_OK;
}

/* All bytes of the tensor, as they are stored. */
static tvlm_status read_rows(const tvlmc_taken *t, unsigned char *out, tvlm_error *err)
{
    tvlmc_gguf_rows r;
    tvlm_status status = tvlmc_gguf_rows_open(t->from, t->tensor, &r, err);
    for (size_t i = 0; !status && i < r.n; i++) {
        status = tvlmc_gguf_rows_next(&r, err);
        if (!status) memcpy(out + i * r.bytes, r.raw, r.bytes);
    }
    tvlmc_gguf_rows_close(&r);
    return status;
}

static tvlm_status write_tensor(tvlmc_gguf_writer *w, const tvlmc_taken *t, tvlm_error *err)
{
    bool fits = t->tensor->size <= SIZE_MAX;
    unsigned char *bytes = fits ? malloc((size_t)t->tensor->size) : NULL;
    if (!bytes)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "%s: out of memory for tensor '%s'",
                         t->from->file.path, t->name);
    tvlm_status status = read_rows(t, bytes, err);
    if (!status) status = tvlmc_gguf_write_tensor(w, bytes, (size_t)t->tensor->size, err);
    free(bytes);
    return status;
}

static tvlm_status write_tensors(const pair *p, tvlmc_gguf_writer *w, tvlm_error *err)
{
    const tvlmc_convert_params *params = p->c.params;
    for (size_t i = 0; i < p->n; i++) {
        const tvlmc_taken *t = &p->taken[i];
        TVLM_TRY(
            tvlmc_gguf_declare(w, t->name, (tvlm_type)t->tensor->type, t->shape, t->n_dims, err));
    }
    for (size_t i = 0; i < p->n; i++) {
        if (tvlm_cancelled(params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(write_tensor(w, &p->taken[i], err));
        if (params->on_progress) params->on_progress(params->user, i + 1, p->n);
    }
    return TVLM_OK;
}

/* ---- keys ---- */

/* What the result has of its own. */
static bool is_replaced(tvlm_str key)
{
    return tvlm_str_eq(key, "general.architecture") || begins(key, "vision.") ||
           tvlm_str_eq(key, "tinyvlm.chat_template") || begins(key, "tinyvlm.describe_");
}

/* A key of the text model, under the result's architecture where it was under its own. */
static tvlm_status put_text_key(const pair *p, tvlmc_gguf_writer *w, tvlm_gguf_kv kv,
                                tvlm_error *err)
{
    const tvlmc_family *family = p->c.config.family;
    size_t n = strlen(family->text_type);
    char key[1200];
    if (begins(kv.key, family->text_type) && kv.key.len > n && kv.key.data[n] == '.') {
        int len = snprintf(key, sizeof key, "%s%.*s", family->arch, (int)(kv.key.len - n),
                           kv.key.data + n);
        kv.key = (tvlm_str){key, (size_t)len};
    }
    return tvlmc_gguf_put_kv(w, &kv, err);
}

static tvlm_status put_keys(pair *p, tvlmc_gguf_writer *w, tvlm_error *err)
{
    const tvlm_gguf *text = &p->text.gguf;
    const tvlmc_family *family = p->c.config.family;
    tvlmc_keys k = {&p->c, w, family->arch, TVLM_OK};
    char key[64];
    tvlmc_keys_string(&k, "general.architecture", family->arch);
    for (size_t i = 0; i < text->n_kv && !k.status; i++)
        if (!is_replaced(text->kv[i].key)) k.status = put_text_key(p, w, text->kv[i], err);
    snprintf(key, sizeof key, "%s.rope.freq_base", family->text_type);
    if (!tvlm_gguf_find(text, key)) { /* theirs may leave it out, ours may not */
        snprintf(key, sizeof key, "%s.rope.freq_base", family->arch);
        tvlmc_keys_f32(&k, key, 10000);
    }
    family->put_vision(&k);
    return k.status;
}

/* ---- the file ---- */

/* What is wrong with the result is so with its sources. */
static tvlm_status check_result(void *user, const char *path, tvlm_error *err)
{
    const pair *p = user;
    size_t n = strlen(path);
    tvlm_error why = {0};
    tvlm_status status = tvlmc_check_result(NULL, path, &why);
    bool named = status && !strncmp(why.message, path, n) && !strncmp(why.message + n, ": ", 2);
    if (!named) return status ? tvlm_fail(err, status, "%s", why.message) : TVLM_OK;
    return tvlm_fail(err, status, "%s with %s: %s", p->text_path, p->mmproj_path,
                     why.message + n + 2);
}

static tvlm_status write_file(pair *p, const char *out, tvlm_error *err)
{
    tvlmc_gguf_writer *w;
    TVLM_TRY(tvlmc_gguf_writer_new(out, p->c.params->cancel, &w, err));
    tvlm_status status = put_keys(p, w, err);
    if (!status) status = write_tensors(p, w, err);
    if (!status) return tvlmc_gguf_writer_finish(w, check_result, p, err);
    tvlmc_gguf_writer_abort(w);
    return status;
}

static tvlm_status convert(pair *p, const char *out, tvlm_error *err)
{
    TVLM_TRY(app_output_not_input(out, p->text_path, err));
    TVLM_TRY(app_output_not_input(out, p->mmproj_path, err));
    TVLM_TRY(check_text(p, err));
    TVLM_TRY(tvlmc_gguf_source_open(p->text_path, &p->text, err));
    TVLM_TRY(tvlmc_gguf_source_open(p->mmproj_path, &p->mmproj, err));
    TVLM_TRY(read_mmproj(p, err));
    TVLM_TRY(take_all(p, err));
    return write_file(p, out, err);
}

tvlm_status tvlmc_convert_pair(const char *text, const char *mmproj, const char *out,
                               const tvlmc_convert_params *params, tvlm_error *err)
{
    tvlmc_convert_params defaults;
    tvlmc_convert_params_init(&defaults);
    pair p = {.text_path = text, .mmproj_path = mmproj};
    p.c = (tvlmc_conversion){.params = params ? params : &defaults, .err = err};
    if (p.c.params->size != sizeof *params)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "convert parameters were not initialised");
    tvlm_status status = convert(&p, out, err);
    free(p.taken);
    tvlmc_gguf_source_close(&p.text);
    tvlmc_gguf_source_close(&p.mmproj);
    return status;
}
