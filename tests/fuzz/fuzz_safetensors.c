/* SPDX-License-Identifier: MIT
 * Bytes as a safetensors file: every tensor of an accepted one can be read. */
#include "convert/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tvlmc_st_set set = {0};
    tvlm_error err = {0};
    if (tvlmc_st_open_memory("input", data, size, &set, &err)) {
        if (!err.message[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < set.n; i++) {
        float *values = malloc((set.tensors[i].n + 1) * sizeof *values);
        if (values) tvlmc_st_read_f32(&set.tensors[i], 0, set.tensors[i].n, values, NULL);
        free(values);
    }
    tvlmc_st_close(&set);
    return 0;
}
