/* SPDX-License-Identifier: MIT
 * Goal:   what nobody used for long goes, by age and above a ceiling, and nothing else does.
 * Method: sessions of two tenants, one pinned, and replayed turns put by hand; "before" in the past
 *         and in the future stand for days. */
#include "os/clock.h"
#include "session_kit.h"

#define ROWS 6u

static struct digest row_key(uint32_t i)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "test row", i);
    struct digest key = digest_end(&d);
    digester_release(&d);
    return key;
}

/* As engine/memo.c writes them: about 8 KiB, each used later than the one before. */
static void put_rows(struct kit *k)
{
    static uint32_t ids[1500];
    struct store_chunk chunk = {ids, sizeof ids};
    struct err e;
    for (uint32_t i = 0; i < ROWS; i++) {
        struct store_put put = {.kind = RECORD_TOKENS,
                                .key = row_key(i),
                                .meta = "1234",
                                .meta_len = 4,
                                .chunks = &chunk,
                                .n_chunks = 1};
        assert_int_equal(store_put_wait(k->store, &put, &e), OK);
        clock_sleep_ms(2);
    }
}

static uint32_t rows_left(struct kit *k)
{
    uint32_t n = 0;
    store_flush(k->store);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct digest key = row_key(i);
        n |= (uint32_t)store_has(k->store, &key) << i;
    }
    return n;
}

static void make(struct kit *k)
{
    struct err e;
    uint32_t tenant;
    kit_begin(k);
    assert_int_equal(sessions_tenant(k->b, SLICE_LIT("team"), NULL, 0, &tenant, &e), OK);
    assert_int_equal(tenant, 1);
    kit_must_keep(k, (struct kit_turn){.name = "a", .n = 100, .n_messages = 1});
    kit_must_keep(k, (struct kit_turn){.name = "b", .n = 100, .series = 2, .n_messages = 1});
    kit_must_keep(k, (struct kit_turn){.name = "", .response = "resp_1", .n = 90, .series = 3});
    kit_must_keep(k, (struct kit_turn){.name = "a", .tenant = 1, .n = 100, .n_messages = 1});
    kit_must(k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f\"}");
    kit_must(k, "{\"op\":\"pin\",\"name\":\"b\",\"reason\":\"\"}");
    put_rows(k);
}

static struct session_expired expire(struct kit *k, struct session_expiry x)
{
    struct session_expired gone;
    struct err e = {0};
    if (sessions_expire(k->b, &x, &gone, &e) != OK)
        fail_msg("expire: %s", e.msg);
    return gone;
}

static bool has(struct kit *k, uint32_t tenant, const char *name)
{
    struct digest salt;
    return sessions_find_salt(k->b, tenant, slice_of(name), &salt);
}

static void test_sessions(void **state)
{
    (void)state;
    struct kit k;
    int64_t now = clock_unix_s();
    make(&k);
    struct session_expired gone =
        expire(&k, (struct session_expiry){SESSION_TENANT_ALL, now - 100, now - 100, 0});
    assert_int_equal(gone.n_sessions + gone.n_turns, 0);
    gone = expire(&k, (struct session_expiry){.tenant = 0, .sessions_before = now + 100});
    assert_int_equal(gone.n_sessions, 3); /* a, f, resp_1 */
    assert_int_equal(gone.n_turns, 0);
    for (int i = 0; i < 2; i++) {
        assert_false(has(&k, 0, "a") || has(&k, 0, "f") || has(&k, 0, "resp_1"));
        assert_true(has(&k, 0, "b") && has(&k, 1, "a"));
        assert_int_equal(rows_left(&k), (1u << ROWS) - 1);
        kit_again(&k);
    }
    kit_check(&k, 0, "b", 100, 0, 2, 1);
    gone = expire(&k, (struct session_expiry){SESSION_TENANT_ALL, now + 100, now + 100, 0});
    assert_int_equal(gone.n_sessions, 1);
    assert_int_equal(gone.n_turns, ROWS);
    assert_true(has(&k, 0, "b") && !has(&k, 1, "a"));
    assert_int_equal(rows_left(&k), 0);
    kit_end(&k);
}

/* Above the ceiling the least recently used go. */
static void test_ceiling(void **state)
{
    (void)state;
    struct kit k;
    make(&k);
    struct digest first = row_key(0);
    store_touch(k.store, &first, 1);
    struct session_expired gone = expire(&k, (struct session_expiry){.turn_bytes_max = 25000});
    assert_int_equal(gone.n_turns, 3);
    assert_int_equal(rows_left(&k), 0x31); /* the first, which was used again, and the last two */
    kit_close(&k);
    struct sessions_options so = {.turn_bytes_max = 10000};
    struct store_options options = {.max_bytes = 1u << 30, .keep_free_bytes = 1};
    struct err e;
    assert_int_equal(store_open(os_fs_real(), k.dir, &options, &k.store, &e), OK);
    so.store = k.store;
    assert_int_equal(sessions_open(&so, &k.b, &e), OK);
    for (int i = 0; i < 1000 && rows_left(&k) != 0x01; i++) /* by itself */
        clock_sleep_ms(5);
    assert_int_equal(rows_left(&k), 0x01);
    assert_true(has(&k, 0, "a"));
    kit_end(&k);
}

static void test_command(void **state)
{
    (void)state;
    struct kit k;
    char text[512];
    make(&k);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"expire\",\"days\":0}", text, sizeof text),
                     E_INVALID);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"expire\"}", text, sizeof text), E_INVALID);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"expire\",\"days\":1}", text, sizeof text), OK);
    assert_string_equal(text, "{\"object\":\"session.expired\",\"sessions\":0,\"turns\":0}");
    assert_int_equal(
        kit_command(&k, 0, "{\"op\":\"expire\",\"days\":1,\"turns\":false}", text, sizeof text),
        OK);
    kit_close(&k);
    kit_open(&k, true);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"expire\",\"days\":1}", text, sizeof text),
                     E_DENIED);
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
