/* SPDX-License-Identifier: MIT
 * PNG through libspng: palette, grey, 16 bits and transparency all become RGB; alpha is dropped,
 * not blended, as the reference does. */
#include "image/decode.h"

#include "base/base.h"

#if TVLM_HAVE_PNG
#include <spng.h>

static tvlm_status decode(spng_ctx *ctx, const uint8_t *data, size_t size, uint64_t max_pixels,
                          tvlm_decoded *out, tvlm_error *err)
{
    struct spng_ihdr head;
    size_t bytes;
    int code = spng_set_image_limits(ctx, 1000000, 1000000);
    if (!code) code = spng_set_chunk_limits(ctx, (size_t)16 << 20, (size_t)64 << 20);
    if (!code) code = spng_set_png_buffer(ctx, data, size);
    if (!code) code = spng_get_ihdr(ctx, &head);
    if (code) return tvlm_fail(err, TVLM_ERR_FORMAT, "damaged PNG: %s", spng_strerror(code));
    TVLM_TRY(tvlm_decoded_alloc(head.width, head.height, 3, max_pixels, out, err));
    code = spng_decoded_image_size(ctx, SPNG_FMT_RGB8, &bytes);
    if (!code && bytes != (size_t)head.width * head.height * 3)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "damaged PNG: its size is not what its header says");
    if (!code) code = spng_decode_image(ctx, out->data, bytes, SPNG_FMT_RGB8, 0);
    if (code) return tvlm_fail(err, TVLM_ERR_FORMAT, "damaged PNG: %s", spng_strerror(code));
    struct spng_exif exif;
    if (!spng_get_exif(ctx, &exif))
        out->orientation = tvlm_exif_orientation((const uint8_t *)exif.data, exif.length);
    return TVLM_OK;
}

tvlm_status tvlm_decode_png(const uint8_t *data, size_t size, uint64_t max_pixels,
                            tvlm_decoded *out, tvlm_error *err)
{
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = decode(ctx, data, size, max_pixels, out, err);
    spng_ctx_free(ctx);
    return status;
}
#else
tvlm_status tvlm_decode_png(const uint8_t *data, size_t size, uint64_t max_pixels,
                            tvlm_decoded *out, tvlm_error *err)
{
    (void)data, (void)size, (void)max_pixels, (void)out;
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "this tinyvlm was built without PNG support");
}
#endif
