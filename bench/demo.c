/* SPDX-License-Identifier: MIT
 * demo.c — the main job, shown: a handbook of 20,000 tokens is prefilled once, the server is killed
 * with kill -9, a new process answers on from the store, and an uninterrupted run gives the same
 * tokens. Exit: 0 only if the answers are right, the resumed output equals the control's (text and
 * log probabilities of each token, sampled ones too) and nothing stored was computed again; 1
 * otherwise; 2 wrong usage. Method: black box.  What it prints comes from the replies' `kvasir`
 * object and from its own clock. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "bench/client/handbook.h"
#include "bench/client/passage.h"
#include "bench/client/place.h"
#include "bench/demo_show.h"

#define DURABLE_MS_MAX      60000u
#define REAL_TOKENS_MAX     20000u
#define REAL_TOKENS_RESERVE 512u /* of the context, for questions and answers */
#define ANSWER_TOKENS_MAX   48u
#define MARKUP_TOKENS_MAX   48u /* that a template may put around one message */
#define N_QUESTIONS         4u

/* In the order they are asked.  The first goes to the server that is then killed. */
enum turn { COLD, NEW_TURN, EXACT_REPEAT, SECOND_CONVERSATION, SAMPLED_TURN, TURN_COUNT };

struct demo {
    const char *program, *model, *store; /* as given; model NULL: embedded */
    char stores[2][PLACE_PATH_BYTES];    /* the resumed one's and the control's */
    struct arena arena;
    bool knows_answers;
    struct slice handbook, greeting;
    struct slice questions[N_QUESTIONS], answers[N_QUESTIONS];
    struct serve server;
    struct chat_reply resumed[TURN_COUNT], control[TURN_COUNT];
    double back_ms; /* from kill -9 to a server that listens again */
    unsigned n_wrong;
};

/* ---- what is asked ---- */
/* Questions in the wording that skald knows, with the answers that are in the handbook. */
static enum status read_handbook(struct demo *d, struct err *e)
{
    struct handbook h;
    enum status st = handbook_read(KVASIR_HANDBOOK, &d->arena, &h, e);
    if (st == OK && h.n_questions < N_QUESTIONS)
        st = err_set(e, E_SYNTAX, "%s: want %u questions", KVASIR_HANDBOOK, N_QUESTIONS);
    if (st != OK)
        return st;
    d->handbook = h.text;
    d->greeting = h.greeting;
    memcpy(d->questions, h.questions, sizeof d->questions);
    memcpy(d->answers, h.answers, sizeof d->answers);
    d->knows_answers = true;
    return OK;
}

static enum status context_of(struct demo *d, uint32_t *n_ctx, struct err *e)
{
    const struct json *models = NULL;
    enum status st = serve_get(&d->server, "/v1/models", &d->arena, &models, e);
    const struct json *data = st == OK ? json_get(models, "data") : NULL;
    const struct json *n = data && data->kind == JSON_ARRAY && data->count
                               ? json_get(json_get(&data->items[0], "meta"), "n_ctx")
                               : NULL;
    if (st == OK && (!n || n->kind != JSON_INT || n->integer <= (int64_t)REAL_TOKENS_RESERVE))
        st = err_set(e, E_SYNTAX, "/v1/models tells no context length");
    if (st == OK)
        *n_ctx = (uint32_t)n->integer;
    return st;
}

/* Any model: a passage as long as fits; what it answers is compared, not judged. */
static enum status write_handbook(struct demo *d, struct err *e)
{
    static const char *const questions[N_QUESTIONS] = {
        "Which of these entries is about the lighthouse?", "And who repaired the clocks?",
        "Summarise the first entry in one sentence.", "Tell me something about the harbour."};
    uint32_t n_ctx = 0;
    struct buf text;
    buf_init(&text, HANDBOOK_BYTES_MAX);
    buf_add_text(&text, "Here is a chronicle. Read it, then answer my questions.\n\n");
    enum status st = context_of(d, &n_ctx, e);
    uint32_t wanted = n_ctx - REAL_TOKENS_RESERVE;
    if (st == OK)
        st = passage_of_tokens(&text, d->program, d->model,
                               wanted < REAL_TOKENS_MAX ? wanted : REAL_TOKENS_MAX, 1, e);
    const char *copy = st == OK ? arena_text(&d->arena, text.ptr, text.len) : NULL;
    if (st == OK && !copy)
        st = err_set(e, E_NOMEM, "handbook");
    d->handbook = (struct slice){copy, copy ? text.len : 0};
    d->greeting = SLICE_LIT("I have read it. What would you like to know?");
    for (unsigned i = 0; i < N_QUESTIONS; i++)
        d->questions[i] = slice_of(questions[i]);
    buf_release(&text);
    return st;
}

static struct slice said(const struct chat_reply *r)
{
    return buf_slice(&r->choices[0].text);
}

/* The conversation of a turn; earlier answers are sent back as they came. */
static void write_messages(const struct demo *d, enum turn turn, const struct chat_reply *replies,
                           struct buf *out)
{
    chat_add_message(out, "user", d->handbook);
    chat_add_message(out, "assistant", d->greeting);
    if (turn == SECOND_CONVERSATION) {
        chat_add_message(out, "user", d->questions[2]);
        return;
    }
    chat_add_message(out, "user", d->questions[0]);
    if (turn == COLD)
        return;
    chat_add_message(out, "assistant", said(&replies[COLD]));
    chat_add_message(out, "user", d->questions[1]);
    if (turn != SAMPLED_TURN)
        return;
    chat_add_message(out, "assistant", said(&replies[NEW_TURN]));
    chat_add_message(out, "user", d->questions[3]);
}

static enum status ask(struct demo *d, enum turn turn, struct chat_reply *replies, const char *what,
                       struct err *e)
{
    struct buf messages;
    struct chat_ask a = {.max_tokens = ANSWER_TOKENS_MAX,
                         .is_stream = true,
                         .wants_logprobs = true,
                         .progress = show_work_progress};
    buf_init(&messages, 2 * HANDBOOK_BYTES_MAX);
    write_messages(d, turn, replies, &messages);
    a.messages = buf_slice(&messages);
    if (turn == SAMPLED_TURN) { /* wide open, so that equal tokens are no accident */
        a.temperature = 1.5;
        a.more = "\"seed\":20250101,\"top_k\":0,\"top_p\":1,\"min_p\":0,\"ignore_eos\":true";
    }
    show_work_begin(what);
    enum status st = chat_send(d->server.url, d->server.http, &a, &replies[turn], e);
    show_work_end();
    const struct chat_reply *r = &replies[turn];
    if (st == OK && (r->is_error || r->http != 200))
        st = err_set(e, E_IO, "HTTP %d: %s", r->http, r->error_message);
    if (st == OK && (!r->is_done || !r->has_kvasir || r->prompt_tokens <= 0 ||
                     r->memory + r->disk + r->computed != r->prompt_tokens))
        st = err_set(e, E_SYNTAX, "the reply does not say where its %lld prompt tokens came from",
                     (long long)r->prompt_tokens);
    buf_release(&messages);
    return st;
}

/* ---- the run ---- */
static enum status start(struct demo *d, const char *store, struct err *e)
{
    struct serve_options o = {.program = d->program, .model = d->model, .store = store};
    return serve_start(&d->server, &o, e);
}

static enum status cold(struct demo *d, struct err *e)
{
    enum status st = start(d, d->stores[0], e);
    if (st != OK)
        return st;
    show_line("A server on an empty store, ready after %s.", show_ms(d->server.start_ms));
    st = d->model ? write_handbook(d, e) : read_handbook(d, e);
    if (st != OK)
        return st;
    st = ask(d, COLD, d->resumed, "reading the handbook", e);
    const struct chat_reply *r = &d->resumed[COLD];
    if (st == OK) {
        show_quote("asked", d->questions[0]);
        show_quote("said", said(r));
        show_line("  %s prompt tokens, computed in %s.", show_count(r->prompt_tokens),
                  show_ms(r->prefill_ms));
        show_work_begin("waiting until the store is durable");
        st = serve_wait_durable(&d->server, DURABLE_MS_MAX, e);
        show_work_end();
    }
    return st;
}

static enum status resume(struct demo *d, struct err *e)
{
    serve_kill(&d->server);
    enum status st = start(d, d->stores[0], e);
    if (st != OK)
        return st;
    d->back_ms = d->server.start_ms;
    show_line("\nkill -9, and a new process on the same store, ready after %s.",
              show_ms(d->back_ms));
    static const struct {
        enum turn turn;
        unsigned question;
    } asked[] = {{NEW_TURN, 1}, {EXACT_REPEAT, 1}, {SECOND_CONVERSATION, 2}, {SAMPLED_TURN, 3}};
    for (size_t i = 0; st == OK && i < ARRAY_COUNT(asked); i++) {
        enum turn turn = asked[i].turn;
        st = ask(d, turn, d->resumed, "answering", e);
        if (st != OK || turn == EXACT_REPEAT || turn == SAMPLED_TURN)
            continue;
        show_quote("asked", d->questions[asked[i].question]);
        show_quote("said", said(&d->resumed[turn]));
    }
    serve_kill(&d->server);
    return st;
}

static enum status control(struct demo *d, struct err *e)
{
    enum status st = start(d, d->stores[1], e);
    for (int turn = 0; st == OK && turn < TURN_COUNT; turn++)
        st = ask(d, (enum turn)turn, d->control,
                 turn == COLD ? "control run: reading the handbook again" : "control run", e);
    serve_kill(&d->server);
    return st;
}

/* ---- the verdict ---- */
static bool is_right(const struct demo *d, enum turn turn)
{
    unsigned question = turn == COLD ? 0 : turn == SECOND_CONVERSATION ? 2 : 1;
    return chat_is_answer(&d->resumed[turn], d->answers[question]);
}

static const char *verdict(const struct demo *d, enum turn turn)
{
    return !d->knows_answers ? "-" : is_right(d, turn) ? "right" : "WRONG";
}

static void claim(struct demo *d, bool is_true, const char *what)
{
    if (is_true)
        return;
    d->n_wrong++;
    show_failure("%s", what);
}

static void judge_answers(struct demo *d)
{
    for (int turn = COLD; d->knows_answers && turn < SAMPLED_TURN; turn++)
        if (!is_right(d, (enum turn)turn)) {
            d->n_wrong++;
            show_failure("wrong answer: " SLICE_FMT, SLICE_ARG(said(&d->resumed[turn])));
        }
}

static void judge_equality(struct demo *d)
{
    char why[400];
    for (int turn = COLD; turn < TURN_COUNT; turn++)
        if (!chat_is_same(&d->resumed[turn], &d->control[turn], why, sizeof why)) {
            d->n_wrong++;
            show_failure("request %d: the uninterrupted run gave other output: %s", turn + 1, why);
        }
}

/* A token is at least a byte, so what is new in a conversation has at most that many tokens. */
static int64_t new_tokens_max(size_t text_bytes)
{
    return (int64_t)text_bytes + MARKUP_TOKENS_MAX;
}

static void judge_reuse(struct demo *d)
{
    const struct chat_reply *r = d->resumed;
    claim(d, r[COLD].computed == r[COLD].prompt_tokens, "the store was not empty at the start");
    claim(d, r[NEW_TURN].memory == 0 && r[NEW_TURN].disk >= r[COLD].prompt_tokens,
          "new turn: tokens of the stored conversation were computed again");
    claim(d, r[EXACT_REPEAT].computed == 0, "exact repeat: tokens were computed again");
    claim(d, r[SECOND_CONVERSATION].computed <= new_tokens_max(d->questions[2].len),
          "second conversation: tokens of the handbook were computed again");
    claim(d,
          r[SAMPLED_TURN].computed <= new_tokens_max(d->questions[3].len + said(&r[NEW_TURN]).len),
          "sampled turn: tokens of the stored conversation were computed again");
}

static void report(struct demo *d)
{
    const struct chat_reply *r = d->resumed;
    struct show_row rows[SAMPLED_TURN];
    static const char *const names[] = {"cold", "new turn", "exact repeat", "second conversation"};
    for (int i = 0; i < SAMPLED_TURN; i++)
        rows[i] = (struct show_row){names[i], &r[i], verdict(d, (enum turn)i)};
    show_line("%s", "");
    show_table(rows, ARRAY_COUNT(rows));
    show_line("%s", "");
    judge_answers(d);
    judge_reuse(d);
    judge_equality(d);
    if (d->n_wrong) {
        show_failure("%u things are not as they should be, see above", d->n_wrong);
        return;
    }
    int64_t compared = 0;
    for (int i = 0; i < TURN_COUNT; i++)
        compared += r[i].completion_tokens;
    show_line(
        "%s tokens took %s to compute once. After kill -9 a new process found them in %s and began",
        show_count(r[COLD].prompt_tokens), show_ms(r[COLD].prefill_ms),
        show_ms(r[NEW_TURN].lookup_ms));
    show_line(
        "a new turn after %s, %s times sooner; all %s tokens it said, sampled ones too, equal an",
        show_ms(r[NEW_TURN].first_ms),
        show_count((int64_t)(r[COLD].first_ms / r[NEW_TURN].first_ms)), show_count(compared));
    show_line("uninterrupted run's.");
}

/* ---- the program ---- */
static const char usage[] =
    "usage: kvasir-demo [--model smollm2|gemma3-270m|FILE] [--kvasir PATH] [--store DIR]\n"
    "  --model   another model than the embedded skald; its answers are compared, not judged\n"
    "  --kvasir  the program to show; default: kvasir beside this one\n"
    "  --store   a new folder, kept afterwards; default: one in $TMPDIR, removed at the end\n";

static char own_place[PLACE_PATH_BYTES];

/* ^C leaves nothing behind: the server dies with us, the folder goes here. */
static void *clean_up_on_signal(void *arg)
{
    const sigset_t *signals = arg;
    int which = 0;
    while (sigwait(signals, &which) != 0)
        ;
    place_remove(own_place);
    _exit(128 + which);
}

static void watch_signals(void)
{
    static sigset_t signals;
    pthread_t thread;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (pthread_create(&thread, NULL, clean_up_on_signal, &signals) == 0)
        pthread_detach(thread);
}

/* "kvasir" in the folder of this program. */
static const char *neighbour(struct arena *a)
{
    char path[PLACE_PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return "build/kvasir";
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    return arena_printf(a, "%s/kvasir", path);
}

static bool read_options(struct demo *d, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char **to = strcmp(argv[i], "--model") == 0    ? &d->model
                          : strcmp(argv[i], "--kvasir") == 0 ? &d->program
                          : strcmp(argv[i], "--store") == 0  ? &d->store
                                                             : NULL;
        if (!to || i + 1 == argc)
            return false;
        *to = argv[i + 1];
    }
    return true;
}

static enum status make_stores(struct demo *d, struct err *e)
{
    const char *parent = d->store;
    if (d->store && mkdir(d->store, 0700) != 0)
        return err_sys(e, errno, "--store %s", d->store);
    if (!d->store) {
        enum status st = place_make(NULL, "kvasir-demo", own_place, e);
        if (st != OK)
            return st;
        parent = own_place;
    }
    snprintf(d->stores[0], sizeof d->stores[0], "%s/resumed", parent);
    snprintf(d->stores[1], sizeof d->stores[1], "%s/control", parent);
    return OK;
}

int main(int argc, char **argv)
{
    static struct demo d;
    struct err e = {0};
    arena_init(&d.arena, 64u << 20);
    if (!read_options(&d, argc, argv)) {
        fputs(usage, argc == 2 && strcmp(argv[1], "--help") == 0 ? stdout : stderr);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    if (!d.program)
        d.program = neighbour(&d.arena);
    watch_signals();
    enum status st = make_stores(&d, &e);
    if (st == OK)
        st = cold(&d, &e);
    if (st == OK)
        st = resume(&d, &e);
    if (st == OK)
        st = control(&d, &e);
    if (st == OK)
        report(&d);
    else
        show_failure("%s", e.msg);
    serve_kill(&d.server);
    if (!d.store)
        place_remove(own_place);
    for (int i = 0; i < TURN_COUNT; i++) {
        chat_reply_release(&d.resumed[i]);
        chat_reply_release(&d.control[i]);
    }
    arena_release(&d.arena);
    return st == OK && d.n_wrong == 0 ? 0 : 1;
}
