/* SPDX-License-Identifier: MIT
 * words.c — linear probing; a slot is 8 bytes, so a chain of eight is one cache line. */
#include "tokenizer/words.h"

#include "base/endian.h"
#include "base/mem.h"

/* Two 64-bit words folded by one wide multiplication, as wyhash does; most words are ≤ 16 bytes. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)(a ^ 0xA0761D6478BD642Full) *
                                (b ^ 0xE7037ED1A0B428DBull);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t words_hash(const char *p, size_t len)
{
    uint64_t seed = len * 0x9E3779B97F4A7C15ull;
    while (len > 16) {
        seed = fold(get_le64(p) ^ seed, get_le64(p + 8));
        p += 16;
        len -= 16;
    }
    uint64_t a = 0, b = 0;
    if (len >= 8) {
        a = get_le64(p);
        b = get_le64(p + len - 8);
    } else if (len >= 4) {
        a = get_le32(p);
        b = get_le32(p + len - 4);
    } else if (len > 0) {
        a = (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[len >> 1] << 8 |
            (uint8_t)p[len - 1];
    }
    return fold(a ^ seed, b);
}

static inline uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1u;
}

enum status words_init(struct words *w, const struct strings *strings, uint32_t n_max,
                       struct err *e)
{
    uint32_t capacity = 16;
    while (capacity / 2 < n_max)
        capacity *= 2;
    w->slots = mem_try_new(capacity, sizeof *w->slots);
    if (!w->slots)
        return err_set(e, E_NOMEM, "table of %u words", n_max);
    w->mask = capacity - 1;
    w->strings = strings;
    return OK;
}

void words_release(struct words *w)
{
    mem_free(w->slots);
    *w = (struct words){0};
}

static inline bool is_same(const struct words *w, uint32_t id, const char *p, size_t len)
{
    struct slice s = strings_at(w->strings, id);
    return s.len == len && memcmp(s.ptr, p, len) == 0;
}

enum status words_add(struct words *w, uint32_t id, uint32_t *other, struct err *e)
{
    struct slice s = strings_at(w->strings, id);
    uint64_t hash = words_hash(s.ptr, s.len);
    uint32_t tag = tag_of(hash), slot = (uint32_t)hash & w->mask;
    *other = WORDS_NONE;
    for (uint32_t probe = 0; probe < WORDS_PROBE_MAX; probe++, slot = (slot + 1) & w->mask) {
        struct words_slot *at = &w->slots[slot];
        if (at->tag == 0) {
            *at = (struct words_slot){tag, id};
            return OK;
        }
        if (at->tag == tag && is_same(w, at->id, s.ptr, s.len)) {
            *other = at->id;
            return OK;
        }
    }
    return err_set(e, E_LIMIT, "token %u: more than %u tokens collide in the word table", id,
                   WORDS_PROBE_MAX);
}

uint32_t words_find_hashed(const struct words *w, const char *p, size_t len, uint64_t hash)
{
    uint32_t tag = tag_of(hash), slot = (uint32_t)hash & w->mask;
    for (uint32_t probe = 0; probe < WORDS_PROBE_MAX; probe++, slot = (slot + 1) & w->mask) {
        struct words_slot at = w->slots[slot];
        if (at.tag == 0)
            return WORDS_NONE;
        if (at.tag == tag && is_same(w, at.id, p, len))
            return at.id;
    }
    return WORDS_NONE;
}
