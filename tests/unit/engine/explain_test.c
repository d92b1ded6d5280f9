/* SPDX-License-Identifier: MIT
 * Goal:   the cache says truly what of a prompt it has, where the prompt leaves that, and why.
 * Method: skald; a conversation is kept, then the reason for its absence is made on purpose:
 * another date, another word, eviction, damage, another KV type, another model, another tenant,
 * tools in the prompt, a place between resumable points. */
#include "os/fs.h"
#include "rig.h"

#define RULES \
    "Rule one: answer in short words. Rule two: never guess. Rule three: name your source."
#define BODY(date, word)                                                                    \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Today is " date ". " RULES " " RULES \
    "\"},{\"role\":\"user\",\"content\":\"" word " are you?\"}]"

static struct engine *open_model(const char *dir, enum kv_type kv_type, const char *model)
{
    struct engine *g = NULL;
    struct err e = {0};
    struct engine_options o = {.own.dir = dir,
                               .model_path = model,
                               .n_threads = 2,
                               .n_ctx = 4096,
                               .kv_type = kv_type,
                               .cache_max_bytes = 1u << 30,
                               .own.max_bytes = 1u << 30};
    if (engine_open(&o, &g, &e) != OK)
        fail_msg("engine_open: %s", e.msg);
    return g;
}

static struct engine *open_at(const char *dir, enum kv_type kv_type)
{
    return open_model(dir, kv_type, NULL);
}

/* Asks it as tenant, in the session "s". */
static void ask(struct engine *g, const char *body, uint32_t tenant)
{
    struct err e = {0};
    struct json *v;
    struct engine_request *r = engine_request_new(g);
    if (json_parse(slice_of(body), &r->arena, &v, &e) != OK)
        fail_msg("%s", e.msg);
    r->kind = PROMPT_CHAT;
    r->messages = json_get(v, "messages");
    r->tools = json_get(v, "tools");
    r->session = SLICE_LIT("s");
    r->tenant = tenant;
    r->sampling.temperature = 0;
    r->max_tokens = 4;
    struct rig_answer *a = rig_answer_new();
    rig_submit(g, r, a);
    rig_wait(a);
    if (a->error.code != OK)
        fail_msg("%s", a->error.msg);
    rig_answer_free(a);
    engine_flush(g);
}

static void expect(struct engine *g, const char *body, uint32_t tenant, bool is_operator,
                   const char *reason, const char *also)
{
    struct arena a;
    struct json *v;
    struct err e = {0};
    struct buf out;
    char want[64];
    arena_init(&a, 1u << 20);
    buf_init(&out, 1u << 20);
    if (json_parse(slice_of(body), &a, &v, &e) != OK)
        fail_msg("%s", e.msg);
    struct engine_request *r = engine_request_new(g);
    r->kind = PROMPT_CHAT;
    r->messages = json_get(v, "messages");
    r->tools = json_get(v, "tools");
    r->tenant = tenant;
    if (engine_explain(g, r, is_operator, &out, &e) != OK)
        fail_msg("%s", e.msg);
    engine_request_free(r);
    snprintf(want, sizeof want, "\"reason\":\"%s\"", reason);
    if (!strstr(out.ptr, want) || (also && !strstr(out.ptr, also)))
        fail_msg("%s %s: %s", reason, also ? also : "", out.ptr);
    struct json *parsed;
    assert_int_equal(json_parse(buf_slice(&out), &a, &parsed, &e), OK);
    int64_t n = json_get(parsed, "prompt_tokens")->integer;
    int64_t sum = json_get(parsed, "memory_tokens")->integer +
                  json_get(parsed, "disk_tokens")->integer +
                  json_get(parsed, "computed_tokens")->integer;
    assert_int_equal(n, sum);
    const struct json *pages = json_get(parsed, "pages");
    assert_int_equal(json_get(&pages->items[pages->count - 1], "to_token")->integer, n);
    buf_release(&out);
    arena_release(&a);
}

static void test_reasons(void **state)
{
    (void)state;
    char dir[64];
    struct err e = {0};
    uint32_t blue;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, KV_F16);
    assert_int_equal(sessions_tenant(engine_sessions(g), SLICE_LIT("blue"), NULL, 0, &blue, &e),
                     OK);
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "nothing_like_it", "\"divergence\":null");
    ask(g, BODY("2026-11-23", "Who") "}", 0);
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "known", "\"full_layers\":\"mapped\"");
    expect(g, BODY("2026-11-24", "Who") "}", 0, true, "volatile_header", "\"stored_text\":\"");
    expect(g, BODY("2026-11-23", "How") "}", 0, true, "other_text", "\"name\":\"s\"");
    expect(g, BODY("2026-11-23", "Who") "}", blue, true, "other_tenant", "\"name\":null");
    expect(g, BODY("2026-11-23", "Who") "}", blue, false, "nothing_like_it", "\"session\":null");
    engine_close(g);
    static const enum kv_type others[] = {KV_F32, KV_Q8_0, KV_Q4};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        g = open_at(dir, others[i]);
        expect(g, BODY("2026-11-23", "Who") "}", 0, true, "other_kv_type", "\"kv_type\":\"f16\"");
        engine_close(g);
    }
    g = open_at(dir, KV_F16);
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "known", "\"full_layers\":\"mapped\"");
    engine_close(g);
    struct store *s;
    struct store_options o = {.max_bytes = 1, .keep_free_bytes = 1};
    assert_int_equal(store_open(os_fs_real(), dir, &o, &s, &e), OK);
    assert_int_equal(store_collect(s, &e), OK);
    store_close(s);
    g = open_at(dir, KV_F16);
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "evicted", "\"full_layers\":\"absent\"");
    engine_close(g);
    rig_remove_dir(dir);
}

/* A session's tokens as another model, or another template, computed them. */
static void keep_as(struct engine *g, const char *body, const char *model, uint8_t root,
                    uint32_t from)
{
    struct arena a;
    struct json *v;
    struct err e = {0};
    struct session_content c;
    arena_init(&a, 1u << 20);
    assert_int_equal(json_parse(slice_of(body), &a, &v, &e), OK);
    assert_int_equal(
        sessions_read(engine_sessions(g), 0, SLICE_LIT("s"), SESSION_WANT_TOKENS, &c, &e), OK);
    const struct session_turn turn = {
        .name = slice_of(model),
        .tokens = c.tokens + from,
        .n_tokens = c.n_tokens - from,
        .messages = json_get(v, "messages"),
        .origin = {.root = {{root}}, .model = model, .kv_type = "f16", .digest = {{root}}}};
    assert_int_equal(sessions_keep(engine_sessions(g), &turn, &e), OK);
    session_content_release(&c);
    arena_release(&a);
}

static void test_other_model(void **state)
{
    (void)state;
    char dir[64];
    struct err e = {0};
    struct arena a;
    struct json *v;
    struct buf out;
    rig_make_dir(dir);
    struct engine *g = open_at(dir, KV_F16);
    ask(g, BODY("2026-11-23", "Who") "}", 0);
    keep_as(g, BODY("2026-11-23", "Who") "}", "larger", 5, 0);
    arena_init(&a, 1u << 20);
    buf_init(&out, 1u << 20);
    assert_int_equal(json_parse(SLICE_LIT("{\"op\":\"delete\",\"name\":\"s\"}"), &a, &v, &e), OK);
    assert_int_equal(sessions_command(engine_sessions(g), 0, v, &out, &e), OK);
    engine_close(g);
    g = open_at(dir, KV_F16);
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "other_model", "\"model\":\"larger\"");
    engine_close(g);
    buf_release(&out);
    arena_release(&a);
    rig_remove_dir(dir);
}

/* The same words, with tools in the text before them. */
static void test_template_changed(void **state)
{
    (void)state;
    char dir[64];
    rig_make_dir(dir);
    struct engine *g = open_at(dir, KV_F16);
    ask(g, BODY("2026-11-23", "Who") "}", 0);
    expect(g,
           BODY("2026-11-23",
                "Who") ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look_up\","
                       "\"description\":\"finds a thing\",\"parameters\":{\"type\":\"object\","
                       "\"properties\":{\"what\":{\"type\":\"string\"}}}}}]}",
           0, true, "template_changed", "\"name\":\"s\"");
    engine_close(g);
    rig_remove_dir(dir);
}

/* A long message that another one leaves half-way: the text is known up to there, but windowed
 * layers can go on from an earlier place only. */
static void test_window_not_kept(void **state)
{
    (void)state;
    char dir[64], body[2][16384];
    rig_make_dir(dir);
    for (int i = 0; i < 2; i++) {
        size_t at = (size_t)snprintf(body[i], sizeof body[i],
                                     "{\"messages\":[{\"role\":\"user\",\"content\":\"");
        for (int k = 0; k < 200; k++)
            at += (size_t)snprintf(body[i] + at, sizeof body[i] - at, "thing %d is %s. ", k,
                                   i && k == 150 ? "lost" : "here");
        snprintf(body[i] + at, sizeof body[i] - at, "\"}]}");
    }
    struct engine *g = open_at(dir, KV_F16);
    ask(g, body[0], 0);
    engine_close(g); /* in memory all of it is still there */
    g = open_at(dir, KV_F16);
    expect(g, body[0], 0, true, "known", NULL);
    expect(g, body[1], 0, true, "window_not_kept", "\"windowed_layers\":\"absent\"");
    engine_close(g);
    rig_remove_dir(dir);
}

struct keys {
    struct digest at[256];
    uint32_t n;
};

static bool take_key(const struct store_pin *pin, void *arg)
{
    struct keys *k = arg;
    k->at[k->n++] = pin->key;
    return k->n < 256;
}

/* Pages that were found damaged, and are set aside. */
static void test_damaged(void **state)
{
    (void)state;
    char dir[64];
    struct err e = {0};
    struct keys keys = {.n = 0};
    rig_make_dir(dir);
    struct engine *g = open_at(dir, KV_F16);
    ask(g, BODY("2026-11-23", "Who") "}", 0);
    engine_close(g);
    struct store *s;
    struct store_options o = {.keep_free_bytes = 1};
    assert_int_equal(store_open(os_fs_real(), dir, &o, &s, &e), OK);
    assert_int_equal(store_each(s, RECORD_PAGE, take_key, &keys, &e), OK);
    assert_true(keys.n > 1);
    for (uint32_t i = 0; i < keys.n; i++)
        store_quarantine(s, &keys.at[i], "a test");
    store_flush(s);
    store_close(s);
    g = open_at(dir, KV_F16);
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "damaged", "\"full_layers\":\"absent\"");
    ask(g, BODY("2026-11-23", "Who") "}", 0); /* slower, never lost */
    expect(g, BODY("2026-11-23", "Who") "}", 0, true, "known", NULL);
    engine_close(g);
    rig_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reasons),          cmocka_unit_test(test_other_model),
        cmocka_unit_test(test_template_changed), cmocka_unit_test(test_window_not_kept),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
