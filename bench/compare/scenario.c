/* SPDX-License-Identifier: MIT
 * scenario.c — the table of scenarios, and how long each may take. */
#include <math.h>

#include "bench/compare/compare_int.h"

/* Before anything was measured: bytes of weights that a thread goes through in a second, as they
 * were seen on a processor of 2023.  What costs more is said by the warm-up. */
#define OUR_PREFILL_GUESS 90e9
#define PREFILL_GUESS     18e9
#define DECODE_GUESS      6e9
#define RATE_MOST         40000.0
#define DECODE_MOST       1500.0
#define LONG_TOKENS       8000.0 /* a prompt of so many costs twice as much a token as a short one */
#define LOAD_GUESS        1.5e9  /* bytes a second */
#define OUR_START_SECONDS 0.1
#define START_SECONDS     0.7
#define RESTORE_SECONDS   0.3

static bool is_ours(const struct system *s)
{
    return strcmp(s->driver->name, "kvasir") == 0;
}

double guess_prefill_rate(const struct run *r, const struct system *s)
{
    double guess = is_ours(s) ? OUR_PREFILL_GUESS : PREFILL_GUESS;
    return fmin(RATE_MOST, guess * r->options->threads / (double)r->model_bytes);
}

static double prefill_s(const struct run *r, const struct system *s, double tokens)
{
    double rate = s->prefill_rate > 0 ? s->prefill_rate : r->options->rate;
    if (rate <= 0)
        rate = guess_prefill_rate(r, s);
    return tokens * (1 + tokens / LONG_TOKENS) / rate;
}

static double answer_s(const struct run *r, const struct system *s)
{
    double guess = fmin(DECODE_MOST, DECODE_GUESS * r->options->threads / (double)r->model_bytes);
    return r->options->answer_tokens / (s->decode_rate > 0 ? s->decode_rate : guess);
}

static double start_s(const struct run *r, const struct system *s)
{
    return (is_ours(s) ? OUR_START_SECONDS : START_SECONDS) + (double)r->model_bytes / LOAD_GUESS;
}

/* What a repeated prompt costs: nothing much where it is kept. */
static double again_s(const struct run *r, const struct system *s, double tokens)
{
    return s->can & CAN_KEEP ? RESTORE_SECONDS : prefill_s(r, s, tokens);
}

static double cost_warm_up(const struct run *r, const struct system *s)
{
    return start_s(r, s) + prefill_s(r, s, 192) + 0.5;
}

static double cost_cold_start(const struct run *r, const struct system *s)
{
    return 2 * (start_s(r, s) + prefill_s(r, s, 64) + answer_s(r, s));
}

static double cost_resume(const struct run *r, const struct system *s)
{
    const struct options *o = r->options;
    return start_s(r, s) + prefill_s(r, s, o->prompt_tokens) + answer_s(r, s) +
           (o->sessions - 1) * (start_s(r, s) + again_s(r, s, o->prompt_tokens) +
                                prefill_s(r, s, 60) + answer_s(r, s));
}

static double cost_chat(const struct run *r, const struct system *s)
{
    return start_s(r, s) + prefill_s(r, s, 512) +
           r->options->turns * (prefill_s(r, s, 110) + answer_s(r, s));
}

static double cost_context(const struct run *r, const struct system *s)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->options->n_lengths; i++) {
        double n = r->options->lengths[i];
        if (r->context_tokens > 0 && n > (double)r->context_tokens)
            n = (double)r->context_tokens;
        sum += start_s(r, s) + prefill_s(r, s, n) + 2 * answer_s(r, s);
        if (s->can & CAN_KEEP)
            sum += 4 * (start_s(r, s) + again_s(r, s, n) + answer_s(r, s));
    }
    return sum;
}

static double cost_agents(const struct run *r, const struct system *s)
{
    const struct options *o = r->options;
    double asks = o->agents * 2.0 * (o->steps / 3 ? o->steps / 3 : 1);
    return start_s(r, s) + prefill_s(r, s, o->prompt_tokens) +
           asks * (prefill_s(r, s, 200) + answer_s(r, s));
}

static double cost_tools(const struct run *r, const struct system *s)
{
    return start_s(r, s) + prefill_s(r, s, 6000) +
           r->options->steps * (prefill_s(r, s, 1500) + answer_s(r, s));
}

static double cost_branch(const struct run *r, const struct system *s)
{
    const struct options *o = r->options;
    return 3 * start_s(r, s) + 2 * prefill_s(r, s, o->prompt_tokens) +
           2 * o->branches * prefill_s(r, s, o->prompt_tokens / 3.0);
}

static double cost_concurrency(const struct run *r, const struct system *s)
{
    double sum = 0;
    for (uint32_t i = 0; i < r->options->n_streams; i++)
        sum += start_s(r, s) + 2 * r->options->streams[i] * (prefill_s(r, s, 256) + answer_s(r, s));
    return sum;
}

static double cost_sizes(const struct run *r, const struct system *s)
{
    return 2 * start_s(r, s) + prefill_s(r, s, r->options->prompt_tokens) + 2 * answer_s(r, s);
}

const struct scenario scenarios[SCENARIO_COUNT] = {
    [SCENARIO_WARM_UP] = {"warm-up", "does it run the model as it should?", "first token", NULL,
                          cost_warm_up},
    [SCENARIO_COLD_START] = {"cold-start",
                             "process start, model load, first request: seconds to the first "
                             "token, the page cache warm and dropped",
                             "start to first token", scenario_cold_start, cost_cold_start},
    [SCENARIO_RESUME] = {"resume",
                         "sessions in a process of their own each, with one long system prompt and "
                         "a new question; state kept by each system's best means",
                         "restore + first token + answer", scenario_resume, cost_resume},
    [SCENARIO_CHAT] = {"chat", "a conversation of many turns in one process",
                       "first token of a turn", scenario_chat, cost_chat},
    [SCENARIO_CONTEXT] = {"context",
                          "prompt lengths: cold, the next turn, the next turn after a restart, the "
                          "same prompt again after a restart",
                          "restore + first token", scenario_context, cost_context},
    [SCENARIO_AGENTS] =
        {"agents",
         "agents that share a system prompt, interleaved, then children forked from "
         "them",
         "first token of a step", scenario_agents, cost_agents},
    [SCENARIO_TOOLS] = {"tools",
                        "an agent loop with long tool schemas and the results of a real MCP server",
                        "first token of a step", scenario_tools, cost_tools},
    [SCENARIO_BRANCH] = {"branch",
                         "a long session branched at several depths, live and after a restart, "
                         "probabilities compared",
                         "first token of a branch", scenario_branch, cost_branch},
    [SCENARIO_CONCURRENCY] = {"concurrency",
                              "1, 2, 4 … streams that arrive on a schedule (open loop)",
                              "first token after the due time", scenario_concurrency,
                              cost_concurrency},
    [SCENARIO_SIZES] = {"sizes", "cold and after a restart, one row a model",
                        "restore + first token", scenario_sizes, cost_sizes}};
