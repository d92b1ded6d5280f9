/* SPDX-License-Identifier: MIT
 * json_stream.h — one JSON value as it arrives piece by piece: where it ends, whether it still can
 * be JSON, and what would complete it. For:    values that a model writes, passed on while they
 * grow.   Not for: reading them (json.h). Control characters inside strings, which models do write,
 * are passed on as escapes. A zeroed struct is a fresh one.  Thread: one owner. */
#ifndef KVASIR_TEXT_JSON_STREAM_H
#define KVASIR_TEXT_JSON_STREAM_H

#include "text/json.h"

struct json_stream {
    uint8_t state; /* json_stream.c */
    uint8_t n_hex;
    bool is_key; /* the string being read is one */
    uint32_t depth;
    char closers[JSON_DEPTH_MAX];
    const char *literal; /* what is missing of true, false, null */
};

enum json_stream_result {
    JSON_STREAM_MORE, /* all of text was taken */
    JSON_STREAM_DONE, /* the value ends behind *used */
    JSON_STREAM_BAD   /* text[*used] can't follow */
};
/* Appends what it takes to out.  A number at depth 0 ends at the first byte behind it. */
enum json_stream_result json_stream_feed(struct json_stream *s, struct slice text, size_t *used,
                                         struct buf *out);
/* The shortest end that makes what was taken a value. */
void json_stream_close(struct json_stream *s, struct buf *out);

#endif
