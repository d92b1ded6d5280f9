/* SPDX-License-Identifier: MIT
 * client.c — libcurl behind http_client.h, one transfer at a time.
 * The transfer is driven here and not by curl_easy_perform(), because the time of a piece is the
 * kernel's time of receipt, which must be asked for before libcurl reads the piece. */
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "base/mem.h"
#include "http/client_int.h"
#include "os/clock.h"

#define CONNECT_MS_DEFAULT 10000
#define WAIT_MS            1000
#define AGE_NS_MAX         10000000000u /* older: one of the clocks was set */

struct http_client {
    struct transfer transfer;
    CURLM *multi; /* keeps the connection for the next call */
};

static void curl_once(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void client_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, curl_once);
}

enum status http_client_new(struct http_client **out, struct err *e)
{
    client_once();
    struct http_client *c = mem_try_new(1, sizeof *c);
    if (!c)
        return err_set(e, E_NOMEM, "HTTP client");
    c->transfer.fd = CURL_SOCKET_BAD;
    c->transfer.curl = curl_easy_init();
    c->multi = curl_multi_init();
    if (!c->transfer.curl || !c->multi) {
        http_client_free(c);
        return err_set(e, E_NOMEM, "HTTP client");
    }
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    *out = c;
    return OK;
}

void http_client_free(struct http_client *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->transfer.curl);
    curl_multi_cleanup(c->multi);
    mem_free(c);
}

void http_answer_release(struct http_answer *a)
{
    buf_release(&a->headers);
    buf_release(&a->body);
    *a = (struct http_answer){0};
}

bool http_answer_header(const struct http_answer *a, const char *name, char *text, size_t size)
{
    size_t name_len = strlen(name);
    bool is_found = false;
    const char *p = a->headers.ptr, *end = p ? p + a->headers.len : NULL;
    while (p && p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((stop ? stop : end) - p);
        if (len > name_len && p[name_len] == ':' && strncasecmp(p, name, name_len) == 0) {
            const char *v = p + name_len + 1, *v_end = p + len;
            while (v < v_end && (*v == ' ' || *v == '\t'))
                v++;
            while (v_end > v && (v_end[-1] == '\r' || v_end[-1] == ' '))
                v_end--;
            snprintf(text, size, "%.*s", (int)(v_end - v), v);
            is_found = true;
        }
        p += len + 1;
    }
    return is_found;
}

/* ---- when bytes arrived ---- */
static int on_new_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    struct transfer *t = arg;
    int one = 1;
    (void)purpose;
    t->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one,
               sizeof one); /* without: the clock at reading */
    return CURL_SOCKOPT_OK;
}

static uint64_t ns_of(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

void transfer_look(struct transfer *t)
{
    char byte, control[CMSG_SPACE(sizeof(struct timespec)) + 64];
    struct iovec into = {&byte, 1};
    struct msghdr m = {.msg_iov = &into,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    t->arrived_ns = 0;
    if (t->fd == CURL_SOCKET_BAD || recvmsg(t->fd, &m, MSG_PEEK | MSG_DONTWAIT) <= 0)
        return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        struct timespec stamp, now;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
        clock_gettime(CLOCK_REALTIME, &now); /* which is the stamp's clock */
        uint64_t age = ns_of(&now) - ns_of(&stamp);
        if (age <= AGE_NS_MAX)
            t->arrived_ns = clock_now_ns() - age;
    }
}

static double ms_of(const struct transfer *t)
{
    uint64_t at = t->arrived_ns > t->start_ns ? t->arrived_ns : clock_now_ns();
    return (double)(at - t->start_ns) * 1e-6;
}

static size_t on_header(char *bytes, size_t one, size_t n, void *arg)
{
    struct transfer *t = arg;
    if (t->answer->head_ms == 0)
        t->answer->head_ms = ms_of(t);
    buf_add(&t->answer->headers, bytes, one * n);
    return t->answer->headers.failed ? 0 : n;
}

static size_t on_bytes(char *bytes, size_t one, size_t n, void *arg)
{
    struct transfer *t = arg;
    double at_ms = ms_of(t);
    n *= one;
    if (t->answer->first_body_ms == 0)
        t->answer->first_body_ms = at_ms;
    t->answer->body_bytes += n;
    if (t->call->chunk) {
        t->is_refused = !t->call->chunk(t->call->arg, (struct slice){bytes, n}, at_ms);
        return t->is_refused ? 0 : n;
    }
    buf_add(&t->answer->body, bytes, n);
    return t->answer->body.failed ? 0 : n;
}

static void set_options(struct transfer *t)
{
    CURL *h = t->curl;
    const struct http_call *call = t->call;
    curl_easy_reset(h); /* keeps the connection */
    curl_easy_setopt(h, CURLOPT_URL, call->url);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    if (!call->uses_proxy)
        curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, call->redirects_max ? 1L : 0L);
    curl_easy_setopt(h, CURLOPT_MAXREDIRS, (long)call->redirects_max);
    if (call->idle_s_max) {
        curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)call->idle_s_max);
    }
    curl_easy_setopt(h, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(h, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
    curl_easy_setopt(h, CURLOPT_SOCKOPTDATA, t);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "kvasir/" KVASIR_VERSION);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(call->connect_ms_max ? call->connect_ms_max : CONNECT_MS_DEFAULT));
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)call->total_ms_max);
    if (call->body.ptr) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, call->body.ptr);
    }
    if (call->method && strcmp(call->method, "HEAD") == 0)
        curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    else if (call->method)
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, t);
}

/* "Expect:" first: libcurl would wait a second for a 100 before sending a larger body. */
static enum status make_headers(const struct http_call *call, struct curl_slist **out)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    bool has_type = false, is_ok = list != NULL;
    for (size_t i = 0; is_ok && call->headers && call->headers[i]; i++) {
        has_type |= strncasecmp(call->headers[i], "content-type:", 13) == 0;
        struct curl_slist *more = curl_slist_append(list, call->headers[i]);
        is_ok = more != NULL;
    }
    if (is_ok && call->body.ptr && !has_type)
        is_ok = curl_slist_append(list, "Content-Type: application/json") != NULL;
    if (!is_ok) {
        curl_slist_free_all(list);
        return E_NOMEM;
    }
    *out = list;
    return OK;
}

static enum status explain(const struct transfer *t, CURLcode rc, struct err *e)
{
    const char *why = t->error[0] ? t->error : curl_easy_strerror(rc);
    if (t->is_refused)
        return err_set(e, E_CANCELLED, "%s: hung up", t->call->url);
    if (t->answer->body.failed || t->answer->headers.failed)
        return err_set(e, E_LIMIT, "%s: the reply is too large", t->call->url);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return err_set(e, E_LIMIT, "%s: %s", t->call->url, why);
    if (rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL)
        return err_set(e, E_INVALID, "%s: %s", t->call->url, why);
    return err_set(e, E_IO, "%s: %s", t->call->url, why);
}

enum status transfer_begin(struct transfer *t, const struct http_call *call,
                           struct http_answer *answer, struct err *e)
{
    *t = (struct transfer){.call = call, .answer = answer, .curl = t->curl, .fd = t->fd};
    *answer = (struct http_answer){0};
    buf_init(&answer->headers, HTTP_CLIENT_HEADERS_MAX);
    buf_init(&answer->body, call->reply_bytes_max ? call->reply_bytes_max : HTTP_CLIENT_REPLY_MAX);
    if (make_headers(call, &t->headers) != OK)
        return err_set(e, E_NOMEM, "HTTP headers");
    set_options(t);
    t->start_ns = clock_now_ns();
    return OK;
}

enum status transfer_end(struct transfer *t, CURLcode rc, struct err *e)
{
    long status = 0;
    double connect_s = 0;
    t->answer->total_ms = clock_ms_since(t->start_ns);
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->curl, CURLINFO_CONNECT_TIME, &connect_s);
    t->answer->status = (int)status;
    t->answer->connect_ms = connect_s * 1e3;
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    return rc == CURLE_OK ? OK : explain(t, rc, e);
}

static bool is_cancelled(struct transfer *t)
{
    if (t->call->is_cancelled && atomic_load(t->call->is_cancelled))
        t->is_refused = true;
    return t->is_refused;
}

/* One step at a time, so that transfer_look() comes between the wait and the reading. */
static CURLcode perform(struct http_client *c)
{
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    int running = 1, left;
    if (curl_multi_add_handle(c->multi, c->transfer.curl) != CURLM_OK)
        return rc;
    CURLMcode step = curl_multi_perform(c->multi, &running);
    while (step == CURLM_OK && running) {
        step = curl_multi_poll(c->multi, NULL, 0, WAIT_MS, NULL);
        transfer_look(&c->transfer);
        if (is_cancelled(&c->transfer))
            break;
        if (step == CURLM_OK)
            step = curl_multi_perform(c->multi, &running);
    }
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left)) != NULL;)
        if (m->msg == CURLMSG_DONE)
            rc = m->data.result;
    curl_multi_remove_handle(c->multi, c->transfer.curl);
    return rc;
}

enum status http_client_call(struct http_client *c, const struct http_call *call,
                             struct http_answer *answer, struct err *e)
{
    enum status st = transfer_begin(&c->transfer, call, answer, e);
    if (st != OK)
        return st;
    return transfer_end(&c->transfer, perform(c), e);
}
