/* SPDX-License-Identifier: MIT
 * Attention on AVX2. Several rows share a tile of keys, copied to floats that lie together (of
 * strided rows a few fill a set of the cache): scores two rows by four keys, outputs four rows by
 * sixteen columns in registers. One row alone (decoding) reads keys and values where they are.
 * The order of every sum is the scalar tier's. */
#include "kernels/x86/avx2.h"

#if defined(__x86_64__)

/* A copy holds COPY floats, or eight keys: half the first-level cache. */
enum { COPY = 4096, COLUMNS = COPY / TVLM_ATTENTION_KEYS };

/* Rows of k or of v, from some key and column on. */
typedef struct kv_rows {
    const void *data;
    bool f16;
    size_t ld;
} kv_rows;

TVLM_INLINE __m256 load_kv8(kv_rows m, size_t at)
{
    if (m.f16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)m.data + at)));
    return _mm256_loadu_ps((const float *)m.data + at);
}

/* Columns i0.. of rows j0.. of m, as floats that lie together. */
TVLM_INLINE void copy_rows(float *to, kv_rows m, size_t j0, size_t rows, size_t i0, size_t columns)
{
    for (size_t j = 0; j < rows; j++)
        for (size_t i = 0; i < columns; i += 8)
            _mm256_storeu_ps(to + j * columns + i, load_kv8(m, (j0 + j) * m.ld + i0 + i));
}

/* Keys j0.., to a multiple of eight: zeros follow. */
TVLM_INLINE kv_rows copy_keys(float *to, kv_rows k, size_t j0, size_t n, size_t d)
{
    copy_rows(to, k, j0, n, 0, d);
    memset(to + n * d, 0, (8 - n % 8) % 8 * d * sizeof *to);
    return (kv_rows){to, false, d};
}

/* hadd, in the operations that it is made of: they spread over more ports. */
TVLM_INLINE __m256 pairs8(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}

/* Lane j of the result is tvlm_sum8 of v[j]. */
TVLM_INLINE __m256 sum_each8(const __m256 v[8])
{
    __m256 a = pairs8(pairs8(v[0], v[1]), pairs8(v[2], v[3]));
    __m256 b = pairs8(pairs8(v[4], v[5]), pairs8(v[6], v[7]));
    __m256 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    return _mm256_add_ps(low, high);
}

/* Scores of one or two rows with eight or four keys from j on. */
TVLM_INLINE void score8(const tvlm_attention_args *args, const tvlm_attention_row *row,
                        const size_t rows, kv_rows k, size_t j, float *s)
{
    const size_t keys = 8 / rows;
    __m256 acc[8], key[8];
    TVLM_UNROLL
    for (size_t t = 0; t < 8; t++)
        acc[t] = _mm256_setzero_ps();
    for (size_t i = 0; i < args->d; i += 8) {
        TVLM_UNROLL
        for (size_t t = 0; t < keys; t++) {
            key[t] = load_kv8(k, (j + t) * k.ld + i);
            if (rows > 1) TVLM_KEEP8(key[t]);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 q = _mm256_loadu_ps(row[r].q + i);
            TVLM_UNROLL
            for (size_t t = 0; t < keys; t++)
                acc[r * keys + t] = _mm256_fmadd_ps(q, key[t], acc[r * keys + t]);
        }
    }
    __m256 sums = _mm256_mul_ps(sum_each8(acc), _mm256_set1_ps(args->scale));
    if (rows == 1) {
        _mm256_storeu_ps(s, sums);
    } else {
        _mm_storeu_ps(s, _mm256_castps256_ps128(sums));
        _mm_storeu_ps(s + TVLM_ATTENTION_KEYS, _mm256_extractf128_ps(sums, 1));
    }
}

static size_t most_keys(const tvlm_attention_row *rows, size_t n_rows)
{
    size_t most = 0;
    for (size_t r = 0; r < n_rows; r++)
        most = rows[r].n_keys > most ? rows[r].n_keys : most;
    return most;
}

/* n: a multiple of eight. */
static void scores_copied(const tvlm_attention_args *args, const float *copy, size_t n, float *s)
{
    const kv_rows k = {copy, false, args->d};
    size_t r = 0;
    for (; r + 2 <= args->n_rows; r += 2, s += 2 * TVLM_ATTENTION_KEYS)
        for (size_t j = 0; j < n; j += 4)
            score8(args, args->rows + r, 2, k, j, s + j);
    for (size_t j = 0; r < args->n_rows && j < n; j += 8)
        score8(args, args->rows + r, 1, k, j, s + j);
}

/* Keys a copy at a time: it stays in the first-level cache for all rows. */
TVLM_INLINE void scores_of_rows(const tvlm_attention_args *args, kv_rows k, float *s, float *copy)
{
    size_t n = most_keys(args->rows, args->n_rows), step = COPY / args->d & ~(size_t)7;
    step = step ? step : 8;
    for (size_t j = 0; j < n; j += step) {
        size_t keys = n - j < step ? n - j : step;
        copy_keys(copy, k, j, keys, args->d);
        scores_copied(args, copy, (keys + 7) & ~(size_t)7, s + j);
    }
}

/* s = 2^(s - top) */
static void exponents(tvlm_attention_row *row, float *s)
{
    __m256 tops = _mm256_set1_ps(-INFINITY), lane = _mm256_setzero_ps();
    size_t n = row->n_keys, whole = n & ~(size_t)7;
    __m256 mask = _mm256_castsi256_ps(tvlm_mask8(n - whole));
    for (size_t j = 0; j < whole; j += 8)
        tops = _mm256_max_ps(tops, _mm256_loadu_ps(s + j));
    if (n > whole)
        tops = _mm256_max_ps(tops, _mm256_blendv_ps(tops, _mm256_loadu_ps(s + whole), mask));
    float each[8];
    _mm256_storeu_ps(each, tops);
    row->top = each[0];
    for (size_t t = 1; t < 8; t++)
        row->top = tvlm_max1(row->top, each[t]);
    const __m256 top = _mm256_set1_ps(row->top);
    for (size_t j = 0; j < whole; j += 8) {
        __m256 e = tvlm_exp2_8(_mm256_sub_ps(_mm256_loadu_ps(s + j), top));
        _mm256_storeu_ps(s + j, e);
        lane = _mm256_add_ps(lane, e);
    }
    if (n > whole) {
        __m256 e = tvlm_exp2_8(_mm256_sub_ps(_mm256_loadu_ps(s + whole), top));
        _mm256_storeu_ps(s + whole, e);
        lane = _mm256_add_ps(lane, _mm256_and_ps(e, mask));
    }
    row->sum = tvlm_hsum8(lane);
}

/* out[i0 .. i0 + 8 * vecs) of rows over n keys; column `column` of v is column i0. */
TVLM_INLINE void weigh(const tvlm_attention_row *row, const size_t rows, const size_t vecs,
                       size_t n, const float *p, kv_rows v, size_t column, size_t i0)
{
    __m256 acc[12], value[8];
    TVLM_UNROLL
    for (size_t t = 0; t < rows * vecs; t++)
        acc[t] = _mm256_setzero_ps();
    for (size_t j = 0; j < n; j++) {
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++)
            value[t] = load_kv8(v, j * v.ld + column + 8 * t);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 weight = _mm256_broadcast_ss(p + r * TVLM_ATTENTION_KEYS + j);
            TVLM_UNROLL
            for (size_t t = 0; t < vecs; t++)
                acc[r * vecs + t] = _mm256_fmadd_ps(weight, value[t], acc[r * vecs + t]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++)
            _mm256_storeu_ps(row[r].out + i0 + 8 * t, acc[r * vecs + t]);
    }
}

/* Keys from j on, beyond those that the rows of a block have in common. */
static void weigh_rest(const tvlm_attention_row *row, size_t j, const float *p, const float *copy,
                       size_t i0, size_t n)
{
    for (; j < row->n_keys; j++)
        for (size_t i = 0; i < n; i += 8) {
            __m256 sum = _mm256_loadu_ps(row->out + i0 + i);
            sum =
                _mm256_fmadd_ps(_mm256_broadcast_ss(p + j), _mm256_loadu_ps(copy + j * n + i), sum);
            _mm256_storeu_ps(row->out + i0 + i, sum);
        }
}

/* Columns i0..i0+n of the output over n_keys; v begins at its column i0. */
TVLM_INLINE void weigh_columns(const tvlm_attention_row *row, const size_t rows, size_t n_keys,
                               const float *p, kv_rows v, size_t i0, size_t n)
{
    size_t i = 0;
    for (; rows == 1 && i + 64 <= n; i += 64)
        weigh(row, rows, 8, n_keys, p, v, i, i0 + i);
    for (; rows <= 2 && i + 32 <= n; i += 32)
        weigh(row, rows, 4, n_keys, p, v, i, i0 + i);
    for (; i + 16 <= n; i += 16)
        weigh(row, rows, 2, n_keys, p, v, i, i0 + i);
    if (i < n) weigh(row, rows, 1, n_keys, p, v, i, i0 + i);
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
    case 4:
        weigh_columns(row, 4, common, p, v, i0, n);
        break;
    case 5:
        weigh_columns(row, 5, common, p, v, i0, n);
        break;
    default:
        weigh_columns(row, 6, common, p, v, i0, n);
        break;
    }
    for (size_t r = 0; r < rows; r++)
        weigh_rest(row + r, common, p + r * TVLM_ATTENTION_KEYS, copy, i0, n);
}

/* Rows in blocks of six at most, of nearly the same size. */
static void weigh_rows(const tvlm_attention_args *args, const float *copy, const float *p,
                       size_t i0, size_t n)
{
    size_t blocks = (args->n_rows + 5) / 6;
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
    for (; j + 8 <= n; j += 8)
        score8(args, row, 1, k, j, s + j);
    if (j < n) score8(args, row, 1, copy_keys(copy, k, j, n - j, args->d), 0, s + j);
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

static void attention_avx2(const tvlm_attention_args *args)
{
    if (args->kv_f16)
        attention(args, true);
    else
        attention(args, false);
}

static void attention_join_avx2(tvlm_attention_row *row, const tvlm_attention_row *tile, size_t d)
{
    float top = tvlm_max1(row->top, tile->top);
    __m256 shift = _mm256_setr_ps(row->top - top, tile->top - top, 0, 0, 0, 0, 0, 0);
    float factor[8];
    _mm256_storeu_ps(factor, tvlm_exp2_8(shift));
    __m256 a = _mm256_set1_ps(factor[0]), b = _mm256_set1_ps(factor[1]);
    row->top = top;
    row->sum = fmaf(tile->sum, factor[1], row->sum * factor[0]);
    for (size_t i = 0; i < d; i += 8)
        _mm256_storeu_ps(row->out + i,
                         _mm256_fmadd_ps(_mm256_loadu_ps(tile->out + i), b,
                                         _mm256_mul_ps(_mm256_loadu_ps(row->out + i), a)));
}

void tvlm_avx2_install_attention(tvlm_kernels *table)
{
    table->attention = attention_avx2;
    table->attention_join = attention_join_avx2;
}

#endif

#include "kernels/x86/avx2_end.h"
