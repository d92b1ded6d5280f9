/* SPDX-License-Identifier: MIT
 * Goal:   a session is verified by what it needs, all of it and nothing else; what was set aside is
 *         reported until its bytes are gone.
 * Method: two sessions, one with pages and a fork; bits flipped in the tokens of one, in a page of
 *         the other, in the record of the fork. */
#include "session_kit.h"

static struct store_verify_report verify(struct kit *k, const char *which)
{
    struct store_verify_report report;
    struct session_verify o = {.which = slice_of(which)};
    struct err e = {0};
    if (sessions_verify(k->b, &o, &report, &e) != OK)
        fail_msg("verify %s: %s", which, e.msg);
    return report;
}

/* "a": 200 tokens, four pages, a fork "f"; "c": 2,500 other tokens in several parts. */
static void make(struct kit *k)
{
    kit_begin(k);
    struct digest salt = sessions_salt(k->b, 0);
    kit_must_keep(k, (struct kit_turn){.name = "a", .n = 200, .n_messages = 3});
    for (uint32_t i = 0; i < 3; i++)
        kit_put_page(k, &salt, i, PAGE_KEY_TOKENS);
    kit_put_page(k, &salt, 3, 7);
    kit_must(k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f\",\"at\":100}");
    for (uint32_t n = 1200; n <= 2500; n += 1300)
        kit_must_keep(k, (struct kit_turn){.name = "c", .n = n, .series = 5, .n_messages = 3});
}

static void test_clean(void **state)
{
    (void)state;
    struct kit k;
    struct err e;
    make(&k);
    struct store_verify_report r = verify(&k, "a");
    assert_int_equal(r.n_records, 1 + 1 + 4); /* itself, a part of a line, pages */
    assert_true(r.n_bad == 0 && r.n_quarantined == 0 && r.n_bytes >= 6 * 4096);
    r = verify(&k, "f");
    assert_int_equal(r.n_records, 1 + 1 + 1); /* 100 tokens: one full page */
    r = verify(&k, "c");
    assert_true(r.n_records >= 3 && r.n_bad == 0);
    struct session_verify o = {.which = SLICE_LIT("nobody")};
    assert_int_equal(sessions_verify(k.b, &o, &r, &e), E_NOT_FOUND);
    kit_close(&k);
    kit_open(&k, true); /* as the command does, beside a server */
    assert_int_equal(verify(&k, "a").n_records, 6);
    kit_end(&k);
}

static void test_tokens_of_one(void **state)
{
    (void)state;
    struct kit k;
    uint32_t tokens[16];
    make(&k);
    kit_close(&k);
    for (uint32_t i = 0; i < 16; i++)
        tokens[i] = kit_token(5, 1500 + i);
    assert_int_equal(kit_flip(&k, tokens, sizeof tokens), 1);
    kit_open(&k, true);
    assert_int_equal(verify(&k, "a").n_bad, 0);
    struct store_verify_report r = verify(&k, "c");
    assert_int_equal(r.n_bad, 1);
    struct err e;
    struct store_verify_report all;
    assert_int_equal(store_verify(os_fs_real(), k.dir, NULL, NULL, &all, &e), OK);
    assert_int_equal(all.n_bad, 1);
    kit_end(&k);
}

static void test_page_is_reported_until_removed(void **state)
{
    (void)state;
    struct kit k;
    struct err e;
    char payload[500];
    struct digest salt;
    make(&k);
    kit_close(&k);
    memset(payload, 'b', sizeof payload);            /* page 1 */
    assert_int_equal(kit_flip(&k, payload, 400), 2); /* both its chunks */
    kit_open(&k, false);
    struct store_verify_report r = verify(&k, "a");
    assert_true(r.n_bad == 1 && r.n_quarantined == 0);
    assert_int_equal(verify(&k, "f").n_bad, 0); /* forked at 100: page 0 is all it has of it */
    /* A server meets it and sets it aside. */
    salt = sessions_salt(k.b, 0);
    struct kit_page page = kit_page_of(&salt, 1, PAGE_KEY_TOKENS);
    store_quarantine(k.store, &page.key, "checksum");
    store_flush(k.store);
    for (uint32_t i = 0; i < 2; i++) {
        r = verify(&k, "a");
        assert_true(r.n_bad == 0 && r.n_quarantined == 1);
        kit_put_page(&k, &salt, 1, PAGE_KEY_TOKENS); /* computed again: the bytes are still there */
        kit_again(&k);
    }
    assert_int_equal(store_collect(k.store, &e), OK);
    for (uint32_t i = 0; i < 2; i++) {
        r = verify(&k, "a");
        assert_int_equal(r.n_records, 6);
        assert_true(r.n_bad == 0 && r.n_quarantined == 0);
        kit_again(&k);
    }
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_tokens_of_one),
        cmocka_unit_test(test_page_is_reported_until_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
