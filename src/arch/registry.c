/* SPDX-License-Identifier: MIT */
#include "arch/arch.h"

const tvlm_arch *const tvlm_archs[] = {
    &tvlm_arch_llama,
    &tvlm_arch_qwen2,
    &tvlm_arch_qwen3,
    &tvlm_arch_fastvlm,
    &tvlm_arch_tinyvlm,
    &tvlm_arch_smolvlm,
    NULL,
};
