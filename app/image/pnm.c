/* SPDX-License-Identifier: MIT
 * Binary PGM (P5) and PPM (P6), 8 and 16 bits. http://netpbm.sourceforge.net/doc/ppm.html */
#include "image/decode.h"

#include "base/base.h"

typedef struct reader {
    const uint8_t *data;
    size_t size, at;
} reader;

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

/* White space and comments, then a decimal number. */
static bool take_number(reader *r, uint32_t *out)
{
    while (r->at < r->size && (is_space(r->data[r->at]) || r->data[r->at] == '#')) {
        if (r->data[r->at] == '#')
            while (r->at < r->size && r->data[r->at] != '\n')
                r->at++;
        else
            r->at++;
    }
    uint32_t v = 0;
    size_t begin = r->at;
    for (; r->at < r->size && r->data[r->at] >= '0' && r->data[r->at] <= '9'; r->at++) {
        if (v > 100000000) return false;
        v = 10 * v + (uint32_t)(r->data[r->at] - '0');
    }
    *out = v;
    return r->at > begin;
}

tvlm_status tvlm_decode_pnm(const uint8_t *data, size_t size, uint64_t max_pixels,
                            tvlm_decoded *out, tvlm_error *err)
{
    reader r = {data, size, 2};
    uint32_t w, h, most;
    if (!take_number(&r, &w) || !take_number(&r, &h) || !take_number(&r, &most) || !most ||
        most > 65535 || r.at == size || !is_space(data[r.at]))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "damaged PPM: its header is not valid");
    r.at++;
    uint32_t channels = data[1] == '6' ? 3 : 1;
    TVLM_TRY(tvlm_decoded_alloc(w, h, channels, max_pixels, out, err));
    size_t n = (size_t)w * h * channels, wide = most > 255 ? 2 : 1;
    if ((size - r.at) / wide < n)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "the PPM is truncated: %zu of %zu bytes",
                         size - r.at, n * wide);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = data + r.at + i * wide;
        uint32_t v = wide == 2 ? (uint32_t)p[0] << 8 | p[1] : p[0];
        v = v > most ? most : v;
        out->data[i] = (uint8_t)(most == 255 ? v : (v * 255 + most / 2) / most);
    }
    return TVLM_OK;
}
