/* SPDX-License-Identifier: MIT
 * score.c — logits inside a given text, by the same path as a prompt: look-up, chunks, cache.
 * Reuse ends before the first position that is asked for; from there on all is computed. */
#include "engine/engine_int.h"

struct scoring {
    struct engine *g;
    const struct engine_score *score;
    struct sequence *sequence;
    struct engine_usage *usage;
    uint32_t next; /* index into positions */
    float *logits;
    uint32_t n_rows;
};

/* One step of at most `limit` tokens; rows of logits from the first wanted position to its end. */
static enum status run_chunk(struct scoring *s, uint32_t limit, struct err *e)
{
    struct engine *g = s->g;
    const struct engine_score *score = s->score;
    uint32_t first = sequence_valid(s->sequence), n = score->n_tokens - first;
    n = n < limit ? n : limit;
    uint32_t n_logits = 0;
    if (s->next < score->n_positions && score->positions[s->next] < first + n) {
        uint32_t wanted = score->positions[s->next];
        if (first + n - wanted > s->n_rows)
            n = wanted - first + s->n_rows;
        n_logits = first + n - wanted;
    }
    enum status st = sequence_reserve(s->sequence, n, e);
    if (st != OK)
        return st;
    struct model_sequence run = {.tokens = score->tokens + first,
                                 .n_tokens = n,
                                 .first_position = first,
                                 .n_logits = n_logits};
    for (uint32_t i = 0; i < g->model_info->n_groups; i++) {
        struct sequence_pages p = sequence_pages(s->sequence, i, n);
        run.groups[i] = (struct kv_pages){p.pages, p.first_page, p.n_pages};
    }
    (void)home_turn_take(g->home);
    st = step_forward(g, &run, &s->sequence, 1, s->logits, NULL, e);
    home_turn_give(g->home);
    if (st == OK)
        st = sequence_append(s->sequence, run.tokens, n, e);
    for (; st == OK && s->next < score->n_positions && score->positions[s->next] < first + n;
         s->next++) {
        uint32_t row = score->positions[s->next] - (first + n - n_logits);
        score->each(score->arg, score->positions[s->next],
                    s->logits + (size_t)row * g->model_info->n_vocab, g->model_info->n_vocab);
    }
    return st;
}

static enum status check(const struct engine *g, const struct engine_score *s, struct err *e)
{
    if (s->n_tokens == 0)
        return err_set(e, E_INVALID, "no tokens");
    if (s->n_tokens > g->info.n_ctx)
        return err_set(e, E_CONTEXT, "%u tokens, the context holds %u", s->n_tokens, g->info.n_ctx);
    for (uint32_t i = 0; i < s->n_tokens; i++)
        if (s->tokens[i] >= g->model_info->n_vocab)
            return err_set(e, E_INVALID, "token id %u at %u is not in the vocabulary of %u",
                           s->tokens[i], i, g->model_info->n_vocab);
    for (uint32_t i = 0; i < s->n_positions; i++)
        if (s->positions[i] >= s->n_tokens || (i > 0 && s->positions[i] <= s->positions[i - 1]))
            return err_set(e, E_INVALID, "positions must ascend and be below %u", s->n_tokens);
    return OK;
}

/* From the look-up to the last wanted position; E_CORRUPT: a page was bad, try again. */
static enum status run_once(struct scoring *s, struct err *e)
{
    struct engine *g = s->g;
    const struct engine_score *score = s->score;
    uint32_t first_wanted =
        s->next < score->n_positions ? score->positions[s->next] : score->n_tokens - 1;
    struct cache_request r = {.tokens = score->tokens,
                              .n_tokens = score->n_tokens,
                              .max_resume = first_wanted,
                              .no_cache = score->no_cache};
    struct cache_match m;
    uint64_t start = clock_now_ns();
    enum status st = cache_begin(g->cache, &r, &s->sequence, &m, e);
    if (st != OK)
        return st;
    *s->usage = (struct engine_usage){.prompt_tokens = score->n_tokens,
                                      .memory_tokens = m.memory_tokens,
                                      .disk_tokens = m.disk_tokens,
                                      .computed_tokens = score->n_tokens - m.resume,
                                      .diverged_at = m.is_diverged ? (int64_t)m.matched : -1,
                                      .lookup_ms = clock_ms_since(start)};
    uint32_t chunk = score->chunk ? score->chunk : g->options.chunk;
    if (chunk == 0 || chunk > MODEL_BATCH_TOKENS_MAX)
        chunk = MODEL_BATCH_TOKENS_MAX;
    uint64_t begun = clock_now_ns();
    while (st == OK && sequence_valid(s->sequence) < score->n_tokens)
        st = run_chunk(s, chunk, e);
    s->usage->prefill_ms = clock_ms_since(begun);
    sequence_finish(s->sequence, st == OK);
    return st;
}

void score_run(struct engine *g, struct score_call *call)
{
    struct scoring s = {.g = g, .score = call->score, .usage = call->usage};
    call->st = check(g, call->score, &call->err);
    if (call->st != OK)
        return;
    uint64_t row_bytes = (uint64_t)g->model_info->n_vocab * sizeof(float);
    uint64_t n_rows = SCORE_LOGITS_BYTES_MAX / row_bytes;
    s.n_rows = n_rows < 1                        ? 1
               : n_rows > MODEL_BATCH_TOKENS_MAX ? MODEL_BATCH_TOKENS_MAX
                                                 : (uint32_t)n_rows;
    s.logits = mem_try_aligned(64, s.n_rows * row_bytes);
    if (!s.logits) {
        call->st = err_set(&call->err, E_NOMEM, "no memory for %u rows of logits", s.n_rows);
        return;
    }
    for (uint32_t tries = 0; tries <= RESTARTS_MAX; tries++) {
        call->st = run_once(&s, &call->err);
        if (call->st != E_CORRUPT)
            break;
        step_restart_all(g); /* others may have the same page in their tables */
    }
    mem_free(s.logits);
}
