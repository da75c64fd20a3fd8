/* SPDX-License-Identifier: MIT
 * CRC-32C by slicing-by-8 (M. Kounavis and F. Berry, "Novel Table Lookup-Based Algorithms for
 * High-Performance CRC Generation", IEEE Trans. Computers 57, 2008). */
#include "base/base.h"

/* slice[s][b] is the CRC register left by byte b followed by s zero bytes. A CRC is linear, so an
 * entry is the exclusive-or of the basis values of its bits; the 64 basis values (bit 7 first,
 * slice after slice) are successive states of the shift register that starts at the reflected
 * polynomial 0x82F63B78. The compiler expands them, which keeps the table const. */
#define ENTRY(b, b7, b6, b5, b4, b3, b2, b1, b0)                                                   \
    (((b) & 128 ? b7 : 0) ^ ((b) & 64 ? b6 : 0) ^ ((b) & 32 ? b5 : 0) ^ ((b) & 16 ? b4 : 0) ^      \
     ((b) & 8 ? b3 : 0) ^ ((b) & 4 ? b2 : 0) ^ ((b) & 2 ? b1 : 0) ^ ((b) & 1 ? b0 : 0))
#define ENTRIES4(b, ...)                                                                           \
    ENTRY(b, __VA_ARGS__), ENTRY(b + 1, __VA_ARGS__), ENTRY(b + 2, __VA_ARGS__),                   \
        ENTRY(b + 3, __VA_ARGS__)
#define ENTRIES16(b, ...)                                                                          \
    ENTRIES4(b, __VA_ARGS__), ENTRIES4(b + 4, __VA_ARGS__), ENTRIES4(b + 8, __VA_ARGS__),          \
        ENTRIES4(b + 12, __VA_ARGS__)
#define ENTRIES64(b, ...)                                                                          \
    ENTRIES16(b, __VA_ARGS__), ENTRIES16(b + 16, __VA_ARGS__), ENTRIES16(b + 32, __VA_ARGS__),     \
        ENTRIES16(b + 48, __VA_ARGS__)
#define SLICE(...)                                                                                 \
    {ENTRIES64(0, __VA_ARGS__), ENTRIES64(64, __VA_ARGS__), ENTRIES64(128, __VA_ARGS__),           \
     ENTRIES64(192, __VA_ARGS__)}

static const uint32_t slice[8][256] = {
    SLICE(0x82F63B78, 0x417B1DBC, 0x20BD8EDE, 0x105EC76F, 0x8AD958CF, 0xC79A971F, 0xE13B70F7,
          0xF26B8303),
    SLICE(0xFBC3FAF9, 0xFF17C604, 0x7F8BE302, 0x3FC5F181, 0x9D14C3B8, 0x4E8A61DC, 0x274530EE,
          0x13A29877),
    SLICE(0x8B277743, 0xC76580D9, 0xE144FB14, 0x70A27D8A, 0x38513EC5, 0x9EDEA41A, 0x4F6F520D,
          0xA541927E),
    SLICE(0x52A0C93F, 0xABA65FE7, 0xD725148B, 0xE964B13D, 0xF64463E6, 0x7B2231F3, 0xBF672381,
          0xDD45AAB8),
    SLICE(0x6EA2D55C, 0x37516AAE, 0x1BA8B557, 0x8F2261D3, 0xC5670B91, 0xE045BEB0, 0x7022DF58,
          0x38116FAC),
    SLICE(0x1C08B7D6, 0x0E045BEB, 0x85F4168D, 0xC00C303E, 0x6006181F, 0xB2F53777, 0xDB8CA0C3,
          0xEF306B19),
    SLICE(0xF56E0EF4, 0x7AB7077A, 0x3D5B83BD, 0x9C5BFAA6, 0x4E2DFD53, 0xA5E0C5D1, 0xD0065990,
          0x68032CC8),
    SLICE(0x34019664, 0x1A00CB32, 0x0D006599, 0x847609B4, 0x423B04DA, 0x211D826D, 0x9278FA4E,
          0x493C7D27),
};

static uint32_t load32_le(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t tvlm_crc32c(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint32_t lo = crc ^ load32_le(p), hi = load32_le(p + 4);
        crc = slice[7][lo & 255] ^ slice[6][lo >> 8 & 255] ^ slice[5][lo >> 16 & 255] ^
              slice[4][lo >> 24] ^ slice[3][hi & 255] ^ slice[2][hi >> 8 & 255] ^
              slice[1][hi >> 16 & 255] ^ slice[0][hi >> 24];
    }
    for (; size; size--, p++)
        crc = crc >> 8 ^ slice[0][(crc ^ *p) & 255];
    return ~crc;
}

/* ---- polynomials modulo the generator: bit 31 is the coefficient of 1, bit 0 that of x^31 ---- */

static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; a; a <<= 1) {
        product ^= b & (0 - (a >> 31));
        b = b >> 1 ^ (0x82F63B78 & (0 - (b & 1)));
    }
    return product;
}

/* A CRC is linear but for the ones that it begins with and the complement at its end, which cancel
 * out: a zero byte behind the text multiplies by x^8. */
uint32_t tvlm_crc32c_join(uint32_t a, uint32_t b, uint64_t size)
{
    uint32_t factor = 1u << 23; /* x^8, then its power for each bit of size */
    for (; size; size >>= 1) {
        if (size & 1) a = multiply(a, factor);
        factor = multiply(factor, factor);
    }
    return a ^ b;
}
