/* SPDX-License-Identifier: MIT
 * cache_int.h — what the files of this room share.
 *
 *   root ── node ── node ── node          one node = one page (≤ 64 tokens) of one chain
 *            │        └──── node (tail)    children sorted by owner, tokens
 *            └─ pages[group]: NONE → MEMORY → (durable) → MAPPED → NONE
 *
 * A sequence holds a path of nodes (its full pages) and private pages behind it (not yet full, or
 * not yet computed).  pages[g].refs counts the sequences that have the page in their table. */
#ifndef KVASIR_CACHE_INT_H
#define KVASIR_CACHE_INT_H

#include <stdatomic.h>

#include "base/check.h"
#include "cache/cache.h"
#include "session/page_key.h"

#define PAGE_TOKENS KV_PAGE_TOKENS
_Static_assert(PAGE_TOKENS == PAGE_KEY_TOKENS, "sessions find pages by the same keys");
_Static_assert(CACHE_GROUPS_MAX == PAGE_KEY_GROUPS, "likewise");
#define NODES_MAX       (1u << 18) /* known pages in this process; beyond it the oldest leave */
#define HEADS_MAX       32u
#define HEADS_BYTES_MAX (64u << 20)
#define SHARED_MAX      4u /* places where others part from a running sequence */
#define FREE_PAGES_MAX  8u /* unused pages kept per group, against mmap/munmap churn */

enum page_where {
    PAGE_NONE,
    PAGE_MEMORY, /* data: a writable page of our own */
    PAGE_MAPPED, /* in the store's map, held by pin */
};

struct page {
    enum page_where where;
    bool is_kept;        /* windowed groups: part of a resumable point */
    bool is_shared;      /* of one that other prompts come back to: eviction does not thin it out */
    bool is_durable;     /* the store has it */
    bool is_queued;      /* a put reads data */
    bool is_listed;      /* in the verify list of the running step */
    bool is_bad;         /* failed verification in the running step */
    uint16_t n_verified; /* layers checked, in ascending order */
    uint32_t refs;
    void *data; /* MEMORY: whole page; MAPPED: whole page, or the compact form of a tail */
    struct store_pin pin;
};

/* Lists of nodes, oldest first, NULL-terminated. */
enum node_list {
    NODES_USED,  /* all, in the order of last use */
    NODES_IDLE,  /* with a page that could be dropped (pool.c), in the same order */
    NODES_SPARE, /* with spare pages (pool.c), in the order in which they became so */
    NODE_LISTS
};

struct node {
    struct node *parent;
    struct node **children; /* sorted by tokens, a prefix before its extensions */
    uint32_t n_children, cap_children;
    struct {
        struct node *older, *newer;
    } in[NODE_LISTS];
    uint64_t spare_bytes;
    bool is_idle;
    struct digest chain;
    struct digest owner; /* salt of whoever may use it; zero: the root, under which all begin */
    uint32_t depth;      /* page index */
    uint32_t n_tokens;   /* 64, fewer for a tail */
    uint32_t holds;      /* sequences on it, puts in flight */
    uint32_t tokens[PAGE_TOKENS];
    struct page pages[CACHE_GROUPS_MAX];
};

struct head {
    struct digest key; /* zero: free slot */
    float *logits;     /* ours */
    uint64_t used;
};

/* A write on its way; returns through the stack `finished`. */
struct put_job {
    struct put_job *next;
    struct cache *cache;
    struct node *node; /* NULL: a head */
    uint32_t group;
    void *buffer; /* compact tail or logits, freed when done */
    enum status st;
    struct err err;
};

struct verify_item {
    struct node *node;
    uint32_t group;
};

struct cache {
    struct cache_options options;
    bool has_public;
    struct digest public_owner; /* whose pages everybody may use, and hang private ones under */
    struct node root;
    struct {
        struct node *oldest, *newest;
    } lists[NODE_LISTS];
    uint64_t spare_bytes;
    struct digester digester;
    struct head heads[HEADS_MAX];
    uint64_t head_clock;
    void *free_pages[CACHE_GROUPS_MAX][FREE_PAGES_MAX];
    uint32_t n_free_pages[CACHE_GROUPS_MAX];
    uint64_t memory_bytes; /* pages handed out and not given back */
    struct verify_item *verify;
    uint32_t n_verify, cap_verify;
    _Atomic uint32_t n_verify_bad;
    double fault_in_ms, verify_ms; /* of this step, worker 0's share */
    _Atomic(struct put_job *) finished;
    uint32_t n_jobs; /* puts in flight */
    uint32_t n_sequences;
    bool has_put_warned;
    double ms_per_token; /* of prefill; 0: not known yet */
    struct cache_stats stats;
};

/* What a page of a windowed group is kept for. */
enum keep {
    KEEP_NOT,
    KEEP_POINT,
    KEEP_SHARED, /* a point that other prompts come back to */
};

struct sequence {
    struct cache *cache;
    struct digest owner;
    bool no_cache;
    uint32_t n_valid;
    uint32_t *tokens;                      /* [n_valid], capacity n_ctx */
    struct node **nodes;                   /* [n_pages_max]: the node of a full page, else NULL */
    void **tables[CACHE_GROUPS_MAX];       /* [n_pages_max]: what a step reads and writes */
    uint32_t first_page[CACHE_GROUPS_MAX]; /* pages before it were released (window) */
    uint32_t n_pages;                      /* entries in use */
    uint8_t *keep;                         /* [n_pages_max]: enum keep */
    uint32_t *points;                      /* ascending, those not reached yet from next_point */
    uint32_t n_points, next_point;
    uint32_t shared[SHARED_MAX], n_shared; /* points that other prompts come back to */
    /* A tail found by the look-up, to be copied before the first step. */
    struct node *tail;
    uint32_t tail_tokens;
    bool has_unverified;
};

/* keys.c */
struct digest key_chain(struct cache *c, const struct digest *owner, const struct digest *parent,
                        const uint32_t *tokens, uint32_t n_tokens);
struct digest key_page(struct cache *c, uint32_t group, const struct digest *chain);
struct digest key_head(struct cache *c, const struct digest *chain);
struct digest key_family(struct cache *c, const struct digest *owner, const struct digest *parent);
uint32_t key_order(const uint32_t *tokens, uint32_t n_tokens, uint8_t out[STORE_ORDER_MAX]);
uint64_t key_layout(const struct cache *c, uint32_t group, uint32_t n_tokens);

/* tree.c */
uint32_t tokens_common(const uint32_t *a, const uint32_t *b, uint32_t n);
/* The child with the longest common prefix, NULL if none shares a token. */
struct node *node_best_child(const struct node *n, const struct digest *owner,
                             const uint32_t *tokens, uint32_t n_tokens, uint32_t *common);
/* Some child of this owner; NULL: none. */
const struct node *node_some_child(const struct node *n, const struct digest *owner);
bool node_has_child(const struct node *n, const struct digest *owner);
struct node *node_find_child(const struct node *n, const struct digest *owner,
                             const uint32_t *tokens, uint32_t n_tokens);
/* A new child; NULL: out of memory. */
struct node *node_add_child(struct cache *c, struct node *parent, const struct digest *owner,
                            const uint32_t *tokens, uint32_t n_tokens, const struct digest *chain);
void node_touch(struct cache *c,
                struct node *n); /* n, then its ancestors: parents stay more recent */
void node_trim(struct cache *c); /* NODES_MAX */
void node_free_all(struct cache *c);

/* tree.c: n is not in the list yet; n is in it */
void node_list_append(struct cache *c, struct node *n, enum node_list list);
void node_list_remove(struct cache *c, struct node *n, enum node_list list);

/* pool.c */
NODISCARD enum status pool_take(struct cache *c, uint32_t group, void **data, struct err *e);
void pool_give(struct cache *c, uint32_t group, void *data);
void page_drop(struct cache *c, struct node *n, uint32_t group); /* → NONE */
void page_unref(struct cache *c, struct node *n, uint32_t group);
/* To be called when a page of n may have become, or ceased to be, one that nothing but memory
 * holds: puts n among the idle ones or takes it out. */
void node_update_idle(struct cache *c, struct node *n);
void node_touch_idle(struct cache *c,
                     struct node *n); /* n is the latest used of them, if it is one */
/* Frees memory of unreferenced pages, oldest first, until `bytes` more fit; false: they don't. */
bool pool_make_room(struct cache *c, uint64_t bytes);
void pool_compact(const struct cache *c, uint32_t group, void *dst, const void *page,
                  uint32_t n_tokens);
void pool_expand(const struct cache *c, uint32_t group, void *page, const void *src,
                 uint32_t n_tokens);
uint64_t pool_compact_bytes(const struct cache *c, uint32_t group, uint32_t n_tokens);

/* persist.c */
void persist_page(struct cache *c, struct node *n, uint32_t group);
void persist_head(struct cache *c, const struct node *parent, uint32_t depth,
                  const struct digest *chain, const float *logits);
/* Maps the stored page of a node; false: the store has none (or a bad one). */
bool persist_map(struct cache *c, struct node *n, uint32_t group);
/* The stored page of exactly these tokens (PAGE_TOKENS of them), as a child of parent; NULL: none.
 */
struct node *persist_load_full(struct cache *c, struct node *parent, const struct digest *owner,
                               const uint32_t *tokens, const struct digest *chain,
                               const struct digest *key);
/* Faults a mapped page in; one that was not read until now is compared with what it should be.
 * E_CORRUPT, E_IO. */
NODISCARD enum status persist_fault_in(const struct cache *c, struct node *n, uint32_t group,
                                       struct err *e);
/* The stored page under `page_key`, as a new child of parent; NULL: none. */
struct node *persist_load(struct cache *c, struct node *parent, const struct digest *owner,
                          const struct digest *page_key);

/* verify.c */
void verify_quarantine(struct cache *c, struct node *n, uint32_t group, const char *why);
NODISCARD enum status verify_page(struct cache *c, struct node *n, uint32_t group, struct err *e);

#endif
