/* SPDX-License-Identifier: MIT
 * forms_test.c — goal: whatever a client asks for (a call, an answer of some form, either), in each
 * family's way of writing calls, the grammar of the turn allows what the model was taught and no
 * call of another function, no arguments of another form; and what it allows is read back as that
 * call.  Method: a table of template, request and texts; each allowed text also goes through
 * turn.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/api_int.h"
#include "fake_engine.h"

#define TOOLS                                                                                    \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{"      \
    "\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":"     \
    "\"integer\"},\"unit\":{\"enum\":[\"C\",\"F\"]}},\"required\":[\"city\"],"                   \
    "\"additionalProperties\":false}}},{\"type\":\"function\",\"function\":{\"name\":\"clock\"," \
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"zone\":{\"$ref\":\"#/$defs/Z\"}},"    \
    "\"$defs\":{\"Z\":{\"type\":\"string\"}},\"additionalProperties\":false}}}]"
#define FORM                                                                            \
    ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{"      \
    "\"type\":\"object\",\"properties\":{\"ok\":{\"type\":\"boolean\"}},\"required\":[" \
    "\"ok\"],\"additionalProperties\":false}}}"
#define REQUIRED ",\"tool_choice\":\"required\""
#define NAMED    ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"clock\"}}"
#define HERMES   "<tool_call>"
#define GEMMA    "<start_function_call>"
#define GEMMA4   "<|tool_call>"
#define DEEPSEEK "<｜tool▁calls▁begin｜>"
#define SEP      "<｜tool▁sep｜>"

struct form_case {
    const char *template, *more, *suffix, *trigger; /* trigger: by which the grammar begins */
    const char *yes[6], *no[6];
};
static const struct form_case cases[] = {
    {HERMES,
     REQUIRED,
     "<tool_call>\n",
     "",
     {"{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}",
      "{\"name\": \"clock\", \"arguments\": {\"zone\":\"x\"}}"},
     {"{\"name\": \"other\", \"arguments\": {}}", "{\"name\": \"weather\", \"arguments\": {}}",
      "{\"name\": \"clock\", \"arguments\": {\"zone\":1}}", "hello"}},
    {HERMES,
     NAMED,
     "<tool_call>\n",
     "",
     {"{\"name\": \"clock\", \"arguments\": {}}"},
     {"{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}"}},
    {HERMES,
     "",
     "",
     "<tool_call>\n",
     {"{\"name\": \"clock\", \"arguments\": {}}"},
     {"{\"name\": \"date\", \"arguments\": {}}"}},
    {HERMES,
     FORM,
     "",
     "",
     {"{\"ok\":true}", "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>",
      "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\":\"UTC\"}}\n</tool_call>"},
     {"{\"ok\":1}", "hello", "<tool_call>\n{\"name\": \"x\", \"arguments\": {}}\n</tool_call>",
      "{\"ok\":true}<tool_call>"}},
    {HERMES,
     FORM ",\"parallel_tool_calls\":false",
     "",
     "",
     {"<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>"},
     {"<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>\n"
      "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>"}},
    {HERMES,
     ",\"grammar\":\"root ::= \\\"yes\\\" | no\\nno ::= \\\"no\\\"\"",
     "",
     "",
     {"yes", "no", "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>"},
     {"maybe"}},
    {"<|python_tag|>",
     REQUIRED,
     "",
     "",
     {"{\"name\": \"clock\", \"parameters\": {}}"},
     {"{\"name\": \"clock\", \"arguments\": {}}"}},
    {"<|python_tag|>",
     FORM,
     "",
     "",
     {"{\"ok\":false}", "{\"name\": \"clock\", \"parameters\": {}}"},
     {"{\"name\": \"clock\"}"}},
    {"[TOOL_CALLS][",
     REQUIRED,
     "[TOOL_CALLS][",
     "",
     {"{\"name\": \"clock\", \"arguments\": {}}"},
     {"{\"name\": \"date\", \"arguments\": {}}"}},
    {"[TOOL_CALLS] [",
     "",
     "",
     "[TOOL_CALLS] [",
     {"{\"name\": \"clock\", \"arguments\": {}}]",
      "{\"name\": \"clock\", \"arguments\": {}}, {\"name\": \"clock\", \"arguments\": {}}]"},
     {"{\"name\": \"date\", \"arguments\": {}}]"}},
    {"[TOOL_CALLS] [",
     FORM,
     "",
     "",
     {"{\"ok\":true}", "[TOOL_CALLS] [{\"name\": \"clock\", \"arguments\": {}}]"},
     {"[TOOL_CALLS] [{\"name\": \"date\", \"arguments\": {}}]"}},
    {"[TOOL_CALLS] [ARGS]",
     REQUIRED,
     "[TOOL_CALLS]",
     "",
     {"clock[ARGS]{}", "weather[ARGS]{\"city\":\"Rome\"}", "clock[CALL_ID]abcdef123[ARGS]{}"},
     {"weather[ARGS]{}", "date[ARGS]{}", "clock{}"}},
    {"[TOOL_CALLS] [ARGS]", NAMED, "[TOOL_CALLS]clock[ARGS]", "", {"{}"}, {"{\"zone\":1}"}},
    {"[TOOL_CALLS] [ARGS]",
     FORM,
     "",
     "",
     {"{\"ok\":true}", "[TOOL_CALLS]clock[ARGS]{}[TOOL_CALLS]clock[ARGS]{}"},
     {"clock[ARGS]{}"}},
    {DEEPSEEK,
     REQUIRED,
     DEEPSEEK "<｜tool▁call▁begin｜>",
     "",
     {"clock" SEP "{}", "weather" SEP "{\"city\":\"Rome\"}"},
     {"date" SEP "{}", "weather" SEP "{}"}},
    {DEEPSEEK "```json",
     "",
     "",
     "<｜tool▁call▁begin｜>function" SEP,
     {"clock\n```json\n{}"},
     {"clock\n{}", "date\n```json\n{}"}},
    {DEEPSEEK,
     FORM,
     "",
     "",
     {"{\"ok\":true}",
      DEEPSEEK "<｜tool▁call▁begin｜>clock" SEP "{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
     {DEEPSEEK "<｜tool▁call▁begin｜>date" SEP "{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"}},
    {GEMMA,
     REQUIRED,
     "<start_function_call>call:",
     "",
     {"clock{}", "clock{zone:<escape>UTC<escape>}", "weather{city:<escape>Rome<escape>}",
      "weather{city:<escape>a <em>b</em> c<escape>,days:3,unit:<escape>C<escape>}",
      "weather{city:<escape>Rome<escape>,unit:<escape>F<escape>}"},
     {"weather{}", "date{}", "weather{days:3}", "weather{city:Rome}",
      "weather{city:<escape>Rome<escape>,unit:<escape>K<escape>}",
      "weather{city:<escape>Rome<escape>,days:<escape>3<escape>}"}},
    {GEMMA4,
     NAMED,
     "<|tool_call>call:",
     "",
     {"clock{}", "clock{zone:<|\"|>UTC<|\"|>}"},
     {"weather{city:<|\"|>Rome<|\"|>}"}},
    {GEMMA, "", "", "<start_function_call>call:", {"clock{}"}, {"date{}"}},
    {GEMMA,
     FORM,
     "",
     "",
     {"{\"ok\":true}", "<start_function_call>call:clock{}<end_function_call>"},
     {"<start_function_call>call:date{}<end_function_call>"}},
    {"<|channel|>",
     REQUIRED,
     "<|channel|>commentary to=functions.",
     "",
     {"clock <|constrain|>json<|message|>{}",
      "weather <|constrain|>json<|message|>{\"city\":\"R\"}",
      "clock<|channel|>commentary json<|message|>{}"},
     {"date <|constrain|>json<|message|>{}", "weather <|constrain|>json<|message|>{}"}},
    {"<|channel|>",
     "",
     "",
     " to=functions.",
     {"clock <|constrain|>json<|message|>{}",
      "clock<|channel|>commentary <|constrain|>json<|message|>{}"},
     {"date <|constrain|>json<|message|>{}"}},
    {"<|channel|>",
     FORM,
     "",
     "<|channel|>",
     {"analysis<|message|>", "commentary<|message|>", "final<|message|>{\"ok\":true}",
      "final <|constrain|>json<|message|>{\"ok\":true}",
      "commentary to=functions.clock <|constrain|>json<|message|>{}"},
     {"final<|message|>hello", "commentary to=functions.date <|constrain|>json<|message|>{}"}},
};

static struct grammar *grammar_of(const struct engine_request *r, const char *what)
{
    const struct grammar_source source = {.text = r->grammar,
                                          .root = r->grammar_root,
                                          .schemas = r->grammar_schemas,
                                          .n_schemas = r->n_grammar_schemas};
    struct grammar *g = NULL;
    struct err e = {0};
    enum status st =
        r->schema ? grammar_from_schema(r->schema, &g, &e) : grammar_from_source(&source, &g, &e);
    if (st != OK)
        fail_msg("%s: %s\n%.*s", what, e.msg, SLICE_ARG(r->grammar));
    return g;
}

/* The names of the calls in a turn, each with its arguments, which must be JSON. */
static uint32_t count_calls(const struct api_call *c, const char *begun, const char *text)
{
    struct turn_options options = {.format = c->format, .finds_calls = true, .tools = c->tools};
    struct turn t;
    struct arena arena;
    struct buf arguments;
    uint32_t n = 0;
    arena_init(&arena, 1 << 20);
    buf_init(&arguments, 1 << 20);
    turn_init(&t, &options);
    turn_feed(&t, slice_of(begun));
    turn_feed(&t, slice_of(text));
    for (struct turn_item i; (i = turn_next(&t, true)).kind != TURN_NOTHING;) {
        struct json *v;
        struct err e;
        if (i.kind == TURN_CALL)
            assert_true(slice_is(i.text, "clock") || slice_is(i.text, "weather"));
        if (i.kind == TURN_ARGUMENTS)
            buf_add_slice(&arguments, i.text);
        if (i.kind != TURN_CALL_END)
            continue;
        n++;
        if (json_parse(buf_slice(&arguments), &arena, &v, &e) != OK || v->kind != JSON_OBJECT)
            fail_msg("%s%s: arguments %.*s", begun, text, SLICE_ARG(buf_slice(&arguments)));
        buf_clear(&arguments);
    }
    turn_release(&t);
    buf_release(&arguments);
    arena_release(&arena);
    return n;
}

static void check_texts(const struct form_case *x, const struct api_call *c,
                        const struct grammar *g)
{
    bool yes;
    struct err e;
    for (size_t i = 0; i < 6 && x->yes[i]; i++) {
        assert_int_equal(grammar_matches(g, slice_of(x->yes[i]), &yes, &e), OK);
        if (!yes)
            fail_msg("%s%s should allow %s", x->template, x->more, x->yes[i]);
        bool is_call = strstr(x->yes[i], "clock") || strstr(x->yes[i], "weather") ||
                       strstr(x->suffix, "clock");
        char begun[512];
        snprintf(begun, sizeof begun, "%s%s", x->suffix, x->trigger);
        if (strcmp(x->trigger, " to=functions.") == 0)
            snprintf(begun, sizeof begun, "<|channel|>commentary to=functions.");
        else if (strstr(x->trigger, SEP)) /* the mark around all calls stands before */
            snprintf(begun, sizeof begun, DEEPSEEK "%s", x->trigger);
        uint32_t n = count_calls(c, begun, x->yes[i]);
        if (is_call != (n > 0))
            fail_msg("%s%s: %u calls in %s", x->template, x->more, n, x->yes[i]);
    }
    for (size_t i = 0; i < 6 && x->no[i]; i++) {
        assert_int_equal(grammar_matches(g, slice_of(x->no[i]), &yes, &e), OK);
        if (yes)
            fail_msg("%s%s should not allow %s", x->template, x->more, x->no[i]);
    }
}

static void turns_are_of_the_form_asked_for(void **state)
{
    (void)state;
    struct engine *engine = fake_engine_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct form_case *x = &cases[i];
        char body[4096], what[512];
        struct api_context context = {.model_name = "m",
                                      .n_vocab = FAKE_VOCAB,
                                      .n_ctx = 2048,
                                      .template_source = slice_of(x->template)};
        struct engine_request *r = engine_request_new(engine);
        struct api_call *c = NULL;
        struct api_error error = {0};
        snprintf(body, sizeof body,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," TOOLS "%s}", x->more);
        snprintf(what, sizeof what, "%s%s", x->template, x->more);
        if (api_call_new(&dialect_openai_chat, slice_of(body), SLICE_LIT(""), &context, r, &c,
                         &error) != OK)
            fail_msg("%s: %s", what, error.message);
        if (!slice_is(r->suffix, x->suffix) || !slice_is(r->trigger, x->trigger))
            fail_msg("%s: suffix %.*s, trigger %.*s", what, SLICE_ARG(r->suffix),
                     SLICE_ARG(r->trigger));
        struct grammar *g = grammar_of(r, what);
        check_texts(x, c, g);
        grammar_free(g);
        api_call_free(c);
        engine_request_free(r);
    }
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(turns_are_of_the_form_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
