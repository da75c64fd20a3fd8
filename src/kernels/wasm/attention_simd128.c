/* SPDX-License-Identifier: MIT
 * Attention on WebAssembly SIMD, as on AVX2: several rows share a copy of a tile of keys, one row
 * alone reads them where they are. The order of every sum is the scalar tier's. */
#include "kernels/wasm/simd128.h"

#if defined(__wasm_simd128__)

/* A copy holds COPY floats, or eight keys. */
enum { COPY = 4096, COLUMNS = COPY / TVLM_ATTENTION_KEYS };

/* Rows of k or of v. */
typedef struct kv_rows {
    const void *data;
    bool f16;
    size_t ld;
} kv_rows;

TVLM_INLINE v128_t load_kv4(kv_rows m, size_t at)
{
    return m.f16 ? tvlm_load_half4((const uint16_t *)m.data + at)
                 : wasm_v128_load((const float *)m.data + at);
}

/* Columns i0.. of rows j0.. of m, as floats that lie together. */
TVLM_INLINE void copy_rows(float *to, kv_rows m, size_t j0, size_t rows, size_t i0, size_t columns)
{
    for (size_t j = 0; j < rows; j++)
        for (size_t i = 0; i < columns; i += 4)
            wasm_v128_store(to + j * columns + i, load_kv4(m, (j0 + j) * m.ld + i0 + i));
}

/* Keys j0.., to a multiple of four: zeros follow. */
TVLM_INLINE kv_rows copy_keys(float *to, kv_rows k, size_t j0, size_t n, size_t d)
{
    copy_rows(to, k, j0, n, 0, d);
    memset(to + n * d, 0, (4 - n % 4) % 4 * d * sizeof *to);
    return (kv_rows){to, false, d};
}

TVLM_INLINE v128_t pairs4(v128_t a, v128_t b)
{
    return wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6),
                          wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* Lane t of the result is tvlm_sum8 of low[t] and high[t]. */
TVLM_INLINE v128_t sum_each4(const v128_t low[4], const v128_t high[4])
{
    return wasm_f32x4_add(pairs4(pairs4(low[0], low[1]), pairs4(low[2], low[3])),
                          pairs4(pairs4(high[0], high[1]), pairs4(high[2], high[3])));
}

/* Scores of one or two rows with four or two keys from j on. */
TVLM_INLINE void score4(const tvlm_attention_args *args, const tvlm_attention_row *row,
                        const size_t rows, kv_rows k, size_t j, float *s)
{
    const size_t keys = 4 / rows;
    v128_t low[4], high[4];
    TVLM_UNROLL
    for (size_t t = 0; t < 4; t++)
        low[t] = high[t] = wasm_f32x4_splat(0.0f);
    for (size_t i = 0; i < args->d; i += 8) {
        TVLM_UNROLL
        for (size_t t = 0; t < keys; t++) {
            v128_t key0 = load_kv4(k, (j + t) * k.ld + i),
                   key1 = load_kv4(k, (j + t) * k.ld + i + 4);
            TVLM_UNROLL
            for (size_t r = 0; r < rows; r++) {
                size_t at = r * keys + t;
                low[at] = TVLM_MADD(wasm_v128_load(row[r].q + i), key0, low[at]);
                high[at] = TVLM_MADD(wasm_v128_load(row[r].q + i + 4), key1, high[at]);
            }
        }
    }
    v128_t sums = wasm_f32x4_mul(sum_each4(low, high), wasm_f32x4_splat(args->scale));
    if (rows == 1) {
        wasm_v128_store(s, sums);
    } else {
        wasm_v128_store64_lane(s, sums, 0);
        wasm_v128_store64_lane(s + TVLM_ATTENTION_KEYS, sums, 1);
    }
}

static size_t most_keys(const tvlm_attention_row *rows, size_t n_rows)
{
    size_t most = 0;
    for (size_t r = 0; r < n_rows; r++)
        most = rows[r].n_keys > most ? rows[r].n_keys : most;
    return most;
}

/* n: a multiple of four. */
static void scores_copied(const tvlm_attention_args *args, const float *copy, size_t n, float *s)
{
    const kv_rows k = {copy, false, args->d};
    size_t r = 0;
    for (; r + 2 <= args->n_rows; r += 2, s += 2 * TVLM_ATTENTION_KEYS)
        for (size_t j = 0; j < n; j += 2)
            score4(args, args->rows + r, 2, k, j, s + j);
    for (size_t j = 0; r < args->n_rows && j < n; j += 4)
        score4(args, args->rows + r, 1, k, j, s + j);
}

/* Keys a copy at a time: it stays in the first-level cache for all rows. */
TVLM_INLINE void scores_of_rows(const tvlm_attention_args *args, kv_rows k, float *s, float *copy)
{
    size_t n = most_keys(args->rows, args->n_rows), step = COPY / args->d & ~(size_t)3;
    for (size_t j = 0; j < n; j += step) {
        size_t keys = n - j < step ? n - j : step;
        copy_keys(copy, k, j, keys, args->d);
        scores_copied(args, copy, (keys + 3) & ~(size_t)3, s + j);
    }
}

/* Four of n scores; lanes beyond are `fill`. */
TVLM_INLINE v128_t load_score4(const float *s, size_t n, v128_t fill)
{
    v128_t v = wasm_v128_load(s);
    if (n >= 4) return v;
    v128_t inside = wasm_i32x4_lt(wasm_i32x4_make(0, 1, 2, 3), wasm_i32x4_splat((int)n));
    return wasm_v128_bitselect(v, fill, inside);
}

/* s = 2^(s - top) */
static void exponents(tvlm_attention_row *row, float *s)
{
    v128_t tops[2] = {wasm_f32x4_splat(-INFINITY), wasm_f32x4_splat(-INFINITY)};
    v128_t lane[2] = {wasm_f32x4_splat(0.0f), wasm_f32x4_splat(0.0f)};
    size_t n = row->n_keys;
    for (size_t j = 0; j < n; j += 4)
        tops[j / 4 % 2] =
            wasm_f32x4_pmax(load_score4(s + j, n - j, tops[j / 4 % 2]), tops[j / 4 % 2]);
    float each[8];
    wasm_v128_store(each, tops[0]);
    wasm_v128_store(each + 4, tops[1]);
    row->top = each[0];
    for (size_t t = 1; t < 8; t++)
        row->top = tvlm_max1(row->top, each[t]);
    const v128_t top = wasm_f32x4_splat(row->top);
    for (size_t j = 0; j < n; j += 4) {
        wasm_v128_store(s + j, tvlm_exp2_4(wasm_f32x4_sub(wasm_v128_load(s + j), top)));
        lane[j / 4 % 2] =
            wasm_f32x4_add(lane[j / 4 % 2], load_score4(s + j, n - j, wasm_f32x4_splat(0.0f)));
    }
    row->sum = tvlm_hsum8(lane[0], lane[1]);
}

/* out[i0 .. i0 + 4 * vecs) of rows over n keys; column `column` of v is column i0. */
TVLM_INLINE void weigh(const tvlm_attention_row *row, const size_t rows, const size_t vecs,
                       size_t n, const float *p, kv_rows v, size_t column, size_t i0)
{
    v128_t acc[8], value[8];
    TVLM_UNROLL
    for (size_t t = 0; t < rows * vecs; t++)
        acc[t] = wasm_f32x4_splat(0.0f);
    for (size_t j = 0; j < n; j++) {
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++)
            value[t] = load_kv4(v, j * v.ld + column + 4 * t);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            v128_t weight = wasm_v128_load32_splat(p + r * TVLM_ATTENTION_KEYS + j);
            TVLM_UNROLL
            for (size_t t = 0; t < vecs; t++)
                acc[r * vecs + t] = TVLM_MADD(weight, value[t], acc[r * vecs + t]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++)
            wasm_v128_store(row[r].out + i0 + 4 * t, acc[r * vecs + t]);
    }
}

/* Keys from j on, beyond those that the rows of a block have in common. */
static void weigh_rest(const tvlm_attention_row *row, size_t j, const float *p, const float *copy,
                       size_t i0, size_t n)
{
    for (; j < row->n_keys; j++)
        for (size_t i = 0; i < n; i += 4) {
            float *out = row->out + i0 + i;
            wasm_v128_store(out, TVLM_MADD(wasm_v128_load32_splat(p + j),
                                           wasm_v128_load(copy + j * n + i), wasm_v128_load(out)));
        }
}

/* Columns i0..i0+n of the output over n_keys; v begins at its column i0. */
TVLM_INLINE void weigh_columns(const tvlm_attention_row *row, const size_t rows, size_t n_keys,
                               const float *p, kv_rows v, size_t i0, size_t n)
{
    size_t i = 0;
    for (; rows == 1 && i + 32 <= n; i += 32)
        weigh(row, rows, 8, n_keys, p, v, i, i0 + i);
    for (; rows == 2 && i + 16 <= n; i += 16)
        weigh(row, rows, 4, n_keys, p, v, i, i0 + i);
    for (; i < n; i += 8)
        weigh(row, rows, 2, n_keys, p, v, i, i0 + i);
}

static void weigh_block(const tvlm_attention_row *row, size_t rows, const float *p,
                        const float *copy, size_t i0, size_t n)
{
    const kv_rows v = {copy, false, n};
    size_t common = row[0].n_keys;
    for (size_t r = 1; r < rows; r++)
        common = row[r].n_keys < common ? row[r].n_keys : common;
    switch (rows) {
    case 1:
        weigh_columns(row, 1, common, p, v, i0, n);
        break;
    case 2:
        weigh_columns(row, 2, common, p, v, i0, n);
        break;
    case 3:
        weigh_columns(row, 3, common, p, v, i0, n);
        break;
    default:
        weigh_columns(row, 4, common, p, v, i0, n);
        break;
    }
    for (size_t r = 0; r < rows; r++)
        weigh_rest(row + r, common, p + r * TVLM_ATTENTION_KEYS, copy, i0, n);
}

/* Rows in blocks of four at most, of nearly the same size. */
static void weigh_rows(const tvlm_attention_args *args, const float *copy, const float *p,
                       size_t i0, size_t n)
{
    size_t blocks = (args->n_rows + 3) / 4;
    for (size_t r = 0, rows; r < args->n_rows; r += rows, blocks--) {
        rows = (args->n_rows - r + blocks - 1) / blocks;
        weigh_block(args->rows + r, rows, p + r * TVLM_ATTENTION_KEYS, copy, i0, n);
    }
}

TVLM_INLINE void attend_rows(const tvlm_attention_args *args, kv_rows k, kv_rows v)
{
    float *s = args->scratch, *copy = s + TVLM_ATTENTION_ROWS * TVLM_ATTENTION_KEYS;
    size_t n = most_keys(args->rows, args->n_rows);
    scores_of_rows(args, k, s, copy);
    for (size_t r = 0; r < args->n_rows; r++)
        exponents(&args->rows[r], s + r * TVLM_ATTENTION_KEYS);
    for (size_t i = 0; i < args->d; i += COLUMNS) {
        size_t columns = args->d - i < COLUMNS ? args->d - i : COLUMNS;
        copy_rows(copy, v, 0, n, i, columns);
        weigh_rows(args, copy, s, i, columns);
    }
}

/* One row, keys and values read once where they are. */
TVLM_INLINE void attend_row(const tvlm_attention_args *args, tvlm_attention_row *row, kv_rows k,
                            kv_rows v)
{
    float *s = args->scratch, *copy = s + TVLM_ATTENTION_ROWS * TVLM_ATTENTION_KEYS;
    size_t n = row->n_keys, j = 0;
    for (; j + 4 <= n; j += 4)
        score4(args, row, 1, k, j, s + j);
    if (j < n) score4(args, row, 1, copy_keys(copy, k, j, n - j, args->d), 0, s + j);
    exponents(row, s);
    weigh_columns(row, 1, n, s, v, 0, args->d);
}

TVLM_INLINE void attention(const tvlm_attention_args *args, bool f16)
{
    kv_rows k = {args->k, f16, args->ldk}, v = {args->v, f16, args->ldv};
    if (args->n_rows > 1)
        attend_rows(args, k, v);
    else
        attend_row(args, args->rows, k, v);
}

static void attention_simd128(const tvlm_attention_args *args)
{
    if (args->kv_f16)
        attention(args, true);
    else
        attention(args, false);
}

static void attention_join_simd128(tvlm_attention_row *row, const tvlm_attention_row *tile,
                                   size_t d)
{
    float top = tvlm_max1(row->top, tile->top);
    float factor[4];
    wasm_v128_store(factor,
                    tvlm_exp2_4(wasm_f32x4_make(row->top - top, tile->top - top, 0.0f, 0.0f)));
    v128_t a = wasm_f32x4_splat(factor[0]), b = wasm_f32x4_splat(factor[1]);
    row->top = top;
    row->sum = tvlm_fma1(tile->sum, factor[1], row->sum * factor[0]);
    for (size_t i = 0; i < d; i += 4)
        wasm_v128_store(row->out + i, TVLM_MADD(wasm_v128_load(tile->out + i), b,
                                                wasm_f32x4_mul(wasm_v128_load(row->out + i), a)));
}

void tvlm_simd128_install_attention(tvlm_kernels *table)
{
    table->attention = attention_simd128;
    table->attention_join = attention_join_simd128;
}

#endif
