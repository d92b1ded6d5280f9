/* SPDX-License-Identifier: MIT
 * schema_array.c — arrays: items by place, then all others, and how many there may be. */
#include "base/mem.h"
#include "grammar/schema_int.h"

/* The list of schemas by place: prefixItems, or items as drafts before 2020 have it. */
static const struct json *places_of(const struct json *member)
{
    const struct json *prefix = json_get(member, "prefixItems"), *items = json_get(member, "items");
    if (prefix && prefix->kind == JSON_ARRAY)
        return prefix;
    return items && items->kind == JSON_ARRAY ? items : NULL;
}

static const struct json *others_of(const struct json *member)
{
    const struct json *items = json_get(member, "items");
    return items && items->kind == JSON_ARRAY ? json_get(member, "additionalItems") : items;
}

/* What stands at one place: the schemas of all members. */
static enum status item_at(struct schema *s, const struct conjunction *c, size_t place,
                           struct conjunction *item)
{
    enum status st = OK;
    *item = (struct conjunction){.n = 0};
    for (uint32_t i = 0; i < c->n && st == OK; i++) {
        const struct json *places = places_of(c->members[i]), *others = others_of(c->members[i]);
        const struct json *one = places && place < places->count ? &places->items[place] : others;
        if (one)
            st = conjunction_add(s, item, one);
    }
    return st;
}

struct shape {
    uint32_t least, most; /* most > SCHEMA_COUNT_MAX: without end */
    uint32_t n_places;    /* from here on all items are alike */
};

static enum status shape_of(struct schema *s, const struct conjunction *c, struct shape *shape)
{
    *shape = (struct shape){.most = SCHEMA_COUNT_MAX + 1};
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t least, most;
        const struct json *places = places_of(c->members[i]);
        enum status st = schema_count(s, c->members[i], "minItems", 0, &least);
        if (st == OK)
            st = schema_count(s, c->members[i], "maxItems", SCHEMA_COUNT_MAX + 1, &most);
        if (st != OK)
            return st;
        if (places && places->count > SCHEMA_COUNT_MAX)
            return err_set(s->e, E_LIMIT, "schema: more than %u prefixItems", SCHEMA_COUNT_MAX);
        shape->least = least > shape->least ? least : shape->least;
        shape->most = most < shape->most ? most : shape->most;
        if (places && places->count > shape->n_places)
            shape->n_places = (uint32_t)places->count;
    }
    return OK;
}

/* Nodes: 0 nothing read, 1 the end, 2 + i: i + 1 items read.  The last one loops when there is no
 * most. */
static enum status items_graph(struct schema *s, const struct conjunction *c,
                               const struct shape *shape, const struct expr **out)
{
    struct arena *a = &s->rules.arena;
    bool is_open = shape->most > SCHEMA_COUNT_MAX;
    uint32_t last = shape->least > shape->n_places ? shape->least : shape->n_places + 1, n = 0;
    if (!is_open)
        last = shape->most;
    struct expr_edge *edges = arena_alloc(a, 2 * (size_t)last + 4, sizeof *edges);
    const struct expr *space = schema_space(s), *end = expr_lit(a, "");
    const struct expr *comma = EXPR_SEQ(a, space, expr_lit(a, ","), space), *others = NULL;
    enum status st = edges ? OK : schema_nomem(s);
    if (st == OK && shape->least == 0)
        edges[n++] = (struct expr_edge){0, 1, end};
    for (uint32_t i = 0; st == OK && i <= last; i++) {
        bool is_loop = i == last;
        struct conjunction item;
        const struct expr *value = others;
        if (is_loop && (!is_open || last == 0))
            break;
        if (!value)
            st = item_at(s, c, i, &item);
        if (st == OK && !value)
            st = conjunction_expr(s, &item, &value);
        if (i >= shape->n_places)
            others = value;
        uint32_t from = i == 0 ? 0 : 1 + i, to = is_loop ? from : 2 + i;
        if (st != OK)
            break;
        edges[n++] =
            (struct expr_edge){from, to, i ? EXPR_SEQ(a, comma, value) : EXPR_SEQ(a, space, value)};
        if (!is_loop && i + 1 >= shape->least)
            edges[n++] = (struct expr_edge){to, 1, end};
    }
    if (st != OK)
        return st;
    *out = expr_graph(a, last + 2, edges, n);
    return *out ? OK : schema_nomem(s);
}

enum status schema_array(struct schema *s, const struct conjunction *c, const struct expr **out)
{
    struct arena *a = &s->rules.arena;
    struct shape shape;
    const struct expr *items;
    enum status st = shape_of(s, c, &shape);
    if (st == OK && shape.least > shape.most) {
        *out = expr_never(a);
        return *out ? OK : schema_nomem(s);
    }
    if (st == OK)
        st = items_graph(s, c, &shape, &items);
    if (st != OK)
        return st;
    *out = EXPR_SEQ(a, expr_lit(a, "["), items, schema_space(s), expr_lit(a, "]"));
    return *out ? OK : schema_nomem(s);
}
