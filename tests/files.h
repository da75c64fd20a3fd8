/* SPDX-License-Identifier: MIT
 * Small text files and what a folder holds. Include after cmocka.h. */
#ifndef TVLM_TESTS_FILES_H
#define TVLM_TESTS_FILES_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static inline void put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

/* At most 63 bytes. */
static inline void expect_text(const char *path, const char *text)
{
    char got[64] = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(got, 1, sizeof got - 1, f), strlen(text));
    fclose(f);
    assert_string_equal(got, text);
}

/* Hidden ones too. */
static inline size_t n_entries(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

#endif
