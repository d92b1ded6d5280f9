/* SPDX-License-Identifier: MIT
 * handover_test.c — goal: a server is replaced while clients go on asking, and none of them sees it
 * but by the time an answer takes.  Method: clients that never stop, on kept and on new
 * connections, whole and streamed; three servers that take over from one another on one store and
 * one port. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "e2e.h"

#define N_CLIENTS 3u
#define N_SERVERS 3u
#define ENDED_MS  20000u

struct client {
    const char *url;
    bool is_stream, is_kept; /* connection */
    atomic_bool *is_over;
    uint32_t n_asked, n_failed;
    double most_ms;
    char why[240];
    pthread_t thread;
};

static void ask_once(struct client *c, struct http_client *http)
{
    struct buf messages = e2e_user("who are you?");
    struct chat_ask a = {
        .messages = buf_slice(&messages), .max_tokens = 12, .is_stream = c->is_stream};
    struct chat_reply r;
    struct err e = {0};
    enum status st = chat_send(c->url, http, &a, &r, &e);
    c->n_asked++;
    if (st != OK || r.http != 200 || !r.is_done ||
        strcmp(r.choices[0].text.ptr, "I am skald, a tiny recall model.") != 0) {
        if (c->n_failed++ == 0)
            snprintf(c->why, sizeof c->why, "%s HTTP %d %s", e.msg, r.http, r.error_message);
    }
    c->most_ms = r.total_ms > c->most_ms ? r.total_ms : c->most_ms;
    chat_reply_release(&r);
    buf_release(&messages);
}

static void *ask_on(void *arg)
{
    struct client *c = arg;
    struct http_client *http = NULL;
    struct err e;
    while (!atomic_load(c->is_over)) {
        if (!http && http_client_new(&http, &e) != OK)
            break;
        ask_once(c, http);
        if (!c->is_kept) {
            http_client_free(http);
            http = NULL;
        }
    }
    http_client_free(http);
    return NULL;
}

static void no_request_is_lost(void **state)
{
    struct serve servers[N_SERVERS];
    struct client clients[N_CLIENTS];
    atomic_bool is_over = false;
    char store[PLACE_PATH_BYTES];
    (void)state;
    snprintf(store, sizeof store, "%s", e2e_path("store"));
    e2e_serve(&servers[0], store, NULL);
    char url[128];
    snprintf(url, sizeof url, "%s", servers[0].url);
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        clients[i] = (struct client){
            .url = url, .is_stream = i == 1, .is_kept = i != 2, .is_over = &is_over};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, ask_on, &clients[i]), 0);
    }
    clock_sleep_ms(500);
    for (uint32_t i = 1; i < N_SERVERS; i++) {
        int code = -1;
        e2e_serve(&servers[i], store, "--take-over", NULL);
        assert_string_equal(servers[i].url, url);
        MUST(child_wait(&servers[i - 1].child, ENDED_MS, &code, e));
        assert_int_equal(code, 0);
        serve_kill(&servers[i - 1]); /* it has ended; frees what the test holds of it */
        clock_sleep_ms(700);
    }
    atomic_store(&is_over, true);
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        struct client *c = &clients[i];
        pthread_join(c->thread, NULL);
        print_message("client %u: %u asked, %u failed, slowest %.0f ms %s\n", i, c->n_asked,
                      c->n_failed, c->most_ms, c->why);
        assert_true(c->n_asked > 10);
        assert_int_equal(c->n_failed, 0);
    }
    int code = -1;
    MUST(serve_stop(&servers[N_SERVERS - 1], &code, e));
    assert_int_equal(code, 0);
}

/* Without a server to take over from, it is an ordinary start. */
static void nobody_to_take_over_from(void **state)
{
    struct serve s;
    int code = -1;
    (void)state;
    e2e_serve(&s, e2e_path("fresh"), "--take-over", NULL);
    MUST(serve_stop(&s, &code, e));
    assert_int_equal(code, 0);
}

/* A second server reads what the first one writes. */
static void a_reader_beside_the_writer(void **state)
{
    struct serve writer, reader;
    struct chat_reply r;
    int code = -1;
    (void)state;
    const char *store = e2e_path("shared");
    e2e_serve(&writer, store, NULL);
    struct buf messages = e2e_user("who are you?");
    struct chat_ask a = {.messages = buf_slice(&messages), .max_tokens = 12};
    e2e_ask(&writer, &a, &r);
    chat_reply_release(&r);
    MUST(serve_wait_durable(&writer, 10000, e));
    e2e_serve(&reader, store, "--store-read-only", NULL);
    e2e_ask(&reader, &a, &r);
    assert_string_equal(r.choices[0].text.ptr, "I am skald, a tiny recall model.");
    assert_int_equal(r.computed, 0);
    assert_true(r.disk > 0);
    chat_reply_release(&r);
    /* And goes on doing so when the writer has moved everything elsewhere. */
    struct child_result gc;
    e2e_run(&gc, "", "store", "gc", "--store", store, NULL);
    assert_int_equal(gc.code, 0);
    child_result_release(&gc);
    e2e_ask(&reader, &a, &r);
    assert_string_equal(r.choices[0].text.ptr, "I am skald, a tiny recall model.");
    chat_reply_release(&r);
    buf_release(&messages);
    MUST(serve_stop(&reader, &code, e));
    MUST(serve_stop(&writer, &code, e));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_request_is_lost),
        cmocka_unit_test(nobody_to_take_over_from),
        cmocka_unit_test(a_reader_beside_the_writer),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
