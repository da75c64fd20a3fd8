/* SPDX-License-Identifier: MIT
 * Which side of an image is up: EXIF through libexif, XMP as text. */
#include "image/codec.h"

#include <stdlib.h>
#include <string.h>

const uint8_t *app_find(const uint8_t *data, size_t size, const char *text)
{
    size_t n = strlen(text);
    for (const uint8_t *p = data; size >= n; p++) {
        size_t left = size - (size_t)(p - data);
        p = left < n ? NULL : memchr(p, text[0], left - n + 1);
        if (!p || !memcmp(p, text, n)) return p;
    }
    return NULL;
}

/* tiff:Orientation="6" or <tiff:Orientation>6<. 0 when there is none. */
static int of_xmp(const uint8_t *xmp, size_t size)
{
    static const char key[] = "tiff:Orientation";
    if (!xmp) return 0;
    const uint8_t *p = xmp, *end = xmp + size;
    while ((p = app_find(p, (size_t)(end - p), key))) {
        p += sizeof key - 1;
        size_t n = end - p >= 3 && p[0] == '=' && p[1] == '"' ? 2 : end - p >= 2 && *p == '>';
        if (n && p[n] >= '0' && p[n] <= '9') return p[n] - '0';
    }
    return 0;
}

#if TVLM_HAVE_EXIF
#include <libexif/exif-data.h>

enum { EXIF_REACH = 1 << 20 }; /* the tag lies in the first directory */

static ExifData *parse(const uint8_t *exif, size_t size)
{
    static const uint8_t mark[6] = {'E', 'x', 'i', 'f'};
    while (size >= sizeof mark && !memcmp(exif, mark, sizeof mark)) {
        exif += sizeof mark;
        size -= sizeof mark;
    }
    size = size < EXIF_REACH ? size : EXIF_REACH;
    uint8_t *copy = malloc(size + sizeof mark);
    ExifData *data = copy ? exif_data_new() : NULL;
    if (data) {
        memcpy(copy, mark, sizeof mark);
        memcpy(copy + sizeof mark, exif, size);
        exif_data_unset_option(data, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
        exif_data_load_data(data, copy, (unsigned)(size + sizeof mark));
    }
    free(copy);
    return data;
}

/* -1 when the tag is missing. */
static int of_exif(const uint8_t *exif, size_t size)
{
    ExifData *data = exif ? parse(exif, size) : NULL;
    ExifEntry *e =
        data ? exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION) : NULL;
    int value = e ? 0 : -1;
    if (e && e->components == 1) {
        ExifByteOrder order = exif_data_get_byte_order(data);
        if (e->format == EXIF_FORMAT_SHORT && e->size >= 2) value = exif_get_short(e->data, order);
        if (e->format == EXIF_FORMAT_LONG && e->size >= 4)
            value = exif_get_long(e->data, order) <= 8 ? (int)exif_get_long(e->data, order) : 0;
    }
    if (data) exif_data_unref(data);
    return value;
}
#else
static int of_exif(const uint8_t *exif, size_t size)
{
    (void)exif, (void)size;
    return -1;
}
#endif

int app_orientation(const uint8_t *exif, size_t exif_size, const uint8_t *xmp, size_t xmp_size)
{
    int value = of_exif(exif, exif_size);
    if (value < 0) value = xmp ? of_xmp(xmp, xmp_size) : 0;
    return value >= 1 && value <= 8 ? value : 1;
}
