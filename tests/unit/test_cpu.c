/* SPDX-License-Identifier: MIT
 * Tiers by name and by what the CPU has. */
#include "cpu/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void a_tier_is_named_by_all_its_features(void **state)
{
    (void)state;
    for (size_t i = 0; i < tvlm_cpu_n_tiers; i++)
        assert_string_equal(tvlm_cpu_tier_name(tvlm_cpu_tiers[i].mask), tvlm_cpu_tiers[i].name);
    assert_string_equal(tvlm_cpu_tier_name(TVLM_CPU_AVX2), "scalar"); /* without the CRC */
}

/* What the CPU lacks would end in an illegal instruction. */
static void only_tiers_of_this_cpu_are_offered(void **state)
{
    (void)state;
    uint32_t mask, detected = tvlm_cpu_detect();
    size_t refused = 0;
    tvlm_error err;
    assert_int_equal(tvlm_cpu_mask(NULL, &mask, &err), TVLM_OK);
    assert_int_equal(mask, detected);
    for (size_t i = 0; i < tvlm_cpu_n_tiers; i++) {
        const tvlm_cpu_tier *tier = &tvlm_cpu_tiers[i];
        bool has = !(tier->mask & ~detected);
        mask = ~0u;
        assert_int_equal(tvlm_cpu_mask(tier->name, &mask, &err),
                         has ? TVLM_OK : TVLM_ERR_UNSUPPORTED);
        assert_int_equal(mask, has ? tier->mask : ~0u);
        refused += !has;
    }
    assert_true(refused); /* no CPU has those of WebAssembly and of x86 */
    assert_int_equal(tvlm_cpu_mask("none", &mask, &err), TVLM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "cpu tier 'none': this machine offers scalar"));
    assert_true(!strstr(err.message, "avx") || !strstr(err.message, "simd128"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tier_is_named_by_all_its_features),
        cmocka_unit_test(only_tiers_of_this_cpu_are_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
