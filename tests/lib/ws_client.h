/* SPDX-License-Identifier: MIT
 * ws_client.h — a client of WebSockets that writes its frames by hand, for tests: it blocks, but
 * for no longer than WS_WAIT_MS, and checks nothing. */
#ifndef KVASIR_TESTS_WS_CLIENT_H
#define KVASIR_TESTS_WS_CLIENT_H

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

#define WS_WAIT_MS   5000
#define WS_FRAME_MAX (64u << 20)
#define WS_ASK       "GET /%s HTTP/1.1\r\nHost: localhost\r\n"
#define WS_UPGRADE                                                                           \
    "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define WS_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* to that key: RFC 6455 §1.3 */
#define WS_TEXT   0x81u
#define WS_CLOSE  0x88u

/* −1: nobody listens. */
static inline int ws_dial(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline void ws_put(int fd, const void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t m = send(fd, (const char *)bytes + at, n - at, MSG_NOSIGNAL);
        if (m <= 0)
            return; /* the server has seen enough */
        at += (size_t)m;
    }
}

/* False: the end, or nothing came in time. */
static inline bool ws_get(int fd, void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t m = poll(&p, 1, WS_WAIT_MS) == 1 ? recv(fd, (char *)bytes + at, n - at, 0) : 0;
        if (m <= 0)
            return false;
        at += (size_t)m;
    }
    return true;
}

/* Of a reply, up to the empty line; valid until the next call. */
static inline const char *ws_read_head(int fd)
{
    static char head[4096];
    size_t n = 0;
    head[0] = '\0';
    while (n < sizeof head - 1 && ws_get(fd, head + n, 1)) {
        head[++n] = '\0';
        if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    return head;
}

/* A masked frame; first: FIN, RSV, opcode. */
static inline void ws_frame(struct buf *b, unsigned first, struct slice payload)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t n_len = payload.len < 126 ? 0 : payload.len < 65536 ? 2 : 8;
    buf_add_char(b, (char)first);
    buf_add_char(b, (char)(0x80 | (n_len == 0 ? payload.len : n_len == 2 ? 126 : 127)));
    for (size_t i = n_len; i > 0; i--)
        buf_add_char(b, (char)((uint64_t)payload.len >> 8 * (i - 1)));
    buf_add(b, mask, 4);
    for (size_t i = 0; i < payload.len; i++)
        buf_add_char(b, (char)((uint8_t)payload.ptr[i] ^ mask[i & 3]));
}

static inline void ws_say(int fd, unsigned first, struct slice payload)
{
    struct buf b;
    buf_init(&b, WS_FRAME_MAX);
    ws_frame(&b, first, payload);
    ws_put(fd, b.ptr, b.len);
    buf_release(&b);
}

/* The next frame's payload, NUL-terminated, to be freed; NULL: the connection has ended. */
static inline char *ws_hear(int fd, unsigned *first, size_t *n)
{
    uint8_t head[10];
    if (!ws_get(fd, head, 2))
        return NULL;
    uint64_t len = head[1];
    size_t n_more = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (!ws_get(fd, head + 2, n_more))
        return NULL;
    if (n_more)
        len = 0;
    for (size_t i = 0; i < n_more; i++)
        len = len << 8 | head[2 + i];
    char *text = len < WS_FRAME_MAX ? malloc(len + 1) : NULL;
    if (!text || !ws_get(fd, text, len)) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    *first = head[0];
    *n = len;
    return text;
}

/* Reads to the end and closes.  The code of the close frame; 0: there was none. */
static inline unsigned ws_end(int fd)
{
    unsigned first = 0, code = 0;
    size_t n = 0;
    for (char *text; (text = ws_hear(fd, &first, &n)); free(text))
        if (first == WS_CLOSE && n >= 2)
            code = (unsigned)((uint8_t)text[0] << 8 | (uint8_t)text[1]);
    close(fd);
    return code;
}

#endif
