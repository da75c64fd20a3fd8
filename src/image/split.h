/* SPDX-License-Identifier: MIT
 * An image as frames of S x S pixels and one of the whole, as Idefics3 sees it (transformers
 * image_processing_pil_idefics3.py): resized so that its longer edge has config->split_edge pixels,
 * then, squashing, to whole frames; the last frame is that, squashed once more. */
#ifndef TVLM_SPLIT_H
#define TVLM_SPLIT_H

#include "image/preprocess.h"

typedef struct tvlm_grid {
    uint32_t rows, cols; /* of the frames before the last; 0: there is one frame only */
} tvlm_grid;

static inline size_t tvlm_grid_frames(tvlm_grid grid)
{
    return (size_t)grid.rows * grid.cols + 1;
}

/* Of an image of w x h; 0 x 0 where the configuration does not split. */
tvlm_grid tvlm_split_grid(const tvlm_preprocess_config *config, uint32_t w, uint32_t h);
/* The grid of the most frames that any image has. */
tvlm_grid tvlm_split_largest(const tvlm_preprocess_config *config);

/* The resized image [rows * S][cols * S][3] and the last frame [S][S][3], both in the arena; of an
 * image of one frame, `whole` alone. */
typedef struct tvlm_split {
    tvlm_grid grid;
    uint8_t *frames, *whole;
} tvlm_split;
size_t tvlm_split_bytes(const tvlm_preprocess_config *config, uint32_t side, unsigned n_threads);
/* Of them, what stays: both images of the largest grid. */
size_t tvlm_split_kept_bytes(const tvlm_preprocess_config *config);
/* Errors as of tvlm_preprocess_run. */
tvlm_status tvlm_split_run(const tvlm_kernels *kernels, const tvlm_preprocess_config *config,
                           const tvlm_pixels *pixels, tvlm_arena *arena, tvlm_pool *pool,
                           const tvlm_cancel *cancel, tvlm_split *out, tvlm_error *err);
/* Frame i, row by row of the grid, the whole last: out [S][S][3]. */
void tvlm_split_frame(const tvlm_preprocess_config *config, const tvlm_split *split, size_t i,
                      float *out);

#endif
