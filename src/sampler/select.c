/* SPDX-License-Identifier: MIT
 * select.c — candidates out of a vocabulary: the k best by a bounded heap, or all of them sorted.
 * A vocabulary has up to 262,144 tokens and top_k is 40 mostly: one pass of compares, some hundred
 * sifts.  Sorting all is by radix on the bits of the float: three passes, whatever the input. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "sampler/sampler_int.h"

/* Is a to come after b?  Equal logits: the lower token is the better one. */
static bool is_worse(struct candidate a, struct candidate b)
{
    return a.logit < b.logit || (a.logit == b.logit && a.token > b.token);
}

/* heap [n] is a heap with the worst at 0, but for heap[at], which may belong further down. */
static void sift_down(struct candidate *heap, uint32_t n, uint32_t at)
{
    struct candidate moving = heap[at];
    for (uint32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && is_worse(heap[child + 1], heap[child]))
            child++;
        if (!is_worse(heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static float bounded(float logit)
{
    return logit > FLT_MAX ? FLT_MAX : logit;
}

static void heapify(struct candidate *heap, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(heap, n, i);
}

/* A heap with the worst at 0 becomes a list with the best at 0. */
static void unheap(struct candidate *heap, uint32_t n)
{
    for (uint32_t left = n; left > 1;) { /* the worst goes to the end, again and again */
        struct candidate worst = heap[0];
        heap[0] = heap[--left];
        heap[left] = worst;
        sift_down(heap, left, 0);
    }
}

/* The next token ≥ from whose bit is set, or n. */
static uint32_t next_allowed(const uint64_t *allowed, uint32_t from, uint32_t n)
{
    for (uint32_t word = from / 64; from < n; from = 64 * ++word) {
        uint64_t bits = allowed[word] >> from % 64;
        if (bits)
            return from + (uint32_t)__builtin_ctzll(bits);
    }
    return n;
}

/* Few of a mask's bits are set mostly: empty words cost one test for 64 tokens. */
static uint32_t top_allowed(const float *logits, uint32_t n, const uint64_t *allowed,
                            struct candidate *best, uint32_t k)
{
    uint32_t count = 0;
    for (uint32_t token = next_allowed(allowed, 0, n); token < n;
         token = next_allowed(allowed, token + 1, n)) {
        struct candidate c = {bounded(logits[token]), token};
        if (!(logits[token] >= -FLT_MAX) || (count == k && !(c.logit > best[0].logit)))
            continue;
        if (count < k) {
            best[count++] = c;
            if (count == k)
                heapify(best, k);
        } else {
            best[0] = c;
            sift_down(best, k, 0);
        }
    }
    if (count < k)
        heapify(best, count);
    unheap(best, count);
    return count;
}

uint32_t select_top(const float *logits, uint32_t n, const uint64_t *allowed,
                    struct candidate *best, uint32_t k)
{
    if (allowed)
        return top_allowed(logits, n, allowed, best, k);
    uint32_t count = 0, token = 0;
    for (; token < n && count < k; token++)
        if (logits[token] >= -FLT_MAX)
            best[count++] = (struct candidate){bounded(logits[token]), token};
    heapify(best, count);
    /* A later token of an equal logit is worse than any in the heap, so > suffices; NaN fails it.
     */
    for (; token < n; token++)
        if (logits[token] > best[0].logit && best[0].logit < FLT_MAX) { /* infinities are equals */
            best[0] = (struct candidate){bounded(logits[token]), token};
            sift_down(best, count, 0);
        }
    unheap(best, count);
    return count;
}

void select_front(struct candidate *c, uint32_t n, uint32_t k)
{
    heapify(c, k);
    for (uint32_t i = k; i < n; i++)
        if (is_worse(c[0], c[i])) {
            struct candidate swap = c[0];
            c[0] = c[i];
            c[i] = swap;
            sift_down(c, k, 0);
        }
    unheap(c, k);
}

static uint32_t block_end(uint32_t block, uint32_t n)
{
    return (block + 1) * SAMPLER_BLOCK < n ? (block + 1) * SAMPLER_BLOCK : n;
}

/* The k-th largest of the maxima is a bound: k logits at least reach it, so that nothing below is
 * among the k best, and a block below it need not be looked into. */
uint32_t select_top_of_blocks(const float *logits, uint32_t n, const float *maxima,
                              struct candidate *best, uint32_t k)
{
    const uint32_t n_blocks = (n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
    if (k == 0 || k > n_blocks || select_top(maxima, n_blocks, NULL, best, k) < k)
        return select_top(logits, n, NULL, best, k);
    const float bound = best[k - 1].logit;
    uint32_t count = 0;
    for (uint32_t block = 0; block < n_blocks; block++) {
        if (!(maxima[block] >= bound))
            continue;
        for (uint32_t token = block * SAMPLER_BLOCK; token < block_end(block, n); token++) {
            if (!(logits[token] >= bound))
                continue;
            const struct candidate c = {bounded(logits[token]), token};
            if (count < k) {
                best[count++] = c;
                if (count == k)
                    heapify(best, k);
            } else if (c.logit > best[0].logit) {
                best[0] = c;
                sift_down(best, k, 0);
            }
        }
    }
    unheap(best, count);
    return count;
}

uint32_t select_best_of_blocks(const float *logits, uint32_t n, const float *maxima)
{
    const uint32_t n_blocks = (n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
    float most = -INFINITY;
    for (uint32_t block = 0; block < n_blocks; block++)
        most = maxima[block] > most ? maxima[block] : most;
    for (uint32_t block = 0; block < n_blocks; block++)
        for (uint32_t token = block * SAMPLER_BLOCK;
             maxima[block] == most && token < block_end(block, n); token++)
            if (logits[token] == most) /* not there: a block of NaN */
                return token;
    return 0;
}

uint32_t select_above(const float *logits, uint32_t n, const uint64_t *allowed, double floor,
                      struct candidate *out)
{
    float bound = floor < -FLT_MAX ? -FLT_MAX : (float)floor;
    uint32_t count = 0;
    for (uint32_t token = allowed ? next_allowed(allowed, 0, n) : 0; token < n;
         token = allowed ? next_allowed(allowed, token + 1, n) : token + 1)
        if (logits[token] >= bound)
            out[count++] = (struct candidate){bounded(logits[token]), token};
    return count;
}

uint32_t select_best(const float *logits, uint32_t n, const uint64_t *allowed)
{
    uint32_t best = next_allowed(allowed, 0, n);
    for (uint32_t token = best; token < n; token = next_allowed(allowed, token + 1, n))
        if (logits[token] > logits[best] ||
            (logits[best] != logits[best] && logits[token] == logits[token]))
            best = token;
    return best;
}

/* A number that grows as the logit falls. */
static uint32_t descending_key(float logit)
{
    float v = logit + 0.0f; /* −0 equals 0, so its key must */
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

#define RADIX_BITS    11
#define RADIX_PASSES  3
#define RADIX_BUCKETS (1u << RADIX_BITS)

void select_sort(struct candidate *c, struct candidate *sorted, uint32_t n)
{
    uint32_t starts[RADIX_PASSES][RADIX_BUCKETS] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = descending_key(c[i].logit);
        for (int pass = 0; pass < RADIX_PASSES; pass++)
            starts[pass][key >> (pass * RADIX_BITS) & (RADIX_BUCKETS - 1)]++;
    }
    struct candidate *from = c, *to = sorted;
    for (int pass = 0; pass < RADIX_PASSES; pass++) {
        uint32_t start = 0;
        for (uint32_t b = 0; b < RADIX_BUCKETS; b++) {
            uint32_t count = starts[pass][b];
            starts[pass][b] = start;
            start += count;
        }
        for (uint32_t i = 0; i < n; i++) {
            uint32_t key = descending_key(from[i].logit);
            to[starts[pass][key >> (pass * RADIX_BITS) & (RADIX_BUCKETS - 1)]++] = from[i];
        }
        struct candidate *swap = from;
        from = to;
        to = swap;
    }
    _Static_assert(RADIX_PASSES % 2 == 1, "the last pass writes to sorted");
}
