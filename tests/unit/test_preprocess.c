/* SPDX-License-Identifier: MIT
 * Preprocessing against Pillow, transformers and the golden pixel values: bit-exact. */
#include "cpu/cpu.h"
#include "image/preprocess.h"
#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const tvlm_preprocess_config base = {
    .image_size = 128,
    .fit = TVLM_FIT_PAD,
    .filter = TVLM_FILTER_BICUBIC,
    .scale = {1 / 255.0, 1 / 255.0, 1 / 255.0},
    .std = {1,         1,         1        }
};

static tvlm_pixels pixels_of(tensor t)
{
    return (tvlm_pixels){.data = t.data,
                         .height = (uint32_t)t.shape[0],
                         .width = (uint32_t)t.shape[1],
                         .channels = (uint32_t)t.shape[2]};
}

static const tvlm_kernels *best(void)
{
    static tvlm_kernels kernels;
    tvlm_kernels_select(&kernels, tvlm_cpu_detect());
    return &kernels;
}

/* The resized picture itself, [S][S][3] u8: pixels as they are, before scale and bias. The arena is
 * exactly as large as the plan says. */
static tvlm_status resize_on(tvlm_pool *pool, const tvlm_preprocess_config *config,
                             const tvlm_pixels *p, tvlm_fit fit, uint8_t *out, tvlm_error *err)
{
    tvlm_preprocess_config identity = *config;
    size_t n = (size_t)config->image_size * config->image_size * 3;
    uint32_t side = p->width > p->height ? p->width : p->height;
    size_t bytes = tvlm_preprocess_bytes(config, side, tvlm_pool_threads(pool));
    void *block = tvlm_aligned_alloc(bytes);
    float *values = test_malloc(n * sizeof *values);
    tvlm_arena arena;
    tvlm_arena_init(&arena, block, bytes);
    for (size_t c = 0; c < 3; c++) {
        identity.scale[c] = 1;
        identity.bias[c] = 0;
    }
    tvlm_status status =
        tvlm_preprocess_run(best(), &identity, p, fit, &arena, pool, NULL, values, err);
    assert_int_equal(arena.used, 0);
    for (size_t i = 0; !status && i < n; i++)
        out[i] = (uint8_t)values[i];
    test_free(values);
    tvlm_aligned_free(block);
    return status;
}

/* On one thread, and the same again on three. */
static tvlm_status resize(const tvlm_preprocess_config *config, const tvlm_pixels *p, tvlm_fit fit,
                          uint8_t *out, tvlm_error *err)
{
    size_t n = (size_t)config->image_size * config->image_size * 3;
    uint8_t *again = test_malloc(n);
    tvlm_pool *pool;
    assert_int_equal(tvlm_pool_new(3, &pool, NULL), TVLM_OK);
    tvlm_status status = resize_on(NULL, config, p, fit, out, err);
    assert_int_equal(resize_on(pool, config, p, fit, again, NULL), status);
    if (!status) assert_memory_equal(again, out, n);
    tvlm_pool_free(pool);
    test_free(again);
    return status;
}

static void check_u8(const tvlm_preprocess_config *config, const tvlm_pixels *p, tvlm_fit fit,
                     tensor want)
{
    assert_non_null(want.data);
    size_t n = (size_t)config->image_size * config->image_size * 3;
    assert_int_equal(want.n, n);
    uint8_t *got = test_malloc(n);
    tvlm_error err;
    assert_int_equal(resize(config, p, fit, got, &err), TVLM_OK);
    assert_memory_equal(got, want.data, n);
    test_free(got);
}

static void fixtures_match(void **state)
{
    (void)state;
    tensor_file f = tensors_open(TVLM_TEST_DATA "/preprocess/preprocess.safetensors");
    static const char *const sizes[] = {"100x150", "128x128", "161x97", "40x9", "64x64"};
    for (size_t i = 0; i < TVLM_COUNT(sizes); i++) {
        char in[32], out[32];
        snprintf(in, sizeof in, "in_%s", sizes[i]);
        snprintf(out, sizeof out, "out_%s", sizes[i]);
        tvlm_pixels p = pixels_of(tensors_find(&f, in));
        check_u8(&base, &p, TVLM_FIT_MODEL, tensors_find(&f, out));
    }
    tvlm_pixels p = pixels_of(tensors_find(&f, "in_100x150"));
    check_u8(&base, &p, TVLM_FIT_CROP, tensors_find(&f, "hf_centercrop_100x150"));
    tensors_close(&f);
}

static void pillow_matches(void **state)
{
    (void)state;
    static const char *const fits[] = {"pad", "crop", "squash"};
    static const char *const filters[] = {"bicubic", "bilinear"};
    tensor_file f = tensors_open(TVLM_TEST_DATA "/preprocess/pillow.safetensors");
    size_t checked = 0;
    for (size_t fit = 0; fit < 3; fit++) {
        for (size_t filter = 0; filter < 2; filter++) {
            tvlm_preprocess_config config = base;
            config.image_size = 40;
            config.filter = filter ? TVLM_FILTER_BILINEAR : TVLM_FILTER_BICUBIC;
            memcpy(config.pad_color, (uint8_t[]){7, 0, 255}, 3);
            for (unsigned i = 0;; i++, checked++) {
                char in[48], out[48];
                snprintf(in, sizeof in, "in.%s.%s.%u", fits[fit], filters[filter], i);
                snprintf(out, sizeof out, "out.%s.%s.%u", fits[fit], filters[filter], i);
                tensor t = tensors_find(&f, in);
                if (!t.data) break;
                tvlm_pixels p = pixels_of(t);
                check_u8(&config, &p, (tvlm_fit)(TVLM_FIT_PAD + fit), tensors_find(&f, out));
            }
        }
    }
    assert_int_equal(checked, 54);
    tensors_close(&f);
}

/* The golden's pixel_values are CHW. */
static void pixel_values_match(void **state)
{
    (void)state;
    tensor_file vectors = tensors_open(TVLM_TEST_DATA "/preprocess/preprocess.safetensors");
    tensor_file golden = tensors_open(TVLM_TEST_DATA "/golden/golden_tiny_128.safetensors");
    tensor want = tensors_find(&golden, "pixel_values");
    size_t photo;
    unsigned char *ppm = read_whole_file(TVLM_TEST_DATA "/golden/image_100x150.ppm", &photo);
    tvlm_pixels p = {
        .data = ppm + photo - 100 * 150 * 3, .width = 150, .height = 100, .channels = 3};
    static float got[128][128][3];
    tvlm_error err;
    size_t bytes = tvlm_preprocess_bytes(&base, p.width, 1);
    tvlm_arena arena;
    tvlm_arena_init(&arena, tvlm_aligned_alloc(bytes), bytes);
    assert_int_equal(tvlm_preprocess_run(best(), &base, &p, TVLM_FIT_MODEL, &arena, NULL, NULL,
                                         &got[0][0][0], &err),
                     TVLM_OK);
    tvlm_aligned_free(arena.base);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < 128 * 128; i++)
            assert_true((&got[0][0][0])[i * 3 + c] ==
                        ((const float *)want.data)[c * 128 * 128 + i]);
    free(ppm);
    tensors_close(&golden);
    tensors_close(&vectors);
}

static void stride_and_channels(void **state)
{
    (void)state;
    enum { W = 37, H = 23, STRIDE = 200 };
    static uint8_t rgb[H][W][3], wide[H][STRIDE], grey[H][W], grey_rgb[H][W][3];
    for (size_t y = 0; y < H; y++) {
        memset(wide[y], 0xEE, STRIDE);
        for (size_t x = 0; x < W; x++) {
            for (size_t c = 0; c < 3; c++) {
                rgb[y][x][c] = (uint8_t)(x * 31 + y * 57 + c * 101);
                wide[y][x * 4 + c] = rgb[y][x][c];
                grey_rgb[y][x][c] = rgb[y][x][0];
            }
            grey[y][x] = rgb[y][x][0];
        }
    }
    tvlm_preprocess_config config = base;
    config.image_size = 19;
    static uint8_t a[19 * 19 * 3], b[19 * 19 * 3];
    tvlm_pixels plain = {.data = rgb[0][0], .width = W, .height = H, .channels = 3};
    tvlm_pixels strided = {
        .data = wide[0], .width = W, .height = H, .channels = 4, .stride = STRIDE};
    assert_int_equal(resize(&config, &plain, TVLM_FIT_PAD, a, NULL), TVLM_OK);
    assert_int_equal(resize(&config, &strided, TVLM_FIT_PAD, b, NULL), TVLM_OK);
    assert_memory_equal(a, b, sizeof a);
    plain.data = grey_rgb[0][0];
    tvlm_pixels one = {.data = grey[0], .width = W, .height = H, .channels = 1};
    assert_int_equal(resize(&config, &plain, TVLM_FIT_CROP, a, NULL), TVLM_OK);
    assert_int_equal(resize(&config, &one, TVLM_FIT_CROP, b, NULL), TVLM_OK);
    assert_memory_equal(a, b, sizeof a);
}

/* A strip of one colour stays that colour, whatever the filter does with 20,000 pixels. */
static void extreme_strips(void **state)
{
    (void)state;
    enum { LONG = 20000 };
    uint8_t *strip = test_malloc(LONG * 3);
    memset(strip, 200, LONG * 3);
    static uint8_t out[128 * 128 * 3];
    for (int tall = 0; tall < 2; tall++) {
        tvlm_pixels p = {
            .data = strip, .width = tall ? 1 : LONG, .height = tall ? LONG : 1, .channels = 3};
        for (int fit = TVLM_FIT_CROP; fit <= TVLM_FIT_SQUASH; fit++) {
            assert_int_equal(resize(&base, &p, (tvlm_fit)fit, out, NULL), TVLM_OK);
            for (size_t i = 0; i < sizeof out; i++)
                assert_int_equal(out[i], 200);
        }
        assert_int_equal(resize(&base, &p, TVLM_FIT_PAD, out, NULL), TVLM_OK);
        assert_int_equal(out[0], 0); /* the strip is a 156th of an output pixel wide */
    }
    test_free(strip);
}

static void bad_pictures_are_refused(void **state)
{
    (void)state;
    static uint8_t byte[64], out[128 * 128 * 3];
    const struct {
        tvlm_pixels pixels;
        tvlm_status want;
    } cases[] = {
        {{.data = byte, .width = 0, .height = 0, .channels = 3},                 TVLM_ERR_ARGUMENT},
        {{.data = byte, .width = 4, .height = 0, .channels = 3},                 TVLM_ERR_ARGUMENT},
        {{.data = NULL, .width = 4, .height = 4, .channels = 3},                 TVLM_ERR_ARGUMENT},
        {{.data = byte, .width = 4, .height = 4, .channels = 2},                 TVLM_ERR_ARGUMENT},
        {{.data = byte, .width = 4, .height = 4, .channels = 3, .stride = 11},   TVLM_ERR_ARGUMENT},
        {{.data = byte, .width = TVLM_MAX_SIDE + 1, .height = 1, .channels = 1}, TVLM_ERR_LIMIT   },
        {{.data = byte, .width = 1, .height = TVLM_MAX_SIDE + 1, .channels = 1}, TVLM_ERR_LIMIT   },
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        tvlm_error err = {0};
        assert_int_equal(resize(&base, &cases[i].pixels, TVLM_FIT_PAD, out, &err), cases[i].want);
        assert_true(err.message[0] != 0);
    }
}

static void cancelling_stops_it(void **state)
{
    (void)state;
    static uint8_t grey[64];
    static float out[128 * 128 * 3];
    tvlm_pixels p = {.data = grey, .width = 8, .height = 8, .channels = 1};
    size_t bytes = tvlm_preprocess_bytes(&base, 8, 1);
    tvlm_arena arena;
    tvlm_arena_init(&arena, tvlm_aligned_alloc(bytes), bytes);
    tvlm_cancel *cancel = tvlm_cancel_new();
    tvlm_cancel_request(cancel);
    assert_int_equal(
        tvlm_preprocess_run(best(), &base, &p, TVLM_FIT_PAD, &arena, NULL, cancel, out, NULL),
        TVLM_ERR_CANCELLED);
    assert_int_equal(arena.used, 0);
    tvlm_cancel_free(cancel);
    tvlm_aligned_free(arena.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_match),      cmocka_unit_test(pillow_matches),
        cmocka_unit_test(pixel_values_match),  cmocka_unit_test(stride_and_channels),
        cmocka_unit_test(extreme_strips),      cmocka_unit_test(bad_pictures_are_refused),
        cmocka_unit_test(cancelling_stops_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
