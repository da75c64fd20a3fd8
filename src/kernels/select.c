/* SPDX-License-Identifier: MIT
 * Pure functions from a CPU mask to a kernel table, whose tiers overlay each other in order, and to
 * the kernels of linear layers. */
#include "kernels/pack.h"

#include "cpu/cpu.h"

void tvlm_kernels_select(tvlm_kernels *table, uint32_t cpu_mask)
{
    tvlm_kernels_install_scalar(table);
    if (cpu_mask & TVLM_CPU_CRC32C) tvlm_kernels_install_crc32c(table);
    if (cpu_mask & TVLM_CPU_AVX2) tvlm_kernels_install_avx2(table);
    if (cpu_mask & TVLM_CPU_AVX_VNNI) tvlm_kernels_install_avxvnni(table);
    if (cpu_mask & TVLM_CPU_AVX512) tvlm_kernels_install_avx512(table);
    if (cpu_mask & TVLM_CPU_AVX512_VNNI) tvlm_kernels_install_avx512vnni(table);
    if (cpu_mask & TVLM_CPU_NEON) tvlm_kernels_install_neon(table);
    if (cpu_mask & TVLM_CPU_DOTPROD) tvlm_kernels_install_dotprod(table);
    if (cpu_mask & TVLM_CPU_I8MM) tvlm_kernels_install_i8mm(table);
    if (cpu_mask & TVLM_CPU_SIMD128) tvlm_kernels_install_simd128(table);
}

const tvlm_gemm_tier *const tvlm_gemm_tiers[] = {
    &tvlm_gemm_scalar,        &tvlm_gemm_scalar_bf16,      &tvlm_gemm_scalar_int16,
    &tvlm_gemm_scalar_int8,   &tvlm_gemm_scalar_k,         &tvlm_gemm_avx2,
    &tvlm_gemm_avx2_int16,    &tvlm_gemm_avx2_int8,        &tvlm_gemm_avx2_k,
    &tvlm_gemm_avxvnni_int16, &tvlm_gemm_avxvnni_int8,     &tvlm_gemm_avxvnni_k,
    &tvlm_gemm_avx512,        &tvlm_gemm_avx512vnni_int16, &tvlm_gemm_avx512vnni_int8,
    &tvlm_gemm_avx512vnni_k,  &tvlm_gemm_avx512bf16,       &tvlm_gemm_neon,
    &tvlm_gemm_neon_int8,     &tvlm_gemm_dotprod_int8,     &tvlm_gemm_i8mm_int8,
    &tvlm_gemm_bf16,          &tvlm_gemm_simd128,          &tvlm_gemm_simd128_int16,
    &tvlm_gemm_simd128_int8};
const size_t tvlm_gemm_n_tiers = TVLM_COUNT(tvlm_gemm_tiers);

const tvlm_gemm *tvlm_gemm_select(uint32_t cpu_mask, tvlm_type type, tvlm_numeric numeric)
{
    const tvlm_gemm *best = NULL;
    for (size_t t = 0; t < tvlm_gemm_n_tiers; t++)
        for (size_t i = 0; i < tvlm_gemm_tiers[t]->n; i++) {
            const tvlm_gemm *gemm = &tvlm_gemm_tiers[t]->kernels[i];
            if (gemm->type == type && gemm->numeric == numeric && !(gemm->cpu & ~cpu_mask))
                best = gemm;
        }
    return best;
}

/* Of float types. With auto words, where they are of no lower tier than float32 kernels: on AVX2
 * and WebAssembly they multiply twice as many values an instruction, with VNNI as many as bfloat16
 * does, at a tenth of its error or less. AVX-512 alone has none of its own, and the scalar tier
 * stays with the reference. */
static const tvlm_gemm *of_floats(uint32_t cpu_mask, tvlm_precision precision, tvlm_type type)
{
    const tvlm_gemm *f32 = tvlm_gemm_select(cpu_mask, type, TVLM_NUMERIC_F32);
    const tvlm_gemm *int16 = tvlm_gemm_select(cpu_mask, type, TVLM_NUMERIC_INT16);
    const tvlm_gemm *odd = tvlm_gemm_select(cpu_mask, type, TVLM_NUMERIC_BF16_ODD);
    switch (precision) {
    case TVLM_PRECISION_BF16:
        return odd->cpu ? odd : tvlm_gemm_select(cpu_mask, type, TVLM_NUMERIC_BF16);
    case TVLM_PRECISION_INT16:
        return int16;
    case TVLM_PRECISION_AUTO:
        return int16->cpu && int16->cpu >= f32->cpu ? int16 : f32;
    default:
        return f32;
    }
}

const tvlm_gemm *tvlm_gemm_for(uint32_t cpu_mask, tvlm_precision precision, tvlm_type type,
                               size_t k)
{
    const tvlm_gemm *f32 = tvlm_gemm_select(cpu_mask, type, TVLM_NUMERIC_F32);
    const tvlm_gemm *int8 = tvlm_gemm_select(cpu_mask, type, TVLM_NUMERIC_INT8);
    const bool blocks = int8 && k % TVLM_BLOCK == 0;
    if (blocks && precision == TVLM_PRECISION_INT8) return int8;
    if (f32 && tvlm_type_block(type) == 1) return of_floats(cpu_mask, precision, type);
    /* a tier without int8 kernels of its own would fall back to scalar ones */
    bool slow = !blocks || (f32->cpu && !int8->cpu);
    return precision == TVLM_PRECISION_F32 || slow ? f32 : int8;
}

bool tvlm_gemm_offers(uint32_t cpu_mask, tvlm_precision precision)
{
    if (precision != TVLM_PRECISION_BF16) return true;
    return of_floats(cpu_mask, precision, TVLM_TYPE_BF16)->cpu ||
           !tvlm_gemm_select(cpu_mask, TVLM_TYPE_BF16, TVLM_NUMERIC_F32)->cpu;
}
