/* SPDX-License-Identifier: MIT
 * Images by name, out of folders and out of archives that libarchive reads (tar, zip ...,
 * compressed or not). */
#ifndef APP_EVAL_IMAGES_H
#define APP_EVAL_IMAGES_H

#include "tinyvlm.h"

/* The file of names[i]; the bytes end with the call. */
typedef tvlm_status (*eval_visit)(void *user, size_t i, const void *data, size_t size,
                                  tvlm_error *err);

/* Finds names (sorted, each once) in the sources, one source after the other, each name in the
 * first that has it, and sets found[i]. visit is NULL: looks only; else it is called for each, in
 * the order of the sources, which is the fast one. */
tvlm_status eval_images_visit(const char *const *sources, size_t n_sources,
                              const char *const *names, size_t n, bool *found, eval_visit visit,
                              void *user, tvlm_error *err);

#endif
