/* SPDX-License-Identifier: MIT
 * HEIC and AVIF through libheif: the primary picture, 8 bits. The file's own transformations are
 * what turns it; EXIF says the same once more and is not applied. */
#include "image/codec.h"

#include "base/base.h"

#include <string.h>

#include <libheif/heif.h>

typedef struct decoder {
    struct heif_context *context;
    struct heif_image_handle *handle;
    struct heif_decoding_options *options;
    struct heif_image *image;
} decoder;

static tvlm_status check(struct heif_error e, tvlm_error *err)
{
    if (e.code == heif_error_Ok) return TVLM_OK;
    bool unsupported = e.code == heif_error_Unsupported_filetype ||
                       e.code == heif_error_Unsupported_feature ||
                       e.code == heif_error_Decoder_plugin_error;
    return tvlm_fail(err, unsupported ? TVLM_ERR_UNSUPPORTED : TVLM_ERR_FORMAT,
                     "HEIC or AVIF: libheif: %s", e.message);
}

static tvlm_status copy_rows(const struct heif_image *image, uint32_t channels, tvlm_decoded *out,
                             tvlm_error *err)
{
    int stride, w = heif_image_get_width(image, heif_channel_interleaved),
                h = heif_image_get_height(image, heif_channel_interleaved);
    const uint8_t *p = heif_image_get_plane_readonly(image, heif_channel_interleaved, &stride);
    if (!p || w < 1 || h < 1 || stride < 1)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "HEIC or AVIF: an empty picture");
    TVLM_TRY(tvlm_decoded_alloc((uint32_t)w, (uint32_t)h, channels, out, err));
    size_t row = (size_t)w * channels;
    for (size_t y = 0; y < (size_t)h; y++)
        memcpy(out->data + y * row, p + y * (size_t)stride, row);
    return TVLM_OK;
}

static tvlm_status decode(decoder *d, const tvlm_encoded *in, tvlm_decoded *out, tvlm_error *err)
{
    d->context = heif_context_alloc();
    d->options = heif_decoding_options_alloc();
    if (!d->context || !d->options) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    d->options->ignore_transformations = in->as_stored;
    d->options->convert_hdr_to_8bit = 1;
    heif_context_set_maximum_image_size_limit(d->context, 65535);
    TVLM_TRY(check(heif_context_read_from_memory_without_copy(d->context, in->data, in->size, NULL),
                   err));
    TVLM_TRY(check(heif_context_get_primary_image_handle(d->context, &d->handle), err));
    int w = heif_image_handle_get_width(d->handle), h = heif_image_handle_get_height(d->handle);
    TVLM_TRY(tvlm_check_size(in, w > 0 ? (uint64_t)w : 0, h > 0 ? (uint64_t)h : 0, err));
    bool alpha = heif_image_handle_has_alpha_channel(d->handle);
    TVLM_TRY(
        check(heif_decode_image(d->handle, &d->image, heif_colorspace_RGB,
                                alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB,
                                d->options),
              err));
    return copy_rows(d->image, alpha ? 4 : 3, out, err);
}

tvlm_status tvlm_decode_heif(const tvlm_encoded *in, tvlm_decoded *out, tvlm_error *err)
{
    decoder d = {0};
    tvlm_status status = decode(&d, in, out, err);
    if (d.image) heif_image_release(d.image);
    if (d.handle) heif_image_handle_release(d.handle);
    if (d.options) heif_decoding_options_free(d.options);
    if (d.context) heif_context_free(d.context);
    return status;
}
