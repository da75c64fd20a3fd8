/* SPDX-License-Identifier: MIT
 * Linear layers as data: a kernel is a descriptor that carries all that belongs to it.
 *
 *   y[m][n] = scale * act(sum_k x[m][k] * w[n][k] + bias[n]) + residual[m][n]
 *
 * An output's arithmetic depends on its row of x, its row of w and k only, never on m, tiles or
 * batch. Kernels of one numeric class give the same bits on every tier; pack.h states the
 * arithmetic of each class and draws the layouts. */
#ifndef TVLM_KERNELS_LINEAR_H
#define TVLM_KERNELS_LINEAR_H

#include "kernels/kernels.h"

/* What products and sums are made of. */
typedef enum tvlm_numeric {
    TVLM_NUMERIC_F32,      /* weights as stored, x in float32: the reference */
    TVLM_NUMERIC_BF16,     /* weights and x rounded to bfloat16, sums in float32 */
    TVLM_NUMERIC_BF16_ODD, /* the same, two products at a time, sums rounded to odd */
    TVLM_NUMERIC_INT16,    /* float weights and x in blocks of 256 words with a scale each */
    TVLM_NUMERIC_INT8      /* weights and x in blocks of 32 bytes with a scale each */
} tvlm_numeric;

typedef struct tvlm_gemm_args {
    const void *x; /* rows ldx bytes apart: float32, or what the kernel's pack_input made of them */
    size_t ldx;
    const void *w;         /* packed by the kernel's layout */
    const float *bias;     /* nullable */
    const float *residual; /* nullable, rows ldr floats apart; may be y itself */
    size_t ldr;
    float *y;
    size_t ldy; /* floats */
    float scale;
    tvlm_act act;
    size_t n, k; /* of the whole matrix */
} tvlm_gemm_args;

/* Row m of x. */
static inline const void *tvlm_gemm_row(const tvlm_gemm_args *args, size_t m)
{
    return (const unsigned char *)args->x + m * args->ldx;
}

/* How weights lie in memory: panels of TVLM_GEMM_NR weight rows, the last padded with zeros. */
typedef struct tvlm_gemm_layout {
    /* Bytes of a packed [n][k] matrix; false where the layout cannot hold it, or on overflow. */
    bool (*packed_size)(tvlm_type type, size_t n, size_t k, size_t *out);
    /* Packs n_rows (<= NR) file-layout rows src into the panel that starts at weight row n0 (a
     * multiple of NR); missing rows of the panel become zeros. */
    void (*pack)(tvlm_type type, void *packed, const void *src, size_t n0, size_t n_rows, size_t k);
    /* The inverse for one row: dst[k] floats (embedding lookup). */
    void (*unpack_row)(tvlm_type type, const void *packed, size_t row, size_t k, float *dst);
} tvlm_gemm_layout;

/* How a kernel wants a row of x; NULL in a kernel that reads float32 rows. */
typedef struct tvlm_gemm_input {
    size_t (*bytes)(size_t k); /* of one packed row; a multiple of 4 */
    void (*pack)(void *packed, const float *x, size_t k);
} tvlm_gemm_input;

typedef struct tvlm_gemm {
    const char *name; /* "avx2 q8_0 f32" */
    uint32_t cpu;     /* bits of cpu/cpu.h that it needs */
    tvlm_type type;   /* of the weights, as stored */
    tvlm_numeric numeric;
    const tvlm_gemm_layout *layout;
    const tvlm_gemm_input *input;
    /* Rows m0..m1 of x against weight rows n0..n1 (n0 a multiple of NR; n1 too, or n). */
    void (*run)(const tvlm_gemm_args *args, size_t m0, size_t m1, size_t n0, size_t n1);
} tvlm_gemm;

/* The kernels of a file, in no order: one per type. */
typedef struct tvlm_gemm_tier {
    const tvlm_gemm *kernels;
    size_t n;
} tvlm_gemm_tier;
/* From the slowest tier up, which is scalar and has every type and class; some are empty, being of
 * another architecture. */
extern const tvlm_gemm_tier *const tvlm_gemm_tiers[];
extern const size_t tvlm_gemm_n_tiers;

/* The best kernel of the CPU mask for the type in the class; NULL for types that none runs. */
const tvlm_gemm *tvlm_gemm_select(uint32_t cpu_mask, tvlm_type type, tvlm_numeric numeric);

/* Scalar kernels take hundreds of times as long for a tile, between which a cancel is seen: what
 * calls them cuts its work finer. */
static inline bool tvlm_gemm_is_scalar(const tvlm_gemm *gemm)
{
    return !gemm->cpu;
}

/* What a caller asks of accuracy and speed; see tvlm_model_params.precision. */
typedef enum tvlm_precision {
    TVLM_PRECISION_AUTO,
    TVLM_PRECISION_F32,
    TVLM_PRECISION_INT8,
    TVLM_PRECISION_INT16,
    TVLM_PRECISION_BF16
} tvlm_precision;
/* The kernel for rows of k weights of the type, NULL when none runs it. int8 needs k in whole
 * blocks, else it is float32; int16 and bf16 are of float types, block types are then as with
 * auto. bf16 is the class that the CPU has instructions for. */
const tvlm_gemm *tvlm_gemm_for(uint32_t cpu_mask, tvlm_precision precision, tvlm_type type,
                               size_t k);

/* Has the CPU kernels of its own for the precision? Scalar ones count where all are scalar. */
bool tvlm_gemm_offers(uint32_t cpu_mask, tvlm_precision precision);

extern const tvlm_gemm_tier tvlm_gemm_scalar, tvlm_gemm_scalar_bf16, tvlm_gemm_scalar_int16,
    tvlm_gemm_scalar_int8, tvlm_gemm_scalar_k, tvlm_gemm_avx2, tvlm_gemm_avx2_int16,
    tvlm_gemm_avx2_int8, tvlm_gemm_avx2_k, tvlm_gemm_avx512, tvlm_gemm_avx512vnni_int16,
    tvlm_gemm_avx512vnni_int8, tvlm_gemm_avx512bf16, tvlm_gemm_avxvnni_int16,
    tvlm_gemm_avxvnni_int8, tvlm_gemm_avxvnni_k, tvlm_gemm_avx512vnni_k, tvlm_gemm_neon,
    tvlm_gemm_neon_int8, tvlm_gemm_dotprod_int8, tvlm_gemm_i8mm_int8, tvlm_gemm_bf16,
    tvlm_gemm_simd128, tvlm_gemm_simd128_int16, tvlm_gemm_simd128_int8;

/* Layouts, drawn in pack.h. */
extern const tvlm_gemm_layout tvlm_layout_f32, tvlm_layout_bf16, tvlm_layout_bf16_odd,
    tvlm_layout_int16, tvlm_layout_int8, tvlm_layout_k;
/* Rows of x as bfloat16 (k even; in fours) and as blocks of words and bytes, the reference. */
extern const tvlm_gemm_input tvlm_input_bf16, tvlm_input_bf16_odd, tvlm_input_int16,
    tvlm_input_int8;
/* The same bits, faster. */
extern const tvlm_gemm_layout tvlm_avx2_layout_int16;
extern const tvlm_gemm_input tvlm_avx2_input_int16, tvlm_avx2_input_int8;
/* Rows of x in tvlm_half_blocks: for K-quants on x86, for all on ARM. */
extern const tvlm_gemm_input tvlm_avx2_input_k, tvlm_neon_input_int8;

#endif
