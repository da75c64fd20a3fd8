/* SPDX-License-Identifier: MIT
 * JPEG through libjpeg-turbo, with the transform and the upsampling that Pillow uses. */
#include "image/codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

/* Cameras and encoders write 1 to 12 scans; each costs a pass over the whole image. */
#define MAX_SCANS       100u
#define MAX_SCAN_PIXELS 4000000000u
/* Above this size an image is decoded smaller, but no side below what any model takes. */
#define REDUCE_ABOVE 50000000u
#define LEAST_SIDE   1024u

/* ---- segments ---- */

typedef struct segment {
    uint8_t marker;
    const uint8_t *body; /* behind the length */
    size_t size;
} segment;

static bool has_length(uint8_t marker)
{
    return marker > 0x01 && marker != 0xff && (marker < 0xd0 || marker > 0xd9);
}

/* The next segment from *at on; stray bytes and a scan's codes before it are passed over. */
static bool next_segment(const app_encoded *in, size_t *at, segment *s)
{
    for (size_t i = *at; i + 3 < in->size; i++) {
        const uint8_t *p = in->data + i;
        if (*p != 0xff) continue;
        if (p[1] == 0xd9) return false;
        if (!has_length(p[1])) continue;
        size_t n = (size_t)p[2] << 8 | p[3];
        *s = (segment){p[1], p + 4, n - 2};
        *at = i + 2 + n;
        return n >= 2 && *at <= in->size;
    }
    return false;
}

static bool begins(const segment *s, const char *text, size_t n)
{
    return s->size >= n && !memcmp(s->body, text, n);
}

/* Of the segments before the first scan: EXIF of the first APP1 that has it, XMP of the last. */
static int read_orientation(const app_encoded *in)
{
    static const char xmp_name[] = "http://ns.adobe.com/xap/1.0/";
    segment s, exif = {0}, xmp = {0};
    for (size_t at = 2; next_segment(in, &at, &s) && s.marker != 0xda;) {
        if (s.marker != 0xe1) continue;
        if (!exif.body && begins(&s, "Exif\0", 6)) exif = s;
        if (begins(&s, xmp_name, sizeof xmp_name)) xmp = s;
    }
    return app_orientation(exif.body, exif.size, xmp.body, xmp.size);
}

static unsigned count_scans(const app_encoded *in)
{
    segment s;
    unsigned n = 0;
    for (size_t at = 2; n <= MAX_SCANS && next_segment(in, &at, &s);)
        n += s.marker == 0xda;
    return n;
}

/* ---- libjpeg ---- */

typedef struct decoder {
    struct jpeg_decompress_struct codec;
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    bool ended;   /* the data ran out */
    bool starved; /* while a block was wanted */
    bool none;    /* before the first row of blocks was whole */
    char damage[JMSG_LENGTH_MAX];
} decoder;

static void fail(j_common_ptr codec)
{
    longjmp(((decoder *)codec)->failed, 1);
}

/* Stray bytes, odd parameters of a sequential scan, an unknown JFIF version and the like lose
 * nothing; whatever else libjpeg warns of touches the image. */
static void note(j_common_ptr codec, int level)
{
    decoder *d = (decoder *)codec;
    if (level >= 0) return;
    switch (codec->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_NOT_SEQUENTIAL:
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
        return;
    case JWRN_JPEG_EOF:
        d->ended = true;
        return;
    case JWRN_HIT_MARKER:
        d->starved = true;
        d->none |= d->codec.input_scan_number <= 1 && d->codec.input_iMCU_row == 0;
        break;
    default:
        break;
    }
    if (!d->damage[0]) codec->err->format_message(codec, d->damage);
}

static void print_nothing(j_common_ptr codec)
{
    (void)codec;
}

/* Every block of 8x8 samples takes a bit at least, so fewer bytes hold next to nothing of the size
 * that they claim (arithmetic codes may take less, but nobody writes those). */
static tvlm_status check_claims(const struct jpeg_decompress_struct *c, const app_encoded *in,
                                tvlm_error *err)
{
    uint64_t pixels = (uint64_t)c->image_width * c->image_height;
    unsigned scans = count_scans(in);
    APP_TRY(app_check_size(in, c->image_width, c->image_height, err));
    if (scans > MAX_SCANS || scans * pixels > MAX_SCAN_PIXELS)
        return app_fail(err, TVLM_ERR_LIMIT,
                        "a JPEG of %ux%u in %s%u scans: more than any camera or editor writes",
                        c->image_width, c->image_height, scans > MAX_SCANS ? "over " : "",
                        scans > MAX_SCANS ? MAX_SCANS : scans);
    if (!c->arith_code && pixels / 512 > in->size)
        return app_fail(err, TVLM_ERR_FORMAT, "the JPEG is truncated: %zu bytes of %ux%u pixels",
                        in->size, c->image_width, c->image_height);
    return TVLM_OK;
}

static unsigned reduction(const struct jpeg_decompress_struct *c)
{
    uint64_t w = c->image_width, h = c->image_height, by = 1;
    while (by < 8 && w * h / (by * by) > REDUCE_ABOVE && (w < h ? w : h) / (2 * by) >= LEAST_SIDE)
        by *= 2;
    return (unsigned)by;
}

static void choose_output(decoder *d, const app_encoded *in)
{
    struct jpeg_decompress_struct *c = &d->codec;
    c->out_color_space = c->num_components == 1   ? JCS_GRAYSCALE
                         : c->num_components == 4 ? JCS_CMYK
                                                  : JCS_RGB;
    c->scale_num = 1;
    c->scale_denom = in->as_stored ? 1 : reduction(c);
    jpeg_calc_output_dimensions(c);
}

static void read_rows(decoder *d, app_decoded *out)
{
    struct jpeg_decompress_struct *c = &d->codec;
    size_t stride = (size_t)out->width * out->channels;
    while (c->output_scanline < c->output_height) {
        JSAMPROW row = out->data + c->output_scanline * stride;
        jpeg_read_scanlines(c, &row, 1);
    }
}

/* Whether all of an image whose end mark is missing has come. */
static bool is_whole(const struct jpeg_decompress_struct *c)
{
    if (!c->progressive_mode)
        return c->input_scan_number >= c->num_components || c->comps_in_scan > 1;
    for (int i = 0; i < c->num_components; i++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (c->coef_bits[i][k]) return false;
    return true;
}

static tvlm_status judge(decoder *d, app_decoded *out, tvlm_error *err)
{
    bool cut = d->ended && (d->starved || d->codec.arith_code || !is_whole(&d->codec));
    if (d->none)
        return app_fail(err, TVLM_ERR_FORMAT, "the JPEG is %s: no part can be shown",
                        d->ended ? "truncated" : "damaged");
    if (cut)
        snprintf(out->warning, sizeof out->warning,
                 "the JPEG is truncated: part of the image is missing");
    else if (d->damage[0])
        snprintf(out->warning, sizeof out->warning,
                 "the JPEG is damaged: part of the image may be wrong (%.70s)", d->damage);
    return TVLM_OK;
}

/* Inks are stored inverted, as Adobe does; black is the fourth. */
static void cmyk_to_rgb(app_decoded *out)
{
    size_t n = (size_t)out->width * out->height;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = out->data + 4 * i;
        unsigned black = p[3];
        uint8_t rgb[3];
        for (size_t c = 0; c < 3; c++) {
            unsigned v = (255u - p[c]) * black + 128;
            rgb[c] = (uint8_t)(black - ((v + (v >> 8)) >> 8));
        }
        memcpy(out->data + 3 * i, rgb, 3);
    }
    out->channels = 3;
}

static tvlm_status refuse(decoder *d, tvlm_error *err)
{
    char text[JMSG_LENGTH_MAX];
    if (d->errors.msg_code == JERR_BAD_PRECISION)
        return app_fail(err, TVLM_ERR_UNSUPPORTED,
                        "a JPEG of %d bits a sample: convert it to 8 bits first",
                        d->codec.data_precision);
    d->errors.format_message((j_common_ptr)&d->codec, text);
    bool unsupported = d->errors.msg_code == JERR_SOF_UNSUPPORTED ||
                       d->errors.msg_code == JERR_ARITH_NOTIMPL ||
                       d->errors.msg_code == JERR_CONVERSION_NOTIMPL;
    return app_fail(err, unsupported ? TVLM_ERR_UNSUPPORTED : TVLM_ERR_FORMAT, "%s JPEG: %s",
                    unsupported ? "an unusual"
                    : d->ended  ? "truncated"
                                : "damaged",
                    text);
}

/* libjpeg leaves by longjmp: nothing here owns anything but through d and out. */
static tvlm_status decode(decoder *d, const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    struct jpeg_decompress_struct *c = &d->codec;
    if (setjmp(d->failed)) {
        if (!c->output_scanline || !out->data) return refuse(d, err);
        return app_decoded_cut(out, c->output_scanline, "JPEG", err);
    }
    jpeg_create_decompress(c);
    jpeg_mem_src(c, in->data, (unsigned long)in->size);
    jpeg_read_header(c, TRUE);
    APP_TRY(check_claims(c, in, err));
    choose_output(d, in);
    APP_TRY(app_decoded_alloc(c->output_width, c->output_height, (uint32_t)c->out_color_components,
                              out, err));
    jpeg_start_decompress(c);
    read_rows(d, out);
    return judge(d, out, err);
}

tvlm_status app_decode_jpeg(const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    decoder d = {.errors = {0}};
    d.codec.err = jpeg_std_error(&d.errors);
    d.errors.error_exit = fail;
    d.errors.emit_message = note;
    d.errors.output_message = print_nothing;
    tvlm_status status = decode(&d, in, out, err);
    if (!status && out->channels == 4) cmyk_to_rgb(out);
    jpeg_destroy_decompress(&d.codec);
    out->orientation = read_orientation(in);
    return status;
}
