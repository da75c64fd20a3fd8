/* SPDX-License-Identifier: MIT
 * Image files -> 8-bit pixels. libjpeg-turbo, libspng, libwebp, giflib and libheif decode; PNM is
 * ours. The format is told by the first bytes, never by the name. */
#ifndef APP_DECODE_H
#define APP_DECODE_H

#include "tinyvlm.h"

typedef struct app_decode_params {
    uint64_t max_pixels; /* checked before pixels are allocated; 0: TVLM_DEFAULT_MAX_PIXELS */
    /* false: as viewers show it: turned as EXIF or XMP says, what is transparent on white, a JPEG
     * of more than 50 million pixels decoded at a half, quarter or eighth of its size as long as
     * its shorter side keeps 1024. true: as the reference reads it, without any of these. */
    bool as_stored;
} app_decode_params;

/* Rows of width * channels bytes, channels 1 (grey) or 3 (RGB). */
typedef struct app_decoded {
    uint8_t *data;
    uint32_t width, height, channels;
    char warning[160]; /* what of the image is missing or in doubt; "" when nothing is */
    int orientation;   /* of the pixels as stored: 1..8 as EXIF numbers them, else unknown */
} app_decoded;

/* A truncated or damaged image of which at least the first rows can be read is TVLM_OK with a
 * warning; what is missing is grey. path "-" reads standard input. Errors begin with the path,
 * the warning does not. Memory beside the file's: up to 4 bytes for each pixel, and as much again
 * while an image is turned and for lossless WebP; a progressive JPEG takes 2 more for each sample
 * and HEIC or AVIF what libheif takes, about 6 for each pixel. */
tvlm_status app_decode_file(const char *path, const app_decode_params *params, app_decoded *out,
                            tvlm_error *err);
tvlm_status app_decode_memory(const void *data, size_t size, const app_decode_params *params,
                              app_decoded *out, tvlm_error *err);
void app_decoded_free(app_decoded *image);
tvlm_pixels app_decoded_pixels(const app_decoded *image);

#endif
