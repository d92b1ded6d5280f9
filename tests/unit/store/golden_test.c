/* SPDX-License-Identifier: MIT
 * Goal: what an earlier version wrote stays readable.
 * Method: tests/golden/store/v1 and v2 are stores that this program wrote once (`golden_test --make
 * DIR`, formats 1 and 2); each version since must read the same records from them, with their index
 * and without it, and must find nothing bad in them. */
#include "store_kit.h"

#define GOLDEN "tests/golden/store/"

static const struct store_options options = {
    .max_bytes = 8u << 20, .segment_bytes = 64u << 10, .keep_free_bytes = 1};

static struct kit_record page_of(uint32_t number)
{
    return (struct kit_record){.kind = RECORD_PAGE,
                               .number = number,
                               .n_chunks = 3,
                               .chunk_bytes = 2000 + 10 * number,
                               .depth = number};
}

static const struct kit_record others[] = {
    {.kind = RECORD_HEAD, .number = 1, .n_chunks = 2, .chunk_bytes = 3000, .depth = 4},
    {.kind = RECORD_TOKENS, .number = 2, .n_chunks = 1, .chunk_bytes = 640},
    {.kind = RECORD_SESSION, .number = 3, .version = 2}, /* replaced twice; no payload at all */
    {.kind = RECORD_TENANT, .number = 4, .n_chunks = 1, .chunk_bytes = 48},
};
static const struct kit_record deleted = {
    .kind = RECORD_SESSION, .number = 5, .n_chunks = 1, .chunk_bytes = 100};

static int make(const char *dir)
{
    struct err e;
    struct digest key = kit_key(&deleted);
    struct store *s = kit_open(dir, &options);
    kit_must_put(s, &deleted);
    for (uint32_t i = 0; i < 12; i++) {
        struct kit_record k = page_of(i);
        struct kit_put *p = kit_put_new(&k);
        p->put.family = kit_digest("family", i % 2, 0);
        p->put.order_len = (uint32_t)snprintf((char *)p->put.order, 8, "%03u", i);
        assert_int_equal(store_put_wait(s, &p->put, &e), OK);
        kit_put_free(p);
    }
    for (size_t i = 0; i < 4; i++) {
        struct kit_record k = others[i];
        for (k.version = 0; k.version <= others[i].version; k.version++)
            kit_must_put(s, &k);
    }
    assert_int_equal(store_delete_wait(s, &key, &e), OK);
    store_close(s);
    return kit_verify(dir) == 0 ? 0 : 1;
}

static void check(const char *dir)
{
    struct err e;
    struct store_stat stat;
    struct digest keys[2], key = kit_key(&deleted), family = kit_digest("family", 1, 0);
    struct store *s = kit_open(dir, &options);
    for (uint32_t i = 0; i < 12; i++) {
        struct kit_record k = page_of(i);
        kit_must_have(s, &k);
    }
    for (size_t i = 0; i < 4; i++)
        kit_must_have(s, &others[i]);
    assert_false(store_has(s, &key));
    store_stat(s, &stat);
    assert_int_equal(stat.n_records[RECORD_PAGE], 12);
    assert_int_equal(stat.n_records[RECORD_SESSION], 1);
    assert_int_equal(stat.max_bytes, 8u << 20);
    assert_int_equal(store_neighbours(s, &family, (const uint8_t *)"004", 3, keys), 2);
    struct kit_record before = page_of(3), after = page_of(5);
    struct digest want[2] = {kit_key(&before), kit_key(&after)};
    assert_true(digest_equal(&keys[0], &want[0]));
    assert_true(digest_equal(&keys[1], &want[1]));
    struct store_pin pin;
    assert_int_equal(store_get(s, &want[0], &pin, &e), OK);
    assert_int_equal(pin.depth, 3);
    assert_int_equal(pin.layout, 7);
    store_unpin(s, &pin);
    struct kit_record more = page_of(100);
    kit_must_put(s, &more);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
}

static void copy_golden(const char *version, char dir[256])
{
    char command[600];
    kit_dir(dir);
    snprintf(command, sizeof command, "cp -r " GOLDEN "%s/. '%s' && chmod -R u+w '%s'", version,
             dir, dir);
    assert_int_equal(system(command), 0);
}

static void test_with_index(void **state)
{
    char dir[256];
    copy_golden(*state, dir);
    assert_int_equal(kit_verify(dir), 0);
    check(dir);
    kit_remove(dir);
}

static void test_without_index(void **state)
{
    char dir[256], path[300];
    copy_golden(*state, dir);
    snprintf(path, sizeof path, "%s/index.db", dir);
    assert_int_equal(unlink(path), 0);
    check(dir);
    kit_remove(dir);
}

int main(int argc, char **argv)
{
    kit_quiet();
    if (argc == 3 && strcmp(argv[1], "--make") == 0)
        return make(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_with_index, (void *)"v1"),
        cmocka_unit_test_prestate(test_without_index, (void *)"v1"),
        cmocka_unit_test_prestate(test_with_index, (void *)"v2"),
        cmocka_unit_test_prestate(test_without_index, (void *)"v2"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
