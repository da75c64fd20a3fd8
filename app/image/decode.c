/* SPDX-License-Identifier: MIT */
#include "image/decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define MAX_FILE       ((size_t)1 << 30)
#define DEFAULT_PIXELS 100000000u

tvlm_status tvlm_decoded_alloc(uint32_t width, uint32_t height, uint32_t channels,
                               uint64_t max_pixels, tvlm_decoded *out, tvlm_error *err)
{
    if (!width || !height)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "an empty picture: %ux%u", (unsigned)width,
                         (unsigned)height);
    if ((uint64_t)width * height > max_pixels)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "a picture of %ux%u, the limit is %llu pixels",
                         (unsigned)width, (unsigned)height, (unsigned long long)max_pixels);
    size_t size;
    if (!tvlm_mul_size((size_t)width * channels, height, &size) || !(out->data = malloc(size)))
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for %ux%u pixels", (unsigned)width,
                         (unsigned)height);
    out->width = width;
    out->height = height;
    out->channels = channels;
    return TVLM_OK;
}

void tvlm_decoded_free(tvlm_decoded *image)
{
    free(image->data);
    *image = (tvlm_decoded){0};
}

tvlm_pixels tvlm_decoded_pixels(const tvlm_decoded *d)
{
    return (tvlm_pixels){d->data, d->width, d->height, d->channels, 0};
}

/* EXIF orientation o: the stored pixel that shows at (x, y) of the turned picture. */
static void source_of(int o, uint32_t w, uint32_t h, uint32_t x, uint32_t y, uint32_t *sx,
                      uint32_t *sy)
{
    bool transposed = o >= 5;
    uint32_t a = transposed ? y : x, b = transposed ? x : y;
    *sx = o == 2 || o == 3 || o == 7 || o == 8 ? w - 1 - a : a;
    *sy = o == 3 || o == 4 || o == 6 || o == 7 ? h - 1 - b : b;
}

static tvlm_status turn(tvlm_decoded *d, int o, tvlm_error *err)
{
    tvlm_decoded t = {0};
    uint32_t w = o >= 5 ? d->height : d->width, h = o >= 5 ? d->width : d->height, sx, sy;
    if (o <= 1 || o > 8) return TVLM_OK;
    TVLM_TRY(tvlm_decoded_alloc(w, h, d->channels, UINT64_MAX, &t, err));
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++) {
            source_of(o, d->width, d->height, x, y, &sx, &sy);
            memcpy(t.data + ((size_t)y * w + x) * d->channels,
                   d->data + ((size_t)sy * d->width + sx) * d->channels, d->channels);
        }
    tvlm_decoded_free(d);
    *d = t;
    return TVLM_OK;
}

static bool begins(const uint8_t *data, size_t size, const char *magic, size_t n)
{
    return size >= n && !memcmp(data, magic, n);
}

tvlm_status tvlm_decode_memory(const void *data, size_t size, const tvlm_decode_params *params,
                               tvlm_decoded *out, tvlm_error *err)
{
    static const tvlm_decode_params defaults;
    const uint8_t *p = data;
    params = params ? params : &defaults;
    uint64_t limit = params->max_pixels ? params->max_pixels : DEFAULT_PIXELS;
    tvlm_decoder_fn *decode = NULL;
    *out = (tvlm_decoded){0};
    if (begins(p, size, "\xff\xd8\xff", 3))
        decode = tvlm_decode_jpeg;
    else if (begins(p, size, "\x89PNG\r\n\x1a\n", 8))
        decode = tvlm_decode_png;
    else if (begins(p, size, "RIFF", 4) && size >= 12 && !memcmp(p + 8, "WEBP", 4))
        decode = tvlm_decode_webp;
    else if (begins(p, size, "P5", 2) || begins(p, size, "P6", 2))
        decode = tvlm_decode_pnm;
    else if (begins(p, size, "GIF8", 4))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "GIF pictures are not supported; JPEG, PNG, WebP and PPM are");
    else
        return tvlm_fail(err, TVLM_ERR_FORMAT,
                         size ? "not a JPEG, PNG, WebP or PPM picture" : "the file is empty");
    tvlm_status status = decode(p, size, limit, out, err);
    if (!status && params->apply_orientation) status = turn(out, out->orientation, err);
    if (status) tvlm_decoded_free(out);
    return status;
}

static tvlm_status read_all(FILE *f, uint8_t **data, size_t *size, tvlm_error *err)
{
    size_t cap = 0, n;
    *data = NULL;
    *size = 0;
    do {
        if (*size == cap) {
            cap = cap ? 2 * cap : 1 << 16;
            uint8_t *grown = cap > MAX_FILE ? NULL : realloc(*data, cap);
            if (!grown)
                return tvlm_fail(err, TVLM_ERR_LIMIT, "the file is over %zu bytes", MAX_FILE);
            *data = grown;
        }
        n = fread(*data + *size, 1, cap - *size, f);
        *size += n;
    } while (n);
    return ferror(f) ? tvlm_fail(err, TVLM_ERR_IO, "cannot read: %s", strerror(errno)) : TVLM_OK;
}

tvlm_status tvlm_decode_file(const char *path, const tvlm_decode_params *params, tvlm_decoded *out,
                             tvlm_error *err)
{
    bool standard = !strcmp(path, "-");
    tvlm_error local = {0};
    uint8_t *data = NULL;
    size_t size = 0;
    *out = (tvlm_decoded){0};
    FILE *f = standard ? stdin : fopen(path, "rb");
    tvlm_status status = f ? read_all(f, &data, &size, &local)
                           : tvlm_fail(&local, TVLM_ERR_IO, "cannot open: %s", strerror(errno));
    if (f && !standard) fclose(f);
    if (!status) status = tvlm_decode_memory(data, size, params, out, &local);
    free(data);
    if (status) tvlm_fail(err, status, "%s: %s", standard ? "standard input" : path, local.message);
    return status;
}
