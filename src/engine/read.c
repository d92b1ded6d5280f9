/* SPDX-License-Identifier: MIT
 * read.c — prompts that are read: not only what follows them is asked for, but what the model has
 * to say of each of their own tokens (wants_prompt_logprobs) or the vector of all (wants_vector).
 * They are jobs as all others: in the same steps, within the same budgets, cancelled and begun
 * again in the same way.  Rows of a step come in ascending order of positions and are added one
 * after the other, in double precision: the sums are the same however the prompt is cut. */
#include "engine/engine_int.h"

bool read_wants_rows(const struct job *job)
{
    return job->request->wants_vector || job->request->wants_prompt_logprobs;
}

/* The first position whose row is wanted. */
static uint32_t first_row(const struct engine *g, const struct job *job)
{
    bool is_last = job->request->wants_vector && g->info.pooling == POOLING_LAST;
    return is_last ? (uint32_t)job->prompt.tokens.count - 1 : 0;
}

uint32_t read_rows(const struct engine *g, const struct job *job, uint32_t first, uint32_t n)
{
    uint32_t from = first_row(g, job), end = first + n;
    return end <= from ? 0 : end - (from > first ? from : first);
}

/* ---- vectors ---- */
static void add_row(const struct engine *g, struct job *job, const float *row, uint32_t position)
{
    if (g->info.pooling == POOLING_CLS && position > 0)
        return;
    for (uint32_t i = 0; i < g->model_info->n_embd; i++)
        job->sums[i] += (double)row[i];
    job->n_summed++;
}

static enum status end_vector(struct engine *g, struct job *job, struct err *e)
{
    const uint32_t n = g->model_info->n_embd;
    float *vector = mem_try_new(n, sizeof *vector);
    if (!vector)
        return err_set(e, E_NOMEM, "no memory for a vector");
    for (uint32_t i = 0; i < n; i++)
        vector[i] = (float)(job->sums[i] / job->n_summed);
    job->is_prompt_done = true;
    job->decode_ns = clock_now_ns();
    job->usage.prefill_ms = (double)(job->decode_ns - job->begun_ns) * 1e-6;
    const struct engine_event ev = {
        .kind = EVENT_VECTOR, .vector = vector, .token = TOKEN_NONE, .total = n};
    tell_event(g, job, &ev);
    mem_free(vector);
    job_finish_first(g, job);
    return OK;
}

/* ---- log probabilities ---- */
static void tell_prompt_token(struct engine *g, struct job *job, uint32_t position,
                              const float *logits_before)
{
    const uint32_t token = job->prompt.tokens.ids[position];
    struct sampled s;
    struct engine_event ev = {.kind = EVENT_PROMPT, .text = {"", 0}, .token = token};
    if (logits_before) {
        sampler_score(job->choices[0].sampler, logits_before, token, &s);
        ev.sampled = &s;
    }
    tell_token(g, job, &ev);
}

/* ---- both ---- */
enum status read_begin(struct engine *g, struct job *job, struct err *e)
{
    const struct engine_request *r = job->request;
    if (r->wants_prompt_logprobs)
        tell_prompt_token(g, job, 0, NULL); /* nothing stands before it */
    if (!r->wants_vector)
        return OK;
    job->sums = mem_try_new(g->model_info->n_embd, sizeof *job->sums);
    return job->sums ? OK : err_set(e, E_NOMEM, "no memory for a vector");
}

enum status read_take(struct engine *g, struct job *job, uint32_t first, uint32_t n,
                      const float *rows, struct err *e)
{
    const bool is_vector = job->request->wants_vector;
    const uint32_t n_prompt = (uint32_t)job->prompt.tokens.count;
    const uint32_t width = is_vector ? g->model_info->n_embd : g->model_info->n_vocab;
    for (uint32_t i = 0; i < n; i++) {
        const float *row = rows + (size_t)i * width;
        const uint32_t position = first + i;
        if (position < job->n_read)
            continue; /* it began again */
        job->n_read = position + 1;
        if (is_vector)
            add_row(g, job, row, position);
        else if (position + 1 < n_prompt)
            tell_prompt_token(g, job, position + 1, row);
    }
    if (sequence_valid(job->choices[0].sequence) < n_prompt)
        return OK;
    return is_vector ? end_vector(g, job, e)
                     : job_prompt_done(g, job, rows + (size_t)(n - 1) * width, e);
}
