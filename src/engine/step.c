/* SPDX-License-Identifier: MIT
 * step.c — one batch: the next token of every running choice, and prefill chunks within a budget,
 * so that a long prompt does not stall the streams beside it. */
#include "engine/engine_int.h"

#define LOGITS_WORTH_SHARING (1u << 18) /* to sift fewer costs less than waking a worker */

/* What the step does for one choice. */
struct part {
    struct choice *choice;
    uint32_t tokens[1 + SPECULATE_MAX]; /* decoding: the last token, then guesses */
    uint32_t first_row;                 /* of logits, or of hidden vectors */
    bool is_read;                       /* its rows are read.c's */
    uint32_t first_drawn, n_drawn;      /* of step.drawn */
};

struct step {
    struct part parts[ENGINE_PARALLEL_MAX];
    struct sequence *sequences[ENGINE_PARALLEL_MAX];
    struct model_sequence runs[ENGINE_PARALLEL_MAX];
    struct sampled drawn[ENGINE_PARALLEL_MAX + SPECULATE_ROWS_MAX];
    uint32_t n;
    uint32_t n_tokens;
    uint32_t n_logits, n_hidden;
    uint32_t n_decoding; /* choices */
    uint32_t n_guesses;
    double prompt_depths; /* of all prompt tokens: where their chunks began, added up */
};
_Static_assert(SPECULATE_CHOICES_MAX == ENGINE_PARALLEL_MAX, "speculate.h knows no engine");
_Static_assert(SAMPLER_BLOCK == MODEL_LOGIT_BLOCK, "neither knows the other");
_Static_assert(SPECULATE_MAX == ENGINE_SPECULATE_MAX, "speculate.h knows no engine");

static uint32_t tokens_left(const struct choice *c)
{
    return (uint32_t)c->tokens.count - sequence_valid(c->sequence);
}

/* Its prompt is being read: see read.c. */
static bool is_reading(const struct choice *c)
{
    return read_wants_rows(c->job) && !c->job->is_prompt_done;
}

static void add(const struct engine *g, struct step *s, struct choice *c, uint32_t n_tokens)
{
    struct model_sequence *run = &s->runs[s->n];
    struct part *part = &s->parts[s->n];
    uint32_t first = sequence_valid(c->sequence), n_logits = 0;
    const bool is_read = is_reading(c);
    const bool is_hidden = is_read && c->job->request->wants_vector;
    uint32_t *n_rows = is_hidden ? &s->n_hidden : &s->n_logits;
    if (is_read)
        n_logits = read_rows(g, c->job, first, n_tokens);
    else if (first + n_tokens >= c->tokens.count)
        n_logits = first + n_tokens - (uint32_t)c->tokens.count + 1;
    *run = (struct model_sequence){
        .tokens = c->tokens.ids + first,
        .n_tokens = n_tokens,
        .first_position = first,
        .n_logits = n_logits,
        .is_hidden = is_hidden,
    };
    *part = (struct part){.choice = c, .first_row = *n_rows, .is_read = is_read};
    if (n_logits > 1 && !is_read) {
        part->tokens[0] = c->tokens.ids[first];
        memcpy(part->tokens + 1, c->guesses, (n_logits - 1) * sizeof *c->guesses);
        run->tokens = part->tokens;
        s->n_guesses += n_logits - 1;
    }
    for (uint32_t group = 0; group < g->model_info->n_groups; group++) {
        struct sequence_pages p = sequence_pages(c->sequence, group, n_tokens);
        run->groups[group] = (struct kv_pages){p.pages, p.first_page, p.n_pages};
    }
    s->sequences[s->n] = c->sequence;
    s->n++;
    s->n_tokens += n_tokens;
    *n_rows += run->n_logits;
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

/* ---- guesses ---- */

static bool is_decoding(const struct choice *c)
{
    return !c->is_finished && c->sequence && c->job->is_prompt_done && c->job->error.code == OK &&
           tokens_left(c) == 1;
}

/* What c's next tokens may be: at most what it may still generate, less the one drawn anyway. */
static void offer_guesses(struct engine *g, struct choice *c, uint32_t max,
                          struct speculate_offer *offer)
{
    uint32_t left = choice_tokens_left(g, c), n = (uint32_t)c->tokens.count;
    draft_follow(&c->draft, c->tokens.ids, n, &g->speculation.rates);
    offer->n_offered = draft_guess(&c->draft, c->tokens.ids, n, c->guesses, offer->right,
                                   left <= max ? left - 1 : max);
    offer->n_taken = 0;
}

/* Sets n_guesses of the choices that decode in the next step. */
static void choose_guesses(struct engine *g, uint32_t n_beside)
{
    struct choice *choices[ENGINE_PARALLEL_MAX];
    struct speculate_offer offers[ENGINE_PARALLEL_MAX];
    uint32_t forced = g->options.speculate, n = 0, n_guesses = 0;
    for (struct job *job = g->running; job; job = job->next)
        for (uint32_t i = 0; i < job->n_choices; i++) {
            struct choice *c = &job->choices[i];
            c->n_guesses = 0;
            if (forced == ENGINE_SPECULATE_OFF || n == g->n_slots || !is_decoding(c))
                continue;
            offer_guesses(g, c, forced ? forced : SPECULATE_MAX, &offers[n]);
            choices[n++] = c;
        }
    if (n == 0)
        return;
    struct speculate_step step = {g->stats.n_steps + 1, n, n_beside};
    if (!forced)
        speculate_choose(&g->speculation, step, offers, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t wanted = forced ? offers[i].n_offered : offers[i].n_taken;
        uint32_t room = SPECULATE_ROWS_MAX - n_guesses;
        choices[i]->n_guesses = wanted < room ? wanted : room;
        n_guesses += choices[i]->n_guesses;
    }
}

/* ---- composing ---- */

enum gather_result { GATHERED, GATHER_AGAIN };

/* Takes n tokens of c into the step, of which all but one may be guesses. */
static enum gather_result gather_one(struct engine *g, struct step *s, struct choice *c, uint32_t n,
                                     bool is_decode)
{
    struct err e;
    enum status st = sequence_reserve(c->sequence, n, &e);
    if (st == E_LIMIT && is_decode && n > 1) /* not for guesses */
        st = sequence_reserve(c->sequence, n = 1, &e);
    if (st == OK) {
        if (!is_decode)
            s->prompt_depths += (double)n * sequence_valid(c->sequence);
        add(g, s, c, n);
        s->n_decoding += is_decode;
        return GATHERED;
    }
    if (st == E_CORRUPT)
        step_restart_all(g);
    else
        yield_memory(g, c->job, &e);
    return GATHER_AGAIN;
}

/* The next token of every choice that has all but that. */
static enum gather_result gather_decoding(struct engine *g, struct step *s)
{
    for (struct job *job = g->running; job; job = job->next) {
        for (uint32_t i = 0; i < job->n_choices && job->error.code == OK; i++) {
            struct choice *c = &job->choices[i];
            uint32_t room = MODEL_BATCH_TOKENS_MAX - s->n_tokens, n = 1 + c->n_guesses;
            if (c->is_finished || !c->sequence || s->n == g->n_slots || tokens_left(c) > 1)
                continue;
            if (gather_one(g, s, c, n < room ? n : room, true) == GATHER_AGAIN)
                return GATHER_AGAIN;
        }
    }
    return GATHERED;
}

/* Rows of logits that nobody needs: each choice that may still join the step keeps one.  Guesses
 * have at most SPECULATE_ROWS_MAX, and this choice its own: there is one at least. */
static uint32_t rows_left(const struct engine *g, const struct step *s)
{
    return g->n_logits_rows - s->n_logits - (g->n_slots - s->n) + 1;
}

/* How much of prompts one step takes. */
struct budget {
    uint32_t tokens;
    double ns; /* as times were measured; is_timed */
    bool is_timed;
};

/* So many of n tokens that begin at depth; takes them off. */
static uint32_t spend(const struct engine *g, struct budget *b, uint32_t depth, uint32_t n,
                      bool is_first)
{
    if (n > b->tokens)
        n = b->tokens;
    if (b->is_timed) {
        n = schedule_fit(&g->schedule, depth, b->ns, is_first, n);
        b->ns -= schedule_cost(&g->schedule, depth, n);
    }
    b->tokens -= n;
    return n;
}

/* Prompts within the budget: all of who goes first, then of the next, … */
static enum gather_result gather_prompts(struct engine *g, struct step *s, struct budget budget)
{
    struct choice *choices[ENGINE_PARALLEL_MAX];
    struct schedule_claim claims[ENGINE_PARALLEL_MAX];
    uint32_t n_choices = 0;
    uint64_t now = clock_now_ns();
    for (struct job *job = g->running; job; job = job->next)
        for (uint32_t i = 0; i < job->n_choices && job->error.code == OK; i++) {
            struct choice *c = &job->choices[i];
            if (!c->is_finished && c->sequence && tokens_left(c) > 1 &&
                n_choices < ENGINE_PARALLEL_MAX) {
                claims[n_choices] = job_claim(job, now);
                choices[n_choices++] = c;
            }
        }
    if (budget.tokens > MODEL_BATCH_TOKENS_MAX - s->n_tokens)
        budget.tokens = MODEL_BATCH_TOKENS_MAX - s->n_tokens;
    for (bool is_first = true; n_choices > 0 && budget.tokens > 0 && s->n < g->n_slots;
         is_first = false) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n_choices; i++)
            if (schedule_before(&claims[i], &claims[best]))
                best = i;
        struct choice *c = choices[best];
        choices[best] = choices[--n_choices];
        claims[best] = claims[n_choices];
        uint32_t n = tokens_left(c);
        if (is_reading(c) && !c->job->request->wants_vector && n > rows_left(g, s))
            n = rows_left(g, s);
        n = spend(g, &budget, sequence_valid(c->sequence), n, is_first);
        if (n == 0) /* no time is left */
            break;
        if (gather_one(g, s, c, n, false) == GATHER_AGAIN)
            return GATHER_AGAIN;
    }
    return GATHERED;
}

/* Prompt tokens that wait to be computed, at most MODEL_BATCH_TOKENS_MAX. */
static uint32_t prompt_tokens_waiting(const struct engine *g)
{
    uint32_t n = 0;
    for (const struct job *job = g->running; job; job = job->next)
        for (uint32_t i = 0; i < job->n_choices && n < MODEL_BATCH_TOKENS_MAX; i++) {
            const struct choice *c = &job->choices[i];
            if (!c->is_finished && c->sequence && tokens_left(c) > 1)
                n += tokens_left(c);
        }
    return n < MODEL_BATCH_TOKENS_MAX ? n : MODEL_BATCH_TOKENS_MAX;
}

static uint32_t count_decoding(const struct engine *g)
{
    uint32_t n = 0;
    for (const struct job *job = g->running; job; job = job->next)
        for (uint32_t i = 0; i < job->n_choices; i++)
            n += is_decoding(&job->choices[i]);
    return n;
}

static struct schedule_beside beside(const struct engine *g, uint32_t n_decoding)
{
    return (struct schedule_beside){n_decoding, g->options.stall_ms ? (double)g->options.stall_ms
                                                                    : STALL_MS_DEFAULT};
}

static enum gather_result compose(struct engine *g, struct step *s)
{
    s->n = s->n_tokens = s->n_logits = s->n_hidden = s->n_decoding = s->n_guesses = 0;
    s->prompt_depths = 0;
    const uint32_t n_decoding = count_decoding(g);
    struct budget budget = {
        .tokens = g->options.chunk ? g->options.chunk : MODEL_BATCH_TOKENS_MAX,
        .is_timed = n_decoding > 0 || home_n_working(g->home) > 1, /* others wait for their turns */
    };
    uint32_t n_prompt = prompt_tokens_waiting(g);
    if (budget.is_timed) {
        budget.ns = schedule_budget(&g->schedule, beside(g, n_decoding));
        n_prompt = schedule_fit(&g->schedule, 0, budget.ns, true, n_prompt);
    }
    choose_guesses(g, n_prompt < budget.tokens ? n_prompt : budget.tokens);
    if (gather_decoding(g, s) == GATHER_AGAIN)
        return GATHER_AGAIN;
    return gather_prompts(g, s, budget);
}

static enum status before_layer(void *arg, uint32_t layer, uint32_t worker, uint32_t n_workers)
{
    struct engine *g = arg;
    return cache_before_layer(g->cache, g->layer_group[layer], g->layer_slot[layer], worker,
                              n_workers);
}

static void count_step(struct engine_stats *s, const struct model_sequence *runs, uint32_t n)
{
    uint32_t bucket = 0;
    while (bucket + 1 < ENGINE_STEP_BUCKETS && n > 1u << bucket)
        bucket++;
    s->n_steps++;
    s->step_sequences[bucket]++;
    s->n_step_sequences += n;
    for (uint32_t i = 0; i < n; i++)
        s->n_step_tokens += runs[i].n_tokens;
}

enum status step_forward(struct engine *g, struct model_sequence *runs,
                         struct sequence *const *sequences, uint32_t n, float *logits,
                         float *maxima, struct err *e)
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
        .maxima = maxima,
        .hidden = g->hidden,
        .before_layer = n_unverified ? before_layer : NULL,
        .before_layer_arg = g,
    };
    st = model_forward(g->model, g->workspace, g->team, &batch, e);
    bool is_side_torn = side_is_torn(g); /* it may fault */
    bool has_fault = os_fault_count() != faults;
    cache_verify_end(g->cache, sequences, n, has_fault, &n_bad);
    count_step(&g->stats, runs, n);
    enum status mended = is_side_torn ? side_mend(g, e) : OK;
    if (mended != OK)
        return mended;
    if (gguf_is_torn(g->gguf))
        return err_set(e, E_IO, "%s was cut while it was in use; restart with a whole file",
                       gguf_name(g->gguf));
    if (n_bad > 0 || has_fault || is_side_torn)
        return err_set(e, E_CORRUPT, "%u stored pages failed verification", n_bad);
    return st;
}

static void report_progress(struct engine *g, const struct choice *c)
{
    c->job->usage.prefill_ms = clock_ms_since(c->job->begun_ns);
    struct engine_event ev = {
        .kind = EVENT_PROGRESS,
        .done = sequence_valid(c->sequence),
        .total = (uint32_t)c->tokens.count,
        .usage = &c->job->usage,
    };
    tell_event(g, c->job, &ev);
}

/* ---- results ---- */

/* Draws for the parts of a step, shared out among workers: logits of 262,144 tokens take longer to
 * sift than to send. */
struct drawing {
    const struct engine *g;
    struct step *s;
    _Atomic uint32_t next;
};

static bool has_draws(const struct step *s, uint32_t part)
{
    return s->runs[part].n_logits > 0 && !s->parts[part].is_read &&
           s->parts[part].choice->job->is_prompt_done;
}

static void draw_parts(void *arg, uint32_t worker, uint32_t n_workers)
{
    struct drawing *d = arg;
    struct step *s = d->s;
    (void)worker, (void)n_workers;
    for (uint32_t i; (i = atomic_fetch_add_explicit(&d->next, 1, memory_order_relaxed)) < s->n;) {
        struct part *p = &s->parts[i];
        if (has_draws(s, i))
            p->n_drawn = choice_draw(
                d->g, p->choice, d->g->logits + (size_t)p->first_row * d->g->model_info->n_vocab,
                d->g->maxima + (size_t)p->first_row * d->g->n_logit_blocks, p->tokens + 1,
                s->runs[i].n_logits, &s->drawn[p->first_drawn]);
    }
}

static void draw_all(struct engine *g, struct step *s)
{
    struct drawing d = {.g = g, .s = s};
    uint32_t n_parts = 0, n_rows = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        s->parts[i].first_drawn = n_rows;
        if (has_draws(s, i)) {
            n_parts++;
            n_rows += s->runs[i].n_logits;
        }
    }
    if (n_parts > 1 && (uint64_t)n_rows * g->model_info->n_vocab >= LOGITS_WORTH_SHARING)
        team_run(g->team, draw_parts, &d);
    else
        draw_parts(&d, 0, 1);
}

/* The tokens of a part that were drawn.  Each guess that was right joins the sequence just before
 * the token behind it; the KV of the others is never seen: it lies beyond the sequence's end and is
 * overwritten by the next step. */
static enum status take_drawn(struct engine *g, const struct step *s, uint32_t index, struct err *e)
{
    const struct part *p = &s->parts[index];
    struct choice *c = p->choice;
    uint32_t n_guesses = s->runs[index].n_logits - 1;
    c->job->usage.guessed_tokens += n_guesses;
    g->stats.guessed_tokens += n_guesses;
    choice_take(g, c, &s->drawn[p->first_drawn]);
    for (uint32_t i = 1; i < p->n_drawn && !c->is_finished && c->job->error.code == OK; i++) {
        enum status st = sequence_append(c->sequence, &p->tokens[i], 1, e);
        if (st != OK)
            return st;
        c->job->usage.accepted_tokens++;
        g->stats.accepted_tokens++;
        choice_take(g, c, &s->drawn[p->first_drawn + i]);
    }
    return OK;
}

static enum status take_read(struct engine *g, const struct part *p,
                             const struct model_sequence *run, struct err *e)
{
    const float *rows = run->is_hidden ? g->hidden + (size_t)p->first_row * g->model_info->n_embd
                                       : g->logits + (size_t)p->first_row * g->model_info->n_vocab;
    const uint32_t first = run->first_position + run->n_tokens - run->n_logits;
    return read_take(g, p->choice->job, first, run->n_logits, rows, e);
}

/* What the step computed for one choice becomes part of its sequence; at its end it draws. */
static void take_part(struct engine *g, struct step *s, uint32_t index)
{
    const struct part *p = &s->parts[index];
    const struct model_sequence *run = &s->runs[index];
    struct choice *c = p->choice;
    struct job *job = c->job;
    schedule_charge(job->account, run->n_tokens);
    uint32_t n_guesses = run->n_logits > 1 && !p->is_read ? run->n_logits - 1 : 0;
    uint32_t n_sure = run->n_tokens - n_guesses;
    struct err e;
    enum status st = sequence_append(c->sequence, run->tokens, n_sure, &e);
    if (st == OK && !job->is_prompt_done)
        report_progress(g, c);
    if (st == OK && run->n_logits > 0) {
        if (p->is_read)
            st = take_read(g, p, run, &e);
        else if (job->is_prompt_done)
            st = take_drawn(g, s, index, &e);
        else
            st = job_prompt_done(g, job, g->logits + (size_t)p->first_row * g->model_info->n_vocab,
                                 &e);
    }
    if (st == E_LIMIT) {
        yield_memory(g, job, &e);
        return;
    }
    if (st != OK)
        job->error = e;
    else if (job->is_prompt_done && !job->is_end_kept &&
             clock_ms_since(job->decode_ns) > KEEP_END_AFTER_MS) {
        job->is_end_kept = true; /* a long answer: a crash should not cost the prompt's tail */
        sequence_keep_end(c->sequence);
    }
}

static void take_results(struct engine *g, struct step *s)
{
    const struct cache_verify_cost cost = cache_verify_cost(g->cache);
    draw_all(g, s);
    for (uint32_t i = 0; i < s->n; i++) {
        struct engine_usage *u = &s->parts[i].choice->job->usage;
        u->fault_in_ms += cost.fault_in_ms;
        u->verify_ms += cost.verify_ms;
        take_part(g, s, i);
    }
}

bool step_run(struct engine *g)
{
    struct step s;
    uint64_t start = clock_now_ns();
    for (uint32_t tries = 0; compose(g, &s) == GATHER_AGAIN; tries++)
        if (tries >= RESTARTS_MAX * ENGINE_PARALLEL_MAX)
            return false;
    if (s.n == 0)
        return false;
    struct err e;
    start += home_turn_take(g->home);
    enum status st = step_forward(g, s.runs, s.sequences, s.n, g->logits, g->maxima, &e);
    if (st == OK)
        take_results(g, &s);
    home_turn_give(g->home);
    if (st == OK) {
        double ns = (double)(clock_now_ns() - start);
        uint32_t n_prompt_tokens = s.n_tokens - s.n_decoding - s.n_guesses;
        struct speculate_step step = {g->stats.n_steps, s.n_decoding, n_prompt_tokens};
        speculate_learn(&g->speculation, step, s.n_guesses, ns);
        schedule_learn(&g->schedule,
                       (struct schedule_step){
                           .beside = beside(g, s.n_decoding),
                           .n_prompt_tokens = n_prompt_tokens,
                           .depth = n_prompt_tokens ? s.prompt_depths / n_prompt_tokens : 0,
                           .ns = ns,
                       });
    } else if (st == E_CORRUPT) {
        step_restart_all(g);
    } else {
        for (uint32_t i = 0; i < s.n; i++)
            s.parts[i].choice->job->error = e;
    }
    return true;
}
