/* SPDX-License-Identifier: MIT
 * Still WebP pictures through libwebp. */
#include "image/decode.h"

#include "base/base.h"

#if TVLM_HAVE_WEBP
#include <webp/decode.h>
#include <webp/demux.h>

static int orientation_of(const uint8_t *data, size_t size)
{
    WebPChunkIterator chunk;
    int orientation = 1;
    WebPDemuxer *demuxer = WebPDemux(&(WebPData){data, size});
    if (demuxer && WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
        orientation = tvlm_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(demuxer);
    return orientation;
}

tvlm_status tvlm_decode_webp(const uint8_t *data, size_t size, uint64_t max_pixels,
                             tvlm_decoded *out, tvlm_error *err)
{
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(data, size, &f) != VP8_STATUS_OK)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "damaged WebP");
    if (f.has_animation)
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                         "an animated WebP: save the frame that you mean as a still picture");
    TVLM_TRY(tvlm_decoded_alloc((uint32_t)f.width, (uint32_t)f.height, 3, max_pixels, out, err));
    if (!WebPDecodeRGBInto(data, size, out->data, (size_t)f.width * (size_t)f.height * 3,
                           f.width * 3))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "damaged WebP");
    out->orientation = orientation_of(data, size);
    return TVLM_OK;
}
#else
tvlm_status tvlm_decode_webp(const uint8_t *data, size_t size, uint64_t max_pixels,
                             tvlm_decoded *out, tvlm_error *err)
{
    (void)data, (void)size, (void)max_pixels, (void)out;
    return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "this tinyvlm was built without WebP support");
}
#endif
