/* SPDX-License-Identifier: MIT
 * The table against a plain array: random adds and removals, also of keys that collide. */
#include "store/table.h"
#include "store_kit.h"

#define KEYS 20000

/* Only 64 different places in the hash: long runs, so that removal has to shift. */
static struct digest crowded_key(uint32_t n)
{
    struct digest d = kit_digest("crowded", n, 0);
    memset(d.b + 8, 0, 4);
    d.b[8] = (uint8_t)(n % 64);
    return d;
}

static void check_against_array(struct digest (*key_of)(uint32_t), uint32_t n_keys, uint32_t steps)
{
    struct table t = {0};
    uint32_t *ids = mem_new(n_keys, sizeof *ids); /* id + 1 */
    uint32_t count = 0;
    struct prng r = {n_keys, 0};
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t i = (uint32_t)prng_below(&r, n_keys);
        struct digest key = key_of(i);
        uint32_t id = table_find(&t, &key);
        assert_int_equal(id, ids[i] ? ids[i] - 1 : TABLE_NONE);
        if (id == TABLE_NONE) {
            id = table_add(&t, &key);
            assert_int_not_equal(id, TABLE_NONE);
            table_at(&t, id)->kind = 1;
            table_at(&t, id)->sequence = i;
            ids[i] = id + 1;
            count++;
        } else if (prng_below(&r, 2)) {
            assert_int_equal(table_at(&t, id)->sequence, i);
            table_remove(&t, id);
            ids[i] = 0;
            count--;
        }
        assert_int_equal(t.count, count);
    }
    for (uint32_t i = 0; i < n_keys; i++) {
        struct digest key = key_of(i);
        assert_int_equal(table_find(&t, &key), ids[i] ? ids[i] - 1 : TABLE_NONE);
    }
    mem_free(ids);
    table_release(&t);
}

static struct digest plain_key(uint32_t n)
{
    return kit_digest("plain", n, 0);
}

static void test_random(void **state)
{
    (void)state;
    check_against_array(plain_key, KEYS, 200000);
}

static void test_collisions(void **state)
{
    (void)state;
    check_against_array(crowded_key, 500, 50000);
}

/* Issue 5: at most 200 bytes a page in memory, in all. */
static void test_size(void **state)
{
    (void)state;
    struct table t = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        struct digest key;
        memset(&key, 0, sizeof key);
        memcpy(key.b + 8, &i, sizeof i);
        uint32_t id = table_add(&t, &key);
        assert_int_not_equal(id, TABLE_NONE);
        table_at(&t, id)->kind = 1;
    }
    uint64_t bytes = (uint64_t)t.n_blocks * 4096 * (sizeof(struct entry) + sizeof(uint32_t)) +
                     t.n_slots * sizeof(uint64_t);
    print_message("%llu bytes a record\n", (unsigned long long)bytes / 100000);
    assert_true(bytes / 100000 <= 145);
    table_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_collisions),
                                       cmocka_unit_test(test_size)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
