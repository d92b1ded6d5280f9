/* SPDX-License-Identifier: MIT
 * sse.h — server-sent events: writing one, reading a stream of them.
 * Source: WHATWG HTML, "Server-sent events", 9.2.5–9.2.6.  Thread: one owner. */
#ifndef KVASIR_HTTP_SSE_H
#define KVASIR_HTTP_SSE_H

#include "base/buf.h"

#define SSE_EVENT_BYTES_MAX (16u << 20)

/* "data: …\n\n"; data without line breaks (JSON has none). */
void sse_add(struct buf *out, struct slice data);

/* Bytes in, events out.  Comments, ids and retry times are dropped; several data lines of an event
 * are joined by \n.  Line ends: \n, \r\n or \r, also when cut between two feeds. */
struct sse_reader {
    struct buf line, data;
    char event[64]; /* type of the event being read, "" when not given */
    bool is_after_return;
    bool has_data;
    void (*each)(void *arg, const char *event, struct slice data);
    void *arg;
};
void sse_reader_init(struct sse_reader *r,
                     void (*each)(void *arg, const char *event, struct slice data), void *arg);
void sse_reader_release(struct sse_reader *r);
/* E_LIMIT: an event beyond SSE_EVENT_BYTES_MAX. */
NODISCARD enum status sse_reader_feed(struct sse_reader *r, struct slice bytes);

#endif
