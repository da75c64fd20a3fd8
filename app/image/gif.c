/* SPDX-License-Identifier: MIT
 * The first frame of a GIF, through giflib. */
#include "image/codec.h"

#include <string.h>

#include <gif_lib.h>

typedef struct stream {
    const uint8_t *data;
    size_t left;
} stream;

static int read_stream(GifFileType *gif, GifByteType *to, int n)
{
    stream *s = gif->UserData;
    size_t k = (size_t)n < s->left ? (size_t)n : s->left;
    memcpy(to, s->data, k);
    s->data += k;
    s->left -= k;
    return (int)k;
}

/* Up to the header of the first frame; its transparent index, or NO_TRANSPARENT_COLOR. */
static bool find_frame(GifFileType *gif, int *transparent)
{
    GifRecordType type;
    GifByteType *block;
    GraphicsControlBlock control;
    int code;
    *transparent = NO_TRANSPARENT_COLOR;
    while (DGifGetRecordType(gif, &type) == GIF_OK && type != TERMINATE_RECORD_TYPE) {
        if (type == IMAGE_DESC_RECORD_TYPE) return DGifGetImageDesc(gif) == GIF_OK;
        if (type != EXTENSION_RECORD_TYPE || DGifGetExtension(gif, &code, &block) != GIF_OK)
            return false;
        if (code == GRAPHICS_EXT_FUNC_CODE && block &&
            DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK)
            *transparent = control.TransparentColor;
        while (block)
            if (DGifGetExtensionNext(gif, &block) != GIF_OK) return false;
    }
    return false;
}

/* Without a palette the index is the grey. */
static void paint(const GifFileType *gif, int index, int transparent, uint8_t rgba[4])
{
    const ColorMapObject *map = gif->Image.ColorMap ? gif->Image.ColorMap : gif->SColorMap;
    uint8_t grey = (uint8_t)index;
    GifColorType c = {grey, grey, grey};
    if (map && index < map->ColorCount) c = map->Colors[index];
    memcpy(rgba, (uint8_t[]){c.Red, c.Green, c.Blue, index == transparent ? 0 : 255}, 4);
}

static void paint_all(const GifFileType *gif, int transparent, app_decoded *out)
{
    uint8_t rgba[4];
    size_t n = (size_t)out->width * out->height;
    paint(gif, transparent == NO_TRANSPARENT_COLOR ? 0 : transparent, transparent, rgba);
    for (size_t i = 0; i < n; i++)
        memcpy(out->data + 4 * i, rgba, 4);
}

static bool read_row(GifFileType *gif, int transparent, uint32_t y, GifByteType *line,
                     app_decoded *out)
{
    const GifImageDesc *f = &gif->Image;
    uint8_t *row = out->data + ((size_t)((uint32_t)f->Top + y) * out->width + (size_t)f->Left) * 4;
    if (DGifGetLine(gif, line, f->Width) != GIF_OK) return false;
    for (int x = 0; x < f->Width; x++)
        paint(gif, line[x], transparent, row + 4 * (size_t)x);
    return true;
}

/* Interlaced rows come in four passes: every 8th from 0 and from 4, every 4th from 2, every 2nd. */
static tvlm_status read_rows(GifFileType *gif, int transparent, app_decoded *out, tvlm_error *err)
{
    static const uint8_t first[2][4] =
        {
            {0},
            {0, 4, 2, 1}
    },
                         step[2][4] = {{1}, {8, 8, 4, 2}};
    bool woven = gif->Image.Interlace;
    GifByteType line[65535];
    for (int pass = 0; pass < (woven ? 4 : 1); pass++)
        for (uint32_t y = first[woven][pass]; y < (uint32_t)gif->Image.Height;
             y += step[woven][pass])
            if (!read_row(gif, transparent, y, line, out))
                return app_decoded_cut(out, woven || !y ? 0 : (uint32_t)gif->Image.Top + y, "GIF",
                                       err);
    return TVLM_OK;
}

static uint32_t larger(int a, int b)
{
    return (uint32_t)(a > b ? a : b);
}

static tvlm_status decode(GifFileType *gif, const app_encoded *in, app_decoded *out,
                          tvlm_error *err)
{
    int transparent;
    const GifImageDesc *f = &gif->Image;
    if (!find_frame(gif, &transparent) || f->Width < 1 || f->Height < 1)
        return app_fail(err, TVLM_ERR_FORMAT, "damaged GIF: there is no frame in it");
    uint32_t w = larger(gif->SWidth, f->Left + f->Width);
    uint32_t h = larger(gif->SHeight, f->Top + f->Height);
    APP_TRY(app_check_size(in, w, h, err));
    APP_TRY(app_decoded_alloc(w, h, 4, out, err));
    paint_all(gif, transparent, out);
    return read_rows(gif, transparent, out, err);
}

tvlm_status app_decode_gif(const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    int code;
    stream s = {in->data, in->size};
    GifFileType *gif = DGifOpen(&s, read_stream, &code);
    if (!gif) return app_fail(err, TVLM_ERR_FORMAT, "damaged GIF: %s", GifErrorString(code));
    tvlm_status status = decode(gif, in, out, err);
    DGifCloseFile(gif, &code);
    return status;
}
