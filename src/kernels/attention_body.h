/* SPDX-License-Identifier: MIT
 * Attention over a vector type F of WIDTH floats, 8 or 16, whose operations are FN(name). Sums over
 * d and over keys run in the eight lanes of tvlm_f8 on every tier; a wider register holds those of
 * WIDTH / 8 keys. Included once by a tier's file, which defines besides:
 *
 *   KEEP(v)                       keeps a value that is used more than once in its register
 *   KEYS_IN_PLACE, _COPIED, _TWO  keys of one step: of one row where they are, of one row and of
 *                                 two rows in a copy
 *   LOAD_KEYS(k, j, t, i)         register t of keys j.., where they are
 *   COPIED_AT(j, i, d)            where a copy has columns i .. i + 7 of key j, so that register t
 *                                 of a step's keys lies together
 *   REPEAT(q)                     eight floats for each key of a register
 *   STORE_SUMS(s, acc, rows, vecs, scale)  scaled tvlm_sum8 of each key, in order, rows
 *                                 TVLM_ATTENTION_KEYS apart
 *   MOST_ROWS, EACH_ROW_COUNT(X)  rows that share a value when outputs are summed; X(1) X(2) ..
 *   MOST_VECS(rows)               registers of a row's outputs that are summed at once
 *
 * Several rows share a tile of keys, copied to floats that lie together (of strided rows a few fill
 * a set of the cache). One row alone (decoding) reads keys and values where they are. */

/* A copy holds COPY floats, or eight keys: half the first-level cache. */
enum { COPY = 4096, COLUMNS = COPY / TVLM_ATTENTION_KEYS };

/* Rows of k or of v, from some key and column on. */
typedef struct kv_rows {
    const void *data;
    bool f16;
    size_t ld;
} kv_rows;

TVLM_INLINE tvlm_f8 load_kv8(kv_rows m, size_t at)
{
    if (m.f16) return tvlm_load_half8((const uint16_t *)m.data + at);
    return tvlm_load8((const float *)m.data + at);
}

TVLM_INLINE F load_kv(kv_rows m, size_t at)
{
    if (m.f16) return FN(tvlm_load_half)((const uint16_t *)m.data + at);
    return FN(tvlm_load)((const float *)m.data + at);
}

/* ---- scores ---- */

/* Keys j0 .. j0 + n; zeros follow up to a whole step. */
TVLM_INLINE kv_rows copy_keys(float *to, kv_rows k, size_t j0, size_t n, size_t d)
{
    size_t j = 0;
    for (; j < n; j++)
        for (size_t i = 0; i < d; i += 8)
            tvlm_store8(to + COPIED_AT(j, i, d), load_kv8(k, (j0 + j) * k.ld + i));
    for (; j % KEYS_COPIED; j++)
        for (size_t i = 0; i < d; i += 8)
            tvlm_store8(to + COPIED_AT(j, i, d), tvlm_set8(0.0f));
    return (kv_rows){to, false, d};
}

/* Scores of one or two rows with `keys` keys from j on. */
TVLM_INLINE void score(const tvlm_attention_args *args, const tvlm_attention_row *row,
                       const size_t rows, const size_t keys, kv_rows k, const bool copied, size_t j,
                       float *s)
{
    const size_t each = WIDTH / 8, vecs = keys / each, d = args->d;
    const float *query[2] = {row[0].q, row[rows - 1].q};
    F acc[8];
    TVLM_UNROLL
    for (size_t t = 0; t < rows * vecs; t++)
        acc[t] = FN(tvlm_set)(0.0f);
    for (size_t i = 0; i < d; i += 8) {
        F key[8];
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++) {
            key[t] = copied ? load_kv(k, (j + t * each) * k.ld + i * each) : LOAD_KEYS(k, j, t, i);
            if (rows > 1) KEEP(key[t]);
        }
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            F q = REPEAT(query[r] + i);
            TVLM_UNROLL
            for (size_t t = 0; t < vecs; t++)
                acc[r * vecs + t] = FN(tvlm_fma)(q, key[t], acc[r * vecs + t]);
        }
    }
    STORE_SUMS(s, acc, rows, vecs, args->scale);
}

static size_t most_keys(const tvlm_attention_row *rows, size_t n_rows)
{
    size_t most = 0;
    for (size_t r = 0; r < n_rows; r++)
        most = rows[r].n_keys > most ? rows[r].n_keys : most;
    return most;
}

/* n: whole steps. */
static void scores_copied(const tvlm_attention_args *args, const float *copy, size_t n, float *s)
{
    const kv_rows k = {copy, false, args->d};
    size_t r = 0;
    for (; r + 2 <= args->n_rows; r += 2, s += 2 * TVLM_ATTENTION_KEYS)
        for (size_t j = 0; j < n; j += KEYS_TWO)
            score(args, args->rows + r, 2, KEYS_TWO, k, true, j, s + j);
    for (size_t j = 0; r < args->n_rows && j < n; j += KEYS_COPIED)
        score(args, args->rows + r, 1, KEYS_COPIED, k, true, j, s + j);
}

/* Keys a copy at a time: it stays in the first-level cache for all rows. */
TVLM_INLINE void scores_of_rows(const tvlm_attention_args *args, kv_rows k, float *s, float *copy)
{
    size_t n = most_keys(args->rows, args->n_rows);
    size_t step = COPY / args->d / KEYS_COPIED * KEYS_COPIED;
    step = step ? step : KEYS_COPIED;
    for (size_t j = 0; j < n; j += step) {
        size_t keys = n - j < step ? n - j : step;
        copy_keys(copy, k, j, keys, args->d);
        scores_copied(args, copy, (keys + KEYS_COPIED - 1) / KEYS_COPIED * KEYS_COPIED, s + j);
    }
}

/* ---- softmax ---- */

/* s = 2^(s - top) for a register of scores of which n are left; adds them to the sums. */
TVLM_INLINE tvlm_f8 exponents_of(float *s, F top, tvlm_f8 lanes, size_t n)
{
    F e = FN(tvlm_exp2_)(FN(tvlm_sub)(FN(tvlm_load)(s), top));
    FN(tvlm_store)(s, e);
    return FN(tvlm_add_lanes)(lanes, e, n);
}

static float top_of(const float *s, size_t n)
{
    tvlm_f8 tops = tvlm_set8(-INFINITY);
    float each[8];
    size_t j = 0;
    for (; j + 8 <= n; j += 8)
        tops = tvlm_max8(tops, tvlm_load8(s + j));
    if (j < n) tops = tvlm_max8(tops, tvlm_first8(tvlm_load8(s + j), n - j, tops));
    tvlm_store8(each, tops);
    for (size_t t = 1; t < 8; t++)
        each[0] = tvlm_max1(each[0], each[t]);
    return each[0];
}

/* s = 2^(s - top) */
static void exponents(tvlm_attention_row *row, float *s)
{
    const size_t n = row->n_keys;
    row->top = top_of(s, n);
    const F top = FN(tvlm_set)(row->top);
    tvlm_f8 lanes = tvlm_set8(0.0f);
    size_t j = 0;
    for (; j + WIDTH <= n; j += WIDTH)
        lanes = exponents_of(s + j, top, lanes, WIDTH);
    if (j < n) lanes = exponents_of(s + j, top, lanes, n - j);
    row->sum = tvlm_hsum8(lanes);
}

/* ---- outputs ---- */

/* Columns i0.. of n rows of v, as floats that lie together. */
TVLM_INLINE void copy_columns(float *to, kv_rows v, size_t n, size_t i0, size_t columns)
{
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < columns; i += 8)
            tvlm_store8(to + j * columns + i, load_kv8(v, j * v.ld + i0 + i));
}

/* out[i0 .. i0 + WIDTH * vecs) of rows over n keys; column `column` of v is column i0. */
TVLM_INLINE void weigh(const tvlm_attention_row *row, const size_t rows, const size_t vecs,
                       size_t n, const float *p, kv_rows v, size_t column, size_t i0)
{
    F acc[12], value[8];
    TVLM_UNROLL
    for (size_t t = 0; t < rows * vecs; t++)
        acc[t] = FN(tvlm_set)(0.0f);
    for (size_t j = 0; j < n; j++) {
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++)
            value[t] = load_kv(v, j * v.ld + column + WIDTH * t);
        TVLM_UNROLL
        for (size_t r = 0; r < rows; r++) {
            F weight = FN(tvlm_set)(p[r * TVLM_ATTENTION_KEYS + j]);
            TVLM_UNROLL
            for (size_t t = 0; t < vecs; t++)
                acc[r * vecs + t] = FN(tvlm_fma)(weight, value[t], acc[r * vecs + t]);
        }
    }
    TVLM_UNROLL
    for (size_t r = 0; r < rows; r++) {
        TVLM_UNROLL
        for (size_t t = 0; t < vecs; t++)
            FN(tvlm_store)(row[r].out + i0 + WIDTH * t, acc[r * vecs + t]);
    }
}

/* out[i0 .. i0 + 8), += the keys from j0 to n. */
static void weigh8(const tvlm_attention_row *row, size_t j0, size_t n, const float *p, kv_rows v,
                   size_t column, size_t i0)
{
    tvlm_f8 sum = j0 ? tvlm_load8(row->out + i0) : tvlm_set8(0.0f);
    for (size_t j = j0; j < n; j++)
        sum = tvlm_fma8(tvlm_set8(p[j]), load_kv8(v, j * v.ld + column), sum);
    tvlm_store8(row->out + i0, sum);
}

/* Columns i0..i0+n of the output over n_keys; v begins at its column i0. */
TVLM_INLINE void weigh_columns(const tvlm_attention_row *row, const size_t rows, size_t n_keys,
                               const float *p, kv_rows v, size_t i0, size_t n)
{
    size_t i = 0;
    for (; MOST_VECS(rows) >= 8 && i + 8 * WIDTH <= n; i += 8 * WIDTH)
        weigh(row, rows, 8, n_keys, p, v, i, i0 + i);
    for (; MOST_VECS(rows) >= 4 && i + 4 * WIDTH <= n; i += 4 * WIDTH)
        weigh(row, rows, 4, n_keys, p, v, i, i0 + i);
    for (; MOST_VECS(rows) >= 2 && i + 2 * WIDTH <= n; i += 2 * WIDTH)
        weigh(row, rows, 2, n_keys, p, v, i, i0 + i);
    for (; i + WIDTH <= n; i += WIDTH)
        weigh(row, rows, 1, n_keys, p, v, i, i0 + i);
    for (size_t r = 0; WIDTH > 8 && i < n && r < rows; r++)
        weigh8(row + r, 0, n_keys, p + r * TVLM_ATTENTION_KEYS, v, i, i0 + i);
}

static void weigh_block(const tvlm_attention_row *row, size_t rows, const float *p,
                        const float *copy, size_t i0, size_t n)
{
    const kv_rows v = {copy, false, n};
    size_t common = row[0].n_keys;
    for (size_t r = 1; r < rows; r++)
        common = row[r].n_keys < common ? row[r].n_keys : common;
    switch (rows) {
#define WEIGH(rows)                                                                                \
    case rows:                                                                                     \
        weigh_columns(row, rows, common, p, v, i0, n);                                             \
        break;
        EACH_ROW_COUNT(WEIGH)
#undef WEIGH
    }
    for (size_t r = 0; r < rows; r++) /* keys beyond those that the rows have in common */
        for (size_t i = 0; common < row[r].n_keys && i < n; i += 8)
            weigh8(row + r, common, row[r].n_keys, p + r * TVLM_ATTENTION_KEYS, v, i, i0 + i);
}

/* Rows in blocks of MOST_ROWS at most, of nearly the same size. */
static void weigh_rows(const tvlm_attention_args *args, const float *copy, const float *p,
                       size_t i0, size_t n)
{
    size_t blocks = (args->n_rows + MOST_ROWS - 1) / MOST_ROWS;
    for (size_t r = 0, rows; r < args->n_rows; r += rows, blocks--) {
        rows = (args->n_rows - r + blocks - 1) / blocks;
        weigh_block(args->rows + r, rows, p + r * TVLM_ATTENTION_KEYS, copy, i0, n);
    }
}

/* ---- the kernels ---- */

TVLM_INLINE void attend_rows(const tvlm_attention_args *args, kv_rows k, kv_rows v)
{
    float *s = args->scratch, *copy = s + TVLM_ATTENTION_ROWS * TVLM_ATTENTION_KEYS;
    size_t n = most_keys(args->rows, args->n_rows);
    scores_of_rows(args, k, s, copy);
    for (size_t r = 0; r < args->n_rows; r++)
        exponents(&args->rows[r], s + r * TVLM_ATTENTION_KEYS);
    for (size_t i = 0; i < args->d; i += COLUMNS) {
        size_t columns = args->d - i < COLUMNS ? args->d - i : COLUMNS;
        copy_columns(copy, v, n, i, columns);
        weigh_rows(args, copy, s, i, columns);
    }
}

/* One row, keys and values read once where they are. */
TVLM_INLINE void attend_row(const tvlm_attention_args *args, tvlm_attention_row *row, kv_rows k,
                            kv_rows v)
{
    float *s = args->scratch, *copy = s + TVLM_ATTENTION_ROWS * TVLM_ATTENTION_KEYS;
    size_t n = row->n_keys, j = 0;
    for (; j + KEYS_IN_PLACE <= n; j += KEYS_IN_PLACE)
        score(args, row, 1, KEYS_IN_PLACE, k, false, j, s + j);
    for (; j < n; j += KEYS_COPIED) {
        size_t keys = n - j < KEYS_COPIED ? n - j : KEYS_COPIED;
        score(args, row, 1, KEYS_COPIED, copy_keys(copy, k, j, keys, args->d), true, 0, s + j);
    }
    exponents(row, s);
    weigh_columns(row, 1, n, s, v, 0, args->d);
}

TVLM_INLINE void attend(const tvlm_attention_args *args, const bool f16)
{
    kv_rows k = {args->k, f16, args->ldk}, v = {args->v, f16, args->ldv};
    if (args->n_rows > 1)
        attend_rows(args, k, v);
    else
        attend_row(args, args->rows, k, v);
}

static void attention(const tvlm_attention_args *args)
{
    if (args->kv_f16)
        attend(args, true);
    else
        attend(args, false);
}

static void attention_join(tvlm_attention_row *row, const tvlm_attention_row *tile, size_t d)
{
    float top = tvlm_max1(row->top, tile->top);
    float factor[8] = {row->top - top, tile->top - top};
    tvlm_store8(factor, tvlm_exp2_8(tvlm_load8(factor)));
    const tvlm_f8 a = tvlm_set8(factor[0]), b = tvlm_set8(factor[1]);
    row->top = top;
    row->sum = tvlm_fma1(tile->sum, factor[1], row->sum * factor[0]);
    for (size_t i = 0; i < d; i += 8) {
        tvlm_f8 scaled = tvlm_mul8(tvlm_load8(row->out + i), a);
        tvlm_store8(row->out + i, tvlm_fma8(tvlm_load8(tile->out + i), b, scaled));
    }
}
