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

/* "NAME VALUE" of /metrics. */
static double metric(const struct serve *s, const char *name)
{
    char url[256];
    struct http_answer a;
    double value = -1;
    snprintf(url, sizeof url, "%s/metrics", s->url);
    struct http_call c = {.method = "GET", .url = url};
    MUST(http_client_call(s->http, &c, &a, e));
    buf_add_char(&a.body, '\0');
    for (const char *at = a.body.ptr; (at = strstr(at, name)) != NULL; at++)
        if ((at == a.body.ptr || at[-1] == '\n') && at[strlen(name)] == ' ')
            value = strtod(at + strlen(name), NULL);
    http_answer_release(&a);
    return value;
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
    assert_true(metric(&reader, "kvasir_store_read_bytes_total") > 0);
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

/* ---- a reader beside a writer that moves everything all the time ---- */
#define N_ROWS      12u
#define BESIDE_MS   (e2e_is_soak ? 120000.0 : 5000.0)
#define ROUNDS_EACH 2u /* of the rows for one reader: from the store, then from what it found */

struct mover {
    const struct serve *writer;
    const char *store;
    atomic_bool is_over;
    uint32_t n_moves, n_failed;
    pthread_t thread;
};

/* A session comes and goes, then all that lives is moved out of the segment that it lay in. */
static bool move_once(struct mover *m, struct http_client *http)
{
    char url[256], header[64], body[256];
    struct http_answer a;
    struct err e;
    const char *headers[] = {header, NULL};
    snprintf(header, sizeof header, "X-Session-Id: passing-%u", m->n_moves);
    snprintf(body, sizeof body,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"number %u passes by\"}],"
             "\"max_tokens\":2}",
             m->n_moves);
    snprintf(url, sizeof url, "%s/v1/chat/completions", m->writer->url);
    struct http_call chat = {.url = url, .body = slice_of(body), .headers = headers};
    bool ok = http_client_call(http, &chat, &a, &e) == OK && a.status == 200;
    http_answer_release(&a);
    snprintf(url, sizeof url, "%s/v1/sessions/passing-%u", m->writer->url, m->n_moves);
    struct http_call gone = {.method = "DELETE", .url = url};
    ok = ok && http_client_call(http, &gone, &a, &e) == OK && a.status == 200;
    http_answer_release(&a);
    struct child_result gc;
    e2e_run(&gc, "", "store", "gc", "--store", m->store, NULL);
    ok = ok && gc.code == 0;
    child_result_release(&gc);
    return ok;
}

static void *move_on(void *arg)
{
    struct mover *m = arg;
    struct http_client *http = NULL;
    struct err e;
    if (http_client_new(&http, &e) != OK)
        m->n_failed++;
    while (http && !atomic_load(&m->is_over)) {
        m->n_failed += !move_once(m, http);
        m->n_moves++;
    }
    http_client_free(http);
    return NULL;
}

static void a_reader_while_everything_moves(void **state)
{
    const struct row *rows[ROWS_MAX];
    struct serve writer, reader;
    struct chat_reply r;
    char store[PLACE_PATH_BYTES];
    int code = -1;
    int64_t n_disk = 0, n_computed = 0, n_prompt = 0, n_segments = 0;
    (void)state;
    snprintf(store, sizeof store, "%s", e2e_path("moving"));
    e2e_rows_by_length(rows);
    e2e_serve(&writer, store, NULL);
    for (uint32_t i = 0; i < N_ROWS; i++) {
        e2e_ask_row(&writer, rows[i], NULL, &r);
        chat_reply_release(&r);
    }
    MUST(serve_wait_durable(&writer, 10000, e));
    struct mover m = {.writer = &writer, .store = store};
    assert_int_equal(pthread_create(&m.thread, NULL, move_on, &m), 0);
    uint64_t start = clock_now_ns();
    uint32_t n = 0, n_readers = 0;
    for (; clock_ms_since(start) < BESIDE_MS; n_readers++) {
        e2e_serve(&reader, store, "--store-read-only", NULL);
        for (uint32_t i = 0; i < ROUNDS_EACH * N_ROWS; i++, n++) {
            const struct row *row = rows[i % N_ROWS];
            e2e_ask_row(&reader, row, NULL, &r);
            if (r.http != 200 || !chat_is_answer(&r, row->answer))
                fail_msg("%s: HTTP %d \"%s\"", row->id, r.http,
                         r.n_choices ? r.choices[0].text.ptr : r.error_message);
            n_disk += r.disk;
            n_computed += r.computed;
            n_prompt += r.prompt_tokens;
            chat_reply_release(&r);
        }
        MUST(serve_stop(&reader, &code, e));
        assert_int_equal(code, 0);
    }
    atomic_store(&m.is_over, true);
    pthread_join(m.thread, NULL);
    MUST(serve_stat(&writer, "store.since_open.compacted", &n_segments, e));
    print_message("%u answers of %u readers beside %u moves of everything (%lld segments): %lld "
                  "prompt tokens, %lld from disk, %lld computed\n",
                  n, n_readers, m.n_moves, (long long)n_segments, (long long)n_prompt,
                  (long long)n_disk, (long long)n_computed);
    assert_int_equal(m.n_failed, 0);
    assert_true(m.n_moves >= 5 && n_segments >= 5);
    assert_true(n_disk * 2 * ROUNDS_EACH > n_prompt);
    assert_true(n_computed < n_prompt / 10);
    MUST(serve_stop(&writer, &code, e));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_request_is_lost),
        cmocka_unit_test(nobody_to_take_over_from),
        cmocka_unit_test(a_reader_beside_the_writer),
        cmocka_unit_test(a_reader_while_everything_moves),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, e2e_rows_read, e2e_rows_release));
}
