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
static struct json *variables_of(struct arena *a, const char *template_name,
                                 const struct json *conv)
{
    const struct json *parts[] = {json_get(special_tokens, template_name), json_get(conv, "extra")};
    struct json *v = json_new_object(a, parts[0]->count + parts[1]->count);
    size_t n = 0;
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < parts[p]->count; i++)
            v->members[n++] = parts[p]->members[i];
    return v;
}

static char *render_conversation(struct arena *a, const char *template_name,
                                 const struct json *conv)
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
        char *text =
            render_conversation(&rendered.arena, name, conversation(json_get(row, "conv")->text));
        bool ok = expected ? text && slice_is(expected->text, text) : text == NULL;
        if (!ok) {
            print_error("%s × %s\n  got      %s\n  expected %s\n", name,
                        json_get(row, "conv")->text.ptr, text ? text : last_error.msg,
                        expected ? expected->text.ptr : "an error");
            failed++;
        }
        mem_free(text);
        count++;
    }
    lines_close(&rendered);
    assert_int_equal(failed, 0);
    assert_int_equal(count, 306);
}

/* ---- what the golden conversations leave out ---- */

struct case_row {
    const char *messages, *expected; /* expected NULL: E_INVALID */
};

static void expect_chat(const char *source, struct template_chat chat, const char *messages,
                        const char *expected)
{
    struct template *t = NULL;
    struct json *v = NULL;
    struct arena a;
    struct buf out;
    arena_init(&a, 1 << 20);
    buf_init(&out, 1 << 20);
    buf_add_text(&out, "|");
    if (json_parse(slice_of(messages), &a, &v, &last_error) != OK ||
        template_compile(slice_of(source), &t, &last_error) != OK)
        fail_msg("%s", last_error.msg);
    chat.messages = v;
    chat.now = golden_now;
    enum status st = template_render_chat(t, &chat, &out, &last_error);
    if (st != (expected ? OK : E_INVALID))
        fail_msg("%s: %s (%s)", messages, status_name(st), last_error.msg);
    assert_string_equal(out.ptr + 1, expected ? expected : "");
    template_free(t);
    buf_release(&out);
    arena_release(&a);
}

static void reasoning_has_many_names(void **state)
{
    (void)state;
    static const char source[] = "{% for m in messages %}{{ m | dictsort }}{% endfor %}";
    static const struct case_row rows[] = {
        {"[{\"role\":\"a\",\"reasoning\":\"R\"}]",
         "[('reasoning', 'R'), ('reasoning_content', 'R'), ('role', 'a'), ('thinking', 'R')]"},
        {"[{\"thinking\":\"T\",\"reasoning_content\":null}]",
         "[('reasoning_content', 'T'), ('thinking', 'T')]"},
        {"[{\"thinking\":\"T\",\"reasoning_content\":\"C\"}]",
         "[('reasoning_content', 'C'), ('thinking', 'T')]"},
        {"[{\"thinking\":null,\"reasoning\":\"R\"}]",
         "[('reasoning', 'R'), ('reasoning_content', 'R'), ('thinking', None)]"},
        {"[{\"thinking\":null}]", "[('thinking', None)]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_chat(source, (struct template_chat){0}, rows[i].messages, rows[i].expected);
}

static void continuing_the_final_message(void **state)
{
    (void)state;
    static const char plain[] = "{% for m in messages %}<{{ m.content }}>{% endfor %}";
    static const char trimmed[] = "{% for m in messages %}< {{ m.content | trim }}>{% endfor %}";
    static const char parts[] =
        "{% for m in messages %}{% for p in m.content %}({{ p.text }}){% endfor %}{% endfor %}";
    static const char leaves_out[] = "{% for m in messages[:-1] %}{{ m.content }}{% endfor %}";
    static const char doubled[] =
        "{% for m in messages %}{{ m.content }}/{{ m.content }};{% endfor %}";
    static const char no_content[] = "{% for m in messages %}{{ m.role }}{% endfor %}";
    struct template_chat chat = {.continue_final_message = true};
    expect_chat(plain, chat, "[{\"content\":\"a\"},{\"content\":\"b \"}]", "<a><b ");
    expect_chat(plain, chat, "[{\"content\":\"\"}]", "<");
    expect_chat(trimmed, chat, "[{\"content\":\" b \\n\"}]", "< b");
    expect_chat(parts, chat, "[{\"content\":[{\"text\":\"a\"},{\"text\":\"b\"},{\"image\":1}]}]",
                "(a)(b");
    expect_chat(doubled, chat, "[{\"content\":\"b\"}]", "bCONTINUE_FINAL_MESSAGE_TAG /b");
    expect_chat(leaves_out, chat, "[{\"content\":\"a\"},{\"content\":\"b\"}]", NULL);
    expect_chat(no_content, chat, "[{\"role\":\"a\",\"content\":\"b\"}]", NULL);
    expect_chat(plain, chat, "[]", NULL);
    expect_chat(plain, chat, "[{\"content\":null}]", NULL);
    expect_chat(plain, chat, "[{\"role\":\"x\"}]", NULL);
    expect_chat(plain, chat, "[{\"content\":5}]", NULL);
    expect_chat(parts, chat, "[{\"content\":[{\"image\":1}]}]", NULL);
    expect_chat(parts, chat, "[{\"content\":[{\"text\":1}]}]", NULL);
}

static void messages_must_be_objects(void **state)
{
    (void)state;
    expect_chat("x", (struct template_chat){0}, "[1]", NULL);
    expect_chat("x", (struct template_chat){0}, "{}", NULL);
    expect_chat("x", (struct template_chat){0}, "null", NULL);
}

static void variables_do_not_hide_the_chat(void **state)
{
    (void)state;
    struct json_member extra[] = {
        {SLICE_LIT("messages"), {.kind = JSON_BOOL}},
        {SLICE_LIT("tools"), {.kind = JSON_BOOL}},
        {SLICE_LIT("n"), {.kind = JSON_INT, .integer = 7}},
    };
    struct json variables = {.kind = JSON_OBJECT, .count = 3, .members = extra};
    struct template_chat chat = {.variables = &variables, .add_generation_prompt = true};
    expect_chat("{{ messages }}{{ tools }}{{ documents }}{{ n }}{{ add_generation_prompt }}", chat,
                "[]", "[]NoneNone7True");
}

/* ---- built-in templates ---- */

static bool has_token(const void *context, const char *token)
{
    return context && strcmp(context, token) == 0;
}

static const char *default_for(const char *arch, const char *token)
{
    return template_default(arch, (struct template_vocabulary){has_token, token});
}

#define TALK                                                                           \
    "[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":" \
    "[{\"type\":\"text\",\"text\":\"Hi \"},{\"type\":\"image\"}]},"                    \
    "{\"role\":\"assistant\",\"content\":\"Yo\"},{\"role\":\"user\",\"content\":\"Bye\"}]"

static void default_templates(void **state)
{
    (void)state;
    struct template_chat chat = {.add_generation_prompt = true};
    const char *chatml =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
        "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n";
    expect_chat(default_for("llama", "<|im_start|>"), chat, TALK, chatml);
    expect_chat(default_for("qwen2", NULL), chat, TALK, chatml);
    expect_chat(default_for("qwen3", NULL), chat, TALK, chatml);
    expect_chat(default_for("llama", "<|start_header_id|>"), chat, TALK,
                "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n");
    expect_chat(
        default_for("llama", NULL), chat, TALK,
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yo </s><s>[INST] Bye [/INST]");
    expect_chat(default_for("gemma3", NULL), chat, TALK,
                "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYo"
                "<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
    assert_null(default_for("bert", NULL));
    assert_ptr_equal(default_for("bert", "<start_of_turn>"), default_for("gemma3", NULL));
}

static void default_chatml_with_tools(void **state)
{
    (void)state;
    struct arena a;
    struct json *tools = NULL;
    arena_init(&a, 1 << 20);
    assert_int_equal(json_parse(SLICE_LIT("[{\"name\":\"f\"}]"), &a, &tools, &last_error), OK);
    struct template_chat chat = {.tools = tools};
    expect_chat(
        default_for("qwen3", NULL), chat,
        "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"U\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":{\"a\":1}}},{\"name\":\"g\",\"arguments\":\"{}\"}]},"
        "{\"role\":\"tool\",\"content\":\"1\"},{\"role\":\"tool\",\"content\":\"2\"}]",
        "<|im_start|>system\nS\n\n# Tools\n\nYou may call one or more functions to assist with the "
        "user query.\n\nYou are provided with function signatures within <tools></tools> XML "
        "tags:\n"
        "<tools>\n{\"name\": \"f\"}\n</tools>\n\nFor each function call, return a json object with "
        "function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n"
        "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", "
        "\"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": "
        "{}}\n"
        "</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n1\n</tool_response>\n"
        "<tool_response>\n2\n</tool_response><|im_end|>\n");
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rendered_as_by_transformers),
        cmocka_unit_test(reasoning_has_many_names),
        cmocka_unit_test(continuing_the_final_message),
        cmocka_unit_test(messages_must_be_objects),
        cmocka_unit_test(variables_do_not_hide_the_chat),
        cmocka_unit_test(default_templates),
        cmocka_unit_test(default_chatml_with_tools),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
