/* SPDX-License-Identifier: MIT
 * What the module imports from JavaScript (namespace "env", beside "memory"). */
#ifndef TVLM_WASM_HOST_H
#define TVLM_WASM_HOST_H

#include "tinyvlm.h"

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

/* performance.now() */
IMPORT(now) double host_now(void);
/* A token of the answer, and the whole characters that became certain with it. finish: why it was
 * the last, or -1. */
IMPORT(token)
void host_token(int32_t id, const char *text, size_t len, int finish, float logprob,
                const tvlm_alternative *alternatives, size_t n_alternatives);
/* Has the page cancelled? Only modules without shared memory ask. */
IMPORT(cancelled) int host_cancelled(void);

#endif
