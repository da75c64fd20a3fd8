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

uint32_t tvlm_cpu_detect(void)
{
    /* Bits: Intel SDM vol. 2A, CPUID leaves 1 and 7; vol. 1, 13.3 for XCR0 (SSE and AVX state). */
    const uint32_t sse42 = 1u << 20, leaf1_ecx = 1u << 12 /* FMA */ | 1u << 27 /* OSXSAVE */ |
                                                 1u << 28 /* AVX */ | 1u << 29 /* F16C */;
    const uint32_t leaf7_ebx = 1u << 5; /* AVX2 */
    const uint64_t ymm_state = 1u << 1 | 1u << 2;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & sse42)) return 0;
    if ((c & leaf1_ecx) != leaf1_ecx || (read_xcr0() & ymm_state) != ymm_state)
        return TVLM_CPU_CRC32C;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & leaf7_ebx) != leaf7_ebx)
        return TVLM_CPU_CRC32C;
    return TVLM_CPU_CRC32C | TVLM_CPU_AVX2;
}

#elif defined(__aarch64__)

uint32_t tvlm_cpu_detect(void)
{
#if defined(__ARM_FEATURE_CRC32) /* as on every machine of Apple's */
    return TVLM_CPU_CRC32C;
#else
    return tvlm_hwcap() & 1u << 7 /* HWCAP_CRC32 */ ? TVLM_CPU_CRC32C : 0;
#endif
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

/* From the lowest up; each mask includes the tiers that it builds on. */
static const struct tier {
    char name[12];
    uint32_t mask;
} tiers[] = {
    {"scalar",  0                                  },
    {"crc32c",  TVLM_CPU_CRC32C                    },
    {"avx2",    TVLM_CPU_CRC32C | TVLM_CPU_AVX2    },
    {"simd128", TVLM_CPU_SIMD128                   },
    {"relaxed", TVLM_CPU_SIMD128 | TVLM_CPU_RELAXED},
};

tvlm_status tvlm_cpu_mask(const char *name, uint32_t *mask, tvlm_error *err)
{
    uint32_t detected = tvlm_cpu_detect();
    if (!name) {
        *mask = detected;
        return TVLM_OK;
    }
    char offered[TVLM_COUNT(tiers) * sizeof tiers[0].name] = "";
    size_t length = 0;
    for (size_t i = 0; i < TVLM_COUNT(tiers); i++) {
        if ((tiers[i].mask & detected) != tiers[i].mask) continue;
        if (strcmp(name, tiers[i].name) == 0) {
            *mask = tiers[i].mask;
            return TVLM_OK;
        }
        length += (size_t)snprintf(offered + length, sizeof offered - length, " %s", tiers[i].name);
    }
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "cpu tier '%s': this machine offers%s", name,
                     offered);
}

const char *tvlm_cpu_tier_name(uint32_t mask)
{
    const char *name = tiers[0].name;
    for (size_t i = 1; i < TVLM_COUNT(tiers); i++)
        if ((tiers[i].mask & mask) == tiers[i].mask) name = tiers[i].name;
    return name;
}
