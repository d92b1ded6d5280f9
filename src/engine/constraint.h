/* SPDX-License-Identifier: MIT
 * constraint.h — grammars for this model's vocabulary, compiled once, and what they mean to a
 * choice. Threads: constraints_get from any thread (a mutex guards the table, never held while
 * compiling); a guard belongs to whoever draws for its choice. */
#ifndef KVASIR_ENGINE_CONSTRAINT_H
#define KVASIR_ENGINE_CONSTRAINT_H

#include "grammar/grammar.h"
#include "tokenizer/tokenizer.h"

#define VOCABULARIES_MAX 4u /* as grammars see the model's: one for each set of marks */
#define CONSTRAINTS_MAX 64u /* compiled grammars kept; the least recently used goes first */

struct constraints;
NODISCARD enum status constraints_new(const struct tokenizer *t, struct constraints **out,
                                      struct err *e);
void constraints_free(struct constraints *c);
/* What a text may be: a value of the schema, else (schema NULL) what the grammar says.  marks:
 * control tokens that the grammar knows by their texts; all others can't be asked for. */
struct constraint {
    const struct json *schema;
    struct grammar_source grammar;
    const struct slice *marks;
    uint32_t n_marks;
};
/* The caller gives *out back with grammar_masks_free. */
NODISCARD enum status constraints_get(struct constraints *c, const struct constraint *what,
                                      struct grammar_masks **out, struct err *e);

/* What one choice may write.  With a trigger it writes freely until that text appears, then by the
 * grammar to its end, then freely again. */
struct guard {
    const struct constraints *constraints;
    struct grammar_masks *masks; /* NULL: it may write anything */
    struct matcher *matcher;     /* NULL: waiting for the trigger */
    struct slice trigger;        /* borrowed from the request */
    struct buf tail;             /* text that a trigger may have begun in */
    uint64_t *bits;
};
/* masks is held, not taken.  A zeroed guard is one without a constraint. */
NODISCARD enum status guard_init(struct guard *g, const struct constraints *c,
                                 struct grammar_masks *masks, struct slice trigger, struct err *e);
void guard_release(struct guard *g);
/* *allowed: the mask for the next token, end tokens included where the text may end; NULL: all are.
 * E_INVALID: this vocabulary can't spell what must come. */
NODISCARD enum status guard_allowed(struct guard *g, const uint64_t **allowed, struct err *e);
/* A token, no end token, was drawn. */
NODISCARD enum status guard_accept(struct guard *g, uint32_t token, struct err *e);

#endif
