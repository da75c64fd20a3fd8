/* SPDX-License-Identifier: MIT
 * Twelve independent chains of the widest multiply-add hide its latency; only registers are used.
 * Memory is read in order, each thread its share of far more than a cache holds. */
#include "cli/peaks.h"
#include "system/system.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 100000, REPEATS = 4, MAX_THREADS = 64 };
static const double LEAST_MS = 25; /* of one measurement */
static const size_t MEMORY_BYTES = (size_t)256 << 20;

/* run makes TURNS turns, in each of which `ops` operations are done. */
typedef struct burst {
    const char *instructions;
    void (*run)(void);
    double ops;
} burst;

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>

/* Assembly, as compilers see that the loops compute nothing of use. */
#define TWELVE(step)                                                                               \
    step("0") step("1") step("2") step("3") step("4") step("5") step("6") step("7") step("8")      \
        step("9") step("10") step("11")
#define CLEAR(i) "vpxor %%xmm" i ",%%xmm" i ",%%xmm" i "\n"
#define LOOP(name, step)                                                                           \
    static void name(void)                                                                         \
    {                                                                                              \
        unsigned turns = TURNS;                                                                    \
        __asm__ volatile(TWELVE(CLEAR) CLEAR("13") CLEAR("14")                                     \
                             CLEAR("15") ".p2align 5\n"                                            \
                                         "1:\n" TWELVE(step) "decl %0\n"                           \
                                                             "jnz 1b\n"                            \
                                                             "vzeroupper\n"                        \
                         : "+r"(turns)                                                             \
                         :                                                                         \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",   \
                           "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");  \
    }

#define FMA_256(i)  "vfmadd231ps %%ymm14,%%ymm15,%%ymm" i "\n"
#define FMA_512(i)  "vfmadd231ps %%zmm14,%%zmm15,%%zmm" i "\n"
#define BF16_512(i) "vdpbf16ps %%zmm14,%%zmm15,%%zmm" i "\n"
#define VNNI_256(i) "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm" i "\n"
#define VNNI_512(i) "vpdpbusd %%zmm14,%%zmm15,%%zmm" i "\n"
#define MADD_256(i)                                                                                \
    "vpmaddubsw %%ymm14,%%ymm15,%%ymm12\n"                                                         \
    "vpmaddwd %%ymm13,%%ymm12,%%ymm12\n"                                                           \
    "vpaddd %%ymm12,%%ymm" i ",%%ymm" i "\n"
LOOP(fma_256, FMA_256)
LOOP(fma_512, FMA_512)
LOOP(bf16_512, BF16_512)
LOOP(vnni_256, VNNI_256)
LOOP(vnni_512, VNNI_512)
LOOP(madd_256, MADD_256)

static bool has_avx_vnni(void)
{
    unsigned a = 0, b, c, d; /* Intel SDM vol. 2A, CPUID leaf 7, subleaf 1 */
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           (a & 1u << 4);
}

static burst best_burst(cli_peak_kind kind)
{
    bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (kind == PEAK_F32 && __builtin_cpu_supports("avx512f"))
        return (burst){"AVX-512", fma_512, 12 * 16 * 2};
    if (kind == PEAK_F32 && fma) return (burst){"AVX2 FMA", fma_256, 12 * 8 * 2};
    if (kind == PEAK_BF16 && __builtin_cpu_supports("avx512bf16"))
        return (burst){"AVX-512 BF16", bf16_512, 12 * 32 * 2};
    if (kind == PEAK_INT8 && __builtin_cpu_supports("avx512vnni"))
        return (burst){"AVX-512 VNNI", vnni_512, 12 * 64 * 2};
    if (kind == PEAK_INT8 && has_avx_vnni()) return (burst){"AVX-VNNI", vnni_256, 12 * 32 * 2};
    if (kind == PEAK_INT8 && fma) return (burst){"AVX2 maddubs", madd_256, 12 * 32 * 2};
    return (burst){0};
}

#elif defined(__aarch64__) && defined(__GNUC__)

#define TWELVE(step)                                                                               \
    step("0") step("1") step("2") step("3") step("4") step("5") step("6") step("7") step("16")     \
        step("17") step("18") step("19")
#define FMLA(i) "fmla v" i ".4s,v30.4s,v31.4s\n"
static void fmla_128(void)
{
    unsigned turns = TURNS;
    __asm__ volatile("1:\n" TWELVE(FMLA) "subs %w0,%w0,#1\n"
                                         "b.ne 1b\n"
                     : "+r"(turns)
                     :
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18",
                       "v19");
}

static burst best_burst(cli_peak_kind kind)
{
    return kind == PEAK_F32 ? (burst){"NEON", fmla_128, 12 * 4 * 2} : (burst){0};
}

#else

static burst best_burst(cli_peak_kind kind)
{
    (void)kind;
    return (burst){0};
}

#endif

/* ---- threads ---- */

typedef struct team {
    burst burst; /* without run: memory */
    unsigned n;
    atomic_uint ready;
} team;

typedef struct worker {
    team *team;
    app_sys_thread *thread;
    double rate; /* billions a second; 0: out of memory */
    uint64_t sum;
} worker;

static uint64_t read_all(const uint64_t *p, size_t n)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (const uint64_t *end = p + n / 8 * 8; p < end; p += 8) {
        a += p[0] + p[1];
        b += p[2] + p[3];
        c += p[4] + p[5];
        d += p[6] + p[7];
    }
    return a + b + c + d;
}

static void wait_for_all(team *t)
{
    atomic_fetch_add(&t->ready, 1);
    while (atomic_load(&t->ready) < t->n) {
    }
}

static void work(void *arg)
{
    worker *w = arg;
    const burst *b = &w->team->burst;
    size_t bytes = MEMORY_BYTES / w->team->n, times = 0;
    uint64_t *data = b->run ? NULL : malloc(bytes);
    if (data) memset(data, 1, bytes);
    wait_for_all(w->team);
    double begin = app_sys_now_ms(), ms = 0;
    for (; (b->run || data) && ms < LEAST_MS; times++) {
        if (b->run)
            b->run();
        else
            w->sum += read_all(data, bytes / sizeof *data);
        ms = app_sys_now_ms() - begin;
    }
    double each = b->run ? b->ops * TURNS : (double)bytes;
    if (ms > 0) w->rate = (double)times * each / ms / 1e6;
    free(data);
}

/* Billions a second of the whole team; 0 where there is no memory for it, or no threads. */
static double rate_of(burst b, unsigned n)
{
    team t = {.burst = b, .n = n};
    worker workers[MAX_THREADS];
    double sum = 0;
    bool whole = true;
    unsigned started = 1;
    for (unsigned i = 0; i < n; i++)
        workers[i] = (worker){.team = &t};
    for (; started < n; started++)
        if (!(workers[started].thread = app_sys_thread_start(work, &workers[started]))) break;
    atomic_fetch_add(&t.ready, n - started); /* nobody waits for those that could not start */
    work(&workers[0]);
    for (unsigned i = 0; i < started; i++) {
        app_sys_thread_join(workers[i].thread);
        whole = whole && workers[i].rate > 0;
        sum += workers[i].rate;
    }
    return whole && started == n ? sum : 0;
}

static double best_rate(burst b, unsigned n)
{
    double best = 0;
    for (int i = 0; i < REPEATS; i++) {
        double rate = rate_of(b, n);
        best = rate > best ? rate : best;
    }
    return best;
}

bool cli_measure_peaks(unsigned n_threads, cli_peak out[N_PEAKS])
{
    static const char *const names[N_PEAKS] = {"f32", "bf16", "int8", "memory"};
    unsigned n = n_threads < MAX_THREADS ? n_threads : MAX_THREADS;
    for (cli_peak_kind kind = 0; kind < N_PEAKS; kind++) {
        burst b = kind == PEAK_MEMORY ? (burst){.instructions = "reads"} : best_burst(kind);
        out[kind] = (cli_peak){.name = names[kind], .instructions = b.instructions};
        if (!b.instructions) continue;
        out[kind].one = best_rate(b, 1);
        out[kind].all = n > 1 ? best_rate(b, n) : out[kind].one;
        if (out[kind].all <= 0) return false;
    }
    return true;
}
