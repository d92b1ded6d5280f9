/* SPDX-License-Identifier: MIT
 * scenario_branch.c — one session, branched at several depths: after a restart and a restore, where
 * the probabilities of the next token are compared with those of a process that computed the same
 * prompt from nothing, and while it is live.
 * A system that keeps all it computes would find in one kind of branch what the other kind left, so
 * each kind has a session of its own, in a state of its own. */
#include "bench/compare/compare_int.h"

#define STATE        "branch"
#define ODDS_MOST    0.1 /* nat; other batch shapes alone stay well below */
#define CONTROLS     3u  /* branches that are computed again from nothing */
#define BRANCH_WORDS 64u

struct branches {
    struct run *r;
    struct system *s;
    enum scenario_id id;
    struct start how;
    struct buf prompt; /* the system message */
    double cold_first_ms;
    struct answer restored[64];
    struct sample samples[64];
    bool has[64];
};

/* The prompt's beginning up to a depth, then other words, then a question. */
static void make_branch(struct branches *g, uint32_t index, uint64_t salt, struct talk *t)
{
    uint32_t n = g->r->options->branches;
    size_t keep = g->prompt.len * (2 * index + 1) / (2 * n);
    struct buf text;
    while (keep && g->prompt.ptr[keep] != ' ')
        keep--;
    buf_init(&text, TALK_BYTES_MAX);
    prompts_write(&text, BRANCH_WORDS * 4, cell_seed(g->r, g->id, salt + index));
    struct buf all;
    buf_init(&all, TALK_BYTES_MAX);
    buf_add(&all, g->prompt.ptr, keep);
    buf_add_text(&all, "\n\nEdited here. ");
    buf_add_slice(&all, buf_slice(&text));
    talk_init(t);
    talk_add(t, "system", buf_slice(&all));
    cell_question(t, cell_seed(g->r, g->id, salt + index));
    buf_release(&text);
    buf_release(&all);
}

static double depth_of(const struct branches *g, uint32_t index)
{
    return 100.0 * (2 * index + 1) / (2 * g->r->options->branches);
}

static bool ask_branch(struct branches *g, uint32_t index, uint64_t salt, struct sample *c,
                       struct answer *a, bool wants_odds)
{
    struct talk t;
    make_branch(g, index, salt, &t);
    struct ask ask = {.talk = &t, .max_tokens = wants_odds ? 1 : g->r->options->answer_tokens};
    ask.wants_odds = wants_odds && (g->s->can & CAN_ODDS);
    bool is_ok = cell_ask(g->r, g->s, c, &ask, a);
    talk_release(&t);
    return is_ok;
}

static bool begin_session(struct branches *g)
{
    struct sample c = cell(g->r, g->s, g->id, "the session itself", 100);
    struct answer a = {0};
    struct talk t;
    if (!cell_words(g->r, g->s, &c, g->r->options->prompt_tokens, cell_seed(g->r, g->id, 0),
                    &g->prompt))
        return false;
    talk_init(&t);
    talk_add(&t, "system", buf_slice(&g->prompt));
    cell_question(&t, cell_seed(g->r, g->id, 0));
    g->how.is_fresh = true;
    struct ask ask = {.talk = &t, .max_tokens = g->r->options->answer_tokens};
    bool is_ok = cell_start(g->r, g->s, &c, &g->how) && cell_ask(g->r, g->s, &c, &ask, &a) &&
                 cell_save(g->r, g->s, &c, STATE);
    if (is_ok) {
        g->cold_first_ms = c.first_ms;
        c.disk_bytes = system_disk(g->s);
        cell_add(g->r, &c);
    }
    talk_release(&t);
    answer_release(&a);
    return is_ok;
}

/* The deepest first: then a server with one slot still has what the next one needs. */
static bool live_branches(struct branches *g)
{
    for (uint32_t i = g->r->options->branches; i-- > 0;) {
        struct sample c = cell(g->r, g->s, g->id, "live branch", depth_of(g, i));
        struct answer a = {0};
        bool is_ok = ask_branch(g, i, 1000, &c, &a, false);
        if (is_ok) {
            c.disk_bytes = system_disk(g->s);
            cell_add(g->r, &c);
        }
        answer_release(&a);
        if (!is_ok)
            return false;
    }
    return true;
}

/* Before each branch its own state is taken back, where that takes an action. */
static bool restored_branches(struct branches *g)
{
    for (uint32_t i = g->r->options->branches; i-- > 0;) {
        struct sample *c = &g->samples[i];
        struct err e = {0};
        int64_t tokens = -1;
        *c = cell(g->r, g->s, g->id, "branch after restart", depth_of(g, i));
        if (i + 1 == g->r->options->branches) {
            if (!cell_restart(g->r, g->s, c, &g->how, STATE))
                return false;
        } else if (g->s->driver->restore &&
                   g->s->driver->restore(g->s, STATE, &c->restore_ms, &tokens, &e) != OK) {
            cell_fail(g->r, g->s, c, &e);
            return false;
        }
        if (!ask_branch(g, i, 2000, c, &g->restored[i], true))
            return false;
        double share = depth_of(g, i) / 100;
        /* The question and the template are no part of the prefix.  Who claims no restore may fall
         * back to an earlier point: its count says so. */
        if (share > 0.3 && c->restore_ms >= 0)
            cell_check_reuse(c, (int64_t)(share * (double)c->prompt_tokens * 0.8),
                             g->cold_first_ms * share);
        g->has[i] = true;
    }
    return true;
}

static void control_branches(struct branches *g)
{
    uint32_t n = g->r->options->branches, step = n / CONTROLS ? n / CONTROLS : 1;
    struct sample c = cell(g->r, g->s, g->id, "control, computed from nothing", 0);
    g->how.is_fresh = true;
    if (!cell_start(g->r, g->s, &c, &g->how))
        return;
    for (uint32_t i = n - 1; i < n; i = i >= step ? i - step : n) {
        struct answer a = {0};
        c = cell(g->r, g->s, g->id, "control, computed from nothing", depth_of(g, i));
        c.ready_ms = -1;
        /* A prompt that begins like the one before would be no control. */
        bool is_ok = i + 1 == n || cell_start(g->r, g->s, &c, &g->how);
        if (is_ok && ask_branch(g, i, 2000, &c, &a, true)) {
            double off = odds_distance(&a, &g->restored[i]);
            g->samples[i].odds_off = off;
            if (off > ODDS_MOST) {
                g->samples[i].flags |= FLAG_OTHER_ODDS;
                snprintf(g->samples[i].note, sizeof g->samples[i].note,
                         "restored and branched, it gives other probabilities than computed from "
                         "nothing: off by %.2f nat, with %lld tokens claimed as cached",
                         off, (long long)g->samples[i].cached_tokens);
            }
            cell_add(g->r, &c);
        }
        answer_release(&a);
    }
}

void scenario_branch(struct run *r, struct system *s, enum scenario_id id)
{
    struct branches g = {.r = r, .s = s, .id = id};
    g.how = cell_how(r, r->options->prompt_tokens + BRANCH_WORDS * 2 + 256);
    buf_init(&g.prompt, TALK_BYTES_MAX);
    bool can_restore = (s->can & (CAN_KEEP | CAN_RESTART)) == (CAN_KEEP | CAN_RESTART);
    if (can_restore) {
        if (begin_session(&g) && restored_branches(&g) && (s->can & CAN_ODDS) && r->repeat == 0)
            control_branches(&g);
    } else {
        struct sample c = cell(r, s, id, "branch after restart", 0);
        cell_no(r, &c, "nothing outlives the process");
    }
    if (!s->is_dropped && begin_session(&g))
        (void)live_branches(&g);
    for (uint32_t i = 0; i < r->options->branches; i++) {
        if (g.has[i])
            cell_add(r, &g.samples[i]);
        answer_release(&g.restored[i]);
    }
    buf_release(&g.prompt);
    system_kill(s);
}
