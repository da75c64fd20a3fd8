/* SPDX-License-Identifier: MIT
 * Pixels -> the model's input tensor, bit-exact with Pillow's resize (libImaging/Resample.c) as it
 * was up to version 12: horizontal pass first. Pillow 13 swaps the passes of some tall images,
 * which moves single roundings. */
#ifndef TVLM_PREPROCESS_H
#define TVLM_PREPROCESS_H

#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/config.h"

/* Longest side of an image, what a JPEG can have: it bounds the memory. */
#define TVLM_MAX_SIDE 65535u

/* What tvlm_preprocess_run takes from its arena for any image up to side x side, at most. */
size_t tvlm_preprocess_bytes(const tvlm_preprocess_config *config, uint32_t side,
                             unsigned n_threads);

/* out: [S][S][3] float32. Works row by row: padding is virtual and memory is a source row a thread,
 * the filter's table and a ring of horizontally resized rows, about 31 bytes a pixel of the longest
 * side and 3 more for each other thread, given back to the arena. fit: TVLM_FIT_MODEL takes the
 * configuration's. Errors: ARGUMENT for an empty or ill-formed image, LIMIT for a side beyond
 * TVLM_MAX_SIDE, CANCELLED. */
tvlm_status tvlm_preprocess_run(const tvlm_kernels *kernels, const tvlm_preprocess_config *config,
                                const tvlm_pixels *pixels, tvlm_fit fit, tvlm_arena *arena,
                                tvlm_pool *pool, const tvlm_cancel *cancel, float *out,
                                tvlm_error *err);

/* The same resize to any size, squashing, without scale and bias: out [height][width][3]. Takes at
 * most tvlm_preprocess_resize_bytes from the arena for an image and an output of such sides. */
tvlm_status tvlm_preprocess_resize(const tvlm_kernels *kernels, tvlm_filter filter,
                                   const tvlm_pixels *pixels, size_t width, size_t height,
                                   tvlm_arena *arena, tvlm_pool *pool, const tvlm_cancel *cancel,
                                   uint8_t *out, tvlm_error *err);
size_t tvlm_preprocess_resize_bytes(tvlm_filter filter, uint32_t side, size_t out_side,
                                    unsigned n_threads);
/* Pixels of three channels and a given stride -> out [height][width][3], scaled and biased. */
void tvlm_preprocess_values(const tvlm_preprocess_config *config, const tvlm_pixels *rgb,
                            float *out);

#endif
