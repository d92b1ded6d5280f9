/* SPDX-License-Identifier: MIT
 * sse.c — server-sent events. */
#include "http/sse.h"

#include <stdio.h>

void sse_add(struct buf *out, struct slice data)
{
    buf_add_text(out, "data: ");
    buf_add_slice(out, data);
    buf_add_text(out, "\n\n");
}

void sse_reader_init(struct sse_reader *r,
                     void (*each)(void *arg, const char *event, struct slice data), void *arg)
{
    *r = (struct sse_reader){.each = each, .arg = arg};
    buf_init(&r->line, SSE_EVENT_BYTES_MAX);
    buf_init(&r->data, SSE_EVENT_BYTES_MAX);
}

void sse_reader_release(struct sse_reader *r)
{
    buf_release(&r->line);
    buf_release(&r->data);
}

static void end_event(struct sse_reader *r)
{
    if (r->has_data)
        r->each(r->arg, r->event, buf_slice(&r->data));
    buf_clear(&r->data);
    r->has_data = false;
    r->event[0] = '\0';
}

static void end_line(struct sse_reader *r)
{
    struct slice line = buf_slice(&r->line);
    if (line.len == 0) {
        end_event(r);
        return;
    }
    const char *colon = memchr(line.ptr, ':', line.len);
    size_t name_len = colon ? (size_t)(colon - line.ptr) : line.len;
    struct slice name = {line.ptr, name_len};
    struct slice value = {line.ptr + line.len, 0};
    if (colon) {
        value = (struct slice){colon + 1, line.len - name_len - 1};
        if (value.len && value.ptr[0] == ' ')
            value = (struct slice){value.ptr + 1, value.len - 1};
    }
    if (slice_is(name, "data")) {
        if (r->has_data)
            buf_add_char(&r->data, '\n');
        buf_add_slice(&r->data, value);
        r->has_data = true;
    } else if (slice_is(name, "event")) {
        snprintf(r->event, sizeof r->event, SLICE_FMT, SLICE_ARG(value));
    }
    buf_clear(&r->line);
}

enum status sse_reader_feed(struct sse_reader *r, struct slice bytes)
{
    size_t from = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];
        bool is_second = c == '\n' && r->is_after_return;
        r->is_after_return = c == '\r';
        if (c != '\n' && c != '\r')
            continue;
        if (!is_second) {
            buf_add(&r->line, bytes.ptr + from, i - from);
            if (r->line.failed || r->data.failed)
                return E_LIMIT;
            end_line(r);
        }
        from = i + 1;
    }
    buf_add(&r->line, bytes.ptr + from, bytes.len - from);
    return r->line.failed || r->data.failed ? E_LIMIT : OK;
}
