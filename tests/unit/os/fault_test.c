/* SPDX-License-Identifier: MIT
 * A mapped file that shrinks: inside a guard reads give zeros and are counted; outside, the process
 * dies of SIGBUS as it would have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/fault.h"
#include "os/fs.h"

#define BYTES (64u * 1024)

static const volatile uint8_t *map_of_ones(int *fd)
{
    char path[] = "/tmp/kvasir-fault-XXXXXX", ones[4096];
    *fd = mkstemp(path);
    assert_true(*fd >= 0);
    unlink(path);
    memset(ones, 1, sizeof ones);
    for (unsigned i = 0; i < BYTES; i += sizeof ones)
        assert_int_equal(pwrite(*fd, ones, sizeof ones, i), sizeof ones);
    void *p = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, *fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static void test_guarded(void **state)
{
    (void)state;
    int fd;
    struct err e;
    const volatile uint8_t *p = map_of_ones(&fd);
    assert_int_equal(os_fault_guard_add((const void *)p, BYTES, &e), OK);
    uint64_t before = os_fault_count();
    assert_int_equal(p[40000], 1);
    assert_int_equal(ftruncate(fd, 8192), 0);
    assert_int_equal(p[100], 1);
    assert_int_equal(os_fault_count(), before);
    assert_int_equal(p[40000], 0);
    assert_int_equal(os_fault_count(), before + 1);
    assert_int_equal(p[40001], 0); /* the page is there now */
    assert_int_equal(os_fault_count(), before + 1);
    assert_int_equal(p[20000], 0);
    assert_int_equal(os_fault_count(), before + 2);
    assert_int_equal(os_map_populate((const void *)(p + 49152), 4096, &e), E_IO);
    assert_int_equal(os_fault_count(), before + 2);
    os_fault_guard_remove((const void *)p);
    munmap((void *)(uintptr_t)p, BYTES);
    close(fd);
}

static void test_written_where_there_is_no_space(void **state)
{
    (void)state;
    int fd;
    struct err e;
    munmap((void *)(uintptr_t)map_of_ones(&fd), BYTES);
    volatile uint8_t *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(os_fault_guard_add_writable((void *)(uintptr_t)p, BYTES, &e), OK);
    assert_int_equal(ftruncate(fd, 8192), 0);
    p[100] = 7;
    assert_int_equal(os_fault_count_in((const void *)p), 0);
    p[40000] = 8; /* kept, beside zeros, in memory */
    assert_int_equal(p[40000], 8);
    assert_int_equal(p[40001], 0);
    assert_int_equal(os_fault_count_in((const void *)p), 1);
    assert_int_equal(os_map_read_only((void *)(uintptr_t)p, BYTES, &e), OK);
    assert_int_equal(p[100], 7);
    assert_int_equal(p[40000], 8);
    os_fault_guard_remove((const void *)p);
    munmap((void *)(uintptr_t)p, BYTES);
    close(fd);
}

static void test_unguarded_dies(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd;
        struct err e;
        signal(SIGBUS, SIG_DFL);
        const volatile uint8_t *p = map_of_ones(&fd), *q = map_of_ones(&fd);
        if (os_fault_guard_add((const void *)p, BYTES, &e) != OK || ftruncate(fd, 0) != 0)
            _exit(1);
        uint8_t byte = q[30000];
        _exit(byte + 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

/* Slots are used again. */
static void test_many(void **state)
{
    (void)state;
    static char place[4096];
    struct err e;
    for (unsigned i = 0; i < 3 * OS_FAULT_RANGES_MAX; i++) {
        assert_int_equal(os_fault_guard_add(place, sizeof place, &e), OK);
        os_fault_guard_remove(place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guarded), cmocka_unit_test(test_written_where_there_is_no_space),
        cmocka_unit_test(test_unguarded_dies), cmocka_unit_test(test_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
