/* SPDX-License-Identifier: MIT
 * tcp_client.h — a client that writes its bytes by hand, for tests: it blocks, but for no longer
 * than TCP_WAIT_MS, and checks nothing. */
#ifndef KVASIR_TESTS_TCP_CLIENT_H
#define KVASIR_TESTS_TCP_CLIENT_H

#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TCP_WAIT_MS 5000

/* −1: nobody listens. */
static inline int tcp_dial(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return fd;
    close(fd);
    return -1;
}

/* url: http://127.0.0.1:PORT */
static inline int tcp_dial_url(const char *url)
{
    return tcp_dial((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
}

static inline void tcp_put(int fd, const void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t m = send(fd, (const char *)bytes + at, n - at, MSG_NOSIGNAL);
        if (m <= 0)
            return; /* the server has seen enough */
        at += (size_t)m;
    }
}

/* False: the end, or nothing came in time. */
static inline bool tcp_get(int fd, void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t m = poll(&p, 1, TCP_WAIT_MS) == 1 ? recv(fd, (char *)bytes + at, n - at, 0) : 0;
        if (m <= 0)
            return false;
        at += (size_t)m;
    }
    return true;
}

/* Of a reply, up to the empty line; valid until the next call. */
static inline const char *tcp_read_head(int fd)
{
    static char head[4096];
    size_t n = 0;
    head[0] = '\0';
    while (n < sizeof head - 1 && tcp_get(fd, head + n, 1)) {
        head[++n] = '\0';
        if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    return head;
}

#endif
