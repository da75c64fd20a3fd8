/* SPDX-License-Identifier: MIT
 * JPEG through libjpeg-turbo; orientation through libexif. */
#include "image/decode.h"

#include "base/base.h"

#include <string.h>

#if TVLM_HAVE_JPEG
#include <turbojpeg.h>

/* Stray bytes between segments, which some cameras write, lose nothing; after any other warning
 * (a truncated scan, a damaged block) part of the picture would be made up. */
static bool harmless(tjhandle tj)
{
    return tjGetErrorCode(tj) == TJERR_WARNING && strstr(tjGetErrorStr2(tj), "extraneous bytes");
}

tvlm_status tvlm_decode_jpeg(const uint8_t *data, size_t size, uint64_t max_pixels,
                             tvlm_decoded *out, tvlm_error *err)
{
    tjhandle tj = tjInitDecompress();
    if (!tj) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    int w = 0, h = 0, subsampling = 0, space = 0;
    tvlm_status status = TVLM_OK;
    if (tjDecompressHeader3(tj, data, (unsigned long)size, &w, &h, &subsampling, &space))
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "damaged JPEG: %s", tjGetErrorStr2(tj));
    else if (space == TJCS_CMYK || space == TJCS_YCCK)
        status = tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                           "a CMYK JPEG (for printing): convert it to RGB first");
    else
        status = tvlm_decoded_alloc((uint32_t)w, (uint32_t)h, 3, max_pixels, out, err);
    /* the accurate transform and smooth upsampling, as Pillow decodes */
    if (!status &&
        tjDecompress2(tj, data, (unsigned long)size, out->data, w, 0, h, TJPF_RGB,
                      TJFLAG_ACCURATEDCT) &&
        !harmless(tj))
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "damaged JPEG: %s", tjGetErrorStr2(tj));
    out->orientation = tvlm_exif_orientation(data, size);
    tjDestroy(tj);
    return status;
}
#else
tvlm_status tvlm_decode_jpeg(const uint8_t *data, size_t size, uint64_t max_pixels,
                             tvlm_decoded *out, tvlm_error *err)
{
    (void)data, (void)size, (void)max_pixels, (void)out;
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "this tinyvlm was built without JPEG support");
}
#endif

#if TVLM_HAVE_EXIF
#include <libexif/exif-data.h>
#include <stdlib.h>

/* PNG and WebP hold the block without the mark by which JPEG and libexif know it. */
static ExifData *parse_exif(const uint8_t *data, size_t size)
{
    static const char mark[6] = "Exif\0";
    bool marked = size >= 6 && (data[0] == 0xff || !memcmp(data, mark, 6));
    if (marked) return exif_data_new_from_data(data, (unsigned)size);
    uint8_t *copy = size < 1u << 20 ? malloc(size + 6) : NULL;
    if (!copy) return NULL;
    memcpy(copy, mark, 6);
    memcpy(copy + 6, data, size);
    ExifData *exif = exif_data_new_from_data(copy, (unsigned)size + 6);
    free(copy);
    return exif;
}

int tvlm_exif_orientation(const uint8_t *data, size_t size)
{
    ExifData *exif = parse_exif(data, size);
    int orientation = 1;
    if (!exif) return 1;
    ExifEntry *entry = exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    if (entry && entry->format == EXIF_FORMAT_SHORT && entry->size >= 2)
        orientation = exif_get_short(entry->data, exif_data_get_byte_order(exif));
    exif_data_unref(exif);
    return orientation;
}
#else
int tvlm_exif_orientation(const uint8_t *data, size_t size)
{
    (void)data, (void)size;
    return 1;
}
#endif
