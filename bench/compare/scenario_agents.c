/* SPDX-License-Identifier: MIT
 * scenario_agents.c — agents and tools: several histories that share a beginning, and one that
 * grows by what tools return. */
#include "bench/compare/compare_int.h"
#include "os/clock.h"

#define STEP_TOKENS         96u
#define SCHEMA_TOKENS_MOST  6000.0
#define RESULT_TOKENS_MOST  1500.0
#define SCHEMA_CONTEXT_MOST 0.35 /* of a small context */
#define RESULT_CONTEXT_MOST 0.5

/* ---- agents ---- */
struct agents {
    struct run *r;
    struct system *s;
    enum scenario_id id;
    struct talk talks[64];
    double sum_ms, foreign;
};

static bool agent_step(struct agents *g, uint32_t agent, const char *kase, uint32_t step)
{
    struct sample c = cell(g->r, g->s, g->id, kase, step);
    struct answer a = {0};
    struct buf text;
    buf_init(&text, TALK_BYTES_MAX);
    bool is_ok = cell_words(g->r, g->s, &c, STEP_TOKENS,
                            cell_seed(g->r, g->id, 1000u * (agent + 1) + step), &text);
    if (is_ok) {
        talk_add(&g->talks[agent], "user", buf_slice(&text));
        struct ask ask = {.talk = &g->talks[agent], .max_tokens = g->r->options->answer_tokens};
        is_ok = cell_ask(g->r, g->s, &c, &ask, &a);
    }
    if (is_ok) {
        talk_add(&g->talks[agent], "assistant", buf_slice(&a.text));
        g->sum_ms += c.total_ms;
        g->foreign = c.foreign > g->foreign ? c.foreign : g->foreign;
        cell_add(g->r, &c);
    }
    buf_release(&text);
    answer_release(&a);
    return is_ok;
}

static bool agent_rounds(struct agents *g, uint32_t rounds)
{
    uint32_t k = g->r->options->agents;
    for (uint32_t step = 1; step <= rounds; step++)
        for (uint32_t i = 0; i < k; i++)
            if (!agent_step(g, i, "step", step))
                return false;
    /* Each agent hands its history to a child, which goes on with a task of its own. */
    for (uint32_t i = 0; i < k; i++) {
        struct talk parent;
        talk_copy(&parent, &g->talks[i]);
        bool is_ok = agent_step(g, i, "child's first step", 0);
        talk_release(&g->talks[i]);
        g->talks[i] = parent;
        if (!is_ok)
            return false;
    }
    return true;
}

void scenario_agents(struct run *r, struct system *s, enum scenario_id id)
{
    const struct options *o = r->options;
    uint32_t rounds = o->steps / 3 ? o->steps / 3 : 1;
    struct agents g = {.r = r, .s = s, .id = id};
    struct sample whole = cell(r, s, id, "all steps", 0);
    struct start how =
        cell_how(r, o->prompt_tokens + (rounds + 1) * (STEP_TOKENS + o->answer_tokens + 16));
    struct talk base;
    how.wants_ram_cache = true;
    bool is_ok = cell_talk(r, s, &whole, o->prompt_tokens, cell_seed(r, id, 0), &base);
    for (uint32_t i = 0; i < o->agents; i++)
        talk_copy(&g.talks[i], &base);
    uint64_t start = 0;
    if (is_ok)
        is_ok = cell_start(r, s, &whole, &how);
    start = clock_now_ns();
    if (is_ok && agent_rounds(&g, rounds)) {
        whole.key_ms = g.sum_ms;
        whole.total_ms = clock_ms_since(start);
        whole.foreign = g.foreign;
        whole.memory_bytes = system_memory(s);
        whole.disk_bytes = system_disk(s);
        snprintf(whole.note, sizeof whole.note, "%u agents, %u steps each, a child each", o->agents,
                 rounds);
        cell_add(r, &whole);
    }
    for (uint32_t i = 0; i < o->agents; i++)
        talk_release(&g.talks[i]);
    talk_release(&base);
    system_kill(s);
}

/* ---- tools ---- */
/* The beginning of a text that has about so many tokens. */
static struct slice at_most(const struct run *r, struct slice text, double tokens)
{
    size_t n = (size_t)(tokens * r->prompts.bytes_a_token);
    if (n >= text.len)
        return text;
    while (n && ((unsigned char)text.ptr[n] & 0xc0u) == 0x80u)
        n--;
    return (struct slice){text.ptr, n};
}

static bool tool_steps(struct run *r, struct system *s, enum scenario_id id, struct talk *t,
                       double result_tokens)
{
    const struct options *o = r->options;
    cell_question(t, cell_seed(r, id, 0));
    for (uint32_t i = 1; i <= o->steps; i++) {
        struct sample c = cell(r, s, id, "step", i);
        struct answer a = {0};
        struct ask ask = {.talk = t, .max_tokens = o->answer_tokens};
        bool is_ok = cell_ask(r, s, &c, &ask, &a);
        if (is_ok) {
            cell_add(r, &c);
            talk_add(t, "assistant", buf_slice(&a.text));
        }
        answer_release(&a);
        if (!is_ok)
            return false;
        if (i > r->tools.n_results)
            continue;
        struct buf result;
        struct slice text = at_most(r, r->tools.results[i - 1].text, result_tokens);
        buf_init(&result, TALK_BYTES_MAX);
        buf_printf(&result, "Result of " SLICE_FMT ":\n", SLICE_ARG(r->tools.results[i - 1].call));
        buf_add_slice(&result, text);
        talk_add(t, "user", buf_slice(&result));
        buf_release(&result);
    }
    return true;
}

void scenario_tools(struct run *r, struct system *s, enum scenario_id id)
{
    const struct options *o = r->options;
    struct sample c = cell(r, s, id, "step", 1);
    struct err e = {0};
    double ctx = r->context_tokens > 0 ? (double)r->context_tokens : 32768;
    double schema_tokens = SCHEMA_TOKENS_MOST, result_tokens = RESULT_TOKENS_MOST;
    struct talk t;
    struct buf text;
    if (!r->tools.is_read && mcp_record(o, o->steps, &r->tools, &e) != OK) {
        snprintf(r->tools.error, sizeof r->tools.error, "%.190s", e.msg);
        fprintf(stderr, "  MCP server: %s\n", r->tools.error);
    }
    r->tools.is_read = true;
    if (r->tools.error[0]) {
        cell_no(r, &c, r->tools.error);
        return;
    }
    if (schema_tokens > ctx * SCHEMA_CONTEXT_MOST)
        schema_tokens = ctx * SCHEMA_CONTEXT_MOST;
    if (result_tokens > ctx * RESULT_CONTEXT_MOST / o->steps - o->answer_tokens)
        result_tokens = ctx * RESULT_CONTEXT_MOST / o->steps - o->answer_tokens;
    buf_init(&text, TALK_BYTES_MAX);
    talk_init(&t);
    buf_printf(&text, "Run %u. You are an agent and may call these tools of %s:\n", r->repeat + 1,
               r->tools.server);
    buf_add_slice(&text, at_most(r, r->tools.tools, schema_tokens));
    talk_add(&t, "system", buf_slice(&text));
    struct start how = cell_how(
        r, (uint32_t)(schema_tokens + o->steps * (result_tokens + o->answer_tokens + 48)) + 256);
    how.wants_ram_cache = true;
    if (cell_start(r, s, &c, &how))
        (void)tool_steps(r, s, id, &t, result_tokens);
    buf_release(&text);
    talk_release(&t);
    system_kill(s);
}
