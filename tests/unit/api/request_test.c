/* SPDX-License-Identifier: MIT
 * request_test.c — goal: each field of a request reaches the engine as docs/api/openai.md says, or
 * is refused with its name.  Method: tables of bodies. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/api.h"
#include "fake_engine.h"

static const struct api_dialect *dialect_of(const char *path)
{
    struct slice id;
    const char *allow;
    return api_endpoint_find(SLICE_LIT("POST"), slice_of(path), &id, &allow)->dialect;
}
#define API_CHAT dialect_of("/v1/chat/completions")
#define API_TEXT dialect_of("/v1/completions")

#define CHAT(fields) "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" fields "}"
#define TEXT(fields) "{\"prompt\":\"hi\"" fields "}"

static struct engine *engine;
static struct engine_request *request;
static struct api_call *call;
static struct api_error error;

static int set_up(void **state)
{
    (void)state;
    fake_script = (struct fake_script){.pieces = {"a", "b", "c"}, .n_pieces = 3};
    engine = fake_engine_new();
    return 0;
}

static void drop(void)
{
    api_call_free(call);
    call = NULL;
    if (request)
        engine_request_free(request);
    request = NULL;
}

static int tear_down(void **state)
{
    (void)state;
    drop();
    engine_close(engine);
    return 0;
}

static enum status read_as(const struct api_dialect *dialect, const char *body, const char *session)
{
    struct api_context context = {.model_name = "m",
                                  .n_vocab = FAKE_VOCAB,
                                  .tokenizer = engine_tokenizer(engine),
                                  .now_unix_s = 1};
    drop();
    request = engine_request_new(engine);
    error = (struct api_error){0};
    return api_call_new(dialect, slice_of(body), slice_of(session), &context, request, &call,
                        &error);
}

static void expect_ok(const struct api_dialect *dialect, const char *body)
{
    if (read_as(dialect, body, "") != OK)
        fail_msg("%s: %s", body, error.message);
}

struct refusal {
    const char *body, *param, *word; /* word: in the message */
};

static void expect_refusals(const struct api_dialect *dialect, const struct refusal *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (read_as(dialect, r[i].body, "") == OK)
            fail_msg("taken: %s", r[i].body);
        assert_null(call);
        if (error.http != 400 || strcmp(error.type, "invalid_request_error") != 0 ||
            strcmp(error.param, r[i].param) != 0 || !strstr(error.message, r[i].word))
            fail_msg("%s: %d %s param=%s: %s", r[i].body, error.http, error.type, error.param,
                     error.message);
    }
}
#define EXPECT_REFUSALS(dialect, r) expect_refusals(dialect, r, sizeof(r) / sizeof *(r))

static void keeps_defaults(void **state)
{
    (void)state;
    expect_ok(API_CHAT, CHAT(""));
    struct sampler_params d = engine_info(engine)->sampling;
    assert_memory_equal(&request->sampling, &d, sizeof d);
    assert_int_equal(request->max_tokens, ENGINE_TOKENS_ALL);
    assert_int_equal(request->n_choices, 1);
    assert_true(request->add_generation_prompt);
    assert_false(request->has_seed || request->ignore_eos || request->no_cache);
    assert_null(request->tools);
    assert_null(request->variables);
    assert_false(api_call_is_stream(call));
    /* null is absent */
    expect_ok(API_CHAT,
              CHAT(",\"temperature\":null,\"stop\":null,\"max_tokens\":null,\"seed\":null,"
                   "\"logit_bias\":null,\"stream\":null,\"stream_options\":null,\"tools\":null,"
                   "\"response_format\":null,\"tool_choice\":null,\"n\":null,\"user\":null"));
    assert_memory_equal(&request->sampling, &d, sizeof d);
}

static void reads_sampling(void **state)
{
    (void)state;
    expect_ok(API_CHAT,
              CHAT(",\"temperature\":0,\"top_p\":0.5,\"min_p\":0.1,\"typical_p\":0.9,\"top_k\":7,"
                   "\"repeat_penalty\":1.1,\"repeat_last_n\":-1,\"presence_penalty\":-0.5,"
                   "\"frequency_penalty\":2,\"seed\":-7,\"ignore_eos\":true,"
                   "\"cache_prompt\":false,\"n\":3,\"max_tokens\":12"));
    const struct sampler_params *p = &request->sampling;
    assert_true(p->temperature == 0 && p->top_p == 0.5f && p->min_p == 0.1f &&
                p->typical_p == 0.9f);
    assert_true(p->repeat_penalty == 1.1f && p->presence_penalty == -0.5f &&
                p->frequency_penalty == 2);
    assert_int_equal(p->top_k, 7);
    assert_int_equal(p->repeat_last_n, -1);
    assert_true(request->has_seed && p->seed == (uint64_t)-7);
    assert_true(request->ignore_eos && request->no_cache);
    assert_int_equal(request->n_choices, 3);
    assert_int_equal(request->max_tokens, 12);
    expect_ok(API_CHAT,
              CHAT(",\"seed\":-1,\"top_k\":40.0,\"max_tokens\":3,\"max_completion_tokens\":4"));
    assert_false(request->has_seed);
    assert_int_equal(request->max_tokens, 4);
    expect_ok(API_CHAT, CHAT(",\"seed\":18446744073709551615"));
    assert_true(request->has_seed && request->sampling.seed == UINT64_MAX);
    expect_ok(API_CHAT, CHAT(",\"n_predict\":-1"));
    assert_int_equal(request->max_tokens, ENGINE_TOKENS_ALL);
    expect_ok(API_CHAT, CHAT(",\"n_predict\":9"));
    assert_int_equal(request->max_tokens, 9);
}

static void expect_order(const char *field, uint8_t n, const enum sampler_filter *at)
{
    char body[300];
    snprintf(body, sizeof body, CHAT(",\"samplers\":%s"), field);
    expect_ok(API_CHAT, body);
    const struct filter_order *o = &request->sampling.order;
    assert_true(o->is_given);
    assert_int_equal(o->n, n);
    for (uint8_t i = 0; i < n; i++)
        assert_int_equal(o->at[i], at[i]);
}

static void reads_filters(void **state)
{
    (void)state;
    expect_ok(API_TEXT,
              TEXT(",\"mirostat\":2,\"mirostat_tau\":4,\"mirostat_eta\":0.5,\"dynatemp_range\":1,"
                   "\"dynatemp_exponent\":2,\"top_n_sigma\":-1,\"xtc_probability\":0.25,"
                   "\"xtc_threshold\":0.5,\"dry_multiplier\":0.75,\"dry_base\":2,"
                   "\"dry_allowed_length\":3,\"dry_penalty_last_n\":99,\"adaptive_target\":0.5,"
                   "\"adaptive_decay\":0.25,\"min_keep\":4,\"post_sampling_probs\":true"));
    const struct sampler_params *p = &request->sampling;
    assert_true(p->mirostat_tau == 4 && p->mirostat_eta == 0.5f && p->dynatemp_range == 1);
    assert_true(p->dynatemp_exponent == 2 && p->top_n_sigma == -1);
    assert_true(p->xtc_probability == 0.25f && p->xtc_threshold == 0.5f);
    assert_true(p->dry_multiplier == 0.75f && p->dry_base == 2);
    assert_true(p->adaptive_target == 0.5f && p->adaptive_decay == 0.25f && p->wants_drawn);
    assert_int_equal(p->mirostat, 2);
    assert_int_equal(p->dry_allowed_length, 3);
    assert_int_equal(p->dry_penalty_last_n, 99);
    assert_int_equal(p->min_keep, 4);
    assert_false(p->order.is_given);
    expect_ok(API_TEXT, TEXT(",\"dry_base\":0.5")); /* as there: the default */
    assert_true(request->sampling.dry_base == engine_info(engine)->sampling.dry_base);
    expect_ok(dialect_of("/completion"), TEXT(",\"n_indent\":4"));
    assert_int_equal(request->n_indent, 4);
    expect_ok(dialect_of("/api/generate"), TEXT(",\"options\":{\"mirostat\":1,\"tfs_z\":0.5}"));
    assert_int_equal(request->sampling.mirostat, 1);
    const enum sampler_filter at[] = {FILTER_TEMPERATURE, FILTER_XTC, FILTER_PENALTIES, FILTER_DRY,
                                      FILTER_TYPICAL_P};
    expect_order("[\"temperature\",\"xtc\",\"penalties\",\"dry\",\"typ_p\"]", 5, at);
    expect_order("\"txedy\"", 5, at);
    expect_order("[]", 0, at);
    expect_order("\"\"", 0, at);
}

/* Each has what the tokenizer makes of all its rests; the one here makes a token of each byte. */
static void reads_breakers(void **state)
{
    (void)state;
    expect_ok(API_TEXT, TEXT(",\"dry_sequence_breakers\":[\"\\n\",\"\",\"abc\"]"));
    const struct sampler_params *p = &request->sampling;
    assert_int_equal(p->n_breakers, 2);
    assert_true(slice_is(p->breakers[0].text, "\n") && !p->breakers[0].rests);
    assert_true(slice_is(p->breakers[1].text, "abc"));
    assert_int_equal(p->breakers[1].rests[1].n, 2);
    assert_int_equal(p->breakers[1].rests[2].n, 1);
    assert_int_equal(p->breakers[1].rests[1].tokens[1], p->breakers[1].rests[2].tokens[0]);
}

static void reads_stops_and_bias(void **state)
{
    (void)state;
    expect_ok(API_CHAT, CHAT(",\"stop\":\"END\""));
    assert_int_equal(request->n_stops, 1);
    assert_true(slice_is(request->stops[0], "END"));
    expect_ok(API_CHAT, CHAT(",\"stop\":[\"a\",\"\",\"\\n\"]"));
    assert_int_equal(request->n_stops, 2);
    assert_true(slice_is(request->stops[1], "\n"));
    expect_ok(API_CHAT, CHAT(",\"logit_bias\":{\"5\":-100,\"999\":2.5}"));
    assert_int_equal(request->sampling.n_bias, 2);
    assert_int_equal(request->sampling.bias[1].token, 999);
    assert_true(request->sampling.bias[0].bias == -100.0f &&
                request->sampling.bias[1].bias == 2.5f);
    expect_ok(API_CHAT, CHAT(",\"logit_bias\":[[5,1.0],[6,false]]"));
    assert_int_equal(request->sampling.bias[1].token, 6);
    assert_true(isinf(request->sampling.bias[1].bias) && request->sampling.bias[1].bias < 0);
}

static void reads_logprobs(void **state)
{
    (void)state;
    expect_ok(API_CHAT, CHAT(",\"logprobs\":true,\"top_logprobs\":3"));
    assert_true(request->sampling.wants_logprob);
    assert_int_equal(request->sampling.n_top_logprobs, 3);
    expect_ok(API_TEXT, TEXT(",\"logprobs\":5"));
    assert_true(request->sampling.wants_logprob);
    assert_int_equal(request->sampling.n_top_logprobs, 5);
}

static const struct json *message(size_t i)
{
    return &request->messages->items[i];
}

static void reads_messages(void **state)
{
    (void)state;
    expect_ok(API_CHAT, "{\"messages\":[{\"role\":\"developer\",\"content\":\"be brief\"},"
                        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{"
                        "\"type\":\"text\",\"text\":\"b\"}]},"
                        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\","
                        "\"type\":\"function\","
                        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
                        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"42\"}]}");
    assert_int_equal(request->messages->count, 4);
    assert_true(slice_is(json_get(message(0), "role")->text, "system"));
    assert_true(slice_is(json_get(message(1), "content")->text, "a\nb"));
    assert_int_equal(json_get(message(2), "content")->kind, JSON_NULL);
    const struct json *fn = json_get(&json_get(message(2), "tool_calls")->items[0], "function");
    assert_true(slice_is(json_get(fn, "arguments")->text, "{}")); /* as it came */
    assert_true(slice_is(json_get(message(3), "tool_call_id")->text, "1"));
}

static void reads_tools_and_variables(void **state)
{
    (void)state;
#define TOOL "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}"
    expect_ok(API_CHAT,
              CHAT(",\"tools\":[" TOOL "],\"tool_choice\":\"auto\",\"parallel_tool_calls\":true"));
    assert_int_equal(request->tools->count, 1);
    expect_ok(API_CHAT, CHAT(",\"tools\":[" TOOL "],\"tool_choice\":\"none\""));
    assert_int_equal(request->tools->count, 1);
    expect_ok(API_CHAT, CHAT(",\"tools\":[]"));
    assert_null(request->tools);
    expect_ok(
        API_CHAT,
        CHAT(",\"chat_template_kwargs\":{\"enable_thinking\":true},\"reasoning_effort\":\"none\""));
    assert_true(json_get(request->variables, "enable_thinking")->boolean); /* said outright: wins */
    assert_true(slice_is(json_get(request->variables, "reasoning_effort")->text, "none"));
    expect_ok(API_CHAT, CHAT(",\"reasoning_effort\":\"none\""));
    assert_int_equal(json_get(request->variables, "enable_thinking")->kind, JSON_BOOL);
    assert_false(json_get(request->variables, "enable_thinking")->boolean);
    expect_ok(API_CHAT, CHAT(",\"reasoning_effort\":\"high\""));
    assert_null(json_get(request->variables, "enable_thinking"));
    expect_ok(API_CHAT, CHAT(",\"continue_final_message\":true"));
    assert_true(request->continue_final_message && !request->add_generation_prompt);
}

static void expect_json(const struct json *v, const char *expected)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    assert_non_null(v);
    json_write(&b, v, (struct json_style){.is_compact = true});
    assert_string_equal(b.ptr, expected);
    buf_release(&b);
}

static void makes_grammars_of_formats_and_tools(void **state)
{
    (void)state;
    static const char tools[] =
        ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
        "\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/A\"}},\"$defs\":{\"A\":{\"type\":"
        "\"string\"}}}}},{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]";
    char body[1024];
    expect_ok(API_CHAT, CHAT(",\"response_format\":{\"type\":\"json_object\"}"));
    expect_json(request->schema, "{\"type\":\"object\"}");
    assert_int_equal(request->trigger.len, 0);
    expect_ok(API_CHAT, CHAT(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
                             "\"name\":\"x\",\"schema\":{\"type\":\"integer\"}}}"));
    expect_json(request->schema, "{\"type\":\"integer\"}");
    expect_ok(API_TEXT, TEXT(",\"grammar\":\"root ::= \\\"x\\\"\""));
    assert_true(slice_is(request->grammar, "root ::= \"x\""));
    /* Calls: what grammars they have is forms_test.c's. */
    snprintf(body, sizeof body, CHAT("%s"), tools);
    expect_ok(API_CHAT, body);
    assert_true(slice_is(request->trigger, "<tool_call>\n") && request->grammar.len > 0);
    assert_true(request->suffix.len == 0 && !request->schema);
    assert_int_equal(request->n_grammar_schemas, 2);
    /* A forced call leaves no room for an answer, whose form would come in a later turn. */
    snprintf(body, sizeof body,
             CHAT("%s,\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}},"
                  "\"response_format\":{\"type\":\"json_object\"}"),
             tools);
    expect_ok(API_CHAT, body);
    assert_true(slice_is(request->suffix, "<tool_call>\n") && request->trigger.len == 0);
    assert_int_equal(request->n_grammar_schemas, 1);
    assert_null(memmem(request->grammar.ptr, request->grammar.len, "kv-answer", 9));
    snprintf(body, sizeof body, CHAT("%s,\"tool_choice\":\"none\""), tools);
    expect_ok(API_CHAT, body);
    assert_true(!request->schema && request->grammar.len == 0);
}

static void ignores_what_it_does_not_know(void **state)
{
    (void)state;
    expect_ok(API_CHAT,
              CHAT(",\"frobnicate\":{\"a\":[1]},\"user\":\"u\",\"store\":true,\"metadata\":{},"
                   "\"prompt_cache_key\":\"k\",\"response_format\":{\"type\":\"text\"},"
                   "\"modalities\":[\"text\"],\"functions\":[],\"grammar\":\"\",\"best_of\":1"));
}

static void refuses_chats_by_name(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"", "", "JSON"},
        {"[]", "", "object"},
        {"{}", "messages", "array"},
        {"{\"messages\":\"hi\"}", "messages", "array"},
        {"{\"messages\":[1]}", "messages[0].role", "string"},
        {"{\"messages\":[{\"content\":\"a\"}]}", "messages[0].role", "string"},
        {"{\"messages\":[{\"role\":\"boss\",\"content\":\"a\"}]}", "messages[0].role", "boss"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content", "missing"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0].content", "string"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":null}]}", "messages[0].content",
         "missing"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]"
         "}]}",
         "messages[0].content[0]", "image_url"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
         "messages[0].content[0]", "text"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\"}]}]}",
         "messages[0].tool_calls", "name"},
        {CHAT(",\"temperature\":-1"), "temperature", "-1"},
        {CHAT(",\"temperature\":\"hot\""), "temperature", "number"},
        {CHAT(",\"top_p\":1.5"), "top_p", "1.5"},
        {CHAT(",\"top_k\":1.5"), "top_k", "integer"},
        {CHAT(",\"n\":0"), "n", "0"},
        {CHAT(",\"n\":17"), "n", "17"},
        {CHAT(",\"max_tokens\":-2"), "max_tokens", "-2"},
        {CHAT(",\"max_tokens\":true"), "max_tokens", "integer"},
        {CHAT(",\"stream\":1"), "stream", "true or false"},
        {CHAT(",\"stream_options\":7"), "stream_options", "object"},
        {CHAT(",\"stream_options\":{\"include_usage\":\"yes\"}"), "include_usage", "true or false"},
        {CHAT(",\"seed\":18446744073709551616"), "seed", "integer"},
        {CHAT(",\"seed\":\"x\""), "seed", "integer"},
        {CHAT(",\"stop\":7"), "stop", "string"},
        {CHAT(",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\","
              "\"d\",\"e\","
              "\"f\",\"g\",\"h\"]"),
         "stop", "at most 16"},
        {CHAT(",\"logit_bias\":7"), "logit_bias", "object"},
        {CHAT(",\"logit_bias\":{\"x\":1}"), "logit_bias", "ids"},
        {CHAT(",\"logit_bias\":{\"1000\":1}"), "logit_bias", "999"},
        {CHAT(",\"logit_bias\":{\"1\":\"a\"}"), "logit_bias", "number"},
        {CHAT(",\"logit_bias\":[[1]]"), "logit_bias", "entries"},
        {CHAT(",\"top_logprobs\":2"), "top_logprobs", "logprobs"},
        {CHAT(",\"logprobs\":true,\"top_logprobs\":21"), "top_logprobs", "21"},
        {CHAT(",\"response_format\":{\"type\":\"xml\"}"), "response_format", "json_object"},
        {CHAT(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}"),
         "response_format", "schema"},
        {CHAT(",\"tool_choice\":\"required\""), "tool_choice", "needs tools"},
        {CHAT(",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"),
         "tool_choice", "needs tools"},
        {CHAT(",\"tool_choice\":\"any\""), "tool_choice", "auto, none"},
        {CHAT(",\"tools\":{}"), "tools", "array"},
        {CHAT(",\"json_schema\":{},\"grammar\":\"root ::= x\""), "grammar", "excludes"},
        {CHAT(",\"tools\":[{\"type\":\"web_search\"}]"), "tools[0]", "web_search"},
        {CHAT(",\"tools\":[{\"type\":\"function\"}]"), "tools[0]", "name"},
        {CHAT(",\"functions\":[{\"name\":\"f\"}]"), "functions", "supported"},
        {CHAT(",\"modalities\":[\"text\",\"audio\"]"), "modalities", "text"},
        {CHAT(",\"chat_template_kwargs\":[]"), "chat_template_kwargs", "object"},
        {CHAT(",\"continue_final_message\":true,\"add_generation_prompt\":true"),
         "continue_final_message", "excludes"},
    };
    EXPECT_REFUSALS(API_CHAT, cases);
}

static void reads_prompts(void **state)
{
    (void)state;
    expect_ok(API_TEXT, TEXT(""));
    assert_int_equal(request->kind, PROMPT_TEXT);
    assert_true(slice_is(request->text, "hi"));
    expect_ok(API_TEXT, "{\"prompt\":[\"one\"]}");
    assert_true(slice_is(request->text, "one"));
    expect_ok(API_TEXT, "{\"prompt\":[2,1,0]}");
    assert_int_equal(request->kind, PROMPT_TOKENS);
    assert_int_equal(request->n_tokens, 3);
    assert_int_equal(request->tokens[0], 2);
    expect_ok(API_TEXT, "{\"prompt\":[[2,1]],\"echo\":true,\"suffix\":null,\"best_of\":2,\"n\":2}");
    assert_int_equal(request->n_tokens, 2);
    expect_ok(API_TEXT, "{\"prompt\":[7,\"ab\"]}"); /* the fake vocabulary is bytes */
    assert_int_equal(request->kind, PROMPT_TOKENS);
    assert_int_equal(request->n_tokens, 3);
    assert_int_equal(request->tokens[2], 'b');
    expect_ok(API_TEXT, "{\"prompt\":\"\"}"); /* the model's BOS alone */
}

static void refuses_prompts_by_name(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"{}", "prompt", "string"},
        {"{\"prompt\":7}", "prompt", "string"},
        {"{\"prompt\":[]}", "prompt", "string"},
        {"{\"prompt\":[\"a\",true]}", "prompt", "item 1"},
        {"{\"prompt\":[1,-1]}", "prompt", "item 1"},
        {"{\"prompt\":[1000]}", "prompt", "999"},
        {"{\"prompt\":[1,[\"a\"]]}", "prompt", "item 1"},
        {TEXT(",\"suffix\":\"end\""), "suffix", "tokens"},
        {TEXT(",\"best_of\":2"), "best_of", "supported"},
        {TEXT(",\"logprobs\":true"), "logprobs", "integer"},
    };
    EXPECT_REFUSALS(API_TEXT, cases);
}

static void checks_session_names(void **state)
{
    (void)state;
    char name[ENGINE_SESSION_NAME_MAX + 2];
    memset(name, 'a', sizeof name);
    name[ENGINE_SESSION_NAME_MAX] = '\0';
    assert_int_equal(read_as(API_CHAT, CHAT(""), name), OK);
    assert_true(slice_is(request->session, name));
    name[ENGINE_SESSION_NAME_MAX] = 'a';
    name[ENGINE_SESSION_NAME_MAX + 1] = '\0';
    assert_int_equal(read_as(API_CHAT, CHAT(""), name), E_INVALID);
    static const char *const bad[] = {"a b",  "a\tb", "\"a\"", "a'b", "é",
                                      "a\\b", "<a>",  "a;b",   "$a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_as(API_CHAT, CHAT(""), bad[i]), E_INVALID);
        assert_string_equal(error.param, "X-Session-Id");
    }
    assert_int_equal(read_as(API_CHAT, CHAT(""), "user@host:8080/p_1-2.3+4=5~"), OK);
}

static void maps_each_status(void **state)
{
    (void)state;
    static const struct {
        enum status st;
        int http;
    } cases[] = {{E_INVALID, 400},   {E_SYNTAX, 400},    {E_UNSUPPORTED, 400}, {E_LIMIT, 400},
                 {E_CONTEXT, 400},   {E_NOT_FOUND, 404}, {E_EXISTS, 409},      {E_BUSY, 429},
                 {E_CANCELLED, 503}, {E_TIMEOUT, 504},   {E_CORRUPT, 500},     {E_IO, 500},
                 {E_FULL, 507},      {E_NOMEM, 503},     {E_DENIED, 403}};
    assert_int_equal(sizeof cases / sizeof *cases, STATUS_COUNT - 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {.code = cases[i].st, .msg = "quote \" and\nline"};
        struct buf b;
        api_error_from(&error, &e);
        assert_int_equal(error.http, cases[i].http);
        buf_init(&b, 4096);
        api_error_write(&b, API_CHAT, &error);
        assert_non_null(strstr(b.ptr, "quote \\\" and\\nline"));
        buf_release(&b);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(keeps_defaults),
        T(reads_sampling),
        T(reads_filters),
        T(reads_breakers),
        T(reads_stops_and_bias),
        T(reads_logprobs),
        T(reads_messages),
        T(reads_tools_and_variables),
        T(makes_grammars_of_formats_and_tools),
        T(ignores_what_it_does_not_know),
        T(refuses_chats_by_name),
        T(reads_prompts),
        T(refuses_prompts_by_name),
        T(checks_session_names),
        T(maps_each_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
