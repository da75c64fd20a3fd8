/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if !defined(__wasm__)
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#define SLOT_BYTES ((size_t)32 << 20)
enum { CANARY = 0xA5, CANARY_BYTES = 256, MAX_PRINTED = 20 };

static const char *const fill_names[TK_N_FILLS] = {"random",  "min",   "max",    "denormal",
                                                   "one-hot", "zeros", "special"};

#if defined(__wasm__)

enum { PAGE = 65536 };

/* No page can be guarded: the canaries watch, and past the last slot there is nothing. */
bool tk_open(tk *t)
{
    for (size_t i = 1; i < TK_N_SLOTS; i++)
        if (!(t->slots[i].base = malloc(SLOT_BYTES))) return false;
    void *volatile room = malloc(SLOT_BYTES);
    free(room); /* so that what the tests allocate does not make memory grow */
    size_t at = __builtin_wasm_memory_grow(0, SLOT_BYTES / PAGE);
    t->slots[0].base = (unsigned char *)(at * PAGE);
    return at != SIZE_MAX;
}

/* Did a slot lie at the end of memory to the last? */
bool tk_guarded(const tk *t)
{
    for (size_t i = 0; i < TK_N_SLOTS; i++)
        if ((size_t)(t->slots[i].base + SLOT_BYTES) == __builtin_wasm_memory_size(0) * PAGE)
            return true;
    return false;
}

#else

static const tk *running; /* for the handler alone */

/* A guard page was touched: say by whom, and stop. */
static void on_fault(int signal_number)
{
    char text[512];
    int n =
        snprintf(text, sizeof text,
                 "FAIL %s tier %s, shape %s, fill %s, %s of the page: signal %d, an access "
                 "outside a buffer\n     again: test-kernels --cpu %s --filter %s --seed %llu\n",
                 running->kernel, running->tier_name, running->shape, fill_names[running->fill],
                 running->at_end ? "end" : "start", signal_number, running->tier_name,
                 running->kernel, (unsigned long long)running->seed);
    if (n > 0) n = (int)write(STDERR_FILENO, text, (size_t)n);
    _exit(n < 0 ? 2 : 1);
}

bool tk_open(tk *t)
{
    running = t;
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < TK_N_SLOTS; i++) {
        unsigned char *map = mmap(NULL, SLOT_BYTES + 2 * page, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED || mprotect(map + page, SLOT_BYTES, PROT_READ | PROT_WRITE))
            return false;
        t->slots[i].base = map + page;
    }
    return true;
}

bool tk_guarded(const tk *t)
{
    (void)t;
    return true;
}

#endif

bool tk_wanted(const tk *t, const char *kernel)
{
    return !t->filter || strstr(kernel, t->filter);
}

uint64_t tk_random(tk *t) /* splitmix64 */
{
    uint64_t z = t->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float tk_uniform(tk *t, float lo, float hi)
{
    return lo + (hi - lo) * (float)(tk_random(t) >> 40) * 0x1p-24f;
}

float tk_value(tk *t, size_t i, size_t n)
{
    switch (t->fill) {
    case TK_MIN:
        return -1e18f; /* sums of products pass FLT_MAX in long chains only */
    case TK_MAX:
        return 1e18f;
    case TK_DENORMAL:
        return (tk_random(t) & 1 ? 1e-40f : -3e-45f) * (float)(1 + i % 5);
    case TK_ONE_HOT:
        return i == n / 2 ? 1.0f : 0.0f;
    case TK_ZEROS:
        return 0.0f;
    case TK_SPECIAL: {
        static const float specials[] = {NAN, INFINITY, -INFINITY, -0.0f, 1e-40f};
        uint64_t which = tk_random(t) % 200;
        if (which < sizeof specials / sizeof *specials) return specials[which];
        return tk_uniform(t, -2.0f, 2.0f);
    }
    default:
        return tk_uniform(t, -2.0f, 2.0f);
    }
}

/* The seed of a check depends on its name, so that a filtered run repeats it. */
static uint64_t check_seed(const tk *t)
{
    uint64_t hash = t->seed ^ 0xcbf29ce484222325u;
    for (const char *p = t->kernel; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    for (const char *p = t->shape; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    return hash + (uint64_t)t->fill;
}

static void fail(tk *t, const char *what, size_t index, double got, double want)
{
    if (t->broken) return;
    t->broken = true;
    if (t->failed >= MAX_PRINTED) return;
    printf("FAIL %s tier %s, shape %s, fill %s, %s of the page, seed %llu: %s at %zu: got %.9g, "
           "want %.9g\n     again: test-kernels --cpu %s --filter %s --seed %llu\n",
           t->kernel, t->tier_name, t->shape, fill_names[t->fill], t->at_end ? "end" : "start",
           (unsigned long long)t->seed, what, index, got, want, t->tier_name, t->kernel,
           (unsigned long long)t->seed);
}

static void check_canaries(tk *t)
{
    for (size_t i = 0; i < t->n_slots; i++) {
        tk_slot *slot = &t->slots[i];
        unsigned char *lo = slot->data, *hi = slot->data + slot->size;
        size_t before = (size_t)(lo - slot->base), after = SLOT_BYTES - before - slot->size;
        before = before < CANARY_BYTES ? before : CANARY_BYTES;
        after = after < CANARY_BYTES ? after : CANARY_BYTES;
        for (size_t j = 1; j <= before; j++)
            if (lo[-(ptrdiff_t)j] != CANARY)
                fail(t, "canary before buffer", i, lo[-(ptrdiff_t)j], CANARY);
        for (size_t j = 0; j < after; j++)
            if (hi[j] != CANARY) fail(t, "canary after buffer", i, hi[j], CANARY);
    }
}

void tk_run(tk *t, const char *kernel, const char *shape, tk_fn fn, const void *arg, bool quick)
{
    if (!tk_wanted(t, kernel) || t->n_shapes++ % t->every) return;
    t->kernel = kernel;
    t->shape = shape;
    for (int fill = 0; fill < (quick ? 1 : TK_N_FILLS); fill++) {
        unsigned char *first = t->slots[0].base; /* each buffer lies in each slot some time */
        for (size_t i = 0; i + 1 < TK_N_SLOTS; i++)
            t->slots[i].base = t->slots[i + 1].base;
        t->slots[TK_N_SLOTS - 1].base = first;
        for (int end = quick; end < 2; end++) {
            t->fill = (tk_fill)fill;
            t->at_end = end;
            t->broken = false;
            t->n_slots = 0;
            t->state = check_seed(t);
            fn(t, arg);
            check_canaries(t);
            if (t->broken)
                t->failed++;
            else
                t->passed++;
        }
    }
}

void *tk_buffer(tk *t, size_t size, size_t align)
{
    if (t->n_slots == TK_N_SLOTS || size + 2 * CANARY_BYTES > SLOT_BYTES) {
        fprintf(stderr, "test-kernels: %s %s needs a larger slot\n", t->kernel, t->shape);
        exit(2);
    }
    tk_slot *slot = &t->slots[t->n_slots++];
    size_t at = t->at_end ? (SLOT_BYTES - size) / align * align : 0;
    slot->data = slot->base + at;
    slot->size = size;
    size_t first = at < CANARY_BYTES ? 0 : at - CANARY_BYTES;
    size_t last = at + size + CANARY_BYTES < SLOT_BYTES ? at + size + CANARY_BYTES : SLOT_BYTES;
    memset(slot->base + first, CANARY, last - first);
    return slot->data;
}

float *tk_floats(tk *t, size_t n)
{
    float *p = tk_buffer(t, n * sizeof *p, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = tk_value(t, i, n);
    return p;
}

uint8_t *tk_bytes(tk *t, size_t n, int lo, int hi)
{
    uint8_t *p = tk_buffer(t, n, 1);
    for (size_t i = 0; i < n; i++) {
        int v = lo + (int)(tk_random(t) % (unsigned)(hi - lo + 1));
        if (t->fill == TK_MIN)
            v = lo;
        else if (t->fill == TK_MAX)
            v = hi;
        else if (t->fill == TK_ZEROS)
            v = 0;
        else if (t->fill == TK_ONE_HOT)
            v = i == n / 2;
        p[i] = (uint8_t)v;
    }
    return p;
}

void tk_same_f32(tk *t, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) && !(isnan(got[i]) && isnan(want[i])))
            fail(t, "bits differ", i, (double)got[i], (double)want[i]);
}

void tk_same_bytes(tk *t, const void *got, const void *want, size_t n)
{
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) fail(t, "byte differs", i, a[i], b[i]);
}

void tk_near(tk *t, size_t index, double got, double want, double bound)
{
    if (!isfinite(want) || fabs(want) > 1e38 || !isfinite(bound))
        return; /* overflow has no bound; tiers are still compared bit for bit */
    if (!(fabs(got - want) <= bound)) fail(t, "beyond the error bound", index, got, want);
}

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(tk_bench_fn run, const tvlm_kernels *table, void *arg, double *best,
                    double *median)
{
    enum { MAX_RUNS = 4001 };
    double times[MAX_RUNS];
    size_t n = 0;
    run(table, arg);
    double start = now_ns();
    while (n < MAX_RUNS && (n < 3 || now_ns() - start < 3e8)) {
        double before = now_ns();
        run(table, arg);
        times[n++] = now_ns() - before;
    }
    qsort(times, n, sizeof *times, by_value);
    *best = times[0];
    *median = times[n / 2];
}

void tk_bench(tk *t, const char *kernel, const char *shape, tk_bench_fn run, void *arg,
              double flops, double bytes)
{
    if (!tk_wanted(t, kernel)) return;
    double scalar_best, scalar_median, best, median;
    measure(run, &t->scalar, arg, &scalar_best, &scalar_median);
    best = scalar_best;
    median = scalar_median;
    if (!t->is_scalar) measure(run, &t->tier, arg, &best, &median);
    printf("%-14s %-28s %-7s %12.0f %12.0f %9.2f %9.2f %8.2fx\n", kernel, shape, t->tier_name, best,
           median, flops / best, bytes / best, scalar_best / best);
    fflush(stdout);
    if (!t->json) return;
    fprintf(t->json,
            "%s\n  {\"kernel\": \"%s\", \"shape\": \"%s\", \"tier\": \"%s\", \"min_ns\": %.0f, "
            "\"median_ns\": %.0f, \"gflops\": %.3f, \"gbytes_s\": %.3f, \"over_scalar\": %.3f}",
            t->json_comma ? "," : "", kernel, shape, t->tier_name, best, median, flops / best,
            bytes / best, scalar_best / best);
    t->json_comma = true;
}
