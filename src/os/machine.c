/* SPDX-License-Identifier: MIT
 * What would give wrong answers in silence is refused here. */
#include <float.h>
#include <limits.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tinyvlm needs a little-endian machine: model files are read as they are stored"
#endif
#if CHAR_BIT != 8 || SIZE_MAX < UINT32_MAX || FLT_MANT_DIG != 24 || DBL_MANT_DIG != 53
#error "tinyvlm needs bytes of 8 bits, a 32-bit or 64-bit size_t and IEEE 754 numbers"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16: of _Float16 only */
#error "tinyvlm needs float arithmetic in float; on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif
#if defined(__FAST_MATH__)
#error "tinyvlm needs exact arithmetic: compile it without -ffast-math"
#endif

typedef int tvlm_machine_is_fit; /* C wants a declaration */
