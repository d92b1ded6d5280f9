/* SPDX-License-Identifier: MIT
 * http.h — an HTTP/1.1 server: whole requests in, whole replies or streams out.
 * For:     server (glue).   Not for: models, APIs, JSON.   Inside: libmicrohttpd, which no one else
 * sees. Threads: one loop thread owns the sockets; one watch thread sees clients hang up (also
 * while their connection is suspended) and keeps idle event streams alive; a small pool of workers
 * runs `handle`.  All http_* calls on an exchange are for any thread, one at a time per exchange.
 * Order:   http_server_start → (handle(x) → [http_attach] → http_reply
 *                                        | http_stream_begin → http_stream_write* →
 * http_stream_end)* → http_server_stop. Life:    the answer may come later, from another thread.
 * http_reply and http_stream_end give x back: after them it must not be touched.  x outlives the
 * connection, and the server, until then; writing to a client that left is harmless. Guards:  two
 * Content-Lengths, Content-Length beside Transfer-Encoding, NUL bytes, two Hosts → 400; headers
 * over HTTP_HEADER_BYTES_MAX → 431; bodies over body_bytes_max → 413; see guard.c. */
#ifndef KVASIR_HTTP_HTTP_H
#define KVASIR_HTTP_HTTP_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#define HTTP_HEADER_BYTES_MAX  (16u << 10)
#define HTTP_HEADERS_MAX       100u /* of a request */
#define HTTP_REPLY_HEADERS_MAX 24u  /* added by http_add_header */
#define HTTP_CONNECTIONS_MAX   65536u
#define HTTP_ID_BYTES          129u

struct http_server;
struct http_exchange;

struct http_options {
    const char *host; /* name or address to bind */
    uint16_t port;    /* 0: a free one, see http_server_port */
    int listen_fd;    /* > 0: this socket, which listens already, instead of host and port; taken */
    uint32_t connections_max, connections_per_ip_max;
    uint32_t idle_s; /* a connection that neither sends nor takes bytes for so long is closed;
                        waiting for our answer does not count */
    uint32_t head_s; /* a request's headers arrive within this, else 408 … */
    uint32_t body_rate_min; /* … and its body at no fewer bytes a second, after the same time */
    uint32_t ping_ms;       /* an event stream idle for so long gets a comment line */
    uint32_t n_workers;
    uint64_t body_bytes_max;
    uint64_t bodies_bytes_max; /* all bodies in memory together; beyond: 503 */
    uint64_t stream_bytes_max; /* written to a stream but not yet taken by the client */
    /* On a worker thread; must answer or arrange that somebody does. */
    void (*handle)(void *arg, struct http_exchange *x);
    /* The body of a refusal that never came to handle (413, 431, 400, 503); path may be empty.
     * NULL: OpenAI's shape. */
    void (*refuse)(void *arg, struct slice path, int status, const char *message, struct buf *out);
    void *arg;
};
struct http_options http_defaults(void);

/* *out is set before handle() is called for the first time, NULL on failure.
 * E_BUSY: the port is taken; E_DENIED, E_NOT_FOUND (no such host), E_IO, E_NOMEM. */
NODISCARD enum status http_server_start(const struct http_options *options,
                                        struct http_server **out, struct err *e);
uint16_t http_server_port(const struct http_server *s);
/* "127.0.0.1", "[::1]": the address that was bound, as it stands in a URL. */
const char *http_server_host(const struct http_server *s);
bool http_server_is_loopback(const struct http_server *s);
#define HTTP_STATUS_FIRST 100u
#define HTTP_STATUS_END   600u
struct http_counts {
    uint64_t
        replies[HTTP_STATUS_END - HTTP_STATUS_FIRST]; /* by status; streams by how they began */
    uint64_t n_connections;                           /* open now */
};
void http_server_counts(const struct http_server *s, struct http_counts *out);
/* No new connections from now on: *fd is a descriptor of the listening socket, the caller's, for
 * another process to go on with; what comes meanwhile waits in the kernel.  Replies from now on end
 * their connections.  E_IO. */
NODISCARD enum status http_server_hand_over(struct http_server *s, int *fd, struct err *e);
/* No new connections; waits until the open requests were answered to the last byte, or for ms. */
void http_server_drain(struct http_server *s, uint32_t ms);
/* Waits for running handle() calls, cuts what is still open (http_on_gone fires), frees. */
void http_server_stop(struct http_server *s);

/* ---- the request; slices live until x is given back ---- */
struct slice
http_method(const struct http_exchange *x);            /* HEAD comes as GET, its body is not sent */
struct slice http_path(const struct http_exchange *x); /* percent-decoded, without the query */
struct slice http_query(const struct http_exchange *x); /* as sent, without '?' */
/* First value; name in any case.  {NULL, 0} when absent. */
struct slice http_header(const struct http_exchange *x, const char *name);
struct slice http_body(const struct http_exchange *x);
/* Stands in the reply as X-Request-Id, also of a refusal: the client's own, if it has nothing that
 * a log or a header could not hold, else one of ours. */
const char *http_request_id(const struct http_exchange *x);
void http_body_drop(struct http_exchange *x); /* frees it early */

/* Ties an object of the caller to the exchange.  on_gone, at most once, when the client hung up (or
 * shut its sending side down), stopped taking bytes, or the server stops, before the answer was
 * complete; on the watch or loop thread, or at once when it already happened; it must not block.
 * on_free when nothing can call on_gone any more.  Once per exchange. */
void http_attach(struct http_exchange *x, void *user, void (*on_gone)(void *user),
                 void (*on_free)(void *user));

/* ---- the answer ---- */
/* Before http_reply or http_stream_begin.  Both are copied. */
void http_add_header(struct http_exchange *x, const char *name, const char *value);
/* Takes the bytes of body (leaves it empty) and x. */
void http_reply(struct http_exchange *x, int status, const char *type, struct buf *body);
/* With type "text/event-stream" idle times are filled with comments: write whole events. */
void http_stream_begin(struct http_exchange *x, int status, const char *type);
/* E_CANCELLED: the client is gone.  E_LIMIT: it does not take what is sent; the stream is cut and
 * on_gone follows.  Neither needs action but to stop producing. */
NODISCARD enum status http_stream_write(struct http_exchange *x, struct slice bytes);
void http_stream_end(struct http_exchange *x); /* takes x */

#endif
