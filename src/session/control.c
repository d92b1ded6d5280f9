/* SPDX-License-Identifier: MIT
 * control.c — both ends of the control socket. */
#include "session/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/team.h"

#define SOCKET_NAME "control"
#define READ_BYTES  65536u
#define ARENA_BYTES (16u << 20)
#define BACKLOG     16

/* A path of a socket has 107 bytes: go through the folder's descriptor, which has a short name. */
static enum status address_of(const char *dir, struct sockaddr_un *a, int *dir_fd, struct err *e)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    *dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return err_sys(e, errno, "%s", dir);
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/" SOCKET_NAME, *dir_fd);
    return OK;
}

static void set_timeout(int fd, int option, uint32_t ms)
{
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, option, &t, sizeof t);
}

static bool send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* ---- one request ---- */
static void write_failure(struct buf *out, enum status st, const char *message)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_object(&w);
    jw_key(&w, "ok");
    jw_bool(&w, false);
    jw_key(&w, "status");
    jw_text(&w, status_name(st));
    jw_key(&w, "message");
    jw_text(&w, message);
    jw_end_object(&w);
}

static enum status tenant_of(const struct control_options *o, const struct json *request,
                             uint32_t *tenant, struct err *e)
{
    const struct json *v = json_get(request, "tenant");
    *tenant = 0;
    if (!v || v->kind == JSON_NULL)
        return OK;
    if (v->kind != JSON_STRING)
        return err_set(e, E_INVALID, "\"tenant\" must be a string");
    return sessions_find_tenant(o->sessions, v->text, tenant, e);
}

static enum status run(const struct control_options *o, const struct json *request,
                       struct control_peer *peer, struct buf *out, struct err *e)
{
    uint32_t tenant;
    const struct json *op = json_get(request, "op");
    if (request->kind != JSON_OBJECT || !op || op->kind != JSON_STRING)
        return err_set(e, E_INVALID, "a request is an object with an \"op\"");
    enum status st = tenant_of(o, request, &tenant, e);
    if (st != OK)
        return st;
    if (slice_is(op->text, "gc")) {
        st = o->store ? store_collect(o->store, e) : err_set(e, E_UNSUPPORTED, "no store");
        if (st == OK)
            buf_add_text(out, "{}");
        return st;
    }
    st = o->extra ? o->extra(o->arg, tenant, request, peer, out, e) : E_UNSUPPORTED;
    return st == E_UNSUPPORTED ? sessions_command(o->sessions, tenant, request, out, e) : st;
}

void control_answer(const struct control_options *o, struct slice line, struct control_peer *peer,
                    struct buf *out)
{
    struct arena a;
    struct json *request;
    struct err e = {0};
    struct buf answer;
    arena_init(&a, ARENA_BYTES);
    buf_init(&answer, CONTROL_ANSWER_MAX);
    peer->give_fd = -1;
    enum status st = json_parse(line, &a, &request, &e);
    if (st == OK)
        st = run(o, request, peer, &answer, &e);
    if (st == OK && answer.failed)
        st = err_set(&e, E_LIMIT, "the answer is too long; ask for less");
    if (st == OK) {
        buf_add_text(out, "{\"ok\":true,\"answer\":");
        buf_add_slice(out, buf_slice(&answer));
        buf_add_char(out, '}');
    } else {
        write_failure(out, st, e.msg[0] ? e.msg : status_text(st));
    }
    buf_add_char(out, '\n');
    buf_release(&answer);
    arena_release(&a);
}

/* ---- the server ---- */
struct control_worker {
    struct control *control;
    struct os_thread *thread;
    int fd; /* under the mutex: the connection it serves, −1: none */
};
struct control {
    struct control_options options;
    char *dir;
    int listen_fd, stop_fd;
    struct stat socket_file; /* so that a successor's is not unlinked */
    pthread_mutex_t mutex;   /* guards workers[].fd and is_stopping */
    bool is_stopping;
    struct control_worker workers[CONTROL_THREADS];
};

/* Reads up to the newline; *n_line: of it.  False: too long, too slow, gone. */
static bool read_line(int fd, struct buf *b, size_t *n_line)
{
    for (;;) {
        const char *end = b->len ? memchr(b->ptr, '\n', b->len) : NULL;
        if (end) {
            *n_line = (size_t)(end - b->ptr);
            return true;
        }
        char *to = b->len < CONTROL_LINE_MAX ? buf_reserve(b, READ_BYTES) : NULL;
        ssize_t n = to ? recv(fd, to, READ_BYTES, 0) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        b->len += (size_t)n;
    }
}

/* The answer; the first byte carries the descriptor. */
static void reply(int fd, const struct buf *out, int give_fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec io = {out->ptr, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    if (out->failed || out->len < 1)
        return;
    if (give_fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &give_fd, sizeof give_fd);
    }
    if (sendmsg(fd, &m, MSG_NOSIGNAL) == 1 && !send_all(fd, out->ptr + 1, out->len - 1))
        log_debug("control", "nobody read the answer");
}

static bool is_ours(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void serve(struct control *c, int fd)
{
    struct buf in, out;
    size_t n_line;
    buf_init(&in, CONTROL_LINE_MAX + READ_BYTES + 1);
    buf_init(&out, CONTROL_ANSWER_MAX + 1024);
    set_timeout(fd, SO_RCVTIMEO, CONTROL_LINE_MS);
    set_timeout(fd, SO_SNDTIMEO, CONTROL_BODY_MS);
    if (is_ours(fd) && read_line(fd, &in, &n_line)) {
        struct control_peer peer = {
            .fd = fd, .started = {in.ptr + n_line + 1, in.len - n_line - 1}, .give_fd = -1};
        set_timeout(fd, SO_RCVTIMEO, CONTROL_BODY_MS);
        control_answer(&c->options, (struct slice){in.ptr, n_line}, &peer, &out);
        reply(fd, &out, peer.give_fd);
    }
    buf_release(&in);
    buf_release(&out);
}

static int take_connection(struct control_worker *w)
{
    struct control *c = w->control;
    struct pollfd wait[] = {{.fd = c->listen_fd, .events = POLLIN},
                            {.fd = c->stop_fd, .events = POLLIN}};
    if (poll(wait, 2, -1) < 0 && errno != EINTR)
        return -1;
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC); /* another may have been faster */
    pthread_mutex_lock(&c->mutex);
    if (c->is_stopping && fd >= 0) {
        close(fd);
        fd = -1;
    }
    w->fd = fd;
    pthread_mutex_unlock(&c->mutex);
    return fd;
}

static void worker(void *arg)
{
    struct control_worker *w = arg;
    struct control *c = w->control;
    for (;;) {
        int fd = take_connection(w);
        pthread_mutex_lock(&c->mutex);
        bool is_over = c->is_stopping;
        pthread_mutex_unlock(&c->mutex);
        if (fd >= 0)
            serve(c, fd);
        pthread_mutex_lock(&c->mutex);
        w->fd = -1;
        pthread_mutex_unlock(&c->mutex);
        if (fd >= 0)
            close(fd);
        if (is_over)
            return;
    }
}

static enum status listen_at(struct control *c, struct err *e)
{
    struct sockaddr_un a;
    int dir_fd;
    enum status st = address_of(c->dir, &a, &dir_fd, e);
    if (st != OK)
        return st;
    c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Whoever had it is gone: this process has the store's lock. */
    unlinkat(dir_fd, SOCKET_NAME, 0);
    bool ok = c->listen_fd >= 0 && fchmod(c->listen_fd, 0600) == 0 &&
              bind(c->listen_fd, (const struct sockaddr *)&a, sizeof a) == 0 &&
              fchmodat(dir_fd, SOCKET_NAME, 0600, 0) == 0 &&
              fstatat(dir_fd, SOCKET_NAME, &c->socket_file, AT_SYMLINK_NOFOLLOW) == 0 &&
              listen(c->listen_fd, BACKLOG) == 0;
    if (!ok)
        st = err_sys(e, errno, "%s/" SOCKET_NAME, c->dir);
    close(dir_fd);
    return st;
}

enum status control_start(const struct control_options *options, struct control **out,
                          struct err *e)
{
    struct control *c = mem_try_new(1, sizeof *c);
    if (!c)
        return err_set(e, E_NOMEM, "control socket");
    c->options = *options;
    c->dir = mem_text(options->dir, strlen(options->dir));
    c->options.dir = c->dir;
    c->listen_fd = -1;
    pthread_mutex_init(&c->mutex, NULL);
    c->stop_fd = eventfd(0, EFD_CLOEXEC);
    enum status st = c->stop_fd < 0 ? err_sys(e, errno, "control socket") : listen_at(c, e);
    for (uint32_t i = 0; st == OK && i < CONTROL_THREADS; i++) {
        c->workers[i] = (struct control_worker){.control = c, .fd = -1};
        st = thread_start("control", worker, &c->workers[i], &c->workers[i].thread, e);
    }
    if (st == OK)
        *out = c;
    else
        control_stop(c);
    return st;
}

static void unlink_own(const struct control *c)
{
    struct stat now;
    int dir_fd = open(c->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0 && fstatat(dir_fd, SOCKET_NAME, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
        now.st_ino == c->socket_file.st_ino && now.st_dev == c->socket_file.st_dev)
        unlinkat(dir_fd, SOCKET_NAME, 0);
    if (dir_fd >= 0)
        close(dir_fd);
}

void control_stop(struct control *c)
{
    if (!c)
        return;
    uint64_t one = 1;
    pthread_mutex_lock(&c->mutex);
    c->is_stopping = true;
    for (uint32_t i = 0; i < CONTROL_THREADS; i++)
        if (c->workers[i].thread && c->workers[i].fd >= 0)
            shutdown(c->workers[i].fd, SHUT_RD); /* an answer that is due may still go out */
    pthread_mutex_unlock(&c->mutex);
    if (c->stop_fd >= 0 && write(c->stop_fd, &one, sizeof one) != sizeof one)
        log_warn("control", "the threads were not woken");
    for (uint32_t i = 0; i < CONTROL_THREADS; i++)
        if (c->workers[i].thread)
            thread_join(c->workers[i].thread);
    if (c->listen_fd >= 0) {
        unlink_own(c);
        close(c->listen_fd);
    }
    if (c->stop_fd >= 0)
        close(c->stop_fd);
    pthread_mutex_destroy(&c->mutex);
    mem_free(c->dir);
    mem_free(c);
}

/* ---- the client ---- */
static enum status connect_to(const char *dir, int *fd, bool *is_nobody, struct err *e)
{
    struct sockaddr_un a;
    int dir_fd;
    enum status st = address_of(dir, &a, &dir_fd, e);
    if (st != OK) {
        *is_nobody = st == E_NOT_FOUND;
        return st;
    }
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || connect(*fd, (const struct sockaddr *)&a, sizeof a) != 0) {
        *is_nobody = *fd >= 0 && (errno == ENOENT || errno == ECONNREFUSED);
        st = err_sys(e, errno, "%s/" SOCKET_NAME, dir);
        if (*fd >= 0)
            close(*fd);
    }
    close(dir_fd);
    return st;
}

/* Until its end; a server that has answered already stops reading, which is no failure here. */
static enum status send_file(int fd, int in_fd, struct err *e)
{
    char bytes[READ_BYTES];
    for (;;) {
        ssize_t n = read(in_fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "stdin");
        if (n == 0 || !send_all(fd, bytes, (size_t)n))
            return OK;
    }
}

static enum status read_answer(int fd, struct buf *in, int *got_fd, struct err *e)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    for (;;) {
        char *to = buf_reserve(in, READ_BYTES);
        struct iovec io = {to, READ_BYTES};
        struct msghdr m = {.msg_iov = &io,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
        if (!to)
            return err_set(e, E_LIMIT, "the server's answer is too long");
        ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "the server does not answer");
        const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
            int taken;
            memcpy(&taken, CMSG_DATA(c), sizeof taken);
            if (got_fd && *got_fd < 0)
                *got_fd = taken;
            else
                close(taken);
        }
        if (n == 0)
            return in->len ? OK : err_set(e, E_IO, "the server went away");
        in->len += (size_t)n;
    }
}

static enum status status_of(struct slice name)
{
    for (int st = 0; st < STATUS_COUNT; st++)
        if (slice_is(name, status_name((enum status)st)))
            return (enum status)st;
    return E_IO;
}

static enum status take_answer(struct slice text, struct buf *answer, struct err *e)
{
    struct arena a;
    struct json *v;
    arena_init(&a, 1u << 30);
    enum status st = json_parse(text, &a, &v, e);
    const struct json *ok = st == OK ? json_get(v, "ok") : NULL;
    const struct json *status = st == OK ? json_get(v, "status") : NULL;
    const struct json *message = st == OK ? json_get(v, "message") : NULL;
    const struct json *body = st == OK ? json_get(v, "answer") : NULL;
    if (st == OK && ok && ok->kind == JSON_BOOL && ok->boolean && body)
        json_write(answer, body, (struct json_style){.is_compact = true});
    else if (st == OK && status && status->kind == JSON_STRING && message &&
             message->kind == JSON_STRING)
        st = err_set(e, status_of(status->text), SLICE_FMT, SLICE_ARG(message->text));
    else if (st == OK)
        st = err_set(e, E_SYNTAX, "the server's answer makes no sense");
    arena_release(&a);
    return st;
}

enum status control_call(const char *dir, struct slice request, int in_fd, struct buf *answer,
                         int *got_fd, bool *is_nobody, struct err *e)
{
    int fd = -1;
    struct buf in;
    *is_nobody = false;
    if (got_fd)
        *got_fd = -1;
    enum status st = connect_to(dir, &fd, is_nobody, e);
    if (st != OK)
        return st;
    buf_init(&in, CONTROL_ANSWER_MAX + READ_BYTES + 1024);
    set_timeout(fd, SO_RCVTIMEO, CONTROL_ANSWER_MS);
    if (!send_all(fd, request.ptr, request.len) || !send_all(fd, "\n", 1))
        st = err_sys(e, errno, "the server does not listen");
    if (st == OK && in_fd >= 0)
        st = send_file(fd, in_fd, e);
    shutdown(fd, SHUT_WR);
    if (st == OK)
        st = read_answer(fd, &in, got_fd, e);
    if (st == OK)
        st = take_answer(buf_slice(&in), answer, e);
    close(fd);
    buf_release(&in);
    return st;
}
