/* SPDX-License-Identifier: MIT
 * Families of decoders alone, in the format of llama.cpp. */
#include "arch/arch.h"

const tvlm_arch tvlm_arch_llama = {.name = "llama", .decoder = {.rope_interleaved = true}};
const tvlm_arch tvlm_arch_qwen2 = {.name = "qwen2", .decoder = {.qkv_bias = true}};
const tvlm_arch tvlm_arch_qwen3 = {.name = "qwen3", .decoder = {.qk_norm = true}};
