/* SPDX-License-Identifier: MIT
 * Goal: half-empty segments are emptied and unlinked in the background while records keep coming,
 * at a bounded rate, and whoever waits for a record is not held up.
 * Method: segments of which two thirds are dead, then a steady stream of acknowledged small
 * records that leaves the store no idle second; counters and waiting times are looked at. */
#include "store_kit.h"

#define SEGMENT     (1u << 20)
#define N_RECORDS   3000u
#define BYTES       16000u
#define STREAM_MS   2000.0
#define ENOUGH      20u        /* segments; some 46 are mostly dead */
#define GIVE_UP_MS  60000.0    /* a sanitized program on a busy machine is slower */
#define SLICE       (4u << 20) /* collect.c's, and how often */
#define SLICE_MS    100.0
#define WAIT_MS_MAX 1000.0 /* a slice takes a few; the rest is for a busy machine */

static const struct store_options options = {
    .max_bytes = 1u << 30, .segment_bytes = SEGMENT, .keep_free_bytes = 1};

static struct kit_record page_of(uint32_t number, uint32_t version)
{
    return (struct kit_record){.kind = RECORD_PAGE,
                               .number = number,
                               .version = version,
                               .n_chunks = 1,
                               .chunk_bytes = BYTES};
}

/* Queued, so that writing takes a moment only. */
static void put_quickly(struct store *s, uint32_t number, uint32_t version)
{
    struct err e;
    struct kit_record k = page_of(number, version);
    struct kit_put *p = kit_put_new(&k);
    p->put.done = NULL;
    assert_int_equal(store_put(s, &p->put, &e), OK);
    store_flush(s);
    kit_put_free(p);
}

/* For as long as it takes, but a while in any case. */
static bool goes_on(uint64_t start, bool is_enough)
{
    double ms = clock_ms_since(start);
    return ms < STREAM_MS || (!is_enough && ms < GIVE_UP_MS);
}

static void test_progress_under_steady_writing(void **state)
{
    (void)state;
    char dir[256];
    struct store_stat before, stat;
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    for (uint32_t i = 0; i < N_RECORDS; i++)
        put_quickly(s, i, 0);
    store_stat(s, &before);
    for (uint32_t i = 0; i < N_RECORDS; i++)
        if (i % 3 != 0)
            put_quickly(s, i, 1); /* what it was before is dead now */
    store_stat(s, &before);
    uint64_t start = clock_now_ns();
    double most_ms = 0;
    uint32_t n = 0;
    stat = before;
    for (; goes_on(start, stat.n_compacted - before.n_compacted >= ENOUGH); n++) {
        struct kit_record k = {
            .kind = RECORD_SESSION, .number = n, .n_chunks = 1, .chunk_bytes = 200};
        uint64_t one = clock_now_ns();
        kit_must_put(s, &k);
        double ms = clock_ms_since(one);
        most_ms = ms > most_ms ? ms : most_ms;
        store_stat(s, &stat);
        assert_true((double)(stat.compacted_bytes - before.compacted_bytes) <=
                    (clock_ms_since(start) / SLICE_MS + 2) * SLICE);
        clock_sleep_ms(5);
    }
    print_message("%u records, the slowest after %.1f ms; %llu KiB copied, %llu segments gone\n", n,
                  most_ms,
                  (unsigned long long)(stat.compacted_bytes - before.compacted_bytes) >> 10,
                  (unsigned long long)(stat.n_compacted - before.n_compacted));
    assert_true(stat.n_compacted - before.n_compacted >= ENOUGH);
    assert_true(most_ms < WAIT_MS_MAX);
    for (uint32_t i = 0; i < N_RECORDS; i++) {
        struct kit_record k = page_of(i, i % 3 != 0);
        kit_must_have(s, &k);
    }
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

/* Records change and go while their segment is being emptied: the list that was made of it is
 * stale, and nothing old comes back. */
static void test_changes_meanwhile(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct prng r = {5, 0};
    uint32_t version[200] = {0};
    bool is_deleted[200] = {0};
    kit_dir(dir);
    struct store_options large = options;
    large.segment_bytes = 16u << 20; /* several slices each */
    struct store *s = kit_open(dir, &large);
    struct kit_record big = page_of(0, 0);
    big.chunk_bytes = 200000;
    struct store_stat stat = {0};
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; goes_on(start, stat.n_compacted >= 3); i++) {
        big.number = i < 200 ? i : (uint32_t)prng_below(&r, 200);
        struct digest key = kit_key(&big);
        if (i >= 200 && prng_below(&r, 8) == 0) {
            assert_int_equal(store_delete_wait(s, &key, &e),
                             is_deleted[big.number] ? E_NOT_FOUND : OK);
            is_deleted[big.number] = true;
        } else {
            big.version = version[big.number] = i < 200 ? 0 : version[big.number] + 1;
            if (big.version > 4000)
                break; /* as many as a record of the kit tells apart */
            kit_must_put(s, &big);
            is_deleted[big.number] = false;
        }
        store_stat(s, &stat);
    }
    store_stat(s, &stat);
    print_message("%llu KiB copied, %llu segments gone\n",
                  (unsigned long long)stat.compacted_bytes >> 10,
                  (unsigned long long)stat.n_compacted);
    assert_true(stat.n_compacted >= 3);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < 200; i++) {
            big.number = i;
            big.version = version[i];
            struct digest key = kit_key(&big);
            if (is_deleted[i])
                assert_false(store_has(s, &key));
            else
                kit_must_have(s, &big);
        }
        store_close(s);
        assert_int_equal(kit_verify(dir), 0);
        assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
        s = kit_open(dir, &large);
    }
    store_close(s);
    kit_remove(dir);
}

int main(void)
{
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress_under_steady_writing),
        cmocka_unit_test(test_changes_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
