/* SPDX-License-Identifier: MIT
 * CPU feature detection. Needs no instruction set flag itself: it runs on every machine. */
#include "cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <cpuid.h>

/* XCR0: the register states that the operating system saves. Caller checked OSXSAVE. */
static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Bits: Intel SDM vol. 2A, CPUID leaves 1 and 7; vol. 1, 13.3 for XCR0. */
static uint32_t detect_avx512(uint64_t xcr0, uint32_t leaf7_ebx, uint32_t leaf7_ecx)
{
    const uint64_t zmm_state = 7u << 5; /* masks, upper halves, registers 16 to 31 */
    const uint32_t ebx = 1u << 16 /* F */ | 1u << 17 /* DQ */ | 1u << 30 /* BW */ | 1u << 31;
    const uint32_t ecx_vnni = 1u << 11, subleaf1_eax_bf16 = 1u << 5;
    uint32_t a, b, c, d, mask = TVLM_CPU_AVX512;
    if ((xcr0 & zmm_state) != zmm_state || (leaf7_ebx & ebx) != ebx) return 0;
    if (!(leaf7_ecx & ecx_vnni)) return mask;
    mask |= TVLM_CPU_AVX512_VNNI;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && a & subleaf1_eax_bf16)
        mask |= TVLM_CPU_AVX512_BF16;
    return mask;
}

static uint32_t detect_avx_vnni(void)
{
    const uint32_t subleaf1_eax = 1u << 4;
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & subleaf1_eax ? TVLM_CPU_AVX_VNNI : 0;
}

uint32_t tvlm_cpu_detect(void)
{
    const uint32_t sse42 = 1u << 20, leaf1_ecx = 1u << 12 /* FMA */ | 1u << 27 /* OSXSAVE */ |
                                                 1u << 28 /* AVX */ | 1u << 29 /* F16C */;
    const uint32_t leaf7_ebx = 1u << 5; /* AVX2 */
    const uint64_t ymm_state = 1u << 1 | 1u << 2;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & sse42)) return 0;
    if ((c & leaf1_ecx) != leaf1_ecx) return TVLM_CPU_CRC32C;
    uint64_t xcr0 = read_xcr0();
    if ((xcr0 & ymm_state) != ymm_state) return TVLM_CPU_CRC32C;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & leaf7_ebx) != leaf7_ebx)
        return TVLM_CPU_CRC32C;
    return TVLM_CPU_CRC32C | TVLM_CPU_AVX2 | detect_avx_vnni() | detect_avx512(xcr0, b, c);
}

#elif defined(__aarch64__)

/* What the system tells, and what the whole build has. */
uint32_t tvlm_cpu_detect(void)
{
    tvlm_os_arm arm = tvlm_os_arm_features();
#if defined(__ARM_FEATURE_CRC32)
    arm.crc32 = true;
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    arm.dotprod = true;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    arm.i8mm = true;
#endif
#if defined(__ARM_FEATURE_BF16)
    arm.bf16 = true;
#endif
    arm.i8mm = arm.i8mm && arm.dotprod;
    arm.bf16 = arm.bf16 && arm.i8mm;
    return TVLM_CPU_NEON | (arm.crc32 ? TVLM_CPU_CRC32C : 0) |
           (arm.dotprod ? TVLM_CPU_DOTPROD : 0) | (arm.i8mm ? TVLM_CPU_I8MM : 0) |
           (arm.bf16 ? TVLM_CPU_BF16 : 0);
}

#elif defined(__wasm_relaxed_simd__)

uint32_t tvlm_cpu_detect(void)
{
    return TVLM_CPU_SIMD128 | TVLM_CPU_RELAXED;
}

#elif defined(__wasm_simd128__)

uint32_t tvlm_cpu_detect(void)
{
    return TVLM_CPU_SIMD128;
}

#else

uint32_t tvlm_cpu_detect(void)
{
    return 0;
}

#endif

enum {
    UP_TO_AVX2 = TVLM_CPU_CRC32C | TVLM_CPU_AVX2,
    UP_TO_AVX512 = UP_TO_AVX2 | TVLM_CPU_AVX512,
    UP_TO_VNNI = UP_TO_AVX512 | TVLM_CPU_AVX512_VNNI,
    UP_TO_BF16 = UP_TO_VNNI | TVLM_CPU_AVX512_BF16,
    UP_TO_NEON = TVLM_CPU_CRC32C | TVLM_CPU_NEON,
    UP_TO_DOTPROD = UP_TO_NEON | TVLM_CPU_DOTPROD,
    UP_TO_I8MM = UP_TO_DOTPROD | TVLM_CPU_I8MM
};
const tvlm_cpu_tier tvlm_cpu_tiers[] = {
    {"scalar",     0                                  },
    {"crc32c",     TVLM_CPU_CRC32C                    },
    {"avx2",       UP_TO_AVX2                         },
    {"avxvnni",    UP_TO_AVX2 | TVLM_CPU_AVX_VNNI     },
    {"avx512",     UP_TO_AVX512                       },
    {"avx512vnni", UP_TO_VNNI                         },
    {"avx512bf16", UP_TO_BF16                         },
    {"neon",       UP_TO_NEON                         },
    {"dotprod",    UP_TO_DOTPROD                      },
    {"i8mm",       UP_TO_I8MM                         },
    {"bf16",       UP_TO_I8MM | TVLM_CPU_BF16         },
    {"simd128",    TVLM_CPU_SIMD128                   },
    {"relaxed",    TVLM_CPU_SIMD128 | TVLM_CPU_RELAXED},
};
const size_t tvlm_cpu_n_tiers = TVLM_COUNT(tvlm_cpu_tiers);

tvlm_status tvlm_cpu_mask(const char *name, uint32_t *mask, tvlm_error *err)
{
    uint32_t detected = tvlm_cpu_detect();
    if (!name) {
        *mask = detected;
        return TVLM_OK;
    }
    char offered[TVLM_COUNT(tvlm_cpu_tiers) * sizeof tvlm_cpu_tiers[0].name] = "";
    size_t length = 0;
    for (size_t i = 0; i < TVLM_COUNT(tvlm_cpu_tiers); i++) {
        if ((tvlm_cpu_tiers[i].mask & detected) != tvlm_cpu_tiers[i].mask) continue;
        if (strcmp(name, tvlm_cpu_tiers[i].name) == 0) {
            *mask = tvlm_cpu_tiers[i].mask;
            return TVLM_OK;
        }
        length += (size_t)snprintf(offered + length, sizeof offered - length, " %s",
                                   tvlm_cpu_tiers[i].name);
    }
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "cpu tier '%s': this machine offers%s", name,
                     offered);
}

const char *tvlm_cpu_tier_name(uint32_t mask)
{
    const char *name = tvlm_cpu_tiers[0].name;
    for (size_t i = 1; i < TVLM_COUNT(tvlm_cpu_tiers); i++)
        if ((tvlm_cpu_tiers[i].mask & mask) == tvlm_cpu_tiers[i].mask)
            name = tvlm_cpu_tiers[i].name;
    return name;
}
