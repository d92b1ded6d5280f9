/* SPDX-License-Identifier: MIT
 * step.c — one batch: the next token of every running choice, and prefill chunks within a budget,
 * so that a long prompt does not stall the streams beside it. */
#include "engine/engine_int.h"

struct step {
    struct choice *choices[ENGINE_PARALLEL_MAX];
    struct sequence *sequences[ENGINE_PARALLEL_MAX];
    struct model_sequence runs[ENGINE_PARALLEL_MAX];
    uint32_t n;
    uint32_t n_tokens;
    uint32_t n_logits;
};

static uint32_t tokens_left(const struct choice *c)
{
    return (uint32_t)c->tokens.count - sequence_valid(c->sequence);
}

static void add(const struct engine *g, struct step *s, struct choice *c, uint32_t n_tokens)
{
    struct model_sequence *run = &s->runs[s->n];
    uint32_t first = sequence_valid(c->sequence);
    *run = (struct model_sequence){
        .tokens = c->tokens.ids + first,
        .n_tokens = n_tokens,
        .first_position = first,
        .n_logits = first + n_tokens == c->tokens.count,
    };
    for (uint32_t group = 0; group < g->model_info->n_groups; group++) {
        struct sequence_pages p = sequence_pages(c->sequence, group, n_tokens);
        run->groups[group] = (struct kv_pages){p.pages, p.first_page, p.n_pages};
    }
    s->choices[s->n] = c;
    s->sequences[s->n] = c->sequence;
    s->n++;
    s->n_tokens += n_tokens;
    s->n_logits += run->n_logits;
}

/* Everything begins again from what is still good. */
void step_restart_all(struct engine *g)
{
    for (struct job *job = g->running; job; job = job->next) {
        job_release(g, job);
        job->why_again = "stored pages failed verification";
        if (++job->n_restarts > RESTARTS_MAX)
            err_set(&job->error, E_CORRUPT,
                    "stored pages keep failing verification; run: kvasir store verify");
    }
    for (struct job *job = g->running; job; job = job->next)
        if (job->error.code == OK && !job_is_finished(job))
            if (job_begin(g, job, &job->error) == OK)
                job->error.code = OK;
}

/* A choice did not get its pages: its job gives way to the others, unless there is none. */
static void yield_memory(struct engine *g, struct job *job, const struct err *e)
{
    if (g->running == job && !job->next) {
        err_set(&job->error, E_NOMEM, "%s; serve with a larger --cache-max-bytes", e->msg);
        return;
    }
    for (struct job **at = &g->running; *at; at = &(*at)->next) {
        if (*at == job) {
            *at = job->next;
            break;
        }
    }
    job_release(g, job);
    job->yielded_at = g->n_retired;
    job->why_again = "KV memory was short";
    job->next = g->waiting;
    g->waiting = job;
}

enum gather_result { GATHERED, GATHER_AGAIN };

/* Takes choices that decode (is_decode) or prefill, within the budget. */
static enum gather_result gather(struct engine *g, struct step *s, bool is_decode, uint32_t chunk)
{
    for (struct job *job = g->running; job; job = job->next) {
        for (uint32_t i = 0; i < job->n_choices && job->error.code == OK; i++) {
            struct choice *c = &job->choices[i];
            if (c->is_finished || !c->sequence || s->n == g->n_slots)
                continue;
            uint32_t left = tokens_left(c), room = MODEL_BATCH_TOKENS_MAX - s->n_tokens;
            CHECK(left > 0);
            if ((left == 1) != is_decode || room == 0)
                continue;
            uint32_t n = left < chunk ? left : chunk;
            n = n < room ? n : room;
            struct err e;
            enum status st = sequence_reserve(c->sequence, n, &e);
            if (st == OK) {
                add(g, s, c, n);
            } else if (st == E_CORRUPT) {
                step_restart_all(g);
                return GATHER_AGAIN;
            } else {
                yield_memory(g, job, &e);
                return GATHER_AGAIN;
            }
        }
    }
    return GATHERED;
}

static enum gather_result compose(struct engine *g, struct step *s)
{
    s->n = s->n_tokens = s->n_logits = 0;
    if (gather(g, s, true, 1) == GATHER_AGAIN)
        return GATHER_AGAIN;
    uint32_t chunk = g->options.chunk ? g->options.chunk : MODEL_BATCH_TOKENS_MAX;
    if (s->n > 0 && chunk > CHUNK_BESIDE_STREAMS)
        chunk = CHUNK_BESIDE_STREAMS;
    return gather(g, s, false, chunk);
}

static enum status before_layer(void *arg, uint32_t layer, uint32_t worker, uint32_t n_workers)
{
    struct engine *g = arg;
    return cache_before_layer(g->cache, g->layer_group[layer], g->layer_slot[layer], worker,
                              n_workers);
}

enum status step_forward(struct engine *g, struct model_sequence *runs,
                         struct sequence *const *sequences, uint32_t n, float *logits,
                         struct err *e)
{
    uint32_t n_unverified = 0, n_bad = 0;
    uint64_t faults = os_fault_count();
    enum status st = cache_verify_begin(g->cache, sequences, n, &n_unverified, e);
    if (st != OK)
        return st;
    struct model_batch batch = {
        .sequences = runs,
        .n_sequences = n,
        .kv_type = g->options.kv_type,
        .logits = logits,
        .before_layer = n_unverified ? before_layer : NULL,
        .before_layer_arg = g,
    };
    st = model_forward(g->model, g->workspace, g->team, &batch, e);
    bool has_fault = os_fault_count() != faults;
    cache_verify_end(g->cache, sequences, n, has_fault, &n_bad);
    g->stats.n_steps++;
    if (n_bad > 0 || has_fault)
        return err_set(e, E_CORRUPT, "%u stored pages failed verification", n_bad);
    return st;
}

static void report_progress(const struct choice *c)
{
    c->job->usage.prefill_ms = clock_ms_since(c->job->begun_ns);
    struct engine_event ev = {
        .kind = EVENT_PROGRESS,
        .done = sequence_valid(c->sequence),
        .total = (uint32_t)c->tokens.count,
        .usage = &c->job->usage,
    };
    c->job->request->event(c->job->request->event_arg, &ev);
}

/* What the step computed becomes part of its sequences; those at their end draw the next token. */
static void take_results(struct engine *g, struct step *s)
{
    const float *logits = g->logits;
    const struct cache_verify_cost cost = cache_verify_cost(g->cache);
    for (uint32_t i = 0; i < s->n; i++) {
        struct choice *c = s->choices[i];
        struct job *job = c->job;
        const struct model_sequence *run = &s->runs[i];
        const float *row = run->n_logits ? logits : NULL;
        if (row)
            logits += g->model_info->n_vocab;
        job->usage.fault_in_ms += cost.fault_in_ms;
        job->usage.verify_ms += cost.verify_ms;
        struct err e;
        if (sequence_append(c->sequence, run->tokens, run->n_tokens, &e) != OK) {
            job->error = e;
            continue;
        }
        if (!job->is_prompt_done)
            report_progress(c);
        if (!row)
            continue;
        enum status st = OK;
        if (job->is_prompt_done)
            choice_sample(g, c, row);
        else
            st = job_prompt_done(g, job, row, &e);
        if (st == E_LIMIT) {
            yield_memory(g, job, &e);
            continue;
        }
        if (st != OK)
            job->error = e;
        if (job->is_prompt_done && !job->is_end_kept &&
            clock_ms_since(job->decode_ns) > KEEP_END_AFTER_MS) {
            job->is_end_kept = true; /* a long answer: a crash should not cost the prompt's tail */
            sequence_keep_end(c->sequence);
        }
    }
}

bool step_run(struct engine *g)
{
    struct step s;
    for (uint32_t tries = 0; compose(g, &s) == GATHER_AGAIN; tries++)
        if (tries >= RESTARTS_MAX * ENGINE_PARALLEL_MAX)
            return false;
    if (s.n == 0)
        return false;
    struct err e;
    enum status st = step_forward(g, s.runs, s.sequences, s.n, g->logits, &e);
    if (st == OK)
        take_results(g, &s);
    else if (st == E_CORRUPT)
        step_restart_all(g);
    else
        for (uint32_t i = 0; i < s.n; i++)
            s.choices[i]->job->error = e;
    return true;
}
