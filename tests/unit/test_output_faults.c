/* SPDX-License-Identifier: MIT
 * Outputs of the program and files that the library saves when a system call or an allocation
 * fails: the error says why, the old file is whole, nothing is left open or behind. Linked with
 * --wrap: the calls of app/file and src/os go through here. */
#define _POSIX_C_SOURCE 200809L
#include "base/base.h"
#include "file/output.h"
#include "common/common.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "failing_malloc.h"
#include "files.h"

#define FOLDER TVLM_BUILD_DIR "/output-faults"
#define OUT    FOLDER "/out"

typedef enum call { NO_CALL, CLOSE, RENAME, FSYNC, LSEEK, READ, WRITE, FCHMOD } call;

int __real_close(int fd);
int __real_rename(const char *from, const char *to);
int __real_fsync(int fd);
off_t __real_lseek(int fd, off_t offset, int whence);
ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
int __real_fchmod(int fd, mode_t mode);
int __wrap_close(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_fsync(int fd);
off_t __wrap_lseek(int fd, off_t offset, int whence);
off_t __wrap_lseek64(int fd, off_t offset, int whence);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __wrap_fchmod(int fd, mode_t mode);

/* The nth call of this kind fails, once. */
static struct {
    call call;
    int nth, error;
} planned;
static size_t most_at_once; /* of a write */
static bool garbles;        /* writes other bytes than it is given */

static bool goes_wrong(call which)
{
    if (which != planned.call || --planned.nth) return false;
    errno = planned.error;
    return true;
}

/* A descriptor is closed all the same, as Linux does. */
int __wrap_close(int fd)
{
    int code = __real_close(fd);
    return goes_wrong(CLOSE) ? -1 : code;
}

int __wrap_rename(const char *from, const char *to)
{
    return goes_wrong(RENAME) ? -1 : __real_rename(from, to);
}

int __wrap_fsync(int fd)
{
    return goes_wrong(FSYNC) ? -1 : __real_fsync(fd);
}

off_t __wrap_lseek(int fd, off_t offset, int whence)
{
    return goes_wrong(LSEEK) ? -1 : __real_lseek(fd, offset, whence);
}

/* What glibc calls it where offsets have 64 bits. */
off_t __wrap_lseek64(int fd, off_t offset, int whence)
{
    return __wrap_lseek(fd, offset, whence);
}

ssize_t __wrap_read(int fd, void *data, size_t size)
{
    return goes_wrong(READ) ? -1 : __real_read(fd, data, size);
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    static const char other[16] = "";
    if (goes_wrong(WRITE)) return -1;
    if (garbles && size <= sizeof other) data = other;
    return __real_write(fd, data, size < most_at_once ? size : most_at_once);
}

int __wrap_fchmod(int fd, mode_t mode)
{
    return goes_wrong(FCHMOD) ? -1 : __real_fchmod(fd, mode);
}

/* "XbcdEF" in three writes, the last after the first byte was patched. */
static tvlm_status write_it(const char *path, tvlm_error *err)
{
    app_output *o;
    APP_TRY(app_output_open(path, NULL, &o, err));
    tvlm_status status = app_output_write(o, "abcd", 4, err);
    if (!status) status = app_output_patch(o, 0, "X", 1, err);
    if (!status) status = app_output_write(o, "EF", 2, err);
    if (!status) return app_output_finish(o, NULL, NULL, err);
    app_output_abort(o);
    return status;
}

/* The same bytes, by the library. */
static tvlm_status save_it(const char *path, tvlm_error *err)
{
    tvlm_writer w;
    tvlm_status status = tvlm_writer_open(path, &w, err);
    if (!status) status = tvlm_writer_put(&w, "Xbcd", 4, err);
    if (!status) status = tvlm_writer_put(&w, "EF", 2, err);
    if (!status) status = tvlm_writer_commit(&w, err);
    tvlm_writer_close(&w);
    return status;
}

typedef tvlm_status (*work)(const char *path, tvlm_error *err);

static tvlm_status run_with(work run, const char *path, call which, int nth, int error,
                            tvlm_error *err)
{
    size_t open_before = n_entries("/proc/self/fd"), n_before = n_entries(FOLDER);
    *err = (tvlm_error){0};
    planned.call = which, planned.nth = nth, planned.error = error;
    tvlm_status status = run(path, err);
    planned.call = NO_CALL;
    assert_int_equal(n_entries("/proc/self/fd"), open_before);
    assert_int_equal(n_entries(FOLDER), n_before);
    return status;
}

static tvlm_status write_with(const char *path, call which, int nth, int error, tvlm_error *err)
{
    return run_with(write_it, path, which, nth, error, err);
}

typedef struct file_case {
    call call;
    int nth, error;
    const char *message; /* NULL: the write succeeds */
} file_case;

static const file_case file_cases[] = {
    {WRITE,  1, ENOSPC, "/out: cannot write: No space left on device"                 },
    {WRITE,  2, EIO,    "/out: cannot write: Input/output error"                      },
    {WRITE,  3, EDQUOT, "/out: cannot write: Disk quota exceeded"                     },
    {WRITE,  1, EINTR,  NULL                                                          },
    {LSEEK,  1, EIO,    "/out: cannot write: Input/output error"                      },
    {LSEEK,  2, EIO,    "/out: cannot write: Input/output error"                      },
    {FSYNC,  1, EIO,    "/out: cannot write: Input/output error"                      },
    {FSYNC,  1, EINVAL, NULL                                                          }, /* there is nothing to sync */
    {CLOSE,  1, ENOSPC, "/out: cannot write: No space left on device"                 },
    {CLOSE,  1, EIO,    "/out: cannot write: Input/output error"                      },
    {CLOSE,  1, EINTR,  NULL                                                          },
    {RENAME, 1, EACCES, "/out: cannot write: Permission denied"                       },
    {RENAME, 1, EXDEV,  "/out: cannot write: Invalid cross-device link"               },
    {RENAME, 1, EBUSY,  "/out: cannot be replaced, it is in use or a mount of its own"},
    {FCHMOD, 1, EPERM,  "/out: cannot write: Operation not permitted"                 },
};

static void expect_case(work run, const file_case *c, tvlm_status failure)
{
    tvlm_error err;
    put_text(OUT, "old");
    assert_int_equal(chmod(OUT, 0640), 0); /* not what a temporary has */
    tvlm_status status = run_with(run, OUT, c->call, c->nth, c->error, &err);
    assert_true(planned.nth <= 0); /* that call came */
    assert_int_equal(status, c->message ? failure : TVLM_OK);
    if (c->message && !strstr(err.message, c->message))
        fail_msg("'%s' does not say '%s'", err.message, c->message);
    expect_text(OUT, c->message ? "old" : "XbcdEF");
}

static void files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof file_cases / sizeof *file_cases; i++)
        expect_case(write_it, &file_cases[i], APP_ERR_WRITE);
}

static void saved_files(void **state)
{
    (void)state;
    static const file_case cases[] = {
        {WRITE,  1, ENOSPC, "/out: cannot write: No space left on device"},
        {WRITE,  2, EIO,    "/out: cannot write: Input/output error"     },
        {WRITE,  2, EINTR,  NULL                                         },
        {FSYNC,  1, EIO,    "/out: cannot write: Input/output error"     },
        {RENAME, 1, EACCES, "/out: cannot write: Permission denied"      },
    };
    tvlm_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_case(save_it, &cases[i], TVLM_ERR_IO);
    put_text(OUT, "old");
    garbles = true; /* a disk that keeps something else is found out before the rename */
    assert_int_equal(run_with(save_it, OUT, NO_CALL, 0, 0, &err), TVLM_ERR_IO);
    garbles = false;
    assert_non_null(strstr(err.message, "/out: what is read back is not what was written"));
    most_at_once = 0;
    assert_int_equal(run_with(save_it, OUT, NO_CALL, 0, 0, &err), TVLM_ERR_IO);
    assert_non_null(strstr(err.message, "No space left on device"));
    expect_text(OUT, "old");
    most_at_once = 1;
    assert_int_equal(run_with(save_it, OUT, NO_CALL, 0, 0, &err), TVLM_OK);
    expect_text(OUT, "XbcdEF");
    put_text(OUT, "old");
    fail_call(1);
    assert_int_equal(save_it(OUT, &err), TVLM_ERR_MEMORY);
    failing = 0;
    assert_int_equal(live, 0);
    expect_text(OUT, "old");
    assert_int_equal(n_entries(FOLDER), 1);
}

static void short_writes(void **state)
{
    (void)state;
    tvlm_error err;
    put_text(OUT, "old");
    most_at_once = 1;
    assert_int_equal(write_with(OUT, NO_CALL, 0, 0, &err), TVLM_OK);
    most_at_once = SIZE_MAX;
    expect_text(OUT, "XbcdEF");
    most_at_once = 0; /* no progress is no success */
    assert_int_equal(write_with(OUT, NO_CALL, 0, 0, &err), APP_ERR_WRITE);
    most_at_once = SIZE_MAX;
    assert_non_null(strstr(err.message, "No space left on device"));
    expect_text(OUT, "XbcdEF");
}

/* From a temporary into a device: whose failure it was is said. */
static void streams(void **state)
{
    (void)state;
    static const struct {
        call call;
        int nth;
        const char *message;
    } cases[] = {
        {WRITE, 1, "/dev/null: cannot write its temporary file in " FOLDER ": Input/output error"},
        {LSEEK, 3, "/dev/null: cannot write its temporary file in " FOLDER ": Input/output error"},
        {READ,  1, "/dev/null: cannot write: Input/output error"                                 },
        {WRITE, 4, "/dev/null: cannot write: Input/output error"                                 },
        {FSYNC, 1, "/dev/null: cannot write: Input/output error"                                 },
    };
    tvlm_error err;
    assert_int_equal(setenv("TMPDIR", FOLDER, 1), 0);
    assert_int_equal(write_with("/dev/null", NO_CALL, 0, 0, &err), TVLM_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tvlm_status status = write_with("/dev/null", cases[i].call, cases[i].nth, EIO, &err);
        assert_true(planned.nth <= 0);
        assert_int_equal(status, APP_ERR_WRITE);
        if (!strstr(err.message, cases[i].message))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].message);
    }
}

/* Each allocation fails in turn. */
static void memory(void **state)
{
    (void)state;
    remove(FOLDER "/link");
    assert_int_equal(symlink("out", FOLDER "/link"), 0);
    put_text(OUT, "old");
    tvlm_error err = {0};
    fail_call(0);
    assert_int_equal(write_it(FOLDER "/link", &err), TVLM_OK);
    expect_text(OUT, "XbcdEF");
    put_text(OUT, "old");
    size_t n = calls;
    assert_true(n >= 4); /* the output, its name, its buffer, the link's target */
    for (size_t i = 1; i <= n; i++) {
        err = (tvlm_error){0};
        fail_call(i);
        tvlm_status status = write_it(FOLDER "/link", &err);
        failing = 0;
        assert_int_not_equal(status, TVLM_OK);
        assert_true(strstr(err.message, "out of memory writing") ||
                    strstr(err.message, "Cannot allocate memory"));
        assert_int_equal(live, 0);
        expect_text(OUT, "old");
        assert_int_equal(n_entries(FOLDER), 2);
    }
    remove(FOLDER "/link");
}

/* An input that could not be compared is not taken for another file. */
static void memory_of_a_comparison(void **state)
{
    (void)state;
    tvlm_error err = {0};
    put_text(OUT, "input");
    fail_call(0);
    assert_int_equal(app_output_not_input(OUT, FOLDER, &err), TVLM_ERR_ARGUMENT);
    size_t n = calls;
    assert_true(n >= 1);
    for (size_t i = 1; i <= n; i++) {
        fail_call(i);
        assert_int_equal(app_output_not_input(OUT, FOLDER, &err), TVLM_ERR_MEMORY);
        failing = 0;
        assert_non_null(strstr(err.message, FOLDER ": cannot list: Cannot allocate memory"));
        assert_int_equal(live, 0);
    }
}

static int setup(void **state)
{
    (void)state;
    most_at_once = SIZE_MAX;
    return system("rm -rf " FOLDER " && mkdir " FOLDER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(files, setup),
        cmocka_unit_test_setup(saved_files, setup),
        cmocka_unit_test_setup(short_writes, setup),
        cmocka_unit_test_setup(streams, setup),
        cmocka_unit_test_setup(memory, setup),
        cmocka_unit_test_setup(memory_of_a_comparison, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
