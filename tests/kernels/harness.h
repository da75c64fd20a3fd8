/* SPDX-License-Identifier: MIT
 * A small harness for kernel tests, after dav1d's checkasm: every tier against the scalar tier
 * (bit for bit), the scalar tier against double arithmetic written here (within a bound), inputs
 * that hurt, buffers between guard pages.
 *
 *   slot   | no access | canary |  ... free ...  | no access |
 * In WebAssembly, where no page can be guarded, one slot in turn ends where memory ends.
 *   start: data right after the first guard;  end: data right before the second one; the rest
 *   of the slot holds the canary, so a stray write shows and a stray read at that end faults. */
#ifndef KERNEL_HARNESS_H
#define KERNEL_HARNESS_H

#include "kernels/linear.h"

#include <stdio.h>

typedef enum tk_fill {
    TK_RANDOM,
    TK_MIN,
    TK_MAX,
    TK_DENORMAL,
    TK_ONE_HOT,
    TK_ZEROS,
    TK_SPECIAL, /* random with NaN, infinities and the like among */
    TK_N_FILLS
} tk_fill;

enum { TK_N_SLOTS = 12 };

typedef struct tk_slot {
    unsigned char *base; /* between the guards */
    unsigned char *data;
    size_t size;
} tk_slot;

typedef struct tk {
    const char *filter; /* NULL: all */
    uint64_t seed;
    size_t every, n_shapes; /* of so many shapes one is run; shapes seen */
    FILE *json;             /* of the benchmark, NULL: none */
    bool json_comma;
    size_t passed, failed;

    tvlm_kernels scalar, tier;
    uint32_t mask;  /* of the tier */
    uint32_t below; /* mask of a tier whose kernels need no test again */
    const char *tier_name;
    bool is_scalar; /* then compare with double arithmetic, else with the scalar tier */

    const char *kernel; /* the current check */
    const char *shape;
    tk_fill fill;
    bool at_end, broken;
    uint64_t state;
    tk_slot slots[TK_N_SLOTS];
    size_t n_slots;
} tk;

typedef void (*tk_fn)(tk *t, const void *shape);

bool tk_open(tk *t);          /* maps the slots; false when it cannot */
bool tk_guarded(const tk *t); /* are the guards still there? */
bool tk_wanted(const tk *t, const char *kernel);

/* Runs fn for every fill and both ends (quick: random at the end only). Counts each as a test. */
void tk_run(tk *t, const char *kernel, const char *shape, tk_fn fn, const void *arg, bool quick);

/* Buffers of the current check, canary-filled, aligned to `align` at the chosen end. */
void *tk_buffer(tk *t, size_t size, size_t align);
float *tk_floats(tk *t, size_t n);                  /* by the current fill */
uint8_t *tk_bytes(tk *t, size_t n, int lo, int hi); /* likewise, between lo and hi */

uint64_t tk_random(tk *t);
float tk_uniform(tk *t, float lo, float hi);
float tk_value(tk *t, size_t i, size_t n); /* element i of n by the current fill */

/* Record a failure (the first of a check is printed). A NaN equals a NaN. */
void tk_same_f32(tk *t, const float *got, const float *want, size_t n);
void tk_same_bytes(tk *t, const void *got, const void *want, size_t n);
void tk_near(tk *t, size_t index, double got, double want, double bound);

/* Times run(table, arg) on the scalar tier (unless skip_scalar) and on this tier. flops and bytes:
 * work of one run, 0 if not of interest. */
typedef void (*tk_bench_fn)(const tvlm_kernels *table, void *arg);
void tk_bench(tk *t, const char *kernel, const char *shape, tk_bench_fn run, void *arg,
              double flops, double bytes);

void test_gemm(tk *t);
void test_rows(tk *t);
void test_attention(tk *t);
void test_spatial(tk *t);
void test_int8(tk *t);
void test_crc32c(tk *t);
void test_resize(tk *t);
void bench_gemm(tk *t);
void bench_rows(tk *t);
void bench_attention(tk *t);
void bench_spatial(tk *t);
void bench_int8(tk *t);
void bench_crc32c(tk *t);
void bench_resize(tk *t);

#endif
