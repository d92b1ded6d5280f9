/* SPDX-License-Identifier: MIT
 * speculate.h — how many guessed tokens are verified in the next step.
 * A step over 1 + n tokens of a sequence costs less than 1 + n steps, since the weights are read
 * once; it pays when enough of the guesses are right.  Both sides are measured as the engine runs:
 * the rates of draft.h, and what steps of so many rows took here beside those without guesses.
 * Exactness: whatever is chosen here, each token is drawn from its own logits at its own position;
 * a wrong guess costs time only (step.c). */
#ifndef KVASIR_ENGINE_SPECULATE_H
#define KVASIR_ENGINE_SPECULATE_H

#include "engine/draft.h"

#define SPECULATE_MAX         16u /* guesses of one choice in a step */
#define SPECULATE_ROWS_MAX    32u /* of all choices */
#define SPECULATE_BASES       12u /* classes of steps, by the choices that decode in them */
#define SPECULATE_CHOICES_MAX 256u

struct speculate_cost {
    float mean;  /* plain steps: ns; with guesses: times as dear as a plain one */
    uint64_t at; /* step when it was last measured; 0: never */
};

struct speculation {
    struct draft_rates rates; /* of all choices: what a new one begins with */
    struct speculate_cost plain[SPECULATE_BASES];
    struct speculate_cost dearer[SPECULATE_BASES][SPECULATE_ROWS_MAX + 1];
};

/* One choice that decodes in the next step: right [max]: draft_guess's. */
struct speculate_offer {
    float right[SPECULATE_MAX];
    uint32_t n_offered;
    uint32_t n_taken; /* the answer */
};

struct speculate_step {
    uint64_t number;   /* of steps so far, from 1 */
    uint32_t n_base;   /* choices that decode */
    uint32_t n_beside; /* prompt tokens computed in the same step */
};

/* Sets n_taken of offers [n] so that tokens per second are most, as far as is known. */
void speculate_choose(const struct speculation *s, struct speculate_step step,
                      struct speculate_offer *offers, uint32_t n);
/* The step with so many guesses took so long; steps with prompt tokens beside say nothing. */
void speculate_learn(struct speculation *s, struct speculate_step step, uint32_t n_guesses,
                     double ns);

#endif
