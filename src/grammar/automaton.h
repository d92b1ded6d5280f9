/* SPDX-License-Identifier: MIT
 * automaton.h — finite automata over numbers: code points, bytes, and calls of rules.
 * For:    regular expressions, number ranges, property names, and the body of each grammar rule.
 * Symbols: 0..0x10FFFF are code points, 0..255 bytes (one automaton uses one of the two readings),
 *          SYMBOL_CALL + r is a call of rule r.
 * Limits: AUTOMATON_STATES_MAX states in each, E_LIMIT beyond.   Thread: one owner. */
#ifndef KVASIR_GRAMMAR_AUTOMATON_H
#define KVASIR_GRAMMAR_AUTOMATON_H

#include "base/slice.h"
#include "base/status.h"

#define CODE_POINT_MAX       0x10FFFFu
#define SYMBOL_CALL          0x200000u
#define AUTOMATON_STATES_MAX (1u << 16)
#define AUTOMATON_EDGES_MAX  (1u << 20)
#define STATE_NONE           UINT32_MAX

struct code_range {
    uint32_t lo, hi;
};
/* gaps [n + 1] = the code points outside ranges [n], which are put into order; returns how many. */
uint32_t ranges_invert(struct code_range *ranges, uint32_t n, struct code_range *gaps);
int hex_value(char c); /* of a hex digit in either case; −1: it is none */

/* ---- with choice: easy to build ---- */
enum nfa_kind {
    NFA_SYMBOL,   /* consumes one symbol of lo..hi */
    NFA_EMPTY,    /* consumes nothing */
    NFA_AT_START, /* nothing, and only before the first symbol */
    NFA_AT_END    /* nothing, and only behind the last one */
};
struct nfa_edge {
    enum nfa_kind kind;
    uint32_t lo, hi, to, next;
};
struct nfa {
    uint32_t *first; /* [n_states]: an edge, or STATE_NONE */
    uint32_t n_states, states_cap;
    struct nfa_edge *edges;
    uint32_t n_edges, edges_cap;
    enum status failed; /* sticky: E_NOMEM or E_LIMIT; reported by nfa_to_dfa */
};
void nfa_release(struct nfa *n); /* {0} is an empty one */
uint32_t nfa_state(struct nfa *n);
void nfa_range(struct nfa *n, uint32_t from, uint32_t to, uint32_t lo, uint32_t hi);
void nfa_empty(struct nfa *n, uint32_t from, uint32_t to, enum nfa_kind kind);
/* from → to by the UTF-8 bytes of one code point of lo..hi; surrogates are left out. */
void nfa_utf8(struct nfa *n, uint32_t from, uint32_t to, uint32_t lo, uint32_t hi);

/* ---- without choice: easy to run ---- */
struct dfa_edge {
    uint32_t lo, hi, to;
};
struct dfa {
    uint32_t n_states; /* state 0 is the start; none at all: nothing is accepted */
    uint32_t *first;   /* [n_states + 1]: edges of state s are first[s] .. first[s + 1] − 1 */
    bool *is_final;    /* [n_states] */
    struct dfa_edge *edges; /* ascending and disjoint within a state */
    uint32_t n_edges;
};
void dfa_release(struct dfa *d);
/* Only states from which a final one can be reached are kept. */
NODISCARD enum status nfa_to_dfa(const struct nfa *n, uint32_t start, uint32_t end, struct dfa *out,
                                 struct err *e);
NODISCARD enum status dfa_intersect(const struct dfa *a, const struct dfa *b, struct dfa *out,
                                    struct err *e);
/* Everything over 0..CODE_POINT_MAX that d does not accept. */
NODISCARD enum status dfa_complement(const struct dfa *d, struct dfa *out, struct err *e);
/* Removes edges that carry a symbol for which is_live says no, then states that lead nowhere.
 * False: out of memory. */
NODISCARD bool dfa_prune(struct dfa *d, bool (*is_live)(void *arg, uint32_t symbol), void *arg);
/* The same texts as JSON strings, quotes and all, over bytes: json_text.c. */
NODISCARD enum status dfa_json_text(const struct dfa *text, struct dfa *out, struct err *e);
/* Where the text's automaton only counts code points: the states of the JSON text *first..*last,
 * each one character behind the one before, in which it may end; there are at least as many as
 * there can be characters more.  False: it says something else of them. */
bool dfa_json_counts(const struct dfa *text, uint32_t *first, uint32_t *last);
uint32_t dfa_next(const struct dfa *d, uint32_t state, uint32_t symbol); /* or STATE_NONE */
bool dfa_matches(const struct dfa *d, struct slice utf8);

/* ---- making a dfa by hand, state after state ---- */
struct dfa_maker {
    struct dfa d;
    uint32_t states_cap, edges_cap;
    enum status failed;
};
void dfa_maker_state(struct dfa_maker *m, bool is_final); /* edges that follow belong to it */
void dfa_maker_edge(struct dfa_maker *m, uint32_t lo, uint32_t hi, uint32_t to);
NODISCARD enum status dfa_maker_end(struct dfa_maker *m, struct dfa *out, struct err *e);

#endif
