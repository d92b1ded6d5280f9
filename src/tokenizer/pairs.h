/* SPDX-License-Identifier: MIT
 * pairs.h — (left, right) → value in 8-byte slots: 21 + 21 bits of key, 22 bits of value.
 * For:    BPE merges (ids → rank) and the trie of special tokens (node, byte → node).
 * Thread: immutable after the inserts. */
#ifndef KVASIR_TOKENIZER_PAIRS_H
#define KVASIR_TOKENIZER_PAIRS_H

#include "base/status.h"

#define PAIRS_KEY_BITS 21
#define PAIRS_KEY_MAX ((1u << PAIRS_KEY_BITS) - 1)
#define PAIRS_VALUE_MAX ((1u << 22) - 2) /* one below all ones, which with any key marks no slot */
#define PAIRS_NONE UINT32_MAX
#define PAIRS_PROBE_MAX 256u
#define PAIRS_EMPTY UINT64_MAX

struct pairs {
    uint64_t *slots;
    uint32_t mask;
    uint32_t shift; /* 64 - log2(capacity): the hash is the top of the product */
};

NODISCARD enum status pairs_init(struct pairs *p, uint32_t n_max, struct err *e);
void pairs_release(struct pairs *p);
/* A pair that is there keeps its value; *there says so.  E_LIMIT: a chain too long. */
NODISCARD enum status pairs_add(struct pairs *p, uint32_t left, uint32_t right, uint32_t value,
                                bool *there, struct err *e);

static inline uint32_t pairs_slot(const struct pairs *p, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << PAIRS_KEY_BITS | right;
    return (uint32_t)(key * 0x9E3779B97F4A7C15ull >> p->shift);
}

static inline uint32_t pairs_get(const struct pairs *p, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << PAIRS_KEY_BITS | right;
    uint32_t slot = pairs_slot(p, left, right);
    for (uint32_t probe = 0; probe < PAIRS_PROBE_MAX; probe++, slot = (slot + 1) & p->mask) {
        uint64_t at = p->slots[slot];
        if (at >> 22 == key)
            return at == PAIRS_EMPTY ? PAIRS_NONE : (uint32_t)(at & ((1u << 22) - 1));
        if (at == PAIRS_EMPTY)
            return PAIRS_NONE;
    }
    return PAIRS_NONE;
}

#endif
