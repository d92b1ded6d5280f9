/* SPDX-License-Identifier: MIT
 * raw.c — see raw.h. */
#include "bench/client/raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/clock.h"

#define SEND_MS_MAX 10000
#define BLOCK_BYTES (64u << 10)

enum status raw_connect(const char *url, int *fd, struct err *e)
{
    char host[64];
    unsigned port;
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET};
    if (sscanf(url, "http://%63[0-9.]:%u", host, &port) != 2 || port > UINT16_MAX ||
        inet_pton(AF_INET, host, &to.sin_addr) != 1)
        return err_set(e, E_INVALID, "%s: want http://ADDRESS:PORT", url);
    to.sin_port = htons((uint16_t)port);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to) != 0) {
        enum status st = err_sys(e, errno, "connect to %s", url);
        if (s >= 0)
            close(s);
        return st;
    }
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *fd = s;
    return OK;
}

enum status raw_send(int fd, struct slice bytes, struct err *e)
{
    uint64_t start = clock_now_ns();
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            bytes = (struct slice){bytes.ptr + n, bytes.len - (size_t)n};
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_sys(e, errno, "send");
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (clock_ms_since(start) > SEND_MS_MAX || poll(&p, 1, SEND_MS_MAX) <= 0)
            return err_set(e, E_IO, "send: nobody takes it");
    }
    return OK;
}

void raw_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

void raw_reset(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

void raw_reply_init(struct raw_reply *r)
{
    *r = (struct raw_reply){0};
    buf_init(&r->head, RAW_REPLY_MAX);
    buf_init(&r->body, RAW_REPLY_MAX);
}

void raw_reply_release(struct raw_reply *r)
{
    buf_release(&r->head);
    buf_release(&r->body);
    *r = (struct raw_reply){0};
}

/* ---- reading ---- */
struct reading {
    struct raw_reply *reply;
    struct buf raw; /* of the body, as it came */
    size_t at;      /* what of it is understood */
    bool is_chunked, has_length;
    size_t length;
};

/* Value of a header, or NULL. */
static const char *header(const struct buf *head, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = head->ptr; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, name, n) == 0 && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " ");
    }
    return NULL;
}

static enum status take_head(struct reading *g, struct err *e)
{
    struct raw_reply *r = g->reply;
    const char *end = r->head.ptr ? strstr(r->head.ptr, "\r\n\r\n") : NULL;
    if (!end)
        return OK;
    size_t len = (size_t)(end - r->head.ptr) + 4;
    buf_add(&g->raw, r->head.ptr + len, r->head.len - len);
    r->head.len = len;
    r->head.ptr[len] = '\0';
    if (sscanf(r->head.ptr, "HTTP/1.%*1[01] %d", &r->status) != 1)
        return err_set(e, E_SYNTAX, "not a reply: %.60s", r->head.ptr);
    const char *length = header(&r->head, "Content-Length");
    const char *encoding = header(&r->head, "Transfer-Encoding");
    g->has_length = length != NULL;
    g->length = length ? strtoull(length, NULL, 10) : 0;
    g->is_chunked = encoding && strncasecmp(encoding, "chunked", 7) == 0;
    return OK;
}

/* Whole chunks to the body. */
static enum status take_chunks(struct reading *g, struct err *e)
{
    for (;;) {
        const char *at = g->raw.ptr + g->at, *line = strstr(at, "\r\n");
        if (g->at >= g->raw.len || !line)
            return OK;
        char *end;
        size_t n = strtoul(at, &end, 16), head = (size_t)(line - at) + 2;
        if (end != line)
            return err_set(e, E_SYNTAX, "a chunk begins with %.20s", at);
        if (g->raw.len - g->at < head + n + 2)
            return OK;
        buf_add(&g->reply->body, at + head, n);
        g->at += head + n + 2;
        if (n == 0) {
            g->reply->is_whole = true;
            return OK;
        }
    }
}

static enum status take_body(struct reading *g, struct err *e)
{
    if (g->raw.len == 0)
        g->reply->is_whole = g->has_length && g->length == 0;
    else if (g->is_chunked)
        return take_chunks(g, e);
    if (g->is_chunked || g->raw.len == 0)
        return OK;
    buf_clear(&g->reply->body);
    buf_add(&g->reply->body, g->raw.ptr, g->raw.len);
    g->reply->is_whole = g->has_length && g->raw.len >= g->length;
    return OK;
}

enum status raw_read_reply(int fd, uint32_t ms, struct raw_reply *r, struct err *e)
{
    struct reading g = {.reply = r};
    char block[BLOCK_BYTES];
    uint64_t start = clock_now_ns();
    enum status st = OK;
    buf_init(&g.raw, RAW_REPLY_MAX);
    buf_clear(&r->head);
    buf_clear(&r->body);
    r->is_whole = r->is_closed = false;
    r->status = 0;
    r->until_at_ns = 0;
    while (st == OK && !r->is_whole) {
        double left = ms - clock_ms_since(start);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)left + 1) <= 0)
            break;
        ssize_t n = recv(fd, block, sizeof block, 0);
        uint64_t now = clock_now_ns();
        if (n <= 0) {
            r->is_closed = true;
            break;
        }
        buf_add(r->status ? &g.raw : &r->head, block, (size_t)n);
        if (r->status == 0)
            st = take_head(&g, e);
        if (st == OK && r->status)
            st = take_body(&g, e);
        if (r->head.failed || g.raw.failed || r->body.failed)
            st = err_set(e, E_LIMIT, "a reply of more than %u bytes", RAW_REPLY_MAX);
        if (r->until && r->until_at_ns == 0 && r->body.ptr && strstr(r->body.ptr, r->until))
            r->until_at_ns = now;
    }
    buf_release(&g.raw);
    return st;
}
