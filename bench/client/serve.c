/* SPDX-License-Identifier: MIT
 * serve.c — see serve.h. */
#include "bench/client/serve.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "bench/client/place.h"
#include "os/clock.h"

#define READY_MS_MAX     120000u
#define READY_POLL_MS    2u
#define STOP_MS_MAX      60000u
#define OUTPUT_MAX       (16u << 20)
#define DURABLE_POLL_MS  10u
#define DURABLE_STILL_MS 200.0

static const char listening[] = "kvasir: listening on ";

/* The last line that the server wrote to stderr: why it would not start. */
static enum status ended_early(const struct serve *s, int code, struct err *e)
{
    struct buf text;
    buf_init(&text, OUTPUT_MAX);
    child_read(&s->child, CHILD_ERR, &text);
    while (text.len && text.ptr[text.len - 1] == '\n')
        text.ptr[--text.len] = '\0';
    const char *line = text.len ? strrchr(text.ptr, '\n') : NULL;
    line = line ? line + 1 : text.len ? text.ptr : "it said nothing";
    enum status st = err_set(e, E_IO, "kvasir serve ended with code %d: %s", code, line);
    buf_release(&text);
    return st;
}

static bool find_url(struct serve *s)
{
    struct buf text;
    bool is_found = false;
    buf_init(&text, OUTPUT_MAX);
    child_read(&s->child, CHILD_OUT, &text);
    const char *at = text.len ? strstr(text.ptr, listening) : NULL;
    const char *end = at ? strchr(at, '\n') : NULL;
    if (end) {
        at += sizeof listening - 1;
        size_t n = (size_t)(end - at);
        is_found = n < sizeof s->url;
        if (is_found) {
            memcpy(s->url, at, n);
            s->url[n] = '\0';
        }
    }
    buf_release(&text);
    return is_found;
}

static enum status wait_ready(struct serve *s, struct err *e)
{
    uint64_t start = clock_now_ns();
    while (!find_url(s)) {
        int code;
        struct err ignored = {0};
        if (child_wait(&s->child, 0, &code, &ignored) == OK)
            return ended_early(s, code, e);
        if (clock_ms_since(start) > READY_MS_MAX)
            return err_set(e, E_LIMIT, "kvasir serve is not ready after %u s", READY_MS_MAX / 1000);
        clock_sleep_ms(READY_POLL_MS);
    }
    s->start_ms = clock_ms_since(start);
    return OK;
}

enum status serve_start(struct serve *s, const struct serve_options *o, struct err *e)
{
    const char *argv[CHILD_ARGUMENTS_MAX] = {o->program, "serve",   "--port",
                                             "0",        "--store", o->store ? o->store : "none"};
    size_t n = 6;
    *s = (struct serve){0};
    if (o->model) {
        argv[n++] = "-m";
        argv[n++] = o->model;
    }
    for (const char *const *a = o->arguments; a && *a; a++) {
        if (n + 1 >= CHILD_ARGUMENTS_MAX)
            return err_set(e, E_LIMIT, "too many arguments");
        argv[n++] = *a;
    }
    enum status st = http_client_new(&s->http, e);
    if (st == OK)
        st = child_start(&s->child, argv, &o->child, e);
    if (st == OK)
        st = wait_ready(s, e);
    if (st != OK)
        serve_kill(s);
    return st;
}

enum status serve_stop(struct serve *s, int *code, struct err *e)
{
    child_signal(&s->child, SIGTERM);
    enum status st = child_wait(&s->child, STOP_MS_MAX, code, e);
    serve_kill(s);
    return st;
}

void serve_kill(struct serve *s)
{
    child_release(&s->child);
    http_client_free(s->http);
    *s = (struct serve){0};
}

bool serve_is_running(struct serve *s)
{
    int code;
    struct err e = {0};
    return s->child.pid > 0 && child_wait(&s->child, 0, &code, &e) == E_LIMIT;
}

enum status serve_get(struct serve *s, const char *path, struct arena *a, const struct json **out,
                      struct err *e)
{
    char url[sizeof s->url + 256];
    struct http_answer answer = {0};
    struct json *v = NULL;
    snprintf(url, sizeof url, "%s%s", s->url, path);
    struct http_call call = {.url = url, .total_ms_max = STOP_MS_MAX};
    enum status st = http_client_call(s->http, &call, &answer, e);
    if (st == OK && answer.status != 200)
        st = err_set(e, E_IO, "GET %s: HTTP %d", path, answer.status);
    if (st == OK)
        st = json_parse(buf_slice(&answer.body), a, &v, e);
    http_answer_release(&answer);
    if (st == OK)
        *out = v;
    return st;
}

static const struct json *get_path(const struct json *v, const char *path)
{
    for (;;) {
        char key[64];
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, path, n);
        key[n] = '\0';
        v = json_get(v, key);
        if (!path[n])
            return v;
        path += n + 1;
    }
}

enum status serve_stat(struct serve *s, const char *path, int64_t *value, struct err *e)
{
    struct arena a;
    const struct json *state = NULL;
    arena_init(&a, SERVE_STATE_BYTES_MAX);
    enum status st = serve_get(s, "/v1/cache/stats", &a, &state, e);
    const struct json *v = st == OK ? get_path(state, path) : NULL;
    if (v && v->kind == JSON_INT)
        *value = v->integer;
    else if (st == OK)
        st = err_set(e, E_NOT_FOUND, "/v1/cache/stats has no number %s", path);
    arena_release(&a);
    return st;
}

/* What changes as long as something is on its way to the disk. */
struct traffic {
    int64_t running, queued, written_bytes, syncs, records;
};

static enum status read_traffic(struct serve *s, struct traffic *t, struct err *e)
{
    const struct {
        const char *path;
        int64_t *value;
    } numbers[] = {{"requests.running", &t->running},
                   {"store.since_open.queued", &t->queued},
                   {"store.since_open.written_bytes", &t->written_bytes},
                   {"store.since_open.syncs", &t->syncs},
                   {"store.records.page.count", &t->records}};
    enum status st = OK;
    for (size_t i = 0; st == OK && i < ARRAY_COUNT(numbers); i++)
        st = serve_stat(s, numbers[i].path, numbers[i].value, e);
    return st;
}

/* A batch that is being written is no longer queued, so an empty queue must also have been still.
 */
enum status serve_wait_durable(struct serve *s, uint32_t ms_max, struct err *e)
{
    uint64_t start = clock_now_ns(), still_since = start;
    struct traffic last = {.queued = -1};
    for (;;) {
        struct traffic now = {0};
        enum status st = read_traffic(s, &now, e);
        if (st != OK)
            return st;
        bool is_still = now.running == 0 && now.queued == 0 && memcmp(&now, &last, sizeof now) == 0;
        if (!is_still)
            still_since = clock_now_ns();
        if (clock_ms_since(still_since) > DURABLE_STILL_MS)
            return OK;
        if (clock_ms_since(start) > ms_max)
            return err_set(e, E_LIMIT, "%lld records still wait for the disk after %u ms",
                           (long long)now.queued, ms_max);
        last = now;
        clock_sleep_ms(DURABLE_POLL_MS);
    }
}

enum status serve_memory(const struct serve *s, const char *row, uint64_t *bytes, struct err *e)
{
    char path[64];
    struct buf text;
    buf_init(&text, 1u << 20);
    snprintf(path, sizeof path, "/proc/%d/status", (int)s->child.pid);
    enum status st = place_read(path, &text, e);
    const char *at = st == OK && text.len ? strstr(text.ptr, row) : NULL;
    if (at)
        *bytes = strtoull(at + strlen(row), NULL, 10) * 1024;
    else if (st == OK)
        st = err_set(e, E_NOT_FOUND, "%s has no %s", path, row);
    buf_release(&text);
    return st;
}
