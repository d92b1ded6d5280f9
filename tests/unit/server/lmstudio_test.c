/* SPDX-License-Identifier: MIT
 * lmstudio_test.c — goal: over LM Studio's sockets only those come in that may, what the engine
 * says reaches the channel that asked, a word or a hang-up cancels, and stopping loses nobody.
 * Method: the server over a scripted engine; clients that write their frames by hand. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "os/clock.h"
#include "server/server.h"
#include "temp_folder.h"
#include "text/json.h"
#include "ws_client.h"

#define AUTH(key) "{\"authVersion\":1,\"clientIdentifier\":\"test\",\"clientPasskey\":\"" key "\"}"
#define PREDICT                                                                                 \
    "{\"type\":\"channelCreate\",\"endpoint\":\"predict\",\"channelId\":%d,"                    \
    "\"creationParameter\":{\"modelSpecifier\":{\"type\":\"query\",\"query\":{}},\"history\":{" \
    "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}]}," \
    "\"predictionConfigStack\":{\"layers\":[]}}}"
#define VERSION "{\"type\":\"rpcCall\",\"endpoint\":\"version\",\"callId\":1}"
#define N_CALLS 8
#define MANY    64 /* channels of one client */

static struct engine *engine;
static struct server *server;
static struct arena arena;
static const char *const keys[] = {"sesame", "open barley"};

static int set_up_with(uint32_t n_keys)
{
    struct err e = {0};
    struct server_options o = server_defaults();
    o.port = 0;
    o.api_keys = keys;
    o.n_api_keys = n_keys;
    fake_script = (struct fake_script){.pieces = {"Hel", "lo", " wörld", "!"}, .n_pieces = 4};
    fake_n_submitted = fake_n_cancelled = 0;
    engine = fake_engine_new();
    arena_init(&arena, 256u << 20);
    if (server_start(&o, engine, &server, &e) != OK)
        return -1;
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(0);
}

static int set_up_keys(void **state)
{
    (void)state;
    return set_up_with(2);
}

static int tear_down(void **state)
{
    (void)state;
    server_stop(server, 0);
    server = NULL;
    engine_close(engine); /* waits until no request runs */
    arena_release(&arena);
    return 0;
}

/* The server has stopped: what the tear-down takes down must be there. */
static void begin_again(void)
{
    engine_close(engine);
    arena_release(&arena);
    assert_int_equal(set_up_with(0), 0);
}

static void wait_until(atomic_int *value, int wanted)
{
    uint64_t start_ns = clock_now_ns();
    while (atomic_load(value) != wanted && clock_ms_since(start_ns) < TCP_WAIT_MS)
        clock_sleep_ms(1);
    assert_int_equal(atomic_load(value), wanted);
}

/* ---- a client ---- */
/* headers: further ones, each with its line's end. */
static int dial(const char *path, const char *headers, const char *status)
{
    char ask[1024];
    int fd = tcp_dial_url(server_url(server));
    assert_true(fd >= 0);
    snprintf(ask, sizeof ask, WS_ASK "%s" WS_UPGRADE, path, headers);
    tcp_put(fd, ask, strlen(ask));
    if (!strstr(tcp_read_head(fd), status))
        fail_msg("/%s: not %s", path, status);
    return fd;
}

static void say(int fd, const char *text)
{
    ws_say(fd, WS_TEXT, slice_of(text));
}

/* The next message; NULL: the end. */
static const struct json *hear(int fd)
{
    unsigned first = 0;
    size_t n = 0;
    char *text = ws_hear(fd, &first, &n);
    struct json *v = NULL;
    struct err e = {0};
    if (!text || first == WS_CLOSE) {
        free(text);
        return NULL;
    }
    assert_int_equal(first, WS_TEXT);
    if (json_parse((struct slice){text, n}, &arena, &v, &e) != OK)
        fail_msg("%s in %s", e.msg, text);
    free(text);
    return v;
}

static const char *text_at(const struct json *v, const char *key)
{
    const struct json *text = json_get(v, key);
    return text && text->kind == JSON_STRING ? text->text.ptr : "";
}

static bool is_in(int fd)
{
    const struct json *success = json_get(hear(fd), "success");
    assert_non_null(success);
    return success->boolean;
}

static int open_at(const char *path)
{
    int fd = dial(path, "", " 101 ");
    say(fd, AUTH("any"));
    assert_true(is_in(fd));
    return fd;
}

static void predict(int fd, int channel)
{
    char text[1024];
    snprintf(text, sizeof text, PREDICT, channel);
    say(fd, text);
}

struct prediction {
    struct buf text;
    char how[32], error[256]; /* stopReason, or the error's title */
    bool is_closed;
};

/* One message, to its channel's prediction.  False: the end. */
static bool take(int fd, struct prediction *all, int n)
{
    const struct json *v = hear(fd);
    if (!v)
        return false;
    const struct json *id = json_get(v, "channelId"), *m = json_get(v, "message");
    assert_true(id && id->integer >= 0 && id->integer < n);
    struct prediction *p = &all[id->integer];
    assert_false(p->is_closed);
    p->is_closed = strcmp(text_at(v, "type"), "channelSend") != 0;
    if (strcmp(text_at(m, "type"), "fragment") == 0)
        buf_add_text(&p->text, text_at(json_get(m, "fragment"), "content"));
    if (strcmp(text_at(m, "type"), "success") == 0)
        snprintf(p->how, sizeof p->how, "%s", text_at(json_get(m, "stats"), "stopReason"));
    if (json_get(v, "error"))
        snprintf(p->error, sizeof p->error, "%s", text_at(json_get(v, "error"), "title"));
    return true;
}

static void take_all(int fd, struct prediction *all, int n)
{
    for (int i = 0; i < n; i++) {
        all[i] = (struct prediction){0};
        buf_init(&all[i].text, 1 << 20);
    }
    for (int i = 0; i < n; i++)
        while (!all[i].is_closed)
            if (!take(fd, all, n))
                return;
}

static void release_all(struct prediction *all, int n)
{
    for (int i = 0; i < n; i++)
        buf_release(&all[i].text);
}

/* ---- tests ---- */
static void predicts_side_by_side(void **state)
{
    (void)state;
    struct prediction all[N_CALLS];
    int fd = open_at("llm");
    fake_script.step_us = 500;
    for (int i = 0; i < N_CALLS; i++)
        predict(fd, i);
    take_all(fd, all, N_CALLS);
    for (int i = 0; i < N_CALLS; i++) {
        assert_string_equal(all[i].text.ptr, "Hello wörld!");
        assert_string_equal(all[i].how, "eosFound");
    }
    assert_int_equal(fake_n_submitted, N_CALLS);
    release_all(all, N_CALLS);
    close(fd);
}

static void predicts_when_the_engine_is_faster_than_submit(void **state)
{
    (void)state;
    struct prediction all[1];
    int fd = open_at("llm");
    fake_script.is_synchronous = true;
    for (int i = 0; i < 20; i++) {
        predict(fd, 0); /* its id may be used again: the one before has ended */
        take_all(fd, all, 1);
        assert_string_equal(all[0].text.ptr, "Hello wörld!");
        release_all(all, 1);
    }
    close(fd);
}

static void tells_the_engine_s_errors(void **state)
{
    (void)state;
    struct prediction all[1];
    int fd = open_at("llm");
    fake_script.fail = E_INVALID;
    fake_script.fail_message = "no such thing";
    predict(fd, 0);
    take_all(fd, all, 1);
    assert_string_equal(all[0].error, "no such thing");
    release_all(all, 1);
    fake_script.fail = OK;
    fake_script.submit = E_BUSY;
    predict(fd, 0);
    take_all(fd, all, 1);
    assert_true(all[0].error[0]);
    release_all(all, 1);
    close(fd);
}

static void a_word_cancels(void **state)
{
    (void)state;
    struct prediction all[2];
    int fd = open_at("llm");
    fake_script.waits_after_start = true;
    predict(fd, 0);
    predict(fd, 1);
    wait_until(&fake_n_submitted, 2);
    say(fd, "{\"type\":\"channelSend\",\"channelId\":1,\"message\":{\"type\":\"cancel\"}}");
    say(fd, "{\"type\":\"channelSend\",\"channelId\":9,\"message\":{\"type\":\"cancel\"}}");
    wait_until(&fake_n_cancelled, 1);
    say(fd, "{\"type\":\"channelSend\",\"channelId\":0,\"message\":{\"type\":\"cancel\"}}");
    take_all(fd, all, 2);
    assert_string_equal(all[0].how, "userStopped");
    assert_string_equal(all[1].how, "userStopped");
    release_all(all, 2);
    close(fd);
}

static void a_hang_up_cancels(void **state)
{
    (void)state;
    fake_script.waits_after_start = true;
    int fd = open_at("llm"), other = open_at("llm");
    for (int i = 0; i < N_CALLS; i++)
        predict(fd, i);
    predict(other, 0);
    wait_until(&fake_n_submitted, N_CALLS + 1);
    close(fd);
    wait_until(&fake_n_cancelled, N_CALLS);
    ws_say(other, WS_CLOSE, SLICE_LIT("\x03\xe8")); /* politely */
    wait_until(&fake_n_cancelled, N_CALLS + 1);
    assert_int_equal(ws_end(other), 1000);
    wait_until(&fake_n_running, 0);
}

static void bounds_channels(void **state)
{
    (void)state;
    struct prediction all[MANY + 1] = {0};
    int fd = open_at("llm");
    fake_script.waits_after_start = true;
    for (int i = 0; i < MANY; i++)
        predict(fd, i);
    wait_until(&fake_n_submitted, MANY);
    predict(fd, MANY);
    for (int i = 0; i <= MANY; i++)
        buf_init(&all[i].text, 1 << 20);
    while (!all[MANY].is_closed)
        assert_true(take(fd, all, MANY + 1));
    assert_non_null(strstr(all[MANY].error, "at most 64"));
    assert_int_equal(fake_n_submitted, MANY);
    release_all(all, MANY + 1);
    close(fd);
    wait_until(&fake_n_cancelled, MANY);
}

static void asks_for_keys(void **state)
{
    (void)state;
    int fd = dial("system", "", " 101 "); /* as a passkey */
    say(fd, AUTH("open barley"));
    assert_true(is_in(fd));
    say(fd, VERSION);
    assert_string_equal(text_at(hear(fd), "type"), "rpcResult");
    close(fd);
    fd = dial("system", "Authorization: Bearer sesame\r\n", " 101 "); /* as a header */
    say(fd, AUTH("any"));
    assert_true(is_in(fd));
    close(fd);
    static const char *const wrong[] = {AUTH("wheat"), AUTH(""), VERSION, "hello", "{}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        fd = dial("system", "", " 101 ");
        say(fd, wrong[i]);
        say(fd, VERSION); /* too late */
        assert_false(is_in(fd));
        assert_int_equal(ws_end(fd), 1008);
    }
    fd = dial("llm", "Authorization: Bearer wheat\r\n", " 101 ");
    say(fd, AUTH("wheat"));
    assert_false(is_in(fd));
    close(fd);
    assert_int_equal(fake_n_submitted, 0);
}

/* A key that is taken away closes what it opened, at the next message. */
static void forgets_keys(void **state)
{
    (void)state;
    struct err e = {0};
    struct server_options o = server_defaults();
    char path[512];
    snprintf(path, sizeof path, "%s", temp_path("keys"));
    server_stop(server, 0);
    temp_put("keys", "stays\ngoes\n");
    o.port = 0;
    o.api_key_file = path;
    assert_int_equal(server_start(&o, engine, &server, &e), OK);
    int stays = dial("system", "", " 101 "), goes = dial("system", "", " 101 ");
    say(stays, AUTH("stays"));
    say(goes, AUTH("goes"));
    assert_true(is_in(stays) && is_in(goes));
    temp_put("keys", "stays\n");
    assert_int_equal(server_reload(server, &o, &e), OK);
    say(goes, VERSION);
    assert_int_equal(ws_end(goes), 1008);
    say(stays, VERSION);
    assert_string_equal(text_at(hear(stays), "type"), "rpcResult");
    close(stays);
}

static void refuses_strangers(void **state)
{
    (void)state;
    close(dial("llm", "Origin: http://evil.example\r\n", " 403 "));
    close(dial("llm", "Origin: http://localhost:3000\r\n", " 101 "));
    int fd = tcp_dial_url(server_url(server));
    static const char rebound[] = "GET /llm HTTP/1.1\r\nHost: evil.example\r\n" WS_UPGRADE;
    tcp_put(fd, rebound, sizeof rebound - 1);
    assert_non_null(strstr(tcp_read_head(fd), " 403 "));
    close(fd);
    fd = tcp_dial_url(server_url(server));
    static const char plain[] = "GET /llm HTTP/1.1\r\nHost: localhost\r\n\r\n";
    tcp_put(fd, plain, sizeof plain - 1);
    assert_non_null(strstr(tcp_read_head(fd), " 426 "));
    close(fd);
    fd = tcp_dial_url(
        server_url(server)); /* nothing but sockets is served at these, and sockets nowhere else */
    static const char other[] = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" WS_UPGRADE;
    tcp_put(fd, other, sizeof other - 1);
    assert_non_null(strstr(tcp_read_head(fd), " 200 "));
    close(fd);
}

static void shows_out_who_talks_nonsense(void **state)
{
    (void)state;
    int fd = open_at("llm"), n = 0;
    for (int i = 0; i < 40; i++)
        say(fd, "{\"type\":\"nonsense\"}");
    for (const struct json *v; (v = hear(fd)) != NULL; n++)
        assert_string_equal(text_at(v, "type"), "communicationWarning");
    assert_true(n >= 16 && n <= 18);
    close(fd);
}

static void *stop_soon(void *drain_ms)
{
    usleep(50000);
    server_stop(server, *(uint32_t *)drain_ms);
    return NULL;
}

static void drains(void **state)
{
    (void)state;
    struct prediction all[1];
    pthread_t t;
    uint32_t drain_ms = 5000;
    int fd = open_at("llm"), idle = open_at("system");
    fake_script.step_us = 20000;
    fake_script.repeat = 5;
    predict(fd, 0);
    wait_until(&fake_n_submitted, 1);
    pthread_create(&t, NULL, stop_soon, &drain_ms);
    take_all(fd, all, 1);
    assert_string_equal(all[0].how, "eosFound");
    assert_int_equal(all[0].text.len, 5 * strlen("Hello wörld!"));
    assert_int_equal(ws_end(fd), 1001);
    assert_int_equal(ws_end(idle), 1001);
    pthread_join(t, NULL);
    release_all(all, 1);
    begin_again();
}

static void says_so_when_it_stops_at_once(void **state)
{
    (void)state;
    struct prediction all[1];
    pthread_t t;
    uint32_t drain_ms = 0;
    int fd = open_at("llm");
    fake_script.waits_after_start = true;
    predict(fd, 0);
    wait_until(&fake_n_submitted, 1);
    pthread_create(&t, NULL, stop_soon, &drain_ms);
    take_all(fd, all, 1);
    assert_string_equal(all[0].error, "the server is stopping");
    assert_int_equal(ws_end(fd), 1001);
    pthread_join(t, NULL);
    assert_int_equal(fake_n_cancelled, 1);
    release_all(all, 1);
    begin_again();
}

/* Clients that come, ask and go at any moment: no request is left behind. */
static void survives_clients_that_come_and_go(void **state)
{
    (void)state;
    unsigned seed = 11;
    fake_script.step_us = 300;
    fake_script.repeat = 10;
    for (int i = 0; i < 150; i++) {
        char text[1024];
        struct buf b;
        int fd = dial("llm", "", " 101 ");
        buf_init(&b, 1 << 20);
        ws_frame(&b, WS_TEXT, slice_of(AUTH("any")));
        snprintf(text, sizeof text, PREDICT, i % 3);
        ws_frame(&b, WS_TEXT, slice_of(text));
        tcp_put(fd, b.ptr, i % 2 ? b.len : (size_t)rand_r(&seed) % b.len);
        usleep((unsigned)rand_r(&seed) % 2000);
        close(fd);
        buf_release(&b);
    }
    wait_until(&fake_n_running, 0);
    assert_true(fake_n_submitted > 10);
    int fd = open_at("system");
    say(fd, VERSION);
    assert_string_equal(text_at(hear(fd), "type"), "rpcResult");
    close(fd);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(predicts_side_by_side),
        T(predicts_when_the_engine_is_faster_than_submit),
        T(tells_the_engine_s_errors),
        T(a_word_cancels),
        T(a_hang_up_cancels),
        T(bounds_channels),
        cmocka_unit_test_setup_teardown(asks_for_keys, set_up_keys, tear_down),
        T(forgets_keys),
        T(refuses_strangers),
        T(shows_out_who_talks_nonsense),
        T(drains),
        T(says_so_when_it_stops_at_once),
        T(survives_clients_that_come_and_go),
    };
    return cmocka_run_group_tests(tests, temp_folder_make, temp_folder_remove);
}
