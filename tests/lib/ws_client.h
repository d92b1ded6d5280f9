/* SPDX-License-Identifier: MIT
 * ws_client.h — a client of WebSockets that writes its frames by hand, for tests, over
 * tcp_client.h, with its patience. */
#ifndef KVASIR_TESTS_WS_CLIENT_H
#define KVASIR_TESTS_WS_CLIENT_H

#include <stdlib.h>

#include "base/buf.h"
#include "tcp_client.h"

#define WS_FRAME_MAX (64u << 20)
#define WS_ASK       "GET /%s HTTP/1.1\r\nHost: localhost\r\n"
#define WS_UPGRADE                                                                           \
    "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define WS_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* to that key: RFC 6455 §1.3 */
#define WS_TEXT   0x81u
#define WS_CLOSE  0x88u

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
    tcp_put(fd, b.ptr, b.len);
    buf_release(&b);
}

/* The next frame's payload, NUL-terminated, to be freed; NULL: the connection has ended. */
static inline char *ws_hear(int fd, unsigned *first, size_t *n)
{
    uint8_t head[10];
    if (!tcp_get(fd, head, 2))
        return NULL;
    uint64_t len = head[1];
    size_t n_more = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (!tcp_get(fd, head + 2, n_more))
        return NULL;
    if (n_more)
        len = 0;
    for (size_t i = 0; i < n_more; i++)
        len = len << 8 | head[2 + i];
    char *text = len < WS_FRAME_MAX ? malloc(len + 1) : NULL;
    if (!text || !tcp_get(fd, text, len)) {
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
