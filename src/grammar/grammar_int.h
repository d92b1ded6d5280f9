/* SPDX-License-Identifier: MIT
 * grammar_int.h — inner door: a compiled grammar, trees of tokens, stacks.
 *
 * A node is a place in a text: the state in the rule being read, and below it the node to which
 * that rule returns.  Nodes are interned, so the same stack is the same number, and what was worked
 * out for it is kept.  A text stands at a set of nodes, because rules may begin alike. */
#ifndef KVASIR_GRAMMAR_INT_H
#define KVASIR_GRAMMAR_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "grammar/automaton.h"
#include "grammar/grammar.h"

/* Tree nodes that grammar_prepare visits at most, about 10 ms, and grammar_prepare_more.  Masks of
 * states beyond that are worked out when a text first meets them. */
#define PREPARE_VISITS_MAX      (1u << 20)
#define PREPARE_MORE_VISITS_MAX (1u << 25)
#define PLACES_MAX              (1u << 22)       /* of all nodes of one text */
#define EXTRA_MAX               (1u << 24)       /* its tokens that run over the end of a rule */
#define NODE_NONE               UINT32_MAX       /* below the root: the end of the text */
#define NODE_UNKNOWN            (UINT32_MAX - 1) /* the caller is not known: masks of a state by itself */

struct call {
    uint32_t rule, next; /* returns to state next */
};
/* States of a rule that counts characters, one by one: from each as many more may come as there are
 * states behind it, and the text may end.  first == last: it counts none. */
struct count {
    uint32_t first, last;
};
struct byte_set {
    uint64_t bits[4];
};
/* State s of any rule.  Edges consume bytes. */
struct grammar {
    uint32_t n_states, n_rules, root;
    uint32_t *first_edge; /* [n_states + 1] */
    struct dfa_edge *edges;
    uint32_t *first_call; /* [n_states + 1] */
    struct call *calls;
    bool *is_final;          /* [n_states] */
    uint32_t *start;         /* [n_rules]: its first state */
    uint32_t *rule_end;      /* [n_rules]: the state behind its last one */
    struct count *counts;    /* [n_rules] */
    struct byte_set *follow; /* [n_rules]: bytes that may come behind it, or more */
    _Atomic uint32_t n_owners;
};
/* Nothing comes behind it in its rule. */
static inline bool state_is_end(const struct grammar *g, uint32_t s)
{
    return g->is_final[s] && g->first_edge[s] == g->first_edge[s + 1] &&
           g->first_call[s] == g->first_call[s + 1];
}
/* It only consumes bytes: no call, no return. */
static inline bool state_is_plain(const struct grammar *g, uint32_t s)
{
    return !g->is_final[s] && g->first_call[s] == g->first_call[s + 1];
}
/* ---- follow.c ---- */
/* Fills follow; is_nullable [n_rules].  False: out of memory. */
NODISCARD bool grammar_find_follow(struct grammar *g, const bool *is_nullable);
uint32_t grammar_rule_of(const struct grammar *g, uint32_t state);
/* Of the rule that the state belongs to. */
const struct byte_set *grammar_follow(const struct grammar *g, uint32_t state);

uint32_t state_next(const struct grammar *g, uint32_t s, uint8_t byte); /* or STATE_NONE */

/* ---- trie.c: texts with token ids, as a tree in preorder ---- */
struct trie_node {
    uint8_t byte;
    uint8_t kinds;        /* of bytes below it: a bit each, by byte_kind */
    uint16_t depth;       /* bytes from the root; 1 for its children */
    uint16_t height;      /* of the longest way down from here */
    uint32_t end;         /* the first node behind this one's subtree */
    uint32_t first_token; /* in tokens; those of the next node begin where these end */
};
struct trie {
    struct trie_node
        *nodes; /* [n_nodes + 1]; node 0 is the root, the last only closes first_token */
    uint32_t n_nodes;
    uint32_t *tokens;
    uint32_t n_tokens, depth_max;
};
struct trie_text {
    struct slice text;
    uint32_t token;
};
/* texts [n] are put into order. */
NODISCARD enum status trie_new(struct trie *t, struct trie_text *texts, uint32_t n, struct err *e);
void trie_release(struct trie *t);
/* Kinds of bytes that most states tell apart by whole kinds only. */
static inline uint32_t byte_kind(uint8_t b)
{
    return b < 0x20                                 ? 0
           : b == ' '                               ? 1
           : b == '"'                               ? 2
           : b == '\\'                              ? 3
           : b >= 0x80                              ? 4
           : (b | 0x20) >= 'a' && (b | 0x20) <= 'z' ? 5
           : b >= '0' && b <= '9'                   ? 6
                                                    : 7;
}

struct grammar_vocabulary {
    uint32_t n_vocab;
    struct slice *pieces; /* [n_vocab] into bytes */
    char *bytes;
    struct trie trie;
    uint32_t before[257]; /* tokens that begin with a smaller byte */
};

/* ---- nodes.c ---- */
struct node {
    uint32_t state, below;
    uint32_t first, count; /* in places: where its text stands before the next byte */
    bool is_open;          /* first and count are known */
    bool may_end;          /* the whole text may end here */
    bool falls_out;        /* an unknown caller may go on here */
    bool knows_extra;
    uint32_t *extra; /* tokens that run over the end of the node's rule */
    uint32_t n_extra;
};
struct nodes {
    const struct grammar *g;
    struct node *nodes;
    uint32_t n, cap;
    uint32_t *slots, n_slots;
    uint32_t *places; /* nodes whose state consumes bytes */
    uint32_t n_places, places_cap;
    uint32_t *mark, stamp; /* [cap] while a node is opened */
    uint32_t *todo;        /* likewise */
    enum status failed;    /* sticky: E_LIMIT or E_NOMEM */
};
void nodes_init(struct nodes *n, const struct grammar *g);
void nodes_release(struct nodes *n);
uint32_t node_of(struct nodes *n, uint32_t state, uint32_t below);
/* Fills first, count, may_end, falls_out. */
void node_open(struct nodes *n, uint32_t node);

/* A set of nodes that consume bytes is a struct matcher_state. */
void places_begin(struct nodes *n, struct matcher_state *p, uint32_t node);
/* out = what p becomes by one byte; false: nothing is left (falls_out and may_end count as left).
 */
bool places_step(struct nodes *n, const struct matcher_state *p, uint8_t byte,
                 struct matcher_state *out);

/* ---- mask.c ---- */
/* A token that goes on behind the end of the rule. */
struct over_token {
    uint32_t position; /* in the vocabulary's tree: of its tokens */
    uint32_t depth;    /* of the end */
};
/* What a state allows whatever its callers are: what `base` does, but for the branches `cut` of the
 * vocabulary's tree, and this. */
struct state_mask {
    const struct state_mask *base; /* NULL, or one without a base */
    uint32_t *cut;                 /* [n_cut] nodes, apart from each other */
    uint32_t n_cut;
    uint32_t state;   /* for which it was worked out; others that allow the same share it */
    uint64_t *bits;   /* [words] when many tokens are allowed, else NULL */
    uint32_t *tokens; /* [n_tokens] otherwise */
    uint32_t n_tokens;
    /* Tokens that run over the end of the rule: what follows it in them as a tree of its own, whose
     * tokens are indices of over_tokens, and nodes of the vocabulary's tree where it ends and very
     * many tokens go on. */
    struct trie over;
    struct over_token *over_tokens;
    uint32_t *points;
    uint32_t n_points;
    struct state_mask *next; /* in the list of all */
};
/* States whose edges have the same bytes are probably alike. */
struct family {
    uint64_t bytes;
    const struct state_mask *mask; /* without a base; NULL: there is none yet */
};
#define FAMILIES_MAX 4096u /* a power of two; beyond half of that none is added */
struct walk;
struct grammar_masks {
    struct grammar *g;
    const struct grammar_vocabulary *v;
    uint32_t n_words;
    const struct state_mask *_Atomic *states; /* [n_states], worked out when first needed */
    _Atomic uint64_t n_visits;                /* tree nodes looked at so far */
    _Atomic bool is_prepared;                 /* or is being prepared */
    _Atomic uint32_t n_owners;
    pthread_mutex_t mutex;   /* guards what follows; not held while one is worked out */
    struct family *families; /* [FAMILIES_MAX] by bytes */
    uint32_t n_families;
    struct state_mask *all; /* to be freed at the end */
    struct walk *spare;     /* for the next one */
};
/* NULL: out of memory. */
const struct state_mask *state_mask_of(struct grammar_masks *m, uint32_t state);

/* ---- alike.c ---- */
#define PAIRS_MAX                                                                   \
    2048u /* of states that are compared; beyond that two are not known to be alike \
           */
/* Two states, and for how many bytes what follows is the same from both. */
struct pair {
    uint32_t a, b, bytes;
};
struct pairs_alike {
    const struct grammar *g;
    struct pair *pairs; /* [PAIRS_MAX] */
    uint32_t n;
    uint16_t *slots; /* [2 × PAIRS_MAX] */
    uint32_t depth;  /* nobody asks beyond that */
};
NODISCARD bool alike_new(struct pairs_alike *p, const struct grammar *g, uint32_t depth);
void alike_release(struct pairs_alike *p);
/* Compares a and b, which are plain. */
void alike_begin(struct pairs_alike *p, uint32_t a, uint32_t b);
/* For how many bytes at least; 0 for pairs that can't be met from those. */
uint32_t alike_bytes(const struct pairs_alike *p, uint32_t a, uint32_t b);
/* Nothing tells them apart at once: they are one, or only ends, or both plain. */
static inline bool states_look_alike(const struct grammar *g, uint32_t a, uint32_t b)
{
    return a == b || (state_is_plain(g, a) && state_is_plain(g, b)) ||
           (state_is_end(g, a) && state_is_end(g, b));
}

#endif
