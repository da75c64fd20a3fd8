/* SPDX-License-Identifier: MIT */
#include "model/reader.h"

#include <stdio.h>
#include <string.h>

void tvlm_reader_fail(tvlm_reader *r, tvlm_status status)
{
    if (!r->status) r->status = status;
}

const char *tvlm_reader_key(const tvlm_reader *r, const char *name, char key[128])
{
    snprintf(key, 128, "%s.%s", r->prefix, name);
    return key;
}

uint32_t tvlm_read_u32(tvlm_reader *r, const char *key, uint32_t fallback, uint32_t lo, uint32_t hi)
{
    uint32_t v = fallback;
    if (r->status) return v;
    tvlm_reader_fail(r, tvlm_gguf_u32(r->gguf, key, fallback == 0, &v, r->err));
    if (!r->status && (v < lo || v > hi))
        tvlm_reader_fail(r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %u is not in %u..%u", key,
                                      (unsigned)v, (unsigned)lo, (unsigned)hi));
    return v;
}

double tvlm_read_f64(tvlm_reader *r, const char *key, double fallback, double lo, double hi)
{
    double v = fallback;
    if (r->status) return v;
    tvlm_reader_fail(r, tvlm_gguf_f64(r->gguf, key, fallback == 0, &v, r->err));
    if (!r->status && !(v >= lo && v <= hi)) /* false for NaN too */
        tvlm_reader_fail(
            r, tvlm_fail(r->err, TVLM_ERR_FORMAT, "key '%s': %g is out of range", key, v));
    return v;
}

tvlm_str tvlm_read_string(tvlm_reader *r, const char *key, bool required, const char *fallback)
{
    tvlm_str v = {fallback, strlen(fallback)};
    if (!r->status) tvlm_reader_fail(r, tvlm_gguf_string(r->gguf, key, required, &v, r->err));
    return v;
}

unsigned tvlm_read_name(tvlm_reader *r, const char *key, const char *const *names, unsigned n,
                        const char *fallback)
{
    tvlm_str v = tvlm_read_string(r, key, !fallback, fallback ? fallback : "");
    for (unsigned i = 0; i < n && !r->status; i++)
        if (tvlm_str_eq(v, names[i])) return i;
    tvlm_reader_fail(r, r->status
                            ? r->status
                            : tvlm_fail(r->err, TVLM_ERR_UNSUPPORTED,
                                        "key '%s': '%s' is not supported", key, tvlm_show(v).text));
    return 0;
}

size_t tvlm_read_list(tvlm_reader *r, const char *key, uint32_t *out, size_t cap)
{
    size_t n = 0;
    if (!r->status)
        tvlm_reader_fail(r, tvlm_gguf_u32_list(r->gguf, key, true, out, cap, &n, r->err));
    return n;
}
