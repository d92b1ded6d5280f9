/* SPDX-License-Identifier: MIT
 * raw.h — bytes to a server and what comes back, as they are: for requests that no HTTP library
 * would send, and for times that no library should be part of. Order:  raw_connect → (raw_send →
 * raw_read_reply)* → raw_close.  Thread: one at a time. */
#ifndef KVASIR_BENCH_CLIENT_RAW_H
#define KVASIR_BENCH_CLIENT_RAW_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#define RAW_REPLY_MAX (64u << 20)

/* url: "http://127.0.0.1:PORT", as serve.h has it.  E_IO. */
NODISCARD enum status raw_connect(const char *url, int *fd, struct err *e);
/* All of it, or E_IO: the other side does not take it (within 10 s). */
NODISCARD enum status raw_send(int fd, struct slice bytes, struct err *e);
void raw_close(int fd);
/* Not a goodbye but a reset: what was not read is thrown away on both sides. */
void raw_reset(int fd);

struct raw_reply {
    int status;           /* 0: no reply came */
    struct buf head;      /* with the blank line */
    struct buf body;      /* without the marks of its chunks */
    bool is_whole;        /* the body came to its end */
    bool is_closed;       /* the other side closed the connection */
    const char *until;    /* set before: note when this was first there … */
    uint64_t until_at_ns; /* … here; 0: never */
};
void raw_reply_init(struct raw_reply *r);
void raw_reply_release(struct raw_reply *r);
/* Reads one reply, to its end, to the end of the connection, or for ms.  E_SYNTAX: not HTTP;
 * E_LIMIT: more than RAW_REPLY_MAX. */
NODISCARD enum status raw_read_reply(int fd, uint32_t ms, struct raw_reply *r, struct err *e);

#endif
