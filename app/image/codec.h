/* SPDX-License-Identifier: MIT
 * Between the files of this folder: a decoder for each format, and what they share. */
#ifndef TVLM_APP_CODEC_H
#define TVLM_APP_CODEC_H

#include "image/decode.h"

typedef struct tvlm_encoded {
    const uint8_t *data;
    size_t size;
    uint64_t max_pixels;
    bool as_stored;
} tvlm_encoded;

/* Fills out with 1, 3 or 4 (RGBA) channels. On an error out->data may be set: the caller frees. */
typedef tvlm_status tvlm_decoder_fn(const tvlm_encoded *in, tvlm_decoded *out, tvlm_error *err);
tvlm_decoder_fn tvlm_decode_jpeg, tvlm_decode_png, tvlm_decode_webp, tvlm_decode_gif,
    tvlm_decode_heif, tvlm_decode_pnm;

typedef struct tvlm_format {
    const char *name;        /* with its article */
    tvlm_decoder_fn *decode; /* NULL: not in this build, or not at all */
    const char *advice;      /* then */
} tvlm_format;
/* By the file's first bytes (TVLM_FORMAT_BYTES are enough); NULL when they say nothing. */
enum { TVLM_FORMAT_BYTES = 64 };
const tvlm_format *tvlm_format_of(const uint8_t *data, size_t size);

/* Before any work is done: a size within max_pixels, of no more than 65,535 a side. */
tvlm_status tvlm_check_size(const tvlm_encoded *in, uint64_t width, uint64_t height,
                            tvlm_error *err);
tvlm_status tvlm_decoded_alloc(uint32_t width, uint32_t height, uint32_t channels,
                               tvlm_decoded *out, tvlm_error *err);
/* The data ended after `rows` whole rows: the others become grey, and a warning says so. An error
 * when there are none. */
tvlm_status tvlm_decoded_cut(tvlm_decoded *out, uint32_t rows, const char *format, tvlm_error *err);
/* The same for an interlaced image of which every dx-th pixel of every dy-th row is there; the
 * others repeat it. */
void tvlm_decoded_spread(tvlm_decoded *out, uint32_t dx, uint32_t dy, const char *format);

/* Orientation 1..8 by the EXIF block (with or without its "Exif\0\0"; nullable) or, where that has
 * none, by XMP (nullable). 1 when neither says. */
int tvlm_orientation(const uint8_t *exif, size_t exif_size, const uint8_t *xmp, size_t xmp_size);
/* The first place of the text in data, or NULL. */
const uint8_t *tvlm_find(const uint8_t *data, size_t size, const char *text);

#endif
