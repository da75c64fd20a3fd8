/* SPDX-License-Identifier: MIT
 * Byte-pair merging of one pre-token. */
#ifndef TVLM_BPE_H
#define TVLM_BPE_H

#include "text/vocab.h"

/* Working memory, grown as needed and kept between pre-tokens; all zero is empty. A symbol is
 * named by the offset of its first byte. Offsets skip bytes that have no token: they are dropped.
 */
typedef struct tvlm_bpe {
    size_t cap;
    uint32_t *id;    /* [cap] of the symbol that begins here */
    uint32_t *len;   /* [cap] its bytes; 0: no symbol begins here */
    uint32_t *start; /* [cap] of the symbol that ends here */
    uint64_t *heap;  /* [2 * cap] candidates: rank << 32 | offset of the left symbol */
    size_t n_heap;
    size_t end; /* behind the last symbol */
} tvlm_bpe;

/* Merges the lowest-ranked pair, leftmost first, until none is left; then the symbols are those
 * with len > 0, from offset 0 to end. n: bytes of the pre-token, 1 .. 2^31. O(n log n).
 * Fails only with TVLM_ERR_MEMORY. */
tvlm_status tvlm_bpe_merge(tvlm_bpe *bpe, const tvlm_tokenizer *t, const char *bytes, size_t n,
                           tvlm_error *err);
void tvlm_bpe_release(tvlm_bpe *bpe);

#endif
