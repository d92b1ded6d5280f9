/* SPDX-License-Identifier: MIT
 * schema.c — JSON schema: references, combinations, types; one rule a conjunction.
 * Source: draft 7 (json-schema-validation 01) and 2020-12, as far as a grammar can keep them
 * exactly; what it can't keep is refused by name rather than kept by halves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "grammar/schema_int.h"

enum status schema_nomem(struct schema *s)
{
    return s->rules.arena.failed ? err_set(s->e, E_LIMIT, "schema: it needs more than %u MiB",
                                           SCHEMA_MEMORY_MAX >> 20)
                                 : err_set(s->e, E_NOMEM, "schema: out of memory");
}

/* ---- what is refused ---- */
static enum status check_keywords(struct schema *s, const struct json *schema)
{
    static const char *const refused[] = {
        "if",          "dependentRequired", "dependentSchemas", "dependencies",
        "contains",    "minContains",       "maxContains",      "unevaluatedProperties",
        "$dynamicRef", "$recursiveRef",     "unevaluatedItems"};
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++)
        if (json_get(schema, refused[i]))
            return err_set(s->e, E_UNSUPPORTED, "schema: \"%s\" is not supported", refused[i]);
    const struct json *unique = json_get(schema, "uniqueItems");
    if (unique && !(unique->kind == JSON_BOOL && !unique->boolean))
        return err_set(s->e, E_UNSUPPORTED, "schema: \"uniqueItems\" is not supported");
    return OK;
}

/* ---- references ---- */
/* One part of a JSON pointer (RFC 6901) in a URI fragment: %XX, then ~1 and ~0. */
static bool unescape(struct slice part, char *out, size_t size, size_t *len)
{
    size_t n = 0;
    for (size_t i = 0; i < part.len; i++) {
        char c = part.ptr[i];
        if (c == '%' && i + 2 < part.len && hex_value(part.ptr[i + 1]) >= 0 &&
            hex_value(part.ptr[i + 2]) >= 0) {
            c = (char)(hex_value(part.ptr[i + 1]) * 16 + hex_value(part.ptr[i + 2]));
            i += 2;
        } else if (c == '~' && i + 1 < part.len &&
                   (part.ptr[i + 1] == '0' || part.ptr[i + 1] == '1')) {
            c = part.ptr[++i] == '0' ? '~' : '/';
        }
        if (n == size)
            return false;
        out[n++] = c;
    }
    *len = n;
    return true;
}

static const struct json *child_named(const struct json *v, struct slice name)
{
    if (v->kind == JSON_OBJECT)
        for (size_t i = 0; i < v->count; i++)
            if (slice_equal(v->members[i].key, name))
                return &v->members[i].value;
    if (v->kind != JSON_ARRAY || name.len == 0 || name.len > 6)
        return NULL;
    size_t index = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < '0' || name.ptr[i] > '9')
            return NULL;
        index = index * 10 + (size_t)(name.ptr[i] - '0');
    }
    return index < v->count ? &v->items[index] : NULL;
}

static const struct json *follow(const struct json *at, struct slice pointer)
{
    while (at && pointer.len) {
        char name[512];
        size_t n = 1, len;
        if (pointer.ptr[0] != '/')
            return NULL;
        while (n < pointer.len && pointer.ptr[n] != '/')
            n++;
        if (!unescape((struct slice){pointer.ptr + 1, n - 1}, name, sizeof name, &len))
            return NULL;
        at = child_named(at, (struct slice){name, len});
        pointer = (struct slice){pointer.ptr + n, pointer.len - n};
    }
    return at;
}

/* The schema that carries this $anchor or $id, anywhere below v; depth is JSON_DEPTH_MAX at most.
 */
static const struct json *find_named(const struct json *v, const char *key, struct slice name)
{
    const struct json *own = json_get(v, key), *found = NULL;
    if (own && own->kind == JSON_STRING && slice_equal(own->text, name))
        return v;
    for (size_t i = 0; i < v->count && !found; i++) {
        if (v->kind == JSON_OBJECT)
            found = find_named(&v->members[i].value, key, name);
        else if (v->kind == JSON_ARRAY)
            found = find_named(&v->items[i], key, name);
    }
    return found;
}

static enum status resolve(struct schema *s, struct slice ref, const struct json **out)
{
    struct slice id = ref, fragment = {"", 0};
    const char *hash = memchr(ref.ptr, '#', ref.len);
    if (hash) {
        id.len = (size_t)(hash - ref.ptr);
        fragment = (struct slice){hash + 1, ref.len - id.len - 1};
    }
    const struct json *base = id.len ? find_named(s->root, "$id", id) : s->root;
    if (!base)
        return err_set(s->e, E_UNSUPPORTED,
                       "schema: $ref \"" SLICE_FMT "\" names another document; put it into $defs",
                       SLICE_ARG(ref));
    if (fragment.len == 0 || fragment.ptr[0] == '/') {
        *out = follow(base, fragment);
    } else {
        char old_style[256];
        *out = find_named(base, "$anchor", fragment);
        int n = snprintf(old_style, sizeof old_style, "#" SLICE_FMT, SLICE_ARG(fragment));
        if (!*out && n > 0 && (size_t)n < sizeof old_style)
            *out = find_named(base, "$id", slice_of(old_style));
    }
    return *out ? OK
                : err_set(s->e, E_INVALID, "schema: $ref \"" SLICE_FMT "\" leads nowhere",
                          SLICE_ARG(ref));
}

/* ---- conjunctions ---- */
static bool is_member(const struct conjunction *c, const struct json *schema)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->members[i] == schema)
            return true;
    return false;
}

static enum status add_reference(struct schema *s, struct conjunction *c, const struct json *ref)
{
    const struct json *to;
    if (ref->kind != JSON_STRING)
        return err_set(s->e, E_INVALID, "schema: $ref must be a string");
    enum status st = resolve(s, ref->text, &to);
    return st == OK ? conjunction_add(s, c, to) : st;
}

/* Depth: each call adds a member that was not there, of at most SCHEMA_MEMBERS_MAX. */
enum status conjunction_add(struct schema *s, struct conjunction *c, const struct json *schema)
{
    if (schema->kind == JSON_BOOL) {
        c->is_never |= !schema->boolean;
        return OK;
    }
    if (schema->kind != JSON_OBJECT)
        return err_set(s->e, E_INVALID, "schema: a schema is an object, true or false");
    if (is_member(c, schema))
        return OK;
    if (c->n == SCHEMA_MEMBERS_MAX)
        return err_set(s->e, E_LIMIT, "schema: more than %u schemas for one value",
                       SCHEMA_MEMBERS_MAX);
    const struct json *ref = json_get(schema, "$ref"), *all = json_get(schema, "allOf");
    enum status st = OK;
    if (ref && s->old_refs)
        return add_reference(s, c, ref);
    st = check_keywords(s, schema);
    c->members[c->n++] = schema;
    if (st == OK && ref)
        st = add_reference(s, c, ref);
    if (st == OK && all && all->kind != JSON_ARRAY)
        st = err_set(s->e, E_INVALID, "schema: allOf must be an array");
    for (size_t i = 0; st == OK && all && i < all->count; i++)
        st = conjunction_add(s, c, &all->items[i]);
    return st;
}

/* ---- types ---- */
static uint32_t type_named(struct slice name)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } types[] = {{"null", TYPE_NULL},       {"boolean", TYPE_BOOLEAN},
                 {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_FRACTION},
                 {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < ARRAY_COUNT(types); i++)
        if (slice_is(name, types[i].name))
            return types[i].bits;
    return 0;
}

static enum status types_in(struct schema *s, const struct json *type, uint32_t *out)
{
    *out = type ? 0 : TYPE_ALL;
    bool is_list = type && type->kind == JSON_ARRAY;
    for (size_t i = 0; type && i < (is_list ? type->count : 1); i++) {
        const struct json *one = is_list ? &type->items[i] : type;
        uint32_t bits = one->kind == JSON_STRING ? type_named(one->text) : 0;
        if (!bits)
            return err_set(s->e, E_INVALID,
                           "schema: \"type\" must be null, boolean, integer, "
                           "number, string, array or object");
        *out |= bits;
    }
    return OK;
}

/* Of "not" only types can be told apart exactly: {"not": {"type": …}}, and true or {}. */
static enum status types_of_not(struct schema *s, const struct json * not, uint32_t *out)
{
    *out = TYPE_ALL;
    if (!not )
        return OK;
    if (not ->kind == JSON_BOOL || (not ->kind == JSON_OBJECT && not ->count == 0)) {
        *out = not ->kind == JSON_BOOL && !not ->boolean ? TYPE_ALL : 0;
        return OK;
    }
    if (not ->kind != JSON_OBJECT || not ->count != 1 || !json_get(not, "type"))
        return err_set(s->e, E_UNSUPPORTED, "schema: \"not\" is supported around \"type\" alone");
    uint32_t bits = 0;
    enum status st = types_in(s, json_get(not, "type"), &bits);
    *out = TYPE_ALL & ~bits;
    return st;
}

static enum status types_of(struct schema *s, const struct conjunction *c, uint32_t *types)
{
    *types = c->is_never ? 0 : TYPE_ALL;
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t bits = 0, others = 0;
        enum status st = types_in(s, json_get(c->members[i], "type"), &bits);
        if (st == OK)
            st = types_of_not(s, json_get(c->members[i], "not"), &others);
        if (st != OK)
            return st;
        *types &= bits & others;
    }
    return OK;
}

/* ---- one conjunction without anyOf and oneOf ---- */
static enum status plain_expr(struct schema *s, const struct conjunction *c,
                              const struct expr **out)
{
    const struct expr *ways[8];
    uint32_t types, n = 0;
    bool is_listed = false;
    enum status st = types_of(s, c, &types);
    if (st == OK && !s->no_values)
        st = schema_listed(s, c, types, out, &is_listed);
    if (st != OK || is_listed)
        return st;
    if (c->n == 0 && types == TYPE_ALL) {
        *out = schema_value(s);
        return *out ? OK : schema_nomem(s);
    }
    struct arena *a = &s->rules.arena;
    if (types & TYPE_NULL)
        ways[n++] = expr_lit(a, "null");
    if (types & TYPE_BOOLEAN) {
        ways[n++] = expr_lit(a, "true");
        ways[n++] = expr_lit(a, "false");
    }
    if (types & (TYPE_INTEGER | TYPE_FRACTION))
        st = schema_number(s, c, types, &ways[n++]);
    if (st == OK && types & TYPE_STRING)
        st = schema_text(s, c, &ways[n++]);
    if (st == OK && types & TYPE_ARRAY)
        st = schema_array(s, c, &ways[n++]);
    if (st == OK && types & TYPE_OBJECT)
        st = schema_object(s, c, &ways[n++]);
    if (st != OK)
        return st;
    *out = expr_list(a, EXPR_CHOICE, ways, n);
    return *out ? OK : schema_nomem(s);
}

/* ---- anyOf and oneOf ---- */
/* The n-th list of branches over all members. */
static const struct json *group_at(const struct conjunction *c, uint32_t n, bool *is_one_of)
{
    static const char *const keys[] = {"anyOf", "oneOf"};
    for (uint32_t i = 0; i < c->n; i++)
        for (int k = 0; k < 2; k++) {
            const struct json *group = json_get(c->members[i], keys[k]);
            *is_one_of = k == 1;
            if (group && n-- == 0)
                return group;
        }
    return NULL;
}

/* A property that both require and that can't have one value in both. */
static bool differ_by_property(const struct json *a, const struct json *b);

/* No value can satisfy both: by type, by listed values, or by a property that tells them apart,
 * such as "kind": {"const": …}. */
static bool are_disjoint(const struct json *a, const struct json *b)
{
    struct schema s = {.e = NULL};
    if (a->kind == JSON_BOOL || b->kind == JSON_BOOL)
        return (a->kind == JSON_BOOL && !a->boolean) || (b->kind == JSON_BOOL && !b->boolean);
    uint32_t x = TYPE_ALL, y = TYPE_ALL;
    if (types_in(&s, json_get(a, "type"), &x) != OK || types_in(&s, json_get(b, "type"), &y) != OK)
        return false;
    if ((x & y) == 0)
        return true;
    for (int side = 0; side < 2; side++) {
        const struct json *one = side ? b : a, *other = side ? a : b;
        const struct json *value = json_get(one, "const"), *list = json_get(one, "enum");
        const struct json *value2 = json_get(other, "const"), *list2 = json_get(other, "enum");
        uint32_t types = side ? x : y;
        if (value && value2)
            return !json_equal(value, value2);
        if (value && !(type_of_value(value) & types))
            return true;
        if (list && list->kind == JSON_ARRAY && (value2 || (list2 && list2->kind == JSON_ARRAY))) {
            for (size_t i = 0; i < list->count; i++) {
                if (value2 && json_equal(&list->items[i], value2))
                    return false;
                for (size_t j = 0; !value2 && j < list2->count; j++)
                    if (json_equal(&list->items[i], &list2->items[j]))
                        return false;
            }
            return true;
        }
    }
    return (x & y) == TYPE_OBJECT && differ_by_property(a, b);
}

static bool is_required(const struct json *schema, struct slice name)
{
    const struct json *list = json_get(schema, "required");
    for (size_t i = 0; list && list->kind == JSON_ARRAY && i < list->count; i++)
        if (list->items[i].kind == JSON_STRING && slice_equal(list->items[i].text, name))
            return true;
    return false;
}

static bool differ_by_property(const struct json *a, const struct json *b)
{
    const struct json *own = json_get(a, "properties"), *other = json_get(b, "properties");
    for (size_t i = 0; own && own->kind == JSON_OBJECT && i < own->count; i++) {
        struct slice name = own->members[i].key;
        const struct json *twin =
            other && other->kind == JSON_OBJECT ? child_named(other, name) : NULL;
        if (twin && is_required(a, name) && is_required(b, name) &&
            are_disjoint(&own->members[i].value, twin))
            return true;
    }
    return false;
}

static enum status follow_refs(struct schema *s, const struct json **schema)
{
    for (uint32_t i = 0; i < SCHEMA_MEMBERS_MAX; i++) {
        const struct json *ref = json_get(*schema, "$ref");
        if (!ref || ref->kind != JSON_STRING)
            return OK;
        enum status st = resolve(s, ref->text, schema);
        if (st != OK)
            return st;
    }
    return err_set(s->e, E_LIMIT, "schema: a $ref that leads to itself");
}

static enum status check_one_of(struct schema *s, const struct json *group)
{
    for (size_t i = 0; i < group->count; i++)
        for (size_t j = i + 1; j < group->count; j++) {
            const struct json *a = &group->items[i], *b = &group->items[j];
            enum status st = follow_refs(s, &a);
            if (st == OK)
                st = follow_refs(s, &b);
            if (st != OK)
                return st;
            if (!are_disjoint(a, b))
                return err_set(s->e, E_UNSUPPORTED,
                               "schema: branches %zu and %zu of \"oneOf\" may both hold; use "
                               "\"anyOf\", or tell them apart by type or by a required const",
                               i, j);
        }
    return OK;
}

static enum status check_group(struct schema *s, const struct json *group, bool is_one_of)
{
    if (group->kind != JSON_ARRAY || group->count == 0)
        return err_set(s->e, E_INVALID, "schema: %s must be an array with members",
                       is_one_of ? "oneOf" : "anyOf");
    return is_one_of ? check_one_of(s, group) : OK;
}

struct ways {
    const struct expr *items[SCHEMA_BRANCHES_MAX];
    uint32_t n;
};

/* Branch by branch; a branch may bring groups of its own, which come later in the same count. */
static enum status split(struct schema *s, const struct conjunction *c, uint32_t group_index,
                         struct ways *ways)
{
    bool is_one_of;
    const struct json *group = group_at(c, group_index, &is_one_of);
    enum status st = OK;
    if (!group) {
        if (ways->n == SCHEMA_BRANCHES_MAX)
            return err_set(s->e, E_LIMIT, "schema: more than %u ways through anyOf and oneOf",
                           SCHEMA_BRANCHES_MAX);
        st = plain_expr(s, c, &ways->items[ways->n]);
        ways->n += st == OK;
        return st;
    }
    if (++s->depth > SCHEMA_DEPTH_MAX)
        return err_set(s->e, E_LIMIT, "schema: nested deeper than %u", SCHEMA_DEPTH_MAX);
    st = check_group(s, group, is_one_of);
    for (size_t i = 0; st == OK && i < group->count; i++) {
        struct conjunction branch = *c;
        st = conjunction_add(s, &branch, &group->items[i]);
        if (st == OK && !branch.is_never)
            st = split(s, &branch, group_index + 1, ways);
    }
    s->depth--;
    return st;
}

static enum status body_of(struct schema *s, const struct conjunction *c, const struct expr **out)
{
    bool is_one_of;
    if (!group_at(c, 0, &is_one_of))
        return plain_expr(s, c, out);
    struct ways *ways = mem_try_new(1, sizeof *ways);
    if (!ways)
        return schema_nomem(s);
    enum status st = split(s, c, 0, ways);
    if (st == OK)
        *out = expr_list(&s->rules.arena, EXPR_CHOICE, ways->items, ways->n);
    if (st == OK && !*out)
        st = schema_nomem(s);
    mem_free(ways);
    return st;
}

/* ---- rules ---- */
static int by_address(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    return (x > y) - (x < y);
}

static enum status remember(struct schema *s, const struct conjunction *key, uint32_t *rule)
{
    if (s->n_made == s->made_cap) {
        uint32_t cap = s->made_cap ? 2 * s->made_cap : 32;
        struct schema_rule *more = mem_try_resize(s->made, cap, sizeof *more);
        if (!more)
            return schema_nomem(s);
        s->made = more;
        s->made_cap = cap;
    }
    struct conjunction *copy = arena_alloc(&s->rules.arena, 1, sizeof *copy);
    if (!copy)
        return schema_nomem(s);
    *copy = *key;
    enum status st = rules_add(&s->rules, SLICE_LIT("schema"), rule, s->e);
    if (st == OK)
        s->made[s->n_made++] = (struct schema_rule){copy, *rule};
    return st;
}

enum status conjunction_expr(struct schema *s, const struct conjunction *c, const struct expr **out)
{
    if (c->is_never) {
        *out = expr_never(&s->rules.arena);
        return *out ? OK : schema_nomem(s);
    }
    struct conjunction key = *c;
    uint32_t rule = UINT32_MAX;
    qsort(key.members, key.n, sizeof *key.members, by_address);
    for (uint32_t i = 0; i < s->n_made && rule == UINT32_MAX; i++)
        if (s->made[i].key->n == key.n &&
            memcmp(s->made[i].key->members, key.members, key.n * sizeof *key.members) == 0)
            rule = s->made[i].rule;
    if (rule == UINT32_MAX) {
        const struct expr *body;
        if (++s->depth > SCHEMA_DEPTH_MAX)
            return err_set(s->e, E_LIMIT, "schema: nested deeper than %u", SCHEMA_DEPTH_MAX);
        enum status st = remember(s, &key, &rule);
        if (st == OK) /* the order of members is the order of properties */
            st = body_of(s, c, &body);
        s->depth--;
        if (st != OK)
            return st;
        s->rules.rules[rule].body = body;
    }
    *out = expr_call(&s->rules.arena, rule);
    return *out ? OK : schema_nomem(s);
}

enum status schema_count(struct schema *s, const struct json *member, const char *key,
                         uint32_t absent, uint32_t *out)
{
    const struct json *v = json_get(member, key);
    *out = absent;
    if (!v)
        return OK;
    if ((v->kind != JSON_INT && v->kind != JSON_REAL) || v->real < 0 ||
        v->real != (double)(int64_t)v->real)
        return err_set(s->e, E_INVALID, "schema: %s must be a whole number from 0", key);
    if (v->real > SCHEMA_COUNT_MAX)
        return err_set(s->e, E_LIMIT, "schema: %s is over the limit of %u", key, SCHEMA_COUNT_MAX);
    *out = (uint32_t)v->real;
    return OK;
}

/* ---- the door ---- */
static bool is_old_draft(const struct json *root)
{
    const struct json *draft = json_get(root, "$schema");
    if (!draft || draft->kind != JSON_STRING)
        return false;
    for (size_t i = 0; i + 6 <= draft->text.len; i++)
        if (memcmp(draft->text.ptr + i, "draft-", 6) == 0)
            return true;
    return false;
}

enum status schema_add(struct rules *rules, const struct json *schema, const struct expr **out,
                       struct err *e)
{
    struct schema s = {.rules = *rules, .root = schema, .old_refs = is_old_draft(schema), .e = e};
    struct conjunction c = {.n = 0};
    enum status st = conjunction_add(&s, &c, schema);
    if (st == OK)
        st = conjunction_expr(&s, &c, out);
    mem_free(s.made);
    *rules = s.rules;
    return st;
}

enum status grammar_from_schema(const struct json *schema, struct grammar **out, struct err *e)
{
    struct rules rules;
    const struct expr *x;
    uint32_t root;
    rules_init(&rules, SCHEMA_MEMORY_MAX);
    enum status st = rules_add(&rules, SLICE_LIT("root"), &root, e);
    if (st == OK)
        st = schema_add(&rules, schema, &x, e);
    if (st == OK) {
        rules.rules[root].body = x;
        st = grammar_compile(&rules, root, out, e);
    }
    rules_release(&rules);
    return st == E_NOT_FOUND ? err_set(e, E_INVALID, "schema: nothing can satisfy it") : st;
}
