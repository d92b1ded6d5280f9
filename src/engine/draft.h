/* SPDX-License-Identifier: MIT
 * draft.h — a guess at the tokens that come next, from the sequence itself: where the last tokens
 * stood before, the text probably goes on as it did there (prompt lookup; no draft model).
 * For:     speculate.c, one per choice.   Not for: deciding whether guessing pays.
 * A guess is never more than a guess: verification draws each token as it would have been drawn. */
#ifndef KVASIR_ENGINE_DRAFT_H
#define KVASIR_ENGINE_DRAFT_H

#include <stdbool.h>
#include <stdint.h>

/* How often a guess was right, by how many tokens before it agreed: 2, 3, 4, 5–6, 7–10, 11–18,
 * more. */
#define DRAFT_CLASSES 7u
struct draft_rates {
    float right[DRAFT_CLASSES]; /* 0..1, moving means */
};

struct draft {
    uint32_t *heads; /* [n_heads] by hash of two tokens: the latest position behind such a pair */
    uint32_t *previous; /* [cap] by position: an earlier one with the same hash; 0: none */
    uint32_t n_heads, cap;
    uint32_t n_indexed; /* tokens that the index knows */
    uint32_t source;    /* the sequence goes on like here, probably; 0: nothing known */
    uint32_t agreed;    /* tokens before source that equal the sequence's last ones */
    bool has_failed;    /* no memory: no more guesses */
    struct draft_rates rates;
};

void draft_release(struct draft *d); /* a zeroed one is fine */
/* The sequence has tokens [n] now (as before, and more).  Learns how good its guess was, also for
 * `all`, and looks for the next.  The first call only reads. */
void draft_follow(struct draft *d, const uint32_t *tokens, uint32_t n, struct draft_rates *all);
/* What probably follows tokens [n], as followed: out [max], right [max]: how probably each is right
 * when those before it are.  Returns how many. */
uint32_t draft_guess(const struct draft *d, const uint32_t *tokens, uint32_t n, uint32_t *out,
                     float *right, uint32_t max);
/* Before anything was learned. */
struct draft_rates draft_rates_initial(void);

#endif
