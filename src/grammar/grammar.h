/* SPDX-License-Identifier: MIT
 * grammar.h — constrained output: which tokens may come next, so that the whole text is one that a
 * JSON schema or a GBNF grammar allows.
 * For:     engine (one matcher a choice).   Not for: tool formats, requests, sampling itself.
 * How:     a grammar is a set of rules, each a finite automaton over bytes that may call others; a
 *          text in the making is a set of stacks of return states.  What tokens a state allows
 *          without looking at its callers is worked out once (mask.c), so a step costs a copy of
 * the bits and a look at the few tokens that run over the end of a rule. Threads: grammars and
 * vocabularies are immutable and may be shared; a matcher has one owner. Order:   grammar_from_* →
 * grammar_prepare → matcher_new → (matcher_mask → matcher_accept)*. */
#ifndef KVASIR_GRAMMAR_GRAMMAR_H
#define KVASIR_GRAMMAR_GRAMMAR_H

#include "base/slice.h"
#include "base/status.h"
#include "text/json.h"

#define GRAMMAR_TEXT_MAX   (1u << 20) /* bytes of a GBNF text or of a schema's own strings */
#define GRAMMAR_STATES_MAX (1u << 18) /* of all rules together */
#define MATCHER_NODES_MAX  (1u << 16) /* different stacks that one text may meet */
#define MATCHER_STACKS_MAX 256u       /* alive at one time */
#define GRAMMAR_TOKEN_MAX  512u       /* bytes of a token; longer ones are never allowed */

struct grammar;
/* llama.cpp's GBNF; the rule named root begins.  E_SYNTAX with a line in the message; E_INVALID:
 * an unknown rule, left recursion; E_UNSUPPORTED; E_LIMIT. */
NODISCARD enum status grammar_from_gbnf(struct slice text, struct grammar **out, struct err *e);
/* The same with values of schemas among its parts: %0, %1 … */
#define GRAMMAR_SCHEMAS_MAX 8192u
struct grammar_schema {
    const struct json *schema, *instead; /* instead: of one that is not supported; NULL: it fails */
};
struct grammar_source {
    struct slice text, root; /* root: the rule that begins; empty: root */
    const struct grammar_schema *schemas;
    uint32_t n_schemas;
};
NODISCARD enum status grammar_from_source(const struct grammar_source *s, struct grammar **out,
                                          struct err *e);
/* JSON schema, drafts 7 and 2020-12; docs/structured-output.md has the keywords.  A keyword that
 * can't be kept exactly: E_UNSUPPORTED by name and place.  E_INVALID: a schema that is none, or
 * that nothing can satisfy. */
NODISCARD enum status grammar_from_schema(const struct json *schema, struct grammar **out,
                                          struct err *e);
/* The same text by another road: one more owner, one less. */
struct grammar *grammar_hold(struct grammar *g);
void grammar_free(struct grammar *g);
/* Is this whole text allowed?  For tests, and for values that a schema lists. */
NODISCARD enum status grammar_matches(const struct grammar *g, struct slice text, bool *matches,
                                      struct err *e);

/* ---- the vocabulary: bytes of each token, as a tree ---- */
struct grammar_vocabulary;
/* piece(arg, id): the bytes that token id adds to a text; empty: it is never allowed. */
NODISCARD enum status grammar_vocabulary_new(uint32_t n_vocab,
                                             struct slice (*piece)(void *arg, uint32_t id),
                                             void *arg, struct grammar_vocabulary **out,
                                             struct err *e);
void grammar_vocabulary_free(struct grammar_vocabulary *v);

/* ---- a grammar for a vocabulary ---- */
struct grammar_masks;
/* Works out what most texts need, off the engine's thread: some ten milliseconds for a large
 * vocabulary.  Holds the grammar; the vocabulary must outlive it. */
NODISCARD enum status grammar_prepare(struct grammar *g, const struct grammar_vocabulary *v,
                                      struct grammar_masks **out, struct err *e);
/* The rest of what is worth knowing beforehand, on any thread, while texts are being made: a few
 * tenths of a second at most.  What is missing when a text needs it is worked out then. */
void grammar_prepare_more(struct grammar_masks *m);
struct grammar_masks *grammar_masks_hold(struct grammar_masks *m);
void grammar_masks_free(struct grammar_masks *m);

/* ---- one text in the making ---- */
struct matcher;
NODISCARD enum status matcher_new(struct grammar_masks *m, struct matcher **out, struct err *e);
void matcher_free(struct matcher *m);
/* u64 words of a mask: bit id % 64 of word id / 64. */
uint32_t matcher_mask_words(const struct matcher *m);
/* bits [matcher_mask_words]: 1 where the token may come next; *may_end: the text may end here.  No
 * bit and no end: this vocabulary can't spell what must come.  E_LIMIT, E_NOMEM. */
NODISCARD enum status matcher_mask(struct matcher *m, uint64_t *bits, bool *may_end, struct err *e);
/* The token became part of the text.  E_INVALID: it is not allowed, and nothing changed. */
NODISCARD enum status matcher_accept(struct matcher *m, uint32_t token, struct err *e);
/* The same by bytes, whatever tokens they came in. */
NODISCARD enum status matcher_accept_text(struct matcher *m, struct slice bytes, struct err *e);
/* Where the text stands, to return to when tokens are taken back; means something to this matcher
 * only. */
struct matcher_state {
    uint32_t ids[MATCHER_STACKS_MAX];
    uint32_t n;
    bool may_end, falls_out;
};
const struct matcher_state *matcher_state(const struct matcher *m); /* until the next accept */
void matcher_restore(struct matcher *m, const struct matcher_state *state);

#endif
