/* SPDX-License-Identifier: MIT
 * scenario_session.c — cold-start, resume, chat and context: one conversation at a time.
 * Prompts differ for each repeat, so that nothing is warm but what a scenario means to be. */
#include "bench/compare/compare_int.h"
#include "os/clock.h"

#define CHAT_USER_TOKENS 96u
#define STATE            "session"

/* ---- cold-start ---- */
static void cold_start_once(struct run *r, struct system *s, enum scenario_id id,
                            bool drops_page_cache)
{
    struct sample c =
        cell(r, s, id, drops_page_cache ? "page cache dropped" : "page cache warm", 0);
    struct talk t;
    struct answer a = {0};
    if (!(s->can & CAN_RESTART)) {
        cell_no(r, &c, "it was there before, and cannot be started by the bench");
        return;
    }
    talk_init(&t);
    cell_question(&t, cell_seed(r, id, drops_page_cache));
    struct start how = cell_how(r, 512);
    how.drop_page_cache = drops_page_cache;
    struct ask ask = {.talk = &t, .max_tokens = r->options->answer_tokens};
    if (cell_start(r, s, &c, &how) && cell_ask(r, s, &c, &ask, &a)) {
        c.key_ms = c.ready_ms + c.first_ms;
        c.memory_bytes = system_memory(s);
        cell_add(r, &c);
    }
    answer_release(&a);
    talk_release(&t);
    system_kill(s);
}

void scenario_cold_start(struct run *r, struct system *s, enum scenario_id id)
{
    cold_start_once(r, s, id, false);
    if (!s->is_dropped && s->driver->dialect == DIALECT_OPENAI)
        cold_start_once(r, s, id, true);
}

/* ---- resume ---- */
void scenario_resume(struct run *r, struct system *s, enum scenario_id id)
{
    struct start how = cell_how(r, r->options->prompt_tokens + r->options->answer_tokens + 128);
    struct talk base;
    struct sample first = cell(r, s, id, "session", 1);
    double cold_first_ms = 0;
    int64_t base_tokens = r->options->prompt_tokens;
    if (!(s->can & CAN_RESTART)) {
        cell_no(r, &first, "it was there before, and cannot be restarted by the bench");
        return;
    }
    bool is_ok = cell_talk(r, s, &first, r->options->prompt_tokens, cell_seed(r, id, 0), &base);
    for (uint32_t i = 1; is_ok && i <= r->options->sessions; i++) {
        struct sample c = cell(r, s, id, "session", i);
        struct talk t;
        struct answer a = {0};
        talk_copy(&t, &base);
        cell_question(&t, cell_seed(r, id, i));
        struct ask ask = {.talk = &t, .max_tokens = r->options->answer_tokens};
        how.is_fresh = i == 1;
        is_ok = i == 1 ? cell_start(r, s, &c, &how) : cell_restart(r, s, &c, &how, STATE);
        if (is_ok)
            is_ok = cell_ask(r, s, &c, &ask, &a);
        if (is_ok) {
            c.key_ms = (c.restore_ms > 0 ? c.restore_ms : 0) + c.total_ms;
            if (i == 1)
                cold_first_ms = c.first_ms;
            else if (s->can & CAN_KEEP)
                cell_check_reuse(&c, base_tokens, cold_first_ms);
            else
                snprintf(c.note, sizeof c.note, "nothing outlives the process");
            is_ok = cell_save(r, s, &c, STATE);
            c.disk_bytes = system_disk(s);
        }
        if (is_ok)
            cell_add(r, &c);
        answer_release(&a);
        talk_release(&t);
    }
    talk_release(&base);
    system_kill(s);
}

/* ---- chat ---- */
void scenario_chat(struct run *r, struct system *s, enum scenario_id id)
{
    const struct options *o = r->options;
    struct start how = cell_how(r, 512 + o->turns * (CHAT_USER_TOKENS + o->answer_tokens + 16));
    struct talk t;
    struct sample c = cell(r, s, id, "turn", 1), whole = cell(r, s, id, "all turns", o->turns);
    whole.key_ms = 0;
    bool is_ok = cell_talk(r, s, &c, 512, cell_seed(r, id, 0), &t) && cell_start(r, s, &c, &how);
    for (uint32_t i = 1; is_ok && i <= o->turns; i++) {
        struct answer a = {0};
        struct buf text;
        c = cell(r, s, id, "turn", i);
        buf_init(&text, TALK_BYTES_MAX);
        is_ok = cell_words(r, s, &c, CHAT_USER_TOKENS, cell_seed(r, id, i), &text);
        if (is_ok) {
            talk_add(&t, "user", buf_slice(&text));
            struct ask ask = {.talk = &t, .max_tokens = o->answer_tokens};
            is_ok = cell_ask(r, s, &c, &ask, &a);
        }
        if (is_ok) {
            talk_add(&t, "assistant", buf_slice(&a.text));
            whole.key_ms += c.total_ms;
            whole.foreign = c.foreign > whole.foreign ? c.foreign : whole.foreign;
            whole.prompt_tokens = c.prompt_tokens;
            cell_add(r, &c);
        }
        buf_release(&text);
        answer_release(&a);
    }
    if (is_ok) {
        whole.total_ms = whole.key_ms;
        whole.memory_bytes = system_memory(s);
        cell_add(r, &whole);
    }
    talk_release(&t);
    system_kill(s);
}

/* ---- context ---- */
struct context_run {
    struct run *r;
    struct system *s;
    enum scenario_id id;
    uint32_t tokens;
    struct start how;
    struct talk prompt, answered; /* up to the question; with its answer */
    double cold_first_ms;
    int64_t cold_tokens;
    bool is_not_reused; /* after the first restart */
};

static bool context_cold(struct context_run *g)
{
    struct sample c = cell(g->r, g->s, g->id, "cold", g->tokens);
    struct answer a = {0};
    if (!cell_talk(g->r, g->s, &c, g->tokens - 40, cell_seed(g->r, g->id, g->tokens), &g->prompt))
        return false;
    cell_question(&g->prompt, cell_seed(g->r, g->id, g->tokens));
    struct ask ask = {.talk = &g->prompt, .max_tokens = g->r->options->answer_tokens};
    bool is_ok = cell_start(g->r, g->s, &c, &g->how) && cell_ask(g->r, g->s, &c, &ask, &a);
    if (is_ok) {
        if (c.cached_tokens > c.prompt_tokens / 8) {
            c.flags |= FLAG_WARM;
            snprintf(c.note, sizeof c.note, "%lld tokens were cached already",
                     (long long)c.cached_tokens);
        }
        g->cold_first_ms = c.first_ms;
        g->cold_tokens = c.prompt_tokens > 0 ? c.prompt_tokens : g->tokens;
        talk_copy(&g->answered, &g->prompt);
        talk_add(&g->answered, "assistant", buf_slice(&a.text));
        is_ok = cell_save(g->r, g->s, &c, STATE);
        c.memory_bytes = system_memory(g->s);
        c.disk_bytes = system_disk(g->s);
    }
    if (is_ok)
        cell_add(g->r, &c);
    answer_release(&a);
    return is_ok;
}

enum context_case { SAME_PROCESS, AFTER_DROPPED, AFTER_WARM, REPEAT_DROPPED, REPEAT_WARM };
static const char *const context_cases[] = {[SAME_PROCESS] = "new turn, same process",
                                            [AFTER_DROPPED] = "new turn after restart",
                                            [AFTER_WARM] = "new turn after restart, pages warm",
                                            [REPEAT_DROPPED] = "repeat after restart",
                                            [REPEAT_WARM] = "repeat after restart, pages warm"};

/* False: no use in going on with this length. */
static bool context_again(struct context_run *g, enum context_case which)
{
    struct sample c = cell(g->r, g->s, g->id, context_cases[which], g->tokens);
    struct answer a = {0};
    struct talk t;
    bool is_repeat = which == REPEAT_DROPPED || which == REPEAT_WARM, is_ok = true;
    talk_copy(&t, is_repeat ? &g->prompt : &g->answered);
    if (!is_repeat) /* each another turn, or it would be a repeat */
        cell_question(&t, cell_seed(g->r, g->id, g->tokens) + 1000 + which);
    struct ask ask = {.talk = &t, .max_tokens = g->r->options->answer_tokens};
    if (which != SAME_PROCESS) {
        g->how.drop_page_cache = which == AFTER_DROPPED || which == REPEAT_DROPPED;
        is_ok = cell_restart(g->r, g->s, &c, &g->how, STATE);
    }
    if (is_ok)
        is_ok = cell_ask(g->r, g->s, &c, &ask, &a);
    if (is_ok) {
        if (which != SAME_PROCESS)
            cell_check_reuse(&c, g->cold_tokens, g->cold_first_ms);
        if (which == AFTER_DROPPED)
            g->is_not_reused = (c.flags & FLAG_NOT_REUSED) != 0;
        cell_add(g->r, &c);
    }
    answer_release(&a);
    talk_release(&t);
    return is_ok;
}

static void context_length(struct run *r, struct system *s, enum scenario_id id, uint32_t tokens)
{
    struct context_run g = {.r = r, .s = s, .id = id, .tokens = tokens};
    g.how = cell_how(r, tokens + 2 * r->options->answer_tokens + 96);
    bool is_ok = context_cold(&g) && context_again(&g, SAME_PROCESS);
    for (int i = AFTER_DROPPED; is_ok && i <= REPEAT_WARM; i++) {
        bool is_same_again = (i == AFTER_WARM || i == REPEAT_DROPPED) && g.is_not_reused;
        if (is_same_again) {
            struct sample c = cell(r, s, id, context_cases[i], tokens);
            c.outcome = OUTCOME_SKIPPED;
            snprintf(c.note, sizeof c.note,
                     "its restore was not reused, so this would compute the prompt again");
            results_add(r->results, &c);
        } else if ((s->can & (CAN_KEEP | CAN_RESTART)) == (CAN_KEEP | CAN_RESTART)) {
            is_ok = context_again(&g, (enum context_case)i);
        } else {
            struct sample c = cell(r, s, id, context_cases[i], tokens);
            cell_no(r, &c, "nothing outlives the process");
        }
    }
    system_kill(s);
    talk_release(&g.prompt);
    talk_release(&g.answered);
}

void scenario_context(struct run *r, struct system *s, enum scenario_id id)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < r->options->n_lengths; i++) {
        uint32_t tokens = r->options->lengths[i];
        uint32_t most = r->context_tokens > 0 ? (uint32_t)r->context_tokens - 256 : tokens;
        if (tokens > most)
            tokens = most;
        if (tokens == last || s->is_dropped || atomic_load(&is_interrupted))
            continue;
        last = tokens;
        context_length(r, s, id, tokens);
    }
}

/* ---- sizes: one length, a row a model ---- */
void scenario_sizes(struct run *r, struct system *s, enum scenario_id id)
{
    uint32_t tokens = r->options->prompt_tokens;
    if (r->context_tokens > 0 && tokens > (uint32_t)r->context_tokens - 256)
        tokens = (uint32_t)r->context_tokens - 256;
    context_length(r, s, id, tokens);
}
