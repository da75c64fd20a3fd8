/* SPDX-License-Identifier: MIT */
#include "image/codec.h"
#include "system/system.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE ((size_t)1 << 30)
#define MAX_SIDE 65535u

/* ---- what the decoders share ---- */

tvlm_status app_check_size(const app_encoded *in, uint64_t width, uint64_t height, tvlm_error *err)
{
    unsigned long long w = width, h = height, most = in->max_pixels;
    if (!w || !h) return app_fail(err, TVLM_ERR_FORMAT, "an empty image: %llux%llu", w, h);
    if (w > MAX_SIDE || h > MAX_SIDE)
        return app_fail(err, TVLM_ERR_LIMIT, "an image of %llux%llu, a side may have %u pixels", w,
                        h, MAX_SIDE);
    if (w * h > most)
        return app_fail(err, TVLM_ERR_LIMIT,
                        "an image of %llux%llu, the limit is %llu pixels (--max-pixels)", w, h,
                        most);
    return TVLM_OK;
}

tvlm_status app_decoded_alloc(uint32_t width, uint32_t height, uint32_t channels, app_decoded *out,
                              tvlm_error *err)
{
    bool fits = width <= SIZE_MAX / channels;
    out->data = fits ? app_sys_large_alloc(height, (size_t)width * channels) : NULL;
    if (!out->data)
        return app_fail(err, TVLM_ERR_MEMORY, "out of memory for %ux%u pixels", (unsigned)width,
                        (unsigned)height);
    out->width = width;
    out->height = height;
    out->channels = channels;
    return TVLM_OK;
}

static void warn_of_cut(app_decoded *out, const char *format)
{
    snprintf(out->warning, sizeof out->warning,
             "the %s is truncated or damaged: part of the image is missing", format);
}

tvlm_status app_decoded_cut(app_decoded *out, uint32_t rows, const char *format, tvlm_error *err)
{
    size_t row = (size_t)out->width * out->channels, begin = rows * row;
    if (!rows)
        return app_fail(err, TVLM_ERR_FORMAT, "the %s is truncated or damaged: nothing to show",
                        format);
    memset(out->data + begin, 128, row * out->height - begin);
    for (size_t i = begin + 3; out->channels == 4 && i < row * out->height; i += 4)
        out->data[i] = 255;
    warn_of_cut(out, format);
    return TVLM_OK;
}

void app_decoded_spread(app_decoded *out, uint32_t dx, uint32_t dy, const char *format)
{
    for (size_t y = 0; y < out->height; y++)
        for (size_t x = 0; x < out->width; x++) {
            size_t from = (y - y % dy) * out->width + x - x % dx, to = y * out->width + x;
            memmove(out->data + to * out->channels, out->data + from * out->channels,
                    out->channels);
        }
    warn_of_cut(out, format);
}

void app_decoded_free(app_decoded *image)
{
    free(image->data);
    *image = (app_decoded){0};
}

tvlm_pixels app_decoded_pixels(const app_decoded *d)
{
    return (tvlm_pixels){d->data, d->width, d->height, d->channels, 0};
}

/* ---- from stored to shown ---- */

/* One row of the turned image: every `step` bytes from p on. */
static void copy_row(uint8_t *to, const uint8_t *p, ptrdiff_t step, uint32_t n, uint32_t channels)
{
    for (uint32_t x = 0; x < n; x++, p += step, to += channels)
        for (uint32_t c = 0; c < channels; c++)
            to[c] = p[c];
}

/* The pixel (x, y) of the turned image is the stored one at begin + x * dx + y * dy bytes. */
static tvlm_status turn(app_decoded *d, tvlm_error *err)
{
    int o = d->orientation;
    if (o <= 1 || o > 8) return TVLM_OK;
    bool transposed = o >= 5;
    bool mirrored = o == 2 || o == 3 || o == 7 || o == 8;
    bool flipped = o == 3 || o == 4 || o == 6 || o == 7;
    ptrdiff_t pixel = d->channels, row = (ptrdiff_t)d->width * pixel;
    ptrdiff_t across = mirrored ? -pixel : pixel, down = flipped ? -row : row;
    ptrdiff_t dx = transposed ? down : across, dy = transposed ? across : down;
    const uint8_t *begin =
        d->data + (mirrored ? row - pixel : 0) + (flipped ? row * ((ptrdiff_t)d->height - 1) : 0);
    app_decoded t = *d;
    APP_TRY(app_decoded_alloc(transposed ? d->height : d->width, transposed ? d->width : d->height,
                              d->channels, &t, err));
    for (uint32_t y = 0; y < t.height; y++)
        copy_row(t.data + (size_t)y * t.width * t.channels, begin + y * dy, dx, t.width,
                 t.channels);
    free(d->data);
    *d = t;
    return TVLM_OK;
}

/* RGBA -> RGB, in place: on white, or without regard to alpha as the reference does. */
static void flatten(app_decoded *d, bool on_white)
{
    size_t n = (size_t)d->width * d->height;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = d->data + 4 * i;
        unsigned alpha = on_white ? p[3] : 255, light = 255 * (255 - alpha);
        for (size_t c = 0; c < 3; c++)
            d->data[3 * i + c] = (uint8_t)((p[c] * alpha + light + 127) / 255);
    }
    d->channels = 3;
}

/* ---- files ---- */

static tvlm_status refuse(const app_format *f, size_t size, tvlm_error *err)
{
    if (!size) return app_fail(err, TVLM_ERR_FORMAT, "the file is empty");
    if (!f)
        return app_fail(err, TVLM_ERR_FORMAT,
                        "not an image in a known format (JPEG, PNG, WebP, GIF, HEIC, AVIF, PNM)");
    return app_fail(err, TVLM_ERR_UNSUPPORTED, "%s: %s", f->name, f->advice);
}

tvlm_status app_decode_memory(const void *data, size_t size, const app_decode_params *params,
                              app_decoded *out, tvlm_error *err)
{
    static const app_decode_params defaults;
    params = params ? params : &defaults;
    app_encoded in = {data, size, params->max_pixels ? params->max_pixels : TVLM_DEFAULT_MAX_PIXELS,
                      params->as_stored};
    const app_format *f = app_format_of(data, size);
    *out = (app_decoded){0};
    if (!f || !f->decode) return refuse(f, size, err);
    tvlm_status status = f->decode(&in, out, err);
    if (!status && out->channels == 4) flatten(out, !in.as_stored);
    if (!status && !in.as_stored) status = turn(out, err);
    if (status) app_decoded_free(out);
    return status;
}

typedef struct buffer {
    uint8_t *data;
    size_t size, cap;
} buffer;

static tvlm_status reserve(buffer *b, size_t cap, tvlm_error *err)
{
    uint8_t *grown = realloc(b->data, cap);
    if (!grown) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for the file");
    b->data = grown;
    b->cap = cap;
    return TVLM_OK;
}

/* Bytes left of a regular file; 0 where that is unknown (a pipe, a device). */
static size_t known_size(FILE *f)
{
    long begin = ftell(f), end = begin < 0 || fseek(f, 0, SEEK_END) ? begin : ftell(f);
    if (begin >= 0) fseek(f, begin, SEEK_SET);
    return end > begin ? (size_t)(end - begin) : 0;
}

/* What is no image is refused by its beginning: it may be a film, or have no end. */
static tvlm_status read_all(FILE *f, buffer *b, tvlm_error *err)
{
    size_t n, size = known_size(f);
    APP_TRY(reserve(b, 1 << 16, err));
    do {
        if (b->size == b->cap) APP_TRY(reserve(b, 2 * b->cap, err));
        n = fread(b->data + b->size, 1, b->cap - b->size, f);
        if (!b->size) {
            const app_format *format = app_format_of(b->data, n);
            if (!ferror(f) && (!format || !format->decode)) return refuse(format, n, err);
        }
        b->size += n;
        if (b->size > MAX_FILE)
            return app_fail(err, TVLM_ERR_LIMIT, "the file is over %zu bytes", MAX_FILE);
    } while (n);
    if (ferror(f)) return app_fail(err, TVLM_ERR_IO, "cannot read: %s", strerror(errno));
    if (size && b->size != size)
        return app_fail(err, TVLM_ERR_IO, "it changed while it was read: %zu bytes of %zu", b->size,
                        size);
    return TVLM_OK;
}

tvlm_status app_decode_file(const char *path, const app_decode_params *params, app_decoded *out,
                            tvlm_error *err)
{
    bool standard = !strcmp(path, "-");
    tvlm_error local = {0};
    buffer b = {0};
    *out = (app_decoded){0};
    FILE *f = standard ? stdin : app_sys_open(path);
    tvlm_status status = f ? read_all(f, &b, &local)
                           : app_fail(&local, TVLM_ERR_IO, "cannot open: %s", strerror(errno));
    if (f && !standard) fclose(f);
    if (!status) status = app_decode_memory(b.data, b.size, params, out, &local);
    free(b.data);
    if (status) app_fail(err, status, "%s: %s", standard ? "standard input" : path, local.message);
    return status;
}
