/* SPDX-License-Identifier: MIT
 * http_int.h — inner door: the exchange, the table of live ones, and who may touch what.
 *
 *   loop thread (libmicrohttpd)      worker, engine …            watch thread
 *   reading ──────────────▶ handling ──────▶ replying | streaming
 *   on_request (server.c)     http_reply, http_stream_*           exchange_gone
 *
 * While the answer is not there, or the stream has nothing to send, the connection is suspended; it
 * suspends itself, from its own callback only (libmicrohttpd < 1.0.3 skips connections otherwise),
 * and whoever changes the state resumes it.  x->mutex guards everything below it in the struct and
 * is held over MHD_suspend/resume_connection, so that no resume is lost. */
#ifndef KVASIR_HTTP_HTTP_INT_H
#define KVASIR_HTTP_HTTP_INT_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/ring.h"
#include "http/socket.h"
#include "os/team.h"

#define HTTP_NO_SLOT UINT32_MAX
/* libmicrohttpd's memory of one connection: header, reply head and a block of the stream. */
#define HTTP_CONNECTION_MEMORY_BYTES (HTTP_HEADER_BYTES_MAX + (16u << 10))

enum phase {
    PHASE_NEW,       /* the request line is known */
    PHASE_READING,   /* headers checked, body arriving */
    PHASE_HANDLING,  /* with a worker or beyond; suspended */
    PHASE_REPLYING,  /* a whole reply is there */
    PHASE_STREAMING, /* head is there, bytes follow */
    PHASE_UPGRADING, /* it goes on as a WebSocket: socket.c */
};

struct http_pair {
    struct slice name, value;
};

struct http_exchange {
    atomic_uint refs;           /* connection, owner of the answer, watch thread for a moment */
    struct http_server *server; /* not to be used once connection is NULL */
    uint32_t slot;              /* in the server's table */

    /* Written by the loop thread before handle() is called, read-only afterwards. */
    struct arena arena;
    struct slice method, path, query;
    struct slice authority; /* of a target that is a whole URI; else {NULL, 0} */
    struct http_pair headers[HTTP_HEADERS_MAX];
    uint32_t n_headers;
    bool is_bad_uri;
    char id[HTTP_ID_BYTES]; /* empty before the headers are known */

    bool is_upgraded; /* of the loop thread: the connection is the socket's, which ends by itself */

    pthread_mutex_t mutex;             /* guards all below */
    struct http_socket *socket_of;     /* PHASE_UPGRADING: what this became; holds x, not the other
                                          way round: valid until is_upgraded, and for a worker */
    struct MHD_Connection *connection; /* NULL once libmicrohttpd is done with it */
    int socket;                        /* open as long as there is a connection */
    enum phase phase;
    bool is_suspended;
    bool is_queued;   /* the reply's head was handed to libmicrohttpd */
    bool is_answered; /* the owner gave x back */
    bool is_gone;
    bool is_overfull; /* stream cut because the client is too slow; the watch thread tells */
    bool is_event_stream;
    struct buf body;
    uint64_t body_counted; /* of server->bodies_bytes */
    bool is_crowded;       /* no room for it among all bodies */
    uint64_t excess_bytes; /* of a body that is too large, read to nowhere */
    int status;
    const char *type;
    struct http_pair reply_headers[HTTP_REPLY_HEADERS_MAX];
    uint32_t n_reply_headers;
    struct buf out; /* the reply, or what a stream still has to send from out_at on */
    size_t out_at;
    uint64_t last_write_ns;
    void *user;
    void (*on_gone)(void *user);
    void (*on_free)(void *user);
};

struct http_server {
    struct http_options options;
    struct MHD_Daemon *daemon;
    int quiet_fd; /* the listening socket once the daemon does not use it any more; else −1 */
    char host[64];
    bool is_loopback;
    uint16_t port;
    atomic_bool is_stopping;
    atomic_bool is_handing_over; /* replies end their connections */
    atomic_uint_fast64_t bodies_bytes;
    atomic_uint_fast64_t replies[HTTP_STATUS_END - HTTP_STATUS_FIRST];

    struct ring *requests; /* exchanges for the workers */
    struct os_thread **workers;
    uint32_t n_workers;

    struct sockets *sockets;

    struct os_thread *watcher;
    int watch_epoll, watch_wake; /* eventfd */

    pthread_mutex_t table_mutex;  /* guards slots; taken before no other lock */
    struct http_exchange **slots; /* [options.connections_max] */
    uint32_t *generations;        /* counts the uses of a slot, so that a late event misses */
    uint32_t first_free;          /* slots below are in use */

    pthread_mutex_t lines_mutex; /* guards lines and what is in them; taken last */
    struct http_line *lines;     /* open connections (patience.c) */
};

/* exchange.c */
struct http_exchange *exchange_new(struct http_server *s);
void exchange_ref(struct http_exchange *x);
void exchange_unref(struct http_exchange *x);
/* The client left: tells the owner, lets the connection go on to its end. */
void exchange_gone(struct http_exchange *x);
/* x->mutex held, on the loop thread in the connection's own callback.  False when stopping. */
bool exchange_suspend(struct http_exchange *x);
void exchange_resume(struct http_exchange *x); /* x->mutex held; any thread */
/* The headers are there, good or not. */
void exchange_name(struct http_exchange *x);
/* Without an owner: the loop thread answers by itself (refusals). */
void exchange_refuse(struct http_exchange *x, int status, const char *message);
/* Loop thread, without x->mutex; the head of the answer is settled. */
enum MHD_Result exchange_queue(struct http_exchange *x);
/* Ends a stream whose client takes nothing. */
void exchange_cut(struct http_exchange *x);
void exchange_ping(struct http_exchange *x, uint64_t now_ns);

/* The body of a refusal, in the shape of whoever serves the path. */
void exchange_refusal(struct http_server *s, struct slice path, int status, const char *message,
                      struct buf *out);

/* patience.c; all but patience_look: loop thread */
void patience_notify(void *server, struct MHD_Connection *connection, void **memory,
                     enum MHD_ConnectionNotificationCode what);
void patience_line(struct http_exchange *x); /* the request line is there, … */
void patience_headers(struct http_exchange *x);
void patience_body(struct http_exchange *x, size_t n);
void patience_complete(struct http_exchange *x);
void patience_replied(struct http_exchange *x);
void patience_look(struct http_server *s, uint64_t now_ns); /* watch thread */

/* guard.c: 0, or the status and the reason to refuse with. */
int guard_headers(struct http_exchange *x, const char *version, const char **reason);
bool guard_uri(struct http_exchange *x, const char *uri);

/* listen.c */
NODISCARD enum status listen_open(const char *host, uint16_t port, int *fd, struct err *e);
NODISCARD enum status listen_name(struct http_server *s, int fd, struct err *e);

/* watch.c */
NODISCARD enum status watch_start(struct http_server *s, struct err *e);
void watch_stop(struct http_server *s);
void watch_add(struct http_exchange *x);    /* loop thread */
void watch_remove(struct http_exchange *x); /* loop thread, before the socket is closed */
void watch_forget(struct http_exchange *x); /* loop thread: its hang-up is seen elsewhere */
void watch_wake(struct http_server *s);
/* Live exchanges, each with a reference: into list [connections_max]. */
uint32_t watch_list(struct http_server *s, struct http_exchange **list);

/* socket.c */
NODISCARD enum status sockets_start(struct http_server *server, struct err *e);
void sockets_go_away(struct http_server *server); /* all begin to close, also those to come */
void sockets_stop(struct http_server *server);    /* all are closed */
void sockets_free(struct http_server *server);
struct MHD_Response *socket_response(struct http_socket *s);
void socket_work(struct http_socket *s);
void socket_abandon(struct http_socket *s); /* it was never upgraded, and will not be */

#endif
