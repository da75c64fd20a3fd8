/* SPDX-License-Identifier: MIT */
#include "convert/family.h"
#include "convert/json_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tvlm_status refuse(const char *key, const char *value, tvlm_error *err)
{
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "key '%s': '%.64s' is not supported", key, value);
}

/* object[key], when given, must be `expected`. */
tvlm_status tvlmc_hf_must_be(const json_t *object, const char *key, const char *expected,
                             tvlm_error *err)
{
    const char *value = expected;
    TVLM_TRY(tvlmc_json_string(object, key, false, &value, err));
    return strcmp(value, expected) == 0 ? TVLM_OK : refuse(key, value, err);
}

tvlm_status tvlmc_hf_must_be_off(const json_t *object, const char *key, tvlm_error *err)
{
    bool on = false;
    TVLM_TRY(tvlmc_json_bool(object, key, &on, err));
    return on ? refuse(key, "true", err) : TVLM_OK;
}

/* An id or a list of ids, of which the first counts. */
int64_t tvlmc_hf_read_id(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_array(value)) value = json_array_get(value, 0);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value)
                                                                    : -1;
}

/* object[key], when given, must be this number. */
tvlm_status tvlmc_hf_must_equal(const json_t *object, const char *key, double expected,
                                tvlm_error *err)
{
    double value = expected;
    char text[32];
    TVLM_TRY(tvlmc_json_f64(object, key, false, -1e300, 1e300, &value, err));
    snprintf(text, sizeof text, "%g", value);
    return value == expected ? TVLM_OK : refuse(key, text, err);
}

/* Settings of relatives that these models do not compute: only their neutral values pass. */
static tvlm_status check_neutral(const json_t *text, tvlm_error *err)
{
    static const char *const off[] = {"use_sliding_window", "mlp_bias",         "use_qk_norm",
                                      "qk_layernorm",       "use_mrope",        "alibi",
                                      "use_alibi",          "parallel_residual"};
    static const char *const one[] = {
        "partial_rotary_factor", "rotary_pct",          "logit_scale",         "logits_scaling",
        "embedding_multiplier",  "residual_multiplier", "attention_multiplier"};
    static const char *const absent[] = {"final_logit_softcapping",
                                         "attn_logit_softcapping",
                                         "clip_qkv",
                                         "query_pre_attn_scalar",
                                         "num_local_experts",
                                         "num_experts",
                                         "scale_emb",
                                         "scale_depth"};
    for (size_t i = 0; i < TVLM_COUNT(off); i++)
        TVLM_TRY(tvlmc_hf_must_be_off(text, off[i], err));
    for (size_t i = 0; i < TVLM_COUNT(one); i++)
        TVLM_TRY(tvlmc_hf_must_equal(text, one[i], 1.0, err));
    for (size_t i = 0; i < TVLM_COUNT(absent); i++)
        TVLM_TRY(tvlmc_hf_must_equal(text, absent[i], 0.0, err));
    size_t i;
    json_t *type;
    json_array_foreach(json_object_get(text, "layer_types"), i, type)
    {
        const char *name = json_string_value(type);
        if (!name || strcmp(name, "full_attention") != 0)
            return refuse("layer_types", name ? name : "?", err);
    }
    return TVLM_OK;
}

/* The method by which the weights were quantised, if any: they are read as floats only. */
static tvlm_status check_not_quantised(const json_t *config, tvlm_error *err)
{
    static const char *const keys[] = {"quantization_config", "compression_config", "quantization"};
    for (size_t i = 0; i < TVLM_COUNT(keys); i++) {
        const json_t *value = json_object_get(config, keys[i]);
        const char *method = json_string_value(json_object_get(value, "quant_method"));
        if (json_is_object(value))
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "key '%s': the weights are quantised already (%.32s): convert the "
                             "original checkpoint",
                             keys[i], method ? method : "MLX");
    }
    return TVLM_OK;
}

/* A table's lists (of sections) and tables of its own (one for each kind of layer) mean more than
 * the plain kind. */
static tvlm_status check_rope_table(const char *name, json_t *table, tvlm_error *err)
{
    const char *key;
    json_t *value;
    if (table && !json_is_null(table) && !json_is_object(table))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an object", name);
    json_object_foreach(table, key, value)
    {
        if (json_is_array(value)) return refuse(key, "a list", err);
        if (json_is_object(value)) return refuse(key, "an object", err);
    }
    return TVLM_OK;
}

/* rope_parameters (transformers 5) or rope_scaling (before): only the plain kind runs. */
static tvlm_status read_rope(const json_t *text, tvlmc_hf_config *out, tvlm_error *err)
{
    static const char *const tables[] = {"rope_parameters", "rope_scaling"};
    static const char *const types[] = {"rope_type", "type"};
    TVLM_TRY(tvlmc_json_f64(text, "rope_theta", false, 1.0, 1e12, &out->rope_theta, err));
    for (int i = 0; i < 2; i++) {
        json_t *table = json_object_get(text, tables[i]);
        TVLM_TRY(check_rope_table(tables[i], table, err));
        for (int j = 0; j < 2; j++)
            TVLM_TRY(tvlmc_hf_must_be(table, types[j], "default", err));
        TVLM_TRY(tvlmc_json_f64(table, "rope_theta", false, 1.0, 1e12, &out->rope_theta, err));
        TVLM_TRY(tvlmc_hf_must_equal(table, "partial_rotary_factor", 1.0, err));
        TVLM_TRY(tvlmc_hf_must_equal(table, "factor", 1.0, err));
    }
    return TVLM_OK;
}

static tvlm_status read_text(const json_t *text, tvlmc_hf_config *out, tvlm_error *err)
{
    TVLM_TRY(tvlmc_json_u32(text, "num_hidden_layers", true, 1, 1024, &out->n_layers, err));
    TVLM_TRY(tvlmc_json_u32(text, "hidden_size", true, 8, 65536, &out->n_embd, err));
    TVLM_TRY(tvlmc_json_u32(text, "intermediate_size", true, 1, 1u << 20, &out->n_ff, err));
    TVLM_TRY(tvlmc_json_u32(text, "num_attention_heads", true, 1, 1024, &out->n_heads, err));
    out->n_kv_heads = out->n_heads;
    TVLM_TRY(tvlmc_json_u32(text, "num_key_value_heads", false, 1, 1024, &out->n_kv_heads, err));
    out->head_dim = out->family->head_dim ? out->family->head_dim : out->n_embd / out->n_heads;
    TVLM_TRY(tvlmc_json_u32(text, "head_dim", false, 8, 1024, &out->head_dim, err));
    TVLM_TRY(tvlmc_json_u32(text, "max_position_embeddings", true, 1, 1u << 20, &out->n_ctx, err));
    out->rms_eps = 1e-6; /* transformers' default of both architectures */
    TVLM_TRY(tvlmc_json_f64(text, "rms_norm_eps", false, 1e-12, 1.0, &out->rms_eps, err));
    out->rope_theta = 10000.0; /* as well */
    TVLM_TRY(read_rope(text, out, err));
    TVLM_TRY(tvlmc_hf_must_be(text, "hidden_act", "silu", err));
    TVLM_TRY(check_neutral(text, err));
    if (out->n_heads % out->n_kv_heads || out->head_dim % 8)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "%u attention heads, %u key heads, heads of %u: not supported",
                         (unsigned)out->n_heads, (unsigned)out->n_kv_heads,
                         (unsigned)out->head_dim);
    out->bos_id = tvlmc_hf_read_id(text, "bos_token_id");
    out->eos_id = tvlmc_hf_read_id(text, "eos_token_id");
    return TVLM_OK;
}

/* ---- preprocessor_config.json ---- */

/* size: N, {"shortest_edge": N} or {"height": N, "width": N} */
tvlm_status tvlmc_hf_read_edge(const json_t *p, const char *key, uint32_t *out, tvlm_error *err)
{
    const json_t *size = json_object_get(p, key);
    if (!json_is_object(size))
        return tvlmc_json_u32(p, key, false, 32, TVLMC_HF_MAX_IMAGE, out, err);
    uint32_t width = 0;
    TVLM_TRY(tvlmc_json_u32(size, "shortest_edge", false, 32, TVLMC_HF_MAX_IMAGE, out, err));
    TVLM_TRY(tvlmc_json_u32(size, "height", false, 32, TVLMC_HF_MAX_IMAGE, out, err));
    TVLM_TRY(tvlmc_json_u32(size, "width", false, 32, TVLMC_HF_MAX_IMAGE, &width, err));
    if (width && width != *out)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "key '%s': not a square", key);
    return TVLM_OK;
}

tvlm_status tvlmc_hf_read_rgb(const json_t *p, const char *key, double out[3], tvlm_error *err)
{
    const json_t *list = json_object_get(p, key);
    if (!list || json_is_null(list)) return TVLM_OK;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        out[i] = json_number_value(v);
        if (json_array_size(list) != 3 || !json_is_number(v) || !(fabs(out[i]) < 1e3))
            return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected three numbers", key);
    }
    return TVLM_OK;
}

tvlm_status tvlmc_hf_read_preprocessor(const json_t *p, tvlmc_hf_config *out, tvlm_error *err)
{
    double mean[3] = {0, 0, 0}, std[3] = {1, 1, 1}, rescale = 1.0 / 255.0;
    bool normalize = true, crop = true, rescaled = true;
    uint32_t bicubic = 3; /* PIL's number */
    TVLM_TRY(tvlmc_hf_read_edge(p, "size", &out->image_size, err));
    TVLM_TRY(tvlmc_json_bool(p, "do_center_crop", &crop, err));
    if (crop) TVLM_TRY(tvlmc_hf_read_edge(p, "crop_size", &out->image_size, err));
    TVLM_TRY(tvlmc_json_bool(p, "do_normalize", &normalize, err));
    TVLM_TRY(tvlmc_json_f64(p, "rescale_factor", false, 1e-6, 1e3, &rescale, err));
    TVLM_TRY(tvlmc_json_bool(p, "do_rescale", &rescaled, err));
    if (!rescaled) rescale = 1;
    TVLM_TRY(tvlmc_json_u32(p, "resample", false, 3, 3, &bicubic, err));
    if (normalize) {
        TVLM_TRY(tvlmc_hf_read_rgb(p, "image_mean", mean, err));
        TVLM_TRY(tvlmc_hf_read_rgb(p, "image_std", std, err));
    }
    for (int i = 0; i < 3; i++) {
        if (!(std[i] > 1e-6))
            return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'image_std': %g is out of range", std[i]);
        out->scale[i] = rescale / std[i];
        out->bias[i] = mean[i] == 0 ? 0 : -mean[i] / std[i];
    }
    return TVLM_OK;
}

/* ---- all of it ---- */

static tvlm_status read_family(const json_t *config, const tvlmc_family **out, tvlm_error *err)
{
    const char *type;
    char known[160] = "";
    size_t at = 0;
    TVLM_TRY(tvlmc_json_string(config, "model_type", true, &type, err));
    for (size_t i = 0; tvlmc_families[i]; i++) {
        if (strcmp(type, tvlmc_families[i]->model_type) == 0) {
            *out = tvlmc_families[i];
            return TVLM_OK;
        }
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                               tvlmc_families[i]->model_type);
    }
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                     "key 'model_type': '%.64s' is not supported; supported: %s", type, known);
}

/* The decoder's settings: config.json itself, or an object in it. */
static tvlm_status find_text(const json_t *config, const tvlmc_family *family, const json_t **out,
                             tvlm_error *err)
{
    *out = family->text_type ? json_object_get(config, "text_config") : config;
    if (!json_is_object(*out))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key 'text_config' is missing");
    return family->text_type ? tvlmc_hf_must_be(*out, "model_type", family->text_type, err)
                             : TVLM_OK;
}

tvlm_status tvlmc_hf_config_parse(const json_t *config, const json_t *preprocessor,
                                  tvlmc_hf_config *out, tvlm_error *err)
{
    const json_t *text;
    *out = (tvlmc_hf_config){.bos_id = -1, .eos_id = -1, .image_token = -1, .pads = true};
    for (int i = 0; i < 3; i++)
        out->scale[i] = 1.0 / 255.0;
    TVLM_TRY(read_family(config, &out->family, err));
    TVLM_TRY(check_not_quantised(config, err));
    TVLM_TRY(find_text(config, out->family, &text, err));
    TVLM_TRY(read_text(text, out, err));
    if (!out->family->qkv_bias) TVLM_TRY(tvlmc_hf_must_be_off(text, "attention_bias", err));
    if (!out->family->read_vision) return TVLM_OK;
    return out->family->read_vision(config, preprocessor, out, err);
}

tvlm_status tvlmc_hf_config_read(const char *dir, tvlmc_hf_config *out, tvlm_error *err)
{
    json_t *config = NULL, *preprocessor = NULL;
    tvlm_error inner;
    tvlm_status status =
        tvlmc_json_load_in(dir, "config.json", false, TVLMC_JSON_CONFIG_MAX, &config, err);
    if (status == TVLM_OK && !config)
        return tvlm_fail(err, TVLM_ERR_IO, "%s: no config.json there: not a checkpoint folder",
                         dir);
    if (status == TVLM_OK)
        status = tvlmc_json_load_in(dir, "preprocessor_config.json", false, TVLMC_JSON_CONFIG_MAX,
                                    &preprocessor, err);
    if (status == TVLM_OK) {
        status = tvlmc_hf_config_parse(config, preprocessor, out, &inner);
        if (status)
            tvlm_fail(err, status, "%s/config.json or preprocessor_config.json: %s", dir,
                      inner.message);
    }
    json_decref(config);
    json_decref(preprocessor);
    return status;
}
