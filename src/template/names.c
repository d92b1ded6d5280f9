/* SPDX-License-Identifier: MIT
 * names.c — what a template calls must be there before it is ever rendered: a function that is
 * neither a global, nor assigned anywhere in the template, nor guarded by `is defined` is refused;
 * likewise a method that no kind of value has.  Variables cannot help: they are JSON. */
#include <stdlib.h>

#include "template/builtin.h"
#include "template/parser_int.h"

void names_add(struct parser *p, struct name_uses *uses, struct slice name, uint32_t at)
{
    if (uses->count == uses->cap) {
        size_t cap = uses->cap ? uses->cap * 2 : 16;
        struct name_use *grown = arena_alloc(p->arena, cap, sizeof *grown);
        if (!grown) {
            parser_fail(p, E_LIMIT, at, "the template is too large");
            return;
        }
        if (uses->count)
            memcpy(grown, uses->items, uses->count * sizeof *grown);
        uses->items = grown;
        uses->cap = cap;
    }
    uses->items[uses->count++] = (struct name_use){name, at};
}

static int compare(const void *a, const void *b)
{
    struct slice x = ((const struct name_use *)a)->name, y = ((const struct name_use *)b)->name;
    if (x.len != y.len)
        return x.len < y.len ? -1 : 1;
    return x.len ? memcmp(x.ptr, y.ptr, x.len) : 0;
}

static void sort(struct name_uses *uses)
{
    if (uses->count > 1)
        qsort(uses->items, uses->count, sizeof *uses->items, compare);
}

static bool find(const struct name_uses *uses, const struct name_use *use)
{
    return uses->count && bsearch(use, uses->items, uses->count, sizeof *uses->items, compare);
}

static bool is_special(struct slice name)
{
    return slice_is(name, "caller") || slice_is(name, "loop");
}

enum status names_check(struct parser *p)
{
    sort(&p->assigned);
    sort(&p->guarded);
    for (size_t i = 0; i < p->called.count; i++) {
        const struct name_use *use = &p->called.items[i];
        if (builtin_global(use->name) || is_special(use->name) || find(&p->assigned, use) ||
            find(&p->guarded, use))
            continue;
        parser_fail(p, E_UNSUPPORTED, use->at, "unknown function '" SLICE_FMT "'",
                    SLICE_ARG(use->name));
    }
    for (size_t i = 0; i < p->methods.count; i++) {
        const struct name_use *use = &p->methods.items[i];
        if (builtin_is_method_name(use->name) || find(&p->assigned, use) || find(&p->guarded, use))
            continue;
        parser_fail(p, E_UNSUPPORTED, use->at, "unknown method '" SLICE_FMT "'",
                    SLICE_ARG(use->name));
    }
    return p->status;
}
