/* SPDX-License-Identifier: MIT
 * Attention: rows over tiles of keys, joined. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 0x1p-24

typedef struct attention_shape {
    size_t rows, keys, d;
    bool f16, causal; /* row r sees (rows - 1 - r) / 2 keys fewer, none at the least */
} attention_shape;

typedef struct attention_case {
    tvlm_attention_args args;
    const float *q;
    const attention_shape *s;
} attention_case;

/* An f16 or f32 matrix by the current fill, its rows ld elements apart. */
static void *kv_matrix(tk *t, size_t rows, size_t ld, size_t d, bool f16)
{
    size_t n = (rows - 1) * ld + d;
    if (!f16) return tk_floats(t, n);
    uint16_t *p = tk_buffer(t, n * sizeof *p, sizeof *p);
    for (size_t i = 0; i < n; i++) {
        float v = tk_value(t, i, n);
        if (t->fill != TK_SPECIAL) v = fmaxf(fminf(v, 60000.0f), -60000.0f);
        p[i] = tvlm_f32_to_f16(v);
    }
    return p;
}

static double kv_at(const void *p, bool f16, size_t at)
{
    return (double)(f16 ? tvlm_f16_to_f32(((const uint16_t *)p)[at]) : ((const float *)p)[at]);
}

static size_t keys_of(const attention_shape *s, size_t row)
{
    size_t fewer = s->causal ? (s->rows - 1 - row) / 2 : 0;
    return s->keys > fewer ? s->keys - fewer : 0;
}

/* Rows r0..r1 over all their keys: out not divided by sum. */
static void attend(const tvlm_kernels *table, const attention_case *c, size_t r0, size_t r1,
                   tvlm_attention_row *all, float *out, float *part_out)
{
    const attention_shape *s = c->s;
    tvlm_attention_args a = c->args;
    tvlm_attention_row part[TVLM_ATTENTION_ROWS];
    for (size_t key = 0; key == 0 || key < s->keys; key += TVLM_ATTENTION_KEYS) {
        size_t byte = key * (s->f16 ? 2 : 4);
        a.k = (const char *)c->args.k + byte * a.ldk;
        a.v = (const char *)c->args.v + byte * a.ldv;
        for (size_t r = r0; r < r1; r++) {
            size_t n = keys_of(s, r) > key ? keys_of(s, r) - key : 0;
            part[r - r0] =
                (tvlm_attention_row){.q = c->q + r * s->d,
                                     .out = (key ? part_out : out) + r * s->d,
                                     .n_keys = n < TVLM_ATTENTION_KEYS ? n : TVLM_ATTENTION_KEYS};
        }
        a.rows = part;
        a.n_rows = r1 - r0;
        table->attention(&a);
        for (size_t r = r0; r < r1; r++) {
            if (key == 0)
                all[r] = part[r - r0];
            else if (part[r - r0].n_keys)
                table->attention_join(&all[r], &part[r - r0], s->d);
        }
    }
}

/* Error: a score is off by (d + 4) eps sum |q k| scale at most, so a weight by that factor twice;
 * the weighted mean adds n eps max |v|. */
static void row_in_double(tk *t, const attention_case *c, const tvlm_attention_row *row, size_t n)
{
    const tvlm_attention_args *a = &c->args;
    double *p = malloc((n + 1) * sizeof *p), top = -INFINITY, total = 0, slack = 0;
    for (size_t j = 0; j < n; j++) {
        double sum = 0, size = 0;
        for (size_t i = 0; i < a->d; i++) {
            double v = (double)row->q[i] * kv_at(a->k, a->kv_f16, j * a->ldk + i);
            sum += v;
            size += fabs(v);
        }
        p[j] = sum * (double)a->scale;
        top = fmax(top, p[j]);
        slack = fmax(slack, (double)(a->d + 4) * EPS * size * fabs((double)a->scale));
    }
    for (size_t j = 0; j < n; j++)
        total += p[j] = exp2(p[j] - top);
    for (size_t i = 0; i < a->d && slack < 0.1; i++) {
        double sum = 0, largest = 0;
        for (size_t j = 0; j < n; j++) {
            double v = kv_at(a->v, a->kv_f16, j * a->ldv + i);
            sum += p[j] * v / total;
            largest = fmax(largest, fabs(v));
        }
        tk_near(t, i, (double)row->out[i] / (n ? (double)row->sum : 1), sum,
                (4 * slack + (2 * (double)n + 16) * EPS) * largest + 0x1p-120);
    }
    free(p);
}

static void check_same(tk *t, const tvlm_attention_row *got, const tvlm_attention_row *want,
                       size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++) {
        tk_same_f32(t, got[r].out, want[r].out, d);
        tk_same_f32(t, &got[r].sum, &want[r].sum, 1);
        tk_same_f32(t, &got[r].top, &want[r].top, 1);
    }
}

static void check_attention(tk *t, const void *arg)
{
    const attention_shape *s = arg;
    tvlm_attention_row got[TVLM_ATTENTION_ROWS], want[TVLM_ATTENTION_ROWS];
    attention_case c = {
        .s = s, .args = {.kv_f16 = s->f16, .d = s->d}
    };
    size_t floats = s->rows * s->d;
    c.args.ldk = s->d + s->keys % 2 * 8;
    c.args.ldv = s->d + s->keys % 3 * 3;
    c.args.scale = 1.4427f / sqrtf((float)s->d);
    c.q = tk_floats(t, floats);
    c.args.k = kv_matrix(t, s->keys, c.args.ldk, s->d, s->f16);
    c.args.v = kv_matrix(t, s->keys, c.args.ldv, s->d, s->f16);
    c.args.scratch = tk_buffer(t, TVLM_ATTENTION_SCRATCH * 4, 4);
    float *out = tk_buffer(t, floats * 4, 4), *other = tk_buffer(t, floats * 4, 4);
    float *part = tk_buffer(t, floats * 4, 4);
    attend(&t->tier, &c, 0, s->rows, got, out, part);
    for (size_t r = 0; r < s->rows; r++) /* alone: the same bits */
        attend(&t->tier, &c, r, r + 1, want, other, part);
    check_same(t, got, want, s->rows, s->d);
    if (t->is_scalar) {
        for (size_t r = 0; r < s->rows; r++)
            row_in_double(t, &c, &got[r], keys_of(s, r));
        return;
    }
    attend(&t->scalar, &c, 0, s->rows, want, other, part);
    check_same(t, got, want, s->rows, s->d);
}

void test_attention(tk *t)
{
    static const size_t dims[] = {8, 16, 24, 32, 64, 80, 136, 528};
    static const size_t rows[] = {1, 2, 3, 4, 5, 7, 6, 13};
    static const size_t keys[] = {16, 17, 31, 33, 128, 129, 300};
    char text[64];
    for (size_t i = 0; i < TVLM_COUNT(dims); i++)
        for (size_t j = 1; j <= 9 + TVLM_COUNT(keys); j++)
            for (unsigned f16 = 0; f16 < 2; f16++) {
                attention_shape s = {.d = dims[i], .f16 = f16, .causal = (i + j) % 3};
                s.keys = j <= 9 ? j : keys[j - 10];
                s.rows = j == 9 ? TVLM_ATTENTION_ROWS : rows[(i + j + f16) % TVLM_COUNT(rows)];
                snprintf(text, sizeof text, "rows %zu keys %zu d%zu %s%s", s.rows, s.keys, s.d,
                         f16 ? "f16" : "f32", s.causal ? " causal" : "");
                tk_run(t, "attention", text, check_attention, &s, s.rows * s.keys * s.d > 1 << 14);
            }
}

static void run_attention(const tvlm_kernels *table, void *arg)
{
    table->attention(arg);
}

void bench_attention(tk *t)
{
    enum { N = TVLM_ATTENTION_KEYS };
    static const attention_shape shapes[] = {
        {32, N, 32, false, false},
        {32, N, 64, false, false},
        {28, N, 64, true,  false},
        {7,  N, 64, true,  false},
        {1,  N, 64, true,  false}
    };
    char text[96];
    for (size_t i = 0; i < TVLM_COUNT(shapes) && tk_wanted(t, "attention"); i++) {
        const attention_shape *s = &shapes[i];
        tvlm_attention_row rows[TVLM_ATTENTION_ROWS];
        tvlm_attention_args a = {.kv_f16 = s->f16, .d = s->d, .ldk = s->d, .ldv = s->d};
        t->n_slots = 0;
        t->fill = TK_RANDOM;
        t->at_end = false;
        t->kernel = t->shape = "attention";
        float *q = tk_floats(t, s->rows * s->d), *out = tk_floats(t, s->rows * s->d);
        for (size_t r = 0; r < s->rows; r++)
            rows[r] = (tvlm_attention_row){q + r * s->d, out + r * s->d, N, 0, 0};
        a.rows = rows;
        a.n_rows = s->rows;
        a.scale = 0.2f;
        a.k = kv_matrix(t, N, s->d, s->d, s->f16);
        a.v = kv_matrix(t, N, s->d, s->d, s->f16);
        a.scratch = tk_floats(t, TVLM_ATTENTION_SCRATCH);
        snprintf(text, sizeof text, "rows %zu keys %d d%zu %s", s->rows, N, s->d,
                 s->f16 ? "f16" : "f32");
        tk_bench(t, "attention", text, run_attention, &a, 4.0 * (double)(s->rows * N * s->d),
                 (double)(N * s->d) * (s->f16 ? 4 : 8));
    }
}
