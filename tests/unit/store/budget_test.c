/* SPDX-License-Identifier: MIT
 * Goal: pages and heads stay within the budget on disk, the right ones go, small records never do,
 * and what is deleted leaves the disk and stays away.
 * Method: many times the budget is put; what is left, and the size of the files, is looked at. */
#include <dirent.h>

#include "store_kit.h"

#define BUDGET  (1u << 20)
#define SEGMENT (128u << 10)

static const struct store_options options = {
    .max_bytes = BUDGET, .segment_bytes = SEGMENT, .keep_free_bytes = 1};

static struct kit_record page_of(uint32_t number)
{
    return (struct kit_record){.kind = RECORD_PAGE,
                               .number = number,
                               .n_chunks = 2,
                               .chunk_bytes = 8000,
                               .depth = number % 10};
}

static struct kit_record kind_of(enum record_kind kind, uint32_t number, uint64_t bytes)
{
    return (struct kit_record){.kind = kind, .number = number, .n_chunks = 1, .chunk_bytes = bytes};
}

static bool is_there(struct store *s, struct kit_record k)
{
    struct digest key = kit_key(&k);
    return store_has(s, &key);
}

static void test_budget_holds(void **state)
{
    (void)state;
    char dir[256];
    struct store_stat stat;
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    for (uint32_t i = 0; i < 20; i++) {
        struct kit_record k = kind_of(RECORD_SESSION, i, 200);
        kit_must_put(s, &k);
    }
    for (uint32_t i = 0; i < 600; i++) { /* 12 MB */
        struct kit_record k = page_of(i);
        kit_must_put(s, &k);
        kit_must_have(s, &k);
        store_stat(s, &stat);
        assert_true(stat.live_bytes[RECORD_PAGE] + stat.live_bytes[RECORD_HEAD] <= BUDGET);
        assert_true(stat.segment_bytes <= BUDGET + 4 * SEGMENT);
    }
    assert_true(stat.n_evicted > 500);
    assert_true(stat.n_compacted > 50);
    print_message("evicted %llu, reclaimed %llu segments, copied %llu KiB of %llu\n",
                  (unsigned long long)stat.n_evicted, (unsigned long long)stat.n_compacted,
                  (unsigned long long)stat.compacted_bytes >> 10,
                  (unsigned long long)stat.written_bytes >> 10);
    assert_true(stat.compacted_bytes < stat.written_bytes * 4 / 10);
    for (uint32_t i = 0; i < 20; i++) {
        struct kit_record k = kind_of(RECORD_SESSION, i, 200);
        kit_must_have(s, &k);
    }
    for (uint32_t i = 590; i < 600; i++) {
        struct kit_record k = page_of(i);
        kit_must_have(s, &k);
    }
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    s = kit_open(dir, &options);
    store_stat(s, &stat);
    assert_true(stat.n_records[RECORD_PAGE] > 30);
    assert_int_equal(stat.n_records[RECORD_SESSION], 20);
    store_close(s);
    kit_remove(dir);
}

/* Heads first, then the longest unused, the deepest among equals; touched ones stay. */
static void test_order_of_eviction(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    struct digest keys[30];
    for (uint32_t i = 0; i < 30; i++) {
        struct kit_record k = page_of(i);
        k.depth = i;
        keys[i] = kit_key(&k);
        kit_must_put(s, &k);
    }
    struct kit_record head = kind_of(RECORD_HEAD, 1, 8000);
    kit_must_put(s, &head);
    clock_sleep_ms(5);
    store_touch(s, keys, 30); /* one chain, used at once: all equally old now */
    struct digest head_key = kit_key(&head);
    store_touch(s, &head_key, 1);
    clock_sleep_ms(5);
    store_touch(s, keys, 12); /* its beginning is used again, by another chain */
    uint32_t n_before = 30;
    for (uint32_t i = 100; i < 160; i++) {
        struct kit_record k = page_of(i);
        k.depth = 0;
        kit_must_put(s, &k);
        uint32_t n = 0;
        for (uint32_t p = 0; p < 30; p++)
            n += store_has(s, &keys[p]);
        if (n < n_before)
            assert_false(is_there(s, head)); /* the head went before any page */
        for (uint32_t p = 0; p < n; p++)
            assert_true(store_has(s, &keys[p])); /* leaves first: what is left is a prefix */
        n_before = n;
    }
    assert_true(n_before < 30);
    (void)e;
    store_close(s);
    kit_remove(dir);
}

static void test_too_large(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    struct kit_record k = kind_of(RECORD_PAGE, 1, BUDGET + 1);
    assert_int_equal(kit_put_wait(s, &k, &e), E_FULL);
    k.kind = RECORD_TOKENS; /* not of the budget */
    kit_must_put(s, &k);
    kit_must_have(s, &k);
    store_close(s);
    kit_remove(dir);
}

static uint64_t folder_bytes(const char *dir)
{
    char path[600];
    uint64_t n = 0;
    snprintf(path, sizeof path, "%s/segments", dir);
    DIR *d = opendir(path);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        struct stat info;
        snprintf(path, sizeof path, "%s/segments/%s", dir, entry->d_name);
        if (entry->d_name[0] != '.' && stat(path, &info) == 0)
            n += (uint64_t)info.st_size;
    }
    closedir(d);
    return n;
}

/* A deleted session's bytes are in no file after a collection, though its segment was mostly alive;
 * and no later rebuild brings it back, wherever its tombstone has gone by then. */
static void test_deleted_bytes_leave(void **state)
{
    (void)state;
    char dir[256], command[700];
    struct err e;
    kit_dir(dir);
    struct store *s = kit_open(dir, &options);
    char secret[] = "the secret of number ....";
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(secret, sizeof secret, "the secret of number %04u", i);
        struct store_chunk chunk = {secret, sizeof secret};
        struct store_put put = {.kind = RECORD_SESSION,
                                .key = kit_digest("secret", i, 0),
                                .chunks = &chunk,
                                .n_chunks = 1};
        assert_int_equal(store_put_wait(s, &put, &e), OK);
    }
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 40; i += 8) {
            struct digest key = kit_digest("secret", i + (uint32_t)round, 0);
            assert_int_equal(store_delete_wait(s, &key, &e), OK);
        }
        assert_int_equal(store_collect(s, &e), OK);
        for (uint32_t i = 0; i < 40; i++) {
            snprintf(command, sizeof command, "grep -rqa 'the secret of number %04u' '%s'/segments",
                     i, dir);
            bool is_deleted = i % 8 <= (uint32_t)round;
            struct digest key = kit_digest("secret", i, 0);
            assert_int_equal(system(command) == 0, !is_deleted);
            assert_int_equal(store_has(s, &key), !is_deleted);
        }
        store_close(s);
        assert_int_equal(kit_verify(dir), 0);
        assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
        assert_int_equal(kit_verify(dir), 0);
        s = kit_open(dir, &options);
        for (uint32_t i = 0; i < 40; i++) {
            struct digest key = kit_digest("secret", i, 0);
            assert_int_equal(store_has(s, &key), i % 8 > (uint32_t)round);
        }
    }
    store_close(s);
    kit_remove(dir);
}

/* Deletions spread over segments that are reclaimed in any order: a rebuild after each collection
 * must not bring one back. */
static void test_nothing_deleted_comes_back(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct prng r = {77, 0};
    bool is_deleted[200] = {0};
    kit_dir(dir);
    struct store_options tiny = options;
    tiny.segment_bytes = 32u << 10;
    struct store *s = kit_open(dir, &tiny);
    for (uint32_t i = 0; i < 200; i++) {
        struct kit_record k = kind_of(RECORD_TOKENS, i, 1000 + i * 10);
        kit_must_put(s, &k);
        if (i % 3 == 0) {
            k.version = 1;
            kit_must_put(s, &k); /* an older copy lies about */
        }
    }
    for (uint32_t round = 0; round < 6; round++) {
        for (uint32_t n = 0; n < 25; n++) {
            uint32_t i = (uint32_t)prng_below(&r, 200);
            struct kit_record k = kind_of(RECORD_TOKENS, i, 1000 + i * 10);
            struct digest key = kit_key(&k);
            assert_int_equal(store_delete_wait(s, &key, &e), is_deleted[i] ? E_NOT_FOUND : OK);
            is_deleted[i] = true;
        }
        if (round % 2 == 0)
            assert_int_equal(store_collect(s, &e), OK);
        store_close(s);
        assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
        assert_int_equal(kit_verify(dir), 0);
        s = kit_open(dir, &tiny);
        for (uint32_t i = 0; i < 200; i++) {
            struct kit_record k = kind_of(RECORD_TOKENS, i, 1000 + i * 10);
            k.version = i % 3 == 0;
            if (is_deleted[i])
                assert_false(is_there(s, k));
            else
                kit_must_have(s, &k);
        }
    }
    uint64_t before = folder_bytes(dir);
    for (uint32_t i = 0; i < 200; i++) {
        struct kit_record k = kind_of(RECORD_TOKENS, i, 1000 + i * 10);
        struct digest key = kit_key(&k);
        if (!is_deleted[i])
            assert_int_equal(store_delete_wait(s, &key, &e), OK);
    }
    for (int i = 0; i < 4; i++) /* tombstones outlive what they kill by one collection */
        assert_int_equal(store_collect(s, &e), OK);
    store_close(s);
    print_message("%llu KiB before, %llu KiB after all was deleted\n",
                  (unsigned long long)before >> 10, (unsigned long long)folder_bytes(dir) >> 10);
    assert_true(folder_bytes(dir) < before / 2);
    assert_int_equal(kit_verify(dir), 0);
    kit_remove(dir);
}

static bool has_segment(const char *dir, unsigned number)
{
    char path[600];
    snprintf(path, sizeof path, "%s/segments/%016x.seg", dir, number);
    return access(path, F_OK) == 0;
}

/* A tombstone whose segment is reclaimed by itself, while what it kills lies in another segment
 * that is mostly alive and stays: the tombstone is copied on. */
static void test_tombstone_is_copied_on(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    kit_dir(dir);
    struct store_options tiny = options;
    tiny.segment_bytes = 40u << 10; /* a header, eight small records, a mark */
    struct store *s = kit_open(dir, &tiny);
    for (uint32_t i = 0; i < 8; i++) {
        struct kit_record k = kind_of(RECORD_SESSION, i, 200);
        kit_must_put(s, &k);
    }
    struct kit_record doomed = kind_of(RECORD_SESSION, 3, 200);
    struct digest key = kit_key(&doomed);
    assert_int_equal(store_delete_wait(s, &key, &e), OK);
    for (uint32_t version = 0; version < 20; version++) { /* its neighbours die at once */
        struct kit_record k = kind_of(RECORD_PAGE, 1, 200);
        k.version = version;
        kit_must_put(s, &k);
    }
    assert_true(has_segment(dir, 1));
    for (int i = 0; i < 100 && has_segment(dir, 2); i++)
        clock_sleep_ms(100); /* an idle store tidies up by itself */
    assert_false(has_segment(dir, 2));
    assert_true(has_segment(dir, 1));
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK);
    s = kit_open(dir, &tiny);
    assert_false(store_has(s, &key));
    for (uint32_t i = 0; i < 8; i++) {
        struct kit_record k = kind_of(RECORD_SESSION, i, 200);
        if (i != 3)
            kit_must_have(s, &k);
    }
    store_close(s);
    kit_remove(dir);
}

/* The default budget is a quarter of the disk, chosen once. */
static void test_budget_is_fixed_at_creation(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct store_stat first, later;
    struct store_options plain = {.keep_free_bytes = 1};
    kit_dir(dir);
    struct store *s = kit_open(dir, &plain);
    store_stat(s, &first);
    assert_true(first.max_bytes >= first.free_bytes / 5);
    assert_true(first.max_bytes <= first.free_bytes / 3);
    struct kit_record k = kind_of(RECORD_PAGE, 1, 6u << 20);
    kit_must_put(s, &k);
    store_close(s);
    assert_int_equal(store_rebuild(os_fs_real(), dir, &e), OK); /* also without the index */
    s = kit_open(dir, &plain);
    store_stat(s, &later);
    assert_int_equal(later.max_bytes, first.max_bytes);
    store_close(s);
    kit_remove(dir);
}

int main(void)
{
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget_holds),
        cmocka_unit_test(test_order_of_eviction),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_deleted_bytes_leave),
        cmocka_unit_test(test_nothing_deleted_comes_back),
        cmocka_unit_test(test_tombstone_is_copied_on),
        cmocka_unit_test(test_budget_is_fixed_at_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
