/* SPDX-License-Identifier: MIT
 * Metadata -> hyper-parameters. Whatever a later stage relies on is checked here, naming the key.
 */
#include "model/arch.h"
#include "model/keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Keys that may hold what is so anyway, and nothing else. */
static void read_implied(tvlm_reader *r, const tvlm_decoder_config *c)
{
    /* linear without a factor scales nothing; factors have to be neutral whatever the type */
    static const char *const scalings[] = {"none", "linear", ""};
    char key[128];
    double usual = 1.0 / sqrt((double)c->head_dim), scale = 0;
    bool causal = true;
    tvlm_read_name(r, tvlm_reader_key(r, "rope.scaling.type", key), scalings, 3, "none");
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_bool(r->gguf, tvlm_reader_key(r, "attention.causal", key),
                                           false, &causal, r->err));
    if (!r->status && !causal)
        tvlm_reader_fail(
            r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key '%s': only true is supported", key));
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_f64(r->gguf, tvlm_reader_key(r, "attention.scale", key),
                                          false, &scale, r->err));
    if (!r->status && scale != 0 && !(fabs(scale - usual) <= 1e-6))
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key '%s': %g, only 1 / sqrt(head size) = %g is supported",
                                      key, scale, usual));
    tvlm_read_u32(r, tvlm_reader_key(r, "embedding_length_out", key), c->n_embd, c->n_embd,
                  c->n_embd);
}

static void read_decoder(tvlm_reader *r, bool ours, tvlm_decoder_config *c)
{
    char key[128];
    c->n_layers = tvlm_read_u32(r, tvlm_reader_key(r, "block_count", key), 0, 1, 1024);
    c->n_embd = tvlm_read_u32(r, tvlm_reader_key(r, "embedding_length", key), 0, 8, 65536);
    c->n_ff = tvlm_read_u32(r, tvlm_reader_key(r, "feed_forward_length", key), 0, 1, 1u << 20);
    c->n_heads = tvlm_read_u32(r, tvlm_reader_key(r, "attention.head_count", key), 0, 1, 1024);
    c->n_kv_heads =
        tvlm_read_u32(r, tvlm_reader_key(r, "attention.head_count_kv", key), c->n_heads, 1, 1024);
    c->n_ctx_train = tvlm_read_u32(r, tvlm_reader_key(r, "context_length", key), 0, 1, 1u << 20);
    c->rms_eps = (float)tvlm_read_f64(
        r, tvlm_reader_key(r, "attention.layer_norm_rms_epsilon", key), 0, 1e-12, 1.0);
    double usual = ours ? 0 : 10000.0; /* left out by others where it is that */
    c->rope_theta = tvlm_read_f64(r, tvlm_reader_key(r, "rope.freq_base", key), usual, 1.0, 1e12);
    if (r->status) return;
    c->head_dim = tvlm_read_u32(r, tvlm_reader_key(r, "attention.key_length", key),
                                c->n_embd / c->n_heads, 8, 1024);
    uint32_t v_dim =
        tvlm_read_u32(r, tvlm_reader_key(r, "attention.value_length", key), c->head_dim, 8, 1024);
    uint32_t rope_dim =
        tvlm_read_u32(r, tvlm_reader_key(r, "rope.dimension_count", key), c->head_dim, 1, 1024);
    if (r->status) return;
    if (c->n_heads % c->n_kv_heads)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                      "%u attention heads do not share %u key heads",
                                      (unsigned)c->n_heads, (unsigned)c->n_kv_heads));
    else if (c->head_dim % 8 || v_dim != c->head_dim || rope_dim != c->head_dim)
        tvlm_reader_fail(
            r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "head sizes: keys %u, values %u, rotated %u; only equal multiples of 8 "
                         "are supported",
                         (unsigned)c->head_dim, (unsigned)v_dim, (unsigned)rope_dim));
    if (!r->status) read_implied(r, c);
}

static void read_vocabulary(tvlm_reader *r, tvlm_config *c)
{
    static const char *const models[] = {"gpt2"};
    static const char *const pres[] = {"qwen2", "smollm", "gpt-2", "llama-bpe"};
    const tvlm_gguf_kv *tokens = tvlm_gguf_find(r->gguf, "tokenizer.ggml.tokens");
    tvlm_read_name(r, "tokenizer.ggml.model", models, 1, NULL);
    c->pre = (tvlm_pretokenizer)tvlm_read_name(r, "tokenizer.ggml.pre", pres, 4, NULL);
    if (!r->status && (!tokens || !tokens->is_array || tokens->type != TVLM_GGUF_STRING ||
                       !tokens->n || tokens->n > 1u << 20))
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                      "key 'tokenizer.ggml.tokens': expected an array of strings"));
    if (r->status) return;
    char key[128];
    uint32_t n = (uint32_t)tokens->n, ids[3] = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
    const char *names[3] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                            "tokenizer.ggml.eot_token_id"};
    int32_t *out[3] = {&c->bos_id, &c->eos_id, &c->eot_id};
    for (int i = 0; i < 3; i++) {
        tvlm_reader_fail(r, tvlm_gguf_u32(r->gguf, names[i], false, &ids[i], r->err));
        if (!r->status && ids[i] != UINT32_MAX && ids[i] >= n)
            tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %u is no token",
                                          names[i], (unsigned)ids[i]));
        *out[i] = ids[i] == UINT32_MAX ? -1 : (int32_t)ids[i];
    }
    uint32_t eom = ids[1];
    if (!r->status)
        tvlm_reader_fail(
            r, tvlm_gguf_u32(r->gguf, "tokenizer.ggml.eom_token_id", false, &eom, r->err));
    if (!r->status && eom != ids[1] && eom != ids[2])
        tvlm_reader_fail(
            r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                         "key 'tokenizer.ggml.eom_token_id': a third token that ends the answer is "
                         "not supported"));
    c->add_bos =
        c->pre == TVLM_PRE_LLAMA3; /* as in llama.cpp, whose older files leave the key out */
    tvlm_reader_fail(r, r->status ? r->status
                                  : tvlm_gguf_bool(r->gguf, "tokenizer.ggml.add_bos_token", false,
                                                   &c->add_bos, r->err));
    const tvlm_gguf_tensor *table = tvlm_gguf_find_tensor(r->gguf, "token_embd.weight");
    uint32_t rows =
        table && table->n_dims && table->shape[0] <= UINT32_MAX ? (uint32_t)table->shape[0] : n;
    c->lm.n_vocab = tvlm_read_u32(r, tvlm_reader_key(r, "vocab_size", key), rows, 1, 1u << 20);
}

static void read_chat(tvlm_reader *r, tvlm_config *c)
{
    tvlm_str name = tvlm_read_string(r, "tinyvlm.chat_template", false, "");
    tvlm_str jinja = tvlm_read_string(r, "tokenizer.chat_template", false, "");
    if (r->status) return;
    char text[32];
    snprintf(text, sizeof text, "%.*s", name.len > 31 ? 31 : (int)name.len, name.data);
    c->chat = !name.len                 ? tvlm_chat_recognise(jinja)
              : tvlm_str_eq(name, text) ? tvlm_chat_from_name(text)
                                        : TVLM_CHAT_NONE; /* too long, or with a zero inside */
    if (name.len && c->chat == TVLM_CHAT_NONE)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key 'tinyvlm.chat_template': '%s' is not known",
                                      tvlm_show(name).text));
}

static void get_rgb(tvlm_reader *r, const char *key, double out[3])
{
    if (!r->status) tvlm_reader_fail(r, tvlm_gguf_f64_array(r->gguf, key, true, out, 3, r->err));
    for (int i = 0; i < 3 && !r->status; i++)
        if (!(fabs(out[i]) <= 1e6)) /* true for NaN */
            tvlm_reader_fail(
                r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %g is out of range", key, out[i]));
}

/* Left out where nothing is done. */
static void read_normalisation(tvlm_reader *r, tvlm_preprocess_config *p)
{
    double mean[3] = {0, 0, 0}, std[3] = {1, 1, 1};
    if (tvlm_gguf_find(r->gguf, "vision.preprocess.mean"))
        get_rgb(r, "vision.preprocess.mean", mean);
    if (tvlm_gguf_find(r->gguf, "vision.preprocess.std")) get_rgb(r, "vision.preprocess.std", std);
    for (int i = 0; i < 3 && !r->status; i++) {
        p->mean[i] = (float)mean[i];
        p->std[i] = (float)std[i];
        if (!(std[i] >= 1e-6))
            tvlm_reader_fail(r,
                             tvlm_fail(r->err, TVLM_ERR_FORMAT,
                                       "key 'vision.preprocess.std': %g is out of range", std[i]));
    }
}

static void read_preprocess(tvlm_reader *r, bool splits, tvlm_preprocess_config *p)
{
    static const char *const modes[] = {"pad", "crop", "squash", "split"};
    static const tvlm_fit fits[] = {TVLM_FIT_PAD, TVLM_FIT_CROP, TVLM_FIT_SQUASH, TVLM_FIT_SQUASH};
    static const char *const filters[] = {"bicubic", "bilinear", "lanczos"};
    p->image_size = tvlm_read_u32(r, "vision.image_size", 0, 32, 8192);
    unsigned mode = tvlm_read_name(r, "vision.preprocess.mode", modes, splits ? 4 : 3, NULL);
    p->fit = fits[mode];
    if (mode == 3) /* the reference's own limit */
        p->split_edge =
            tvlm_read_u32(r, "vision.preprocess.split_edge", 0, p->image_size, TVLM_MAX_SPLIT_EDGE);
    p->filter = (tvlm_filter)tvlm_read_name(r, "vision.preprocess.filter", filters, 3, "bicubic");
    uint32_t color[3] = {0, 0, 0};
    size_t n = 0;
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_u32_list(r->gguf, "vision.preprocess.pad_color", false, color,
                                               3, &n, r->err));
    if (!r->status && n && (n != 3 || color[0] > 255 || color[1] > 255 || color[2] > 255))
        tvlm_reader_fail(
            r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                         "key 'vision.preprocess.pad_color': expected 3 values in 0..255"));
    for (int i = 0; i < 3; i++)
        p->pad_color[i] = (uint8_t)color[i];
    get_rgb(r, "vision.preprocess.scale", p->scale);
    get_rgb(r, "vision.preprocess.bias", p->bias);
    read_normalisation(r, p);
}

static void check_tower(tvlm_reader *r, const tvlm_arch *arch)
{
    tvlm_str tower = tvlm_read_string(r, "vision.tower", true, "");
    if (!r->status && !tvlm_str_eq(tower, arch->tower))
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key 'vision.tower': '%s' does not go with architecture '%s'",
                                      tvlm_show(tower).text, arch->name));
}

static void read_vision(tvlm_reader *r, tvlm_config *c)
{
    read_preprocess(r, c->arch->splits, &c->preprocess);
    c->arch->read_config(r, c);
}

static const tvlm_arch *read_arch(tvlm_reader *r)
{
    tvlm_str name = tvlm_read_string(r, "general.architecture", true, "");
    for (size_t i = 0; tvlm_archs[i] && !r->status; i++)
        if (tvlm_str_eq(name, tvlm_archs[i]->name)) return tvlm_archs[i];
    tvlm_reader_fail(r, r->status ? r->status
                                  : tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                              "key 'general.architecture': '%s' is not supported",
                                              tvlm_show(name).text));
    return NULL;
}

/* Files that are no model say so where they are of llama.cpp. */
static void read_type(tvlm_reader *r)
{
    tvlm_str type = tvlm_read_string(r, "general.type", false, "model");
    if (r->status || tvlm_str_eq(type, "model")) return;
    const char *hint = tvlm_str_eq(type, "adapter") ? ": merge the adapter into its model first"
                       : tvlm_str_eq(type, "mmproj")
                           ? ": join it with its text model by \"tinyvlm convert TEXT.gguf "
                             "OUT.gguf --mmproj FILE\""
                           : "";
    tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                  "key 'general.type': '%s' is not a model%s", tvlm_show(type).text,
                                  hint));
}

tvlm_status tvlm_config_read(const tvlm_gguf *gguf, tvlm_config *out, tvlm_error *err)
{
    tvlm_reader r = {gguf, "", err, TVLM_OK};
    *out = (tvlm_config){.bos_id = -1, .eos_id = -1, .eot_id = -1};
    read_type(&r);
    out->arch = read_arch(&r);
    if (r.status) return r.status;
    r.prefix = out->arch->name;
    out->name = tvlm_read_string(&r, "general.name", false, "");
    out->license = tvlm_read_string(&r, "general.license", false, "");
    out->description = tvlm_read_string(&r, "general.description", false, "");
    out->describe_prompt =
        tvlm_read_string(&r, "tinyvlm.describe_prompt", false, "Describe the image.");
    uint32_t usual = out->arch->describe_beams ? out->arch->describe_beams : 1;
    out->describe_beams = tvlm_read_u32(&r, "tinyvlm.describe_beams", usual, 1, TVLM_MAX_BEAMS);
    if (tvlm_arch_sees(out->arch)) check_tower(&r, out->arch);
    if (!r.status) r.status = tvlm_keys_check(gguf, out->arch, err);
    out->lm = out->arch->decoder;
    read_decoder(&r, out->arch->ours, &out->lm);
    read_vocabulary(&r, out);
    read_chat(&r, out);
    if (tvlm_arch_sees(out->arch)) read_vision(&r, out);
    return r.status;
}
