/* SPDX-License-Identifier: MIT
 * Bytes as a picture file of any format, with its EXIF and XMP. */
#include "image/decode.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    app_decode_params p = {.max_pixels = 1 << 20};
    app_decoded photo;
    tvlm_error err = {0};
    tvlm_status status = app_decode_memory(data, size, &p, &photo, &err);
    if (status ? !err.message[0] || photo.data
               : !photo.data || (uint64_t)photo.width * photo.height > p.max_pixels)
        abort();
    app_decoded_free(&photo);
    return 0;
}
