/* SPDX-License-Identifier: MIT
 * pairs.c — linear probing at a load of at most one half. */
#include "tokenizer/pairs.h"

#include "base/check.h"
#include "base/mem.h"

#include <string.h>

enum status pairs_init(struct pairs *p, uint32_t n_max, struct err *e)
{
    uint32_t capacity = 16;
    while (capacity / 2 < n_max)
        capacity *= 2;
    p->slots = mem_try_new(capacity, sizeof *p->slots);
    if (!p->slots)
        return err_set(e, E_NOMEM, "table of %u pairs", n_max);
    memset(p->slots, 0xFF, capacity * sizeof *p->slots);
    p->mask = capacity - 1;
    p->shift = (uint32_t)__builtin_clz(capacity) + 33;
    return OK;
}

void pairs_release(struct pairs *p)
{
    mem_free(p->slots);
    *p = (struct pairs){0};
}

enum status pairs_add(struct pairs *p, uint32_t left, uint32_t right, uint32_t value, bool *there,
                      struct err *e)
{
    CHECK(left <= PAIRS_KEY_MAX && right <= PAIRS_KEY_MAX && value <= PAIRS_VALUE_MAX);
    uint64_t key = (uint64_t)left << PAIRS_KEY_BITS | right;
    uint32_t slot = pairs_slot(p, left, right);
    for (uint32_t probe = 0; probe < PAIRS_PROBE_MAX; probe++, slot = (slot + 1) & p->mask) {
        uint64_t at = p->slots[slot];
        if (at == PAIRS_EMPTY) {
            p->slots[slot] = key << 22 | value;
            *there = false;
            return OK;
        }
        if (at >> 22 == key) {
            *there = true;
            return OK;
        }
    }
    return err_set(e, E_LIMIT, "more than %u pairs collide", PAIRS_PROBE_MAX);
}
