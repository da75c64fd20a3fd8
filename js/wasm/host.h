/* SPDX-License-Identifier: MIT
 * What the module imports from JavaScript (namespace "env", beside "memory"). */
#ifndef TVLM_WASM_HOST_H
#define TVLM_WASM_HOST_H

#include <stddef.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(#name)))

/* performance.now() */
IMPORT(now) double host_now(void);
/* A piece of the answer, whole characters. */
IMPORT(text) void host_text(const char *text, size_t len);
/* Has the page cancelled? Only modules without shared memory ask. */
IMPORT(cancelled) int host_cancelled(void);

#endif
