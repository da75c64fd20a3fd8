/* SPDX-License-Identifier: MIT
 * A folder of its own for a fuzz target that reads and writes files, in TMPDIR; it goes with the
 * process. */
#ifndef TVLM_FUZZ_FOLDER_H
#define TVLM_FUZZ_FOLDER_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fuzz_folder[512];

static inline const char *fuzz_path(const char *name)
{
    static char paths[3][1024];
    static unsigned next;
    char *path = paths[next++ % 3];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder, name);
    return path;
}

/* Removes every file in it and says how many there were. */
static inline size_t fuzz_clear(void)
{
    size_t n = 0;
    DIR *dir = opendir(fuzz_folder);
    if (!dir) abort();
    for (struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !remove(fuzz_path(e->d_name))) n++;
    closedir(dir);
    return n;
}

static inline void fuzz_leave(void)
{
    fuzz_clear();
    rmdir(fuzz_folder);
}

/* The first call makes it. */
static inline void fuzz_enter(void)
{
    const char *temporary = getenv("TMPDIR");
    if (fuzz_folder[0]) return;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(fuzz_folder, sizeof fuzz_folder, "%s/tinyvlm-fuzz-%ld-%u",
                 temporary ? temporary : "/tmp", (long)getpid(), i);
        if (mkdir(fuzz_folder, 0700) == 0) {
            atexit(fuzz_leave);
            return;
        }
    }
    abort();
}

static inline void fuzz_write(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(fuzz_path(name), "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
}

/* A number from all bytes: from the size alone, every change of a seed would get the same one. */
static inline unsigned fuzz_mode(const uint8_t *data, size_t size)
{
    unsigned mode = 0;
    for (size_t i = 0; i < size; i++)
        mode = mode * 31 + data[i];
    return mode;
}

#endif
