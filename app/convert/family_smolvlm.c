/* SPDX-License-Identifier: MIT
 * SmolVLM (idefics3) and SmolVLM2 (smolvlm): SigLIP, pixel shuffle, Llama. */
#include "convert/family.h"
#include "convert/json_file.h"
#include "convert/pair.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config.json, preprocessor_config.json ---- */

/* What is left out has transformers' defaults. */
static tvlm_status read_tower(const json_t *config, tvlmc_hf_config *out, tvlm_error *err)
{
    const json_t *v = json_object_get(config, "vision_config");
    tvlmc_hf_siglip *s = &out->siglip;
    *s = (tvlmc_hf_siglip){.n_layers = 12,
                           .d = 1152,
                           .ff = 3072,
                           .n_heads = 16,
                           .table_size = 224,
                           .patch_size = 32,
                           .shuffle = 2,
                           .ln_eps = 1e-6};
    if (!json_is_object(v))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'vision_config' is missing");
    TVLM_TRY(tvlmc_hf_must_be(v, "hidden_act", "gelu_pytorch_tanh", err));
    TVLM_TRY(tvlmc_hf_must_equal(v, "num_channels", 3, err));
    TVLM_TRY(tvlmc_json_u32(v, "num_hidden_layers", false, 1, 256, &s->n_layers, err));
    TVLM_TRY(tvlmc_json_u32(v, "hidden_size", false, 8, 16384, &s->d, err));
    TVLM_TRY(tvlmc_json_u32(v, "intermediate_size", false, 1, 65536, &s->ff, err));
    TVLM_TRY(tvlmc_json_u32(v, "num_attention_heads", false, 1, 1024, &s->n_heads, err));
    TVLM_TRY(tvlmc_json_u32(v, "image_size", false, 1, TVLMC_HF_MAX_IMAGE, &s->table_size, err));
    TVLM_TRY(tvlmc_json_u32(v, "patch_size", false, 1, 64, &s->patch_size, err));
    TVLM_TRY(tvlmc_json_f64(v, "layer_norm_eps", false, 1e-12, 1, &s->ln_eps, err));
    TVLM_TRY(tvlmc_json_u32(config, "scale_factor", false, 1, 16, &s->shuffle, err));
    if (s->patch_size > s->table_size)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'patch_size': %u of an image of %u",
                         (unsigned)s->patch_size, (unsigned)s->table_size);
    return TVLM_OK;
}

static tvlm_status must_be_on(const json_t *p, const char *key, tvlm_error *err)
{
    bool on = true;
    TVLM_TRY(tvlmc_json_bool(p, key, &on, err));
    return on ? TVLM_OK
              : tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "key '%s': 'false' is not supported", key);
}

static tvlm_status read_longest_edge(const json_t *p, const char *key, uint32_t most, uint32_t *out,
                                     tvlm_error *err)
{
    const json_t *size = json_object_get(p, key);
    if (!json_is_object(size))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected {\"longest_edge\": N}", key);
    return tvlmc_json_u32(size, "longest_edge", true, 32, most, out, err);
}

static tvlm_status read_preprocessor(const json_t *p, tvlmc_hf_config *out, tvlm_error *err)
{
    static const char *const on[] = {"do_resize", "do_rescale", "do_normalize",
                                     "do_image_splitting"};
    tvlmc_hf_siglip *s = &out->siglip;
    double rescale = 1.0 / 255.0;
    for (size_t i = 0; i < TVLM_COUNT(on); i++)
        TVLM_TRY(must_be_on(p, on[i], err));
    TVLM_TRY(tvlmc_hf_must_equal(p, "resample", 1, err)); /* PIL's number of Lanczos */
    TVLM_TRY(read_longest_edge(p, "size", 4096, &s->split_edge, err));
    TVLM_TRY(read_longest_edge(p, "max_image_size", 4096, &out->image_size, err));
    TVLM_TRY(tvlmc_json_f64(p, "rescale_factor", false, 1e-6, 1e3, &rescale, err));
    for (int i = 0; i < 3; i++) {
        out->scale[i] = rescale;
        s->mean[i] = s->std[i] = 0.5;
    }
    TVLM_TRY(tvlmc_hf_read_rgb(p, "image_mean", s->mean, err));
    TVLM_TRY(tvlmc_hf_read_rgb(p, "image_std", s->std, err));
    if (s->split_edge < out->image_size || s->split_edge % 2 || out->image_size % s->patch_size)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "key 'size': longest_edge %u beside 'max_image_size' %u and patches of %u",
                         (unsigned)s->split_edge, (unsigned)out->image_size,
                         (unsigned)s->patch_size);
    return TVLM_OK;
}

static tvlm_status read_vision(const json_t *config, const json_t *preprocessor,
                               tvlmc_hf_config *out, tvlm_error *err)
{
    TVLM_TRY(read_tower(config, out, err));
    if (!preprocessor) return tvlm_fail(err, TVLM_ERR_IO, "there is no preprocessor_config.json");
    return read_preprocessor(preprocessor, out, err);
}

/* ---- tensors ---- */

#define TOWER "model.vision_model."

/* NAME.weight and, where it has one, NAME.bias: [n][k], [n]. */
static void plan_affine(tvlmc_conversion *c, const char *to, const char *from, uint64_t n,
                        uint64_t k)
{
    char name[96], source[128];
    snprintf(name, sizeof name, "%s.weight", to);
    snprintf(source, sizeof source, "%s.weight", from);
    if (k)
        tvlmc_plan_linear(c, name, source, TVLMC_PART_TOWER, n, k, 0);
    else
        tvlmc_plan_vector(c, name, source, n);
    snprintf(name, sizeof name, "%s.bias", to);
    snprintf(source, sizeof source, "%s.bias", from);
    tvlmc_plan_vector(c, name, source, n);
}

/* All values of a tensor of n_dims whose shape multiplies to n; NULL after a failure. */
static float *take_values(tvlmc_conversion *c, const char *source, uint64_t n, uint64_t rows)
{
    const tvlmc_st_tensor *t = tvlmc_take(c, source, true);
    if (!t) return NULL;
    if (t->n != n || t->n_dims < 2 || t->shape[0] != rows) {
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_FORMAT,
                                           "tensor '%s': %zu values in %" PRIu64
                                           " rows, expected %" PRIu64 " in %" PRIu64,
                                           t->name, t->n, t->shape[0], n, rows));
        return NULL;
    }
    float *values = malloc(t->n * sizeof *values);
    if (!values) tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory"));
    if (values) tvlmc_conversion_fail(c, tvlmc_conversion_read(c, t, 0, t->n, values));
    if (!c->status) return values;
    free(values);
    return NULL;
}

/* The convolution of the patches as a matrix: its weights lie so already. */
static void plan_patches(tvlmc_conversion *c)
{
    const tvlmc_hf_siglip *s = &c->config.siglip;
    uint64_t k = 3 * (uint64_t)s->patch_size * s->patch_size;
    float *values = take_values(c, TOWER "embeddings.patch_embedding.weight", s->d * k, s->d);
    tvlm_type type = tvlmc_linear_type(c, "v.patch_embd.weight", TVLMC_PART_TOWER, k);
    tvlmc_plan_values(c, "v.patch_embd.weight", type, (uint64_t[]){s->d, k}, 2, values);
    tvlmc_plan_vector(c, "v.patch_embd.bias", TOWER "embeddings.patch_embedding.bias", s->d);
}

/* The row of the table, of t a side, that patch i of `grid` a side takes: as transformers' buckets,
 * in float32. */
static uint32_t bucket(uint32_t i, uint32_t grid, uint32_t t)
{
    float at = (float)i * (1.0f / (float)grid), most = (float)(1.0 - 1e-6);
    uint32_t n = 0;
    at = at < most ? at : most;
    while (n + 1 < t && (float)(1.0 / t + n * (1.0 / t)) <= at)
        n++;
    return n;
}

static void plan_positions(tvlmc_conversion *c)
{
    const tvlmc_hf_siglip *s = &c->config.siglip;
    uint32_t t = s->table_size / s->patch_size, grid = c->config.image_size / s->patch_size;
    uint64_t n = (uint64_t)grid * grid, rows = (uint64_t)t * t;
    float *table = take_values(c, TOWER "embeddings.position_embedding.weight", rows * s->d, rows);
    float *values = table ? malloc((size_t)n * s->d * sizeof *values) : NULL;
    if (table && !values)
        tvlmc_conversion_fail(c, tvlm_fail(c->err, TVLM_ERR_MEMORY, "out of memory"));
    for (uint32_t i = 0; values && i < n; i++) {
        size_t row = (size_t)bucket(i / grid, grid, t) * t + bucket(i % grid, grid, t);
        for (uint32_t j = 0; j < s->d; j++)
            values[(size_t)i * s->d + j] = table[row * s->d + j];
    }
    free(table);
    tvlmc_plan_values(c, "v.position_embd.weight", TVLM_TYPE_F32, (uint64_t[]){n, s->d}, 2, values);
}

static void plan_layer(tvlmc_conversion *c, uint32_t layer)
{
    const tvlmc_hf_siglip *s = &c->config.siglip;
    const struct {
        const char *to, *from;
        uint64_t n, k;
    } parts[] = {
        {"ln1",      "layer_norm1",        s->d,  0    },
        {"attn_q",   "self_attn.q_proj",   s->d,  s->d },
        {"attn_k",   "self_attn.k_proj",   s->d,  s->d },
        {"attn_v",   "self_attn.v_proj",   s->d,  s->d },
        {"attn_out", "self_attn.out_proj", s->d,  s->d },
        {"ln2",      "layer_norm2",        s->d,  0    },
        {"ffn_up",   "mlp.fc1",            s->ff, s->d },
        {"ffn_down", "mlp.fc2",            s->d,  s->ff},
    };
    for (size_t i = 0; i < TVLM_COUNT(parts) && !c->status; i++) {
        char to[64], from[96];
        snprintf(to, sizeof to, "v.blk.%u.%s", (unsigned)layer, parts[i].to);
        snprintf(from, sizeof from, TOWER "encoder.layers.%u.%s", (unsigned)layer, parts[i].from);
        plan_affine(c, to, from, parts[i].n, parts[i].k);
    }
}

static void plan_vision(tvlmc_conversion *c)
{
    const tvlmc_hf_siglip *s = &c->config.siglip;
    plan_patches(c);
    plan_positions(c);
    for (uint32_t i = 0; i < s->n_layers && !c->status; i++)
        plan_layer(c, i);
    plan_affine(c, "v.post_ln", TOWER "post_layernorm", s->d, 0);
    tvlmc_plan_linear(c, "mm.model.fc.weight", "model.connector.modality_projection.proj.weight",
                      TVLMC_PART_LAYER, c->config.n_embd, (uint64_t)s->d * s->shuffle * s->shuffle,
                      0);
}

/* ---- keys ---- */

static void put_vision(tvlmc_keys *k)
{
    const tvlmc_hf_config *h = &k->c->config;
    const tvlmc_hf_siglip *s = &h->siglip;
    tvlmc_keys_vision(k, "siglip", h->image_size, "split", "lanczos");
    tvlmc_keys_rgb(k, "vision.preprocess.mean", s->mean);
    tvlmc_keys_rgb(k, "vision.preprocess.std", s->std);
    tvlmc_keys_u32(k, "vision.preprocess.split_edge", s->split_edge);
    tvlmc_keys_u32(k, "vision.siglip.block_count", s->n_layers);
    tvlmc_keys_u32(k, "vision.siglip.embedding_length", s->d);
    tvlmc_keys_u32(k, "vision.siglip.feed_forward_length", s->ff);
    tvlmc_keys_u32(k, "vision.siglip.head_count", s->n_heads);
    tvlmc_keys_u32(k, "vision.siglip.patch_size", s->patch_size);
    tvlmc_keys_f32(k, "vision.siglip.layer_norm_epsilon", s->ln_eps);
    tvlmc_keys_u32(k, "vision.siglip.shuffle", s->shuffle);
    tvlmc_keys_string(k, "tinyvlm.describe_prompt", "Can you describe this image?");
    tvlmc_keys_string(k, "tinyvlm.chat_template", "smolvlm");
}

/* ---- llama.cpp's mmproj ---- */

#define KEY "clip.vision."
static const char *const mmproj_keys[] = {KEY "image_size",
                                          KEY "preproc_image_size",
                                          KEY "patch_size",
                                          KEY "embedding_length",
                                          KEY "feed_forward_length",
                                          KEY "block_count",
                                          KEY "attention.head_count",
                                          KEY "attention.layer_norm_epsilon",
                                          KEY "projector.scale_factor",
                                          KEY "image_mean",
                                          KEY "image_std",
                                          NULL};

static void read_rgb(tvlm_reader *r, const char *key, double out[3])
{
    if (!r->status) tvlm_reader_fail(r, tvlm_gguf_f64_array(r->gguf, key, true, out, 3, r->err));
}

static void must_use_gelu(tvlm_reader *r)
{
    bool on = false;
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_bool(r->gguf, "clip.use_gelu", true, &on, r->err));
    if (!r->status && !on)
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                      "key 'clip.use_gelu': only true is "
                                      "supported"));
}

/* llama.cpp gives patch i the row i, transformers its bucket: the same for all but odd sizes. */
static void check_positions(tvlm_reader *r, uint32_t grid)
{
    for (uint32_t i = 0; i < grid && !r->status; i++)
        if (bucket(i, grid, grid) != i)
            tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                          "key '" KEY "image_size': the positions of %u patches a "
                                          "side are not those that the model was trained with: "
                                          "convert its checkpoint",
                                          (unsigned)grid));
}

/* All released checkpoints enlarge images to four frames a side. */
static void read_split(tvlm_reader *r, tvlmc_hf_config *out, char note[512])
{
    uint32_t usual = 4 * out->image_size < 4096 ? 4 * out->image_size : 4096;
    if (r->status) return;
    out->siglip.split_edge =
        tvlm_read_u32(r, KEY "preproc_image_size", usual, out->image_size, 4096);
    if (!tvlm_gguf_find(r->gguf, KEY "preproc_image_size"))
        snprintf(note, 512,
                 "it does not say how large images are before they are split; %u pixels are taken, "
                 "as SmolVLM's checkpoints have it",
                 (unsigned)usual);
}

/* llama.cpp's converter writes 1e-5 where a checkpoint leaves it to transformers, whose default is
 * 1e-6: no fault of the file, but its results are not those of the checkpoint to the last digit. */
static void tell_epsilon(double eps, char note[512])
{
    size_t n = strlen(note);
    if (fabs(eps - 1e-5) < 1e-9)
        snprintf(note + n, 512 - n,
                 "%sits layer norm epsilon of 1e-05 is kept; the checkpoint's may be 1e-06: "
                 "convert the checkpoint for exact results",
                 n ? "; " : "");
}

static void read_mmproj(tvlm_reader *r, tvlmc_hf_config *out, char note[512])
{
    tvlmc_hf_siglip *s = &out->siglip;
    must_use_gelu(r);
    out->image_size = s->table_size = tvlm_read_u32(r, KEY "image_size", 0, 32, 4096);
    s->patch_size = tvlm_read_u32(r, KEY "patch_size", 0, 1, 64);
    s->d = tvlm_read_u32(r, KEY "embedding_length", 0, 8, 16384);
    s->ff = tvlm_read_u32(r, KEY "feed_forward_length", 0, 1, 65536);
    s->n_layers = tvlm_read_u32(r, KEY "block_count", 0, 1, 256);
    s->n_heads = tvlm_read_u32(r, KEY "attention.head_count", 0, 1, 1024);
    s->ln_eps = tvlm_read_f64(r, KEY "attention.layer_norm_epsilon", 0, 1e-12, 1);
    s->shuffle = tvlm_read_u32(r, KEY "projector.scale_factor", 0, 1, 16);
    read_rgb(r, KEY "image_mean", s->mean);
    read_rgb(r, KEY "image_std", s->std);
    for (int i = 0; i < 3; i++)
        out->scale[i] = 1.0 / 255.0;
    if (!r->status) check_positions(r, out->image_size / s->patch_size);
    read_split(r, out, note);
    tell_epsilon(s->ln_eps, note);
}

/* Older files call the first matrix of the two "down". */
static bool is_swapped(const tvlm_gguf *g, const tvlmc_hf_siglip *s, unsigned layer)
{
    char name[64];
    snprintf(name, sizeof name, "v.blk.%u.ffn_down.weight", layer);
    const tvlm_gguf_tensor *t = tvlm_gguf_find_tensor(g, name);
    return t && t->n_dims == 2 && t->shape[0] == s->ff && t->shape[1] == s->d && s->ff != s->d;
}

static void adapt(const tvlm_gguf *g, const tvlmc_hf_config *config, tvlmc_taken *t)
{
    unsigned layer;
    char which[8], part[8];
    if (!strcmp(t->name, "v.patch_embd.weight") && t->n_dims == 4) {
        t->n_dims = 2; /* as a matrix: its values lie so already */
        t->shape[1] = t->tensor->n_elements / t->shape[0];
    }
    bool ffn = sscanf(t->name, "v.blk.%u.ffn_%7[a-z].%7s", &layer, which, part) == 3;
    if (!ffn || !is_swapped(g, &config->siglip, layer)) return;
    snprintf(t->name, sizeof t->name, "v.blk.%u.ffn_%s.%s", layer,
             strcmp(which, "up") ? "up" : "down", part);
}

static const tvlmc_mmproj mmproj = {
    .projector = "idefics3", .keys = mmproj_keys, .read = read_mmproj, .adapt = adapt};

/* Both checkpoints hold the same model. */
#define SMOLVLM(type)                                                                              \
    {.model_type = (type),                                                                         \
     .arch = "smolvlm",                                                                            \
     .rope_pairs = true,                                                                           \
     .text_type = "llama",                                                                         \
     .read_vision = read_vision,                                                                   \
     .plan_vision = plan_vision,                                                                   \
     .put_vision = put_vision,                                                                     \
     .mmproj = &mmproj}

const tvlmc_family tvlmc_family_smolvlm = SMOLVLM("idefics3");
const tvlmc_family tvlmc_family_smolvlm2 = SMOLVLM("smolvlm");
