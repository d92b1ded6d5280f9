/* SPDX-License-Identifier: MIT
 * map.c — linear probing, at most 3/4 filled. */
#include "base/map.h"

#include "base/endian.h"
#include "base/mem.h"

enum { SLOT_EMPTY, SLOT_USED, SLOT_DELETED };

void map_release(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}

/* The slot of key, or the slot where it would go. */
static struct map_slot *find(const struct map *m, const struct digest *key)
{
    size_t mask = m->capacity - 1;
    struct map_slot *free_slot = NULL;
    for (size_t i = get_le64(key->b) & mask;; i = (i + 1) & mask) {
        struct map_slot *s = &m->slots[i];
        if (s->state == SLOT_EMPTY)
            return free_slot ? free_slot : s;
        if (s->state == SLOT_DELETED) {
            if (!free_slot)
                free_slot = s;
        } else if (digest_equal(&s->key, key)) {
            return s;
        }
    }
}

bool map_get(const struct map *m, const struct digest *key, uint64_t *value)
{
    if (m->count == 0)
        return false;
    const struct map_slot *s = find(m, key);
    if (s->state != SLOT_USED)
        return false;
    *value = s->value;
    return true;
}

static enum status rehash(struct map *m, size_t capacity)
{
    struct map bigger = {.slots = mem_try_new(capacity, sizeof *m->slots), .capacity = capacity};
    if (!bigger.slots)
        return E_NOMEM;
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].state != SLOT_USED)
            continue;
        *find(&bigger, &m->slots[i].key) = m->slots[i];
        bigger.count++;
    }
    bigger.filled = bigger.count;
    mem_free(m->slots);
    *m = bigger;
    return OK;
}

enum status map_put(struct map *m, const struct digest *key, uint64_t value)
{
    if ((m->filled + 1) * 4 > m->capacity * 3) {
        size_t capacity = 64;
        while (capacity < (m->count + 1) * 2)
            capacity *= 2;
        enum status st = rehash(m, capacity);
        if (st != OK)
            return st;
    }
    struct map_slot *s = find(m, key);
    if (s->state != SLOT_USED) {
        m->count++;
        if (s->state == SLOT_EMPTY)
            m->filled++;
    }
    *s = (struct map_slot){.key = *key, .value = value, .state = SLOT_USED};
    return OK;
}

bool map_remove(struct map *m, const struct digest *key)
{
    if (m->count == 0)
        return false;
    struct map_slot *s = find(m, key);
    if (s->state != SLOT_USED)
        return false;
    s->state = SLOT_DELETED;
    m->count--;
    return true;
}

bool map_next(const struct map *m, size_t *at, struct digest *key, uint64_t *value)
{
    while (*at < m->capacity) {
        const struct map_slot *s = &m->slots[(*at)++];
        if (s->state == SLOT_USED) {
            *key = s->key;
            *value = s->value;
            return true;
        }
    }
    return false;
}
