/* SPDX-License-Identifier: MIT
 * cache.h — from token ids to KV pages: in memory, mapped from the store, or to be computed.
 * For:     the engine: "which pages does this prompt have already, and where do I write the rest".
 * Not for: what a token means, which requests run, the arithmetic of a step.
 * Reuse is by token: a tree of pages of 64 tokens, each node one page of one chain; a page whose
 * first n tokens match serves n.  Windowed layers need their last `window` tokens only, so their
 * pages are kept at resumable points (DESIGN §3); elsewhere the newest stay while memory is at
 * hand. Thread:  the engine's, for all of it, but cache_before_layer (any worker during a step).
 * Order:   cache_new → (cache_begin → (sequence_reserve → step → sequence_append)* →
 *          sequence_finish)* → cache_free. */
#ifndef KVASIR_CACHE_CACHE_H
#define KVASIR_CACHE_CACHE_H

#include "base/digest.h"
#include "kernels/kernels.h"
#include "store/store.h"

#define CACHE_GROUPS_MAX   2u
#define CACHE_POINT_TOKENS 1024u /* a resumable point at least this often */

struct cache;
struct sequence;

/* Layers with the same window share pages; groups[0] is full attention where there is any. */
struct cache_group {
    uint32_t window; /* 0: all */
    uint32_t n_layers;
    uint64_t chunk_bytes; /* one layer's K or V of 64 tokens */
    uint64_t page_bytes;  /* n_layers × 2 × chunk_bytes */
};

struct cache_options {
    uint32_t n_groups;
    struct cache_group groups[CACHE_GROUPS_MAX];
    uint32_t n_kv_heads, head_dim; /* of a chunk; for compact tails */
    enum kv_type kv_type;
    uint32_t n_vocab; /* floats of a head */
    uint32_t n_ctx;
    struct digest root;  /* format, model, KV type, numerics: see engine/identity.c */
    struct digest salt;  /* of the owner of requests that name none */
    struct store *store; /* NULL: nothing on disk.  Borrowed. */
    bool store_read_only;
    uint64_t max_bytes; /* anonymous KV memory */
    /* Of it, at most: windowed pages that are part of no resumable point.  A prompt that parts from a
     * chain near its end, an edited question, say, starts from them. */
    uint64_t spare_max_bytes;
};

NODISCARD enum status cache_new(const struct cache_options *options, struct cache **out,
                                struct err *e);
/* No sequence may be left; waits for puts that still read pages. */
void cache_free(struct cache *c);

/* ---- a running sequence ---- */
struct cache_match {
    uint32_t matched;       /* prompt tokens that some known chain begins with */
    uint32_t resume;        /* tokens whose KV is used: computing starts here; ≤ matched */
    uint32_t memory_tokens; /* of resume: pages that were in this process */
    uint32_t disk_tokens;   /* of resume: pages mapped from the store just now */
    bool is_diverged;       /* the chain goes on with another token at `matched` */
    bool is_dropped;        /* it goes on as the prompt does, but that page is gone */
    const float *head;      /* next-token logits at the prompt's end: resume = n_tokens, nothing to
                               compute.  Valid until the next call of any cache function. */
    double hash_ms, probe_ms, window_ms; /* parts of the look-up's time */
};

/* Pages of this owner serve everybody from now on. */
void cache_set_public(struct cache *c, const struct digest *owner);

/* Looks tokens [n_tokens] up and pins what is found.  max_resume: reuse at most so many tokens
 * (scoring wants logits inside the prompt); n_tokens: a head may answer.
 * points [n_points]: ascending resumable points (message boundaries).  shared_at: a point that
 * other prompts will come back to, the end of a system text, say; 0: none is known.  Where this
 * prompt parts from what is known is such a point too, from now on.  no_cache: match nothing, keep
 * nothing.  Without a head, resume < n_tokens.  E_NOMEM. */
struct cache_request {
    const struct digest *owner; /* salt: pages of others are not seen; NULL: options.salt */
    const uint32_t *tokens;
    uint32_t n_tokens;
    uint32_t max_resume;
    const uint32_t *points;
    uint32_t n_points;
    uint32_t shared_at;
    bool no_cache;
};
NODISCARD enum status cache_begin(struct cache *c, const struct cache_request *r,
                                  struct sequence **out, struct cache_match *match, struct err *e);

/* What cache_begin would find, page by page, beginning nothing. */
struct cache_page_find {
    uint8_t where[CACHE_GROUPS_MAX]; /* 0: absent, 1: in memory, 2: mapped from disk */
};
struct cache_explanation {
    struct cache_match match;      /* its head is not valid */
    struct cache_page_find *pages; /* [n_pages], the caller frees it */
    uint32_t n_pages;
    uint32_t other[KV_PAGE_TOKENS], n_other; /* how a known chain goes on at match.matched */
};
NODISCARD enum status cache_explain(struct cache *c, const struct cache_request *r,
                                    struct cache_explanation *out, struct err *e);

/* Tokens whose KV is valid: where the next step starts. */
uint32_t sequence_valid(const struct sequence *s);
/* Makes pages for the next n tokens writable.  E_LIMIT: no KV memory left (try again when others
 * have ended).  E_CORRUPT: a stored page failed verification and was quarantined: begin again. */
NODISCARD enum status sequence_reserve(struct sequence *s, uint32_t n_tokens, struct err *e);
/* The step computed these tokens; full pages become visible to others and are queued for the disk.
 */
NODISCARD enum status sequence_append(struct sequence *s, const uint32_t *tokens, uint32_t n_tokens,
                                      struct err *e);
struct sequence_pages {
    void *const *pages;
    uint32_t first_page, n_pages;
};
/* The page table of a group for a step of n_tokens tokens after sequence_reserve. */
struct sequence_pages sequence_pages(const struct sequence *s, uint32_t group, uint32_t n_tokens);
/* A second sequence with the same tokens: shares full pages, copies the tail. */
NODISCARD enum status sequence_fork(struct sequence *s, struct sequence **out, struct err *e);
/* Another prompt parts from this one's at `at`: that becomes a resumable point, if it is still to
 * come or its window is still at hand. */
void sequence_share(struct sequence *s, uint32_t at);
/* Keeps the end as a resumable point (pages queued for the disk) without ending the sequence. */
void sequence_keep_end(struct sequence *s);
/* Keeps next-token logits [n_vocab] at the present end, in memory and on disk. */
void sequence_keep_head(struct sequence *s, const float *logits);
/* Ends it: keeps the end as a resumable point (keep), releases its pages.  s is gone. */
void sequence_finish(struct sequence *s, bool keep);
/* Digest of the chain at the present end (also of a partial page). */
struct digest sequence_chain(struct sequence *s);

/* ---- verification before first use ---- */
/* Gathers the mapped pages of n sequences that this process has not verified yet; 0: none, and
 * cache_before_layer need not be called. */
NODISCARD enum status cache_verify_begin(struct cache *c, struct sequence *const *sequences,
                                         uint32_t n_sequences, uint32_t *n_pages, struct err *e);
/* Verifies the chunks of one layer (group, slot); called by each worker before it reads them. */
enum status cache_before_layer(struct cache *c, uint32_t group, uint32_t slot, uint32_t worker,
                               uint32_t n_workers);
struct cache_verify_cost {
    double fault_in_ms; /* pages faulted in: the mapping's cost, and the disk's */
    double verify_ms;   /* checksums */
};
struct cache_verify_cost cache_verify_cost(const struct cache *c); /* of the last step */
/* After the step.  has_fault: a mapping was found torn (SIGBUS) meanwhile, all mapped pages of the
 * sequences are checked again.  Quarantines what is bad; *n_bad > 0: the step's results are void
 * and its sequences must begin again. */
void cache_verify_end(struct cache *c, struct sequence *const *sequences, uint32_t n_sequences,
                      bool has_fault, uint32_t *n_bad);

/* What prefill costs here, from now on: told to the store with each page, for eviction's choice. */
void cache_note_pace(struct cache *c, double ms_per_token);
/* Handles finished writes; call now and then, and when the store has nothing to do. */
void cache_poll(struct cache *c);

struct cache_stats {
    uint64_t n_nodes, n_pages_memory, memory_bytes, n_pages_mapped, mapped_bytes;
    uint64_t n_bad_pages, n_put_failed, n_evicted;
    uint64_t new_kv_bytes; /* KV of tokens computed since the start, all layers */
    uint64_t read_bytes;   /* of stored pages taken into use since the start */
    uint64_t n_sequences;  /* that hold pages */
    uint64_t n_references; /* from them to pages that others can find */
};
void cache_stats(const struct cache *c, struct cache_stats *out);

#endif
