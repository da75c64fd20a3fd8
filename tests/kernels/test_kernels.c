/* SPDX-License-Identifier: MIT
 * test-kernels [--bench] [--json FILE] [--filter TEXT] [--seed N] [--every N] [--cpu TIER]
 * Runs every kernel on every tier that this CPU has (see harness.h). Exit 0: all passed. */
#include "harness.h"

#include "cpu/cpu.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* test-kernels-emulated runs the AVX-512 and AVX-VNNI tiers, whose instructions it makes from AVX2.
 */
#if defined(TVLM_AVX512_EMULATION)
enum {
    EMULATED = TVLM_CPU_AVX512 | TVLM_CPU_AVX512_VNNI | TVLM_CPU_AVX512_BF16 | TVLM_CPU_AVX_VNNI
};
#else
enum { EMULATED = 0 };
#endif

static bool can_run(uint32_t mask)
{
    bool wanted = !EMULATED || mask & EMULATED;
    return wanted && !(mask & ~(tvlm_cpu_detect() | EMULATED));
}

/* Every entry of the table is set, whatever the mask. */
static void check_complete(tk *t, const void *unused)
{
    (void)unused;
#define TVLM_KERNEL(name, ret, params)                                                             \
    if (!t->tier.name) tk_near(t, 0, 0, 1, 0);
#include "kernels/kernels.def"
#undef TVLM_KERNEL
    static const tvlm_type types[] = {TVLM_TYPE_F32,  TVLM_TYPE_F16,  TVLM_TYPE_BF16,
                                      TVLM_TYPE_Q8_0, TVLM_TYPE_Q4_0, TVLM_TYPE_Q4_1,
                                      TVLM_TYPE_Q5_0, TVLM_TYPE_Q5_1, TVLM_TYPE_Q4_K,
                                      TVLM_TYPE_Q5_K, TVLM_TYPE_Q6_K};
    for (size_t i = 0; i < TVLM_COUNT(types); i++) {
        const tvlm_gemm *gemm = tvlm_gemm_select(t->mask, types[i], TVLM_NUMERIC_F32);
        if (!gemm || !gemm->run || gemm->type != types[i]) tk_near(t, i, 0, 1, 0);
        gemm = tvlm_gemm_select(t->mask, types[i], TVLM_NUMERIC_INT8);
        if (!gemm || !gemm->run || gemm->type != types[i]) tk_near(t, i, 0, 1, 0);
    }
    for (size_t i = 0; i < 3; i++)
        if (!tvlm_gemm_select(t->mask, types[i], TVLM_NUMERIC_INT16)) tk_near(t, i, 0, 1, 0);
    if (tvlm_gemm_select(t->mask, TVLM_TYPE_I32, TVLM_NUMERIC_F32)) tk_near(t, 0, 0, 1, 0);
    bool bf16 =
        t->mask & (TVLM_CPU_AVX512_BF16 | TVLM_CPU_BF16) || !(t->mask & ~(uint32_t)TVLM_CPU_CRC32C);
    if (tvlm_gemm_offers(t->mask, TVLM_PRECISION_BF16) != bf16) tk_near(t, 0, 0, 1, 0);
}

/* below: mask of a tier whose kernels are not to be tested again; 0: the scalar ones. A tier has
 * rows, attention and so on from one file each: one entry tells whether they are its own. */
static void run_tier(tk *t, const tvlm_cpu_tier *tier, uint32_t below, bool bench)
{
    tvlm_kernels old;
    t->tier_name = tier->name;
    t->is_scalar = tier->mask == 0;
    t->mask = tier->mask;
    t->below = below;
    memset(&t->tier, 0, sizeof t->tier);
    memset(&old, 0, sizeof old);
    tvlm_kernels_select(&t->tier, tier->mask);
    tvlm_kernels_select(&old, below);
    if (bench) {
        bench_crc32c(t);
        bench_resize(t);
        bench_gemm(t);
        bench_rows(t);
        bench_attention(t);
        bench_spatial(t);
        bench_int8(t);
        return;
    }
    tk_run(t, "table", "all entries", check_complete, NULL, true);
    test_gemm(t);
#define OWN(entry) (t->is_scalar || t->tier.entry != old.entry)
    if (OWN(crc32c)) test_crc32c(t);
    if (OWN(act)) test_rows(t);
    if (OWN(attention)) test_attention(t);
    if (OWN(dwconv)) test_spatial(t);
    if (OWN(qgemm) || OWN(qdwconv)) test_int8(t);
    if (OWN(resize_across)) test_resize(t);
#undef OWN
}

static int usage(void)
{
    fputs("usage: test-kernels [--bench] [--json FILE] [--filter TEXT] [--seed N] [--every N] "
          "[--cpu TIER]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static tk t = {.seed = 1, .every = 1};
    bool bench = false;
    const char *cpu = NULL, *json = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--bench")) {
            bench = true;
            continue;
        }
        if (!value) return usage();
        if (!strcmp(argv[i], "--json"))
            json = value;
        else if (!strcmp(argv[i], "--filter"))
            t.filter = value;
        else if (!strcmp(argv[i], "--seed"))
            t.seed = strtoull(value, NULL, 10);
        else if (!strcmp(argv[i], "--every"))
            t.every = strtoul(value, NULL, 10) ? strtoul(value, NULL, 10) : 1;
        else if (!strcmp(argv[i], "--cpu"))
            cpu = value;
        else
            return usage();
        i++;
    }
    if (!tk_open(&t)) {
        perror("test-kernels: mmap");
        return 2;
    }
    if (json && !(t.json = fopen(json, "w"))) {
        perror(json);
        return 2;
    }
    tvlm_kernels_select(&t.scalar, 0);
    if (t.json) fputc('[', t.json);
    if (bench)
        printf("%-14s %-28s %-7s %12s %12s %9s %9s %9s\n", "kernel", "shape", "tier", "min ns",
               "median ns", "GFLOP/s", "GB/s", "/scalar");
    size_t n_run = 0;
    uint32_t below = EMULATED && !cpu ? TVLM_CPU_CRC32C | TVLM_CPU_AVX2 : 0;
    for (size_t i = 0; i < tvlm_cpu_n_tiers; i++) {
        const tvlm_cpu_tier *tier = &tvlm_cpu_tiers[i];
        if (cpu && strcmp(cpu, tier->name)) continue;
        if (!can_run(tier->mask)) {
            if (!EMULATED) printf("skipped tier %s: not on this CPU\n", tier->name);
            continue;
        }
        run_tier(&t, tier, below, bench);
        if (!cpu && !bench) below = tier->mask;
        n_run++;
    }
    if (t.json) {
        fputs("\n]\n", t.json);
        fclose(t.json);
    }
    if (bench) return n_run ? 0 : 1;
    if (!tk_guarded(&t)) {
        printf("FAIL memory grew beyond the guarded slot\n");
        t.failed++;
    }
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    return t.failed || !t.passed;
}
