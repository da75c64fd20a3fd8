/* SPDX-License-Identifier: MIT
 * CPU feature detection -> a mask of kernel tiers. */
#ifndef TVLM_CPU_H
#define TVLM_CPU_H

#include "base/base.h"

/* A tier is a bundle of instruction sets; up to RELAXED each bit implies the bits below it on its
 * architecture. */
enum {
    TVLM_CPU_CRC32C = 1u << 0,      /* the instruction of SSE4.2 or ARMv8 */
    TVLM_CPU_AVX2 = 1u << 1,        /* AVX2 + FMA + F16C, OS saves ymm */
    TVLM_CPU_AVX512 = 1u << 2,      /* AVX-512 F + BW + DQ + VL, OS saves zmm and masks */
    TVLM_CPU_AVX512_VNNI = 1u << 3, /* its dot products of bytes */
    TVLM_CPU_AVX512_BF16 = 1u << 4, /* its dot products of bfloat16 */
    TVLM_CPU_SIMD128 = 1u << 5,     /* WebAssembly SIMD: a module is built with it or without */
    TVLM_CPU_RELAXED = 1u << 6,     /* relaxed SIMD too */
    TVLM_CPU_AVX_VNNI = 1u << 7,    /* dot products with AVX2 alone; implies AVX2 */
    TVLM_CPU_NEON = 1u << 8,        /* of 64-bit ARM, which always has it */
    TVLM_CPU_DOTPROD = 1u << 9,     /* its dot products of bytes */
    TVLM_CPU_I8MM = 1u << 10,       /* its products of matrices of bytes; implies DOTPROD */
    TVLM_CPU_BF16 = 1u << 11,       /* those of bfloat16; implies I8MM */
};

/* From the lowest up; each mask includes the tiers that it builds on. */
typedef struct tvlm_cpu_tier {
    char name[12];
    uint32_t mask;
} tvlm_cpu_tier;
extern const tvlm_cpu_tier tvlm_cpu_tiers[];
extern const size_t tvlm_cpu_n_tiers;

/* What this machine and its OS offer. Pure apart from reading CPU state. */
uint32_t tvlm_cpu_detect(void);
/* Mask of the named tier and those below it, limited to detect(): NULL -> all, "scalar" -> 0,
 * "avx2" ... An unknown name, or a tier this machine lacks, is TVLM_ERR_UNSUPPORTED naming the
 * tiers that it has. */
tvlm_status tvlm_cpu_mask(const char *name, uint32_t *mask, tvlm_error *err);
const char *tvlm_cpu_tier_name(uint32_t mask); /* highest tier of the mask */

#endif
