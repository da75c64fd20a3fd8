/* SPDX-License-Identifier: MIT
 * Outputs: nothing half-written has the name, nothing that is no regular file is replaced. */
#define _POSIX_C_SOURCE 200809L
#include "file/output.h"
#include "common/common.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "check.h"
#include "files.h"

static char folder[] = "/tmp/test-output-XXXXXX";
static tvlm_error err;
static const char *at(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode;
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static app_output *begin(const char *path, const char *text)
{
    app_output *o;
    OK(app_output_open(path, NULL, &o, &err));
    OK(app_output_write(o, text, strlen(text), &err));
    return o;
}

static void write_to(const char *path, const char *text)
{
    OK(app_output_finish(begin(path, text), NULL, NULL, &err));
}

static void expect_refused(const char *path, const char *message)
{
    app_output *o;
    assert_int_equal(app_output_open(path, NULL, &o, &err), APP_ERR_WRITE);
    assert_null(o);
    if (!strstr(err.message, message)) fail_msg("'%s' does not say '%s'", err.message, message);
    assert_non_null(strstr(err.message, path));
}

static int empty(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s && mkdir %s", folder, folder);
    return system(command);
}

static void test_new_and_existing(void **state)
{
    (void)state;
    mode_t mask = umask(027);
    app_output *o = begin(at("new"), "text");
    assert_false(exists(at("new")));
    OK(app_output_finish(o, NULL, NULL, &err));
    umask(mask);
    expect_text(at("new"), "text");
    assert_int_equal(mode_of(at("new")) & 0777, 0640);
    chmod(at("new"), 0604);
    o = begin(at("new"), "other");
    expect_text(at("new"), "text");
    OK(app_output_finish(o, NULL, NULL, &err));
    expect_text(at("new"), "other");
    assert_int_equal(mode_of(at("new")) & 0777, 0604);
    assert_int_equal(n_entries(folder), 1);
}

static void test_large_writes_and_patches(void **state)
{
    (void)state;
    enum { SIZE = 700000 };
    unsigned char *data = malloc(SIZE), *got = malloc(SIZE + 1);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * i >> 3);
    app_output *o = begin(at("large"), "");
    for (size_t i = 0, n = 1; i < SIZE; i += n, n = n * 3 + 1) {
        if (n > SIZE - i) n = SIZE - i;
        OK(app_output_write(o, data + i, n, &err));
        OK(app_output_patch(o, i / 2, "patch", i ? 5 : 0, &err));
        if (i) memcpy(data + i / 2, "patch", 5);
    }
    OK(app_output_finish(o, NULL, NULL, &err));
    FILE *f = fopen(at("large"), "rb");
    assert_int_equal(fread(got, 1, SIZE + 1, f), SIZE);
    fclose(f);
    assert_memory_equal(got, data, SIZE);
    free(data);
    free(got);
}

static void test_nothing_is_left(void **state)
{
    (void)state;
    put_text(at("kept"), "old");
    app_output_abort(begin(at("kept"), "new"));
    app_output_abort(begin(at("none"), "new"));
    app_output_abort(NULL);
    expect_text(at("kept"), "old");
    assert_int_equal(n_entries(folder), 1);
    app_output *o = begin(at("kept"), "new");
    assert_int_equal(n_entries(folder), 2);
    app_output_unlink_all();
    assert_int_equal(n_entries(folder), 1);
    assert_int_equal(app_output_finish(o, NULL, NULL, &err), APP_ERR_WRITE);
    expect_text(at("kept"), "old");

    tvlm_cancel *cancel = tvlm_cancel_new();
    OK(app_output_open(at("kept"), cancel, &o, &err));
    tvlm_cancel_request(cancel);
    assert_int_equal(app_output_finish(o, NULL, NULL, &err), TVLM_ERR_CANCELLED);
    tvlm_cancel_free(cancel);
    expect_text(at("kept"), "old");
    assert_int_equal(n_entries(folder), 1);
}

static tvlm_status look_inside(void *user, const char *path, tvlm_error *e)
{
    expect_text(path, "new");
    return *(bool *)user ? TVLM_OK : app_fail(e, TVLM_ERR_FORMAT, "it is bad");
}

static void test_checked_before_it_replaces(void **state)
{
    (void)state;
    bool good = false;
    put_text(at("file"), "old");
    app_output *o = begin(at("file"), "new");
    assert_int_equal(app_output_finish(o, look_inside, &good, &err), TVLM_ERR_FORMAT);
    assert_non_null(strstr(err.message, "/file: the result is not good"));
    assert_non_null(strstr(err.message, "it is bad"));
    expect_text(at("file"), "old");
    assert_int_equal(n_entries(folder), 1);
    good = true;
    OK(app_output_finish(begin(at("file"), "new"), look_inside, &good, &err));
    expect_text(at("file"), "new");
}

static void test_links(void **state)
{
    (void)state;
    mkdir(at("sub"), 0777);
    put_text(at("sub/file"), "old");
    assert_int_equal(symlink("sub/two", at("one")), 0);
    assert_int_equal(symlink("file", at("sub/two")), 0);
    assert_int_equal(symlink("sub/none", at("dangling")), 0);
    assert_int_equal(symlink("loop", at("loop")), 0);
    assert_int_equal(symlink("no/such", at("lost")), 0);
    assert_int_equal(symlink(at("sub/file"), at("absolute")), 0);
    write_to(at("one"), "new");
    write_to(at("dangling"), "made");
    expect_text(at("sub/file"), "new");
    write_to(at("absolute"), "newer");
    expect_text(at("sub/file"), "newer");
    assert_true(S_ISLNK(mode_of(at("absolute"))));
    expect_text(at("sub/none"), "made");
    assert_true(S_ISLNK(mode_of(at("one"))) && S_ISLNK(mode_of(at("sub/two"))));
    assert_true(S_ISLNK(mode_of(at("dangling"))));
    expect_refused(at("loop"), "cannot write");
    expect_refused(at("lost"), "No such file");
    assert_int_equal(n_entries(folder), 6);
}

static void test_refused(void **state)
{
    (void)state;
    mkdir(at("sub"), 0777);
    assert_int_equal(symlink("sub", at("link")), 0);
    expect_refused(at("sub"), "is a folder");
    expect_refused(at("sub/"), "is a folder");
    expect_refused(at("link"), "is a folder");
    expect_refused(at("no/file"), "No such file");
    expect_refused(at("new/"), "No such file");
    app_output *o;
    assert_int_equal(app_output_open("", NULL, &o, &err), TVLM_ERR_ARGUMENT);
    put_text(at("read-only"), "old");
    chmod(at("read-only"), 0444);
    if (geteuid() != 0) expect_refused(at("read-only"), "Permission denied");
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    expect_refused(at(name), "cannot write");
}

/* The path of the only one in `folder`. */
static const char *temporary(void)
{
    const char *found = NULL;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (!strncmp(e->d_name, ".tinyvlm-", 9)) {
            assert_null(found);
            found = at(e->d_name);
        }
    closedir(dir);
    assert_non_null(found);
    return found;
}

static void *read_fifo(void *arg)
{
    static char got[64];
    memset(got, 0, sizeof got);
    FILE *f = fopen(arg, "rb");
    size_t n = fread(got, 1, sizeof got - 1, f);
    fclose(f);
    return n ? got : NULL;
}

static void test_fifo(void **state)
{
    (void)state;
    pthread_t reader;
    void *got;
    char path[512];
    snprintf(path, sizeof path, "%s", at("fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(symlink("fifo", at("link")), 0);
    assert_int_equal(setenv("TMPDIR", folder, 1), 0);
    mode_t mask = umask(0);
    pthread_create(&reader, NULL, read_fifo, path);
    app_output *o = begin(at("link"), "test");
    assert_int_equal(mode_of(temporary()) & 0777, 0600); /* nobody else reads it */
    umask(mask);
    OK(app_output_patch(o, 1, "ex", 2, &err));
    OK(app_output_finish(o, NULL, NULL, &err));
    pthread_join(reader, &got);
    assert_string_equal(got, "text");
    bool good = false; /* a reader of a bad result sees its end, and nothing of it */
    pthread_create(&reader, NULL, read_fifo, path);
    o = begin(path, "new");
    assert_int_equal(app_output_finish(o, look_inside, &good, &err), TVLM_ERR_FORMAT);
    pthread_join(reader, &got);
    assert_null(got);
    assert_true(S_ISFIFO(mode_of(path)) && S_ISLNK(mode_of(at("link"))));
    assert_int_equal(n_entries(folder), 2);
}

static void test_two_writers(void **state)
{
    (void)state;
    app_output *a = begin(at("file"), "first"), *b = begin(at("file"), "second");
    OK(app_output_write(a, " too", 4, &err));
    OK(app_output_finish(b, NULL, NULL, &err));
    expect_text(at("file"), "second");
    OK(app_output_finish(a, NULL, NULL, &err));
    expect_text(at("file"), "first too");
    assert_int_equal(n_entries(folder), 1);
}

static void test_an_input_is_no_output(void **state)
{
    (void)state;
    mkdir(at("sub"), 0777);
    put_text(at("sub/model.safetensors"), "in");
    put_text(at("sub/old.gguf"), "out");
    assert_int_equal(link(at("sub/model.safetensors"), at("hard")), 0);
    assert_int_equal(symlink("sub/model.safetensors", at("soft")), 0);
    const char *const same[] = {"sub/model.safetensors", "sub/../sub/./model.safetensors", "hard",
                                "soft"};
    for (size_t i = 0; i < APP_COUNT(same); i++) {
        for (size_t k = 0; k < APP_COUNT(same); k++)
            assert_int_equal(app_output_not_input(at(same[i]), at(same[k]), &err),
                             TVLM_ERR_ARGUMENT);
        assert_int_equal(app_output_not_input(at(same[i]), at("sub"), &err), TVLM_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "overwrite its source"));
    }
    OK(app_output_not_input(at("sub/old.gguf"), at("sub"), &err));
    OK(app_output_not_input(at("sub/old.gguf"), at("hard"), &err));
    OK(app_output_not_input(at("new"), at("hard"), &err));
    OK(app_output_not_input(at("new"), at("none"), &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_new_and_existing, empty),
        cmocka_unit_test_setup(test_large_writes_and_patches, empty),
        cmocka_unit_test_setup(test_nothing_is_left, empty),
        cmocka_unit_test_setup(test_checked_before_it_replaces, empty),
        cmocka_unit_test_setup(test_links, empty),
        cmocka_unit_test_setup(test_refused, empty),
        cmocka_unit_test_setup(test_fifo, empty),
        cmocka_unit_test_setup(test_two_writers, empty),
        cmocka_unit_test_setup(test_an_input_is_no_output, empty),
    };
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    empty(NULL);
    return rmdir(folder) + failed;
}
