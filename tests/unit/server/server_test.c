/* SPDX-License-Identifier: MIT
 * server_test.c — goal: the glue holds: what the engine says reaches the client whole and once,
 * clients that leave or don't read cancel their request, errors have their status, strangers stay
 * outside, and stopping loses nobody.  Method: the server over a scripted engine, over real
 * sockets. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "http/http_client.h"
#include "http/sse.h"
#include "os/clock.h"
#include "server/server.h"
#include "tcp_client.h"
#include "temp_folder.h"
#include "text/json.h"

#define CHAT  "/v1/chat/completions"
#define HELLO "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

static struct engine *engine;
static struct server *server;
static struct http_client *client;
static struct arena arena;

static const char *const keys[] = {"sesame", "open barley"};

static void start_server(const struct server_options *options)
{
    struct err e = {0};
    if (server_start(options, engine, &server, &e) != OK)
        fail_msg("%s", e.msg);
}

static int set_up_with(bool has_keys)
{
    struct err e = {0};
    struct server_options o = server_defaults();
    o.port = 0;
    o.max_body_bytes = 1 << 20;
    if (has_keys) {
        o.api_keys = keys;
        o.n_api_keys = 2;
    }
    fake_script = (struct fake_script){.pieces = {"Hel", "lo", " wörld", "!"}, .n_pieces = 4};
    fake_n_submitted = fake_n_cancelled = 0;
    engine = fake_engine_new();
    arena_init(&arena, 256u << 20);
    if (http_client_new(&client, &e) != OK)
        return -1;
    start_server(&o);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(false);
}

static int set_up_keys(void **state)
{
    (void)state;
    return set_up_with(true);
}

static int tear_down(void **state)
{
    (void)state;
    http_client_free(client);
    server_stop(server, 0);
    server = NULL;
    engine_close(engine);
    arena_release(&arena);
    return 0;
}

static struct http_answer call(const char *path, const char *body, const char *const *headers)
{
    char url[256];
    struct err e = {0};
    struct http_answer a;
    snprintf(url, sizeof url, "%s%s", server_url(server), path);
    struct http_call c = {.url = url,
                          .headers = headers,
                          .total_ms_max = 20000,
                          .body = body ? slice_of(body) : (struct slice){0}};
    if (http_client_call(client, &c, &a, &e) != OK)
        fail_msg("%s: %s", path, e.msg);
    return a;
}

static const struct json *parse(struct slice text)
{
    struct err e = {0};
    struct json *v = NULL;
    if (json_parse(text, &arena, &v, &e) != OK)
        fail_msg("%s in %.*s", e.msg, SLICE_ARG(text));
    return v;
}

/* "error.code" of a reply, with its status checked. */
static void expect_error(const char *path, const char *body, const char *const *headers, int status,
                         const char *code)
{
    struct http_answer a = call(path, body, headers);
    if (a.status != status)
        fail_msg("%s: status %d, expected %d: %s", path, a.status, status, a.body.ptr);
    const struct json *error = json_get(parse(buf_slice(&a.body)), "error");
    assert_non_null(json_get(error, "message"));
    assert_true(json_get(error, "message")->text.len > 0);
    assert_non_null(json_get(error, "type"));
    assert_non_null(json_get(error, "param"));
    if (code)
        assert_string_equal(json_get(error, "code")->text.ptr, code);
    http_answer_release(&a);
}

struct stream {
    struct sse_reader reader;
    struct buf text;
    uint32_t n_events;
    bool has_done, has_error, has_role;
    char finish[32];
    const struct json *last; /* with kvasir */
};

static void on_data(void *arg, const char *event, struct slice data)
{
    struct stream *s = arg;
    (void)event;
    assert_false(s->has_done);
    if (slice_is(data, "[DONE]")) {
        s->has_done = true;
        return;
    }
    s->n_events++;
    const struct json *v = parse(data);
    if (json_get(v, "error")) {
        s->has_error = true;
        return;
    }
    if (json_get(v, "kvasir"))
        s->last = v;
    const struct json *choices = json_get(v, "choices");
    if (choices->count == 0)
        return;
    const struct json *delta = json_get(&choices->items[0], "delta");
    const struct json *content = json_get(delta, "content");
    const struct json *finish = json_get(&choices->items[0], "finish_reason");
    s->has_role |= json_get(delta, "role") != NULL;
    if (content)
        buf_add_slice(&s->text, content->text);
    if (finish->kind == JSON_STRING)
        snprintf(s->finish, sizeof s->finish, "%s", finish->text.ptr);
}

static bool on_chunk(void *arg, struct slice bytes, double at_ms)
{
    struct stream *s = arg;
    (void)at_ms;
    return sse_reader_feed(&s->reader, bytes) == OK;
}

static struct stream stream_call(struct http_client *c, const char *path, const char *body)
{
    char url[256];
    struct err e = {0};
    struct http_answer a;
    struct stream s = {.n_events = 0};
    buf_init(&s.text, 64 << 20);
    sse_reader_init(&s.reader, on_data, &s);
    snprintf(url, sizeof url, "%s%s", server_url(server), path);
    struct http_call q = {
        .url = url, .body = slice_of(body), .chunk = on_chunk, .arg = &s, .total_ms_max = 30000};
    if (http_client_call(c, &q, &a, &e) != OK)
        fail_msg("%s", e.msg);
    assert_int_equal(a.status, 200);
    http_answer_release(&a);
    sse_reader_release(&s.reader);
    s.reader = (struct sse_reader){0};
    return s;
}

static void wait_for(atomic_int *counter, int value)
{
    for (int i = 0; i < 10000 && atomic_load(counter) != value; i++)
        usleep(1000);
    assert_int_equal(atomic_load(counter), value);
}

static int connect_and_send_with(const char *body, const char *headers)
{
    char request[1024];
    int fd = tcp_dial_url(server_url(server));
    assert_true(fd >= 0);
    int n =
        snprintf(request, sizeof request,
                 "POST " CHAT " HTTP/1.1\r\nHost: localhost:1\r\n%sContent-Length: %zu\r\n\r\n%s",
                 headers, strlen(body), body);
    tcp_put(fd, request, (size_t)n);
    return fd;
}

static int connect_and_send(const char *body)
{
    return connect_and_send_with(body, "");
}

/* ---- answers ---- */
static void answers_whole(void **state)
{
    (void)state;
    static const char *const headers[] = {"X-Session-Id: my-agent/7", NULL};
    struct http_answer a = call(CHAT, HELLO ",\"model\":\"any name\"}", headers);
    assert_int_equal(a.status, 200);
    const struct json *v = parse(buf_slice(&a.body));
    const struct json *choice = &json_get(v, "choices")->items[0];
    assert_string_equal(json_get(json_get(choice, "message"), "content")->text.ptr, "Hello wörld!");
    assert_string_equal(json_get(choice, "finish_reason")->text.ptr, "stop");
    assert_string_equal(json_get(v, "model")->text.ptr, "any name");
    assert_string_equal(json_get(json_get(v, "kvasir"), "session")->text.ptr, "my-agent/7");
    assert_string_equal(fake_seen.session, "my-agent/7");
    assert_string_equal(fake_seen.last_content, "hello");
    http_answer_release(&a);
}

static void streams(void **state)
{
    (void)state;
    struct stream s = stream_call(client, CHAT, HELLO ",\"stream\":true}");
    assert_string_equal(s.text.ptr, "Hello wörld!");
    assert_true(s.has_done && s.has_role && !s.has_error);
    assert_int_equal(s.n_events, 1 + 4 + 1);
    assert_string_equal(s.finish, "stop");
    const struct json *tokens = json_get(json_get(s.last, "kvasir"), "tokens");
    assert_int_equal(json_get(tokens, "memory")->integer, 64);
    assert_int_equal(json_get(tokens, "disk")->integer, 20);
    assert_int_equal(json_get(tokens, "computed")->integer, 16);
    buf_release(&s.text);
}

static void streams_when_the_engine_is_faster_than_submit(void **state)
{
    (void)state;
    fake_script.is_synchronous = true;
    for (int i = 0; i < 50; i++) {
        struct stream s = stream_call(client, CHAT, HELLO ",\"stream\":true}");
        assert_string_equal(s.text.ptr, "Hello wörld!");
        assert_true(s.has_done);
        buf_release(&s.text);
    }
}

static void completes_text(void **state)
{
    (void)state;
    struct http_answer a = call("/v1/completions", "{\"prompt\":\"Once\",\"max_tokens\":5}", NULL);
    assert_int_equal(a.status, 200);
    const struct json *v = parse(buf_slice(&a.body));
    assert_string_equal(json_get(&json_get(v, "choices")->items[0], "text")->text.ptr,
                        "Hello wörld!");
    assert_string_equal(fake_seen.text, "Once");
    assert_int_equal(fake_seen.max_tokens, 5);
    http_answer_release(&a);
}

static void *one_stream(void *arg)
{
    struct err e = {0};
    struct http_client *c = NULL;
    assert_int_equal(http_client_new(&c, &e), OK);
    char url[256];
    struct http_answer a;
    struct slice body = SLICE_LIT(HELLO ",\"stream\":true}");
    snprintf(url, sizeof url, "%s" CHAT, server_url(server));
    struct http_call q = {.url = url, .body = body, .total_ms_max = 60000};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(http_client_call(c, &q, &a, &e), OK);
        assert_int_equal(a.status, 200);
        *(size_t *)arg += strstr(a.body.ptr, "data: [DONE]\n\n") != NULL;
        http_answer_release(&a);
    }
    http_client_free(c);
    return NULL;
}

static void streams_to_many(void **state)
{
    (void)state;
    enum { N = 40 };
    pthread_t threads[N];
    size_t n_done[N] = {0};
    fake_script.repeat = 20;
    fake_script.step_us = 300;
    for (int i = 0; i < N; i++)
        pthread_create(&threads[i], NULL, one_stream, &n_done[i]);
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(n_done[i], 3);
    }
    wait_for(&fake_n_running, 0);
    assert_int_equal(fake_n_cancelled, 0);
}

/* ---- clients that leave ---- */
static void cancels_when_the_client_leaves(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        fake_script.waits_before_start = i % 2 == 0;
        fake_script.waits_after_start = true;
        int fd = connect_and_send(i < 2 ? HELLO ",\"stream\":true}" : HELLO "}");
        wait_for(&fake_n_running, 1);
        usleep(10000);
        assert_int_equal(atomic_load(&fake_n_cancelled), i);
        uint64_t start = clock_now_ns();
        close(fd);
        wait_for(&fake_n_cancelled, i + 1);
        printf("case %d: cancelled %.2f ms after the hang-up\n", i, clock_ms_since(start));
        assert_true(clock_ms_since(start) < 1000);
        wait_for(&fake_n_running, 0);
    }
}

static void cancels_when_the_client_does_not_read(void **state)
{
    (void)state;
    fake_script.repeat = UINT32_MAX / 8;
    int fd = connect_and_send(HELLO ",\"stream\":true}");
    wait_for(&fake_n_cancelled, 1);
    wait_for(&fake_n_running, 0);
    close(fd);
}

static void survives_clients_that_come_and_go(void **state)
{
    (void)state;
    fake_script.step_us = 200;
    fake_script.repeat = 5;
    for (int i = 0; i < 200; i++) {
        int fd = connect_and_send(i % 2 ? HELLO ",\"stream\":true}" : HELLO "}");
        if (i % 3)
            usleep((useconds_t)(i * 53 % 4000));
        close(fd);
    }
    wait_for(&fake_n_running, 0);
    struct stream s = stream_call(client, CHAT, HELLO ",\"stream\":true}");
    assert_true(s.has_done);
    buf_release(&s.text);
}

/* ---- refusals ---- */
static void gives_errors_their_status(void **state)
{
    (void)state;
    expect_error("/nowhere", NULL, NULL, 404, "not_found");
    expect_error(CHAT, NULL, NULL, 405, "method_not_allowed");
    expect_error("/health", "{}", NULL, 405, "method_not_allowed");
    expect_error("/v1/models/other", NULL, NULL, 404, "model_not_found");
    expect_error(CHAT, "{\"messages\":[", NULL, 400, NULL);
    expect_error(CHAT, "{\"messages\":[]}", NULL, 400, NULL);
    static const char *const headers[] = {"X-Session-Id: two words", NULL};
    expect_error(CHAT, HELLO "}", headers, 400, NULL);
    assert_int_equal(fake_n_submitted, 0);
    fake_script.submit = E_BUSY;
    expect_error(CHAT, HELLO "}", NULL, 429, "queue_full");
    struct http_answer a = call(CHAT, HELLO ",\"stream\":true}", NULL);
    char after[16];
    assert_int_equal(a.status, 429);
    assert_true(http_answer_header(&a, "Retry-After", after, sizeof after));
    http_answer_release(&a);
    fake_script.submit = OK;
    fake_script.fail = E_CONTEXT;
    fake_script.fail_message = "too long";
    fake_script.fail_done = 5000;
    fake_script.fail_total = 2048;
    expect_error(CHAT, HELLO "}", NULL, 400, "context_length_exceeded");
    a = call(CHAT, HELLO ",\"stream\":true}",
             NULL); /* before the first byte: a status, not an event */
    assert_int_equal(a.status, 400);
    assert_non_null(strstr(a.body.ptr, "5000"));
    assert_non_null(strstr(a.body.ptr, "2048"));
    http_answer_release(&a);
}

static void refuses_a_large_body(void **state)
{
    (void)state;
    size_t n = (1 << 20) + 1;
    char *body = malloc(n + 1);
    memset(body, ' ', n);
    body[n] = '\0';
    expect_error(CHAT, body, NULL, 413, NULL);
    /* No handler sees it: still it has its id, and its dialect's shape. */
    static const char *const named[] = {"X-Request-Id: mine/2", NULL};
    static const struct {
        const char *path, *shape;
    } shapes[] = {{"/v1/messages", "{\"type\":\"error\",\"error\":{"},
                  {"/api/chat", "{\"error\":\""},
                  {"/completion", "{\"error\":{\"code\":413,"}};
    for (size_t i = 0; i < 3; i++) {
        char id[64];
        struct http_answer a = call(shapes[i].path, body, named);
        assert_int_equal(a.status, 413);
        assert_true(http_answer_header(&a, "X-Request-Id", id, sizeof id));
        assert_string_equal(id, "mine/2");
        if (strncmp(a.body.ptr, shapes[i].shape, strlen(shapes[i].shape)) != 0)
            fail_msg("%s: %s", shapes[i].path, a.body.ptr);
        http_answer_release(&a);
    }
    free(body);
}

static void refuses_foreign_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        int status;
    } cases[] = {
        {"Host: localhost", 200},
        {"Host: LOCALHOST:9", 200},
        {"Host: 127.0.0.1:8080", 200},
        {"Host: [::1]:8080", 200},
        {"Host: [::1]", 200},
        {"Host: evil.example", 403},
        {"Host: localhost.evil.example", 403},
        {"Host: 127.0.0.1.evil.example:80", 403},
        {"Host: 192.168.0.1", 403},
        {"Host: [::1].evil.example", 403},
        {"Host: [::2]", 403},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *headers[] = {cases[i].host, NULL};
        struct http_answer a = call("/health", NULL, headers);
        /* "[::1].evil" names the host [::1] to us and cannot be a name to a browser. */
        int expected = strstr(cases[i].host, "[::1].") ? 200 : cases[i].status;
        if (a.status != expected)
            fail_msg("%s: %d", cases[i].host, a.status);
        http_answer_release(&a);
    }
}

static void refuses_foreign_pages(void **state)
{
    (void)state;
    static const struct {
        const char *origin;
        int status;
    } cases[] = {
        {"Origin: http://localhost:3000", 200},
        {"Origin: http://127.0.0.1:8080", 200},
        {"Origin: app://obsidian.md", 200},
        {"Origin: https://evil.example", 403},
        {"Origin: null", 403},
        {"Origin: http://localhost.evil.example", 403},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *headers[] = {cases[i].origin, NULL};
        char allowed[64] = "";
        struct http_answer a = call("/health", NULL, headers);
        if (a.status != cases[i].status)
            fail_msg("%s: %d", cases[i].origin, a.status);
        bool has = http_answer_header(&a, "Access-Control-Allow-Origin", allowed, sizeof allowed);
        assert_int_equal(has, a.status == 200);
        if (has)
            assert_string_equal(allowed, cases[i].origin + strlen("Origin: "));
        http_answer_release(&a);
    }
}

static void answers_preflight(void **state)
{
    (void)state;
    static const char *const headers[] = {"Origin: http://localhost:3000",
                                          "Access-Control-Request-Method: POST", NULL};
    char url[256], text[128];
    struct err e = {0};
    struct http_answer a;
    snprintf(url, sizeof url, "%s" CHAT, server_url(server));
    struct http_call c = {.url = url, .method = "OPTIONS", .headers = headers};
    assert_int_equal(http_client_call(client, &c, &a, &e), OK);
    assert_int_equal(a.status, 204);
    assert_true(http_answer_header(&a, "Access-Control-Allow-Methods", text, sizeof text));
    http_answer_release(&a);
}

static void asks_for_keys(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int status;
    } cases[] = {
        {"X-Nothing: a", 401},
        {"Authorization: Bearer sesame", 200},
        {"Authorization: bearer open barley", 200},
        {"x-api-key: sesame", 200},
        {"Authorization: Bearer sesam", 401},
        {"Authorization: Bearer sesame1", 401},
        {"Authorization: Basic sesame", 401},
        {"Authorization: Bearer ", 401},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *headers[] = {cases[i].header, NULL};
        static const char *const paths[] = {"/v1/models", "/v1/cache/stats", CHAT};
        for (size_t j = 0; j < 3; j++) {
            struct http_answer a = call(paths[j], j == 2 ? HELLO "}" : NULL, headers);
            if (a.status != cases[i].status)
                fail_msg("%s %s: %d", paths[j], cases[i].header, a.status);
            http_answer_release(&a);
        }
    }
    struct http_answer a = call("/health", NULL, NULL);
    assert_int_equal(a.status, 200);
    http_answer_release(&a);
    expect_error("/nowhere", NULL, NULL, 401, "invalid_api_key");
}

static char keys_path[512];

static int make_folder(void **state)
{
    int rc = temp_folder_make(state);
    snprintf(keys_path, sizeof keys_path, "%s", temp_path("keys"));
    return rc;
}

/* Who comes with which key is another one to the engine. */
static void keys_have_tenants(void **state)
{
    (void)state;
    struct err e = {0};
    struct server *second = NULL;
    temp_put("keys", "alpha red\nbeta\tblue\ngamma red\ndelta\n");
    struct server_options o = server_defaults();
    o.port = 0;
    o.api_key_file = keys_path;
    assert_int_equal(server_start(&o, engine, &second, &e), OK);
    struct server *first = server;
    server = second;
    static const char *const given[] = {"Authorization: Bearer alpha", "Authorization: Bearer beta",
                                        "x-api-key: gamma", "x-api-key: delta"};
    uint32_t tenants[4];
    for (size_t i = 0; i < 4; i++) {
        const char *headers[] = {given[i], NULL};
        struct http_answer a = call(CHAT, HELLO "}", headers);
        assert_int_equal(a.status, 200);
        http_answer_release(&a);
        tenants[i] = fake_seen.tenant;
        a = call("/v1/cache/stats", NULL, headers);
        assert_int_equal(a.status, tenants[i] == 0 ? 200 : 403);
        http_answer_release(&a);
    }
    assert_int_equal(tenants[0], tenants[2]);
    assert_int_not_equal(tenants[0], tenants[1]);
    assert_int_equal(tenants[3], 0);
    assert_true(tenants[0] != 0 && tenants[1] != 0);
    server = first;
    server_stop(second, 0);
    static const char *const wrong[] = {"alpha red\nalpha blue\n", "alpha two words\n"};
    for (size_t i = 0; i < 2; i++) {
        temp_put("keys", wrong[i]);
        assert_int_equal(server_start(&o, engine, &second, &e), E_INVALID);
    }
}

/* ---- operations ---- */
/* The text format of Prometheus, as strictly as its own tool: HELP and TYPE before a family's
 * samples, names and labels of the right letters, numbers, buckets that only grow and end with +Inf
 * equal to the count. */
static void check_metrics(char *text)
{
    char family[128] = "", type[32] = "";
    double bucket = 0, last_bound = 0;
    size_t n_samples = 0;
    for (char *line = strtok_r(text, "\n", &text); line; line = strtok_r(NULL, "\n", &text)) {
        char name[128], labels[256] = "", value[64];
        if (sscanf(line, "# HELP %127s", name) == 1) {
            snprintf(family, sizeof family, "%s", name);
            continue;
        }
        if (sscanf(line, "# TYPE %127s %31s", name, type) == 2) {
            assert_string_equal(name, family);
            bucket = last_bound = -1;
            continue;
        }
        bool has_labels = sscanf(line, "%127[a-z_]{%255[^}]} %63s", name, labels, value) == 3;
        if (!has_labels && sscanf(line, "%127[a-z_] %63s", name, value) != 2)
            fail_msg("no sample: %s", line);
        n_samples++;
        char *end;
        double v = strtod(value, &end);
        assert_true(*end == '\0' && v >= 0);
        assert_int_equal(strncmp(name, family, strlen(family)), 0);
        const char *ending = name + strlen(family);
        if (strcmp(type, "histogram") != 0) {
            assert_string_equal(ending, "");
            bool is_total = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
            assert_int_equal(is_total, strcmp(type, "counter") == 0);
        } else if (strcmp(ending, "_bucket") == 0) {
            double bound = strstr(labels, "+Inf") ? 1e300 : strtod(labels + 4, NULL);
            assert_true(bound > last_bound && v >= bucket);
            last_bound = bound;
            bucket = v;
        } else if (strcmp(ending, "_count") == 0) {
            assert_true(last_bound == 1e300 && v == bucket);
        } else {
            assert_string_equal(ending, "_sum");
        }
    }
    assert_true(n_samples > 100);
}

static void tells_prometheus(void **state)
{
    (void)state;
    char type[96];
    for (int i = 0; i < 3; i++) {
        struct http_answer a = call(CHAT, HELLO ",\"n\":2}", NULL);
        http_answer_release(&a);
    }
    expect_error("/nowhere", NULL, NULL, 404, "not_found");
    fake_script.fail = E_CONTEXT;
    expect_error(CHAT, HELLO "}", NULL, 400, NULL);
    struct http_answer a = call("/metrics", NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_true(http_answer_header(&a, "Content-Type", type, sizeof type));
    assert_string_equal(type, "text/plain; version=0.0.4; charset=utf-8");
    static const char *const lines[] = {
        "kvasir_generations_total{dialect=\"OpenAI\",outcome=\"done\"} 3\n",
        "kvasir_generations_total{dialect=\"OpenAI\",outcome=\"failed\"} 1\n",
        "kvasir_time_to_first_token_seconds_count 3\n",
        "kvasir_inter_token_seconds_count 18\n", /* 2 choices of 4 tokens: 3 times between each */
        "kvasir_request_seconds_count 4\n",
        "kvasir_http_replies_total{code=\"200\"} 3\n",
        "kvasir_http_replies_total{code=\"404\"} 1\n",
        "kvasir_prompt_tokens_total{source=\"memory\"} 64\n",
        "kvasir_store_records{kind=\"page\"} 7\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(a.body.ptr, lines[i]))
            fail_msg("%s not in\n%s", lines[i], a.body.ptr);
    check_metrics(a.body.ptr);
    http_answer_release(&a);
}

static void answers_carry_the_request_s_id(void **state)
{
    (void)state;
    static const char *const paths[] = {"/health",         "/health/live", "/health/ready",
                                        "/health/startup", "/v1/models",   "/nowhere"};
    char id[160], other[160];
    static const char *const given[] = {"X-Request-Id: mine/1", NULL},
                             *const bad[] = {"X-Request-Id: two words", NULL};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct http_answer a = call(paths[i], NULL, NULL);
        assert_true(http_answer_header(&a, "X-Request-Id", id, sizeof id));
        assert_int_equal(strncmp(id, "req_", 4), 0);
        http_answer_release(&a);
        a = call(paths[i], NULL, bad);
        assert_true(http_answer_header(&a, "X-Request-Id", other, sizeof other));
        assert_string_not_equal(id, other);
        assert_int_equal(strncmp(other, "req_", 4), 0);
        http_answer_release(&a);
    }
    struct http_answer a = call(CHAT, HELLO ",\"stream\":true}", given);
    assert_true(http_answer_header(&a, "X-Request-Id", id, sizeof id));
    assert_string_equal(id, "mine/1");
    http_answer_release(&a);
}

static int status_with(const char *path, const char *body, const char *header, char retry[16])
{
    const char *headers[] = {header, NULL};
    struct http_answer a = call(path, body, headers);
    int status = a.status;
    if (!http_answer_header(&a, "Retry-After", retry, 16))
        retry[0] = '\0';
    http_answer_release(&a);
    return status;
}

static void keys_have_limits_and_are_read_again(void **state)
{
    (void)state;
    struct err e = {0};
    struct server *first = server, *second = NULL;
    char retry[16];
    temp_put("keys", "boss admin\nslow red requests=2\nfew requests=600 tokens=30\nplain\n");
    struct server_options o = server_defaults();
    o.port = 0;
    o.api_key_file = keys_path;
    assert_int_equal(server_start(&o, engine, &second, &e), OK);
    server = second;
    static const char slow[] = "x-api-key: slow", few[] = "x-api-key: few",
                      plain[] = "x-api-key: plain", boss[] = "x-api-key: boss";
    for (int i = 0; i < 3; i++) {
        assert_int_equal(status_with(CHAT, HELLO "}", slow, retry), i < 2 ? 200 : 429);
        assert_int_equal(status_with(CHAT, HELLO "}", plain, retry), 200);
    }
    assert_int_equal(status_with(CHAT, HELLO "}", slow, retry), 429);
    assert_in_range(strtol(retry, NULL, 10), 28, 31); /* two a minute */
    /* A request costs 16 computed and 4 generated tokens: the second one overdraws by 10. */
    assert_int_equal(status_with(CHAT, HELLO "}", few, retry), 200);
    assert_int_equal(status_with(CHAT, HELLO "}", few, retry), 200);
    assert_int_equal(status_with(CHAT, HELLO "}", few, retry), 429);
    assert_in_range(strtol(retry, NULL, 10), 18, 22);
    /* Where there is an admin key, others don't see what is of all tenants together. */
    assert_int_equal(status_with("/metrics", NULL, plain, retry), 403);
    assert_int_equal(status_with("/v1/cache/stats", NULL, plain, retry), 403);
    assert_int_equal(status_with("/metrics", NULL, boss, retry), 200);
    /* Read again: one key went, one came, one got other limits; what it used up is forgotten. */
    temp_put("keys", "boss admin\nslow red requests=5\nnew\n");
    assert_int_equal(server_reload(second, &o, &e), OK);
    assert_int_equal(status_with(CHAT, HELLO "}", plain, retry), 401);
    assert_int_equal(status_with(CHAT, HELLO "}", slow, retry), 200);
    assert_int_equal(status_with(CHAT, HELLO "}", "x-api-key: new", retry), 200);
    /* A file that says nonsense changes nothing. */
    static const char *const wrong[] = {"",
                                        "# none\n",
                                        "a requests=0\n",
                                        "a red tokens=x\n",
                                        "a requests=5 blue\n",
                                        "a concurrent=99999999999\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        temp_put("keys", wrong[i]);
        assert_int_equal(server_reload(second, &o, &e), E_INVALID);
        assert_int_equal(status_with("/metrics", NULL, boss, retry), 200);
    }
    server = first;
    server_stop(second, 0);
}

static void keys_have_a_ceiling_of_open_requests(void **state)
{
    (void)state;
    struct err e = {0};
    struct server *first = server, *second = NULL;
    char retry[16];
    temp_put("keys", "two concurrent=2\n");
    struct server_options o = server_defaults();
    o.port = 0;
    o.api_key_file = keys_path;
    assert_int_equal(server_start(&o, engine, &second, &e), OK);
    server = second;
    fake_script.waits_after_start = true;
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = connect_and_send_with(HELLO "}", "x-api-key: two\r\n");
        wait_for(&fake_n_running, i + 1);
    }
    assert_int_equal(status_with(CHAT, HELLO "}", "x-api-key: two", retry), 429);
    assert_string_equal(retry, "1");
    fake_script.waits_after_start = false;
    for (int i = 0; i < 2; i++)
        close(fds[i]);
    wait_for(&fake_n_running, 0);
    int status = 429;
    for (int i = 0; i < 1000 && status == 429; i++, usleep(1000))
        status = status_with(CHAT, HELLO "}", "x-api-key: two", retry);
    assert_int_equal(status, 200);
    server = first;
    server_stop(second, 0);
}

static void reads_keys_from_a_file(void **state)
{
    (void)state;
    struct err e = {0};
    struct server *second = NULL;
    temp_put("keys", "# the team\n\nalpha\r\nbeta  \n");
    struct server_options o = server_defaults();
    o.port = 0;
    o.api_key_file = keys_path;
    assert_int_equal(server_start(&o, engine, &second, &e), OK);
    struct server *first = server;
    server = second;
    static const char *const good[] = {"Authorization: Bearer alpha", NULL};
    static const char *const bad[] = {"Authorization: Bearer # the team", NULL};
    struct http_answer a = call("/v1/models", NULL, good);
    assert_int_equal(a.status, 200);
    http_answer_release(&a);
    expect_error("/v1/models", NULL, bad, 401, "invalid_api_key");
    server = first;
    server_stop(second, 0);
    temp_put("keys", "# nothing\n");
    assert_int_equal(server_start(&o, engine, &second, &e), E_INVALID);
    unlink(keys_path);
    assert_int_equal(server_start(&o, engine, &second, &e), E_NOT_FOUND);
}

/* ---- the rest ---- */
static void tells_what_is_here(void **state)
{
    (void)state;
    struct http_answer a = call("/v1/models", NULL, NULL);
    const struct json *v = parse(buf_slice(&a.body));
    const struct json *m = &json_get(v, "data")->items[0];
    assert_string_equal(json_get(m, "id")->text.ptr, "fake-model");
    assert_int_equal(json_get(json_get(m, "meta"), "n_ctx_train")->integer, 4096);
    http_answer_release(&a);
    a = call("/v1/models/fake-model", NULL, NULL);
    assert_string_equal(json_get(parse(buf_slice(&a.body)), "object")->text.ptr, "model");
    http_answer_release(&a);
    a = call("/v1/cache/stats", NULL, NULL);
    v = parse(buf_slice(&a.body));
    assert_int_equal(json_get(json_get(v, "tokens"), "memory")->integer, 64);
    v = json_get(json_get(json_get(v, "store"), "records"), "page");
    assert_int_equal(json_get(v, "count")->integer, 7);
    http_answer_release(&a);
    a = call("/health", NULL, NULL);
    assert_string_equal(a.body.ptr, "{\"status\":\"ok\"}\n");
    http_answer_release(&a);
    a = call("/", NULL, NULL);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.body.ptr, "<title>kvasir</title>"));
    assert_null(strstr(a.body.ptr, "src=\"http"));
    char policy[512];
    assert_true(http_answer_header(&a, "Content-Security-Policy", policy, sizeof policy));
    http_answer_release(&a);
}

static void *stop_soon(void *arg)
{
    (void)arg;
    usleep(50000);
    server_stop(server, 5000);
    return NULL;
}

/* A stream that is running when the server is told to stop comes to its end. */
static void drains(void **state)
{
    (void)state;
    pthread_t t;
    fake_script.step_us = 5000;
    fake_script.repeat = 10;
    pthread_create(&t, NULL, stop_soon, NULL);
    struct stream s = stream_call(client, CHAT, HELLO ",\"stream\":true}");
    pthread_join(t, NULL);
    server = NULL;
    assert_true(s.has_done && !s.has_error);
    assert_int_equal(s.text.len, 10 * strlen("Hello wörld!"));
    buf_release(&s.text);
}

static void *stop_now(void *arg)
{
    (void)arg;
    usleep(50000);
    server_stop(server, 0);
    return NULL;
}

static void says_so_when_it_stops_at_once(void **state)
{
    (void)state;
    pthread_t t;
    fake_script.waits_after_start = true;
    pthread_create(&t, NULL, stop_now, NULL);
    struct stream s = stream_call(client, CHAT, HELLO ",\"stream\":true}");
    pthread_join(t, NULL);
    server = NULL;
    assert_true(s.has_error && !s.has_done);
    assert_int_equal(fake_n_cancelled, 1);
    buf_release(&s.text);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(answers_whole),
        T(streams),
        T(streams_when_the_engine_is_faster_than_submit),
        T(completes_text),
        T(streams_to_many),
        T(cancels_when_the_client_leaves),
        T(cancels_when_the_client_does_not_read),
        T(survives_clients_that_come_and_go),
        T(gives_errors_their_status),
        T(refuses_a_large_body),
        T(refuses_foreign_hosts),
        T(refuses_foreign_pages),
        T(answers_preflight),
        cmocka_unit_test_setup_teardown(asks_for_keys, set_up_keys, tear_down),
        T(keys_have_tenants),
        T(reads_keys_from_a_file),
        T(keys_have_limits_and_are_read_again),
        T(keys_have_a_ceiling_of_open_requests),
        T(tells_prometheus),
        T(answers_carry_the_request_s_id),
        T(tells_what_is_here),
        T(drains),
        T(says_so_when_it_stops_at_once),
    };
    return cmocka_run_group_tests(tests, make_folder, temp_folder_remove);
}
