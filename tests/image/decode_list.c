/* SPDX-License-Identifier: MIT
 * decode_list shown|stored   paths, one a line -> per path a line and the pixels:
 *   ok WIDTH HEIGHT CHANNELS WARNING\n and WIDTH * HEIGHT * CHANNELS bytes, or
 *   STATUS MESSAGE\n */
#include "image/decode.h"

#include <stdio.h>
#include <string.h>

static void decode(const char *path, const app_decode_params *params)
{
    app_decoded d;
    tvlm_error err;
    tvlm_status status = app_decode_file(path, params, &d, &err);
    if (status) {
        printf("%s %s\n", tvlm_status_name(status), err.message);
        return;
    }
    printf("ok %u %u %u %s\n", (unsigned)d.width, (unsigned)d.height, (unsigned)d.channels,
           d.warning);
    fwrite(d.data, 1, (size_t)d.width * d.height * d.channels, stdout);
    app_decoded_free(&d);
}

int main(int argc, char **argv)
{
    char path[4096];
    app_decode_params params = {.as_stored = argc > 1 && !strcmp(argv[1], "stored")};
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        decode(path, &params);
    }
    return 0;
}
