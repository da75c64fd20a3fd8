/* SPDX-License-Identifier: MIT */
#include "convert/family.h"

static const tvlm_family qwen2 = {.model_type = "qwen2", .arch = "qwen2", .qkv_bias = true};
static const tvlm_family qwen3 = {
    .model_type = "qwen3", .arch = "qwen3", .qk_norm = true, .head_dim = 128};
static const tvlm_family llama = {.model_type = "llama", .arch = "llama", .rope_pairs = true};

const tvlm_family *const tvlm_families[] = {
    &tvlm_family_fastvlm_apple,
    &tvlm_family_fastvlm,
    &tvlm_family_smolvlm,
    &tvlm_family_smolvlm2,
    &qwen2,
    &qwen3,
    &llama,
    NULL,
};
