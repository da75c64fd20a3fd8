/* SPDX-License-Identifier: MIT
 * Block formats: values by hand, error bounds, half precision over every pattern. */
#include "quant/quant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void half_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = tvlm_f16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true(isnan(tvlm_f16_to_f32(tvlm_f32_to_f16(f))));
        else
            assert_int_equal(tvlm_f32_to_f16(f), h);
    }
    for (uint32_t h = 0; h < 65536; h++) {
        float f = tvlm_bf16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true(isnan(tvlm_bf16_to_f32(tvlm_f32_to_bf16(f))));
        else
            assert_int_equal(tvlm_f32_to_bf16(f), h);
    }
}

/* A NaN whose payload is in the bits that are dropped must not become an infinity. */
static void not_a_number_stays_so(void **state)
{
    (void)state;
    static const uint32_t bits[] = {0x7f800001, 0xff800001, 0x7f801fff, 0xff80ffff, 0x7fffffff};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        float f;
        memcpy(&f, &bits[i], sizeof f);
        assert_true(isnan(tvlm_f16_to_f32(tvlm_f32_to_f16(f))));
        assert_true(isnan(tvlm_bf16_to_f32(tvlm_f32_to_bf16(f))));
        assert_int_equal(tvlm_f32_to_bf16(f) >> 15, bits[i] >> 31);
    }
    const float infinity = INFINITY;
    assert_int_equal(tvlm_f32_to_bf16(infinity), 0x7f80);
    assert_int_equal(tvlm_f32_to_bf16(-infinity), 0xff80);
    assert_int_equal(tvlm_f32_to_f16(infinity), 0x7c00);
}

/* Between two neighbours the nearer one is taken, the even one in the middle. */
static void half_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double a = (double)tvlm_f16_to_f32((uint16_t)h),
               b = (double)tvlm_f16_to_f32((uint16_t)(h + 1));
        float middle = (float)((a + b) / 2); /* exact: one bit more than a half has */
        assert_int_equal(tvlm_f32_to_f16(middle), h % 2 ? h + 1 : h);
        assert_int_equal(tvlm_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(tvlm_f32_to_f16(nextafterf(middle, -INFINITY)), h);
        assert_int_equal(tvlm_f32_to_f16(-middle), 0x8000 | (h % 2 ? h + 1 : h));
    }
    assert_int_equal(tvlm_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(tvlm_f32_to_f16(65519.0f), 0x7bff);
}

/* One block of each type whose values are known by the drawing in quant.h. */
static void blocks_by_hand(void **state)
{
    (void)state;
    unsigned char b[34];
    float y[32];
    memset(b, 0, sizeof b);
    b[0] = 0x00, b[1] = 0x38; /* d = 0.5 */
    b[2] = 0x4f;              /* q[0] = 15, q[16] = 4 */
    tvlm_dequantize(TVLM_TYPE_Q4_0, b, y, 32);
    assert_float_equal(y[0], 3.5f, 0);
    assert_float_equal(y[16], -2.0f, 0);
    assert_float_equal(y[1], -4.0f, 0);
    b[2] = 0x00, b[3] = 0x3c, b[4] = 0x4f; /* m = 1 */
    tvlm_dequantize(TVLM_TYPE_Q4_1, b, y, 32);
    assert_float_equal(y[0], 8.5f, 0);
    assert_float_equal(y[16], 3.0f, 0);
    assert_float_equal(y[31], 1.0f, 0);
    memset(b + 2, 0, 30);
    b[2] = 0x01, b[4] = 0x01; /* fifth bits of weights 0 and 16 */
    b[6] = 0x4f;
    tvlm_dequantize(TVLM_TYPE_Q5_0, b, y, 32);
    assert_float_equal(y[0], 7.5f, 0);
    assert_float_equal(y[16], 2.0f, 0);
    assert_float_equal(y[1], -8.0f, 0);
    memmove(b + 4, b + 2, 20);
    b[2] = 0x00, b[3] = 0xbc; /* m = -1 */
    tvlm_dequantize(TVLM_TYPE_Q5_1, b, y, 32);
    assert_float_equal(y[0], 14.5f, 0);
    assert_float_equal(y[16], 9.0f, 0);
    assert_float_equal(y[1], -1.0f, 0);
    b[2] = 0x80, b[33] = 0x7f;
    tvlm_dequantize(TVLM_TYPE_Q8_0, b, y, 32);
    assert_float_equal(y[0], -64.0f, 0);
    assert_float_equal(y[31], 63.5f, 0);
}

/* Super-blocks whose values are known by the drawing in kquant.h. */
static void super_blocks_by_hand(void **state)
{
    (void)state;
    unsigned char b[256];
    float y[256];
    memset(b, 0, sizeof b);
    b[1] = 0x38;                  /* d = 0.5 */
    b[3] = 0x3c;                  /* min = 1 */
    b[4] = 0x83, b[4 + 4] = 0x42; /* scale[0] = 3, scale[4] = 2 << 4; m[0] = 2, m[4] = 1 << 4 */
    b[4 + 8] = 0x51;              /* scale[4] |= 1, m[4] |= 5 */
    b[16] = 0x0f;                 /* codes 0 and 32: 15, 0 */
    b[16 + 64 + 3] = 0x0a;        /* codes 131 and 163: 10, 0 */
    b[16 + 32] = 0xf0;            /* codes 64 and 96 */
    tvlm_dequantize(TVLM_TYPE_Q4_K, b, y, 256);
    assert_float_equal(y[0], 0.5f * 3 * 15 - 2, 0);
    assert_float_equal(y[1], -2.0f, 0);
    assert_float_equal(y[32], 0.0f, 0);
    assert_float_equal(y[131], 0.5f * 33 * 10 - 21, 0);
    assert_float_equal(y[128], -21.0f, 0);
    assert_float_equal(y[96], 0.0f, 0); /* a scale of 0 */
    memmove(b + 48, b + 16, 128);
    memset(b + 16, 0, 32);
    b[16] = 0x01, b[16 + 3] = 0x10; /* fifth bits of 0 and 131 */
    tvlm_dequantize(TVLM_TYPE_Q5_K, b, y, 256);
    assert_float_equal(y[0], 0.5f * 3 * 31 - 2, 0);
    assert_float_equal(y[131], 0.5f * 33 * 26 - 21, 0);
    assert_float_equal(y[128], -21.0f, 0);
    memset(b, 0, sizeof b);
    b[209] = 0x38;      /* d = 0.5 */
    b[192] = 0x80;      /* scale[0] = -128 */
    b[192 + 15] = 3;    /* of weights 240 .. 255 */
    b[0] = 0x05;        /* low bits of weights 0 and 64 */
    b[128] = 0x02;      /* high bits of weight 0 */
    b[127] = 0xf0;      /* low bits of weights 191 and 255 */
    b[128 + 63] = 0xc0; /* high bits of weight 255 */
    tvlm_dequantize(TVLM_TYPE_Q6_K, b, y, 256);
    assert_float_equal(y[0], 0.5f * -128 * (37 - 32), 0);
    assert_float_equal(y[1], 0.5f * -128 * -32, 0);
    assert_float_equal(y[64], 0.0f, 0);
    assert_float_equal(y[255], 0.5f * 3 * 31, 0);
    assert_float_equal(y[254], 0.5f * 3 * -32, 0);
}

enum { LONGEST = 256, MOST_BYTES = 210 };

static const tvlm_type blocks[] = {TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_1, TVLM_TYPE_Q5_0,
                                   TVLM_TYPE_Q5_1, TVLM_TYPE_Q4_K, TVLM_TYPE_Q5_K, TVLM_TYPE_Q6_K};

static float uniform(void)
{
    return (float)rand() / (float)RAND_MAX * 2 - 1;
}

static void error_bounds(void **state)
{
    (void)state;
    static const struct {
        tvlm_type type;
        float steps, bound; /* of the magnitude or of the range; in steps */
    } cases[] = {
        {TVLM_TYPE_Q8_0, 127, 0.51f},
        {TVLM_TYPE_Q4_0, 8,   1.01f}, /* 7 steps on one side: the far
  end may miss by one */
        {TVLM_TYPE_Q5_0, 16,  1.01f},
        {TVLM_TYPE_Q4_1, 15,  0.51f},
        {TVLM_TYPE_Q5_1, 31,  0.51f},
    };
    srand(1);
    for (int round = 0; round < 2000; round++) {
        float x[32], y[32], most = 0, low = INFINITY, high = -INFINITY,
                            size = powf(10.0f, (float)(rand() % 6 - 2)); /* d a normal half */
        unsigned char b[34];
        for (int i = 0; i < 32; i++) {
            x[i] = size * uniform();
            most = fmaxf(most, fabsf(x[i]));
            low = fminf(low, x[i]);
            high = fmaxf(high, x[i]);
        }
        for (size_t t = 0; t < TVLM_COUNT(cases); t++) {
            bool ranged = cases[t].type == TVLM_TYPE_Q4_1 || cases[t].type == TVLM_TYPE_Q5_1;
            float step = (ranged ? high - low : most) / cases[t].steps;
            float bound = step * cases[t].bound + (ranged ? fabsf(low) / 2048 : 0) + 1e-7f;
            assert_true(tvlm_quantize(cases[t].type, x, b, 32));
            tvlm_dequantize(cases[t].type, b, y, 32);
            for (int i = 0; i < 32; i++)
                assert_true(fabsf(x[i] - y[i]) <= bound);
        }
    }
}

/* The root mean square that quant.h states, in deviations, whatever the size; also where the mean
 * is far from 0, which is what mins are for. */
static void errors_of_normal_weights(void **state)
{
    (void)state;
    enum { N = 256 * 64 };
    static const struct {
        tvlm_type type;
        double most, off_centre;
    } cases[] = {
        {TVLM_TYPE_Q4_0, 0.088,  0.3  },
        {TVLM_TYPE_Q4_K, 0.073,  0.1  },
        {TVLM_TYPE_Q5_0, 0.044,  0.2  },
        {TVLM_TYPE_Q5_K, 0.037,  0.05 },
        {TVLM_TYPE_Q6_K, 0.018,  0.05 },
        {TVLM_TYPE_Q8_0, 0.0056, 0.015},
    };
    static float x[N], y[N];
    static unsigned char b[N * 2];
    srand(2);
    for (int round = 0; round < 4; round++)
        for (size_t t = 0; t < TVLM_COUNT(cases); t++) {
            const float size = round % 2 ? 0.02f : 100.0f, mean = round < 2 ? 0 : 3 * size;
            double error = 0;
            for (size_t i = 0; i < N; i++) {
                float sum = 0;
                for (int j = 0; j < 12; j++) /* variance 1/3 each */
                    sum += uniform();
                x[i] = mean + size * sum / 2;
            }
            assert_true(tvlm_quantize(cases[t].type, x, b, N));
            tvlm_dequantize(cases[t].type, b, y, N);
            for (size_t i = 0; i < N; i++)
                error += pow((double)(x[i] - y[i]), 2);
            error = sqrt(error / N) / (double)size;
            assert_true(error < (round < 2 ? cases[t].most : cases[t].off_centre));
        }
}

/* What no block can hold saturates: never NaN, nothing beyond the codes, and the sign is kept. */
static void extremes_saturate(void **state)
{
    (void)state;
    static const float values[] = {3e38f, -3e38f, INFINITY, -INFINITY, NAN};
    for (size_t t = 0; t < TVLM_COUNT(blocks); t++)
        for (size_t v = 0; v < TVLM_COUNT(values); v++) {
            float x[LONGEST], y[LONGEST];
            unsigned char b[MOST_BYTES];
            const size_t n = tvlm_type_block(blocks[t]);
            for (size_t i = 0; i < n; i++)
                x[i] = i == 5 ? values[v] : 0.5f;
            assert_true(tvlm_quantize(blocks[t], x, b, n));
            tvlm_dequantize(blocks[t], b, y, n);
            for (size_t i = 0; i < n; i++)
                assert_true(isfinite(y[i]));
            if (v < 4)
                assert_true((values[v] > 0 ? y[5] : -y[5]) >= 65500.0f);
            else
                assert_true(fabsf(y[4] - 0.5f) <= 0.02f);
            if (v < 4 && (blocks[t] == TVLM_TYPE_Q8_0 || blocks[t] == TVLM_TYPE_Q4_0)) {
                float most = 65504.0f * (blocks[t] == TVLM_TYPE_Q8_0 ? 127.0f : 8.0f);
                assert_float_equal(y[5], values[v] > 0 ? most : -most, 0);
                assert_true(y[4] == 0);
            }
        }
}

/* Blocks of one value, of either sign and far from it, come back nearly as they are. */
static void constant_blocks(void **state)
{
    (void)state;
    static const float values[] = {0, 1, -1, 0.5f, -300};
    for (size_t t = 0; t < TVLM_COUNT(blocks); t++)
        for (size_t v = 0; v < TVLM_COUNT(values); v++) {
            float x[LONGEST], y[LONGEST];
            unsigned char b[MOST_BYTES];
            const size_t n = tvlm_type_block(blocks[t]);
            for (size_t i = 0; i < n; i++)
                x[i] = values[v];
            assert_true(tvlm_quantize(blocks[t], x, b, n));
            tvlm_dequantize(blocks[t], b, y, n);
            for (size_t i = 0; i < n; i++)
                assert_true(fabsf(y[i] - x[i]) <= fabsf(x[i]) * 0.005f);
        }
}

static void names_and_sizes(void **state)
{
    (void)state;
    float x[32] = {0};
    unsigned char b[34];
    assert_false(tvlm_quantize(TVLM_TYPE_I8, x, b, 32));
    size_t bytes;
    assert_false(tvlm_type_row_bytes(TVLM_TYPE_Q8_0, 33, &bytes));
    assert_true(tvlm_type_row_bytes(TVLM_TYPE_Q8_0, 64, &bytes));
    assert_int_equal(bytes, 68);
    assert_false(tvlm_type_row_bytes(TVLM_TYPE_Q6_K, 128, &bytes));
    assert_true(tvlm_type_row_bytes(TVLM_TYPE_Q6_K, 512, &bytes));
    assert_int_equal(bytes, 420);
    tvlm_type type;
    assert_true(tvlm_type_from_name("q4_k", &type));
    assert_int_equal(type, TVLM_TYPE_Q4_K);
    assert_false(tvlm_type_from_name("q4", &type));
    assert_false(tvlm_type_from_name("i8", &type)); /* read, not written */
    assert_false(tvlm_type_from_name("q3_k", &type));
    assert_string_equal(tvlm_type_name(11), "Q3_K");
    assert_false(tvlm_type_runs(11));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_round_trip),          cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(not_a_number_stays_so),    cmocka_unit_test(blocks_by_hand),
        cmocka_unit_test(super_blocks_by_hand),     cmocka_unit_test(error_bounds),
        cmocka_unit_test(errors_of_normal_weights), cmocka_unit_test(extremes_saturate),
        cmocka_unit_test(constant_blocks),          cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
