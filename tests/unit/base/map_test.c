/* SPDX-License-Identifier: MIT
 * map_test.c — goal: the map does what a plain array of pairs does.
 * Method: random puts, gets and removes over few keys, so that slots are reused; keys that all
 * begin at one slot; a walk that meets each entry once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"
#include "base/prng.h"

enum { KEYS = 500 };

struct model {
    bool is_there[KEYS];
    uint64_t value[KEYS];
    size_t count;
};

/* spread false: the first eight bytes, which are the hash, are equal. */
static struct digest key_of(uint32_t i, bool spread)
{
    struct digest d = {0};
    struct prng p = {.seed = i};
    for (size_t j = spread ? 0 : 8; j < DIGEST_BYTES; j++)
        d.b[j] = (uint8_t)prng_next(&p);
    return d;
}

static void expect_equal(const struct map *m, const struct model *model, bool spread)
{
    struct digest key;
    uint64_t value;
    size_t at = 0, walked = 0;
    bool met[KEYS] = {0};
    assert_int_equal(m->count, model->count);
    while (map_next(m, &at, &key, &value)) {
        walked++;
        assert_true(value % KEYS < KEYS && !met[value % KEYS]);
        met[value % KEYS] = true;
        struct digest expected = key_of((uint32_t)(value % KEYS), spread);
        assert_true(digest_equal(&key, &expected));
    }
    assert_int_equal(walked, model->count);
    for (uint32_t i = 0; i < KEYS; i++) {
        key = key_of(i, spread);
        assert_int_equal(map_get(m, &key, &value), model->is_there[i]);
        assert_true(!model->is_there[i] || value == model->value[i]);
        assert_int_equal(met[i], model->is_there[i]);
    }
}

static void compare_with_model(bool spread, int steps)
{
    struct map m = {0};
    struct model model = {0};
    struct prng p = {.seed = 99};
    uint64_t value;
    for (int step = 0; step < steps; step++) {
        uint32_t i = (uint32_t)prng_below(&p, KEYS);
        struct digest key = key_of(i, spread);
        if (prng_below(&p, 2)) {
            value = prng_below(&p, 1000000) * KEYS + i;
            assert_int_equal(map_put(&m, &key, value), OK);
            model.count += !model.is_there[i];
            model.is_there[i] = true;
            model.value[i] = value;
        } else {
            assert_int_equal(map_remove(&m, &key), model.is_there[i]);
            model.count -= model.is_there[i];
            model.is_there[i] = false;
        }
        if (step % 500 == 0)
            expect_equal(&m, &model, spread);
    }
    expect_equal(&m, &model, spread);
    assert_true(m.capacity <= 4 * KEYS); /* removed entries do not make it grow for ever */
    map_release(&m);
    assert_int_equal(m.count, 0);
}

static void equals_a_naive_model(void **state)
{
    (void)state;
    compare_with_model(true, 20000);
}

static void also_when_all_keys_collide(void **state)
{
    (void)state;
    compare_with_model(false, 5000);
}

static void an_empty_map(void **state)
{
    (void)state;
    struct map m = {0};
    struct digest key = key_of(1, true);
    uint64_t value;
    size_t at = 0;
    assert_false(map_get(&m, &key, &value));
    assert_false(map_remove(&m, &key));
    assert_false(map_next(&m, &at, &key, &value));
    map_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_naive_model),
        cmocka_unit_test(also_when_all_keys_collide),
        cmocka_unit_test(an_empty_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
