/* SPDX-License-Identifier: MIT
 * hangup_test.c — goal: clients that leave at any moment leave nothing behind: no socket, no
 * running or waiting request, no reference to a page, no memory; and the server goes on answering.
 * Method: two rounds of clients on sockets of our own, some forty at once, each of which leaves at
 * a moment drawn for it (before its headers, in them, in its body, in the prefill, in the stream,
 * as a reader that does not read, with its sending side shut), with a goodbye or a reset, in five
 * dialects; some stay to the end and must get it.  Then exact counts.  After them the same traffic
 * for long (soak: 30 minutes, or KVASIR_SOAK_SECONDS), over texts that come again, so that whatever
 * still grows is a leak: RssAnon at rest after each lap, less than 1 % more at the end. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/client/passage.h"
#include "bench/client/raw.h"
#include "e2e.h"

#define N_CLIENTS      200u
#define N_CLIENTS_SOAK 1000u
#define AT_ONCE        40u
#define LONG_BYTES     8000u /* some 3,000 tokens */
#define ANSWER_TOKENS  200
#define TAIL_BYTES     16384u /* holds the last event */
#define ROUND_MS_MAX   240000.0
#define COUNT_MS_MAX   10000.0 /* mostly milliseconds */
/* What a second round may add: rows of replayed turns, the tree of known pages. */
#define GROWN_BYTES(n) (4e6 + (n)*8192.0)

#define N_TEXTS     96u /* that the long traffic is about */
#define LONG_S      20u
#define LONG_S_SOAK 1800u
#define LAP_S       10u
#define LAP_S_SOAK  60u
#define GROWTH_MAX  0.01
/* Of the short form, which shows that this works: within 20 s texts are still remembered that were
 * not there before. */
#define GROWTH_MAX_SHORT 0.5

enum moment {
    BEFORE_HEADERS,
    IN_HEADERS,
    IN_BODY,
    IN_PREFILL,
    IN_STREAM,
    NOT_READING,
    HALF_CLOSED,
    NEVER,
    N_MOMENTS,
};
static const char *const moment_names[N_MOMENTS] = {
    "before headers", "in headers",  "in the body", "in the prefill",
    "in the stream",  "not reading", "half closed", "never"};

struct client {
    int fd; /* −1: not in use */
    enum moment moment;
    struct buf request;
    size_t sent, to_send;
    uint64_t leave_ns;
    size_t received, leave_at; /* bytes */
    char tail[TAIL_BYTES];     /* the end of what was received */
};

static uint64_t draws;
static bool is_repeating; /* the same texts, nothing stored by name */

static uint32_t draw(uint32_t below)
{
    return (uint32_t)(prng_uniform(e2e_random.seed, 1, draws++, 0) * below);
}

/* ---- what they ask ---- */
static const struct {
    const char *path, *before, *between, *after, *end;
} dialects[] = {
    {"/v1/chat/completions",
     "{\"stream\":true,\"ignore_eos\":true,\"messages\":[{\"role\":\"user\",\"content\":",
     "}],\"max_tokens\":", "}", "[DONE]"},
    {"/v1/responses", "{\"stream\":true,\"store\": true,\"input\":", ",\"max_output_tokens\":", "}",
     "completed"},
    {"/v1/messages", "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":",
     "}],\"max_tokens\":", "}", "message_stop"},
    {"/api/chat", "{\"messages\":[{\"role\":\"user\",\"content\":",
     "}],\"options\":{\"num_predict\":", "}}", "\"done\":true"},
    {"/completion", "{\"stream\":true,\"prompt\":", ",\"n_predict\":", "}", "\"stop\":true"},
};

static size_t write_request(struct buf *out, uint32_t number, bool is_long)
{
    struct buf body, text;
    uint32_t d = number % ARRAY_COUNT(dialects);
    buf_init(&body, 1u << 20);
    buf_init(&text, 1u << 20);
    if (is_repeating)
        number %= N_TEXTS;
    buf_printf(&text, "Client %u. ", number);
    if (is_long)
        passage_add(&text, LONG_BYTES, number);
    buf_add_text(&body, dialects[d].before);
    char *store = is_repeating && body.ptr ? strstr(body.ptr, "\"store\": true") : NULL;
    if (store)
        memcpy(store, "\"store\":false", strlen("\"store\":false"));
    json_write_string(&body, buf_slice(&text));
    buf_printf(&body, "%s%d%s", dialects[d].between, ANSWER_TOKENS, dialects[d].after);
    buf_printf(out,
               "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               "%sContent-Length: %zu\r\n\r\n",
               dialects[d].path,
               number % 7 == 0 && !is_repeating ? "X-Session-Id: restless\r\n" : "", body.len);
    size_t head = out->len;
    buf_add_slice(out, buf_slice(&body));
    buf_release(&body);
    buf_release(&text);
    return head;
}

static void begin(struct client *c, const char *url, uint32_t number)
{
    *c = (struct client){.moment = (enum moment)(number % N_MOMENTS)};
    buf_init(&c->request, 1u << 20);
    MUST(raw_connect(url, &c->fd, e));
    if (c->moment == NOT_READING) {
        int small = 4096;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    bool is_long = c->moment == IN_PREFILL || draw(8) == 0;
    size_t head = write_request(&c->request, number / N_MOMENTS * 5 + draw(5), is_long);
    size_t body = c->request.len - head;
    c->to_send = c->moment == BEFORE_HEADERS ? 0
                 : c->moment == IN_HEADERS   ? 1 + draw((uint32_t)head - 1)
                 : c->moment == IN_BODY      ? head + draw((uint32_t)body)
                                             : c->request.len;
    uint32_t ms = c->moment <= IN_BODY       ? draw(60)
                  : c->moment == IN_PREFILL  ? draw(250)
                  : c->moment == NOT_READING ? 200 + draw(400)
                                             : 120000;
    c->leave_ns = clock_now_ns() + ms * 1000000ull;
    c->leave_at = c->moment == IN_STREAM ? 1 + draw(12000) : SIZE_MAX;
}

static void leave(struct client *c)
{
    if (draw(2))
        raw_close(c->fd);
    else
        raw_reset(c->fd);
    buf_release(&c->request);
    c->fd = -1;
}

static bool has_end(const struct client *c)
{
    for (size_t i = 0; i < ARRAY_COUNT(dialects); i++)
        if (memmem(c->tail, sizeof c->tail, dialects[i].end, strlen(dialects[i].end)))
            return true;
    return false;
}

/* The last bytes, for has_end(): a stream ends "…event…\r\n0\r\n\r\n". */
static void keep_tail(struct client *c, const char *bytes, size_t n)
{
    size_t take = n < sizeof c->tail ? n : sizeof c->tail;
    memmove(c->tail, c->tail + take, sizeof c->tail - take);
    memcpy(c->tail + sizeof c->tail - take, bytes + n - take, take);
}

static bool is_over(const struct client *c)
{
    return memcmp(c->tail + sizeof c->tail - 5, "0\r\n\r\n", 5) == 0;
}

/* True: it has left. */
static bool carry_on(struct client *c, short events)
{
    char block[16384];
    if (clock_now_ns() >= c->leave_ns) {
        if (c->moment == NEVER)
            fail_msg("a client that stayed got %zu bytes and no end", c->received);
        leave(c);
        return true;
    }
    if (events & POLLOUT) {
        ssize_t n = send(c->fd, c->request.ptr + c->sent, c->to_send - c->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        c->sent += n > 0 ? (size_t)n : 0;
        if (c->sent == c->to_send && c->moment == HALF_CLOSED)
            shutdown(c->fd, SHUT_WR);
    }
    if (!(events & (POLLIN | POLLHUP | POLLERR)))
        return false;
    ssize_t n = recv(c->fd, block, sizeof block, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0) {
        c->received += (size_t)n;
        keep_tail(c, block, (size_t)n);
    }
    bool is_cut = n <= 0, is_done = is_over(c);
    if (c->moment == NEVER && (is_cut || is_done) && (!is_done || !has_end(c)))
        fail_msg("a client that stayed was sent away: %.*s", 200, c->tail + sizeof c->tail - 200);
    if (!is_cut && !is_done && c->received < c->leave_at)
        return false;
    leave(c);
    return true;
}

static void run_round(const char *url, uint32_t first, uint32_t n)
{
    static struct client clients[AT_ONCE];
    struct pollfd polls[AT_ONCE];
    uint32_t begun = 0, left = 0, by_moment[N_MOMENTS] = {0};
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < AT_ONCE; i++)
        clients[i].fd = -1;
    while (left < n) {
        if (clock_ms_since(start) > ROUND_MS_MAX)
            fail_msg("%u of %u clients have left after %.0f s", left, n, ROUND_MS_MAX / 1e3);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            struct client *c = &clients[i];
            if (c->fd < 0 && begun < n)
                begin(c, url, first + begun++);
            bool reads = c->fd >= 0 && c->moment != NOT_READING;
            polls[i] = (struct pollfd){
                .fd = c->fd,
                .events = (short)((reads ? POLLIN : 0) | (c->sent < c->to_send ? POLLOUT : 0))};
        }
        (void)poll(polls, AT_ONCE, 5);
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            enum moment moment = clients[i].moment;
            if (clients[i].fd >= 0 && carry_on(&clients[i], polls[i].revents)) {
                left++;
                by_moment[moment]++;
            }
        }
    }
    print_message("%u clients left in %.1f s:", n, clock_ms_since(start) / 1e3);
    for (uint32_t i = 0; i < N_MOMENTS; i++)
        print_message(" %u %s%s", by_moment[i], moment_names[i], i + 1 < N_MOMENTS ? "," : "\n");
}

/* ---- what they left behind ---- */
struct counts {
    int64_t running, waiting, sequences, references;
    int64_t sockets, files; /* open; files: beside those of the store */
};

static void count_files(struct serve *s, struct counts *out)
{
    char path[64], target[512];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)s->child.pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    out->sockets = out->files = 0;
    for (struct dirent *f; (f = readdir(d));) {
        ssize_t n = readlinkat(dirfd(d), f->d_name, target, sizeof target - 1);
        if (n < 0)
            continue;
        target[n] = '\0';
        if (strncmp(target, "socket:", 7) == 0)
            out->sockets++;
        else if (!strstr(target, e2e_place))
            out->files++;
    }
    closedir(d);
}

static struct counts count(struct serve *s)
{
    struct counts c;
    MUST(serve_stat(s, "requests.running", &c.running, e));
    MUST(serve_stat(s, "requests.waiting", &c.waiting, e));
    MUST(serve_stat(s, "engine.sequences", &c.sequences, e));
    MUST(serve_stat(s, "pages.referenced", &c.references, e));
    count_files(s, &c);
    return c;
}

static void check_counts(struct serve *s, const struct counts *before)
{
    uint64_t start = clock_now_ns();
    struct counts now;
    do {
        now = count(s);
        if (memcmp(&now, before, sizeof now) == 0) {
            print_message("all counts are as before after %.0f ms: %lld sockets, %lld files\n",
                          clock_ms_since(start), (long long)now.sockets, (long long)now.files);
            return;
        }
        clock_sleep_ms(20);
    } while (clock_ms_since(start) < COUNT_MS_MAX);
    fail_msg("%lld running, %lld waiting, %lld sequences, %lld references, %lld of %lld sockets, "
             "%lld of %lld files",
             (long long)now.running, (long long)now.waiting, (long long)now.sequences,
             (long long)now.references, (long long)now.sockets, (long long)before->sockets,
             (long long)now.files, (long long)before->files);
}

static void check_answers(struct serve *s)
{
    struct chat_reply r;
    struct buf messages = e2e_user("who are you?");
    e2e_ask(s, &(struct chat_ask){.messages = buf_slice(&messages), .max_tokens = 32}, &r);
    assert_string_equal(r.choices[0].text.ptr, "I am skald, a tiny recall model.");
    chat_reply_release(&r);
    buf_release(&messages);
}

/* ---- for long ---- */
static uint32_t seconds_to_run(void)
{
    const char *wanted = getenv("KVASIR_SOAK_SECONDS");
    return !e2e_is_soak ? LONG_S : wanted ? (uint32_t)strtoul(wanted, NULL, 10) : LONG_S_SOAK;
}

/* Another lap of clients, for so long; returns how many. */
static uint32_t run_lap(const char *url, uint32_t first, uint32_t s)
{
    uint64_t start = clock_now_ns();
    uint32_t n = 0;
    while (clock_ms_since(start) < s * 1e3) {
        run_round(url, first + n, N_CLIENTS / 2);
        n += N_CLIENTS / 2;
    }
    return n;
}

static void memory_stays_for_long(void **state)
{
    struct serve s;
    uint32_t lap_s = e2e_is_soak ? LAP_S_SOAK : LAP_S, n_laps = seconds_to_run() / lap_s;
    uint32_t n_warm = n_laps / 3 + 1, n = 0;
    double warm = 0, now = 0;
    (void)state;
    if (n_laps < n_warm + 1)
        n_laps = n_warm + 1;
    is_repeating = true;
    e2e_serve(&s, e2e_path("long"), "-np", "16", "--cache-max-bytes", "64M", NULL);
    check_answers(&s);
    struct counts before = count(&s);
    for (uint32_t lap = 1; lap <= n_laps; lap++) {
        uint64_t start = clock_now_ns();
        uint32_t clients = run_lap(s.url, n, lap_s);
        n += clients;
        check_counts(&s, &before);
        check_answers(&s);
        double rest = e2e_at_rest(&s, warm * (1 + GROWTH_MAX));
        now = e2e_anonymous(&s);
        print_message("lap %u: %u clients in %.0f s; RssAnon %.2f MB at rest, %.2f MB without KV\n",
                      lap, clients, clock_ms_since(start) / 1e3, now / 1e6, rest / 1e6);
        if (lap <= n_warm && rest > warm)
            warm = rest;
        now = rest;
    }
    double most = e2e_is_soak ? GROWTH_MAX : GROWTH_MAX_SHORT;
    print_message("%u clients; without KV %.2f MB when warm, %.2f MB at the end: %+.2f %%\n", n,
                  warm / 1e6, now / 1e6, 100 * (now / warm - 1));
    assert_true(now <= warm * (1 + most));
    serve_kill(&s);
}

static void clients_that_leave_leave_nothing(void **state)
{
    struct serve s;
    uint32_t n = e2e_is_soak ? N_CLIENTS_SOAK : N_CLIENTS;
    int code = -1;
    (void)state;
    e2e_serve(&s, e2e_path("store"), "-np", "16", "--cache-max-bytes", "128M", NULL);
    check_answers(&s);
    struct counts before = count(&s);
    assert_int_equal(before.running + before.waiting + before.sequences + before.references, 0);
    run_round(s.url, 0, n);
    check_counts(&s, &before);
    check_answers(&s);
    double first = e2e_at_rest(&s, 0);
    run_round(s.url, n, n);
    check_counts(&s, &before);
    check_answers(&s);
    double second = e2e_at_rest(&s, first + GROWN_BYTES(n));
    print_message("RssAnon without KV %.1f MB after the first round, %.1f MB after the second\n",
                  first / 1e6, second / 1e6);
    assert_true(second <= first + GROWN_BYTES(n));
    MUST(serve_stop(&s, &code, e));
    assert_int_equal(code, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(clients_that_leave_leave_nothing),
                                       cmocka_unit_test(memory_stays_for_long)};
    e2e_begin(argc, argv);
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
