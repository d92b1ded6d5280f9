/* SPDX-License-Identifier: MIT
 * Goal:   what a session keeps comes back: grown, edited, forked, renamed, deleted, after
 * reopening, after a rebuilt index; a turn and a fork write as little as they must. Method: token
 * series that any position can be checked against; the store's own counters. */
#include "session_kit.h"

#define LINES_OF_A 16u /* its own, those it left, and what they hang on */

static uint64_t written(struct kit *k)
{
    struct store_stat stat;
    store_flush(k->store);
    store_stat(k->store, &stat);
    return stat.written_bytes;
}

static void test_grows(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    uint64_t most = 0;
    for (uint32_t n = 1000; n <= 11000; n += 200) {
        uint64_t before = written(&k);
        kit_must_keep(
            &k, (struct kit_turn){.name = "a", .n = n, .n_messages = 2 + 2 * ((n / 200) % 20)});
        uint64_t cost = written(&k) - before;
        most = cost > most ? cost : most;
        kit_check(&k, 0, "a", n, 0, 0, 2 + 2 * ((n / 200) % 20));
    }
    print_message("most bytes a turn of 200 tokens wrote: %llu\n", (unsigned long long)most);
    kit_again(&k);
    kit_check(&k, 0, "a", 11000, 0, 0, 2 + 2 * ((11000 / 200) % 20));
    kit_end(&k);
}

/* A conversation that only grows: its open part alone is written. */
static void test_turn_is_cheap(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 20000, .n_messages = 1});
    uint64_t before = written(&k), n_turns = 20;
    for (uint32_t i = 1; i <= n_turns; i++)
        kit_must_keep(&k,
                      (struct kit_turn){.name = "a", .n = 20000 + 200 * i, .n_messages = 1 + i});
    uint64_t cost = (written(&k) - before) / n_turns;
    print_message("bytes a turn: %llu\n", (unsigned long long)cost);
    assert_true(cost <= 8192);
    kit_end(&k);
}

static void test_fork_is_one_record(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 20000, .n_messages = 40});
    uint64_t before = written(&k);
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\"}");
    assert_int_equal(written(&k) - before, 4096);
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"c\",\"at\":12345}");
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"d\",\"at\":{\"message\":7}}");
    assert_int_equal(written(&k) - before, 3 * 4096);
    kit_check(&k, 0, "b", 20000, 0, 0, 40);
    kit_check(&k, 0, "c", 12345, 0, 0, 40);
    kit_check(&k, 0, "d", 700, 0, 0, 7);
    char text[4096];
    assert_int_equal(
        kit_command(&k, 0, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\"}", text, sizeof text),
        E_EXISTS);
    assert_int_equal(
        kit_command(&k, 0, "{\"op\":\"fork\",\"name\":\"a\",\"at\":20001}", text, sizeof text),
        E_INVALID);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"fork\",\"name\":\"a\",\"at\":{\"message\":41}}",
                                 text, sizeof text),
                     E_INVALID);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"fork\",\"name\":\"nobody\"}", text, sizeof text),
                     E_NOT_FOUND);
    kit_end(&k);
}

/* A name without tokens: it is there after a restart, is forked, exported, filled, deleted. */
static void test_created_empty(void **state)
{
    (void)state;
    struct kit k;
    char text[4096];
    kit_begin(&k);
    uint64_t before = written(&k);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"create\",\"name\":\"a\",\"tag\":\"work\"}", text,
                                 sizeof text),
                     OK);
    assert_int_equal(written(&k) - before, 4096);
    assert_non_null(strstr(text, "\"tag\":\"work\""));
    assert_non_null(strstr(text, "\"model\":null,\"kv_type\":null,\"tokens\":0,\"messages\":0"));
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"create\",\"name\":\"a\"}", text, sizeof text),
                     E_EXISTS);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"create\",\"name\":\"a b\"}", text, sizeof text),
                     E_INVALID);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"create\"}", text, sizeof text), E_INVALID);
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\"}");
    kit_must(&k, "{\"op\":\"pin\",\"name\":\"b\",\"reason\":\"\"}");
    assert_int_equal(
        kit_command(&k, 0, "{\"op\":\"fork\",\"name\":\"a\",\"at\":1}", text, sizeof text),
        E_INVALID);
    for (int i = 0; i < 2; i++) {
        kit_check(&k, 0, "a", 0, 0, 0, 0);
        assert_int_equal(kit_command(&k, 0, "{\"op\":\"show\",\"name\":\"a\",\"history\":true}",
                                     text, sizeof text),
                         OK);
        assert_non_null(strstr(text, "\"history\":[],\"damaged\":false"));
        kit_again(&k);
    }
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 500, .n_messages = 2});
    kit_must_keep(&k, (struct kit_turn){.name = "b", .n = 300, .series = 4, .n_messages = 1});
    for (int i = 0; i < 2; i++) {
        kit_check(&k, 0, "a", 500, 0, 0, 2);
        kit_check(&k, 0, "b", 300, 0, 4, 1);
        assert_int_equal(kit_command(&k, 0, "{\"op\":\"show\",\"name\":\"a\"}", text, sizeof text),
                         OK);
        assert_non_null(strstr(text, "\"tag\":\"work\""));
        assert_null(strstr(text, "\"model\":null"));
        kit_again(&k);
    }
    kit_must(&k, "{\"op\":\"delete\",\"name\":\"a\"}");
    kit_must(&k, "{\"op\":\"delete\",\"name\":\"b\"}");
    kit_end(&k);
}

/* Both go their own ways, and neither sees the other's. */
static void test_forks_part(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 3000, .n_messages = 6});
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"b\",\"at\":2000}");
    kit_must_keep(
        &k, (struct kit_turn){.name = "b", .n = 2600, .from = 2000, .series = 1, .n_messages = 8});
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 3400, .n_messages = 8});
    kit_must(&k, "{\"op\":\"fork\",\"name\":\"b\",\"as\":\"c\"}");
    kit_must_keep(
        &k, (struct kit_turn){.name = "b", .n = 2500, .from = 2100, .series = 2, .n_messages = 8});
    for (int i = 0; i < 2; i++) {
        kit_check(&k, 0, "a", 3400, 0, 0, 8);
        kit_check(&k, 0, "b", 2500, 2100, 2, 8);
        kit_check(&k, 0, "c", 2600, 2000, 1, 8);
        kit_again(&k);
    }
    kit_must(&k, "{\"op\":\"delete\",\"name\":\"a\"}");
    kit_check(&k, 0, "c", 2600, 2000, 1, 8);
    kit_must(&k, "{\"op\":\"delete\",\"name\":\"b\"}");
    kit_again(&k);
    kit_check(&k, 0, "c", 2600, 2000, 1, 8);
    kit_must(&k, "{\"op\":\"delete\",\"name\":\"c\"}");
    store_flush(k.store);
    struct store_stat stat;
    store_stat(k.store, &stat);
    assert_int_equal(stat.n_records[RECORD_TOKENS], 0);
    assert_int_equal(stat.n_records[RECORD_SESSION], 0);
    kit_end(&k);
}

static void test_history_is_edited(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 5000, .n_messages = 6});
    for (uint32_t i = 1; i < 40; i++) { /* deeper than lines may hang on one another */
        uint32_t from = 4000 - 100 * i;
        kit_must_keep(&k,
                      (struct kit_turn){
                          .name = "a", .n = 5000 + i, .from = from, .series = i, .n_messages = 6});
        kit_check(&k, 0, "a", 5000 + i, from, i, 6);
    }
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 5000, .n_messages = 3, .edited = "hm"});
    kit_again(&k);
    kit_check(&k, 0, "a", 5000, 0, 0, 3);
    kit_end(&k);
}

static void test_responses(void **state)
{
    (void)state;
    struct kit k;
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.response = "resp_1", .n = 500, .n_messages = 2});
    kit_must_keep(&k, (struct kit_turn){
                          .response = "resp_2", .previous = "resp_1", .n = 800, .n_messages = 4});
    kit_must_keep(&k, (struct kit_turn){.response = "resp_3",
                                        .previous = "resp_1",
                                        .n = 700,
                                        .from = 500,
                                        .series = 3,
                                        .n_messages = 4});
    kit_must_keep(&k, (struct kit_turn){
                          .response = "resp_4", .previous = "resp_2", .n = 900, .n_messages = 6});
    kit_again(&k);
    kit_check(&k, 0, "resp_1", 500, 0, 0, 2);
    kit_check(&k, 0, "resp_2", 800, 0, 0, 4);
    kit_check(&k, 0, "resp_3", 700, 500, 3, 4);
    kit_check(&k, 0, "resp_4", 900, 0, 0, 6);
    char text[4096];
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"list\"}", text, sizeof text), OK);
    assert_non_null(strstr(text, "\"data\":[]"));
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"list\",\"responses\":true}", text, sizeof text),
                     OK);
    assert_non_null(strstr(text, "\"total\":4"));
    kit_end(&k);
}

static void test_changes_last(void **state)
{
    (void)state;
    struct kit k;
    char text[8192];
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 500, .n_messages = 2});
    kit_must(&k, "{\"op\":\"pin\",\"name\":\"a\",\"reason\":\"for \\\"monday\\\"\"}");
    kit_must(&k, "{\"op\":\"tag\",\"name\":\"a\",\"tag\":\"work\"}");
    kit_must(&k, "{\"op\":\"rename\",\"name\":\"a\",\"to\":\"z\"}");
    kit_must_keep(&k, (struct kit_turn){.name = "z", .n = 700, .n_messages = 4});
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kit_command(&k, 0, "{\"op\":\"show\",\"name\":\"z\",\"history\":true}",
                                     text, sizeof text),
                         OK);
        assert_non_null(strstr(text, "\"pin_reason\":\"for \\\"monday\\\"\""));
        assert_non_null(strstr(text, "\"tag\":\"work\""));
        assert_non_null(strstr(text, "\"tokens\":700"));
        assert_non_null(strstr(text, "\"content\":\"m3\""));
        assert_int_equal(kit_command(&k, 0, "{\"op\":\"show\",\"name\":\"a\"}", text, sizeof text),
                         E_NOT_FOUND);
        kit_again(&k);
    }
    kit_close(&k);
    struct err e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/index.db", k.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(store_rebuild(os_fs_real(), k.dir, &e), OK);
    kit_open(&k, false);
    kit_check(&k, 0, "z", 700, 0, 0, 4);
    kit_must(&k, "{\"op\":\"unpin\",\"name\":\"z\"}");
    kit_must(&k, "{\"op\":\"tag\",\"name\":\"z\",\"tag\":\"\"}");
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"show\",\"name\":\"z\"}", text, sizeof text), OK);
    assert_non_null(strstr(text, "\"pinned\":false"));
    assert_non_null(strstr(text, "\"tag\":null"));
    assert_int_equal(
        kit_command(&k, 0, "{\"op\":\"rename\",\"name\":\"z\",\"to\":\"a b\"}", text, sizeof text),
        E_INVALID);
    assert_int_equal(kit_command(&k, 0, "{\"op\":\"pin\",\"name\":\"z\",\"reason\":\"a\\nb\"}",
                                 text, sizeof text),
                     E_INVALID);
    kit_end(&k);
}

static void test_pages_of_the_list(void **state)
{
    (void)state;
    struct kit k;
    char text[65536], request[256], next[96] = "";
    kit_begin(&k);
    for (uint32_t i = 0; i < 25; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%u", i);
        kit_must_keep(&k, (struct kit_turn){.name = name, .n = 64, .n_messages = 1});
    }
    uint32_t seen = 0, n_pages = 0;
    do {
        snprintf(request, sizeof request, "{\"op\":\"list\",\"limit\":10,\"after\":\"%s\"}", next);
        assert_int_equal(kit_command(&k, 0, request, text, sizeof text), OK);
        for (const char *at = text; (at = strstr(at, "\"object\":\"session\"")); at++)
            seen++;
        const char *from = strstr(text, "\"next\":\"");
        next[0] = '\0';
        if (from)
            snprintf(next, sizeof next, "%.*s", (int)strcspn(from + 8, "\""), from + 8);
        n_pages++;
    } while (next[0] && n_pages < 10);
    assert_int_equal(seen, 25);
    assert_int_equal(n_pages, 3);
    assert_int_equal(
        kit_command(&k, 0, "{\"op\":\"list\",\"after\":\"nonsense\"}", text, sizeof text),
        E_INVALID);
    kit_end(&k);
}

static void test_tenants(void **state)
{
    (void)state;
    struct kit k;
    struct err e = {0};
    uint32_t red, blue;
    char text[4096];
    struct digest key_a = {{1}}, key_b = {{2}}, salt;
    kit_begin(&k);
    assert_int_equal(sessions_tenant(k.b, SLICE_LIT("red"), &key_a, 1, &red, &e), OK);
    assert_int_equal(sessions_tenant(k.b, SLICE_LIT("blue"), NULL, 0, &blue, &e), OK);
    assert_true(red != blue && red != 0 && blue != 0);
    salt = sessions_salt(k.b, red);
    struct digest blue_salt = sessions_salt(k.b, blue);
    assert_false(digest_equal(&salt, &blue_salt));
    kit_must_keep(&k, (struct kit_turn){.tenant = red, .name = "a", .n = 100, .n_messages = 1});
    assert_int_equal(kit_command(&k, blue, "{\"op\":\"show\",\"name\":\"a\"}", text, sizeof text),
                     E_NOT_FOUND);
    assert_int_equal(kit_command(&k, red, "{\"op\":\"show\",\"name\":\"a\"}", text, sizeof text),
                     OK);
    char id[64];
    snprintf(id, sizeof id, "%.32s", strstr(text, "\"id\":\"") + 6);
    snprintf(text, sizeof text, "{\"op\":\"show\",\"name\":\"%s\"}", id);
    char answer[4096];
    assert_int_equal(kit_command(&k, red, text, answer, sizeof answer), OK);
    assert_int_equal(kit_command(&k, blue, text, answer, sizeof answer), E_NOT_FOUND);
    assert_int_equal(kit_command(&k, blue, "{\"op\":\"list\"}", text, sizeof text), OK);
    assert_non_null(strstr(text, "\"data\":[]"));
    kit_again(&k);
    /* Another key: the same tenant, the same salt. */
    assert_int_equal(sessions_tenant(k.b, SLICE_LIT("red"), &key_b, 1, &red, &e), OK);
    struct digest again = sessions_salt(k.b, red);
    assert_true(digest_equal(&salt, &again));
    kit_check(&k, red, "a", 100, 0, 0, 1);
    assert_int_equal(sessions_tenant(k.b, SLICE_LIT("no blanks"), NULL, 0, &red, &e), E_INVALID);
    kit_end(&k);
}

/* A reader beside the writer sees what was written, after a moment. */
static void test_reader(void **state)
{
    (void)state;
    struct kit k, r = {0};
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 500, .n_messages = 2});
    snprintf(r.dir, sizeof r.dir, "%s", k.dir);
    kit_open(&r, true);
    kit_check(&r, 0, "a", 500, 0, 0, 2);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 900, .n_messages = 4});
    usleep(600000);
    kit_check(&r, 0, "a", 900, 0, 0, 4);
    struct err e = {0};
    struct kit_turn t = {.name = "b", .n = 100, .n_messages = 1};
    assert_int_equal(kit_keep(&r, &t, &e), E_DENIED);
    char text[4096];
    assert_int_equal(kit_command(&r, 0, "{\"op\":\"delete\",\"name\":\"a\"}", text, sizeof text),
                     E_DENIED);
    kit_close(&r);
    kit_end(&k);
}

/* ---- a name that was used for another conversation ---- */
/* Places in the files that have 30 token ids of a series from position `at` on. */
static uint32_t traces(struct kit *k, uint32_t series, uint32_t at)
{
    uint32_t ids[30];
    for (uint32_t i = 0; i < 30; i++)
        ids[i] = kit_token(series, at + i);
    return kit_find(k, ids, sizeof ids, false);
}

static uint32_t n_pages(struct kit *k)
{
    struct digest salt = sessions_salt(k->b, 0);
    uint32_t n = 0;
    store_flush(k->store);
    for (uint32_t page = 0; page < 3; page++)
        n += kit_has_page(k, &salt, page, PAGE_KEY_TOKENS);
    return n;
}

/* Deleting a session means all that was ever said under its name: ids and messages leave the disk,
 * and so do the pages that only they could name.  What another session has stays. */
static void test_deleted_with_all_it_said(void **state)
{
    (void)state;
    struct kit k;
    struct err e;
    for (int with_other = 0; with_other < 2; with_other++) {
        kit_begin(&k);
        struct digest salt = sessions_salt(k.b, 0);
        for (uint32_t page = 0; page < 3; page++)
            kit_put_page(&k, &salt, page, PAGE_KEY_TOKENS);
        kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 200, .n_messages = 1});
        if (with_other)
            kit_must_keep(&k,
                          (struct kit_turn){
                              .name = "other", .n = 150, .from = 70, .series = 9, .edited = "o"});
        kit_must_keep(
            &k,
            (struct kit_turn){
                .name = "a", .n = 300, .from = 10, .series = 5, .n_messages = 1, .edited = "else"});
        kit_again(&k);
        kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 260, .series = 6, .edited = "third"});
        kit_check(&k, 0, "a", 260, 0, 6, 0);
        assert_int_equal(n_pages(&k), 3); /* a client that comes back finds them */
        assert_true(traces(&k, 0, 100) > 0 && traces(&k, 5, 100) > 0);
        kit_again(&k);
        kit_must(&k, "{\"op\":\"delete\",\"name\":\"a\"}");
        assert_int_equal(store_collect(k.store, &e), OK);
        assert_int_equal(store_collect(k.store, &e), OK);
        assert_int_equal(n_pages(&k), with_other);
        assert_int_equal(traces(&k, 0, 100) + traces(&k, 5, 100) + traces(&k, 6, 100), 0);
        if (with_other)
            kit_check(&k, 0, "other", 150, 70, 9, 0);
        kit_end(&k);
    }
}

/* Two clients under one name, by turns: nothing piles up, and nothing of either is erased. */
static void test_by_turns_under_one_name(void **state)
{
    (void)state;
    struct kit k;
    struct store_stat stat;
    kit_begin(&k);
    struct digest salt = sessions_salt(k.b, 0);
    for (uint32_t page = 0; page < 3; page++)
        kit_put_page(&k, &salt, page, PAGE_KEY_TOKENS);
    for (uint32_t i = 0; i < 40; i++)
        kit_must_keep(
            &k,
            (struct kit_turn){
                .name = "a", .n = 200 + i, .from = 20, .series = i % 2 ? 3 : 0, .n_messages = 1});
    store_flush(k.store);
    store_stat(k.store, &stat);
    assert_true(stat.n_records[RECORD_TOKENS] <= 2 * LINES_OF_A);
    assert_int_equal(n_pages(&k), 3);
    for (uint32_t i = 0; i < 20; i++) /* a header that is another one each time */
        kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 200, .from = i, .series = 10 + i});
    store_flush(k.store);
    store_stat(k.store, &stat);
    assert_true(stat.n_records[RECORD_TOKENS] <= 2 * LINES_OF_A);
    kit_must(&k, "{\"op\":\"delete\",\"name\":\"a\"}");
    store_flush(k.store);
    store_stat(k.store, &stat);
    assert_int_equal(stat.n_records[RECORD_TOKENS], 0);
    assert_int_equal(n_pages(&k), 0);
    kit_end(&k);
}

/* Who opens a book and asks at once, or closes it at once: one session is found while others are
 * still being read, and what is not there is not found. */
static void test_asked_while_loading(void **state)
{
    (void)state;
    enum { MANY = 1500 };
    struct kit k;
    struct digest salt;
    char text[128];
    kit_begin(&k);
    kit_must_keep(&k, (struct kit_turn){.name = "a", .n = 200, .n_messages = 2});
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "{\"op\":\"fork\",\"name\":\"a\",\"as\":\"f%u\"}", i);
        kit_must(&k, text);
    }
    for (uint32_t round = 0; round < 12; round++) {
        kit_again(&k);
        snprintf(text, sizeof text, "f%u", round % 2 ? round : MANY - 1 - round);
        if (round % 4 == 0)
            continue; /* closed again before anybody asked */
        assert_true(sessions_find_salt(k.b, 0, slice_of(text), &salt));
        kit_check(&k, 0, text, 200, 0, 0, 2);
        assert_false(sessions_find_salt(k.b, 0, SLICE_LIT("nobody"), &salt));
        if (round == 3) { /* a change waits for all of them */
            kit_again(&k);
            kit_must(&k, "{\"op\":\"delete\",\"name\":\"a\"}");
        }
    }
    kit_check(&k, 0, "f0", 200, 0, 0, 2);
    kit_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_turn_is_cheap),
        cmocka_unit_test(test_fork_is_one_record),
        cmocka_unit_test(test_created_empty),
        cmocka_unit_test(test_deleted_with_all_it_said),
        cmocka_unit_test(test_by_turns_under_one_name),
        cmocka_unit_test(test_asked_while_loading),
        cmocka_unit_test(test_forks_part),
        cmocka_unit_test(test_history_is_edited),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_changes_last),
        cmocka_unit_test(test_pages_of_the_list),
        cmocka_unit_test(test_tenants),
        cmocka_unit_test(test_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
