/* SPDX-License-Identifier: MIT
 * fetch_test.c — goal: a file arrives whole whatever the line does, nothing that arrived is asked
 * for again, and what is not the file that was meant never gets its name.  Method: a server on a
 * socket that drops connections, refuses, redirects, lies or changes the file as the test says,
 * and counts what it sent; for kill -9, a child that fetches. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "fetch/fetch.h"
#include "os/clock.h"
#include "temp_folder.h"

#define FILE_BYTES (2 * (size_t)FETCH_RANGE_BYTES + 12345)
#define SEND_BYTES (64u << 10)

/* ---- the server ---- */
static struct {
    int listener, port;
    uint8_t *bytes; /* of the file */
    size_t n_bytes;
    struct digest digest;
    /* Bytes of files; a connection breaks at each drop_at, all is refused after refuse_after, 0:
     * never. */
    atomic_llong sent, drop_at, refuse_after;
    atomic_int n_requests, n_refusals; /* so many are answered by refusal_status */
    int refusal_status;
    bool has_ranges, is_redirecting, tells_digest, is_slow;
    long long shift;       /* a lie: other bytes than the answer says */
    const char *tag;       /* of the file */
    atomic_int changes_at; /* request from which on the tag is another; 0: never */
    atomic_int n_tokens;   /* requests that carried the token */
} web;

static bool send_all(int fd, const void *bytes, size_t n)
{
    for (const char *p = bytes; n > 0;) {
        const ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static void send_file(int fd, size_t from, size_t to)
{
    while (from < to) {
        const size_t n = to - from < SEND_BYTES ? to - from : SEND_BYTES;
        const long long before = atomic_fetch_add(&web.sent, (long long)n);
        const long long at = atomic_load(&web.drop_at);
        if (!send_all(fd, web.bytes + ((long long)from + web.shift), n))
            return;
        if (at && before / at != (before + (long long)n) / at)
            return; /* the line breaks */
        if (web.is_slow)
            clock_sleep_ms(5);
        from += n;
    }
}

static void answer(int fd, const char *request)
{
    char head[1024], hex[DIGEST_HEX_BYTES];
    const int number = atomic_fetch_add(&web.n_requests, 1) + 1;
    unsigned long long from = 0, to = web.n_bytes - 1;
    const char *range = strstr(request, "Range: bytes=");
    if (strstr(request, "Authorization: Bearer secret\r\n"))
        atomic_fetch_add(&web.n_tokens, 1);
    digest_hex(&web.digest, hex);
    const long long refuse_after = atomic_load(&web.refuse_after);
    const bool is_over = refuse_after && atomic_load(&web.sent) >= refuse_after;
    if (is_over || atomic_load(&web.n_refusals) > 0) {
        atomic_fetch_sub(&web.n_refusals, !is_over);
        snprintf(head, sizeof head, "HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno",
                 web.refusal_status);
        send_all(fd, head, strlen(head));
        return;
    }
    if (web.is_redirecting && strncmp(request, "GET /there/", 11) != 0) {
        snprintf(head, sizeof head,
                 "HTTP/1.1 302 Found\r\nLocation: http://localhost:%d/there/tiny.gguf\r\n"
                 "X-Linked-ETag: \"%s\"\r\nContent-Length: 5\r\n\r\nthere",
                 web.port, hex);
        send_all(fd, head, strlen(head));
        return;
    }
    const int changes_at = atomic_load(&web.changes_at);
    const char *tag = changes_at && number >= changes_at ? "\"other\"" : web.tag;
    const bool is_part = web.has_ranges && range;
    if (is_part && sscanf(range, "Range: bytes=%llu-%llu", &from, &to) != 2)
        abort();
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nETag: %s\r\nContent-Length: %llu\r\n",
                     is_part ? "206 Partial Content" : "200 OK", tag, to - from + 1);
    if (web.tells_digest)
        n += snprintf(head + n, sizeof head - (size_t)n, "X-Linked-ETag: \"%s\"\r\n", hex);
    if (is_part)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Range: bytes %llu-%llu/%zu\r\n",
                      from, to, web.n_bytes);
    snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    if (send_all(fd, head, strlen(head)))
        send_file(fd, from, to + 1);
}

static void *serve_one(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char request[8192];
    size_t n = 0;
    for (ssize_t k; n < sizeof request - 1; n += (size_t)k) {
        k = recv(fd, request + n, sizeof request - 1 - n, 0);
        if (k <= 0)
            break;
        request[n + (size_t)k] = '\0';
        if (strstr(request, "\r\n\r\n")) {
            answer(fd, request);
            break;
        }
    }
    close(fd);
    return NULL;
}

static void *serve(void *arg)
{
    (void)arg;
    for (int fd; (fd = accept(web.listener, NULL, NULL)) >= 0;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd) != 0)
            abort();
        pthread_detach(thread);
    }
    return NULL;
}

static int start_server(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    pthread_t thread;
    struct digester d = {0};
    web.n_bytes = FILE_BYTES;
    web.bytes = mem_new(FILE_BYTES + SEND_BYTES, 1);
    uint32_t x = 1;
    for (size_t i = 0; i < FILE_BYTES + SEND_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        web.bytes[i] = (uint8_t)(x >> 24);
    }
    digest_begin(&d);
    digest_bytes(&d, web.bytes, FILE_BYTES);
    web.digest = digest_end(&d);
    digester_release(&d);
    web.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(web.listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(web.listener, 64), 0);
    assert_int_equal(getsockname(web.listener, (struct sockaddr *)&a, &len), 0);
    web.port = ntohs(a.sin_port);
    return pthread_create(&thread, NULL, serve, NULL);
}

/* ---- a fetch ---- */
static char path[512], url[128];

static bool ignore(void *arg, const char *what, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_non_null(what);
    assert_true(total == 0 || done <= total);
    return true;
}

static enum status accept_all(void *arg, const char *at, struct err *e)
{
    (void)arg;
    (void)at;
    (void)e;
    return OK;
}

static enum status refuse(void *arg, const char *at, struct err *e)
{
    (void)arg;
    (void)at;
    return err_set(e, E_SYNTAX, "no model");
}

static struct fetch_job job_of(void)
{
    return (struct fetch_job){.fs = os_fs_real(),
                              .url = url,
                              .path = path,
                              .connections = 3,
                              .retry_ms = 1,
                              .idle_s_max = 5,
                              .progress = ignore,
                              .check = accept_all};
}

static int before_each(void **state)
{
    web.has_ranges = true;
    web.is_redirecting = web.tells_digest = web.is_slow = false;
    web.shift = 0;
    web.tag = "\"one\"";
    atomic_store(&web.sent, 0);
    atomic_store(&web.drop_at, 0);
    atomic_store(&web.refuse_after, 0);
    atomic_store(&web.n_requests, 0);
    atomic_store(&web.n_refusals, 0);
    atomic_store(&web.changes_at, 0);
    atomic_store(&web.n_tokens, 0);
    temp_folder_make(state);
    snprintf(path, sizeof path, "%s", temp_path("tiny.gguf"));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/tiny.gguf", web.port);
    return 0;
}

static bool is_there(const char *suffix)
{
    char name[600];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return access(name, F_OK) == 0;
}

static void assert_whole(void)
{
    char *bytes;
    size_t n;
    assert_int_equal(fs_read_file(os_fs_real(), path, FILE_BYTES + 1, &bytes, &n, NULL), OK);
    assert_int_equal(n, FILE_BYTES);
    assert_memory_equal(bytes, web.bytes, FILE_BYTES);
    mem_free(bytes);
    assert_false(is_there(".part"));
    assert_false(is_there(".part.state"));
}

static void assert_nothing_left(void)
{
    assert_false(is_there(""));
    assert_false(is_there(".part"));
    assert_false(is_there(".part.state"));
}

/* ---- tests ---- */
static void test_arrives_in_ranges(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    web.tells_digest = true;
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
    assert_true(r.is_verified);
    assert_true(digest_equal(&r.sha256, &web.digest));
    assert_int_equal(r.fetched_bytes, FILE_BYTES);
    assert_int_equal(atomic_load(&web.n_requests), 1 + 3);
}

static void test_goes_on_where_the_line_broke(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    atomic_store(&web.drop_at, 3000000);
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
    assert_false(r.is_verified);
    assert_int_equal(r.fetched_bytes, FILE_BYTES);
    assert_true(atomic_load(&web.n_requests) >= 1 + 3 + 5);
    /* What was sent twice is what a broken connection had under way. */
    assert_true(atomic_load(&web.sent) < (long long)FILE_BYTES + 12ll * 4 * SEND_BYTES);
}

static void test_goes_on_after_kill(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    job.connections = 1;
    web.is_slow = true;
    const pid_t child = fork();
    if (child == 0) {
        (void)!fetch_file(&job, &r, &e);
        _exit(0);
    }
    while (atomic_load(&web.sent) < (long long)FETCH_RANGE_BYTES + (2 << 20))
        clock_sleep_ms(1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(is_there(".part.state"));
    assert_false(is_there(""));
    web.is_slow = false;
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
    assert_int_equal(r.bytes, FILE_BYTES);
    assert_int_equal(r.fetched_bytes, FILE_BYTES - FETCH_RANGE_BYTES);
}

static void test_damaged_state_is_no_state(void **state)
{
    (void)state;
    static const char *const states[] = {
        "",
        "{",
        "[]",
        "{\"bytes\":1,\"tag\":\"\\\"one\\\"\",\"range\":8388608,\"done\":\"111\"}",
        "{\"bytes\":16789561,\"tag\":\"\\\"one\\\"\",\"range\":8388608,\"done\":\"1111\"}",
        "{\"bytes\":16789561,\"tag\":\"\\\"two\\\"\",\"range\":8388608,\"done\":\"111\"}"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        char name[600];
        struct fetch_job job = job_of();
        struct fetch_result r;
        struct err e = {0};
        snprintf(name, sizeof name, "%s.part", path);
        char *zeros = mem_new(FILE_BYTES, 1);
        assert_int_equal(fs_write_file(os_fs_real(), name, zeros, FILE_BYTES, &e), OK);
        mem_free(zeros);
        snprintf(name, sizeof name, "%s.part.state", path);
        assert_int_equal(fs_write_file(os_fs_real(), name, states[i], strlen(states[i]), &e), OK);
        assert_int_equal(fetch_file(&job, &r, &e), OK);
        assert_whole();
        unlink(path);
    }
}

static void test_longer_leavings_do_not_stay(void **state)
{
    (void)state;
    char name[600];
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    char *zeros = mem_new(FILE_BYTES + 100, 1);
    snprintf(name, sizeof name, "%s.part", path);
    assert_int_equal(fs_write_file(os_fs_real(), name, zeros, FILE_BYTES + 100, &e), OK);
    mem_free(zeros);
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
}

static void test_server_without_ranges(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    web.has_ranges = false;
    atomic_store(&web.drop_at,
                 (long long)FILE_BYTES + 5000000); /* the second time it gets through */
    atomic_store(&web.sent, 8000000);
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
}

static void test_busy_server_is_waited_for(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    web.refusal_status = 503;
    atomic_store(&web.n_refusals, 5);
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
}

static void test_gives_up_and_keeps(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    job.connections = 1;
    web.refusal_status = 500;
    atomic_store(&web.drop_at, (long long)FETCH_RANGE_BYTES + 1000000);
    atomic_store(&web.refuse_after, (long long)FETCH_RANGE_BYTES + 1000000);
    assert_int_equal(fetch_file(&job, &r, &e), E_IO);
    assert_non_null(strstr(e.msg, "500"));
    assert_non_null(strstr(e.msg, "is kept"));
    assert_int_equal(atomic_load(&web.n_requests), 1 + 2 + (int)FETCH_TRIES_MAX - 1);
    assert_false(is_there(""));
    atomic_store(&web.refuse_after, 0);
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
    assert_int_equal(r.fetched_bytes, FILE_BYTES - FETCH_RANGE_BYTES);
}

static void test_refusals_are_named(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    web.refusal_status = 404;
    atomic_store(&web.n_refusals, 1);
    assert_int_equal(fetch_file(&job, &r, &e), E_NOT_FOUND);
    web.refusal_status = 401;
    atomic_store(&web.n_refusals, 1);
    assert_int_equal(fetch_file(&job, &r, &e), E_DENIED);
    assert_non_null(strstr(e.msg, "HF_TOKEN"));
    assert_int_equal(atomic_load(&web.n_requests), 2);
    assert_false(is_there(""));
}

static void test_redirect_keeps_the_token_at_home(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    job.authorization = "Authorization: Bearer secret";
    web.is_redirecting = true;
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
    assert_true(r.is_verified); /* the digest came with the redirect */
    /* Of 1 + 3 calls, two requests each: to 127.0.0.1 with it, to localhost without. */
    assert_int_equal(atomic_load(&web.n_requests), 8);
    assert_int_equal(atomic_load(&web.n_tokens), 4);
}

static void test_wrong_bytes_never_get_the_name(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    web.tells_digest = true;
    web.shift = 7;
    assert_int_equal(fetch_file(&job, &r, &e), E_CORRUPT);
    assert_non_null(strstr(e.msg, "SHA-256"));
    assert_nothing_left();
    struct digest other = {{1}};
    web.shift = 0;
    job.sha256 = &other;
    assert_int_equal(fetch_file(&job, &r, &e), E_CORRUPT);
    assert_nothing_left();
    job.sha256 = &web.digest;
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
}

static void test_changed_file_is_not_mixed(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    atomic_store(&web.changes_at, 3);
    assert_int_equal(fetch_file(&job, &r, &e), E_CORRUPT);
    assert_non_null(strstr(e.msg, "changed"));
    assert_nothing_left();
}

static void test_check_decides(void **state)
{
    (void)state;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    job.check = refuse;
    assert_int_equal(fetch_file(&job, &r, &e), E_SYNTAX);
    assert_nothing_left();
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    char name[600];
    struct os_file f;
    struct fetch_job job = job_of();
    struct fetch_result r;
    struct err e = {0};
    snprintf(name, sizeof name, "%s.part", path);
    assert_int_equal(os_fs_real()->open(os_fs_real(), name, FS_WRITE | FS_CREATE, &f, &e), OK);
    assert_int_equal(os_fs_real()->lock(&f, &e), OK);
    assert_int_equal(fetch_file(&job, &r, &e), E_BUSY);
    os_fs_real()->close(&f);
    assert_int_equal(fetch_file(&job, &r, &e), OK);
    assert_whole();
}

/* ---- names ---- */
static void test_sources(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url, *name; /* url NULL: refused */
    } cases[] = {
        {"https://example.org/a/b%20c.gguf?x=/y", "https://example.org/a/b%20c.gguf?x=/y",
         "b c.gguf"},
        {"me/tiny:tiny-Q8_0.gguf", "http://hub/me/tiny/resolve/main/tiny-Q8_0.gguf",
         "tiny-Q8_0.gguf"},
        {"me/tiny:in a/t.gguf", "http://hub/me/tiny/resolve/main/in%20a/t.gguf", "t.gguf"},
        {"me/tiny", "", ""},
        {"me/tiny:Q4_K_M", "", ""},
        {"https://example.org/a.bin", NULL, NULL},
        {"https://example.org/..%2f..%2fx.gguf", NULL, NULL},
        {"https://example.org/.gguf", NULL, NULL},
        {"me/tiny:../.gguf", NULL, NULL},
        {"me", NULL, NULL},
        {"../tiny:a.gguf", NULL, NULL},
        {"me/../x:a.gguf", NULL, NULL},
        {"ftp://example.org/a.gguf", NULL, NULL},
        {"", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fetch_source s;
        struct err e = {0};
        const enum status st = fetch_source_of(&s, cases[i].text, "http://hub", &e);
        if (!cases[i].url) {
            if (st != E_INVALID)
                fail_msg("%s was taken as %s", cases[i].text, s.name);
            continue;
        }
        assert_int_equal(st, OK);
        assert_string_equal(s.url, cases[i].url);
        assert_string_equal(s.name, cases[i].name);
    }
}

static void test_choice_of_a_file(void **state)
{
    (void)state;
    static const char list[] =
        "{\"siblings\":[{\"rfilename\":\"README.md\"},{\"rfilename\":\"tiny-Q8_0.gguf\"},"
        "{\"rfilename\":\"tiny-q4_k_m.gguf\"},{\"rfilename\":\"mmproj-tiny-Q8_0.gguf\"},"
        "{\"rfilename\":\"f/big-f16-00001-of-00003.gguf\"},"
        "{\"rfilename\":\"f/big-f16-00002-of-00003.gguf\"},{\"rfilename\":7},7]}";
    struct fetch_source s, piece;
    struct err e = {0};
    assert_int_equal(fetch_source_of(&s, "me/tiny:Q4_K_M", "http://hub", &e), OK);
    assert_int_equal(fetch_choose(&s, "http://hub", slice_of(list), &e), OK);
    assert_string_equal(s.url, "http://hub/me/tiny/resolve/main/tiny-q4_k_m.gguf");
    assert_int_equal(fetch_piece_count(&s), 1);
    assert_int_equal(fetch_source_of(&s, "me/tiny", "http://hub", &e), OK);
    assert_int_equal(fetch_choose(&s, "http://hub", slice_of(list), &e), E_INVALID);
    assert_non_null(
        strstr(e.msg, "tiny-Q8_0.gguf, tiny-q4_k_m.gguf, f/big-f16-00001-of-00003.gguf"));
    assert_int_equal(fetch_source_of(&s, "me/tiny:Q2_K", "http://hub", &e), OK);
    assert_int_equal(fetch_choose(&s, "http://hub", slice_of(list), &e), E_NOT_FOUND);
    assert_int_equal(fetch_source_of(&s, "me/tiny:f16", "http://hub", &e), OK);
    assert_int_equal(fetch_choose(&s, "http://hub", slice_of(list), &e), OK);
    assert_int_equal(fetch_piece_count(&s), 3);
    fetch_piece(&s, 2, &piece);
    assert_string_equal(piece.name, "big-f16-00003-of-00003.gguf");
    assert_string_equal(piece.url, "http://hub/me/tiny/resolve/main/f/big-f16-00003-of-00003.gguf");
    static const char *const bad[] = {"", "[]", "{\"siblings\":7}", "{\"error\":\"x\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fetch_source_of(&s, "me/tiny", "http://hub", &e), OK);
        assert_int_not_equal(fetch_choose(&s, "http://hub", slice_of(bad[i]), &e), OK);
    }
}

#define WITH_SERVER(name) cmocka_unit_test_setup_teardown(name, before_each, temp_folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_arrives_in_ranges),
        WITH_SERVER(test_goes_on_where_the_line_broke),
        WITH_SERVER(test_goes_on_after_kill),
        WITH_SERVER(test_damaged_state_is_no_state),
        WITH_SERVER(test_longer_leavings_do_not_stay),
        WITH_SERVER(test_server_without_ranges),
        WITH_SERVER(test_busy_server_is_waited_for),
        WITH_SERVER(test_gives_up_and_keeps),
        WITH_SERVER(test_refusals_are_named),
        WITH_SERVER(test_redirect_keeps_the_token_at_home),
        WITH_SERVER(test_wrong_bytes_never_get_the_name),
        WITH_SERVER(test_changed_file_is_not_mixed),
        WITH_SERVER(test_check_decides),
        WITH_SERVER(test_one_at_a_time),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_choice_of_a_file),
    };
    return cmocka_run_group_tests(tests, start_server, NULL);
}
