/* SPDX-License-Identifier: MIT */
#include "convert/tower.h"

#include "image/preprocess.h"
#include "vision/vision.h"

#include <stdlib.h>

/* ---- images ---- */

/* Room for one more image of `size` bytes. */
static bool reserve(tvlmc_photos *p, size_t size)
{
    if (p->n < p->cap) return true;
    size_t cap = p->cap ? 2 * p->cap : 16, bytes;
    uint8_t *grown = tvlm_mul_size(cap, size, &bytes) ? realloc(p->rgb, bytes) : NULL;
    if (!grown) return false;
    p->rgb = grown;
    p->cap = cap;
    return true;
}

/* Resized by a configuration without scale and bias, so that the values are bytes. */
static tvlm_status keep(const tvlm_model *model, const tvlm_pixels *pixels, tvlmc_photos *p,
                        tvlm_error *err)
{
    tvlm_preprocess_config plain = model->config.preprocess;
    size_t n = (size_t)plain.image_size * plain.image_size * 3;
    for (int c = 0; c < 3; c++) {
        plain.scale[c] = 1;
        plain.bias[c] = 0;
    }
    uint32_t side = pixels->width > pixels->height ? pixels->width : pixels->height;
    side = side < TVLM_MAX_SIDE ? side : TVLM_MAX_SIDE; /* more is refused */
    size_t bytes = tvlm_preprocess_bytes(&plain, side, 1);
    void *block = tvlm_aligned_alloc(bytes);
    float *values = malloc(n * sizeof *values);
    tvlm_arena arena;
    tvlm_status status = TVLM_OK;
    if (!block || !values || !reserve(p, n)) {
        status = tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration images");
    } else {
        tvlm_arena_init(&arena, block, bytes);
        status = tvlm_preprocess_run(&model->kernels, &plain, pixels, TVLM_FIT_MODEL, &arena, NULL,
                                     NULL, values, err);
        for (size_t i = 0; !status && i < n; i++)
            p->rgb[p->n * n + i] = (uint8_t)values[i];
        if (!status) p->n++;
    }
    tvlm_aligned_free(block);
    free(values);
    return status;
}

tvlm_status tvlmc_photos_take(const tvlm_model *model, const tvlmc_quantize_params *params,
                              tvlmc_photos *out, tvlm_error *err)
{
    *out = (tvlmc_photos){.side = model->config.preprocess.image_size};
    for (;;) {
        tvlm_pixels photo = {0};
        if (tvlm_cancelled(params->cancel))
            return tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
        TVLM_TRY(params->next_photo(params->user, &photo, err));
        if (!photo.data) break;
        TVLM_TRY(keep(model, &photo, out, err));
    }
    return out->n ? TVLM_OK
                  : tvlm_fail(err, TVLM_ERR_ARGUMENT, "int8 needs at least one calibration image");
}

tvlm_pixels tvlmc_photos_at(const tvlmc_photos *photos, size_t i)
{
    size_t side = photos->side;
    return (tvlm_pixels){photos->rgb + i * side * side * 3, photos->side, photos->side, 3, 0};
}

/* ---- running ---- */

static void pool(tvlmc_tower_run *t)
{
    const tvlm_pooling *w = &t->model->weights.pooling;
    float eps = t->model->config.pool_ln_eps;
    tvlm_pooling_embed(&t->cx, w, eps, t->hi, t->lo, t->vision);
    tvlm_pooling_forward(&t->cx, w, eps, t->vision, t->tokens);
}

static void forward(tvlmc_tower_run *t)
{
    uint32_t side = t->model->config.preprocess.image_size;
    tvlm_efficientnet_forward(&t->cx, t->weights, tvlm_nn_f32(t->pixels, side, side, 3),
                              (tvlm_features){t->hi, t->lo});
    if (!t->cx.tap) pool(t);
}

/* Side of the map after the first n blocks. */
static size_t side_after(const tvlm_efficientnet *w, size_t side, uint32_t n)
{
    side = tvlm_nn_conv_out(side, w->stem.k, w->stem_stride, TVLM_PAD_SAME);
    for (uint32_t i = 0; i < n; i++)
        side = tvlm_nn_conv_out(side, w->blocks[i].dw.k, w->blocks[i].stride, TVLM_PAD_SAME);
    return side;
}

static void take_buffers(tvlmc_tower_run *t)
{
    const tvlm_efficientnet *w = t->weights;
    const tvlm_pooling *p = &t->model->weights.pooling;
    size_t s = t->model->config.preprocess.image_size;
    size_t lo = side_after(w, s, w->tap_block + 1), hi = side_after(w, s, w->n_blocks);
    t->pixels = tvlm_nn_floats(&t->cx, s, 3 * s);
    t->lo = tvlm_nn_floats(&t->cx, lo * lo, w->blocks[w->tap_block].c_out);
    t->hi = tvlm_nn_floats(&t->cx, hi * hi, w->head.n);
    if (t->cx.tap) return;
    t->vision = tvlm_nn_floats(&t->cx, p->n_hi + p->n_lo, p->d);
    t->tokens = tvlm_nn_floats(&t->cx, p->n_query, p->d);
}

tvlm_status tvlmc_tower_run_take(tvlmc_tower_run *t, const tvlm_efficientnet *weights,
                                 tvlm_error *err)
{
    t->weights = weights;
    t->cx.arena = &t->arena;
    tvlm_arena_init_measure(&t->arena);
    take_buffers(t);
    forward(t);
    size_t bytes = t->arena.peak;
    tvlm_aligned_free(t->block);
    t->block = tvlm_aligned_alloc(bytes);
    if (!t->block) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory for calibration");
    tvlm_arena_init(&t->arena, t->block, bytes);
    take_buffers(t);
    return TVLM_OK;
}

tvlm_status tvlmc_tower_run_open(tvlmc_tower_run *tower, const tvlm_model *model,
                                 const tvlm_tap *tap, const tvlm_cancel *cancel, tvlm_error *err)
{
    *tower = (tvlmc_tower_run){
        .model = model, .cx = {.kernels = &model->kernels, .tap = tap, .cancel = cancel}
    };
    tvlm_status status = tvlm_pool_new(tvlm_cpu_count(), &tower->cx.pool, err);
    if (!status) status = tvlmc_tower_run_take(tower, &model->weights.efficientnet, err);
    if (status) tvlmc_tower_run_close(tower);
    return status;
}

tvlm_status tvlmc_tower_run_see(tvlmc_tower_run *tower, const tvlm_pixels *photo, tvlm_error *err)
{
    size_t n = (size_t)photo->width * photo->height * 3;
    tvlm_encode_params params;
    tvlm_encode_params_init(&params, sizeof params);
    params.cancel = tower->cx.cancel;
    TVLM_TRY(tvlm_preprocess(tower->model, photo, &params, tower->pixels, n, err));
    forward(tower);
    return tvlm_nn_ok(&tower->cx) ? TVLM_OK : tvlm_fail(err, TVLM_ERR_CANCELLED, "interrupted");
}

void tvlmc_tower_run_close(tvlmc_tower_run *tower)
{
    tvlm_pool_free(tower->cx.pool);
    tvlm_aligned_free(tower->block);
    *tower = (tvlmc_tower_run){0};
}
