/* SPDX-License-Identifier: MIT
 * hostile_test.c — goal: whatever bytes come, each is answered by a proper error in the shape of
 * the dialect whose path it asks for, or by a closed connection where HTTP itself is broken, within
 * its limit; nothing hidden in a request is served as another; and the server goes on answering.
 * Method: one server; requests byte for byte over sockets: smuggled, truncated, slow, too large,
 * not UTF-8, deeply nested, with numbers beyond all types.  tests/fuzz does the same to the
 * parsers. */
#include <stdio.h>
#include <sys/socket.h>

#include "bench/client/raw.h"
#include "e2e.h"

#define REPLY_MS     3000u
#define SLOW_MS_MAX  25000.0 /* ten seconds for the headers, then what a byte a tick earns */
#define SLOW_TICK_MS 400
#define TEXT_MAX     (8u << 20)

static struct serve server;

static int set_up(void **state)
{
    (void)state;
    e2e_serve(&server, NULL, NULL);
    return 0;
}

static void check_answers(void)
{
    struct chat_reply r;
    struct buf messages = e2e_user("who are you?");
    e2e_ask(&server, &(struct chat_ask){.messages = buf_slice(&messages), .max_tokens = 32}, &r);
    assert_string_equal(r.choices[0].text.ptr, "I am skald, a tiny recall model.");
    chat_reply_release(&r);
    buf_release(&messages);
}

static int tear_down(void **state)
{
    int code = -1;
    (void)state;
    check_answers();
    MUST(serve_stop(&server, &code, e));
    assert_int_equal(code, 0);
    return 0;
}

/* Sends and reads one reply; the rest of what comes back is in *more. */
static struct raw_reply exchange(struct slice bytes, struct buf *more)
{
    struct raw_reply r;
    struct err why = {0};
    int fd;
    raw_reply_init(&r);
    MUST(raw_connect(server.url, &fd, e));
    enum status st = raw_send(fd, bytes, &why);
    if (st == OK || st == E_IO) /* it may have closed already, and said why */
        st = raw_read_reply(fd, REPLY_MS, &r, &why);
    if (st != OK && st != E_IO)
        fail_msg("%s", why.msg);
    char block[4096];
    ssize_t n;
    while (more && r.is_whole && (n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        buf_add(more, block, (size_t)n);
    raw_close(fd);
    return r;
}

/* ---- framing ---- */
#define POST  "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
#define GET   "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define CHUNK POST "Transfer-Encoding: chunked\r\n\r\n"

static void framing_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct slice bytes;
    } cases[] = {
        {"length and chunked",
         SLICE_LIT(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET)},
        {"chunked and length",
         SLICE_LIT(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" GET)},
        {"two lengths", SLICE_LIT(POST "Content-Length: 0\r\nContent-Length: 53\r\n\r\n" GET)},
        {"two equal lengths", SLICE_LIT(POST "Content-Length: 0\r\ncontent-length: 0\r\n\r\n" GET)},
        {"a list of lengths", SLICE_LIT(POST "Content-Length: 0, 0\r\n\r\n" GET)},
        {"a negative length", SLICE_LIT(POST "Content-Length: -1\r\n\r\n" GET)},
        {"a signed length", SLICE_LIT(POST "Content-Length: +0\r\n\r\n" GET)},
        {"a hexadecimal length", SLICE_LIT(POST "Content-Length: 0x0\r\n\r\n" GET)},
        {"two encodings",
         SLICE_LIT(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
                        "\r\n0\r\n\r\n" GET)},
        {"an unknown encoding", SLICE_LIT(POST "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n" GET)},
        {"a bare line feed", SLICE_LIT(POST "X-A: b\nContent-Length: 0\r\n\r\n" GET)},
        {"a folded header", SLICE_LIT(POST "X-A: b\r\n Content-Length: 53\r\n\r\n" GET)},
        {"NUL in a header", SLICE_LIT(POST "X-A: b\0c\r\nContent-Length: 0\r\n\r\n" GET)},
        {"a blank before the colon", SLICE_LIT(POST "Content-Length : 53\r\n\r\n" GET)},
        {"two hosts", SLICE_LIT(POST "Host: example.org\r\nContent-Length: 0\r\n\r\n" GET)},
        {"no host",
         SLICE_LIT("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n" GET)},
        {"a chunk of no size", SLICE_LIT(CHUNK "\r\n\r\n" GET)},
        {"a chunk of negative size", SLICE_LIT(CHUNK "-1\r\nx\r\n0\r\n\r\n" GET)},
        {"a chunk of 2^68 bytes", SLICE_LIT(CHUNK "FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n" GET)},
        {"a chunk of 2^64 - 1 bytes", SLICE_LIT(CHUNK "FFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n" GET)},
        {"a chunk longer than it says", SLICE_LIT(CHUNK "1\r\nxyz\r\n0\r\n\r\n" GET)},
        {"not HTTP", SLICE_LIT("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")},
        {"HTTP 9", SLICE_LIT("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n")},
        {"a broken escape", SLICE_LIT("GET /v1/mod%zzels HTTP/1.1\r\nHost: localhost\r\n\r\n" GET)},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buf more;
        buf_init(&more, 1u << 20);
        struct raw_reply r = exchange(cases[i].bytes, &more);
        /* Refused, or cut; and what is behind it is not served. */
        bool is_refused = r.status == 0 || r.status == 400 || r.status == 413 || r.status == 505;
        if (!is_refused || (more.ptr && strstr(more.ptr, "HTTP/1.1 200")))
            fail_msg("%s: HTTP %d %s%s", cases[i].name, r.status, r.body.ptr ? r.body.ptr : "",
                     more.ptr ? more.ptr : "");
        raw_reply_release(&r);
        buf_release(&more);
    }
    check_answers();
}

/* A chunk's extension may be long, but not without end. */
static void extensions_of_chunks_have_a_ceiling(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 8u << 20);
    buf_add_text(&b, CHUNK "2;x=");
    for (size_t i = 0; i < 4u << 20; i++)
        buf_add_char(&b, 'y');
    buf_add_text(&b, "\r\n{}\r\n0\r\n\r\n");
    struct raw_reply r = exchange(buf_slice(&b), NULL);
    /* libmicrohttpd 0.9.75 answers by itself, and calls it 500. */
    if (r.status != 0 && r.status < 400)
        fail_msg("HTTP %d", r.status);
    raw_reply_release(&r);
    buf_release(&b);
    check_answers();
}

/* ---- every dialect ---- */
enum shape { OPENAI, ANTHROPIC, OLLAMA, LLAMA };
static const struct {
    const char *path;
    enum shape shape;
    const char *before, *after; /* around the text of a question */
} dialects[] = {
    {"/v1/chat/completions", OPENAI,
     "{\"messages\":[{\"role\":\"user\",\"content\":", "}],\"max_tokens\":2"},
    {"/v1/completions", OPENAI, "{\"prompt\":", ",\"max_tokens\":2"},
    {"/v1/responses", OPENAI, "{\"input\":", ",\"max_output_tokens\":16"},
    {"/v1/messages", ANTHROPIC,
     "{\"messages\":[{\"role\":\"user\",\"content\":", "}],\"max_tokens\":2"},
    {"/api/chat", OLLAMA,
     "{\"messages\":[{\"role\":\"user\",\"content\":", "}],\"options\":{\"num_predict\":2}"},
    {"/api/generate", OLLAMA, "{\"prompt\":", ",\"options\":{\"num_predict\":2}"},
    {"/completion", LLAMA, "{\"prompt\":", ",\"n_predict\":2"},
    {"/api/v0/chat/completions", OPENAI,
     "{\"messages\":[{\"role\":\"user\",\"content\":", "}],\"max_tokens\":2"},
};

static bool has_text(const struct json *v)
{
    return v && v->kind == JSON_STRING && v->text.len > 0;
}

/* The error as that dialect's clients read it. */
static bool has_shape(enum shape shape, const struct json *v)
{
    const struct json *error = json_get(v, "error");
    switch (shape) {
    case OLLAMA:
        return has_text(error);
    case ANTHROPIC:
        return has_text(json_get(v, "type")) && slice_is(json_get(v, "type")->text, "error") &&
               has_text(json_get(error, "type")) && has_text(json_get(error, "message"));
    case LLAMA:
        return has_text(json_get(error, "message")) && has_text(json_get(error, "type")) &&
               json_get(error, "code") && json_get(error, "code")->kind == JSON_INT;
    case OPENAI:
    default:
        return has_text(json_get(error, "message")) && has_text(json_get(error, "type"));
    }
}

static void check_error(const char *name, size_t dialect, const struct raw_reply *r, int low,
                        int high)
{
    struct arena a;
    struct json *v = NULL;
    struct err e = {0};
    arena_init(&a, 1u << 20);
    if (r->status < low || r->status > high || !r->is_whole)
        fail_msg("%s at %s: HTTP %d instead of %d: %.300s", name, dialects[dialect].path, r->status,
                 low, r->body.ptr ? r->body.ptr : "");
    if (json_parse(buf_slice(&r->body), &a, &v, &e) != OK || !has_shape(dialects[dialect].shape, v))
        fail_msg("%s at %s: not its shape: %.300s", name, dialects[dialect].path,
                 r->body.ptr ? r->body.ptr : "");
    arena_release(&a);
}

static struct raw_reply post(size_t dialect, struct slice body, const char *headers)
{
    struct buf b;
    buf_init(&b, 8u << 20);
    buf_printf(&b,
               "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s"
               "Content-Length: %zu\r\n\r\n",
               dialects[dialect].path, headers, body.len);
    buf_add_slice(&b, body);
    struct raw_reply r = exchange(buf_slice(&b), NULL);
    buf_release(&b);
    return r;
}

static void add_many(struct buf *b, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_add_text(b, text);
}

static void bodies_are_read_strictly(void **state)
{
    (void)state;
    struct buf deep;
    buf_init(&deep, TEXT_MAX);
    add_many(&deep, "[", 100000);
    static const struct {
        const char *name;
        struct slice body;
    } cases[] = {
        {"nothing", SLICE_LIT("")},
        {"not JSON", SLICE_LIT("hello")},
        {"a number", SLICE_LIT("7")},
        {"an array", SLICE_LIT("[]")},
        {"cut", SLICE_LIT("{\"messages\":[{\"role\":\"user\",\"content\":\"a")},
        {"two values", SLICE_LIT("{}{}")},
        {"a comma too many", SLICE_LIT("{\"prompt\":\"a\",}")},
        {"NaN", SLICE_LIT("{\"temperature\":NaN}")},
        {"not UTF-8", SLICE_LIT("{\"prompt\":\"\xff\xfe\",\"input\":\"\xff\",\"messages\":[]}")},
        {"half a character", SLICE_LIT("{\"prompt\":\"\xe2\x82\"}")},
        {"a surrogate in UTF-8", SLICE_LIT("{\"prompt\":\"\xed\xa0\x80\"}")},
        {"an overlong NUL", SLICE_LIT("{\"prompt\":\"\xc0\x80\"}")},
        {"NUL in the text", SLICE_LIT("{\"prompt\":\"a\0b\"}")},
        {"a key twice", SLICE_LIT("{\"prompt\":\"a\",\"prompt\":\"b\",\"input\":\"c\"}")},
    };
    for (size_t d = 0; d < ARRAY_COUNT(dialects); d++) {
        for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
            struct raw_reply r = post(d, cases[i].body, "");
            check_error(cases[i].name, d, &r, 400, 400);
            raw_reply_release(&r);
        }
        struct raw_reply r = post(d, buf_slice(&deep), "");
        check_error("100,000 arrays in each other", d, &r, 400, 413);
        raw_reply_release(&r);
    }
    buf_release(&deep);
    check_answers();
}

/* Fields of numbers, beyond any type: refused, or taken for what they are; never a crash. */
static void numbers_have_bounds(void **state)
{
    (void)state;
    static const char *const numbers[] = {"1e400",
                                          "-1e400",
                                          "9223372036854775808",
                                          "-9223372036854775809",
                                          "99999999999999999999999999999999999999",
                                          "1e-400",
                                          "-1",
                                          "4294967296",
                                          "0.1"};
    static const char *const fields[] = {"temperature", "top_p", "top_k",           "seed",
                                         "n",           "min_p", "presence_penalty"};
    for (size_t d = 0; d < ARRAY_COUNT(dialects); d++)
        for (size_t f = 0; f < ARRAY_COUNT(fields); f++)
            for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
                struct buf b;
                char name[80];
                buf_init(&b, 4096);
                buf_printf(&b, "%s\"hi\"%s,\"stream\":false,\"%s\":%s}", dialects[d].before,
                           dialects[d].after, fields[f], numbers[i]);
                snprintf(name, sizeof name, "%s of %s", fields[f], numbers[i]);
                struct raw_reply r = post(d, buf_slice(&b), "");
                if (r.status != 200)
                    check_error(name, d, &r, 400, 400);
                raw_reply_release(&r);
                buf_release(&b);
            }
    check_answers();
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    struct buf large, header;
    buf_init(&large, 4u << 20);
    buf_init(&header, 4u << 20);
    buf_add_text(&header, "X-Large: ");
    add_many(&header, "x", 20000);
    buf_add_text(&header, "\r\n");
    for (size_t d = 0; d < ARRAY_COUNT(dialects); d++) {
        buf_clear(&large);
        buf_printf(&large,
                   "POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                   "Content-Length: 40000000\r\n\r\n",
                   dialects[d].path); /* 32 MiB are the most */
        struct raw_reply r = exchange(buf_slice(&large), NULL);
        check_error("a large body", d, &r, 413, 413);
        raw_reply_release(&r);
        r = post(d, SLICE_LIT("{}"), header.ptr);
        if (r.status != 431) /* the path is known, if it came before what was too large */
            fail_msg("a large header at %s: HTTP %d", dialects[d].path, r.status);
        raw_reply_release(&r);
        buf_clear(&large);
        buf_printf(&large, "%s\"", dialects[d].before);
        add_many(&large, "word ", 80000); /* within the limit of bytes, not of the context */
        buf_printf(&large, "\",\"stream\":false%s}", dialects[d].after);
        r = post(d, buf_slice(&large), "");
        check_error("a prompt beyond the context", d, &r, 400, 413);
        raw_reply_release(&r);
    }
    buf_release(&large);
    buf_release(&header);
    check_answers();
}

/* ---- slow and cut ---- */
static void slow_and_cut_requests_end(void **state)
{
    (void)state;
    int fds[2 * ARRAY_COUNT(dialects)], left = 2 * (int)ARRAY_COUNT(dialects);
    for (int i = 0; i < left; i++) {
        char head[400];
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s",
                 dialects[i / 2].path,
                 i % 2 ? "X-Slow: " : "Content-Length: 100000\r\n\r\n{\"prompt\":\"");
        MUST(raw_connect(server.url, &fds[i], e));
        MUST(raw_send(fds[i], slice_of(head), e));
    }
    for (int i = 0; i < 4; i++) { /* those that go away in the middle cost nothing */
        int fd;
        MUST(raw_connect(server.url, &fd, e));
        MUST(raw_send(fd, SLICE_LIT(POST "Content-Length: 1000\r\n\r\n{\"mess"), e));
        raw_close(fd);
    }
    uint64_t start = clock_now_ns();
    bool is_answered[2 * ARRAY_COUNT(dialects)] = {0};
    while (left > 0 && clock_ms_since(start) < SLOW_MS_MAX) {
        clock_sleep_ms(SLOW_TICK_MS);
        for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
            char peek;
            if (is_answered[i])
                continue;
            (void)send(fds[i], "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            is_answered[i] = recv(fds[i], &peek, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
            left -= is_answered[i];
        }
    }
    double ms = clock_ms_since(start);
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
        struct raw_reply r;
        raw_reply_init(&r);
        if (!is_answered[i])
            fail_msg("slow %zu is still there after %.0f s", i, ms / 1e3);
        MUST(raw_read_reply(fds[i], REPLY_MS, &r, e));
        check_error(i % 2 ? "slow headers" : "a slow body", i / 2, &r, 408, 408);
        raw_reply_release(&r);
        raw_close(fds[i]);
    }
    print_message("slow ones were told so within %.1f s\n", ms / 1e3);
    check_answers();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framing_is_strict),
        cmocka_unit_test(extensions_of_chunks_have_a_ceiling),
        cmocka_unit_test(bodies_are_read_strictly),
        cmocka_unit_test(numbers_have_bounds),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(slow_and_cut_requests_end),
    };
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, set_up, tear_down));
}
