/* SPDX-License-Identifier: MIT
 * CRC-32C by the instruction of SSE4.2 or ARMv8. It takes three cycles and can begin in each, so
 * that a long text goes through as three streams, which tvlm_crc32c_join makes one. */
#include "kernels/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define TARGET __attribute__((target("sse4.2,crc32")))
#define STEP8  (uint32_t) _mm_crc32_u64
#define STEP1  _mm_crc32_u8
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#if defined(__clang__)
#define TARGET __attribute__((target("crc")))
#define STEP8  __builtin_arm_crc32cd
#define STEP1  __builtin_arm_crc32cb
#else
#define TARGET __attribute__((target("+crc")))
#define STEP8  __builtin_aarch64_crc32cx
#define STEP1  __builtin_aarch64_crc32cb
#endif
#endif

#ifdef TARGET
enum { LONG = 1 << 15 }; /* bytes from which on joining costs less than it saves */

static inline uint64_t load64(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

TARGET static uint32_t one_stream(uint32_t crc, const unsigned char *p, size_t size)
{
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8)
        crc = STEP8(crc, load64(p));
    for (; size; size--, p++)
        crc = STEP1(crc, *p);
    return ~crc;
}

/* Texts of n bytes, n a multiple of 8, that follow each other; the first continues crc[0]. */
TARGET static void three_streams(uint32_t crc[3], const unsigned char *p, size_t n)
{
    uint32_t a = ~crc[0], b = ~crc[1], c = ~crc[2];
    for (size_t i = 0; i < n; i += 8) {
        a = STEP8(a, load64(p + i));
        b = STEP8(b, load64(p + n + i));
        c = STEP8(c, load64(p + 2 * n + i));
    }
    crc[0] = ~a;
    crc[1] = ~b;
    crc[2] = ~c;
}

static uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
    if (size < LONG) return one_stream(crc, p, size);
    size_t n = size / 24 * 8;
    uint32_t part[3] = {crc, 0, 0};
    three_streams(part, p, n);
    crc = tvlm_crc32c_join(tvlm_crc32c_join(part[0], part[1], n), part[2], n);
    return one_stream(crc, p + 3 * n, size - 3 * n);
}
#endif

void tvlm_kernels_install_crc32c(tvlm_kernels *table)
{
#ifdef TARGET
    table->crc32c = crc32c;
#else
    (void)table;
#endif
}
