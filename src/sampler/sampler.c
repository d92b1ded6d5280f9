/* SPDX-License-Identifier: MIT
 * sampler.c — parameters, penalties, filters in the usual order, and the draw.
 * Memory is taken at birth, as much as the parameters can ever need: with top_k ≤ TOP_K_HEAP_MAX
 * some kilobytes, with penalties three counts a token of the vocabulary, with everything off two or
 * four lists of it. */
#include "sampler/sampler.h"

#include <float.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/prng.h"
#include "sampler/sampler_int.h"

/* A logit that far below the best weighs e⁻⁶⁰ = 1e-26 of it: less than the last bit of the sum. */
#define NEGLIGIBLE  60.0
#define PENALTY_MAX 100.0f
/* Bits; the largest vocabulary has 21. */
#define MIROSTAT_TAU_MAX 100.0f

static const struct dry_breaker usual_breakers[] = {{.text = SLICE_LIT("\n")},
                                                    {.text = SLICE_LIT(":")},
                                                    {.text = SLICE_LIT("\"")},
                                                    {.text = SLICE_LIT("*")}};

struct sampler_params sampler_defaults(void)
{
    return (struct sampler_params){
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1.0f,
        .repeat_penalty = 1.0f,
        .repeat_last_n = 64,
        .dynatemp_exponent = 1.0f,
        .xtc_threshold = 0.1f,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = -1,
        .breakers = usual_breakers,
        .n_breakers = ARRAY_COUNT(usual_breakers),
        .mirostat_tau = 5.0f,
        .mirostat_eta = 0.1f,
        .adaptive_target = -1.0f,
        .adaptive_decay = 0.9f,
    };
}

static enum status check_range(const char *name, float v, float least, float most, struct err *e)
{
    if (v >= least && v <= most)
        return OK;
    return err_set(e, E_INVALID, "%s must be from %g to %g, not %g", name, (double)least,
                   (double)most, (double)v);
}

static enum status check_bias(const struct sampler_params *p, uint32_t n_vocab, struct err *e)
{
    if (p->n_bias > SAMPLER_BIAS_MAX)
        return err_set(e, E_INVALID, "logit_bias has %u entries, the limit is %u", p->n_bias,
                       SAMPLER_BIAS_MAX);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token >= n_vocab)
            return err_set(e, E_INVALID, "logit_bias names token %u, the vocabulary has %u",
                           p->bias[i].token, n_vocab);
        if (!(p->bias[i].bias <= FLT_MAX))
            return err_set(e, E_INVALID, "logit_bias of token %u must be a number or -inf",
                           p->bias[i].token);
    }
    return OK;
}

enum status sampler_check(const struct sampler_params *p, uint32_t n_vocab, struct err *e)
{
    const struct {
        const char *name;
        float value, least, most;
    } ranges[] = {
        {"temperature", p->temperature, 0, FLT_MAX},
        {"top_p", p->top_p, 0, 1},
        {"min_p", p->min_p, 0, 1},
        {"typical_p", p->typical_p, 0, 1},
        {"repeat_penalty", p->repeat_penalty, 1 / PENALTY_MAX, PENALTY_MAX},
        {"presence_penalty", p->presence_penalty, -PENALTY_MAX, PENALTY_MAX},
        {"frequency_penalty", p->frequency_penalty, -PENALTY_MAX, PENALTY_MAX},
        {"repeat_last_n", (float)p->repeat_last_n, -1, SAMPLER_REPEAT_LAST_MAX},
        {"top_logprobs", (float)p->n_top_logprobs, 0, SAMPLER_TOP_LOGPROBS_MAX},
        {"top_n_sigma", p->top_n_sigma, -FLT_MAX, FLT_MAX},
        {"dynatemp_range", p->dynatemp_range, 0, FLT_MAX},
        {"dynatemp_exponent", p->dynatemp_exponent, 0, FLT_MAX},
        {"xtc_probability", p->xtc_probability, 0, 1},
        {"xtc_threshold", p->xtc_threshold, 0, 1},
        {"dry_multiplier", p->dry_multiplier, 0, PENALTY_MAX},
        {"dry_base", p->dry_base, 0, PENALTY_MAX},
        {"dry_allowed_length", (float)p->dry_allowed_length, 0, FLT_MAX},
        {"dry_penalty_last_n", (float)p->dry_penalty_last_n, -1, FLT_MAX},
        {"dry_sequence_breakers", (float)p->n_breakers, 0, SAMPLER_BREAKERS_MAX},
        {"mirostat", (float)p->mirostat, 0, 2},
        {"mirostat_tau", p->mirostat_tau, 0, MIROSTAT_TAU_MAX},
        {"mirostat_eta", p->mirostat_eta, 0, 1},
        {"adaptive_target", p->adaptive_target, -1, 1},
        {"adaptive_decay", p->adaptive_decay, 0, 1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(ranges); i++) {
        enum status st =
            check_range(ranges[i].name, ranges[i].value, ranges[i].least, ranges[i].most, e);
        if (st != OK)
            return st;
    }
    return check_bias(p, n_vocab, e);
}

/* ---- birth ---- */
static bool is_greedy(const struct sampler_params *p)
{
    return p->temperature <= 0 || p->top_k == 1;
}

static bool uses_heap(const struct sampler *s)
{
    return s->p.top_k > 0 && (uint32_t)s->p.top_k <= TOP_K_HEAP_MAX;
}

static bool has_repeat_penalty(const struct sampler_params *p)
{
    return p->repeat_penalty != 1.0f && p->repeat_last_n != 0;
}

bool sampler_has_penalty(const struct sampler_params *p)
{
    return has_repeat_penalty(p) || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static bool take_changed(struct sampler *s)
{
    if (s->p.n_bias == 0 && (s->is_chain || !sampler_has_penalty(&s->p)))
        return true;
    s->changed = mem_try_new(s->n_vocab, sizeof *s->changed);
    return s->changed != NULL;
}

static bool take_candidates(struct sampler *s)
{
    if (!s->is_chain && is_greedy(&s->p))
        return true;
    const bool has_list = s->is_chain || !uses_heap(s);
    const bool has_scratch = s->p.typical_p < 1 || s->p.adaptive_target >= 0;
    uint32_t n = has_list ? s->n_vocab : (uint32_t)s->p.top_k;
    s->candidates = mem_try_new(n, sizeof *s->candidates);
    if (has_list)
        s->sorted = mem_try_new(n, sizeof *s->sorted);
    if (has_scratch)
        s->scratch = mem_try_new(2 * (size_t)n, sizeof *s->scratch);
    return s->candidates && (!has_list || s->sorted) && (!has_scratch || s->scratch);
}

static bool take_counts(struct sampler *s)
{
    if (!sampler_has_penalty(&s->p))
        return true;
    s->counts = mem_try_new(s->n_vocab, sizeof *s->counts);
    s->seen = mem_try_new(s->n_vocab, sizeof *s->seen);
    if (s->p.repeat_last_n > 0)
        s->recent = mem_try_new((size_t)s->p.repeat_last_n, sizeof *s->recent);
    return s->counts && s->seen && (s->p.repeat_last_n <= 0 || s->recent);
}

enum status sampler_new(const struct sampler_params *p, uint32_t n_vocab, const struct kernels *k,
                        struct sampler **out, struct err *e)
{
    CHECK(n_vocab > 0);
    enum status st = sampler_check(p, n_vocab, e);
    if (st != OK)
        return st;
    struct sampler *s = mem_try_new(1, sizeof *s);
    if (!s)
        return err_set(e, E_NOMEM, "sampler: out of memory");
    s->p = *p;
    s->n_vocab = n_vocab;
    s->k = k;
    chain_plan(s);
    steer_init(&s->steer, &s->p);
    if (!take_changed(s) || !take_candidates(s) || !take_counts(s) ||
        !dry_new(&s->p, n_vocab, &s->dry)) {
        sampler_free(s);
        return err_set(e, E_NOMEM, "sampler: out of memory for a vocabulary of %u", n_vocab);
    }
    *out = s;
    return OK;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    mem_free(s->changed);
    mem_free(s->candidates);
    mem_free(s->sorted);
    mem_free(s->scratch);
    mem_free(s->counts);
    mem_free(s->seen);
    mem_free(s->recent);
    dry_free(s->dry);
    mem_free(s);
}

/* ---- penalties ---- */
static void accept_recent(struct sampler *s, uint32_t token)
{
    s->counts[token].n_recent++;
    if (!s->recent)
        return;
    if (s->recent_count == (uint32_t)s->p.repeat_last_n)
        s->counts[s->recent[s->recent_at]].n_recent--;
    else
        s->recent_count++;
    s->recent[s->recent_at] = token;
    s->recent_at = (s->recent_at + 1) % (uint32_t)s->p.repeat_last_n;
}

static void count(struct sampler *s, uint32_t token, bool is_generated)
{
    bool counts_recent = has_repeat_penalty(&s->p);
    if (!is_generated && !counts_recent)
        return;
    struct token_count *c = &s->counts[token];
    if (!c->is_seen)
        s->seen[s->n_seen++] = token;
    c->is_seen = true;
    if (is_generated)
        c->n_generated++;
    if (counts_recent)
        accept_recent(s, token);
}

void sampler_accept(struct sampler *s, uint32_t token, bool is_generated)
{
    CHECK(token < s->n_vocab);
    if (s->counts)
        count(s, token, is_generated);
    if (s->dry)
        dry_accept(s->dry, token);
    if (is_generated)
        steer_accept(s);
}

float sampler_penalized(const struct sampler *s, uint32_t token, float logit)
{
    const struct sampler_params *p = &s->p;
    const struct token_count *c = &s->counts[token];
    if (c->n_recent > 0)
        logit = logit > 0 ? logit / p->repeat_penalty : logit * p->repeat_penalty;
    if (c->n_generated > 0)
        logit -= (float)c->n_generated * p->frequency_penalty + p->presence_penalty;
    return logit;
}

static const float *changed_logits(struct sampler *s, const float *logits)
{
    const struct sampler_params *p = &s->p;
    if (!s->changed)
        return logits;
    float *l = s->changed;
    memcpy(l, logits, s->n_vocab * sizeof *l);
    for (uint32_t i = 0; i < p->n_bias; i++)
        l[p->bias[i].token] += p->bias[i].bias;
    for (uint32_t i = 0; !s->is_chain && i < s->n_seen; i++)
        l[s->seen[i]] = sampler_penalized(s, s->seen[i], l[s->seen[i]]);
    return l;
}

/* ---- the draw ---- */
/* What is drawn from.  maxima: NULL where bias, penalties or a mask make others of them. */
struct source {
    const float *logits, *maxima;
    const uint64_t *allowed;
};

static uint32_t best_of(const struct sampler *s, const struct source *from)
{
    if (from->allowed)
        return select_best(from->logits, s->n_vocab, from->allowed);
    return from->maxima ? select_best_of_blocks(from->logits, s->n_vocab, from->maxima)
                        : s->k->argmax(from->logits, s->n_vocab);
}

static uint32_t top_of(const struct sampler *s, const struct source *from, struct candidate *best,
                       uint32_t k)
{
    k = k < s->n_vocab ? k : s->n_vocab;
    return from->maxima ? select_top_of_blocks(from->logits, s->n_vocab, from->maxima, best, k)
                        : select_top(from->logits, s->n_vocab, from->allowed, best, k);
}

/* Candidates of the whole vocabulary, sorted.  Those that min_p or their weight rule out anyway are
 * left out before sorting; *mass still counts them when top_p asks for it. */
static uint32_t candidates_of_all(struct sampler *s, const struct source *from, double *mass)
{
    const struct sampler_params *p = &s->p;
    const float *l = from->logits;
    const uint64_t *allowed = from->allowed;
    float max = l[best_of(s, from)];
    double floor = (double)max - NEGLIGIBLE;
    uint32_t n = select_above(l, s->n_vocab, allowed, floor, s->candidates);
    if (p->typical_p >= 1 && p->top_k <= 0) {
        if (p->top_p < 1)
            *mass = filter_mass(s->candidates, n, max);
        if (p->min_p > 0)
            n = select_above(l, s->n_vocab, allowed, (double)max + sampler_log(p->min_p),
                             s->candidates);
    }
    select_sort(s->candidates, s->sorted, n);
    struct candidate *swap = s->candidates;
    s->candidates = s->sorted;
    s->sorted = swap;
    return p->top_k > 0 && n > (uint32_t)p->top_k ? (uint32_t)p->top_k : n;
}

uint32_t sampler_draw(struct sampler *s, uint64_t position)
{
    const struct candidate *c = s->from.c;
    const uint32_t n = s->from.n;
    double temperature = s->from.temperature, max = c[0].logit, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += sampler_exp(((double)c[i].logit - max) / temperature);
    double target = sum * prng_uniform(s->p.seed, s->p.choice, position, 0);
    double reached = 0;
    uint32_t i = 0;
    for (; i + 1 < n; i++) {
        reached += sampler_exp(((double)c[i].logit - max) / temperature);
        if (reached > target)
            break;
    }
    s->from.sum = sum;
    s->from.index = i;
    return c[i].token;
}

static uint32_t choose(struct sampler *s, const struct source *from, uint64_t position)
{
    const struct sampler_params *p = &s->p;
    if (is_greedy(p))
        return best_of(s, from);
    double mass = -1; /* not known yet */
    uint32_t n = uses_heap(s) ? top_of(s, from, s->candidates, (uint32_t)p->top_k)
                              : candidates_of_all(s, from, &mass);
    if (n == 0) /* everything is forbidden or not a number; any answer is as good */
        return best_of(s, from);
    if (p->typical_p < 1)
        n = filter_typical(s->candidates, n, p->typical_p, 0, s->scratch);
    float max = s->candidates[0].logit;
    if (p->top_p < 1)
        n = filter_top_p(s->candidates, n, max,
                         mass < 0 ? filter_mass(s->candidates, n, max) : mass, p->top_p);
    if (p->min_p > 0)
        n = filter_min_p(s->candidates, n, p->min_p);
    s->from = (struct drawn_from){.c = s->candidates, .n = n, .temperature = p->temperature};
    return sampler_draw(s, position);
}

/* Log-probabilities are those of the model: raw logits, before anything was asked for. */
static void add_logprobs(struct sampler *s, const struct source *raw, struct sampled *out)
{
    const float *logits = raw->logits;
    float max, sum;
    s->k->max_sum_exp(logits, s->n_vocab, &max, &sum);
    double log_sum = (double)max + sampler_log((double)sum);
    out->logprob = (float)((double)logits[out->token] - log_sum);
    if (s->p.n_top_logprobs == 0)
        return;
    out->n_top = top_of(s, raw, s->top, s->p.n_top_logprobs);
    for (uint32_t i = 0; i < out->n_top; i++) {
        out->top_tokens[i] = s->top[i].token;
        out->top_logprobs[i] = (float)((double)s->top[i].logit - log_sum);
    }
}

/* Of what was drawn from; one that was taken without a draw was certain. */
static void add_drawn(const struct sampler *s, struct sampled *out)
{
    const struct drawn_from *from = &s->from;
    const struct candidate certain = {.token = out->token};
    const struct candidate *c = from->n ? from->c : &certain;
    const uint32_t n = from->n ? from->n : 1;
    const double log_sum = from->n ? sampler_log(from->sum) : 0;
    const double temperature = from->n ? from->temperature : 1;
    for (uint32_t i = 0; i < n && i < s->p.n_top_logprobs; i++) {
        out->top_tokens[i] = c[i].token;
        out->top_logprobs[i] =
            (float)(((double)c[i].logit - (double)c[0].logit) / temperature - log_sum);
        out->n_top = i + 1;
    }
    out->logprob =
        (float)(((double)c[from->index].logit - (double)c[0].logit) / temperature - log_sum);
}

void sampler_score(struct sampler *s, const float *logits, uint32_t token, struct sampled *out)
{
    const struct source raw = {.logits = logits};
    CHECK(token < s->n_vocab);
    *out = (struct sampled){.token = token};
    add_logprobs(s, &raw, out);
}

void sampler_sample(struct sampler *s, const float *logits, const float *maxima,
                    const uint64_t *allowed, uint64_t position, struct sampled *out)
{
    const struct source raw = {logits, maxima, NULL};
    struct source from = {changed_logits(s, logits), NULL, allowed};
    if (from.logits == logits && !allowed)
        from.maxima = maxima;
    s->from = (struct drawn_from){0};
    *out = (struct sampled){.token = s->is_chain ? chain_choose(s, from.logits, allowed, position)
                                                 : choose(s, &from, position)};
    CHECK(out->token < s->n_vocab);
    if (!s->p.wants_logprob && s->p.n_top_logprobs == 0)
        return;
    if (s->p.wants_drawn)
        add_drawn(s, out);
    else
        add_logprobs(s, &raw, out);
}
