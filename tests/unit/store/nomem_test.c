/* SPDX-License-Identifier: MIT
 * Goal: no failing allocation loses what was acknowledged, gives wrong bytes, or ends the process.
 * Method: the scripted workload on the simulated disk with the n-th allocation that may fail, ours
 * or SQLite's, failing: n = 0, 1, 2, … until a run passes untouched; once, three times in a row, or
 * from then on.  Then memory is back, the store is opened again, compared and verified.
 * --rounds N: N above 10,000 takes every n, else every STRIDE-th from a start that differs. */
#include <sqlite3.h>

#include "fs_sim.h"
#include "store_model.h"

#define DIR    "/sim/store"
#define STEPS  12
#define STRIDE 5

static uint64_t stride = STRIDE;

static const struct store_options options = {.max_bytes = 200u << 10,
                                             .segment_bytes = 64u << 10,
                                             .keep_free_bytes = 1,
                                             .scrub_bytes_per_s = 1u << 20};

/* ---- SQLite's allocator, asked the same question ---- */
static sqlite3_mem_methods real_memory;

static void *new_memory(int n)
{
    return mem_try_passes() ? real_memory.xMalloc(n) : NULL;
}

static void *resize_memory(void *p, int n)
{
    return mem_try_passes() ? real_memory.xRealloc(p, n) : NULL;
}

static void take_over_sqlite(void)
{
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory), SQLITE_OK);
    sqlite3_mem_methods mine = real_memory;
    mine.xMalloc = new_memory;
    mine.xRealloc = resize_memory;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &mine), SQLITE_OK);
}

/* True: nothing failed. */
static bool run_script(struct model *m, struct fs_sim *sim, uint64_t n, uint64_t times)
{
    struct store *s = NULL;
    struct err e;
    fs_sim_use(sim);
    mem_fail_tries(n, times);
    if (store_open(fs_sim_fs(sim), DIR, &options, &s, &e) != OK)
        s = NULL;
    for (uint64_t step = 0; step < STEPS && s; step++)
        model_step(m, fs_sim_fs(sim), DIR, &options, &s, step);
    store_close(s);
    bool is_untouched = mem_try_count() <= n;
    mem_fail_tries(0, 0);
    return is_untouched;
}

static void check(struct model *m, struct fs_sim *sim, const char *when)
{
    struct store *s = NULL;
    struct store_verify_report report;
    struct err e = {0};
    if (store_open(fs_sim_fs(sim), DIR, &options, &s, &e) != OK)
        fail_msg("%s: does not open: %s", when, e.msg);
    model_check(m, s, when);
    store_close(s);
    if (store_verify(fs_sim_fs(sim), DIR, kit_print_bad, NULL, &report, &e) != OK)
        fail_msg("%s: verify: %s", when, e.msg);
    if (report.n_bad > 0)
        fail_msg("%s: verify: %llu bad", when, (unsigned long long)report.n_bad);
}

static void sweep(uint64_t seed, uint64_t times)
{
    uint64_t n_states = 0, n = seed % stride;
    for (bool is_over = false; !is_over; n += stride, n_states++) {
        struct model m;
        char when[100];
        snprintf(when, sizeof when, "seed %llu, allocation %llu fails %s", (unsigned long long)seed,
                 (unsigned long long)n, times == 1 ? "once" : "on");
        model_init(&m, seed, true);
        struct fs_sim *sim = fs_sim_new(seed);
        is_over = run_script(&m, sim, n, times);
        check(&m, sim, when);
        fs_sim_free(sim);
        assert_true(n_states < 1000000);
    }
    print_message("seed %llu: %llu states of %llu allocations\n", (unsigned long long)seed,
                  (unsigned long long)n_states, (unsigned long long)n);
    assert_true(n_states > 3);
}

static void test_one_fails(void **state)
{
    (void)state;
    sweep(5, 1);
    sweep(6, 1);
}

static void test_three_fail(void **state)
{
    (void)state;
    sweep(7, 3);
}

static void test_all_fail_from_n_on(void **state)
{
    (void)state;
    sweep(8, UINT64_MAX);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0 && strtol(argv[2], NULL, 10) > 10000)
        stride = 1;
    kit_quiet();
    take_over_sqlite();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_fails),
        cmocka_unit_test(test_three_fail),
        cmocka_unit_test(test_all_fail_from_n_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
