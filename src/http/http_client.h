/* SPDX-License-Identifier: MIT
 * http_client.h — blocking HTTP calls, whole or chunk by chunk, with times taken on the wire.
 * For:     the demo, end-to-end tests, the benchmark, downloads.   Inside: libcurl.
 * Thread:  a client belongs to one thread at a time; it keeps its connection for the next call. */
#ifndef KVASIR_HTTP_HTTP_CLIENT_H
#define KVASIR_HTTP_HTTP_CLIENT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#define HTTP_CLIENT_REPLY_MAX   (256u << 20)
#define HTTP_CLIENT_HEADERS_MAX (64u << 10)

struct http_client;

NODISCARD enum status http_client_new(struct http_client **out, struct err *e);
void http_client_free(struct http_client *c);

struct http_call {
    const char *method; /* NULL: GET, or POST where there is a body */
    const char *url;
    const char *const *headers; /* "Name: value", ends with NULL; may be NULL */
    struct slice body;          /* sent as application/json unless the headers say otherwise */
    uint32_t connect_ms_max;    /* 0: 10 s */
    uint32_t total_ms_max;      /* 0: none */
    uint64_t reply_bytes_max;   /* 0: HTTP_CLIENT_REPLY_MAX; of a reply that is collected */
    uint32_t idle_s_max;        /* no byte for so long is E_LIMIT; 0: none */
    uint32_t redirects_max;     /* followed; an Authorization header stays with the first host */
    /* http_client_call looks at it ten times a second: true hangs up, whatever is awaited. */
    const atomic_bool *is_cancelled;
    bool uses_proxy; /* of the environment; else straight to the host, as one measures */
    /* Called for each piece of a body as it arrives, at_ms after the call began; false hangs up.
     * NULL: the body is collected. */
    bool (*chunk)(void *arg, struct slice bytes, double at_ms);
    void *arg;
};

struct http_answer {
    int status;
    struct buf headers;   /* as received, "Name: value\r\n" lines, of redirects too */
    struct buf body;      /* empty when chunk took it */
    double connect_ms;    /* 0 on a kept connection */
    double head_ms;       /* first byte of the reply */
    double first_body_ms; /* first byte of its body; 0: it had none */
    double total_ms;
    uint64_t body_bytes;
};
void http_answer_release(struct http_answer *a); /* a zeroed one is fine */
/* Value of the last header of that name, into text; false when absent. */
bool http_answer_header(const struct http_answer *a, const char *name, char *text, size_t size);

/* OK for any HTTP status.  E_IO: no connection, or it broke; E_CANCELLED: chunk or
 * is_cancelled said so; E_LIMIT: time or size; E_INVALID: the URL.  answer is filled as far as it
 * came, release it in any case. */
NODISCARD enum status http_client_call(struct http_client *c, const struct http_call *call,
                                       struct http_answer *answer, struct err *e);

/* ---- many calls at once, by one thread: for load that arrives on a schedule ---- */
#define HTTP_SWARM_MAX 8192u /* calls under way */

struct http_swarm;
NODISCARD enum status http_swarm_new(struct http_swarm **out, struct err *e);
void http_swarm_free(struct http_swarm *s); /* what is under way is dropped, without done() */
/* Begins a call on a connection of its own.  call and answer live until done(arg, st, e), which
 * http_swarm_run makes; st as http_client_call has it.  E_LIMIT: HTTP_SWARM_MAX, or no file
 * descriptor is left. */
NODISCARD enum status http_swarm_start(struct http_swarm *s, const struct http_call *call,
                                       struct http_answer *answer,
                                       void (*done)(void *arg, enum status st, const struct err *e),
                                       void *arg, struct err *e);
uint32_t http_swarm_count(const struct http_swarm *s); /* under way */
/* Carries all of them on until then (clock_now_ns), or until none is left under way. */
void http_swarm_run(struct http_swarm *s, uint64_t until_ns);

#endif
