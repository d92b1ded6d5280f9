/* SPDX-License-Identifier: MIT
 * words.h — bytes → token id: open addressing over strings that lie elsewhere.
 * The strings of all ids lie end to end in one block: id's bytes are bytes[at[id] .. at[id+1]).
 * Hostile vocabularies: a chain of more than WORDS_PROBE_MAX slots refuses the insert, so that a
 * look-up costs at most that many compares of a 32-bit tag.   Thread: immutable after the inserts. */
#ifndef KVASIR_TOKENIZER_WORDS_H
#define KVASIR_TOKENIZER_WORDS_H

#include "base/slice.h"
#include "base/status.h"

/* The longest run of used slots in the tables of six real vocabularies is 46 (Gemma 3). */
#define WORDS_PROBE_MAX 256u
#define WORDS_NONE UINT32_MAX

struct strings {
    char *bytes;
    uint32_t *at; /* [count + 1] */
    uint32_t count;
};

static inline struct slice strings_at(const struct strings *s, uint32_t id)
{
    return (struct slice){s->bytes + s->at[id], s->at[id + 1] - s->at[id]};
}

struct words_slot {
    uint32_t tag; /* upper half of the hash, with the lowest bit set: 0 is an empty slot */
    uint32_t id;
};

struct words {
    struct words_slot *slots;
    uint32_t mask;
    const struct strings *strings;
};

/* Room for n_max strings at half load. */
NODISCARD enum status words_init(struct words *w, const struct strings *strings, uint32_t n_max,
                                 struct err *e);
void words_release(struct words *w);
/* *other: the id that has the same bytes, which then stays, or WORDS_NONE.  E_LIMIT: a chain too
 * long. */
NODISCARD enum status words_add(struct words *w, uint32_t id, uint32_t *other, struct err *e);

uint64_t words_hash(const char *p, size_t len);
uint32_t words_find_hashed(const struct words *w, const char *p, size_t len, uint64_t hash);

static inline uint32_t words_find(const struct words *w, const char *p, size_t len)
{
    return words_find_hashed(w, p, len, words_hash(p, len));
}

/* For walking many: bring the slot of this hash near. */
static inline void words_prefetch(const struct words *w, uint64_t hash)
{
    __builtin_prefetch(&w->slots[hash & w->mask]);
}

#endif
