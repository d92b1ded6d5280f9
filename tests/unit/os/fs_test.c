/* SPDX-License-Identifier: MIT
 * fs_test.c — goal: the real file system does what fs.h says, errors included.
 * Method: a fresh folder under TMPDIR; each function of the table, then the helpers on top. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "os/fs.h"
#include "temp_folder.h"

static void write_read_size(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct os_file f;
    struct err e = {0};
    assert_int_equal(fs->open(fs, temp_path("a"), FS_READ, &f, &e), E_NOT_FOUND);
    assert_non_null(strstr(e.msg, "/a"));
    assert_int_not_equal(e.sys, 0);
    assert_int_equal(fs->open(fs, temp_path("a"), FS_WRITE | FS_CREATE | FS_EXCL, &f, &e), OK);
    assert_int_equal(fs->write_at(&f, "world", 5, 6, &e), OK);
    assert_int_equal(fs->write_at(&f, "hello ", 6, 0, &e), OK);
    assert_int_equal(fs->data_sync(&f, &e), OK);
    assert_int_equal(fs->full_sync(&f, &e), OK);
    uint64_t bytes;
    assert_int_equal(fs->size(&f, &bytes, &e), OK);
    assert_int_equal(bytes, 11);
    char text[32] = {0};
    size_t got;
    assert_int_equal(fs->read_at(&f, text, sizeof text, 0, &got, &e), OK);
    assert_int_equal(got, 11);
    assert_string_equal(text, "hello world");
    assert_int_equal(fs->read_at(&f, text, 4, 9, &got, &e), OK);
    assert_int_equal(got, 2);
    assert_int_equal(fs->read_at(&f, text, 4, 100, &got, &e), OK);
    assert_int_equal(got, 0);
    fs->close(&f);
    fs->close(&f); /* a closed file is safe to close */

    struct stat info;
    assert_int_equal(stat(temp_path("a"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(fs->open(fs, temp_path("a"), FS_WRITE | FS_CREATE | FS_EXCL, &f, &e),
                     E_EXISTS);
    assert_int_equal(fs->open(fs, temp_path("a"), FS_READ, &f, &e), OK);
    assert_int_not_equal(fs->write_at(&f, "x", 1, 0, &e), OK); /* opened for reading */
    fs->close(&f);
}

static void allocate_grows_and_never_shrinks(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct os_file f;
    struct err e = {0};
    uint64_t bytes;
    assert_int_equal(fs->open(fs, temp_path("grow"), FS_WRITE | FS_CREATE, &f, &e), OK);
    assert_int_equal(fs->allocate(&f, 100000, &e), OK);
    assert_int_equal(fs->size(&f, &bytes, &e), OK);
    assert_int_equal(bytes, 100000);
    assert_int_equal(fs->allocate(&f, 10, &e), OK);
    assert_int_equal(fs->size(&f, &bytes, &e), OK);
    assert_int_equal(bytes, 100000);
    assert_int_not_equal(fs->allocate(&f, UINT64_MAX, &e), OK);
    fs->close(&f);
}

static void a_map_outlives_close_and_unlink(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct os_file f;
    struct err e = {0};
    assert_int_equal(fs->open(fs, temp_path("map"), FS_WRITE | FS_CREATE, &f, &e), OK);
    char page[8192];
    memset(page, 'm', sizeof page);
    assert_int_equal(fs->write_at(&f, page, sizeof page, 0, &e), OK);
    const void *p;
    assert_int_equal(fs->map(&f, 0, &p, &e), E_INVALID);
    assert_int_equal(fs->map(&f, sizeof page, &p, &e), OK);
    fs->close(&f);
    assert_int_equal(fs->unlink(fs, temp_path("map"), &e), OK);
    enum status st = os_map_populate((const char *)p + 5, 5000, &e);
    assert_true(st == OK || st == E_UNSUPPORTED);
    os_map_advise(p, sizeof page, MAP_ADVISE_SEQUENTIAL);
    os_map_advise(p, sizeof page, MAP_ADVISE_DONTNEED);
    assert_memory_equal(p, page, sizeof page);
    fs->unmap(fs, p, sizeof page);
}

/* What a truncated segment looks like to the store: an error, not a signal. */
static void populate_beyond_the_end_of_file_is_an_error(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct os_file f;
    struct err e = {0};
    const void *p;
    assert_int_equal(fs->open(fs, temp_path("cut"), FS_WRITE | FS_CREATE, &f, &e), OK);
    assert_int_equal(fs->allocate(&f, 4 * 65536, &e), OK);
    assert_int_equal(fs->map(&f, 4 * 65536, &p, &e), OK);
    assert_int_equal(ftruncate(f.fd, 65536), 0);
    enum status st = os_map_populate(p, 65536, &e);
    assert_true(st == OK || st == E_UNSUPPORTED);
    enum status beyond = os_map_populate((const char *)p + 2 * 65536, 65536, &e);
    assert_int_equal(beyond, st == OK ? E_IO : E_UNSUPPORTED);
    fs->unmap(fs, p, 4 * 65536);
    fs->close(&f);
}

static void a_lock_belongs_to_the_open_file(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct os_file a, b;
    struct err e = {0};
    assert_int_equal(fs->open(fs, temp_path("LOCK"), FS_WRITE | FS_CREATE, &a, &e), OK);
    assert_int_equal(fs->open(fs, temp_path("LOCK"), FS_WRITE | FS_CREATE, &b, &e), OK);
    assert_int_equal(fs->lock(&a, &e), OK);
    assert_int_equal(fs->lock(&a, &e), OK);
    assert_int_equal(fs->lock(&b, &e), E_BUSY);
    fs->close(&a);
    assert_int_equal(fs->lock(&b, &e), OK);
    fs->close(&b);
}

static enum status count_entry(const char *name, void *arg)
{
    assert_string_not_equal(name, ".");
    assert_string_not_equal(name, "..");
    return ++*(int *)arg >= 3 ? E_CANCELLED : OK;
}

static void folders(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct err e = {0};
    int count = 0;
    assert_int_equal(fs_make_dirs(fs, temp_path("x//y/z/"), &e), OK);
    assert_int_equal(fs_make_dirs(fs, temp_path("x/y/z"), &e), OK);
    assert_int_equal(fs_make_dirs(fs, "", &e), E_INVALID);
    assert_int_equal(fs->list(fs, temp_path("x"), count_entry, &count, &e), OK);
    assert_int_equal(count, 1);
    assert_int_equal(fs->sync_dir(fs, temp_path("x"), &e), OK);
    assert_int_equal(fs->sync_dir(fs, temp_path("none"), &e), E_NOT_FOUND);
    assert_int_equal(fs->list(fs, temp_path("none"), count_entry, &count, &e), E_NOT_FOUND);

    assert_int_equal(fs_write_file(fs, temp_path("x/file"), "1", 1, &e), OK);
    assert_int_equal(fs->make_dir(fs, temp_path("x/file"), &e), E_EXISTS);
    assert_int_equal(fs->rename(fs, temp_path("x/file"), temp_path("x/other"), &e), OK);
    assert_int_equal(fs->unlink(fs, temp_path("x/file"), &e), E_NOT_FOUND);
    assert_int_equal(fs_write_file(fs, temp_path("x/third"), "1", 1, &e), OK);
    count = 0;
    assert_int_equal(fs->list(fs, temp_path("x"), count_entry, &count, &e), E_CANCELLED);
    assert_int_equal(fs->unlink(fs, temp_path("x/other"), &e), OK);
    assert_int_equal(fs->unlink(fs, temp_path("x/third"), &e), OK);
    assert_int_equal(rmdir(temp_path("x/y/z")), 0);
    assert_int_equal(rmdir(temp_path("x/y")), 0);

    uint64_t free_bytes, total;
    assert_int_equal(fs->free_bytes(fs, temp_folder, &free_bytes, &total, &e), OK);
    assert_true(free_bytes <= total && total > 0);
}

static void whole_files(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    struct err e = {0};
    char *text;
    size_t len;
    assert_int_equal(fs_write_file(fs, temp_path("w"), "long content", 12, &e), OK);
    /* A leftover of a crash, longer than the new content. */
    assert_int_equal(fs_write_file(fs, temp_path("w.tmp"), "xxxxxxxxxxxxxxxxxxxx", 20, &e), OK);
    assert_int_equal(fs_write_file(fs, temp_path("w"), "short", 5, &e), OK);
    assert_int_equal(access(temp_path("w.tmp"), F_OK), -1);
    assert_int_equal(fs_read_file(fs, temp_path("w"), 5, &text, &len, &e), OK);
    assert_int_equal(len, 5);
    assert_string_equal(text, "short");
    mem_free(text);
    assert_int_equal(fs_read_file(fs, temp_path("w"), 4, &text, &len, &e), E_LIMIT);
    assert_int_equal(fs_read_file(fs, temp_path("none"), 4, &text, &len, &e), E_NOT_FOUND);
    assert_int_not_equal(fs_read_file(fs, temp_folder, 100, &text, &len, &e), OK);
    assert_int_equal(fs_write_file(fs, temp_path("no/such/folder"), "1", 1, &e), E_NOT_FOUND);
    assert_int_equal(fs_write_file(fs, temp_path("empty"), NULL, 0, &e), OK);
    assert_int_equal(fs_read_file(fs, temp_path("empty"), 0, &text, &len, &e), OK);
    assert_int_equal(len, 0);
    mem_free(text);
    /* A file whose size() is 0 though it has content. */
    assert_int_equal(fs_read_file(fs, "/proc/self/status", 1 << 20, &text, &len, &e), OK);
    assert_true(len > 100 && strlen(text) == len);
    mem_free(text);
    assert_int_equal(fs_read_file(fs, "/proc/self/status", 10, &text, &len, &e), E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_read_size),
        cmocka_unit_test(allocate_grows_and_never_shrinks),
        cmocka_unit_test(a_map_outlives_close_and_unlink),
        cmocka_unit_test(populate_beyond_the_end_of_file_is_an_error),
        cmocka_unit_test(a_lock_belongs_to_the_open_file),
        cmocka_unit_test(folders),
        cmocka_unit_test(whole_files),
    };
    return cmocka_run_group_tests(tests, temp_folder_make, temp_folder_remove);
}
