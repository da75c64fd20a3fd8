/* SPDX-License-Identifier: MIT
 * Metadata -> hyper-parameters. Whatever a later stage relies on is checked here, naming the key.
 */
#include "model/config.h"
#include "model/keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const tvlm_gguf *gguf;
    const char *arch; /* prefix of the architecture's keys */
    tvlm_error *err;
    tvlm_status status; /* the first failure: later reads return at once */
} reader;

static void fail(reader *r, tvlm_status status)
{
    if (!r->status) r->status = status;
}

static const char *arch_key(const reader *r, const char *name, char key[128])
{
    snprintf(key, 128, "%s.%s", r->arch, name);
    return key;
}

/* An integer in lo..hi; absent: fallback, or an error when fallback is 0. */
static uint32_t get_u32(reader *r, const char *key, uint32_t fallback, uint32_t lo, uint32_t hi)
{
    uint32_t v = fallback;
    if (r->status) return v;
    fail(r, tvlm_gguf_u32(r->gguf, key, fallback == 0, &v, r->err));
    if (!r->status && (v < lo || v > hi))
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %u is not in %u..%u", key,
                          (unsigned)v, (unsigned)lo, (unsigned)hi));
    return v;
}

static double get_f64(reader *r, const char *key, double fallback, double lo, double hi)
{
    double v = fallback;
    if (r->status) return v;
    fail(r, tvlm_gguf_f64(r->gguf, key, fallback == 0, &v, r->err));
    if (!r->status && !(v >= lo && v <= hi)) /* false for NaN too */
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %g is out of range", key, v));
    return v;
}

static tvlm_str get_string(reader *r, const char *key, bool required, const char *fallback)
{
    tvlm_str v = {fallback, strlen(fallback)};
    if (!r->status) fail(r, tvlm_gguf_string(r->gguf, key, required, &v, r->err));
    return v;
}

/* One of a list of names -> its index. */
static unsigned get_name(reader *r, const char *key, const char *const *names, unsigned n,
                         const char *fallback)
{
    tvlm_str v = get_string(r, key, !fallback, fallback ? fallback : "");
    for (unsigned i = 0; i < n && !r->status; i++)
        if (tvlm_str_eq(v, names[i])) return i;
    fail(r, r->status ? r->status
                      : tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key '%s': '%s' is not supported",
                                  key, tvlm_show(v).text));
    return 0;
}

/* Keys that may hold what is so anyway, and nothing else. */
static void read_implied(reader *r, const tvlm_decoder_config *c)
{
    /* linear without a factor scales nothing; factors have to be neutral whatever the type */
    static const char *const scalings[] = {"none", "linear", ""};
    char key[128];
    double usual = 1.0 / sqrt((double)c->head_dim), scale = 0;
    bool causal = true;
    get_name(r, arch_key(r, "rope.scaling.type", key), scalings, 3, "none");
    if (!r->status)
        fail(r,
             tvlm_gguf_bool(r->gguf, arch_key(r, "attention.causal", key), false, &causal, r->err));
    if (!r->status && !causal)
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key '%s': only true is supported", key));
    if (!r->status)
        fail(r, tvlm_gguf_f64(r->gguf, arch_key(r, "attention.scale", key), false, &scale, r->err));
    if (!r->status && scale != 0 && !(fabs(scale - usual) <= 1e-6))
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                          "key '%s': %g, only 1 / sqrt(head size) = %g is supported", key, scale,
                          usual));
    get_u32(r, arch_key(r, "embedding_length_out", key), c->n_embd, c->n_embd, c->n_embd);
}

static void read_decoder(reader *r, tvlm_decoder_config *c)
{
    char key[128];
    /* the formats of others leave it out where it is 10000 */
    bool own = !strcmp(r->arch, "fastvlm") || !strcmp(r->arch, "tinyvlm");
    c->n_layers = get_u32(r, arch_key(r, "block_count", key), 0, 1, 1024);
    c->n_embd = get_u32(r, arch_key(r, "embedding_length", key), 0, 8, 65536);
    c->n_ff = get_u32(r, arch_key(r, "feed_forward_length", key), 0, 1, 1u << 20);
    c->n_heads = get_u32(r, arch_key(r, "attention.head_count", key), 0, 1, 1024);
    c->n_kv_heads = get_u32(r, arch_key(r, "attention.head_count_kv", key), c->n_heads, 1, 1024);
    c->n_ctx_train = get_u32(r, arch_key(r, "context_length", key), 0, 1, 1u << 20);
    c->rms_eps =
        (float)get_f64(r, arch_key(r, "attention.layer_norm_rms_epsilon", key), 0, 1e-12, 1.0);
    c->rope_theta = get_f64(r, arch_key(r, "rope.freq_base", key), own ? 0 : 10000.0, 1.0, 1e12);
    if (r->status) return;
    c->head_dim =
        get_u32(r, arch_key(r, "attention.key_length", key), c->n_embd / c->n_heads, 8, 1024);
    uint32_t v_dim = get_u32(r, arch_key(r, "attention.value_length", key), c->head_dim, 8, 1024);
    uint32_t rope_dim = get_u32(r, arch_key(r, "rope.dimension_count", key), c->head_dim, 1, 1024);
    if (r->status) return;
    if (c->n_heads % c->n_kv_heads)
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "%u attention heads do not share %u key heads",
                          (unsigned)c->n_heads, (unsigned)c->n_kv_heads));
    else if (c->head_dim % 8 || v_dim != c->head_dim || rope_dim != c->head_dim)
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                          "head sizes: keys %u, values %u, rotated %u; only equal multiples of 8 "
                          "are supported",
                          (unsigned)c->head_dim, (unsigned)v_dim, (unsigned)rope_dim));
    if (!r->status) read_implied(r, c);
}

static void read_vocabulary(reader *r, tvlm_config *c)
{
    static const char *const models[] = {"gpt2"};
    static const char *const pres[] = {"qwen2", "smollm", "gpt-2", "llama-bpe"};
    const tvlm_gguf_kv *tokens = tvlm_gguf_find(r->gguf, "tokenizer.ggml.tokens");
    get_name(r, "tokenizer.ggml.model", models, 1, NULL);
    c->pre = (tvlm_pretokenizer)get_name(r, "tokenizer.ggml.pre", pres, 4, NULL);
    if (!r->status && (!tokens || !tokens->is_array || tokens->type != TVLM_GGUF_STRING ||
                       !tokens->n || tokens->n > 1u << 20))
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                          "key 'tokenizer.ggml.tokens': expected an array of strings"));
    if (r->status) return;
    char key[128];
    uint32_t n = (uint32_t)tokens->n, ids[3] = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
    const char *names[3] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                            "tokenizer.ggml.eot_token_id"};
    int32_t *out[3] = {&c->bos_id, &c->eos_id, &c->eot_id};
    for (int i = 0; i < 3; i++) {
        fail(r, tvlm_gguf_u32(r->gguf, names[i], false, &ids[i], r->err));
        if (!r->status && ids[i] != UINT32_MAX && ids[i] >= n)
            fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %u is no token", names[i],
                              (unsigned)ids[i]));
        *out[i] = ids[i] == UINT32_MAX ? -1 : (int32_t)ids[i];
    }
    uint32_t eom = ids[1];
    if (!r->status)
        fail(r, tvlm_gguf_u32(r->gguf, "tokenizer.ggml.eom_token_id", false, &eom, r->err));
    if (!r->status && eom != ids[1] && eom != ids[2])
        fail(r,
             tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                       "key 'tokenizer.ggml.eom_token_id': a third token that ends the answer is "
                       "not supported"));
    c->add_bos =
        c->pre == TVLM_PRE_LLAMA3; /* as in llama.cpp, whose older files leave the key out */
    fail(r, r->status ? r->status
                      : tvlm_gguf_bool(r->gguf, "tokenizer.ggml.add_bos_token", false, &c->add_bos,
                                       r->err));
    const tvlm_gguf_tensor *table = tvlm_gguf_find_tensor(r->gguf, "token_embd.weight");
    uint32_t rows =
        table && table->n_dims && table->shape[0] <= UINT32_MAX ? (uint32_t)table->shape[0] : n;
    c->lm.n_vocab = get_u32(r, arch_key(r, "vocab_size", key), rows, 1, 1u << 20);
}

static void read_chat(reader *r, tvlm_config *c)
{
    tvlm_str name = get_string(r, "tinyvlm.chat_template", false, "");
    tvlm_str jinja = get_string(r, "tokenizer.chat_template", false, "");
    if (r->status) return;
    char text[32];
    snprintf(text, sizeof text, "%.*s", name.len > 31 ? 31 : (int)name.len, name.data);
    c->chat = !name.len                 ? tvlm_chat_recognise(jinja)
              : tvlm_str_eq(name, text) ? tvlm_chat_from_name(text)
                                        : TVLM_CHAT_NONE; /* too long, or with a zero inside */
    if (name.len && c->chat == TVLM_CHAT_NONE)
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                          "key 'tinyvlm.chat_template': '%s' is not known", tvlm_show(name).text));
}

static void get_rgb(reader *r, const char *key, double out[3])
{
    if (!r->status) fail(r, tvlm_gguf_f64_array(r->gguf, key, true, out, 3, r->err));
    for (int i = 0; i < 3 && !r->status; i++)
        if (!(fabs(out[i]) <= 1e6)) /* true for NaN */
            fail(r,
                 tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %g is out of range", key, out[i]));
}

static void read_preprocess(reader *r, tvlm_preprocess_config *p)
{
    static const char *const modes[] = {"pad", "crop", "squash"};
    static const tvlm_fit fits[] = {TVLM_FIT_PAD, TVLM_FIT_CROP, TVLM_FIT_SQUASH};
    static const char *const filters[] = {"bicubic", "bilinear"};
    p->image_size = get_u32(r, "vision.image_size", 0, 32, 8192);
    p->fit = fits[get_name(r, "vision.preprocess.mode", modes, 3, NULL)];
    p->filter = get_name(r, "vision.preprocess.filter", filters, 2, "bicubic") == 0
                    ? TVLM_FILTER_BICUBIC
                    : TVLM_FILTER_BILINEAR;
    uint32_t color[3] = {0, 0, 0};
    size_t n = 0;
    if (!r->status)
        fail(r, tvlm_gguf_u32_list(r->gguf, "vision.preprocess.pad_color", false, color, 3, &n,
                                   r->err));
    if (!r->status && n && (n != 3 || color[0] > 255 || color[1] > 255 || color[2] > 255))
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                          "key 'vision.preprocess.pad_color': expected 3 values in 0..255"));
    for (int i = 0; i < 3; i++)
        p->pad_color[i] = (uint8_t)color[i];
    get_rgb(r, "vision.preprocess.scale", p->scale);
    get_rgb(r, "vision.preprocess.bias", p->bias);
}

static void read_fastvit(reader *r, tvlm_config *c)
{
    size_t n = 0;
    if (!r->status)
        fail(r, tvlm_gguf_u32_list(r->gguf, "vision.fastvit.depths", true, c->depths,
                                   TVLM_MAX_STAGES, &n, r->err));
    c->n_stages = (uint32_t)n;
    for (size_t i = 0; i < n && !r->status; i++)
        if (c->depths[i] < 1 || c->depths[i] > 256)
            fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                              "key 'vision.fastvit.depths': %u is not in "
                              "1..256",
                              (unsigned)c->depths[i]));
    if (!r->status && n < 1)
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'vision.fastvit.depths': empty"));
    c->vision_head_dim = get_u32(r, "vision.fastvit.head_dim", 32, 8, 1024);
    c->vision_ln_eps = (float)get_f64(r, "vision.fastvit.layer_norm_epsilon", 1e-5, 1e-12, 1.0);
    if (!r->status && c->vision_head_dim % 8)
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                          "key 'vision.fastvit.head_dim': %u is no multiple of 8",
                          (unsigned)c->vision_head_dim));
    uint32_t stride = 4u << (n ? n - 1 : 0);
    if (!r->status && c->preprocess.image_size % stride)
        fail(r,
             tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'vision.image_size': %u is no multiple of %u",
                       (unsigned)c->preprocess.image_size, (unsigned)stride));
}

static void read_efficientnet(reader *r, tvlm_config *c)
{
    size_t n = 0, n_taps = 0;
    uint32_t stride;
    if (!r->status)
        fail(r, tvlm_gguf_u32_list(r->gguf, "vision.efficientnet.strides", true, c->strides,
                                   TVLM_MAX_BLOCKS, &n, r->err));
    c->n_blocks = (uint32_t)n;
    c->stem_stride = stride = get_u32(r, "vision.efficientnet.stem_stride", 2, 1, 4);
    if (!r->status)
        fail(r, tvlm_gguf_u32_list(r->gguf, "vision.efficientnet.taps", true, &c->tap_block, 1,
                                   &n_taps, r->err));
    if (r->status) return;
    if (n_taps != 1 || c->tap_block >= n) {
        fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT,
                          "key 'vision.efficientnet.taps': not one of the "
                          "%zu blocks",
                          n));
        return;
    }
    uint32_t tap = 0;
    for (size_t i = 0; i < n; i++) {
        if (c->strides[i] < 1 || c->strides[i] > 2) {
            fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key 'vision.efficientnet.strides': %u",
                              (unsigned)c->strides[i]));
            return;
        }
        stride = stride > 64 ? stride : stride * c->strides[i];
        tap = i == c->tap_block ? stride : tap;
    }
    if (tap != 16 || stride != 32 || c->preprocess.image_size % 32)
        fail(r,
             tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                       "vision.efficientnet: maps of stride %u and %u of a picture of %u; expected "
                       "16 and 32",
                       (unsigned)tap, (unsigned)stride, (unsigned)c->preprocess.image_size));
    tvlm_str quantization = get_string(r, "vision.quantization", false, "");
    c->vision_int8 = tvlm_str_eq(quantization, "int8");
    if (!r->status && quantization.len && !c->vision_int8)
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key 'vision.quantization': only int8"));
}

static void read_vision(reader *r, tvlm_config *c)
{
    static const char *const towers[] = {"fastvit", "efficientnet_lite"};
    unsigned tower = get_name(r, "vision.tower", towers, 2, NULL);
    read_preprocess(r, &c->preprocess);
    if (tower == 0) {
        c->tower = TVLM_TOWER_FASTVIT;
        read_fastvit(r, c);
    } else {
        c->tower = TVLM_TOWER_EFFICIENTNET_LITE;
        read_efficientnet(r, c);
    }
    bool pooled = c->arch == TVLM_ARCH_TINYVLM;
    if (!r->status && pooled != (c->tower == TVLM_TOWER_EFFICIENTNET_LITE))
        fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                          "key 'vision.tower': '%s' does not go with architecture '%s'",
                          towers[tower], r->arch));
    if (pooled) {
        c->pool_heads = get_u32(r, "tinyvlm.pool.head_count", 0, 1, 1024);
        c->pool_ln_eps = (float)get_f64(r, "tinyvlm.pool.layer_norm_epsilon", 1e-5, 1e-12, 1.0);
    }
}

static const char *const archs[] = {"llama", "qwen2", "fastvlm", "tinyvlm"};

const char *tvlm_arch_name(tvlm_arch arch)
{
    return (size_t)arch < TVLM_COUNT(archs) ? archs[arch] : NULL;
}

/* Files that are no model say so where they are of llama.cpp. */
static void read_type(reader *r)
{
    tvlm_str type = get_string(r, "general.type", false, "model");
    if (r->status || tvlm_str_eq(type, "model")) return;
    const char *hint = tvlm_str_eq(type, "adapter") ? ": merge the adapter into its model first"
                       : tvlm_str_eq(type, "mmproj")
                           ? ": here tower and decoder are one file, made by \"tinyvlm convert\""
                           : "";
    fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED, "key 'general.type': '%s' is not a model%s",
                      tvlm_show(type).text, hint));
}

tvlm_status tvlm_config_read(const tvlm_gguf *gguf, tvlm_config *out, tvlm_error *err)
{
    reader r = {gguf, "", err, TVLM_OK};
    *out = (tvlm_config){.bos_id = -1, .eos_id = -1, .eot_id = -1};
    read_type(&r);
    out->arch = (tvlm_arch)get_name(&r, "general.architecture", archs, TVLM_COUNT(archs), NULL);
    if (r.status) return r.status;
    r.arch = archs[out->arch];
    out->name = get_string(&r, "general.name", false, "");
    out->license = get_string(&r, "general.license", false, "");
    out->description = get_string(&r, "general.description", false, "");
    out->describe_prompt = get_string(&r, "tinyvlm.describe_prompt", false, "Describe the image.");
    bool sees = out->arch == TVLM_ARCH_FASTVLM || out->arch == TVLM_ARCH_TINYVLM;
    if (!r.status) r.status = tvlm_keys_check(gguf, r.arch, sees, err);
    read_decoder(&r, &out->lm);
    out->lm.rope_interleaved = out->arch == TVLM_ARCH_LLAMA;
    out->lm.cross_attention = out->arch == TVLM_ARCH_TINYVLM;
    read_vocabulary(&r, out);
    read_chat(&r, out);
    if (sees) read_vision(&r, out);
    return r.status;
}
