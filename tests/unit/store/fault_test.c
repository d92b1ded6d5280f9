/* SPDX-License-Identifier: MIT
 * Goal: no failing call of the file system loses what was acknowledged, and none ends the process.
 * Method: the scripted workload on the simulated disk, with the n-th call failing (n = 0, 1, 2, …
 * until the script passes untouched): once, or from then on; as an I/O error or a full disk; and
 * syncs alone, followed by power loss, because the bytes of a failed sync never reach the disk. */
#include "fs_sim.h"
#include "store_model.h"

#define DIR    "/sim/store"
#define STEPS  25
#define STRIDE 5 /* every 5th call here; --rounds 1000000 takes all */

static uint64_t stride = STRIDE;

static const struct store_options options = {
    .max_bytes = 8u << 20, .segment_bytes = 64u << 10, .keep_free_bytes = 1};

static bool run_script(struct model *m, struct fs_sim *sim)
{
    struct store *s = NULL;
    struct err e;
    fs_sim_use(sim);
    if (store_open(fs_sim_fs(sim), DIR, &options, &s, &e) != OK)
        return false;
    for (uint64_t step = 0; step < STEPS && s; step++)
        model_step(m, fs_sim_fs(sim), DIR, &options, &s, step);
    bool is_whole = s != NULL;
    store_close(s);
    return is_whole;
}

static void check_healed(struct model *m, struct fs_sim *sim, const char *when)
{
    struct store *s = NULL;
    struct store_verify_report report;
    struct err e = {0};
    fs_sim_fail(sim, 0, 0, 0, OK);
    fs_sim_use(sim);
    if (store_open(fs_sim_fs(sim), DIR, &options, &s, &e) != OK)
        fail_msg("%s: does not open: %s", when, e.msg);
    model_check(m, s, when);
    store_close(s);
    if (store_verify(fs_sim_fs(sim), DIR, kit_print_bad, NULL, &report, &e) != OK)
        fail_msg("%s: verify: %s", when, e.msg);
    if (report.n_bad > 0)
        fail_msg("%s: verify: %llu bad", when, (unsigned long long)report.n_bad);
}

static void sweep(unsigned mask, uint64_t times, enum status st, bool lose_power)
{
    char when[160];
    struct model m;
    model_init(&m, 5, false);
    struct fs_sim *sim = fs_sim_new(1);
    assert_true(run_script(&m, sim));
    uint64_t calls = fs_sim_count(sim, mask);
    fs_sim_free(sim);
    uint64_t step = mask == FS_SIM_SYNC ? 1 : stride, n_states = 0;
    for (uint64_t n = times % step; n < calls; n += step, n_states++) {
        snprintf(when, sizeof when, "mask %u call %llu of %llu fails %s with %s", mask,
                 (unsigned long long)n, (unsigned long long)calls, times == 1 ? "once" : "for ever",
                 status_name(st));
        model_init(&m, 5, false);
        sim = fs_sim_new(1);
        fs_sim_fail(sim, mask, n, times, st);
        run_script(&m, sim);
        if (lose_power) {
            struct fs_sim *after = fs_sim_lose_power(sim, n);
            fs_sim_free(sim);
            sim = after;
        }
        check_healed(&m, sim, when);
        fs_sim_free(sim);
    }
    print_message("mask %u: %llu states of %llu calls\n", mask, (unsigned long long)n_states,
                  (unsigned long long)calls);
}

static void test_any_call_fails_once(void **state)
{
    (void)state;
    sweep(FS_SIM_ALL, 1, E_IO, false);
}

static void test_all_calls_fail_from_n_on(void **state)
{
    (void)state;
    sweep(FS_SIM_ALL, UINT64_MAX, E_IO, false);
}

static void test_changes_fail_from_n_on(void **state)
{
    (void)state;
    sweep(FS_SIM_CHANGES, UINT64_MAX, E_IO, true);
}

static void test_disk_full_from_n_on(void **state)
{
    (void)state;
    sweep(FS_SIM_WRITE | FS_SIM_ALLOCATE, UINT64_MAX, E_FULL, false);
    sweep(FS_SIM_WRITE | FS_SIM_ALLOCATE, 1, E_FULL, true);
}

static void test_sync_fails_then_power_is_lost(void **state)
{
    (void)state;
    sweep(FS_SIM_SYNC, 1, E_IO, true);
    sweep(FS_SIM_SYNC, 2, E_IO, true);
    sweep(FS_SIM_SYNC, UINT64_MAX, E_IO, true);
}

/* One failed sync is the store's business alone: the batch goes to a new segment. */
static void test_failed_sync_is_survived(void **state)
{
    (void)state;
    struct store *s = NULL;
    struct err e;
    struct store_stat stat;
    struct kit_record k = {.kind = RECORD_SESSION, .n_chunks = 1, .chunk_bytes = 500};
    struct fs_sim *sim = fs_sim_new(3);
    fs_sim_use(sim);
    assert_int_equal(store_open(fs_sim_fs(sim), DIR, &options, &s, &e), OK);
    for (k.number = 0; k.number < 10; k.number++)
        kit_must_put(s, &k);
    fs_sim_fail(sim, FS_SIM_SYNC, 0, 1, E_IO);
    kit_must_put(s, &k); /* number 10 */
    store_stat(s, &stat);
    assert_int_equal(stat.n_failed_syncs, 1);
    assert_int_equal(stat.n_segments, 2);
    struct fs_sim *after = fs_sim_lose_power(sim, 9);
    store_close(s);
    fs_sim_free(sim);
    fs_sim_use(after);
    assert_int_equal(store_open(fs_sim_fs(after), DIR, &options, &s, &e), OK);
    for (k.number = 0; k.number < 11; k.number++)
        kit_must_have(s, &k);
    /* The failed segment is emptied and goes; the one that names it may go after it. */
    assert_int_equal(store_collect(s, &e), OK);
    for (k.number = 0; k.number < 11; k.number++)
        kit_must_have(s, &k);
    assert_int_equal(fs_sim_file_bytes(after, DIR "/segments/0000000000000001.seg"), 0);
    store_close(s);
    fs_sim_free(after);
}

/* A put that was refused because no sync succeeded must not turn up later, though its bytes lie
 * whole in the page cache: the segments that hold them are named as failed. */
static void test_refused_stays_refused(void **state)
{
    (void)state;
    struct store *s = NULL;
    struct err e;
    struct kit_record k = {.kind = RECORD_SESSION, .n_chunks = 1, .chunk_bytes = 500};
    struct fs_sim *sim = fs_sim_new(3);
    fs_sim_use(sim);
    assert_int_equal(store_open(fs_sim_fs(sim), DIR, &options, &s, &e), OK);
    kit_must_put(s, &k);
    for (uint32_t round = 1; round < 4; round++) {
        k.number = round * 10;
        for (uint64_t n = 0; n < 8; n++) { /* syncs of segments, new and old, and of folders */
            fs_sim_fail(sim, FS_SIM_SYNC, 0, UINT64_MAX, E_IO);
            assert_int_equal(kit_put_wait(s, &k, &e), E_IO);
        }
        fs_sim_fail(sim, 0, 0, 0, OK);
        k.number = round;
        kit_must_put(s, &k);
    }
    store_close(s);
    for (int is_rebuilt = 0; is_rebuilt < 2; is_rebuilt++) {
        if (is_rebuilt)
            assert_int_equal(store_rebuild(fs_sim_fs(sim), DIR, &e), OK);
        assert_int_equal(store_open(fs_sim_fs(sim), DIR, &options, &s, &e), OK);
        for (k.number = 0; k.number < 50; k.number++) {
            struct digest key = kit_key(&k);
            assert_int_equal(store_has(s, &key), k.number < 4);
        }
        store_close(s);
    }
    fs_sim_free(sim);
}

/* Pages leave keep_free_bytes alone; small records may use it; a full disk is a status. */
static void test_disk_full(void **state)
{
    (void)state;
    struct store *s = NULL;
    struct err e;
    struct kit_record page = {.kind = RECORD_PAGE, .n_chunks = 1, .chunk_bytes = 100000};
    struct kit_record session = {.kind = RECORD_SESSION, .n_chunks = 1, .chunk_bytes = 500};
    struct store_options with_reserve = options;
    with_reserve.keep_free_bytes = 2u << 20;
    with_reserve.segment_bytes = 256u << 10;
    struct fs_sim *sim = fs_sim_new(3);
    fs_sim_use(sim);
    fs_sim_capacity(sim, 6u << 20);
    assert_int_equal(store_open(fs_sim_fs(sim), DIR, &with_reserve, &s, &e), OK);
    uint32_t n = 0;
    while (kit_put_wait(s, &page, &e) == OK) {
        page.number = ++n;
        assert_true(n < 100);
    }
    assert_int_equal(e.code, E_FULL);
    assert_true(n > 5);
    for (session.number = 0; session.number < 100; session.number++)
        kit_must_put(s, &session);
    while (kit_put_wait(s, &session, &e) == OK)
        assert_true(++session.number < 10000);
    assert_int_equal(e.code, E_FULL);
    uint32_t n_sessions = session.number;
    for (page.number = 0; page.number < n; page.number++)
        kit_must_have(s, &page);
    /* Space comes back: the store goes on, and nothing acknowledged is missing. */
    fs_sim_capacity(sim, 0);
    kit_must_put(s, &session);
    store_close(s);
    assert_int_equal(store_open(fs_sim_fs(sim), DIR, &with_reserve, &s, &e), OK);
    for (session.number = 0; session.number <= n_sessions; session.number++)
        kit_must_have(s, &session);
    store_close(s);
    fs_sim_free(sim);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0 && strtol(argv[2], NULL, 10) > 10000)
        stride = 1;
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_call_fails_once),
        cmocka_unit_test(test_all_calls_fail_from_n_on),
        cmocka_unit_test(test_changes_fail_from_n_on),
        cmocka_unit_test(test_disk_full_from_n_on),
        cmocka_unit_test(test_sync_fails_then_power_is_lost),
        cmocka_unit_test(test_failed_sync_is_survived),
        cmocka_unit_test(test_refused_stays_refused),
        cmocka_unit_test(test_disk_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
