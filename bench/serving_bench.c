/* SPDX-License-Identifier: MIT
 * serving_bench.c — what decoding gains and loses by company: guesses, a busy neighbour, a second
 * thread, a long prompt beside streams; what a crowd waits, and what HTTP costs.
 *
 *   kvasir-serving-bench --kvasir PATH [-m MODEL] [--rounds N] PART…
 *   speculation  tokens a second with and without guesses, on text that copies and text that does
 *                not; the same tokens either way
 *   neighbour    decoding alone and beside a loop that keeps one of the processors busy
 *   threads      two threads over one, beside what two threads of this machine give at all
 *   stall        8 streams alone, beside the prefill of 16,000 tokens (or what the context allows),
 *                and beside the embedding of many texts: time between tokens
 *   load         256 streams that arrive on a schedule: time between tokens
 *   overhead     the first token of a known chat of 100 KB, less the engine's own time
 *
 * Black box over HTTP.  What is compared is measured by turns in one run.  Exit: 0 also when a bar
 * is missed (it is a figure, not a test); 1 when something failed; 2 usage. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "bench/serving.h"

#define ROUNDS_DEFAULT 3u

/* ---- shared ---- */
void samples_add(struct samples *s, double value)
{
    if (s->n < SERVING_ROUNDS_MAX)
        s->value[s->n++] = value;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double samples_median(struct samples *s)
{
    if (s->n == 0)
        return 0;
    qsort(s->value, s->n, sizeof s->value[0], ascending);
    return (s->value[(s->n - 1) / 2] + s->value[s->n / 2]) / 2;
}

double samples_most(struct samples *s)
{
    if (s->n == 0)
        return 0;
    qsort(s->value, s->n, sizeof s->value[0], ascending);
    return s->value[s->n - 1];
}

const char *serving_verdict(double value, double bar)
{
    return value >= bar ? "pass" : "MISS";
}

enum status serving_start(const struct serving *b, struct serve *s, const char *const *arguments,
                          struct err *e)
{
    struct serve_options o = {.program = b->program, .model = b->model, .arguments = arguments};
    return serve_start(s, &o, e);
}

enum status serving_generate(struct serve *s, const struct serving_ask *ask, struct chat_reply *r,
                             struct err *e)
{
    struct buf prompt;
    char more[160];
    buf_init(&prompt, SERVING_PROMPT_MAX);
    json_write_string(&prompt, slice_of(ask->prompt));
    snprintf(more, sizeof more, "\"ignore_eos\":true,\"seed\":7,\"top_k\":40%s",
             ask->no_cache ? ",\"cache_prompt\":false" : "");
    struct chat_ask a = {.path = "/v1/completions",
                         .prompt = buf_slice(&prompt),
                         .more = more,
                         .temperature = ask->temperature,
                         .max_tokens = ask->n_tokens,
                         .ms_max = SERVING_MS_MAX};
    enum status st = chat_send(s->url, s->http, &a, r, e);
    if (st == OK && (r->http != 200 || !r->has_kvasir))
        st = err_set(e, E_IO, "HTTP %d: %s", r->http, r->error_message);
    buf_release(&prompt);
    return st;
}

double serving_rate(const struct chat_reply *r)
{
    return r->decode_ms > 0 ? (double)(r->completion_tokens - 1) * 1e3 / r->decode_ms : 0;
}

/* ---- speculation ---- */
static const char code[] =
    "static enum status read_row(struct slice line, struct arena *a, struct row *row)\n"
    "{\n"
    "    struct json *v = NULL;\n"
    "    enum status st = json_parse(line, a, &v);\n"
    "    if (st != OK)\n"
    "        return st;\n"
    "    const struct json *id = json_get(v, \"id\"), *tokens = json_get(v, \"tokens\");\n"
    "    const struct json *messages = json_get(v, \"messages\"), *tools = json_get(v, "
    "\"tools\");\n"
    "    const struct json *answer = json_get(v, \"answer\");\n"
    "    if (!id || id->kind != JSON_STRING || !tokens || tokens->kind != JSON_INT)\n"
    "        return E_SYNTAX;\n"
    "    row->messages = written(a, messages);\n"
    "    return row->messages.len > 0 ? OK : E_NOMEM;\n"
    "}\n";
static const char passage[] =
    "In 1850, near the harbour, Anna Berg found 300 lanterns before the rain began. In 1911 Doctor "
    "Lind sold 27 wooden boats for the summer festival and wrote it down in the ledger. Peter "
    "Stone "
    "repaired the old mill in 1822 with the help of a friend, because nobody else would, and kept "
    "one mirror for the museum. The clocks of the town hall were counted by an old sailor.";

struct prompt {
    const char *name, *text;
    double temperature;
    uint32_t n_tokens;
};

static bool make_prompts(struct serving *b, struct prompt prompts[4])
{
    const char *edit = arena_printf(
        &b->arena,
        "Here is the file before the change:\n```c\n%s```\nHere is the same file after "
        "the change, where `row` is called `entry`:\n```c\n",
        code);
    const char *rag = arena_printf(&b->arena,
                                   "Context:\n%s\n\nQuestion: Quote the passage word for word.\n"
                                   "Answer: \"In 1850, near",
                                   passage);
    prompts[0] = (struct prompt){"code edit, greedy", edit, 0, 200};
    prompts[1] = (struct prompt){"code edit, temperature 0.8", edit, 0.8, 200};
    prompts[2] = (struct prompt){"quote from a text, greedy", rag, 0, 120};
    prompts[3] = (struct prompt){"story, temperature 0.8", "Once upon a time there was a clerk who",
                                 0.8, 160};
    return edit && rag;
}

static enum status guess_one(struct serve servers[2], const struct prompt *p, uint32_t round,
                             struct samples rates[2], struct chat_reply *last, struct err *e)
{
    struct chat_reply replies[2] = {{0}, {0}};
    enum status st = OK;
    struct serving_ask ask = {p->text, p->n_tokens, p->temperature, false};
    for (uint32_t i = 0; st == OK && i < 2; i++) {
        uint32_t side = (i + round) % 2;
        st = serving_generate(&servers[side], &ask, &replies[side], e);
        samples_add(&rates[side], serving_rate(&replies[side]));
    }
    char why[200];
    if (st == OK && !chat_is_same(&replies[0], &replies[1], why, sizeof why))
        st = err_set(e, E_CORRUPT, "%s: other tokens with guesses: %s", p->name, why);
    chat_reply_release(&replies[0]);
    chat_reply_release(last);
    *last = replies[1];
    return st;
}

enum status serving_speculation(struct serving *b, struct err *e)
{
    static const char *const flags[2][3] = {{"--speculate", "off", NULL},
                                            {"--speculate", "auto", NULL}};
    struct serve servers[2];
    memset(servers, 0, sizeof servers);
    struct prompt prompts[4];
    enum status st = make_prompts(b, prompts) ? OK : err_set(e, E_NOMEM, "prompts");
    for (uint32_t i = 0; st == OK && i < 2; i++)
        st = serving_start(b, &servers[i], flags[i], e);
    printf("\n  guessed tokens (--speculate)    %8s %8s %7s %14s\n", "off", "auto", "ratio",
           "guesses right");
    for (size_t i = 0; st == OK && i < ARRAY_COUNT(prompts); i++) {
        struct samples rates[2] = {{{0}, 0}, {{0}, 0}};
        struct chat_reply last = {0};
        for (uint32_t round = 0; st == OK && round < b->n_rounds; round++)
            st = guess_one(servers, &prompts[i], round, rates, &last, e);
        double off = samples_median(&rates[0]), on = samples_median(&rates[1]);
        if (st == OK)
            printf("  %-30s %6.1f/s %6.1f/s %6.2fx %8lld of %lld\n", prompts[i].name, off, on,
                   off > 0 ? on / off : 0, (long long)last.accepted, (long long)last.drafted);
        chat_reply_release(&last);
    }
    serve_kill(&servers[0]);
    serve_kill(&servers[1]);
    return st;
}

/* ---- main ---- */
static const struct part {
    const char *name;
    enum status (*run)(struct serving *b, struct err *e);
} parts[] = {
    {"speculation", serving_speculation},
    {"neighbour", serving_neighbour},
    {"threads", serving_threads},
    {"stall", serving_stall},
    {"load", serving_load},
    {"overhead", serving_overhead},
};

static const struct part *part_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        if (strcmp(parts[i].name, name) == 0)
            return &parts[i];
    return NULL;
}

int main(int argc, char **argv)
{
    struct serving b = {.n_rounds = ROUNDS_DEFAULT};
    struct err e = {0};
    const struct part *chosen[ARRAY_COUNT(parts)];
    size_t n = 0;
    bool is_wrong = false;
    for (int i = 1; i < argc && !is_wrong; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value && strcmp(argv[i], "--kvasir") == 0)
            b.program = argv[++i];
        else if (value && strcmp(argv[i], "-m") == 0)
            b.model = argv[++i];
        else if (value && strcmp(argv[i], "--rounds") == 0)
            b.n_rounds = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (part_of(argv[i]) && n < ARRAY_COUNT(chosen))
            chosen[n++] = part_of(argv[i]);
        else
            is_wrong = true;
    }
    if (is_wrong || !b.program || n == 0 || b.n_rounds == 0 || b.n_rounds > SERVING_ROUNDS_MAX) {
        fprintf(stderr,
                "usage: kvasir-serving-bench --kvasir PATH [-m MODEL] [--rounds 1…%u] "
                "speculation|neighbour|threads|stall|load|overhead …\n",
                SERVING_ROUNDS_MAX);
        return 2;
    }
    arena_init(&b.arena, 64u << 20);
    printf("%s, %u rounds\n", b.model ? b.model : "skald", b.n_rounds);
    enum status st = OK;
    for (size_t i = 0; st == OK && i < n; i++) {
        st = chosen[i]->run(&b, &e);
        fflush(stdout);
    }
    if (st != OK)
        fprintf(stderr, "kvasir-serving-bench: %s\n", e.msg);
    arena_release(&b.arena);
    return st == OK ? 0 : 1;
}
