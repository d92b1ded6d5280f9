/* SPDX-License-Identifier: MIT
 * tools_test.c — goal: a turn with tool calls is replayed by the bytes that the model wrote,
 * however the client serialises it, in either dialect, also by another process on the same store;
 * stored responses are there after a restart, too. Method: skald calls its lookup tool; the call is
 * sent back with other blanks, other escapes and another order; the prompt must hit the cache in
 * full but for what is new. */
#include <stdio.h>

#include "e2e.h"
#include "http/http_client.h"
#include "text/json.h"

#define QUESTION "Use the lookup tool: gate code of Velmora"
#define SCHEMA                                                                           \
    "{\"type\":\"object\",\"properties\":{\"key\":{\"type\":\"string\"}},\"required\":[" \
    "\"key\"]}"
#define CHAT_TOOLS                                                                                \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"lookup\",\"description\":\"Look " \
    "a key up\",\"parameters\":" SCHEMA "}}]"
#define ANTHROPIC_TOOLS                                                                          \
    "\"tools\":[{\"name\":\"lookup\",\"description\":\"Look a key up\",\"input_schema\":" SCHEMA \
    "}]"
#define NEW_TOKENS_MAX 30 /* of the tool's answer and what the template puts around it */

static struct serve server;
static struct arena arena;

static void start(void)
{
    e2e_serve(&server, e2e_path("tools-store"), NULL);
}

static void stop(void)
{
    int code = -1;
    MUST(serve_stop(&server, &code, e));
    assert_int_equal(code, 0);
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 64u << 20);
    start();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stop();
    arena_release(&arena);
    return 0;
}

static const struct json *request(const char *method, const char *path, const char *body, int http)
{
    char url[256];
    struct http_answer a = {0};
    struct json *v = NULL;
    struct err e = {0};
    snprintf(url, sizeof url, "%s%s", server.url, path);
    struct http_call call = {.url = url, .method = method, .body = slice_of(body)};
    if (http_client_call(server.http, &call, &a, &e) != OK)
        fail_msg("%s: %s", url, e.msg);
    if (a.status != http)
        fail_msg("%s %s: %d %s", method, path, a.status, a.body.ptr);
    if (json_parse(buf_slice(&a.body), &arena, &v, &e) != OK)
        fail_msg("%s: %s", path, e.msg);
    http_answer_release(&a);
    return v;
}

static const struct json *post(const char *path, const char *body)
{
    return request("POST", path, body, 200);
}

static int64_t tokens(const struct json *reply, const char *which)
{
    return json_get(json_get(json_get(reply, "kvasir"), "tokens"), which)->integer;
}

static void expect_replay(const struct json *reply, int64_t n_known, const char *what)
{
    int64_t known = tokens(reply, "memory") + tokens(reply, "disk");
    if (known < n_known || tokens(reply, "computed") > NEW_TOKENS_MAX)
        fail_msg("%s: known %d of %d, computed %d", what, (int)known, (int)n_known,
                 (int)tokens(reply, "computed"));
    assert_true(json_get(json_get(reply, "kvasir"), "replayed")->integer >= 1);
}

/* The call as clients send it back. */
static const char *const spellings[] = {
    "{\\\"key\\\": \\\"gate code of Velmora\\\"}",
    "{\\n   \\\"key\\\" :\\\"gate code of Velmora\\\"\\n}",
    "{\\\"key\\\":\\\"\\\\u0067ate code of Velmora\\\"}",
};

static void again(const char *id, size_t spelling, const char *result, int64_t n_known)
{
    char body[4096];
    snprintf(body, sizeof body,
             "{" CHAT_TOOLS ",\"temperature\":0,\"max_tokens\":12,\"messages\":[{\"role\":\"user\","
             "\"content\":\"" QUESTION "\"},{\"tool_calls\":[{\"function\":{\"arguments\":\"%s\","
             "\"name\":\"lookup\"},\"type\":\"function\",\"id\":\"%s\"}],\"content\":%s,\"role\":"
             "\"assistant\"},{\"role\":\"tool\",\"tool_call_id\":\"%s\",\"content\":\"%s\"}]}",
             spellings[spelling], id, spelling % 2 ? "\"\"" : "null", id, result);
    expect_replay(post("/v1/chat/completions", body), n_known, spellings[spelling]);
}

static void calls_are_replayed_however_they_come_back(void **state)
{
    (void)state;
    const struct json *first = post(
        "/v1/chat/completions", "{" CHAT_TOOLS ",\"temperature\":0,\"max_tokens\":60,"
                                "\"messages\":[{\"role\":\"user\",\"content\":\"" QUESTION "\"}]}");
    const struct json *choice = &json_get(first, "choices")->items[0];
    const struct json *calls = json_get(json_get(choice, "message"), "tool_calls");
    assert_non_null(calls);
    char id[128];
    snprintf(id, sizeof id, "%s", json_get(&calls->items[0], "id")->text.ptr);
    const struct json *usage = json_get(first, "usage");
    int64_t n_known =
        json_get(usage, "prompt_tokens")->integer + json_get(usage, "completion_tokens")->integer;
    again(id, 0, "4711", n_known);
    again(id, 1, "4712", n_known);
    again(id, 2, "4713", n_known);
    stop();
    start();
    again(id, 2, "4714", n_known);
    again(id, 1, "4715", n_known);
}

static void anthropic_calls_are_replayed_too(void **state)
{
    char body[4096];
    (void)state;
    const struct json *first = post(
        "/v1/messages", "{" ANTHROPIC_TOOLS ",\"temperature\":0,\"max_tokens\":60,\"messages\":"
                        "[{\"role\":\"user\",\"content\":\"" QUESTION "\"}]}");
    const struct json *block = &json_get(first, "content")->items[0];
    assert_true(slice_is(json_get(first, "stop_reason")->text, "tool_use"));
    assert_true(slice_is(json_get(block, "type")->text, "tool_use"));
    int64_t n_known = tokens(first, "memory") + tokens(first, "disk") + tokens(first, "computed") +
                      json_get(json_get(first, "usage"), "output_tokens")->integer;
    snprintf(body, sizeof body,
             "{" ANTHROPIC_TOOLS ",\"temperature\":0,\"max_tokens\":12,\"messages\":[{\"role\":"
             "\"user\",\"content\":\"" QUESTION "\"},{\"role\":\"assistant\",\"content\":[{"
             "\"type\":\"tool_use\",\"id\":\"%s\",\"name\":\"lookup\",\"input\":{\"key\":\"gate "
             "code of \\u0056elmora\"}}]},{\"role\":\"user\",\"content\":[{\"type\":"
             "\"tool_result\",\"tool_use_id\":\"%s\",\"content\":\"4716\"}]}]}",
             json_get(block, "id")->text.ptr, json_get(block, "id")->text.ptr);
    expect_replay(post("/v1/messages", body), n_known, "tool_use");
}

/* Tools that may be called beside an answer that must have a form: one of both is written. */
static void an_answer_has_its_form_beside_tools(void **state)
{
    (void)state;
    static const char form[] =
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":"
        "\"object\",\"properties\":{\"code\":{\"type\":\"string\",\"maxLength\":8}},\"required\":["
        "\"code\"],\"additionalProperties\":false}}}";
    static const char *const questions[] = {QUESTION, "What is a gate?"};
    uint32_t n_calls = 0;
    for (size_t i = 0; i < 2; i++) {
        char body[2048];
        snprintf(body, sizeof body,
                 "{" CHAT_TOOLS ",%s,\"temperature\":0,\"max_tokens\":200,\"messages\":[{\"role\":"
                 "\"user\",\"content\":\"%s\"}]}",
                 form, questions[i]);
        const struct json *reply = post("/v1/chat/completions", body);
        const struct json *choice = &json_get(reply, "choices")->items[0];
        const struct json *message = json_get(choice, "message"),
                          *calls = json_get(message, "tool_calls"), *v;
        if (calls && calls->kind == JSON_ARRAY) {
            n_calls++;
            v = json_get(json_get(&calls->items[0], "function"), "arguments");
        } else {
            v = json_get(message, "content");
        }
        struct json *parsed = NULL;
        struct err e;
        assert_int_equal(json_parse(v->text, &arena, &parsed, &e), OK);
        assert_non_null(json_get(parsed, calls && calls->kind == JSON_ARRAY ? "key" : "code"));
    }
    assert_true(n_calls >= 1); /* the first question asks for one */
}

static void stored_responses_outlive_the_server(void **state)
{
    char body[512], path[128], id[64];
    (void)state;
    const struct json *first =
        post("/v1/responses", "{\"input\":\"hello\",\"temperature\":0,\"max_output_tokens\":24}");
    const struct json *usage = json_get(first, "usage");
    assert_true(json_get(first, "store")->boolean);
    snprintf(id, sizeof id, "%s", json_get(first, "id")->text.ptr);
    snprintf(path, sizeof path, "/v1/responses/%s", id);
    stop();
    start();
    const struct json *kept = request("GET", path, "", 200);
    const struct json *a = &json_get(&json_get(first, "output")->items[0], "content")->items[0];
    const struct json *b = &json_get(&json_get(kept, "output")->items[0], "content")->items[0];
    assert_true(slice_equal(json_get(a, "text")->text, json_get(b, "text")->text));
    snprintf(body, sizeof body,
             "{\"input\":\"and then?\",\"temperature\":0,\"max_output_tokens\":8,"
             "\"previous_response_id\":\"%s\"}",
             id);
    const struct json *next = post("/v1/responses", body);
    int64_t n_known = json_get(usage, "total_tokens")->integer;
    assert_true(tokens(next, "memory") + tokens(next, "disk") >= n_known);
    assert_true(tokens(next, "computed") <= NEW_TOKENS_MAX);
    request("DELETE", path, "", 200);
    request("GET", path, "", 404);
    request("POST", "/v1/responses", body, 404);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(calls_are_replayed_however_they_come_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(anthropic_calls_are_replayed_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_has_its_form_beside_tools, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stored_responses_outlive_the_server, set_up, tear_down),
    };
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
