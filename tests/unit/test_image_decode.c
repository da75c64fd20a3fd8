/* SPDX-License-Identifier: MIT
 * Picture files of every kind against what Pillow decoded (data/images/NAME.rgb: width and height
 * as little-endian u16, then RGB), and files that must be refused. */
#include "image/codec.h"
#include "image/decode.h"

#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IMAGES TVLM_TEST_DATA "/images/"
#if defined(_WIN32)
#define FOLDER_IS_REFUSED "cannot open: "
#else
#define FOLDER_IS_REFUSED "cannot read: "
#endif

static uint8_t *read_expected(const char *name, uint32_t *width, uint32_t *height)
{
    char path[512];
    uint8_t head[4];
    snprintf(path, sizeof path, IMAGES "%s.rgb", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(head, 1, 4, f), 4);
    *width = head[0] | (uint32_t)head[1] << 8;
    *height = head[2] | (uint32_t)head[3] << 8;
    size_t size = (size_t)*width * *height * 3;
    uint8_t *rgb = malloc(size);
    assert_non_null(rgb);
    assert_int_equal(fread(rgb, 1, size, f), size);
    fclose(f);
    return rgb;
}

/* The largest difference between the file's pixels and Pillow's. */
static int compare(const char *name, bool as_stored)
{
    char path[512];
    uint32_t width, height;
    app_decoded image;
    tvlm_error err = {0};
    const app_decode_params params = {.as_stored = as_stored};
    snprintf(path, sizeof path, IMAGES "%s", name);
    uint8_t *rgb = read_expected(name, &width, &height);
    if (app_decode_file(path, &params, &image, &err)) fail_msg("%s", err.message);
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    int most = 0;
    for (size_t i = 0; i < (size_t)width * height; i++)
        for (size_t c = 0; c < 3; c++) {
            uint8_t have = image.channels == 1 ? image.data[i] : image.data[i * image.channels + c];
            int d = abs(have - rgb[3 * i + c]);
            most = d > most ? d : most;
        }
    app_decoded_free(&image);
    free(rgb);
    return most;
}

static void expect_same(const char *const *names, size_t n, bool as_stored)
{
    for (size_t i = 0; i < n; i++) {
        int most = compare(names[i], as_stored);
        if (most) fail_msg("%s differs from Pillow's by %d", names[i], most);
    }
}

static void test_pnm(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb.ppm", "grey.pgm", "rgb16.ppm", "maxval.ppm"};
    expect_same(names, TVLM_COUNT(names), false);
}

static tvlm_status decode_text(const char *text, size_t size, app_decoded *out, tvlm_error *err)
{
    const char *path = TVLM_BUILD_DIR "/test_image_decode.pnm";
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    *err = (tvlm_error){0};
    tvlm_status status = app_decode_file(path, NULL, out, err);
    remove(path);
    return status;
}
#define DECODE(text, out, err) decode_text(text, sizeof(text) - 1, out, err)

/* Ink is 1 and black; a row of 10 takes two bytes, the first pixel is the highest bit. */
static void test_pbm(void **state)
{
    (void)state;
    static const uint8_t want[20] = {0,   255, 255, 255, 255, 255, 255, 0,   255, 0,
                                     255, 0,   0,   255, 255, 255, 255, 255, 255, 255};
    app_decoded image;
    tvlm_error err;
    if (DECODE("P4 10 2\n\x81\x7F\x60\x3F", &image, &err)) fail_msg("%s", err.message);
    assert_true(image.width == 10 && image.height == 2 && image.channels == 1);
    assert_memory_equal(image.data, want, sizeof want);
    app_decoded_free(&image);
    if (DECODE("P1 10 2 1000000101 # comment\n 0 11 0000000", &image, &err))
        fail_msg("%s", err.message);
    assert_memory_equal(image.data, want, sizeof want);
    app_decoded_free(&image);
}

static void test_pnm_samples(void **state)
{
    (void)state;
    app_decoded image;
    tvlm_error err;
    if (DECODE("P5 3 1 65535\n\0\0\xFF\xFF\x80\0", &image, &err)) fail_msg("%s", err.message);
    assert_true(image.data[0] == 0 && image.data[1] == 255 && image.data[2] == 128);
    app_decoded_free(&image);
    assert_int_equal(DECODE("P5 1 1 65536\n\0\0\0", &image, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "damaged PNM: its header"));
    assert_int_equal(DECODE("P5 1 1 0\n\0", &image, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "damaged PNM: its header"));
}

static void test_orientation(void **state)
{
    (void)state;
    static const struct {
        const char *xmp;
        int side;
    } cases[] = {
        {"<x tiff:Orientation=\"6\"/>",                    6},
        {"<tiff:Orientation>8</tiff:Orientation>",         8},
        {"<x tiff:Orientation=\"9\"/>",                    1},
        {"<x tiff:Orientation=\"0\"/>",                    1},
        {"<x tiff:Orientation=\"",                         1},
        {"<x tiff:Orientation='6' tiff:Orientation=\"3\"", 3},
        {"",                                               1},
    };
    for (size_t i = 0; i < TVLM_COUNT(cases); i++)
        assert_int_equal(
            app_orientation(NULL, 0, (const uint8_t *)cases[i].xmp, strlen(cases[i].xmp)),
            cases[i].side);
    assert_int_equal(app_orientation(NULL, 0, NULL, 0), 1);
}

#if TVLM_HAVE_PNG
static void test_png(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb.png",   "one.png",    "grey.png", "bilevel.png",
                                        "rgb16.png", "grey16.png", "exif6.png"};
    static const char *const dropped[] = {"rgba.png", "grey_alpha.png", "palette.png"};
    expect_same(names, TVLM_COUNT(names), false);
    expect_same(dropped, TVLM_COUNT(dropped), true);
}
#endif

#if TVLM_HAVE_JPEG
/* Pillow has its own copy of the same library; versions differ by a rounding at most. */
static void test_jpeg(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb.jpg",   "grey.jpg",  "progressive.jpg", "stray.jpg",
                                        "exif2.jpg", "exif3.jpg", "exif4.jpg",       "exif5.jpg",
                                        "exif6.jpg", "exif7.jpg", "exif8.jpg"};
    for (size_t i = 0; i < TVLM_COUNT(names); i++) {
        int most = compare(names[i], false);
        if (most > 2) fail_msg("%s differs from Pillow's by %d", names[i], most);
    }
}

static void test_orientation_ignored(void **state)
{
    (void)state;
    app_decoded image;
    const app_decode_params params = {.as_stored = true};
    assert_int_equal(app_decode_file(IMAGES "exif6.jpg", &params, &image, NULL), TVLM_OK);
    assert_int_equal(image.width, 38);
    assert_int_equal(image.height, 26);
    app_decoded_free(&image);
}
#endif

#if TVLM_HAVE_WEBP
static void test_webp(void **state)
{
    (void)state;
    static const char *const names[] = {"lossless.webp", "exif6.webp"};
    static const char *const dropped[] = {"alpha.webp"};
    expect_same(names, TVLM_COUNT(names), false);
    expect_same(dropped, TVLM_COUNT(dropped), true);
    assert_true(compare("lossy.webp", false) <= 2);
}
#endif

static void test_refused(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *name;
        bool built;
        tvlm_status status;
        const char *message;
    } cases[] = {
        {"no-such-file", true, TVLM_ERR_IO, "cannot open: "},
        {"", true, TVLM_ERR_IO, FOLDER_IS_REFUSED},
        {"bad_text", true, TVLM_ERR_FORMAT, "not an image in a known format"},
        {"bad_empty.ppm", true, TVLM_ERR_FORMAT, "an empty image: 0x0"},
        {"bad_cut.ppm", true, TVLM_ERR_FORMAT, "the PNM is truncated or damaged"},
        {"bad_huge.ppm", true, TVLM_ERR_LIMIT, "an image of 20000x20000, the limit is 300000000"},
        {"bad_empty.png", TVLM_HAVE_PNG, TVLM_ERR_FORMAT, "damaged PNG: "},
        {"bad_cut.png", TVLM_HAVE_PNG, TVLM_ERR_FORMAT, "damaged PNG: "},
        {"bad_cut.webp", TVLM_HAVE_WEBP, TVLM_ERR_FORMAT, "the WebP is truncated or damaged"},
        {"bad_huge.png", TVLM_HAVE_PNG, TVLM_ERR_LIMIT, "an image of 20000x20000"},
        {"bad_huge.jpg", TVLM_HAVE_JPEG, TVLM_ERR_LIMIT, "an image of 20000x20000"},
        {"rgb.png", !TVLM_HAVE_PNG, TVLM_ERR_UNSUPPORTED, "a PNG image: install libspng-dev"},
        {"rgb.jpg", !TVLM_HAVE_JPEG, TVLM_ERR_UNSUPPORTED, "a JPEG image: install libjpeg-dev"},
        {"lossy.webp", !TVLM_HAVE_WEBP, TVLM_ERR_UNSUPPORTED, "a WebP image: install libwebp"},
    };
    // clang-format on
    for (size_t i = 0; i < TVLM_COUNT(cases); i++) {
        char path[512];
        app_decoded image;
        tvlm_error err = {0};
        if (!cases[i].built) continue;
        snprintf(path, sizeof path, IMAGES "%s", cases[i].name);
        tvlm_status status = app_decode_file(path, NULL, &image, &err);
        if (status != cases[i].status) fail_msg("%s: status %d", path, (int)status);
        assert_null(image.data);
        if (strncmp(err.message, path, strlen(path)) || !strstr(err.message, cases[i].message))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].message);
    }
}

static void test_limit_is_a_parameter(void **state)
{
    (void)state;
    app_decoded image;
    app_decode_params params = {.max_pixels = 19 * 13};
    assert_int_equal(app_decode_file(IMAGES "rgb.ppm", &params, &image, NULL), TVLM_OK);
    app_decoded_free(&image);
    params.max_pixels--;
    assert_int_equal(app_decode_file(IMAGES "rgb.ppm", &params, &image, NULL), TVLM_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pnm),         cmocka_unit_test(test_pbm),
        cmocka_unit_test(test_pnm_samples), cmocka_unit_test(test_orientation),
#if TVLM_HAVE_PNG
        cmocka_unit_test(test_png),
#endif
#if TVLM_HAVE_JPEG
        cmocka_unit_test(test_jpeg),        cmocka_unit_test(test_orientation_ignored),
#endif
#if TVLM_HAVE_WEBP
        cmocka_unit_test(test_webp),
#endif
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_limit_is_a_parameter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
