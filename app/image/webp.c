/* SPDX-License-Identifier: MIT
 * WebP through libwebp; the first frame of an animation. */
#include "image/codec.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

static WebPData find_chunk(WebPDemuxer *demuxer, const char *name)
{
    WebPChunkIterator chunk;
    if (!WebPDemuxGetChunk(demuxer, name, 1, &chunk)) return (WebPData){NULL, 0};
    WebPData data = chunk.chunk;
    WebPDemuxReleaseChunkIterator(&chunk);
    return data;
}

static int read_orientation(WebPDemuxer *demuxer)
{
    WebPData exif = find_chunk(demuxer, "EXIF"), xmp = find_chunk(demuxer, "XMP ");
    return app_orientation(exif.bytes, exif.size, xmp.bytes, xmp.size);
}

/* Rows of the frame that could be decoded; -1 when it is damaged. */
static int decode_frame(const WebPIterator *f, app_decoded *out)
{
    size_t stride = (size_t)out->width * out->channels;
    size_t begin = (size_t)f->y_offset * stride + (size_t)f->x_offset * out->channels;
    size_t size = stride * ((size_t)f->height - 1) + (size_t)f->width * out->channels;
    int rows = -1;
    WebPIDecoder *decoder = WebPINewRGB(out->channels == 4 ? MODE_RGBA : MODE_RGB,
                                        out->data + begin, size, (int)stride);
    if (!decoder) return -1;
    VP8StatusCode code = WebPIUpdate(decoder, f->fragment.bytes, f->fragment.size);
    if (code == VP8_STATUS_OK) rows = f->height;
    if (code == VP8_STATUS_SUSPENDED && !WebPIDecGetRGB(decoder, &rows, NULL, NULL, NULL)) rows = 0;
    WebPIDelete(decoder);
    return rows;
}

static tvlm_status decode(WebPDemuxer *demuxer, const WebPIterator *f, const app_encoded *in,
                          app_decoded *out, tvlm_error *err)
{
    uint32_t w = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH);
    uint32_t h = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT);
    uint32_t fw = (uint32_t)f->width, fh = (uint32_t)f->height;
    bool part = fw < w || fh < h;
    APP_TRY(app_check_size(in, w, h, err));
    if (!fw || !fh)
        return app_fail(err, TVLM_ERR_FORMAT, "the WebP is truncated or damaged: nothing to show");
    if ((uint32_t)f->x_offset + fw > w || (uint32_t)f->y_offset + fh > h)
        return app_fail(err, TVLM_ERR_FORMAT, "damaged WebP: its frame is outside the image");
    APP_TRY(app_decoded_alloc(w, h, part || f->has_alpha ? 4 : 3, out, err));
    if (part) memset(out->data, 0, (size_t)w * h * 4); /* what the frame leaves is transparent */
    int rows = decode_frame(f, out);
    if (rows < 0) return app_fail(err, TVLM_ERR_FORMAT, "damaged WebP");
    if (rows < f->height)
        return app_decoded_cut(out, rows ? (uint32_t)(f->y_offset + rows) : 0, "WebP", err);
    out->orientation = read_orientation(demuxer);
    return TVLM_OK;
}

tvlm_status app_decode_webp(const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    WebPIterator frame;
    WebPDemuxer *demuxer = WebPDemuxPartial(&(WebPData){in->data, in->size}, NULL);
    tvlm_status status;
    if (demuxer && WebPDemuxGetFrame(demuxer, 1, &frame)) {
        status = decode(demuxer, &frame, in, out, err);
        WebPDemuxReleaseIterator(&frame);
    } else {
        status = app_fail(err, TVLM_ERR_FORMAT, "damaged or truncated WebP");
    }
    WebPDemuxDelete(demuxer);
    return status;
}
