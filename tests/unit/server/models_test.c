/* SPDX-License-Identifier: MIT
 * models_test.c — goal: requests wait for their model without a worker of http's, in the order of
 * nobody's but the model's; one whose client leaves, or whose server stops, ends at once; requests
 * that run keep their model.  Method: the server over a folder of the fake engine's models, over
 * real sockets. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/prng.h"
#include "fake_engine.h"
#include "http/http_client.h"
#include "os/clock.h"
#include "server/server.h"
#include "tcp_client.h"
#include "temp_folder.h"

#define LOAD_MS     1500
#define PATIENCE_MS 20000
#define BODY                                                                                 \
    "{\"model\":\"%s\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," \
    "\"ttl\":%d}"

static struct fleet *fleet;
static struct server *server;

static int set_up(void **state)
{
    char text[64];
    struct err e = {0};
    struct engine_options engine = {0};
    struct server_options o = server_defaults();
    (void)state;
    fake_script = (struct fake_script){.pieces = {"Hel", "lo"}, .n_pieces = 2};
    fake_n_submitted = fake_n_cancelled = fake_n_engines = 0;
    if (temp_folder_make(NULL) != 0)
        return -1;
    snprintf(text, sizeof text, "fake Slow %d", LOAD_MS);
    temp_put("slow.gguf", text);
    temp_put("quick.gguf", "fake Quick 0");
    temp_put("fails.gguf", "fails Fails 100");
    struct fleet_options f = {.engine = &engine, .dir = temp_folder, .ttl_s = 60};
    if (fleet_open(&f, &fleet, &e) != OK)
        return -1;
    o.port = 0;
    o.fleet = fleet;
    return server_start(&o, fleet_engine(fleet_first(fleet)), &server, &e) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    server_stop(server, 0);
    server = NULL;
    fleet_close(fleet);
    return temp_folder_remove(NULL) == 0 && fake_n_engines == 0 ? 0 : -1;
}

/* ---- calls beside the test ---- */
struct task {
    pthread_t thread;
    char body[256];
    const char *path;
    int status;
    double ms;
    char text[4096];
};

static void *run_task(void *arg)
{
    struct task *t = arg;
    char url[256];
    struct err e = {0};
    struct http_client *c = NULL;
    struct http_answer a = {0};
    snprintf(url, sizeof url, "%s%s", server_url(server), t->path);
    struct http_call call = {.url = url, .body = slice_of(t->body), .total_ms_max = PATIENCE_MS};
    if (http_client_new(&c, &e) == OK && http_client_call(c, &call, &a, &e) == OK) {
        t->status = a.status;
        t->ms = a.total_ms;
        snprintf(t->text, sizeof t->text, "%.*s", (int)a.body.len, a.body.len ? a.body.ptr : "");
    }
    http_answer_release(&a);
    http_client_free(c);
    return NULL;
}

static void begin(struct task *t, const char *model, bool is_stream)
{
    *t = (struct task){.path = "/api/v0/chat/completions"};
    snprintf(t->body, sizeof t->body, BODY, model, is_stream ? "true" : "false", 60);
    assert_int_equal(pthread_create(&t->thread, NULL, run_task, t), 0);
}

static void end(struct task *t, int status)
{
    pthread_join(t->thread, NULL);
    if (t->status != status)
        fail_msg("%s: %d, not %d: %s", t->body, t->status, status, t->text);
}

static int open_and_send(const char *model)
{
    char body[256], request[1024];
    int fd = tcp_dial_url(server_url(server));
    assert_true(fd >= 0);
    snprintf(body, sizeof body, BODY, model, "true", 60);
    int n = snprintf(request, sizeof request,
                     "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    tcp_put(fd, request, (size_t)n);
    return fd;
}

static void expect_waiting(uint32_t n)
{
    struct fleet_counts c;
    uint64_t start = clock_now_ns();
    do {
        clock_sleep_ms(1);
        fleet_counts(fleet, &c);
    } while (c.n_waiting != n && clock_ms_since(start) < PATIENCE_MS);
    assert_int_equal(c.n_waiting, n);
}

/* ---- tests ---- */
static void who_waits_holds_up_nobody(void **state)
{
    enum { N = 24 }; /* more than http has workers */
    struct task slow[N], quick[3];
    static const char *const others[] = {"first", "", "first:latest"};
    (void)state;
    uint64_t start = clock_now_ns();
    for (size_t i = 0; i < N; i++)
        begin(&slow[i], i % 2 ? "slow" : "SLOW.gguf", i % 3 == 0);
    expect_waiting(N);
    for (size_t i = 0; i < 3; i++)
        begin(&quick[i], others[i], false);
    for (size_t i = 0; i < 3; i++) {
        end(&quick[i], 200);
        assert_non_null(strstr(quick[i].text, "Hello"));
    }
    if (clock_ms_since(start) < LOAD_MS) /* else the machine had other things to do */
        expect_waiting(N);
    for (size_t i = 0; i < N; i++) {
        end(&slow[i], 200);
        assert_non_null(strstr(slow[i].text, slow[i].body[10] == 'S' ? "SLOW.gguf" : "slow"));
    }
    assert_int_equal(fake_n_submitted, N + 3);
    assert_int_equal(fake_n_engines, 2);
}

static void who_leaves_does_not_wait_on(void **state)
{
    struct task t;
    int fds[8];
    (void)state;
    for (size_t i = 0; i < 8; i++)
        fds[i] = open_and_send("slow");
    begin(&t, "slow", false);
    expect_waiting(9);
    for (size_t i = 0; i < 8; i++)
        close(fds[i]);
    expect_waiting(1);
    end(&t, 200);
    assert_int_equal(fake_n_submitted, 1);
}

static void a_model_that_fails_is_an_error(void **state)
{
    struct task a, b;
    (void)state;
    begin(&a, "fails", false);
    begin(&b, "fails", true);
    end(&a, 500);
    end(&b, 500);
    assert_non_null(strstr(a.text, "Fails can't be loaded"));
    begin(&a, "nobody", true);
    end(&a, 404);
    assert_non_null(strstr(a.text, "model_not_found"));
}

/* As PHP, and Python by default, write them. */
static void names_may_be_escaped(void **state)
{
    struct task t;
    (void)state;
    temp_put("na\xc3\xafve.gguf", "fake Naive 0");
    begin(&t, "hub\\/na\\u00efve", false);
    end(&t, 200);
    assert_int_equal(fake_n_engines, 2);
    begin(&t, "no\\\"body", false);
    end(&t, 404);
    assert_non_null(strstr(t.text, "'no\\\"body'"));
    begin(&t, "half\\u00", false);
    end(&t, 400);
}

static void a_stop_ends_those_that_wait(void **state)
{
    struct task t[4];
    (void)state;
    for (size_t i = 0; i < 4; i++)
        begin(&t[i], "slow", i % 2);
    expect_waiting(4);
    server_stop(server, 0);
    server = NULL;
    for (size_t i = 0; i < 4; i++)
        end(&t[i], 503);
    assert_int_equal(fake_n_submitted, 0);
    fleet_close(fleet); /* also while it loads */
    assert_int_equal(fake_n_engines, 0);
}

static void a_request_keeps_its_model(void **state)
{
    struct task t;
    struct err e;
    (void)state;
    fake_script.step_us = 300000;
    begin(&t, "quick", true);
    while (fake_n_submitted == 0)
        clock_sleep_ms(1);
    assert_int_equal(fleet_unload(fleet, SLICE_LIT("quick"), &e), OK);
    clock_sleep_ms(100);
    assert_int_equal(fake_n_engines, 2);
    end(&t, 200);
    assert_non_null(strstr(t.text, "[DONE]"));
    uint64_t start = clock_now_ns();
    while (fake_n_engines > 1 && clock_ms_since(start) < PATIENCE_MS)
        clock_sleep_ms(1);
    assert_int_equal(fake_n_engines, 1);
}

/* Clients that come, ask for any of the models and leave at any time; nothing stays behind. */
static void *visit_and_leave(void *arg)
{
    static const char *const names[] = {"slow", "quick", "fails", "nobody", "first"};
    struct prng p = {.seed = (uint64_t)(uintptr_t)arg};
    for (uint64_t start = clock_now_ns(); clock_ms_since(start) < 2500;) {
        int fd = open_and_send(names[prng_below(&p, 5)]);
        clock_sleep_ms((uint32_t)prng_below(&p, 60));
        close(fd);
    }
    return NULL;
}

static void clients_that_leave_leave_nothing(void **state)
{
    pthread_t threads[6];
    (void)state;
    temp_put("slow.gguf", "fake Slow 40");
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, visit_and_leave, (void *)(uintptr_t)(i + 1)), 0);
    for (size_t i = 0; i < 20; i++) {
        struct err e;
        clock_sleep_ms(100);
        for (size_t j = 0; j < 2; j++) {
            enum status st = fleet_unload(fleet, slice_of(j ? "slow" : "quick"), &e);
            assert_int_equal(st, OK);
        }
    }
    for (size_t i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    expect_waiting(0);
    struct err e;
    uint64_t start = clock_now_ns();
    do { /* all references were given back: every model can go */
        for (size_t j = 0; j < 2; j++)
            assert_int_equal(fleet_unload(fleet, slice_of(j ? "slow" : "quick"), &e), OK);
        clock_sleep_ms(10);
    } while (fake_n_engines > 1 && clock_ms_since(start) < PATIENCE_MS);
    assert_int_equal(fake_n_engines, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_waits_holds_up_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_leaves_does_not_wait_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_that_fails_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_may_be_escaped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_ends_those_that_wait, set_up, temp_folder_remove),
        cmocka_unit_test_setup_teardown(a_request_keeps_its_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(clients_that_leave_leave_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
