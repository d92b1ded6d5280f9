/* SPDX-License-Identifier: MIT
 * table.c — open addressing over stable entries.  Keys are SHA-256 digests, so four of their
 * bytes are the hash; not the first ones, because the index is loaded in the order of its keys and
 * would fill the table run by run.  Removal shifts the following run back, so that no tombstones
 * pile up. */
#include "store/table.h"

#include <string.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"

#define TABLE_BLOCK 4096u
#define SLOTS_MIN   1024u

void table_release(struct table *t)
{
    for (uint32_t i = 0; i < t->n_blocks; i++)
        mem_free(t->blocks[i]);
    mem_free(t->blocks);
    mem_free(t->slots);
    mem_free(t->free_ids);
    *t = (struct table){0};
}

struct entry *table_at(const struct table *t, uint32_t id)
{
    CHECK(id < t->n_used);
    return &t->blocks[id / TABLE_BLOCK][id % TABLE_BLOCK];
}

static uint32_t hash_of(const struct digest *key)
{
    return get_le32(key->b + 8);
}

/* The other half of a slot: tells most keys apart without touching their entries. */
static uint64_t slot_of(const struct digest *key, uint32_t id)
{
    return (uint64_t)get_le32(key->b + 12) << 32 | (id + 1u);
}

uint32_t table_find(const struct table *t, const struct digest *key)
{
    if (t->count == 0)
        return TABLE_NONE;
    uint64_t want = slot_of(key, 0) >> 32;
    for (uint32_t i = hash_of(key) & (t->n_slots - 1);; i = (i + 1) & (t->n_slots - 1)) {
        uint64_t slot = t->slots[i];
        if (slot == 0)
            return TABLE_NONE;
        uint32_t id = (uint32_t)slot - 1;
        if (slot >> 32 == want && digest_equal(&table_at(t, id)->key, key))
            return id;
    }
}

void table_prefetch(const struct table *t, const struct digest *key)
{
    if (t->count > 0)
        __builtin_prefetch(&t->slots[hash_of(key) & (t->n_slots - 1)]);
}

static void link_id(struct table *t, uint32_t id)
{
    const struct digest *key = &table_at(t, id)->key;
    uint32_t i = hash_of(key) & (t->n_slots - 1);
    while (t->slots[i] != 0)
        i = (i + 1) & (t->n_slots - 1);
    t->slots[i] = slot_of(key, id);
}

static bool grow_slots(struct table *t)
{
    uint32_t n = t->n_slots ? t->n_slots * 2 : SLOTS_MIN;
    uint64_t *slots = n > t->n_slots ? mem_try_new(n, sizeof *slots) : NULL;
    if (!slots)
        return false;
    mem_free(t->slots);
    t->slots = slots;
    t->n_slots = n;
    for (uint32_t id = 0; id < t->n_used; id++)
        if (table_at(t, id)->kind != 0)
            link_id(t, id);
    return true;
}

/* Room for every id in the list of free ones, so that table_remove() cannot fail. */
static bool grow_blocks(struct table *t)
{
    if (t->n_used >= TABLE_NONE - TABLE_BLOCK)
        return false;
    uint32_t n = t->n_blocks + 1;
    uint32_t *free_ids = mem_try_resize(t->free_ids, (size_t)n * TABLE_BLOCK, sizeof *free_ids);
    if (!free_ids)
        return false;
    t->free_ids = free_ids;
    struct entry **blocks = mem_try_resize(t->blocks, n, sizeof *blocks);
    if (!blocks)
        return false;
    t->blocks = blocks;
    t->blocks[t->n_blocks] = mem_try_new(TABLE_BLOCK, sizeof(struct entry));
    if (!t->blocks[t->n_blocks])
        return false;
    t->n_blocks = n;
    return true;
}

uint32_t table_add(struct table *t, const struct digest *key)
{
    DCHECK(table_find(t, key) == TABLE_NONE);
    if ((uint64_t)(t->count + 1) * 4 > (uint64_t)t->n_slots * 3 && !grow_slots(t))
        return TABLE_NONE;
    uint32_t id;
    if (t->n_free > 0) {
        id = t->free_ids[--t->n_free];
    } else {
        if (t->n_used == t->n_blocks * TABLE_BLOCK && !grow_blocks(t))
            return TABLE_NONE;
        id = t->n_used++;
    }
    struct entry *entry = table_at(t, id);
    memset(entry, 0, sizeof *entry);
    entry->key = *key;
    link_id(t, id);
    t->count++;
    return id;
}

void table_remove(struct table *t, uint32_t id)
{
    struct entry *entry = table_at(t, id);
    uint32_t mask = t->n_slots - 1, hole = hash_of(&entry->key) & mask;
    while ((uint32_t)t->slots[hole] != id + 1) {
        CHECK(t->slots[hole] != 0);
        hole = (hole + 1) & mask;
    }
    for (uint32_t i = (hole + 1) & mask; t->slots[i] != 0; i = (i + 1) & mask) {
        uint32_t home = hash_of(&table_at(t, (uint32_t)t->slots[i] - 1)->key) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* its home is not behind the hole */
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = 0;
    entry->kind = 0;
    t->free_ids[t->n_free++] = id;
    t->count--;
}
