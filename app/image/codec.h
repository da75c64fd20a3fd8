/* SPDX-License-Identifier: MIT
 * Between the files of this folder: a decoder for each format, and what they share. */
#ifndef APP_CODEC_H
#define APP_CODEC_H

#include "common/common.h"
#include "image/decode.h"

typedef struct app_encoded {
    const uint8_t *data;
    size_t size;
    uint64_t max_pixels;
    bool as_stored;
} app_encoded;

/* Fills out with 1, 3 or 4 (RGBA) channels. On an error out->data may be set: the caller frees. */
typedef tvlm_status app_decoder_fn(const app_encoded *in, app_decoded *out, tvlm_error *err);
app_decoder_fn app_decode_jpeg, app_decode_png, app_decode_webp, app_decode_gif, app_decode_heif,
    app_decode_pnm;

typedef struct app_format {
    const char *name;       /* with its article */
    app_decoder_fn *decode; /* NULL: not in this build, or not at all */
    const char *advice;     /* then */
} app_format;
/* By the file's first bytes (APP_FORMAT_BYTES are enough); NULL when they say nothing. */
enum { APP_FORMAT_BYTES = 64 };
const app_format *app_format_of(const uint8_t *data, size_t size);

/* Before any work is done: a size within max_pixels, of no more than 65,535 a side. */
tvlm_status app_check_size(const app_encoded *in, uint64_t width, uint64_t height, tvlm_error *err);
tvlm_status app_decoded_alloc(uint32_t width, uint32_t height, uint32_t channels, app_decoded *out,
                              tvlm_error *err);
/* The data ended after `rows` whole rows: the others become grey, and a warning says so. An error
 * when there are none. */
tvlm_status app_decoded_cut(app_decoded *out, uint32_t rows, const char *format, tvlm_error *err);
/* The same for an interlaced image of which every dx-th pixel of every dy-th row is there; the
 * others repeat it. */
void app_decoded_spread(app_decoded *out, uint32_t dx, uint32_t dy, const char *format);

/* Orientation 1..8 by the EXIF block (with or without its "Exif\0\0"; nullable) or, where that has
 * none, by XMP (nullable). 1 when neither says. */
int app_orientation(const uint8_t *exif, size_t exif_size, const uint8_t *xmp, size_t xmp_size);
/* The first place of the text in data, or NULL. */
const uint8_t *app_find(const uint8_t *data, size_t size, const char *text);

#endif
