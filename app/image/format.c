/* SPDX-License-Identifier: MIT
 * What a file is, by its first bytes. */
#include "image/codec.h"

#include <ctype.h>
#include <string.h>

#if !TVLM_HAVE_JPEG
#define app_decode_jpeg NULL
#endif
#if !TVLM_HAVE_PNG
#define app_decode_png NULL
#endif
#if !TVLM_HAVE_WEBP
#define app_decode_webp NULL
#endif
#if !TVLM_HAVE_GIF
#define app_decode_gif NULL
#endif
#if !TVLM_HAVE_HEIF
#define app_decode_heif NULL
#endif

// clang-format off
#define INSTALL(library) "install " library " and rebuild, or convert it"
#define JPEG {"a JPEG image", app_decode_jpeg, INSTALL("libjpeg-dev")}
#define PNG {"a PNG image", app_decode_png, INSTALL("libspng-dev")}
#define WEBP {"a WebP image", app_decode_webp, INSTALL("libwebp-dev")}
#define GIF {"a GIF image", app_decode_gif, INSTALL("libgif-dev")}
#define HEIC {"a HEIC image", app_decode_heif, INSTALL("libheif-dev")}
#define AVIF {"an AVIF image", app_decode_heif, INSTALL("libheif-dev")}
#define HEIF {"a HEIC or AVIF image", app_decode_heif, INSTALL("libheif-dev")}
#define PNM {"a PNM image", app_decode_pnm, NULL}
#define IMAGE(name) {name, NULL, "convert it to JPEG or PNG"}
#define VIDEO(name) {name, NULL, "save one of its frames as an image"}
#define OTHER(name) {name, NULL, "not an image"}
#define DOWNLOAD(name) {name, NULL, "not an image: the download went wrong"}

static const struct {
    uint8_t at, size;
    const char *magic;
    app_format format;
} formats[] = {
    {0, 2, "\xff\xd8", JPEG},
    {0, 8, "\x89PNG\r\n\x1a\n", PNG},
    {8, 4, "WEBP", WEBP},
    {0, 4, "GIF8", GIF},
    {0, 2, "P1", PNM}, {0, 2, "P2", PNM}, {0, 2, "P3", PNM},
    {0, 2, "P4", PNM}, {0, 2, "P5", PNM}, {0, 2, "P6", PNM},
    {0, 2, "P7", IMAGE("a PAM image")},
    {0, 2, "PF", IMAGE("a PFM image")}, {0, 2, "Pf", IMAGE("a PFM image")},
    {0, 2, "BM", IMAGE("a BMP image")},
    {0, 4, "II*", IMAGE("a TIFF or a camera's raw image")},
    {0, 4, "MM\0*", IMAGE("a TIFF or a camera's raw image")},
    {0, 4, "II+", IMAGE("a TIFF image")}, {0, 4, "MM\0+", IMAGE("a TIFF image")},
    {0, 8, "FUJIFILM", IMAGE("a camera's raw image (RAF)")},
    {0, 3, "IIU", IMAGE("a camera's raw image (RW2)")},
    {4, 8, "ftypcrx ", IMAGE("a camera's raw image (CR3)")},
    {4, 8, "ftypavif", AVIF}, {4, 8, "ftypavis", AVIF},
    {4, 7, "ftyphei", HEIC}, {4, 7, "ftyphev", HEIC}, {4, 8, "ftypmif1", HEIF},
    {4, 8, "ftypmif2", HEIF}, {4, 8, "ftypmsf1", HEIF}, {4, 8, "ftypmiaf", HEIF},
    {4, 4, "ftyp", VIDEO("a video (MP4 or MOV)")},
    {4, 4, "moov", VIDEO("a video (MOV)")}, {4, 4, "mdat", VIDEO("a video (MOV)")},
    {8, 4, "AVI ", VIDEO("a video (AVI)")}, {8, 4, "WAVE", OTHER("a sound (WAV)")},
    {0, 4, "\x1a\x45\xdf\xa3", VIDEO("a video (WebM or Matroska)")},
    {0, 2, "\xff\x0a", IMAGE("a JPEG XL image")}, {4, 4, "JXL ", IMAGE("a JPEG XL image")},
    {4, 4, "jP  ", IMAGE("a JPEG 2000 image")},
    {0, 4, "\xff\x4f\xff\x51", IMAGE("a JPEG 2000 image")},
    {0, 4, "8BPS", IMAGE("a Photoshop document")},
    {0, 4, "\0\0\1", IMAGE("an icon (ICO)")}, {0, 4, "\0\0\2", IMAGE("a cursor (CUR)")},
    {0, 4, "qoif", IMAGE("a QOI image")}, {0, 4, "DDS ", IMAGE("a DDS texture")},
    {0, 4, "\x76\x2f\x31\x01", IMAGE("an OpenEXR image")},
    {0, 10, "#?RADIANCE", IMAGE("a Radiance HDR image")},
    {0, 5, "%PDF-", IMAGE("a PDF document")}, {0, 4, "%!PS", IMAGE("a PostScript document")},
    {0, 4, "PK\3\4", OTHER("a ZIP archive or an office document")},
    {0, 2, "\x1f\x8b", OTHER("a gzip archive")},
    {0, 4, "GGUF", OTHER("a model file (GGUF)")},
    {0, 23, "version https://git-lfs", {"a Git LFS pointer", NULL, "git lfs pull fetches the image"}},
};

/* Told apart without regard to case, behind white space and a byte order mark. */
static const struct {
    const char *begin;
    app_format format;
} texts[] = {
    {"<!doctype html", DOWNLOAD("a web page (HTML)")},
    {"<html", DOWNLOAD("a web page (HTML)")},
    {"<head", DOWNLOAD("a web page (HTML)")},
    {"<svg", IMAGE("an SVG drawing")}, {"<!doctype svg", IMAGE("an SVG drawing")},
    {"<?xml", IMAGE("an SVG drawing or another XML document")},
    {"{", DOWNLOAD("a JSON text")},
    {"[", DOWNLOAD("a JSON text")},
    {"data:", OTHER("a data: URL")},
};
// clang-format on

static bool is_word(const uint8_t *p, size_t size, const char *text)
{
    for (; *text; p++, text++, size--)
        if (!size || tolower(*p) != *text) return false;
    return true;
}

const app_format *app_format_of(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (size >= (size_t)formats[i].at + formats[i].size &&
            !memcmp(p + formats[i].at, formats[i].magic, formats[i].size))
            return &formats[i].format;
    size_t skip = size >= 3 && !memcmp(p, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (skip < size && isspace(p[skip]))
        skip++;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (is_word(p + skip, size - skip, texts[i].begin)) return &texts[i].format;
    return NULL;
}
