/* SPDX-License-Identifier: MIT */
#include "convert/result.h"
#include "convert/convert.h"

#include <float.h>

/* file_type: llama.cpp's LLAMA_FTYPE. largest: scales of blocks are halves, times the steps of the
 * side that has fewer. fallback: for rows of whole blocks of 32, but not of 256. */
static const struct {
    tvlm_type type;
    uint32_t file_type;
    float largest;
    tvlm_type embedding, fallback;
} written[] = {
    {TVLM_TYPE_F32,  0,  FLT_MAX,             TVLM_TYPE_F32,  TVLM_TYPE_F16 },
    {TVLM_TYPE_F16,  1,  65504.0f,            TVLM_TYPE_F16,  TVLM_TYPE_F16 },
    {TVLM_TYPE_BF16, 32, 0x1.FEp127f,         TVLM_TYPE_BF16, TVLM_TYPE_F16 },
    {TVLM_TYPE_Q8_0, 7,  65504.0f * 127,      TVLM_TYPE_Q8_0, TVLM_TYPE_F16 },
    {TVLM_TYPE_Q4_0, 2,  65504.0f * 8,        TVLM_TYPE_Q8_0, TVLM_TYPE_F16 },
    {TVLM_TYPE_Q4_1, 3,  65504.0f,            TVLM_TYPE_Q8_0, TVLM_TYPE_F16 },
    {TVLM_TYPE_Q5_0, 8,  65504.0f * 16,       TVLM_TYPE_Q8_0, TVLM_TYPE_F16 },
    {TVLM_TYPE_Q5_1, 9,  65504.0f,            TVLM_TYPE_Q8_0, TVLM_TYPE_F16 },
    {TVLM_TYPE_Q4_K, 14, 65504.0f * 63,       TVLM_TYPE_Q6_K, TVLM_TYPE_Q5_0},
    {TVLM_TYPE_Q5_K, 16, 65504.0f * 63,       TVLM_TYPE_Q6_K, TVLM_TYPE_Q5_1},
    {TVLM_TYPE_Q6_K, 18, 65504.0f * 127 * 31, TVLM_TYPE_Q6_K, TVLM_TYPE_Q8_0},
};

static size_t find(tvlm_type type)
{
    size_t i = 0;
    while (i < TVLM_COUNT(written) && written[i].type != type)
        i++;
    return i;
}

bool tvlmc_type_is_written(tvlm_type type)
{
    return find(type) < TVLM_COUNT(written);
}

bool tvlmc_type_from_name(const char *name, uint32_t *out)
{
    tvlm_type type;
    bool known = tvlm_type_from_name(name, &type);
    if (known) *out = (uint32_t)type;
    return known;
}

float tvlmc_type_largest(tvlm_type type)
{
    return tvlmc_type_is_written(type) ? written[find(type)].largest : FLT_MAX;
}

tvlm_type tvlmc_type_for(tvlm_type type, tvlmc_part part, uint64_t k)
{
    if (part == TVLMC_PART_EMBEDDING) type = written[find(type)].embedding;
    if (part == TVLMC_PART_TOWER && tvlm_type_block(type) > 1) type = TVLM_TYPE_Q8_0;
    while (k % tvlm_type_block(type) != 0)
        type = written[find(type)].fallback;
    return type;
}

tvlm_status tvlmc_put_file_type(tvlmc_gguf_writer *w, tvlm_type type, tvlm_error *err)
{
    TVLM_TRY(tvlmc_gguf_put_u32(w, "general.file_type", written[find(type)].file_type, err));
    if (tvlm_type_block(type) == 1) return TVLM_OK;
    return tvlmc_gguf_put_u32(w, "general.quantization_version", 2, err);
}

tvlm_status tvlmc_check_result(void *user, const char *path, tvlm_error *err)
{
    (void)user;
    tvlm_model *model = NULL;
    tvlm_status status = tvlm_model_open(path, NULL, &model, err);
    tvlm_model_free(model);
    return status;
}
