/* SPDX-License-Identifier: MIT
 * Recognising files that are taken for models by mistake. */
#ifndef TVLM_FOREIGN_H
#define TVLM_FOREIGN_H

#include <stddef.h>

/* What a file that begins with these bytes is, and what to do about it: "a Git LFS pointer: ...".
 * NULL: not known. The first 64 bytes tell as much as there is to tell. Static storage. */
const char *tvlm_foreign_kind(const void *data, size_t size);

#endif
