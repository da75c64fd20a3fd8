// SPDX-License-Identifier: MIT
#include <cstdio>
#include <memory>
#include <tinyvlm.h>

struct free_model {
    void operator()(tvlm_model *model) const { tvlm_model_free(model); }
};

int main(int argc, char **argv)
{
    tvlm_model *opened = nullptr;
    tvlm_error err;
    tvlm_model_info info = {};
    info.size = sizeof info;
    if (argc != 2 || tvlm_model_open(argv[1], nullptr, &opened, &err)) return 1;
    std::unique_ptr<tvlm_model, free_model> model(opened);
    if (tvlm_model_get_info(model.get(), &info, &err)) return 1;
    std::printf("%s %s\n", tvlm_version(), info.architecture);
}
