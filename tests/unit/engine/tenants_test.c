/* SPDX-License-Identifier: MIT
 * Goal:   what the operator marks as public serves every tenant, and nothing else does; a tenant
 * whose key is replaced keeps what was computed for it; not even times tell of another's prompts.
 * --pairs N: so many are timed (the soak). Method: skald, a long system text, three
 * tenants; by the counters of the replies, which the cache's look-up fills: tokens from memory and
 * from the disk, and where a known chain was left. */
#include "chats.h"
#include "os/clock.h"

#define RULES 100u

static uint32_t n_pairs = 13;

static char *chat(const char *question)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    buf_add_text(&b, "[{\"role\":\"system\",\"content\":\"");
    for (uint32_t i = 0; i < RULES; i++)
        buf_printf(&b, "Rule %u: answer in short words. ", i);
    buf_printf(&b, "\"}," USER("%s") "]", question);
    return buf_take(&b, NULL);
}

static struct engine_usage ask_as(struct engine *g, uint32_t tenant, const char *question,
                                  const char *session)
{
    char *messages = chat(question);
    struct engine_usage u;
    ask_well(
        g,
        (struct ask){.messages = messages, .tenant = tenant, .session = session, .max_tokens = 4},
        NULL, &u);
    mem_free(messages);
    engine_flush(g);
    return u;
}

static uint32_t tenant_of(struct engine *g, const char *name)
{
    uint32_t index;
    struct err e = {0};
    assert_int_equal(sessions_tenant(engine_sessions(g), slice_of(name), NULL, 0, &index, &e), OK);
    return index;
}

static uint32_t reused(struct engine_usage u)
{
    return u.memory_tokens + u.disk_tokens;
}

static void test_public_prefix(void **state)
{
    (void)state;
    char dir[64];
    struct err e = {0};
    struct buf out;
    rig_make_dir(dir);
    buf_init(&out, 1u << 16);
    struct engine *g = open_at(dir, 0);
    struct engine_usage first = ask_as(g, tenant_of(g, "red"), "Who are you?", "mine");
    uint32_t n_public = (first.prompt_tokens - 64) / 64 * 64;
    assert_int_equal(reused(ask_as(g, tenant_of(g, "blue"), "What is red?", NULL)), 0);
    assert_int_equal(sessions_publish(engine_sessions(g), tenant_of(g, "red"), SLICE_LIT("mine"),
                                      n_public, &out, &e),
                     OK);
    engine_close(g);
    g = open_at(dir, 0);
    /* Nobody has asked as green before: what it gets is public, and no token more. */
    struct engine_usage u = ask_as(g, tenant_of(g, "green"), "Who are you?", NULL);
    print_message("%u of %u tokens are public: %u reused\n", n_public, u.prompt_tokens, reused(u));
    assert_int_equal(reused(u), n_public);
    /* What green computed beneath is its own. */
    assert_int_equal(ask_as(g, tenant_of(g, "green"), "Who are you?", NULL).computed_tokens, 0);
    u = ask_as(g, tenant_of(g, "yellow"), "Who are you?", NULL);
    assert_int_equal(reused(u), n_public);
    assert_int_equal(u.diverged_at, -1); /* nor is it said that somebody went on from there */
    assert_int_equal(ask_as(g, tenant_of(g, "red"), "Who are you?", NULL).computed_tokens, 0);
    buf_release(&out);
    engine_close(g);
    rig_remove_dir(dir);
}

static void test_another_key(void **state)
{
    (void)state;
    char dir[64];
    struct err e = {0};
    const struct digest keys[2] = {{{1}}, {{2}}};
    uint32_t red;
    rig_make_dir(dir);
    for (int round = 0; round < 2; round++) {
        struct engine *g = open_at(dir, 0);
        assert_int_equal(
            sessions_tenant(engine_sessions(g), SLICE_LIT("red"), &keys[round], 1, &red, &e), OK);
        struct engine_usage u = ask_as(g, red, "Who are you?", "mine");
        assert_int_equal(u.computed_tokens == 0, round == 1);
        engine_close(g);
    }
    rig_remove_dir(dir);
}

/* One tenant's session is no session to another: neither listed nor found, by name or by id. */
static void test_nothing_is_listed(void **state)
{
    (void)state;
    char dir[64], request[256];
    struct err e = {0};
    struct arena a;
    struct json *v;
    struct buf out;
    rig_make_dir(dir);
    arena_init(&a, 1u << 20);
    buf_init(&out, 1u << 20);
    struct engine *g = open_at(dir, 0);
    uint32_t red = tenant_of(g, "red"), blue = tenant_of(g, "blue");
    ask_as(g, red, "Who are you?", "mine");
    assert_int_equal(json_parse(SLICE_LIT("{\"op\":\"list\"}"), &a, &v, &e), OK);
    assert_int_equal(sessions_command(engine_sessions(g), red, v, &out, &e), OK);
    buf_add_char(&out, '\0');
    const char *id = strstr(out.ptr, "\"id\":\"");
    assert_non_null(id);
    char names[2][40] = {"mine"};
    snprintf(names[1], sizeof names[1], "%.32s", id + 6);
    buf_clear(&out);
    assert_int_equal(sessions_command(engine_sessions(g), blue, v, &out, &e), OK);
    buf_add_char(&out, '\0');
    assert_non_null(strstr(out.ptr, "\"data\":[],\"total\":0"));
    static const char *const ops[] = {"show", "fork", "pin", "delete", "tag", "public"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (size_t n = 0; n < 2; n++) {
            snprintf(request, sizeof request, "{\"op\":\"%s\",\"name\":\"%s\"}", ops[i], names[n]);
            assert_int_equal(json_parse(slice_of(request), &a, &v, &e), OK);
            assert_int_equal(sessions_command(engine_sessions(g), blue, v, &out, &e), E_NOT_FOUND);
        }
    buf_release(&out);
    arena_release(&a);
    engine_close(g);
    rig_remove_dir(dir);
}

/* ---- times ---- */
/* Prompt `number`, of 50 sentences that begin otherwise in each. */
static double ask_timed(struct engine *g, uint32_t tenant, uint32_t number)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    buf_printf(&b, "[{\"role\":\"user\",\"content\":\"");
    for (uint32_t i = 0; i < 50; i++)
        buf_printf(&b, "Thing %u of %u lies on shelf %u. ", number, i, number * 31 % 97 + i);
    buf_printf(&b, "\"}]");
    char *messages = buf_take(&b, NULL);
    uint64_t start = clock_now_ns();
    ask_well(g, (struct ask){.messages = messages, .tenant = tenant, .max_tokens = 1}, NULL, NULL);
    double ms = clock_ms_since(start);
    mem_free(messages);
    return ms;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of pairs (a prompt that red computed, one that nobody did), asked by turns: the median of the
 * first's share of the time of both; 0.5: they cost the same. */
static double share_of_known(struct engine *g, uint32_t red, uint32_t asker, uint32_t first)
{
    double *shares = mem_new(n_pairs, sizeof *shares);
    for (uint32_t i = 0; i < n_pairs; i++)
        ask_timed(g, red, first + 2 * i);
    engine_flush(g);
    for (uint32_t i = 0; i < n_pairs; i++) {
        double ms[2];
        for (uint32_t k = 0; k < 2; k++) { /* which of both goes first changes */
            uint32_t is_fresh = (k + i) % 2;
            ms[is_fresh] = ask_timed(g, asker, first + 2 * i + is_fresh);
        }
        shares[i] = ms[0] / (ms[0] + ms[1]);
    }
    qsort(shares, n_pairs, sizeof *shares, ascending);
    double median =
        n_pairs % 2 ? shares[n_pairs / 2] : (shares[n_pairs / 2 - 1] + shares[n_pairs / 2]) / 2;
    mem_free(shares);
    return median;
}

/* Whoever measures how long answers take learns nothing of another tenant's prompts.  That the
 * measure could tell is shown by the tenant itself. */
static void test_times_tell_nothing(void **state)
{
    (void)state;
    char dir[64];
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0);
    uint32_t red = tenant_of(g, "red"), blue = tenant_of(g, "blue");
    double own = share_of_known(g, red, red, 0);
    double others = share_of_known(g, red, blue, 100000);
    print_message(
        "time of a known prompt as a share of it and an unknown one, %u pairs: the tenant's "
        "own %.3f, another's %.3f\n",
        n_pairs, own, others);
    assert_true(own < 0.35);
    /* A hit would give 0.01; in the soak a gain of a twentieth of the prefill, 0.487, is noticed.
     */
    double margin = n_pairs >= 100 ? 0.01 : 0.15;
    assert_true(others > 0.5 - margin && others < 0.5 + margin);
    engine_close(g);
    rig_remove_dir(dir);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--pairs") == 0)
        n_pairs = (uint32_t)strtoul(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public_prefix),
        cmocka_unit_test(test_another_key),
        cmocka_unit_test(test_nothing_is_listed),
        cmocka_unit_test(test_times_tell_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
