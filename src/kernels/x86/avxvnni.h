/* SPDX-License-Identifier: MIT
 * Opens the AVX-VNNI target, AVX2 with dot products, for the rest of a tier file, as avx2.h does.
 * Include it last; close the file with avx2_end.h. */
#ifndef TVLM_KERNELS_AVXVNNI_H
#define TVLM_KERNELS_AVXVNNI_H

#include "kernels/x86/avx2.h"

#if defined(__x86_64__)
#if defined(TVLM_AVX512_EMULATION)
#include TVLM_AVX512_EMULATION
#elif defined(__clang__) /* of nested targets it would take the outer one */
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avxvnni")
#endif
#endif

#endif
