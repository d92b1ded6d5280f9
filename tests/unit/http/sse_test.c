/* SPDX-License-Identifier: MIT
 * sse_test.c — goal: events are read as the WHATWG standard says, however the bytes are cut.
 * Method: streams with the events that they hold, fed in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/sse.h"

/* Events as "type:data;" */
static void note(void *arg, const char *event, struct slice data)
{
    struct buf *b = arg;
    buf_printf(b, "%s:%.*s;", event, SLICE_ARG(data));
}

static void expect(const char *stream, const char *expected)
{
    struct slice s = slice_of(stream);
    for (size_t n = 1; n <= s.len + 1; n++) {
        struct sse_reader r;
        struct buf b;
        buf_init(&b, 1 << 20);
        sse_reader_init(&r, note, &b);
        for (size_t at = 0; at < s.len; at += n)
            assert_int_equal(
                sse_reader_feed(&r, (struct slice){s.ptr + at, s.len - at < n ? s.len - at : n}),
                OK);
        assert_string_equal(buf_slice(&b).ptr, expected);
        sse_reader_release(&r);
        buf_release(&b);
    }
}

static void reads_events(void **state)
{
    (void)state;
    expect("data: a\n\n", ":a;");
    expect("data:a\n\ndata:  b\n\n", ":a;: b;");
    expect("data: a\ndata: b\n\n", ":a\nb;");
    expect("data\n\n", ":;");
    expect("data:\n\n", ":;");
    expect(": comment\n\ndata: a\n\n: waiting\n\n", ":a;");
    expect("event: ping\ndata: {\"a\": 1}\n\ndata: x\n\n", "ping:{\"a\": 1};:x;");
    expect("event: lonely\n\ndata: x\n\n", ":x;");
    expect("id: 7\nretry: 10\ndata: a:b\nunknown: c\n\n", ":a:b;");
    expect("data: a\r\n\r\ndata: b\r\rdata: c\n\n", ":a;:b;:c;");
    expect("data: a\r\ndata: b\r\n\r\n", ":a\nb;");
    expect("data: unfinished\n", "");
    expect("data: unfinished", "");
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    sse_add(&b, SLICE_LIT("{\"a\": \"b\"}"));
    expect(b.ptr, ":{\"a\": \"b\"};");
    buf_release(&b);
}

static void bounds_an_event(void **state)
{
    (void)state;
    struct sse_reader r;
    struct buf b;
    char *piece = malloc(1 << 20);
    memset(piece, 'x', 1 << 20);
    buf_init(&b, 1 << 20);
    sse_reader_init(&r, note, &b);
    enum status st = OK;
    size_t n = 0;
    for (; st == OK && n < 64; n++)
        st = sse_reader_feed(&r, (struct slice){piece, 1 << 20});
    assert_int_equal(st, E_LIMIT);
    assert_int_equal(n, (SSE_EVENT_BYTES_MAX >> 20) + 1);
    sse_reader_release(&r);
    buf_release(&b);
    free(piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_events),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(bounds_an_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
