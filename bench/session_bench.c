/* SPDX-License-Identifier: MIT
 * session_bench.c — what sessions cost, in process, on the disk under DIR.
 *   session-bench DIR [sessions]
 * sessions: so many are listed and opened, default 100,000.  Prints: a fork of a session of 20,000
 * tokens beside one fdatasync of a file in the same folder, by turns; what a fork writes; listing
 * page by page; opening.  A figure that a bar was set for is followed by "met" or "MISSED" and the
 * bar.  Exit: 0 also when a bar is missed; 1 when something failed; 2 usage. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"
#include "session/session.h"

#define TOKENS       20000u
#define MESSAGES     40u
#define N_FORKS      200u
#define RECORD_BYTES 4096u
#define PAGES_MAX    4096u
#define HEX_ID       (2 * SESSION_ID_BYTES)
#define ROUNDS       5u

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "session-bench: %s: %s\n", what, e->msg);
    exit(1);
}

static uint32_t n_met, n_bars;

/* Is the figure at most that? */
static const char *verdict(double value, double bar, char text[64])
{
    n_bars++;
    n_met += value <= bar;
    snprintf(text, 64, "%s (bar: at most %g)", value <= bar ? "met" : "MISSED", bar);
    return text;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double part_of(double *samples, uint32_t n, double share)
{
    qsort(samples, n, sizeof *samples, ascending);
    return samples[(uint32_t)((n - 1) * share)];
}

static struct sessions *open_book(struct store *s)
{
    struct err e;
    struct sessions *b;
    if (sessions_open(&(struct sessions_options){.store = s}, &b, &e) != OK)
        die("open", &e);
    return b;
}

/* Runs a command; the answer is the caller's until the next call. */
static const char *command(struct sessions *b, const char *json)
{
    static struct buf out;
    struct arena a;
    struct json *v;
    struct err e;
    if (!out.max_bytes)
        buf_init(&out, 16u << 20);
    buf_clear(&out);
    arena_init(&a, 1u << 20);
    if (json_parse(slice_of(json), &a, &v, &e) != OK || sessions_command(b, 0, v, &out, &e) != OK)
        die(json, &e);
    arena_release(&a);
    buf_add_char(&out, '\0');
    return out.ptr;
}

static uint32_t end_of(void *arg, uint32_t n)
{
    (void)arg;
    return n * (TOKENS / MESSAGES);
}

/* The session "long". */
static void keep_one(struct sessions *b)
{
    struct arena a;
    struct err e;
    uint32_t *tokens = mem_new(TOKENS, sizeof *tokens);
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = i * 7919 % 30000;
    arena_init(&a, 16u << 20);
    struct json *messages = json_new_array(&a, MESSAGES);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        struct json *m = &messages->items[i], *made = json_new_object(&a, 2);
        const char *text = arena_printf(&a, "message %u of this conversation", i);
        made->members[0] = (struct json_member){
            SLICE_LIT("role"),
            {.kind = JSON_STRING, .text = slice_of(i % 2 ? "assistant" : "user")}};
        made->members[1] = (struct json_member){SLICE_LIT("content"),
                                                {.kind = JSON_STRING, .text = slice_of(text)}};
        *m = *made;
    }
    const struct session_turn turn = {
        .name = SLICE_LIT("long"),
        .tokens = tokens,
        .n_tokens = TOKENS,
        .messages = messages,
        .end_of = end_of,
        .origin = {.root = {{1}}, .model = "bench", .kv_type = "f16", .digest = {{2}}}};
    if (sessions_keep(b, &turn, &e) != OK)
        die("keep", &e);
    arena_release(&a);
    mem_free(tokens);
}

/* Appends 4 KiB to a file and waits for the disk. */
static double sync_once(int fd, uint32_t i)
{
    static const char bytes[RECORD_BYTES] = "what a fork writes";
    struct err e;
    uint64_t start = clock_now_ns();
    if (pwrite(fd, bytes, sizeof bytes, (off_t)i * RECORD_BYTES) != RECORD_BYTES ||
        fdatasync(fd) != 0) {
        err_set(&e, E_IO, "the file beside the store");
        die("fdatasync", &e);
    }
    return clock_ms_since(start);
}

static void bench_forks(struct store *s, struct sessions *b, const char *dir)
{
    double forks[N_FORKS], syncs[N_FORKS];
    char path[600], request[200], place[40], text[64], text2[64];
    struct store_stat before, after;
    struct err e;
    snprintf(path, sizeof path, "%s/beside", dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)N_FORKS * RECORD_BYTES) != 0) {
        err_set(&e, E_IO, "%s", path);
        die("open", &e);
    }
    store_flush(s);
    store_stat(s, &before);
    for (uint32_t i = 0; i < N_FORKS; i++) {
        syncs[i] = sync_once(fd, i);
        if (i % 2)
            snprintf(place, sizeof place, "%u", 1 + i * 97 % TOKENS);
        else
            snprintf(place, sizeof place, "{\"message\":%u}", 1 + i % MESSAGES);
        snprintf(request, sizeof request,
                 "{\"op\":\"fork\",\"name\":\"long\",\"as\":\"fork-%u\",\"at\":%s}", i, place);
        uint64_t start = clock_now_ns();
        command(b, request);
        forks[i] = clock_ms_since(start);
    }
    store_flush(s);
    store_stat(s, &after);
    close(fd);
    unlink(path);
    double bytes = (double)(after.written_bytes - before.written_bytes) / N_FORKS;
    double sync = part_of(syncs, N_FORKS, 0.5), fork = part_of(forks, N_FORKS, 0.5);
    printf("fdatasync of 4 KiB   %8.3f ms     (p50 of %u; p99 %.3f)\n", sync, N_FORKS,
           part_of(syncs, N_FORKS, 0.99));
    printf("fork                 %8.3f ms     (p50, at any message or token of %u; p99 %.3f)\n",
           fork, TOKENS, part_of(forks, N_FORKS, 0.99));
    printf("  over one fdatasync %8.3f ms     %s\n", fork - sync, verdict(fork - sync, 1, text));
    printf("  writes             %8.0f bytes  %s\n", bytes, verdict(bytes, RECORD_BYTES, text2));
    printf("  and in index.db    %8.0f bytes\n",
           (double)(after.index_written_bytes - before.index_written_bytes) / N_FORKS);
}

/* ---- many ---- */
struct pattern {
    char meta[4096];
    uint32_t len;
};

static bool take_one(const struct store_pin *pin, void *arg)
{
    struct pattern *p = arg;
    p->len = pin->meta_len < sizeof p->meta ? pin->meta_len : 0;
    memcpy(p->meta, pin->meta, p->len);
    return false;
}

static struct digest key_of(const char id[HEX_ID + 1])
{
    uint8_t bytes[SESSION_ID_BYTES];
    struct digester d = {0};
    for (uint32_t i = 0; i < SESSION_ID_BYTES; i++) {
        unsigned v = 0;
        (void)sscanf(id + 2 * i, "%2x", &v);
        bytes[i] = (uint8_t)v;
    }
    digest_begin(&d);
    digest_field(&d, "kvasir session id", bytes, sizeof bytes);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

/* Records like those of forks, put many at a time: what is measured is their number. */
static void fill(struct store *s, uint32_t n)
{
    struct pattern p = {.len = 0};
    struct prng random = {.seed = 1};
    struct err e;
    if (store_each(s, RECORD_SESSION, take_one, &p, &e) != OK)
        die("read", &e);
    char *id = strstr(p.meta, "\"id\":\""), *name = strstr(p.meta, "\"name\":\"fork-");
    if (!p.len || !id || !name) {
        err_set(&e, E_CORRUPT, "a session's record is not what this program knows");
        die("fill", &e);
    }
    for (uint32_t i = 0; i < n; i++) {
        char hex[HEX_ID + 1], *meta = mem_new(1, p.len + 64), *after;
        snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)prng_next(&random),
                 (unsigned long long)prng_next(&random));
        memcpy(id + 6, hex, HEX_ID);
        after = strchr(name + 8, '"');
        int len = snprintf(meta, p.len + 64, "%.*s\"name\":\"many-%06u%.*s", (int)(name - p.meta),
                           p.meta, i, (int)(p.len - (uint32_t)(after - p.meta)), after);
        struct store_put put = {
            .kind = RECORD_SESSION, .key = key_of(hex), .meta = meta, .meta_len = (uint32_t)len};
        enum status st;
        while ((st = store_put(s, &put, &e)) == E_BUSY)
            clock_sleep_ms(1);
        if (st != OK)
            die("put", &e);
        mem_free(meta);
    }
    store_flush(s);
}

/* "next" of a page of the list into after [size]; false: it was the last. */
static bool next_of(const char *page, char *after, size_t size, uint32_t *n_listed)
{
    const char *next = strstr(page, "\"next\":");
    for (const char *at = page; (at = strstr(at, "\"object\":\"session\"")) != NULL; at++)
        (*n_listed)++;
    if (!next || next[7] != '"')
        return false;
    snprintf(after, size, "%.*s", (int)strcspn(next + 8, "\""), next + 8);
    return true;
}

static void bench_list(struct sessions *b, uint32_t limit, uint32_t n_expected)
{
    static double pages[PAGES_MAX];
    char request[300], after[200] = "";
    uint32_t n = 0, n_listed = 0;
    bool is_more = true;
    uint64_t whole = clock_now_ns();
    while (is_more && n < PAGES_MAX) {
        int len = snprintf(request, sizeof request, "{\"op\":\"list\",\"limit\":%u", limit);
        if (after[0])
            len +=
                snprintf(request + len, sizeof request - (size_t)len, ",\"after\":\"%s\"", after);
        snprintf(request + len, sizeof request - (size_t)len, "}");
        uint64_t start = clock_now_ns();
        const char *page = command(b, request);
        pages[n++] = clock_ms_since(start);
        is_more = next_of(page, after, sizeof after, &n_listed);
    }
    double ms = clock_ms_since(whole);
    if (n_listed != n_expected) {
        struct err e;
        err_set(&e, E_CORRUPT, "%u sessions listed, not %u", n_listed, n_expected);
        die("list", &e);
    }
    printf("list by %4u         %8.3f ms     (p50 a page; p99 %.3f; all %u pages %.0f)\n", limit,
           part_of(pages, n, 0.5), part_of(pages, n, 0.99), n, ms);
}

static void bench_open(struct store *s, struct sessions **b)
{
    static const char *const names[] = {"many-099999", "long", "nobody"}; /* newest, oldest */
    double ms[ARRAY_COUNT(names)][ROUNDS], shown[ROUNDS];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        for (uint32_t k = 0; k < ARRAY_COUNT(names); k++) {
            struct digest salt;
            sessions_close(*b);
            uint64_t start = clock_now_ns();
            *b = open_book(s);
            (void)sessions_find_salt(*b, 0, slice_of(names[k]), &salt); /* as a request's prompt */
            ms[k][i] = clock_ms_since(start);
        }
        uint64_t start = clock_now_ns();
        command(*b, "{\"op\":\"show\",\"name\":\"long\"}");
        shown[i] = clock_ms_since(start);
    }
    printf("open                 %8.1f ms     until the newest session is found, %.1f the oldest, "
           "%.1f "
           "until one is known\n                                   not to be there\n",
           part_of(ms[0], ROUNDS, 0.5), part_of(ms[1], ROUNDS, 0.5), part_of(ms[2], ROUNDS, 0.5));
    printf("show                 %8.1f ms     (10,000 of its forks)\n",
           part_of(shown, ROUNDS, 0.5));
}

int main(int argc, char **argv)
{
    struct err e;
    struct store *s;
    char path[512];
    struct store_options options = {.max_bytes = 4ull << 30, .keep_free_bytes = 1};
    uint32_t n = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100000;
    if (argc < 2 || n < 1 || n > 900000 || strlen(argv[1]) > 400) {
        fprintf(stderr, "usage: session-bench DIR [sessions]   (a new store in DIR)\n");
        return 2;
    }
    log_set_level(LOG_ERROR);
    setlinebuf(stdout);
    snprintf(path, sizeof path, "%s/store", argv[1]);
    if (store_open(os_fs_real(), path, &options, &s, &e) != OK)
        die("open", &e);
    struct sessions *b = open_book(s);
    keep_one(b);
    bench_forks(s, b, argv[1]);
    fill(s, n);
    bench_open(s, &b);
    printf("                     %8u sessions\n", n + N_FORKS + 1);
    bench_list(b, 100, n + N_FORKS + 1);
    bench_list(b, 1000, n + N_FORKS + 1);
    sessions_close(b);
    store_close(s);
    printf("\n%u of %u bars are met.\n", n_met, n_bars);
    return 0;
}
