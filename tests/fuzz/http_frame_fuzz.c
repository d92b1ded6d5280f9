/* SPDX-License-Identifier: MIT
 * http_frame_fuzz.c — WebSocket frames from any bytes.  The first byte says in which pieces they
 * come; whatever they are, the events must be those of the whole, texts must be UTF-8, and nothing
 * comes after a broken frame. */
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "http/frame.h"
#include "text/utf8.h"

#define MESSAGE_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct slice bytes, size_t piece, struct buf *events)
{
    struct frame_reader r;
    frame_reader_init(&r, MESSAGE_MAX);
    while (bytes.len > 0 && !r.is_broken) {
        size_t n = bytes.len < piece ? bytes.len : piece;
        struct slice part = {bytes.ptr, n};
        struct frame_event ev;
        bytes = (struct slice){bytes.ptr + n, bytes.len - n};
        do {
            ev = frame_read(&r, &part);
            CHECK(ev.payload.len <= MESSAGE_MAX);
            CHECK(ev.kind != FRAME_TEXT ||
                  utf8_valid_prefix(ev.payload.ptr, ev.payload.len) == ev.payload.len);
            if (ev.kind != FRAME_NOTHING) {
                buf_printf(events, "%d %u %zu:", ev.kind, ev.code, ev.payload.len);
                buf_add_slice(events, ev.payload);
            }
        } while (ev.kind != FRAME_NOTHING && ev.kind != FRAME_BROKEN);
        CHECK(part.len == 0 || ev.kind == FRAME_BROKEN);
    }
    frame_reader_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole, cut;
    if (size == 0)
        return 0;
    struct slice bytes = {(const char *)data + 1, size - 1};
    buf_init(&whole, 1 << 24);
    buf_init(&cut, 1 << 24);
    read_all(bytes, SIZE_MAX, &whole);
    read_all(bytes, 1u + data[0] % 32, &cut);
    CHECK(slice_equal(buf_slice(&whole), buf_slice(&cut)));
    buf_release(&whole);
    buf_release(&cut);
    return 0;
}
