/* SPDX-License-Identifier: MIT
 * usage.c — what a request cost: OpenAI's usage, llama-server's timings, and kvasir's own account
 * of where each prompt token came from (docs/api/openai.md). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "api/api_int.h"

/* Microseconds are enough. */
static void write_ms(struct json_writer *w, const char *key, double v)
{
    jw_key(w, key);
    jw_double(w, isfinite(v) ? round(v * 1000.0) / 1000.0 : 0.0);
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

double first_token_ms(const struct engine_usage *u)
{
    return u->prompt_ms + u->queue_ms + u->lookup_ms + u->prefill_ms;
}

uint32_t reasoning_tokens(const struct api_call *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_choices; i++)
        n += c->choices[i].n_reasoning_tokens;
    return n;
}

static void write_counts(struct json_writer *w, const struct api_call *c,
                         const struct engine_usage *u)
{
    jw_key(w, "usage");
    jw_begin_object(w);
    jw_key(w, "prompt_tokens");
    jw_int(w, u->prompt_tokens);
    jw_key(w, "completion_tokens");
    jw_int(w, u->completion_tokens);
    jw_key(w, "total_tokens");
    jw_int(w, (int64_t)u->prompt_tokens + u->completion_tokens);
    jw_key(w, "prompt_tokens_details");
    jw_begin_object(w);
    jw_key(w, "cached_tokens");
    jw_int(w, (int64_t)u->memory_tokens + u->disk_tokens);
    jw_end_object(w);
    jw_key(w, "completion_tokens_details");
    jw_begin_object(w);
    jw_key(w, "reasoning_tokens");
    jw_int(w, reasoning_tokens(c));
    jw_end_object(w);
    jw_end_object(w);
}

void write_timings(struct json_writer *w, const struct engine_usage *u)
{
    jw_key(w, "timings");
    jw_begin_object(w);
    jw_key(w, "cache_n");
    jw_int(w, (int64_t)u->memory_tokens + u->disk_tokens);
    jw_key(w, "prompt_n");
    jw_int(w, u->computed_tokens);
    write_ms(w, "prompt_ms", u->prefill_ms);
    write_ms(w, "prompt_per_token_ms", ratio(u->prefill_ms, u->computed_tokens));
    write_ms(w, "prompt_per_second", ratio(u->computed_tokens * 1e3, u->prefill_ms));
    jw_key(w, "predicted_n");
    jw_int(w, u->completion_tokens);
    write_ms(w, "predicted_ms", u->decode_ms);
    write_ms(w, "predicted_per_token_ms", ratio(u->decode_ms, u->completion_tokens));
    write_ms(w, "predicted_per_second", ratio(u->completion_tokens * 1e3, u->decode_ms));
    if (u->guessed_tokens > 0) { /* llama-server has them only then */
        jw_key(w, "draft_n");
        jw_int(w, u->guessed_tokens);
        jw_key(w, "draft_n_accepted");
        jw_int(w, u->accepted_tokens);
    }
    jw_end_object(w);
}

void write_timings_so_far(struct json_writer *w, const struct api_call *c)
{
    struct engine_usage u = c->usage;
    if (!c->times_tokens || c->first_token_ns == 0)
        return;
    u.completion_tokens = 0;
    for (uint32_t i = 0; i < c->n_choices; i++)
        u.completion_tokens += c->choices[i].n_tokens;
    u.decode_ms = (double)(c->told_unix_ns - c->first_token_ns) * 1e-6;
    write_timings(w, &u);
}

void write_kvasir(struct json_writer *w, const struct api_call *c, const struct engine_usage *u)
{
    jw_key(w, "kvasir");
    jw_begin_object(w);
    jw_key(w, "session");
    if (c->session.len)
        jw_string(w, c->session);
    else
        jw_null(w);
    jw_key(w, "tokens");
    jw_begin_object(w);
    jw_key(w, "memory");
    jw_int(w, u->memory_tokens);
    jw_key(w, "disk");
    jw_int(w, u->disk_tokens);
    jw_key(w, "computed");
    jw_int(w, u->computed_tokens);
    jw_end_object(w);
    jw_key(w, "ms");
    jw_begin_object(w);
    write_ms(w, "queue", u->queue_ms);
    write_ms(w, "lookup", u->lookup_ms);
    write_ms(w, "prefill", u->prefill_ms);
    write_ms(w, "decode", u->decode_ms);
    jw_end_object(w);
    jw_key(w, "drafted");
    jw_int(w, u->guessed_tokens);
    jw_key(w, "accepted");
    jw_int(w, u->accepted_tokens);
    jw_key(w, "replayed");
    jw_int(w, u->replayed);
    jw_key(w, "diverged_at");
    if (u->diverged_at >= 0)
        jw_int(w, u->diverged_at);
    else
        jw_null(w);
    jw_key(w, "reason");
    jw_text(w, u->reason);
    if (c->removed) {
        jw_key(w, "removed");
        jw_begin_array(w);
        jw_text(w, c->removed);
        jw_end_array(w);
    }
    jw_end_object(w);
}

void write_usage(struct json_writer *w, const struct api_call *c, const struct engine_usage *u)
{
    write_counts(w, c, u);
    write_timings(w, u);
    jw_key(w, "seed"); /* unsigned: what sends the same answer again */
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRIu64, u->seed);
    jw_raw(w, (struct slice){text, (size_t)n});
    write_kvasir(w, c, u);
}
