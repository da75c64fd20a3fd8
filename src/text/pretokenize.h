/* SPDX-License-Identifier: MIT
 * Pre-tokenizers: cut text into the pieces that BPE merges within. */
#ifndef TVLM_PRETOKENIZE_H
#define TVLM_PRETOKENIZE_H

#include "text/tokenizer.h"

/* The end of the pre-token that begins at text[begin], begin < len; walking from end to end cuts
 * all of text in O(len). text is what lies between two special tokens: its end counts as the end
 * of the string for look-ahead. */
size_t tvlm_pretoken_end(tvlm_pretokenizer pre, const char *text, size_t len, size_t begin);

#endif
