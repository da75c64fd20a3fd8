/* SPDX-License-Identifier: MIT */
#include "convert/result.h"

#include <float.h>

/* file_type: llama.cpp's LLAMA_FTYPE. Scales of blocks are halves: Q8_0 has 127 steps of them,
 * Q4_0 has 8. */
static const struct {
    tvlm_type type;
    uint32_t file_type;
    float largest;
} written[] = {
    {TVLM_TYPE_F32,  0,  FLT_MAX       },
    {TVLM_TYPE_F16,  1,  65504.0f      },
    {TVLM_TYPE_BF16, 32, 0x1.FEp127f   },
    {TVLM_TYPE_Q8_0, 7,  65504.0f * 127},
    {TVLM_TYPE_Q4_0, 2,  65504.0f * 8  },
};

static size_t find(tvlm_type type)
{
    size_t i = 0;
    while (i < TVLM_COUNT(written) && written[i].type != type)
        i++;
    return i;
}

bool tvlm_type_is_written(tvlm_type type)
{
    return find(type) < TVLM_COUNT(written);
}

float tvlm_type_largest(tvlm_type type)
{
    return tvlm_type_is_written(type) ? written[find(type)].largest : FLT_MAX;
}

tvlm_status tvlm_put_file_type(tvlm_gguf_writer *w, tvlm_type type, tvlm_error *err)
{
    TVLM_TRY(tvlm_gguf_put_u32(w, "general.file_type", written[find(type)].file_type, err));
    if (tvlm_type_block(type) == 1) return TVLM_OK;
    return tvlm_gguf_put_u32(w, "general.quantization_version", 2, err);
}

tvlm_status tvlm_check_result(void *user, const char *path, tvlm_error *err)
{
    (void)user;
    tvlm_model *model = NULL;
    tvlm_status status = tvlm_model_open(path, NULL, &model, err);
    tvlm_model_free(model);
    return status;
}
