/* SPDX-License-Identifier: MIT
 * Goal:   whoever comes with a system text that is known computes only what is his own: also where
 *         the template writes that text into the first user's turn and layers are windowed, from
 *         memory and from the disk, one after another and side by side.
 * Method: skald (its template does so), system texts that end anywhere between two points at which
 *         windows are kept anyway; tokens reused as the replies say; every answer is compared with
 *         that of an engine that keeps nothing. */
#include "chats.h"

#define OWN_TOKENS_MAX 64u /* question, turn's marks, and what may differ where texts meet */

static char *chat(uint32_t n_rules, const char *question)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    buf_add_text(&b, "[{\"role\":\"system\",\"content\":\"");
    for (uint32_t i = 0; i < n_rules; i++)
        buf_printf(&b, "Rule %u: answer in short words. ", i);
    buf_printf(&b, "\"}," USER("%s") "]", question);
    return buf_take(&b, NULL);
}

static struct engine_usage ask_once(struct engine *g, uint32_t n_rules, const char *question,
                                    char *text)
{
    char *messages = chat(n_rules, question);
    struct engine_usage u;
    ask_well(g, (struct ask){.messages = messages, .max_tokens = 8}, text, &u);
    mem_free(messages);
    return u;
}

static void check_shared(const struct engine_usage *u)
{
    uint32_t reused = u->memory_tokens + u->disk_tokens;
    print_message("%u of %u tokens reused\n", reused, u->prompt_tokens);
    if (reused + OWN_TOKENS_MAX < u->prompt_tokens)
        fail_msg("%s", u->reason);
}

static const char *const questions[] = {
    "Who are you?",      "(why) is that so?", "7 + 4 = ?",
    "\\u00fcber Tiere?", "\\\"quoted\\\"?",   "\\nwhere?",
};

static void test_second_agent_reuses(void **state)
{
    (void)state;
    char dir[64], text[8192], control[8192];
    rig_make_dir(dir);
    struct engine *g = open_at(dir, 0), *fresh = open_at(NULL, 0);
    for (uint32_t n_rules = 30; n_rules <= 150; n_rules += 40) {
        for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
            if (i == 3) { /* and from the disk */
                engine_close(g);
                g = open_at(dir, 0);
            }
            struct engine_usage u = ask_once(g, n_rules, questions[i], text);
            if (i > 0)
                check_shared(&u);
            ask_once(fresh, n_rules, questions[i], control);
            assert_string_equal(text, control);
        }
    }
    engine_close(fresh);
    engine_close(g);
    rig_remove_dir(dir);
}

/* No system text: on disk, what two first messages share is learned when the second comes. */
static void test_third_agent_reuses(void **state)
{
    (void)state;
    char dir[64], facts[8192] = "", messages[3][9000];
    struct engine_usage u;
    rig_make_dir(dir);
    for (uint32_t i = 0; i < 80; i++)
        snprintf(facts + strlen(facts), sizeof facts - strlen(facts), "Box %u is red. ", i);
    for (uint32_t i = 0; i < 3; i++)
        snprintf(messages[i], sizeof messages[i], "[" USER("%s Question %c: which is red?") "]",
                 facts, "XYZ"[i]);
    for (uint32_t i = 0; i < 3; i++) {
        struct engine *g = open_at(dir, 0); /* anew: the second finds what is on disk only */
        ask_well(g, (struct ask){.messages = messages[i], .max_tokens = 8}, NULL, &u);
        if (i == 1)
            assert_string_equal(u.reason, "window not kept at the divergence");
        engine_close(g);
    }
    check_shared(&u);
    struct engine *g =
        open_at(NULL, 0); /* one process: the second begins where the first's parts */
    for (uint32_t i = 0; i < 2; i++)
        ask_well(g, (struct ask){.messages = messages[i], .max_tokens = 8}, NULL, &u);
    check_shared(&u);
    engine_close(g);
    rig_remove_dir(dir);
}

/* All at once: the text is computed by one, the others wait for it and begin where it ends. */
static void test_side_by_side(void **state)
{
    (void)state;
    struct engine *g = open_at(NULL, 0);
    struct rig_answer *answers[6];
    struct err e = {0};
    for (uint32_t i = 0; i < 6; i++) {
        char *messages = chat(90, questions[i]);
        struct engine_request *r = engine_request_new(g);
        struct json *parsed;
        assert_int_equal(json_parse(slice_of(messages), &r->arena, &parsed, &e), OK);
        r->kind = PROMPT_CHAT;
        r->messages = parsed;
        r->max_tokens = 4;
        answers[i] = rig_answer_new();
        rig_submit(g, r, answers[i]);
        mem_free(messages);
    }
    uint32_t n_whole = 0;
    for (uint32_t i = 0; i < 6; i++) {
        rig_wait(answers[i]);
        assert_int_equal(answers[i]->error.code, OK);
        const struct engine_usage *u = &answers[i]->usage;
        n_whole += u->computed_tokens > OWN_TOKENS_MAX;
        rig_answer_free(answers[i]);
    }
    assert_int_equal(n_whole, 1);
    engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_agent_reuses),
        cmocka_unit_test(test_third_agent_reuses),
        cmocka_unit_test(test_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
