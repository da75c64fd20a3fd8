/* SPDX-License-Identifier: MIT
 * Picture files -> 8-bit pixels, through libjpeg-turbo, libspng and libwebp; PPM and PGM by
 * ourselves. The format is told by its first bytes, never by the name. */
#ifndef TVLM_APP_DECODE_H
#define TVLM_APP_DECODE_H

#include "tinyvlm.h"

typedef struct tvlm_decode_params {
    uint64_t max_pixels;    /* checked before pixels are allocated; 0: 100,000,000 */
    bool apply_orientation; /* turn as EXIF says (JPEG) */
} tvlm_decode_params;

/* Rows of width * channels bytes, channels 1, 3 or 4. */
typedef struct tvlm_decoded {
    uint8_t *data;
    uint32_t width, height, channels;
    int orientation; /* of the pixels as stored: 1..8 as EXIF numbers them, else unknown */
} tvlm_decoded;

/* path "-" reads standard input. Errors begin with the path. */
tvlm_status tvlm_decode_file(const char *path, const tvlm_decode_params *params, tvlm_decoded *out,
                             tvlm_error *err);
tvlm_status tvlm_decode_memory(const void *data, size_t size, const tvlm_decode_params *params,
                               tvlm_decoded *out, tvlm_error *err);
void tvlm_decoded_free(tvlm_decoded *image);
tvlm_pixels tvlm_decoded_pixels(const tvlm_decoded *image);

/* ---- between the files of this folder ---- */
typedef tvlm_status tvlm_decoder_fn(const uint8_t *data, size_t size, uint64_t max_pixels,
                                    tvlm_decoded *out, tvlm_error *err);
tvlm_decoder_fn tvlm_decode_jpeg, tvlm_decode_png, tvlm_decode_webp, tvlm_decode_pnm;
/* Checks the limit and allocates out->data. */
tvlm_status tvlm_decoded_alloc(uint32_t width, uint32_t height, uint32_t channels,
                               uint64_t max_pixels, tvlm_decoded *out, tvlm_error *err);
/* data: a whole JPEG, or the EXIF block of another format. 1 when there is none. */
int tvlm_exif_orientation(const uint8_t *data, size_t size);

#endif
