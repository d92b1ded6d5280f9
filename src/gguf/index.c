/* SPDX-License-Identifier: MIT
 * index.c — names to indices, at most half full.  A file made to collide costs at worst
 * 65536² / 2 comparisons of a word, about a second; it cannot do more. */
#include "base/checksum.h"
#include "base/mem.h"
#include "gguf/gguf_int.h"

static struct slice name_at(const struct name_index *x, uint32_t i)
{
    struct slice name;
    memcpy(&name, (const char *)x->items + i * x->stride, sizeof name);
    return name;
}

/* The slot of the name, or the empty one where it would go. */
static uint32_t *find_slot(const struct name_index *x, struct slice name)
{
    for (uint64_t i = checksum_of(name.ptr, name.len).low & x->mask;; i = (i + 1) & x->mask) {
        uint32_t *slot = &x->slots[i];
        if (*slot == 0 || slice_equal(name_at(x, *slot - 1), name))
            return slot;
    }
}

uint32_t name_index_find(const struct name_index *x, struct slice name)
{
    return x->slots ? *find_slot(x, name) - 1 : UINT32_MAX; /* 0 − 1: not there */
}

enum status name_index_build(struct name_index *x, const void *items, size_t stride, uint32_t count,
                             uint32_t *twin)
{
    uint64_t n_slots = 16;
    while (n_slots < 2 * (uint64_t)count)
        n_slots *= 2;
    *x = (struct name_index){.mask = n_slots - 1, .items = items, .stride = stride};
    *twin = UINT32_MAX;
    x->slots = mem_try_new(n_slots, sizeof x->slots[0]);
    if (!x->slots)
        return E_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *slot = find_slot(x, name_at(x, i));
        if (*slot != 0) {
            *twin = i;
            name_index_release(x);
            return OK;
        }
        *slot = i + 1;
    }
    return OK;
}

void name_index_release(struct name_index *x)
{
    mem_free(x->slots);
    *x = (struct name_index){0};
}
