/* SPDX-License-Identifier: MIT
 * schema_object.c — objects.  Properties come in the order in which the schema names them, as in
 * the strict modes of others; then, where the schema allows them, members of other names. */
#include <string.h>

#include "base/mem.h"
#include "grammar/regex.h"
#include "grammar/schema_int.h"

struct property {
    struct slice name;
    bool is_required;
};
struct pattern {
    const struct json *member, *schema; /* whose patternProperties it is, and what it demands */
    struct dfa keys;
};
struct shape {
    struct property *properties; /* [SCHEMA_PROPERTIES_MAX] */
    uint32_t n_properties;
    struct pattern patterns[SCHEMA_PATTERNS_MAX];
    uint32_t n_patterns;
    struct conjunction names; /* propertyNames of all members */
    bool has_names;
    uint32_t least, most; /* members; most > SCHEMA_COUNT_MAX: without end */
};

/* ---- gathering ---- */
static struct property *property_named(struct shape *o, struct slice name)
{
    for (uint32_t i = 0; i < o->n_properties; i++)
        if (slice_equal(o->properties[i].name, name))
            return &o->properties[i];
    return NULL;
}

static enum status name_property(struct schema *s, struct shape *o, struct slice name,
                                 bool is_required)
{
    struct property *p = property_named(o, name);
    if (!p) {
        if (o->n_properties == SCHEMA_PROPERTIES_MAX)
            return err_set(s->e, E_LIMIT, "schema: more than %u properties", SCHEMA_PROPERTIES_MAX);
        p = &o->properties[o->n_properties++];
        *p = (struct property){.name = name};
    }
    p->is_required |= is_required;
    return OK;
}

static const struct json *object_at(const struct json *member, const char *key)
{
    const struct json *v = json_get(member, key);
    return v && v->kind == JSON_OBJECT ? v : NULL;
}

static enum status gather_patterns(struct schema *s, const struct json *member, struct shape *o)
{
    const struct json *patterns = object_at(member, "patternProperties");
    enum status st = OK;
    for (size_t i = 0; patterns && i < patterns->count && st == OK; i++) {
        if (o->n_patterns == SCHEMA_PATTERNS_MAX)
            return err_set(s->e, E_LIMIT, "schema: more than %u patternProperties",
                           SCHEMA_PATTERNS_MAX);
        struct pattern *p = &o->patterns[o->n_patterns];
        *p = (struct pattern){.member = member, .schema = &patterns->members[i].value};
        st = regex_search(patterns->members[i].key, &p->keys, s->e);
        o->n_patterns += st == OK;
    }
    return st;
}

static enum status gather_required(struct schema *s, const struct json *member, struct shape *o)
{
    const struct json *required = json_get(member, "required");
    enum status st = OK;
    if (required && required->kind != JSON_ARRAY)
        return err_set(s->e, E_INVALID, "schema: required must be an array of names");
    for (size_t i = 0; required && i < required->count && st == OK; i++)
        st = required->items[i].kind == JSON_STRING
                 ? name_property(s, o, required->items[i].text, true)
                 : err_set(s->e, E_INVALID, "schema: required must be an array of names");
    return st;
}

static enum status gather_counts(struct schema *s, const struct json *member, struct shape *o)
{
    uint32_t least, most;
    enum status st = schema_count(s, member, "minProperties", 0, &least);
    if (st == OK)
        st = schema_count(s, member, "maxProperties", SCHEMA_COUNT_MAX + 1, &most);
    if (st != OK)
        return st;
    o->least = least > o->least ? least : o->least;
    o->most = most < o->most ? most : o->most;
    return OK;
}

static enum status gather(struct schema *s, const struct conjunction *c, struct shape *o)
{
    enum status st = OK;
    o->most = SCHEMA_COUNT_MAX + 1;
    for (uint32_t i = 0; i < c->n && st == OK; i++) {
        const struct json *m = c->members[i], *properties = json_get(m, "properties");
        const struct json *names = json_get(m, "propertyNames");
        if (properties && properties->kind != JSON_OBJECT)
            return err_set(s->e, E_INVALID, "schema: properties must be an object");
        for (size_t j = 0; properties && j < properties->count && st == OK; j++)
            st = name_property(s, o, properties->members[j].key, false);
        if (st == OK)
            st = gather_patterns(s, m, o);
        if (st == OK)
            st = gather_counts(s, m, o);
        if (st == OK && names) {
            o->has_names = true;
            st = conjunction_add(s, &o->names, names);
        }
    }
    for (uint32_t i = 0; i < c->n && st == OK; i++)
        st = gather_required(s, c->members[i], o);
    return st;
}

/* ---- values ---- */
/* What one member demands of a key that is in none of its properties: bit p of matched says whether
 * pattern p matches the key. */
static enum status add_unnamed(struct schema *s, const struct shape *o, const struct json *member,
                               uint32_t matched, struct conjunction *value)
{
    bool is_matched = false;
    enum status st = OK;
    for (uint32_t p = 0; p < o->n_patterns && st == OK; p++)
        if (o->patterns[p].member == member && matched >> p & 1) {
            is_matched = true;
            st = conjunction_add(s, value, o->patterns[p].schema);
        }
    const struct json *others = json_get(member, "additionalProperties");
    if (st == OK && !is_matched && others)
        st = conjunction_add(s, value, others);
    return st;
}

static enum status value_named(struct schema *s, const struct conjunction *c, const struct shape *o,
                               struct slice name, struct conjunction *value)
{
    uint32_t matched = 0;
    enum status st = OK;
    *value = (struct conjunction){.n = 0};
    for (uint32_t p = 0; p < o->n_patterns; p++)
        matched |= (uint32_t)dfa_matches(&o->patterns[p].keys, name) << p;
    for (uint32_t i = 0; i < c->n && st == OK; i++) {
        const struct json *properties = object_at(c->members[i], "properties"), *own = NULL;
        for (size_t j = 0; properties && j < properties->count; j++)
            if (slice_equal(properties->members[j].key, name))
                own = &properties->members[j].value;
        if (own)
            st = conjunction_add(s, value, own);
        for (uint32_t p = 0; own && p < o->n_patterns && st == OK; p++)
            if (o->patterns[p].member == c->members[i] && matched >> p & 1)
                st = conjunction_add(s, value, o->patterns[p].schema);
        if (st == OK && !own)
            st = add_unnamed(s, o, c->members[i], matched, value);
    }
    return st;
}

/* ---- keys ---- */
/* All texts but the named properties. */
static enum status unnamed_keys(const struct shape *o, struct dfa *out, struct err *e)
{
    struct nfa n = {0};
    struct dfa names;
    uint32_t start = nfa_state(&n), end = nfa_state(&n);
    for (uint32_t i = 0; i < o->n_properties; i++) {
        struct slice name = o->properties[i].name;
        uint32_t at = nfa_state(&n);
        nfa_empty(&n, start, at, NFA_EMPTY);
        /* Names are UTF-8 that the JSON reader validated. */
        for (size_t j = 0; j < name.len;) {
            uint32_t cp = (uint8_t)name.ptr[j], more = cp >= 0xF0 ? 3 : cp >= 0xE0 ? 2 : cp >= 0xC0;
            cp = more ? cp & (0x3Fu >> more) : cp;
            for (j++; more; more--)
                cp = cp << 6 | ((uint8_t)name.ptr[j++] & 0x3F);
            uint32_t next = nfa_state(&n);
            nfa_range(&n, at, next, cp, cp);
            at = next;
        }
        nfa_empty(&n, at, end, NFA_EMPTY);
    }
    enum status st = nfa_to_dfa(&n, start, end, &names, e);
    nfa_release(&n);
    if (st != OK)
        return st;
    st = dfa_complement(&names, out, e);
    dfa_release(&names);
    return st;
}

/* keys = keys ∧ d, or ∧ not d. */
static enum status narrow_keys(struct dfa *keys, const struct dfa *d, bool wanted, struct err *e)
{
    struct dfa other = {0}, both;
    enum status st = wanted ? OK : dfa_complement(d, &other, e);
    if (st == OK)
        st = dfa_intersect(keys, wanted ? d : &other, &both, e);
    dfa_release(&other);
    if (st == OK) {
        dfa_release(keys);
        *keys = both;
    }
    return st;
}

/* Keys outside the named ones that match exactly these patterns. */
static enum status keys_matching(struct schema *s, const struct shape *o, uint32_t matched,
                                 struct dfa *keys)
{
    struct dfa names = {0};
    bool is_any = true;
    enum status st = unnamed_keys(o, keys, s->e);
    for (uint32_t p = 0; st == OK && p < o->n_patterns; p++)
        st = narrow_keys(keys, &o->patterns[p].keys, matched >> p & 1, s->e);
    if (st == OK && o->has_names)
        st = schema_text_dfa(s, &o->names, &names, &is_any);
    if (st == OK && !is_any)
        st = narrow_keys(keys, &names, true, s->e);
    dfa_release(&names);
    if (st != OK)
        dfa_release(keys);
    return st;
}

static const struct expr *pair_of(struct schema *s, const struct expr *key,
                                  const struct expr *value)
{
    struct arena *a = &s->rules.arena;
    const struct expr *space = schema_space(s);
    return EXPR_SEQ(a, key, space, expr_lit(a, ":"), space, value);
}

static bool allows_any_key(const struct shape *o)
{
    return o->n_properties == 0 && o->n_patterns == 0 && !o->has_names;
}

/* One kind of other members: keys that match exactly these patterns. *out NULL: none are allowed.
 */
static enum status others_matching(struct schema *s, const struct conjunction *c,
                                   const struct shape *o, uint32_t matched, const struct expr **out)
{
    struct arena *a = &s->rules.arena;
    struct conjunction value = {.n = 0};
    const struct expr *key, *x;
    struct dfa keys;
    enum status st = OK;
    *out = NULL;
    for (uint32_t i = 0; i < c->n && st == OK; i++)
        st = add_unnamed(s, o, c->members[i], matched, &value);
    if (st != OK || value.is_never)
        return st;
    if (allows_any_key(o)) {
        key = schema_string(s);
    } else {
        st = keys_matching(s, o, matched, &keys);
        if (st != OK)
            return st;
        if (keys.n_states == 0) {
            dfa_release(&keys);
            return OK;
        }
        uint32_t rule;
        st = rules_text(&s->rules, &keys, &rule, s->e);
        if (st != OK)
            return st;
        key = expr_call(a, rule);
    }
    st = conjunction_expr(s, &value, &x);
    if (st == OK)
        *out = pair_of(s, key, x);
    return st == OK && !*out ? schema_nomem(s) : st;
}

static enum status others_expr(struct schema *s, const struct conjunction *c, const struct shape *o,
                               const struct expr **out)
{
    const struct expr *ways[1u << SCHEMA_PATTERNS_MAX];
    uint32_t n = 0;
    enum status st = OK;
    for (uint32_t matched = 0; st == OK && !o->names.is_never && matched < 1u << o->n_patterns;
         matched++) {
        st = others_matching(s, c, o, matched, &ways[n]);
        n += st == OK && ways[n];
    }
    *out = n ? expr_list(&s->rules.arena, EXPR_CHOICE, ways, n) : NULL;
    return st == OK && n && !*out ? schema_nomem(s) : st;
}

/* ---- members in order ---- */
/* Nodes: 0 the start, 1 the end, 2 + place × (cap + 1) + count: `place` properties are behind us
 * and `count` members written; cap: the highest count that matters. */
struct plan {
    struct expr_edge *edges;
    uint32_t n, cap;
};

static uint32_t node_at(const struct plan *p, uint32_t place, uint32_t count)
{
    return 2 + place * (p->cap + 1) + (count < p->cap ? count : p->cap);
}

static void connect(struct plan *p, uint32_t from, uint32_t to, const struct expr *what)
{
    p->edges[p->n++] = (struct expr_edge){from, to, what};
}

static const struct expr *member_of(struct schema *s, uint32_t count, const struct expr *pair)
{
    struct arena *a = &s->rules.arena;
    const struct expr *space = schema_space(s);
    return count ? EXPR_SEQ(a, space, expr_lit(a, ","), space, pair) : EXPR_SEQ(a, space, pair);
}

static enum status property_pair(struct schema *s, const struct conjunction *c,
                                 const struct shape *o, uint32_t index, const struct expr **out)
{
    struct json key = {.kind = JSON_STRING, .text = o->properties[index].name};
    struct conjunction value;
    const struct expr *x;
    struct buf b;
    bool is_any = true, is_name = true;
    enum status st = value_named(s, c, o, key.text, &value);
    if (st == OK && o->has_names) {
        struct dfa names;
        st = schema_text_dfa(s, &o->names, &names, &is_any);
        is_name = !o->names.is_never && (is_any || (st == OK && dfa_matches(&names, key.text)));
        if (st == OK)
            dfa_release(&names);
    }
    value.is_never |= !is_name;
    if (st == OK)
        st = conjunction_expr(s, &value, &x);
    if (st != OK)
        return st;
    buf_init(&b, 1u << 20);
    json_write(&b, &key, (struct json_style){.is_compact = true});
    *out = b.failed ? NULL : pair_of(s, expr_text(&s->rules.arena, buf_slice(&b)), x);
    buf_release(&b);
    return *out ? OK : schema_nomem(s);
}

static enum status members_graph(struct schema *s, const struct conjunction *c,
                                 const struct shape *o, const struct expr **out)
{
    struct arena *a = &s->rules.arena;
    bool is_open = o->most > SCHEMA_COUNT_MAX;
    struct plan p = {.cap = is_open ? (o->least ? o->least : 1) : o->most};
    size_t nodes = (size_t)(o->n_properties + 1) * (p.cap + 1);
    if (nodes > AUTOMATON_STATES_MAX)
        return err_set(s->e, E_LIMIT, "schema: minProperties and maxProperties need %zu states",
                       nodes);
    const struct expr *pair, *others = NULL, *nothing = expr_lit(a, "");
    p.edges = arena_alloc(a, 4 * nodes + 4, sizeof *p.edges);
    enum status st = p.edges ? others_expr(s, c, o, &others) : schema_nomem(s);
    if (st != OK)
        return st;
    connect(&p, 0, node_at(&p, 0, 0), nothing);
    for (uint32_t i = 0; i < o->n_properties; i++) {
        st = property_pair(s, c, o, i, &pair);
        if (st != OK)
            return st;
        const struct expr *first = member_of(s, 0, pair), *next = member_of(s, 1, pair);
        for (uint32_t n = 0; n <= p.cap; n++) {
            if (!o->properties[i].is_required)
                connect(&p, node_at(&p, i, n), node_at(&p, i + 1, n), nothing);
            if (is_open || n < p.cap)
                connect(&p, node_at(&p, i, n), node_at(&p, i + 1, n + 1), n ? next : first);
        }
    }
    const struct expr *first = others ? member_of(s, 0, others) : NULL;
    const struct expr *next = others ? member_of(s, 1, others) : NULL;
    for (uint32_t n = 0; n <= p.cap; n++) {
        uint32_t at = node_at(&p, o->n_properties, n);
        if (others && (is_open || n < p.cap))
            connect(&p, at, node_at(&p, o->n_properties, n + 1), n ? next : first);
        if (n >= o->least)
            connect(&p, at, 1, nothing);
    }
    *out = expr_graph(a, (uint32_t)nodes + 2, p.edges, p.n);
    return *out ? OK : schema_nomem(s);
}

enum status schema_object(struct schema *s, const struct conjunction *c, const struct expr **out)
{
    struct arena *a = &s->rules.arena;
    struct shape *o = mem_try_new(1, sizeof *o);
    const struct expr *members;
    if (o)
        o->properties = mem_try_new(SCHEMA_PROPERTIES_MAX, sizeof *o->properties);
    enum status st = o && o->properties ? gather(s, c, o) : schema_nomem(s);
    if (st == OK && o->least > o->most) {
        *out = expr_never(a);
    } else if (st == OK) {
        st = members_graph(s, c, o, &members);
        if (st == OK)
            *out = EXPR_SEQ(a, expr_lit(a, "{"), members, schema_space(s), expr_lit(a, "}"));
    }
    if (st == OK && !*out)
        st = schema_nomem(s);
    for (uint32_t i = 0; o && i < o->n_patterns; i++)
        dfa_release(&o->patterns[i].keys);
    if (o)
        mem_free(o->properties);
    mem_free(o);
    return st;
}
