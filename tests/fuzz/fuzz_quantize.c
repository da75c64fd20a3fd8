/* SPDX-License-Identifier: MIT
 * Bytes as a model file that is quantised, with calibration too. Checksums are put right first, so
 * that changed weights get past them. A result must open; without one nothing may be left. */
#include "convert/quantize.h"
#include "folder.h"
#include "model/gguf.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t mend_checksums(uint8_t *bytes, size_t size)
{
    tvlm_gguf g;
    bool complete;
    uint32_t side = 0;
    if (tvlm_gguf_parse(bytes, size, &g, &complete, NULL) || !complete) return 0;
    const tvlm_gguf_kv *list = tvlm_gguf_find(&g, "tinyvlm.tensor_crc32c");
    uint8_t *crcs = g.has_crc ? bytes + (list->data - bytes) : NULL;
    /* in the seeds tensors are declared as they lie; mended for others or not, both are inputs */
    for (size_t i = 0; crcs && i < g.n_tensors; i++) {
        const tvlm_gguf_tensor *t = &g.tensors[i];
        if (t->offset > size || t->size > size - t->offset) continue;
        uint32_t crc = tvlm_crc32c(0, bytes + t->offset, (size_t)t->size);
        for (size_t b = 0; b < 4; b++)
            crcs[4 * i + b] = (uint8_t)(crc >> (8 * b));
    }
    tvlm_gguf_u32(&g, "vision.image_size", false, &side, NULL);
    tvlm_gguf_free(&g);
    return side;
}

static tvlm_status next_photo(void *user, tvlm_pixels *out, tvlm_error *err)
{
    static const uint8_t pixels[2][4] = {
        {0,   255, 90, 7},
        {255, 255, 0,  1}
    };
    unsigned *served = user;
    (void)err;
    if (*served < 2) *out = (tvlm_pixels){pixels[(*served)++], 2, 2, 1, 0};
    return TVLM_OK;
}

static void must_open(const char *path)
{
    tvlm_model *model = NULL;
    tvlm_error err = {0};
    if (tvlm_model_open(path, NULL, &model, &err)) {
        fprintf(stderr, "the result does not open: %s\n", err.message);
        abort();
    }
    tvlm_model_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const tvlm_type types[] = {TVLM_TYPE_F32,  TVLM_TYPE_F16,  TVLM_TYPE_BF16,
                                      TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_K};
    static const double bounds[] = {INFINITY, 0.02, 0};
    if (!size) return 0;
    unsigned mode = fuzz_mode(data, size), served = 0;
    tvlmc_quantize_params p = {
        .type = types[mode % TVLM_COUNT(types)], .next_photo = next_photo, .user = &served};
    tvlm_error err = {0};
    uint8_t *bytes = malloc(size);
    if (!bytes) return 0;
    memcpy(bytes, data, size);
    uint32_t side = mend_checksums(bytes, size);
    p.max_layer_error = bounds[mode / 12 % TVLM_COUNT(bounds)];
    p.int8_tower = mode / TVLM_COUNT(types) % 2 && side <= 64; /* larger ones take their time */
    fuzz_enter();
    fuzz_write("in.gguf", bytes, size);
    free(bytes);
    char in[1024];
    snprintf(in, sizeof in, "%s", fuzz_path("in.gguf"));
    tvlm_status status = tvlmc_quantize_file(in, fuzz_path("out.gguf"), &p, &err);
    if (status == TVLM_OK)
        must_open(fuzz_path("out.gguf"));
    else if (!err.message[0])
        abort();
    if (fuzz_clear() != (status ? 1 : 2)) abort();
    return 0;
}
