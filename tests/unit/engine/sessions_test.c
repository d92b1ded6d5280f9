/* SPDX-License-Identifier: MIT
 * Goal:   a conversation is its tokens: it goes on from a stored response or a session after a
 *         restart, after all its KV was evicted, and with the ids that the model wrote; agents that
 *         share a system prompt share its pages; tenants share nothing.
 * Method: skald, greedy, against a control that never kept anything; the store's own counters. */
#include "chats.h"
#include "os/fs.h"

#define SYSTEM_TOKENS 1500u

#define FACTS "Fact: the code of the red box is KX-4417. Fact: the key lies under the mat."

static void test_response_goes_on(void **state)
{
    (void)state;
    char dir[64], first[8192], second[8192], control[8192], both[32768];
    struct engine_usage u;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    ask_well(g, (struct ask){.messages = "[" USER(FACTS " Who are you?") "]", .response = "resp_1"},
             first, NULL);
    engine_close(g);
    g = open_at(dir, 0);
    ask_well(g,
             (struct ask){.messages = "[" USER("What is the code of the red box?") "]",
                          .previous = "resp_1",
                          .response = "resp_2"},
             second, &u);
    print_message("\"%s\" then \"%s\": memory %u disk %u computed %u\n", first, second,
                  u.memory_tokens, u.disk_tokens, u.computed_tokens);
    assert_true(u.disk_tokens > 0 && u.computed_tokens < u.disk_tokens + u.memory_tokens);
    snprintf(both, sizeof both,
             "[" USER(FACTS " Who are you?") ",{\"role\":\"assistant\",\"content\":\"%s\"}," USER(
                 "What is the code of the red box?") "]",
             first);
    struct engine *fresh = open_at(NULL, 0);
    ask_well(fresh, (struct ask){.messages = both}, control, NULL);
    assert_string_equal(second, control);
    engine_close(fresh);
    struct rig_answer *a =
        ask(g, &(struct ask){.messages = "[" USER("x") "]", .previous = "resp_9"});
    assert_int_equal(a->error.code, E_NOT_FOUND);
    rig_answer_free(a);
    engine_close(g);
    rig_remove_dir(dir);
}

/* Two sessions take turns in a store that holds the KV of neither: slower, never lost. */
static void test_evicted_session_goes_on(void **state)
{
    (void)state;
    char dir[64], text[8192], control[8192];
    struct engine_usage u;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    ask_well(g, (struct ask){.messages = "[" USER(FACTS " Who are you?") "]", .response = "resp_1"},
             text, NULL);
    ask_well(g, (struct ask){.messages = "[" USER("Where is the key?") "]", .previous = "resp_1"},
             control, NULL);
    engine_close(g);
    /* All pages and heads gone, as eviction would do it. */
    struct store *s;
    struct err e = {0};
    struct store_options o = {.max_bytes = 1, .keep_free_bytes = 1};
    assert_int_equal(store_open(os_fs_real(), dir, &o, &s, &e), OK);
    assert_int_equal(store_collect(s, &e), OK);
    struct store_stat stat;
    store_stat(s, &stat);
    assert_int_equal(stat.n_records[RECORD_PAGE] + stat.n_records[RECORD_HEAD], 0);
    assert_true(stat.n_records[RECORD_TOKENS] > 0);
    store_close(s);
    g = open_at(dir, 0);
    ask_well(g, (struct ask){.messages = "[" USER("Where is the key?") "]", .previous = "resp_1"},
             text, &u);
    assert_string_equal(text, control);
    assert_int_equal(u.memory_tokens + u.disk_tokens, 0);
    engine_close(g);
    rig_remove_dir(dir);
}

/* Ids that the tokenizer would not choose come back from the session alone. */
static void test_session_replays_its_ids(void **state)
{
    (void)state;
    char dir[64], text[8192];
    struct engine_usage u;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    const struct tokenizer *t = engine_tokenizer(g);
    /* A turn as a model might have written it: "who" letter by letter. */
    struct token_list ids = {0};
    struct err e = {0};
    struct slice head =
        SLICE_LIT("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
    assert_int_equal(
        tokenizer_encode(t, head, (struct encode_flags){.parse_special = true}, &ids, &e), OK);
    size_t before = ids.count;
    for (const char *c = "who"; *c; c++) {
        uint32_t id = tokenizer_find(t, (struct slice){c, 1});
        assert_int_not_equal(id, TOKEN_NONE);
        assert_int_equal(token_list_add(&ids, id), OK);
    }
    struct token_list canonical = {0};
    assert_int_equal(
        tokenizer_encode(t, SLICE_LIT("who"), (struct encode_flags){0}, &canonical, &e), OK);
    assert_true(canonical.count != ids.count - before);
    struct arena a;
    struct json *messages;
    arena_init(&a, 1u << 20);
    assert_int_equal(json_parse(SLICE_LIT("[" USER("Hi") "]"), &a, &messages, &e), OK);
    struct session_turn turn = {.name = SLICE_LIT("odd"),
                                .tokens = ids.ids,
                                .n_tokens = (uint32_t)ids.count,
                                .messages = messages,
                                .reply = SLICE_LIT("who"),
                                .has_reply = true,
                                .origin = {.root = {{1}}, .model = "m", .kv_type = "f16"}};
    assert_int_equal(sessions_keep(engine_sessions(g), &turn, &e), OK);
    const char *history =
        "[" USER("Hi") ",{\"role\":\"assistant\",\"content\":\"who\"}," USER("And you?") "]";
    ask_well(g, (struct ask){.messages = history, .max_tokens = 1}, text, &u);
    uint32_t n_canonical = u.prompt_tokens;
    assert_int_equal(u.replayed, 0);
    engine_close(g);
    g = open_at(dir, 0);
    ask_well(g, (struct ask){.messages = history, .session = "odd", .max_tokens = 1}, text, &u);
    assert_int_equal(u.replayed, 1);
    assert_int_equal(u.prompt_tokens, n_canonical + (ids.count - before) - canonical.count);
    /* Words that the session did not say are not taken for its own. */
    engine_close(g);
    g = open_at(dir, 0);
    ask_well(g,
             (struct ask){.messages =
                              "[" USER("Hi") ",{\"role\":\"assistant\",\"content\":\"what\"}," USER(
                                  "And you?") "]",
                          .session = "odd",
                          .max_tokens = 1},
             text, &u);
    assert_int_equal(u.replayed, 0);
    token_list_release(&ids);
    token_list_release(&canonical);
    arena_release(&a);
    engine_close(g);
    rig_remove_dir(dir);
}

static void test_messages_have_places(void **state)
{
    (void)state;
    char dir[64], text[65536], request[256];
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    ask_well(
        g,
        (struct ask){.messages = "[{\"role\":\"system\",\"content\":\"Be brief.\"}," USER("Hi") "]",
                     .session = "s"},
        text, NULL);
    struct arena a;
    struct json *v;
    struct err e = {0};
    struct buf out;
    arena_init(&a, 1u << 20);
    buf_init(&out, 1u << 20);
    /* Message 2 is the user's; the assistant's, number 3, ends where the session does. */
    for (int m = 2; m <= 3; m++) {
        snprintf(request, sizeof request,
                 "{\"op\":\"fork\",\"name\":\"s\",\"as\":\"f%d\",\"at\":{\"message\":%d}}", m, m);
        assert_int_equal(json_parse(slice_of(request), &a, &v, &e), OK);
        if (sessions_command(engine_sessions(g), 0, v, &out, &e) != OK)
            fail_msg("%s", e.msg);
    }
    struct session_content whole, at2, at3;
    assert_int_equal(
        sessions_read(engine_sessions(g), 0, SLICE_LIT("s"), SESSION_WANT_TOKENS, &whole, &e), OK);
    assert_int_equal(
        sessions_read(engine_sessions(g), 0, SLICE_LIT("f2"), SESSION_WANT_TOKENS, &at2, &e), OK);
    assert_int_equal(
        sessions_read(engine_sessions(g), 0, SLICE_LIT("f3"), SESSION_WANT_TOKENS, &at3, &e), OK);
    assert_int_equal(at3.n_tokens, whole.n_tokens);
    assert_true(at2.n_tokens < whole.n_tokens && at2.n_messages == 2);
    assert_true(tokenizer_is_end(engine_tokenizer(g), at2.tokens[at2.n_tokens - 1]));
    session_content_release(&whole);
    session_content_release(&at2);
    session_content_release(&at3);
    buf_release(&out);
    arena_release(&a);
    engine_close(g);
    rig_remove_dir(dir);
}

static char *long_system(const char *tail)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    buf_add_text(&b, "[{\"role\":\"system\",\"content\":\"");
    for (uint32_t i = 0; i < SYSTEM_TOKENS / 10; i++)
        buf_printf(&b, "Rule %u: answer in short words. ", i);
    buf_printf(&b, "\"}," USER("%s") "]", tail);
    return buf_take(&b, NULL);
}

static void test_agents_share(void **state)
{
    (void)state;
    char dir[64], name[32];
    struct engine_stats one, all;
    struct engine_usage u;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    for (uint32_t i = 0; i < 20; i++) {
        char tail[64];
        snprintf(tail, sizeof tail, "I am agent %u, who are you?", i);
        char *messages = long_system(tail);
        snprintf(name, sizeof name, "agent-%u", i);
        ask_well(g, (struct ask){.messages = messages, .session = name, .max_tokens = 8}, NULL, &u);
        mem_free(messages);
        engine_flush(g);
        if (i == 0)
            engine_stats(g, &one);
        else
            assert_true(u.computed_tokens < 200);
    }
    engine_stats(g, &all);
    uint64_t first = one.store.live_bytes[RECORD_PAGE],
             rest = (all.store.live_bytes[RECORD_PAGE] - first) / 19;
    uint64_t first_memory = one.pages_memory_bytes + one.pages_mapped_bytes;
    uint64_t rest_memory = (all.pages_memory_bytes + all.pages_mapped_bytes - first_memory) / 19;
    print_message("%u prompt tokens; pages on disk: first agent %llu bytes, each further one %llu; "
                  "in memory %llu and %llu\n",
                  u.prompt_tokens, (unsigned long long)first, (unsigned long long)rest,
                  (unsigned long long)first_memory, (unsigned long long)rest_memory);
    assert_true(rest * 5 < first);
    assert_true(rest_memory * 5 < first_memory);
    engine_close(g);
    rig_remove_dir(dir);
}

static void test_tenants_share_nothing(void **state)
{
    (void)state;
    char dir[64];
    struct engine_usage u;
    struct err e = {0};
    uint32_t red, blue;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    assert_int_equal(sessions_tenant(engine_sessions(g), SLICE_LIT("red"), NULL, 0, &red, &e), OK);
    assert_int_equal(sessions_tenant(engine_sessions(g), SLICE_LIT("blue"), NULL, 0, &blue, &e),
                     OK);
    char *messages = long_system("who are you?");
    for (int round = 0; round < 2; round++) {
        ask_well(
            g,
            (struct ask){.messages = messages, .tenant = red, .max_tokens = 4, .session = "mine"},
            NULL, &u);
        assert_int_equal(u.computed_tokens == u.prompt_tokens, round == 0);
        engine_flush(g);
    }
    ask_well(g, (struct ask){.messages = messages, .tenant = blue, .max_tokens = 4}, NULL, &u);
    assert_int_equal(u.computed_tokens, u.prompt_tokens);
    assert_int_equal(u.diverged_at, -1);
    assert_string_equal(u.reason, "no stored chain begins like this");
    struct rig_answer *a =
        ask(g, &(struct ask){.messages = "[" USER("x") "]", .previous = "mine", .tenant = blue});
    assert_int_equal(a->error.code, E_NOT_FOUND);
    rig_answer_free(a);
    engine_close(g);
    g = open_at(dir, 0); /* and from the disk */
    assert_int_equal(sessions_tenant(engine_sessions(g), SLICE_LIT("blue"), NULL, 0, &blue, &e),
                     OK);
    assert_int_equal(sessions_tenant(engine_sessions(g), SLICE_LIT("red"), NULL, 0, &red, &e), OK);
    ask_well(g, (struct ask){.messages = messages, .max_tokens = 4}, NULL, &u);
    assert_int_equal(u.computed_tokens, u.prompt_tokens);
    ask_well(g, (struct ask){.messages = messages, .tenant = red, .max_tokens = 4}, NULL, &u);
    assert_int_equal(u.computed_tokens, 0);
    mem_free(messages);
    engine_close(g);
    rig_remove_dir(dir);
}

static void command(struct engine *g, const char *json)
{
    struct arena a;
    struct json *v;
    struct err e = {0};
    struct buf out;
    arena_init(&a, 1u << 20);
    buf_init(&out, 1u << 20);
    assert_int_equal(json_parse(slice_of(json), &a, &v, &e), OK);
    if (sessions_command(engine_sessions(g), 0, v, &out, &e) != OK)
        fail_msg("%s: %s", json, e.msg);
    buf_release(&out);
    arena_release(&a);
}

/* Of two sessions that do not fit together the pinned one stays. */
static void test_pinned_stays(void **state)
{
    (void)state;
    char dir[64];
    struct engine_usage u;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    char *kept = long_system("who is pinned?");
    ask_well(g, (struct ask){.messages = kept, .session = "kept", .max_tokens = 4}, NULL, NULL);
    command(g, "{\"op\":\"pin\",\"name\":\"kept\"}");
    char *other = mem_text(kept, strlen(kept));
    memcpy(strstr(other, "Rule 0"), "Rule X", 6);
    ask_well(g, (struct ask){.messages = other, .max_tokens = 4}, NULL, NULL);
    engine_close(g);
    g = open_at(dir, 8u << 20); /* room for one and a half; a pin is known again after opening */
    char *third = mem_text(kept, strlen(kept));
    memcpy(strstr(third, "Rule 0"), "Rule Y", 6);
    ask_well(g, (struct ask){.messages = third, .max_tokens = 4}, NULL, NULL);
    engine_close(g);
    g = open_at(dir, 8u << 20);
    ask_well(g, (struct ask){.messages = kept, .max_tokens = 4}, NULL, &u);
    print_message("pinned: %u of %u from disk\n", u.disk_tokens, u.prompt_tokens);
    assert_true(u.disk_tokens + 64 > u.prompt_tokens);
    ask_well(g, (struct ask){.messages = other, .max_tokens = 4}, NULL, &u);
    assert_true(u.computed_tokens > 1000);
    mem_free(kept);
    mem_free(other);
    mem_free(third);
    engine_close(g);
    rig_remove_dir(dir);
}

/* Files under dir that hold these bytes. */
static int n_files_with(const char *dir, const void *bytes, size_t n)
{
    char line[256], path[256];
    snprintf(line, sizeof line, "find '%s' -type f", dir);
    FILE *list = popen(line, "r");
    int found = 0;
    assert_non_null(list);
    while (fgets(path, sizeof path, list)) {
        char *text;
        size_t len;
        struct err e;
        path[strcspn(path, "\n")] = '\0';
        assert_int_equal(fs_read_file(os_fs_real(), path, 1u << 30, &text, &len, &e), OK);
        if (memmem(text, len, bytes, n)) {
            print_message("found in %s\n", path);
            found++;
        }
        mem_free(text);
    }
    pclose(list);
    return found;
}

/* A deleted session leaves neither its words nor its token ids in any file, after gc. */
static void test_deleted_is_gone(void **state)
{
    (void)state;
    char dir[64];
    struct err e = {0};
    struct session_content c;
    static const char secret[] = "the vault opens with 7-31-44 and a whistle";
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    ask_well(g,
             (struct ask){.messages = "[" USER("Something else, which stays. Who are you?") "]",
                          .session = "stays"},
             NULL, NULL);
    for (int turn = 0; turn < 3; turn++) {
        char messages[2048];
        snprintf(messages, sizeof messages, "[" USER("Remember: %s. Turn %d. Who are you?") "]",
                 secret, turn);
        ask_well(g, (struct ask){.messages = messages, .session = "gone"}, NULL, NULL);
    }
    assert_int_equal(
        sessions_read(engine_sessions(g), 0, SLICE_LIT("gone"), SESSION_WANT_TOKENS, &c, &e), OK);
    /* The name is used for another conversation: what it said before goes with it all the same. */
    ask_well(g,
             (struct ask){.messages = "[" USER("The weather is fine. Who are you?") "]",
                          .session = "gone"},
             NULL, NULL);
    engine_flush(g);
    uint32_t ids[8], turned[8];
    memcpy(ids, c.tokens + 8, sizeof ids);
    for (int i = 0; i < 8; i++)
        turned[i] = __builtin_bswap32(ids[i]); /* as siblings are sorted */
    session_content_release(&c);
    /* Its answer is kept as it was written too, and it is a response's. */
    ask_well(g,
             (struct ask){.messages = "[" USER(FACTS " What is the code of the red box?") "]",
                          .session = "answered",
                          .response = "resp_of_the_gone",
                          .is_replayed = true},
             NULL, NULL);
    engine_flush(g);
    assert_true(n_files_with(dir, "box is KX-4417.<end_of_turn>", 28) > 0);
    assert_true(n_files_with(dir, "resp_of_the_gone", 16) > 0);
    assert_true(n_files_with(dir, secret, strlen(secret)) > 0);
    assert_true(n_files_with(dir, ids, sizeof ids) > 0);
    command(g, "{\"op\":\"delete\",\"name\":\"gone\"}");
    command(g, "{\"op\":\"delete\",\"name\":\"answered\"}");
    command(g, "{\"op\":\"delete\",\"name\":\"resp_of_the_gone\"}"); /* it had the same turn */
    engine_close(g);
    struct store *s;
    struct store_options o = {.keep_free_bytes = 1};
    assert_int_equal(store_open(os_fs_real(), dir, &o, &s, &e), OK);
    assert_int_equal(store_collect(s, &e), OK);
    store_close(s);
    assert_int_equal(n_files_with(dir, secret, strlen(secret)), 0);
    assert_int_equal(n_files_with(dir, ids, sizeof ids), 0);
    assert_int_equal(n_files_with(dir, turned, sizeof turned), 0);
    assert_int_equal(n_files_with(dir, "KX-4417", 7), 0);
    assert_int_equal(n_files_with(dir, "resp_of_the_gone", 16), 0);
    assert_true(n_files_with(dir, "which stays", 11) > 0);
    rig_remove_dir(dir);
}

/* A chat without a name, which begins as all do, keeps its pages when a session is deleted; one
 * that went on from the session's words does not. */
static void test_deleting_spares_others(void **state)
{
    (void)state;
    char dir[64];
    struct engine_usage first, again;
    static const char other[] = "[" USER(FACTS " What is the code of the blue box?") "]",
                      words[] = USER("Tell me of the house with the red roof on the hill, please, "
                                     "and of all who ever lived in it before the flood came.");
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    ask_well(g, (struct ask){.messages = other, .max_tokens = 4}, NULL, &first);
    char kept[1024], on[1024];
    snprintf(kept, sizeof kept, "[%s]", words);
    snprintf(on, sizeof on, "[%s,{\"role\":\"assistant\",\"content\":\"No.\"}," USER("Why?") "]",
             words);
    ask_well(g, (struct ask){.messages = kept, .session = "s", .max_tokens = 4}, NULL, NULL);
    ask_well(g, (struct ask){.messages = on, .max_tokens = 4}, NULL, NULL);
    engine_flush(g);
    command(g, "{\"op\":\"delete\",\"name\":\"s\"}");
    engine_close(g);
    g = open_at(dir, 0);
    ask_well(g, (struct ask){.messages = other, .max_tokens = 4}, NULL, &again);
    print_message("of %u tokens %u are there\n", again.prompt_tokens, again.disk_tokens);
    assert_int_equal(again.computed_tokens, 0);
    ask_well(g, (struct ask){.messages = on, .max_tokens = 4}, NULL, &again);
    assert_true(again.computed_tokens + 16 > again.prompt_tokens);
    engine_close(g);
    rig_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_response_goes_on),
        cmocka_unit_test(test_evicted_session_goes_on),
        cmocka_unit_test(test_session_replays_its_ids),
        cmocka_unit_test(test_messages_have_places),
        cmocka_unit_test(test_agents_share),
        cmocka_unit_test(test_tenants_share_nothing),
        cmocka_unit_test(test_pinned_stays),
        cmocka_unit_test(test_deleting_spares_others),
        cmocka_unit_test(test_deleted_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
