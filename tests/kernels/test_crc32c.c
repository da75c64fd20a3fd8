/* SPDX-License-Identifier: MIT
 * CRC-32C: the instruction against the tables, whole and in parts. */
#include "harness.h"

/* Lengths about those at which a kernel changes its way: a word, three streams, large pieces. */
static size_t any_length(tk *t)
{
    static const size_t most[] = {8, 64, 1000, 1 << 15, 1 << 17};
    size_t n = most[tk_random(t) % TVLM_COUNT(most)];
    return tk_random(t) % 2 ? n + tk_random(t) % 9 : tk_random(t) % (n + 1);
}

static void check_whole(tk *t, const void *arg)
{
    (void)arg;
    size_t n = any_length(t);
    const uint8_t *text = tk_bytes(t, n, 0, 255);
    uint32_t seed = (uint32_t)tk_random(t), want = tvlm_crc32c(seed, text, n);
    uint32_t got = t->tier.crc32c(seed, text, n);
    tk_same_bytes(t, &got, &want, sizeof got);
}

/* The parts of a text join to the whole, in any split. */
static void check_split(tk *t, const void *arg)
{
    (void)arg;
    size_t n = any_length(t), at = tk_random(t) % (n + 1);
    const uint8_t *text = tk_bytes(t, n, 0, 255);
    uint32_t seed = (uint32_t)tk_random(t), want = tvlm_crc32c(seed, text, n);
    uint32_t first = t->tier.crc32c(seed, text, at);
    uint32_t got[2] = {t->tier.crc32c(first, text + at, n - at),
                       tvlm_crc32c_join(first, t->tier.crc32c(0, text + at, n - at), n - at)};
    tk_same_bytes(t, &got[0], &want, sizeof want);
    tk_same_bytes(t, &got[1], &want, sizeof want);
}

void test_crc32c(tk *t)
{
    for (int i = 0; i < 40; i++) {
        tk_run(t, "crc32c", "any length", check_whole, NULL, false);
        tk_run(t, "crc32c", "any split", check_split, NULL, false);
    }
}

typedef struct crc_bench {
    const uint8_t *text;
    size_t n;
    volatile uint32_t crc;
} crc_bench;

static void run_crc32c(const tvlm_kernels *table, void *arg)
{
    crc_bench *b = arg;
    b->crc = table->crc32c(b->crc, b->text, b->n);
}

void bench_crc32c(tk *t)
{
    t->n_slots = 0;
    t->fill = TK_RANDOM;
    t->at_end = false;
    t->kernel = t->shape = "crc32c";
    crc_bench b = {.text = tk_bytes(t, 1 << 18, 0, 255)};
    static const struct {
        const char *name;
        size_t n;
    } sizes[] = {
        {"1 KiB",      1 << 10      },
        {"32 KiB - 1", (1 << 15) - 1},
        {"32 KiB",     1 << 14      },
        {"64 KiB",     1 << 16      },
        {"256 KiB",    1 << 18      }
    };
    for (size_t i = 0; i < TVLM_COUNT(sizes); i++) {
        b.n = sizes[i].n;
        tk_bench(t, "crc32c", sizes[i].name, run_crc32c, &b, 0, (double)b.n);
    }
}
