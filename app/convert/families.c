/* SPDX-License-Identifier: MIT */
#include "convert/family.h"

static const tvlmc_family qwen2 = {.model_type = "qwen2", .arch = "qwen2", .qkv_bias = true};
static const tvlmc_family qwen3 = {
    .model_type = "qwen3", .arch = "qwen3", .qk_norm = true, .head_dim = 128};
static const tvlmc_family llama = {.model_type = "llama", .arch = "llama", .rope_pairs = true};

const tvlmc_family *const tvlmc_families[] = {
    &tvlmc_family_fastvlm_apple,
    &tvlmc_family_fastvlm,
    &tvlmc_family_smolvlm,
    &tvlmc_family_smolvlm2,
    &qwen2,
    &qwen3,
    &llama,
    NULL,
};
