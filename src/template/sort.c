/* SPDX-License-Identifier: MIT
 * sort.c — a stable merge sort whose comparison may fail (values of different types). */
#include "template/render.h"

struct sorter {
    struct render *r;
    struct value *items, *keys;         /* what is sorted */
    struct value *item_room, *key_room; /* as large again */
    bool reverse;
};

/* Does the right one go first?  Equal ones stay in order, also when reversed. */
static bool goes_first(struct sorter *s, struct value left, struct value right, bool *out)
{
    int c;
    bool is_unordered;
    if (!value_compare(s->r, right, left, "<", &c, &is_unordered))
        return false;
    *out = !is_unordered && (s->reverse ? c > 0 : c < 0);
    return true;
}

static bool merge(struct sorter *s, size_t low, size_t middle, size_t high)
{
    size_t a = low, b = middle;
    for (size_t k = low; k < high; k++) {
        bool take_right = a == middle;
        if (a < middle && b < high && !goes_first(s, s->keys[a], s->keys[b], &take_right))
            return false;
        size_t from = take_right ? b++ : a++;
        s->item_room[k] = s->items[from];
        s->key_room[k] = s->keys[from];
    }
    memcpy(s->items + low, s->item_room + low, (high - low) * sizeof *s->items);
    memcpy(s->keys + low, s->key_room + low, (high - low) * sizeof *s->keys);
    return true;
}

bool sort_by_keys(struct render *r, struct value *items, struct value *keys, size_t n, bool reverse)
{
    struct sorter s = {.r = r, .items = items, .keys = keys, .reverse = reverse};
    s.item_room = render_alloc(r, n, sizeof *s.item_room);
    s.key_room = render_alloc(r, n, sizeof *s.key_room);
    if (!s.item_room || !s.key_room)
        return false;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t low = 0; low + width < n; low += 2 * width) {
            size_t high = low + 2 * width < n ? low + 2 * width : n;
            if (!merge(&s, low, low + width, high))
                return false;
        }
    }
    return true;
}
