/* SPDX-License-Identifier: MIT
 * listen.c — the listening socket: our own, so that errors can be told and port 0 can be asked. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/http_int.h"

#define LISTEN_BACKLOG 511

static int open_one(const struct addrinfo *a)
{
    int on = 1, off = 0;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* A restart must not wait for the old connections' TIME_WAIT. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6) /* "::" takes IPv4 too */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;
    int sys = errno;
    close(fd);
    errno = sys;
    return -1;
}

enum status listen_open(const char *host, uint16_t port, int *out, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1"; /* what clients try that can't do IPv6; never an outside address */
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0)
        return err_set(e, E_NOT_FOUND, "host %s: %s", host, gai_strerror(rc));
    int fd = -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = open_one(a);
    int sys = errno;
    freeaddrinfo(found);
    if (fd < 0 && sys == EADDRINUSE)
        return err_set(e, E_BUSY, "port %u of %s is in use; choose another one or 0", port, host);
    if (fd < 0)
        return err_sys(e, sys, "listen on %s port %u", host, port);
    *out = fd;
    return OK;
}

enum status listen_name(struct http_server *s, int fd, struct err *e)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char text[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        return err_sys(e, errno, "getsockname");
    if (a.ss_family == AF_INET6) {
        const struct sockaddr_in6 *a6 = (const void *)&a;
        inet_ntop(AF_INET6, &a6->sin6_addr, text, sizeof text);
        snprintf(s->host, sizeof s->host, "[%s]", text);
        s->port = ntohs(a6->sin6_port);
        s->is_loopback = IN6_IS_ADDR_LOOPBACK(&a6->sin6_addr);
    } else {
        const struct sockaddr_in *a4 = (const void *)&a;
        inet_ntop(AF_INET, &a4->sin_addr, s->host, sizeof s->host);
        s->port = ntohs(a4->sin_port);
        s->is_loopback = ntohl(a4->sin_addr.s_addr) >> 24 == 127;
    }
    return OK;
}
