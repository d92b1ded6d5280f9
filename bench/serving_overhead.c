/* SPDX-License-Identifier: MIT
 * serving_overhead.c — what HTTP, JSON, templates and tokenizing cost before the first token of a
 * chat whose 100 KB of history are known: time on the wire less the engine's own (the reply's
 * queue, lookup and prefill).  One connection that stays open; a request goes out in one write. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "bench/client/place.h"
#include "bench/client/raw.h"
#include "bench/client/rows.h"
#include "bench/serving.h"
#include "os/clock.h"

#define ROWS            "models/skald/eval.jsonl.xz"
#define ROW             "public-042" /* 16 messages, 100,120 bytes, 29,480 tokens */
#define N_REQUESTS      64u
#define N_WARM          4u
#define CHAT_BAR_MS     1.0
#define RESPONSE_BAR_MS 0.5

struct wire {
    const char *path, *until;
    struct buf request;
    struct raw_reply reply;
    double first_ms, engine_ms;
    int64_t computed;
    uint32_t n_asked; /* no question twice */
};

static double number_behind(const char *text, const char *key)
{
    const char *at = text ? strstr(text, key) : NULL;
    return at ? strtod(at + strlen(key), NULL) : -1;
}

/* Sends w->request, whose body is this, and reads the reply. */
static enum status ask(int fd, struct wire *w, struct slice body, struct err *e)
{
    buf_clear(&w->request);
    buf_printf(&w->request,
               "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\n\r\n",
               w->path, body.len);
    buf_add_slice(&w->request, body);
    w->reply.until = w->until;
    uint64_t start = clock_now_ns();
    enum status st = raw_send(fd, buf_slice(&w->request), e);
    if (st == OK)
        st = raw_read_reply(fd, SERVING_MS_MAX, &w->reply, e);
    if (st != OK)
        return st;
    const char *costs = w->reply.body.ptr ? strstr(w->reply.body.ptr, "\"kvasir\":{") : NULL;
    if (w->reply.status != 200 || !w->reply.is_whole || w->reply.until_at_ns == 0 || !costs)
        return err_set(e, E_IO, "%s: HTTP %d, %.150s", w->path, w->reply.status,
                       w->reply.body.ptr ? w->reply.body.ptr : "");
    w->first_ms = (double)(w->reply.until_at_ns - start) * 1e-6;
    w->engine_ms = number_behind(costs, "\"queue\":") + number_behind(costs, "\"lookup\":") +
                   number_behind(costs, "\"prefill\":");
    w->computed = (int64_t)number_behind(costs, "\"computed\":");
    return OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Bodies are  before, a number, after. */
static enum status measure(int fd, struct wire *w, const char *name, struct slice before,
                           const char *after, double bar, struct err *e)
{
    double own[N_REQUESTS], wire[N_REQUESTS];
    struct buf body;
    enum status st = OK;
    int64_t computed = 0;
    buf_init(&body, SERVING_PROMPT_MAX);
    for (uint32_t i = 0; st == OK && i < N_WARM + N_REQUESTS; i++) {
        buf_clear(&body);
        buf_add_slice(&body, before);
        buf_printf(&body, "Question %u: who is it?%s", w->n_asked++, after);
        st = ask(fd, w, buf_slice(&body), e);
        if (st == OK && i >= N_WARM) {
            wire[i - N_WARM] = w->first_ms;
            own[i - N_WARM] = w->first_ms - w->engine_ms;
            computed = w->computed > computed ? w->computed : computed;
        }
        clock_sleep_ms(2); /* what a reply left to be done is not the next one's */
    }
    if (st == OK) {
        qsort(own, N_REQUESTS, sizeof *own, ascending);
        qsort(wire, N_REQUESTS, sizeof *wire, ascending);
        double p50 = own[N_REQUESTS / 2];
        printf("  %-24s %7.1f KB %8.2f ms %8.2f ms %8.2f ms %6lld   bar %.1f ms: %s\n", name,
               (double)body.len / 1e3, wire[N_REQUESTS / 2], p50, own[N_REQUESTS * 99 / 100],
               (long long)computed, bar, serving_verdict(bar, p50));
    }
    buf_release(&body);
    return st;
}

/* What was said before, an answer last, without the bracket at its end. */
static enum status write_history(struct buf *out, struct err *e)
{
    struct rows rows;
    enum status st = rows_read(ROWS, &rows, e);
    if (st != OK)
        return st;
    const struct row *row = rows_find(&rows, ROW);
    if (!row) {
        st = err_set(e, E_NOT_FOUND, "%s has no row %s", ROWS, ROW);
    } else {
        buf_add_slice(out, row->messages);
        chat_add_message(out, "assistant", row->answer);
        out->len--;
    }
    rows_release(&rows);
    return st;
}

static enum status chat(int fd, struct wire *w, struct slice history, struct err *e)
{
    struct buf before;
    buf_init(&before, SERVING_PROMPT_MAX);
    buf_add_text(&before, "{\"temperature\":0,\"max_tokens\":2,\"stream\":true,\"ignore_eos\":true,"
                          "\"messages\":");
    buf_add_slice(&before, history);
    buf_add_text(&before, ",{\"role\":\"user\",\"content\":\"");
    w->path = "/v1/chat/completions";
    w->until = "\"delta\":{\"content\":\"";
    enum status st =
        measure(fd, w, "/v1/chat/completions", buf_slice(&before), "\"}]}", CHAT_BAR_MS, e);
    buf_release(&before);
    return st;
}

static enum status response(int fd, struct wire *w, struct slice history, struct err *e)
{
    struct buf body;
    char id[128];
    buf_init(&body, SERVING_PROMPT_MAX);
    buf_add_text(&body,
                 "{\"temperature\":0,\"max_output_tokens\":16,\"stream\":true,\"store\":true,"
                 "\"input\":");
    buf_add_slice(&body, history);
    buf_add_text(&body, ",{\"role\":\"user\",\"content\":\"Begin.\"}]}");
    w->path = "/v1/responses";
    w->until = "response.output_text.delta";
    enum status st = ask(fd, w, buf_slice(&body), e);
    const char *at = st == OK ? strstr(w->reply.body.ptr, "\"id\":\"resp_") : NULL;
    if (st == OK && (!at || sscanf(at + 6, "%120[^\"]", id) != 1))
        st = err_set(e, E_SYNTAX, "no response id in %.100s", w->reply.body.ptr);
    buf_clear(&body);
    buf_printf(&body,
               "{\"temperature\":0,\"max_output_tokens\":16,\"stream\":true,\"store\":false,"
               "\"previous_response_id\":\"%s\",\"input\":\"",
               st == OK ? id : "");
    if (st == OK)
        st = measure(fd, w, "previous_response_id", buf_slice(&body), "\"}", RESPONSE_BAR_MS, e);
    buf_release(&body);
    return st;
}

enum status serving_overhead(struct serving *b, struct err *e)
{
    char place[PLACE_PATH_BYTES] = "";
    struct serve s;
    struct wire w = {.path = NULL};
    struct buf history;
    int fd = -1;
    memset(&s, 0, sizeof s);
    raw_reply_init(&w.reply);
    buf_init(&w.request, SERVING_PROMPT_MAX);
    buf_init(&history, SERVING_PROMPT_MAX);
    enum status st = write_history(&history, e);
    if (st == OK)
        st = place_make("build", "overhead", place, e);
    struct serve_options o = {.program = b->program, .model = b->model, .store = place};
    if (st == OK)
        st = serve_start(&s, &o, e);
    if (st == OK)
        st = raw_connect(s.url, &fd, e);
    if (st == OK)
        printf("\n  first token less the engine's own time, %u requests; computed: tokens at most\n"
               "                               request    on the wire   overhead p50      p99  "
               "computed\n",
               N_REQUESTS);
    for (uint32_t round = 0; st == OK && round < b->n_rounds; round++) {
        st = chat(fd, &w, buf_slice(&history), e);
        if (st == OK)
            st = response(fd, &w, buf_slice(&history), e);
    }
    raw_close(fd);
    serve_kill(&s);
    if (place[0])
        place_remove(place);
    raw_reply_release(&w.reply);
    buf_release(&w.request);
    buf_release(&history);
    return st;
}
