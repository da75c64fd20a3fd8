/* SPDX-License-Identifier: MIT
 * The families, each in a file of its own; text families are rows of text.c. */
#ifndef TVLM_ARCH_FAMILIES_H
#define TVLM_ARCH_FAMILIES_H

#include "model/arch.h"

extern const tvlm_arch tvlm_arch_llama, tvlm_arch_qwen2, tvlm_arch_qwen3, tvlm_arch_fastvlm,
    tvlm_arch_tinyvlm, tvlm_arch_smolvlm;

#endif
