/* SPDX-License-Identifier: MIT
 * chat_test.c — goal: real chat templates give the prompts that transformers gives.
 * Method: tests/golden/templates, each template × conversation, rendered by transformers 5.23;
 * exact text, and where it raised, only that it fails. */
#include "golden.h"

#include <cmocka.h>

static struct lines conversations_file, special_file;
static struct json *conversations[64];
static size_t n_conversations;
static struct json *special_tokens;

static int set_up(void **state)
{
    struct slice line;
    (void)state;
    conversations_file = lines_open("tests/golden/templates/conversations.jsonl");
    while (lines_next(&conversations_file, &line))
        conversations[n_conversations++] = parse_json(&conversations_file, line);
    special_file = lines_open("tests/golden/templates/special_tokens.json");
    special_tokens = parse_json(&special_file, special_file.text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lines_close(&conversations_file);
    lines_close(&special_file);
    return 0;
}

static const struct json *conversation(struct slice id)
{
    for (size_t i = 0; i < n_conversations; i++)
        if (slice_equal(json_get(conversations[i], "id")->text, id))
            return conversations[i];
    fail_msg("no conversation %.*s", (int)id.len, id.ptr);
    return NULL;
}

/* Special tokens of the template and the conversation's own variables. */
static struct json *variables_of(struct arena *a, const char *template_name, const struct json *conv)
{
    const struct json *parts[] = {json_get(special_tokens, template_name), json_get(conv, "extra")};
    struct json *v = json_new_object(a, parts[0]->count + parts[1]->count);
    size_t n = 0;
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < parts[p]->count; i++)
            v->members[n++] = parts[p]->members[i];
    return v;
}

static char *render_conversation(struct arena *a, const char *template_name, const struct json *conv)
{
    char path[200];
    struct template *t = NULL;
    struct buf out;
    char *text = NULL;
    snprintf(path, sizeof path, "tests/golden/templates/jinja/%s.jinja", template_name);
    struct lines source = lines_open(path);
    const struct json *tools = json_get(conv, "tools");
    struct template_chat chat = {
        .messages = json_get(conv, "messages"),
        .tools = tools->kind == JSON_NULL ? NULL : tools,
        .variables = variables_of(a, template_name, conv),
        .add_generation_prompt = json_get(conv, "add_generation_prompt")->boolean,
        .continue_final_message = json_get(conv, "continue_final_message")->boolean,
        .now = golden_now,
    };
    buf_init(&out, TEMPLATE_OUTPUT_MAX);
    if (template_compile(source.text, &t, &last_error) != OK)
        fail_msg("%s: %s", template_name, last_error.msg);
    if (template_render_chat(t, &chat, &out, &last_error) == OK)
        text = buf_take(&out, NULL);
    template_free(t);
    buf_release(&out);
    lines_close(&source);
    return text;
}

static void rendered_as_by_transformers(void **state)
{
    (void)state;
    struct lines rendered = lines_open("tests/golden/templates/rendered.jsonl");
    struct slice line;
    int failed = 0, count = 0;
    while (lines_next(&rendered, &line)) {
        struct json *row = parse_json(&rendered, line);
        const char *name = json_get(row, "template")->text.ptr;
        const struct json *expected = json_get(row, "expected");
        char *text = render_conversation(&rendered.arena, name, conversation(json_get(row, "conv")->text));
        bool ok = expected ? text && slice_is(expected->text, text) : text == NULL;
        if (!ok) {
            print_error("%s × %s\n  got      %s\n  expected %s\n", name, json_get(row, "conv")->text.ptr,
                        text ? text : last_error.msg, expected ? expected->text.ptr : "an error");
            failed++;
        }
        mem_free(text);
        count++;
    }
    lines_close(&rendered);
    assert_int_equal(failed, 0);
    assert_int_equal(count, 306);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rendered_as_by_transformers)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
