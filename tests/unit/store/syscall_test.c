/* SPDX-License-Identifier: MIT
 * Goal: the real file system's calls may be interrupted, cut short, or fail, at any one of them,
 * and nothing acknowledged is lost: EINTR and short transfers are invisible, EIO and ENOSPC are
 * statuses. Method: the linker puts the functions below between os/fs_real.c and the C library
 * (--wrap, see tests/CMakeLists.txt); the n-th call misbehaves, n = 0, 1, 2, … until the scripted
 * workload runs through.  (SQLite's own calls are not ours to wrap; fault_test has them fail on the
 * simulated disk.) */
#include <fcntl.h>
#include <stdatomic.h>

#include "store_model.h"

#define STEPS  30
#define STRIDE 3 /* every 3rd call here; --rounds 1000000 takes all */

static uint64_t stride = STRIDE;

static const struct store_options options = {
    .max_bytes = 400u << 10, .segment_bytes = 128u << 10, .keep_free_bytes = 1};

/* ---- misbehaving on purpose ---- */
enum trouble { TROUBLE_NONE, TROUBLE_EINTR, TROUBLE_SHORT, TROUBLE_EIO, TROUBLE_ENOSPC };
static _Atomic uint64_t n_calls;
static uint64_t bad_call;
static enum trouble trouble;
static _Atomic uint64_t n_hits;

/* What the present call does wrong. */
static enum trouble next(void)
{
    if (trouble == TROUBLE_NONE)
        return TROUBLE_NONE;
    uint64_t i = atomic_fetch_add(&n_calls, 1);
    /* Interruptions come often; the other troubles once. */
    bool is_bad =
        trouble <= TROUBLE_SHORT ? i >= bad_call && (i - bad_call) % 5 == 0 : i == bad_call;
    if (is_bad)
        atomic_fetch_add(&n_hits, 1);
    return is_bad ? trouble : TROUBLE_NONE;
}

static bool fails(enum trouble t)
{
    errno = t == TROUBLE_EINTR ? EINTR : t == TROUBLE_EIO ? EIO : ENOSPC;
    return t != TROUBLE_NONE && t != TROUBLE_SHORT;
}

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
    enum trouble t = next();
    if (fails(t))
        return -1;
    return __real_pwrite(fd, p, t == TROUBLE_SHORT && n > 1 ? n / 2 : n, at);
}

ssize_t __real_pread(int fd, void *p, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t at)
{
    enum trouble t = next();
    if (fails(t))
        return -1;
    return __real_pread(fd, p, t == TROUBLE_SHORT && n > 1 ? n / 2 : n, at);
}

#define WRAP(name, parameters, ...)        \
    int __real_##name parameters;          \
    int __wrap_##name parameters;          \
    int __wrap_##name parameters           \
    {                                      \
        if (fails(next()))                 \
            return -1;                     \
        return __real_##name(__VA_ARGS__); \
    }
WRAP(fdatasync, (int fd), fd)
WRAP(fsync, (int fd), fd)
WRAP(fallocate, (int fd, int mode, off_t at, off_t n), fd, mode, at, n)

/* ---- the sweep ---- */
static bool run_script(struct model *m, const char *dir, uint64_t n, enum trouble t)
{
    struct store *s = NULL;
    struct err e;
    atomic_store(&n_calls, 0);
    bad_call = n;
    trouble = t;
    if (store_open(os_fs_real(), dir, &options, &s, &e) != OK)
        s = NULL;
    for (uint64_t step = 0; step < STEPS && s; step++)
        model_step(m, os_fs_real(), dir, &options, &s, step);
    store_close(s);
    trouble = TROUBLE_NONE;
    return atomic_load(&n_calls) <= n;
}

static void sweep(enum trouble t, uint64_t seed)
{
    uint64_t n_states = 0, n = seed % stride;
    atomic_store(&n_hits, 0);
    for (bool is_over = false; !is_over; n += stride, n_states++) {
        struct model m;
        char dir[256], when[100];
        snprintf(when, sizeof when, "trouble %d at call %llu", (int)t, (unsigned long long)n);
        kit_dir(dir);
        model_init(&m, seed, true);
        is_over = run_script(&m, dir, n, t);
        struct store *s = kit_open(dir, &options);
        if (t <= TROUBLE_SHORT) /* nobody may have noticed */
            for (uint32_t i = 0; i < MODEL_RECORDS; i++)
                if (m.at[i].asked != 0)
                    fail_msg("%s: record %u was refused", when, i);
        model_check(&m, s, when);
        store_close(s);
        assert_int_equal(kit_verify(dir), 0);
        kit_remove(dir);
    }
    print_message("%llu states of %llu calls, %llu troubles\n", (unsigned long long)n_states,
                  (unsigned long long)n, (unsigned long long)atomic_load(&n_hits));
    assert_true(atomic_load(&n_hits) > 10);
}

static void test_interrupted(void **state)
{
    (void)state;
    sweep(TROUBLE_EINTR, 21);
}

static void test_cut_short(void **state)
{
    (void)state;
    sweep(TROUBLE_SHORT, 22);
}

static void test_io_error(void **state)
{
    (void)state;
    sweep(TROUBLE_EIO, 23);
}

static void test_no_space(void **state)
{
    (void)state;
    sweep(TROUBLE_ENOSPC, 24);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0 && strtol(argv[2], NULL, 10) > 10000)
        stride = 1;
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_io_error),
        cmocka_unit_test(test_no_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
