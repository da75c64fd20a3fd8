/* SPDX-License-Identifier: MIT
 * Structs that the caller and the library may have in different versions. */
#include "base/base.h"

#include <string.h>

/* More is no sizeof, but memory that nobody has set. */
#define MAX_SIZE 4096u

static size_t size_of(const void *given)
{
    size_t size;
    memcpy(&size, given, sizeof size);
    return size;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

void tvlm_sized_init(void *out, size_t size, const void *defaults, size_t known)
{
    if (!out || size < sizeof size) return;
    memset(out, 0, size);
    memcpy(out, defaults, least(size, known));
    memcpy(out, &size, sizeof size);
}

tvlm_status tvlm_sized_check(const void *given, const tvlm_sized *type, tvlm_error *err)
{
    size_t size = size_of(given);
    if (size >= type->first && size <= MAX_SIZE) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_ARGUMENT, "%s.size is %zu, not its sizeof (%zu in version %s)",
                     type->name, size, type->size, tvlm_version());
}

/* What this version does not know must not be asked for. */
static tvlm_status check_rest(const void *given, const tvlm_sized *type, tvlm_error *err)
{
    const unsigned char *bytes = given;
    for (size_t i = type->size; i < size_of(given); i++)
        if (bytes[i])
            return tvlm_fail(err, TVLM_ERR_UNSUPPORTED,
                             "%s has a field set that version %s does not know", type->name,
                             tvlm_version());
    return TVLM_OK;
}

tvlm_status tvlm_sized_read(void *out, const void *in, const tvlm_sized *type, tvlm_error *err)
{
    if (!in) return TVLM_OK;
    TVLM_TRY(tvlm_sized_check(in, type, err));
    TVLM_TRY(check_rest(in, type, err));
    memcpy(out, in, least(size_of(in), type->size));
    memcpy(out, &type->size, sizeof type->size);
    return TVLM_OK;
}

void tvlm_sized_write(void *out, const void *from, const tvlm_sized *type)
{
    size_t size = size_of(out);
    tvlm_sized_init(out, size, from, type->size);
}
