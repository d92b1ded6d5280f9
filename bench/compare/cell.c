/* SPDX-License-Identifier: MIT
 * cell.c — what every scenario does: begin, ask, keep, end, and write down how that went. */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/digest.h"
#include "bench/compare/compare_int.h"
#include "os/clock.h"

#define HUNG_MOST      2u  /* cells; then a system is left alone for the rest of the model */
#define REUSED_LEAST   0.5 /* of what was restored must come from it */
#define REUSED_MS_MOST 0.5 /* of a cold time to first token, where no count is told */
#define CONTEXT_SLACK  192u
#define NOT_FOUND_ODDS -100.0

struct sample sample_new(void)
{
    return (struct sample){.ready_ms = -1,
                           .save_ms = -1,
                           .restore_ms = -1,
                           .first_ms = -1,
                           .total_ms = -1,
                           .gap_p50_ms = -1,
                           .gap_p95_ms = -1,
                           .gap_p99_ms = -1,
                           .late_ms = -1,
                           .odds_off = -1,
                           .prompt_tokens = -1,
                           .cached_tokens = -1,
                           .output_tokens = -1,
                           .memory_bytes = -1,
                           .disk_bytes = -1,
                           .foreign = -1};
}

struct sample cell(const struct run *r, const struct system *s, enum scenario_id id,
                   const char *kase, double x)
{
    struct sample c = sample_new();
    c.system = (uint32_t)(s - r->systems);
    c.model = r->model;
    c.scenario = id;
    c.x = x;
    c.repeat = r->repeat;
    snprintf(c.kase, sizeof c.kase, "%s", kase);
    return c;
}

void cell_add(struct run *r, struct sample *c)
{
    if (c->foreign > FOREIGN_MOST)
        c->flags |= FLAG_BUSY;
    results_add(r->results, c);
}

void cell_fail(struct run *r, struct system *s, struct sample *c, const struct err *e)
{
    if (atomic_load(&is_interrupted))
        return; /* what ^C cut off is no failure of the system's */
    c->outcome = e->code == E_LIMIT ? OUTCOME_HUNG : OUTCOME_FAILED;
    snprintf(c->note, sizeof c->note, "%.190s", e->msg);
    if (c->outcome == OUTCOME_HUNG && ++s->n_hung >= HUNG_MOST)
        s->is_dropped = true;
    results_add(r->results, c);
    fprintf(stderr, "  %s: %s\n", s->name, c->note);
}

void cell_no(struct run *r, struct sample *c, const char *why)
{
    c->outcome = OUTCOME_NO;
    snprintf(c->note, sizeof c->note, "%.190s", why);
    results_add(r->results, c);
}

static int gap_order(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double gap_quantile(const struct answer *a, double q)
{
    double at = q * (a->n_gaps - 1);
    uint32_t i = (uint32_t)at;
    double low = (double)a->gaps_ms[i];
    double high = (double)a->gaps_ms[i + 1 < a->n_gaps ? i + 1 : i];
    return low + (high - low) * (at - i);
}

void cell_take(struct sample *c, struct answer *a)
{
    c->first_ms = a->first_ms;
    c->total_ms = a->total_ms;
    c->prompt_tokens = a->prompt_tokens;
    c->cached_tokens = a->cached_tokens;
    c->output_tokens = a->output_tokens;
    if (a->n_gaps) {
        qsort(a->gaps_ms, a->n_gaps, sizeof a->gaps_ms[0], gap_order);
        c->gap_p50_ms = gap_quantile(a, 0.50);
        c->gap_p95_ms = gap_quantile(a, 0.95);
        c->gap_p99_ms = gap_quantile(a, 0.99);
    }
    struct digester d = {0};
    char hex[DIGEST_HEX_BYTES];
    digest_begin(&d);
    digest_bytes(&d, a->text.ptr ? a->text.ptr : "", a->text.len);
    struct digest sum = digest_end(&d);
    digester_release(&d);
    digest_hex(&sum, hex);
    snprintf(c->answer, sizeof c->answer, "%.16s", hex);
    size_t n = a->text.len < sizeof c->opening - 1 ? a->text.len : sizeof c->opening - 1;
    while (n < a->text.len && n && ((unsigned char)a->text.ptr[n] & 0xc0u) == 0x80u)
        n--; /* no half character */
    snprintf(c->opening, sizeof c->opening, "%.*s", (int)n, a->text.len ? a->text.ptr : "");
}

bool cell_ask(struct run *r, struct system *s, struct sample *c, const struct ask *ask,
              struct answer *a)
{
    uint64_t start = clock_now_ns();
    struct ask limited = *ask;
    if (!limited.ms_max)
        limited.ms_max = r->options->cell_seconds * 1000;
    wire_ask(s, &limited, a);
    c->foreign = load_foreign(start);
    if (a->outcome != OUTCOME_DONE) {
        struct err e = {.code = a->outcome == OUTCOME_HUNG ? E_LIMIT : E_IO};
        snprintf(e.msg, sizeof e.msg, "%s", a->error);
        cell_fail(r, s, c, &e);
        return false;
    }
    cell_take(c, a);
    c->key_ms = c->first_ms + (c->restore_ms > 0 ? c->restore_ms : 0);
    return true;
}

struct start cell_how(const struct run *r, uint32_t tokens)
{
    uint32_t ctx = tokens + CONTEXT_SLACK;
    if (r->context_tokens > 0 && ctx > (uint32_t)r->context_tokens)
        ctx = (uint32_t)r->context_tokens;
    return (struct start){.model = r->model_path,
                          .ctx_tokens = (ctx + 255) / 256 * 256,
                          .parallel = 1,
                          .is_fresh = true};
}

bool cell_start(struct run *r, struct system *s, struct sample *c, const struct start *how)
{
    struct err e = {0};
    if (atomic_load(&is_interrupted))
        return false;
    if (system_start(s, how, &e) != OK) {
        cell_fail(r, s, c, &e);
        return false;
    }
    c->ready_ms = s->ready_ms;
    snprintf(c->note, sizeof c->note, "%s", s->dropped);
    return true;
}

bool cell_save(struct run *r, struct system *s, struct sample *c, const char *state)
{
    int64_t bytes = -1;
    double ms = -1;
    struct err e = {0};
    if (!s->driver->save || !(s->can & CAN_KEEP))
        return true;
    if (s->driver->save(s, state, &ms, &bytes, &e) != OK) {
        err_prefix(&e, "save");
        cell_fail(r, s, c, &e);
        return false;
    }
    c->save_ms = ms;
    return true;
}

bool cell_restart(struct run *r, struct system *s, struct sample *c, const struct start *how,
                  const char *state)
{
    struct start again = *how;
    struct err e = {0};
    int64_t tokens = -1;
    again.is_fresh = false;
    if (system_stop(s, &e) != OK) {
        err_prefix(&e, "stop");
        cell_fail(r, s, c, &e);
        return false;
    }
    if (!cell_start(r, s, c, &again))
        return false;
    if (!state || !s->driver->restore || !(s->can & CAN_KEEP))
        return true;
    if (s->driver->restore(s, state, &c->restore_ms, &tokens, &e) != OK) {
        err_prefix(&e, "restore");
        cell_fail(r, s, c, &e);
        return false;
    }
    return true;
}

void cell_check_reuse(struct sample *c, int64_t reusable_tokens, double cold_first_ms)
{
    bool is_reused = true;
    if (c->cached_tokens >= 0)
        is_reused = (double)c->cached_tokens >= REUSED_LEAST * (double)reusable_tokens;
    else
        is_reused = cold_first_ms <= 0 || c->first_ms <= REUSED_MS_MOST * cold_first_ms;
    if (is_reused)
        return;
    c->flags |= FLAG_NOT_REUSED;
    if (c->cached_tokens >= 0)
        snprintf(c->note, sizeof c->note,
                 "%s, then %lld of %lld prompt tokens came from it: the rest was computed again",
                 c->restore_ms >= 0 ? "restored with success" : "kept by itself",
                 (long long)c->cached_tokens, (long long)c->prompt_tokens);
    else
        snprintf(c->note, sizeof c->note,
                 "%s, then the first token took as long as cold: computed again",
                 c->restore_ms >= 0 ? "restored with success" : "kept by itself");
}

/* The largest difference among tokens that both name; a likeliest token that the other does not
 * know among its ten counts as far off. */
double odds_distance(const struct answer *a, const struct answer *b)
{
    double worst = -1;
    for (uint32_t i = 0; i < a->n_odds; i++) {
        double nearest = -1; /* several tokens may show the same text: parts of a character */
        for (uint32_t j = 0; j < b->n_odds; j++) {
            double d = fabs(a->odds[i].logprob - b->odds[j].logprob);
            if (strcmp(a->odds[i].token, b->odds[j].token) == 0 &&
                a->odds[i].logprob > NOT_FOUND_ODDS && b->odds[j].logprob > NOT_FOUND_ODDS &&
                (nearest < 0 || d < nearest))
                nearest = d;
        }
        worst = fmax(worst, nearest);
    }
    return worst;
}

/* ---- words ---- */
/* A seed for the words of a cell: systems of one repeat get the same words. */
uint64_t cell_seed(const struct run *r, enum scenario_id id, uint64_t x)
{
    return ((uint64_t)r->options->seed << 40) + ((uint64_t)id << 32) + (x << 8) + r->repeat + 1;
}

bool cell_words(struct run *r, struct system *s, struct sample *c, uint32_t tokens, uint64_t seed,
                struct buf *out)
{
    struct err e = {0};
    if (prompts_text(&r->prompts, tokens, seed, out, &e) == OK)
        return true;
    cell_fail(r, s, c, &e);
    return false;
}

void cell_question(struct talk *t, uint64_t seed)
{
    struct buf q;
    buf_init(&q, 4096);
    prompts_question(seed, &q);
    talk_add(t, "user", buf_slice(&q));
    buf_release(&q);
}

/* A system message of n tokens; false: failed and written down. */
bool cell_talk(struct run *r, struct system *s, struct sample *c, uint32_t tokens, uint64_t seed,
               struct talk *t)
{
    struct buf text;
    buf_init(&text, TALK_BYTES_MAX);
    talk_init(t);
    bool is_ok = cell_words(r, s, c, tokens, seed, &text);
    if (is_ok)
        talk_add(t, "system", buf_slice(&text));
    buf_release(&text);
    return is_ok;
}
