/* SPDX-License-Identifier: MIT
 * Goal: look-ups, pins, touches, quarantines and puts from several threads, while the store thread
 * evicts and reclaims, never give wrong bytes and never wait for each other for ever.
 * Method: a budget far too small, so that everything moves all the time.  Run under tsan too. */
#include <stdatomic.h>

#include "base/check.h"
#include "os/team.h"
#include "store_kit.h"

#define PAGES   200
#define READERS 3
#define SECONDS 2

static const struct store_options options = {
    .max_bytes = 1u << 20, .segment_bytes = 64u << 10, .keep_free_bytes = 1};

static struct store *shared;
static atomic_bool is_over;
static atomic_uint n_right, n_missed, n_wrong, n_put;

static struct kit_record page_of(uint32_t number)
{
    return (struct kit_record){.kind = RECORD_PAGE,
                               .number = number,
                               .n_chunks = 2,
                               .chunk_bytes = 3000 + 50 * number,
                               .depth = number % 20};
}

static void reader(void *arg)
{
    struct prng r = {(uint64_t)(uintptr_t)arg, 0};
    while (!atomic_load(&is_over)) {
        struct kit_record k = page_of((uint32_t)prng_below(&r, PAGES));
        struct digest key = kit_key(&k), keys[2];
        switch (kit_get(shared, &k, NULL)) {
        case KIT_RIGHT:
            atomic_fetch_add(&n_right, 1);
            break;
        case KIT_MISS:
            atomic_fetch_add(&n_missed, 1);
            break;
        default:
            atomic_fetch_add(&n_wrong, 1);
        }
        if (prng_below(&r, 3) == 0)
            store_touch(shared, &key, 1);
        if (prng_below(&r, 50) == 0)
            store_quarantine(shared, &key, "by a test");
        if (prng_below(&r, 20) == 0) {
            struct digest family = kit_digest("family", 0, 0);
            uint32_t n = store_neighbours(shared, &family, key.b, 4, keys);
            CHECK(n <= 2);
        }
    }
}

static void free_put(void *arg, enum status st, const struct err *e)
{
    (void)e;
    if (st == OK)
        atomic_fetch_add(&n_put, 1);
    kit_put_free(arg);
}

static void writer(void *arg)
{
    struct prng r = {(uint64_t)(uintptr_t)arg, 0};
    struct err e;
    while (!atomic_load(&is_over)) {
        struct kit_record k = page_of((uint32_t)prng_below(&r, PAGES));
        struct kit_put *p = kit_put_new(&k);
        p->put.family = kit_digest("family", 0, 0);
        memcpy(p->put.order, p->put.key.b, 8);
        p->put.order_len = 8;
        p->put.done = free_put;
        p->put.arg = p;
        if (store_put(shared, &p->put, &e) != OK) {
            CHECK(e.code == E_BUSY);
            kit_put_free(p);
            clock_sleep_ms(1);
        }
        if (prng_below(&r, 100) == 0)
            store_flush(shared);
        if (prng_below(&r, 500) == 0)
            CHECK(store_collect(shared, &e) == OK);
    }
}

static void test_threads(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct store_stat stat;
    struct os_thread *threads[READERS + 2];
    kit_dir(dir);
    shared = kit_open(dir, &options);
    for (uint32_t i = 0; i < READERS + 2; i++)
        assert_int_equal(thread_start("test", i < READERS ? reader : writer,
                                      (void *)(uintptr_t)(i + 1), &threads[i], &e),
                         OK);
    for (int i = 0; i < SECONDS * 100; i++) {
        store_stat(shared, &stat);
        assert_true(stat.live_bytes[RECORD_PAGE] <= options.max_bytes);
        clock_sleep_ms(10);
    }
    atomic_store(&is_over, true);
    for (uint32_t i = 0; i < READERS + 2; i++)
        thread_join(threads[i]);
    store_close(shared);
    print_message("right %u, missed %u, put %u; evicted %llu, segments reclaimed %llu\n",
                  atomic_load(&n_right), atomic_load(&n_missed), atomic_load(&n_put),
                  (unsigned long long)stat.n_evicted, (unsigned long long)stat.n_compacted);
    assert_int_equal(atomic_load(&n_wrong), 0);
    assert_true(atomic_load(&n_right) > 100);
    assert_true(atomic_load(&n_put) > 100);
    assert_true(stat.n_compacted > 0);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

int main(void)
{
    kit_quiet();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
