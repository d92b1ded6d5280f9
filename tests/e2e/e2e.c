/* SPDX-License-Identifier: MIT
 * e2e.c — see e2e.h. */
#include "e2e.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"

#define RUN_MS_MAX   120000u
#define PATHS        8
#define REST_MS      1500
#define REST_MS_MAX  8000
#define REST_POLL_MS 50

const char *e2e_program;
char e2e_place[PLACE_PATH_BYTES];
bool e2e_is_soak;
struct prng e2e_random;

void e2e_begin(int argc, char **argv)
{
    struct err e = {0};
    if (argc < 3) {
        fprintf(stderr, "usage: %s KVASIR FOLDER [soak]\n", argv[0]);
        exit(2);
    }
    e2e_program = argv[1];
    e2e_is_soak = argc > 3 && strcmp(argv[3], "soak") == 0;
    if (place_make(argv[2], "e2e", e2e_place, &e) != OK) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    const char *seed = getenv("KVASIR_SEED");
    if (seed)
        e2e_random.seed = strtoull(seed, NULL, 10);
    else
        prng_entropy(&e2e_random.seed, sizeof e2e_random.seed);
    printf("KVASIR_SEED=%llu\n", (unsigned long long)e2e_random.seed);
    fflush(stdout);
}

int e2e_end(int failed)
{
    place_remove(e2e_place);
    return failed ? 1 : 0;
}

const char *e2e_path(const char *name)
{
    static char paths[PATHS][2 * PLACE_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % PATHS];
    snprintf(path, sizeof paths[0], "%s/%s", e2e_place, name);
    return path;
}

void e2e_serve(struct serve *s, const char *store, ...)
{
    const char *arguments[CHILD_ARGUMENTS_MAX / 2] = {0};
    size_t n = 0;
    va_list args;
    va_start(args, store);
    for (const char *a; (a = va_arg(args, const char *));) {
        assert_true(n + 1 < ARRAY_COUNT(arguments));
        arguments[n++] = a;
    }
    va_end(args);
    struct serve_options o = {.program = e2e_program,
                              .store = store,
                              .arguments = arguments,
                              .child = {.home = e2e_place}};
    MUST(serve_start(s, &o, e));
}

void e2e_ask(const struct serve *s, const struct chat_ask *ask, struct chat_reply *reply)
{
    MUST(chat_send(s->url, s->http, ask, reply, e));
}

struct buf e2e_user(const char *text)
{
    struct buf b;
    buf_init(&b, 64u << 20);
    chat_add(&b, "user", text);
    return b;
}

void e2e_ask_row(const struct serve *s, const struct row *row, const char *more,
                 struct chat_reply *reply)
{
    struct chat_ask ask = {.messages = row->messages,
                           .tools = row->tools,
                           .more = more,
                           .max_tokens = 96,
                           .wants_logprobs = true};
    e2e_ask(s, &ask, reply);
    if (reply->http != 200)
        fail_msg("%s: HTTP %d: %s", row->id, reply->http, reply->error_message);
}

void e2e_check_same(const struct chat_reply *a, const struct chat_reply *b, const char *what)
{
    char why[400];
    if (!chat_is_same(a, b, why, sizeof why))
        fail_msg("%s: %s", what, why);
}

void e2e_run(struct child_result *result, const char *input, ...)
{
    const char *argv[CHILD_ARGUMENTS_MAX] = {e2e_program};
    size_t n = 1;
    va_list args;
    va_start(args, input);
    for (const char *a; (a = va_arg(args, const char *));) {
        assert_true(n + 1 < ARRAY_COUNT(argv));
        argv[n++] = a;
    }
    va_end(args);
    struct child_options o = {.input = slice_of(input ? input : ""), .home = e2e_place};
    MUST(child_run(argv, &o, RUN_MS_MAX, result, e));
}

/* ---- memory ---- */
double e2e_anonymous(struct serve *s)
{
    uint64_t bytes = 0;
    MUST(serve_memory(s, "RssAnon:", &bytes, e));
    return (double)bytes;
}

double e2e_kv_bytes(struct serve *s)
{
    int64_t kv = 0;
    MUST(serve_stat(s, "pages.memory_bytes", &kv, e));
    return (double)kv;
}

double e2e_at_rest(struct serve *s, double most)
{
    uint64_t start = clock_now_ns();
    double now;
    clock_sleep_ms(REST_MS);
    while ((now = e2e_anonymous(s) - e2e_kv_bytes(s)) > most && clock_ms_since(start) < REST_MS_MAX)
        clock_sleep_ms(REST_POLL_MS);
    return now;
}

/* ---- beside the test ---- */
static void *run_task(void *arg)
{
    struct e2e_task *t = arg;
    struct http_client *http = NULL;
    t->st = http_client_new(&http, &t->e);
    if (t->st == OK)
        t->st = chat_send(t->url, http, &t->ask, &t->reply, &t->e);
    http_client_free(http);
    return NULL;
}

void e2e_task_start(struct e2e_task *t, const struct serve *s, const struct chat_ask *ask)
{
    *t = (struct e2e_task){.ask = *ask};
    snprintf(t->url, sizeof t->url, "%s", s->url);
    pthread_t *thread = mem_new(1, sizeof *thread);
    t->thread = thread;
    assert_int_equal(pthread_create(thread, NULL, run_task, t), 0);
}

void e2e_task_join(struct e2e_task *t)
{
    assert_int_equal(pthread_join(*(pthread_t *)t->thread, NULL), 0);
    mem_free(t->thread);
    t->thread = NULL;
}

/* ---- rows ---- */
static int by_length(const void *a, const void *b)
{
    const struct row *const *x = a, *const *y = b;
    return (*x)->n_tokens < (*y)->n_tokens ? -1 : (*x)->n_tokens > (*y)->n_tokens;
}

struct rows e2e_rows;

int e2e_rows_read(void **state)
{
    (void)state;
    MUST(rows_read("models/skald/eval.jsonl.xz", &e2e_rows, e));
    return 0;
}

int e2e_rows_release(void **state)
{
    (void)state;
    rows_release(&e2e_rows);
    return 0;
}

void e2e_rows_by_length(const struct row **out)
{
    for (uint32_t i = 0; i < e2e_rows.n; i++)
        out[i] = &e2e_rows.row[i];
    qsort(out, e2e_rows.n, sizeof *out, by_length);
}
