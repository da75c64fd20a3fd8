/* SPDX-License-Identifier: MIT
 * Closes what dotprod.h or i8mm.h opened; no include guard, as it ends each tier file. */
#if (defined(TVLM_DOTPROD) || defined(TVLM_I8MM)) && defined(__clang__)
#pragma clang attribute pop
#endif
