/* SPDX-License-Identifier: MIT
 * Checksums of the int8 tower's output, one line a kernel tier: the same on every machine.
 *   tower < models/tinyvlm-25m.gguf */
#include "cpu/cpu.h"
#include "model/model.h"
#include "vision/vision.h"

#include <stdio.h>
#include <stdlib.h>

static tvlm_error err;

static void need(bool ok)
{
    if (ok) return;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

static tvlm_loader *load(void)
{
    static unsigned char piece[1 << 16];
    tvlm_model_params params;
    tvlm_model_params_init(&params, sizeof params);
    tvlm_loader *loader;
    need(tvlm_loader_new(&params, &loader, &err) == TVLM_OK);
    for (size_t n; (n = fread(piece, 1, sizeof piece, stdin)) > 0;)
        need(tvlm_loader_feed(loader, piece, n, &err) == TVLM_OK);
    return loader;
}

/* Noise in the range of the model's input. */
static void fill(float *pixels, size_t n)
{
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        pixels[i] = (float)(x >> 16) / 32768.0f - 1.0f;
    }
}

int main(void)
{
    tvlm_loader *loader = load();
    tvlm_model *model = tvlm_loader_model(loader);
    if (!model || tvlm_model_stage(model) < TVLM_STAGE_TOWER || !model->config.vision_int8) {
        fprintf(stderr, "standard input is no model with an int8 tower\n");
        return 1;
    }
    const tvlm_pooling *bridge = &model->weights.pooling;
    size_t size = model->config.preprocess.image_size, n_pixels = size * size * 3;
    size_t n_hi = bridge->n_hi * bridge->hi.k, n_lo = bridge->n_lo * bridge->lo.k;
    float *pixels = malloc((n_pixels + n_hi + n_lo) * sizeof *pixels);
    size_t room = 32 << 20;
    void *scratch = tvlm_aligned_alloc(room);
    if (!pixels || !scratch) return 1;
    float *hi = pixels + n_pixels, *lo = hi + n_hi;
    fill(pixels, n_pixels);
    static const uint32_t masks[] = {0, UINT32_MAX};
    for (size_t i = 0; i < 2; i++) {
        uint32_t mask = masks[i] & tvlm_cpu_detect();
        tvlm_kernels kernels;
        tvlm_kernels_select(&kernels, mask);
        tvlm_arena arena;
        tvlm_arena_init(&arena, scratch, room);
        tvlm_cx cx = {.kernels = &kernels, .arena = &arena};
        tvlm_efficientnet_forward(&cx, &model->weights.efficientnet,
                                  tvlm_nn_f32(pixels, size, size, 3), (tvlm_features){hi, lo});
        printf("%s %08x %08x\n", tvlm_cpu_tier_name(mask),
               (unsigned)tvlm_crc32c(0, hi, n_hi * sizeof *hi),
               (unsigned)tvlm_crc32c(0, lo, n_lo * sizeof *lo));
    }
    tvlm_aligned_free(scratch);
    free(pixels);
    tvlm_loader_free(loader);
    return 0;
}
