/* SPDX-License-Identifier: MIT
 *   golden-plan MODEL.gguf   the bytes that one model, engine, session and image will take here */
#include <tinyvlm.h>

#include <inttypes.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    tvlm_error error;
    tvlm_model *model;
    tvlm_memory memory = {.size = sizeof memory};
    if (argc != 2) return 2;
    if (tvlm_model_open(argv[1], NULL, &model, &error) ||
        tvlm_memory_estimate(model, NULL, NULL, &memory, &error)) {
        fprintf(stderr, "golden-plan: %s\n", error.message);
        return 1;
    }
    printf("%" PRIu64 "\n", memory.total_bytes);
    tvlm_model_free(model);
    return 0;
}
