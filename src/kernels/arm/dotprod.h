/* SPDX-License-Identifier: MIT
 * Opens the target of ARM's dot products (optional from ARMv8.2 on) for the rest of a tier file;
 * close it with target_end.h. Include it last. */
#ifndef TVLM_KERNELS_DOTPROD_H
#define TVLM_KERNELS_DOTPROD_H

#include "kernels/arm/neon.h"

#if defined(__aarch64__)
#define TVLM_DOTPROD
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#elif !defined(__ARM_FEATURE_DOTPROD)
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#endif

#endif
