/* SPDX-License-Identifier: MIT
 * frame_test.c — goal: WebSocket frames are read as RFC 6455 says however the bytes are cut, what a
 * client may not send ends the connection with the right code, and what is written is well formed.
 * Method: frames made by hand, some byte for byte from the RFC, fed in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/frame.h"
#include "ws_client.h"

#define MESSAGE_MAX 70000u
#define OUT_MAX     (1u << 20)

static void add_text(struct buf *b, unsigned first, const char *text)
{
    ws_frame(b, first, slice_of(text));
}

/* Events as "text:…;" "ping:…;" "close 1000:…;" "broken 1002;" */
static void note(struct buf *b, const struct frame_event *ev)
{
    static const char *const names[] = {
        [FRAME_TEXT] = "text", [FRAME_PING] = "ping", [FRAME_PONG] = "pong"};
    if (ev->kind == FRAME_CLOSE)
        buf_printf(b, "close %u:%.*s;", ev->code, SLICE_ARG(ev->payload));
    else if (ev->kind == FRAME_BROKEN)
        buf_printf(b, "broken %u;", ev->code);
    else if (ev->kind != FRAME_NOTHING)
        buf_printf(b, "%s:%.*s;", names[ev->kind], SLICE_ARG(ev->payload));
}

static void feed(struct frame_reader *r, struct slice bytes, struct buf *events)
{
    struct frame_event ev;
    do {
        ev = frame_read(r, &bytes);
        note(events, &ev);
    } while (ev.kind != FRAME_NOTHING && ev.kind != FRAME_BROKEN);
    if (ev.kind == FRAME_NOTHING)
        assert_int_equal(bytes.len, 0);
}

/* Takes the bytes. */
static void expect(struct buf *bytes, const char *expected)
{
    size_t step = bytes->len > 1000 ? bytes->len / 7 : 1;
    for (size_t n = 1; n <= bytes->len + step; n += step) {
        struct frame_reader r;
        struct buf events;
        buf_init(&events, OUT_MAX);
        frame_reader_init(&r, MESSAGE_MAX);
        for (size_t at = 0; at < bytes->len && !r.is_broken; at += n)
            feed(&r, (struct slice){bytes->ptr + at, bytes->len - at < n ? bytes->len - at : n},
                 &events);
        assert_string_equal(buf_slice(&events).ptr, expected);
        frame_reader_release(&r);
        buf_release(&events);
    }
    buf_release(bytes);
}

static struct buf fresh(void)
{
    struct buf b;
    buf_init(&b, OUT_MAX);
    return b;
}

static void reads_messages(void **state)
{
    (void)state;
    static const char hello[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; /* RFC 6455 §5.7 */
    struct buf b = fresh();
    buf_add(&b, hello, sizeof hello - 1);
    expect(&b, "text:Hello;");
    b = fresh();
    add_text(&b, 0x81, "");
    add_text(&b, 0x81, "{\"a\":1}");
    expect(&b, "text:;text:{\"a\":1};");
    /* In pieces, one of them empty, control frames between. */
    b = fresh();
    add_text(&b, 0x01, "Hel");
    add_text(&b, 0x89, "are you there?");
    add_text(&b, 0x00, "");
    add_text(&b, 0x8a, "");
    add_text(&b, 0x80, "lo");
    add_text(&b, 0x81, "next");
    expect(&b, "ping:are you there?;pong:;text:Hello;text:next;");
    /* A character cut by pieces is whole in the end. */
    b = fresh();
    add_text(&b, 0x01, "gr\xc3");
    add_text(&b, 0x80, "\xbc\xc3\x9f");
    expect(&b, "text:gr\xc3\xbc\xc3\x9f;");
}

static void reads_every_length(void **state)
{
    (void)state;
    static const size_t lengths[] = {125, 126, 127, 65535, 65536, MESSAGE_MAX};
    char *text = malloc(MESSAGE_MAX + 1);
    memset(text, 'x', MESSAGE_MAX + 1);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct buf b = fresh(), expected = fresh();
        ws_frame(&b, 0x81, (struct slice){text, lengths[i]});
        buf_printf(&expected, "text:%.*s;", (int)lengths[i], text);
        expect(&b, expected.ptr);
        buf_release(&expected);
    }
    struct buf b = fresh();
    ws_frame(&b, 0x81, (struct slice){text, MESSAGE_MAX + 1});
    expect(&b, "broken 1009;");
    b = fresh(); /* as pieces, too */
    ws_frame(&b, 0x01, (struct slice){text, MESSAGE_MAX});
    add_text(&b, 0x80, "x");
    expect(&b, "broken 1009;");
    b = fresh(); /* a length that no memory has */
    buf_add(&b, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 14);
    expect(&b, "broken 1009;");
    free(text);
}

static void reads_the_end(void **state)
{
    (void)state;
    struct buf b = fresh();
    add_text(&b, 0x88,
             "\x03\xe8"
             "bye");
    expect(&b, "close 1000:bye;");
    b = fresh();
    add_text(&b, 0x88, "");
    expect(&b, "close 1005:;");
    static const struct {
        const char *payload, *events;
    } codes[] = {{"\x03", "broken 1002;"},
                 {"\x03\xe7", "broken 1002;"},
                 {"\x03\xed", "broken 1002;"},
                 {"\x03\xee", "broken 1002;"},
                 {"\x03\xef", "close 1007:;"},
                 {"\x0b\xb8", "close 3000:;"},
                 {"\x13\x88", "broken 1002;"},
                 {"\x03\xe8\xff", "broken 1007;"},
                 {"\x03\xf1oops", "close 1009:oops;"}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        b = fresh();
        add_text(&b, 0x88, codes[i].payload);
        expect(&b, codes[i].events);
    }
}

static void refuses_what_no_client_sends(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *events;
    } cases[] = {
        {"\x81\x05Hello", 7, "broken 1002;"},                        /* not masked */
        {"\xc1\x85\x37\xfa\x21\x3d\x7f", 7, "broken 1002;"},         /* an extension's bit */
        {"\x82\x81\x00\x00\x00\x00x", 7, "broken 1003;"},            /* binary */
        {"\x83\x80\x00\x00\x00\x00", 6, "broken 1002;"},             /* reserved opcodes */
        {"\x8b\x80\x00\x00\x00\x00", 6, "broken 1002;"},             //
        {"\x80\x80\x00\x00\x00\x00", 6, "broken 1002;"},             /* nothing to continue */
        {"\x09\x80\x00\x00\x00\x00", 6, "broken 1002;"},             /* a ping in pieces */
        {"\x89\xfe\x00\x7e\x00\x00\x00\x00", 8, "broken 1002;"},     /* a ping of 126 bytes */
        {"\x81\x81\x00\x00\x00\x00\xff", 7, "broken 1007;"},         /* not UTF-8 */
        {"\x81\x82\x00\x00\x00\x00\xc3\x28", 8, "broken 1007;"},     //
        {"\x81\x83\x00\x00\x00\x00\xed\xa0\x80", 9, "broken 1007;"}, /* a surrogate */
        {"\x81\x81\x00\x00\x00\x00\xc3", 7, "broken 1007;"},         /* half a character */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = fresh();
        buf_add(&b, cases[i].bytes, cases[i].n);
        expect(&b, cases[i].events);
    }
    /* A message must end before the next begins. */
    struct buf b = fresh();
    add_text(&b, 0x01, "a");
    add_text(&b, 0x81, "b");
    expect(&b, "broken 1002;");
    b = fresh(); /* the first piece tells already */
    add_text(&b, 0x01, "\xff");
    expect(&b, "broken 1007;");
}

static void bounds_pieces(void **state)
{
    (void)state;
    struct frame_reader r;
    struct buf one = fresh(), events = fresh();
    uint32_t n = 0;
    frame_reader_init(&r, MESSAGE_MAX);
    add_text(&one, 0x01, "");
    feed(&r, buf_slice(&one), &events);
    buf_clear(&one);
    add_text(&one, 0x00, "");
    for (; n < 2 * FRAME_PIECES_MAX && !r.is_broken; n++)
        feed(&r, buf_slice(&one), &events);
    assert_string_equal(events.ptr, "broken 1009;");
    assert_int_equal(n, FRAME_PIECES_MAX);
    frame_reader_release(&r);
    buf_release(&one);
    buf_release(&events);
}

static void gives_memory_back(void **state)
{
    (void)state;
    struct frame_reader r;
    struct buf b = fresh();
    char *text = malloc(MESSAGE_MAX);
    memset(text, 'x', MESSAGE_MAX);
    frame_reader_init(&r, MESSAGE_MAX);
    ws_frame(&b, 0x81, (struct slice){text, MESSAGE_MAX});
    struct slice bytes = buf_slice(&b);
    assert_int_equal(frame_read(&r, &bytes).payload.len, MESSAGE_MAX);
    assert_true(r.message.cap >= MESSAGE_MAX);
    frame_reader_rest(&r);
    assert_int_equal(r.message.cap, 0);
    bytes = buf_slice(&b);
    assert_int_equal(frame_read(&r, &bytes).payload.len, MESSAGE_MAX);
    frame_reader_release(&r);
    buf_release(&b);
    free(text);
}

static void expect_bytes(struct buf *b, const char *expected, size_t n)
{
    assert_int_equal(b->len, n);
    assert_memory_equal(b->ptr, expected, n);
    buf_release(b);
}

static void writes_frames(void **state)
{
    (void)state;
    struct buf b = fresh();
    frame_write_text(&b, SLICE_LIT("Hello"));
    expect_bytes(&b, "\x81\x05Hello", 7);
    b = fresh();
    frame_write_pong(&b, SLICE_LIT("Hello"));
    frame_write_ping(&b);
    expect_bytes(&b, "\x8a\x05Hello\x89\x00", 9);
    b = fresh();
    frame_write_close(&b, CLOSE_GOING_AWAY, "bye");
    frame_write_close(&b, CLOSE_NONE, "");
    expect_bytes(&b,
                 "\x88\x05\x03\xe9"
                 "bye\x88\x00",
                 9);
    /* A reason is cut before the character that has no room. */
    char reason[200];
    memset(reason, 'x', sizeof reason);
    memcpy(reason + 122, "\xc3\xbc", 2);
    reason[199] = '\0';
    b = fresh();
    frame_write_close(&b, CLOSE_POLICY, reason);
    assert_int_equal(b.len, 2 + 2 + 122);
    assert_int_equal(b.ptr[1], 2 + 122);
    buf_release(&b);
    static const struct {
        size_t n;
        const char *head;
        size_t n_head;
    } lengths[] = {{125, "\x81\x7d", 2},
                   {126, "\x81\x7e\x00\x7e", 4},
                   {65535, "\x81\x7e\xff\xff", 4},
                   {65536, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10}};
    char *text = malloc(65536);
    memset(text, 'y', 65536);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        b = fresh();
        frame_write_text(&b, (struct slice){text, lengths[i].n});
        assert_int_equal(b.len, lengths[i].n_head + lengths[i].n);
        assert_memory_equal(b.ptr, lengths[i].head, lengths[i].n_head);
        buf_release(&b);
    }
    buf_init(&b, 100); /* whole frames or none */
    frame_write_text(&b, (struct slice){text, 99});
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    buf_release(&b);
    free(text);
}

static void accepts_keys(void **state)
{
    (void)state;
    char out[FRAME_ACCEPT_BYTES];
    assert_true(frame_accept(SLICE_LIT("dGhlIHNhbXBsZSBub25jZQ=="), out));
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); /* RFC 6455 §1.3 */
    assert_false(frame_accept(SLICE_LIT(""), out));
    assert_false(frame_accept(SLICE_LIT("dGhlIHNhbXBsZSBub25jZQ="), out));
    assert_false(frame_accept(SLICE_LIT("dGhlIHNhbXBsZSBub25jZQ==A"), out));
    assert_false(frame_accept(SLICE_LIT("dGhlIHNhbXBsZSBub25jZQAA"), out));
    assert_false(frame_accept(SLICE_LIT("d?hlIHNhbXBsZSBub25jZQ=="), out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_messages), cmocka_unit_test(reads_every_length),
        cmocka_unit_test(reads_the_end),  cmocka_unit_test(refuses_what_no_client_sends),
        cmocka_unit_test(bounds_pieces),  cmocka_unit_test(gives_memory_back),
        cmocka_unit_test(writes_frames),  cmocka_unit_test(accepts_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
