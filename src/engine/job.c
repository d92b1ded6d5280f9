/* SPDX-License-Identifier: MIT
 * job.c — one request: begun from what the cache has, sampled token by token, ended once. */
#include "engine/engine_int.h"

#define SHARED_PREFIX_MIN KV_PAGE_TOKENS /* waiting for another's prefix pays from a page on */

/* Below 2^53, so that a client that reads numbers as doubles can send it back. */
static uint64_t drawn_seed(void)
{
    uint64_t seed;
    prng_entropy(&seed, sizeof seed);
    return seed >> 11;
}

enum status job_open(struct engine *g, struct engine_request *r, struct job **out, struct err *e)
{
    struct job *job = mem_try_new(1, sizeof *job);
    if (!job)
        return err_set(e, E_NOMEM, "no memory for a request");
    job->request = r;
    job->submitted_ns = clock_now_ns();
    job->usage.diverged_at = -1;
    job->usage.seed = r->has_seed ? r->sampling.seed : drawn_seed();
    pthread_mutex_lock(&g->open_mutex);
    bool is_full = g->n_open >= g->options.n_queue;
    if (!is_full) {
        job->id = atomic_fetch_add(&g->next_id, 1); /* engine_cancel reads it from now on */
        job->open_next = g->open;
        if (g->open)
            g->open->open_prev = job;
        g->open = job;
        g->n_open++;
    }
    pthread_mutex_unlock(&g->open_mutex);
    if (is_full) {
        mem_free(job);
        return err_set(e, E_BUSY, "%u requests are open already", g->options.n_queue);
    }
    *out = job;
    return OK;
}

void job_unopen(struct engine *g, struct job *job)
{
    pthread_mutex_lock(&g->open_mutex);
    *(job->open_prev ? &job->open_prev->open_next : &g->open) = job->open_next;
    if (job->open_next)
        job->open_next->open_prev = job->open_prev;
    g->n_open--;
    pthread_mutex_unlock(&g->open_mutex);
    mem_free(job);
}

static void choice_release(struct choice *c)
{
    sampler_free(c->sampler);
    guard_release(&c->guard);
    draft_release(&c->draft);
    token_list_release(&c->tokens);
    stream_release(&c->stream);
    *c = (struct choice){0};
}

void job_free(struct engine *g, struct job *job)
{
    for (uint32_t i = 0; i < job->n_choices; i++) {
        CHECK(job->choices[i].sequence == NULL);
        choice_release(&job->choices[i]);
    }
    schedule_leave(&g->schedule, job->account);
    prompt_release(&job->prompt);
    grammar_masks_free(job->masks);
    mem_free(job->sums);
    engine_request_free(job->request);
    job_unopen(g, job);
}

void job_fail(struct engine *g, struct job *job, const struct err *e)
{
    struct engine_event ev = {.kind = EVENT_ERROR, .error = e, .usage = &job->usage};
    if (e->code == E_CONTEXT) {
        ev.done = (uint32_t)job->prompt.tokens.count;
        ev.total = g->info.n_ctx;
    }
    atomic_fetch_add(&g->n_errors, 1);
    tell_event(g, job, &ev);
    job_free(g, job);
}

struct schedule_claim job_claim(const struct job *job, uint64_t now_ns)
{
    const struct choice *c = &job->choices[0];
    uint32_t n = (uint32_t)job->prompt.tokens.count;
    bool is_begun = job->n_choices > 0 && c->sequence;
    return (struct schedule_claim){
        .account = job->account,
        .priority = job->request->priority,
        .waited_ms = (double)(now_ns - job->submitted_ns) * 1e-6,
        .n_rest = is_begun ? (uint32_t)c->tokens.count - sequence_valid(c->sequence) : n,
        .id = job->id,
    };
}

bool job_is_late(const struct job *job, uint64_t now_ns)
{
    uint32_t deadline_ms = job->request->deadline_ms;
    return deadline_ms > 0 && now_ns - job->submitted_ns > (uint64_t)deadline_ms * 1000000u;
}

bool job_is_finished(const struct job *job)
{
    if (!job->is_prompt_done && !job->is_cancelled)
        return false;
    for (uint32_t i = 0; i < job->n_choices; i++)
        if (!job->choices[i].is_finished)
            return false;
    return true;
}

/* ---- tokens ---- */

static void finish_choice(struct engine *g, struct choice *c, enum finish_reason finish,
                          struct slice text)
{
    c->is_finished = true;
    c->finish = finish;
    struct engine_event ev = {.kind = EVENT_FINISHED,
                              .choice = c->index,
                              .text = text,
                              .token = TOKEN_NONE,
                              .finish = finish,
                              .stop = c->stream.stop};
    tell_event(g, c->job, &ev);
}

void job_finish_first(struct engine *g, struct job *job)
{
    finish_choice(g, &job->choices[0], FINISH_STOP, (struct slice){"", 0});
}

uint32_t choice_tokens_left(const struct engine *g, const struct choice *c)
{
    uint32_t room = g->info.n_ctx - (uint32_t)c->job->prompt.tokens.count;
    uint32_t allowed = c->job->request->max_tokens < room ? c->job->request->max_tokens : room;
    return allowed - c->n_generated;
}

static bool is_end(const struct engine *g, const struct choice *c, uint32_t token)
{
    return tokenizer_is_end(g->tokenizer, token) &&
           (!c->job->request->ignore_eos || c->guard.masks);
}

uint32_t choice_draw(const struct engine *g, struct choice *c, const float *logits,
                     const float *maxima, const uint32_t *guesses, uint32_t n, struct sampled *out)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *allowed;
        out[i].token = TOKEN_NONE;
        if (guard_allowed(&c->guard, &allowed, &c->guard_error) != OK)
            return i + 1;
        sampler_sample(c->sampler, logits + (size_t)i * g->model_info->n_vocab,
                       maxima ? maxima + (size_t)i * g->n_logit_blocks : NULL, allowed,
                       c->tokens.count + i, &out[i]);
        if (is_end(g, c, out[i].token))
            return i + 1;
        sampler_accept(c->sampler, out[i].token, true);
        if (guard_accept(&c->guard, out[i].token, &c->guard_error) != OK) {
            out[i].token = TOKEN_NONE;
            return i + 1;
        }
        if (i + 1 == n || out[i].token != guesses[i])
            return i + 1;
    }
    return n;
}

/* The turn may come back in a form of the client's own: its bytes are kept under that. */
static void keep_said(struct engine *g, const struct choice *c, uint32_t end_token)
{
    const struct engine_request *r = c->job->request;
    struct slice end = memo_end_piece(g->memo, end_token);
    struct digest key, owner = prompt_owner(g, &c->job->owner);
    struct buf written;
    if (!r->turn_key || r->no_cache || g->options.no_replay || end.len == 0 ||
        !c->job->prompt.is_text || !r->turn_key(r->event_arg, c->index, &key))
        return;
    buf_init(&written, SAID_TURN_MAX);
    buf_add_slice(&written, buf_slice(&c->stream.text));
    buf_add_slice(&written, end);
    const struct prompt *p = &c->job->prompt;
    const struct said_place place = {p->store_owner, p->tokens.ids, (uint32_t)p->tokens.count};
    if (!written.failed)
        said_put(g->said, &owner, &key, &place, buf_slice(&p->rest), buf_slice(&written));
    buf_release(&written);
}

static bool is_out_of_time(const struct choice *c)
{
    const uint32_t max = c->job->request->predict_ms_max;
    const struct slice text = buf_slice(&c->stream.text);
    return max > 0 && clock_ms_since(c->job->decode_ns) > max && text.len > 0 &&
           memchr(text.ptr, '\n', text.len);
}

void choice_take(struct engine *g, struct choice *c, const struct sampled *drawn)
{
    const struct engine_request *r = c->job->request;
    if (drawn->token == TOKEN_NONE) {
        c->job->error = c->guard_error;
        return;
    }
    if (is_end(g, c, drawn->token)) {
        if (c->sequence && !r->no_cache)
            memo_remember(g->memo, &c->job->prompt, c->tokens.ids + c->job->prompt.tokens.count,
                          c->n_generated, buf_slice(&c->stream.text), drawn->token);
        finish_choice(g, c, FINISH_STOP, stream_flush(&c->stream));
        keep_said(g, c, drawn->token);
        return;
    }
    if (token_list_add(&c->tokens, drawn->token) != OK) {
        err_set(&c->job->error, E_NOMEM, "no memory for another token");
        return;
    }
    c->n_generated++;
    c->job->usage.completion_tokens++;
    g->stats.completion_tokens++;
    bool is_stopped;
    struct engine_event ev = {
        .kind = EVENT_TEXT, .choice = c->index, .token = drawn->token, .drawn_ns = clock_now_ns()};
    ev.text = stream_push(&c->stream, drawn->token, &is_stopped);
    ev.sampled = r->sampling.wants_logprob ? drawn : NULL;
    tell_token(g, c->job, &ev);
    if (is_stopped)
        finish_choice(g, c, c->stream.stop.len ? FINISH_STOP : FINISH_LENGTH,
                      (struct slice){"", 0});
    else if (choice_tokens_left(g, c) == 0 || is_out_of_time(c))
        finish_choice(g, c, FINISH_LENGTH, stream_flush(&c->stream));
}

/* Logits for the next token of a choice that may have no room for it. */
static void sample_one(struct engine *g, struct choice *c, const float *logits)
{
    if (choice_tokens_left(g, c) == 0) {
        finish_choice(g, c, FINISH_LENGTH, (struct slice){"", 0});
        return;
    }
    struct sampled drawn;
    (void)choice_draw(g, c, logits, NULL, NULL, 1, &drawn);
    choice_take(g, c, &drawn);
}

/* ---- beginning ---- */

/* Tokens that both begin with. */
static uint32_t common_prefix(const struct token_list *a, const struct token_list *b)
{
    size_t n = a->count < b->count ? a->count : b->count, common = 0;
    while (common < n && a->ids[common] == b->ids[common])
        common++;
    return (uint32_t)common;
}

static bool is_computing(const struct job *other)
{
    return !other->is_prompt_done && !other->request->no_cache && !other->is_cancelled &&
           other->n_choices > 0 && other->choices[0].sequence;
}

/* The prefix that was waited for is still being computed. */
static bool still_waits(const struct engine *g, const struct job *job)
{
    for (const struct job *other = g->running; other; other = other->next)
        if (other->id == job->waits_for)
            return is_computing(other) &&
                   sequence_valid(other->choices[0].sequence) < job->n_waits_for;
    return false;
}

/* Another job is computing a prefix that this one needs and the cache does not have yet. */
static bool must_wait(const struct engine *g, struct job *job, uint32_t known)
{
    for (const struct job *other = g->running; other; other = other->next) {
        if (other == job || !is_computing(other) || !digest_equal(&job->owner, &other->owner))
            continue;
        uint32_t common = common_prefix(&job->prompt.tokens, &other->prompt.tokens);
        if (common < known + SHARED_PREFIX_MIN)
            continue;
        job->waits_for = other->id;
        job->n_waits_for = common;
        sequence_share(other->choices[0].sequence, common);
        return true;
    }
    return false;
}

static void explain(struct job *job, const struct cache_match *m)
{
    uint32_t n = (uint32_t)job->prompt.tokens.count;
    struct engine_usage *u = &job->usage;
    u->diverged_at = m->is_diverged ? (int64_t)m->matched : -1;
    if (u->computed_tokens == 0)
        u->reason = NULL;
    else if (job->request->no_cache)
        u->reason = "cache_prompt is false";
    else if (job->request->wants_prompt_logprobs)
        u->reason = "log probabilities of the prompt were asked for";
    else if (m->matched == 0)
        u->reason = "no stored chain begins like this";
    else if (m->resume + 1 == n && m->matched == n)
        u->reason = "logits at the prompt's end were not kept";
    else if (m->resume < m->matched)
        u->reason = "window not kept at the divergence";
    else
        u->reason = m->is_diverged  ? "diverged from the stored chain"
                    : m->is_dropped ? "evicted since"
                                    : "new tokens";
}

static void start_usage(struct engine *g, struct job *job, const struct cache_match *m)
{
    struct engine_usage *u = &job->usage;
    u->prompt_tokens = (uint32_t)job->prompt.tokens.count;
    u->memory_tokens = m->memory_tokens;
    u->disk_tokens = m->disk_tokens;
    u->computed_tokens = u->prompt_tokens - m->resume;
    u->replayed = job->prompt.n_replayed;
    u->prompt_ms = job->prompt.ms;
    explain(job, m);
    g->stats.prompt_tokens += u->prompt_tokens;
    g->stats.memory_tokens += u->memory_tokens;
    g->stats.disk_tokens += u->disk_tokens;
    g->stats.computed_tokens += u->computed_tokens;
}

static enum status check_prompt(const struct engine *g, const struct job *job, struct err *e)
{
    size_t n = job->prompt.tokens.count;
    if (n > g->info.n_ctx)
        return err_set(e, E_CONTEXT, "the prompt has %zu tokens, the context holds %u", n,
                       g->info.n_ctx);
    for (size_t i = 0; i < n; i++)
        if (job->prompt.tokens.ids[i] >= g->model_info->n_vocab)
            return err_set(e, E_INVALID, "token id %u is not in the vocabulary of %u",
                           job->prompt.tokens.ids[i], g->model_info->n_vocab);
    return OK;
}

static struct slice piece_of(const void *tokenizer, uint32_t token)
{
    return tokenizer_piece(tokenizer, token, true);
}

static enum status init_choice(struct engine *g, struct job *job, uint32_t index, struct err *e)
{
    struct choice *c = &job->choices[index];
    struct engine_request *r = job->request;
    struct sampler_params params = r->sampling;
    params.seed = job->usage.seed;
    params.choice = index;
    params.n_context = g->info.n_ctx;
    params.piece = piece_of;
    params.piece_arg = g->tokenizer;
    *c = (struct choice){.job = job, .index = index};
    stream_init(&c->stream, g->tokenizer, r);
    job->n_choices = index + 1;
    enum status st = sampler_new(&params, g->model_info->n_vocab, g->kernels, &c->sampler, e);
    if (st == OK)
        st = guard_init(&c->guard, g->constraints, job->masks, r->trigger, e);
    for (size_t i = 0; st == OK && i < job->prompt.tokens.count; i++) {
        sampler_accept(c->sampler, job->prompt.tokens.ids[i], false);
        st = token_list_add(&c->tokens, job->prompt.tokens.ids[i]);
    }
    return st;
}

/* Begins, or begins again, one choice at the best place that the cache offers. */
static enum status begin_choice(struct engine *g, struct choice *c, struct cache_match *m,
                                struct err *e)
{
    /* Of rows that were taken nothing is wanted again. */
    const bool reads = read_wants_rows(c->job) && !c->job->is_prompt_done;
    struct cache_request r = {
        .owner = &c->job->owner,
        .tokens = c->tokens.ids,
        .n_tokens = (uint32_t)c->tokens.count,
        .max_resume = reads ? c->job->n_read : (uint32_t)c->tokens.count,
        .points = c->job->prompt.points,
        .n_points = c->job->prompt.n_points,
        .shared_at = c->job->prompt.n_shared,
        .no_cache = c->job->request->no_cache,
    };
    return cache_begin(g->cache, &r, &c->sequence, m, e);
}

/* It begins again: what was to be reused and is computed after all counts as computed. */
static void correct_usage(struct engine *g, struct job *job, uint32_t resume)
{
    struct engine_usage *u = &job->usage;
    uint32_t reused = u->prompt_tokens - u->computed_tokens;
    uint32_t lost = reused > resume ? reused - resume : 0;
    uint32_t from_disk = lost < u->disk_tokens ? lost : u->disk_tokens;
    if (lost == 0)
        return;
    u->disk_tokens -= from_disk;
    u->memory_tokens -= lost - from_disk;
    u->computed_tokens += lost;
    u->reason = job->why_again;
    g->stats.disk_tokens -= from_disk;
    g->stats.memory_tokens -= lost - from_disk;
    g->stats.computed_tokens += lost;
}

static enum status begin_again(struct engine *g, struct job *job, struct err *e)
{
    for (uint32_t i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        struct cache_match m;
        if (c->is_finished || c->sequence)
            continue;
        enum status st = begin_choice(g, c, &m, e);
        if (st != OK)
            return st;
        correct_usage(g, job, m.resume);
        if (m.head) {
            if (job->is_prompt_done)
                sample_one(g, c, m.head);
            else if ((st = job_prompt_done(g, job, m.head, e)) != OK)
                return st;
        }
    }
    return OK;
}

enum status job_begin(struct engine *g, struct job *job, struct err *e)
{
    if (job->n_choices > 0)
        return begin_again(g, job, e);
    enum status st = check_prompt(g, job, e);
    if (st != OK)
        return st;
    if (job->waits_for != 0 && still_waits(g, job))
        return E_BUSY;
    job->waits_for = 0;
    uint64_t now = clock_now_ns();
    st = init_choice(g, job, 0, e);
    struct cache_match m;
    if (st == OK)
        st = begin_choice(g, &job->choices[0], &m, e);
    if (st != OK)
        return st;
    if (!job->request->no_cache && !read_wants_rows(job) && must_wait(g, job, m.matched)) {
        sequence_finish(job->choices[0].sequence, false);
        job->choices[0].sequence = NULL;
        choice_release(&job->choices[0]);
        job->n_choices = 0;
        return E_BUSY;
    }
    job->begun_ns = clock_now_ns();
    job->usage.queue_ms = (double)(now - job->ready_ns) * 1e-6;
    job->usage.lookup_ms = (double)(job->begun_ns - now) * 1e-6;
    start_usage(g, job, &m);
    struct engine_event ev = {
        .kind = EVENT_STARTED, .usage = &job->usage, .text = buf_slice(&job->prompt.rest)};
    tell_event(g, job, &ev);
    st = read_begin(g, job, e);
    return st == OK && m.head ? job_prompt_done(g, job, m.head, e) : st;
}

void job_release(struct engine *g, struct job *job)
{
    (void)g;
    for (uint32_t i = 0; i < job->n_choices; i++) {
        if (job->choices[i].sequence)
            sequence_finish(job->choices[i].sequence, true);
        job->choices[i].sequence = NULL;
    }
}

/* ---- the prompt's end ---- */

/* The choices but the first, as before job_prompt_done. */
static void undo_choices(struct job *job)
{
    while (job->n_choices > 1) {
        struct choice *c = &job->choices[--job->n_choices];
        if (c->sequence)
            sequence_finish(c->sequence, false);
        choice_release(c);
    }
    job->is_prompt_done = false;
}

enum status job_prompt_done(struct engine *g, struct job *job, const float *logits, struct err *e)
{
    struct choice *first = &job->choices[0];
    CHECK(!job->is_prompt_done);
    job->is_prompt_done = true;
    job->decode_ns = clock_now_ns();
    job->usage.prefill_ms = (double)(job->decode_ns - job->begun_ns) * 1e-6;
    if (job->usage.computed_tokens >= KV_PAGE_TOKENS &&
        !read_wants_rows(job)) /* fewer tell more of the clock */
        cache_note_pace(g->cache, job->usage.prefill_ms / job->usage.computed_tokens);
    sequence_keep_head(first->sequence, logits);
    for (uint32_t i = 1; i < job->request->n_choices; i++) {
        enum status st = init_choice(g, job, i, e);
        if (st == OK)
            st = sequence_fork(first->sequence, &job->choices[i].sequence, e);
        if (st != OK) {
            undo_choices(job);
            return st;
        }
    }
    for (uint32_t i = 0; i < job->n_choices; i++)
        sample_one(g, &job->choices[i], logits);
    return OK;
}

/* ---- the end ---- */

void job_end(struct engine *g, struct job *job)
{
    uint64_t now = clock_now_ns();
    if (job->is_cancelled)
        g->stats.n_cancelled++;
    for (uint32_t i = 0; i < job->n_choices; i++)
        if (job->choices[i].finish == FINISH_CANCELLED)
            finish_choice(g, &job->choices[i], FINISH_CANCELLED,
                          stream_flush(&job->choices[i].stream));
    if (job->is_prompt_done)
        job->usage.decode_ms = (double)(now - job->decode_ns) * 1e-6;
    bool is_kept = keep_wants(g, job);
    job_release(g, job);
    schedule_leave(&g->schedule, job->account); /* here: the accounts are this thread's alone */
    job->account = NULL;
    if (is_kept)
        keep_take(g, job);
    else
        job_done(g, job);
}

void job_done(struct engine *g, struct job *job)
{
    struct engine_event ev = {.kind = EVENT_DONE, .usage = &job->usage};
    tell_event(g, job, &ev);
    job_free(g, job);
}
