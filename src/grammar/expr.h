/* SPDX-License-Identifier: MIT
 * expr.h — what a grammar is made of while it is being written: expressions over bytes, in an
 * arena, and rules that name them. For:    the readers (gbnf.c, schema*.c).   compile.c turns the
 * rules into a struct grammar. */
#ifndef KVASIR_GRAMMAR_EXPR_H
#define KVASIR_GRAMMAR_EXPR_H

#include "base/arena.h"
#include "grammar/automaton.h"
#include "grammar/grammar.h"

#define EXPR_DEPTH_MAX  512u
#define RULES_MAX       (1u << 14)
#define EXPR_REPEAT_MAX 4096u
#define EXPR_MANY       UINT32_MAX /* most of a repetition without end */

enum expr_kind {
    EXPR_TEXT,  /* these bytes; none: the empty text */
    EXPR_NEVER, /* nothing at all */
    EXPR_CLASS, /* one code point of the ranges */
    EXPR_SEQUENCE,
    EXPR_CHOICE,
    EXPR_REPEAT, /* items[0], least..most times */
    EXPR_CALL,   /* a rule */
    EXPR_BYTES,  /* ASCII that the automaton accepts */
    EXPR_GRAPH   /* ways through nodes 0..n_nodes−1, from 0 to 1 */
};
struct expr_edge {
    uint32_t from, to;
    const struct expr *what;
};
struct expr {
    enum expr_kind kind;
    struct slice text;
    const struct code_range *ranges;
    const struct expr *const *items;
    uint32_t n; /* of ranges, items, edges */
    uint32_t least, most;
    uint32_t rule;
    const struct dfa *dfa;
    const struct expr_edge *edges;
    uint32_t n_nodes;
};

struct rule {
    struct slice name;
    const struct expr *body; /* NULL: named but not written yet */
    const struct dfa *text;  /* instead of a body: JSON strings whose values it accepts */
};
struct rules {
    struct arena arena; /* of all expressions */
    struct rule *rules;
    uint32_t n, cap;
    struct dfa **dfas; /* those that expressions point to */
    uint32_t n_dfas, dfas_cap;
    uint32_t space, string, value; /* that all schemas share; UINT32_MAX: not made yet */
};
void rules_init(struct rules *r, size_t max_bytes);
void rules_release(struct rules *r);
/* A new rule's number.  E_LIMIT, E_NOMEM. */
NODISCARD enum status rules_add(struct rules *r, struct slice name, uint32_t *out, struct err *e);
/* Takes back rules from n on. */
void rules_cut(struct rules *r, uint32_t n);
/* A rule for JSON strings whose values d accepts; equal ones are one rule.  Takes d. */
NODISCARD enum status rules_text(struct rules *r, struct dfa *d, uint32_t *out, struct err *e);
/* The dfa lives as long as the rules now.  NULL: out of memory, and it is released. */
NODISCARD const struct dfa *rules_keep(struct rules *r, struct dfa *d);

/* All return NULL when the arena failed, also when an argument is NULL: check once at the end. */
const struct expr *expr_text(struct arena *a, struct slice text); /* text is copied */
const struct expr *expr_lit(struct arena *a, const char *text);   /* not copied */
const struct expr *expr_never(struct arena *a);
const struct expr *expr_class(struct arena *a, const struct code_range *ranges, uint32_t n);
const struct expr *expr_list(struct arena *a, enum expr_kind kind, const struct expr *const *items,
                             uint32_t n); /* SEQUENCE or CHOICE; items are copied */
const struct expr *expr_repeat(struct arena *a, const struct expr *what, uint32_t least,
                               uint32_t most);
const struct expr *expr_call(struct arena *a, uint32_t rule);
const struct expr *expr_bytes(struct arena *a, const struct dfa *d);
const struct expr *expr_graph(struct arena *a, uint32_t n_nodes, const struct expr_edge *edges,
                              uint32_t n); /* edges are copied */
#define EXPR_SEQ(a, ...)                                                   \
    expr_list(a, EXPR_SEQUENCE, (const struct expr *const[]){__VA_ARGS__}, \
              sizeof((const struct expr *const[]){__VA_ARGS__}) / sizeof(struct expr *))

/* Takes nothing; r may be released afterwards.  E_INVALID: left recursion, by the rule's name;
 * a rule that was named but not written; E_NOT_FOUND: no text satisfies it; E_LIMIT, E_NOMEM. */
NODISCARD enum status grammar_compile(const struct rules *r, uint32_t root, struct grammar **out,
                                      struct err *e);

#endif
