/* SPDX-License-Identifier: MIT
 * Closes what avx2.h opened; no include guard, as it ends each tier file. */
#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
