/* SPDX-License-Identifier: MIT
 * Closes what dotprod.h, i8mm.h or bf16.h opened; no include guard, as it ends each tier file. */
#if (defined(TVLM_DOTPROD) || defined(TVLM_I8MM) || defined(TVLM_BF16)) && defined(__clang__)
#pragma clang attribute pop
#endif
