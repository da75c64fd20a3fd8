/* SPDX-License-Identifier: MIT
 * Metadata that would change the result and is not used here is refused by name. */
#ifndef TVLM_KEYS_H
#define TVLM_KEYS_H

#include "model/config.h"

/* Every key of the family, of the tokenizer, of tinyvlm's own and, in a model that sees, of its
 * tower must be one that is used, one that changes nothing, or hold the value that
 * changes nothing. Other keys (authors, notes of other programs) are free. */
tvlm_status tvlm_keys_check(const tvlm_gguf *gguf, const tvlm_arch *arch, tvlm_error *err);

/* Whether all that it holds is 0, false or `value`, or an empty text. */
bool tvlm_key_is_neutral(const tvlm_gguf_kv *kv, double value);

#endif
