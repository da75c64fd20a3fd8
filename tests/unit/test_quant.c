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

static void error_bounds(void **state)
{
    (void)state;
    static const tvlm_type types[] = {TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0};
    srand(1);
    for (int round = 0; round < 2000; round++) {
        float x[32], y[32], most = 0,
                            size = powf(10.0f, (float)(rand() % 6 - 2)); /* d a normal half */
        unsigned char b[34];
        for (int i = 0; i < 32; i++) {
            x[i] = size * ((float)rand() / (float)RAND_MAX * 2 - 1);
            most = fmaxf(most, fabsf(x[i]));
        }
        for (size_t t = 0; t < 2; t++) {
            assert_true(tvlm_quantize(types[t], x, b, 32));
            tvlm_dequantize(types[t], b, y, 32);
            /* half a step; Q4_0's range is 7 steps on one side, so its far end may miss by a whole
             */
            float step = types[t] == TVLM_TYPE_Q8_0 ? most / 127 : most / 8;
            float bound = step * (types[t] == TVLM_TYPE_Q8_0 ? 0.51f : 1.01f) + 1e-7f;
            for (int i = 0; i < 32; i++)
                assert_true(fabsf(x[i] - y[i]) <= bound);
        }
    }
}

/* What no block can hold saturates: never NaN, and nothing beyond the codes. */
static void extremes_saturate(void **state)
{
    (void)state;
    static const tvlm_type types[] = {TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0};
    static const float values[] = {3e38f, -3e38f, INFINITY, -INFINITY, NAN};
    for (size_t t = 0; t < 2; t++)
        for (size_t v = 0; v < TVLM_COUNT(values); v++) {
            float x[32], y[32];
            unsigned char b[34];
            for (size_t i = 0; i < 32; i++)
                x[i] = i == 5 ? values[v] : 0.5f;
            assert_true(tvlm_quantize(types[t], x, b, 32));
            tvlm_dequantize(types[t], b, y, 32);
            for (size_t i = 0; i < 32; i++)
                assert_true(isfinite(y[i]));
            if (v < 4) {
                float most = 65504.0f * (types[t] == TVLM_TYPE_Q8_0 ? 127.0f : 8.0f);
                assert_float_equal(y[5], values[v] > 0 ? most : -most, 0);
                assert_true(y[4] == 0);
            } else {
                assert_true(fabsf(y[4] - 0.5f) <= 0.5f / 127);
            }
        }
}

static void zeros_and_unwritable_types(void **state)
{
    (void)state;
    float x[32] = {0}, y[32];
    unsigned char b[34];
    assert_true(tvlm_quantize(TVLM_TYPE_Q8_0, x, b, 32));
    tvlm_dequantize(TVLM_TYPE_Q8_0, b, y, 32);
    assert_memory_equal(x, y, sizeof x);
    assert_true(tvlm_quantize(TVLM_TYPE_Q4_0, x, b, 32));
    tvlm_dequantize(TVLM_TYPE_Q4_0, b, y, 32);
    for (int i = 0; i < 32; i++)
        assert_true(y[i] == 0);
    assert_false(tvlm_quantize(TVLM_TYPE_Q4_1, x, b, 32));
    size_t bytes;
    assert_false(tvlm_type_row_bytes(TVLM_TYPE_Q8_0, 33, &bytes));
    assert_true(tvlm_type_row_bytes(TVLM_TYPE_Q8_0, 64, &bytes));
    assert_int_equal(bytes, 68);
    tvlm_type type;
    assert_true(tvlm_type_from_name("q4_0", &type));
    assert_int_equal(type, TVLM_TYPE_Q4_0);
    assert_false(tvlm_type_from_name("q4_k", &type));
    assert_string_equal(tvlm_type_name(12), "Q4_K");
    assert_false(tvlm_type_runs(12));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_round_trip),   cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(blocks_by_hand),    cmocka_unit_test(error_bounds),
        cmocka_unit_test(extremes_saturate), cmocka_unit_test(zeros_and_unwritable_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
