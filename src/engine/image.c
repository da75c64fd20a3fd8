/* SPDX-License-Identifier: MIT
 * Pixels -> preprocess -> tower -> bridge -> an immutable handle. */
#include "engine/internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const tvlm_encode_params defaults = {.size = sizeof defaults};

void tvlm_encode_params_init(tvlm_encode_params *params, size_t size)
{
    tvlm_sized_init(params, size, &defaults, sizeof defaults);
}

static tvlm_status read_params(const tvlm_encode_params *in, tvlm_encode_params *out,
                               tvlm_error *err)
{
    *out = defaults;
    TVLM_TRY(tvlm_sized_read(out, in, TVLM_SIZED(tvlm_encode_params, cancel), err));
    if (out->fit >= TVLM_FIT_MODEL && out->fit <= TVLM_FIT_SQUASH) return TVLM_OK;
    return tvlm_fail(err, TVLM_ERR_ARGUMENT, "fit %d is not known", (int)out->fit);
}

static tvlm_status check_pixels(const tvlm_pixels *p, uint64_t max_pixels, tvlm_error *err)
{
    if (!p || !p->data) return tvlm_fail(err, TVLM_ERR_ARGUMENT, "pixels or their data is NULL");
    if (!p->width || !p->height)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "an empty image: %ux%u", (unsigned)p->width,
                         (unsigned)p->height);
    if ((uint64_t)p->width * p->height > max_pixels)
        return tvlm_fail(err, TVLM_ERR_LIMIT, "an image of %ux%u, the limit is %llu pixels",
                         (unsigned)p->width, (unsigned)p->height, (unsigned long long)max_pixels);
    return TVLM_OK;
}

bool tvlm_model_splits(const tvlm_model *model, tvlm_fit fit)
{
    return fit == TVLM_FIT_MODEL && model->config.preprocess.split_edge;
}

size_t tvlm_model_preprocess_bytes(const tvlm_model *model, uint32_t side, unsigned n_threads)
{
    const tvlm_preprocess_config *c = &model->config.preprocess;
    size_t one = tvlm_preprocess_bytes(c, side, n_threads);
    size_t all = c->split_edge ? tvlm_split_bytes(c, side, n_threads) : 0;
    return all > one ? all : one;
}

/* Where the frames come from: the image itself where there is one. */
typedef struct frames {
    const tvlm_pixels *pixels;
    tvlm_split split;
    tvlm_fit fit;
    bool is_split;
} frames;

static tvlm_status open_frames(tvlm_cx *cx, const tvlm_model *model, frames *f, tvlm_error *err)
{
    if (!f->is_split) return TVLM_OK;
    return tvlm_split_run(&model->kernels, &model->config.preprocess, f->pixels, cx->arena,
                          cx->pool, cx->cancel, &f->split, err);
}

static tvlm_status take_frame(tvlm_cx *cx, const tvlm_model *model, const frames *f, size_t i,
                              float *out, tvlm_error *err)
{
    const tvlm_preprocess_config *c = &model->config.preprocess;
    if (!f->is_split)
        return tvlm_preprocess_run(&model->kernels, c, f->pixels, f->fit, cx->arena, cx->pool,
                                   cx->cancel, out, err);
    tvlm_split_frame(c, &f->split, i, out);
    return TVLM_OK;
}

static size_t frame_floats(const tvlm_model *model)
{
    return (size_t)model->config.preprocess.image_size * model->config.preprocess.image_size * 3;
}

static tvlm_grid grid_of(const tvlm_model *model, const tvlm_pixels *pixels, tvlm_fit fit)
{
    if (!tvlm_model_splits(model, fit)) return (tvlm_grid){0, 0};
    return tvlm_split_grid(&model->config.preprocess, pixels->width, pixels->height);
}

size_t tvlm_preprocess_floats(const tvlm_model *model, const tvlm_pixels *pixels,
                              const tvlm_encode_params *params)
{
    tvlm_encode_params p;
    if (!model || !tvlm_model_has_vision(model) || check_pixels(pixels, UINT64_MAX, NULL) ||
        read_params(params, &p, NULL))
        return 0;
    return frame_floats(model) * tvlm_grid_frames(grid_of(model, pixels, p.fit));
}

tvlm_status tvlm_preprocess(const tvlm_model *model, const tvlm_pixels *pixels,
                            const tvlm_encode_params *params, float *out, size_t cap,
                            tvlm_error *err)
{
    tvlm_encode_params p;
    TVLM_NEED(model);
    TVLM_NEED(out);
    if (!tvlm_model_has_vision(model))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "this model reads text only");
    TVLM_TRY(check_pixels(pixels, UINT64_MAX, err));
    TVLM_TRY(read_params(params, &p, err));
    frames f = {.pixels = pixels, .fit = p.fit, .is_split = tvlm_model_splits(model, p.fit)};
    size_t n = frame_floats(model), count = tvlm_grid_frames(grid_of(model, pixels, p.fit));
    if (cap / n < count)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT, "out has room for %zu floats, %zu are needed", cap,
                         n * count);
    tvlm_arena arena;
    uint32_t side = pixels->width > pixels->height ? pixels->width : pixels->height;
    size_t bytes =
        tvlm_model_preprocess_bytes(model, side < TVLM_MAX_SIDE ? side : TVLM_MAX_SIDE, 1);
    void *scratch = tvlm_aligned_alloc(bytes);
    if (!scratch)
        return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory to resize an image of %ux%u",
                         (unsigned)pixels->width, (unsigned)pixels->height);
    tvlm_arena_init(&arena, scratch, bytes);
    tvlm_cx cx = {.kernels = &model->kernels, .arena = &arena, .cancel = p.cancel};
    tvlm_status status = open_frames(&cx, model, &f, err);
    for (size_t i = 0; i < count && !status; i++)
        status = take_frame(&cx, model, &f, i, out + i * n, err);
    tvlm_aligned_free(scratch);
    return status;
}

size_t tvlm_image_token_floats(const tvlm_image *image)
{
    return tvlm_nn_elements(1, image->n_tokens, image->model->config.lm.n_embd);
}

size_t tvlm_image_vision_floats(const tvlm_image *image)
{
    return image->n_vision * image->model->weights.vision_dim;
}

size_t tvlm_image_cross_floats(const tvlm_model *m)
{
    return m->config.lm.cross_attention ? tvlm_cross_kv_floats(&m->config.lm, m->n_image_tokens)
                                        : 0;
}

size_t tvlm_image_bytes(const tvlm_model *m)
{
    size_t bytes = 0;
    if (!tvlm_model_has_vision(m)) return 0;
    size_t most = tvlm_nn_elements(m->max_frames, m->n_image_tokens, m->config.lm.n_embd);
    bool fits = tvlm_add_size(most, tvlm_image_cross_floats(m), &bytes) &&
                tvlm_mul_size(bytes, sizeof(float), &bytes) &&
                tvlm_add_size(bytes, sizeof(tvlm_image), &bytes);
    return fits ? bytes : SIZE_MAX;
}

tvlm_hash tvlm_image_hash(const tvlm_image *image)
{
    tvlm_hash h = {0, 0};
    h = tvlm_hash_bytes(h, image->tokens, tvlm_image_token_floats(image) * sizeof(float));
    return h.a | h.b ? h : (tvlm_hash){1, 1};
}

static void log_image(const tvlm_engine *engine, const tvlm_pixels *pixels, const tvlm_image *image)
{
    tvlm_engine_log(engine, "image: %ux%u, preprocess %.1f ms, tower %.1f ms, bridge %.1f ms",
                    (unsigned)pixels->width, (unsigned)pixels->height, image->timings.preprocess_ms,
                    image->timings.tower_ms, image->timings.bridge_ms);
}

/* The time since the last lap. */
static double lap_ms(double *last)
{
    double begin = *last;
    return (*last = tvlm_now_ms()) - begin;
}

static void bridge_frame(tvlm_cx *cx, tvlm_image *image, size_t i, const float *vision)
{
    const tvlm_model *m = image->model;
    m->config.arch->bridge(cx, m, vision,
                           image->tokens + i * m->n_image_tokens * m->config.lm.n_embd);
}

static tvlm_status encode_frames(tvlm_cx *cx, const tvlm_model *model, frames *f, tvlm_image *image,
                                 tvlm_error *err)
{
    size_t size = model->config.preprocess.image_size, d = model->weights.vision_dim;
    double clock = tvlm_now_ms();
    float *input = tvlm_nn_floats(cx, size, 3 * size);
    float *scratch = tvlm_nn_floats(cx, model->n_vision_tokens, d);
    TVLM_TRY(open_frames(cx, model, f, err));
    for (size_t i = 0; i < image->n_frames && tvlm_nn_ok(cx); i++) {
        float *vision = image->vision ? image->vision + i * model->n_vision_tokens * d : scratch;
        TVLM_TRY(take_frame(cx, model, f, i, input, err));
        image->timings.preprocess_ms += lap_ms(&clock);
        model->config.arch->see(cx, model, input, vision);
        image->timings.tower_ms += lap_ms(&clock);
        bridge_frame(cx, image, i, vision);
        image->timings.bridge_ms += lap_ms(&clock);
    }
    return TVLM_OK;
}

/* The tower ran elsewhere: its tokens come as they are. */
static void bridge_frames(tvlm_cx *cx, tvlm_image *image, const float *vision)
{
    double clock = tvlm_now_ms();
    size_t n = image->model->n_vision_tokens * image->model->weights.vision_dim;
    if (image->vision)
        memcpy(image->vision, vision, tvlm_image_vision_floats(image) * sizeof(float));
    for (size_t i = 0; i < image->n_frames && tvlm_nn_ok(cx); i++)
        bridge_frame(cx, image, i, vision + i * n);
    image->timings.bridge_ms += lap_ms(&clock);
}

static void cross_attend(tvlm_cx *cx, tvlm_image *image)
{
    const tvlm_model *m = image->model;
    double clock = tvlm_now_ms();
    if (!image->cross_kv) return;
    tvlm_cross_kv_forward(cx, &m->weights.decoder, &m->config.lm, image->tokens, image->n_tokens,
                          image->cross_kv);
    image->timings.bridge_ms += lap_ms(&clock);
}

/* Runs everything over the engine's arena; the image's arrays are the outputs. `vision`: the
 * tower's tokens, or NULL to run it. */
static tvlm_status encode(tvlm_engine *engine, frames *f, const float *vision,
                          const tvlm_cancel *cancel, tvlm_image *image, tvlm_error *err)
{
    tvlm_cx cx;
    tvlm_status status = TVLM_OK;
    TVLM_TRY(tvlm_engine_begin(engine, TVLM_TURN_IMAGE, cancel, &cx, err));
    if (vision)
        bridge_frames(&cx, image, vision);
    else
        status = encode_frames(&cx, engine->model, f, image, err);
    if (!status) cross_attend(&cx, image);
    if (!status && !tvlm_nn_ok(&cx)) status = tvlm_fail(err, TVLM_ERR_CANCELLED, "cancelled");
    if (!status) log_image(engine, f->pixels, image); /* in turn: two images' lines do not meet */
    tvlm_engine_end(engine);
    return status;
}

tvlm_status tvlm_image_new(const tvlm_model *model, tvlm_grid grid, bool vision, tvlm_image **out,
                           tvlm_error *err)
{
    size_t cross = tvlm_image_cross_floats(model);
    tvlm_image *image = *out = calloc(1, sizeof *image);
    if (!image) return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
    atomic_init(&image->refs, 1);
    image->model = tvlm_model_retain(model);
    image->grid = grid;
    image->n_frames = tvlm_grid_frames(grid);
    image->n_tokens = image->n_frames * model->n_image_tokens;
    image->n_vision = image->n_frames * model->n_vision_tokens;
    image->tokens = malloc(tvlm_image_token_floats(image) * sizeof(float));
    if (cross) image->cross_kv = malloc(cross * sizeof(float));
    if (vision) image->vision = malloc(tvlm_image_vision_floats(image) * sizeof(float));
    if (image->tokens && (!cross || image->cross_kv) && (!vision || image->vision)) return TVLM_OK;
    tvlm_image_free(image);
    *out = NULL;
    return tvlm_fail(err, TVLM_ERR_MEMORY, "out of memory");
}

static tvlm_status check_sight(const tvlm_model *model, tvlm_error *err)
{
    /* the cross-attention's keys and values come from the decoder's weights */
    tvlm_stage needed = model->config.lm.cross_attention ? TVLM_STAGE_DECODER : TVLM_STAGE_BRIDGE;
    if (!tvlm_model_has_vision(model))
        return tvlm_fail(err, TVLM_ERR_UNSUPPORTED, "this model reads text only");
    if (tvlm_model_stage(model) < needed)
        return tvlm_fail(err, TVLM_ERR_STATE, "the weights that encode images have not arrived");
    return TVLM_OK;
}

static tvlm_status make_image(tvlm_engine *engine, const tvlm_pixels *pixels, const float *vision,
                              const tvlm_encode_params *p, tvlm_image **out, tvlm_error *err)
{
    const tvlm_model *model = engine->model;
    frames f = {.pixels = pixels, .fit = p->fit, .is_split = tvlm_model_splits(model, p->fit)};
    tvlm_image *image;
    TVLM_TRY(
        tvlm_image_new(model, grid_of(model, pixels, p->fit), p->keep_vision_tokens, &image, err));
    tvlm_status status = encode(engine, &f, vision, p->cancel, image, err);
    if (status) {
        tvlm_image_free(image);
        return status;
    }
    image->id = tvlm_image_hash(image);
    *out = image;
    return TVLM_OK;
}

tvlm_status tvlm_image_encode(tvlm_engine *engine, const tvlm_pixels *pixels,
                              const tvlm_encode_params *params, tvlm_image **out, tvlm_error *err)
{
    tvlm_encode_params p;
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(engine);
    TVLM_TRY(read_params(params, &p, err));
    TVLM_TRY(check_sight(engine->model, err));
    TVLM_TRY(check_pixels(pixels, engine->params.max_pixels, err));
    return make_image(engine, pixels, NULL, &p, out, err);
}

static tvlm_status check_vision(const tvlm_model *model, const float *vision, size_t n, size_t dim,
                                size_t n_frames, tvlm_error *err)
{
    size_t want = n_frames * model->n_vision_tokens, want_dim = model->weights.vision_dim;
    if (n != want || dim != want_dim)
        return tvlm_fail(err, TVLM_ERR_ARGUMENT,
                         "vision tokens of %zu x %zu, this model's image has %zu x %zu", n, dim,
                         want, want_dim);
    for (size_t i = 0; i < n * dim; i++)
        if (!(fabsf(vision[i]) <= FLT_MAX))
            return tvlm_fail(err, TVLM_ERR_ARGUMENT, "vision token %zu, feature %zu: not a number",
                             i / dim, i % dim);
    return TVLM_OK;
}

tvlm_status tvlm_image_from_vision(tvlm_engine *engine, const float *vision, size_t n, size_t dim,
                                   uint32_t width, uint32_t height,
                                   const tvlm_encode_params *params, tvlm_image **out,
                                   tvlm_error *err)
{
    tvlm_encode_params p;
    const tvlm_pixels size = {.data = (const uint8_t *)"", .width = width, .height = height};
    TVLM_NEED(out);
    *out = NULL;
    TVLM_NEED(engine);
    TVLM_NEED(vision);
    TVLM_TRY(read_params(params, &p, err));
    TVLM_TRY(check_sight(engine->model, err));
    TVLM_TRY(check_pixels(&size, engine->params.max_pixels, err));
    size_t n_frames = tvlm_grid_frames(grid_of(engine->model, &size, p.fit));
    TVLM_TRY(check_vision(engine->model, vision, n, dim, n_frames, err));
    return make_image(engine, &size, vision, &p, out, err);
}

tvlm_image *tvlm_image_retain(const tvlm_image *image)
{
    tvlm_image *held = (tvlm_image *)(uintptr_t)image; /* the count alone changes */
    tvlm_refs_take(&held->refs);
    return held;
}

void tvlm_image_free(tvlm_image *image)
{
    if (!image || !tvlm_refs_drop(&image->refs)) return;
    tvlm_model_free(image->model);
    free(image->tokens);
    free(image->vision);
    free(image->cross_kv);
    free(image);
}

const float *tvlm_image_tokens(const tvlm_image *image, size_t *n, size_t *dim)
{
    if (n) *n = image ? image->n_tokens : 0;
    if (dim) *dim = image ? image->model->config.lm.n_embd : 0;
    return image ? image->tokens : NULL;
}

const float *tvlm_image_vision_tokens(const tvlm_image *image, size_t *n, size_t *dim)
{
    if (n) *n = image ? image->n_vision : 0;
    if (dim) *dim = image ? image->model->weights.vision_dim : 0;
    return image ? image->vision : NULL;
}

tvlm_status tvlm_image_get_timings(const tvlm_image *image, tvlm_image_timings *out,
                                   tvlm_error *err)
{
    const tvlm_sized *type = TVLM_SIZED(tvlm_image_timings, bridge_ms);
    TVLM_NEED(image);
    TVLM_NEED(out);
    TVLM_TRY(tvlm_sized_check(out, type, err));
    tvlm_sized_write(out, &image->timings, type);
    return TVLM_OK;
}
