/* SPDX-License-Identifier: MIT
 * server_test.c — goal: what a client sends arrives whole or is refused, answers from other threads
 * arrive whole, a hang-up is told at once also while nothing is being sent, and stopping waits for
 * nobody.  Method: a server on a free port whose handler does what the path says; requests by the
 * client of this room, or byte for byte over a socket where they are malformed. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/http.h"
#include "http/http_client.h"
#include "http/sse.h"
#include "os/clock.h"
#include "os/team.h"
#include "tcp_client.h"

#define BODY_MAX   (1u << 20)
#define STREAM_MAX (256u << 10)
#define N_HELD     64

static struct http_server *server;
static struct http_client *client;
static char base_url[64];
static atomic_int n_gone, n_freed, n_limit, n_cancelled;
static atomic_uint_fast64_t gone_ns;
/* Exchanges of /hold: parked until somebody takes them. */
static struct http_exchange *_Atomic held;

static void on_gone(void *user)
{
    (void)user;
    atomic_store(&gone_ns, clock_now_ns());
    atomic_fetch_add(&n_gone, 1);
}

static void on_free(void *user)
{
    free(user);
    atomic_fetch_add(&n_freed, 1);
}

static void reply_text(struct http_exchange *x, int status, const char *text)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_add_text(&b, text);
    http_reply(x, status, "text/plain", &b);
}

struct later {
    struct http_exchange *x;
    int n;
};

/* N events from a thread of their own, 200 µs apart; n < 0: as fast as it goes until refused. */
static void *stream_events(void *arg)
{
    struct later l = *(struct later *)arg;
    free(arg);
    enum status st = OK;
    for (int i = 0; (l.n < 0 || i < l.n) && st == OK; i++) {
        struct buf b;
        char text[64];
        buf_init(&b, 1 << 20);
        snprintf(text, sizeof text, "{\"event\": %d}", i);
        sse_add(&b, slice_of(text));
        st = http_stream_write(l.x, buf_slice(&b));
        buf_release(&b);
        if (l.n >= 0)
            usleep(200);
    }
    if (st == E_LIMIT)
        atomic_fetch_add(&n_limit, 1);
    if (st == E_CANCELLED)
        atomic_fetch_add(&n_cancelled, 1);
    http_stream_end(l.x);
    return NULL;
}

static void start_stream(struct http_exchange *x, int n)
{
    struct later *l = malloc(sizeof *l);
    *l = (struct later){x, n};
    http_attach(x, malloc(1), on_gone, on_free);
    http_add_header(x, "X-Kind", "stream");
    http_stream_begin(x, 200, "text/event-stream");
    pthread_t t;
    pthread_create(&t, NULL, stream_events, l);
    pthread_detach(t);
}

static void handle(void *arg, struct http_exchange *x)
{
    (void)arg;
    struct slice path = http_path(x);
    char text[512];
    if (slice_is(path, "/echo")) {
        struct buf b;
        buf_init(&b, BODY_MAX);
        buf_add_slice(&b, http_body(x));
        http_body_drop(x);
        http_reply(x, 200, "application/octet-stream", &b);
    } else if (slice_is(path, "/what")) {
        struct slice h = http_header(x, "X-THING"), q = http_query(x), m = http_method(x);
        snprintf(text, sizeof text, "%.*s|%.*s|%.*s", SLICE_ARG(m), SLICE_ARG(q), (int)h.len,
                 h.ptr ? h.ptr : "");
        http_add_header(x, "X-Seen", "yes");
        reply_text(x, 201, text);
    } else if (slice_is(path, "/stream")) {
        start_stream(x, (int)strtol(http_query(x).ptr, NULL, 10));
    } else if (slice_is(path, "/hold")) {
        http_attach(x, malloc(1), on_gone, on_free);
        atomic_store(&held, x);
    } else if (slice_is(path, "/hold-stream")) {
        http_attach(x, malloc(1), on_gone, on_free);
        http_stream_begin(x, 200, "text/event-stream");
        atomic_store(&held, x);
    } else {
        snprintf(text, sizeof text, "no %.*s", SLICE_ARG(path));
        reply_text(x, 404, text);
    }
}

static struct http_exchange *take_held(void)
{
    for (int i = 0; i < 2000; i++) {
        struct http_exchange *x = atomic_exchange(&held, NULL);
        if (x)
            return x;
        usleep(1000);
    }
    fail_msg("no request came");
    return NULL;
}

static void wait_for(atomic_int *counter, int value)
{
    for (int i = 0; i < 5000 && atomic_load(counter) < value; i++)
        usleep(1000);
    if (atomic_load(counter) != value)
        fail_msg("%d gone, %d freed, %d over the limit, %d cancelled", n_gone, n_freed, n_limit,
                 n_cancelled);
}

static int set_up(void **state)
{
    (void)state;
    struct err e = {0};
    struct http_options o = http_defaults();
    o.port = 0;
    o.handle = handle;
    o.body_bytes_max = BODY_MAX;
    o.stream_bytes_max = STREAM_MAX;
    o.ping_ms = 300;
    o.connections_max = 200;
    o.head_s = 1;
    o.idle_s = 3;
    if (http_server_start(&o, &server, &e) != OK || http_client_new(&client, &e) != OK) {
        fprintf(stderr, "%s\n", e.msg);
        return -1;
    }
    snprintf(base_url, sizeof base_url, "http://%s:%u", http_server_host(server),
             http_server_port(server));
    n_gone = n_freed = n_limit = n_cancelled = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_client_free(client);
    http_server_stop(server);
    return 0;
}

static struct http_answer call(const char *path, const char *method, struct slice body,
                               const char *const *headers)
{
    char url[256];
    struct err e = {0};
    struct http_answer a;
    snprintf(url, sizeof url, "%s%s", base_url, path);
    struct http_call c = {
        .url = url, .method = method, .body = body, .headers = headers, .total_ms_max = 20000};
    if (http_client_call(client, &c, &a, &e) != OK)
        fail_msg("%s: %s", path, e.msg);
    return a;
}

static int dial(void)
{
    int fd = tcp_dial(http_server_port(server));
    assert_true(fd >= 0);
    return fd;
}

/* Sends, reads until the server closes or for quiet_ms; returns the status of the first reply. */
static int raw_status(const char *bytes, size_t len, char *reply, size_t size)
{
    int fd = dial();
    size_t n = 0;
    tcp_put(fd, bytes, len);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (n + 1 < size && poll(&p, 1, 700) > 0) {
        ssize_t got = recv(fd, reply + n, size - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    reply[n] = '\0';
    close(fd);
    int status = 0;
    sscanf(reply, "HTTP/1.1 %d", &status);
    return status;
}

static void echoes_bodies_of_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 1000, 16384, 100000, BODY_MAX};
    char *body = malloc(BODY_MAX);
    for (size_t i = 0; i < BODY_MAX; i++)
        body[i] = (char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct http_answer a = call("/echo", NULL, (struct slice){body, sizes[i]}, NULL);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body.len, sizes[i]);
        assert_memory_equal(a.body.ptr, body, sizes[i]);
        http_answer_release(&a);
    }
    free(body);
}

static void tells_method_query_headers(void **state)
{
    (void)state;
    static const char *const headers[] = {"x-thing: a thing", NULL};
    struct http_answer a = call("/wh%61t?a=%20b&c", "PATCH", (struct slice){0}, headers);
    char text[64];
    assert_int_equal(a.status, 201);
    assert_string_equal(a.body.ptr, "PATCH|a=%20b&c|a thing");
    assert_true(http_answer_header(&a, "X-SEEN", text, sizeof text));
    assert_string_equal(text, "yes");
    http_answer_release(&a);
    a = call("/nothing%2Fhere", NULL, (struct slice){0}, NULL);
    assert_int_equal(a.status, 404);
    assert_string_equal(a.body.ptr, "no /nothing/here");
    http_answer_release(&a);
    a = call("/what", "HEAD", (struct slice){0}, NULL);
    assert_int_equal(a.status, 201);
    assert_int_equal(a.body.len, 0);
    http_answer_release(&a);
}

#define HUGE_BYTES (BODY_MAX + (40u << 20))

static void refuses_large_bodies(void **state)
{
    (void)state;
    char *body = calloc(1, BODY_MAX + 1);
    static const char *const chunked[] = {"Transfer-Encoding: chunked", NULL};
    static const char *const no_expect[] = {"Expect:", NULL};
    struct http_answer a = call("/echo", NULL, (struct slice){body, BODY_MAX + 1}, NULL);
    assert_int_equal(a.status, 413);
    http_answer_release(&a);
    a = call("/echo", NULL, (struct slice){body, BODY_MAX + 1}, chunked);
    assert_int_equal(a.status, 413);
    http_answer_release(&a);
    /* Far too large: it is read to its end, so that the client, which writes first, sees why. */
    char *huge = calloc(1, HUGE_BYTES);
    a = call("/echo", NULL, (struct slice){huge, HUGE_BYTES}, no_expect);
    assert_int_equal(a.status, 413);
    http_answer_release(&a);
    free(huge);
    a = call("/echo", NULL, (struct slice){body, BODY_MAX}, chunked);
    assert_int_equal(a.status, 200);
    http_answer_release(&a);
    free(body);
}

/* What libmicrohttpd's own parser refuses before it calls us it answers by itself, in HTML. */
#define HTML_400 (-400)

static void refuses_smuggling(void **state)
{
    (void)state;
#define POST "POST /echo HTTP/1.1\r\nHost: a\r\n"
    static const struct {
        const char *name;
        struct slice bytes;
        int status;
    } cases[] = {
        {"fine", SLICE_LIT(POST "Content-Length: 2\r\n\r\nab"), 200},
        {"two lengths", SLICE_LIT(POST "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), 400},
        {"same length twice", SLICE_LIT(POST "Content-Length: 2\r\ncontent-length: 2\r\n\r\nab"),
         400},
        {"length and chunked",
         SLICE_LIT(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400},
        {"chunked and length",
         SLICE_LIT(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), 400},
        {"signed length", SLICE_LIT(POST "Content-Length: +2\r\n\r\nab"), HTML_400},
        {"length list", SLICE_LIT(POST "Content-Length: 2, 2\r\n\r\nab"), HTML_400},
        {"odd encoding", SLICE_LIT(POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 400},
        {"encoding list", SLICE_LIT(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 400},
        {"NUL in value", SLICE_LIT(POST "X-A: b\0c\r\nContent-Length: 2\r\n\r\nab"), 400},
        {"NUL in name", SLICE_LIT(POST "X-\0A: bc\r\nContent-Length: 2\r\n\r\nab"), HTML_400},
        {"NUL in the request line", SLICE_LIT("GET /what\0x HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
        {"bare line feed", SLICE_LIT(POST "X-A: b\nContent-Length: 2\r\n\r\nab"), 400},
        {"trailing blank", SLICE_LIT(POST "X-A: b \r\nContent-Length: 2  \r\n\r\nab"), HTML_400},
        {"empty value", SLICE_LIT(POST "X-A:\r\nX-B: \r\nContent-Length:2\r\n\r\nab"), 200},
        {"two hosts", SLICE_LIT(POST "Host: b\r\nContent-Length: 2\r\n\r\nab"), 400},
        {"no host", SLICE_LIT("GET /what HTTP/1.1\r\n\r\n"), 400},
        {"no host in HTTP/1.0", SLICE_LIT("GET /what HTTP/1.0\r\n\r\n"), 201},
        {"a blank in a name", SLICE_LIT(POST "X A: b\r\nContent-Length: 2\r\n\r\nab"), 400},
        {"a name beyond ASCII", SLICE_LIT(POST "X-\xe9: b\r\nContent-Length: 2\r\n\r\nab"), 400},
        {"a blank in the target", SLICE_LIT("GET /wh at HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
        {"a whole URI", SLICE_LIT("GET http://A/what?q HTTP/1.1\r\nHost: a\r\n\r\n"), 201},
        {"a URI without a path", SLICE_LIT("GET HTTP://a HTTP/1.1\r\nHost: a\r\n\r\n"), 404},
        {"a URI of another host", SLICE_LIT("GET http://b/what HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
        {"a URI with a user", SLICE_LIT("GET http://a@b/what HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
        {"a URI without a host", SLICE_LIT("GET http:///what HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
        {"NUL in path", SLICE_LIT("GET /what%00 HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
        {"broken escape", SLICE_LIT("GET /what%4 HTTP/1.1\r\nHost: a\r\n\r\n"), 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char reply[4096];
        int status = raw_status(cases[i].bytes.ptr, cases[i].bytes.len, reply, sizeof reply);
        if (status == 400 && !strstr(reply, "\r\n\r\n{\"error\":"))
            status = HTML_400;
        if (status != cases[i].status)
            fail_msg("%s: %d\n%s", cases[i].name, status, reply);
        if (status == 400 && strstr(reply, "HTTP/1.1 200"))
            fail_msg("%s: a second request was seen\n%s", cases[i].name, reply);
    }
}

static void refuses_large_headers(void **state)
{
    (void)state;
    static const size_t sizes[] = {17000, 30000, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b;
        char reply[4096];
        buf_init(&b, 1 << 20);
        buf_add_text(&b, "GET /what HTTP/1.1\r\nHost: a\r\nX-Big: ");
        for (size_t j = 0; j < sizes[i]; j++)
            buf_add_char(&b, 'x');
        buf_add_text(&b, "\r\n\r\n");
        int status = raw_status(b.ptr, b.len, reply, sizeof reply);
        if (status != 431)
            fail_msg("%zu: %d\n%s", sizes[i], status, reply);
        buf_release(&b);
    }
}

struct seen {
    struct sse_reader reader;
    int n;
    double first_ms;
};

static void count_event(void *arg, const char *event, struct slice data)
{
    struct seen *seen = arg;
    char expected[64];
    assert_string_equal(event, "");
    snprintf(expected, sizeof expected, "{\"event\": %d}", seen->n++);
    assert_int_equal(data.len, strlen(expected));
    assert_memory_equal(data.ptr, expected, data.len);
}

static bool take_chunk(void *arg, struct slice bytes, double at_ms)
{
    struct seen *seen = arg;
    if (seen->first_ms == 0)
        seen->first_ms = at_ms;
    return sse_reader_feed(&seen->reader, bytes) == OK;
}

static void read_stream_of(int n)
{
    char url[128];
    struct err e = {0};
    struct seen seen = {.n = 0};
    struct http_answer a;
    struct http_client *c = NULL;
    assert_int_equal(http_client_new(&c, &e), OK);
    sse_reader_init(&seen.reader, count_event, &seen);
    snprintf(url, sizeof url, "%s/stream?%d", base_url, n);
    struct http_call q = {.url = url, .chunk = take_chunk, .arg = &seen};
    if (http_client_call(c, &q, &a, &e) != OK)
        fail_msg("%s", e.msg);
    assert_int_equal(a.status, 200);
    assert_int_equal(seen.n, n);
    assert_true(a.first_body_ms > 0 && a.first_body_ms <= a.total_ms);
    char kind[32];
    assert_true(http_answer_header(&a, "x-kind", kind, sizeof kind));
    assert_true(http_answer_header(&a, "content-type", kind, sizeof kind));
    assert_string_equal(kind, "text/event-stream");
    http_answer_release(&a);
    sse_reader_release(&seen.reader);
    http_client_free(c);
}

static void streams_every_event(void **state)
{
    (void)state;
    read_stream_of(0 + 1);
    read_stream_of(500);
}

static void *stream_client(void *arg)
{
    (void)arg;
    read_stream_of(200);
    return NULL;
}

static void streams_many_at_once(void **state)
{
    (void)state;
    pthread_t threads[N_HELD];
    for (int i = 0; i < N_HELD; i++)
        pthread_create(&threads[i], NULL, stream_client, NULL);
    for (int i = 0; i < N_HELD; i++)
        pthread_join(threads[i], NULL);
    wait_for(&n_freed, N_HELD);
    assert_int_equal(n_gone, 0);
}

/* The point of the watcher: nothing is written, the connection sleeps, the client leaves. */
static void sees_a_hang_up_while_suspended(void **state)
{
    (void)state;
    static const char *const paths[] = {"/hold", "/hold-stream"};
    for (int i = 0; i < 2; i++) {
        char request[128];
        int fd = dial();
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i]);
        tcp_put(fd, request, strlen(request));
        struct http_exchange *x = take_held();
        usleep(20000); /* let it fall asleep */
        assert_int_equal(atomic_load(&n_gone), i);
        uint64_t before = clock_now_ns();
        close(fd);
        wait_for(&n_gone, i + 1);
        double ms = (double)(atomic_load(&gone_ns) - before) * 1e-6;
        printf("%s: told after %.2f ms\n", paths[i], ms);
        assert_true(ms < 500);
        assert_int_equal(atomic_load(&n_freed), i); /* ours until we give it back */
        if (i == 0) {
            reply_text(x, 200, "too late");
        } else {
            enum status st = http_stream_write(x, SLICE_LIT("data: too late\n\n"));
            assert_int_equal(st, E_CANCELLED);
            http_stream_end(x);
        }
        wait_for(&n_freed, i + 1);
    }
}

static void keeps_idle_streams_alive(void **state)
{
    (void)state;
    int fd = dial();
    static const char request[] = "GET /hold-stream HTTP/1.1\r\nHost: a\r\n\r\n";
    tcp_put(fd, request, sizeof request - 1);
    struct http_exchange *x = take_held();
    char reply[4096];
    size_t n = 0;
    uint64_t start = clock_now_ns();
    reply[0] = '\0';
    while (!strstr(reply, "\n: ") && clock_ms_since(start) < 5000) {
        ssize_t got = recv(fd, reply + n, sizeof reply - 1 - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
        reply[n] = '\0';
    }
    assert_non_null(strstr(reply, "\n: ")); /* a comment line */
    enum status st = http_stream_write(x, SLICE_LIT("data: end\n\n"));
    assert_int_equal(st, OK);
    http_stream_end(x);
    while (!strstr(reply, "\r\n0\r\n\r\n")) {
        ssize_t got = recv(fd, reply + n, sizeof reply - 1 - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
        reply[n] = '\0';
    }
    assert_non_null(strstr(reply, "data: end\n\n"));
    close(fd);
    assert_int_equal(atomic_load(&n_gone), 0);
}

static void cuts_readers_that_do_not_read(void **state)
{
    (void)state;
    int fd = dial();
    static const char request[] = "GET /stream?-1 HTTP/1.1\r\nHost: a\r\n\r\n";
    tcp_put(fd, request, sizeof request - 1);
    wait_for(&n_limit, 1); /* the writer was told to stop, and gave the exchange back */
    wait_for(&n_freed, 1); /* the connection does not wait for its reader */
    close(fd);
}

/* One byte now and then: in the request line, in a header, in the body. */
static void hurries_slow_senders(void **state)
{
    (void)state;
    static const struct {
        const char *begin;
        bool gets_408;
    } cases[] = {
        {"POST /ech", false},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nX-Slow: ", true},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nab", true},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n500\r\nab", true},
    };
    int fds[sizeof cases / sizeof *cases];
    char reply[sizeof cases / sizeof *cases][1024] = {{0}};
    size_t n_closed = 0, n = sizeof cases / sizeof *cases, got[sizeof cases / sizeof *cases] = {0};
    for (size_t i = 0; i < n; i++) {
        fds[i] = dial();
        tcp_put(fds[i], cases[i].begin, strlen(cases[i].begin));
    }
    uint64_t start = clock_now_ns();
    while (n_closed < n) {
        if (clock_ms_since(start) > 15000)
            fail_msg("only %zu of %zu slow ones were sent away", n_closed, n);
        usleep(100000);
        for (size_t i = 0; i < n; i++) {
            if (fds[i] < 0)
                continue;
            (void)send(fds[i], "x", 1, MSG_NOSIGNAL);
            ssize_t r = recv(fds[i], reply[i] + got[i], sizeof reply[i] - 1 - got[i], MSG_DONTWAIT);
            got[i] += r > 0 ? (size_t)r : 0;
            if (r == 0 || (r < 0 && errno != EAGAIN)) {
                printf("\"%.12s…\" was sent away after %.1f s\n", cases[i].begin,
                       clock_ms_since(start) / 1e3);
                close(fds[i]);
                fds[i] = -1;
                n_closed++;
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        if ((strstr(reply[i], "HTTP/1.1 408 ") != NULL) != cases[i].gets_408)
            fail_msg("%s: \"%s\"", cases[i].begin, reply[i]);
    struct http_answer a = call("/what", NULL, (struct slice){0}, NULL);
    assert_int_equal(a.status, 201);
    http_answer_release(&a);
}

static size_t n_open_files(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Half a request and the client's end in one burst: libmicrohttpd sees many of them as one event,
 * reads the half, and would keep the connection until its idle time-out. */
static void lets_go_of_those_who_left_in_the_middle(void **state)
{
    (void)state;
    static const char *const halves[] = {
        "POST /ech", "POST /echo HTTP/1.1\r\nHost: a\r\nX-",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nab"};
    size_t before = n_open_files();
    for (uint32_t i = 0; i < 600; i++) {
        int fd = dial();
        const char *half = halves[i % (sizeof halves / sizeof *halves)];
        tcp_put(fd, half, strlen(half));
        close(fd);
    }
    uint64_t start = clock_now_ns();
    while (n_open_files() > before) {
        if (clock_ms_since(start) > 5000)
            fail_msg("%zu connections stay", n_open_files() - before);
        usleep(20000);
    }
}

static void survives_clients_that_come_and_go(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        static const char request[] = "GET /stream?20 HTTP/1.1\r\nHost: a\r\n\r\n";
        int fd = dial();
        tcp_put(fd, request, sizeof request - 1);
        if (i % 3)
            usleep((useconds_t)(i * 37 % 3000));
        close(fd);
    }
    struct http_answer a = call("/what", NULL, (struct slice){0}, NULL);
    assert_int_equal(a.status, 201);
    http_answer_release(&a);
    for (int i = 0; i < 5000 && http_server_port(server) && atomic_load(&n_freed) < 1; i++)
        usleep(1000);
}

static void hangs_up_when_the_chunk_says_so(void **state)
{
    (void)state;
    char url[128];
    struct err e = {0};
    struct http_answer a;
    snprintf(url, sizeof url, "%s/hold", "http://127.0.0.1:1");
    struct http_call nobody = {.url = url};
    assert_int_equal(http_client_call(client, &nobody, &a, &e), E_IO);
    http_answer_release(&a);
    snprintf(url, sizeof url, "%s/hold", base_url);
    struct http_call slow = {.url = url, .total_ms_max = 100};
    assert_int_equal(http_client_call(client, &slow, &a, &e), E_LIMIT);
    http_answer_release(&a);
    reply_text(take_held(), 200, "late");
    wait_for(&n_freed, 1);
}

static void stops_with_streams_open(void **state)
{
    (void)state;
    int fds[8];
    struct http_exchange *open[8];
    for (int i = 0; i < 8; i++) {
        char request[128];
        fds[i] = dial();
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n",
                 i % 2 ? "/hold" : "/hold-stream");
        tcp_put(fds[i], request, strlen(request));
        open[i] = take_held();
    }
    http_server_stop(server);
    server = NULL;
    wait_for(&n_gone, 8);
    for (int i = 0; i < 8; i++) { /* owners may come late, even after the server */
        if (i % 2) {
            reply_text(open[i], 200, "late");
        } else {
            assert_int_equal(http_stream_write(open[i], SLICE_LIT("x")), E_CANCELLED);
            http_stream_end(open[i]);
        }
        close(fds[i]);
    }
    wait_for(&n_freed, 8);
}

static void says_why_it_cannot_listen(void **state)
{
    (void)state;
    struct err e = {0};
    struct http_server *second = NULL;
    struct http_options o = http_defaults();
    o.handle = handle;
    o.port = http_server_port(server);
    assert_int_equal(http_server_start(&o, &second, &e), E_BUSY);
    assert_non_null(strstr(e.msg, "in use"));
    o.host = "no.such.host.invalid";
    assert_int_equal(http_server_start(&o, &second, &e), E_NOT_FOUND);
    assert_true(http_server_is_loopback(server));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(echoes_bodies_of_any_size),
        T(tells_method_query_headers),
        T(refuses_large_bodies),
        T(refuses_smuggling),
        T(refuses_large_headers),
        T(streams_every_event),
        T(streams_many_at_once),
        T(sees_a_hang_up_while_suspended),
        T(keeps_idle_streams_alive),
        T(cuts_readers_that_do_not_read),
        T(hurries_slow_senders),
        T(lets_go_of_those_who_left_in_the_middle),
        T(survives_clients_that_come_and_go),
        T(hangs_up_when_the_chunk_says_so),
        T(stops_with_streams_open),
        T(says_why_it_cannot_listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
