/* SPDX-License-Identifier: MIT
 * socket_test.c — goal: messages of WebSockets arrive whole and in order both ways, one at a time;
 * a hang-up is told at once, also while a message is at work; who sends too much, takes too little
 * or says nothing in time is shown out with a reason; stopping closes all and waits for nobody.
 * Method: a server on a free port; clients are plain sockets that write their frames by hand. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "http/socket.h"
#include "os/clock.h"
#include "ws_client.h"

#define MESSAGE_MAX (1u << 20)
#define OUT_MAX     (256u << 10)
#define PINGS_MAX   (32u << 20) /* OUT_MAX, and what the kernel keeps for both sides */
#define WAIT_MS     5000
#define N_CLIENTS   40
#define N_MESSAGES  50

static struct http_server *server;
static atomic_int n_open, n_gone, n_freed, n_working, n_work_max;
static atomic_uint_fast64_t gone_ns;
static atomic_bool is_held; /* messages "hold" stay at work */
static atomic_int n_refused_sends;

struct peer {
    struct http_socket *socket;
};

static void on_message(void *user, struct slice text)
{
    struct peer *p = user;
    int n = atomic_fetch_add(&n_working, 1) + 1, most = atomic_load(&n_work_max);
    while (n > most && !atomic_compare_exchange_weak(&n_work_max, &most, n))
        ;
    if (slice_is(text, "hold")) {
        while (atomic_load(&is_held))
            clock_sleep_ms(1);
    } else if (slice_is(text, "bye")) {
        http_socket_close(p->socket, CLOSE_NORMAL, "as you wish");
    } else if (slice_is(text, "in")) {
        http_socket_deadline(p->socket, 0);
    } else if (slice_is(text, "flood")) {
        char *block = malloc(64 << 10);
        memset(block, 'x', 64 << 10);
        enum status st = OK;
        while (st == OK)
            st = http_socket_send(p->socket, (struct slice){block, 64 << 10});
        assert_int_equal(st, E_LIMIT);
        assert_int_equal(http_socket_send(p->socket, SLICE_LIT("x")), E_CANCELLED);
        atomic_fetch_add(&n_refused_sends, 1);
        free(block);
    } else if (http_socket_send(p->socket, text) != OK) {
        atomic_fetch_add(&n_refused_sends, 1);
    }
    atomic_fetch_sub(&n_working, 1);
}

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

static void handle(void *arg, struct http_exchange *x)
{
    const char *reason;
    struct err e;
    struct buf b;
    (void)arg;
    int status = http_socket_refusal(x, &reason);
    if (status) {
        buf_init(&b, 1024);
        buf_add_text(&b, reason);
        http_reply(x, status, "text/plain", &b);
        return;
    }
    struct peer *p = calloc(1, sizeof *p);
    uint32_t deadline_ms = slice_is(http_path(x), "/hurry") ? 300 : 0;
    struct http_socket_user user = {p, on_message, on_gone, on_free, deadline_ms};
    atomic_fetch_add(&n_open, 1);
    CHECK(http_socket_open(x, &user, &p->socket, &e) == OK);
}

static void start(uint32_t idle_s)
{
    struct http_options o = http_defaults();
    struct err e = {0};
    o.port = 0;
    o.handle = handle;
    o.body_bytes_max = MESSAGE_MAX;
    o.stream_bytes_max = OUT_MAX;
    o.idle_s = idle_s;
    n_open = n_gone = n_freed = n_work_max = n_refused_sends = 0;
    if (http_server_start(&o, &server, &e) != OK)
        fail_msg("%s", e.msg);
}

static int set_up(void **state)
{
    (void)state;
    start(60);
    return 0;
}

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Whatever a test did, its users are told once and freed once. */
static int tear_down(void **state)
{
    (void)state;
    http_server_stop(server);
    assert_int_equal(n_gone, n_open);
    assert_int_equal(n_freed, n_open);
    return 0;
}

static void wait_until(atomic_int *value, int wanted)
{
    uint64_t start_ns = clock_now_ns();
    while (atomic_load(value) != wanted && clock_ms_since(start_ns) < WAIT_MS)
        clock_sleep_ms(1);
    assert_int_equal(atomic_load(value), wanted);
}

/* ---- a client ---- */
static int dial(void)
{
    int fd = tcp_dial(http_server_port(server));
    assert_true(fd >= 0);
    return fd;
}

static int open_at(const char *path)
{
    char ask[512];
    int fd = dial();
    snprintf(ask, sizeof ask, WS_ASK WS_UPGRADE, path);
    tcp_put(fd, ask, strlen(ask));
    const char *head = tcp_read_head(fd);
    assert_non_null(strstr(head, "HTTP/1.1 101 "));
    assert_non_null(strstr(head, WS_ACCEPT));
    assert_non_null(strstr(head, "Upgrade: websocket"));
    return fd;
}

static void say_text(int fd, const char *text)
{
    ws_say(fd, WS_TEXT, slice_of(text));
}

static void expect_frame(int fd, unsigned first, struct slice expected)
{
    unsigned got = 0;
    size_t n = 0;
    char *text = ws_hear(fd, &got, &n);
    assert_non_null(text);
    assert_int_equal(got, first);
    assert_int_equal(n, expected.len);
    assert_memory_equal(text, expected.ptr, n);
    free(text);
}

/* What was sent before it, then a close frame, then the end. */
static void expect_close(int fd, unsigned code)
{
    assert_int_equal(ws_end(fd), code);
}

/* ---- tests ---- */
static void echoes_in_order(void **state)
{
    (void)state;
    int fds[N_CLIENTS];
    for (int i = 0; i < N_CLIENTS; i++)
        fds[i] = open_at("");
    for (int i = 0; i < N_CLIENTS; i++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        for (int j = 0; j < N_MESSAGES; j++) { /* all at once */
            char text[32];
            snprintf(text, sizeof text, "%d of %d", j, i);
            ws_frame(&b, WS_TEXT, slice_of(text));
        }
        tcp_put(fds[i], b.ptr, b.len);
        buf_release(&b);
    }
    for (int i = 0; i < N_CLIENTS; i++) {
        for (int j = 0; j < N_MESSAGES; j++) {
            char text[32];
            snprintf(text, sizeof text, "%d of %d", j, i);
            expect_frame(fds[i], WS_TEXT, slice_of(text));
        }
        ws_say(fds[i], WS_CLOSE, SLICE_LIT("\x03\xe8"));
        expect_close(fds[i], CLOSE_NORMAL);
    }
    wait_until(&n_freed, N_CLIENTS);
}

static void takes_what_comes_early_and_slowly(void **state)
{
    (void)state;
    /* Frames right behind the request, before the 101. */
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_printf(&b, WS_ASK WS_UPGRADE, "");
    ws_frame(&b, WS_TEXT, SLICE_LIT("early"));
    int fd = dial();
    tcp_put(fd, b.ptr, b.len);
    assert_non_null(strstr(tcp_read_head(fd), " 101 "));
    expect_frame(fd, WS_TEXT, SLICE_LIT("early"));
    /* Byte by byte; a ping is answered in the middle of a message. */
    buf_clear(&b);
    ws_frame(&b, 0x01, SLICE_LIT("sl"));
    ws_frame(&b, 0x89, SLICE_LIT("?"));
    ws_frame(&b, 0x80, SLICE_LIT("ow"));
    for (size_t i = 0; i < b.len; i++) {
        tcp_put(fd, b.ptr + i, 1);
        usleep(500);
    }
    expect_frame(fd, 0x8a, SLICE_LIT("?"));
    expect_frame(fd, WS_TEXT, SLICE_LIT("slow"));
    buf_release(&b);
    close(fd);
    wait_until(&n_freed, 1);
}

static void carries_large_messages(void **state)
{
    (void)state;
    int fd = open_at("");
    size_t n = MESSAGE_MAX; /* more than may wait beside it */
    char *text = malloc(MESSAGE_MAX + 1);
    memset(text, 'y', MESSAGE_MAX + 1);
    for (int i = 0; i < 3; i++) {
        ws_say(fd, WS_TEXT, (struct slice){text, n});
        expect_frame(fd, WS_TEXT, (struct slice){text, n});
    }
    ws_say(fd, WS_TEXT, (struct slice){text, MESSAGE_MAX + 1});
    expect_close(fd, CLOSE_TOO_BIG);
    free(text);
}

static void refuses_bad_frames(void **state)
{
    (void)state;
    int fd = open_at("");
    tcp_put(fd, "\x81\x05Hello", 7);
    expect_close(fd, CLOSE_PROTOCOL);
    fd = open_at("");
    ws_say(fd, 0x82, SLICE_LIT("binary"));
    expect_close(fd, CLOSE_UNSUPPORTED);
    fd = open_at("");
    ws_say(fd, WS_TEXT, SLICE_LIT("\xff"));
    expect_close(fd, CLOSE_NOT_UTF8);
}

static void refuses_bad_requests(void **state)
{
    (void)state;
    static const struct {
        const char *headers, *status;
    } cases[] = {
        {"\r\n", " 426 "},
        {"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", " 426 "},
        {"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", " 426 "},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n", " 426 "},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: short\r\n\r\n",
         " 400 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char ask[512];
        int fd = dial();
        snprintf(ask, sizeof ask, WS_ASK "%s", "", cases[i].headers);
        tcp_put(fd, ask, strlen(ask));
        assert_non_null(strstr(tcp_read_head(fd), cases[i].status));
        close(fd);
    }
    assert_int_equal(n_open, 0);
}

static void closes_when_asked(void **state)
{
    (void)state;
    int fd = open_at("");
    say_text(fd, "last words");
    say_text(fd, "bye");
    say_text(fd, "is anybody there?");
    expect_frame(fd, WS_TEXT, SLICE_LIT("last words"));
    uint64_t start_ns = clock_now_ns();
    expect_close(fd, CLOSE_NORMAL);
    assert_true(clock_ms_since(start_ns) < WAIT_MS / 2); /* a peer that never answers it */
    wait_until(&n_freed, 1);
    assert_int_equal(n_refused_sends, 0);
}

static void tells_of_a_hang_up_at_work(void **state)
{
    (void)state;
    atomic_store(&is_held, true);
    int fd = open_at("");
    say_text(fd, "hold");
    wait_until(&n_working, 1);
    uint64_t start_ns = clock_now_ns();
    close(fd);
    wait_until(&n_gone, 1);
    assert_true((double)(atomic_load(&gone_ns) - start_ns) < 200e6);
    assert_int_equal(n_freed, 0); /* the message is still at work */
    atomic_store(&is_held, false);
    wait_until(&n_freed, 1);
}

static void reads_nothing_while_a_message_is_at_work(void **state)
{
    (void)state;
    atomic_store(&is_held, true);
    int fd = open_at(""), other = open_at("");
    say_text(fd, "hold");
    say_text(fd, "after");
    wait_until(&n_working, 1);
    say_text(other, "meanwhile");
    expect_frame(other, WS_TEXT, SLICE_LIT("meanwhile"));
    assert_int_equal(n_work_max, 2);
    atomic_store(&is_held, false);
    expect_frame(fd, WS_TEXT, SLICE_LIT("after"));
    close(fd);
    close(other);
}

static void cuts_a_peer_that_takes_nothing(void **state)
{
    (void)state;
    int fd = open_at(""), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say_text(fd, "flood");
    wait_until(&n_gone, 1);
    wait_until(&n_refused_sends, 1);
    wait_until(&n_freed, 1);
    close(fd);
}

/* Each ping is owed a pong: they wait in no more memory than messages may. */
static void cuts_a_peer_that_pings_and_takes_nothing(void **state)
{
    (void)state;
    int fd = open_at("");
    struct buf b;
    size_t n_sent = 0;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 500; i++)
        ws_frame(&b, 0x89,
                 SLICE_LIT("a hundred bytes and more, so that there are not too many of "
                           "them to be sent until one of the two has enough"));
    uint64_t start_ns = clock_now_ns();
    while (atomic_load(&n_gone) == 0 && clock_ms_since(start_ns) < WAIT_MS) {
        size_t at = n_sent % b.len; /* whole frames, whatever the kernel takes at once */
        ssize_t n = send(fd, b.ptr + at, b.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            n_sent += (size_t)n;
        else
            usleep(1000);
    }
    print_message("cut after %zu bytes of pings\n", n_sent);
    assert_int_equal(n_gone, 1);
    assert_true(n_sent < PINGS_MAX);
    buf_release(&b);
    close(fd);
}

static void shows_out_who_says_nothing(void **state)
{
    (void)state;
    int fd = open_at("hurry"), other = open_at("hurry");
    say_text(other, "in");
    expect_close(fd, CLOSE_POLICY);
    say_text(other, "still here");
    expect_frame(other, WS_TEXT, SLICE_LIT("still here"));
    close(other);
}

static void pings_the_idle(void **state)
{
    (void)state;
    http_server_stop(server);
    start(1);
    int fd = open_at(""), dead = open_at("");
    expect_frame(dead, 0x89, SLICE_LIT("")); /* and does not answer: three times, then the end */
    uint64_t start_ns = clock_now_ns();
    unsigned first;
    size_t n;
    while (clock_ms_since(start_ns) < 3500) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) == 1) {
            char *text = ws_hear(fd, &first, &n);
            assert_non_null(text);
            assert_int_equal(first, 0x89);
            free(text);
            ws_say(fd, 0x8a, SLICE_LIT(""));
        }
    }
    assert_int_equal(n_gone, 1); /* the dead one */
    say_text(fd, "alive");
    for (first = 0; first != WS_TEXT;) {
        char *text = ws_hear(fd, &first, &n);
        assert_non_null(text);
        free(text);
    }
    close(fd);
    close(dead);
}

static void stops_with_open_sockets(void **state)
{
    (void)state;
    int before = count_files(), fds[N_CLIENTS];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < N_CLIENTS; i++)
            fds[i] = open_at("");
        say_text(fds[0], "x");
        uint64_t start_ns = clock_now_ns();
        if (round % 2 == 0) { /* with a word of farewell */
            http_server_drain(server, 2000);
            for (int i = 1; i < N_CLIENTS; i++)
                expect_close(fds[i], CLOSE_GOING_AWAY);
            close(fds[0]);
            http_server_stop(server);
        } else {
            http_server_stop(server);
            for (int i = 0; i < N_CLIENTS; i++)
                close(fds[i]);
        }
        assert_true(clock_ms_since(start_ns) < WAIT_MS);
        assert_int_equal(n_freed, N_CLIENTS);
        start(60);
    }
    assert_int_equal(count_files(), before);
}

/* Sockets that come and go at any moment, some of them in the middle of a frame. */
static void survives_hang_ups(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int i = 0; i < 300; i++) {
        char ask[512];
        int fd = dial();
        int n = snprintf(ask, sizeof ask, WS_ASK WS_UPGRADE "\x81\x85\x01\x02\x03\x04xxxxx", "");
        tcp_put(fd, ask, (size_t)(rand_r(&seed) % (n + 1)));
        if (rand_r(&seed) % 2)
            usleep((unsigned)rand_r(&seed) % 300);
        if (rand_r(&seed) % 3 == 0) { /* a reset */
            struct linger now = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        close(fd);
    }
    int fd = open_at("");
    say_text(fd, "well?");
    expect_frame(fd, WS_TEXT, SLICE_LIT("well?"));
    close(fd);
    wait_until(&n_freed, atomic_load(&n_open));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(echoes_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_what_comes_early_and_slowly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(carries_large_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_bad_frames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_bad_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closes_when_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tells_of_a_hang_up_at_work, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_nothing_while_a_message_is_at_work, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(cuts_a_peer_that_takes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cuts_a_peer_that_pings_and_takes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(shows_out_who_says_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pings_the_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stops_with_open_sockets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_hang_ups, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
