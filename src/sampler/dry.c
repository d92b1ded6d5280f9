/* SPDX-License-Identifier: MIT
 * dry.c — "don't repeat yourself": a token that would go on with something that was said before
 * loses multiplier × base^(length − allowed_length), where length is how much of what was said last
 * stands before the token's earlier place, too.
 *
 *   said:  a b c d … x a b c        the last three stand at the beginning, too: d would repeat them
 *
 * Behind a breaker (a line feed, a quotation mark) nothing counts as a repeat of what is before it.
 * Cost: one pass over what is remembered (the Z function of the tokens, last one first), and most
 * often only back to the last breaker.
 * Source: p-e-w's sampler as llama.cpp has it: limits, breakers that lie across tokens. */
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "sampler/sampler_int.h"

#define PENALTY_LOG_MAX 88.7228391 /* ln of the largest float */

struct dry {
    struct sampler_params p;
    uint32_t *said; /* ring [mask + 1] */
    uint32_t mask, end, n_said, n_said_max;
    uint32_t *alike; /* [n_said_max]: z[k] of what was said, last one first */
    /* [n_vocab]: of tokens that would repeat, how much stands before them, and 1; 0: none would. */
    uint32_t *lengths;
    uint32_t *repeating; /* [n_said_max] those of them that are not 0 */
    uint32_t n_repeating;
};

bool dry_new(const struct sampler_params *p, uint32_t n_vocab, struct dry **out)
{
    *out = NULL;
    if (p->dry_multiplier <= 0 || p->dry_base < 1 || p->dry_penalty_last_n == 0)
        return true;
    struct dry *d = mem_try_new(1, sizeof *d);
    if (!d)
        return false;
    d->p = *p;
    d->n_said_max = p->dry_penalty_last_n < 0 || (uint32_t)p->dry_penalty_last_n > p->n_context
                        ? p->n_context
                        : (uint32_t)p->dry_penalty_last_n;
    uint32_t size = 1;
    while (size < d->n_said_max)
        size *= 2;
    d->mask = size - 1;
    d->said = mem_try_new(size, sizeof *d->said);
    d->alike = mem_try_new(size, sizeof *d->alike);
    d->lengths = mem_try_new(n_vocab, sizeof *d->lengths);
    d->repeating = mem_try_new(size, sizeof *d->repeating);
    if (!d->said || !d->alike || !d->lengths || !d->repeating) {
        dry_free(d);
        return false;
    }
    *out = d;
    return true;
}

void dry_free(struct dry *d)
{
    if (!d)
        return;
    mem_free(d->said);
    mem_free(d->alike);
    mem_free(d->lengths);
    mem_free(d->repeating);
    mem_free(d);
}

void dry_accept(struct dry *d, uint32_t token)
{
    d->said[d->end++ & d->mask] = token;
    d->n_said += d->n_said < d->n_said_max;
}

/* The k-th of what was said, last one first. */
static uint32_t said(const struct dry *d, uint32_t k)
{
    return d->said[(d->end - 1 - k) & d->mask];
}

/* ---- breakers ---- */
static struct slice text_of(const struct dry *d, uint32_t token)
{
    return d->p.piece ? d->p.piece(d->p.piece_arg, token) : (struct slice){"", 0};
}

static bool is_breaker(const struct dry *d, struct slice text)
{
    for (uint32_t i = 0; text.len && i < d->p.n_breakers; i++)
        if (memmem(text.ptr, text.len, d->p.breakers[i].text.ptr, d->p.breakers[i].text.len))
            return true;
    return false;
}

/* Are these the tokens that were said behind the k-th? */
static bool goes_on_with(const struct dry *d, uint32_t k, const struct dry_rest *rest)
{
    if (rest->n > k)
        return false;
    for (uint32_t i = 0; i < rest->n; i++)
        if (said(d, k - 1 - i) != rest->tokens[i])
            return false;
    return true;
}

/* A breaker that begins in the k-th of what was said: how many more tokens it has; false: none
 * does. */
static bool begins_breaker(const struct dry *d, uint32_t k, uint32_t *n_more)
{
    const struct slice text = text_of(d, said(d, k));
    bool found = is_breaker(d, text);
    *n_more = 0;
    for (uint32_t i = 0; i < d->p.n_breakers; i++) {
        const struct dry_breaker *b = &d->p.breakers[i];
        for (size_t n = 1; b->rests && n < b->text.len && n <= text.len; n++) {
            if (memcmp(text.ptr + text.len - n, b->text.ptr, n) != 0 ||
                !goes_on_with(d, k, &b->rests[n]))
                continue;
            found = true;
            *n_more = b->rests[n].n > *n_more ? b->rests[n].n : *n_more;
        }
    }
    return found;
}

/* How many of the last tokens stand behind the last breaker. */
static uint32_t count_free(const struct dry *d)
{
    for (uint32_t k = 0; k < d->n_said; k++) {
        uint32_t n_more;
        if (begins_breaker(d, k, &n_more))
            return k - n_more;
    }
    return d->n_said;
}

/* ---- repeats ---- */
/* alike[k]: how many tokens before the k-th (it included) are the last ones, in the same order. */
static void find_alike(struct dry *d)
{
    const uint32_t n = d->n_said;
    uint32_t *z = d->alike;
    for (uint32_t k = 1, from = 0, to = 0; k < n;
         k++) { /* [from, to): the match that reaches furthest */
        uint32_t length = 0;
        if (k < to)
            length = z[k - from] < to - k ? z[k - from] : to - k;
        if (k + length >= to) {
            while (k + length < n && said(d, length) == said(d, k + length))
                length++;
            from = k;
            to = k + length;
        }
        z[k] = length;
    }
}

static void find_repeats(struct dry *d, uint32_t most)
{
    const uint32_t allowed = (uint32_t)d->p.dry_allowed_length;
    find_alike(d);
    for (uint32_t k = 1; k < d->n_said; k++) {
        const uint32_t length = d->alike[k] < most ? d->alike[k] : most;
        const uint32_t token = said(d, k - 1); /* what came then */
        if (length < allowed || length < d->lengths[token])
            continue;
        if (d->lengths[token] == 0)
            d->repeating[d->n_repeating++] = token;
        d->lengths[token] = length + 1;
    }
}

static double power(double base, uint32_t n)
{
    double result = 1;
    for (; n > 0; n >>= 1, base *= base)
        if (n & 1)
            result *= base;
    return result;
}

static float penalty(const struct sampler_params *p, uint32_t length)
{
    const double base = p->dry_base;
    uint32_t n = length - (uint32_t)p->dry_allowed_length;
    if (base > 1.000001) {
        const uint32_t most = (uint32_t)(PENALTY_LOG_MAX / sampler_log(base));
        n = n < most ? n : most;
    }
    return (float)((double)p->dry_multiplier * power(base, n));
}

void dry_apply(struct dry *d, struct candidate *c, uint32_t n)
{
    const uint32_t allowed = (uint32_t)d->p.dry_allowed_length;
    if (d->n_said <= allowed)
        return;
    const uint32_t most = count_free(d);
    if (most < allowed)
        return;
    find_repeats(d, most);
    for (uint32_t i = 0; d->n_repeating > 0 && i < n; i++) {
        const uint32_t length = d->lengths[c[i].token];
        if (length > 0 && !is_breaker(d, text_of(d, c[i].token)))
            c[i].logit -= penalty(&d->p, length - 1);
    }
    while (d->n_repeating > 0)
        d->lengths[d->repeating[--d->n_repeating]] = 0;
}
