/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <tinyvlm.h>

int main(int argc, char **argv)
{
    tvlm_model *model;
    tvlm_error err;
    tvlm_model_info info = {.size = sizeof info};
    if (argc != 2 || tvlm_model_open(argv[1], NULL, &model, &err)) return 1;
    if (tvlm_model_get_info(model, &info, &err)) return 1;
    printf("%s %s\n", tvlm_version(), info.architecture);
    tvlm_model_free(model);
    return 0;
}
