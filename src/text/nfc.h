/* SPDX-License-Identifier: MIT
 * Unicode normalisation form C, of any bytes (invalid ones stay as they are and where they are). */
#ifndef TVLM_NFC_H
#define TVLM_NFC_H

#include "base/base.h"

/* A growing byte buffer; all zero is empty; data comes from malloc. */
typedef struct tvlm_bytes {
    char *data;
    size_t len, cap;
} tvlm_bytes;

/* True if text is certainly in form C already; false says nothing. */
bool tvlm_nfc_is_plain(const char *text, size_t len);

/* Replaces out's contents by the normal form. O(len) time and memory. Fails only with
 * TVLM_ERR_MEMORY; the caller frees out->data either way. */
tvlm_status tvlm_nfc(const char *text, size_t len, tvlm_bytes *out, tvlm_error *err);

#endif
