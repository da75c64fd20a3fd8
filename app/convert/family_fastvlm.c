/* SPDX-License-Identifier: MIT
 * FastVLM, in the layouts of Apple (llava_qwen2) and Hugging Face (fast_vlm). */
#include "convert/family.h"
#include "convert/json_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config.json ---- */

/* "mobileclip_l_1024" -> 1024 */
static uint32_t trailing_number(const char *name)
{
    const char *at = name ? strrchr(name, '_') : NULL;
    char *end = NULL;
    unsigned long v = at ? strtoul(at + 1, &end, 10) : 0;
    return at && end != at + 1 && *end == 0 && v >= 32 && v <= TVLMC_HF_MAX_IMAGE ? (uint32_t)v : 0;
}

/* Its code has a preprocessor of its own. */
static tvlm_status read_apple(const json_t *config, const json_t *preprocessor,
                              tvlmc_hf_config *out, tvlm_error *err)
{
    (void)preprocessor;
    const char *aspect = "pad", *tower = NULL;
    TVLM_TRY(tvlmc_hf_must_be(config, "mm_projector_type", "mlp2x_gelu", err));
    TVLM_TRY(tvlmc_hf_must_be(config, "mm_patch_merge_type", "flat", err));
    TVLM_TRY(tvlmc_hf_must_be_off(config, "mm_use_im_start_end", err));
    TVLM_TRY(tvlmc_hf_must_be_off(config, "mm_use_im_patch_token", err));
    TVLM_TRY(tvlmc_json_string(config, "image_aspect_ratio", false, &aspect, err));
    TVLM_TRY(tvlmc_json_string(config, "mm_vision_tower", true, &tower, err));
    out->pads = strcmp(aspect, "pad") == 0;
    out->image_size = trailing_number(tower);
    return TVLM_OK;
}

static tvlm_status read_hf(const json_t *config, const json_t *preprocessor, tvlmc_hf_config *out,
                           tvlm_error *err)
{
    const json_t *vision = json_object_get(config, "vision_config");
    TVLM_TRY(tvlmc_hf_must_be(config, "projector_hidden_act", "gelu", err));
    TVLM_TRY(tvlmc_hf_must_be(config, "vision_feature_select_strategy", "full", err));
    TVLM_TRY(tvlmc_hf_must_equal(config, "vision_feature_layer", -1, err));
    TVLM_TRY(tvlmc_hf_must_be(vision, "model_type", "timm_wrapper", err));
    TVLM_TRY(tvlmc_json_u32(config, "image_seq_length", false, 1, 1u << 20, &out->image_seq_length,
                            err));
    TVLM_TRY(
        tvlmc_json_u32(vision, "image_size", false, 32, TVLMC_HF_MAX_IMAGE, &out->image_size, err));
    out->image_token = tvlmc_hf_read_id(config, "image_token_index");
    if (out->image_token < 0) out->image_token = tvlmc_hf_read_id(config, "image_token_id");
    if (out->bos_id < 0) out->bos_id = tvlmc_hf_read_id(config, "bos_token_id");
    if (out->eos_id < 0) out->eos_id = tvlmc_hf_read_id(config, "eos_token_id");
    return preprocessor ? tvlmc_hf_read_preprocessor(preprocessor, out, err) : TVLM_OK;
}

/* ---- tensors and keys ---- */

static void plan_bridge(tvlmc_conversion *c)
{
    static const char *const names[][2] = {
        {"mm.0", "model.mm_projector.0"},
        {"mm.2", "model.mm_projector.2"}
    };
    for (int i = 0; i < 2 && !c->status; i++) {
        char name[64], source[64];
        snprintf(name, sizeof name, "%s.weight", names[i][0]);
        snprintf(source, sizeof source, "%s.weight", names[i][1]);
        const tvlmc_st_tensor *t = tvlmc_plan_linear(c, name, source, TVLMC_PART_LAYER, 0, 0, 0);
        snprintf(name, sizeof name, "%s.bias", names[i][0]);
        snprintf(source, sizeof source, "%s.bias", names[i][1]);
        if (t) tvlmc_plan_vector(c, name, source, t->shape[0]);
    }
}

static void plan_vision(tvlmc_conversion *c)
{
    tvlmc_plan_tower(c);
    plan_bridge(c);
}

/* The image's side: as given, or from the number of visual tokens, or 1024. */
static uint32_t image_size(tvlmc_keys *k)
{
    const tvlmc_hf_config *h = &k->c->config;
    uint32_t stages = k->c->n_stages, stride = 4u << (stages ? stages - 1 : 0);
    uint32_t side = (uint32_t)lrint(sqrt((double)h->image_seq_length));
    if (h->image_size) return h->image_size;
    if (side && side * side == h->image_seq_length) return side * stride;
    tvlmc_conversion_note(k->c, "the checkpoint does not give its image size: 1024 is assumed");
    return 1024;
}

static void put_vision(tvlmc_keys *k)
{
    tvlmc_conversion *c = k->c;
    int32_t depths[TVLM_COUNT(c->depths)];
    for (uint32_t i = 0; i < c->n_stages; i++)
        depths[i] = (int32_t)c->depths[i];
    tvlm_fit fit = c->params->fit;
    if (fit == TVLM_FIT_MODEL && !c->config.pads)
        tvlmc_conversion_note(c, "config.json's image_aspect_ratio is not 'pad': images are padded "
                                 "all the same; --fit crop gives the other variant");
    const char *mode = fit == TVLM_FIT_CROP ? "crop" : fit == TVLM_FIT_SQUASH ? "squash" : "pad";
    tvlmc_keys_vision(k, "fastvit", image_size(k), mode, "bicubic");
    if (!k->status)
        k->status =
            tvlmc_gguf_put_i32_array(k->w, "vision.fastvit.depths", depths, c->n_stages, c->err);
    tvlmc_keys_u32(k, "vision.fastvit.head_dim", 32);
    tvlmc_keys_f32(k, "vision.fastvit.layer_norm_epsilon", 1e-5);
    tvlmc_keys_string(k, "tinyvlm.describe_prompt", "Describe the image.");
    tvlmc_keys_string(k, "tinyvlm.chat_template", "fastvlm");
}

const tvlmc_family tvlmc_family_fastvlm_apple = {.model_type = "llava_qwen2",
                                                 .arch = "fastvlm",
                                                 .qkv_bias = true,
                                                 .read_vision = read_apple,
                                                 .plan_vision = plan_vision,
                                                 .put_vision = put_vision};
const tvlmc_family tvlmc_family_fastvlm = {.model_type = "fast_vlm",
                                           .arch = "fastvlm",
                                           .qkv_bias = true,
                                           .text_type = "qwen2",
                                           .read_vision = read_hf,
                                           .plan_vision = plan_vision,
                                           .put_vision = put_vision};
