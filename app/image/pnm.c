/* SPDX-License-Identifier: MIT
 * PBM, PGM and PPM, plain (P1 to P3) and binary (P4 to P6), 8 and 16 bits.
 * http://netpbm.sourceforge.net/doc/ppm.html */
#include "image/codec.h"

#include <math.h>

typedef struct reader {
    const uint8_t *data;
    size_t size, at;
    uint32_t most; /* the sample that is white */
    bool plain, bits;
} reader;

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

static void skip_space(reader *r)
{
    bool comment = false;
    for (; r->at < r->size; r->at++) {
        uint8_t c = r->data[r->at];
        comment = (comment && c != '\n' && c != '\r') || c == '#';
        if (!comment && !is_space(c)) return;
    }
}

static bool is_digit(const reader *r)
{
    return r->at < r->size && r->data[r->at] >= '0' && r->data[r->at] <= '9';
}

/* White space and comments, then a decimal number below a billion. */
static bool take_number(reader *r, uint32_t *out)
{
    skip_space(r);
    bool found = is_digit(r);
    for (*out = 0; is_digit(r) && *out < 100000000; r->at++)
        *out = 10 * *out + (uint32_t)(r->data[r->at] - '0');
    return found && !is_digit(r);
}

/* As Pillow rounds: in double, halves to even. */
static uint8_t to_byte(const reader *r, uint32_t v)
{
    v = v > r->most ? r->most : v;
    return (uint8_t)(r->most == 255 ? v : nearbyint((double)v / r->most * 255));
}

/* Plain bits may lack the space between them; ink is 1. */
static bool take_plain(reader *r, uint8_t *out)
{
    uint32_t v;
    skip_space(r);
    if (r->bits && is_digit(r))
        *out = r->data[r->at++] == '0' ? 255 : 0;
    else if (!r->bits && take_number(r, &v))
        *out = to_byte(r, v);
    else
        return false;
    return true;
}

static bool take_row(reader *r, uint8_t *out, size_t n)
{
    size_t wide = r->most > 255 ? 2 : 1, bytes = r->bits ? (n + 7) / 8 : n * wide;
    const uint8_t *p = r->data + r->at;
    if (!r->plain && r->size - r->at < bytes) return false;
    for (size_t i = 0; i < n; i++) {
        if (r->plain && !take_plain(r, out + i)) return false;
        if (!r->plain && r->bits) out[i] = p[i / 8] >> (7 - i % 8) & 1 ? 0 : 255;
        if (!r->plain && !r->bits)
            out[i] = to_byte(r, wide == 2 ? (uint32_t)p[2 * i] << 8 | p[2 * i + 1] : p[i]);
    }
    r->at += r->plain ? 0 : bytes;
    return true;
}

tvlm_status app_decode_pnm(const app_encoded *in, app_decoded *out, tvlm_error *err)
{
    uint8_t kind = in->data[1];
    reader r = {in->data, in->size, 2, 1, kind <= '3', kind == '1' || kind == '4'};
    uint32_t w, h, channels = kind == '3' || kind == '6' ? 3 : 1;
    if (!take_number(&r, &w) || !take_number(&r, &h) || (!r.bits && !take_number(&r, &r.most)) ||
        !r.most || r.most > 65535 || r.at == r.size || !is_space(r.data[r.at]))
        return app_fail(err, TVLM_ERR_FORMAT, "damaged PNM: its header is not valid");
    r.at += !r.plain;
    APP_TRY(app_check_size(in, w, h, err));
    APP_TRY(app_decoded_alloc(w, h, channels, out, err));
    size_t n = (size_t)w * channels;
    for (uint32_t y = 0; y < h; y++)
        if (!take_row(&r, out->data + y * n, n)) return app_decoded_cut(out, y, "PNM", err);
    return TVLM_OK;
}
