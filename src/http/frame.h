/* SPDX-License-Identifier: MIT
 * frame.h — WebSocket frames (RFC 6455): bytes ↔ messages, without a socket.
 * For:     socket.c.   Not for: what messages mean.
 * Takes what a client may send: masked frames without extensions; text, its continuations, control
 * frames between them.  Binary messages are refused (1003): no dialect here has any.
 * Order:   frame_reader_init → frame_read* → frame_reader_release.   Thread: one at a time. */
#ifndef KVASIR_HTTP_FRAME_H
#define KVASIR_HTTP_FRAME_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#define FRAME_CONTROL_BYTES_MAX 125u /* RFC 6455 §5.5 */
#define FRAME_HEAD_BYTES_MAX    14u
#define FRAME_ACCEPT_BYTES      29u         /* base64 of SHA-1, and NUL */
#define FRAME_PIECES_MAX        65536u      /* frames of one message */
#define FRAME_KEEP_BYTES        (64u << 10) /* of memory for messages, between them */

/* RFC 6455 §7.4.1 */
enum frame_close {
    CLOSE_NORMAL = 1000,
    CLOSE_GOING_AWAY = 1001,
    CLOSE_PROTOCOL = 1002,
    CLOSE_UNSUPPORTED = 1003,
    CLOSE_NONE = 1005, /* never on the wire: the peer gave no code */
    CLOSE_NOT_UTF8 = 1007,
    CLOSE_POLICY = 1008,
    CLOSE_TOO_BIG = 1009,
    CLOSE_INTERNAL = 1011,
};

enum frame_kind {
    FRAME_NOTHING, /* more bytes are needed */
    FRAME_TEXT,    /* a whole message, UTF-8 */
    FRAME_PING,
    FRAME_PONG,
    FRAME_CLOSE, /* code: the peer's */
    FRAME_BROKEN /* code: to close with; nothing can be read any more */
};

struct frame_event {
    enum frame_kind kind;
    struct slice payload; /* of text, ping, pong; valid until the next call */
    uint16_t code;
};

struct frame_reader {
    struct buf message; /* the one being read */
    size_t seen;        /* bytes of it known to be UTF-8 */
    uint32_t n_pieces;
    bool is_text;  /* a message has begun */
    bool is_given; /* the message was handed out: forget it */
    bool is_broken;
    uint8_t head[FRAME_HEAD_BYTES_MAX];
    uint32_t n_head; /* bytes of the head that are there */
    bool has_head;
    uint64_t left, at; /* payload bytes to come, and how many came */
    uint8_t control[FRAME_CONTROL_BYTES_MAX];
};

/* A message beyond message_bytes_max ends the connection with 1009. */
void frame_reader_init(struct frame_reader *r, size_t message_bytes_max);
void frame_reader_release(struct frame_reader *r);
/* The next event in *bytes, which is advanced behind it; FRAME_NOTHING: all were taken. */
struct frame_event frame_read(struct frame_reader *r, struct slice *bytes);
/* The message that was handed out last is not needed any more: a large one gives its memory back.
 */
void frame_reader_rest(struct frame_reader *r);

/* What a server sends: one unmasked frame each. */
void frame_write_text(struct buf *out, struct slice text);
void frame_write_ping(struct buf *out);
void frame_write_pong(struct buf *out, struct slice payload);
/* reason: cut to what a control frame holds.  CLOSE_NONE: without a code. */
void frame_write_close(struct buf *out, uint16_t code, const char *reason);

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key.  False: not 16 bytes in base64. */
bool frame_accept(struct slice key, char out[FRAME_ACCEPT_BYTES]);

#endif
