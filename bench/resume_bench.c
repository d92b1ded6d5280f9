/* SPDX-License-Identifier: MIT
 * resume_bench.c — what resuming a conversation of 20,000 tokens costs: medians over several runs,
 * each beside the bar that was set for it. Method: black box, with skald.  One cold prefill; then
 * in the same process exact repeats and new turns; then, after kill -9 and a new start each time,
 * the first request.  Engine times are the replies' `kvasir.ms`; times on the wire are our
 * client's, request sent → first byte of content.  How much of a first pass is verification comes
 * from `kvasir eval generate`, which tells it. Exit: 0 also when a bar is missed (it is a figure,
 * not a test); 1 when something failed; 2 usage. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "bench/client/chat.h"
#include "bench/client/handbook.h"
#include "bench/client/place.h"

#define RUNS_DEFAULT      7u
#define RUNS_MAX          101u
#define DURABLE_MS_MAX    60000u
#define EVAL_MS_MAX       120000u
#define ANSWER_TOKENS_MAX 32u

enum figure {
    KNOWN_LOOKUP,
    FIRST_LOOKUP,
    REPEAT_ENGINE,
    REPEAT_WIRE,
    RESTART_ENGINE,
    RESTART_QUEUE,
    RESTART_WIRE,
    TURN_LOOKUP,
    TURN_PREFILL,
    TURN_WIRE,
    RESTART_TURN_PREFILL,
    RESTART_TURN_WIRE,
    EVAL_FIRST_PASS,
    EVAL_FAULT_IN,
    EVAL_VERIFY,
    EVAL_VERIFY_SHARE,
    START,
    FIGURE_COUNT
};

static const struct {
    const char *name, *unit;
    double bar; /* 0: none was set */
} figures[FIGURE_COUNT] = {
    [KNOWN_LOOKUP] = {"look-up + page table, chain known in this process", "ms", 0.5},
    [FIRST_LOOKUP] = {"look-up + page table, first time after a start", "ms", 2},
    [REPEAT_ENGINE] = {"exact repeat: first logits in the engine", "ms", 2},
    [REPEAT_WIRE] = {"exact repeat: first token on the wire", "ms", 5},
    [RESTART_ENGINE] = {"exact repeat after a restart: first logits in the engine", "ms", 2},
    [RESTART_QUEUE] = {"  before it: wait for the engine thread", "ms", 0},
    [RESTART_WIRE] = {"exact repeat after a restart: first token on the wire", "ms", 15},
    [TURN_LOOKUP] = {"new turn: look-up", "ms", 0.5},
    [TURN_PREFILL] = {"new turn: prefill of the tail", "ms", 0},
    [TURN_WIRE] = {"new turn: first token on the wire", "ms", 0},
    [RESTART_TURN_PREFILL] = {"new turn after a restart: tail + one verified pass", "ms", 0},
    [RESTART_TURN_WIRE] = {"new turn after a restart: first token on the wire", "ms", 0},
    [EVAL_FIRST_PASS] = {"first pass over the KV in a new process", "ms", 0},
    [EVAL_FAULT_IN] = {"  of it faulting stored pages in", "ms", 0},
    [EVAL_VERIFY] = {"  of it verification (checksums)", "ms", 0},
    [EVAL_VERIFY_SHARE] = {"  share of verification", "%", 25},
    [START] = {"start of a server on this store", "ms", 0},
};

struct bench {
    const char *program;
    uint32_t n_runs;
    char place[PLACE_PATH_BYTES];
    struct arena arena;
    struct handbook book;
    struct serve server;
    double samples[FIGURE_COUNT][RUNS_MAX];
    uint32_t n_samples[FIGURE_COUNT];
    double cold_ms, cold_first_ms;
    int64_t n_prompt;
    struct slice tokens; /* the cold prompt's ids, "1,2,3" */
};

static void note(struct bench *b, enum figure f, double value)
{
    if (b->n_samples[f] < RUNS_MAX)
        b->samples[f][b->n_samples[f]++] = value;
}

/* ---- requests ---- */
static enum status start(struct bench *b, struct err *e)
{
    struct serve_options o = {.program = b->program, .store = b->place};
    return serve_start(&b->server, &o, e);
}

/* The handbook and question i; with turn > 0 the right answer and another question follow. */
static void write_messages(const struct bench *b, uint32_t question, const char *turn,
                           struct buf *messages)
{
    chat_add_message(messages, "user", b->book.text);
    chat_add_message(messages, "assistant", b->book.greeting);
    chat_add_message(messages, "user", b->book.questions[question]);
    if (!turn)
        return;
    chat_add_message(messages, "assistant", b->book.answers[question]);
    chat_add(messages, "user", turn);
}

static enum status ask(struct bench *b, const char *turn, struct chat_reply *r, struct err *e)
{
    struct buf messages;
    buf_init(&messages, 16u << 20);
    write_messages(b, 0, turn, &messages);
    struct chat_ask a = {
        .messages = buf_slice(&messages), .max_tokens = ANSWER_TOKENS_MAX, .is_stream = true};
    enum status st = chat_send(b->server.url, b->server.http, &a, r, e);
    if (st == OK && (r->http != 200 || !r->has_kvasir))
        st = err_set(e, E_IO, "HTTP %d: %s", r->http, r->error_message);
    buf_release(&messages);
    return st;
}

static double engine_ms(const struct chat_reply *r)
{
    return r->lookup_ms + r->prefill_ms;
}

/* A turn that was not asked before: only its own tokens are new. */
static const char *new_turn(struct bench *b, uint32_t run)
{
    const char *text = arena_printf(&b->arena, "Who signed for order %u?", 560000 + run);
    return text ? text : "who are you?";
}

static enum status cold(struct bench *b, struct err *e)
{
    struct chat_reply r;
    enum status st = start(b, e);
    if (st != OK)
        return st;
    st = ask(b, NULL, &r, e);
    if (st == OK && !chat_is_answer(&r, b->book.answers[0]))
        st = err_set(e, E_CORRUPT, "a wrong answer: %s", r.choices[0].text.ptr);
    b->cold_ms = r.prefill_ms;
    b->cold_first_ms = r.first_ms;
    b->n_prompt = r.prompt_tokens;
    chat_reply_release(&r);
    return st == OK ? serve_wait_durable(&b->server, DURABLE_MS_MAX, e) : st;
}

static enum status not_computed(const struct chat_reply *r, int64_t most, struct err *e)
{
    if (r->computed <= most)
        return OK;
    return err_set(e, E_CORRUPT, "%lld tokens were computed, at most %lld are new",
                   (long long)r->computed, (long long)most);
}

static enum status warm_run(struct bench *b, uint32_t run, struct err *e)
{
    struct chat_reply r;
    enum status st = ask(b, NULL, &r, e);
    if (st == OK)
        st = not_computed(&r, 0, e);
    note(b, KNOWN_LOOKUP, r.lookup_ms);
    note(b, REPEAT_ENGINE, engine_ms(&r));
    note(b, REPEAT_WIRE, r.first_ms);
    chat_reply_release(&r);
    if (st != OK)
        return st;
    st = ask(b, new_turn(b, run), &r, e);
    if (st == OK)
        st = not_computed(&r, 100, e);
    note(b, TURN_LOOKUP, r.lookup_ms);
    note(b, TURN_PREFILL, r.prefill_ms);
    note(b, TURN_WIRE, r.first_ms);
    chat_reply_release(&r);
    return st == OK ? serve_wait_durable(&b->server, DURABLE_MS_MAX, e) : st;
}

/* One request to a new process. */
static enum status restart_run(struct bench *b, const char *turn, struct err *e)
{
    struct chat_reply r = {0};
    serve_kill(&b->server);
    enum status st = start(b, e);
    if (st != OK)
        return st;
    note(b, START, b->server.start_ms);
    st = ask(b, turn, &r, e);
    if (st == OK)
        st = not_computed(&r, turn ? 100 : 0, e);
    note(b, FIRST_LOOKUP, r.lookup_ms);
    if (turn) {
        note(b, RESTART_TURN_PREFILL, r.prefill_ms);
        note(b, RESTART_TURN_WIRE, r.first_ms);
    } else {
        note(b, RESTART_ENGINE, engine_ms(&r));
        note(b, RESTART_QUEUE, r.queue_ms);
        note(b, RESTART_WIRE, r.first_ms);
    }
    chat_reply_release(&r);
    return st == OK ? serve_wait_durable(&b->server, DURABLE_MS_MAX, e) : st;
}

/* ---- verification ---- */
/* `PROGRAM eval WHAT …` with one line of input; its one line of output, parsed. */
static enum status eval(struct bench *b, const char *what, bool has_store, struct slice input,
                        const struct json **out, struct err *e)
{
    const char *argv[] = {
        b->program, "eval", what, has_store ? "--store" : NULL, has_store ? b->place : NULL, NULL};
    struct child_result r = {0};
    struct json *v = NULL;
    struct child_options o = {.input = input};
    enum status st = child_run(argv, &o, EVAL_MS_MAX, &r, e);
    if (st == OK && r.code != 0)
        st = err_set(e, E_IO, "eval %s: exit code %d", what, r.code);
    if (st == OK)
        st = json_parse(buf_slice(&r.out), &b->arena, &v, e);
    if (st == OK && json_get(v, "error"))
        st = err_set(e, E_IO, "eval %s: an error", what);
    child_result_release(&r);
    *out = v;
    return st;
}

/* The token ids of the conversation that the server stored, through eval render and eval tokenize.
 */
static enum status find_tokens(struct bench *b, struct err *e)
{
    struct buf line, messages;
    const struct json *v = NULL;
    buf_init(&line, 64u << 20);
    buf_init(&messages, 16u << 20);
    write_messages(b, 0, NULL, &messages);
    buf_printf(&line, "{\"add_generation_prompt\":true,\"messages\":");
    buf_add_slice(&line, buf_slice(&messages));
    buf_add_text(&line, "}\n");
    enum status st = eval(b, "render", false, buf_slice(&line), &v, e);
    const struct json *text = st == OK ? json_get(v, "text") : NULL;
    if (text && text->kind == JSON_STRING) {
        buf_clear(&line);
        buf_add_text(&line, "{\"add_special\":false,\"parse_special\":true,\"text\":");
        json_write_string(&line, text->text);
        buf_add_text(&line, "}\n");
        st = eval(b, "tokenize", false, buf_slice(&line), &v, e);
    }
    const struct json *tokens = st == OK ? json_get(v, "tokens") : NULL;
    if (st == OK && (!tokens || (int64_t)tokens->count != b->n_prompt))
        st = err_set(e, E_SYNTAX, "eval render and tokenize give %zu tokens, the server %lld",
                     tokens ? tokens->count : 0, (long long)b->n_prompt);
    buf_clear(&line);
    for (size_t i = 0; st == OK && i < tokens->count; i++)
        buf_printf(&line, "%s%lld", i ? "," : "", (long long)tokens->items[i].integer);
    const char *copy = arena_text(&b->arena, line.ptr ? line.ptr : "", line.len);
    b->tokens = (struct slice){copy ? copy : "", copy ? line.len : 0};
    buf_release(&line);
    buf_release(&messages);
    return st;
}

static double number(const struct json *v, const char *key)
{
    const struct json *n = json_get(v, key);
    return n ? n->real : 0;
}

/* The stored prompt and a token that never followed it, in a new process. */
static enum status verify_run(struct bench *b, uint32_t run, struct err *e)
{
    struct buf line;
    const struct json *v = NULL;
    buf_init(&line, 4u << 20);
    buf_add_text(&line, "{\"n\":1,\"temperature\":0,\"tokens\":[");
    buf_add_slice(&line, b->tokens);
    buf_printf(&line, ",%u]}\n", 400 + run);
    enum status st = eval(b, "generate", true, buf_slice(&line), &v, e);
    buf_release(&line);
    if (st != OK)
        return st;
    if (number(v, "computed") > 100)
        return err_set(e, E_CORRUPT, "eval generate computed %.0f tokens", number(v, "computed"));
    double pass = number(v, "prefill_ms"), verify = number(v, "verify_ms");
    note(b, EVAL_FIRST_PASS, pass);
    note(b, EVAL_FAULT_IN, number(v, "fault_in_ms"));
    note(b, EVAL_VERIFY, verify);
    note(b, EVAL_VERIFY_SHARE, pass > 0 ? 100 * verify / pass : 0);
    return OK;
}

/* ---- the table ---- */
static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_table(struct bench *b)
{
    uint32_t n_bars = 0, n_met = 0;
    printf("\nResuming %lld tokens (skald, %u runs); computing them takes %.1f s, first token "
           "after %.1f "
           "s\n\n",
           (long long)b->n_prompt, b->n_runs, b->cold_ms / 1000, b->cold_first_ms / 1000);
    printf("  %-58s %9s %9s %9s  %s\n", "", "median", "least", "most", "bar");
    for (int f = 0; f < FIGURE_COUNT; f++) {
        uint32_t n = b->n_samples[f];
        char bar[48] = "";
        if (n == 0)
            continue;
        qsort(b->samples[f], n, sizeof b->samples[f][0], ascending);
        double median = (b->samples[f][(n - 1) / 2] + b->samples[f][n / 2]) / 2;
        if (figures[f].bar > 0) {
            bool is_met = median <= figures[f].bar;
            n_bars++;
            n_met += is_met;
            snprintf(bar, sizeof bar, "%s %g %s", is_met ? "pass" : "MISS", figures[f].bar,
                     figures[f].unit);
        }
        printf("  %-58s %9.3f %9.3f %9.3f  %s\n", figures[f].name, median, b->samples[f][0],
               b->samples[f][n - 1], bar);
    }
    printf("\n%u of %u bars are met.\n", n_met, n_bars);
}

static enum status run_all(struct bench *b, struct err *e)
{
    fprintf(stderr, "one cold prefill …\n");
    enum status st = cold(b, e);
    fprintf(stderr, "warm …\n");
    for (uint32_t i = 0; st == OK && i < b->n_runs; i++)
        st = warm_run(b, i, e);
    fprintf(stderr, "after restarts …\n");
    for (uint32_t i = 0; st == OK && i < b->n_runs; i++)
        st = restart_run(b, NULL, e);
    for (uint32_t i = 0; st == OK && i < b->n_runs; i++)
        st = restart_run(b, new_turn(b, b->n_runs + i), e);
    serve_kill(&b->server);
    if (st == OK)
        st = find_tokens(b, e);
    for (uint32_t i = 0; st == OK && i < b->n_runs; i++)
        st = verify_run(b, i, e);
    return st;
}

int main(int argc, char **argv)
{
    static struct bench b = {.n_runs = RUNS_DEFAULT};
    struct err e = {0};
    for (int i = 1; i < argc; i += 2) {
        bool is_last = i + 1 == argc;
        if (!is_last && strcmp(argv[i], "--kvasir") == 0)
            b.program = argv[i + 1];
        else if (!is_last && strcmp(argv[i], "--runs") == 0)
            b.n_runs = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else
            b.n_runs = 0;
    }
    if (!b.program || b.n_runs == 0 || b.n_runs > RUNS_MAX) {
        fprintf(stderr, "usage: kvasir-bench --kvasir PATH [--runs N]   (N at most %u)\n",
                RUNS_MAX);
        return 2;
    }
    arena_init(&b.arena, 256u << 20);
    enum status st = handbook_read(KVASIR_HANDBOOK, &b.arena, &b.book, &e);
    if (st == OK)
        st = place_make(NULL, "kvasir-bench", b.place, &e);
    if (st == OK)
        st = run_all(&b, &e);
    serve_kill(&b.server);
    if (st == OK)
        print_table(&b);
    else
        fprintf(stderr, "kvasir-bench: %s\n", e.msg);
    place_remove(b.place);
    arena_release(&b.arena);
    return st == OK ? 0 : 1;
}
