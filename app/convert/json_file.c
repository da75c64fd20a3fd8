/* SPDX-License-Identifier: MIT */
#include "convert/json_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *tvlm_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir), m = strlen(name) + 1;
    char *path = malloc(n + m + 1);
    if (!path) return NULL;
    memcpy(path, dir, n);
    if (n && dir[n - 1] != '/') path[n++] = '/';
    memcpy(path + n, name, m);
    return path;
}

bool tvlm_path_exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

tvlm_status tvlm_json_parse(const char *label, const void *data, size_t size, json_t **out,
                            tvlm_error *err)
{
    json_error_t e;
    *out = json_loadb(data, size, JSON_REJECT_DUPLICATES, &e);
    if (*out) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_FORMAT, "%s: not valid JSON: %.120s (line %d, column %d)", label,
                     e.text, e.line, e.column);
}

tvlm_status tvlm_json_load(const char *path, size_t max_size, json_t **out, tvlm_error *err)
{
    tvlm_mapfile map;
    *out = NULL;
    TVLM_TRY(tvlm_mapfile_open(path, &map, err));
    tvlm_status status;
    if (map.size > max_size)
        status = tvlm_fail(err, TVLM_ERR_LIMIT, "%s: %zu bytes of JSON, at most %zu are read", path,
                           map.size, max_size);
    else
        status = tvlm_json_parse(path, map.data, map.size, out, err);
    tvlm_mapfile_close(&map);
    return status;
}

tvlm_status tvlm_json_load_in(const char *dir, const char *name, bool required, size_t max_size,
                              json_t **out, tvlm_error *err)
{
    char *path = tvlm_path_join(dir, name);
    *out = NULL;
    if (!path) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    tvlm_status status = TVLM_OK;
    if (required || tvlm_path_exists(path)) status = tvlm_json_load(path, max_size, out, err);
    if (status == TVLM_OK && *out && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        status = tvlm_fail(err, TVLM_ERR_FORMAT, "%s: expected a JSON object", path);
    }
    free(path);
    return status;
}

/* The value, or NULL with *status set for the two ways of absence. */
static const json_t *get(const json_t *object, const char *key, bool required, tvlm_status *status,
                         tvlm_error *err)
{
    const json_t *value = json_object_get(object, key);
    *status = TVLM_OK;
    if (value && !json_is_null(value)) return value;
    if (required) *status = tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s' is missing", key);
    return NULL;
}

tvlm_status tvlm_json_u32(const json_t *object, const char *key, bool required, uint32_t lo,
                          uint32_t hi, uint32_t *out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, required, &status, err);
    if (!value) return status;
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < (json_int_t)lo || v > (json_int_t)hi)
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected an integer in %u..%u", key,
                         (unsigned)lo, (unsigned)hi);
    *out = (uint32_t)v;
    return TVLM_OK;
}

tvlm_status tvlm_json_f64(const json_t *object, const char *key, bool required, double lo,
                          double hi, double *out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, required, &status, err);
    if (!value) return status;
    double v = json_number_value(value);
    if (!json_is_number(value) || !(v >= lo && v <= hi))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected a number in %g..%g", key, lo,
                         hi);
    *out = v;
    return TVLM_OK;
}

tvlm_status tvlm_json_bool(const json_t *object, const char *key, bool *out, tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, false, &status, err);
    if (!value) return status;
    if (!json_is_boolean(value))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected true or false", key);
    *out = json_is_true(value);
    return TVLM_OK;
}

tvlm_status tvlm_json_string(const json_t *object, const char *key, bool required, const char **out,
                             tvlm_error *err)
{
    tvlm_status status;
    const json_t *value = get(object, key, required, &status, err);
    if (!value) return status;
    if (!json_is_string(value))
        return tvlm_fail(err, TVLM_ERR_FORMAT, "key '%s': expected a string", key);
    *out = json_string_value(value);
    return TVLM_OK;
}
