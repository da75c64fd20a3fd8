/* SPDX-License-Identifier: MIT
 * Metadata of a converted model. */
#include "convert/family.h"
#include "convert/result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS (1u << 20) /* of embeddings, what a model file may have */

void tvlmc_keys_u32(tvlmc_keys *k, const char *key, uint32_t v)
{
    if (!k->status) k->status = tvlmc_gguf_put_u32(k->w, key, v, k->c->err);
}

void tvlmc_keys_string(tvlmc_keys *k, const char *key, const char *v)
{
    if (!k->status)
        k->status = tvlmc_gguf_put_string(k->w, key, (tvlm_str){v, strlen(v)}, k->c->err);
}

void tvlmc_keys_f32(tvlmc_keys *k, const char *key, double v)
{
    if (!k->status) k->status = tvlmc_gguf_put_f32(k->w, key, (float)v, k->c->err);
}

void tvlmc_keys_rgb(tvlmc_keys *k, const char *key, const double v[3])
{
    if (!k->status) k->status = tvlmc_gguf_put_f64_array(k->w, key, v, 3, k->c->err);
}

void tvlmc_keys_vision(tvlmc_keys *k, const char *tower, uint32_t image_size, const char *mode,
                       const char *filter)
{
    tvlmc_keys_string(k, "vision.tower", tower);
    tvlmc_keys_u32(k, "vision.image_size", image_size);
    tvlmc_keys_string(k, "vision.preprocess.mode", mode);
    tvlmc_keys_string(k, "vision.preprocess.filter", filter);
    tvlmc_keys_rgb(k, "vision.preprocess.scale", k->c->config.scale);
    tvlmc_keys_rgb(k, "vision.preprocess.bias", k->c->config.bias);
}

static const char *arch_key(const tvlmc_keys *k, const char *name, char out[96])
{
    snprintf(out, 96, "%s.%s", k->arch, name);
    return out;
}

static void put_arch_u32(tvlmc_keys *k, const char *name, uint32_t v)
{
    char key[96];
    tvlmc_keys_u32(k, arch_key(k, name, key), v);
}

static void put_arch_f32(tvlmc_keys *k, const char *name, double v)
{
    char key[96];
    tvlmc_keys_f32(k, arch_key(k, name, key), v);
}

/* The folder's own name. */
static void put_name(tvlmc_keys *k, const char *dir)
{
    char name[128];
    size_t n = strlen(dir), begin;
    while (n > 1 && dir[n - 1] == '/')
        n--;
    for (begin = n; begin > 0 && dir[begin - 1] != '/';)
        begin--;
    snprintf(name, sizeof name, "%.*s", (int)(n - begin < 127 ? n - begin : 127), dir + begin);
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || !*name;
    tvlmc_keys_string(k, "general.name", dots ? k->arch : name);
}

static void put_decoder(tvlmc_keys *k, uint32_t vocab_rows)
{
    const tvlmc_hf_config *h = &k->c->config;
    put_arch_u32(k, "block_count", h->n_layers);
    put_arch_u32(k, "context_length", h->n_ctx);
    put_arch_u32(k, "embedding_length", h->n_embd);
    put_arch_u32(k, "feed_forward_length", h->n_ff);
    put_arch_u32(k, "attention.head_count", h->n_heads);
    put_arch_u32(k, "attention.head_count_kv", h->n_kv_heads);
    put_arch_u32(k, "attention.key_length", h->head_dim);
    put_arch_u32(k, "attention.value_length", h->head_dim);
    put_arch_f32(k, "attention.layer_norm_rms_epsilon", h->rms_eps);
    put_arch_f32(k, "rope.freq_base", h->rope_theta);
    put_arch_u32(k, "rope.dimension_count", h->head_dim);
    put_arch_u32(k, "vocab_size", vocab_rows);
}

/* ---- tokenizer ---- */

/* The tokenizer's own id, else config.json's if it is an id of the tokenizer. */
static int64_t choose_id(tvlmc_keys *k, const char *which, int32_t own, int64_t configured,
                         uint32_t n)
{
    if (configured >= (int64_t)n)
        tvlmc_conversion_note(k->c,
                              "config.json's %s_token_id %lld is no id of the tokenizer (%u "
                              "tokens): %s",
                              which, (long long)configured, (unsigned)n,
                              own >= 0 ? "the tokenizer's is used" : "none is used");
    if (own >= 0) return own;
    return configured < (int64_t)n ? configured : -1;
}

static void put_id(tvlmc_keys *k, const char *key, int64_t id)
{
    if (id >= 0) tvlmc_keys_u32(k, key, (uint32_t)id);
}

static void put_ids(tvlmc_keys *k, uint32_t n)
{
    const tvlmc_tokenizer_files *t = &k->c->tokenizer;
    const tvlmc_hf_config *h = &k->c->config;
    int64_t bos = choose_id(k, "bos", t->bos_id, h->bos_id, n);
    int64_t eos = choose_id(k, "eos", t->eos_id, h->eos_id, n);
    int64_t turn = tvlmc_tokenizer_files_id(t, "<|im_end|>");
    int64_t text = tvlmc_tokenizer_files_id(t, "<|endoftext|>");
    put_id(k, "tokenizer.ggml.bos_token_id", bos);
    put_id(k, "tokenizer.ggml.eos_token_id", eos);
    /* ChatML models end a turn with one of these and a text with the other; both stop */
    if (turn >= 0 && text >= 0 && (eos == turn || eos == text))
        put_id(k, "tokenizer.ggml.eot_token_id", eos == turn ? text : turn);
    if (!k->status)
        k->status = tvlmc_gguf_put_bool(k->w, "tokenizer.ggml.add_bos_token",
                                        t->add_bos && bos >= 0, k->c->err);
}

/* Embeddings often have more rows than there are tokens: the rest become unused tokens, as other
 * readers want one for each row. */
typedef struct token_list {
    tvlm_str *texts;
    int32_t *types;
    char (*pads)[16];
} token_list;

static bool make_list(const tvlm_vocab *v, uint32_t n, uint32_t rows, token_list *out)
{
    *out = (token_list){malloc(rows * sizeof *out->texts), malloc(rows * sizeof *out->types),
                        malloc((rows - n + 1) * sizeof *out->pads)};
    if (!out->texts || !out->types || !out->pads) return false;
    memcpy(out->texts, v->tokens, n * sizeof *out->texts);
    memcpy(out->types, v->types, n * sizeof *out->types);
    for (uint32_t i = n; i < rows; i++) {
        char *pad = out->pads[i - n];
        int length = snprintf(pad, sizeof *out->pads, "[PAD%u]", (unsigned)i);
        out->texts[i] = (tvlm_str){pad, (size_t)length};
        out->types[i] = TVLM_TOKEN_UNUSED;
    }
    return true;
}

static tvlm_status put_tokens(tvlmc_keys *k, uint32_t n, uint32_t rows)
{
    token_list list;
    tvlm_status status = TVLM_OK;
    if (!make_list(&k->c->tokenizer.vocab, n, rows, &list))
        status =
            tvlm_fail(k->c->err, TVLM_ERR_MEMORY, "out of memory for %u tokens", (unsigned)rows);
    if (!status)
        status =
            tvlmc_gguf_put_string_array(k->w, "tokenizer.ggml.tokens", list.texts, rows, k->c->err);
    if (!status)
        status = tvlmc_gguf_put_i32_array(k->w, "tokenizer.ggml.token_type", list.types, rows,
                                          k->c->err);
    free(list.texts);
    free(list.types);
    free(list.pads);
    return status;
}

/* How literal tokens are matched, where it is not the plain way. */
static void put_added(tvlmc_keys *k, uint32_t n)
{
    const tvlm_vocab *v = &k->c->tokenizer.vocab;
    size_t at = 0;
    int32_t *pairs = k->status ? NULL : malloc(2 * ((size_t)n + 1) * sizeof *pairs);
    if (k->status) return;
    if (!pairs) k->status = tvlm_fail(k->c->err, TVLM_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; pairs && i < n; i++)
        if (v->added[i]) {
            pairs[at++] = (int32_t)i;
            pairs[at++] = v->added[i];
        }
    if (at)
        k->status = tvlmc_gguf_put_i32_array(k->w, "tinyvlm.added_tokens", pairs, at, k->c->err);
    free(pairs);
}

static void put_tokenizer(tvlmc_keys *k, uint32_t vocab_rows)
{
    const tvlmc_tokenizer_files *t = &k->c->tokenizer;
    const tvlmc_hf_config *h = &k->c->config;
    uint32_t n = t->vocab.n_tokens;
    /* the engine places images itself: their stand-in must never be read or produced as text */
    if (h->image_token == (int64_t)n - 1 && tvlm_str_eq(t->vocab.tokens[n - 1], "<image>")) n--;
    if (n > vocab_rows && !k->status)
        k->status = tvlm_fail(k->c->err, TVLM_ERR_FORMAT,
                              "the tokenizer has %u tokens, the embeddings only %u rows",
                              (unsigned)n, (unsigned)vocab_rows);
    tvlmc_keys_string(k, "tokenizer.ggml.model", "gpt2");
    tvlmc_keys_string(k, "tokenizer.ggml.pre", tvlmc_pretokenizer_name(t->vocab.pre));
    if (!k->status) k->status = put_tokens(k, n, vocab_rows);
    if (!k->status)
        k->status = tvlmc_gguf_put_string_array(k->w, "tokenizer.ggml.merges", t->vocab.merges,
                                                t->vocab.n_merges, k->c->err);
    put_added(k, n);
    put_ids(k, n);
    if (*t->chat_template) tvlmc_keys_string(k, "tokenizer.chat_template", t->chat_template);
}

tvlm_status tvlmc_write_metadata(tvlmc_conversion *c, const char *dir, tvlmc_gguf_writer *w)
{
    const tvlmc_family *family = c->config.family;
    tvlmc_keys k = {c, w, family->arch, TVLM_OK};
    const tvlmc_source *embd = tvlmc_checkpoint_find(&c->checkpoint, "model.embed_tokens.weight");
    if (embd->tensor->shape[0] > MAX_ROWS)
        return tvlm_fail(c->err, TVLM_ERR_LIMIT, "tensor '%s': %llu rows, at most %u are supported",
                         embd->tensor->name, (unsigned long long)embd->tensor->shape[0], MAX_ROWS);
    uint32_t rows = (uint32_t)embd->tensor->shape[0];
    tvlmc_keys_string(&k, "general.architecture", k.arch);
    put_name(&k, dir);
    put_decoder(&k, rows);
    if (family->put_vision) family->put_vision(&k);
    put_tokenizer(&k, rows);
    return k.status ? k.status : tvlmc_put_file_type(w, c->params->type, c->err);
}
