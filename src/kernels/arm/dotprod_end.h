/* SPDX-License-Identifier: MIT
 * Closes what dotprod.h opened; no include guard, as it ends each tier file. */
#if defined(TVLM_DOTPROD) && defined(__clang__)
#pragma clang attribute pop
#endif
