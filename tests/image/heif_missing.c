/* SPDX-License-Identifier: MIT
 * What app/image/heif.c, compiled here with the name of a library that no machine has, says. */
#include "base/base.h"
#include "image/codec.h"

#include <stdio.h>
#include <string.h>

int main(void)
{
    app_decoded out = {0};
    tvlm_error err = {0};
    tvlm_status status = app_decode_heif(&(app_encoded){0}, &out, &err);
    puts(err.message);
    bool named = strstr(err.message, "install libheif") && strstr(err.message, TVLM_HEIF_LIBRARY);
    return status != TVLM_ERR_UNSUPPORTED || !named || out.data;
}
