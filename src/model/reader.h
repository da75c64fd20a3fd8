/* SPDX-License-Identifier: MIT
 * Metadata -> checked numbers and names. A failed read leaves its status in the reader and makes
 * the reads after it return at once, so they are made in a row and asked about once. Messages name
 * the key. */
#ifndef TVLM_READER_H
#define TVLM_READER_H

#include "model/gguf.h"

typedef struct tvlm_reader {
    const tvlm_gguf *gguf;
    const char *prefix; /* of the architecture's keys */
    tvlm_error *err;
    tvlm_status status; /* the first failure */
} tvlm_reader;

/* Keeps the first failure. */
void tvlm_reader_fail(tvlm_reader *r, tvlm_status status);
/* "PREFIX.NAME" */
const char *tvlm_reader_key(const tvlm_reader *r, const char *name, char key[128]);

/* An integer in lo..hi; absent: fallback, or an error when fallback is 0. */
uint32_t tvlm_read_u32(tvlm_reader *r, const char *key, uint32_t fallback, uint32_t lo,
                       uint32_t hi);
double tvlm_read_f64(tvlm_reader *r, const char *key, double fallback, double lo, double hi);
tvlm_str tvlm_read_string(tvlm_reader *r, const char *key, bool required, const char *fallback);
/* One of n names -> its index; absent: fallback, or an error when that is NULL. */
unsigned tvlm_read_name(tvlm_reader *r, const char *key, const char *const *names, unsigned n,
                        const char *fallback);
/* A list of at most cap integers, required; its length. */
size_t tvlm_read_list(tvlm_reader *r, const char *key, uint32_t *out, size_t cap);

#endif
