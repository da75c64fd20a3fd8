/* SPDX-License-Identifier: MIT
 * PNG through libspng. It is given the chunks that make pixels only; of the others, EXIF and XMP
 * are read here, and all else (text, profiles, frames of an animation) is passed over unread. */
#include "image/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <spng.h>
#include <zlib.h>

#define MAX_TEXT ((size_t)1 << 20) /* of a chunk, inflated: Pillow's limit */

/* ---- chunks ---- */

typedef struct chunk {
    const uint8_t *type, *body;
    size_t size;
    bool whole; /* its bytes are there, with the checksum */
} chunk;

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool next_chunk(const app_encoded *in, size_t *at, chunk *c)
{
    if (in->size - *at < 12) return false;
    const uint8_t *p = in->data + *at;
    size_t left = in->size - *at - 12, size = be32(p);
    *c = (chunk){p + 4, p + 8, size <= left ? size : left + 4, size <= left};
    *at = c->whole ? *at + 12 + size : in->size;
    return true;
}

static bool is(const chunk *c, const char *type)
{
    return !memcmp(c->type, type, 4);
}

/* A palette matters to images of colour type 3; for others it is a suggestion. */
static bool makes_pixels(const app_encoded *in, const chunk *c)
{
    return is(c, "IHDR") || is(c, "IDAT") || is(c, "tRNS") || is(c, "IEND") ||
           (is(c, "PLTE") && in->data[25] == 3);
}

static bool checksum_is_right(const chunk *c)
{
    uLong sum = crc32(0, c->type, 4);
    size_t done = 0;
    while (c->whole && done < c->size) { /* zlib counts in 32 bits */
        size_t n = c->size - done < 1u << 30 ? c->size - done : 1u << 30;
        sum = crc32(sum, c->body + done, (uInt)n);
        done += n;
    }
    return !c->whole || sum == be32(c->body + c->size);
}

/* ---- EXIF and XMP ---- */

typedef struct text {
    uint8_t *data;
    size_t size;
} text;

static void inflate_text(text *t, const uint8_t *data, size_t size)
{
    uLongf n = MAX_TEXT;
    uint8_t *out = size < MAX_TEXT ? malloc(n) : NULL;
    free(t->data);
    *t = (text){0};
    if (out && uncompress(out, &n, data, (uLong)size) == Z_OK)
        *t = (text){out, n};
    else
        free(out);
}

static void copy_text(text *t, const uint8_t *data, size_t size)
{
    uint8_t *out = size && size < MAX_TEXT ? malloc(size) : NULL;
    free(t->data);
    *t = (text){out, out ? size : 0};
    if (out) memcpy(out, data, size);
}

/* The text of a tEXt, zTXt or iTXt chunk with this keyword. */
static void take_text(const chunk *c, const char *keyword, text *out)
{
    size_t at = strlen(keyword) + 1;
    bool international = is(c, "iTXt"), packed = is(c, "zTXt");
    if (!(international || packed || is(c, "tEXt")) || c->size < at + 2 ||
        memcmp(c->body, keyword, at))
        return;
    if (international) {
        packed = c->body[at] != 0;
        at += 2;
        for (int zeros = 0; zeros < 2 && at < c->size; at++) /* language, translated keyword */
            zeros += c->body[at] == 0;
    } else if (packed) {
        at++;
    }
    (packed ? inflate_text : copy_text)(out, c->body + at, c->size - at);
}

static int digit(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* ImageMagick's "Raw profile type exif": an empty line, a name, a length, then hexadecimal. In
 * place. */
static void unpack_profile(text *t)
{
    size_t n = 0, lines = 0, digits = 0;
    for (size_t i = 0; i < t->size; i++) {
        int d = digit(t->data[i]);
        lines += t->data[i] == '\n';
        if (lines < 3 || d < 0) continue;
        if (digits++ % 2)
            t->data[n++] |= (uint8_t)d;
        else
            t->data[n] = (uint8_t)(d << 4);
    }
    t->size = n;
}

static int read_orientation(const app_encoded *in)
{
    text profile = {0}, xmp = {0};
    chunk c, exif = {0};
    for (size_t at = 8; next_chunk(in, &at, &c) && c.whole && !is(&c, "IEND");) {
        if (is(&c, "eXIf")) exif = c;
        take_text(&c, "Raw profile type exif", &profile);
        take_text(&c, "XML:com.adobe.xmp", &xmp);
    }
    unpack_profile(&profile);
    int o = app_orientation(exif.body ? exif.body : profile.data,
                            exif.body ? exif.size : profile.size, xmp.data, xmp.size);
    free(profile.data);
    free(xmp.data);
    return o;
}

/* ---- pixels ---- */

/* What libspng reads, in pieces: the signature, then of each chunk that makes pixels its length and
 * type, and the rest. */
typedef struct stream {
    const app_encoded *in;
    const uint8_t *p, *rest; /* the piece, and the one that follows it (nullable) */
    size_t left, rest_size;
    size_t next;    /* where the next chunk begins */
    size_t colours; /* of the palette */
    uint8_t head[8];
    bool wrong; /* a checksum was */
} stream;

/* libspng refuses a palette of more colours than a pixel can name and passes over transparency of
 * more colours than there are; Pillow takes what is of use. */
static size_t useful_size(stream *s, const chunk *c)
{
    uint8_t depth = s->in->data[24], type = s->in->data[25];
    size_t most = c->size;
    if (type != 3 || depth > 8 || !c->whole) return c->size;
    if (is(c, "PLTE")) most = (size_t)3 << depth;
    if (is(c, "tRNS") && s->colours) most = s->colours;
    most = most < c->size ? most : c->size;
    if (is(c, "PLTE")) s->colours = most / 3;
    return most;
}

static bool next_piece(stream *s)
{
    chunk c;
    s->p = s->rest;
    s->left = s->rest_size;
    s->rest = NULL;
    s->rest_size = 0;
    while (!s->p && next_chunk(s->in, &s->next, &c)) {
        if (!makes_pixels(s->in, &c)) continue;
        s->wrong |= !checksum_is_right(&c);
        size_t size = useful_size(s, &c);
        memcpy(s->head, c.type - 4, sizeof s->head);
        if (size < c.size) /* a checksum of what is left, nobody asks for */
            memcpy(s->head, (uint8_t[]){0, 0, (uint8_t)(size >> 8), (uint8_t)size}, 4);
        s->p = s->head;
        s->left = sizeof s->head;
        s->rest = c.body;
        s->rest_size = size + (c.whole ? 4 : 0);
    }
    return s->p;
}

static int read_stream(spng_ctx *ctx, void *user, void *to, size_t n)
{
    stream *s = user;
    uint8_t *out = to;
    (void)ctx;
    while (n) {
        if (!s->left && !next_piece(s)) return SPNG_IO_EOF;
        size_t k = n < s->left ? n : s->left;
        memcpy(out, s->p, k);
        s->p += k;
        s->left -= k;
        out += k;
        n -= k;
    }
    return 0;
}

/* Of Adam7's passes 0..6: spacing of the pixels that are there when the one before is done. */
static const uint8_t pass_dx[] = {8, 8, 4, 4, 2, 2, 1}, pass_dy[] = {8, 8, 8, 4, 4, 2, 2};

static tvlm_status read_rows(spng_ctx *ctx, app_decoded *out, bool interlaced, tvlm_error *err)
{
    struct spng_row_info row = {0};
    size_t stride = (size_t)out->width * out->channels;
    int code = 0;
    while (!code && !(code = spng_get_row_info(ctx, &row)))
        code = spng_decode_row(ctx, out->data + row.row_num * stride, stride);
    if (code == SPNG_EOI) return TVLM_OK;
    if (!interlaced) return app_decoded_cut(out, row.row_num, "PNG", err);
    if (row.pass == 0) return app_decoded_cut(out, 0, "PNG", err);
    app_decoded_spread(out, pass_dx[row.pass], pass_dy[row.pass], "PNG");
    return TVLM_OK;
}

static tvlm_status damaged(int code, tvlm_error *err)
{
    return app_fail(err, TVLM_ERR_FORMAT, "damaged PNG: %s", spng_strerror(code));
}

static tvlm_status decode(spng_ctx *ctx, stream *s, app_decoded *out, tvlm_error *err)
{
    struct spng_ihdr head;
    struct spng_trns trns;
    int code = spng_set_crc_action(ctx, SPNG_CRC_USE, SPNG_CRC_USE);
    if (!code) code = spng_set_png_stream(ctx, read_stream, s);
    if (!code) code = spng_get_ihdr(ctx, &head);
    if (code) return damaged(code, err);
    APP_TRY(app_check_size(s->in, head.width, head.height, err));
    bool alpha = head.color_type & 4 || !spng_get_trns(ctx, &trns);
    bool grey = head.color_type == 0 && head.bit_depth <= 8 && !alpha;
    APP_TRY(app_decoded_alloc(head.width, head.height, alpha ? 4 : grey ? 1 : 3, out, err));
    code = spng_decode_image(ctx, NULL, 0,
                             alpha  ? SPNG_FMT_RGBA8
                             : grey ? SPNG_FMT_G8
                                    : SPNG_FMT_RGB8,
                             SPNG_DECODE_PROGRESSIVE | SPNG_DECODE_TRNS);
    if (code) return damaged(code, err);
    APP_TRY(read_rows(ctx, out, head.interlace_method, err));
    if (s->wrong && !out->warning[0])
        snprintf(out->warning, sizeof out->warning,
                 "the PNG is damaged: a checksum is wrong, part of the image may be too");
    return TVLM_OK;
}

tvlm_status app_decode_png(const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    stream s = {.in = in, .p = in->data, .left = 8, .next = 8};
    if (in->size < 33) return app_fail(err, TVLM_ERR_FORMAT, "the PNG is truncated");
    if (!memcmp(in->data + 12, "CgBI", 4))
        return app_fail(err, TVLM_ERR_UNSUPPORTED,
                        "a PNG in Apple's own variant (CgBI): convert it to a standard PNG");
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return app_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = decode(ctx, &s, out, err);
    spng_ctx_free(ctx);
    if (!status) out->orientation = read_orientation(in);
    return status;
}
