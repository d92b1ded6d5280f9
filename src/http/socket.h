/* SPDX-License-Identifier: MIT
 * socket.h — WebSockets: a request of http.h that goes on as messages both ways.
 * For:     server (LM Studio's SDK speaks nothing else).   Not for: what the messages mean.
 * Threads: one socket thread reads, writes and closes all of them; messages are handed out on
 *          http's workers, one at a time for each socket, in order; nothing more is read of it
 *          meanwhile.  All calls below are for any thread.
 * Life:    http_socket_open takes the exchange.  The socket, and its user, live until it is closed
 *          and every reference was given back; sending to one that is closed is harmless.
 * Guards:  frame.h's; messages over body_bytes_max → 1009; a peer that does not take what is sent
 *          (stream_bytes_max, and a last message) is cut, and one that answers no ping for three
 *          idle times (idle_s).
 */
#ifndef KVASIR_HTTP_SOCKET_H
#define KVASIR_HTTP_SOCKET_H

#include "http/frame.h"
#include "http/http.h"

#define HTTP_SOCKET_MESSAGE_MAX (256u << 20) /* to send */

struct http_socket;

struct http_socket_user {
    void *user;
    /* A whole message; it lives during the call. */
    void (*message)(void *user, struct slice text);
    /* At most once, and at once: nobody is there any more.  Must not block. */
    void (*gone)(void *user);
    /* When none of these can be called any more. */
    void (*free)(void *user);
    uint32_t deadline_ms; /* as http_socket_deadline, from the beginning */
};

/* 0 when x asks for a WebSocket as it must, else the status to refuse with. */
int http_socket_refusal(const struct http_exchange *x, const char **reason);
/* *out is set before the first message can come; it is no reference: it lives as long as the user,
 * which may be gone when this returns.
 * E_NOMEM: x is still the caller's, and so is user. */
NODISCARD enum status http_socket_open(struct http_exchange *x, const struct http_socket_user *user,
                                       struct http_socket **out, struct err *e);
void http_socket_ref(struct http_socket *s);
void http_socket_unref(struct http_socket *s);
/* One message.  E_CANCELLED: closed or closing.  E_LIMIT: the peer is too slow; it is cut. */
NODISCARD enum status http_socket_send(struct http_socket *s, struct slice text);
/* What was sent before still goes out. */
void http_socket_close(struct http_socket *s, uint16_t code, const char *reason);
/* Closed by then with CLOSE_POLICY; 0: never.  Replaces the one before. */
void http_socket_deadline(struct http_socket *s, uint32_t ms);

#endif
