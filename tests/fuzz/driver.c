/* SPDX-License-Identifier: MIT
 * Runs a fuzz target without libFuzzer:
 *   fuzz-NAME FILE|DIR...                 every file as it is, and MUTATIONS seeded changes of each
 *   fuzz-NAME --mutations N FILE|DIR...   N of them
 * A change flips bits, cuts the end, overwrites 1 to 8 bytes with extreme values, or copies a piece
 * over another. Inputs lie in heap blocks of exactly their size, so a sanitizer sees every overrun.
 * A folder that is missing or empty runs the empty input alone. */
#include <assert.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MUTATIONS = 1000 };

static size_t runs;

static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    assert(exact);
    if (size) memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    runs++;
}

static uint64_t next(uint64_t *state) /* xorshift64 */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t mutate(uint8_t *data, size_t size, uint64_t *state)
{
    static const uint64_t extremes[] = {0,
                                        1,
                                        0x7f,
                                        0x80,
                                        0xff,
                                        0xffff,
                                        0x7fffffff,
                                        0x80000000,
                                        0xffffffff,
                                        0x7fffffffffffffff,
                                        0xffffffffffffffff};
    /* headers are where lies matter: half of the changes fall into the first kilobyte */
    size_t reach = next(state) % 2 && size > 1024 ? 1024 : size;
    for (uint64_t changes = 1 + next(state) % 4; changes-- && size;) {
        size_t at = next(state) % (reach < size ? reach : size);
        size_t n = 1 + next(state) % 8;
        uint64_t value = extremes[next(state) % (sizeof extremes / sizeof *extremes)];
        switch (next(state) % 4) {
        case 0:
            data[at] ^= (uint8_t)(1u << next(state) % 8);
            break;
        case 1:
            memcpy(data + at, &value, n < size - at ? n : size - at);
            break;
        case 2:
            n = 1 + next(state) % 64;
            n = n < size - at ? n : size - at;
            memmove(data + at, data + next(state) % (size - n + 1), n);
            break;
        default:
            if (next(state) % 4 == 0) size = next(state) % size;
            break;
        }
        reach = reach < size ? reach : size;
    }
    return size;
}

static void run_file(const char *path, unsigned long mutations)
{
    FILE *f = fopen(path, "rb");
    assert(f);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *seed = malloc(size + 1), *work = malloc(size + 1);
    assert(seed && work && fread(seed, 1, size, f) == size);
    fclose(f);
    run(seed, size);
    uint64_t state = 0x9e3779b97f4a7c15u ^ size;
    for (unsigned long i = 0; i < mutations; i++) {
        memcpy(work, seed, size);
        run(work, mutate(work, size, &state));
    }
    free(seed);
    free(work);
}

static void run_path(const char *path, unsigned long mutations)
{
    DIR *dir = opendir(path);
    if (!dir) {
        FILE *f = fopen(path, "rb");
        if (f) {
            fclose(f);
            run_file(path, mutations);
        }
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        char name[1024];
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.') run_path(name, mutations);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    unsigned long mutations = MUTATIONS;
    int first = 1;
    if (argc > 2 && !strcmp(argv[1], "--mutations")) {
        mutations = strtoul(argv[2], NULL, 10);
        first = 3;
    }
    run((const uint8_t *)"", 0);
    for (int i = first; i < argc; i++)
        run_path(argv[i], mutations);
    printf("%zu passed, 0 failed\n", runs);
    return 0;
}
