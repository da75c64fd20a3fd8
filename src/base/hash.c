/* SPDX-License-Identifier: MIT */
#include "base/base.h"

#include <string.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static tvlm_hash add(tvlm_hash h, uint64_t word)
{
    return (tvlm_hash){mix(h.a ^ word), mix(h.b * 0x9e3779b97f4a7c15u + word)};
}

tvlm_hash tvlm_hash_bytes(tvlm_hash h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t at = 0; at < n; at += 8) {
        uint64_t word = 0;
        memcpy(&word, p + at, n - at < 8 ? n - at : 8);
        h = add(h, word);
    }
    return add(h, n);
}
