/* SPDX-License-Identifier: MIT
 * api_test.c — goal: what clients of /v1/chat/completions and /v1/completions rely on.
 * Method: one server without a store; each promise is asked for over HTTP, whole and streamed,
 * greedily and sampled, and with requests that must be refused by name. */
#include <math.h>
#include <stdio.h>

#include "e2e.h"

#define WIDE_OPEN "\"top_k\":0,\"top_p\":1,\"min_p\":0,\"ignore_eos\":true"

static struct serve server;
static struct buf facts; /* messages: a small handbook and a question */

static int set_up(void **state)
{
    (void)state;
    e2e_serve(&server, NULL, NULL);
    facts =
        e2e_user("Read the handbook:\n\nThe gate code of Velmora is KX-4821.\nThe market day of "
                 "Kelgate is Monday.\nThe mayor of Torby is Anna Berg.\n\nWhat is the gate code of "
                 "Velmora?");
    return 0;
}

static int tear_down(void **state)
{
    int code = -1;
    (void)state;
    MUST(serve_stop(&server, &code, e));
    assert_int_equal(code, 0);
    buf_release(&facts);
    return 0;
}

/* A question about the facts, whole or streamed. */
static struct chat_reply ask(struct chat_ask a)
{
    struct chat_reply r;
    if (!a.messages.len && !a.prompt.len)
        a.messages = buf_slice(&facts);
    e2e_ask(&server, &a, &r);
    return r;
}

static struct chat_reply ask_well(struct chat_ask a)
{
    struct chat_reply r = ask(a);
    if (r.http != 200 || r.is_error || !r.is_done)
        fail_msg("HTTP %d: %s", r.http, r.error_message);
    return r;
}

/* ---- streams ---- */
static void a_stream_adds_up_to_the_whole_reply(void **state)
{
    static const char *const ways[] = {"\"seed\":1",
                                       "\"n\":3,\"seed\":5,\"top_k\":0,\"top_p\":1,\"min_p\":0",
                                       "\"stop\":[\"KX-4\",\"code\"]", "\"seed\":9," WIDE_OPEN};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(ways); i++) {
        struct chat_ask a = {.more = ways[i],
                             .temperature = i % 2 ? 1.2 : 0,
                             .max_tokens = 24,
                             .wants_logprobs = true};
        struct chat_reply whole = ask_well(a);
        a.is_stream = true;
        struct chat_reply stream = ask_well(a);
        e2e_check_same(&whole, &stream, ways[i]);
        assert_int_equal(whole.completion_tokens, stream.completion_tokens);
        assert_int_equal(whole.prompt_tokens, stream.prompt_tokens);
        assert_true(whole.has_kvasir && stream.has_kvasir);
        assert_int_equal(stream.memory + stream.disk + stream.computed, stream.prompt_tokens);
        chat_reply_release(&whole);
        chat_reply_release(&stream);
    }
}

static void usage_comes_in_a_chunk_of_its_own_when_asked(void **state)
{
    (void)state;
    struct chat_reply r = ask_well((struct chat_ask){
        .is_stream = true, .more = "\"stream_options\":{\"include_usage\":true}", .max_tokens = 4});
    assert_true(r.has_kvasir);
    assert_int_equal(r.completion_tokens, 4);
    /* The last event but [DONE] has no choices. */
    const char *last = NULL;
    for (const char *at = r.body.ptr; (at = strstr(at, "data: {")); at++)
        last = at;
    assert_non_null(last);
    assert_non_null(strstr(last, "\"choices\":[]"));
    chat_reply_release(&r);
}

/* ---- choices and seeds ---- */
static void choices_differ_and_seeds_repeat_them(void **state)
{
    struct chat_ask a = {
        .more = "\"n\":4,\"seed\":11," WIDE_OPEN, .temperature = 5, .max_tokens = 16};
    (void)state;
    struct chat_reply x = ask_well(a), y = ask_well(a);
    assert_int_equal(x.n_choices, 4);
    e2e_check_same(&x, &y, "the same seed");
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < i; j++)
            assert_false(slice_equal(buf_slice(&x.choices[i].text), buf_slice(&x.choices[j].text)));
    a.more = "\"n\":4,\"seed\":12," WIDE_OPEN;
    struct chat_reply z = ask_well(a);
    assert_false(slice_equal(buf_slice(&x.choices[0].text), buf_slice(&z.choices[0].text)));
    assert_int_equal(x.completion_tokens, 4 * 16);
    chat_reply_release(&x);
    chat_reply_release(&y);
    chat_reply_release(&z);
}

static void a_drawn_seed_is_told_and_repeats_the_answer(void **state)
{
    char more[128];
    struct chat_ask a = {.more = WIDE_OPEN, .temperature = 5, .max_tokens = 16};
    (void)state;
    struct chat_reply x = ask_well(a);
    snprintf(more, sizeof more, "\"seed\":%llu," WIDE_OPEN, (unsigned long long)x.seed);
    a.more = more;
    struct chat_reply y = ask_well(a);
    e2e_check_same(&x, &y, "the seed that was told");
    chat_reply_release(&x);
    chat_reply_release(&y);
}

static void greedy_is_the_same_ten_times_between_sampled_requests(void **state)
{
    (void)state;
    struct chat_reply first = ask_well((struct chat_ask){.wants_logprobs = true});
    for (int i = 0; i < 10; i++) {
        struct chat_reply noise =
            ask_well((struct chat_ask){.temperature = 1.5, .more = WIDE_OPEN, .max_tokens = 3});
        struct chat_reply again = ask_well((struct chat_ask){.wants_logprobs = true});
        e2e_check_same(&first, &again, "greedy");
        chat_reply_release(&noise);
        chat_reply_release(&again);
    }
    assert_string_equal(first.choices[0].text.ptr, "The gate code of Velmora is KX-4821.");
    assert_string_equal(first.choices[0].finish, "stop");
    chat_reply_release(&first);
}

/* ---- stops and limits ---- */
/* Every cut of the answer as a stop string: the text ends right before it, whole and streamed. */
static void no_part_of_a_stop_string_leaks(void **state)
{
    (void)state;
    struct chat_reply full = ask_well((struct chat_ask){.max_tokens = 32});
    const char *text = full.choices[0].text.ptr;
    size_t n = full.choices[0].text.len;
    for (size_t from = 1; from + 2 < n; from += 3)
        for (size_t len = 1; len <= 7 && from + len <= n; len += 3) {
            struct buf more;
            buf_init(&more, 4096);
            buf_add_text(&more, "\"stop\":");
            json_write_string(&more, (struct slice){text + from, len});
            const char *first = memmem(text, n, text + from, len);
            struct chat_ask a = {.more = more.ptr, .max_tokens = 32, .is_stream = (from / 3) % 2};
            struct chat_reply r = ask_well(a);
            struct slice wanted = {text, (size_t)(first - text)};
            if (!slice_equal(buf_slice(&r.choices[0].text), wanted))
                fail_msg("%s: \"%s\", not \"" SLICE_FMT "\"", more.ptr,
                         r.choices[0].text.len ? r.choices[0].text.ptr : "", SLICE_ARG(wanted));
            assert_string_equal(r.choices[0].finish, "stop");
            chat_reply_release(&r);
            buf_release(&more);
        }
    /* A stop string that begins but never ends is given out at the end. */
    struct chat_reply r = ask_well(
        (struct chat_ask){.more = "\"stop\":[\"KX-4821.!\"]", .max_tokens = 32, .is_stream = true});
    e2e_check_same(&full, &r, "half a stop string");
    chat_reply_release(&r);
    chat_reply_release(&full);
}

static void max_tokens_is_exact(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 5; n++) {
        struct chat_reply r = ask_well((struct chat_ask){.max_tokens = n, .wants_logprobs = true});
        assert_int_equal(r.completion_tokens, n);
        assert_string_equal(r.choices[0].finish, "length");
        uint32_t lines = 0;
        for (const char *at = r.choices[0].logprobs.ptr; (at = strchr(at, '\n')); at++)
            lines++;
        assert_int_equal(lines, n);
        chat_reply_release(&r);
    }
}

/* ---- log probabilities ---- */
static void log_probabilities_are_sound(void **state)
{
    struct arena arena;
    (void)state;
    struct chat_reply r = ask_well((struct chat_ask){.max_tokens = 8, .wants_logprobs = true});
    struct buf text;
    arena_init(&arena, 1u << 24);
    buf_init(&text, 1u << 20);
    for (char *line = r.choices[0].logprobs.ptr, *end; *line; line = end + 1) {
        struct json *v = NULL;
        end = strchr(line, '\n');
        MUST(json_parse((struct slice){line, (size_t)(end - line)}, &arena, &v, e));
        const struct json *top = json_get(v, "top_logprobs");
        assert_int_equal(top->count, 3);
        /* Greedy takes the likeliest; they come in falling order and are probabilities. */
        assert_true(json_get(v, "logprob")->real == json_get(&top->items[0], "logprob")->real);
        double sum = 0, last = 0;
        for (size_t i = 0; i < top->count; i++) {
            double x = json_get(&top->items[i], "logprob")->real;
            assert_true(x <= last);
            last = x;
            sum += exp(x);
        }
        assert_true(sum <= 1.0001);
        const struct json *bytes = json_get(v, "bytes");
        for (size_t i = 0; i < bytes->count; i++)
            buf_add_char(&text, (char)bytes->items[i].integer);
    }
    assert_true(slice_equal(buf_slice(&text), buf_slice(&r.choices[0].text)));
    buf_release(&text);
    arena_release(&arena);
    chat_reply_release(&r);
}

/* ---- plain completions ---- */
static void plain_text_is_continued(void **state)
{
    struct chat_ask a = {.path = "/v1/completions",
                         .prompt = SLICE_LIT("\"The market day of Kelgate is Monday. The market\""),
                         .max_tokens = 8,
                         .more = "\"ignore_eos\":true"};
    (void)state;
    struct chat_reply whole = ask_well(a);
    a.is_stream = true;
    struct chat_reply stream = ask_well(a);
    e2e_check_same(&whole, &stream, "completions");
    assert_int_equal(whole.completion_tokens, 8);
    assert_string_equal(whole.choices[0].finish, "length");
    chat_reply_release(&whole);
    chat_reply_release(&stream);
}

static void a_bias_forbids_and_forces_tokens(void **state)
{
    (void)state;
    struct chat_ask a = {.max_tokens = 3,
                         .more = "\"logit_bias\":{\"300\":100},\"ignore_eos\":true"};
    struct chat_reply r = ask_well(a);
    struct chat_reply plain = ask_well((struct chat_ask){.max_tokens = 3});
    assert_false(slice_equal(buf_slice(&r.choices[0].text), buf_slice(&plain.choices[0].text)));
    /* Three times the same token. */
    size_t n = r.choices[0].text.len;
    assert_true(n > 0 && n % 3 == 0);
    assert_memory_equal(r.choices[0].text.ptr, r.choices[0].text.ptr + n / 3, n / 3);
    chat_reply_release(&r);
    chat_reply_release(&plain);
}

/* ---- refusals ---- */
/* Sends a body as it is. */
static int send(const char *method, const char *path, const char *body, struct http_answer *answer)
{
    char url[256];
    snprintf(url, sizeof url, "%s%s", server.url, path);
    struct http_call call = {.method = method, .url = url, .body = slice_of(body ? body : "")};
    MUST(http_client_call(server.http, &call, answer, e));
    return answer->status;
}

static void bad_requests_are_refused_in_openais_shape(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int http;
    } cases[] = {
        {"POST", "/v1/chat/completions", "{\"messages\":", 400},
        {"POST", "/v1/chat/completions", "", 400},
        {"POST", "/v1/chat/completions", "[]", 400},
        {"POST", "/v1/chat/completions", "{}", 400},
        {"POST", "/v1/chat/completions", "{\"messages\":[]}", 400},
        {"POST", "/v1/chat/completions", "{\"messages\":\"hi\"}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"wizard\",\"content\":\"hi\"}]}", 400},
        {"POST", "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":7}]}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":\"hot\"}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":-1}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"n\":0}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"n\":1000}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":\"x\"}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":\"yes\"}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stop\":[1]}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"top_p\":2}", 400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"response_format\":{\"type\":"
         "\"json_schema\",\"json_schema\":{}}}",
         400},
        {"POST", "/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"logit_bias\":{\"x\":1}}", 400},
        {"POST", "/v1/completions", "{\"prompt\":{}}", 400},
        {"POST", "/v1/completions", "{\"prompt\":[1,2,99999999]}", 400},
        {"GET", "/v1/chat/completions", NULL, 405},
        {"POST", "/v1/models", "{}", 405},
        {"DELETE", "/health", NULL, 405},
        {"GET", "/v1/nothing", NULL, 404},
        {"POST", "/v1/chat/completions/x", "{}", 404},
        {"GET", "/../etc/passwd", NULL, 404},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct http_answer answer = {0};
        struct arena arena;
        struct json *v = NULL;
        int http = send(cases[i].method, cases[i].path, cases[i].body, &answer);
        if (http != cases[i].http)
            fail_msg("%s %s %s: HTTP %d: %s", cases[i].method, cases[i].path,
                     cases[i].body ? cases[i].body : "", http,
                     answer.body.len ? answer.body.ptr : "");
        arena_init(&arena, 1u << 20);
        MUST(json_parse(buf_slice(&answer.body), &arena, &v, e));
        const struct json *error = json_get(v, "error");
        const struct json *message = json_get(error, "message"), *type = json_get(error, "type");
        if (!message || message->kind != JSON_STRING || message->text.len == 0 || !type ||
            type->kind != JSON_STRING || !json_get(error, "param") || !json_get(error, "code"))
            fail_msg("%s %s: not OpenAI's shape: %s", cases[i].method, cases[i].path,
                     answer.body.ptr);
        arena_release(&arena);
        http_answer_release(&answer);
    }
    assert_true(serve_is_running(&server));
}

static void a_prompt_beyond_the_context_is_refused_with_both_numbers(void **state)
{
    struct serve small;
    struct chat_reply r;
    struct buf text, messages;
    (void)state;
    e2e_serve(&small, NULL, "--ctx", "256", NULL);
    buf_init(&text, 1u << 20);
    for (int i = 0; i < 300; i++)
        buf_add_text(&text, "The gate code is KX. ");
    messages = e2e_user(text.ptr);
    struct chat_ask a = {.messages = buf_slice(&messages)};
    for (int i = 0; i < 2; i++) {
        a.is_stream = i == 1;
        e2e_ask(&small, &a, &r);
        assert_int_equal(r.http, 400);
        assert_string_equal(r.error_code, "context_length_exceeded");
        assert_non_null(strstr(r.error_message, "256"));
        chat_reply_release(&r);
    }
    /* One that fits ends at the context's end. */
    a = (struct chat_ask){.messages = buf_slice(&facts), .more = "\"ignore_eos\":true"};
    e2e_ask(&small, &a, &r);
    assert_int_equal(r.http, 200);
    assert_string_equal(r.choices[0].finish, "length");
    assert_true(r.prompt_tokens + r.completion_tokens <= 257);
    assert_true(r.prompt_tokens + r.completion_tokens >= 255);
    chat_reply_release(&r);
    buf_release(&text);
    buf_release(&messages);
    serve_kill(&small);
}

/* ---- what else is there ---- */
static void the_other_routes_answer(void **state)
{
    static const char *const paths[] = {"/health", "/v1/models", "/v1/cache/stats"};
    struct http_answer answer = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        struct arena arena;
        const struct json *v = NULL;
        arena_init(&arena, 1u << 20);
        MUST(serve_get(&server, paths[i], &arena, &v, e));
        assert_int_equal(v->kind, JSON_OBJECT);
        arena_release(&arena);
    }
    assert_int_equal(send("GET", "/", NULL, &answer), 200);
    assert_non_null(strstr(answer.body.ptr, "kvasir"));
    http_answer_release(&answer);
}

static void any_model_name_is_served_and_echoed(void **state)
{
    (void)state;
    struct chat_reply r =
        ask_well((struct chat_ask){.more = "\"model\":\"gpt-9\"", .max_tokens = 2});
    assert_non_null(strstr(r.body.ptr, "\"model\":\"gpt-9\""));
    chat_reply_release(&r);
}

static void keys_are_asked_for(void **state)
{
    struct serve locked;
    char url[256];
    (void)state;
    e2e_serve(&locked, NULL, "--api-key", "open-sesame", NULL);
    static const struct {
        const char *header;
        int http;
    } cases[] = {{"X-Nothing: 1", 401},
                 {"Authorization: Bearer wrong", 401},
                 {"Authorization: Bearer open-sesam", 401},
                 {"Authorization: Bearer open-sesame", 200}};
    snprintf(url, sizeof url, "%s/v1/models", locked.url);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const char *headers[] = {cases[i].header, NULL};
        struct http_answer answer = {0};
        struct http_call call = {.url = url, .headers = headers};
        MUST(http_client_call(locked.http, &call, &answer, e));
        if (answer.status != cases[i].http)
            fail_msg("%s: HTTP %d", cases[i].header, answer.status);
        http_answer_release(&answer);
    }
    serve_kill(&locked);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_adds_up_to_the_whole_reply),
        cmocka_unit_test(usage_comes_in_a_chunk_of_its_own_when_asked),
        cmocka_unit_test(choices_differ_and_seeds_repeat_them),
        cmocka_unit_test(a_drawn_seed_is_told_and_repeats_the_answer),
        cmocka_unit_test(greedy_is_the_same_ten_times_between_sampled_requests),
        cmocka_unit_test(no_part_of_a_stop_string_leaks),
        cmocka_unit_test(max_tokens_is_exact),
        cmocka_unit_test(log_probabilities_are_sound),
        cmocka_unit_test(plain_text_is_continued),
        cmocka_unit_test(a_bias_forbids_and_forces_tokens),
        cmocka_unit_test(bad_requests_are_refused_in_openais_shape),
        cmocka_unit_test(a_prompt_beyond_the_context_is_refused_with_both_numbers),
        cmocka_unit_test(the_other_routes_answer),
        cmocka_unit_test(any_model_name_is_served_and_echoed),
        cmocka_unit_test(keys_are_asked_for),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
